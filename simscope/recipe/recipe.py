"""The recipe: one frozen record of a whole experiment, lossless in YAML."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, model_validator

from simscope.errors import RecipeError, did_you_mean
from simscope.recipe.acquisition import Acquisition, Rendering
from simscope.recipe.base import (
    Model,
    Per,
    Scope,
    file_references,
    named_file,
    names_file,
    numbers_in,
    unknown_key,
)
from simscope.recipe.camera import Camera
from simscope.recipe.dipoles import Dipole, FreeDipole
from simscope.recipe.distributions import Distribution
from simscope.recipe.illumination import Illumination, UniformIllumination
from simscope.recipe.optics import Optics
from simscope.recipe.photophysics import Photophysics
from simscope.recipe.sample import Background, Structure, UniformBackground
from simscope.recipe.text import parse_yaml, to_yaml
from simscope.recipe.volumes import check_volume


class Recipe(Model):
    """A whole experiment: optics, camera, acquisition, molecules, photophysics, background."""

    schema_version: Literal[1] = 1
    name: str = Field("unnamed", min_length=1, max_length=200, description="short name")
    description: str = Field("", description="what this experiment is")
    optics: Optics = Field(default_factory=Optics)
    camera: Camera
    acquisition: Acquisition
    structure: Structure
    photophysics: Photophysics
    dipoles: Dipole = Field(default_factory=FreeDipole, description="how molecules are oriented")
    illumination: Illumination = Field(
        default_factory=UniformIllumination, description="how molecules are excited"
    )
    background: Background = Field(default_factory=UniformBackground)
    rendering: Rendering = Field(default_factory=Rendering)

    @model_validator(mode="after")
    def _volume_fits(self) -> Recipe:
        check_volume(self)
        return self

    @property
    def pixel_nm(self) -> float:
        """Camera pixel in the sample [nm]."""
        return self.camera.pixel_pitch_um * 1000.0 / self.optics.magnification

    @property
    def channels(self) -> int:
        """Images side by side on the camera: two where an analyser shows both channels."""
        analyser = self.optics.analyser
        return 1 if analyser is None else len(analyser.angles_deg)

    @property
    def camera_shape(self) -> tuple[int, int]:
        """Camera pixels (y, x) of a frame, all channels side by side along x."""
        height, width = self.acquisition.shape
        return height, width * self.channels

    @property
    def sha256(self) -> str:
        """Hash of the canonical JSON form."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Canonical JSON text: sorted keys, no spaces."""
        return json.dumps(self.written(), sort_keys=True, separators=(",", ":"))

    def to_yaml(self) -> str:
        """YAML text that :meth:`from_yaml` reads back to an equal recipe."""
        return to_yaml(self.written())

    def written(self) -> dict[str, Any]:
        """Plain nested dictionaries without absent values."""
        return self.model_dump(mode="json", exclude_none=True)

    @classmethod
    def from_dict(cls, data: Any, *, source: str = "recipe") -> Recipe:
        """Recipe from nested dictionaries.

        Raises
        ------
        RecipeError
            With the path, the bad key or value and the remedy, one line a problem.
        """
        if not isinstance(data, dict):
            raise RecipeError(
                f"{source} holds {type(data).__name__}, not a mapping of keys: fix it"
            )
        try:
            return cls.model_validate(data)
        except RecipeError as error:
            where = f"{source}: " if source else ""
            raise RecipeError(f"{where}{error}") from None

    @classmethod
    def from_yaml(cls, text: str, *, source: str = "recipe") -> Recipe:
        """Recipe from YAML text; errors as in :meth:`from_dict`."""
        return cls.from_dict(parse_yaml(text, source), source=source)

    def replace(self, path: str, value: Any) -> Recipe:
        """A new recipe with the value at a dotted path changed.

        Raises
        ------
        RecipeError
            If the path does not exist or the value does not fit.
        """
        return self.replace_all({path: value})

    def replace_all(self, changes: dict[str, Any]) -> Recipe:
        """A new recipe with the values at several dotted paths changed together.

        Raises
        ------
        RecipeError
            If a path does not exist or the values do not fit.
        """
        data = self.written()
        for path, value in changes.items():
            self._put(data, path, value)
        return type(self).from_dict(data, source="")  # the paths that follow say where

    def _put(self, data: dict[str, Any], path: str, value: Any) -> None:
        """Put a value into the written recipe at a dotted path."""
        if not isinstance(path, str) or not path:
            raise RecipeError(f"path {path!r} is not a dotted path such as 'camera.read_noise_e'")
        parts = path.split(".")
        here: Any = data
        model: Any = self
        for depth, part in enumerate(parts[:-1]):
            _require_part(model, part, ".".join(parts[:depth]))
            model = getattr(model, part, None) if isinstance(model, Model) else None
            here = here.setdefault(_existing_key(here, part), {})
            if not isinstance(here, dict):
                raise RecipeError(f"{path}: {'.'.join(parts[: depth + 1])} is a value, not a group")
        group, last = ".".join(parts[:-1]), parts[-1]
        _require_part(model, last, group)
        key = _existing_key(here, last)
        if last == "kind" and here.get(key) not in (None, value):
            raise RecipeError(
                f"{path} cannot change alone, as another kind has other keys: "
                f"give the whole group, {group}={{kind: {value}, ...}}"
            )
        if value is None:
            _require_optional(model, last, path)
            here.pop(key, None)
        else:
            here[key] = _plain(value)

    def drawables(self) -> Iterator[tuple[str, Scope, Distribution]]:
        """Path, scope and distribution of every number that is drawn."""
        yield from _walk(self, "")

    def drawn(self, scope: Scope) -> dict[str, Distribution]:
        """Distributions of one scope by path."""
        return {path: dist for path, where, dist in self.drawables() if where == scope}


