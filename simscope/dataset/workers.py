"""Worker processes on one machine: each makes the next shard, and a lost one is replaced.

A worker is a fresh interpreter that talks JSON lines over its standard pipes, so neither the
caller's main module is imported again nor is anything pickled: it works the same from a script, a
notebook or the command line. It ends by itself when the process that started it is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from simscope import errors
from simscope.acquire import Simulator
from simscope.dataset.folder import RunFolder, Values, changes, description, unique_part
from simscope.dataset.plan import Entry, Piece, Plan
from simscope.dataset.produce import Production
from simscope.dataset.schema import Layout
from simscope.errors import DatasetError, SimscopeError
from simscope.recipe import Recipe
from simscope.targets import parse_targets

TRIES = 3
"""Workers that may be lost with a shard before it is given up."""

PATIENCE_S = 10.0
"""How long a worker may take to end, once asked to, before it is killed."""

CODE = "from simscope.dataset.workers import serve; serve()"
POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")

Finished = Callable[[int, Entry], None]


@dataclass(frozen=True)
class Job:
    """What a process needs to know to make any shard of a run, plain for JSON."""

    run: Values
    target: str
    device: str

    @classmethod
    def of(cls, folder: RunFolder, device: str) -> Job:
        """The job of a folder."""
        return cls(description(folder.plan), str(folder.target.absolute()), device)

    def open(self, threads: int | None) -> tuple[Simulator, RunFolder]:
        """Simulator and folder of this process.

        Raises
        ------
        DatasetError
            If this process sees another run: another version, input files that differ, no folder.
        """
        run = self.run
        sim = Simulator(
            Recipe.from_dict(run["recipe"]), run["seed"], threads=threads, device=self.device
        )
        layout = Layout.of(
            sim, samples=run["samples"], expected=run["expected"], codec=run["codec"],
            targets=parse_targets(run["targets"].values()),
        )  # fmt: skip
        plan = Plan(layout, run["samples per shard"], run["frames per shard"])
        folder = RunFolder(Path(self.target), plan)
        if different := changes(run, description(plan)):
            raise DatasetError(
                f"a worker sees another run ({'; '.join(different[:5])}): give it the same "
                "simscope and the same files"
            )
        written = folder.written_run()
        if written is None:
            raise DatasetError(
                f"a worker finds no {folder.run_file}: put the dataset where all workers see it"
            )
        folder.require_same(written)
        return sim, folder


def make_shard(
    production: Production, folder: RunFolder, number: int,
    progress: Callable[[int], None] | None = None,
) -> Entry | None:  # fmt: skip
    """Simulate a shard into the folder; its entry where somebody has finished it meanwhile."""
    done = folder.entry(number)
    if done is not None:
        return done
    folder.withdraw(number)
    path = folder.shard(number)
    piece = folder.plan[number]
    production.make(piece, path, part=unique_part(path), progress=progress, force=True)
    return None


# --- the side of the worker


class Parent:
    """The process that started this one: what it asks for, what is told to it."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "wb", buffering=0)
        self._in = os.fdopen(os.dup(0), "rb")
        os.dup2(2, 1)  # what anything prints goes to stderr, away from the messages
        self._asked: queue.SimpleQueue[Values | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self.gone = threading.Event()
        threading.Thread(target=self._listen, name="simscope-parent", daemon=True).start()

    def _listen(self) -> None:
        for line in self._in:
            self._asked.put(json.loads(line))
        self.gone.set()
        self._asked.put(None)

    def asked(self) -> Values | None:
        """The next message; None once the parent has hung up."""
        return self._asked.get()

    def tell(self, **message: Any) -> None:
        """Send a message."""
        with self._lock:
            self._out.write(json.dumps(message).encode() + b"\n")

    def progress_of(self, number: int) -> Callable[[int], None]:
        """Tells the frames made of a shard; ends this process if nobody is left to be told."""

        def told(frames: int) -> None:
            if self.gone.is_set():
                raise SystemExit(0)
            self.tell(shard=number, frames=frames)

        return told


def serve() -> None:
    """Make shards as the parent asks for them, until it hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    signal.signal(signal.SIGTERM, _end)
    parent = Parent()
    try:
        job = parent.asked()
        if job is not None:
            _make_shards(parent, job.pop("threads"), Job(**job))
    except BrokenPipeError:
        sys.exit(0)
    except (SimscopeError, MemoryError) as error:
        parent.tell(error=type(error).__name__, message=str(error))
        sys.exit(1)


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _make_shards(parent: Parent, threads: int, job: Job) -> None:
    sim, folder = job.open(threads)

    def finished(piece: Piece, entry: Entry) -> None:
        folder.enter(piece.number, entry)
        parent.tell(shard=piece.number, entry=entry.to_json())

    with Production(sim, folder.plan, finished=finished) as production:
        while True:
            parent.tell(ready=True)
            asked = parent.asked()
            if asked is None:
                return
            number = asked["shard"]
            done = make_shard(production, folder, number, parent.progress_of(number))
            if done is not None:
                parent.tell(shard=number, entry=done.to_json())


# --- the side of the parent


@dataclass(eq=False)
class Worker:
    """A worker process as its parent sees it: shards it has in hand, with frames made of each."""

    process: subprocess.Popen[bytes]
    in_hand: dict[int, int] = field(default_factory=dict)
    last: int = -1
    idle: bool = False
    heard: bytes = b""

    @classmethod
    def start(cls, job: Job, threads: int) -> Worker:
        """A new process that knows its job."""
        # the same modules as here, from the same places; kernels' helpers keep to their threads
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        environment = {**os.environ, "PYTHONPATH": paths, **dict.fromkeys(POOLS, str(threads))}
        process = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", "-c", CODE],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env=environment,
            process_group=0,  # a terminal's Ctrl-C reaches the parent alone
        )  # fmt: skip
        worker = cls(process)
        worker.tell({"run": job.run, "target": job.target, "device": job.device,
                     "threads": threads})  # fmt: skip
        return worker

    def tell(self, message: Values) -> None:
        """Send a message; a worker that cannot hear it is found lost by its silence."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(message).encode() + b"\n")

    def messages(self) -> list[Values] | None:
        """What it has said since; None once it is gone."""
        assert self.process.stdout is not None
        said = os.read(self.process.stdout.fileno(), 1 << 16)
        *lines, self.heard = (self.heard + said).split(b"\n")
        return [json.loads(line) for line in lines] if said else None

    def hang_up(self) -> None:
        """Ask it to end."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def end(self, deadline: float) -> None:
        """Wait for it until a time of the monotonic clock, then kill it."""
        try:
            self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Crew:
    """Makes shards by ``count`` worker processes of ``threads`` threads each.

    ``finished(number, entry)`` is called for each finished shard, ``progress(frames)`` with the
    frames of those in hand; both in the calling thread.
    """

    def __init__(
        self, folder: RunFolder, device: str, count: int, threads: int, *, finished: Finished,
        progress: Callable[[int], None] | None = None,
    ) -> None:  # fmt: skip
        self._folder, self._job = folder, Job.of(folder, device)
        self._count, self._threads = count, threads
        self._finished, self._progress = finished, progress
        self._pending: list[int] = []
        self._losses: dict[int, int] = {}
        self._workers: dict[Any, Worker] = {}
        self._selector = selectors.DefaultSelector()

    def make(self, numbers: Sequence[int]) -> None:
        """Make these shards.

        Raises
        ------
        SimscopeError
            What a worker met, of the same class; or that a shard was lost with several workers.
        """
        self._pending = sorted(numbers)
        missing = set(numbers)
        try:
            for _ in range(min(self._count, len(missing))):
                self._hire()
            while missing:
                for worker in self._speaking():
                    missing -= self._hear(worker)
        finally:
            self._dismiss()

    def _hire(self) -> None:
        worker = Worker.start(self._job, self._threads)
        self._workers[worker.process.stdout] = worker
        self._selector.register(worker.process.stdout, selectors.EVENT_READ)  # type: ignore[arg-type]

    def _speaking(self) -> Iterator[Worker]:
        for key, _ in self._selector.select():
            yield self._workers[key.fileobj]

    def _hear(self, worker: Worker) -> set[int]:
        """Shards that are finished by what a worker says."""
        messages = worker.messages()
        if messages is None:
            self._replace(worker)
            return set()
        done = set()
        for message in messages:
            if "error" in message:
                raise error_met(message["error"], message["message"])
            if "entry" in message:
                number = message["shard"]
                worker.in_hand.pop(number, None)
                self._finished(number, Entry.from_json(message["entry"], source="a worker's word"))
                done.add(number)
            elif "frames" in message:
                worker.in_hand[message["shard"]] = message["frames"]
            else:
                worker.idle = True
        self._assign()
        if self._progress is not None:
            self._progress(sum(sum(each.in_hand.values()) for each in self._workers.values()))
        return done

    def _assign(self) -> None:
        for worker in self._workers.values():
            if worker.idle and self._pending:
                number = next_shard(self._folder.plan, self._pending, worker.last)
                self._pending.remove(number)
                worker.in_hand[number], worker.last, worker.idle = 0, number, False
                worker.tell({"shard": number})

    def _replace(self, lost: Worker) -> None:
        """A new worker for a lost one, whose shards are made again."""
        self._selector.unregister(lost.process.stdout)  # type: ignore[arg-type]
        del self._workers[lost.process.stdout]
        lost.hang_up()
        lost.end(time.monotonic() + PATIENCE_S)
        for number in lost.in_hand or (-1,):  # -1: it was lost before it had a shard
            self._losses[number] = self._losses.get(number, 0) + 1
            if self._losses[number] == TRIES:
                raise DatasetError(_loss(number, lost.process.returncode))
        self._folder.remove_orphans()
        self._pending = sorted({*self._pending, *lost.in_hand})
        self._hire()
        self._assign()

    def _dismiss(self) -> None:
        for worker in self._workers.values():
            worker.hang_up()
        deadline = time.monotonic() + PATIENCE_S
        try:
            for worker in self._workers.values():
                worker.end(deadline)
        finally:  # a second Ctrl-C is impatient
            for worker in self._workers.values():
                worker.end(0.0)
            self._workers.clear()
            self._selector.close()
            self._folder.remove_orphans()


def next_shard(plan: Plan, pending: Iterable[int], last: int) -> int:
    """The shard to make after ``last``: of the same movie if one is left, else of a new one.

    Windows of a movie cost least in order, where molecules are carried on from one to the next.
    """
    pending = sorted(pending)
    if plan.frames_per_piece is None:
        return pending[0]
    sample = plan[last].sample_start if last >= 0 else -1
    later = [number for number in pending if number > last and plan[number].sample_start == sample]
    begun = [number for number in pending if plan[number].frame_start == 0]
    return (later or begun or pending)[0]


def error_met(name: str, message: str) -> Exception:
    """The error a worker met."""
    if name == "MemoryError":
        return MemoryError(message)
    kind = getattr(errors, name, None)
    known = isinstance(kind, type) and issubclass(kind, SimscopeError)
    return kind(message) if known else DatasetError(message)  # type: ignore[misc]


def _loss(number: int, code: int | None) -> str:
    """What is said of a shard that several workers were lost with."""
    end = f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
    hint = ", as when memory runs out" if code == -signal.SIGKILL else ""
    what = f"shard {number} was lost with" if number >= 0 else "no work came from"
    return (
        f"{what} {TRIES} worker processes in turn, the last ended {end}{hint}: use fewer workers, "
        "or none to see why"
    )
