"""Fair timing: works run in turns in one process, medians with quartiles, a table row each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numba
import numpy as np
from threadpoolctl import threadpool_limits

Seconds = np.ndarray


def interleaved(works: dict[str, Callable[[], object]], rounds: int = 15) -> dict[str, Seconds]:
    """Seconds of every round of every work, taken in turns after one warm-up each."""
    for work in works.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            begin = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - begin)
    return {name: np.array(values) for name, values in times.items()}


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """Numba's kernels and the BLAS on ``count`` threads inside."""
    before = numba.get_num_threads()
    numba.set_num_threads(count)
    try:
        with threadpool_limits(count):
            yield
    finally:
        numba.set_num_threads(before)


@dataclass(frozen=True)
class Row:
    """One work measured against a peer or plain version doing the same.

    ``ours`` and ``theirs``: seconds of rounds in turns; ``amount`` and ``their_amount``: how many
    units a call makes (pixels, emitters, frames); ``unit`` is one of them. ``bar``: the ratio
    asked for, 0 if none is. ``floor_s``: the least seconds a unit can cost on this machine, and
    ``bound`` says what sets it.
    """

    work: str
    threads: int
    unit: str
    amount: float
    ours: Seconds
    peer: str
    their_amount: float
    theirs: Seconds
    bar: float = 0.0
    floor_s: float = 0.0
    bound: str = ""

    HEADER = (
        "| work | threads | ours | peer | ratio (quartiles) | bar | limit: our share of it |\n"
        "| --- | --- | --- | --- | --- | --- | --- |"
    )

    @property
    def each_s(self) -> float:
        """Median seconds of one unit."""
        return float(np.median(self.ours)) / self.amount

    def __str__(self) -> str:
        ratios = (self.theirs / self.their_amount) / (self.ours / self.amount)
        low, middle, high = np.percentile(ratios, [25, 50, 75])
        theirs = duration(float(np.median(self.theirs)) / self.their_amount)
        bar = f"{self.bar:.3g}x" if self.bar else "-"
        limit = f"{self.bound}: {100 * self.floor_s / self.each_s:.0f} %" if self.bound else "-"
        return (
            f"| {self.work} | {self.threads} | {duration(self.each_s)} per {self.unit} "
            f"({1 / self.each_s:,.0f}/s) | {self.peer}: {theirs} | "
            f"{middle:.1f}x ({low:.1f} to {high:.1f}) | {bar} | {limit} |"
        )


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"
