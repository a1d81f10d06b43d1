"""Radial profiles spread over a window's sample grid: emitters anywhere, dipoles, derivatives.

The image of a dipole is a few radial profiles times cosines and sines of the azimuth around the
emitter. What is wanted of an emitter (its image, the six basis images of its orientation, its image
and derivatives) says which profiles it needs and how they combine; the grid samples them and
integrates over the window's pixels.

Sources: the fields of a dipole by I_0, I_1, I_2 as in Aguet et al., Opt. Express 17, 6829 (2009),
eq. 4; second moments as in Backer and Moerner, J. Phys. Chem. B 118, 8313 (2014).
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from simscope.kernels.radial import PLANES, integrate_pixels
from simscope.optics.pixels import SampleGrid
from simscope.optics.radial_profiles import RadialProfiles, free_profile, in_parallel

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

PLANES_AT_ONCE = 512


class Wanted(Protocol):
    """What is wanted of an emitter: from profiles to intensities on the sample grid."""

    parity: FloatArray
    outputs: int

    def profiles(self, of: RadialProfiles, z_nm: FloatArray, focus_nm: FloatArray) -> FloatArray:
        """Radial profiles it needs, (radii, kinds, planes); ``parity`` (kinds,) in the radius."""
        ...

    def combine(self, at: Sampler) -> list[FloatArray]:
        """Intensity on the sample grid per output, (planes, y, x) each."""
        ...


class FreeDipoleImages:
    """What the sample grid needs for images of freely rotating dipoles."""

    parity = np.ones(1)
    outputs = 1

    def profiles(self, of: RadialProfiles, z_nm: FloatArray, focus_nm: FloatArray) -> FloatArray:
        """Radial profiles, (radii, kinds, planes)."""
        return of.free(z_nm, focus_nm)[:, None]

    def combine(self, at: Sampler) -> list[FloatArray]:
        """Intensity on the sample grid per output, (planes, y, x) each."""
        return at.values(0)


class ImageSlopes:
    """What the sample grid needs for images and their derivatives with the emitter's place."""

    parity = np.ones(2)
    outputs = 4

    def profiles(self, of: RadialProfiles, z_nm: FloatArray, focus_nm: FloatArray) -> FloatArray:
        """Intensity and its derivative with height, (radii, 2, planes)."""
        sources = of.field.sources(z_nm, focus_nm)
        rates = sources * of.field.height_rates(z_nm)
        planes = z_nm.size

        def combine(waves: list[ComplexArray]) -> FloatArray:
            both = [(wave[:, :planes], wave[:, planes:]) for wave in waves]
            values = free_profile(of.field, [wave for wave, _ in both])
            slope = sum(
                2.0 * strength * (wave.conj() * rate).real
                for strength, (wave, rate) in zip(of.field.strength, both, strict=True)
            )
            return np.stack((values, slope), axis=1)

        return of.of_integrals(np.concatenate((sources, rates), axis=1), combine)

    def combine(self, at: Sampler) -> list[FloatArray]:
        """Intensity and its x, y, z derivatives on the sample grid, (planes, y, x) each."""
        image, rise = at.values(0, 1)
        (outwards,) = at.values(0, slope=True)
        # the emitter's own displacement, hence the sign
        return [image, -outwards * at.cosine, -outwards * at.sine, rise]


class DipoleBasis:
    """What the sample grid needs for the six images of a dipole's second moments.

    A dipole along x, y or z gives, behind an analyser at angle a, the fields
    cos(a) I_0 - cos(2 phi - a) I_2, sin(a) I_0 - sin(2 phi - a) I_2 and -i cos(phi - a) I_1.
    """

    parity = np.array((1.0, 1.0, 1.0, 1.0, -1.0, -1.0))
    outputs = 6

    def __init__(self, analyser: float | None) -> None:
        # no analyser passes what two crossed ones pass together
        self.angles = (0.0, 0.5 * math.pi) if analyser is None else (analyser,)

    def profiles(self, of: RadialProfiles, z_nm: FloatArray, focus_nm: FloatArray) -> FloatArray:
        """Products of the integrals: 00, 02, 22, 11 real, 01 and 21 imaginary parts."""

        def combine(waves: list[ComplexArray]) -> FloatArray:
            i0, i1, i2 = waves
            products = (i0.conj() * i0, i0.conj() * i2, i2.conj() * i2, i1.conj() * i1)
            crossed = ((i0.conj() * i1).imag, (i2.conj() * i1).imag)
            # scaled so that the mean of xx, yy, zz is the freely rotating dipole
            return 3.0 * np.stack([*(p.real for p in products), *crossed], axis=1)

        return of.of_integrals(of.field.sources(z_nm, focus_nm), combine)

    def combine(self, at: Sampler) -> list[FloatArray]:
        """Intensity on the sample grid of xx, yy, zz, xy, xz, yz, (planes, y, x) each."""
        p00, p02, p22, p11 = at.values(0, 1, 2, 3)
        q01, q21 = at.values(4, 5)
        phi = np.arctan2(at.sine, at.cosine)
        total = [np.zeros_like(p00) for _ in range(6)]
        for angle in self.angles:
            u, v = math.cos(angle), math.sin(angle)
            cosine, sine = np.cos(2.0 * phi - angle), np.sin(2.0 * phi - angle)
            axial = np.cos(phi - angle)
            total[0] += u * u * p00 - 2.0 * u * cosine * p02 + cosine**2 * p22
            total[1] += v * v * p00 - 2.0 * v * sine * p02 + sine**2 * p22
            total[2] += axial**2 * p11
            total[3] += 2.0 * (u * v * p00 - (u * sine + v * cosine) * p02 + cosine * sine * p22)
            total[4] += 2.0 * axial * (u * q01 - cosine * q21)
            total[5] += 2.0 * axial * (v * q01 - sine * q21)
        return total


