"""The training loop: one plain loop for every network.

Learning rate: linear warm-up, then half a cosine down (Loshchilov and Hutter 2017, ICLR; one cycle
as Smith 2018, arXiv:1803.09820). Steps: :mod:`simscope.learn.optimiser`. Gradients are clipped to
a norm. The weights with the lowest loss on validation samples are kept.
"""

from __future__ import annotations

import copy
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simscope.acquire import Batch
from simscope.errors import TrainingError
from simscope.learn.checkpoint import Standing, Weights, load_checkpoint, save_checkpoint
from simscope.learn.compute import autocast, run_network
from simscope.learn.feed import Feed
from simscope.learn.optimiser import Optimiser
from simscope.learn.plan import Plan
from simscope.learn.task import Task
from simscope.learn.watching import Watch

SECONDS_AT_RISK = 30.0
"""A kill loses at most this much of the work."""


class Loop:
    """One run: optimiser, where it stands, and the best weights so far."""

    def __init__(
        self, task: Task, plan: Plan, validation: Batch, threads: int, folder: Path,
        identity: dict[str, Any],
    ) -> None:  # fmt: skip
        self.task, self.plan, self.validation, self.threads = task, plan, validation, threads
        self.wanted = task.targets(validation)
        self.folder, self.identity, self.stopped = folder, identity, "budget spent"
        self.device = next(task.network.parameters()).device
        self.optimiser = Optimiser.of(task.network, plan)
        stood = load_checkpoint(folder, identity, task.network, self.optimiser)
        fresh: tuple[Standing, Weights] = Standing(), task.network.state_dict()
        self.standing, self.best = stood or fresh
        self.resumed_at = self.standing.step

    def run(self, feed: Feed, watch: Watch) -> None:
        """Update until the budget is spent or nothing is gained, then take the best weights."""
        standing = self.standing
        begun = time.perf_counter() - standing.seconds
        begun_cpu = time.process_time() - standing.cpu_seconds
        prepared, saved = standing.prepared, time.perf_counter()
        try:
            while (done := self._done()) < 1 and not self._gains_nothing():
                waiting = time.perf_counter()
                inputs, targets = next(feed)
                standing.waited += time.perf_counter() - waiting
                loss = self._update(inputs, targets, self.plan.rate(done))
                first = math.isnan(standing.smooth_loss)
                standing.smooth_loss = loss if first else 0.95 * standing.smooth_loss + 0.05 * loss
                standing.step += 1
                standing.prepared = prepared + feed.seconds_preparing
                self._clock(begun, begun_cpu)
                if self._done() >= (standing.looks + 1) / self.plan.validations:
                    self._look(watch)
                    self._clock(begun, begun_cpu)
                watch.update(self._done(), standing.smooth_loss, standing.step / standing.seconds)
                if time.perf_counter() - saved > SECONDS_AT_RISK:
                    self._save()
                    saved = time.perf_counter()
        except KeyboardInterrupt as request:
            self._save()
            request.add_note(f"the same command goes on after step {standing.step}")
            raise
        if self._done() < 1:
            self.stopped = f"no gain in {self.plan.patience} looks at validation samples"
        self.task.network.load_state_dict(self.best)

    def _clock(self, begun: float, begun_cpu: float) -> None:
        self.standing.seconds = time.perf_counter() - begun
        self.standing.cpu_seconds = time.process_time() - begun_cpu

    def _done(self) -> float:
        at = self.standing
        return self.plan.share_done(at.step, at.seconds, at.cpu_seconds)

    def _update(self, inputs: torch.Tensor, targets: torch.Tensor, rate: float) -> float:
        """One step of the optimiser; the loss before it."""
        torch.set_num_threads(self.threads)  # Numba shares OpenMP's count and may have changed it
        network = self.task.network.train()
        with autocast(self.device):
            output = network(inputs.to(self.device, non_blocking=True))
        loss = self.task.loss(output, targets.to(self.device, non_blocking=True))
        network.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), self.plan.clip_norm)
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingError(
                f"loss={value} at step {self.standing.step} is no number: lower learning_rate="
                f"{self.plan.learning_rate:g}"
            )
        self.optimiser.step(rate)
        return value

    def _look(self, watch: Watch) -> None:
        """Judge the network on validation samples and keep its weights if they are the best."""
        standing = self.standing
        output = run_network(self.task, self.validation.images, fast=True)
        loss = float(self.task.loss(output, self.wanted))
        point = {
            "step": standing.step,
            "seconds": standing.seconds,
            "cpu_seconds": standing.cpu_seconds,
            "learning_rate": self.optimiser.learning_rate,
            "train_loss": standing.smooth_loss,
            "validation_loss": loss,
            **self.task.judge(output, self.validation),
        }
        standing.looks = int(self._done() * self.plan.validations)
        standing.curve.append(point)
        watch.look(point)
        if loss < standing.best_loss:
            standing.best_loss, self.best = loss, copy.deepcopy(self.task.network.state_dict())

    def _save(self) -> None:
        save_checkpoint(
            self.folder, self.identity, self.standing, self.task.network, self.best, self.optimiser
        )

    def _gains_nothing(self) -> bool:
        """Whether validation samples have not been better for as long as the plan's patience."""
        losses = [point["validation_loss"] for point in self.standing.curve]
        return len(losses) - 1 - int(np.argmin([*losses, math.inf])) >= self.plan.patience

    def record(self) -> dict[str, Any]:
        """Curves and totals for the run's record."""
        at = self.standing
        return {
            "curves": {name: [point[name] for point in at.curve] for name in at.curve[0]},
            "stopped": self.stopped,
            "resumed_at_step": self.resumed_at or None,
            "steps": at.step,
            "samples_seen": at.step * self.plan.batch_size,
            "seconds": at.seconds,
            "cpu_seconds": at.cpu_seconds,
            "seconds_waiting_for_data": at.waited,
            "seconds_preparing_targets": at.prepared,
        }
