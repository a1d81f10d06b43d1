"""Phase masks from nothing: the mask whose images say most about where molecules are.

The cost is the mean over heights and over x, y and z of the Cramér-Rao bound (Shechtman et al.,
Phys. Rev. Lett. 113, 133902 (2014)), for molecules of given light on a given camera; photons and
background are estimated along. Its gradient by the mask goes through the PSF layer, so that fifty
Zernike modes, or every pixel, cost no more than six. The bound itself is that of
:func:`simscope.evaluate.psf_crlb`, which has the last word on every design.

The cost has several minima: the best of some random starts is kept.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from simscope.errors import TrainingError
from simscope.evaluate import psf_crlb
from simscope.learn.compute import using_threads
from simscope.learn.design_plan import DesignPlan, mask_of, new_phase, random_start
from simscope.learn.information import Detection, bounds_nm
from simscope.learn.psf_layer import Phase, PsfLayer, ZernikePhase
from simscope.optics import objective_of
from simscope.recipe import ArrayMask, Recipe
from simscope.sample import height_range_nm

Floats = npt.NDArray[np.float64]
POSITION = ("x_nm", "y_nm", "z_nm")
ACCURACY = 1e-3
MEMORY = 20
"""Steps that the search remembers the curvature of."""


@dataclass(frozen=True)
class Design:
    """A mask, how it came about, and the bounds that simscope's own evaluation finds for it.

    ``curve``: cost [nm] of every step, ``bound_nm``: mean of the bounds of x, y and z over the
    heights (:func:`mean_bound_nm`), ``expected_nm``: the same by the layer alone, ``cpu_seconds``:
    processor time of the search.
    """

    mask: ArrayMask
    coefficients_rad: dict[int, float] | None
    curve: list[float]
    starts: list[float]
    bound_nm: float
    expected_nm: float
    cpu_seconds: float
    plan: DesignPlan

    def record(self) -> dict[str, Any]:
        """All but the mask's values, for JSON."""
        return {
            "plan": self.plan.model_dump(mode="json"),
            "mean_bound_nm": self.bound_nm,
            "mean_bound_by_layer_nm": self.expected_nm,
            "mean": "of the standard deviations of x, y and z over all heights",
            "cpu_seconds": self.cpu_seconds,
            "na_per_pixel": self.mask.na_per_pixel,
            "coefficients_rad": self.coefficients_rad,
            "starts_nm": self.starts,
            "curve_nm": self.curve,
        }


def design_mask(
    recipe: Recipe,
    plan: DesignPlan | None = None,
    *,
    threads: int | None = None,
    update: Callable[[int, int, float], None] = lambda done, total, cost: None,
) -> Design:
    """The phase mask with the lowest mean bound for a recipe's optics and camera.

    The optics' own mask is left out. ``update(done, total, cost)`` is called after every step.

    Raises
    ------
    OpticsError, CameraError
        If the layer cannot serve the optics, or numbers are still to be drawn.
    TrainingError
        If the cost stops being a number.
    """
    plan, begun = plan or DesignPlan(), time.process_time()
    bare = recipe.replace("optics.mask", None)
    na, detection = objective_of(bare.optics).na, Detection(recipe)
    with using_threads(threads):
        phase = new_phase(plan, na)
        layer = layer_for(bare, phase, plan)
        cost = _Cost(layer, plan, detection, plain_focus_nm(recipe))
        starts, curve = _learn(phase, cost, plan, update)
        with torch.no_grad():
            expected = float(cost())
    cpu_seconds = time.process_time() - begun
    mask = mask_of(phase, plan, na)
    coefficients = None
    if isinstance(phase, ZernikePhase):
        values = phase.coefficients_rad.tolist()
        coefficients = dict(zip(phase.modes, values, strict=True))
    masked = recipe.replace("optics.mask", mask.model_dump())
    bound = mean_bound_nm(masked, plan)
    return Design(mask, coefficients, curve, starts, bound, expected, cpu_seconds, plan)


def mean_bound_nm(recipe: Recipe, plan: DesignPlan) -> float:
    """Mean of the bounds of x, y and z [nm] over the plan's heights: the figure designs go by.

    By :func:`simscope.evaluate.psf_crlb`, with the mask that stands in the recipe.
    """
    bounds = psf_crlb(
        recipe.optics, plan.heights_nm, plain_focus_nm(recipe), photons=plan.photons,
        background_photons=plan.background_photons, camera=recipe.camera,
        exposure_ms=recipe.acquisition.exposure_ms, pixel_nm=recipe.pixel_nm,
        shape=(plan.window_px, plan.window_px),
    )  # fmt: skip
    return float(np.mean([bounds[name] for name in POSITION]))


