"""Steps of the weights: Muon for the kernels of convolutions, AdamW for everything else.

Muon (Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks",
kellerjordan.github.io/posts/muon) replaces a layer's averaged gradient, a matrix with a row for
every output, by nearly the nearest orthogonal matrix, so that no few directions take the whole
step; scaled so that its entries are as large as AdamW's (Liu et al. 2025, arXiv:2502.16982).
AdamW: Loshchilov and Hutter 2019, ICLR.

PyTorch has a Muon of its own, for matrices alone and always in bfloat16, which takes seconds a
step on processors without it; where bfloat16 is at hand both take the same steps
(``tests/test_learn_optimiser.py``).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from simscope.learn.compute import quick_dtype

if TYPE_CHECKING:
    from simscope.learn.plan import Plan

OptimiserName = Literal["adamw", "muon"]
BETAS = (0.9, 0.99)
MOMENTUM = 0.95
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the odd polynomial that takes singular values towards 1, and five rounds of it:
steep at 0 rather than exact at 1, so that they end between 0.7 and 1.2 (Jordan et al. 2024)."""
ROUNDS = 5
LIKE_ADAMW = 0.2
Tensors = dict[str, torch.Tensor]


class Optimiser:
    """AdamW, or Muon for the weights of convolutions wider than a pixel and AdamW for the rest.

    ``dtype``: in which matrices are made orthogonal, bfloat16 where the hardware has it.
    """

    def __init__(
        self, network: nn.Module, name: OptimiserName, learning_rate: float, weight_decay: float,
        dtype: torch.dtype = torch.float32,
    ) -> None:  # fmt: skip
        self.learning_rate, self.dtype = learning_rate, dtype
        self._weight_decay = weight_decay
        parameters = list(network.parameters())
        wide = [p for p in parameters if p.ndim == 4 and p[0, 0].numel() > 1]
        self._kernels = wide if name == "muon" else []
        self._momenta = [torch.zeros_like(kernel) for kernel in self._kernels]
        others = [p for p in parameters if not any(p is kernel for kernel in self._kernels)]
        self._adamw = torch.optim.AdamW(
            [{"params": others}], learning_rate, BETAS, weight_decay=weight_decay
        )

    @classmethod
    def of(cls, network: nn.Module, plan: Plan) -> Optimiser:
        """The optimiser a plan names, quick on the network's device."""
        dtype = quick_dtype(next(network.parameters()).device)
        return cls(network, plan.optimiser, plan.learning_rate, plan.weight_decay, dtype)

    def step(self, learning_rate: float) -> None:
        """Update the parameters by their gradients."""
        self.learning_rate = learning_rate
        for group in self._adamw.param_groups:
            group["lr"] = learning_rate
        self._adamw.step()
        with torch.no_grad():
            for kernel, momentum in zip(self._kernels, self._momenta, strict=True):
                if kernel.grad is not None:
                    self._muon(kernel, kernel.grad, momentum)

    def _muon(self, kernel: torch.Tensor, gradient: torch.Tensor, momentum: torch.Tensor) -> None:
        """One step of a kernel (out, in, y, x) with Nesterov's momentum, in place."""
        momentum.lerp_(gradient, 1 - MOMENTUM)
        ahead = gradient.lerp(momentum, MOMENTUM).movedim(1, 3)
        matrix = orthogonal(ahead.flatten(1).to(self.dtype))
        size = LIKE_ADAMW * math.sqrt(max(matrix.shape))
        kernel.mul_(1 - self.learning_rate * self._weight_decay)
        kernel.add_(matrix.reshape(ahead.shape).movedim(3, 1), alpha=-self.learning_rate * size)

    def state(self) -> Tensors:
        """Every moment: ``adamw.<parameter>.<name>`` and ``muon.<kernel>``."""
        moments = self._adamw.state_dict()["state"].items()
        adamw = {f"adamw.{n}.{name}": value for n, of in moments for name, value in of.items()}
        return adamw | {f"muon.{number}": value for number, value in enumerate(self._momenta)}

    def restore(self, state: Tensors) -> None:
        """Take up moments as :meth:`state` names them."""
        moments: dict[int, Tensors] = {}
        for path, value in state.items():
            owner, number, *name = path.split(".")
            if owner == "muon":
                self._momenta[int(number)].copy_(value)
            else:
                moments.setdefault(int(number), {})[name[0]] = value
        groups = self._adamw.state_dict()["param_groups"]
        self._adamw.load_state_dict({"state": moments, "param_groups": groups})


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """The matrix with nearly all singular values near 1, by Newton and Schulz's iteration."""
    tall = matrix.shape[0] > matrix.shape[1]
    wide = matrix.T if tall else matrix
    wide = wide / wide.norm().clamp(min=1e-7)
    first, third, fifth = NEWTON_SCHULZ
    for _ in range(ROUNDS):
        gram = wide @ wide.T
        change = torch.addmm(gram, gram, gram, beta=third, alpha=fifth)
        wide = torch.addmm(wide, change, wide, beta=first)
    return wide.T if tall else wide
