"""Random numbers: float32 uniforms against NumPy's generator, each filling an array in place.

    python benchmarks/bench_random.py

The limit is Philox itself: its blocks made in registers and only xored together, nothing
converted, nothing stored. NumPy's generator (PCG64) has no threads of its own, so it runs on one.
"""

from __future__ import annotations

import numba
import numpy as np
from numba import njit, prange
from timing import Row, interleaved, on_threads

from simscope.kernels.philox import philox4x32
from simscope.kernels.variates import STRIPE, fill_uniform32
from simscope.keys import Key

VARIATES = 1 << 20
BARS = {1: 3.0, 2: 6.0}
COUNTER = (np.uint32(0), np.uint32(7), np.uint32(0))


@njit(parallel=True, error_model="numpy")
def blocks_alone(stripes, blocks, step, sample, draw, k0, k1):
    """All words of so many stripes of blocks, xored."""
    total = np.uint32(0)
    for stripe in prange(stripes):
        here = np.uint32(0)
        for j in range(blocks):
            element = np.uint32(stripe * blocks + j)
            a, b, c, d = philox4x32(element, step, sample, draw, k0, k1)
            here = np.uint32(here ^ a ^ b ^ c ^ d)
        total ^= here
    return total


def rows(threads: int) -> list[Row]:
    """Float32 uniforms on so many threads."""
    stream = (*COUNTER, *Key(1).child("benchmark").words)
    generator = np.random.default_rng(1)
    ours, theirs = np.empty((2, VARIATES), np.float32)
    works = {
        "ours": lambda: fill_uniform32(ours, *stream),
        "theirs": lambda: generator.random(out=theirs, dtype=np.float32),
        "limit": lambda: blocks_alone(VARIATES // STRIPE, STRIPE // 4, *stream),
    }
    with on_threads(threads):
        times = interleaved(works, rounds=200)
    for filled in (ours, theirs):  # the same work: mean 1/2, variance 1/12, to 5 sigma
        assert abs(filled.mean(dtype=float) - 0.5) < 5 / np.sqrt(12 * VARIATES)
        assert abs(filled.var(dtype=float) - 1 / 12) < 5 / np.sqrt(180 * VARIATES)
    return [
        Row(
            "uniform float32", threads, "variate", VARIATES, times["ours"],
            "numpy Generator, 1 thread", VARIATES, times["theirs"], BARS[min(threads, 2)],
            float(np.median(times["limit"])) / VARIATES, "Philox rounds alone",
        )
    ]  # fmt: skip


if __name__ == "__main__":
    print(Row.HEADER)
    for count in sorted({1, int(numba.config.NUMBA_NUM_THREADS)}):
        for row in rows(count):
            print(row)
