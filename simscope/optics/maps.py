"""Arrays over the pupil: masks, wavefronts and amplitudes from files, and their values between.

An array is square, ``[row = ky, column = kx]``, its middle on the optical axis; one pixel spans
``na_per_pixel``, and it must reach the pupil edge. Values between pixels: masks by cubic splines of
their phasor (so wrapped phases do no harm), wavefronts by cubic splines of the path (which must be
unwrapped), amplitudes linearly (so they stay positive).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy  # its parts load on first use
from numpy.typing import NDArray

from simscope.errors import OpticsError
from simscope.optics.arrays import existing_file, read_mat, read_npy, read_tiff
from simscope.optics.interfaces import Objective

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

DARKEST = 1e-100
"""Amplitude below which, as a share of the map's highest, no light can be told from none."""


def load_array(path: str | Path, variable: str | None = None, *, what: str = "mask") -> FloatArray:
    """Square float64 array ``[row = ky, col = kx]`` from a .npy, .mat or .tif file.

    ``variable`` names the array in a .mat file; it may be left out if there is only one. ``what``
    names the recipe's group in errors. Raises OpticsError for files that hold no such array.
    """
    file = existing_file(path, what, what)
    if file.suffix == ".npy":
        values = read_npy(file, what)
    elif file.suffix == ".mat":
        values = read_mat(file, variable, what, what)
    elif file.suffix in (".tif", ".tiff"):
        values = read_tiff(file, what)
    else:
        raise OpticsError(f"{what} file {str(path)!r} is neither .npy, .mat nor .tif: convert it")
    return check_array(values, f"{what} {str(path)!r}")


def check_array(values: NDArray[Any], name: str) -> FloatArray:
    """The array as float64; raises OpticsError unless it is a finite real square."""
    if values.ndim != 2 or values.shape[0] != values.shape[1]:
        raise OpticsError(f"{name} has shape {values.shape}: it must be a square 2-D array")
    if values.dtype.kind not in "fiu":
        raise OpticsError(f"{name} holds {values.dtype}: it must hold real phases [rad] or values")
    if not np.isfinite(values).all():
        bad = int(np.count_nonzero(~np.isfinite(values)))
        raise OpticsError(f"{name} holds {bad} values that are not finite: repair the file")
    return values.astype(np.float64)


def source_values(source: Any, what: str) -> FloatArray:
    """Values of a recipe's mask or map, from its file or from the recipe itself."""
    inline = getattr(source, "values", None)
    if inline is not None:
        return check_array(np.array(inline, dtype=np.float64), what)
    return load_array(source.path, source.variable, what=what)


def check_cover(values: FloatArray, na_per_pixel: float, na: float, what: str) -> None:
    """Return nothing; raise OpticsError unless the array reaches the pupil edge."""
    reach = 0.5 * values.shape[0] * na_per_pixel
    if reach < na:
        raise OpticsError(
            f"the {what} spans {reach:.4g} of NA from the axis but the pupil has na={na:g}: "
            f"raise na_per_pixel or use a larger {what}"
        )


def at_points(
    values: FloatArray, na_per_pixel: float, kx: FloatArray, ky: FloatArray, *, order: int
) -> FloatArray:
    """Values between the pixels, by splines of ``order``, at pupil points in units of NA."""
    middle = 0.5 * (values.shape[0] - 1)
    place = np.broadcast_arrays(ky / na_per_pixel + middle, kx / na_per_pixel + middle)
    between: FloatArray = scipy.ndimage.map_coordinates(values, place, order=order, mode="nearest")
    return between


def array_phasor(
    values: FloatArray, na_per_pixel: float, kx: FloatArray, ky: FloatArray, *, na: float
) -> ComplexArray:
    """Transmission of a mask of phases [rad] at pupil points in units of NA [1], by cubic splines.

    The unit phasor is interpolated, so wrapped phases (jumps of 2 pi) do no harm; across real jumps
    the modulus dips, as it does where light is scattered out of the image. The mask's middle lies
    on the optical axis; one pixel spans ``na_per_pixel``. Raises OpticsError if the mask does not
    reach the pupil edge.
    """
    check_cover(values, na_per_pixel, na, "mask")
    real, imaginary = (
        at_points(part, na_per_pixel, kx, ky, order=3) for part in (np.cos(values), np.sin(values))
    )
    return real + 1j * imaginary


def wavefront_map_nm(source: Any, objective: Objective, kx: FloatArray, ky: FloatArray) -> Any:
    """Optical path of a wavefront map [nm] at pupil points in units of NA; 0 without a map."""
    if source is None:
        return 0.0
    values = source_values(source, "wavefront_map")
    check_cover(values, source.na_per_pixel, objective.na, "wavefront_map")
    wavelength = source.design_wavelength_nm or objective.wavelength_nm
    to_nm = {"nm": 1.0, "waves": wavelength, "rad": wavelength / (2.0 * np.pi)}[source.unit]
    return to_nm * at_points(values, source.na_per_pixel, kx, ky, order=3)


def amplitude_map(source: Any, objective: Objective, kx: FloatArray, ky: FloatArray) -> Any:
    """Amplitude transmission of an amplitude map at pupil points in NA, 1 where it is highest.

    Only its shape matters, as images are normalised. 1 without a map.
    """
    if source is None:
        return 1.0
    values = source_values(source, "amplitude_map")
    if values.min() < 0:
        raise OpticsError(
            f"amplitude_map reaches {values.min():g}: amplitudes are 0 or more; put signs into a "
            "mask or wavefront_map as phases"
        )
    check_cover(values, source.na_per_pixel, objective.na, "amplitude_map")
    # numbers next to the smallest or largest would vanish or overflow when squared
    highest = float(values.max())
    shape = values / highest if highest > 0 else values
    amplitude = at_points(shape, source.na_per_pixel, kx, ky, order=1)
    if not np.any(amplitude > DARKEST):
        raise OpticsError("amplitude_map is 0 over the whole pupil: no light passes; open it")
    return amplitude
