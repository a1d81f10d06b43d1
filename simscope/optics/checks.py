"""Checks of what callers hand to the PSF models: one clear error each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simscope.errors import OpticsError
from simscope.memory import MOST_BYTES
from simscope.optics.interfaces import Objective
from simscope.recipe.problems import shortened

FloatArray = NDArray[np.float64]

HIGHEST_MODE = 230
"""Highest OSA index of a Zernike mode, as in recipes."""

FARTHEST_NM = 1e6
"""Heights and objective travels beyond this are taken for a mistake in the unit."""

WIDEST_NM = 5e5
"""Distance of the window's corner from the emitter beyond which the unit is taken for a mistake."""


def check_supported(optics: Any) -> None:
    """Return nothing; raise OpticsError for what is no optics."""
    if not hasattr(optics, "model") or not hasattr(optics, "method"):
        remedy = "pass recipe.optics" if hasattr(optics, "optics") else "pass ss.Optics(...)"
        raise OpticsError(f"optics is of type {type(optics).__name__}, not Optics: {remedy}")


def check_heights(objective: Objective, z_nm: FloatArray, radius_nm: float = 0.0) -> None:
    """Return nothing; raise OpticsError for heights that are not finite or inside the glass.

    ``radius_nm``: of beads, whose centres must lie so far above the coverslip.
    """
    if not np.isfinite(z_nm).all():
        raise OpticsError("an emitter height z_nm is not finite: give plain numbers")
    check_distance("z_nm", z_nm)
    lowest = float(z_nm.min(initial=0.0))
    if objective.has_interface and radius_nm and float(z_nm.min(initial=np.inf)) < radius_nm:
        raise OpticsError(
            f"z_nm={z_nm.min():g} puts part of a bead of bead_diameter_nm={2 * radius_nm:g} below "
            f"the coverslip: z_nm is the height of its centre, at least {radius_nm:g}"
        )
    if objective.has_interface and lowest < 0.0:
        raise OpticsError(
            f"z_nm={lowest:g} lies below the coverslip (n_sample={objective.n_sample:g}, "
            f"n_immersion={objective.n_immersion:g}): emitters need z_nm >= 0"
        )


def check_distance(name: str, values_nm: FloatArray) -> None:
    """Return nothing; raise OpticsError for axial distances no objective can span."""
    farthest = float(np.abs(values_nm).max(initial=0.0))
    if farthest > FARTHEST_NM:
        raise OpticsError(
            f"{name}={farthest:g} lies beyond {FARTHEST_NM:g} nm from the coverslip: give "
            "distances in nm"
        )


def check_reach(z_nm: ArrayLike, focus_nm: ArrayLike, lateral_nm: float) -> None:
    """Return nothing; raise OpticsError for ranges that are not finite, or too far."""
    ranges = {"z_nm": z_nm, "focus_nm": focus_nm, "a shift": lateral_nm}
    for name, values in ranges.items():
        if not np.isfinite(values).all():
            raise OpticsError(f"{name} is not finite: give plain numbers")
    check_distance("z_nm", np.asarray(z_nm, np.float64))
    check_distance("focus_nm", np.asarray(focus_nm, np.float64))


def check_window(
    shape: tuple[int, int], pixel_nm: float, shift_nm: float = 0.0, *, images: int = 1
) -> None:
    """Return nothing; raise OpticsError unless shape and pixel describe a window.

    ``shift_nm``: of the emitter from its middle; ``images``: how many of them are wanted at once.
    """
    sides = tuple(shape) if isinstance(shape, Sequence | np.ndarray) else ()
    whole = all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in sides)
    if len(sides) != 2 or not whole or min(sides) < 1:
        raise OpticsError(f"shape={shape!r}: give (y, x) in whole pixels, both at least 1")
    if not is_number(pixel_nm) or pixel_nm <= 0:
        raise OpticsError(f"pixel_nm={pixel_nm!r}: a pixel needs a size above 0, in nm")
    needed = 8 * images * int(sides[0]) * int(sides[1])
    if needed > MOST_BYTES:
        raise OpticsError(
            f"{images} image(s) of shape={sides[0]}x{sides[1]} take {needed / 1e9:.3g} GB, more "
            f"than {MOST_BYTES / 1e9:g}: give a smaller shape, or fewer heights at a time"
        )
    corner_nm = 0.5 * pixel_nm * math.hypot(*sides) + shift_nm
    if corner_nm > WIDEST_NM:
        raise OpticsError(
            f"shape={sides[0]}x{sides[1]} of pixel_nm={pixel_nm:g}, the emitter {shift_nm:g} nm "
            f"from its middle, reaches {corner_nm:.3g} nm from the emitter, more than "
            f"{WIDEST_NM:g}: give a smaller shape, pixel or shift, in nm"
        )


