"""YAML in and out: safe loading, no duplicate keys, and ``1e-6`` is a number."""

from __future__ import annotations

import re
from typing import Any

import yaml

from simscope.errors import RecipeError

_FLOAT = re.compile(
    r"^[-+]?(\d[\d_]*\.?\d*|\.\d+)([eE][-+]?\d+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"
)


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


_Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:float"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
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
    if re.search(r"(^|[\s\[{,:-])[&*][A-Za-z0-9_]", text):
        raise RecipeError(f"{source} uses YAML anchors or aliases: write the values out")
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        message = " ".join(str(error).split())
        raise RecipeError(f"{source} is not valid YAML: {message}") from None


def to_yaml(data: Any) -> str:
    """YAML text in the order given."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
