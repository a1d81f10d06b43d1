"""From a device to the host beside the device's work: a few pinned buffers, used in turn.

A copy is queued on a stream of its own behind the kernels that make the arrays, so that neither the
next kernels nor the host wait for it. A buffer is filled again only once its reader has given it
back: with two buffers one is read (written to a file, say) while the other fills.
"""

from __future__ import annotations

import math
import queue
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from simscope.device import Device

ALIGNED = 64  # bytes: the start of every array in a buffer
Bytes = npt.NDArray[np.uint8]


class Lane(Protocol):
    """What moves bytes: pinned memory and a stream of a GPU, or a stand-in."""

    def buffer(self, size: int) -> Bytes:
        """Host memory of that many bytes."""
        ...

    def begin(self, pairs: list[tuple[Any, npt.NDArray[Any]]]) -> Callable[[], None]:
        """Start to copy device arrays to host arrays; what is returned waits for the end."""
        ...


class Arrival:
    """Arrays on their way: :meth:`wait` for them, then :meth:`release` their buffer."""

    def __init__(
        self, arrays: dict[str, npt.NDArray[Any]], done: Callable[[], None],
        release: Callable[[], None],
    ) -> None:  # fmt: skip
        self._arrays, self._done, self._release = arrays, done, release

    def wait(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays by name, once they are there; views of a buffer, good until released."""
        self._done()
        return self._arrays

    def release(self) -> None:
        """Give the buffer back, once."""
        self._release()


class Copies:
    """Starts copies of device arrays into ``buffers`` host buffers, used in turn."""

    def __init__(self, lane: Lane, buffers: int = 2) -> None:
        self._lane = lane
        self._free: queue.SimpleQueue[Bytes] = queue.SimpleQueue()
        for _ in range(buffers):
            self._free.put(np.empty(0, np.uint8))

    def start(self, arrays: Mapping[str, Any]) -> Arrival:
        """Begin to copy; waits first until a buffer is free."""
        places, size = _layout(arrays)
        buffer = self._free.get()
        if buffer.size < size:
            buffer = self._lane.buffer(size)
        views = {
            name: buffer[start : start + _bytes(arrays[name])]
            .view(arrays[name].dtype)
            .reshape(arrays[name].shape)
            for name, start in places.items()
        }
        done = self._lane.begin([(arrays[name], view) for name, view in views.items()])
        return Arrival(views, done, lambda: self._free.put(buffer))


def _bytes(array: Any) -> int:
    return math.prod(array.shape) * array.dtype.itemsize


def _layout(arrays: Mapping[str, Any]) -> tuple[dict[str, int], int]:
    """Where each array begins in a buffer [bytes], and the size of the buffer."""
    places, size = {}, 0
    for name, array in arrays.items():
        places[name] = size
        size += -(-_bytes(array) // ALIGNED) * ALIGNED
    return places, size


class PlainLane:
    """Copies at once, between NumPy arrays."""

    def buffer(self, size: int) -> Bytes:
        """Host memory of that many bytes."""
        return np.empty(size, np.uint8)

    def begin(self, pairs: list[tuple[Any, npt.NDArray[Any]]]) -> Callable[[], None]:
        """Copy; there is nothing to wait for."""
        for source, target in pairs:
            np.copyto(target, source)
        return lambda: None


class PinnedLane:
    """Copies on a stream of its own into pinned memory, by CuPy."""

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._stream = cupy.cuda.Stream(non_blocking=True)

    def buffer(self, size: int) -> Bytes:
        """Pinned host memory of that many bytes."""
        return np.frombuffer(self._cupy.cuda.alloc_pinned_memory(size), np.uint8, size)

    def begin(self, pairs: list[tuple[Any, npt.NDArray[Any]]]) -> Callable[[], None]:
        """Queue the copies behind the work that has been launched so far."""
        self._stream.wait_event(self._cupy.cuda.get_current_stream().record())
        for source, target in pairs:
            source.get(stream=self._stream, out=target, blocking=False)
        end, sources = self._stream.record(), [source for source, _ in pairs]

        def wait() -> None:
            end.synchronize()
            sources.clear()  # held until here: their memory may not be used for anything else

        return wait


def copies(device: Device, buffers: int = 2) -> Copies:
    """Copies from that device."""
    cupy = device.xp if hasattr(device.xp, "cuda") else None
    return Copies(PlainLane() if cupy is None else PinnedLane(cupy), buffers)
