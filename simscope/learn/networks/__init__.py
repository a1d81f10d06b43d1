"""The networks, one readable file each, by the names that ``simscope train`` knows.

Modules are imported when a network is first asked for.
"""

from __future__ import annotations

import importlib
from typing import Any

from simscope.errors import TrainingError, did_you_mean
from simscope.learn.task import Task
from simscope.recipe import Model

NETWORKS: dict[str, tuple[str, str, str]] = {
    "deepstorm": ("deepstorm", "DeepStormTask", "DeepStormConfig"),
    "deepstorm-slim": ("deepstorm_slim", "DeepStormSlimTask", "DeepStormSlimConfig"),
    "decode": ("decode", "DecodeTask", "DecodeConfig"),
    "deepstorm3d": ("deepstorm3d", "DeepStorm3dTask", "DeepStorm3dConfig"),
    "unet": ("unet", "UNetTask", "UNetConfig"),
    "psf-blind": ("psf_blind", "PsfBlindTask", "PsfBlindConfig"),
    "zernike": ("zernike", "ZernikeTask", "ZernikeConfig"),
}
"""Name -> module, task and config of every network."""


def network(name: str) -> tuple[type[Task], type[Model]]:
    """Task and config of the network of a name.

    Raises
    ------
    TrainingError
        If there is none.
    """
    if name not in NETWORKS:
        hint = did_you_mean(name, NETWORKS)
        raise TrainingError(
            f"no network {name!r}: choose {', '.join(NETWORKS)}; {hint}".rstrip("; ")
        )
    module, task, config = NETWORKS[name]
    home: Any = importlib.import_module(f"simscope.learn.networks.{module}")
    return getattr(home, task), getattr(home, config)
