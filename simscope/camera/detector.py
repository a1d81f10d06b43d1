"""Photons to counts: the order of a camera's operations.

For every pixel and frame, with ``photons`` expected at the pixel:

1. mean electrons  ``m = qe * photons + dark_e_per_s * exposure_s + c``,
   c the clock-induced charge of an EMCCD, which arises before its register and is multiplied;
2. electrons       ``n ~ Poisson(m)``: shot noise of light and dark current together;
3. register        EMCCD: ``s ~ Gamma(shape n, scale em_gain)``, 0 if n = 0; others: ``s = n``.
   The gamma is the limit of many multiplying stages (Basden, Haniff & Mackay 2003, MNRAS 345,
   985; Hirsch et al. 2013, PLoS ONE 8, e53671) and doubles the shot noise's variance;
4. full well       ``s <- min(s, full_well_e)`` if given, for an EMCCD at the register's output;
5. read noise      ``v = s + read_noise_e * r * N(0, 1)``, r the pixel's relative read noise;
6. conversion      ``adu = floor(g * v / e_per_adu + baseline_adu + o + 1/2)``, g the pixel's
   relative gain, o its offset (Huang et al. 2013, Nat. Methods 10, 653);
7. saturation      ``adu`` is cut to ``[0, 2**bit_depth - 1]``.

CCD and EMCCD have g = 1, o = 0, r = 1. Left out: charge-transfer smear, non-linearity near the
full well, correlated row noise, after-pulsing. Computed in float32: a count can differ from exact
arithmetic by one where it lies within 1e-6 of a rounding edge.
"""

from __future__ import annotations

import warnings
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from simscope.camera.maps import CameraMaps
from simscope.camera.settings import (
    Camera,
    Parameters,
    check_names,
    dark_electrons,
    em_gain,
    highest_code,
    setting,
)
from simscope.device import CPU, Device
from simscope.errors import CameraError, SimscopeWarning
from simscope.kernels.detect import CUT, IMPOSSIBLE, SATURATED
from simscope.kernels.poisson import LARGEST_MEAN
from simscope.keys import Key

Frames = npt.NDArray[np.float32]
NOTABLE_CUT = 1e-3  # share of the pixels of a run cut at 0 ADU that is worth a warning


def detect(
    photons: Any,
    camera: Camera,
    maps: CameraMaps,
    key: Key,
    *,
    sample_index: npt.ArrayLike,
    frame_index: npt.ArrayLike,
    exposure_s: float,
    parameters: Parameters | None = None,
    device: Device = CPU,
) -> tuple[Any, npt.NDArray[np.int64]]:
    """Counts [ADU], uint16 (frame, y, x), and the saturated pixels of each frame, int64.

    Parameters
    ----------
    photons
        Expected photons per pixel and frame at the camera, (frame, y, x), at least 0.
    maps
        Per-pixel maps of the chip, from :func:`simscope.camera.camera_maps`.
    key
        Root of the random streams; noise comes from ``key.child("camera/shot")``.
    sample_index, frame_index
        Which sample, and which frame in it, each frame is: scalar or (frame,). They and the pixel
        address the noise, so neither threads nor the batch's composition change a count.
    exposure_s
        Time over which dark current gathers.
    parameters
        Values of camera fields drawn per sample, by field name: scalar or (frame,).
    device
        Where the photons lie and the counts are made, the same bytes on any; the numbers of
        saturated pixels are NumPy's.

    Raises
    ------
    CameraError
        If photons are negative, not finite or more than 1e7 electrons, shapes do not match, or a
        parameter is unknown, missing or impossible.

    Warns
    -----
    SimscopeWarning
        If more than 1 pixel in 1000 would fall below 0 ADU and is cut there.
    """
    check_names(camera, parameters)
    images = _checked_photons(photons, maps, device)
    frames, pixels = images.shape[0], maps.gain.size
    table = _parameter_table(camera, frames, exposure_s, parameters)
    adu = device.xp.empty((frames, pixels), np.uint16)
    counted = device.get(
        device.kernels("detect").detect(
            device.xp,
            images.reshape(frames, pixels),
            maps.on(device),
            camera.kind == "emccd",
            device.put(table),
            np.float32(highest_code(camera)),
            device.put(_counter_words("frame_index", frame_index, frames)),
            device.put(_counter_words("sample_index", sample_index, frames)),
            *key.child("camera/shot").words,
            adu,
        )
    ).astype(np.int64)
    if counted[:, IMPOSSIBLE].any():
        _refuse_photons(images, table, device)
    if counted[:, CUT].sum() > NOTABLE_CUT * adu.size:
        warnings.warn(_cut_message(float(table[:, 5].min())), SimscopeWarning, stacklevel=2)
    return adu.reshape(images.shape), counted[:, SATURATED]


