"""Make a dataset: one file, or shards with one file that shows them as one; go on where it ended.

What is asked for is cut into pieces before anything begins, by its size alone, so the bytes do not
depend on how many processes make them, on which machines, or how often they were killed.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numba

from simscope.acquire import Simulator
from simscope.dataset.folder import RunFolder, Values, changes, description
from simscope.dataset.forecasting import readable_bytes, timed_trial
from simscope.dataset.output import output_target
from simscope.dataset.plan import Entry, Piece, Plan, Progress
from simscope.dataset.produce import Production, produce
from simscope.dataset.read import Dataset, open_dataset
from simscope.dataset.schema import Layout, checked_samples
from simscope.dataset.workers import Crew, make_shard
from simscope.dataset.write import begins_like_a_dataset
from simscope.errors import DatasetError, SimscopeError, SimscopeWarning
from simscope.recipe import Recipe
from simscope.recipe.base import file_references
from simscope.targets import Target, split_clean

WORKERS_PER_CORE = 4
"""Processes beyond which a machine would only run out of memory."""


@dataclass(frozen=True)
class Outcome:
    """What a run has come to: ``finished`` of ``shards`` are there, ``made`` of them by this call.

    ``path`` is the dataset, or, as long as it is not complete, the folder of its shards; ``bytes``
    are those of all files of the run; ``device`` is what the simulator reports of it.
    """

    path: Path
    shards: int
    finished: int
    made: int
    bytes: int
    device: dict[str, Any]

    @property
    def complete(self) -> bool:
        """Whether the dataset is there."""
        return self.finished == self.shards


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
    codec: str = "default",
    targets: Iterable[Target | Mapping[str, Any] | str] = (),
    samples_per_shard: int | None = None,
    shards: str | None = None,
    workers: int = 1,
    dask: Any = None,
) -> Path:
    """Path of the dataset with samples 0 to ``samples - 1`` of a recipe.

    A small run is one file. A larger one, or one with ``samples_per_shard``, becomes shards in the
    folder named as ``out`` without ``.h5``, and ``out`` shows them as one. Where a run was ended
    early, by whatever, the same call goes on with what is missing; a finished one is left as it is.

    Parameters
    ----------
    force
        Discard a dataset, or an unfinished run, of the same name.
    threads
        Threads of each process; results do not depend on it. All cores, shared by the workers, if
        None.
    progress
        Called as ``progress(done, total)``, in frames.
    expected
        Store the noiseless light as well.
    device
        As for :class:`simscope.Simulator`: the samples do not depend on it.
    codec
        ``default``, ``fast`` or ``none``.
    targets
        What networks learn, to be stored as well: see :func:`simscope.targets.parse_targets`.
    shards
        Make only these, such as ``"40:60"``; whichever call finds that all are there completes the
        dataset. Until then the folder is returned.
    workers
        Processes on this machine.
    dask
        Address of a Dask scheduler, or a ``distributed.Client``, whose workers make the shards.

    Raises
    ------
    DatasetError
        If a number is impossible; if ``out`` exists and is something else, is no regular file or a
        file the recipe reads; if its folder cannot be written, or the disk has too little room.
    RecipeError, OpticsError, SampleError, CameraError
        If the recipe describes no possible experiment.
    DeviceError
        If the device is unknown, or ``cuda`` cannot be used here.
    """
    return carry_out(
        recipe, samples, seed, out, force=force, threads=threads, progress=progress,
        expected=expected, device=device, codec=codec, targets=targets,
        samples_per_shard=samples_per_shard, shards=shards, workers=workers, dask=dask,
    ).path  # fmt: skip


def carry_out(
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
    codec: str = "default",
    targets: Iterable[Target | Mapping[str, Any] | str] = (),
    samples_per_shard: int | None = None,
    shards: str | None = None,
    workers: int = 1,
    dask: Any = None,
) -> Outcome:
    """What has come of a run; arguments and errors as of :func:`generate`."""
    samples = checked_samples(samples)
    hands = Hands.of(threads, workers, dask)
    wanted, expected = split_clean(targets, expected)
    out = Path(out)
    inputs = [] if isinstance(recipe, Recipe) else [recipe]
    target = output_target(out, force=True, inputs=inputs)
    if not force:
        refuse_foreign(out, target)
    sim = Simulator(recipe, seed, threads=hands.own_threads, device=device)
    output_target(out, force=True, inputs=file_references(sim.recipe).values())
    layout = Layout.of(sim, samples=samples, expected=expected, codec=codec, targets=wanted)
    plan = Plan.of(layout, samples_per_piece=samples_per_shard)
    numbers = plan.numbers(shards)
    if force and shards is not None:
        raise DatasetError(
            "force together with shards would discard what others have made: leave out one of them"
        )
    run = Run(sim, plan, out, target, hands, force, progress)
    return run.in_one_file() if len(plan) == 1 else run.in_shards(numbers)


@dataclass(frozen=True)
class Hands:
    """Who makes the shards: this process, ``workers`` processes, or the workers of a cluster."""

    threads: int | None
    workers: int
    dask: Any

    @classmethod
    def of(cls, threads: int | None, workers: int, dask: Any) -> Hands:
        """The same, once possible; DatasetError otherwise."""
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
            raise DatasetError(f"workers={workers!r} is no whole number from 1 up: give such a one")
        if dask is not None and workers > 1:
            raise DatasetError(
                f"workers={workers} are processes on this machine, dask has its own: give one"
            )
        most = max(8, WORKERS_PER_CORE * (os.cpu_count() or 1))
        if workers > most:
            raise DatasetError(
                f"workers={workers} is more than {most}, {WORKERS_PER_CORE} for each core of this "
                "machine: one a core is fastest"
            )
        return cls(threads, workers, dask)

    @property
    def own_threads(self) -> int | None:
        """Threads of this process."""
        return self.threads if self.dask is None else None

    @property
    def worker_threads(self) -> int:
        """Threads of each worker process."""
        cores: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
        return self.threads or max(1, cores // self.workers)


@dataclass
class Run:
    """One call of :func:`generate`, all its arguments understood."""

    sim: Simulator
    plan: Plan
    out: Path
    target: Path
    hands: Hands
    force: bool
    progress: Progress | None
    _told: set[str] = field(default_factory=set)

    @property
    def folder(self) -> RunFolder:
        """Where shards of the target lie."""
        return RunFolder(self.target, self.plan)

    def in_one_file(self) -> Outcome:
        """The dataset as a single file, if it is not there already."""
        made = 0
        if self.force or not self._is_there():
            require_room(self.sim, self.plan.layout, self.target.parent)
            self._make_file()
            made = 1
        return self._outcome(self.out, 1, made, self.target.stat().st_size)

    def _make_file(self) -> None:
        piece, progress = self.plan[0], self.progress

        def told(frames: int) -> None:
            if progress is not None:
                progress(frames, piece.frames)

        produce(self.sim, self.plan, piece, self.out, progress=told, force=self.force)
        if self.force:
            discard_run(self.folder)  # shards of what this file has replaced

    def in_shards(self, numbers: Sequence[int]) -> Outcome:
        """Shards of these numbers, and the dataset if all are there."""
        folder = self.folder
        if self.force:
            self._discard()
        there = self._is_there()
        folder.require_ours()
        folder.remove_orphans()
        entries = folder.entries()
        missing = [number for number in numbers if number not in entries]
        if missing:
            self._require_room_for(missing)
        folder.begin()
        if missing:
            self._make_shards(missing, numbers)
            entries = folder.entries()
        complete = len(entries) == len(self.plan)
        if complete and (missing or not there):
            self._assemble([entries[number] for number in range(len(self.plan))])
        size = sum(entry.bytes for entry in entries.values())
        if complete:
            size += self.target.stat().st_size
        path = self.out if complete else folder.path
        return self._outcome(path, len(entries), len(missing), size)

    def _outcome(self, path: Path, finished: int, made: int, size: int) -> Outcome:
        device = self.sim.report["device"]
        return Outcome(path, len(self.plan), finished, made, size, device)

    def _is_there(self) -> bool:
        """Whether the dataset is there and whole; DatasetError if something else is there."""
        if not self.target.exists():
            return False
        try:
            with open_dataset(self.target) as data:
                was = description_of(data)
        except DatasetError:
            ours = self.force or self.folder.written_run()
            if ours and begins_like_a_dataset(self.target):
                return False  # shards are missing, or it is damaged: both can be made anew
            raise taken(self.out) from None
        now = description(self.plan)
        different = changes(was, {name: now[name] for name in was})
        if different and not self.force:
            raise DatasetError(
                f"{self.out} exists and is of another run ({'; '.join(different[:5])}): choose "
                "another name, or overwrite it with --force"
            )
        return not different

    def _discard(self) -> None:
        """Make room for a run where a finished one, or one of something else, is in the way.

        An unfinished one of the same arguments is gone on with: it would become the same bytes.
        """
        folder = self.folder
        written = folder.written_run()
        finished = self.target.exists()
        if written is None or not (finished or changes(written, description(self.plan))):
            return
        if finished and begins_like_a_dataset(self.target):
            self.target.unlink()  # first, as it is nothing without its shards
        folder.begin_anew()

    def _frames(self, numbers: Sequence[int]) -> int:
        """Frames of these shards together."""
        return sum(self.plan[number].frames for number in numbers)

    def _require_room_for(self, missing: Sequence[int]) -> None:
        """Refuse what the disk cannot hold, before a folder is made that stands for this run."""
        folder, layout = self.folder.path, self.plan.layout
        place = folder if folder.is_dir() else folder.parent
        require_room(self.sim, layout, place, self._frames(missing) / layout.frames)

    def _make_shards(self, missing: Sequence[int], numbers: Sequence[int]) -> None:
        """Make what is missing of the shards that are asked for."""
        wanted = self._frames(numbers)
        tally = Tally(self.progress, wanted, wanted - self._frames(missing))
        with resumable(self.folder):
            self._maker(tally).make(missing)

    def _maker(self, tally: Tally) -> Any:
        """What makes shards of given numbers."""
        hands, device = self.hands, self.sim.device.name
        told: dict[str, Any] = {"finished": self._finisher(tally), "progress": tally.in_hand}
        if hands.dask is not None:
            from simscope.dataset.cluster import Cluster

            return Cluster(self.folder, device, hands.dask, hands.threads, **told)
        if hands.workers > 1:
            return Crew(self.folder, device, hands.workers, hands.worker_threads, **told)
        return Here(self.sim, self.folder, tally)

    def _finisher(self, tally: Tally) -> Callable[[int, Entry], None]:
        """What is done in this process when another one has finished a shard."""

        def finished(number: int, entry: Entry) -> None:
            tally.finished(self.plan[number].frames)
            for message in entry.warnings:
                if message not in self._told and message not in self.sim.warnings:
                    warnings.warn(message, SimscopeWarning, stacklevel=2)
                self._told.add(message)

        return finished

    def _assemble(self, entries: Sequence[Entry]) -> None:
        from simscope.dataset.assemble import assemble

        assemble(self.target, self.plan, entries, self.folder.path)
        self.folder.remove_orphans()


@dataclass(frozen=True)
class Here:
    """Makes shards in this process."""

    sim: Simulator
    folder: RunFolder
    tally: Tally

    def make(self, numbers: Sequence[int]) -> None:
        """Make these shards; errors as of :func:`generate`."""

        def finished(piece: Piece, entry: Entry) -> None:
            self.folder.enter(piece.number, entry)

        plan, tally = self.folder.plan, self.tally
        with Production(self.sim, plan, finished=finished) as production:
            for number in numbers:
                make_shard(production, self.folder, number, tally.in_hand)
                tally.finished(plan[number].frames)


class Tally:
    """Frames made so far, of all shards: tells the caller's ``progress``."""

    def __init__(self, progress: Progress | None, total: int, done: int) -> None:
        self._progress, self._total, self._done = progress, total, done
        self.in_hand(0)

    def in_hand(self, frames: int) -> None:
        """Tell that so many frames are made of shards that are not finished."""
        if self._progress is not None:
            self._progress(self._done + frames, self._total)

    def finished(self, frames: int) -> None:
        """Count the frames of a shard that is finished."""
        self._done += frames


