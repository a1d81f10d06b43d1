"""Uncertainties, probabilities and bounds held against errors."""

import json
import math

import numpy as np
import pytest

from simscope.errors import EvaluationError
from simscope.evaluate import (
    calibrated,
    calibration,
    matched_errors,
    mean_errors,
    normalised_errors,
    probability_calibration,
    reliability,
    score,
)

COUNT = 20_000
SIGMA_NM = np.linspace(4, 20, COUNT)


@pytest.fixture(scope="module")
def tables():
    """What was found, its uncertainties right in x, half too small in y; the truth; its score."""
    rng = np.random.default_rng(3)
    truth = {
        "frame": np.arange(COUNT) // 100,
        "x_nm": np.arange(COUNT) % 100 * 1000.0,
        "y_nm": np.zeros(COUNT),
        "photons": np.full(COUNT, 500.0),
    }
    found = truth | {n: truth[n] + SIGMA_NM * rng.normal(size=COUNT) for n in ("x_nm", "y_nm")}
    found |= {"uncertainty_x_nm": SIGMA_NM, "uncertainty_y_nm": SIGMA_NM / 2}
    return found, truth, score(found, truth)


def within_chance(share):
    return pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / COUNT))


@pytest.mark.parametrize("nominal", [0.5, 0.68, 0.9, 0.95])
def test_right_uncertainties_cover_what_they_promise(tables, nominal):
    assert calibration(*tables)["x_nm"].coverage(nominal) == within_chance(nominal)


def test_uncertainties_half_too_small_are_found_out(tables):
    judged = calibration(*tables)["y_nm"]
    assert judged.spread == pytest.approx(2, rel=0.02)  # 1 / sqrt(2 * 20,000) = 0.5 %
    assert judged.coverage(0.5) == within_chance(math.erf(0.67449 / 2 / math.sqrt(2)))
    assert calibration(*tables)["x_nm"].expected_error < 0.01 < 0.1 < judged.expected_error


def test_z_scores_of_right_uncertainties_follow_the_normal_curve(tables):
    edges = np.linspace(-3, 3, 13)
    middle = (edges[1:] + edges[:-1]) / 2
    normal = np.exp(-(middle**2) / 2) / math.sqrt(2 * math.pi)
    judged = calibration(*tables)["x_nm"]
    assert judged.histogram(edges) == pytest.approx(normal, abs=0.02)
    assert judged.mean == pytest.approx(0, abs=4 / math.sqrt(COUNT))


def test_z_scores_beyond_the_edges_count_in_the_whole():
    judged = calibrated([0.1, 0.2, 9.0], [1.0, 1.0, 1.0])
    assert judged.histogram([-1.0, 1.0]) == pytest.approx([2 / 3 / 2])


def test_uncertainties_nobody_predicts_are_not_judged(tables):
    found, truth, result = tables
    silent = found | {"uncertainty_y_nm": np.full(COUNT, np.nan), "uncertainty_z_nm": SIGMA_NM}
    assert list(calibration(silent, truth, result)) == ["x_nm"]


def test_pairs_without_a_prediction_are_left_out_and_counted(tables):
    found, truth, result = tables
    said = SIGMA_NM.copy()
    said[:5], said[5:7] = np.nan, 0.0
    judged = calibration(found | {"uncertainty_x_nm": said}, truth, result)["x_nm"]
    assert (judged.left_out, len(judged.z_scores)) == (7, COUNT - 7)
    assert judged.to_dict()["left_out"] == 7
    assert judged.places.tolist() == list(range(7, COUNT))


def test_one_lateral_uncertainty_serves_both_axes(tables):
    found, truth, result = tables
    table = {name: found[name] for name in ("frame", "x_nm", "y_nm")} | {"uncertainty_nm": SIGMA_NM}
    assert list(calibration(table, truth, result)) == ["x_nm", "y_nm"]


def test_an_axis_s_own_uncertainty_goes_before_the_one_of_both(tables):
    found, truth, result = tables
    table = found | {"uncertainty_nm": np.full(COUNT, 1e6)}
    assert calibration(table, truth, result)["x_nm"].spread == pytest.approx(1, rel=0.02)


def test_bias_widens_the_spread_of_z_scores():
    judged = calibrated([3.0, 5.0], [1.0, 1.0])
    assert (judged.mean, judged.spread) == (4.0, pytest.approx(math.sqrt(17)))


