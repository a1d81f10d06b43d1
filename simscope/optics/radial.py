"""PSFs of rotationally symmetric optics, by radial profiles: the fastest and most exact way.

Behind a pupil without mask or wavefront the image of a dipole is a few radial profiles times
cosines and sines of the azimuth. For a freely rotating one there is a single profile,

    I(r) = 2 |I_0|^2 + |I_1|^2 + 2 |I_2|^2        (vectorial, kernels as in radial_integrals)
    I(r) = |I_0|^2                                (scalar, Gibson and Lanni 1991)

For an emitter in the middle of the window, the integral over each distinct pixel is folded into the
profile spline's weights and the octant mirrored; elsewhere the profile is spread over the window's
sample grid, whose weights integrate it over pixels.

Fails where the optics are not symmetric about the axis: use the pupil model.
"""

from __future__ import annotations

import math
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simscope.errors import OpticsError
from simscope.kernels.radial import (
    DEGREE,
    PLANES,
    mirrored_images,
    pixel_weights,
)
from simscope.optics.checks import check_reach, check_supported, check_window
from simscope.optics.interfaces import objective_of
from simscope.optics.legendre import legendre_rule
from simscope.optics.pixels import Window
from simscope.optics.radial_grid import (
    DipoleBasis,
    FreeDipoleImages,
    GriddedImages,
    ImageSlopes,
)
from simscope.optics.radial_profiles import (
    RadialProfiles,
    in_parallel,
    spline_pieces,
)

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

PIXELS_AT_ONCE = 1024
PLANES_AT_ONCE = 512


