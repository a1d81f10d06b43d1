"""Shards made by the workers of a Dask cluster: one task a shard, lost workers made good.

A shard's bytes depend on the run and its number alone, so a task may be repeated anywhere. A worker
with several threads makes one shard at a time with all of them.
"""

from __future__ import annotations

import functools
import json
import secrets
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numba

from simscope import __version__
from simscope.acquire import Simulator
from simscope.dataset.folder import RunFolder, Values
from simscope.dataset.plan import Entry, Piece
from simscope.dataset.produce import Production
from simscope.dataset.workers import Finished, Job, error_met, make_shard
from simscope.errors import DatasetError, SimscopeError, SimscopeWarning

CONNECT_S = 20
"""How long the scheduler may take to answer."""

AHEAD = 2
"""Tasks handed to the cluster per worker: one at work, one waiting."""

RETRIES = 3
"""How often a task is tried again that failed without saying why, as over a network's hiccup."""

POLL_S = 2.0

_ONE_SHARD = threading.Lock()


class Cluster:
    """Makes shards by the workers of a Dask scheduler: ``dask`` is its address, or a client.

    ``threads`` are those of each worker process, as many as Dask gives it if None;
    ``finished(number, entry)`` is called for each finished shard in the calling thread, and
    ``progress(frames)`` with the frames known of those at work: none.
    """

    def __init__(
        self, folder: RunFolder, device: str, dask: Any, threads: int | None, *, finished: Finished,
        progress: Callable[[int], None],
    ) -> None:  # fmt: skip
        self._folder, self._job = folder, asdict(Job.of(folder, device))
        self._dask, self._threads = dask, threads
        self._finished, self._progress = finished, progress

    def make(self, numbers: Sequence[int]) -> None:
        """Make these shards.

        Raises
        ------
        DatasetError
            If there is no scheduler, workers cannot do the work, or a shard was lost repeatedly.
        SimscopeError
            What a worker met, of the same class.
        """
        with connected(self._dask) as client:
            check_workers(client, self._folder)
            waiting = list(reversed(numbers))
            at_work: dict[Any, int] = {}
            try:
                while waiting or at_work:
                    while waiting and len(at_work) < AHEAD * max(1, len(workers_of(client))):
                        number = waiting.pop()
                        at_work[self._submit(client, number)] = number
                    for future in first_done(at_work):
                        self._take(at_work.pop(future), future)
            finally:
                client.cancel(list(at_work), force=True)
                self._folder.remove_orphans()

    def _submit(self, client: Any, number: int) -> Any:
        key = f"simscope-shard-{number}-{secrets.token_hex(8)}"
        return client.submit(
            make, self._job, number, self._threads, key=key, retries=RETRIES, pure=False
        )

    def _take(self, number: int, future: Any) -> None:
        if future.status != "finished":
            raise DatasetError(f"shard {number} was not made: {_cause(future)}")
        said = future.result()
        if "error" in said:
            raise error_met(said["error"], said["message"])
        self._finished(number, Entry.from_json(said["entry"], source="a worker's word"))
        self._progress(0)


def first_done(futures: Any) -> list[Any]:
    """Futures that are done, once one is or a moment has passed."""
    from distributed import TimeoutError, wait

    with suppress(TimeoutError):
        wait(list(futures), timeout=POLL_S, return_when="FIRST_COMPLETED")
    return [future for future in futures if future.done()]


def _cause(future: Any) -> str:
    """Why a task has no result, and what to do."""
    from distributed import KilledWorker

    if future.status != "error":
        return f"the scheduler has {future.status} it; see its log and run again"
    error = future.exception()
    if isinstance(error, KilledWorker):
        return "worker after worker was lost with it; see whether their memory suffices"
    return f"a worker failed by {type(error).__name__}: {' '.join(str(error).split())}"


@contextmanager
def connected(dask: Any) -> Iterator[Any]:
    """A client of a scheduler: the one given, or a new one that is closed in the end.

    Raises
    ------
    DatasetError
        If Dask is not installed, or no scheduler answers.
    """
    try:
        from distributed import Client
        from distributed.comm import resolve_address
    except ImportError:
        raise DatasetError(
            "clusters need the package distributed: pip install 'simscope[cluster]'"
        ) from None
    if isinstance(dask, Client):
        with dask.as_current():
            yield dask
        return
    try:
        if isinstance(dask, str):
            resolve_address(dask)  # a client that finds an address odd is never closed well
        client = Client(dask, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        cause = " ".join(str(error).split())
        raise DatasetError(
            f"no Dask scheduler answers at {dask!r} ({cause}): give an address such as "
            "tcp://127.0.0.1:8786"
        ) from None
    with client, client.as_current():
        yield client


def workers_of(client: Any) -> dict[str, int]:
    """Threads of every worker the scheduler has now, by address."""
    return client.nthreads()


def check_workers(client: Any, folder: RunFolder) -> None:
    """Return nothing; DatasetError unless the workers there have this simscope and see the folder.

    Those that come later are checked by their first task.
    """
    if not workers_of(client):
        warnings.warn(
            "the Dask scheduler has no workers yet: waiting for them", SimscopeWarning, stacklevel=2
        )
        return
    run_file = folder.run_file.absolute()  # workers have working directories of their own
    seen = client.run(look, str(run_file), on_error="return")
    for address, answer in seen.items():
        if isinstance(answer, BaseException):
            cause = f"{type(answer).__name__}: {' '.join(str(answer).split())}"
            raise DatasetError(f"worker {address} cannot run simscope ({cause}): install it there")
        version, there = answer
        if version != __version__:
            raise DatasetError(
                f"worker {address} has simscope {version}, this is {__version__}: install the same"
            )
        if not there:
            raise DatasetError(
                f"worker {address} does not see {run_file}: choose a folder that all machines "
                "share, under the same path"
            )


# --- on the worker


def look(run_file: str) -> tuple[str, bool]:
    """Version of simscope on a worker, and whether it sees the folder of the run."""
    return __version__, Path(run_file).is_file()


def make(job: Values, number: int, threads: int | None) -> Values:
    """What a worker did with a shard: its entry as JSON, or the error it met.

    Errors of the recipe or the disk come back as a value: trying again would not help.
    """
    with _ONE_SHARD, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they stand in the entry, and are told where it was asked
        try:
            sim, folder = _opened(json.dumps(job), threads or _threads_here())
            return {"entry": _made(sim, folder, number).to_json()}
        except (SimscopeError, MemoryError) as error:
            return {"error": type(error).__name__, "message": str(error)}


@functools.lru_cache(maxsize=1)
def _opened(job: str, threads: int) -> tuple[Simulator, RunFolder]:
    """Simulator and folder of this process, kept from task to task."""
    return Job(**json.loads(job)).open(threads)


def _threads_here() -> int:
    """Threads Dask has given this worker, but no more than kernels may use."""
    from distributed import get_worker

    most: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    return min(most, get_worker().state.nthreads)


def _made(sim: Simulator, folder: RunFolder, number: int) -> Entry:
    """Entry of a shard, made unless it is there already."""

    def finished(piece: Piece, entry: Entry) -> None:
        folder.enter(piece.number, entry)

    with Production(sim, folder.plan, finished=finished) as production:
        done = make_shard(production, folder, number)
    done = done or folder.entry(number)
    if done is None:
        raise DatasetError(f"shard {number} vanished from {folder.path} once it was finished")
    return done
