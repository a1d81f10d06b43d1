"""Steps of the weights: Muon for the kernels of convolutions, AdamW for everything else.

Muon (Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks",
kellerjordan.github.io/posts/muon) replaces a layer's averaged gradient, a matrix with a row for
every output, by nearly the nearest orthogonal matrix, so that no few directions take the whole
step; scaled so that its entries are as large as AdamW's (Liu et al. 2025, arXiv:2502.16982).
AdamW: Loshchilov and Hutter 2019, ICLR.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

OptimiserName = Literal["adamw", "muon"]
BETAS = (0.9, 0.99)
Tensors = dict[str, torch.Tensor]


class Optimiser:
    """AdamW, or Muon for the weights of convolutions wider than a pixel and AdamW for the rest.

    The parameters must stay where they are in memory, on their device and in their layout.
    """

    def __init__(
        self, network: nn.Module, name: OptimiserName, learning_rate: float, weight_decay: float
    ) -> None:
        self.learning_rate = learning_rate
        parameters = list(network.parameters())
        kernels = [p for p in parameters if name == "muon" and p.ndim == 4 and p.shape[-1] > 1]
        self._kernels = [(p, nn.Parameter(seen_as_matrix(p.detach()))) for p in kernels]
        others = [p for p in parameters if not any(p is kernel for kernel in kernels)]
        self._parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(others, learning_rate, BETAS, weight_decay=weight_decay)
        ]
        if kernels:
            matrices = [matrix for _, matrix in self._kernels]
            self._parts.append(
                torch.optim.Muon(
                    matrices, learning_rate, weight_decay, adjust_lr_fn="match_rms_adamw"
                )
            )

    def step(self, learning_rate: float) -> None:
        """Update the parameters by their gradients."""
        self.learning_rate = learning_rate
        for kernel, matrix in self._kernels:
            slopes = kernel.grad
            matrix.grad = None if slopes is None else in_layout_of(kernel, slopes).flatten(1)
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = learning_rate
            part.step()

    def state(self) -> Tensors:
        """Every moment, named ``<part>.<parameter>.<moment>``."""
        return {
            f"{number}.{parameter}.{name}": value
            for number, part in enumerate(self._parts)
            for parameter, moments in part.state_dict()["state"].items()
            for name, value in moments.items()
        }

    def restore(self, state: Tensors) -> None:
        """Take up moments as :meth:`state` names them."""
        for number, part in enumerate(self._parts):
            moments: dict[int, Tensors] = {}
            for path, value in state.items():
                owner, parameter, name = path.split(".", 2)
                if int(owner) == number:
                    moments.setdefault(int(parameter), {})[name] = value
            groups = part.state_dict()["param_groups"]
            part.load_state_dict({"state": moments, "param_groups": groups})


def in_layout_of(kernel: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Values of a kernel's shape (out, in, y, x), axes in the order of the kernel's memory."""
    last = kernel.is_contiguous(memory_format=torch.channels_last)
    return values.permute(0, 2, 3, 1) if last else values


def seen_as_matrix(kernel: torch.Tensor) -> torch.Tensor:
    """The same memory, a row for every output."""
    return in_layout_of(kernel, kernel).view(len(kernel), -1)
