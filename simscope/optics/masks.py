"""Phase masks in the pupil: what each adds to the phase of the light, in radians.

Pupil coordinates (kx, ky) are in units of NA: the pupil is the disc of radius NA. A positive
phase that grows with kx moves the image towards +x. Masks are phase only; they are read in radians
at the emission wavelength.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import scipy.ndimage
from numpy.typing import NDArray

from simscope.errors import OpticsError
from simscope.optics.interfaces import Objective
from simscope.optics.zernike import zernike

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

TETRAPOD_MODES = ((2, 2), (4, 2), (6, 2), (8, 2), (6, 6), (8, 6))
"""Zernike modes (n, m) of the Tetrapod: they change sign under a quarter turn of the pupil."""

TETRAPOD_DESIGNS = {
    3.97: (0.801, 1.332, -0.410, -0.225, -0.449, -0.082),
    7.94: (2.244, 2.384, -0.785, -0.247, -0.803, -0.040),
}
"""Waves of defocus in the axial range -> RMS coefficient of each mode [rad], as found by
``benchmarks/design_tetrapod.py`` for 2 and 4 um at NA 1.45 in water and 670 nm."""


def mask_phasor(mask: Any, kx: FloatArray, ky: FloatArray, *, objective: Objective) -> ComplexArray:
    """Complex transmission of ``mask`` at pupil points [1], shape of ``kx`` and ``ky`` (NA).

    Modulus 1, except between pixels of a file whose phases differ much. ``mask`` is one of the
    recipe's mask models or None. Raises OpticsError if the mask cannot be read, is not a finite
    square, or does not cover the pupil.
    """
    if mask is None:
        return np.ones(np.broadcast_shapes(kx.shape, ky.shape), dtype=np.complex128)
    if mask.kind == "vortex":
        return np.exp(1j * mask.charge * np.arctan2(ky, kx))
    if mask.kind == "tetrapod":
        waves = defocus_waves(objective, mask.z_range_nm)
        return np.exp(1j * tetrapod_phase(waves, kx / objective.na, ky / objective.na))
    if mask.kind == "file":
        values = load_mask(mask.path, mask.variable)
        return array_phasor(values, mask.na_per_pixel, kx, ky, na=objective.na)
    raise OpticsError(f"mask kind {mask.kind!r} is unknown: use tetrapod, vortex or file")


def mask_phase(mask: Any, kx: FloatArray, ky: FloatArray, *, objective: Objective) -> FloatArray:
    """Phase of ``mask`` at pupil points [rad], in (-pi, pi]; see ``mask_phasor``."""
    return np.angle(mask_phasor(mask, kx, ky, objective=objective))


def defocus_waves(objective: Objective, z_range_nm: float) -> float:
    """Waves of defocus phase between pupil centre and edge over an axial range in the sample [1].

    Only propagating light counts: the edge is at the sample's index where NA exceeds it.
    """
    index = objective.n_sample
    edge = np.sqrt(max(index**2 - objective.na**2, 0.0))
    return float(z_range_nm * (index - edge) / objective.wavelength_nm)


def tetrapod_phase(waves: float, x: FloatArray, y: FloatArray) -> FloatArray:
    """Phase of the Tetrapod [rad] at pupil points in units of the pupil radius.

    ``waves``: defocus in the axial range, see ``defocus_waves``. Each coefficient is interpolated
    between the designs and grows in proportion beyond them, as the defocus to be told apart does.
    Our own design with our own model; the idea and the cost function are those of Shechtman et al.,
    Phys. Rev. Lett. 113, 133902 (2014), and Nano Lett. 15, 4194 (2015).
    """
    rho, theta = np.hypot(x, y), np.arctan2(y, x)
    phase = np.zeros(rho.shape)
    for (n, m), coefficient in zip(TETRAPOD_MODES, tetrapod_rad(waves), strict=True):
        phase += coefficient * zernike(n, m, rho, theta)
    return phase


def tetrapod_rad(waves: float) -> FloatArray:
    """RMS coefficients [rad] of ``TETRAPOD_MODES`` for a range of ``waves`` of defocus."""
    known = np.array(sorted(TETRAPOD_DESIGNS))
    per_wave = np.array([np.array(TETRAPOD_DESIGNS[w]) / w for w in known])
    return waves * np.array([np.interp(waves, known, column) for column in per_wave.T])


def load_mask(path: str | Path, variable: str | None = None) -> FloatArray:
    """Phase mask from a .npy or .mat file [rad], square float64 array ``[row = ky, col = kx]``.

    ``variable`` names the array in a .mat file; it may be left out if there is only one.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise OpticsError(f"mask file {str(path)!r} does not exist: check mask.path")
    if file.suffix == ".npy":
        values = _load_npy(file)
    elif file.suffix == ".mat":
        values = _load_mat(file, variable)
    else:
        raise OpticsError(f"mask file {str(path)!r} is neither .npy nor .mat: convert it")
    return check_mask(values, str(path))


