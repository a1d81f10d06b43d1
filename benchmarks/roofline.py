"""What this machine could do at most, and where the kernels stand below it (Williams et al. 2009,
Commun. ACM 52, 65).

The roof is the rate of arithmetic that compiled float32 code reaches at best here, and the rate
at which memory feeds it. A kernel's place is its operations per byte that must come from or go to
memory, and its operations a second. Operations are counted by hand in the kernels' source:
integer operations of Philox count like floating-point ones, a fused multiply-add as two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np
from numba import njit, prange
from timing import Row, interleaved, on_threads

from simscope.kernels.numeric import fma

CHAINS = 16  # fused multiply-adds on a value that was loaded once
TRIAD_VALUES = 1 << 25  # 128 MiB an array: beyond the second-level cache by far


@dataclass(frozen=True)
class Work:
    """Operations and bytes of one unit of the rows whose name holds all of ``words``."""

    words: tuple[str, ...]
    operations: float
    bytes: float
    counted: str

    def fits(self, row: Row) -> bool:
        """Whether this is the work of a row."""
        return all(word in row.work.lower() for word in self.words)


FLAT_41 = 2 * (4 * 41 * 2 + 4 * 41) * 48  # rows by phase, then columns, of 41 rows of 48 pixels
DEEP_31 = 2 * (4 * 64 * 2 + 4 * 31 * 2 + 4 * 31) * 32  # four heights of 64 node rows besides
PIXELS = 64 * 64
TRANSITIONS, ROWS = 125, 186  # a frame of the blinking benchmark, in the mean
VOXELS, MODES, SIDE = 64 * 256 * 256, 21, 336  # of the volume benchmark: images, transforms' side
TRANSFORM = 2.5 * SIDE**2 * math.log2(SIDE**2)

WORKS = (
    Work(("uniform", "float32"), 24, 4, "Philox block / 4, conversion"),
    Work(("scmos", "pixel"), 150, 6, "half a Philox block, Poisson quantile, normal, conversion"),
    Work(("emccd", "pixel"), 290, 6, "a Philox block, the same, gamma with two logarithms"),
    Work(("emitter", "31x31"), DEEP_31, 2 * 4 * 31 * 31,
         "heights, rows, columns of 31x32 px, adding; its pixels read and written"),
    Work(("phase-mask psf",), 2 * 5 * 8 * (32 * 32 * 16 + 32 * 16 * 16), 4 * 31 * 31,
         "products along and across chords of five components, by parity; not their phases"),
    Work(("frame", "scmos"), PIXELS * 150 + 20 * FLAT_41, PIXELS * 6,
         "camera and 20 emitters of 41x41 px in focus"),
    Work(("frame", "emccd"), PIXELS * 290 + 10 * FLAT_41, PIXELS * 6,
         "camera and 10 emitters of 41x41 px in focus"),
    Work(("blinking",), TRANSITIONS * 150 + ROWS * 10, ROWS * 48,
         "a Philox block and a logarithm a transition; rows written, read and sorted"),
    Work(("depth-varying", f"{MODES} of 64 images"),
         2 * MODES * VOXELS + (MODES + 1) * TRANSFORM + 4 * MODES * SIDE**2,
         4 * (VOXELS + 3 * MODES * SIDE**2),
         "planes mixed to 21 images, their transforms and products; volume and images in memory"),
)  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """Operations and bytes a second by number of threads."""

    operations_per_s: dict[int, float]
    bytes_per_s: dict[int, float]

    def reachable_per_s(self, intensity: float, threads: int) -> float:
        """Operations a second possible at operations per byte."""
        return min(self.operations_per_s[threads], intensity * self.bytes_per_s[threads])


@njit(parallel=True, error_model="numpy")
def multiply_adds(values, factor, repeats):
    """CHAINS fused multiply-adds on each of some values in the first-level cache, many times."""
    for block in prange(values.shape[0]):
        line = values[block]
        for _ in range(repeats):
            for i in range(line.size):
                x = line[i]
                for _ in range(CHAINS):
                    x = fma(x, factor, factor)
                line[i] = x


@njit(parallel=True, error_model="numpy")
def triad(a, b, c, factor):
    """``a = b + factor * c`` (McCalpin's STREAM): 12 bytes a value."""
    for i in prange(a.size):
        a[i] = b[i] + factor * c[i]


def machine_limits() -> Limits:
    """The best rounds of arithmetic and of memory traffic, on one thread and on all."""
    counts = sorted({1, int(numba.config.NUMBA_NUM_THREADS)})
    operations, traffic = {}, {}
    a, b, c = (np.ones(TRIAD_VALUES, np.float32) for _ in range(3))
    square = np.ones((1024, 1024), np.float32)
    for threads in counts:
        values, repeats = np.ones((threads, 2048), np.float32), 2000
        with on_threads(threads):
            times = interleaved(
                {
                    "fma": lambda v=values, r=repeats: multiply_adds(v, np.float32(0.5), r),
                    "sgemm": lambda: square @ square,
                    "triad": lambda: triad(a, b, c, np.float32(0.5)),
                },
                rounds=7,
            )
        compiled = 2 * CHAINS * values.size * repeats / times["fma"].min()
        operations[threads] = max(compiled, 2 * 1024**3 / times["sgemm"].min())
        traffic[threads] = 12 * TRIAD_VALUES / times["triad"].min()
    return Limits(operations, traffic)


def placed(rows: list[Row]) -> list[tuple[Row, Work]]:
    """Each kernel once: the rows whose operations are counted, the first of each name."""
    known: dict[tuple[str, int], tuple[Row, Work]] = {}
    for row in rows:
        for work in WORKS:
            if work.fits(row):
                known.setdefault((row.work, row.threads), (row, work))
                break
    return list(known.values())


def table(limits: Limits, rows: list[Row]) -> str:
    """Markdown table of the kernels below the roof."""
    lines = [
        *(
            f"On {threads} thread{'s' * (threads > 1)}: {rate / 1e9:.0f} Gop/s in float32, "
            f"{limits.bytes_per_s[threads] / 1e9:.1f} GB/s."
            for threads, rate in limits.operations_per_s.items()
        ),
        "",
        "| kernel | threads | operations per byte | Gop/s | share of the roof | counted |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row, work in placed(rows):
        rate, intensity = work.operations / row.each_s, work.operations / work.bytes
        share = rate / limits.reachable_per_s(intensity, row.threads)
        lines.append(
            f"| {row.work} | {row.threads} | {intensity:.0f} | {rate / 1e9:.1f} | {share:.0%} | "
            f"{work.counted} |"
        )
    return "\n".join(lines)


def draw(limits: Limits, rows: list[Row], out: Path) -> None:
    """Write the roofline picture of all kernels."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 7), layout="constrained")
    intensities = np.geomspace(0.1, 10_000, 200)
    for threads, style in zip(limits.operations_per_s, ("-", "--"), strict=False):
        roof = [limits.reachable_per_s(x, threads) / 1e9 for x in intensities]
        label = f"limit of {threads} thread{'s' * (threads > 1)}"
        axes.loglog(intensities, roof, style, color="black", lw=1.2, label=label)
    for k, (name, points) in enumerate(by_kernel(rows).items()):
        x, y, threads = (list(part) for part in zip(*points, strict=True))
        axes.loglog(x, y, ":", color=f"C{k}", lw=1)
        for at, rate, count in zip(x, y, threads, strict=True):
            face = f"C{k}" if count == 1 else "white"
            label = name if count == 1 else None
            axes.loglog(at, rate, "o", ms=7, color=f"C{k}", mfc=face, label=label)
    axes.set_xlabel("operations per byte of memory traffic")
    axes.set_ylabel("operations a second [10⁹]")
    axes.set_title("Kernels below the machine's limit (filled: 1 thread, open: all cores)")
    figure.legend(fontsize=8, loc="outside lower center", ncols=2)
    axes.grid(which="both", lw=0.3)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=130)
    pyplot.close(figure)


def by_kernel(rows: list[Row]) -> dict[str, list[tuple[float, float, int]]]:
    """(operations per byte, Gop/s, threads) of every kernel, by its name."""
    points: dict[str, list[tuple[float, float, int]]] = {}
    for row, work in placed(rows):
        place = (work.operations / work.bytes, work.operations / row.each_s / 1e9, row.threads)
        points.setdefault(row.work, []).append(place)
    return points
