"""Layers that several networks are built of, and how their weights begin."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class DilatedBlock(nn.Module):
    """One dilated 3x3 convolution added to what comes in (Yu and Koltun 2016, ICLR)."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features of the same shape."""
        return features + functional.relu(self.convolution(features))


class ResidualBlock(nn.Module):
    """Two convolutions added to what comes in; nothing is added before training.

    He et al. 2016 (CVPR), without normalisation (Zhang, Dauphin and Ma 2019, ICLR).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features of the same shape."""
        return functional.relu(features + self.second(functional.relu(self.first(features))))


def initialise(network: nn.Module, **factors: float) -> None:
    """Draw all weights of a network after He et al. 2015 (ICCV); biases begin at 0.

    Parts by the names in ``factors`` are multiplied: quieter where residuals add up, and at the
    output.
    """
    for name, values in network.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(values)
            continue
        nn.init.kaiming_normal_(values)
        factor = next((factors[part] for part in name.split(".") if part in factors), 1.0)
        with torch.no_grad():
            values.mul_(factor)
