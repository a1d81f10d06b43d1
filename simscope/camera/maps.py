"""Per-pixel maps of a camera: relative gain, offset, relative read noise.

An sCMOS chip has an amplifier in every pixel, so that no two pixels agree (Huang et al. 2013, Nat.
Methods 10:653). Here offsets and gains are normal and the read noise is log-normal, whose long
tail stands for the few hot pixels of a real chip; or the maps come from a calibration file. The
maps belong to the chip: drawn once per dataset, the same in every frame.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simscope.camera.settings import Camera
from simscope.device import Device
from simscope.errors import CameraError, SimscopeWarning
from simscope.kernels import variates
from simscope.keys import Key
from simscope.recipe.camera import SCMOS

Map = npt.NDArray[np.float32]
FILE_ARRAYS = ("gain", "offset_adu", "read_noise_e")
ZERO = np.uint32(0)


@dataclass(frozen=True)
class CameraMaps:
    """Maps of a chip, float32 (y, x) each.

    ``gain`` multiplies ``1 / e_per_adu``, ``offset_adu`` adds to ``baseline_adu``, ``read_noise``
    multiplies ``read_noise_e``; all that a flat chip has is (1, 0, 1).

    Raises
    ------
    CameraError
        If shapes differ, a value is not finite, a gain is not positive or a noise is negative.
    """

    gain: Map
    offset_adu: Map
    read_noise: Map

    def __post_init__(self) -> None:
        for name in ("gain", "offset_adu", "read_noise"):
            values = np.ascontiguousarray(getattr(self, name), np.float32)
            object.__setattr__(self, name, values)
            if values.ndim != 2 or values.shape != self.gain.shape:
                raise CameraError(
                    f"map {name} has shape {values.shape}, gain {self.gain.shape}: "
                    "all three must be (y, x) alike"
                )
            if not np.all(np.isfinite(values)):
                raise CameraError(f"map {name} holds values that are not finite: repair the map")
        if self.gain.min(initial=np.inf) <= 0:
            raise CameraError(
                f"pixel gain {self.gain.min():.3g} is not above 0: lower gain_std or repair the map"
            )
        if self.read_noise.min(initial=0.0) < 0:
            raise CameraError(
                f"pixel read noise {self.read_noise.min():.3g} is below 0: repair the map"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Pixels (y, x)."""
        return self.gain.shape[0], self.gain.shape[1]

    @cached_property
    def _placed(self) -> dict[str, Any]:
        return {}

    def on(self, device: Device) -> Any:
        """Gain, offset and read noise of all pixels on a device, float32 (3, pixel), kept there."""
        if device.name not in self._placed:
            maps = np.stack([self.gain, self.offset_adu, self.read_noise])
            self._placed[device.name] = device.put(maps.reshape(3, -1))
        return self._placed[device.name]


def camera_maps(camera: Camera, shape: tuple[int, int], key: Key) -> CameraMaps:
    """Maps of this camera's chip for frames of ``shape`` (y, x).

    CCD and EMCCD are flat. An sCMOS reads ``maps_path`` if given; otherwise the maps are drawn
    from streams below ``key.child("camera/maps")``, pixel by pixel in reading order.

    Raises
    ------
    CameraError
        If a map file is missing, foreign, of another shape or holds impossible values, or if
        ``gain_std`` is so wide that a pixel's gain is not positive.
    """
    if not isinstance(camera, SCMOS):
        return _flat(shape)
    if camera.maps_path is not None:
        return _from_file(camera, Path(camera.maps_path), shape)
    stream = key.child("camera/maps")
    pixels = shape[0] * shape[1]
    offset = np.empty(pixels)
    gain = np.empty(pixels)
    read_noise = np.empty(pixels)
    variates.fill_normal(offset, ZERO, ZERO, ZERO, *stream.child("offset").words)
    variates.fill_normal(gain, ZERO, ZERO, ZERO, *stream.child("gain").words)
    words = stream.child("read_noise").words
    variates.fill_lognormal(read_noise, camera.read_noise_sigma_log, ZERO, ZERO, ZERO, *words)
    return CameraMaps(
        gain=_as_map(1.0 + camera.gain_std * gain, shape),
        offset_adu=_as_map(camera.offset_std_adu * offset, shape),
        read_noise=_as_map(read_noise, shape),
    )


def _flat(shape: tuple[int, int]) -> CameraMaps:
    ones = np.ones(shape, np.float32)
    return CameraMaps(gain=ones, offset_adu=np.zeros(shape, np.float32), read_noise=ones)


def _as_map(values: npt.NDArray[np.float64], shape: tuple[int, int]) -> Map:
    return values.astype(np.float32).reshape(shape)


def _from_file(camera: SCMOS, path: Path, shape: tuple[int, int]) -> CameraMaps:
    """Maps from an ``.npz`` with ``gain`` (relative), ``offset_adu`` and ``read_noise_e``."""
    arrays = _read_npz(path)
    for name, values in arrays.items():
        if values.shape != shape:
            raise CameraError(
                f"{path}: {name} has shape {values.shape}, the frame {shape}: "
                "crop the map or change the frame"
            )
    relative = _relative_read_noise(camera, arrays["read_noise_e"], path)
    typical_adu = float(np.median(arrays["offset_adu"]))
    if typical_adu > 10 and camera.baseline_adu != 0:
        warnings.warn(
            f"offset_adu in {path} is {typical_adu:g} ADU on the median and is added to "
            "baseline_adu: if the map holds the whole offset, set baseline_adu to 0",
            SimscopeWarning,
            stacklevel=2,
        )
    return CameraMaps(
        gain=_as_map(arrays["gain"], shape),
        offset_adu=_as_map(arrays["offset_adu"], shape),
        read_noise=_as_map(relative, shape),
    )


def _read_npz(path: Path) -> dict[str, npt.NDArray[np.float64]]:
    try:
        with np.load(path) as file:
            missing = [name for name in FILE_ARRAYS if name not in file]
            if missing:
                raise CameraError(
                    f"{path} lacks {', '.join(missing)}: "
                    f"save it with np.savez(..., {', '.join(f'{n}=' for n in FILE_ARRAYS)})"
                )
            arrays = {name: file[name] for name in FILE_ARRAYS}
    except FileNotFoundError:
        raise CameraError(f"maps_path={path} does not exist: give the .npz of the maps") from None
    except CameraError:
        raise
    except Exception as problem:  # damaged files make the reader raise nearly anything
        raise CameraError(f"{path} is not an .npz of numbers ({problem}): save it anew") from None
    for name, values in arrays.items():
        if values.dtype.kind not in "fiu":
            raise CameraError(f"{path}: {name} holds {values.dtype}: save real numbers")
    return {name: values.astype(np.float64) for name, values in arrays.items()}


def _relative_read_noise(
    camera: SCMOS, read_noise_e: npt.NDArray[np.float64], path: Path
) -> npt.NDArray[np.float64]:
    """Read-noise map relative to ``camera.read_noise_e``, or to its median if that is drawn."""
    reference = camera.read_noise_e
    if not isinstance(reference, int | float):
        reference = float(np.median(read_noise_e))
    if reference > 0:
        return read_noise_e / reference
    if np.any(read_noise_e != 0):
        raise CameraError(
            f"read_noise_e=0 contradicts the read noise in {path}: "
            f"set read_noise_e to its median, {np.median(read_noise_e):.3g}"
        )
    return np.ones_like(read_noise_e)