def layer_for(bare: Recipe, phase: Phase, plan: DesignPlan, reach_nm: float = 0.0) -> PsfLayer:
    """The PSF layer for a recipe without a mask, in single precision."""
    focus = plain_focus_nm(bare)
    return PsfLayer(
        bare.optics, phase, shape=(plan.window_px, plan.window_px), pixel_nm=bare.pixel_nm,
        z_nm=plan.z_nm, focus_nm=(focus, focus), reach_nm=reach_nm,
        strength_rad=plan.strength_rad, accuracy=ACCURACY,
    ).single()  # fmt: skip


class _Cost:
    """Mean bound [nm] of what the layer's phase stands at, as a function without arguments."""

    def __init__(
        self, layer: PsfLayer, plan: DesignPlan, detection: Detection, focus_nm: float
    ) -> None:
        self.layer, self.plan, self.detection, self.focus_nm = layer, plan, detection, focus_nm
        self.z_nm = torch.from_numpy(plan.heights_nm)

    def __call__(self) -> torch.Tensor:
        slopes = self.layer.slopes(self.z_nm, self.focus_nm)
        plan = self.plan
        bounds = bounds_nm(slopes, plan.photons, plan.background_photons, self.detection)
        return bounds.mean()


def _learn(
    phase: Phase, cost: _Cost, plan: DesignPlan, update: Callable[[int, int, float], None]
) -> tuple[list[float], list[float]]:
    """Learn the phase in place: the lowest cost of every start, and the curve of the best [nm]."""
    (values,) = phase.parameters()
    best, curve, ends = math.inf, [math.nan], []
    for number in range(plan.starts):
        values.data = random_start(plan, phase, number).to(values)
        done = number * plan.steps
        tell = partial(_tell, update, done, plan.starts * plan.steps)
        costs, lowest = _descend(values, cost, plan.steps, tell)
        ends.append(min(costs))
        if ends[-1] < best:
            best, curve, kept = ends[-1], costs, lowest
    if not math.isfinite(best):
        raise TrainingError(
            f"the mean bound is {best} nm from all {plan.starts} starts: raise start_rad="
            f"{plan.start_rad:g}, window_px or the photons"
        )
    values.data = kept
    return ends, curve


def _tell(
    update: Callable[[int, int, float], None], before: int, total: int, step: int, value: float
) -> None:
    update(before + step, total, value)


def _descend(
    values: torch.Tensor, cost: _Cost, steps: int, tell: Callable[[int, float], None]
) -> tuple[list[float], torch.Tensor]:
    """Costs [nm] seen on the way down, and the values where they were lowest.

    L-BFGS with a line search (Nocedal and Wright 2006, ch. 7): the cost has no noise and few
    dimensions, and curvature gets in 40 looks where plain gradients do not in 400.
    """
    search = torch.optim.LBFGS(
        [values], max_iter=steps, max_eval=steps, history_size=MEMORY,
        tolerance_grad=0.0, tolerance_change=1e-6, line_search_fn="strong_wolfe",
    )  # fmt: skip
    costs: list[float] = []
    lowest = [values.detach().clone()]

    def look() -> torch.Tensor:
        search.zero_grad()
        value = cost()
        value.backward()
        now = value.item()
        if math.isfinite(now) and now < min(costs, default=math.inf):
            lowest[0] = values.detach().clone()
        costs.append(now if math.isfinite(now) else math.inf)
        tell(len(costs), costs[-1])
        return value

    search.step(look)
    return costs, lowest[0]


def height_range(recipe: Recipe) -> tuple[float, float]:
    """Heights of a recipe's molecules [nm], lowest and highest.

    Raises
    ------
    TrainingError
        If they are all at one height, for which no mask is needed.
    """
    low, high = height_range_nm(recipe)
    if not low < high:
        raise TrainingError(
            f"all molecules of {recipe.name!r} are at {low:g} nm: give a range of heights, z_nm or "
            "--z-range"
        )
    return low, high


def plain_focus_nm(recipe: Recipe) -> float:
    """The recipe's focus [nm]; TrainingError if it is drawn or a stack."""
    focus = recipe.acquisition.focus_nm
    if not isinstance(focus, int | float):
        raise TrainingError(
            f"acquisition.focus_nm of {recipe.name!r} is no plain number: a mask is designed for "
            "one focus; set it"
        )
    return float(focus)
