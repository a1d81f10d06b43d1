"""The training loop: one plain loop for every network, from a stream or a file, fully recorded.

Learning rate: linear warm-up, then half a cosine down (Loshchilov and Hutter 2017, ICLR; one cycle
as Smith 2018, arXiv:1803.09820). Optimiser: AdamW (Loshchilov and Hutter 2019, ICLR). The weights
with the lowest loss on held-out samples are kept.

With ``steps`` one seed gives one result on one machine. With ``minutes`` the schedule follows the
clock, so that it always ends in time, and results vary a little.
"""

from __future__ import annotations

import copy
import math
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field, ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch.utils.data import DataLoader

from simscope.acquire import Batch
from simscope.errors import TrainingError
from simscope.keys import Key
from simscope.learn.runs import (
    NETWORKS,
    RECORD,
    TrainedModel,
    autocast,
    make_task,
    run_network,
    save,
)
from simscope.learn.stream import HDF5Dataset, Source, StreamingDataset, training_seed
from simscope.learn.task import Task
from simscope.recipe import Model, Recipe, packaged_recipes

HELD_OUT_START = 2**31  # streamed samples kept for validation are counted from here


class Plan(Model):
    """Every hyper-parameter of the loop."""

    steps: int | None = Field(None, ge=1, description="updates of the weights")
    minutes: float | None = Field(None, gt=0, description="wall time of the loop [min]")
    batch_size: int = Field(16, ge=1, description="samples in an update")
    learning_rate: float = Field(4e-3, gt=0, description="highest learning rate")
    warm_up: float = Field(0.1, gt=0, lt=1, description="share of the run that warms up")
    final_rate: float = Field(0.01, gt=0, le=1, description="last over highest learning rate")
    weight_decay: float = Field(1e-4, ge=0, description="decay of the weights (AdamW)")
    clip_norm: float = Field(1.0, gt=0, description="largest norm of the gradient")
    validation_samples: int = Field(64, ge=1, description="held-out samples")
    validations: int = Field(12, ge=1, description="looks at held-out samples in a run")
    patience: int = Field(6, ge=1, description="looks without gain before stopping early")

    def rate(self, done: float) -> float:
        """Learning rate once the share ``done`` of the run is over."""
        if done < self.warm_up:
            return self.learning_rate * max(done / self.warm_up, 0.02)
        fall = 0.5 * (1 + math.cos(math.pi * min((done - self.warm_up) / (1 - self.warm_up), 1)))
        return self.learning_rate * (self.final_rate + (1 - self.final_rate) * fall)

    def share_done(self, step: int, seconds: float) -> float:
        """Share of the run that is over, by whichever limit comes first."""
        by_steps = step / self.steps if self.steps else 0.0
        by_clock = seconds / (60 * self.minutes) if self.minutes else 0.0
        return max(by_steps, by_clock)


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
        ``deepstorm`` or ``zernike``.
    source
        A recipe (object, packaged name or YAML file): samples are simulated as they are needed,
        none twice. Or a dataset file: its last samples are held out.
    seed
        Decides initial weights, samples and their order.
    config
        Fields of the network's config that differ from the defaults.
    plan
        Fields of :class:`Plan`; ``steps`` or ``minutes`` is required. Defaults are the network's.

    Raises
    ------
    TrainingError
        If the network does not fit the recipe, ``out`` holds a run and ``force`` is not set, a
        hyper-parameter is impossible, or the loss stops being a number.
    """
    if network not in NETWORKS:
        raise TrainingError(f"no network {network!r}: choose {' or '.join(NETWORKS)}")
    checked = _checked_plan(NETWORKS[network][0].plan | plan)
    folder = _checked_folder(Path(out), force)
    Key(seed)
    with _threads(threads) as count:
        data = open_source(source, seed, checked.batch_size, count)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            task = make_task(network, data.recipe, config)
        held_out = _held_out(data, checked)
        task.fit_scales(held_out)
        task.network.to(torch.device(device))
        loop = _Loop(task, checked, held_out, count, progress)
        loop.run(_batches(data, task, checked, seed))
        task.network.cpu()
        task.calibrate(run_network(task, held_out.images), held_out)
        final = task.judge(run_network(task, held_out.images), held_out)
        record = {"source": str(source) if not isinstance(source, Recipe) else source.name}
        record |= _circumstances(task, checked, seed, device) | loop.record() | {"held_out": final}
        return save(task, record, folder)


class _Loop:
    """State of one run: optimiser, clock, curves, and the best weights so far."""

    def __init__(
        self, task: Task, plan: Plan, held_out: Batch, threads: int, progress: bool
    ) -> None:
        self.task, self.plan, self.held_out, self.threads = task, plan, held_out, threads
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
        self.bar = _progress_bar(disable=not progress)

    def run(self, batches: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Update until the budget is spent or nothing is gained, then take the best weights."""
        begun, looks, smooth = time.perf_counter(), 0, math.nan
        with self.bar as bar:
            line = bar.add_task(self.task.kind, total=1.0, note="")
            while (done := self.plan.share_done(self.step, self.seconds)) < 1:
                waiting = time.perf_counter()
                inputs, targets = next(batches)
                self.waited += time.perf_counter() - waiting
                loss = self._update(inputs, targets, self.plan.rate(done))
                smooth = loss if math.isnan(smooth) else 0.95 * smooth + 0.05 * loss
                self.step, self.seconds = self.step + 1, time.perf_counter() - begun
                done = self.plan.share_done(self.step, self.seconds)
                if done >= (looks + 1) / self.plan.validations:
                    looks = int(done * self.plan.validations)
                    self._look(smooth)
                    self.seconds = time.perf_counter() - begun
                note = f"loss {smooth:.4g}, {self.step / self.seconds:.2g} steps/s"
                bar.update(line, completed=min(done, 1.0), note=note)
                if self._gains_nothing():
                    self.stopped = f"no gain in {self.plan.patience} looks at held-out samples"
                    break
        self.task.network.load_state_dict(self.best_weights)

    def _update(self, inputs: torch.Tensor, targets: torch.Tensor, rate: float) -> float:
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
        """Judge the network on held-out samples and keep its weights if they are the best."""
        output = run_network(self.task, self.held_out.images)
        loss = float(self.task.loss(output, self.task.targets(self.held_out)))
        self.curve.append(
            {
                "step": self.step,
                "seconds": self.seconds,
                "learning_rate": self.optimiser.param_groups[0]["lr"],
                "train_loss": train_loss,
                "validation_loss": loss,
                **self.task.judge(output, self.held_out),
            }
        )
        if loss < self.best:
            self.best, self.best_weights = loss, copy.deepcopy(self.task.network.state_dict())

    def _gains_nothing(self) -> bool:
        losses = [point["validation_loss"] for point in self.curve]
        return len(losses) - 1 - int(np.argmin([*losses, math.inf])) >= self.plan.patience

    def record(self) -> dict[str, Any]:
        """Curves and totals for the run's record."""
        columns = {name: [point[name] for point in self.curve] for name in self.curve[0]}
        finite = {k: [v if math.isfinite(v) else None for v in c] for k, c in columns.items()}
        return {
            "curves": finite,
            "stopped": self.stopped,
            "steps": self.step,
            "samples_seen": self.step * self.plan.batch_size,
            "seconds": self.seconds,
            "seconds_waiting_for_data": self.waited,
        }


