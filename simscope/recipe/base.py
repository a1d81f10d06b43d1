"""Base of every recipe model: frozen, unknown keys forbidden, limits checked, numbers drawable."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.fields import FieldInfo

from simscope.errors import RecipeError, did_you_mean
from simscope.recipe.distributions import Distribution, distribution_schema, parse_distribution
from simscope.recipe.problems import NO_NAME, Explained, describe, learn_kinds, shortened

Scope = Literal["dataset", "sample", "emitter"]

LONGEST_NAME = 4096
"""Characters no name of a file exceeds."""


class Per:
    """Marks a number as drawable and says how often: per dataset, per sample or per emitter."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope


def parse_number(value: Any) -> Any:
    """A float or a distribution from what stands in a recipe."""
    if isinstance(value, Distribution):
        return value
    if isinstance(value, dict):
        return parse_distribution(value)
    if getattr(value, "shape", None) == ():
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(
            f"{shortened(value)} is not a number: give a number "
            "or a distribution such as {uniform: [0, 1]}"
        )
    return float(value)


Number = Annotated[
    float | Distribution, BeforeValidator(parse_number), WithJsonSchema(distribution_schema())
]
PerDataset = Annotated[Number, Per("dataset")]
PerSample = Annotated[Number, Per("sample")]
PerEmitter = Annotated[Number, Per("emitter")]


def number(
    description: str,
    *,
    unit: str,
    default: Any = ...,
    gt: float | None = None,
    ge: float | None = None,
    lt: float | None = None,
    le: float | None = None,
) -> Any:
    """Field of a physical number with its unit and the limits any value or draw must obey."""
    limits = {"gt": gt, "ge": ge, "lt": lt, "le": le}
    extra: dict[str, Any] = {"unit": unit}
    extra.update({name: limit for name, limit in limits.items() if limit is not None})
    return Field(default, description=f"{description} [{unit}]", json_schema_extra=extra)


class Model(BaseModel, metaclass=Explained):
    """Frozen record that forbids unknown keys and checks limits of numbers and distributions.

    Where one is constructed, what is wrong with it is a RecipeError.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=False
    )

    if not TYPE_CHECKING:  # for type checkers pydantic's own declarations stand

        @classmethod
        def model_validate(cls, obj: Any, **options: Any) -> Model:
            """A record from nested dictionaries; errors as where one is constructed."""
            try:
                return super().model_validate(obj, **options)
            except ValidationError as error:
                raise RecipeError(describe(error)) from None

        def __setattr__(self, name: str, value: Any) -> None:
            """Refuse, as records are frozen."""
            raise RecipeError(
                f"{type(self).__name__} is frozen: make a new one with {name}={shortened(value)}, "
                "or change a recipe by recipe.replace(path, value)"
            )

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Note the kinds of its groups."""
        learn_kinds(cls)

    @model_validator(mode="before")
    @classmethod
    def _suggest_known_keys(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        for key, value in data.items():
            if key not in cls.model_fields:
                raise ValueError(unknown_key(key, cls.model_fields))
            _refuse_wrong_kind(key, value, cls.model_fields[key].annotation)
        return data

    @model_validator(mode="after")
    def _check_limits(self) -> Model:
        for name, field in type(self).model_fields.items():
            for path, value in numbers_in(name, getattr(self, name)):
                low, high = _support(value)
                if low is not None and high is not None:
                    _check_number(path, value, low, high, field)
        return self


def numbers_in(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """A field's value with its path; of dictionaries, everything in them by dotted path."""
    if not isinstance(value, dict):
        yield path, value
        return
    for key, entry in value.items():
        yield from numbers_in(f"{path}.{key}", entry)


def _refuse_wrong_kind(name: str, value: Any, annotation: Any) -> None:
    """Raise where true/false or text stands for a number, which pydantic would let pass."""
    if _allows(annotation, Distribution):
        return  # parse_number judges these
    for part in value if isinstance(value, list | tuple) else [value]:
        for kind, shown in ((bool, "true or false"), (str, "text")):
            if isinstance(part, kind) and not _allows(annotation, kind):
                if kind is bool and _allows(annotation, str):
                    raise ValueError(f"{name}={shortened(value)} {NO_NAME}")
                raise ValueError(
                    f"{name}={shortened(value)} is {shown} where a number or a group belongs"
                )
    if isinstance(value, set | frozenset):
        raise ValueError(f"{name}={value!r} is a set, which has no order: give a list")


def _allows(annotation: Any, kind: type) -> bool:
    """Whether a value of this kind may stand somewhere in the annotation."""
    if annotation is kind:
        return True
    if get_origin(annotation) is Literal:
        return any(type(word) is kind for word in get_args(annotation))
    return any(_allows(part, kind) for part in get_args(annotation))


def unknown_key(key: Any, known: Any) -> str:
    """Sentence that names an unknown key and the nearest known ones."""
    names = list(known)
    hint = did_you_mean(key, names) or f"known keys: {', '.join(names)}"
    return f"unknown key {key!r}; {hint}"


def _support(value: Any) -> tuple[float | None, float | None]:
    if isinstance(value, Distribution):
        return value.likely_range()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value), float(value)
    return None, None


def _check_number(name: str, value: Any, low: float, high: float, field: FieldInfo) -> None:
    extra = field.json_schema_extra
    limits = extra if isinstance(extra, dict) else {}
    shown = value.label() if isinstance(value, Distribution) else f"{value:g}"
    if math.isnan(low) or math.isnan(high):
        raise ValueError(f"{name}={shown} is not a number: give a finite value")
    if not isinstance(value, Distribution) and math.isinf(low):
        raise ValueError(f"{name}={shown} is not finite: give a finite value")
    remedy = "bound the distribution" if isinstance(value, Distribution) else "change the value"
    checks = {
        "gt": (lambda limit: low > limit, "is not above"),
        "ge": (lambda limit: low >= limit, "is below"),
        "lt": (lambda limit: high < limit, "is not below"),
        "le": (lambda limit: high <= limit, "is above"),
    }
    for kind, (holds, verdict) in checks.items():
        limit = limits.get(kind)
        if isinstance(limit, int | float) and not holds(limit):
            unit = "" if limits.get("unit") == "1" else f" {limits.get('unit')}"
            raise ValueError(f"{name}={shown} {verdict} the limit {limit:g}{unit}: {remedy}")


def names_file(key: str) -> bool:
    """Whether what stands under this key of a recipe is the name of a file."""
    return key == "path" or key.endswith("_path")


def named_file(key: str, text: str) -> Path:
    """The file that a recipe names under a key, ``~`` expanded.

    Raises
    ------
    RecipeError
        If no file can have such a name.
    """
    try:
        os.fsencode(text)
        if "\0" in text or len(text) > LONGEST_NAME:
            raise ValueError(f"no file has a name with a zero or above {LONGEST_NAME} characters")
        return Path(text).expanduser()
    except (ValueError, RuntimeError) as error:
        raise RecipeError(f"{key}={shortened(text)}: {error}: name another file") from None


def file_references(model: Model) -> dict[str, Path]:
    """Files a model and the models in it name, by dotted path: keys ``path`` and ``..._path``."""
    files: dict[str, Path] = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, Model):
            inner = file_references(value)
            files.update({f"{name}.{path}": file for path, file in inner.items()})
        elif isinstance(value, str) and names_file(name):
            files[name] = named_file(name, value)
    return files
