"""Errors of regression, against numbers worked by hand and predictors that never look."""

import math

import numpy as np
import pytest

from simscope.errors import EvaluationError
from simscope.evaluate import (
    mean_prediction,
    regression_intervals,
    regression_scores,
    wavefront_errors,
)
from simscope.evaluate.regression import _figures, _sums


def test_wavefront_error_adds_modes_in_squares():
    truth = np.array([[30.0, 40.0], [-30.0, -40.0]])
    errors = wavefront_errors(truth + np.array([[3.0, 4.0], [-4.0, 3.0]]), truth)
    assert errors["rms_error_nm"] == pytest.approx(5)
    assert errors["rms_drawn_nm"] == pytest.approx(50)
    assert errors["relative_error"] == pytest.approx(0.1)
    assert errors["r2"] == pytest.approx(1 - 0.1**2)


def test_r2_is_the_share_of_variance_that_is_not_noise():
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 1, (20_000, 2)) * [1.0, 5.0] + [1000.0, 0.0]
    said = truth + rng.normal(0, 0.5, truth.shape)
    scores = regression_scores(said, truth, ("a", "b"))
    assert scores["a"].r2 == pytest.approx(1 - 0.25, abs=0.01)
    assert scores["b"].r2 == pytest.approx(1 - 0.25 / 25, abs=0.001)
    assert wavefront_errors(said, truth)["r2"] == pytest.approx(1 - 2 * 0.25 / 26, abs=0.002)


def test_a_constant_shift_is_bias():
    truth = np.arange(12.0).reshape(6, 2)
    score = regression_scores(truth + np.array([0.0, -3.0]), truth, ("a", "b"))["b"]
    assert (score.bias, score.rmse, score.samples) == (-3.0, 3.0, 6)


def test_the_predictor_that_never_looks_explains_nothing():
    truth = np.random.default_rng(1).normal(3, 2, (500, 3))
    said = mean_prediction(truth, 500)
    for score in regression_scores(said, truth, "abc").values():
        assert score.r2 == pytest.approx(0)
        assert score.rmse == pytest.approx(score.drawn)


def test_a_parameter_that_does_not_vary_has_no_r2():
    score = regression_scores(np.ones((4, 1)), np.zeros((4, 1)), ("a",))["a"]
    assert math.isnan(score.r2)
    assert score.to_dict()["r2"] is None


def test_interval_of_the_error_is_as_wide_as_theory_says():
    rng = np.random.default_rng(2)
    truth = rng.normal(0, 10, (400, 4))
    interval = regression_intervals(truth + rng.normal(0, 2, truth.shape), truth)["rms_error"]
    # Relative standard error of an RMS over 1,600 numbers: 1 / sqrt(2 * 1,600).
    width = 2 * 1.96 * 4 / math.sqrt(3200)
    assert interval.high - interval.low == pytest.approx(width, rel=0.2)
    assert interval.low < 4 < interval.high


def test_r2_of_samples_drawn_anew_is_about_their_own_mean():
    rng = np.random.default_rng(3)
    truth = rng.normal(5, 2, (9, 2))
    said, rows = truth + rng.normal(0, 1, truth.shape), [0, 0, 4, 7]
    drawn = _figures(_sums(said, truth)[rows].mean(axis=0))
    expected = wavefront_errors(said[rows], truth[rows])
    assert float(drawn["r2"]) == pytest.approx(expected["r2"])
    assert float(drawn["rms_error"]) == pytest.approx(expected["rms_error_nm"])


@pytest.mark.parametrize(
    ("predicted", "truth", "names", "says"),
    [
        (np.zeros((2, 3)), np.zeros((2, 2)), "ab", "cannot be compared"),
        (np.zeros(3), np.zeros(3), "a", "cannot be compared"),
        (np.zeros((0, 1)), np.zeros((0, 1)), "a", "cannot be compared"),
        (np.full((2, 1), np.nan), np.zeros((2, 1)), "a", "not finite"),
        (np.zeros((2, 2)), np.zeros((2, 2)), "aa", "a name of its own"),
    ],
)
def test_tables_that_cannot_be_compared_are_refused(predicted, truth, names, says):
    with pytest.raises(EvaluationError, match=says):
        regression_scores(predicted, truth, names)
    with pytest.raises(EvaluationError, match="no mean"):
        mean_prediction(np.zeros((0, 2)), 3)
