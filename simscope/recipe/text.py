"""YAML in and out: safe loading, no duplicate keys, ``1e-6`` a number and ``on`` a word."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from simscope.errors import RecipeError

_FLOAT = re.compile(
    r"^[-+]?(\d[\d_]*\.?\d*|\.\d+)([eE][-+]?\d+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"
)


DEEPEST = 50
"""Levels of nesting; no recipe has ten, and far more would keep the reader busy for minutes."""

_BEGINS = (
    yaml.FlowSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.BlockMappingStartToken,
)
_ENDS = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken, yaml.BlockEndToken)


class _Loader(yaml.SafeLoader):
    """Safe loader that refuses duplicate keys."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, list | dict):
                raise yaml.YAMLError("a key must be a word or a number")
            if key in seen:
                raise yaml.YAMLError(
                    f"key {key!r} stands twice on line {key_node.start_mark.line + 1}"
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


_REPLACED = {f"tag:yaml.org,2002:{kind}" for kind in ("float", "int", "bool")}
_Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] not in _REPLACED]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# YAML 1.2 core words and numbers: "on" is a word and 12:30 is no number
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(0|[1-9][0-9_]*)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


class _Dumper(yaml.SafeDumper):
    """Safe dumper that writes short sequences on one line."""


def _represent_list(dumper: yaml.SafeDumper, values: list[Any]) -> Any:
    flat = all(not isinstance(value, list | dict) for value in values)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=flat)


_Dumper.add_representer(list, _represent_list)


def parse_yaml(text: str, source: str) -> Any:
    """Plain values from YAML text.

    Raises
    ------
    RecipeError
        If the text is not YAML, repeats a key, or is too deep or too large.
    """
    if len(text) > 1_000_000:
        raise RecipeError(f"{source} has {len(text)} characters, the limit is 1000000: shorten it")
    try:
        _refuse_aliases(text, source)
        return yaml.load(text, Loader=_Loader)
    except RecipeError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        message = " ".join(str(error).split())
        raise RecipeError(f"{source} is not valid YAML: {message}") from None


def _refuse_aliases(text: str, source: str) -> None:
    for token in shallow_tokens(text):
        if isinstance(token, yaml.AnchorToken | yaml.AliasToken):
            line = token.start_mark.line + 1
            raise RecipeError(
                f"{source} uses a YAML anchor or alias on line {line}: write the values out"
            )


def shallow_tokens(text: str) -> Iterator[yaml.Token]:
    """Tokens of YAML text as long as it is not nested deeper than ``DEEPEST``.

    Raises
    ------
    yaml.YAMLError
        Where it is, or is not YAML.
    """
    depth = 0
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        depth += isinstance(token, _BEGINS) - isinstance(token, _ENDS)
        if depth > DEEPEST:
            line = token.start_mark.line + 1
            raise yaml.YAMLError(f"nested deeper than {DEEPEST} levels on line {line}")
        yield token


def to_yaml(data: Any) -> str:
    """YAML text in the order given."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
