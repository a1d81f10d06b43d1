"""Camera numbers that may be drawn per sample: the value of a field, frame by frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from simscope.errors import CameraError
from simscope.recipe.camera import CCD, EMCCD, SCMOS

Camera = CCD | EMCCD | SCMOS
Parameters = Mapping[str, npt.ArrayLike]
Floats32 = npt.NDArray[np.float32]
KINDS = (CCD, EMCCD, SCMOS)


def _limits(name: str) -> tuple[float, bool, float]:
    """Lowest value, whether it is itself allowed, and highest value, as the recipe states them."""
    field = next(kind.model_fields[name] for kind in KINDS if name in kind.model_fields)
    extra: dict[str, Any] = dict(field.json_schema_extra or {})  # type: ignore[arg-type]
    inclusive = "ge" in extra
    return float(extra["ge" if inclusive else "gt"]), inclusive, float(extra["le"])


LIMITS = {
    name: _limits(name)
    for name in (
        "qe",
        "dark_e_per_s",
        "read_noise_e",
        "e_per_adu",
        "baseline_adu",
        "em_gain",
        "clock_induced_charge_e",
    )
}


def check_names(camera: Camera, parameters: Parameters | None) -> None:
    """Refuse parameters that the camera does not have or that cannot vary.

    Raises
    ------
    CameraError
        Naming the parameter and those the camera takes.
    """
    known = [name for name in LIMITS if hasattr(camera, name)]
    for name in parameters or {}:
        if name not in known:
            raise CameraError(
                f"{name!r} cannot vary on a camera of kind {camera.kind!r}: use {', '.join(known)}"
            )


def setting(camera: Camera, name: str, parameters: Parameters | None = None) -> Floats32:
    """Value of a camera field in the field's unit, float32, scalar or one per frame.

    ``parameters`` comes first; a field that is drawn per sample is never read.

    Raises
    ------
    CameraError
        If the value is missing because the field is a distribution, or out of its limits.
    """
    given: Any = (parameters or {}).get(name, getattr(camera, name))
    try:
        value = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise CameraError(
            f"camera.{name} is a distribution ({given}): pass its drawn values as "
            f"parameters={{{name!r}: ...}}"
        ) from None
    lowest, inclusive, highest = LIMITS[name]
    inside = (value >= lowest if inclusive else value > lowest) & (value <= highest)
    if not np.all(inside):
        worst = value[~inside].flat[0] if value.ndim else float(value)
        bracket = "[" if inclusive else "("
        raise CameraError(
            f"{name}={worst:g} lies outside {bracket}{lowest:g}, {highest:g}]: "
            "choose a value in that range"
        )
    return value.astype(np.float32)


def em_gain(camera: Camera, parameters: Parameters | None = None) -> Floats32:
    """Mean gain of the multiplying register, 1 for cameras without one."""
    if camera.kind == "emccd":
        return setting(camera, "em_gain", parameters)
    return np.ones((), np.float32)


def dark_electrons(
    camera: Camera, exposure_s: float, parameters: Parameters | None = None
) -> Floats32:
    """Mean electrons per pixel and frame that come without light: dark current and, on an EMCCD,
    clock-induced charge.

    Raises
    ------
    CameraError
        If the exposure is not a finite number of seconds, at least 0.
    """
    if not (np.isfinite(exposure_s) and exposure_s >= 0):
        raise CameraError(f"exposure_s={exposure_s} is no exposure time: give seconds >= 0")
    dark = setting(camera, "dark_e_per_s", parameters) * np.float32(exposure_s)
    if camera.kind == "emccd":
        dark = dark + setting(camera, "clock_induced_charge_e", parameters)
    return dark


def highest_code(camera: Camera) -> int:
    """Largest count of the converter [ADU], ``2**bit_depth - 1``."""
    return int(2**camera.bit_depth - 1)