def is_number(value: Any) -> bool:
    """Whether a value is one finite real number."""
    real = isinstance(value, int | float | np.integer | np.floating)
    return real and not isinstance(value, bool) and math.isfinite(value)


def check_numbers(**columns: ArrayLike) -> list[FloatArray]:
    """Finite float64 arrays, (n,) each, of values that broadcast against each other."""
    arrays = [_real_numbers(name, value) for name, value in columns.items()]
    try:
        together = np.broadcast_arrays(*arrays)
    except ValueError:
        given = ", ".join(
            f"{name} of shape {a.shape}" for name, a in zip(columns, arrays, strict=True)
        )
        raise OpticsError(f"{given} do not match: give scalars or lists of one length") from None
    if together[0].ndim != 1 or together[0].size == 0:
        shape = together[0].shape
        raise OpticsError(
            f"{' and '.join(columns)} broadcast to shape {shape}: give scalars or lists"
        )
    for name, array in zip(columns, arrays, strict=True):
        if not np.isfinite(array).all():
            raise OpticsError(f"{name} holds values that are not finite: give plain numbers")
    return list(together)


def _real_numbers(name: str, values: ArrayLike) -> FloatArray:
    """Float64 array (n,) of what a caller gave; OpticsError unless it holds real numbers."""
    try:
        array = np.asarray(values)
    except ValueError:
        array = np.asarray("rows of several lengths")
    if array.dtype.kind not in "fiu":
        raise OpticsError(
            f"{name}={shortened(values)} is no plain number: give one, or a list of them"
        )
    return np.atleast_1d(array.astype(np.float64))


def check_plain(**values: Any) -> None:
    """Return nothing; raise OpticsError unless every value is one finite real number."""
    for name, value in values.items():
        if not is_number(value):
            fault = "not finite" if isinstance(value, float) else "no plain number"
            raise OpticsError(f"{name}={shortened(value)} is {fault}: give a plain number")


def check_place(name: str, place_nm: Any) -> None:
    """Return nothing; raise OpticsError unless it is a place (x, y) in the field."""
    pair = tuple(place_nm) if isinstance(place_nm, Sequence | np.ndarray) else ()
    if len(pair) != 2 or not all(map(is_number, pair)):
        raise OpticsError(
            f"{name}={shortened(place_nm)} is no place: give (x, y) in nm from the field's centre"
        )


def check_wavefront(wavefront_nm: Mapping[int, float] | None) -> None:
    """Return nothing; raise OpticsError unless it is a dict of OSA index -> RMS nm."""
    if wavefront_nm is None:
        return
    if not isinstance(wavefront_nm, Mapping):
        raise OpticsError(f"wavefront_nm={wavefront_nm!r}: give a dict of OSA index -> RMS nm")
    for index, value in wavefront_nm.items():
        whole = isinstance(index, int | np.integer) and not isinstance(index, bool)
        if not whole or not 0 <= index <= HIGHEST_MODE:
            raise OpticsError(f"OSA index {index!r} is no whole number in [0, {HIGHEST_MODE}]")
        if not is_number(value):
            raise OpticsError(f"wavefront_nm[{index}]={value!r} is no finite number of nm")
