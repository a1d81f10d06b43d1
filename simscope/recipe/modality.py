"""What a recipe says of the microscope beyond the objective: widefield, confocal and others."""

from __future__ import annotations

from typing import Literal

from simscope.recipe.base import Model


class Widefield(Model):
    """Every emitter shines with its own light, seen by a camera."""

    kind: Literal["widefield"] = "widefield"


Modality = Widefield
