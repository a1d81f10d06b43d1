"""Random numbers: float32 uniforms against NumPy's generator, each filling an array in place.

    python benchmarks/bench_random.py

The limit is Philox itself: the four words of each block xored, nothing converted, a quarter
stored. NumPy's generator (PCG64) has no threads of its own, so it runs on one.
"""

from __future__ import annotations

import numba
import numpy as np
from numba import njit, prange
from timing import Row, interleaved, on_threads

from simscope.kernels.philox import philox4x32
from simscope.kernels.variates import STRIPE, fill_uniform32
from simscope.keys import Key

VARIATES = 1 << 18  # 64 frames of 64x64 pixels, 1 MiB
BARS = {1: 3.0, 2: 6.0}
COUNTER = (np.uint32(0), np.uint32(7), np.uint32(0))


@njit(error_model="numpy")
def xored(out, first, step, sample, draw, k0, k1):
    """Fill ``out`` with the four words of a block each, xored."""
    for j in range(out.size):
        a, b, c, d = philox4x32(np.uint32(first + j), step, sample, draw, k0, k1)
        out[j] = a ^ b ^ c ^ d


@njit(parallel=True, error_model="numpy")
def blocks_alone(out, blocks, step, sample, draw, k0, k1):
    """As :func:`xored`, so many blocks a thread at a time."""
    for stripe in prange(out.size // blocks):
        first = stripe * blocks
        xored(out[first : first + blocks], first, step, sample, draw, k0, k1)


def rows(threads: int) -> list[Row]:
    """Float32 uniforms on so many threads."""
    stream = (*COUNTER, *Key(1).child("benchmark").words)
    generator = np.random.default_rng(1)
    ours, theirs = np.empty((2, VARIATES), np.float32)
    sums = np.empty(VARIATES // 4, np.uint32)
    works = {
        "ours": lambda: fill_uniform32(ours, *stream),
        "theirs": lambda: generator.random(out=theirs, dtype=np.float32),
        "limit": lambda: blocks_alone(sums, STRIPE // 4, *stream),
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
