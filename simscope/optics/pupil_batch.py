"""Images of many emitters, each with height, focus, place and wavefront of its own, at once.

Single precision, from the nodes and grids of a ``PupilModel``. All that moves a phase is a sum of
terms, values at the nodes times a coefficient of each emitter: height, focus, x, y and Zernike
modes alike, every one even or odd in kx and in ky. So the phase in all four quadrants follows from
four sums over one, and the rest is ``transform.py``'s standing waves with emitters in place of
planes.

On the CPU ``kernels/pupil_batch.py`` does it in one sweep; ``_ArrayCode`` says the same in array
code, for GPUs. Sums of light and phase are of the same order there, but products of matrices are
the library's: their last bits may differ between machines, not between batches, which are always
filled up to the same size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from simscope.device import CPU, Device
from simscope.kernels.lanes import LANES
from simscope.kernels.pupil_batch import images as images_on_cpu
from simscope.optics.field import PupilField, mode_values, passed, plane_energy
from simscope.optics.pixels import SampleGrid
from simscope.optics.transform import SIDES, Parity, standing_waves, unfold
from simscope.optics.zernike import osa_to_nm

FloatArray = NDArray[np.float64]
SingleArray = NDArray[np.float32]

ON_A_GPU, ON_THE_HOST = 1024, 2 * LANES
"""Most emitters in each step of the array code: enough for a GPU, few enough for a cache."""

FIELDS_BYTES = 1 << 30
"""Memory of a GPU for the fields of the emitters in a step; sums of them take as much again."""

CHUNKS_PER_THREAD = 8
"""Pieces of work for each thread: the last one to finish keeps the others waiting a little."""

PLANES_AT_ONCE = 4096
"""Heights whose energies are summed at a time."""


class SharedPupil(NamedTuple):
    """What all emitters share: float32 arrays unless said otherwise.

    ``values``: terms of the phase (terms, rows, columns) [turns a nm], float64, sorted by parity;
    ``first``: where each parity's begin, and their number, (5,); ``static``: phasors of masks and
    paths (rows, columns, 4 (quadrants), 2); ``rates``: of evanescent light (rows, columns) [1/nm];
    ``amplitude``: (components, rows, columns, 2) with the quadrature's weights; ``parity``:
    (components, 2); ``waves_x``, ``waves_y``: standing waves (2, rows, columns, half x) and (2,
    rows, half y); ``folds_y``, ``folds_x``: even and odd parts of the pixel filters (2, half,
    pixels). Last axes of waves and folds are filled up to fours by zeros.
    """

    values: Any
    first: Any
    static: Any
    rates: Any
    amplitude: Any
    parity: Any
    waves_x: Any
    waves_y: Any
    folds_y: Any
    folds_x: Any


class PupilBatch:
    """Images of emitters from one set of pupil nodes, on one device.

    ``static``: transmission of masks and constant wavefront in the quadrants (2, 2, rows, columns);
    ``modes``: OSA indices of the wavefront's Zernike modes; grids as in ``transform.py``.
    """

    def __init__(
        self,
        field: PupilField,
        static: NDArray[np.complex128],
        modes: Sequence[int],
        grid_y: SampleGrid,
        grid_x: SampleGrid,
        device: Device = CPU,
    ) -> None:
        self.device = device
        self.shape = (grid_y.weights.shape[0], grid_x.weights.shape[0])
        self._field, self._passed = field, passed(static)
        terms = _terms(field, modes)
        # emitters' coefficients come in the order z, focus, x, y, modes
        self._order = sorted(range(len(terms)), key=lambda term: SIDES.index(terms[term][1]))
        values = np.array([terms[term][0] for term in self._order])
        counts = [sum(parity == side for _, parity in terms) for side in SIDES]
        self.pupil = SharedPupil(
            values,
            np.concatenate(([0], np.cumsum(counts))),
            _split(_quadrant_phasors(field, static)),
            _single(field.objective.wavenumber_per_nm * field.sample_root.imag),
            _split(_weighted_amplitude(field)),
            np.array(field.parity),
            *_waves(field, grid_y, grid_x),
            _folds(grid_y),
            _folds(grid_x),
        )
        interpreted: bool = numba.config.DISABLE_JIT  # type: ignore[attr-defined]
        self._in_arrays = device.is_gpu or interpreted
        if self._in_arrays:
            self._array_code = _ArrayCode(self.pupil, grid_y, grid_x, device)

    def images(
        self, z_nm: FloatArray, focus_nm: FloatArray, x_nm: FloatArray, y_nm: FloatArray,
        coefficients_nm: FloatArray, *, forms: FloatArray | None = None, least: float = 0.0,
    ) -> Any:  # fmt: skip
        """Probability per pixel of emitters, not below ``least``, float32 (n, y, x) on the device.

        ``z_nm, focus_nm, x_nm, y_nm``: (n,); ``coefficients_nm``: (n, modes), RMS nm. ``forms``:
        (n, components, components), quadratic forms of the components in the light of every
        emitter, those of a freely rotating dipole if None. The exact value is never negative; the
        pixel filter's error can be where it is dark.
        """
        columns = np.column_stack((z_nm, focus_nm, x_nm, y_nm, coefficients_nm))
        scale = 1.0 / (self._field.objective.wavelength_nm**2 * self._energies(z_nm))
        mixing = np.zeros((len(z_nm), 0, len(self.pupil.amplitude)))
        if forms is not None:
            mixing = _roots(forms) / np.sqrt(np.array(self._field.free))
        if self._in_arrays:
            return self._array_code.images(columns[:, self._order], z_nm, mixing, scale, least)
        out = np.empty((len(z_nm), *self.shape), np.float32)
        blocks = math.ceil(len(out) / LANES)
        images_on_cpu(
            self.pupil,
            _in_lanes(columns[:, self._order], blocks).reshape(blocks, LANES * columns.shape[1]),
            _in_lanes(z_nm, blocks).astype(np.float32),
            _in_pairs(mixing, blocks),
            _in_lanes(scale, blocks).astype(np.float32),
            np.float32(least),
            min(CHUNKS_PER_THREAD * numba.get_num_threads(), blocks),
            out,
        )
        return out

    def _energies(self, z_nm: FloatArray) -> FloatArray:
        """Energies of emitters' light through the pupil [1], (n,), see ``plane_energy``."""
        parts = range(0, len(z_nm), PLANES_AT_ONCE)
        energies = [
            plane_energy(self._field, z_nm[i : i + PLANES_AT_ONCE], self._passed)[0] for i in parts
        ]
        return np.concatenate([np.empty(0), *energies])


