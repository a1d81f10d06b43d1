"""Break runs in every way for a quarter of an hour and print what became of them: ``make soak``.

A hundred kills of one generation, workers lost, a full disk, and memory from 1e4 to 1e6 frames.
Exits with 1 if anything ends otherwise than promised.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from stored_files import sums

TESTS = Path(__file__).resolve().parent
SCRIPT = """
import resource, signal, sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, sys.argv[1])
from small_worlds import movie, snapshot
from simscope.dataset.generation import carry_out
from simscope.errors import SimscopeError

kind, out, samples, each, workers, limit = sys.argv[2], sys.argv[3], *map(int, sys.argv[4:])
if limit:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
recipe = {"snapshot": snapshot, "movie": lambda: movie(frames=3000)}[kind]()
try:
    outcome = carry_out(recipe, samples, 7, out, samples_per_shard=each or None, workers=workers)
except SimscopeError as error:
    print(error)
    sys.exit(2)
print(outcome.made, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""

failures: list[str] = []


def start(out: Path, samples: int, each: int = 0, *, kind: str = "snapshot", workers: int = 1,
          limit_bytes: int = 0) -> subprocess.Popen[str]:  # fmt: skip
    """A process that generates."""
    words = (TESTS, kind, out, samples, each, workers, limit_bytes)
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *map(str, words)], stdout=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> str:
    """What a process says until it ends by itself."""
    said = process.communicate(timeout=900)[0]
    require(process.returncode == 0, f"exit code {process.returncode}: {said}")
    return said


def require(true: bool, what: str) -> None:
    """Note a broken promise."""
    if not true:
        failures.append(what)
        print("FAILED:", what, flush=True)


def kills(folder: Path, count: int, draws: random.Random) -> None:
    """Kill one generation again and again at random moments, and compare what comes in the end."""
    for name in ("killed", "whole"):
        (folder / name).mkdir()
    each, shards = 500, 5 * count
    samples = each * shards
    began = time.monotonic()
    killed = finished = 0
    while killed < count:
        process = start(folder / "killed" / "run.h5", samples, each)
        before = entries(folder)
        deadline = time.monotonic() + 60
        while entries(folder) == before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)  # at work again: a moment within the next shards
        time.sleep(draws.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        killed += process.returncode == -signal.SIGKILL
        finished += process.returncode == 0
        if finished:  # too early: begin anew
            shutil.rmtree(folder / "killed")
            (folder / "killed").mkdir()
            finished = 0
    left = shards - entries(folder)
    parts = len(list((folder / "killed").rglob("*.part")))
    finish(start(folder / "killed" / "run.h5", samples, each))
    finish(start(folder / "whole" / "run.h5", samples, each))
    same = sums(folder / "killed") == sums(folder / "whole")
    require(same, f"{killed} kills: the files differ from those of an uninterrupted run")
    print(
        f"kills: {killed} in one generation of {shards} shards, {left} shards to make and {parts} "
        f"growing files there after the last; every file the same as without: {same} "
        f"({time.monotonic() - began:.0f} s)", flush=True,
    )  # fmt: skip


def entries(folder: Path) -> int:
    """Finished shards of the run that is killed."""
    return len(list((folder / "killed" / "run").glob("shard-*.json")))


def lost_workers(folder: Path, count: int) -> None:
    """Kill worker processes while a run by two of them goes on."""
    for name in ("lost", "whole"):
        (folder / name).mkdir()
    began = time.monotonic()
    process = start(folder / "lost" / "run.h5", 40, 1, kind="movie", workers=2)
    killed: set[int] = set()
    while process.poll() is None and len(killed) < count:
        finished = len(list((folder / "lost" / "run").glob("shard-*.json")))
        parts = sorted((folder / "lost" / "run").glob("shard-*.part"))
        pids = {int(part.name.split("-")[-2]) for part in parts} - killed
        if pids and finished > 4 * len(killed):  # a shard lost three times ends a run
            killed.add(pid := min(pids))
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    finish(process)
    finish(start(folder / "whole" / "run.h5", 40, 1, kind="movie"))
    same = sums(folder / "lost") == sums(folder / "whole")
    require(same and len(killed) == count, f"{len(killed)} workers lost, files the same: {same}")
    print(
        f"workers: {len(killed)} killed in one run by two; every file the same as by one process: "
        f"{same} ({time.monotonic() - began:.0f} s)", flush=True,
    )  # fmt: skip


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path | None]:
    """A disk of so many megabytes; None where this user may not mount one."""
    place = folder / "disk"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "simscope-soak", str(place)]
    mounted = subprocess.run(words, capture_output=True).returncode == 0
    try:
        yield place if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", str(place)], check=True)


