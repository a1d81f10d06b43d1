"""The training loop: one plain loop for every network, from a stream or a file, fully recorded.

Learning rate: linear warm-up, then half a cosine down (Loshchilov and Hutter 2017, ICLR; one cycle
as Smith 2018, arXiv:1803.09820). Optimiser: AdamW (Loshchilov and Hutter 2019, ICLR). The weights
with the lowest loss on validation samples are kept. The record's ``validation`` figures are on
these same samples, its ``held_out`` figures on others, looked at once when all is chosen.

With ``steps`` one seed gives one result on one machine. With ``minutes`` the schedule follows the
clock, so that it always ends in time, and results vary a little.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from simscope.acquire import Batch
from simscope.errors import TrainingError
from simscope.keys import Key
from simscope.learn.compute import autocast, checked_device, run_network, using_threads
from simscope.learn.feed import Pair, batches, held_out_batch, open_source, validation_batch
from simscope.learn.networks import network as network_named
from simscope.learn.plan import Plan, checked_plan
from simscope.learn.runs import (
    TrainedModel,
    checked_folder,
    circumstances,
    make_task,
    origin,
    save,
)
from simscope.learn.task import Task
from simscope.recipe import Recipe


def train(
    network: str,
    source: Recipe | str | Path,
    *,
    out: str | Path,
    seed: int = 0,
    config: dict[str, Any] | None = None,
    threads: int | None = None,
    device: str = "cpu",
    force: bool = False,
    progress: bool = True,
    **plan: Any,
) -> TrainedModel:
    """A trained network, also written to the folder ``out`` with the record of its training.

    Parameters
    ----------
    network
        One of ``simscope.learn.NETWORKS``.
    source
        A recipe (object, packaged name or YAML file): samples are simulated as they are needed,
        none twice. Or a dataset file: its last samples are held out, those before validate.
    seed
        Decides initial weights, samples and their order.
    config
        Fields of the network's config that differ from the defaults.
    plan
        Fields of :class:`Plan`; ``steps``, ``minutes`` or ``cpu_minutes`` is
        required. Defaults are the network's.

    Raises
    ------
    TrainingError
        If the network does not fit the recipe, ``out`` holds a run and ``force`` is not set, a
        hyper-parameter is impossible, the device is not there, or the loss stops being a number.
    """
    checked = checked_plan(network_named(network)[0].plan | plan)
    processor = checked_device(device)
    folder = checked_folder(Path(out), force)
    Key(seed)
    with using_threads(threads) as count:
        simulated = "auto" if processor.type == "cuda" else "cpu"
        data = open_source(source, seed, checked.batch_size, count, simulated)
        task = _seeded_task(network, data.recipe, config, seed)
        validation = validation_batch(data, checked)
        task.fit_scales(validation)
        task.network.to(processor)
        loop = _Loop(task, checked, validation, count, progress)
        loop.run(batches(data, task, checked, seed))
        task.network.cpu()
        task.calibrate(run_network(task, validation.images), validation)
        judged = {
            name: task.judge(run_network(task, batch.images), batch)
            for name, batch in (
                ("validation", validation),
                ("held_out", held_out_batch(data, checked)),
            )
        }
    record: dict[str, Any] = {
        "source": source.name if isinstance(source, Recipe) else str(source),
        "data": origin(data.recipe.sha256, data.seed),
    }
    record |= circumstances(task, checked, seed, str(processor), count)
    return save(task, record | loop.record() | judged, folder)


def _seeded_task(network: str, recipe: Recipe, config: dict[str, Any] | None, seed: int) -> Task:
    """An untrained network with the seed's weights; PyTorch's own random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make_task(network, recipe, config)


