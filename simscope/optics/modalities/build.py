"""Which modality's model serves which optics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from simscope.errors import OpticsError
from simscope.optics.modalities.scan import ScanModel, band_limit_per_nm
from simscope.optics.modalities.sheet import SheetModel
from simscope.optics.pixels import Window
from simscope.optics.reach import Reach
from simscope.recipe.modality import Widefield, impossible_light

__all__ = ["band_limit_per_nm", "modality_model"]


def modality_model(
    optics: Any, window: Window, reach: Reach, accuracy: float, build: Callable[..., Any]
) -> Any:
    """The model of molecules in the optics' modality, light sheet or scanned.

    ``build`` gives widefield models from (optics, window, reach, accuracy=...). Raises OpticsError
    for wavelengths that cannot be and for measured PSFs, which hold the modality already.
    """
    modality = optics.modality
    problem = impossible_light(modality, float(optics.na), float(optics.wavelength_nm))
    if problem:
        raise OpticsError(problem)
    if optics.measured is not None:
        raise OpticsError(
            f"a measured PSF already holds what modality {modality.kind} does: use widefield"
        )
    widefield = optics.model_copy(update={"modality": Widefield()})
    if modality.kind == "light_sheet":
        return SheetModel(optics, build(widefield, window, reach, accuracy=accuracy))

    def build_widefield(part: Any, points: Window, ranges: Any, accuracy: float = 1e-7) -> Any:
        plain = part.model_copy(update={"modality": Widefield()})
        return build(plain, points, ranges, accuracy=accuracy)

    return ScanModel(optics, window, reach, accuracy, build_widefield)
