"""Switching molecules obey the master equation.

Every test has a fixed key; each would fail with probability 1e-4 for a random one.
"""

import numpy as np
import pytest
from reference_blink import generator, occupancy
from scipy import linalg, stats
from switching import light_of, movie, needs_speed

FALSE_ALARM = 1e-4
ON, OFF, BLEACHED = range(3)
THREE_STATES = np.array([[0.0, 30.0, 4.0], [6.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
TWO_BRIGHT = np.array(
    [[0, 60, 8, 2.0], [90, 0, 0, 0], [5, 0, 0, 1.0], [3, 0, 20, 0]]
)  # on, dim, and two dark states
BRIGHTNESS = np.array([1, 0.3, 0, 0])


def deviations(samples, mean):
    """How many standard errors the mean over the first axis is off."""
    error = samples.std(axis=0) / np.sqrt(len(samples))
    return np.abs(samples.mean(axis=0) - mean) / error


def most_deviations(count):
    """Standard errors that the worst of ``count`` means exceeds by chance with FALSE_ALARM."""
    return stats.norm.isf(FALSE_ALARM / (2 * count))


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
    _, (state, _, _) = movie(40_000, rates, 200, initial=np.eye(8)[0], brightness=np.eye(8)[3])
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


@needs_speed
@pytest.mark.parametrize("states", [2, 3, 5, 8])
def test_occupancy_of_any_scheme_follows_the_master_equation(states):
    some = np.random.default_rng(states)
    rates = some.exponential(20, (states, states)) * (some.uniform(size=(states, states)) < 0.7)
    np.fill_diagonal(rates, 0)
    initial = some.dirichlet(np.ones(states))
    molecules, times = 50_000, (1, 3, 10, 40)
    for frames in times:
        _, (state, _, _) = movie(molecules, rates, frames, initial=initial)
        expected = molecules * occupancy(rates, initial, frames * 0.01)
        observed = np.bincount(state, minlength=states)
        possible = expected > 0
        assert observed[~possible].sum() == 0
        law = stats.chisquare(observed[possible], expected[possible], sum_check=False)
        assert law.pvalue > FALSE_ALARM / len(times)


@needs_speed
def test_light_of_every_frame_is_the_integral_of_the_master_equation():
    # from one state: rises and decays at three rates; mean light is p0 int exp(Q t) dt b
    frames, interval_s, exposure_s, molecules = 40, 0.004, 0.0025, 50_000
    initial = np.array([0, 0, 0, 1.0])
    rows, _ = movie(
        molecules, TWO_BRIGHT, frames, interval_s=interval_s, exposure_s=exposure_s,
        initial=initial, brightness=BRIGHTNESS,
    )  # fmt: skip
    light = light_of(rows, molecules, frames)
    augmented = np.zeros((5, 5))
    augmented[:4, :4], augmented[:4, 4] = generator(TWO_BRIGHT), BRIGHTNESS
    within = linalg.expm(augmented * exposure_s)[:4, 4]
    expected = [occupancy(TWO_BRIGHT, initial, k * interval_s) @ within for k in range(frames)]
    assert deviations(light, np.array(expected)).max() < most_deviations(frames)


@needs_speed
def test_correlation_of_light_has_the_rates_of_the_generator():
    # Q = V diag(l) V^-1: light of whole frames k apart covaries as
    # sum_j c_j exp(l_j (k - 1) T) ((exp(l_j T) - 1) / l_j)^2, c_j = (pi b V)_j (V^-1 b)_j
    frames, interval_s, molecules = 16, 0.01, 200_000
    rates, vectors = linalg.eig(generator(TWO_BRIGHT))
    stationary = linalg.null_space(generator(TWO_BRIGHT).T)[:, 0]
    stationary /= stationary.sum()
    rows, _ = movie(
        molecules, TWO_BRIGHT, frames, interval_s=interval_s, initial=stationary,
        brightness=BRIGHTNESS,
    )  # fmt: skip
    light = light_of(rows, molecules, frames)
    weight = ((stationary * BRIGHTNESS) @ vectors) * (linalg.inv(vectors) @ BRIGHTNESS)
    still = np.abs(rates) < 1e-9 * np.abs(rates).max()
    kept = np.where(still, interval_s, np.expm1(rates * interval_s) / np.where(still, 1, rates))
    lags = np.array([1, 2, 3, 5, 8, 15])
    decay = np.exp(np.outer(lags - 1, np.where(still, 0, rates)) * interval_s)
    expected = (decay @ (weight * kept**2)).real
    products = light[:, :1] * light[:, lags]
    assert deviations(products, expected).max() < most_deviations(len(lags))
    # and the test would see the decay missing
    assert deviations(products, expected[0])[1:].min() > 20


@needs_speed
def test_off_times_through_two_dark_states_are_hypoexponential():
    # off -> triplet -> on for good: what is missing from one long frame is the sum of both waits
    first, second = 4.0, 9.0
    rates = [[0, 0, 0], [0, 0, first], [second, 0, 0]]
    (_, _, on_s), _ = movie(50_000, rates, 1, interval_s=100.0, initial=(0, 1, 0))

    def law(time_s):
        slow, fast = second * np.exp(-first * time_s), first * np.exp(-second * time_s)
        return 1 - (slow - fast) / (second - first)

    assert stats.kstest(100.0 - on_s, law).pvalue > FALSE_ALARM


@needs_speed
def test_off_times_in_one_of_two_dark_states_are_a_mixture():
    # 3 in 4 molecules go to the state left at 20/s, the others to that left at 2/s
    rates = [[0, 30, 10, 0], [0, 0, 0, 20.0], [0, 0, 0, 2.0], [0, 0, 0, 0]]
    (_, _, dark_s), _ = movie(50_000, rates, 1, interval_s=100.0, brightness=(0, 1, 1, 0))

    def law(time_s):
        return 1 - 0.75 * np.exp(-20 * time_s) - 0.25 * np.exp(-2 * time_s)

    assert stats.kstest(dark_s, law).pvalue > FALSE_ALARM


@needs_speed
def test_on_time_before_bleaching_is_exponential_over_all_visits():
    # however often it blinks, a molecule is on for a time of mean 1/4 s in all
    (molecule, _, on_s), (state, _, _) = movie(20_000, THREE_STATES, 10, interval_s=100.0)
    assert np.all(state == BLEACHED)
    total = np.bincount(molecule, on_s)
    assert stats.kstest(total, stats.expon(scale=0.25).cdf).pvalue > FALSE_ALARM