def _terms(field: PupilField, modes: Sequence[int]) -> list[tuple[FloatArray, Parity]]:
    """Phase [turns a nm] at the nodes kx, ky > 0, and parity, of z, focus, x, y and modes."""
    kx, ky = np.broadcast_arrays(field.nodes.kx, field.nodes.ky)
    terms: list[tuple[FloatArray, Parity]] = [
        (field.sample_root.real, (0, 0)),
        (-field.immersion_root, (0, 0)),
        (kx, (0, 1)),
        (ky, (1, 0)),
    ]
    for index in modes:
        terms.append((mode_values(index, kx, ky, field.objective.na), mode_parity(index)))
    return [(values / field.objective.wavelength_nm, parity) for values, parity in terms]


def mode_parity(index: int) -> Parity:
    """Whether the Zernike mode of an OSA index is odd in (ky, kx).

    It goes with cos(m phi), or sin(|m| phi) for m < 0; phi turns to -phi where ky changes sign, and
    to pi - phi where kx does.
    """
    _, m = osa_to_nm(index)
    sine = int(m < 0)
    return sine, (m + sine) % 2


def _quadrant_phasors(field: PupilField, static: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Masks and design path, the same for all emitters, (rows, columns, 4 (quadrants))."""
    path = np.exp(1j * field.objective.wavenumber_per_nm * field.path_nm)
    return np.moveaxis((static * path).reshape(4, *path.shape), 0, -1)


def _weighted_amplitude(field: PupilField) -> NDArray[np.complex128]:
    """Components with the quadrature's weights and the root of their share in the light."""
    shares = np.sqrt(np.array(field.free))[:, None, None]
    return shares * field.nodes.weight * field.amplitude


def _waves(
    field: PupilField, grid_y: SampleGrid, grid_x: SampleGrid
) -> tuple[SingleArray, SingleArray]:
    """Standing waves along and across the chords, (2, rows, columns, half) and (2, rows, half)."""
    k = field.objective.wavenumber_per_nm
    along = standing_waves(k * field.nodes.kx, grid_x)
    return _by_fours(along), _by_fours(standing_waves(k * field.nodes.ky[:, 0], grid_y))


def _folds(grid: SampleGrid) -> SingleArray:
    """Even and odd parts of a pixel filter, (2, samples, pixels) of the positive sides."""
    weights = 0.5 * (grid.weights + grid.weights[::-1, ::-1])
    pixels, samples = (count // 2 for count in weights.shape)
    right, left = weights[pixels:, samples:], weights[pixels:, ::-1][:, samples:].copy()
    if weights.shape[1] % 2:
        left[:, 0] = 0.0  # the middle sample is its own mirror image
    folds = np.array((right + left, right - left)).transpose(0, 2, 1)
    if weights.shape[1] % 2:
        folds[1, 0] = 0.0
    return _by_fours(folds)


def _by_fours(array: FloatArray) -> SingleArray:
    """Single precision, the last axis filled up to a multiple of 4 by zeros."""
    spare = -array.shape[-1] % 4
    return _single(np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, spare)]))


