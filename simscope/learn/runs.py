"""A trained network on disk: ``weights.npz`` (plain arrays), ``config.json`` and ``run.json``.

Nothing is pickled, so opening a stranger's run executes nothing of theirs.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from simscope.errors import SimscopeError, TrainingError
from simscope.learn.deepstorm import DeepStormConfig, DeepStormTask
from simscope.learn.task import Task
from simscope.learn.zernike import ZernikeConfig, ZernikeTask
from simscope.recipe import Recipe

NETWORKS: dict[str, tuple[type[Any], type[Any]]] = {
    "deepstorm": (DeepStormTask, DeepStormConfig),
    "zernike": (ZernikeTask, ZernikeConfig),
}
WEIGHTS, CONFIG, RECORD = "weights.npz", "config.json", "run.json"


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

    def predict(self, images: npt.NDArray[Any]) -> torch.Tensor:
        """Raw output of the network for counts [ADU], float32, on the CPU."""
        return run_network(self.task, images)


def run_network(task: Task, images: npt.NDArray[Any]) -> torch.Tensor:
    """Output of the network for counts [ADU], float32, on the CPU."""
    network = task.network
    weight = next(network.parameters())
    network.eval()
    with torch.inference_mode(), autocast(weight.device):
        return network(task.inputs(images).to(weight.device)).float().cpu()


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 for convolutions where the processor has it in hardware, else float32."""
    cpu_has_it = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else cpu_has_it
    return torch.autocast(device.type, torch.bfloat16, enabled=bool(fast))


def make_task(name: str, recipe: Recipe, config: dict[str, Any] | None = None) -> Task:
    """An untrained network of the given name for a recipe.

    Raises
    ------
    TrainingError
        If there is no such network, or it does not fit the recipe.
    """
    if name not in NETWORKS:
        raise TrainingError(f"no network {name!r}: choose {' or '.join(NETWORKS)}")
    task, model = NETWORKS[name]
    try:
        checked = model.model_validate(config or {})
    except ValueError as error:
        raise TrainingError(f"config of {name}: {error}") from None
    made: Task = task(recipe, checked)
    return made


def save(task: Task, record: dict[str, Any], folder: Path) -> TrainedModel:
    """Write a network and its record into ``folder`` and return it as a model."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {name: value.cpu().numpy() for name, value in task.network.state_dict().items()}
    np.savez(folder / WEIGHTS, **arrays)
    config = {
        "network": task.kind,
        "config": task.config.model_dump(mode="json"),
        "recipe": task.recipe.written(),
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=1), "utf8")
    (folder / RECORD).write_text(json.dumps(record, indent=1), "utf8")
    return TrainedModel(task, record, folder)


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
        with np.load(folder / WEIGHTS, allow_pickle=False) as arrays:
            weights = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        task.network.load_state_dict(weights)
        record = json.loads((folder / RECORD).read_text("utf8"))
    except SimscopeError as error:
        raise TrainingError(f"{folder}: {error}") from None
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        raise TrainingError(f"{folder} is damaged ({error}): train again") from None
    return TrainedModel(task, record, folder)