def fill(disk: Path, after: int) -> None:
    """Write a disk full as soon as so many shards are finished on it."""
    deadline = time.monotonic() + 60
    while len(list((disk / "run").glob("*.json"))) <= after and time.monotonic() < deadline:
        time.sleep(0.002)
    with (disk / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
        while True:
            ballast.write(bytes(1 << 20))


def full_disk(folder: Path) -> None:
    """Fill a small disk, make room, and go on."""
    samples, each = 40_000, 1000
    (folder / "whole").mkdir()
    finish(start(folder / "whole" / "run.h5", samples, each))
    room = sum(path.stat().st_size for path in (folder / "whole").rglob("*.*")) >> 20
    with small_disk(folder, room + 10) as disk:
        place, limit = disk or folder / "limited", 0 if disk else 500_000
        place.mkdir(exist_ok=True)
        process = start(place / "run.h5", samples, each, limit_bytes=limit)
        if disk is not None:
            fill(place, after=3)
        said = process.communicate(timeout=300)[0]
        kept = len(list((place / "run").glob("shard-*.h5")))
        require(process.returncode == 2, f"full disk: exit code {process.returncode}, {said}")
        require(not list(place.rglob("*.part")), "full disk: growing files were left")
        (place / "ballast").unlink(missing_ok=True)
        finish(start(place / "run.h5", samples, each))
        same = sums(place) == sums(folder / "whole")
    require(same, "full disk: the files differ from those of an undisturbed run")
    print(f"full disk ({'tmpfs' if limit == 0 else 'limit of file size'}): {said.strip()!r}")
    print(f"full disk: {kept} shards were kept; after making room every file the same: {same}",
          flush=True)  # fmt: skip


def memory(folder: Path, most: int) -> None:
    """Largest memory of runs of 1e4 to 1e6 frames, in shards of the usual size."""
    peaks = {}
    frames = 10_000
    while frames <= most:
        began = time.monotonic()
        _, kilobytes = finish(start(folder / f"{frames}.h5", frames)).split()
        peaks[frames] = int(kilobytes) / 1024
        print(f"memory: {frames:,} frames, at most {peaks[frames]:.0f} MB "
              f"({time.monotonic() - began:.0f} s)", flush=True)  # fmt: skip
        shutil.rmtree(folder / str(frames), ignore_errors=True)
        (folder / f"{frames}.h5").unlink()
        frames *= 10
    grown = max(peaks.values()) - peaks[10_000]
    require(grown < 50, f"memory grew by {grown:.0f} MB")
    print(f"memory: {grown:.0f} MB more at {max(peaks):,} frames than at 10,000", flush=True)


def main() -> int:
    """All of it, or the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--losses", type=int, default=6)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="simscope-soak-") as name:
        for part, work in {
            "kills": lambda at: kills(at, chosen.kills, random.Random(chosen.seed)),
            "workers": lambda at: lost_workers(at, chosen.losses),
            "disk": full_disk,
            "memory": lambda at: memory(at, chosen.frames),
        }.items():
            (Path(name) / part).mkdir()
            work(Path(name) / part)
            shutil.rmtree(Path(name) / part)
    print(f"soak: {len(failures)} failures, {(time.monotonic() - began) / 60:.1f} min")
    return bool(failures)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.exit(main())