class _Loop:
    """State of one run: optimiser, clock, curves, and the best weights so far."""

    def __init__(
        self, task: Task, plan: Plan, validation: Batch, threads: int, progress: bool
    ) -> None:
        self.task, self.plan, self.validation, self.threads = task, plan, validation, threads
        self.optimiser = torch.optim.AdamW(
            task.network.parameters(),
            plan.learning_rate,
            (0.9, 0.99),
            weight_decay=plan.weight_decay,
        )
        self.device = next(task.network.parameters()).device
        self.curve: list[dict[str, float]] = []
        self.best, self.best_weights = math.inf, task.network.state_dict()
        self.step, self.seconds, self.waited, self.stopped = 0, 0.0, 0.0, "budget spent"
        self.cpu_seconds = 0.0
        self.bar = _progress_bar(disable=not progress)

    def run(self, batches: Iterator[Pair]) -> None:
        """Update until the budget is spent or nothing is gained, then take the best weights."""
        begun, looks, smooth = time.perf_counter(), 0, math.nan
        begun_cpu = time.process_time()
        with self.bar as bar:
            line = bar.add_task(self.task.kind, total=1.0, note="")
            while (done := self._share_done()) < 1:
                waiting = time.perf_counter()
                inputs, targets = next(batches)
                self.waited += time.perf_counter() - waiting
                loss = self._update(inputs, targets, self.plan.rate(done))
                smooth = loss if math.isnan(smooth) else 0.95 * smooth + 0.05 * loss
                self.step, self.seconds = self.step + 1, time.perf_counter() - begun
                self.cpu_seconds = time.process_time() - begun_cpu
                done = self._share_done()
                if done >= (looks + 1) / self.plan.validations:
                    looks = int(done * self.plan.validations)
                    self._look(smooth)
                    self.seconds = time.perf_counter() - begun
                    self.cpu_seconds = time.process_time() - begun_cpu
                note = f"loss {smooth:.4g}, {self.step / self.seconds:.2g} steps/s"
                bar.update(line, completed=min(done, 1.0), note=note)
                if self._gains_nothing():
                    self.stopped = f"no gain in {self.plan.patience} looks at validation samples"
                    break
        self.task.network.load_state_dict(self.best_weights)

    def _share_done(self) -> float:
        return self.plan.share_done(self.step, self.seconds, self.cpu_seconds)

    def _update(self, inputs: torch.Tensor, targets: torch.Tensor, rate: float) -> float:
        """One step of the optimiser; the loss before it."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        torch.set_num_threads(self.threads)  # Numba shares OpenMP's count and may have changed it
        network = self.task.network.train()
        with autocast(self.device):
            output = network(inputs.to(self.device))
        loss = self.task.loss(output, targets.to(self.device))
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), self.plan.clip_norm)
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingError(
                f"loss={value} at step {self.step} is no number: lower learning_rate="
                f"{self.plan.learning_rate:g}"
            )
        self.optimiser.step()
        return value

    def _look(self, train_loss: float) -> None:
        """Judge the network on validation samples and keep its weights if they are the best."""
        output = run_network(self.task, self.validation.images)
        loss = float(self.task.loss(output, self.task.targets(self.validation)))
        self.curve.append(
            {
                "step": self.step,
                "seconds": self.seconds,
                "learning_rate": self.optimiser.param_groups[0]["lr"],
                "train_loss": train_loss,
                "validation_loss": loss,
                **self.task.judge(output, self.validation),
            }
        )
        if loss < self.best:
            self.best, self.best_weights = loss, copy.deepcopy(self.task.network.state_dict())

    def _gains_nothing(self) -> bool:
        losses = [point["validation_loss"] for point in self.curve]
        return len(losses) - 1 - int(np.argmin([*losses, math.inf])) >= self.plan.patience

    def record(self) -> dict[str, Any]:
        """Curves and totals for the run's record."""
        return {
            "curves": {name: [point[name] for point in self.curve] for name in self.curve[0]},
            "stopped": self.stopped,
            "steps": self.step,
            "samples_seen": self.step * self.plan.batch_size,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "seconds_waiting_for_data": self.waited,
        }


def _progress_bar(disable: bool) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    return Progress(*columns, console=Console(stderr=True), disable=disable)
