"""Simulate pieces of a run into files: the last one is packed and checked while the next is made.

One thread simulates, others pack, write, sync and check; at most two chunks wait between them, so
memory does not grow with what is asked for. A simulator limited to one thread packs in that thread
as well, and leaves only what waits for the disk to another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from simscope.acquire import Chunk, Simulator
from simscope.copies import Arrival, copies
from simscope.dataset.plan import Entry, Piece, Plan
from simscope.dataset.write import DatasetWriter

CHUNK_BYTES, GPU_CHUNK_BYTES = 16 << 20, 256 << 20

LEAN_CHUNK_BYTES = 4 << 20
"""Chunks where targets are stored, which may be a hundred times as large as the frames."""

WAITING = 2
"""Chunks that may wait for the writing thread."""

MOST_PACKING = 8
"""Threads that pack the chunks of a file, at most."""


def produce(
    sim: Simulator, plan: Plan, piece: Piece, path: Path, *, part: Path | None = None,
    progress: Callable[[int], None] | None = None, force: bool = False,
) -> Entry:  # fmt: skip
    """Entry of a new file with one piece of a plan; errors as in :class:`DatasetWriter`."""
    made: list[Entry] = []
    with Production(sim, plan, finished=lambda _, entry: made.append(entry)) as production:
        production.make(piece, path, part=part, progress=progress, force=force)
    return made[0]


class Production:
    """Context manager that makes pieces one after the other, in files of their own.

    ``finished(piece, entry)`` is called in the writing thread once a file is at its name. Leaving
    the block waits for all of them; leaving it by an error removes what is incomplete.
    """

    def __init__(
        self, sim: Simulator, plan: Plan, *, finished: Callable[[Piece, Entry], None]
    ) -> None:
        self._sim, self._plan, self._finished = sim, plan, finished
        self._arriving = copies(sim.device)
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="simscope-write")
        self._queue: deque[Future[None]] = deque()
        self._open: list[DatasetWriter] = []
        self._begun: set[Path] = set()  # parts with names of their own, which nobody else finds

    def __enter__(self) -> Production:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            if kind is None:
                self._wait(0)
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)
            for writer in self._open:
                writer.__exit__(kind, *error)
            for begun in self._begun:  # an interruption may come before a writer is open
                begun.unlink(missing_ok=True)

    def make(
        self, piece: Piece, path: Path, *, part: Path | None = None,
        progress: Callable[[int], None] | None = None, force: bool = False,
    ) -> None:  # fmt: skip
        """Simulate a piece; ``progress(frames)`` is told how many of its frames are made.

        Errors of pieces before come to light here as well.
        """
        sim = self._sim
        sim.fresh_warnings()
        if part is not None:
            self._begun.add(part)
        writer = DatasetWriter(
            path, self._plan, piece, part=part, force=force, threads=min(sim.threads, MOST_PACKING)
        )
        self._open.append(writer)
        if sim.resolved.camera.kind == "scmos":
            writer.write_camera_maps(sim.maps)
        made = 0
        for chunk in self._chunks(piece):
            arrival = self._arriving.start(chunk.arrays()) if sim.device.is_gpu else None
            if sim.threads == 1:
                _store(writer, piece, chunk, arrival)
            else:
                self._submit(_store, writer, piece, chunk, arrival)
            made += len(chunk.emitter_offsets) - 1
            if progress is not None:
                progress(made)
        self._submit(self._finish, writer, piece, list(sim.warnings), dict(sim.report))

    def _chunks(self, piece: Piece) -> Iterator[Chunk]:
        sim, expected = self._sim, self._plan.layout.expected
        largest = GPU_CHUNK_BYTES if sim.device.is_gpu else CHUNK_BYTES
        if self._plan.layout.targets:
            largest = LEAN_CHUNK_BYTES
        if piece.frames == piece.samples * sim.frames_per_sample:
            return sim.chunks(
                piece.sample_start, piece.sample_stop,
                max_bytes=largest, expected=expected, on_device=True,
            )  # fmt: skip
        return sim.frames(
            piece.sample_start, piece.frame_start, piece.frame_stop,
            max_bytes=largest, expected=expected, on_device=True,
        )  # fmt: skip

    def _submit(self, work: Callable[..., None], *arguments: object) -> None:
        self._wait(WAITING - 1)
        self._queue.append(self._pool.submit(work, *arguments))

    def _wait(self, most: int) -> None:
        """Wait until at most so many tasks are left; raises what a task before them raised."""
        while len(self._queue) > most:
            self._queue.popleft().result()

    def _finish(
        self, writer: DatasetWriter, piece: Piece, warnings: list[str], report: dict[str, object]
    ) -> None:
        writer.note(warnings, report)
        entry = writer.finish()
        self._open.remove(writer)
        self._begun.discard(writer.part)
        self._finished(piece, entry)


def _store(writer: DatasetWriter, piece: Piece, chunk: Chunk, arrival: Arrival | None) -> None:
    """Write a chunk, and the parameters of the samples that begin in it."""
    if chunk.frame_start == piece.frame_start:
        writer.write_parameters(chunk.sample_start, chunk.parameters)
    writer.append(chunk.with_arrays(chunk.arrays() if arrival is None else arrival.wait()))
    if arrival is not None:
        writer.settle()  # before its memory is filled anew
        arrival.release()