class RadialModel:
    """PSFs of rotationally symmetric optics for one window, over ranges of height, focus, shift.

    ``window`` and ``reach`` as in ``simscope.optics.model``; ``accuracy``: worst error as a share
    of each image's peak, the optics' own if None. Raises OpticsError for optics without rotational
    symmetry, for impossible ones, and outside the ranges of the set-up.
    """

    def __init__(
        self, optics: Any, window: Window, reach: Any, accuracy: float | None = None
    ) -> None:
        check_supported(optics)
        check_window(window.shape, window.pixel_nm / (window.per_pixel or 1), reach.lateral_nm)
        check_reach(reach.z_nm, reach.focus_nm, reach.lateral_nm)
        check_symmetric(optics)
        self.optics, self.window, self.reach = optics, window, reach
        self.objective = objective_of(optics)
        self.accuracy = float(optics.accuracy if accuracy is None else accuracy)
        if not 1e-12 <= self.accuracy <= 0.5:
            raise OpticsError(
                f"accuracy={self.accuracy:g} lies outside [1e-12, 0.5]: ask for 1e-6, say"
            )

    @property
    def error_estimate(self) -> float:
        """Worst error found when quadrature and spline were checked, as a share of the peak.

        Radial quadrature against a finer one and spline against quadrature, in the corners of the
        ranges; the pixel integration adds at most 0.3 ``accuracy``.
        """
        return (self._centred if self._takes_centre else self._gridded).profiles.error_estimate

    def images(
        self,
        z_nm: ArrayLike = 0.0,
        focus_nm: ArrayLike = 0.0,
        x_nm: ArrayLike = 0.0,
        y_nm: ArrayLike = 0.0,
    ) -> FloatArray:
        """Probability per pixel of freely rotating emitters, float64 (n, y, x).

        Arguments broadcast to n images. Values sum to 1 over an infinite camera. Raises
        OpticsError outside the ranges the model was set up for.
        """
        z, focus, x, y = self._broadcast(z_nm, focus_nm, x_nm, y_nm)
        if self._takes_centre and not (x.any() or y.any()):
            return self._centred.images(z, focus)
        images = self._gridded.images(FreeDipoleImages(), z, focus, x, y)[:, 0]
        # the exact value is never negative; the error of spline and filter can be where it is dark
        return np.maximum(images, 0.0, out=images)

    def basis_images(
        self,
        z_nm: ArrayLike = 0.0,
        focus_nm: ArrayLike = 0.0,
        x_nm: ArrayLike = 0.0,
        y_nm: ArrayLike = 0.0,
        analyser_deg: float | None = None,
    ) -> FloatArray:
        """Images per component of the dipole's second moments, float64 (n, 6, y, x).

        In the order xx, yy, zz, xy, xz, yz: a dipole of second-moment tensor M (trace 1) has the
        image sum_k m_k B_k with m = (Mxx, Myy, Mzz, Mxy, Mxz, Myz); the factor 2 of the
        off-diagonals is inside B_k. Without ``analyser_deg`` (angle of a polariser's axis from x
        towards y) the mean of the first three sums to 1 over an infinite camera. Raises
        OpticsError for the scalar model, which knows no dipoles.
        """
        self._check_vectorial()
        angle = None if analyser_deg is None else math.radians(analyser_deg)
        z, focus, x, y = self._broadcast(z_nm, focus_nm, x_nm, y_nm)
        return self._gridded.images(DipoleBasis(angle), z, focus, x, y)

    def basis_energies(self, z_nm: ArrayLike = 0.0) -> FloatArray:
        """Sums of the basis images over an infinite camera without analyser, float64 (n, 6)."""
        self._check_vectorial()
        z = np.atleast_1d(np.asarray(z_nm, dtype=np.float64))
        field = self._any.profiles.field
        energies = field.energies(z)
        total = energies @ field.strength
        out = np.zeros((z.size, 6))
        # I_0 and I_2 are shared evenly by the transverse dipoles, I_1 is the axial one's
        out[:, 0] = out[:, 1] = 3.0 * (energies[:, 0] + energies[:, 2]) / total
        out[:, 2] = 3.0 * energies[:, 1] / total
        return out

    def slopes(
        self,
        z_nm: ArrayLike = 0.0,
        focus_nm: ArrayLike = 0.0,
        x_nm: ArrayLike = 0.0,
        y_nm: ArrayLike = 0.0,
    ) -> FloatArray:
        """Images and their derivatives with the emitter's x, y, z [1/nm], float64 (n, 4, y, x)."""
        z, focus, x, y = self._broadcast(z_nm, focus_nm, x_nm, y_nm)
        return self._gridded.images(ImageSlopes(), z, focus, x, y)

    @property
    def _takes_centre(self) -> bool:
        window = self.window
        return window.per_pixel is None and not window.points and window.blur_nm == 0.0

    @cached_property
    def _centred(self) -> CentredImages:
        height, width = self.window.shape
        reach_nm = 0.5 * self.window.pixel_nm * math.hypot(height, width)
        return CentredImages(self.window, self._profiles(reach_nm), self.accuracy)

    @cached_property
    def _gridded(self) -> GriddedImages:
        grids = self.window.grids(self.objective.band_limit_per_nm, 0.3 * self.accuracy)
        half = [float(np.abs(grid.positions_nm).max()) + self.reach.lateral_nm for grid in grids]
        return GriddedImages(grids, self._profiles(math.hypot(*half)))

    @property
    def _any(self) -> CentredImages | GriddedImages:
        prefers_grid = "_gridded" in self.__dict__ or not self._takes_centre
        return self._gridded if prefers_grid else self._centred

    def _profiles(self, reach_nm: float) -> RadialProfiles:
        (z_low, z_high), (low, high) = self.reach.z_nm, self.reach.focus_nm
        corners = sorted({*product((float(z_low), float(z_high)), (float(low), float(high)))})
        return RadialProfiles(self.objective, self.optics.model, corners, reach_nm, self.accuracy)

    def _check_vectorial(self) -> None:
        if self.optics.model != "vectorial":
            raise OpticsError(
                f"model={self.optics.model!r} knows no dipole orientations: use model='vectorial'"
            )

    def _broadcast(self, *values: ArrayLike) -> list[FloatArray]:
        arrays = np.broadcast_arrays(
            *(np.atleast_1d(np.asarray(value, dtype=np.float64)) for value in values)
        )
        reach = self.reach
        lateral = (-reach.lateral_nm, reach.lateral_nm)
        limits = (reach.z_nm, reach.focus_nm, lateral, lateral)
        for name, value, (low, high) in zip(
            ("z_nm", "focus_nm", "x_nm", "y_nm"), arrays, limits, strict=True
        ):
            if not ((value >= low) & (value <= high)).all():
                raise OpticsError(
                    f"{name} from {value.min():g} to {value.max():g} leaves [{low:g}, {high:g}], "
                    "for which the model was set up: set it up for the wider range"
                )
        return list(arrays)


