"""Exponential, logarithm, normal quantile and cubic splines of arrays on any device, same bits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from simscope.device import CPU, Device


def exp(x: Any, device: Device = CPU) -> Any:
    """Exponential of float64 on the device, same shape; error below 2 ulp."""
    return _each("exponential", x, device)


def log(x: Any, device: Device = CPU) -> Any:
    """Natural logarithm of positive float64 on the device, same shape; error below 1 ulp."""
    return _each("logarithm", x, device)


def normal_quantile(probability: Any, device: Device = CPU) -> Any:
    """Standard normal quantile of float64 in [0, 1] on the device, same shape."""
    return _each("normal_quantile", probability, device)


@dataclass(frozen=True)
class Spline:
    """Cubic spline of equal pieces from ``start`` on: ``pieces`` float64 (4, n), highest first."""

    start: float
    step: float
    pieces: npt.NDArray[np.float64]

    def __call__(self, x: Any, device: Device = CPU) -> Any:
        """Values at float64 ``x`` on the device, same shape; end pieces reach beyond the ends."""
        return _each("spline", x, device, self.start, self.step, self._pieces_on(device))

    def _pieces_on(self, device: Device) -> Any:
        if not device.is_gpu:
            return self.pieces
        if "gpu" not in self._copies:
            self._copies["gpu"] = device.put(self.pieces)
        return self._copies["gpu"]

    @cached_property
    def _copies(self) -> dict[str, Any]:
        return {}


def _each(name: str, x: Any, device: Device, *settings: Any) -> Any:
    """A kernel of ``kernels/elementary.py`` applied to every element."""
    flat = device.put(x, np.float64).ravel()
    out = device.xp.empty(flat.size, np.float64)
    device.run("elementary", name, flat.size, flat, *settings, out)
    return out.reshape(device.xp.shape(x))
