"""A trained network on disk: ``weights.safetensors``, ``config.json`` and ``run.json``.

Nothing is pickled, so opening a stranger's run executes nothing of theirs.
"""

from __future__ import annotations

import json
import math
import os
import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from simscope.dataset.folder import write_text
from simscope.errors import SimscopeError, SimscopeWarning, TrainingError
from simscope.learn.checkpoint import CHECKPOINT, write_tensors
from simscope.learn.compute import autocast
from simscope.learn.networks import network
from simscope.learn.plan import Plan
from simscope.learn.task import Task
from simscope.recipe import Recipe

WEIGHTS, CONFIG, RECORD = "weights.safetensors", "config.json", "run.json"


@dataclass(frozen=True)
class TrainedModel:
    """A network ready for use, with the record of how it came to be (``run.json``)."""

    task: Task
    record: dict[str, Any] = field(repr=False)
    folder: Path

    @property
    def kind(self) -> str:
        """Name of the network, such as ``deepstorm``."""
        return self.task.kind

    @property
    def recipe(self) -> Recipe:
        """The experiment it was trained on."""
        return self.task.recipe

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return sum(weights.numel() for weights in self.task.network.parameters())


def origin(recipe_sha256: str, seed: int) -> dict[str, Any]:
    """What decides every sample of a stream or file, by which a record names its training data."""
    return {"recipe_sha256": recipe_sha256, "seed": int(seed)}


def warn_if_trained_on(model: TrainedModel, data: Any) -> None:
    """Warn if an opened dataset has recipe and seed of the training data, so shares its samples."""
    if model.record.get("data") == origin(data.recipe_sha256, data.seed):
        warnings.warn(
            f"this data has the recipe and the seed ({data.seed}) the network was trained on, so "
            "it may hold the same samples: judge the network on data of another seed",
            SimscopeWarning,
            stacklevel=3,
        )


def make_task(name: str, recipe: Recipe, config: dict[str, Any] | None = None) -> Task:
    """An untrained network of the given name for a recipe.

    Raises
    ------
    TrainingError
        If there is no such network, or it does not fit the recipe.
    """
    task, model = network(name)
    try:
        checked = model(**(config or {}))
    except ValueError as error:
        raise TrainingError(f"config of {name}: {error}") from None
    return task(recipe, checked)


def seeded_task(name: str, recipe: Recipe, config: dict[str, Any] | None, seed: int) -> Task:
    """An untrained network with the seed's weights; PyTorch's own random state stays as it was.

    Raises
    ------
    TrainingError
        As :func:`make_task`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make_task(name, recipe, config)


def checked_folder(folder: Path, force: bool) -> Path:
    """The folder of a run, which may not be there yet; nothing is made or removed.

    Raises
    ------
    TrainingError
        If it cannot be made, or holds a run and ``force`` is not set.
    """
    if (folder / RECORD).exists() and not force:
        raise TrainingError(f"{folder} holds a run already: choose another folder, or force")
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise TrainingError(f"{nearest} is a file, no place for a run folder: choose another")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise TrainingError(f"folder {nearest} is not writable: choose another for the run")
    return folder


@contextmanager
def occupied(folder: Path, force: bool = False) -> Iterator[Path]:
    """The folder of a run, made if it is not there and this process's alone as long as it is used.

    ``force`` removes what an earlier run left. A folder in which nothing came to stand goes again.

    Raises
    ------
    TrainingError
        If it cannot be made, or another process is using it.
    """
    new = not folder.exists()
    handle = _prepared(folder, force)
    try:
        yield folder
    except KeyboardInterrupt as request:
        if force and (folder / CHECKPOINT).exists():
            request.add_note("leave --force out for that")
        raise
    finally:
        if handle is not None:
            os.close(handle)
        if new:
            with suppress(OSError):
                folder.rmdir()


def _prepared(folder: Path, force: bool) -> int | None:
    """Descriptor of a folder made, locked and, with ``force``, cleared."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = _locked(folder)
        checked_folder(folder, force)  # again: another process may just have finished
        for name in (RECORD, CHECKPOINT) if force else ():
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise TrainingError(f"cannot make the run folder {folder}: {error.strerror}") from None
    return handle


def _locked(folder: Path) -> int | None:
    """Descriptor that keeps other processes out until it is closed; None where none can."""
    if os.name != "posix":
        return None
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise TrainingError(
            f"another process is training in {folder}: wait for it, or choose another folder"
        ) from None
    except OSError:  # a file system without locks
        os.close(handle)
        return None
    return handle


def circumstances(task: Task, plan: Plan, seed: int, device: str, threads: int) -> dict[str, Any]:
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
            "threads": threads,
            "bfloat16": bool(autocast(torch.device(device))._enabled),
        },
    }


def save(task: Task, record: dict[str, Any], folder: Path) -> TrainedModel:
    """Write a network and its record into ``folder`` and return it as a model."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: v.cpu().contiguous() for name, v in task.network.state_dict().items()}
    write_tensors(folder / WEIGHTS, weights)
    config = {
        "network": task.kind,
        "config": task.config.model_dump(mode="json"),
        "recipe": task.recipe.written(),
    }
    write_text(folder / CONFIG, json.dumps(config, indent=1))
    record = _without_nan(record)
    write_text(folder / RECORD, json.dumps(record, indent=1, allow_nan=False))
    return TrainedModel(task, record, folder)


def _without_nan(value: Any) -> Any:
    """The same record with None for numbers that are not finite, which JSON cannot hold."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _fill(network: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Put weights into a network; ValueError if they are another's or no numbers."""
    own = network.state_dict()
    others = [
        name for name in sorted(own.keys() | weights.keys())
        if name not in own or name not in weights or own[name].shape != weights[name].shape
    ]  # fmt: skip
    if others:
        raise ValueError(f"{WEIGHTS} does not fit {CONFIG}, first at {others[0]}")
    if not all(torch.isfinite(values).all() for values in weights.values()):
        raise ValueError(f"{WEIGHTS} holds values that are not finite")
    network.load_state_dict(weights)


def load(folder: str | Path) -> TrainedModel:
    """The trained network in a run folder.

    Raises
    ------
    TrainingError
        If the folder holds no complete run, or its parts do not fit each other.
    """
    folder = Path(folder)
    missing = [name for name in (CONFIG, WEIGHTS, RECORD) if not (folder / name).is_file()]
    if missing:
        raise TrainingError(
            f"{folder} is no finished run, {', '.join(missing)} missing: give the folder that "
            "training wrote"
        )
    try:
        config = json.loads((folder / CONFIG).read_text("utf8"))
        task = make_task(config["network"], Recipe.from_dict(config["recipe"]), config["config"])
        _fill(task.network, load_file(folder / WEIGHTS))
        record = json.loads((folder / RECORD).read_text("utf8"))
        if not isinstance(record, dict) or not {"network", "seed"} <= record.keys():
            raise ValueError(f"{RECORD} is no record of a training")
    except SimscopeError as error:
        raise TrainingError(f"{folder}: {error}") from None
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise TrainingError(f"{folder} is damaged ({error}): train again") from None
    return TrainedModel(task, record, folder)