def _cut_message(baseline_adu: float) -> str:
    return (
        f"baseline_adu={baseline_adu:g} is too low for the read noise and offsets: more than "
        f"{NOTABLE_CUT:.1%} of the pixels are cut at 0 ADU; raise baseline_adu"
    )


def _checked_photons(photons: Any, maps: CameraMaps, device: Device) -> Any:
    """Photons as contiguous float32 (frame, y, x); their values are checked as they are used."""
    images = device.put(photons, np.float32)
    if images.ndim != 3 or images.shape[1:] != maps.shape:
        raise CameraError(
            f"photons of shape {images.shape} do not fit the chip's {maps.shape}: "
            "give (frame, y, x) with the maps' y and x"
        )
    return images


def _refuse_photons(images: Any, table: Frames, device: Device) -> NoReturn:
    """Say which light is impossible: negative, not a number, or beyond exact Poisson variates."""
    lowest = float(images.min())
    if not lowest >= 0:  # NaN too
        raise CameraError(
            f"photons={lowest:g} at a pixel: expected photons are at least 0; "
            "check the renderer and the background"
        )
    brightest = device.get(images.max(axis=(1, 2))).astype(np.float64)
    means = brightest * table[:, 0].astype(np.float64) + table[:, 1]
    raise CameraError(
        f"{means.max():.3g} mean electrons in a pixel exceed {LARGEST_MEAN:.0e}: "
        "lower the photons, the background or the dark current"
    )


def _parameter_table(
    camera: Camera, frames: int, exposure_s: float, parameters: Parameters | None
) -> Frames:
    """Numbers the kernel needs of each frame, float32 (frame, 7), in its order."""
    columns: tuple[npt.NDArray[np.float32] | np.float32, ...] = (
        setting(camera, "qe", parameters),
        dark_electrons(camera, exposure_s, parameters),
        em_gain(camera, parameters),
        setting(camera, "read_noise_e", parameters),
        setting(camera, "e_per_adu", parameters),
        setting(camera, "baseline_adu", parameters),
        np.float32(np.inf if camera.full_well_e is None else camera.full_well_e),
    )
    table = np.empty((frames, len(columns)), np.float32)
    for j, column in enumerate(columns):
        if column.ndim > 0 and column.shape != (frames,):
            raise CameraError(
                f"a parameter has shape {column.shape}: give one value for each of the "
                f"{frames} frames, or one for all"
            )
        table[:, j] = column
    return table


def _counter_words(name: str, index: npt.ArrayLike, frames: int) -> npt.NDArray[np.uint32]:
    """Sample or frame numbers as uint32 (frame,)."""
    numbers = np.asarray(index)
    if numbers.dtype.kind not in "iu":
        raise CameraError(f"{name} holds {numbers.dtype} values: give whole numbers")
    if numbers.ndim > 0 and numbers.shape != (frames,):
        raise CameraError(
            f"{name} has shape {numbers.shape}: give one number for each of the {frames} frames"
        )
    if numbers.size and not (numbers.min() >= 0 and numbers.max() < 2**32):
        raise CameraError(
            f"{name} runs from {numbers.min()} to {numbers.max()}: counters hold 0 to 2**32 - 1"
        )
    return np.broadcast_to(numbers.astype(np.uint32), (frames,)).copy()
