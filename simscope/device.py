"""Where arrays live and kernels run: the CPU, or a CUDA GPU.

``Device.xp`` is the array module, NumPy or CuPy; kernels in ``simscope.kernels`` serve the CPU,
those of the same names in ``simscope.kernels.cuda`` the GPU. Under Numba's CUDA simulator
(``NUMBA_ENABLE_CUDASIM=1``) the GPU's kernels run on NumPy arrays, slowly: for tests.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from simscope.errors import DeviceError

NAMES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Device:
    """One place to compute: its name, ``cpu`` or ``cuda``, and its array module."""

    name: str
    xp: Any

    @property
    def is_gpu(self) -> bool:
        """Whether kernels of ``simscope.kernels.cuda`` serve it."""
        return self.name == "cuda"

    def kernels(self, name: str) -> ModuleType:
        """The module of drivers of this name, such as ``detect``, for this device."""
        folder = "simscope.kernels.cuda" if self.is_gpu else "simscope.kernels"
        return importlib.import_module(f"{folder}.{name}")

    def run(self, file: str, name: str, count: int, *arguments: Any) -> None:
        """Run a driver that has the same arguments on either device; a GPU takes ``count`` first.

        Only for drivers of one element a thread; others are called by hand.
        """
        kernel = getattr(self.kernels(file), name)
        if self.is_gpu:
            kernel(count, *arguments)
        else:
            kernel(*arguments)

    def repeat(self, array: npt.ArrayLike, counts: npt.NDArray[np.int64]) -> Any:
        """Rows of a host array, each repeated as often as the host's ``counts`` say, (total,)."""
        if not self.is_gpu:
            return np.repeat(np.asarray(array), counts)
        ends = self.put(np.cumsum(counts))
        row = self.xp.searchsorted(ends, self.xp.arange(int(counts.sum())), side="right")
        return self.put(array)[row]

    def put(self, array: npt.ArrayLike, dtype: npt.DTypeLike | None = None) -> Any:
        """The array on this device, contiguous; copied only if it must be."""
        return self.xp.ascontiguousarray(self.xp.asarray(array, dtype=dtype))

    def put_all(self, record: Any) -> Any:
        """A dataclass with its arrays put on this device."""
        return _with_arrays(record, self.put) if self.is_gpu else record

    def get_all(self, record: Any) -> Any:
        """A dataclass with its arrays as NumPy arrays."""
        return _with_arrays(record, self.get) if self.is_gpu else record

    def get(self, array: Any) -> npt.NDArray[Any]:
        """The array as a NumPy array."""
        return np.asarray(array.get() if hasattr(array, "get") else array)


def _with_arrays(record: Any, change: Callable[[Any], Any]) -> Any:
    """A dataclass with every field that is an array changed."""
    fields = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    arrays = {name: change(value) for name, value in fields.items() if hasattr(value, "dtype")}
    return dataclasses.replace(record, **arrays)


CPU = Device("cpu", np)


def device(name: str = "auto") -> Device:
    """The device of that name; ``auto`` is a GPU where one can be used, else the CPU.

    Raises DeviceError for an unknown name, or for ``cuda`` where no GPU can be used, saying why.
    """
    if name not in NAMES:
        raise DeviceError(f"device={name!r} is unknown: use one of {', '.join(NAMES)}")
    if name == "cpu":
        return CPU
    found, reason = _gpu()
    if found is not None:
        return found
    if name == "auto":
        return CPU
    raise DeviceError(f"device='cuda' cannot be used: {reason}; use 'cpu' or 'auto'")


def placed(where: Device | str) -> Device:
    """The device meant: itself, or that of a name as :func:`device` takes it."""
    return where if isinstance(where, Device) else device(where)


@cache
def _gpu() -> tuple[Device | None, str]:
    """The GPU, or why there is none."""
    try:
        from numba import config, cuda
    except ImportError as error:
        return None, f"numba.cuda does not import ({error}): pip install 'simscope[gpu]'"
    if config.ENABLE_CUDASIM:  # type: ignore[attr-defined]
        return Device("cuda", np), ""
    if not cuda.is_available():
        return None, "no CUDA GPU, driver or toolkit was found"
    try:
        import cupy
    except ImportError as error:
        return None, f"CuPy does not import ({error}): pip install 'simscope[gpu]'"
    return Device("cuda", cupy), ""
