"""Where a run stands, on disk: after a kill, training goes on from here to the same curve.

One safetensors file holds the weights, the best weights so far and the optimiser's moments, with
everything else as JSON in its header. It takes the place of the one before in a single step.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from simscope.dataset.output import replacing
from simscope.errors import TrainingError
from simscope.learn.optimiser import Optimiser

CHECKPOINT = "checkpoint.safetensors"
Weights = dict[str, torch.Tensor]


@dataclass
class Standing:
    """How far a run has come: updates, looks at validation samples, time, losses, curve."""

    step: int = 0
    looks: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    waited: float = 0.0
    prepared: float = 0.0
    smooth_loss: float = math.nan
    best_loss: float = math.inf
    curve: list[dict[str, float]] = field(default_factory=list)


def save_checkpoint(
    folder: Path,
    identity: dict[str, Any],
    standing: Standing,
    network: torch.nn.Module,
    best: Weights,
    optimiser: Optimiser,
) -> None:
    """Write where a run stands; ``identity`` says which run it is."""
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in best.items()}
    tensors |= {f"optimiser.{name}": value for name, value in optimiser.state().items()}
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    header = {"identity": json.dumps(identity), "standing": json.dumps(asdict(standing))}
    write_tensors(folder / CHECKPOINT, plain, header)


def write_tensors(path: Path, tensors: Weights, header: dict[str, str] | None = None) -> None:
    """Write a safetensors file in one step; what stood there stays if that fails.

    Raises
    ------
    TrainingError
        If the disk refuses.
    """
    with replacing(path, force=True) as part:
        try:
            save_file(tensors, part, header)
        except SafetensorError as error:  # how that package tells of a full disk
            reason = str(error).removeprefix("Error while serializing: ")
            raise TrainingError(
                f"cannot write {path}: {reason}; make room and repeat the command"
            ) from None


def load_checkpoint(
    folder: Path,
    identity: dict[str, Any],
    network: torch.nn.Module,
    optimiser: Optimiser,
) -> tuple[Standing, Weights] | None:
    """Where a run in ``folder`` stood and its best weights; None if it has not begun.

    Weights and moments go into ``network`` and ``optimiser``.

    Raises
    ------
    TrainingError
        If the file is damaged or of another run.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        _require_same(path, json.loads(header["identity"]), identity)
        standing = Standing(**json.loads(header["standing"]))
        network.load_state_dict(_under("network.", tensors))
        optimiser.restore(_under("optimiser.", tensors))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise TrainingError(f"{path} is damaged ({error}): delete it, or force") from None
    return standing, _under("best.", tensors)


def _under(prefix: str, tensors: Weights) -> Weights:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _require_same(path: Path, was: dict[str, Any], now: dict[str, Any]) -> None:
    """Return nothing; raise if the file belongs to a run asked for in another way."""
    changed = [name for name in {**was, **now} if was.get(name) != now.get(name)]
    if changed:
        name = changed[0]
        raise TrainingError(
            f"{path} is of a run with {name}={was.get(name)}, now {name}={now.get(name)}: repeat "
            "its settings to go on, choose another folder, or force"
        )
