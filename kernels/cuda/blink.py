"""Switching molecules on a GPU, one thread a molecule."""

from numba import cuda

from simscope.kernels.blink import check_window, follow, start_molecule
from simscope.kernels.cuda.launch import on_grid

MOLECULES = "uint32[::1], int32[::1], int8[::1], float64[::1], float64[::1], uint32[::1]"
TABLES = "uint32[::1], float64[:, ::1], float64[:, :, ::1], float64[:, ::1]"
INITIAL = "float64[::1], float64[:, ::1]"
WINDOW = "int64, int64, float64, float64"
KEY = "uint32, uint32"


@on_grid(f"({MOLECULES}, {TABLES}, {INITIAL}, {KEY})")
def start_each(
    element, chain, state, next_s, wakes_s, transitions, sample, leaving, cumulative, brightness,
    total, cumulative_weight, k0, k1,
):  # fmt: skip
    """As ``blink.start_molecules``."""
    i = cuda.grid(1)
    if i < element.size:
        molecules = (element, chain, state, next_s, wakes_s, transitions)
        tables = (sample, leaving, cumulative, brightness)
        start_molecule(i, molecules, tables, (total, cumulative_weight), k0, k1)


@on_grid(f"({MOLECULES}, {TABLES}, {WINDOW}, {KEY}, int32[::1], float64[::1], int64[::1])")
def count_each(
    element, chain, state, next_s, wakes_s, transitions, sample, leaving, cumulative, brightness,
    first, frames, interval_s, exposure_s, k0, k1, no_frame, no_light, count,
):  # fmt: skip
    """Rows of every molecule in a window, into ``count``; the molecules stay as they are."""
    i = cuda.grid(1)
    if i < element.size:
        count[i] = 0
        if wakes_s[i] < (first + frames) * interval_s:
            molecules = (element, chain, state, next_s, wakes_s, transitions)
            tables = (sample, leaving, cumulative, brightness)
            window = (first, frames, interval_s, exposure_s)
            count[i] = follow(i, molecules, tables, window, k0, k1, False, 0, no_frame, no_light)


@on_grid(
    f"({MOLECULES}, {TABLES}, {WINDOW}, {KEY}, "
    "int64[::1], int32[::1], float64[::1], int64[::1], int64[::1])"
)
def write_each(
    element, chain, state, next_s, wakes_s, transitions, sample, leaving, cumulative, brightness,
    first, frames, interval_s, exposure_s, k0, k1, place, row_frame, row_light, key, molecule,
):  # fmt: skip
    """Rows of every molecule from ``place`` on; ``key`` counts frames over the samples."""
    i = cuda.grid(1)
    if i < element.size and wakes_s[i] < (first + frames) * interval_s:
        molecules = (element, chain, state, next_s, wakes_s, transitions)
        tables = (sample, leaving, cumulative, brightness)
        window = (first, frames, interval_s, exposure_s)
        begin = place[i]
        end = follow(i, molecules, tables, window, k0, k1, True, begin, row_frame, row_light)
        for r in range(begin, end):
            key[r] = chain[i] * frames + row_frame[r]
            molecule[r] = i


def start_molecules(molecules, tables, initial, k0, k1):
    """Put every molecule into a state at time 0; the last four arrays of a molecule are written."""
    start_each(molecules[0].size, *molecules, *tables, *initial, k0, k1)


def bright_frames(xp, molecules, tables, window, k0, k1):
    """As ``blink.bright_frames``, of arrays of ``xp``: count rows, make room, write, sort by frame.

    A molecule's rows are written in order of frames, molecule after molecule, so a stable sort by
    sample and frame leaves them in the order of the CPU.
    """
    check_window(window)
    chains = (*molecules, *tables, *window, k0, k1)
    count = xp.empty(molecules[0].size, xp.int64)
    count_each(count.size, *chains, xp.empty(0, xp.int32), xp.empty(0, xp.float64), count)
    end = xp.cumsum(count)
    rows = int(end[-1]) if count.size else 0
    row_frame, key = xp.empty(rows, xp.int32), xp.empty(rows, xp.int64)
    row_light, molecule = xp.empty(rows, xp.float64), xp.empty(rows, xp.int64)
    write_each(count.size, *chains, end - count, row_frame, row_light, key, molecule)
    order = xp.argsort(key, kind="stable")
    frames = len(tables[0]) * window[1]
    offsets = xp.searchsorted(key[order], xp.arange(frames + 1, dtype=xp.int64))
    return molecule[order], row_light[order], offsets.astype(xp.int64)