@contextmanager
def resumable(folder: RunFolder) -> Iterator[None]:
    """Say of errors and interruptions inside what is finished, and how to go on."""
    try:
        yield
    except SimscopeError as error:
        raise type(error)(f"{error}; {standing(folder)}") from error
    except KeyboardInterrupt as request:
        request.add_note(standing(folder))
        raise


def description_of(data: Dataset) -> Values:
    """What a dataset says of its run: the part of a folder's description that files hold."""
    return {
        "simscope": data.software.get("simscope"),
        "recipe": data.recipe.written(),
        "inputs": data.inputs,
        "seed": data.seed,
        "samples": len(data),
        "expected": data.expected_photons is not None,
        "codec": data.codec,
        "targets": data.target_settings,
        "shards": len(data.shards) or 1,
    }


def standing(folder: RunFolder) -> str:
    """How far a run has come and how to go on, in words."""
    done, total = len(folder.entries()), len(folder.plan)
    return (
        f"{done} of {total} shards are finished in {folder.path}, the same command goes on from "
        "there"
    )


def refuse_foreign(out: Path, target: Path) -> None:
    """Return nothing; DatasetError if something stands at the target that is no dataset."""
    if target.exists() and not begins_like_a_dataset(target):
        raise taken(out)


def taken(out: Path) -> DatasetError:
    """The error that a name is taken."""
    return DatasetError(f"{out} exists: choose another name, or overwrite it with --force")


def discard_run(folder: RunFolder) -> None:
    """Remove a run from a folder; a folder of something else stays as it is."""
    try:
        written = folder.written_run()
    except DatasetError:
        return
    if written is not None:
        folder.discard()


def require_room(sim: Simulator, layout: Layout, folder: Path, share: float = 1.0) -> None:
    """Refuse files that their folder's disk cannot hold, before the first sample is written.

    ``share`` of the layout is to be written.

    Raises
    ------
    DatasetError
        If a short trial, scaled up, needs more than the free space.
    """
    free = shutil.disk_usage(folder).free
    if 2 * share * layout.raw_bytes < free:  # nothing compresses that badly: spare the trial
        return
    needed = layout.fixed_bytes + timed_trial(sim, layout).sample_bytes * layout.samples
    if share * needed > free:
        what = f"{layout.samples} samples need" if share == 1.0 else f"{share:.0%} of them need"
        raise DatasetError(
            f"{what} about {readable_bytes(share * needed)}, {folder} has "
            f"{readable_bytes(free)} free: ask for fewer samples or choose another disk"
        )