def _single(array: FloatArray) -> SingleArray:
    return np.ascontiguousarray(array, dtype=np.float32)


def _split(array: NDArray[np.complex128]) -> SingleArray:
    """Real and imaginary parts as a last axis, float32."""
    return _single(np.stack((array.real, array.imag), axis=-1))


def _in_lanes(values: FloatArray, blocks: int) -> FloatArray:
    """Values (n, ...) of emitters as (blocks, ..., LANES), the last block filled up by zeros."""
    by_block = _filled(values, blocks * LANES).reshape(blocks, LANES, *values.shape[1:])
    return np.ascontiguousarray(np.moveaxis(by_block, 1, -1))


def _in_pairs(mixing: FloatArray, blocks: int) -> SingleArray:
    """Weights (n, sums, components) as (blocks, sums, components * 2 * LANES), each lane twice."""
    lanes = _in_lanes(mixing, blocks).astype(np.float32)
    _, sums, components = mixing.shape
    pairs = np.concatenate((lanes, lanes), axis=-1)
    return pairs.reshape(blocks, sums, components * 2 * LANES)


def _roots(forms: FloatArray) -> FloatArray:
    """Sums of components (n, sums, components) whose squares add up to quadratic forms.

    Eigenvectors times the roots of their eigenvalues; what rounding leaves below 0 is 0.
    """
    values, vectors = np.linalg.eigh(forms)
    return np.sqrt(np.maximum(values, 0.0))[:, :, None] * vectors.swapaxes(1, 2)


def _filled(values: FloatArray, count: int) -> FloatArray:
    """Values (n, ...) of emitters, filled up by zeros to ``count``."""
    return np.pad(values, [(0, count - len(values))] + [(0, 0)] * (values.ndim - 1))


