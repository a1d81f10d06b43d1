"""Molecules that switch at random: continuous-time Markov chains, exact on-time in every frame.

A molecule in state s waits an exponential time of mean ``1 / (sum of the rates out of s)`` and
then goes to state r with probability ``rate[s, r] / sum``; a state with no way out keeps it for
ever (Norris, *Markov Chains*, 1997, section 2.6; Gillespie, J. Phys. Chem. 81, 2340 (1977)). Frame
k collects light during ``[k interval, k interval + exposure)``, and a molecule's on-time in it is
the length of its overlap with the time spent in the bright state: no time step, no rounding of
switching to frames.

A molecule is three numbers: its state, the time of its next transition, and how many transitions
it has made. Transition number m of molecule i uses the Philox block at counter
``(i, m, sample, 0)``: two words for the time, two for the destination. So frames may be asked for
in windows of any length, in order, and come out the same bits as in one go, and the cost is linear
in transitions plus bright frames: a dark molecule costs nothing a frame.
"""

import math

import numba
import numpy as np
from numba import prange

from simscope.kernels.compiled import compiled, inlined, threaded
from simscope.kernels.numeric import fma, log64
from simscope.kernels.philox import philox4x32
from simscope.kernels.variates import unit_interval

MAX_STATES = 8
DRAW = np.uint32(0)
FIRST_TRANSITION = np.uint32(0)
ONE_MORE = np.uint32(1)
BLOCK = 1024  # molecules a thread takes at a time, at least
MOST_BLOCKS = 16  # each costs a counter per frame; no result depends on either


@compiled
def pick(weights, u):
    """Index drawn in proportion to the non-negative ``weights`` by one uniform ``u``."""
    total = 0.0
    for weight in weights:
        total += weight
    target = u * total
    last = 0
    cumulative = 0.0
    for i in range(weights.size):
        if weights[i] > 0.0:
            last = i
            cumulative += weights[i]
            if target < cumulative:
                return i
    return last


@compiled
def departure(now_s, rates, state, u):
    """Time [s] at which a molecule that entered ``state`` now leaves it; infinite if never."""
    total = 0.0
    for rate in rates[state]:
        total += rate
    if total <= 0.0:
        return math.inf
    return now_s - log64(u) / total


@inlined
def transition_variates(molecule, transition, sample, k0, k1):
    """Two uniform variates of one transition: for the waiting time and for the destination."""
    a, b, c, d = philox4x32(np.uint32(molecule), transition, sample, DRAW, k0, k1)
    return unit_interval(a, b), unit_interval(c, d)


@compiled
def start_molecules(state, next_s, transitions, initial, rates, sample, k0, k1):
    """Put every molecule into a state drawn from ``initial`` at time 0: its transition number 0.

    ``state`` int8, ``next_s`` float64 and ``transitions`` uint32, all (molecule,), are written.
    ``initial`` float64 (state,), weights; ``rates`` float64 (state, state), per second, diagonal 0.
    """
    for i in range(state.size):
        u_time, u_state = transition_variates(i, FIRST_TRANSITION, sample, k0, k1)
        state[i] = pick(initial, u_state)
        next_s[i] = departure(0.0, rates, state[i], u_time)
        transitions[i] = ONE_MORE


@inlined
def frame_at(time_s, interval_s):
    """Number k of the frame whose interval ``[k interval, (k + 1) interval)`` holds this time."""
    k = np.int64(time_s / interval_s)
    while k * interval_s > time_s:
        k -= 1
    while (k + 1) * interval_s <= time_s:
        k += 1
    return k


@inlined
def overlap_s(frame, from_s, to_s, interval_s, exposure_s):
    """Length [s] of ``[from, to)`` inside the exposure of a frame; negative if they miss."""
    opens_s = frame * interval_s
    closes_s = min(fma(np.float64(frame), interval_s, exposure_s), (frame + 1) * interval_s)
    return min(to_s, closes_s) - max(from_s, opens_s)


@compiled
def add_bright(from_s, to_s, window, rows, row_frame, row_on_s):
    """Number of rows after the bright time ``[from, to)`` is added to one molecule's rows.

    A row is (frame, on-time > 0); time in the frame of the last row is added to that row.
    """
    first, frames, interval_s, exposure_s = window
    k = max(frame_at(from_s, interval_s), first)
    while k < first + frames and k * interval_s < to_s:
        on_s = overlap_s(k, from_s, to_s, interval_s, exposure_s)
        if on_s > 0.0:
            if rows == 0 or row_frame[rows - 1] != k:
                row_frame[rows] = k
                row_on_s[rows] = 0.0
                rows += 1
            row_on_s[rows - 1] += on_s
        k += 1
    return rows


@compiled
def follow(
    molecule, state, next_s, made, rates, bright, window, sample, k0, k1, row_frame, row_on_s
):
    """One molecule carried through a window: its (state, next time, transitions, rows written).

    ``window`` is (first frame, frames, interval [s], exposure [s]).
    """
    first, frames, interval_s, _ = window
    since_s = first * interval_s
    end_s = (first + frames) * interval_s
    rows = 0
    while True:
        if state == bright:
            rows = add_bright(since_s, min(next_s, end_s), window, rows, row_frame, row_on_s)
        if next_s >= end_s:
            return state, next_s, made, rows
        since_s = next_s
        u_time, u_state = transition_variates(molecule, made, sample, k0, k1)
        state = pick(rates[state], u_state)
        next_s = departure(since_s, rates, state, u_time)
        made = np.uint32(made + ONE_MORE)


