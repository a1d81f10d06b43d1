"""Scanned microscopes: what a detector sees of a molecule, against the beam's position.

Every signal is a product of excitation h_exc and detection h_em, both smooth and band-limited, so
that the product holds frequencies up to the sum of their bands and is sampled for that. An average
over a pinhole or a detector element is an exact short filter on the samples (``filters.py``).
STED's exponential has no sharp band: where its spectrum in focus falls below the accuracy is
measured.

Detection sees a freely rotating dipole and collects the same share at every height, as in
widefield; the beam fades with height where it is supercritical. Left out: rotation between
absorption and emission (each is averaged over all orientations), saturation of the excitation,
bleaching, and the time a beam takes to move.

Sources: Wilson and Sheppard, Theory and Practice of Scanning Optical Microscopy (1984), and
Sheppard and Gu, J. Mod. Opt. 37, 451 (1990), for confocal and two-photon images; Hell and Wichmann,
Opt. Lett. 19, 780 (1994), and Harke et al., Opt. Express 16, 4154 (2008), for STED; Sheppard, Optik
80, 53 (1988), and Mueller and Enderlein, Phys. Rev. Lett. 104, 198101 (2010), for image scanning.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simscope.errors import OpticsError
from simscope.optics.filters import (
    AreaFilter,
    apply,
    disc_filter,
    sampled,
    source_spacing_nm,
    square_filter,
)
from simscope.optics.interfaces import objective_of
from simscope.optics.modalities.beams import (
    beam_optics,
    detector_elements,
    focus_energy,
    focus_energy_slope,
    without_aberrations,
)
from simscope.optics.modalities.donut import Donut
from simscope.optics.modalities.jets import along_z, exponential, jet_of, times
from simscope.optics.pixels import Window
from simscope.optics.reach import Reach
from simscope.optics.spectrum import shortest_wavelength_nm
from simscope.recipe.modality import AIRY_DISC

FloatArray = NDArray[np.float64]
Build = Callable[..., Any]

PLANES_AT_ONCE = 16
SUM_BAND_SHARE = 0.9
"""Samples whose sum is an integral may lie this share of 1/band apart (no alias reaches f = 0)."""

SUM_HALF_WIDTH = 6.0
"""Half width of the plane that is summed in wavelengths over NA, before a defocused cone's."""

LINE_HALF_WIDTH = 12.0
"""Half width of the line whose spectrum tells STED's band, in wavelengths over NA."""


class ScanModel:
    """Effective images of molecules in a scanned microscope, pixel by pixel of the scan.

    ``build`` gives the model of the same optics in widefield. Raises OpticsError for wavelengths
    and apertures that cannot be.
    """

    def __init__(
        self, optics: Any, window: Window, reach: Reach, accuracy: float, build: Build
    ) -> None:
        self._given = (optics, reach, accuracy, build)
        self._band = band_limit_per_nm(optics)
        self.grid_y, self.grid_x = window.grids(self._band, 0.2 * accuracy)
        shape = (self.grid_y.positions_nm.size, self.grid_x.positions_nm.size)
        self._signal = _signal(optics, shape, self.grid_x.spacing_nm, reach, 0.2 * accuracy, build)

    def images(
        self,
        z_nm: ArrayLike = 0.0,
        focus_nm: ArrayLike = 0.0,
        x_nm: ArrayLike = 0.0,
        y_nm: ArrayLike = 0.0,
    ) -> FloatArray:
        """Relative signal per scan pixel, float64 (n, y, x); in focus it sums to 1."""
        return np.maximum(self._jets(False, z_nm, focus_nm, x_nm, y_nm)[:, 0], 0.0)

    def slopes(
        self,
        z_nm: ArrayLike = 0.0,
        focus_nm: ArrayLike = 0.0,
        x_nm: ArrayLike = 0.0,
        y_nm: ArrayLike = 0.0,
    ) -> FloatArray:
        """Images and their derivatives by x, y, z [1/nm], float64 (n, 4, y, x)."""
        return self._jets(True, z_nm, focus_nm, x_nm, y_nm)

    def basis_images(self, *_: Any, **__: Any) -> FloatArray:
        """Raise OpticsError: a focused beam excites every orientation differently."""
        raise OpticsError(
            "oriented dipoles under a focused beam are not modelled, as the beam excites every "
            "orientation differently: use modality widefield or light_sheet, or free dipoles"
        )

    def basis_energies(self, *_: Any, **__: Any) -> FloatArray:
        """Raise OpticsError, as ``basis_images``."""
        return self.basis_images()

    def energies(self, z_nm: ArrayLike = 0.0, focus_nm: ArrayLike = 0.0) -> FloatArray:
        """Sums of the images over an infinite scan [1], (n,), 1e-4 of them left out at most.

        1 in the focus of the microscope without aberrations; the rest is optical sectioning.
        """
        z, focus = np.broadcast_arrays(
            *(np.atleast_1d(np.asarray(a, dtype=np.float64)) for a in (z_nm, focus_nm))
        )
        return self.scale * self._plane.sums(z, focus)

    @cached_property
    def scale(self) -> float:
        """What makes the focus of the microscope without aberrations sum to 1."""
        optics, _, accuracy, build = self._given
        plane = _Plane(without_aberrations(optics), self._band, Reach(), accuracy, build)
        return 1.0 / float(plane.sums(np.zeros(1), np.zeros(1))[0])

    @cached_property
    def _plane(self) -> _Plane:
        optics, reach, accuracy, build = self._given
        return _Plane(optics, self._band, reach, accuracy, build)

    def _jets(self, slopes: bool, *where: ArrayLike) -> FloatArray:
        """Images (n, 1, y, x), or with slopes (n, 4, y, x)."""
        places = np.broadcast_arrays(
            *(np.atleast_1d(np.asarray(a, dtype=np.float64)) for a in where)
        )
        pieces = []
        for start in range(0, places[0].size, PLANES_AT_ONCE):
            some = [place[start : start + PLANES_AT_ONCE] for place in places]
            signal = self._signal(slopes, *some)
            pieces.append(self.grid_y.weights @ (signal @ self.grid_x.weights.T))
        return self.scale * np.concatenate(pieces)


