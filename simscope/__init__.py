"""simscope: a physics-based microscope simulator with exact ground truth.

Everything is imported on first use, so ``import simscope`` costs next to nothing and never pulls in
PyTorch, matplotlib or CuPy by itself.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simscope import camera, dataset, evaluate, learn, optics, sample, show, tables, targets
    from simscope.acquire import Batch, Sample, Simulator
    from simscope.dataset import Dataset, batches, generate, open_dataset
    from simscope.errors import SimscopeError, SimscopeWarning
    from simscope.keys import Key
    from simscope.optics.psf import psf
    from simscope.recipe import (
        ConeDipole,
        FixedDipole,
        FreeDipole,
        Optics,
        Recipe,
        load_recipe,
        packaged_recipes,
    )

__version__ = "0.1.0"

_HOMES = {
    "Batch": "simscope.acquire",
    "ConeDipole": "simscope.recipe",
    "Dataset": "simscope.dataset",
    "FixedDipole": "simscope.recipe",
    "FreeDipole": "simscope.recipe",
    "Key": "simscope.keys",
    "Optics": "simscope.recipe",
    "Recipe": "simscope.recipe",
    "Sample": "simscope.acquire",
    "SimscopeError": "simscope.errors",
    "SimscopeWarning": "simscope.errors",
    "Simulator": "simscope.acquire",
    "batches": "simscope.dataset",
    "generate": "simscope.dataset",
    "load_recipe": "simscope.recipe",
    "open_dataset": "simscope.dataset",
    "packaged_recipes": "simscope.recipe",
    "psf": "simscope.optics",
}
_ROOMS = {
    "camera",
    "dataset",
    "evaluate",
    "learn",
    "optics",
    "sample",
    "show",
    "tables",
    "targets",
}

__all__ = [
    "Batch",
    "ConeDipole",
    "Dataset",
    "FixedDipole",
    "FreeDipole",
    "Key",
    "Optics",
    "Recipe",
    "Sample",
    "SimscopeError",
    "SimscopeWarning",
    "Simulator",
    "__version__",
    "batches",
    "camera",
    "dataset",
    "evaluate",
    "generate",
    "learn",
    "load_recipe",
    "open_dataset",
    "optics",
    "packaged_recipes",
    "psf",
    "sample",
    "show",
    "tables",
    "targets",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"simscope.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'simscope' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
