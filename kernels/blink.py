"""Molecules that switch at random: continuous-time Markov chains, exact light in every frame.

A molecule in state s waits an exponential time of mean ``1 / (sum of the rates out of s)`` and
then goes to state r with probability ``rate[s, r] / sum``; a state with no way out keeps it for
ever (Norris, *Markov Chains*, 1997, section 2.6; Gillespie, J. Phys. Chem. 81, 2340 (1977)). Frame
k collects light during ``[k interval, k interval + exposure)``, and a molecule's light in it is
the sum over the states of relative brightness times the overlap [s] with the time spent there: no
time step, no rounding of switching to frames.

A molecule is its state, the time of its next transition, and how many transitions it has made.
Transition number m of molecule i uses the Philox block at counter ``(i, m, sample, 0)``: two words
for the time, two for the destination. So frames may be asked for in windows of any length, in
order, and come out the same bits as in one go. The cost is linear in transitions plus bright
frames: a dark molecule costs nothing a frame, and one comparison a window (``wakes_s``).

Arrays that go together travel as tuples:

* ``molecules``: ``element`` uint32 (number in its sample), ``chain`` int32 (row of the tables),
  ``state`` int8, ``next_s`` float64 (next transition), ``wakes_s`` float64 (``next_s`` of a dark
  molecule, minus infinity of a bright one), ``transitions`` uint32, all (molecule,);
* ``tables`` of :func:`chain_tables`, a row for every sample: its number, total and cumulative
  rates, brightness;
* ``window``: first frame, frames, interval [s], exposure [s].
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
MOST_BLOCKS = 16  # each costs a counter per frame
AWAKE_WORTH_THREADS = 1 << 15  # some 6 ms of work: to wait for a thread that is late costs as much
ROWS_WORTH_THREADS = 1 << 18  # to be put in order by several; no result depends on any of these


@inlined
def destination(cumulative, total, u):
    """First state whose cumulative weight exceeds ``u * total``; the last one's is infinite."""
    target = u * total
    state = 0
    while target >= cumulative[state]:
        state += 1
    return state


@inlined
def departure(now_s, leaving_per_s, u):
    """Time [s] at which a molecule that entered its state now leaves it; infinite if never."""
    if leaving_per_s <= 0.0:
        return math.inf
    return now_s - log64(u) / leaving_per_s


@inlined
def wake(next_s, brightness):
    """Time [s] before which a molecule needs no attention: it is dark until then."""
    return next_s if brightness == 0.0 else -math.inf


@inlined
def transition_variates(molecule, transition, sample, k0, k1):
    """Two uniform variates of one transition: for the waiting time and for the destination."""
    a, b, c, d = philox4x32(molecule, transition, sample, DRAW, k0, k1)
    return unit_interval(a, b), unit_interval(c, d)


@compiled
def start_molecule(i, molecules, tables, initial, k0, k1):
    """Put molecule ``i`` into a state drawn from ``initial`` at time 0: its transition number 0.

    ``initial`` is (total, cumulative) of the weights of states, as in the tables.
    """
    element, chain, state, next_s, wakes_s, transitions = molecules
    sample, leaving, _, brightness = tables
    total, cumulative = initial
    row = chain[i]
    u_time, u_state = transition_variates(element[i], FIRST_TRANSITION, sample[row], k0, k1)
    first = destination(cumulative[row], total[row], u_state)
    state[i] = first
    next_s[i] = departure(0.0, leaving[row, first], u_time)
    wakes_s[i] = wake(next_s[i], brightness[row, first])
    transitions[i] = ONE_MORE


@compiled
def start_molecules(molecules, tables, initial, k0, k1):
    """Put every molecule into a state at time 0; the last four arrays of a molecule are written."""
    for i in range(molecules[0].size):
        start_molecule(i, molecules, tables, initial, k0, k1)


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
def add_light(brightness, from_s, to_s, window, keep, rows, last, row_frame, row_light):
    """Rows so far and frame of the last after a molecule shone during ``[from, to)``.

    A row is (frame in the window, light > 0 [s]); light in the frame of the last row is added to
    it. Rows are only counted unless ``keep``.
    """
    first, frames, interval_s, exposure_s = window
    k = max(frame_at(from_s, interval_s), first)
    while k < first + frames and k * interval_s < to_s:
        on_s = overlap_s(k, from_s, to_s, interval_s, exposure_s)
        if on_s > 0.0:
            another = last != k
            if another:
                rows += 1
                last = k
            if keep:
                before = 0.0 if another else row_light[rows - 1]
                row_frame[rows - 1] = np.int32(k - first)
                row_light[rows - 1] = fma(brightness, on_s, before)
        k += 1
    return rows, last


