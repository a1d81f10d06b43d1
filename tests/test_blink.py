"""Switching molecules: every second in every state is found, whoever computes it and when."""

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_blink import jump_chain, light_per_frame
from switching import WORDS, light_of, movie, needs_speed

from simscope.kernels import blink
from simscope.kernels.numeric import log64

ON, OFF, BLEACHED = range(3)
THREE_STATES = np.array([[0.0, 30.0, 4.0], [6.0, 0.0, 0.0], [0.0, 0.0, 0.0]])


@st.composite
def schemes(draw):
    """Rates of 2 to 8 states, some of them 0, and the brightness of each."""
    states = draw(st.integers(2, 8))
    rate = st.one_of(st.just(0.0), st.floats(1.0, 60.0))
    rates = np.array(draw(st.lists(rate, min_size=states**2, max_size=states**2)))
    rates = rates.reshape(states, states) * (1 - np.eye(states))
    bright = st.one_of(st.just(0.0), st.floats(0.01, 1.0))
    brightness = np.array(draw(st.lists(bright, min_size=states, max_size=states)))
    return rates, brightness


# ---- exactness ----


@settings(max_examples=20, deadline=None)
@given(schemes(), st.integers(0, 1000), st.floats(0.003, 0.02), st.floats(0.1, 1.0))
def test_light_equals_that_of_the_jump_chain(scheme, sample, interval_s, share):
    rates, brightness = scheme
    frames, molecules, initial = 20, 4, np.arange(1.0, len(rates) + 1)
    rows, _ = movie(
        molecules, rates, frames, interval_s=interval_s, exposure_s=share * interval_s,
        initial=initial, brightness=brightness, sample=sample,
    )  # fmt: skip
    found = light_of(rows, molecules, frames)
    for i in range(molecules):
        path = jump_chain(rates, initial, frames * interval_s, sample, i, WORDS)
        expected = light_per_frame(path, brightness, frames, interval_s, share * interval_s)
        # Differences of times near 0.4 s: a few 1e-17 s each, of a few visits a frame.
        np.testing.assert_allclose(found[i], expected, atol=1e-15)


@settings(max_examples=20, deadline=None)
@given(schemes(), st.integers(0, 1000))
def test_transitions_have_the_bits_of_the_jump_chain(scheme, sample):
    rates, brightness = scheme
    frames, molecules, initial = 20, 4, np.ones(len(rates))
    _, (state, next_s, made) = movie(
        molecules, rates, frames, initial=initial, brightness=brightness, sample=sample
    )
    for i in range(molecules):
        path = jump_chain(
            rates, initial, np.inf, sample, i, WORDS, until_s=frames * 0.01, log=log64
        )
        assert (path[-1][0], path[-1][2], len(path)) == (state[i], next_s[i], made[i])


@settings(max_examples=20, deadline=None)
@given(schemes(), st.floats(0.003, 0.02), st.floats(0.1, 1.0))
def test_equal_brightness_of_all_states_leaves_no_trace_of_switching(scheme, interval_s, share):
    rates, _ = scheme
    rows, _ = movie(
        5, rates, 30, interval_s=interval_s, exposure_s=share * interval_s,
        brightness=np.full(len(rates), 0.5),
    )  # fmt: skip
    light = light_of(rows, 5, 30)
    # Pieces between times up to 0.6 s: 1e-16 s each.
    np.testing.assert_allclose(light, 0.5 * share * interval_s, atol=1e-14)


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
@pytest.mark.parametrize("rows_worth_threads", [1, 1 << 60])
def test_threads_and_blocks_do_not_change_a_bit(monkeypatch, rows_worth_threads):
    monkeypatch.setattr(blink, "AWAKE_WORTH_THREADS", 1)
    monkeypatch.setattr(blink, "ROWS_WORTH_THREADS", rows_worth_threads)
    before = numba.get_num_threads()
    results = []
    for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
        numba.set_num_threads(threads)
        # most of the first frames are bright, more than the first buffers hold
        results.append(movie(3 * blink.BLOCK + 5, THREE_STATES, 50, interval_s=1e-3))
    numba.set_num_threads(before)
    few, _ = movie(100, THREE_STATES, 50, interval_s=1e-3)
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


@needs_speed
def test_a_molecule_asleep_is_not_touched():
    # its next transition lies beyond the window: the counters would tell if it were followed
    rates = np.array([[0, 1e4], [1e-3, 0]])
    whole, end = movie(1000, rates, 1000, initial=(0, 1))
    pieces, piecewise_end = movie(1000, rates, 1000, initial=(0, 1), windows=range(1001))
    for a, b in zip(whole + list(end), pieces + list(piecewise_end), strict=True):
        np.testing.assert_array_equal(a, b)
    assert end[2].max() > 2


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
