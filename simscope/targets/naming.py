"""Targets by their names, as people ask for them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from simscope.errors import DatasetError, RecipeError, did_you_mean
from simscope.targets.base import Target
from simscope.targets.grids import DensityTarget, VoxelTarget
from simscope.targets.objects import LabelTarget
from simscope.targets.wavefront import WavefrontTarget

CLEAN = "clean"
TARGETS: dict[str, type[Target]] = {
    "density": DensityTarget,
    "voxels": VoxelTarget,
    "labels": LabelTarget,
    "wavefront": WavefrontTarget,
}


def split_clean(
    asked: Iterable[Target | Mapping[str, Any] | str], expected: bool = False
) -> tuple[tuple[Target, ...], bool]:
    """Targets as of :func:`parse_targets`, and whether noiseless images are asked for (``clean``).

    Raises
    ------
    DatasetError
        As :func:`parse_targets`.
    """
    asked = _listed(asked)
    others = [target for target in asked if target not in (CLEAN, {"kind": CLEAN})]
    return parse_targets(others), expected or len(others) < len(asked)


def parse_targets(asked: Iterable[Target | Mapping[str, Any] | str]) -> tuple[Target, ...]:
    """Targets from texts such as ``"density:upsampling=8,blur_cells=0"``, mappings or targets.

    Raises
    ------
    DatasetError
        If a kind or setting is unknown or beyond its limits, or a kind is asked for twice.
    """
    targets = tuple(_parsed(target) for target in _listed(asked))
    kinds = [target.kind for target in targets]
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise DatasetError(f"target {kind} is asked for twice: keep one of them")
    return targets


def _listed(asked: Any) -> list[Any]:
    return [asked] if isinstance(asked, Target | Mapping | str) else list(asked)


def _parsed(asked: Any) -> Target:
    if isinstance(asked, Target):
        return asked
    if isinstance(asked, str):
        asked = _settings(asked)
    if not isinstance(asked, Mapping):
        raise DatasetError(f"target {asked!r} is no name: give one such as 'density'")
    settings = dict(asked)
    kind = settings.get("kind")
    if kind == CLEAN:
        raise DatasetError("target clean is the noiseless image: ask for it by expected=True")
    if not isinstance(kind, str) or kind not in TARGETS:
        hint = did_you_mean(kind, [*TARGETS, CLEAN]) or f"there are {', '.join(TARGETS)}, {CLEAN}"
        raise DatasetError(f"unknown target {kind!r}; {hint}")
    try:
        return TARGETS[kind](**settings)
    except (RecipeError, TypeError) as error:
        raise DatasetError(f"target {kind}: {error}") from None


def _settings(text: str) -> dict[str, Any]:
    """Kind and settings from ``kind:name=value,name=value``."""
    kind, _, rest = text.partition(":")
    settings: dict[str, Any] = {"kind": kind.strip()}
    for part in filter(None, (piece.strip() for piece in rest.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise DatasetError(f"target {text!r}: {part!r} is no setting; write name=value")
        if name in settings:
            raise DatasetError(f"target {text!r} gives {name} twice: keep one of them")
        settings[name] = _value(value)
    return settings


def _value(text: str) -> Any:
    """A number, true, false or null as JSON has them, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text