def open_source(
    source: Recipe | str | Path, seed: int, batch_size: int, threads: int | None
) -> StreamingDataset | HDF5Dataset:
    """Stream of a recipe, or a dataset file."""
    if isinstance(source, Recipe) or str(source) in packaged_recipes():
        return StreamingDataset(
            source, training_seed(seed), batch_size=batch_size, stop=HELD_OUT_START, threads=threads
        )
    if Path(source).suffix.lower() in (".yaml", ".yml"):
        return StreamingDataset(
            source, training_seed(seed), batch_size=batch_size, stop=HELD_OUT_START, threads=threads
        )
    return HDF5Dataset(source)


def _held_out(data: Source, plan: Plan) -> Batch:
    if not isinstance(data, HDF5Dataset):
        return data.batch(HELD_OUT_START, HELD_OUT_START + plan.validation_samples)
    kept = len(data) - plan.validation_samples
    if kept < plan.batch_size:
        raise TrainingError(
            f"{data.path} has {len(data)} samples, too few for batch_size={plan.batch_size} and "
            f"validation_samples={plan.validation_samples}: generate more or lower these"
        )
    return data.batch(kept, len(data))


def _batches(
    data: StreamingDataset | HDF5Dataset, task: Task, plan: Plan, seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Inputs and targets without end: streamed, or runs of a file's samples in shuffled order."""

    def prepare(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        return task.inputs(batch.images), task.targets(batch)

    def varied(batch: Batch, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
        chance = Key(seed).child("learn/augment").uniform(batch.start, step=epoch)
        return task.augment(*prepare(batch), float(chance))

    if isinstance(data, StreamingDataset):
        data.transform = prepare
        yield from DataLoader(data, batch_size=None, generator=torch.Generator())
        return
    runs = (len(data) - plan.validation_samples) // plan.batch_size
    epoch = 0
    while True:
        order = np.argsort(Key(seed).child("learn/order").uniform(np.arange(runs), step=epoch))
        for start in (order * plan.batch_size).tolist():
            yield varied(data.batch(start, start + plan.batch_size), epoch)
        epoch += 1


def _checked_plan(plan: dict[str, Any]) -> Plan:
    if plan.get("steps") is None and plan.get("minutes") is None:
        raise TrainingError("neither steps nor minutes given: say how long to train")
    try:
        return Plan(**plan)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']} (got {problem['input']!r})"
            for problem in error.errors()
        )
        raise TrainingError(f"plan of the training: {problems}") from None


def _checked_folder(folder: Path, force: bool) -> Path:
    if (folder / RECORD).exists() and not force:
        raise TrainingError(f"{folder} holds a run already: choose another folder, or force")
    if folder.exists() and not folder.is_dir():
        raise TrainingError(f"{folder} is a file: choose a folder for the run")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"cannot make {folder}: {error}") from None
    return folder


@contextmanager
def _threads(threads: int | None) -> Iterator[int]:
    before = torch.get_num_threads()
    if threads is not None and threads < 1:
        raise TrainingError(f"threads={threads} is below 1: give at least one")
    torch.set_num_threads(threads or before)
    try:
        yield threads or before
    finally:
        torch.set_num_threads(before)


def _progress_bar(disable: bool) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    return Progress(*columns, console=Console(stderr=True), disable=disable)


def _circumstances(task: Task, plan: Plan, seed: int, device: str) -> dict[str, Any]:
    """What was trained, how, and where."""
    from simscope import __version__

    return {
        "network": task.kind,
        "parameters": sum(weights.numel() for weights in task.network.parameters()),
        "config": task.config.model_dump(mode="json"),
        "plan": plan.model_dump(mode="json"),
        "seed": seed,
        "recipe": task.recipe.name,
        "recipe_sha256": task.recipe.sha256,
        "versions": {
            "simscope": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "hardware": {
            "device": device,
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "bfloat16": bool(autocast(torch.device(device))._enabled),
        },
    }
