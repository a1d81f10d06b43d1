"""Switching molecules obey the master equation, and every second in the bright state is found.

Statistical tests use fixed keys; each would fail with probability 1e-4 for a random one.
"""

import itertools

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_blink import jump_chain, light_per_frame
from scipy import linalg, stats

from simscope.kernels import blink

FALSE_ALARM = 1e-4
WORDS = (5, 6)
KEY = tuple(np.uint32(word) for word in WORDS)
ON, OFF, BLEACHED = range(3)
needs_speed = pytest.mark.skipif(
    numba.config.DISABLE_JIT, reason="statistics of many molecules need compiled kernels"
)
THREE_STATES = np.array([[0.0, 30.0, 4.0], [6.0, 0.0, 0.0], [0.0, 0.0, 0.0]])


def started(molecules, initial, rates, bright, sample=0):
    """Molecules at time 0, and the tables of their one chain, bright in one state."""
    rates = np.asarray(rates, float)[None]
    tables = blink.chain_tables([sample], rates, np.eye(rates.shape[1])[[bright]])
    begun = blink.asleep(np.arange(molecules), np.zeros(molecules))
    weights = blink.weight_tables(np.asarray(initial, float)[None])
    blink.start_molecules(begun, tables, weights, *KEY)
    return begun, tables


def movie(molecules, rates, frames, *, interval_s=0.01, exposure_s=None, windows=None, **options):
    """Rows (molecule, frame, on_s) of a whole movie, and (state, next, made) at its end."""
    initial, bright = options.get("initial", (1, 0, 0)), options.get("bright", ON)
    carried, tables = started(molecules, initial, rates, bright, options.get("sample", 0))
    exposure_s = interval_s if exposure_s is None else exposure_s
    edges = [0, frames] if windows is None else windows
    parts = []
    for first, last in itertools.pairwise(edges):
        window = (first, last - first, interval_s, exposure_s)
        molecule, on_s, offsets = blink.bright_frames(carried, tables, window, *KEY)
        frame = np.repeat(np.arange(first, last), np.diff(offsets))
        parts.append((molecule, frame, on_s))
    state, next_s, _, made = carried[2:]
    rows = [np.concatenate(part) for part in zip(*parts, strict=True)]
    return rows, (state, next_s, made)


# ---- exactness ----


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 1000),
    st.floats(0.003, 0.02),
    st.floats(0.1, 1.0),
    st.sampled_from([ON, OFF]),
)
def test_on_times_equal_those_of_the_jump_chain(sample, interval_s, share, bright):
    frames, molecules = 20, 8
    rows, _ = movie(
        molecules, THREE_STATES, frames, interval_s=interval_s, exposure_s=share * interval_s,
        initial=(1, 2, 0), bright=bright, sample=sample,
    )  # fmt: skip
    found = np.zeros((molecules, frames))
    found[rows[0], rows[1]] = rows[2]
    for i in range(molecules):
        path = jump_chain(THREE_STATES, (1, 2, 0), frames * interval_s, sample, i, WORDS)
        expected = light_per_frame(path, np.eye(3)[bright], frames, interval_s, share * interval_s)
        # Differences of times near 0.4 s: a few 1e-17 s each.
        np.testing.assert_allclose(found[i], expected, atol=1e-15)


@settings(max_examples=15, deadline=None)
@given(st.sets(st.integers(1, 59), max_size=10), st.floats(1e-3, 0.1))
def test_windows_give_the_same_bits_as_one_go(cuts, interval_s):
    whole, end = movie(10, THREE_STATES, 60, interval_s=interval_s)
    pieces, piecewise_end = movie(
        10, THREE_STATES, 60, interval_s=interval_s, windows=[0, *sorted(cuts), 60]
    )
    for a, b in zip(whole + list(end), pieces + list(piecewise_end), strict=True):
        np.testing.assert_array_equal(a, b)


@needs_speed
def test_threads_and_blocks_do_not_change_a_bit():
    before = numba.get_num_threads()
    results = []
    for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
        numba.set_num_threads(threads)
        results.append(movie(3 * blink.BLOCK + 5, THREE_STATES, 50))
    numba.set_num_threads(before)
    few, _ = movie(100, THREE_STATES, 50)
    for a, b in zip(results[0][0], results[1][0], strict=True):
        np.testing.assert_array_equal(a, b)
    first = results[0][0][0] < 100
    for a, b in zip(results[0][0], few, strict=True):
        np.testing.assert_array_equal(a[first], b)