@compiled
def follow(i, molecules, tables, window, k0, k1, keep, rows, row_frame, row_light):
    """Rows so far after molecule ``i`` has gone through a window; with ``keep`` it stays there.

    Without ``keep`` rows are only counted, and the molecule is left as it was.
    """
    element, chain, state, next_s, wakes_s, transitions = molecules
    sample, leaving, cumulative, brightness = tables
    first, frames, interval_s, _ = window
    row, here, leaves_s, made = chain[i], np.int64(state[i]), next_s[i], transitions[i]
    since_s, end_s = first * interval_s, (first + frames) * interval_s
    last = np.int64(-1)
    while True:
        shine = brightness[row, here]
        if shine > 0.0:
            rows, last = add_light(
                shine, since_s, min(leaves_s, end_s), window, keep, rows, last, row_frame, row_light
            )
        if leaves_s >= end_s:
            break
        since_s = leaves_s
        u_time, u_state = transition_variates(element[i], made, sample[row], k0, k1)
        here = np.int64(destination(cumulative[row, here], leaving[row, here], u_state))
        leaves_s = departure(since_s, leaving[row, here], u_time)
        made = np.uint32(made + ONE_MORE)
    if keep:
        state[i], next_s[i], transitions[i] = here, leaves_s, made
        wakes_s[i] = wake(leaves_s, brightness[row, here])
    return rows


@compiled
def follow_block(start, end, molecules, tables, window, k0, k1, rows, buffers, counts):
    """First molecule not followed, and rows so far, when molecules go through a window.

    ``buffers`` hold a row's molecule, its frame in the window and its light; following stops
    before a molecule whose rows might not fit. ``counts`` (sample, frame) are added to.
    """
    row_molecule, row_frame, row_light = buffers
    end_s = (window[0] + window[1]) * window[2]
    chain, wakes_s = molecules[1], molecules[4]
    for i in range(start, end):
        if wakes_s[i] >= end_s:
            continue
        if rows + window[1] > row_light.size:
            return i, rows
        before = rows
        rows = follow(i, molecules, tables, window, k0, k1, True, rows, row_frame, row_light)
        for r in range(before, rows):
            row_molecule[r] = i
            counts[chain[i], row_frame[r]] += 1
    return end, rows


@compiled
def place_block(rows, buffers, chain, places, molecule, light_s):
    """Put a block's rows where they belong; ``places`` (sample, frame) are moved on."""
    row_molecule, row_frame, row_light = buffers
    for r in range(rows):
        i = row_molecule[r]
        at = places[chain[i], row_frame[r]]
        molecule[at] = i
        light_s[at] = row_light[r]
        places[chain[i], row_frame[r]] = at + 1


@threaded
def follow_blocks(at, ends, molecules, tables, window, k0, k1, rows, buffers, counts):
    """Carry every block on: ``at`` and ``rows`` (block,) say how far it has come."""
    row_molecule, row_frame, row_light = buffers
    for b in prange(at.size):
        into = (row_molecule[b], row_frame[b], row_light[b])
        at[b], rows[b] = follow_block(
            at[b], ends[b], molecules, tables, window, k0, k1, rows[b], into, counts[b]
        )


@threaded
def place_blocks(rows, buffers, chain, places, molecule, light_s):
    """Put the rows of every block where they belong."""
    row_molecule, row_frame, row_light = buffers
    for b in prange(rows.size):
        block = (row_molecule[b], row_frame[b], row_light[b])
        place_block(rows[b], block, chain, places[b], molecule, light_s)


def check_chains(rates, brightness):
    """Raise ValueError for chains that have no meaning, saying what must hold."""
    shape = rates.shape
    if rates.ndim != 3 or shape[1] != shape[2] or not 1 <= shape[1] <= MAX_STATES:
        raise ValueError(f"rates of shape {shape} must be square, {MAX_STATES} states at most")
    diagonal = np.diagonal(rates, axis1=1, axis2=2)
    if not (np.isfinite(rates).all() and (rates >= 0).all() and not diagonal.any()):
        raise ValueError("rates must be finite, at least 0, and 0 on the diagonal")
    if brightness.shape != shape[:2] or not ((brightness >= 0) & (brightness < math.inf)).all():
        raise ValueError("brightness must be finite and at least 0, one for every state")


def check_window(window):
    """Raise ValueError for frames or a timing that have no meaning, saying what must hold."""
    first, frames, interval_s, exposure_s = window
    if not (0 < exposure_s <= interval_s < math.inf):
        raise ValueError(f"exposure_s={exposure_s} must lie in (0, interval_s={interval_s}]")
    if first < 0 or frames < 1:
        raise ValueError(f"first={first} must be at least 0 and frames={frames} at least 1")


