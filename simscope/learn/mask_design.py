"""Phase masks from nothing: the mask whose images say most about where molecules are.

The cost is the mean over heights and over x, y and z of the Cramér-Rao bound (Shechtman et al.,
Phys. Rev. Lett. 113, 133902 (2014)), for molecules of given light on a given camera; photons and
background are estimated along. Its gradient by the mask goes through the PSF layer, so that fifty
Zernike modes, or every pixel, cost no more than six. The bound itself is that of
:func:`simscope.evaluate.psf_crlb`, which has the last word on every design.

The cost has many minima: several random starts run for a tenth of the steps, the best goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field

from simscope.errors import TrainingError
from simscope.evaluate import psf_crlb
from simscope.keys import Key
from simscope.learn.compute import using_threads
from simscope.learn.information import Detection, bounds_nm
from simscope.learn.psf_layer import Phase, PixelPhase, PsfLayer, ZernikePhase
from simscope.optics import nm_to_osa, objective_of
from simscope.optics.masks import modes_phase
from simscope.optics.zernike import osa_to_nm
from simscope.recipe import ArrayMask, Model, Recipe

Floats = npt.NDArray[np.float64]
POSITION = ("x_nm", "y_nm", "z_nm")
BEYOND_EDGE = 1.1
"""Pupil radius to which modes are continued outside the pupil: splines need a pixel or two."""
ACCURACY = 1e-3


class DesignPlan(Model):
    """Everything that decides a design, with the recipe."""

    z_nm: tuple[float, float] = Field((0.0, 4000.0), description="heights to serve [nm]")
    heights: int = Field(11, ge=2, le=200, description="heights the mean is taken over")
    photons: float = Field(3500.0, gt=0, description="photons of a molecule at the camera")
    background_photons: float = Field(20.0, gt=0, description="background photons per pixel")
    basis: Literal["zernike", "pixels"] = Field("zernike", description="what is learned")
    order: int = Field(8, ge=2, le=20, description="highest radial order of the modes")
    pixels: int = Field(64, ge=8, le=256, description="pixels of the mask across the pupil")
    window_px: int = Field(41, ge=5, le=201, description="pixels that inform, each way")
    steps: int = Field(150, ge=1, description="updates of the best start")
    starts: int = Field(6, ge=1, description="random starts")
    start_rad: float = Field(1.0, gt=0, description="RMS of the random starts [rad]")
    learning_rate: float = Field(0.06, gt=0, description="highest step of a coefficient [rad]")
    strength_rad: float = Field(1.0, gt=0, description="phase the quadrature has room for [rad]")
    seed: int = Field(0, ge=0, description="decides the starts")

    @property
    def heights_nm(self) -> Floats:
        """Heights of the mean [nm]."""
        return np.linspace(*self.z_nm, self.heights)

    @property
    def modes(self) -> tuple[int, ...]:
        """OSA indices of the modes: from order 2, as piston and tilts say nothing."""
        last = nm_to_osa(self.order, self.order)
        return tuple(range(3, last + 1))


@dataclass(frozen=True)
class Design:
    """A mask, how it came about, and the bounds that simscope's own evaluation finds for it.

    ``curve``: cost [nm] of every step, ``bound_nm``: mean of the bounds of x, y and z over the
    heights (:func:`mean_bound_nm`), ``expected_nm``: the same by the layer alone.
    """

    mask: ArrayMask
    coefficients_rad: dict[int, float] | None
    curve: list[float]
    starts: list[float]
    bound_nm: float
    expected_nm: float
    plan: DesignPlan

    def record(self) -> dict[str, Any]:
        """All but the mask's values, for JSON."""
        return {
            "plan": self.plan.model_dump(mode="json"),
            "mean_bound_nm": self.bound_nm,
            "mean_bound_by_layer_nm": self.expected_nm,
            "mean": "of the standard deviations of x, y and z over all heights",
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
    plan = plan or DesignPlan()
    bare = recipe.replace("optics.mask", None)
    na, detection = objective_of(bare.optics).na, Detection(recipe)
    with using_threads(threads):
        phase = new_phase(plan, na)
        layer = layer_for(bare, phase, plan)
        cost = _Cost(layer, plan, detection, _focus_nm(recipe))
        starts, curve = _learn(phase, cost, plan, update)
        with torch.no_grad():
            expected = float(cost())
    mask = mask_of(phase, plan, na)
    coefficients = None
    if isinstance(phase, ZernikePhase):
        values = phase.coefficients_rad.tolist()
        coefficients = dict(zip(phase.modes, values, strict=True))
    masked = recipe.replace("optics.mask", mask.model_dump())
    bound = mean_bound_nm(masked, plan)
    return Design(mask, coefficients, curve, starts, bound, expected, plan)


def mean_bound_nm(recipe: Recipe, plan: DesignPlan) -> float:
    """Mean of the bounds of x, y and z [nm] over the plan's heights: the figure designs go by.

    By :func:`simscope.evaluate.psf_crlb`, with the mask that stands in the recipe.
    """
    bounds = psf_crlb(
        recipe.optics, plan.heights_nm, _focus_nm(recipe), photons=plan.photons,
        background_photons=plan.background_photons, camera=recipe.camera,
        exposure_ms=recipe.acquisition.exposure_ms, pixel_nm=recipe.pixel_nm,
        shape=(plan.window_px, plan.window_px),
    )  # fmt: skip
    return float(np.mean([bounds[name] for name in POSITION]))


def layer_for(bare: Recipe, phase: Phase, plan: DesignPlan, reach_nm: float = 0.0) -> PsfLayer:
    """The PSF layer for a recipe without a mask, in single precision."""
    focus = _focus_nm(bare)
    return PsfLayer(
        bare.optics, phase, shape=(plan.window_px, plan.window_px), pixel_nm=bare.pixel_nm,
        z_nm=plan.z_nm, focus_nm=(focus, focus), reach_nm=reach_nm,
        strength_rad=plan.strength_rad, accuracy=ACCURACY,
    ).single()  # fmt: skip


def new_phase(plan: DesignPlan, na: float) -> Phase:
    """A flat phase of the plan's basis."""
    if plan.basis == "zernike":
        return ZernikePhase(plan.modes)
    return PixelPhase(plan.pixels, pixel_pitch_na(plan.pixels, na))


def pixel_pitch_na(pixels: int, na: float) -> float:
    """NA a pixel spans where the array reaches one pixel beyond the pupil's edge."""
    return 2.0 * na / (pixels - 2)


def mask_of(phase: Phase, plan: DesignPlan, na: float) -> ArrayMask:
    """The learned phase as a mask for a recipe."""
    if isinstance(phase, PixelPhase):
        return phase.mask
    pitch = pixel_pitch_na(plan.pixels, na)
    line = (np.arange(plan.pixels) - 0.5 * (plan.pixels - 1)) * pitch / na
    x, y = np.meshgrid(line, line)
    inward = np.minimum(1.0, BEYOND_EDGE / np.hypot(x, y).clip(min=1e-9))
    modes = tuple(osa_to_nm(mode) for mode in phase.modes)
    coefficients = phase.coefficients_rad.detach().cpu().double().numpy()
    return ArrayMask(
        values=modes_phase(modes, coefficients, x * inward, y * inward), na_per_pixel=pitch
    )


def random_start(plan: DesignPlan, phase: Phase, number: int) -> torch.Tensor:
    """Phases or coefficients [rad] of start ``number``, of RMS ``start_rad``; coarse before fine.

    Modes fall with the square of their order, as those of smooth surfaces do; pixels take the
    phase of such modes.
    """
    modes = plan.modes
    key = Key(plan.seed).child("design").child("start")
    orders = np.array([osa_to_nm(mode)[0] for mode in modes], dtype=np.float64)
    normal = key.normal(np.arange(len(modes)), sample=number) / orders**2
    coefficients = normal * plan.start_rad / np.sqrt((normal**2).sum())
    if isinstance(phase, ZernikePhase):
        return torch.from_numpy(coefficients)
    start = ZernikePhase(modes)
    start.coefficients_rad.data = torch.from_numpy(coefficients)
    na = phase.na_per_pixel * (plan.pixels - 2) / 2.0
    return torch.from_numpy(np.array(mask_of(start, plan, na).values))


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
    phase: Phase,
    cost: _Cost,
    plan: DesignPlan,
    update: Callable[[int, int, float], None],
) -> tuple[list[float], list[float]]:
    """Learn the phase in place; the last costs of all starts, and the curve of the best [nm]."""
    (values,) = phase.parameters()
    trial = max(1, plan.steps // 10) if plan.starts > 1 else 0
    total, done = plan.starts * trial + plan.steps, 0
    ends: list[tuple[float, torch.Tensor]] = []
    for number in range(plan.starts):
        values.data = random_start(plan, phase, number).to(values)
        for value in _descend(values, cost, plan, trial):
            done += 1
            update(done, total, value)
        with torch.no_grad():
            ends.append((float(cost()) if trial else math.nan, values.detach().clone()))
    values.data = min(ends, key=lambda end: end[0])[1]
    curve = []
    for value in _descend(values, cost, plan, plan.steps):
        done += 1
        curve.append(value)
        update(done, total, value)
    return [end[0] for end in ends], curve


def _descend(values: torch.Tensor, cost: _Cost, plan: DesignPlan, steps: int) -> Iterator[float]:
    """Costs [nm] of steps of Adam (Kingma and Ba 2015, ICLR) that grow smaller along a cosine."""
    adam = torch.optim.Adam([values], plan.learning_rate, betas=(0.9, 0.99))
    for step in range(steps):
        share = 0.5 + 0.5 * math.cos(math.pi * step / steps)
        adam.param_groups[0]["lr"] = plan.learning_rate * share * min(1.0, (step + 1) / 10)
        adam.zero_grad()
        value = cost()
        value.backward()
        if not math.isfinite(float(value)):
            raise TrainingError(
                f"the mean bound is {float(value)} after {step} steps: lower learning_rate="
                f"{plan.learning_rate:g}, or raise start_rad={plan.start_rad:g}"
            )
        adam.step()
        yield float(value)


def _focus_nm(recipe: Recipe) -> float:
    """The recipe's focus [nm]; TrainingError if it is drawn or a stack."""
    focus = recipe.acquisition.focus_nm
    if not isinstance(focus, int | float):
        raise TrainingError(
            f"acquisition.focus_nm of {recipe.name!r} is no plain number: a mask is designed for "
            "one focus; set it"
        )
    return float(focus)