class _Plane:
    """Sums of a scanned microscope's signal over the plane [nm^2]."""

    def __init__(
        self, optics: Any, band: float, reach: Reach, accuracy: float, build: Build
    ) -> None:
        self.spacing_nm = SUM_BAND_SHARE / band
        count = 2 * math.ceil(_half_width_nm(optics, reach) / self.spacing_nm) + 1
        self._signal = _signal(
            optics,
            (count, count),
            self.spacing_nm,
            replace(reach, lateral_nm=0.0),
            0.1 * accuracy,
            build,
        )

    def sums(self, z: FloatArray, focus: FloatArray) -> FloatArray:
        """Sums at each height and focus, (n,)."""
        none = np.zeros(1)
        pieces = [
            self._signal(False, *np.broadcast_arrays(z[i : i + 1], focus[i : i + 1], none, none))
            for i in range(z.size)
        ]
        return np.array([piece.sum() for piece in pieces]) * self.spacing_nm**2


def _half_width_nm(optics: Any, reach: Reach) -> float:
    """Half width of a plane that holds the cone of light at the ranges' worst defocus [nm]."""
    objective = objective_of(optics)
    sine = min(objective.na / objective.n_sample, 0.95)
    ratio = objective.n_sample / objective.n_immersion
    defocus_nm = max(abs(z - focus * ratio) for z in reach.z_nm for focus in reach.focus_nm)
    spot_nm = SUM_HALF_WIDTH * objective.wavelength_nm / objective.na
    return spot_nm + 1.5 * defocus_nm * sine / math.sqrt(1.0 - sine**2)


def band_limit_per_nm(optics: Any) -> float:
    """Highest spatial frequency of the images [cycles/nm], STED's where it falls below accuracy."""
    modality = optics.modality
    detection = 2.0 * optics.na / shortest_wavelength_nm(optics)
    if modality.kind in ("widefield", "light_sheet"):
        return float(detection)
    excitation = 2.0 * (modality.excitation_na or optics.na) / modality.excitation_wavelength_nm
    if modality.kind == "two_photon":
        return float(2.0 * excitation)
    if modality.kind == "sted":
        return float(detection + _depleted_band_per_nm(optics, excitation))
    return float(detection + excitation)


