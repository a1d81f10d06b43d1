"""Measured PSFs: images of an emitter interpolated in a calibration, usable as any other model.

A calibration holds pixel values of one bright point in many planes. Its spline is the value of a
pixel as a function of where the emitter lies, already integrated over the pixel, so that shifting
the emitter only moves the place at which the spline is read. The depth in the file is the
emitter's height above the focal plane, ``z_nm - focus_nm``: calibrations are taken with beads on
the coverslip and know nothing of spherical aberration that grows with depth.

Every plane is normalised by itself, so that it sums to 1 over an infinite camera if all light falls
inside the calibrated window. How much fell beside it no file tells; there the image is 0.

What fails: pixels of another size than the calibration's, unless they are whole multiples;
intensities at points (only pixel integrals were measured); dipole orientations; heights beyond
the calibrated planes.

Sources: Li et al., Nat. Methods 15, 367 (2018); Babcock and Zhuang, Sci. Rep. 7, 552 (2017).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simscope.errors import OpticsError, SimscopeWarning
from simscope.optics.checks import check_numbers, check_window
from simscope.optics.measured_files import Calibration, load_calibration
from simscope.optics.pixels import Window
from simscope.recipe.measured import measured_conflict

FloatArray = NDArray[np.float64]

PIXEL_TOLERANCE = 0.02
"""Largest relative difference from a whole multiple of the calibrated pixel that is waved through,
with a warning."""

SAME_PIXEL = 1e-6
"""Relative difference of pixels that counts as none."""

BLUR_REACH = 7.0
"""Standard deviations at which the Gaussian blur is cut off, 1e-11 of it left out."""


class MeasuredModel:
    """PSFs read from a calibration file, for one window; the same interface as computed models.

    ``optics.measured`` names the file; nothing else of the optics shapes the image. ``window`` as
    for every model, except that ``points`` is refused. ``reach.z_nm`` and ``reach.focus_nm`` must
    leave all emitters within the calibrated planes. Raises OpticsError for files that cannot be
    read or lack a number the recipe does not give, for optics that add to a measured PSF, and for
    pixels the calibration cannot serve; SimscopeWarning for pixels that differ by up to 2 %.
    """

    def __init__(self, optics: Any, window: Window, reach: Any) -> None:
        conflict = measured_conflict(optics)
        if conflict is not None:
            raise OpticsError(conflict)
        check_window(window.shape, window.pixel_nm)
        if window.points:
            raise OpticsError(
                "a measured PSF holds pixel integrals, no intensities at points: ask for pixels"
            )
        self.calibration = load_calibration(optics.measured)
        self._pixel_nm = self.calibration.pixel_nm
        multiple = whole_multiple(window.pixel_nm, self._pixel_nm)
        read_px = window.pixel_nm / multiple / self._pixel_nm
        self._rows, self._columns = (_target_places(window, n) for n in window.shape)
        self._taps = _taps(multiple, read_px, window.blur_nm / self._pixel_nm)
        self._area = read_px**2
        corners = np.subtract.outer(np.asarray(reach.z_nm), np.asarray(reach.focus_nm))
        self.calibration.planes_at(np.array([corners.min(), corners.max()]))

    @property
    def heights_nm(self) -> tuple[float, float]:
        """Lowest and highest ``z_nm - focus_nm`` the calibration holds [nm]."""
        return self.calibration.heights_nm

    def images(
        self,
        z_nm: ArrayLike = 0.0,
        focus_nm: ArrayLike = 0.0,
        x_nm: ArrayLike = 0.0,
        y_nm: ArrayLike = 0.0,
    ) -> FloatArray:
        """Probability per pixel of emitters, float64 (n, y, x); arguments broadcast to n images.

        Never negative: where the spline dips below zero the value is 0. Raises OpticsError for
        heights outside the calibrated planes.
        """
        return self._evaluate(z_nm, focus_nm, x_nm, y_nm, slopes=False)[:, 0]

    def slopes(
        self,
        z_nm: ArrayLike = 0.0,
        focus_nm: ArrayLike = 0.0,
        x_nm: ArrayLike = 0.0,
        y_nm: ArrayLike = 0.0,
    ) -> FloatArray:
        """Image and its derivatives by x, y and z of the emitter [1/nm], float64 (n, 4, y, x).

        The derivatives are those of the spline, exactly; 0 where the image is cut off at 0.
        """
        return self._evaluate(z_nm, focus_nm, x_nm, y_nm, slopes=True)

    def basis_images(self, *_: Any, **__: Any) -> FloatArray:
        """Raise OpticsError: no orientation can be told from a measured PSF."""
        raise OpticsError(
            "a measured PSF holds one image per plane, not the six of a dipole: use computed "
            "optics for oriented or wobbling molecules"
        )

    def _evaluate(
        self,
        z_nm: ArrayLike,
        focus_nm: ArrayLike,
        x_nm: ArrayLike,
        y_nm: ArrayLike,
        *,
        slopes: bool,
    ) -> FloatArray:
        """Images (n, 1, y, x), or with their derivatives (n, 4, y, x)."""
        z, focus, x, y = check_numbers(z_nm=z_nm, focus_nm=focus_nm, x_nm=x_nm, y_nm=y_nm)
        planes = self.calibration.planes_at(z - focus)
        out = np.empty((z.size, 4 if slopes else 1, self._rows.size, self._columns.size))
        for (x0, y0), members in _same_places(x, y):
            rows, columns = self._matrix(1, self._rows, y0), self._matrix(2, self._columns, x0)
            for i in members:
                out[i, 0] = self._image(planes[i], rows, columns)
            if slopes:
                steps = (self._matrix(1, self._rows, y0, 1), self._matrix(2, self._columns, x0, 1))
                for i in members:
                    out[i, 1:] = self._slopes(planes[i], out[i, 0], (rows, columns), steps)
        np.copyto(out, 0.0, where=out[:, :1] <= 0.0)
        return out

    def _image(self, plane: float, rows: FloatArray, columns: FloatArray) -> FloatArray:
        """Image at a plane of the file, normalised (y, x)."""
        volume = self.calibration.volume
        return rows @ volume.plane(plane) @ columns.T * (self._area / volume.light(plane))

    def _slopes(
        self,
        plane: float,
        image: FloatArray,
        values: tuple[FloatArray, FloatArray],
        steps: tuple[FloatArray, FloatArray],
    ) -> FloatArray:
        """Derivatives of a normalised image by x, y and z of the emitter [1/nm], (3, y, x)."""
        volume, (rows, columns), (row_steps, column_steps) = self.calibration.volume, values, steps
        nodes, light = volume.plane(plane), volume.light(plane)
        scale = self._area / light
        by_plane = rows @ volume.plane(plane, 1) @ columns.T * scale
        by_plane -= image * (volume.light(plane, 1) / light)
        # the emitter moving by +x is the pixel moving by -x
        return np.array(
            (
                rows @ nodes @ column_steps.T * (-scale / self._pixel_nm),
                row_steps @ nodes @ columns.T * (-scale / self._pixel_nm),
                by_plane * (self.calibration.z_sign / self.calibration.dz_nm),
            )
        )

    def _matrix(
        self, axis: int, places_nm: FloatArray, emitter_nm: float, order: int = 0
    ) -> FloatArray:
        """Matrix (pixels, nodes) along an axis for an emitter displaced by ``emitter_nm``."""
        offsets, weights = self._taps
        centre = self.calibration.centre[axis]
        places = (places_nm - emitter_nm)[:, None] / self._pixel_nm + centre + offsets
        faded = self.calibration.volume.faded_matrix(axis, places.ravel(), order)
        return np.einsum("ptn,t->pn", faded.reshape(*places.shape, -1), weights)


def whole_multiple(pixel_nm: float, calibrated_nm: float) -> int:
    """How many calibrated pixels span one pixel; their integrals add up to the larger one's.

    Raises OpticsError unless the ratio is whole to 2 %, and warns unless it is whole to 1e-6:
    finer or uneven pixels hold detail the calibration's pixels have averaged away.
    """
    ratio = pixel_nm / calibrated_nm
    multiple = max(1, round(ratio))
    error = abs(ratio / multiple - 1.0)
    what = f"pixels of {pixel_nm:g} nm are {ratio:.4g} of the calibrated {calibrated_nm:g} nm"
    if error > PIXEL_TOLERANCE:
        raise OpticsError(
            f"{what}: a measured PSF serves its own pixel and whole multiples of it; change "
            "camera.pixel_pitch_um or optics.magnification (or pixel_nm), or calibrate again"
        )
    if error > SAME_PIXEL:
        warnings.warn(
            f"{what}: the image is read at the new pixel centres, but each value stays integrated "
            "over a calibrated pixel",
            SimscopeWarning,
            stacklevel=4,
        )
    return multiple


def _target_places(window: Window, count: int) -> FloatArray:
    """Centres of the window's pixels along one axis from its middle [nm], (count,)."""
    spacing_nm = window.pixel_nm / (window.per_pixel or 1)
    places: FloatArray = np.linspace(-0.5, 0.5, count) * ((count - 1) * spacing_nm)
    return places