def test_rows_of_tables_may_stand_in_any_order(tables):
    found, truth, _ = tables
    bound = {"x_nm": SIGMA_NM, "y_nm": SIGMA_NM}
    one, other = (np.random.default_rng(k).permutation(COUNT) for k in (5, 6))
    one = np.append(one[: COUNT // 2], one[:9] * 0)  # half is found, and nine times one emitter
    mixed, theirs = (
        {name: column[rows] for name, column in table.items()}
        for table, rows in ((found, one), (truth, other))
    )
    result = score(mixed, theirs)
    assert result.true_positives <= COUNT // 2 + 1
    judged = calibration(mixed, theirs, result)
    assert judged["x_nm"].spread == pytest.approx(1, rel=0.03)
    ratios = normalised_errors(
        mixed, theirs, result, {name: column[other] for name, column in bound.items()}
    )
    assert ratios["x_nm"].rms_normalised == pytest.approx(1, rel=0.03)


def test_calibration_of_nothing_is_no_number_in_json():
    nothing = calibrated([], []).to_dict()
    assert json.loads(json.dumps(nothing, allow_nan=False))["coverage"]["0.5"] is None


def test_an_uncertainty_of_nothing_is_refused():
    with pytest.raises(EvaluationError, match="uncertainty of 0 is not above 0"):
        calibrated([1.0, 2.0], [1.0, 0.0])


def test_tables_that_were_not_scored_are_refused(tables):
    found, truth, result = tables
    with pytest.raises(EvaluationError, match="were not scored"):
        matched_errors(found, {name: column[1:] for name, column in truth.items()}, result, "x_nm")


def test_expected_calibration_error_worked_by_hand():
    # Two announced at 0.9, one came true: 0.4 off. Two at 0.1, none did: 0.1 off.
    judged = reliability([0.9, 0.9, 0.1, 0.1], [True, False, False, False])
    assert judged.expected_error == pytest.approx((2 * 0.4 + 2 * 0.1) / 4)
    assert judged.count.sum() == 4
    assert math.isnan(judged.share[5])


def test_bins_weigh_by_what_stands_in_them():
    # Three announced at 0.9, all true: 0.1 off. One at 0.1, true: 0.9 off.
    judged = reliability([0.9, 0.9, 0.9, 0.1], [True, True, True, True])
    assert judged.expected_error == pytest.approx((3 * 0.1 + 0.9) / 4)


def test_certainty_falls_into_the_last_bin_and_more_is_refused():
    assert reliability([1.0], [True]).count[-1] == 1
    with pytest.raises(EvaluationError, match=r"probability=1.2 is not in \[0, 1\]"):
        reliability([1.2], [True])


def test_probabilities_of_what_counts_neither_way_are_left_out():
    truth = {"frame": [0, 0], "x_nm": [0.0, 5000.0], "y_nm": [0.0, 0.0], "photons": [900, 10]}
    found = {"frame": [0, 0, 0], "x_nm": [0.0, 5000.0, 9000.0], "y_nm": [0.0, 0.0, 0.0]}
    found["probability"] = [0.95, 0.95, 0.55]
    judged = probability_calibration(found, score(found, truth, ignore_below_photons=100))
    assert judged.count.sum() == 2
    assert judged.share[9] == 1.0  # the dim one's 0.95 is gone
    assert judged.share[5] == 0.0
    assert probability_calibration({"frame": []}, score(found, truth)) is None


def test_mean_errors_show_a_table_that_counts_from_the_pixels_centre():
    truth = {"frame": [0, 1], "x_nm": [500.0, 900.0], "y_nm": [500.0, 900.0]}
    found = truth | {name: np.array(truth[name]) - 50.0 for name in ("x_nm", "y_nm")}
    assert mean_errors(found, truth, score(found, truth)) == {
        "bias_x_nm": -50.0, "bias_y_nm": -50.0
    }  # fmt: skip


def test_errors_drawn_at_their_bounds_have_ratio_one(tables):
    judged = normalised_errors(*tables, {"x_nm": SIGMA_NM, "y_nm": SIGMA_NM})
    assert set(judged) == {"x_nm", "y_nm", "lateral"}
    for one in judged.values():
        assert one.ratio == pytest.approx(1, rel=0.03)
        assert one.rms_normalised == pytest.approx(1, rel=0.03)
    assert judged["x_nm"].bias == pytest.approx(0, abs=0.03)
    assert judged["lateral"].to_dict()["bias"] is None


def test_ratio_weighs_by_light_and_the_normalised_error_does_not():
    truth = {"frame": [0, 1], "x_nm": [0.0, 0.0], "y_nm": [0.0, 0.0]}
    found = {"frame": [0, 1], "x_nm": [2.0, 20.0], "y_nm": [0.0, 0.0]}
    bound = {"x_nm": np.array([1.0, 40.0])}
    judged = normalised_errors(found, truth, score(found, truth), bound)["x_nm"]
    assert judged.ratio == pytest.approx(math.sqrt((4 + 400) / (1 + 1600)))
    assert judged.rms_normalised == pytest.approx(math.sqrt((2**2 + 0.5**2) / 2))
    assert judged.bias == pytest.approx(11 / math.sqrt(1601 / 2))


def test_emitters_without_a_bound_are_left_out(tables):
    bound = {"x_nm": np.where(np.arange(COUNT) < 5, np.nan, SIGMA_NM)}
    assert normalised_errors(*tables, bound)["x_nm"].to_dict()["pairs"] == COUNT - 5
    with pytest.raises(EvaluationError, match="one row each"):
        normalised_errors(*tables, {"x_nm": SIGMA_NM[1:]})
