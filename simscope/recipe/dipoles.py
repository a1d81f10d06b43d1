"""What a recipe says of the molecules' transition dipoles: free, fixed, wobbling in a cone."""

from __future__ import annotations

from typing import Literal

from simscope.recipe.base import Model


class FreeDipole(Model):
    """Rotates freely and fast: emits the same from all orientations."""

    kind: Literal["free"] = "free"


Dipole = FreeDipole