def test_rows_are_sorted_by_frame_then_molecule_and_never_dark():
    (molecule, frame, on_s), _ = movie(40, THREE_STATES, 30, exposure_s=0.004)
    assert molecule.size > 0
    np.testing.assert_array_equal(np.lexsort((molecule, frame)), np.arange(molecule.size))
    assert len(set(zip(molecule.tolist(), frame.tolist(), strict=True))) == molecule.size
    assert np.all(on_s > 0)
    assert np.all(on_s <= 0.004 * (1 + 1e-12))


def test_bright_time_is_conserved_by_the_cut_into_frames():
    # Frames that tile the movie share out each molecule's bright time, all of it.
    (molecule, _, on_s), _ = movie(20, THREE_STATES, 200, interval_s=0.0037)
    total = np.bincount(molecule, on_s, minlength=20)
    for i in range(20):
        path = jump_chain(THREE_STATES, (1, 0, 0), 200 * 0.0037, 0, i, WORDS)
        bright = sum(stop - start for state, start, stop in path if state == ON)
        assert total[i] == pytest.approx(bright, rel=1e-12)


def test_a_molecule_that_never_switches_fills_every_exposure():
    (molecule, frame, on_s), end = movie(
        3, np.zeros((3, 3)), 7, interval_s=0.1, exposure_s=0.03, initial=(1, 0, 0)
    )
    assert molecule.tolist() == [0, 1, 2] * 7
    assert frame.tolist() == np.repeat(np.arange(7), 3).tolist()
    np.testing.assert_allclose(on_s, 0.03, rtol=1e-12)
    assert np.all(np.isinf(end[1]))
    assert np.all(end[2] == 1)


def test_dark_molecules_give_no_rows_and_make_no_transitions():
    rows, end = movie(50, np.zeros((3, 3)), 1000, initial=(0, 0, 1))
    assert rows[0].size == 0
    assert np.all(end[2] == 1)


def test_samples_switch_independently():
    a, b = (movie(30, THREE_STATES, 20, sample=sample)[0][2] for sample in (0, 1))
    assert not np.array_equal(a, b)


# ---- laws ----


@needs_speed
def test_occupancy_follows_the_matrix_exponential():
    rates = np.array([[0, 40, 10, 2], [15, 0, 5, 0], [1, 0, 0, 3], [0, 0, 0, 0]], float)
    initial = np.array([0.2, 0.5, 0.3, 0.0])
    generator = rates - np.diag(rates.sum(axis=1))
    molecules = 100_000
    for frames in (1, 5, 50):
        _, (state, _, _) = movie(molecules, rates, frames, initial=initial)
        expected = molecules * initial @ linalg.expm(generator * frames * 0.01)
        observed = np.bincount(state, minlength=4)
        assert stats.chisquare(observed, expected).pvalue > FALSE_ALARM


@needs_speed
def test_eight_states_in_a_ring_are_equally_occupied():
    rates = 50.0 * np.roll(np.eye(8), 1, axis=1)
    _, (state, _, _) = movie(40_000, rates, 200, initial=np.eye(8)[0], bright=3)
    assert stats.chisquare(np.bincount(state, minlength=8)).pvalue > FALSE_ALARM


@needs_speed
def test_on_times_are_exponential():
    # One long frame holds the single on period of a molecule that only bleaches: mean 1/4 s.
    rates = [[0, 0, 4.0], [0, 0, 0], [0, 0, 0]]
    (_, _, on_s), _ = movie(50_000, rates, 1, interval_s=100.0)
    assert on_s.size == 50_000
    assert stats.kstest(on_s, stats.expon(scale=0.25).cdf).pvalue > FALSE_ALARM


@needs_speed
def test_off_times_are_exponential():
    # A molecule that wakes once and stays on: what is missing from the frame is its off time.
    rates = [[0, 0, 0], [4.0, 0, 0], [0, 0, 0]]
    (_, _, on_s), _ = movie(50_000, rates, 1, interval_s=100.0, initial=(0, 1, 0))
    assert stats.kstest(100.0 - on_s, stats.expon(scale=0.25).cdf).pvalue > FALSE_ALARM


@needs_speed
def test_bleaching_curve_is_exponential():
    # Bright time per frame decays as exp(-k t): binomial counts of survivors, 5 sigma.
    rates = [[0, 0, 2.0], [0, 0, 0], [0, 0, 0]]
    molecules = 50_000
    (_, frame, _), _ = movie(molecules, rates, 100)
    lit = np.bincount(frame, minlength=100)
    alive = np.exp(-2.0 * 0.01 * np.arange(100))  # lit in frame k: alive when it begins
    error = np.sqrt(molecules * alive * (1 - alive)) + 1
    assert np.all(np.abs(lit - molecules * alive) < 5 * error)