@compiled
def count_rows(
    start, end, state, next_s, transitions, rates, bright, window, sample, k0, k1, count
):
    """Add to ``count`` (frame,) the rows that molecules ``start ... end - 1`` will have."""
    row_frame = np.empty(window[1], np.int64)
    row_on_s = np.empty(window[1], np.float64)
    for i in range(start, end):
        _, _, _, rows = follow(
            i, state[i], next_s[i], transitions[i], rates, bright, window, sample, k0, k1,
            row_frame, row_on_s,
        )  # fmt: skip
        for r in range(rows):
            count[row_frame[r] - window[0]] += 1


@compiled
def write_rows(
    start, end, state, next_s, transitions, rates, bright, window, sample, k0, k1,
    place, molecule, frame, on_s,
):  # fmt: skip
    """Write the rows of molecules ``start ... end - 1`` and carry their state to the window's end.

    ``place`` (frame,) is where the next row of each frame goes; it is moved on.
    """
    row_frame = np.empty(window[1], np.int64)
    row_on_s = np.empty(window[1], np.float64)
    for i in range(start, end):
        state[i], next_s[i], transitions[i], rows = follow(
            i, state[i], next_s[i], transitions[i], rates, bright, window, sample, k0, k1,
            row_frame, row_on_s,
        )  # fmt: skip
        for r in range(rows):
            at = place[row_frame[r] - window[0]]
            molecule[at] = i
            frame[at] = row_frame[r]
            on_s[at] = row_on_s[r]
            place[row_frame[r] - window[0]] = at + 1


@threaded
def count_blocks(edges, state, next_s, transitions, rates, bright, window, sample, k0, k1, counts):
    """Rows per block and frame, ``counts`` int64 (block, frame)."""
    for b in prange(edges.size - 1):
        count_rows(
            edges[b], edges[b + 1], state, next_s, transitions, rates, bright, window,
            sample, k0, k1, counts[b],
        )  # fmt: skip


@threaded
def write_blocks(
    edges, state, next_s, transitions, rates, bright, window, sample, k0, k1,
    places, molecule, frame, on_s,
):  # fmt: skip
    """Rows of every block, from its places (block, frame) on."""
    for b in prange(edges.size - 1):
        write_rows(
            edges[b], edges[b + 1], state, next_s, transitions, rates, bright, window,
            sample, k0, k1, places[b], molecule, frame, on_s,
        )  # fmt: skip


def check_chain(rates, interval_s, exposure_s):
    """Raise ValueError for a chain or a timing that has no meaning."""
    if not (0 < exposure_s <= interval_s < math.inf):
        raise ValueError(f"exposure_s={exposure_s} must lie in (0, interval_s={interval_s}]")
    if rates.ndim != 2 or rates.shape[0] != rates.shape[1] or len(rates) > MAX_STATES:
        raise ValueError(f"rates of shape {rates.shape} must be square, {MAX_STATES} at most")
    if not (np.isfinite(rates).all() and (rates >= 0).all() and not np.diag(rates).any()):
        raise ValueError("rates must be finite, at least 0, and 0 on the diagonal")


def bright_frames(
    state, next_s, transitions, rates, bright, first, frames, interval_s, exposure_s, sample, k0, k1
):
    """Rows (molecule, frame, on-time [s] > 0) of a window, sorted by frame, then molecule.

    Frames ``first ... first + frames - 1`` of ``interval_s`` with ``exposure_s <= interval_s``.
    ``state``, ``next_s`` and ``transitions`` come from :func:`start_molecules` or the window
    before, which must end where this one begins, and are carried on in place. Returns ``molecule``
    uint32, ``frame`` int64, ``on_s`` float64, all (row,), and ``offsets`` int64 (frames + 1,): the
    rows of frame ``first + j`` are ``offsets[j]:offsets[j + 1]``.

    Raises
    ------
    ValueError
        If the exposure is not in (0, interval], or rates are negative, not finite or over 8 states.
    """
    check_chain(rates, interval_s, exposure_s)
    window = (int(first), int(frames), float(interval_s), float(exposure_s))
    blocks = min(max(state.size // BLOCK, 1), MOST_BLOCKS)
    edges = np.arange(blocks + 1, dtype=np.int64) * state.size // blocks
    stream = (np.uint32(sample), np.uint32(k0), np.uint32(k1))
    molecules = (state, next_s, transitions)
    counts = np.zeros((blocks, frames), np.int64)
    threaded = blocks > 1 and numba.get_num_threads() > 1
    if threaded:
        count_blocks(edges, *molecules, rates, bright, window, *stream, counts)
    else:
        for b in range(blocks):
            ends = (edges[b], edges[b + 1])
            count_rows(*ends, *molecules, rates, bright, window, *stream, counts[b])
    offsets = np.zeros(frames + 1, np.int64)
    np.cumsum(counts.sum(axis=0), out=offsets[1:])
    places = offsets[:-1] + np.cumsum(counts, axis=0) - counts
    molecule = np.empty(offsets[-1], np.uint32)
    frame = np.empty(offsets[-1], np.int64)
    on_s = np.empty(offsets[-1], np.float64)
    rows = (molecule, frame, on_s)
    if threaded:
        write_blocks(edges, *molecules, rates, bright, window, *stream, places, *rows)
    else:
        for b in range(blocks):
            ends = (edges[b], edges[b + 1])
            write_rows(*ends, *molecules, rates, bright, window, *stream, places[b], *rows)
    return molecule, frame, on_s, offsets
