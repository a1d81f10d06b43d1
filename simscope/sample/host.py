"""Which parts of a sample the CPU works out although the rest runs on a GPU."""

from __future__ import annotations

from simscope.recipe import FilamentStructure, Recipe
from simscope.recipe.dipoles import ConeDipole


def host_parts(recipe: Recipe) -> list[str]:
    """Names of the parts: paths of filaments, and laws whose quantiles have no GPU kernel."""
    parts = ["paths of filaments"] if isinstance(recipe.structure, FilamentStructure) else []
    dipoles = recipe.dipoles
    if isinstance(dipoles, ConeDipole) and dipoles.rotational_constraint is not None:
        parts.append("cones of a rotational constraint")
    return parts + [
        f"draws of {path}"
        for path, scope, law in recipe.drawables()
        if scope == "emitter" and law.host_only
    ]
