"""The hyper-parameters of training, all of them, checked and recorded."""

from __future__ import annotations

import math
from typing import Any

from pydantic import Field

from simscope.errors import RecipeError, TrainingError
from simscope.learn.optimiser import OptimiserName
from simscope.recipe import Model


class Plan(Model):
    """Every hyper-parameter of the loop."""

    steps: int | None = Field(None, ge=1, description="updates of the weights")
    minutes: float | None = Field(None, gt=0, description="wall time of the loop [min]")
    cpu_minutes: float | None = Field(None, gt=0, description="processor time of the loop [min]")
    batch_size: int = Field(16, ge=1, description="samples in an update")
    optimiser: OptimiserName = Field("adamw", description="adamw, or muon for wide kernels")
    learning_rate: float = Field(4e-3, gt=0, description="highest learning rate")
    warm_up: float = Field(0.1, gt=0, lt=1, description="share of the run that warms up")
    final_rate: float = Field(0.01, gt=0, le=1, description="last over highest learning rate")
    weight_decay: float = Field(1e-4, ge=0, description="decay of the weights")
    clip_norm: float = Field(1.0, gt=0, description="largest norm of the gradient")
    validation_samples: int = Field(64, ge=1, description="samples to choose by, as many to judge")
    validations: int = Field(12, ge=1, description="looks at validation samples in a run")
    patience: int = Field(6, ge=1, description="looks without gain before stopping early")

    def rate(self, done: float) -> float:
        """Learning rate once the share ``done`` of the run is over."""
        if done < self.warm_up:
            return self.learning_rate * max(done / self.warm_up, 0.02)
        fall = 0.5 * (1 + math.cos(math.pi * min((done - self.warm_up) / (1 - self.warm_up), 1)))
        return self.learning_rate * (self.final_rate + (1 - self.final_rate) * fall)

    def share_done(self, step: int, seconds: float, cpu_seconds: float) -> float:
        """Share of the run that is over, by whichever limit comes first.

        Two busy cores for five minutes are ten minutes of processor time, whatever else runs.
        """
        by_steps = step / self.steps if self.steps else 0.0
        by_clock = seconds / (60 * self.minutes) if self.minutes else 0.0
        by_processor = cpu_seconds / (60 * self.cpu_minutes) if self.cpu_minutes else 0.0
        return max(by_steps, by_clock, by_processor)


def checked_plan(plan: dict[str, Any]) -> Plan:
    """A plan from keyword arguments.

    Raises
    ------
    TrainingError
        If there is no budget, or a value is impossible or unknown.
    """
    if all(plan.get(budget) is None for budget in ("steps", "minutes", "cpu_minutes")):
        raise TrainingError("no steps, minutes or cpu_minutes given: say how long to train")
    try:
        return Plan(**plan)
    except RecipeError as error:
        problems = "; ".join(str(error).splitlines())
        raise TrainingError(f"plan of the training: {problems}") from None
