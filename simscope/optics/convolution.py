"""Convolutions of stacks with small kernels and their sum, by FFTs of tiles: nothing wraps around.

Overlap-save: a tile of the result needs the field up to half a kernel beyond it; the cyclic
convolution of that piece is right on the tile if the transform is long enough that what wraps
around falls outside it. At the field's edge there is nothing beyond, so a field that fits one tile
needs a transform half a kernel longer than itself. (Stockham, AFIPS 28, 229 (1966); for tiles:
Press et al., Numerical Recipes, section 13.1.)

Work is cut into pieces that stay in the cache: rows are mixed and transformed a few at a time;
columns are transformed, multiplied, summed and transformed back a few at a time; then rows again.
Cuts follow from shapes alone and every sum has one order: no bit depends on the threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from simscope.blas import single_blas_thread
from simscope.device import CPU, Device
from simscope.optics.radial_profiles import in_parallel

ROWS_AT_ONCE = 16
COLUMNS_AT_ONCE = 16
SHORTEST_TILE, LONGEST_TILE = 256, 640
"""Samples along the transforms of a field cut into tiles, unless the kernel asks for more."""

KERNELS_PER_TILE = 3
"""Least length of a transform, in kernels, that a field of any size may take."""


@dataclass(frozen=True)
class Tiling:
    """Tiles along one axis: ``step`` results each, from transforms of ``size``."""

    length: int
    half: int
    step: int
    size: int

    def tiles(self) -> Iterator[Tile]:
        """The tiles in order."""
        for first in range(0, self.length, self.step):
            last = min(first + self.step, self.length)
            start, stop = max(first - self.half, 0), min(last + self.half, self.length)
            yield Tile(slice(first, last), slice(start, stop), slice(first - start, last - start))


@dataclass(frozen=True)
class Tile:
    """A tile of the result, what of the field it needs, and where in that it lies."""

    result: slice
    field: slice
    within: slice


def tiling(length: int, half: int, *, real: bool) -> Tiling:
    """The tiles that take the fewest operations for kernels reaching ``half`` to each side.

    ``real``: whether the transform along this axis is of real numbers.
    """
    whole = scipy.fft.next_fast_len(length + half, real=real)
    limit = max(LONGEST_TILE, KERNELS_PER_TILE * (2 * half + 1))
    shortest = max(SHORTEST_TILE, 2 * half + 1)
    sizes = {scipy.fft.next_fast_len(n, real=real) for n in range(shortest, limit + 1, 8)}
    tilings = [Tiling(length, half, size - 2 * half, size) for size in sorted(sizes)]
    if whole <= limit:
        tilings.append(Tiling(length, half, length, whole))
    return min(tilings, key=_operations)


def _operations(cut: Tiling) -> float:
    """Operations of all transforms along an axis, but for a factor."""
    return math.ceil(cut.length / cut.step) * cut.size * math.log2(cut.size)


class SummedConvolution:
    """Convolves fields with kernels and adds them: out(f) = sum over k of field(k) * kernel(f, k).

    ``kernels`` (results, fields, odd, odd) have their origin in the middle. ``mix`` (fields,
    planes): fields are sums of the planes handed in; None if planes are the fields.
    """

    def __init__(
        self, kernels: NDArray[Any], shape: tuple[int, int], mix: NDArray[Any] | None = None,
        device: Device = CPU,
    ) -> None:  # fmt: skip
        self.shape, self.device = shape, device
        kernels = _reaching(kernels, shape)
        half_y, half_x = (count // 2 for count in kernels.shape[-2:])
        self.rows = tiling(shape[0], half_y, real=False)
        self.columns = tiling(shape[1], half_x, real=True)
        self.mix = None if mix is None else device.put(mix, np.float32)
        self.results, self.fields = kernels.shape[:2]
        self._fft: Any = device.xp.fft if device.is_gpu else scipy.fft
        self._transfers = self._transformed(kernels)

    def __call__(self, planes: Any, weights: NDArray[Any] | None = None) -> Any:
        """The sums, float32 (results, y, x), on the device.

        ``planes`` float32 (planes, y, x) on the device; ``weights`` (planes,) multiply them.
        """
        out = self.device.xp.empty((self.results, *self.shape), np.float32)
        factors = None if weights is None else self.device.put(weights, np.float32)
        with single_blas_thread():
            for down in self.rows.tiles():
                for across in self.columns.tiles():
                    piece = planes[:, down.field, across.field]
                    sums = self._by_columns(self._by_rows(piece, factors), down.within)
                    self._write(sums, across.within, out[:, down.result, across.result])
        return out

    def _by_rows(self, piece: Any, factors: Any) -> Any:
        """Fields of a tile, transformed along rows, complex64 (fields, y, frequencies)."""
        _, height, width = piece.shape
        half_spectrum = self.columns.size // 2 + 1
        out = self.device.xp.empty((self.fields, height, half_spectrum), np.complex64)
        mix = self.mix
        if mix is not None and factors is not None:
            mix = mix * factors

        def transform(rows: slice) -> None:
            some = piece[:, rows]
            if mix is not None:
                flat = self.device.xp.ascontiguousarray(some).reshape(some.shape[0], -1)
                some = (mix @ flat).reshape(self.fields, -1, width)
            elif factors is not None:
                some = some * factors[:, None, None]
            out[:, rows] = self._fft.rfft(some, n=self.columns.size, axis=-1)

        self._each(transform, height, ROWS_AT_ONCE)
        return out

    def _by_columns(self, spectra: Any, kept: slice) -> Any:
        """Sums of a tile, still transformed along rows, complex64 (results, y, frequencies)."""
        height = kept.stop - kept.start
        out = self.device.xp.empty((self.results, height, spectra.shape[2]), np.complex64)
        sums_over = self.device.xp.sum

        def convolve(columns: slice) -> None:
            fields = self._fft.fft(spectra[:, :, columns], n=self.rows.size, axis=1)
            transfers = self._transfers[columns.start]
            for result in range(self.results):
                total = sums_over(fields * transfers[result], axis=0)
                out[result, :, columns] = self._fft.ifft(total, axis=0)[kept]

        self._each(convolve, spectra.shape[2], COLUMNS_AT_ONCE)
        return out

    def _write(self, sums: Any, kept: slice, out: Any) -> None:
        """Write the tile: rows transformed back, what wrapped around left out."""

        def transform(rows: slice) -> None:
            values = self._fft.irfft(sums[:, rows], n=self.columns.size, axis=-1)
            out[:, rows] = values[:, :, kept]

        self._each(transform, out.shape[1], ROWS_AT_ONCE)

    def _transformed(self, kernels: NDArray[Any]) -> dict[int, Any]:
        """Transfer functions (results, fields, y, columns) complex64, by their first column."""
        xp, frequencies = self.device.xp, self.columns.size // 2 + 1
        pieces = {
            columns.start: xp.empty(
                (*kernels.shape[:2], self.rows.size, columns.stop - columns.start), np.complex64
            )
            for columns in self._pieces(frequencies, COLUMNS_AT_ONCE)
        }

        def transform(result: int) -> None:
            padded = xp.zeros((self.fields, self.rows.size, self.columns.size), np.float32)
            height, width = kernels.shape[-2:]
            padded[:, :height, :width] = self.device.put(kernels[result], np.float32)
            padded = xp.roll(padded, (-(height // 2), -(width // 2)), axis=(1, 2))
            spectrum = self._fft.fft(self._fft.rfft(padded, axis=-1), axis=1)
            for first, piece in pieces.items():
                piece[result] = spectrum[:, :, first : first + piece.shape[-1]]

        in_parallel(transform, range(self.results))
        return pieces

    def _each(self, task: Callable[[slice], None], count: int, at_once: int) -> None:
        """Do the task for all pieces; a GPU takes everything as one piece."""
        in_parallel(task, self._pieces(count, at_once))

    def _pieces(self, count: int, at_once: int) -> Iterable[slice]:
        step = count if self.device.is_gpu else at_once
        return [slice(first, min(first + step, count)) for first in range(0, count, step)]


def _reaching(kernels: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """The middle of the kernels, as far as one end of the field reaches to the other."""
    spare = [
        max(0, have // 2 - length + 1)
        for have, length in zip(kernels.shape[-2:], shape, strict=True)
    ]
    inside = [slice(cut, have - cut) for cut, have in zip(spare, kernels.shape[-2:], strict=True)]
    return kernels[..., inside[0], inside[1]]