class Sampler:
    """Profiles of some planes on the sample grid around one emitter position."""

    def __init__(
        self, profiles: RadialProfiles, values: FloatArray, parity: FloatArray,
        x_nm: FloatArray, y_nm: FloatArray,
    ) -> None:  # fmt: skip
        self._profiles, self._values, self._parity = profiles, values, parity
        self._x, self._y = x_nm, y_nm
        self._radius = np.hypot(x_nm, y_nm[:, None])

    @property
    def cosine(self) -> FloatArray:
        """Cosine of the azimuth around the emitter, (y, x); 0 on the emitter itself."""
        return self._x / np.maximum(self._radius, 1e-300)

    @property
    def sine(self) -> FloatArray:
        """Sine of the azimuth around the emitter, (y, x); 0 on the emitter itself."""
        return self._y[:, None] / np.maximum(self._radius, 1e-300)

    def values(self, *kinds: int, slope: bool = False) -> list[FloatArray]:
        """Profiles of some kinds of one parity, or their radial slopes, (planes, y, x) each."""
        chosen = self._values[:, kinds]
        side_by_side = np.ascontiguousarray(chosen.reshape(chosen.shape[0], -1))
        parity = float(self._parity[kinds[0]])
        sampled = self._profiles.at(side_by_side, self._x, self._y, parity=parity, slope=slope)
        return list(sampled.reshape(len(kinds), -1, *sampled.shape[1:]))


class GriddedImages:
    """Images of emitters anywhere: profiles on the window's sample grid, then its weights."""

    def __init__(self, grids: tuple[SampleGrid, SampleGrid], profiles: RadialProfiles) -> None:
        self.grid_y, self.grid_x = grids
        self.profiles = profiles
        self._bands = (*band(self.grid_y.weights), *band(self.grid_x.weights))

    def images(
        self, wanted: Wanted, z_nm: FloatArray, focus_nm: FloatArray, x_nm: FloatArray,
        y_nm: FloatArray,
    ) -> FloatArray:  # fmt: skip
        """What is wanted of each emitter, integrated over pixels, (n, outputs, y, x)."""
        shape = (self.grid_y.weights.shape[0], self.grid_x.weights.shape[0])
        out = np.empty((z_nm.size, wanted.outputs, *shape))
        for first in range(0, z_nm.size, PLANES_AT_ONCE):
            part = slice(first, first + PLANES_AT_ONCE)
            self._fill(wanted, z_nm[part], focus_nm[part], x_nm[part], y_nm[part], out[part])
        return out

    def _fill(
        self, wanted: Wanted, z_nm: FloatArray, focus_nm: FloatArray, x_nm: FloatArray,
        y_nm: FloatArray, out: FloatArray,
    ) -> None:  # fmt: skip
        planes, plane = np.unique(np.stack((z_nm, focus_nm)), axis=1, return_inverse=True)
        values = wanted.profiles(self.profiles, *planes)
        places, place = np.unique(np.stack((x_nm, y_nm)), axis=1, return_inverse=True)
        tasks = []
        for number in range(places.shape[1]):
            members = np.flatnonzero(place.ravel() == number)
            tasks += [members[i : i + PLANES] for i in range(0, members.size, PLANES)]

        def draw(members: NDArray[np.intp]) -> None:
            at = Sampler(
                self.profiles,
                values[:, :, plane.ravel()[members]],
                wanted.parity,
                self.grid_x.positions_nm - x_nm[members[0]],
                self.grid_y.positions_nm - y_nm[members[0]],
            )
            for output, samples in enumerate(wanted.combine(at)):
                for member, image in zip(members, samples, strict=True):
                    integrate_pixels(image, *self._bands, out[member, output])

        in_parallel(draw, tasks)


def band(weights: FloatArray) -> tuple[NDArray[np.int64], FloatArray]:
    """First sample that counts for each target, and the weights from there, (targets, taps)."""
    filled = weights != 0.0
    first = filled.argmax(axis=1)
    last = weights.shape[1] - 1 - filled[:, ::-1].argmax(axis=1)
    taps = int((last - first).max()) + 1
    first = np.minimum(first, weights.shape[1] - taps)
    return first, np.take_along_axis(weights, first[:, None] + np.arange(taps), axis=1)
