"""Simulate samples straight into a file, with memory that does not grow with their number."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from simscope.acquire import Simulator
from simscope.dataset.schema import Layout
from simscope.dataset.write import DatasetWriter, require_writable
from simscope.errors import DatasetError
from simscope.recipe import Recipe

CHUNK_BYTES = 16 << 20
PARAMETER_BLOCK = 1 << 16

Progress = Callable[[int, int], None]


def generate(
    recipe: Recipe | str | Path,
    samples: int,
    seed: int,
    out: str | os.PathLike[str],
    *,
    force: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
    expected: bool = False,
) -> Path:
    """Path of a new dataset file with samples 0 to ``samples - 1`` of a recipe.

    ``progress(done, total)`` is called in samples. ``expected`` also stores the noiseless light.

    Raises
    ------
    DatasetError
        If ``out`` exists (unless ``force``), its folder cannot be written, or the disk is full.
    RecipeError, OpticsError, SampleError, CameraError
        If the recipe describes no possible experiment.
    """
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
        raise DatasetError(f"samples={samples!r} is not a whole number above 0: ask for at least 1")
    require_writable(Path(out), force=force)
    sim = Simulator(recipe, seed, threads=threads)
    layout = Layout.of(sim, samples=samples, expected=expected)
    with DatasetWriter(out, layout, force=force) as writer:
        write_samples(sim, writer, progress)
        writer.note(sim.warnings, sim.report)
        return writer.finish()


def write_samples(sim: Simulator, writer: DatasetWriter, progress: Progress | None) -> None:
    """Store all samples; the next chunk is simulated while the last one is compressed."""
    layout = writer.layout
    for start in range(0, layout.samples, PARAMETER_BLOCK):
        stop = min(start + PARAMETER_BLOCK, layout.samples)
        writer.write_parameters(start, sim.parameters(start, stop))
    chunks = sim.chunks(0, layout.samples, max_bytes=CHUNK_BYTES, expected=layout.expected)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="simscope-write") as pool:
        writing: Future[None] | None = None
        for chunk in chunks:
            if writing is not None:
                writing.result()
            writing = pool.submit(writer.append, chunk)
            if progress is not None:
                progress(chunk.sample_stop, layout.samples)
        if writing is not None:
            writing.result()