@needs_speed
def test_number_of_blinks_before_bleaching_is_geometric():
    # From on: back to off with probability 30/34, bleached with 4/34.
    _, (state, _, transitions) = movie(50_000, THREE_STATES, 1, interval_s=1000.0)
    assert np.all(state == BLEACHED)
    on_periods = transitions // 2  # start on, (off, on) ..., bleached: 2 n transitions
    law = stats.geom(4 / 34)
    classes = np.arange(1, 40)
    observed = np.r_[[np.sum(on_periods == n) for n in classes], np.sum(on_periods >= 40)]
    expected = 50_000 * np.r_[law.pmf(classes), law.sf(39)]
    assert stats.chisquare(observed, expected).pvalue > FALSE_ALARM


@needs_speed
def test_brightness_forgets_at_the_sum_of_both_rates():
    # Two states: autocorrelation of the on indicator is exp(-(k_on + k_off) t).
    k_off, k_on, interval_s = 20.0, 5.0, 0.01
    rates = [[0, k_off], [k_on, 0]]
    chance = np.array([k_on, k_off]) / (k_on + k_off)
    frames = 30
    # A very short exposure samples the indicator at the start of each frame.
    (molecule, frame, _), _ = movie(
        100_000, rates, frames, interval_s=interval_s, exposure_s=1e-9, initial=chance
    )
    on = np.zeros((100_000, frames))
    on[molecule, frame] = 1
    centred = on - chance[0]
    for lag in (1, 3, 10, 20):
        correlation = np.mean(centred[:, 0] * centred[:, lag]) / (chance[0] * chance[1])
        # Standard error of a correlation of 1e5 skewed pairs: below 1.3e-2 / 3; 4 sigma.
        assert correlation == pytest.approx(np.exp(-(k_on + k_off) * lag * interval_s), abs=1.6e-2)


# ---- small parts ----


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 10), min_size=1, max_size=8), st.floats(0.0, 1.0, exclude_max=True))
def test_a_destination_is_the_class_that_holds_u(weights, u):
    weights = np.array(weights)
    if weights.sum() == 0:
        return
    total, cumulative = blink.weight_tables(weights)
    chosen = blink.destination(cumulative, float(total), u)
    edges = np.r_[0, np.cumsum(weights)] / weights.sum()
    assert weights[chosen] > 0
    assert edges[chosen] - 1e-12 <= u <= edges[chosen + 1] + 1e-12


def test_a_destination_survives_a_uniform_that_rounds_to_the_end():
    total, cumulative = blink.weight_tables(np.array([1.0, 2.0, 0.0]))
    assert blink.destination(cumulative, float(total), 1.0) == 1


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 1e6), st.floats(1e-4, 10))
def test_frame_at_finds_the_interval_that_holds_the_time(time_s, interval_s):
    k = blink.frame_at(time_s, interval_s)
    assert k * interval_s <= time_s < (k + 1) * interval_s


@pytest.mark.parametrize("timing", [(0.01, 0.02), (0.01, 0.0), (np.inf, 0.01), (np.nan, 0.01)])
def test_meaningless_timings_are_refused(timing):
    with pytest.raises(ValueError, match="must"):
        blink.check_window((0, 1, *timing))


@pytest.mark.parametrize("frames", [(-1, 1), (0, 0)])
def test_windows_of_no_frames_are_refused(frames):
    with pytest.raises(ValueError, match="must"):
        blink.check_window((*frames, 0.01, 0.01))


@pytest.mark.parametrize(
    ("rates", "brightness"),
    [
        (np.zeros((2, 3)), np.zeros(2)),
        (np.zeros((9, 9)), np.zeros(9)),
        (np.array([[0, -1.0], [0, 0]]), np.zeros(2)),
        (np.array([[0, np.nan], [0, 0]]), np.zeros(2)),
        (np.eye(2), np.zeros(2)),
        (np.zeros((2, 2)), np.zeros(3)),
        (np.zeros((2, 2)), np.array([1.0, -1.0])),
        (np.zeros((2, 2)), np.array([1.0, np.nan])),
    ],
)
def test_meaningless_chains_are_refused(rates, brightness):
    with pytest.raises(ValueError, match="must"):
        blink.check_chains(rates[None], brightness[None])
