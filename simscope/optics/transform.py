"""From the pupil to the pixels: two real matrix products, and the light of the fields they give.

The field on the camera (in sample coordinates) is the Fourier integral of the pupil field over the
disc of radius NA, a sum over quadrature nodes: first along each chord, then across the chords,
landing on any sample grid. Nothing is periodic, so nothing wraps around, and no pupil edge is cut
to squares. Nodes and samples come in mirror pairs, so sines and cosines (standing waves) of even
and odd parts do the work of complex exponentials at a quarter of the cost.

At (sy y, sx x) a field is ee - i sx eo - i sy oe - sx sy oo, with ee, eo, oe and oo its standing
waves (first letter: even or odd in y). The light of two fields, Re(F conj(G)), has such parts too:
the product of the waves of parities p and q has the parity p + q, modulo 2.

The array module is the caller's: NumPy, or CuPy on a GPU. With NumPy, ``kernels/pupil.py`` does in
one sweep what ``_spread`` and ``_add_light`` say in array code.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simscope.kernels.pupil import add_interference, spread, unfold_light
from simscope.optics.field import PupilField
from simscope.optics.phasors import cosine_sine
from simscope.optics.pixels import SampleGrid
from simscope.optics.quadrature import PupilNodes

Array = Any
"""float64 or complex128 array of the array module at work."""

Parity = tuple[int, int]
Parts = dict[Parity, Array]
"""Even and odd parts of a function of (ky, kx), those that vanish left out."""
Waves = dict[Parity, Array]
"""Standing waves by parity (odd in y, odd in x), each (half y, 2 (re, im), planes, half x)."""

SIDES = tuple(product((0, 1), (0, 1)))
"""Quadrants, and parities, as (y, x); 1 is the negative side, or odd."""

PLANE_BUDGET_BYTES = 1_300_000
"""Fields worked on at a time: what the second cache of a core holds besides the waves."""

MOST_PLANES = 16

KEPT_BYTES = 32_000_000
"""Largest scratch that is kept between images."""


class Scratch:
    """Arrays to be written again and again by one thread: fresh memory costs more than the sums."""

    def __init__(self, xp: Any) -> None:
        self._xp = xp
        self._arrays: dict[Any, Array] = {}

    def array(self, name: Any, shape: tuple[int, ...]) -> Array:
        """The array of that name, its contents left from the last use."""
        size = math.prod(shape)
        known = self._arrays.get(name)
        if known is None or known.size < size:
            known = self._arrays[name] = self._xp.empty(size)
        return known[:size].reshape(shape)

    @property
    def nbytes(self) -> int:
        """Memory of all arrays."""
        return sum(int(array.nbytes) for array in self._arrays.values())


_IDLE: list[Scratch] = []
"""Scratches of NumPy that no thread is using: a list's pop and append are atomic."""


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
        self._idle = _IDLE if xp is np else []

    @property
    def half(self) -> tuple[int, int]:
        """Samples (y, x) on the positive sides."""
        return int(self.waves_y.shape[1]), int(self.waves_x.shape[3])

    @contextmanager
    def scratch(self) -> Iterator[Scratch]:
        """Context in which one thread has a scratch of its own, kept for whoever is next."""
        try:
            own = self._idle.pop()
        except IndexError:
            own = Scratch(self.xp)
        yield own
        if own.nbytes <= KEPT_BYTES:
            self._idle.append(own)

    def planes_at_once(self, components: int) -> int:
        """Planes whose fields stay in the cache, for ``components`` kept at a time."""
        half_y, half_x = self.half
        per_plane = 8 * 2 * len(SIDES) * components * half_y * half_x
        return min(max(PLANE_BUDGET_BYTES // per_plane, 1), MOST_PLANES)

    def light(
        self,
        field: PupilField,
        forms: NDArray[np.float64],
        parts: Parts,
        weighted: tuple[Array, Array],
        scratch: Scratch,
    ) -> list[Array]:
        """Light of quadratic forms (n, components, components) of a field, see ``totals``.

        ``weighted`` and ``parts`` as in ``waves``.
        """
        amplitude = self.xp.asarray(field.amplitude)
        totals = self.totals(len(forms), weighted[0].shape[0], scratch)
        waves: dict[int, Waves] = {}
        lone = not (forms * (1.0 - np.eye(forms.shape[1]))).any()
        for i, j in zip(*(map(int, k) for k in np.triu_indices(len(field.parity))), strict=True):
            shares = forms[:, i, j] * (1.0 if i == j else 2.0)
            # what is left of a cosine that is 0 is rounding
            used = np.flatnonzero(np.abs(shares) > 1e-15)
            if not used.size:
                continue
            for k in {i, j} - set(waves):
                name = 0 if lone else k
                waves[k] = self.waves(amplitude[k], field.parity[k], weighted, parts, scratch, name)
            into = [(totals[k], float(shares[k])) for k in used]
            self.add_light(waves[i], waves[j], into)
        return totals

    def waves(
        self,
        amplitude: Array,
        odd: Parity,
        weighted: tuple[Array, Array],
        parts: Parts,
        scratch: Scratch,
        name: int = 0,
    ) -> Waves:
        """Standing waves of a pupil field given in the quadrant kx, ky > 0.

        The field is ``amplitude`` (rows, columns), continued by its parity ``odd``, times
        ``weighted``, the (real, imaginary) phasors of planes (planes, rows, columns) with the
        quadrature's weights, times what the parity ``parts`` (rows, columns) add up to. The result
        stands in ``scratch`` until the next of the same ``name``.
        """
        planes, rows, columns = weighted[0].shape
        half_y, half_x = self.half
        waves: Waves = {}
        for odd_x in (0, 1):
            chosen = [part for part in parts if part[1] ^ odd[1] == odd_x]
            if not chosen:
                continue
            pupil = scratch.array("pupil", (rows, len(chosen), 2, planes, columns))
            for place, part in enumerate(chosen):
                self._spread(weighted, amplitude * parts[part], place, pupil)
            along = scratch.array("along", (rows, len(chosen) * 2 * planes, half_x))
            self.xp.matmul(pupil.reshape(rows, -1, columns), self.waves_x[odd_x], out=along)
            by_part = along.reshape(rows, len(chosen), 2 * planes * half_x)
            for place, part in enumerate(chosen):
                odd_y = part[0] ^ odd[0]
                across = scratch.array((name, odd_y, odd_x), (half_y, 2 * planes * half_x))
                self.xp.matmul(self.waves_y[odd_y], by_part[:, place], out=across)
                waves[odd_y, odd_x] = across.reshape(half_y, 2, planes, half_x)
        return waves

    def _spread(self, weighted: tuple[Array, Array], factor: Array, part: int, out: Array) -> None:
        """Write the field times a complex factor to ``out[:, part]``.

        ``out``: (rows, parts, 2 (re, im), planes, columns).
        """
        real, imaginary = weighted
        if self.xp is np:
            spread(real, imaginary, np.stack((factor.real, factor.imag)), part, out)
            return
        out[:, part, 0] = (real * factor.real - imaginary * factor.imag).transpose(1, 0, 2)
        out[:, part, 1] = (real * factor.imag + imaginary * factor.real).transpose(1, 0, 2)

    def add_light(self, first: Waves, second: Waves, shares: list[tuple[Array, float]]) -> None:
        """Add Re(first * conj(second)) times each share to its total, see ``totals``."""
        if len(shares) == 1:
            ((total, share),) = shares
            self._add_light(first, second, share, total)
            return
        light = self.xp.zeros(shares[0][0].shape)
        self._add_light(first, second, 1.0, light)
        for total, share in shares:
            total += share * light

    def _add_light(self, first: Waves, second: Waves, share: float, total: Array) -> None:
        """Add Re(first * conj(second)) times ``share`` to ``total``, laid out as in ``totals``."""
        if self.xp is np:
            flat = total.reshape(*total.shape[:2], -1)
            add_interference(_in_order(first), _in_order(second), first is second, share, flat)
            return
        for p, q in product(first, second):
            together = SIDES.index((p[0] ^ q[0], p[1] ^ q[1]))
            f, g = (waves[k][:, 0] + 1j * waves[k][:, 1] for waves, k in ((first, p), (second, q)))
            total[together] += share * ((-1j) ** (sum(p) - sum(q)) * f * g.conj()).real

    def totals(self, count: int, planes: int, scratch: Scratch) -> list[Array]:
        """Empty light of ``count`` images of ``planes``, (4, half y, planes, half x) each.

        The first axis is the light's own parity, in the order ``SIDES``.
        """
        half_y, half_x = self.half
        totals = scratch.array("totals", (count, 4, half_y, planes, half_x))
        totals[:] = 0.0
        return list(totals)

    def pixels(self, total: Array, scratch: Scratch) -> Array:
        """Pixel integrals (planes, y, x) of light summed up, see ``totals``."""
        samples = self._whole(total, scratch)
        planes, samples_y, _ = samples.shape
        along = scratch.array("pixels along", (planes, samples_y, self.weights_x.shape[0]))
        self.xp.matmul(samples, self.weights_x.T, out=along)
        return self.xp.matmul(self.weights_y, along)

    def _whole(self, total: Array, scratch: Scratch) -> Array:
        """Light at the whole sample grid, (planes, y, x)."""
        if self.xp is np:
            samples = scratch.array("samples", (total.shape[2], *self.samples))
            unfold_light(total, samples)
            return samples
        ee, eo, oe, oo = total
        signed = [ee + sx * eo + sy * oe + sx * sy * oo for sy, sx in product((1, -1), (1, -1))]
        quadrants = self.xp.stack(signed).reshape(2, 2, *total.shape[1:])
        return unfold(quadrants, self.samples, self.xp)


def standing_waves(k_per_nm: NDArray[np.float64], grid: SampleGrid) -> NDArray[np.float64]:
    """Cosines (0) and sines (1) of pupil coordinates at the samples x >= 0, (2, ..., half)."""
    positive = grid.positions_nm[grid.positions_nm.size // 2 :]
    return cosine_sine(k_per_nm[..., None] * positive)


def parity_parts(quadrants: Array, xp: Any = np) -> Parts:
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


def _in_order(waves: Waves) -> tuple[Array, ...]:
    """The four parities as (half y, 2 (re, im), planes * half x), empty for those that vanish."""
    none = np.zeros((0, 0, 0))
    return tuple(
        waves[side].reshape(*waves[side].shape[:2], -1) if side in waves else none for side in SIDES
    )


def unfold(quadrants: Array, samples: tuple[int, int], xp: Any = np) -> Array:
    """Whole sample grid (planes, y, x) from its quadrants (2, 2, half y, planes, half x)."""
    _, _, half_y, planes, half_x = quadrants.shape
    out = xp.empty((planes, *samples), dtype=quadrants.dtype)
    for iy, ix in SIDES:
        rows = slice(samples[0] - half_y, None) if iy == 0 else slice(half_y - 1, None, -1)
        columns = slice(samples[1] - half_x, None) if ix == 0 else slice(half_x - 1, None, -1)
        out[:, rows, columns] = quadrants[iy, ix].transpose(1, 0, 2)
    return out
