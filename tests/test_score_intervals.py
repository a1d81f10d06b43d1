"""Confidence intervals against what theory says of their width."""

import math
from importlib import import_module

import numpy as np
import pytest

from simscope.errors import EvaluationError
from simscope.evaluate import bootstrap, score, score_intervals, seed_interval
from simscope.keys import Key

KEY = Key(5).child("test")


def scene(found_there, frames=None, shift_nm=0.0):
    """One true emitter a row, found where the mask says so, in a frame of its own or the given."""
    found_there = np.asarray(found_there)
    count = len(found_there)
    frames = np.arange(count) if frames is None else frames
    truth = {"frame": frames, "x_nm": np.arange(count) * 1e3, "y_nm": np.zeros(count)}
    found = {name: column[found_there] for name, column in truth.items()}
    found["x_nm"] = found["x_nm"] + shift_nm
    return found, truth, score(found, truth)


def mean(means):
    return {"mean": means[..., 0]}


def test_interval_of_a_mean_is_as_wide_as_its_standard_error_says():
    values = np.random.default_rng(0).normal(7, 2, 400)
    interval = bootstrap(values[:, None], mean, key=KEY, resamples=2000)["mean"]
    assert interval.value == pytest.approx(values.mean())
    # Percentiles of 2,000 draws wander by about 3 % of the width.
    width = 2 * 1.96 * values.std() / math.sqrt(400)
    assert interval.high - interval.low == pytest.approx(width, rel=0.12)


def test_ninety_five_percent_intervals_hold_the_truth_about_that_often():
    rng, held = np.random.default_rng(1), 0
    for trial in range(100):
        units = rng.normal(0, 1, (60, 1))
        interval = bootstrap(units, mean, key=KEY.child(str(trial)), resamples=200)["mean"]
        held += interval.low <= 0 <= interval.high
    assert 86 <= held <= 100  # 95 +- 4 standard deviations of 2.2, a little less for 60 units


def test_values_are_those_of_the_score():
    rng = np.random.default_rng(2)
    found, truth, result = scene(rng.random(50) < 0.7, shift_nm=15.0)
    intervals = score_intervals(found, truth, result, key=KEY, resamples=20)
    for name, interval in intervals.items():
        assert interval.value == pytest.approx(getattr(result, name)), name
        assert interval.low <= interval.value + 1e-9
        assert interval.value <= interval.high + 1e-9
    assert "efficiency_3d" not in intervals


def test_values_are_those_of_the_score_with_ghosts_and_emitters_too_dim_to_count():
    rng = np.random.default_rng(7)
    truth = {"frame": np.arange(60) // 3, "x_nm": np.arange(60) * 1e3, "y_nm": np.zeros(60)}
    truth["photons"] = rng.uniform(0, 1000, 60)
    rows = rng.permutation(60)[:40]
    found = {name: truth[name][rows] for name in ("frame", "x_nm", "y_nm")}
    found["x_nm"] = found["x_nm"] + rng.choice([10.0, 400.0], 40)
    result = score(found, truth, ignore_below_photons=300)
    assert min(result.false_positives, result.false_negatives, result.ignored_found) > 0
    intervals = score_intervals(found, truth, result, key=KEY, resamples=20)
    for name, interval in intervals.items():
        assert interval.value == pytest.approx(getattr(result, name)), name


def test_three_dimensional_scores_have_axial_intervals():
    found, truth, _ = scene([True] * 6)
    found["z_nm"], truth["z_nm"] = np.full(6, 40.0), np.zeros(6)
    intervals = score_intervals(found, truth, score(found, truth, 250, 500), resamples=5)
    assert intervals["rmse_axial_nm"].value == pytest.approx(40.0)
    assert intervals["efficiency_3d"].value == pytest.approx((100 + 80) / 2)


def test_frames_of_a_movie_that_share_their_fate_are_drawn_together():
    fate = np.repeat(np.random.default_rng(3).random(40) < 0.5, 25)
    tables = scene(fate)
    alone, together = (
        score_intervals(*tables, frames_per_unit=frames, key=KEY, resamples=500)["recall"]
        for frames in (1, 25)
    )
    # Wider by the root of the 25 frames that say the same thing.
    ratio = (together.high - together.low) / (alone.high - alone.low)
    assert ratio == pytest.approx(5, rel=0.2)


def test_neighbours_drawn_together_change_the_time_and_not_the_width(monkeypatch):
    tables = scene(np.random.default_rng(4).random(2000) < 0.5)
    whole = score_intervals(*tables, key=KEY, resamples=500)["recall"]
    monkeypatch.setattr(import_module("simscope.evaluate.bootstrap"), "MOST_UNITS", 150)
    merged = score_intervals(*tables, key=KEY, resamples=500)["recall"]
    assert merged.value == whole.value
    assert merged.high - merged.low == pytest.approx(whole.high - whole.low, rel=0.25)


def test_means_over_merged_neighbours_are_means_over_all(monkeypatch):
    values = np.random.default_rng(6).normal(7, 2, (2003, 1))
    whole = bootstrap(values, mean, key=KEY, resamples=500)["mean"]
    monkeypatch.setattr(import_module("simscope.evaluate.bootstrap"), "MOST_UNITS", 100)
    merged = bootstrap(values, mean, key=KEY, resamples=500)["mean"]
    assert merged.low < whole.value < merged.high
    # A hundred sums know their spread to 7 %, percentiles of 500 draws theirs to 6 %.
    assert merged.high - merged.low == pytest.approx(whole.high - whole.low, rel=0.35)


def test_the_same_key_gives_the_same_interval_and_another_does_not():
    tables = scene(np.random.default_rng(5).random(80) < 0.5)
    first, again, other = (
        score_intervals(*tables, key=key, resamples=50)["recall"] for key in (KEY, KEY, Key(6))
    )
    assert first == again
    assert first != other


def test_interval_over_seeds_is_students():
    # t at 97.5 % with 2 degrees of freedom is 4.3027; the standard error of 1, 2, 3 is 1/sqrt(3).
    interval = seed_interval([1.0, 2.0, 3.0])
    assert interval.low == pytest.approx(2 - 4.3027 / math.sqrt(3), abs=1e-4)
    assert interval.high == pytest.approx(2 + 4.3027 / math.sqrt(3), abs=1e-4)


def test_one_run_has_no_interval():
    assert seed_interval([0.9]).to_dict() == {
        "value": 0.9,
        "low": None,
        "high": None,
        "level": 0.95,
    }


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: seed_interval([]), "are no figures"),
        (lambda: seed_interval([1.0, math.nan]), "are no figures"),
        (lambda: seed_interval([1.0], level=95), "level=95"),
        (lambda: bootstrap(np.zeros((0, 2)), mean), "no table"),
        (lambda: bootstrap(np.zeros((3, 1)), mean, resamples=0), "resamples=0"),
        (lambda: score_intervals(*scene([True]), frames_per_unit=0), "frames_per_unit=0"),
    ],
)
def test_what_has_no_interval_is_refused(call, says):
    with pytest.raises(EvaluationError, match=says):
        call()
