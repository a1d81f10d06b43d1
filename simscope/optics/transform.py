"""From the pupil to the pixels: two real matrix products, and the light of the fields they give.

The field on the camera (in sample coordinates) is the Fourier integral of the pupil field over the
disc of radius NA, a sum over quadrature nodes: first along each chord, then across the chords,
landing on any sample grid. Nothing is periodic, so nothing wraps around, and no pupil edge is cut
to squares. Nodes and samples come in mirror pairs, so sines and cosines (standing waves) of even
and odd parts do the work of complex exponentials at a quarter of the cost.

The array module is the caller's: NumPy, or CuPy on a GPU. With NumPy the light of the fields is
summed by ``kernels/pupil.py``, which does what ``quadrant_fields`` and ``interference`` say.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simscope.kernels.pupil import add_interference
from simscope.optics.pixels import SampleGrid
from simscope.optics.quadrature import PupilNodes

Array = Any
"""float64 or complex128 array of the array module at work."""

Parity = tuple[int, int]
Waves = dict[Parity, Array]
"""Standing waves by parity (odd in y, odd in x), each (half y, 2 (re, im), planes, half x)."""

SIDES = tuple(product((0, 1), (0, 1)))
"""Quadrants, and parities, as (y, x); 1 is the negative side, or odd."""

PLANE_BUDGET_BYTES = 8_000_000
MOST_PLANES = 16


class Transform:
    """Transforms from one set of pupil nodes to the pixels of one window."""

    def __init__(
        self,
        nodes: PupilNodes,
        wavenumber_per_nm: float,
        grid_y: SampleGrid,
        grid_x: SampleGrid,
        xp: Any = np,
    ) -> None:
        self.xp = xp
        self.samples = (grid_y.positions_nm.size, grid_x.positions_nm.size)
        waves_y = standing_waves(wavenumber_per_nm * nodes.ky[:, 0], grid_y)
        self.waves_y = xp.asarray(np.ascontiguousarray(waves_y.transpose(0, 2, 1)))
        self.waves_x = xp.asarray(standing_waves(wavenumber_per_nm * nodes.kx, grid_x))
        self.weights_y, self.weights_x = xp.asarray(grid_y.weights), xp.asarray(grid_x.weights)

    @property
    def half(self) -> tuple[int, int]:
        """Samples (y, x) on the positive sides."""
        return int(self.waves_y.shape[1]), int(self.waves_x.shape[3])

    def planes_at_once(self, components: int) -> int:
        """Planes whose fields stay in the cache, for ``components`` kept at a time."""
        half_y, half_x = self.half
        per_plane = 8 * 2 * len(SIDES) * components * half_y * half_x
        return min(max(PLANE_BUDGET_BYTES // per_plane, 1), MOST_PLANES)

    def waves(self, source: Array, parts: dict[Parity, Array], odd: Parity) -> Waves:
        """Standing waves of a pupil field given in the quadrant kx, ky > 0.

        ``source``: (planes, rows, columns), quadrature weights included, continued into the other
        quadrants by its parity ``odd``; ``parts``: parity parts (rows, columns) of what multiplies
        it there.
        """
        planes, rows, columns = source.shape
        half_y, half_x = self.half
        waves: Waves = {}
        for odd_x in (0, 1):
            chosen = [part for part in parts if part[1] ^ odd[1] == odd_x]
            if not chosen:
                continue
            stacked = self.xp.empty((rows, len(chosen), 2, planes, columns))
            for place, part in enumerate(chosen):
                product_ = source * parts[part]
                stacked[:, place, 0] = product_.real.transpose(1, 0, 2)
                stacked[:, place, 1] = product_.imag.transpose(1, 0, 2)
            along = self.xp.matmul(stacked.reshape(rows, -1, columns), self.waves_x[odd_x])
            along = along.reshape(rows, len(chosen), -1)
            for place, part in enumerate(chosen):
                odd_y = part[0] ^ odd[0]
                across = self.xp.matmul(self.waves_y[odd_y], along[:, place])
                waves[odd_y, odd_x] = across.reshape(half_y, 2, planes, half_x)
        return waves

    def add_light(self, first: Waves, second: Waves, shares: list[tuple[Array, float]]) -> None:
        """Add Re(first * conj(second)) times each share to its total.

        Totals are (2, 2, half y, planes, half x), first the signs of (y, x), 1 negative.
        """
        if self.xp is np and len(shares) == 1:
            ((total, share),) = shares
            add_interference(_all_parities(first), _all_parities(second), share, total)
            return
        light = self._light(first, second)
        for total, share in shares:
            total += share * light

    def _light(self, first: Waves, second: Waves) -> Array:
        """Re(first * conj(second)) at the samples, (2, 2, half y, planes, half x)."""
        if self.xp is np:
            half_y, _, planes, half_x = next(iter(first.values())).shape
            light = np.zeros((2, 2, half_y, planes, half_x))
            add_interference(_all_parities(first), _all_parities(second), 1.0, light)
            return light
        return interference(quadrant_fields(first, self.xp), quadrant_fields(second, self.xp))

    def totals(self, count: int, planes: int) -> list[Array]:
        """Empty samples for ``count`` images of ``planes``, see ``add_light``."""
        half_y, half_x = self.half
        return [self.xp.zeros((2, 2, half_y, planes, half_x)) for _ in range(count)]

    def pixels(self, total: Array) -> Array:
        """Pixel integrals (planes, y, x) of samples by quadrant (2, 2, half y, planes, half x)."""
        samples = unfold(total, self.samples, self.xp)
        return self.xp.matmul(self.weights_y, self.xp.matmul(samples, self.weights_x.T))


def standing_waves(k_per_nm: NDArray[np.float64], grid: SampleGrid) -> NDArray[np.float64]:
    """Cosines (0) and sines (1) of pupil coordinates at the samples x >= 0, (2, ..., half)."""
    positive = grid.positions_nm[grid.positions_nm.size // 2 :]
    phase = k_per_nm[..., None] * positive
    return np.array((np.cos(phase), np.sin(phase)))


def parity_parts(quadrants: Array, xp: Any = np) -> dict[Parity, Array]:
    """Even and odd parts in (ky, kx) of values in the four quadrants (2, 2, rows, columns).

    Parts that vanish to rounding are left out, so that symmetric pupils skip their transforms.
    """
    even, odd = quadrants[:, 0] + quadrants[:, 1], quadrants[:, 0] - quadrants[:, 1]
    parts = {
        (0, 0): even[0] + even[1],
        (0, 1): odd[0] + odd[1],
        (1, 0): even[0] - even[1],
        (1, 1): odd[0] - odd[1],
    }
    largest = {parity: float(xp.abs(part).max()) for parity, part in parts.items()}
    floor = 1e-13 * max(largest.values())
    return {parity: part for parity, part in parts.items() if largest[parity] > floor}


def quadrant_fields(waves: Waves, xp: Any) -> Array:
    """Complex field at (+-y, +-x) from standing waves of each parity.

    The field is ``ee - i sx eo - i sy oe - sx sy oo`` (first letter y). The result is (2, 2, half
    y, planes, half x), index 1 negative.
    """
    total: Array = 0.0
    for (odd_y, odd_x), wave in waves.items():
        sign_y = xp.asarray((1.0, (-1.0) ** odd_y)).reshape(2, 1, 1, 1, 1)
        sign_x = xp.asarray((1.0, (-1.0) ** odd_x)).reshape(1, 2, 1, 1, 1)
        factor = (-1j) ** (odd_y + odd_x)
        total = total + factor * sign_y * sign_x * (wave[:, 0] + 1j * wave[:, 1])
    return total


def interference(first: Array, second: Array) -> Array:
    """Re(first * conj(second)) of complex fields."""
    return first.real * second.real + first.imag * second.imag


def _all_parities(waves: Waves) -> tuple[Array, Array, Array, Array]:
    """The four parities in order, an empty array for those that vanish."""
    none = np.zeros((0, 0, 0, 0))
    ee, eo, oe, oo = (waves.get(parity, none) for parity in SIDES)
    return ee, eo, oe, oo


def unfold(quadrants: Array, samples: tuple[int, int], xp: Any = np) -> Array:
    """Whole sample grid (planes, y, x) from its quadrants (2, 2, half y, planes, half x)."""
    _, _, half_y, planes, half_x = quadrants.shape
    out = xp.empty((planes, *samples), dtype=quadrants.dtype)
    for iy, ix in SIDES:
        rows = slice(samples[0] - half_y, None) if iy == 0 else slice(half_y - 1, None, -1)
        columns = slice(samples[1] - half_x, None) if ix == 0 else slice(half_x - 1, None, -1)
        out[:, rows, columns] = quadrants[iy, ix].transpose(1, 0, 2)
    return out