def _load_npy(file: Path) -> NDArray[Any]:
    try:
        values = np.load(file, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise OpticsError(
            f"mask file {str(file)!r} is no .npy array of numbers ({error}): write it with np.save"
        ) from error
    if not isinstance(values, np.ndarray):
        raise OpticsError(f"mask file {str(file)!r} is an .npz archive: save one array as .npy")
    return values


def _load_mat(file: Path, variable: str | None) -> NDArray[Any]:
    # damaged files make the reader raise nearly anything
    try:
        contents = scipy.io.loadmat(file)
    except NotImplementedError as error:
        raise OpticsError(
            f"mask file {str(file)!r} is a MATLAB 7.3 file: resave as v7 (save -v7) or as .npy"
        ) from error
    except Exception as error:
        raise OpticsError(
            f"mask file {str(file)!r} cannot be read as a MATLAB file ({error}): export it again"
        ) from error
    names = sorted(name for name in contents if not name.startswith("__"))
    if variable is None and len(names) == 1:
        variable = names[0]
    if variable not in names:
        raise OpticsError(
            f"mask variable {variable!r} is not in {file.name}, which holds {names}: "
            "set mask.variable to one of them"
        )
    return np.asarray(contents[variable])


def check_mask(values: NDArray[Any], name: str) -> FloatArray:
    """The mask as float64 [rad]; raises OpticsError unless it is a finite real square."""
    if values.ndim != 2 or values.shape[0] != values.shape[1]:
        raise OpticsError(f"mask {name!r} has shape {values.shape}: it must be a square 2-D array")
    if values.dtype.kind not in "fiu":
        raise OpticsError(f"mask {name!r} holds {values.dtype}: it must hold real phases [rad]")
    if not np.isfinite(values).all():
        bad = int(np.count_nonzero(~np.isfinite(values)))
        raise OpticsError(f"mask {name!r} holds {bad} values that are not finite: repair the file")
    return values.astype(np.float64)


def array_phasor(
    values: FloatArray, na_per_pixel: float, kx: FloatArray, ky: FloatArray, *, na: float
) -> ComplexArray:
    """Transmission of a pixelated mask [1] at pupil points in units of NA, by cubic splines.

    The unit phasor is interpolated, so wrapped phases (jumps of 2 pi) do no harm; across real jumps
    the modulus dips, as it does where light is scattered out of the image. The mask's middle lies
    on the optical axis; one pixel spans ``na_per_pixel``. Raises OpticsError if the mask does not
    reach the pupil edge.
    """
    size = values.shape[0]
    reach = 0.5 * size * na_per_pixel
    if reach < na:
        raise OpticsError(
            f"the mask spans {reach:.4g} of NA from the axis but the pupil has na={na:g}: "
            "raise na_per_pixel or use a larger mask"
        )
    middle = 0.5 * (size - 1)
    place = np.broadcast_arrays(ky / na_per_pixel + middle, kx / na_per_pixel + middle)
    real, imaginary = (
        scipy.ndimage.map_coordinates(part, place, order=3, mode="nearest")
        for part in (np.cos(values), np.sin(values))
    )
    return real + 1j * imaginary