def _depleted_band_per_nm(optics: Any, excitation_band_per_nm: float) -> float:
    """Frequency beyond which the spectrum of a Gaussian spot cut by the donut is nothing.

    The spot has the width of the excitation and no tails, so that the line it is seen on may end.
    """
    modality = optics.modality
    ideal = without_aberrations(beam_optics(optics, modality.depletion_wavelength_nm))
    accuracy = 0.01 * optics.accuracy
    band = 2.0 * optics.na / modality.depletion_wavelength_nm
    half_width_nm = LINE_HALF_WIDTH / band
    step_nm = 0.1 / (excitation_band_per_nm + band * (1.0 + 2.0 * math.sqrt(modality.saturation)))
    count = 2 * math.ceil(half_width_nm / step_nm) + 1
    donut = Donut(ideal, Window((1, count), step_nm, points=True), Reach(), 1e-6).images()[0, 0]
    x = (np.arange(count) - count // 2) * step_nm
    spot = np.exp(-((2.0 * excitation_band_per_nm * x) ** 2)) * np.exp(-modality.saturation * donut)
    spectrum = np.abs(np.fft.rfft(spot))
    last = int(np.flatnonzero(spectrum > accuracy * spectrum[0])[-1])
    return float(np.fft.rfftfreq(count, step_nm)[last]) + excitation_band_per_nm * 0.5


def _signal(
    optics: Any,
    shape: tuple[int, int],
    spacing_nm: float,
    reach: Reach,
    accuracy: float,
    build: Build,
) -> Callable[..., FloatArray]:
    """Signal samples (n, k, y, x) at ``shape`` points, from (slopes, z, focus, x, y)."""
    kinds: dict[str, Callable[..., Any]] = {
        "confocal": _Confocal,
        "two_photon": _TwoPhoton,
        "sted": _Sted,
        "ism": _ImageScanning,
    }
    signal: Callable[..., FloatArray] = kinds[optics.modality.kind](
        optics, shape, spacing_nm, reach, accuracy, build
    )
    return signal


class _Excitation:
    """Light of the exciting beam at molecules, per nm^2 of a beam that is 1 at the coverslip."""

    def __init__(
        self, optics: Any, window: Window, reach: Reach, accuracy: float, build: Build
    ) -> None:
        modality = optics.modality
        beam = beam_optics(optics, modality.excitation_wavelength_nm, modality.excitation_na)
        self.objective, self._scalar = objective_of(beam), optics.model == "gibson_lanni"
        self._model = build(beam, window, reach, accuracy=accuracy)

    def __call__(self, slopes: bool, *where: FloatArray) -> FloatArray:
        focus = jet_of(self._model, slopes, *where)
        if not self.objective.supercritical:
            return focus
        light = focus_energy(self.objective, where[0], scalar=self._scalar)
        slope = focus_energy_slope(self.objective, where[0], scalar=self._scalar)
        return times(along_z(light, slope, focus), focus)


class _Averaged:
    """Light of molecules on areas of the detector: samples filtered by each area."""

    def __init__(
        self, model: Callable[[Window], Any], shape: tuple[int, int], spacing_nm: float,
        band: float, filters: list[AreaFilter],
    ) -> None:  # fmt: skip
        source_nm = source_spacing_nm(spacing_nm, band)
        sides, self.matrices = sampled(filters, shape, spacing_nm, source_nm)
        self._model = model(Window(sides, source_nm, points=True))

    def samples(self, slopes: bool, *where: FloatArray) -> FloatArray:
        """Unfiltered samples, (n, k, y, x)."""
        if isinstance(self._model, _Excitation):
            return self._model(slopes, *where)
        return jet_of(self._model, slopes, *where)


def _airy_nm(optics: Any) -> float:
    """One Airy unit in the sample [nm]."""
    return float(AIRY_DISC * optics.wavelength_nm / optics.na)


def _detection_band(optics: Any) -> float:
    """Highest spatial frequency of the detection PSF [cycles/nm]."""
    return float(2.0 * optics.na / shortest_wavelength_nm(optics))


class _Confocal:
    """Excitation times the detection PSF averaged over the pinhole."""

    def __init__(
        self, optics: Any, shape: tuple[int, int], spacing_nm: float, reach: Reach, accuracy: float,
        build: Build,
    ) -> None:  # fmt: skip
        radius_nm = 0.5 * optics.modality.pinhole_airy_units * _airy_nm(optics)
        band = _detection_band(optics)
        # the mean is over an area that may hold many spots' worth of the peak
        spots = math.pi * radius_nm**2 * math.pi * (optics.na / optics.wavelength_nm) ** 2
        finer = max(accuracy / max(1.0, spots), 1e-10)
        pinhole = disc_filter(radius_nm, band, finer)
        self._excitation = _Excitation(
            optics, Window(shape, spacing_nm, points=True), reach, accuracy, build
        )
        self._detection = _Averaged(
            lambda window: build(optics, window, reach, accuracy=finer),
            shape, spacing_nm, band, [pinhole],
        )  # fmt: skip
        self._area_nm2 = math.pi * radius_nm**2

    def __call__(self, slopes: bool, *where: FloatArray) -> FloatArray:
        passed = apply(self._detection.matrices[0], self._detection.samples(slopes, *where))
        return times(self._area_nm2 * passed, self._excitation(slopes, *where))


class _TwoPhoton:
    """Excitation squared; all light is detected, wherever it lands."""

    def __init__(
        self, optics: Any, shape: tuple[int, int], spacing_nm: float, reach: Reach, accuracy: float,
        build: Build,
    ) -> None:  # fmt: skip
        window = Window(shape, spacing_nm, points=True)
        self._excitation = _Excitation(optics, window, reach, accuracy, build)

    def __call__(self, slopes: bool, *where: FloatArray) -> FloatArray:
        light = self._excitation(slopes, *where)
        return times(light, light)


class _Sted:
    """Confocal signal times exp(-saturation * depletion), which is the donut and its residue."""

    def __init__(
        self, optics: Any, shape: tuple[int, int], spacing_nm: float, reach: Reach, accuracy: float,
        build: Build,
    ) -> None:  # fmt: skip
        modality = optics.modality
        self._confocal = _Confocal(optics, shape, spacing_nm, reach, accuracy, build)
        beam = beam_optics(optics, modality.depletion_wavelength_nm)
        window = Window(shape, spacing_nm, points=True)
        self._saturation, self._residual = modality.saturation, modality.residual
        self._donut = Donut(beam, window, reach, accuracy / max(1.0, math.sqrt(self._saturation)))
        if self._residual:
            self._spot = build(beam, window, reach, accuracy=accuracy)
            ideal = build(without_aberrations(beam), Window((1, 1), 1.0, points=True), Reach())
            self._spot_peak = float(ideal.images()[0, 0, 0])

    def __call__(self, slopes: bool, *where: FloatArray) -> FloatArray:
        depletion = jet_of(self._donut, slopes, *where)
        if self._residual:
            spot = jet_of(self._spot, slopes, *where)
            depletion = depletion + self._residual / self._spot_peak * spot
        left = exponential(-self._saturation * depletion)
        return times(left, self._confocal(slopes, *where))


class _ImageScanning:
    """Sum over the detector's elements of their confocal signals, each shifted back."""

    def __init__(
        self, optics: Any, shape: tuple[int, int], spacing_nm: float, reach: Reach, accuracy: float,
        build: Build,
    ) -> None:  # fmt: skip
        modality = optics.modality
        band = _detection_band(optics)
        exciting = 2.0 * (modality.excitation_na or optics.na) / modality.excitation_wavelength_nm
        back = reassignment_share(optics)
        pitch_nm = modality.pitch_airy_units * _airy_nm(optics)
        offsets = list(detector_elements(modality, _airy_nm(optics)))
        self._detection = _Averaged(
            lambda window: build(optics, window, reach, accuracy=accuracy),
            shape, spacing_nm, band,
            [
                _element(modality.array, pitch_nm, band, accuracy,
                         ((1.0 - back) * y, (1.0 - back) * x))
                for y, x in offsets
            ],
        )  # fmt: skip
        self._excitation = _Averaged(
            lambda window: _Excitation(optics, window, reach, accuracy, build),
            shape, spacing_nm, exciting,
            [
                square_filter(0.0, exciting, accuracy, (-back * y, -back * x))
                for y, x in offsets
            ],
        )  # fmt: skip
        self._area_nm2 = _element_area_nm2(modality.array, pitch_nm)

    def __call__(self, slopes: bool, *where: FloatArray) -> FloatArray:
        seen = self._detection.samples(slopes, *where)
        light = self._excitation.samples(slopes, *where)
        total: FloatArray | float = 0.0
        for element, move in zip(self._detection.matrices, self._excitation.matrices, strict=True):
            total = total + times(apply(element, seen), apply(move, light))
        return np.asarray(self._area_nm2 * total)


def reassignment_share(optics: Any) -> float:
    """Share of an element's offset by which its image is shifted back [1].

    Adaptive: an element at u sees the product of spots at 0 and -u; for Gaussian spots whose widths
    go as wavelength/NA, its peak lies at -u w_exc^2 / (w_exc^2 + w_em^2).
    """
    modality = optics.modality
    if modality.reassignment != "adaptive":
        return float(modality.reassignment)
    exciting = modality.excitation_wavelength_nm / (modality.excitation_na or optics.na)
    detected = optics.wavelength_nm / optics.na
    return float(exciting**2 / (exciting**2 + detected**2))


def _element(
    array: str, pitch_nm: float, band: float, accuracy: float,
    shift_nm: tuple[float, float],
) -> AreaFilter:  # fmt: skip
    """Average over one detector element: a square, or a disc of a hexagon's area."""
    if array == "square":
        return square_filter(pitch_nm, band, accuracy, shift_nm)
    radius_nm = math.sqrt(_element_area_nm2(array, pitch_nm) / math.pi)
    return disc_filter(radius_nm, band, accuracy, shift_nm)


def _element_area_nm2(array: str, pitch_nm: float) -> float:
    """Area of a square or hexagonal element [nm^2]."""
    return pitch_nm**2 * (1.0 if array == "square" else math.sqrt(0.75))
