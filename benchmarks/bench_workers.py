"""Frames a second of whole runs by one and more processes of one thread: ``bench_workers.py``.

The rate is taken from the first fifth of the frames to the end, joining included: what is left out
is the start of the processes, a second or two once a run.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from pathlib import Path

from simscope.dataset.generation import carry_out
from simscope.errors import SimscopeWarning


def frames_per_s(folder: Path, recipe: str, samples: int, workers: int) -> float:
    """Rate of a run, after its first fifth."""
    begun: list[tuple[float, int]] = []

    def progress(done: int, total: int) -> None:
        if 5 * done >= total and not begun:
            begun.append((time.perf_counter(), done))

    carry_out(
        recipe, samples, 7, folder / f"{workers}.h5", workers=workers, threads=1,
        samples_per_shard=2048, progress=progress,
    )  # fmt: skip
    at, done = begun[0]
    return (samples - done) / (time.perf_counter() - at)


def main() -> None:
    """Print the rates, in turn for each number of processes, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="smlm-2d-dense")
    parser.add_argument("--samples", type=int, default=81_920)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 1, 2])
    chosen = parser.parse_args()
    warnings.simplefilter("ignore", SimscopeWarning)
    best: dict[int, float] = {}
    for workers in chosen.workers:
        with tempfile.TemporaryDirectory() as name:
            rate = frames_per_s(Path(name), chosen.recipe, chosen.samples, workers)
        best[workers] = max(rate, best.get(workers, 0.0))
        print(f"{workers} processes of one thread: {rate:,.0f} frames/s", flush=True)
    base = min(best)
    for workers, rate in best.items():
        print(f"{workers} against {base}: {rate / best[base]:.2f}")


if __name__ == "__main__":
    main()
