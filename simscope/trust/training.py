"""The networks a study trains: which they are, how long they take, and training what is missing.

Every run has a folder named after what was asked for, with a hash of it, so that finished runs are
kept as long as the study asks for the same, and a killed study goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from simscope.dataset import generate
from simscope.errors import SimscopeError, SimscopeWarning, StudyError
from simscope.recipe import Recipe
from simscope.trust.study import AS_TRAINED, Study

Role = Literal["seed", "size", "microscope"]
Tell = Callable[[str], None]
RUNS, DATA = "runs", "data"
TRIAL_STEPS = (2, 6)
DATA_SEED = 1_000_003
"""Seed of finite training sets."""


@dataclass(frozen=True)
class Run:
    """One training a study asks for; ``name`` is that of its folder."""

    role: Role
    label: str
    network: str
    recipe: Recipe
    seed: int
    config: dict[str, Any]
    plan: dict[str, Any]
    threads: int
    device: str = "cpu"
    samples: int | None = None

    @property
    def name(self) -> str:
        """Name of the run's folder: what it is, and a hash of all that decides it."""
        text = json.dumps(self.to_json(), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        word = "".join(sign if sign.isalnum() else "-" for sign in f"{self.role}-{self.label}")
        return f"{word}-{digest}"

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return values | {"recipe": self.recipe.written()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Run:
        """The run that :meth:`to_json` wrote."""
        return cls(**values | {"recipe": Recipe.from_dict(values["recipe"])})

    def folder(self, out: Path) -> Path:
        """Where the run lies in a study's folder."""
        return out / RUNS / self.name

    def is_finished(self, out: Path) -> bool:
        """Whether it was trained to its end."""
        return (self.folder(out) / "run.json").is_file()

    def data(self, out: Path) -> Path:
        """The file with the run's finite training set."""
        return out / DATA / f"train-{self.stored_samples}-{self.recipe.sha256[:8]}.h5"

    @property
    def stored_samples(self) -> int:
        """Samples in the training file: those trained on, and those kept from training."""
        return (self.samples or 0) + 2 * int(self.plan["validation_samples"])


def runs_of(study: Study) -> list[Run]:
    """Every training of a study: its seeds, its finite training sets, its other microscopes.

    Finite sets and other microscopes are trained with the first seed, all for the same budget.

    Raises
    ------
    TrainingError
        If there is no such network, or it does not fit one of the recipes.
    """
    from simscope.learn.networks import network
    from simscope.learn.plan import checked_plan
    from simscope.learn.runs import make_task

    budget = study.budget.model_dump(exclude_none=True)
    plan = checked_plan(network(study.network)[0].plan | study.plan | budget)
    hyper = {"validation_samples": plan.validation_samples, **study.plan, **budget}
    recipes = {
        name.removeprefix("microscopes/"): recipe
        for name, recipe in study.recipes().items()
        if name.startswith("microscopes/")
    }
    for recipe in recipes.values():
        make_task(study.network, recipe, study.config)
    common: dict[str, Any] = {
        "network": study.network, "config": study.config, "plan": hyper, "threads": study.threads,
        "device": study.device,
    }  # fmt: skip
    base, first = recipes.pop(AS_TRAINED), study.seeds[0]
    runs = [Run("seed", str(seed), recipe=base, seed=seed, **common) for seed in study.seeds]
    for size in sorted(study.sizes):
        _require_a_batch(size, plan.batch_size)
        runs.append(Run("size", str(size), recipe=base, seed=first, samples=size, **common))
    for name, recipe in recipes.items():
        runs.append(Run("microscope", name, recipe=recipe, seed=first, **common))
    return runs


def _require_a_batch(size: int, batch_size: int) -> None:
    if size < batch_size:
        raise StudyError(
            f"sizes: {size} samples are fewer than batch_size={batch_size}: train on more"
        )


def train_all(
    runs: Sequence[Run], out: Path, *, jobs: int = 1, tell: Tell = print, progress: bool = True
) -> None:
    """Train every run that is not finished, ``jobs`` at a time.

    Raises
    ------
    SimscopeError
        If a training fails; the runs that are finished stay.
    """
    missing = [run for run in runs if not run.is_finished(out)]
    if len(missing) < len(runs):
        tell(f"{len(runs) - len(missing)} of {len(runs)} runs are there already")
    for run in missing:
        _store_data(run, out, tell)
    if jobs == 1 or len(missing) < 2:
        for number, run in enumerate(missing):
            tell(f"run {number + 1} of {len(missing)}: {run.role} {run.label}")
            train_one(run, out, progress)
        return
    from simscope.trust.jobs import train_side_by_side

    ended: list[Run] = []

    def trained(run: Run) -> None:
        ended.append(run)
        tell(f"trained {len(ended)} of {len(missing)}: {run.role} {run.label}")

    train_side_by_side(missing, out, jobs, trained)


def _store_data(run: Run, out: Path, tell: Tell) -> None:
    """Simulate the finite training set of a run, unless it is there."""
    if run.samples is None:
        return
    path = run.data(out)
    if not path.exists():
        tell(f"simulating {run.stored_samples:,} samples to train on")
        path.parent.mkdir(parents=True, exist_ok=True)
        generate(run.recipe, run.stored_samples, DATA_SEED, path)


def train_one(run: Run, out: Path, progress: bool) -> None:
    """Train one run into its folder; an unfinished one goes on."""
    from simscope import learn

    source: Any = run.recipe if run.samples is None else run.data(out)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SimscopeWarning)
        learn.train(
            run.network, source, out=run.folder(out), seed=run.seed, config=run.config,
            threads=run.threads, device=run.device, progress=progress, **run.plan,
        )  # fmt: skip


def seconds_per_step(run: Run) -> float:
    """Wall time [s] of an update, from a short trial whose result is thrown away."""
    from simscope import learn

    small = {"validation_samples": 2, "validations": 1}
    plan = {name: v for name, v in run.plan.items() if name not in ("cpu_minutes", "minutes")}
    times = []
    for steps in TRIAL_STEPS:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore", SimscopeWarning)
            trial = learn.train(
                run.network, run.recipe, out=Path(folder) / "trial", seed=run.seed,
                config=run.config, threads=run.threads, device=run.device, progress=False,
                **plan | small | {"steps": steps},
            )  # fmt: skip
            times.append(float(trial.record["seconds"]))
    return max(times[1] - times[0], 1e-3) / (TRIAL_STEPS[1] - TRIAL_STEPS[0])


def expected_minutes(runs: Sequence[Run], out: Path, jobs: int = 1) -> float:
    """Minutes the trainings still to be done will take; a short trial tells where steps are given.

    Tests and pictures come on top, a minute or two.
    """
    missing = [run for run in runs if not run.is_finished(out)]
    if not missing:
        return 0.0
    plan, each = missing[0].plan, 0.0
    if plan.get("steps"):
        each = seconds_per_step(missing[0]) * plan["steps"] / 60
    else:
        each = plan.get("minutes") or plan["cpu_minutes"] / missing[0].threads
    return each * -(-len(missing) // jobs)


def duration_words(minutes: float) -> str:
    """A time in seconds, minutes or hours, as one says it."""
    if minutes < 1:
        return f"{max(60 * minutes, 1):.0f} seconds"
    return f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"


def checked_out(folder: Path) -> Path:
    """The folder of a study, made if needed.

    Raises
    ------
    StudyError
        If it is a file or cannot be made.
    """
    if folder.exists() and not folder.is_dir():
        raise StudyError(f"{folder} is a file: give the name of a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(f"cannot make the folder {folder}: {error.strerror}") from None
    return folder


def checked_jobs(jobs: int) -> int:
    """Trainings at a time.

    Raises
    ------
    SimscopeError
        If it is none.
    """
    if not 1 <= jobs <= 64:
        raise SimscopeError(f"jobs={jobs} is not in 1 to 64: give the trainings at a time")
    return jobs
