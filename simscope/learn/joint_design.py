"""A phase mask and the network that reads it, learned together (Nehme et al. 2020, *Nat. Methods*
17:734): the mask may then serve crowds, where overlap and not the bound of one molecule decides.

Molecules come from the recipe's simulator, their images from the PSF layer, whole frames by adding
the images up; Poisson and read noise are drawn as a normal variate times the standard deviation, so
that gradients pass through both (reparametrisation, Kingma and Welling 2014, ICLR). The network's
own loss then pulls at its weights and at the mask. Judged is the network on frames of the ordinary
simulator with the mask put into the recipe: neither the layer nor its noise has a say there.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simscope.acquire import Batch, Simulator
from simscope.errors import TrainingError
from simscope.learn.compute import autocast, enough_memory, run_network, using_threads
from simscope.learn.design_plan import DesignPlan, mask_of, new_phase, random_start
from simscope.learn.feed import HELD_OUT_START, VALIDATION_START
from simscope.learn.inputs import photons_from_counts, scaled_and_roots
from simscope.learn.layer_frames import Frames
from simscope.learn.localizer import Localizer
from simscope.learn.mask_design import layer_for, mean_bound_nm, plain_focus_nm
from simscope.learn.optimiser import Optimiser
from simscope.learn.plan import Plan
from simscope.learn.runs import checked_folder, circumstances, occupied, origin, save, seeded_task
from simscope.learn.stream import training_seed
from simscope.optics import objective_of
from simscope.recipe import ArrayMask, Recipe

NETWORKS: dict[str, dict[str, Any]] = {
    "deepstorm-slim": {},
    "deepstorm3d": {"matched_filters": 0},  # they would be those of the mask at the start
}
"""Networks that read single frames as photons and roots, and their settings here."""
JUDGED_SAMPLES = 32


@dataclass(frozen=True)
class JointDesign:
    """A mask and, in ``folder``, the network that reads it.

    ``curve``: loss of every step; ``held_out``: the network judged on frames of the ordinary
    simulator; ``bound_nm`` as of :class:`simscope.learn.mask_design.Design`.
    """

    mask: ArrayMask
    curve: list[float]
    moved_rad: float
    bound_nm: float
    held_out: dict[str, float]
    folder: Path
    plan: DesignPlan

    def record(self) -> dict[str, Any]:
        """All but the mask's values, for JSON; None for what is not a number."""
        held_out = {name: v if math.isfinite(v) else None for name, v in self.held_out.items()}
        return {
            "plan": self.plan.model_dump(mode="json"),
            "mean_bound_nm": self.bound_nm,
            "phase_moved_rad": self.moved_rad,
            "na_per_pixel": self.mask.na_per_pixel,
            "held_out": held_out,
            "curve": self.curve,
        }


def design_jointly(
    recipe: Recipe,
    network: str,
    plan: DesignPlan,
    *,
    out: str | Path,
    config: dict[str, Any] | None = None,
    batch_size: int = 4,
    learning_rate: float = 2e-3,
    mask_rate: float = 0.02,
    threads: int | None = None,
    force: bool = False,
    update: Callable[[int, int, float], None] = lambda done, total, loss: None,
) -> JointDesign:
    """A mask and a network learned together for a recipe, the network written to ``out``.

    ``plan.steps`` updates of ``batch_size`` frames; ``learning_rate`` [1] of the weights,
    ``mask_rate`` [rad] of the phase. ``update(done, total, loss)`` is called after every step.

    Raises
    ------
    TrainingError
        If the network does not read single frames, ``out`` holds a run, or the loss is no number.
    OpticsError
        If the layer cannot serve the optics.
    """
    if network not in NETWORKS:
        raise TrainingError(f"no joint design with {network!r}: choose {', '.join(NETWORKS)}")
    folder = checked_folder(Path(out), force)
    bare = recipe.replace("optics.mask", None)
    na = objective_of(bare.optics).na
    schedule = Plan(steps=plan.steps, batch_size=batch_size, learning_rate=learning_rate)
    with using_threads(threads) as count, enough_memory():
        phase = new_phase(plan, na)
        layer = layer_for(bare, phase, plan, reach_nm=recipe.pixel_nm)
        (values,) = phase.parameters()
        values.data = random_start(plan, phase, 0).to(values)
        start = values.detach().clone()
        task: Any = seeded_task(network, bare, NETWORKS[network] | (config or {}), plan.seed)
        frames = Frames(recipe, layer, plain_focus_nm(recipe), plan.seed)
        curve = _learn(task, frames, values, schedule, mask_rate, update)
        mask = mask_of(phase, plan, na)
        masked = recipe.replace("optics.mask", mask.model_dump())
        task.recipe = masked
        held_out = _judged(task, masked, plan.seed)
    record = {"source": recipe.name, "data": origin(masked.sha256, training_seed(plan.seed))}
    record |= circumstances(task, schedule, plan.seed, "cpu", count) | {"mask_rate": mask_rate}
    with occupied(folder, force):
        save(task, record | {"curves": {"train_loss": curve}, "held_out": held_out}, folder)
    moved = float((values.detach() - start).square().sum().sqrt())
    return JointDesign(mask, curve, moved, mean_bound_nm(masked, plan), held_out, folder, plan)


def _learn(
    task: Any, frames: Frames, values: torch.Tensor, schedule: Plan, mask_rate: float,
    update: Callable[[int, int, float], None],
) -> list[float]:  # fmt: skip
    """Learn network and phase in place; the loss of every step."""
    with torch.no_grad():
        first = frames.truth(VALIDATION_START, 2 * schedule.batch_size)
        task.fit_scales(in_counts(first, frames.noisy(frames.photons(first), 0), task.recipe))
    optimiser = Optimiser.of(task.network, schedule)
    by_mask = torch.optim.Adam([values], betas=(0.9, 0.99))
    total, curve = int(schedule.steps or 1), []
    for step in range(total):
        rate = schedule.rate(step / total)
        by_mask.param_groups[0]["lr"] = mask_rate * rate / schedule.learning_rate
        batch = frames.truth(step * schedule.batch_size, schedule.batch_size)
        photons = frames.noisy(frames.photons(batch), step + 1)
        inputs = scaled_and_roots(photons[:, None], task.config)
        with autocast(torch.device("cpu")):
            output = task.network.train()(inputs)
        loss = task.loss(output, task.targets(batch))
        task.network.zero_grad()
        by_mask.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(task.network.parameters(), schedule.clip_norm)
        curve.append(loss.item())
        if not math.isfinite(curve[-1]):
            raise TrainingError(f"loss={curve[-1]} at step {step} is no number: lower the rates")
        optimiser.step(rate)
        by_mask.step()
        update(step + 1, total, curve[-1])
    return curve


def in_counts(batch: Batch, photons: torch.Tensor, recipe: Recipe) -> Batch:
    """The batch with images whose counts stand for these photons: counts are linear in them."""
    dark, one = photons_from_counts(np.array([0.0, 1.0]), recipe)
    return dataclasses.replace(batch, images=(photons.numpy() - dark) / (one - dark))


def _judged(task: Localizer, masked: Recipe, seed: int) -> dict[str, float]:
    """Figures of merit on frames of the ordinary simulator, the threshold chosen on others."""
    simulator = Simulator(masked, training_seed(seed))
    chosen, held_out = (
        simulator.batch(start, start + JUDGED_SAMPLES)
        for start in (VALIDATION_START, HELD_OUT_START)
    )
    task.calibrate(run_network(task, chosen.images), chosen)
    return task.judge(run_network(task, held_out.images), held_out)
