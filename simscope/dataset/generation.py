"""Simulate samples straight into a file, with memory that does not grow with their number."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from simscope.acquire import Chunk, Simulator
from simscope.copies import Arrival, copies
from simscope.dataset.forecasting import readable_bytes, timed_trial
from simscope.dataset.schema import Layout, checked_samples
from simscope.dataset.write import DatasetWriter, require_writable
from simscope.errors import DatasetError
from simscope.recipe import Recipe
from simscope.recipe.base import file_references

CHUNK_BYTES, GPU_CHUNK_BYTES = 16 << 20, 256 << 20

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
    device: str = "cpu",
) -> Path:
    """Path of a new dataset file with samples 0 to ``samples - 1`` of a recipe.

    ``progress(done, total)`` is called in samples. ``expected`` also stores the noiseless light.
    ``device`` as for :class:`simscope.Simulator`: the file's samples do not depend on it.

    Raises
    ------
    DatasetError
        If ``samples`` is not a whole number in ``[1, 2**32]``; if ``out`` exists (unless
        ``force``), is no regular file or a file the recipe reads, its folder cannot be written, or
        the disk has too little room.
    RecipeError, OpticsError, SampleError, CameraError
        If the recipe describes no possible experiment.
    DeviceError
        If the device is unknown, or ``cuda`` cannot be used here.
    """
    samples = checked_samples(samples)
    inputs = [] if isinstance(recipe, Recipe) else [recipe]
    target = require_writable(Path(out), force=force, inputs=inputs)
    sim = Simulator(recipe, seed, threads=threads, device=device)
    require_writable(Path(out), force=force, inputs=file_references(sim.recipe).values())
    layout = Layout.of(sim, samples=samples, expected=expected)
    require_room(sim, layout, target.parent)
    with DatasetWriter(out, layout, force=force) as writer:
        if sim.resolved.camera.kind == "scmos":
            writer.write_camera_maps(sim.maps)
        write_samples(sim, writer, progress)
        writer.note(sim.warnings, sim.report)
        return writer.finish()


def require_room(sim: Simulator, layout: Layout, folder: Path) -> None:
    """Refuse a file that its folder's disk cannot hold, before the first sample is written.

    Raises
    ------
    DatasetError
        If a short trial, scaled up, needs more than the free space.
    """
    free = shutil.disk_usage(folder).free
    if 2 * layout.raw_bytes < free:  # nothing compresses that badly: spare the trial
        return
    needed = layout.fixed_bytes + timed_trial(sim, layout).sample_bytes * layout.samples
    if needed > free:
        raise DatasetError(
            f"{layout.samples} samples need about {readable_bytes(needed)}, {folder} has "
            f"{readable_bytes(free)} free: ask for fewer samples or choose another disk"
        )


def write_samples(sim: Simulator, writer: DatasetWriter, progress: Progress | None) -> None:
    """Store all samples; the next chunk is simulated while the last one is compressed.

    Chunks of a GPU come to the host beside its work, by two buffers in turn.
    """
    layout = writer.layout
    largest = GPU_CHUNK_BYTES if sim.device.is_gpu else CHUNK_BYTES
    chunks = sim.chunks(
        0, layout.samples, max_bytes=largest, expected=layout.expected, on_device=True
    )
    arriving = copies(sim.device)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="simscope-write") as pool:
        writing: Future[None] | None = None
        for chunk in chunks:
            arrival = arriving.start(chunk.arrays()) if sim.device.is_gpu else None
            if writing is not None:
                writing.result()
            writing = pool.submit(_store, writer, chunk, arrival)
            if progress is not None:
                progress(chunk.sample_stop, layout.samples)
        if writing is not None:
            writing.result()


def _store(writer: DatasetWriter, chunk: Chunk, arrival: Arrival | None) -> None:
    """Write a chunk with the parameters of the samples that begin in it, in one thread."""
    if chunk.frame_start == 0:
        writer.write_parameters(chunk.sample_start, chunk.parameters)
    writer.append(chunk.with_arrays(chunk.arrays() if arrival is None else arrival.wait()))
    if arrival is not None:
        arrival.release()