class _ArrayCode:
    """The steps of ``kernels/pupil_batch.py`` in array code, ``at_once`` emitters at a time."""

    def __init__(
        self, pupil: SharedPupil, grid_y: SampleGrid, grid_x: SampleGrid, device: Device
    ) -> None:
        put = device.put
        self._device, self._xp = device, device.xp
        self._first, self._parity = pupil.first.tolist(), pupil.parity.tolist()
        self._values, self._rates = put(pupil.values), put(pupil.rates[:, None])
        self._dims = bool(pupil.rates.any())
        self._static, self._amplitude = (
            put(array[..., 0] + 1j * array[..., 1])
            for array in (pupil.static, pupil.amplitude[:, :, None])
        )
        self._samples = (grid_y.positions_nm.size, grid_x.positions_nm.size)
        half_y, half_x = ((count + 1) // 2 for count in self._samples)
        self._waves_x = put(pupil.waves_x[..., :half_x])
        self._waves_y = put(pupil.waves_y[..., :half_y].swapaxes(1, 2))
        largest = max(self._values[0].size, half_y * half_x)
        fitting = FIELDS_BYTES // (8 * len(SIDES) * len(self._amplitude) * int(largest))
        self.at_once = ON_THE_HOST if device.xp is np else max(min(ON_A_GPU, fitting), 1)
        self._weights_y, self._weights_xt = (
            put(weights, np.float32) for weights in (grid_y.weights, grid_x.weights.T)
        )

    def images(
        self, coefficients: FloatArray, z_nm: FloatArray, mixing: FloatArray, scale: FloatArray,
        least: float,
    ) -> Any:  # fmt: skip
        """As ``PupilBatch.images``, with coefficients (n, terms) in order of parity."""
        pixels = (int(self._weights_y.shape[0]), int(self._weights_xt.shape[1]))
        out = self._xp.empty((len(scale), *pixels), dtype=np.float32)
        for start in range(0, len(out), self.at_once):
            members = slice(start, min(start + self.at_once, len(out)))
            terms, z, mixed, factor = (
                self._device.put(_filled(part[members], self.at_once))
                for part in (coefficients, z_nm, mixing, scale)
            )
            light = self._light(self._parts(terms, z), mixed.astype(np.float32))
            images = self._weights_y @ (light @ self._weights_xt)
            images *= factor.astype(np.float32)[:, None, None]
            out[members] = self._xp.maximum(images, np.float32(least))[: members.stop - start]
        return out

    def _parts(self, terms: Any, z_nm: Any) -> dict[Parity, Any]:
        """Parity parts of the phasors, complex64 (rows, emitters, columns)."""
        turns = {}
        for number, side in enumerate(SIDES):
            own = slice(self._first[number], self._first[number + 1])
            phase = self._xp.tensordot(self._values[own], terms[:, own], axes=(0, 1))
            wrapped = phase - self._xp.floor(phase + 0.5)
            turns[side] = wrapped.astype(np.float32).transpose(0, 2, 1)
        left: Any = np.float32(1.0)
        if self._dims:
            left = self._xp.exp(-self._rates * z_nm.astype(np.float32)[:, None])
        quadrants = {
            side: self._quadrant(number, _continued(turns, side)) * left
            for number, side in enumerate(SIDES)
        }
        return {odd: _continued(quadrants, odd) for odd in SIDES}

    def _quadrant(self, number: int, turns: Any) -> Any:
        """Phasors in a quadrant, complex64 (rows, emitters, columns)."""
        phasor = self._xp.exp(np.complex64(2j * np.pi) * turns)
        return phasor * self._static[:, None, :, number]

    def _light(self, parts: dict[Parity, Any], mixing: Any) -> Any:
        """Light at the sample grid, float32 (emitters, y, x)."""
        components = [
            dict(self._waves(amplitude, parity, parts))
            for amplitude, parity in zip(self._amplitude, self._parity, strict=True)
        ]
        quadrants = []
        for side in SIDES:
            fields = self._xp.stack([_continued(waves, side) for waves in components])
            if mixing.shape[1]:
                fields = self._xp.einsum("nsc,cynx->synx", mixing, fields)
            quadrants.append((fields.real**2 + fields.imag**2).sum(axis=0))
        by_side = self._xp.stack(quadrants)
        return unfold(by_side.reshape(2, 2, *by_side.shape[1:]), self._samples, self._xp)

    def _waves(
        self, amplitude: Any, parity: Sequence[int], parts: dict[Parity, Any]
    ) -> Iterator[tuple[Parity, Any]]:
        """Parity and waves of a component, with the factor (-i)^m of m odd directions.

        Waves: complex64 (half y, emitters, half x).
        """
        half_y, half_x = int(self._waves_y.shape[1]), int(self._waves_x.shape[3])
        for part, phasors in parts.items():
            odd_y, odd_x = part[0] ^ parity[0], part[1] ^ parity[1]
            pupil = amplitude * phasors
            chords = self._xp.concatenate((pupil.real, pupil.imag), axis=1)
            along = (chords @ self._waves_x[odd_x]).reshape(len(chords), -1)
            waves = (self._waves_y[odd_y] @ along).reshape(half_y, 2, self.at_once, half_x)
            factor = np.complex64((-1j) ** (odd_y + odd_x))
            yield (odd_y, odd_x), factor * (waves[:, 0] + np.complex64(1j) * waves[:, 1])


def _continued(parts: dict[Parity, Any], side: Parity) -> Any:
    """Sum of parts in a quadrant, those odd towards it with the other sign."""
    total = parts[0, 0]
    for odd in SIDES[1:]:
        flips = (odd[0] * side[0] + odd[1] * side[1]) % 2
        total = total - parts[odd] if flips else total + parts[odd]
    return total