def _taps(multiple: int, read_px: float, blur_px: float) -> tuple[FloatArray, FloatArray]:
    """Offsets [calibrated pixels] and weights of the reads that add up to one pixel, blurred.

    ``multiple`` reads, ``read_px`` apart, tile the pixel; each is blurred by ``blur_px``. The
    Gaussian is integrated by the trapezoidal rule to 1e-6 of the peak: 1e-11 for detail that pixels
    hold (half a cycle per pixel), the rest for the kinks of the spline.
    """
    offsets: FloatArray = np.linspace(-0.5, 0.5, multiple, dtype=np.float64)
    offsets *= (multiple - 1) * read_px
    weights: FloatArray = np.ones(multiple)
    if blur_px == 0.0:
        return offsets, weights
    spacing = 1.0 / (1.25 / blur_px + 3.0)
    reach = math.ceil(BLUR_REACH * blur_px / spacing)
    shift = spacing * np.arange(-reach, reach + 1)
    gauss = np.exp(-0.5 * (shift / blur_px) ** 2)
    return (
        np.add.outer(offsets, shift).ravel(),
        np.multiply.outer(weights, gauss / gauss.sum()).ravel(),
    )


def _same_places(
    x: FloatArray, y: FloatArray
) -> Iterator[tuple[tuple[float, float], NDArray[np.intp]]]:
    """Every distinct lateral place and the emitters there."""
    places, which = np.unique(np.stack((x, y)), axis=1, return_inverse=True)
    for place in range(places.shape[1]):
        yield (float(places[0, place]), float(places[1, place])), np.flatnonzero(which == place)


__all__ = ["Calibration", "MeasuredModel", "load_calibration", "whole_multiple"]