class CentredImages:
    """Images of emitters in the middle of a window: weights per distinct pixel, mirrored."""

    def __init__(self, window: Window, profiles: RadialProfiles, accuracy: float) -> None:
        self.window, self.profiles = window, profiles
        offset, area = pixel_quadrature(
            window.pixel_nm, profiles.objective.band_limit_per_nm, 0.1 * accuracy
        )
        self._which, x, y = distinct_pixels(window.shape, window.pixel_nm)
        taps = math.ceil(math.sqrt(2.0) * window.pixel_nm / profiles.spacing_nm) + DEGREE + 1
        self._start = np.empty(x.size, dtype=np.int64)
        self._weights = np.empty((x.size, taps))

        def weigh(first: int) -> None:
            part = slice(first, first + PIXELS_AT_ONCE)
            pixel_weights(
                x[part], y[part], offset, area, 1.0 / profiles.spacing_nm, profiles.pad,
                spline_pieces(), self._start[part], self._weights[part],
            )  # fmt: skip

        in_parallel(weigh, range(0, x.size, PIXELS_AT_ONCE))

    def images(self, z_nm: FloatArray, focus_nm: FloatArray) -> FloatArray:
        """Probability per pixel, (planes, y, x)."""
        out = np.empty((z_nm.size, *self.window.shape))
        for first in range(0, z_nm.size, PLANES_AT_ONCE):
            part = slice(first, first + PLANES_AT_ONCE)
            self._write(self.profiles.free(z_nm[part], focus_nm[part]), out[part])
        return out

    def _write(self, profiles: FloatArray, out: FloatArray) -> None:
        coefficients = self.profiles.coefficients(profiles)

        def block(number: int) -> None:
            mirrored_images(
                coefficients[number], self._which, self._start, self._weights,
                out[number * PLANES : (number + 1) * PLANES],
            )  # fmt: skip

        in_parallel(block, range(coefficients.shape[0]))


def check_symmetric(optics: Any) -> None:
    """Return nothing; raise OpticsError for optics that are not symmetric about the axis."""
    broken = symmetry_breakers(optics)
    if broken:
        raise OpticsError(
            f"method='radial' needs rotational symmetry, but {' and '.join(broken)} may break it: "
            "use method='pupil' or 'auto'"
        )


def symmetry_breakers(optics: Any) -> list[str]:
    """Names of the settings that may break the symmetry about the optical axis."""
    return [
        name
        for name in (
            "mask",
            "slm",
            "wavefront",
            "wavefront_map",
            "amplitude_map",
            "field_dependence",
        )
        if getattr(optics, name) is not None
    ]


def pixel_quadrature(
    pixel_nm: float, band_limit_per_nm: float, accuracy: float
) -> tuple[FloatArray, FloatArray]:
    """Gauss points along a pixel's side [nm] (n,) and their weights over its area [nm^2] (n, n).

    The fewest that integrate the highest frequency of the image to ``accuracy`` of the pixel.
    """
    half_phase = math.pi * band_limit_per_nm * pixel_nm
    for count in range(2, 10_000):
        node, weight = legendre_rule(count)
        error = 0.5 * weight @ np.cos(half_phase * node) - np.sinc(half_phase / math.pi)
        if abs(error) < accuracy and count > 0.5 * half_phase:
            break
    along = 0.5 * pixel_nm * weight
    return 0.5 * pixel_nm * node, np.outer(along, along)


def distinct_pixels(
    shape: tuple[int, int], pixel_nm: float
) -> tuple[NDArray[np.int32], FloatArray, FloatArray]:
    """Pixels that a centred emitter's image is made of: which lies where, and their centres.

    ``which``: (half y, half x) in the quadrant x, y >= 0; centres x and y [nm], (pixels,): an
    octant for square windows, else the quadrant.
    """
    y, x = half_axis(shape[0], pixel_nm), half_axis(shape[1], pixel_nm)
    row, column = np.meshgrid(np.arange(y.size), np.arange(x.size), indexing="ij")
    if shape[0] == shape[1]:
        high, low = np.maximum(row, column), np.minimum(row, column)
        octant = np.tril_indices(y.size)
        return (high * (high + 1) // 2 + low).astype(np.int32), x[octant[0]], y[octant[1]]
    return (row * x.size + column).astype(np.int32), x[column.ravel()], y[row.ravel()]


def half_axis(count: int, pixel_nm: float) -> FloatArray:
    """Pixel centres [nm] at and to the right of the middle of ``count`` pixels."""
    first = 0.0 if count % 2 else 0.5
    return np.asarray(first + np.arange((count + 1) // 2), dtype=np.float64) * pixel_nm