def weight_tables(weights):
    """Totals (...) and cumulative sums (..., state) of weights, for :func:`destination`.

    Cumulative weights are infinite from the last state that has any, so that rounding cannot lead
    beyond it; where there is none at all, from the first.
    """
    cumulative = np.cumsum(weights, axis=-1)
    total = cumulative[..., -1].copy()
    some = weights > 0
    later = np.cumsum(some[..., ::-1], axis=-1)[..., ::-1] - some
    cumulative[later == 0] = math.inf
    return total, cumulative


def chain_tables(samples, rates, brightness):
    """Tables of the chains of samples: numbers, total and cumulative rates [1/s], brightness.

    ``samples`` (sample,); ``rates`` float64 (sample, state, state), per second, from row to column,
    diagonal 0; ``brightness`` float64 (sample, state), relative.

    Raises
    ------
    ValueError
        If rates are negative, not finite, on the diagonal or over 8 states, or brightness is
        negative or not finite.
    """
    check_chains(rates, brightness)
    total, cumulative = weight_tables(rates)
    return np.asarray(samples, np.uint32), total, cumulative, np.ascontiguousarray(brightness)


def asleep(element, chain):
    """Molecules of these elements and chains before :func:`start_molecules`."""
    size = element.size
    kept = (np.zeros(size, np.int8), np.zeros(size), np.zeros(size), np.zeros(size, np.uint32))
    return element.astype(np.uint32), chain.astype(np.int32), *kept


def bright_frames(molecules, tables, window, k0, k1):
    """Rows (molecule, light [s] > 0) of a window, sorted by sample, frame, then molecule.

    ``molecules`` lie sample by sample and come from :func:`start_molecules` or the window before,
    which must end where this one begins; they are carried on in place. Returns ``molecule`` int64,
    its index, and ``light_s`` float64, brightness times seconds, both (row,), and ``offsets``
    int64 (samples * frames + 1,): rows of frame j of sample s are
    ``offsets[s * frames + j]:offsets[s * frames + j + 1]``.

    Raises
    ------
    ValueError
        If the exposure is not in (0, interval], or no frame is asked for.
    """
    check_window(window)
    blocks = _blocks(molecules[4], (window[0] + window[1]) * window[2])
    rows, buffers, counts = _followed(blocks, molecules, tables, window, k0, k1)
    offsets = np.zeros(counts[0].size + 1, np.int64)
    np.cumsum(counts.sum(axis=0).ravel(), out=offsets[1:])
    places = offsets[:-1].reshape(counts.shape[1:]) + np.cumsum(counts, axis=0) - counts
    molecule = np.empty(offsets[-1], np.int64)
    light_s = np.empty(offsets[-1])
    if blocks > 1 and molecule.size >= ROWS_WORTH_THREADS:
        place_blocks(rows, buffers, molecules[1], places, molecule, light_s)
    else:
        for b in range(blocks):
            block = tuple(part[b] for part in buffers)
            place_block(rows[b], block, molecules[1], places[b], molecule, light_s)
    return molecule, light_s, offsets


def _blocks(wakes_s, end_s):
    """Into how many blocks to cut the molecules: one where threads would not pay."""
    if numba.get_num_threads() == 1 or np.count_nonzero(wakes_s < end_s) < AWAKE_WORTH_THREADS:
        return 1
    return min(max(wakes_s.size // BLOCK, 1), MOST_BLOCKS)


def _followed(blocks, molecules, tables, window, k0, k1):
    """Rows of every block, buffers that hold them, and counts int64 (block, sample, frame)."""
    size = molecules[0].size
    edges = np.arange(blocks + 1, dtype=np.int64) * size // blocks
    at, ends, rows = edges[:-1].copy(), edges[1:], np.zeros(blocks, np.int64)
    counts = np.zeros((blocks, len(tables[0]), window[1]), np.int64)
    buffers = _buffers(blocks, size // blocks + window[1])
    while True:
        if blocks > 1:
            follow_blocks(at, ends, molecules, tables, window, k0, k1, rows, buffers, counts)
        else:
            block = tuple(part[0] for part in buffers)
            at[0], rows[0] = follow_block(
                at[0], ends[0], molecules, tables, window, k0, k1, rows[0], block, counts[0]
            )
        if np.array_equal(at, ends):
            return rows, buffers, counts
        buffers = _enlarged(buffers, int(rows.max()))


def _buffers(blocks, size):
    """Room for rows of every block: molecule, frame in the window, light [s]."""
    return tuple(np.empty((blocks, size), kind) for kind in (np.int32, np.int32, np.float64))


def _enlarged(buffers, rows):
    """Buffers of twice the room, with the first ``rows`` of every block."""
    larger = _buffers(len(buffers[0]), 2 * buffers[0].shape[1])
    for old, new in zip(buffers, larger, strict=True):
        new[:, :rows] = old[:, :rows]
    return larger
