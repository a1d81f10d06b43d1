"""Compile ahead of time what recipes will need, so that nothing waits later."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np
import numpy.typing as npt

from simscope.acquire import Simulator
from simscope.dataset import codec
from simscope.errors import SimscopeError, SimscopeWarning
from simscope.kernels.addressed import uniform_at
from simscope.kernels.caching import REMEDY
from simscope.kernels.notice import NOTICE
from simscope.recipe import Recipe, load_recipe, packaged_recipes

FRAMES = 64  # enough for kernels to share them between threads; a sample alone may take others


@dataclass(frozen=True)
class Warmed:
    """What making one recipe ready took: its name, the functions compiled, and seconds."""

    recipe: str
    compiled: int
    seconds: float


def warm_up(
    recipes: Iterable[Recipe | str | Path] = (),
    *,
    cache: Path | None = None,
    report: Callable[[Warmed], None] | None = None,
) -> list[Warmed]:
    """Time and compiled functions of each recipe, all packaged ones if none is given.

    A few frames of every recipe are simulated on one thread and on all, so that its kernels and
    its PSF table are on disk afterwards; ``cache`` is the folder of the tables.

    Raises
    ------
    SimscopeError
        If compiled kernels cannot be kept.
    """
    kernel_folder()
    done = []
    for recipe in recipes or packaged_recipes():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SimscopeWarning)  # about images nobody will see
            done.append(_warm_one(load_recipe(recipe), cache))
        if report is not None:
            report(done[-1])
    return done


def kernel_folder() -> Path:
    """Folder that keeps compiled kernels; SimscopeError where they cannot be kept."""
    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        raise SimscopeError("nothing is compiled while NUMBA_DISABLE_JIT is set: unset it")
    folder = uniform_at.stats.cache_path
    if folder is None:
        raise SimscopeError(f"compiled kernels cannot be kept, and {REMEDY}")
    return Path(folder)


def _warm_one(recipe: Recipe, cache: Path | None) -> Warmed:
    start, before = time.monotonic(), NOTICE.compiled
    for threads in sorted({1, int(numba.config.NUMBA_NUM_THREADS)}):  # type: ignore[attr-defined]
        simulator = Simulator(recipe, 0, threads=threads, cache=cache)
        samples = max(1, FRAMES // simulator.frames_per_sample)
        pack_and_unpack(next(iter(simulator.chunks(0, samples))).images[0])
        simulator[0]
    return Warmed(recipe.name, NOTICE.compiled - before, time.monotonic() - start)


def pack_and_unpack(images: npt.NDArray[np.uint16]) -> None:
    """Store and read frames in memory, as files do."""
    kind, frames = codec.named("default"), np.ascontiguousarray(images)
    for packed in kind.pack(frames[:1]):
        kind.unpack(packed, np.empty_like(frames[0]))
