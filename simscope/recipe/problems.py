"""What is wrong with a record, in words: one line a problem with path, value and remedy."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError

from simscope.errors import RecipeError, did_you_mean

KINDS_OF: dict[str, tuple[str, ...]] = {}
"""Kinds a group may be of, by the name of its key; every class adds its own as it is made."""

NO_NAME = (
    "is true or false where a name belongs: put names in quotes, as many YAML readers take "
    "on, off, yes and no for true and false"
)

LONGEST_VALUE = 80
"""Characters of a value that a message repeats."""


if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass as Explained
else:

    class Explained(type(BaseModel)):
        """Class of records that raise RecipeError, not pydantic's error, where constructed.

        pydantic builds the records inside a record without this call, so their paths stay whole.
        """

        def __call__(self, *args: Any, **values: Any) -> Any:
            """A record; RecipeError says in one line a problem why there is none."""
            try:
                return super().__call__(*args, **values)
            except ValidationError as error:
                raise RecipeError(describe(error)) from None


def learn_kinds(model: type[BaseModel]) -> None:
    """Note the kinds of every group of a class that has several."""
    for name, field in model.model_fields.items():
        kinds = _kinds(field.annotation)
        if len(kinds) > 1:
            KINDS_OF[name] = kinds


def _kinds(annotation: Any) -> tuple[str, ...]:
    """Every ``kind`` of the records in an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation.model_fields["kind"].default,) if _has_kind(annotation) else ()
    return tuple(kind for part in get_args(annotation) for kind in _kinds(part))


def _has_kind(model: type[BaseModel]) -> bool:
    return "kind" in model.model_fields


def describe(error: ValidationError) -> str:
    """One line a problem: path, what is wrong, what to do; the same of many values said once."""
    lines: list[tuple[str, str, str]] = []
    for problem in error.errors(include_url=False):
        parts = _path(problem["loc"])
        message = _message(problem, parts)
        # the numbers of rows and columns are what sets one bad value of an array from the next
        place = ".".join(part for part in parts if not part.isdigit())
        lines.append((".".join(parts), place, message))
    times = Counter((place, message) for _, place, message in dict.fromkeys(lines))
    said: dict[tuple[str, str], str] = {}
    for path, place, message in lines:
        count = times[place, message]
        if count > 1:
            message = f"{message}, and {count - 1} more like it"
        said.setdefault((place, message), f"{path}: {message}" if path else message)
    return "\n".join(said.values())


def _path(location: tuple[Any, ...]) -> tuple[str, ...]:
    """Keys on the way to a problem, without the kinds and types that pydantic puts among them."""
    parts: list[str] = []
    for given in location:
        part = str(given)
        kind = bool(parts) and part in KINDS_OF.get(parts[-1], ())
        if not kind and "[" not in part and part not in _TYPES:
            parts.append(part)
    return tuple(parts)


_TYPES = {"number", "FocusStack", "float", "int", "str"}
NO_GROUP = "is not a group of keys: give {key: value, ...}"
NO_NUMBER = "is not a number: give a plain number"
NO_LIST = "is not a list: give [first, second, ...]"
_IN_WORDS = {
    "missing": "is missing: add it",
    "finite_number": "is not finite: give a finite number",
    "float_type": NO_NUMBER,
    "float_parsing": NO_NUMBER,
    "dict_type": NO_GROUP,
    "model_type": NO_GROUP,
    "model_attributes_type": NO_GROUP,
    "tuple_type": NO_LIST,
    "list_type": NO_LIST,
    "string_type": "is no text: give a word, in quotes if it may be read as something else",
}


def _message(problem: Any, parts: tuple[str, ...]) -> str:
    value, kind = problem.get("input"), problem["type"]
    message: str = problem["msg"].removeprefix("Value error, ")
    if kind == "missing":
        return _IN_WORDS[kind]
    if kind == "string_type" and isinstance(value, bool):
        return f"{value} {NO_NAME}"
    if kind in _IN_WORDS:
        return f"{shortened(value)} {_IN_WORDS[kind]}"
    if kind.startswith("union_tag"):
        return _about_kind(problem, parts)
    if kind.startswith("value_error") or isinstance(value, dict):
        return message
    return f"{message} (got {shortened(value)})"


def shortened(value: Any) -> str:
    """A value as Python writes it, cut where it grows long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def _about_kind(problem: Any, parts: tuple[str, ...]) -> str:
    """What to do about a group whose ``kind`` is missing or unknown."""
    given = problem.get("input")
    known = ", ".join(KINDS_OF.get(parts[-1], ()) if parts else ())
    if isinstance(given, BaseModel):
        name = type(given).__name__
        return f"{name} does not belong here: kinds are {known}"
    if not isinstance(given, dict):
        shown = shortened(given)
        return f"{shown} is not a group of keys: give kind and its keys; kinds are {known}"
    if "kind" not in given:
        return f"kind is missing: add one of {known}"
    hint = did_you_mean(given["kind"], known.split(", "))
    return f"unknown kind {given['kind']!r}: {hint + ' ' if hint else ''}kinds are {known}"
