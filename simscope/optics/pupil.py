"""PSFs from the pupil, vectorial or scalar, with any mask and wavefront: images, dipoles, slopes.

The field on the camera (in sample coordinates) is the Fourier integral of the pupil field over
the disc of radius NA, by quadrature, straight onto the samples that determine the pixels
(``transform.py``): no FFT, no zero padding, no wrap-around, no binary pupil edge. ``field.py`` says
what light a dipole sends into the pupil, ``sampling.py`` how many nodes that takes, ``axial.py``
how few planes determine a stack.

Sign convention: an emitter at (x, y) adds the phase k(kx x + ky y) in the pupil, masks and
wavefronts add theirs with a plus sign, and the image is the transform with exp(-i k k.r). So a
phase that grows with kx moves the image to +x, and the image of ``mask.T`` is the transpose.

Fails where paraxial imaging onto the camera fails (magnification below about 10), and leaves out
field-dependent aberrations.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from numba import get_num_threads
from numpy.typing import ArrayLike, NDArray

from simscope.blas import single_blas_thread
from simscope.device import CPU, Device, placed
from simscope.errors import OpticsError
from simscope.optics.axial import AxialNodes, axial_nodes
from simscope.optics.checks import check_reach, check_supported, check_window
from simscope.optics.field import (
    basis_forms,
    dimmed_sums,
    energy_density,
    mode_values,
    passed,
    plane_energy,
    plane_phasor,
    quadrants,
)
from simscope.optics.interfaces import objective_of
from simscope.optics.modulator import JUMP_ACCURACY, Roughness, pupil_roughness
from simscope.optics.phasors import unit_phasor
from simscope.optics.pixels import Window
from simscope.optics.pupil_batch import PupilBatch
from simscope.optics.sampling import Demand, sampled_field
from simscope.optics.transform import Parts, Scratch, Transform, parity_parts
from simscope.optics.zernike import osa_to_nm

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
Pair = tuple[Any, Any]

AXIAL_SHARE = 0.4
"""Share of the accuracy left to interpolation between planes."""

BATCH_ACCURACY = 1e-5
"""Accuracy from which on single precision, errors near 1e-6 of the peak, does not count."""


class PupilModel:
    """PSFs of one set of optics for one window, over ranges of height, focus and shift.

    Set up once (quadrature chosen for the hardest corner of the ranges), used for many images.

    Parameters: ``shape`` (y, x) in pixels of ``pixel_nm``; ``z_nm`` and ``focus_nm`` lowest and
    highest values to come; ``reach_nm`` largest lateral shift; ``wavefront_limit_nm`` (OSA index ->
    RMS nm) a wavefront as strong as any to come on top of the optics' own, in any direction of its
    modes unless ``any_direction`` is False; ``accuracy`` worst error as a share of the image's peak
    (the optics' own if None); ``per_pixel`` asks for values at sub-pixel shifts, ``shape`` then
    counts those; ``points`` and ``blur_nm`` as in ``Window``; ``xp`` array module, NumPy or CuPy,
    whose arrays the images are. Raises OpticsError for impossible or unresolvable optics.
    """

    def __init__(
        self,
        optics: Any,
        *,
        shape: tuple[int, int],
        pixel_nm: float,
        z_nm: tuple[float, float] = (0.0, 0.0),
        focus_nm: tuple[float, float] = (0.0, 0.0),
        reach_nm: float = 0.0,
        wavefront_limit_nm: Mapping[int, float] | None = None,
        any_direction: bool = True,
        accuracy: float | None = None,
        per_pixel: int | None = None,
        points: bool = False,
        blur_nm: float = 0.0,
        xp: Any = np,
    ) -> None:
        check_supported(optics)
        check_window(shape, pixel_nm / (per_pixel or 1), reach_nm)
        check_reach(z_nm, focus_nm, reach_nm)
        self.optics = optics
        self.objective = objective_of(optics)
        self.roughness = pupil_roughness(optics, self.objective)
        self.accuracy = _reachable(optics, accuracy, self.roughness)
        self.modes = tuple(sorted(wavefront_limit_nm or {}))
        self._strongest_nm = _rms(np.array([*(wavefront_limit_nm or {}).values()]))
        self.hardest_wavefronts_nm = _hardest_wavefronts_nm(
            dict(wavefront_limit_nm or {}), any_direction=any_direction
        )
        if not math.isfinite(self._strongest_nm):
            raise OpticsError("wavefront_limit_nm holds values that are not finite: give numbers")
        self._ranges = (np.asarray(z_nm, float), np.asarray(focus_nm, float), float(reach_nm))
        window = Window(shape, pixel_nm, per_pixel, points, blur_nm)
        self.grid_y, self.grid_x = window.grids(
            self.objective.band_limit_per_nm, 0.3 * self.accuracy
        )
        self._sampled = sampled_field(self._demand(window))
        self.field = self._sampled.field
        self._k = quadrants(self.field.nodes)
        self._static = self._sampled.static
        self._passed = passed(self._static)
        self._modes = {i: mode_values(i, *self._k, self.objective.na) for i in self.modes}
        self.transform = Transform(
            self.field.nodes, self.objective.wavenumber_per_nm, self.grid_y, self.grid_x, xp
        )
        self._batches: dict[Device, PupilBatch] = {}

    def _demand(self, window: Window) -> Demand:
        """What the quadrature must serve."""
        (z, focus), reach_nm = self.corners_nm, self._ranges[2]
        pitch_nm = window.pixel_nm / (window.per_pixel or 1)
        # beyond the window the pixel filter's weights fall faster than errors grow
        half_y, half_x = (0.5 * count * pitch_nm + reach_nm for count in window.shape)
        return Demand(
            self.optics, self.objective, self.roughness, z, focus, (half_y, half_x),
            tuple(self.hardest_wavefronts_nm), self.accuracy,
        )  # fmt: skip

    @property
    def error_estimate(self) -> float:
        """Change of the image with a fifth more nodes [share of the peak], where it is largest."""
        return self._sampled.error

    @property
    def corners_nm(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Lowest and highest height, and lowest and highest focus, of the set-up [nm]."""
        z, focus, _ = self._ranges
        return (float(z[0]), float(z[-1])), (float(focus[0]), float(focus[-1]))

    @property
    def nodes_across(self) -> int:
        """Quadrature nodes across the whole pupil."""
        return 2 * int(self.field.nodes.kx.shape[0])

    @property
    def static(self) -> ComplexArray:
        """Transmission of mask, maps and own wavefront [1], (2, 2, rows, columns) in quadrants."""
        return self._static

    @property
    def serves_batches(self) -> bool:
        """Whether the accuracy asked for leaves room for the single precision of ``batch``."""
        return self.accuracy >= BATCH_ACCURACY

    def images(
        self,
        z_nm: ArrayLike = 0.0,
        focus_nm: ArrayLike = 0.0,
        x_nm: ArrayLike = 0.0,
        y_nm: ArrayLike = 0.0,
        *,
        wavefront_nm: Mapping[int, float] | None = None,
    ) -> FloatArray:
        """Probability per pixel of emitters, float64 (n, y, x).

        ``z_nm, focus_nm, x_nm, y_nm`` broadcast to n images; ``wavefront_nm`` (OSA index -> RMS
        nm) adds to the optics' own in all of them. Raises OpticsError outside the ranges the model
        was set up for.
        """
        columns = self._columns(z_nm, focus_nm, x_nm, y_nm)
        forms = self.field.free_form
        images = self._evaluate(columns, wavefront_nm, partial(self._form_totals, forms), 1)[:, 0]
        # the exact value is never negative; the filter's error can be where it is dark
        return self.transform.xp.maximum(images, 0.0, out=images)

    def basis_images(
        self,
        z_nm: ArrayLike = 0.0,
        focus_nm: ArrayLike = 0.0,
        x_nm: ArrayLike = 0.0,
        y_nm: ArrayLike = 0.0,
        analyser_deg: float | None = None,
        *,
        wavefront_nm: Mapping[int, float] | None = None,
    ) -> FloatArray:
        """Six images per emitter, float64 (n, 6, y, x), that sum to that of any oriented dipole.

        A dipole of second moments M (trace 1) has the image ``sum_k m_k B_k``, m = (Mxx, Myy, Mzz,
        Mxy, Mxz, Myz); the free dipole, M = 1/3, sums to 1 over an infinite camera at every height.
        ``analyser_deg``: only the light polarised at this angle from x towards y on the camera.
        Other arguments as in ``images``. Raises OpticsError for scalar optics, and outside the
        ranges of the set-up.
        """
        forms = self._basis_forms(analyser_deg)
        columns = self._columns(z_nm, focus_nm, x_nm, y_nm)
        return self._evaluate(columns, wavefront_nm, partial(self._form_totals, forms), 6)

    def basis_energies(
        self, z_nm: ArrayLike = 0.0, analyser_deg: float | None = None
    ) -> FloatArray:
        """Sums [1] of the basis images over an infinite camera, float64 (n, 6).

        By Parseval's theorem, from the pupil. The first three are the collected energies of dipoles
        along x, y, z relative to a freely rotating one at the same height. Raises OpticsError for
        scalar optics and heights outside the set-up.
        """
        forms = self._basis_forms(analyser_deg)
        z = self._columns(z_nm, self._ranges[1][0], 0.0, 0.0)[0]
        density = energy_density(self.field, forms, self._static)
        free, _ = plane_energy(self.field, z, self._passed)
        return dimmed_sums(self.field, density, z) / free[:, None]

    def slopes(
        self,
        z_nm: ArrayLike = 0.0,
        focus_nm: ArrayLike = 0.0,
        x_nm: ArrayLike = 0.0,
        y_nm: ArrayLike = 0.0,
        *,
        wavefront_nm: Mapping[int, float] | None = None,
    ) -> FloatArray:
        """Images [1] and their derivatives by the emitter's x, y, z [1/nm], float64 (n, 4, y, x).

        Analytic: a lateral shift multiplies the pupil by exp(ik(kx x + ky y)), a height by exp(ik
        root z), and the normalisation follows the evanescent light's loss with height. Arguments
        and errors as in ``images``.
        """
        columns = self._columns(z_nm, focus_nm, x_nm, y_nm)
        out = self._evaluate(columns, wavefront_nm, self._slope_totals, 4)
        energy, slope = plane_energy(self.field, columns[0], self._passed)
        out[:, 3] -= self.transform.xp.asarray(slope / energy)[:, None, None] * out[:, 0]
        return out

    def _evaluate(
        self,
        columns: list[FloatArray],
        wavefront_nm: Mapping[int, float] | None,
        totals: Callable[[Parts, Pair, Scratch], list[Any]],
        outputs: int,
    ) -> Any:
        """Pixel integrals (n, outputs, y, x) of what ``totals`` makes of the pupil's fields.

        Planes that lie on a line in height and focus come from as few as determine them. Chunks of
        planes are computed side by side, cut by the planes alone: no bit depends on threads.
        """
        z, focus, x, y = columns
        xp = self.transform.xp
        aberration = self._wavefront_phase(dict(wavefront_nm or {}))
        shape = (self.grid_y.weights.shape[0], self.grid_x.weights.shape[0])
        out = xp.empty((z.size, outputs, *shape))
        with single_blas_thread():
            for (x0, y0), members in _groups(x, y):
                parts = self._parts(x0, y0, aberration)
                nodes = self._axial_nodes(z[members], focus[members])
                raw = self._planes(nodes.z_nm, nodes.focus_nm, parts, totals, outputs)
                energy, _ = plane_energy(self.field, z[members], self._passed)
                scale = 1.0 / (self.objective.wavelength_nm**2 * energy)
                if nodes.weights is None:
                    stack = xp.asarray(scale)[:, None, None, None] * raw
                else:
                    stack = xp.tensordot(xp.asarray(scale[:, None] * nodes.weights), raw, axes=1)
                if members.size == z.size:
                    return stack
                out[members] = stack
        return out

    def _axial_nodes(self, z_nm: FloatArray, focus_nm: FloatArray) -> AxialNodes:
        """Planes to compute for a stack."""
        return axial_nodes(
            z_nm, focus_nm, self.field.sample_root, self.field.immersion_root,
            self.objective.wavenumber_per_nm, AXIAL_SHARE * self.accuracy,
        )  # fmt: skip

    def _planes(
        self,
        z_nm: FloatArray,
        focus_nm: FloatArray,
        parts: Parts,
        totals: Callable[[Parts, Pair, Scratch], list[Any]],
        outputs: int,
    ) -> Any:
        """Pixel integrals (planes, outputs, y, x) before normalisation."""
        transform, xp = self.transform, self.transform.xp
        kept = 1 if outputs == 1 else len(self.field.parity)
        pairs = math.ceil(z_nm.size / (2 * transform.planes_at_once(kept)))
        chunks = np.array_split(np.arange(z_nm.size), min(2 * pairs, z_nm.size))
        shape = (self.grid_y.weights.shape[0], self.grid_x.weights.shape[0])
        out = xp.empty((z_nm.size, outputs, *shape))

        def compute(chunk: NDArray[np.intp]) -> None:
            phasor = plane_phasor(self.field, z_nm[chunk], focus_nm[chunk], xp)
            with transform.scratch() as scratch:
                for k, total in enumerate(totals(parts, phasor, scratch)):
                    out[chunk[0] : chunk[-1] + 1, k] = transform.pixels(total, scratch)

        if xp is not np or len(chunks) == 1:
            for chunk in chunks:
                compute(chunk)
            return out
        with ThreadPoolExecutor(get_num_threads()) as pool:
            for _ in pool.map(compute, chunks):
                pass
        return out

    def _columns(self, *values: ArrayLike) -> list[FloatArray]:
        """z, focus, x, y and others as float64 (n,), checked against the ranges of the set-up."""
        single = [np.atleast_1d(np.asarray(value, dtype=np.float64)) for value in values]
        try:
            columns = np.broadcast_arrays(*single)
        except ValueError as error:
            lengths = ", ".join(str(value.size) for value in single)
            raise OpticsError(
                f"z_nm, focus_nm, x_nm, y_nm, wavefronts and weights are of {lengths} emitters: "
                "give one of each, or as many as there are emitters"
            ) from error
        self._check_ranges(*columns[:4])
        return list(columns)

    def _forms(self, weights: ArrayLike) -> FloatArray:
        """Quadratic forms (n, components, components) of weighted basis images."""
        given = np.asarray(weights, dtype=np.float64)
        if given.ndim != 2 or given.shape[1] != 6 or not np.isfinite(given).all():
            raise OpticsError(
                f"weights of shape {given.shape} are not those of six basis images: give finite "
                "numbers, (n, 6)"
            )
        return np.einsum("nk,kij->nij", given, self._basis_forms(None))

    def _basis_forms(self, analyser_deg: float | None) -> FloatArray:
        if len(self.field.parity) == 1:
            raise OpticsError(
                "model='gibson_lanni' is scalar and knows neither dipoles nor polarisation: use "
                "model='vectorial'"
            )
        if analyser_deg is not None and not math.isfinite(analyser_deg):
            raise OpticsError(f"analyser_deg={analyser_deg} is not finite: give an angle")
        return basis_forms(analyser_deg)

    def _parts(self, x_nm: float, y_nm: float, aberration: FloatArray | float) -> Parts:
        """Parity parts of mask, wavefront and lateral position, each (rows, columns)."""
        phase = aberration + self._tilt(x_nm, y_nm)
        turned = self._static if np.ndim(phase) == 0 else self._static * unit_phasor(phase)
        xp = self.transform.xp
        return parity_parts(xp.asarray(turned), xp)

    def _form_totals(
        self, forms: FloatArray, parts: Parts, weighted: Pair, scratch: Scratch
    ) -> list[Any]:
        """Light of quadratic forms of the components, see ``Transform.totals``."""
        return self.transform.light(self.field, forms, parts, weighted, scratch)

    def _slope_totals(self, parts: Parts, weighted: Pair, scratch: Scratch) -> list[Any]:
        """Samples of the free dipole's image and its slopes by x, y, z at fixed normalisation."""
        field, transform = self.field, self.transform
        k, asarray = self.objective.wavenumber_per_nm, transform.xp.asarray
        factors = (
            (asarray(1j * k * field.nodes.kx), (0, 1)),
            (asarray(1j * k * field.nodes.ky), (1, 0)),
            (asarray(1j * k * field.sample_root), (0, 0)),
        )
        image, *by_place = totals = transform.totals(4, weighted[0].shape[0], scratch)
        for values, odd, share in zip(field.amplitude, field.parity, field.free, strict=True):
            amplitude = asarray(values)
            light = transform.waves(amplitude, odd, weighted, parts, scratch)
            transform.add_light(light, light, [(image, share)])
            for (factor, (odd_y, odd_x)), total in zip(factors, by_place, strict=True):
                parity = (odd[0] ^ odd_y, odd[1] ^ odd_x)
                slope = transform.waves(amplitude * factor, parity, weighted, parts, scratch, 1)
                transform.add_light(light, slope, [(total, 2.0 * share)])
        return totals

    def batch(
        self,
        z_nm: ArrayLike = 0.0,
        focus_nm: ArrayLike = 0.0,
        x_nm: ArrayLike = 0.0,
        y_nm: ArrayLike = 0.0,
        *,
        coefficients_nm: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        device: Device | str = CPU,
    ) -> Any:
        """Probability per pixel of emitters, each with its own optics, float32 (n, y, x).

        ``z_nm, focus_nm, x_nm, y_nm`` broadcast to (n,); ``coefficients_nm``: (n, modes), or one
        row for all, RMS nm in the order of ``self.modes``; ``weights``: (n, 6) of the basis images
        in those of oriented dipoles; all of them, and the images, lie on ``device``. Single
        precision: errors near 1e-6 of the peak come on top of the model's accuracy. Every emitter
        is computed by itself: its bytes depend on neither neighbours nor threads (Numba's). Raises
        OpticsError outside the ranges the model was set up for.
        """
        device = placed(device)
        places = [device.get(value) for value in (z_nm, focus_nm, x_nm, y_nm)]
        drawn = self._drawn(None if coefficients_nm is None else device.get(coefficients_nm))
        forms = None if weights is None else self._forms(device.get(weights))
        counts = [np.zeros(len(drawn)), np.zeros(1 if forms is None else len(forms))]
        z, focus, x, y, *_ = self._columns(*places, *counts)
        drawn = np.broadcast_to(drawn, (z.size, drawn.shape[1]))
        if forms is not None:
            forms = np.broadcast_to(forms, (z.size, *forms.shape[1:]))
        return self._batch_on(device).images(z, focus, x, y, drawn, forms=forms)

    def stacks(
        self,
        z_nm: ArrayLike = 0.0,
        focus_nm: ArrayLike = 0.0,
        x_nm: ArrayLike = 0.0,
        y_nm: ArrayLike = 0.0,
        *,
        coefficients_nm: ArrayLike | None = None,
        device: Device | str = CPU,
    ) -> Any:
        """Probability per pixel of one emitter per sample, float32 (samples, planes, y, x).

        ``z_nm`` and ``focus_nm`` broadcast to (samples, planes), ``x_nm`` and ``y_nm`` to
        (samples,); ``coefficients_nm`` and the rest as in ``batch``.
        """
        device = placed(device)
        x, y = (np.atleast_1d(np.asarray(device.get(a), float)) for a in (x_nm, y_nm))
        z, focus = (np.atleast_2d(np.asarray(device.get(a), float)) for a in (z_nm, focus_nm))
        drawn = self._drawn(None if coefficients_nm is None else device.get(coefficients_nm))
        samples, planes = np.broadcast_shapes(
            z.shape, focus.shape, (x.size, 1), (y.size, 1), (drawn.shape[0], 1)
        )
        self._check_ranges(z, focus, x, y)
        x, y = np.broadcast_to(x, samples), np.broadcast_to(y, samples)
        drawn = np.broadcast_to(drawn, (samples, drawn.shape[1]))
        z, focus = (np.broadcast_to(a, (samples, planes)) for a in (z, focus))
        alike = bool((z == z[:1]).all() and (focus == focus[:1]).all())
        different = range(min(1, samples) if alike else samples)
        nodes = [self._stack_nodes(z[i], focus[i]) for i in different]
        nodes = nodes * samples if alike else nodes
        owner = np.repeat(np.arange(samples), [own.z_nm.size for own in nodes])
        empty = [np.empty(0)]
        images = self._batch_on(device).images(
            np.concatenate(empty + [own.z_nm for own in nodes]),
            np.concatenate(empty + [own.focus_nm for own in nodes]),
            x[owner], y[owner], drawn[owner], least=-np.inf,
        )  # fmt: skip
        return self._stacked(images, nodes, planes, device)

    def _stack_nodes(self, z_nm: FloatArray, focus_nm: FloatArray) -> AxialNodes:
        """As few planes as determine a stack; weights are of images that sum to 1 each."""
        nodes = self._axial_nodes(z_nm, focus_nm)
        if nodes.weights is None:
            return nodes
        energy, node_energy = (
            plane_energy(self.field, z, self._passed)[0] for z in (z_nm, nodes.z_nm)
        )
        return dataclasses.replace(nodes, weights=nodes.weights * node_energy / energy[:, None])

    def _stacked(self, images: Any, nodes: list[AxialNodes], planes: int, device: Device) -> Any:
        """Stacks (samples, planes, y, x) from the images of all their nodes, one after another."""
        xp, shape = device.xp, images.shape[1:]
        stacks = xp.empty((len(nodes), planes, *shape), dtype=np.float32)
        first = 0
        with single_blas_thread():
            for stack, own in zip(stacks, nodes, strict=True):
                computed = images[first : first + own.z_nm.size]
                first += own.z_nm.size
                if own.weights is None:
                    stack[:] = computed
                else:
                    weights = device.put(own.weights, np.float32)
                    stack[:] = (weights @ computed.reshape(len(computed), -1)).reshape(-1, *shape)
        return xp.maximum(stacks, np.float32(0.0), out=stacks)

    def _batch_on(self, device: Device) -> PupilBatch:
        if device not in self._batches:
            self._batches[device] = PupilBatch(
                self.field, self._static, self.modes, self.grid_y, self.grid_x, device
            )
        return self._batches[device]

    def _drawn(self, coefficients_nm: ArrayLike | None) -> FloatArray:
        """Coefficients [nm], (n, modes), zeros if there are none, checked."""
        if coefficients_nm is None:
            return np.zeros((1, len(self.modes)))
        return self._check_coefficients(np.asarray(coefficients_nm, dtype=np.float64))

    def _check_coefficients(self, coefficients_nm: FloatArray) -> FloatArray:
        if coefficients_nm.ndim != 2 or coefficients_nm.shape[1] != len(self.modes):
            raise OpticsError(
                f"coefficients_nm has shape {coefficients_nm.shape}: need one column for each of "
                f"the modes {self.modes} named in wavefront_limit_nm"
            )
        self._check_strength(coefficients_nm)
        return coefficients_nm

    def _check_strength(self, coefficients_nm: FloatArray) -> None:
        if not np.isfinite(coefficients_nm).all():
            raise OpticsError("a wavefront coefficient is not finite: give plain numbers [nm]")
        strongest_nm = float(_rms(coefficients_nm).max(initial=0.0))
        if strongest_nm > 1.0001 * self._strongest_nm:
            raise OpticsError(
                f"a wavefront of {strongest_nm:.4g} nm RMS exceeds the {self._strongest_nm:.4g} nm "
                "for which the pupil was sampled: raise wavefront_limit_nm"
            )

    def _wavefront_phase(self, wavefront_nm: dict[int, float]) -> FloatArray | float:
        k = self.objective.wavenumber_per_nm
        phase: FloatArray | float = 0.0
        self._check_strength(np.array([*wavefront_nm.values()]))
        for index, coefficient_nm in wavefront_nm.items():
            if index not in self._modes:
                raise OpticsError(
                    f"OSA mode {index} was not announced: name it in wavefront_limit_nm"
                )
            phase = phase + k * coefficient_nm * self._modes[index]
        return phase

    def _tilt(self, x_nm: float, y_nm: float) -> FloatArray | float:
        """Phase of an emitter's lateral position [rad], (2, 2, rows, columns)."""
        if x_nm == 0.0 and y_nm == 0.0:
            return 0.0
        kx, ky = self._k
        return self.objective.wavenumber_per_nm * (kx * x_nm + ky * y_nm)

    def _check_ranges(self, *values: FloatArray) -> None:
        """Raise OpticsError unless z, focus, x, y lie in the ranges of the set-up."""
        z, focus, x, y = values
        z_range, focus_range, reach = self._ranges
        limits = (
            ("z_nm", z, z_range[0], z_range[-1]),
            ("focus_nm", focus, focus_range[0], focus_range[-1]),
            ("x_nm", x, -reach, reach),
            ("y_nm", y, -reach, reach),
        )
        for name, value, low, high in limits:
            if not ((value >= low) & (value <= high)).all():
                raise OpticsError(
                    f"{name} from {value.min():g} to {value.max():g} leaves [{low:g}, {high:g}], "
                    "for which the pupil was sampled: set the model up for the wider range"
                )


def _hardest_wavefronts_nm(
    limit_nm: dict[int, float], *, any_direction: bool
) -> list[dict[int, float]]:
    """Wavefronts (OSA index -> RMS nm) that stand for the steepest within a limit.

    The limit itself; if any direction of its modes may come at the same strength, also each mode
    of the highest radial order alone, whose phase is steepest at the pupil's edge.
    """
    if not any_direction or not limit_nm:
        return [limit_nm]
    strongest_nm = float(_rms(np.array([*limit_nm.values()])))
    orders = {index: osa_to_nm(index)[0] for index in limit_nm}
    highest = max(orders.values())
    return [limit_nm] + [{i: strongest_nm} for i, order in orders.items() if order == highest]


def _rms(coefficients_nm: FloatArray) -> FloatArray:
    """RMS wavefront error [nm] of orthonormal coefficients along the last axis."""
    return np.sqrt((coefficients_nm**2).sum(axis=-1))


def _reachable(optics: Any, accuracy: float | None, roughness: Roughness) -> float:
    """Accuracy to aim at: what is asked, but not below what phase jumps between pixels allow."""
    asked = float(optics.accuracy if accuracy is None else accuracy)
    if not 1e-12 <= asked <= 0.5:
        raise OpticsError(f"accuracy={asked:g} lies outside [1e-12, 0.5]: ask for 1e-6, say")
    return max(asked, JUMP_ACCURACY) if roughness.jumps else asked


def _groups(x: FloatArray, y: FloatArray) -> Iterator[tuple[tuple[float, float], NDArray[np.intp]]]:
    """((x, y), indices) of the images that share a lateral position."""
    if (x == x[0]).all() and (y == y[0]).all():
        yield (float(x[0]), float(y[0])), np.arange(x.size)
        return
    places, member = np.unique(np.stack((x, y), axis=1), axis=0, return_inverse=True)
    for number, (x0, y0) in enumerate(places):
        yield (float(x0), float(y0)), np.flatnonzero(member.ravel() == number)