def _walk(model: Model, prefix: str) -> Iterator[tuple[str, Scope, Distribution]]:
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        path = f"{prefix}{name}"
        if isinstance(value, Model):
            yield from _walk(value, f"{path}.")
            continue
        for inner, entry in numbers_in(path, value):
            if isinstance(entry, Distribution):
                yield inner, _scope(model, name, field), entry


def _scope(model: Model, name: str, field: Any) -> Scope:
    marks = [mark for mark in field.metadata if isinstance(mark, Per)]
    if marks:
        return marks[0].scope
    annotation = str(type(model).__annotations__.get(name, ""))
    for word, scope in (("PerEmitter", "emitter"), ("PerSample", "sample")):
        if word in annotation:
            return scope  # type: ignore[return-value]
    return "dataset"


def _require_optional(model: Any, part: str, path: str) -> None:
    if isinstance(model, Model):
        annotation = type(model).model_fields[part].annotation
        if type(None) not in get_args(annotation):
            raise RecipeError(f"{path} cannot be empty: give it a value")


def _plain(value: Any) -> Any:
    if isinstance(value, Distribution):
        return value.written()
    if isinstance(value, Model):
        return value.model_dump(mode="json", exclude_none=True)
    return value


def _require_part(model: Any, part: str, where: str) -> None:
    if isinstance(model, Model) and part not in type(model).model_fields:
        raise RecipeError(f"{where or 'recipe'}: {unknown_key(part, type(model).model_fields)}")


def _existing_key(group: dict[Any, Any], part: str) -> Any:
    return next((key for key in group if str(key) == part), part)


def packaged_recipes() -> list[str]:
    """Names of the recipes that come with simscope."""
    folder = resources.files("simscope.recipe.packaged")
    return sorted(item.name[:-5] for item in folder.iterdir() if item.name.endswith(".yaml"))


def load_recipe(name_or_path: str | Path | Recipe, *, allow_files: bool = False) -> Recipe:
    """Recipe from a packaged name or a YAML file; file references follow the recipe's folder.

    A recipe may come from a stranger, so the files it names must lie in its folder or below, unless
    ``allow_files`` says that it may read any.

    Raises
    ------
    RecipeError
        If there is no such recipe, it names a file elsewhere, or it does not describe a possible
        experiment.
    """
    if isinstance(name_or_path, Recipe):
        return name_or_path
    if not isinstance(name_or_path, str | Path):
        raise RecipeError(f"{name_or_path!r} is neither a recipe, a packaged name nor a path")
    name = str(name_or_path)
    if name in packaged_recipes():
        text = (
            resources.files("simscope.recipe.packaged").joinpath(f"{name}.yaml").read_text("utf8")
        )
        return Recipe.from_yaml(text, source=name)
    path = Path(name_or_path)
    if name and path.is_dir():
        raise RecipeError(f"{name} is a folder: give the path of a YAML file in it")
    if not path.is_file():
        hint = did_you_mean(name, packaged_recipes(), cutoff=0.4)
        raise RecipeError(
            f"no recipe {name!r}: {hint + ' ' if hint else ''}packaged are "
            f"{', '.join(packaged_recipes())}, "
            "or give the path of a YAML file"
        )
    try:
        text = path.read_text("utf8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read recipe {name}: {error}") from None
    data = parse_yaml(text, name)
    if isinstance(data, dict):
        anchor_files(data, path.resolve().parent)
    recipe = Recipe.from_dict(data, source=name)
    if not allow_files:
        require_files_within(recipe, path.resolve().parent, name)
    return recipe


def require_files_within(recipe: Recipe, folder: Path, source: str) -> None:
    """Return nothing; RecipeError if a recipe names a file that does not lie below a folder."""
    for key, file in file_references(recipe).items():
        if not file.resolve().is_relative_to(folder):
            raise RecipeError(
                f"{source}: {key}={file} lies outside the recipe's folder {folder}: copy the file "
                "there, or, if you trust the recipe, allow it with --allow-files (in Python "
                "load_recipe(path, allow_files=True))"
            )


def anchor_files(group: dict[str, Any], folder: Path) -> None:
    """Make the file references in nested groups absolute, seen from ``folder``; in place."""
    for key, value in group.items():
        if isinstance(value, dict):
            anchor_files(value, folder)
        elif isinstance(key, str) and names_file(key) and isinstance(value, str):
            group[key] = str((folder / named_file(key, value)).resolve())


def recipe_schema() -> dict[str, Any]:
    """JSON schema of a recipe, for editors."""
    schema = Recipe.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema
