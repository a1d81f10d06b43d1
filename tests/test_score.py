"""Scores: counts pooled over frames, conventions for nothing, errors of known displacement."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_judging import challenge_counts

from simscope.errors import EvaluationError
from simscope.evaluate import in_frame, score
from simscope.evaluate.score import efficiency

EMPTY = {name: np.zeros(0) for name in ("frame", "x_nm", "y_nm", "z_nm")}


def grid(count, step_nm=2000.0):
    return {
        "frame": np.arange(count) // 10,
        "x_nm": np.arange(count) % 10 * step_nm,
        "y_nm": np.zeros(count),
        "z_nm": np.zeros(count),
    }


def test_a_perfect_result_scores_one_everywhere():
    result = score(grid(25), grid(25), 250, 500)
    assert (result.precision, result.recall, result.jaccard, result.f1) == (1, 1, 1, 1)
    assert (result.rmse_lateral_nm, result.rmse_axial_nm) == (0, 0)
    assert (result.efficiency_lateral, result.efficiency_axial) == (100, 100)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 30), st.integers(0, 10), st.integers(0, 10), st.floats(0, 100))
def test_counts_and_error_follow_from_what_was_added_and_removed(hits, extra, missed, shift_nm):
    truth = grid(hits + missed)
    found = {name: column[:hits] for name, column in truth.items()}
    found["x_nm"] = found["x_nm"] + 0.6 * shift_nm
    found["y_nm"] = found["y_nm"] - 0.8 * shift_nm
    ghosts = {"frame": 99, "x_nm": 5.0, "y_nm": 5.0, "z_nm": 5.0}
    found = {n: np.concatenate([c, np.full(extra, ghosts[n])]) for n, c in found.items()}
    result = score(found, truth, 250)
    assert (result.true_positives, result.false_positives) == (hits, extra)
    assert result.false_negatives == missed
    if hits:
        assert result.jaccard == pytest.approx(hits / (hits + extra + missed))
        assert result.rmse_lateral_nm == pytest.approx(shift_nm, abs=1e-6)


def test_rmse_of_gaussian_errors_is_root_two_sigma():
    rng = np.random.default_rng(5)
    truth = grid(20000)
    found = truth | {n: truth[n] + rng.normal(0, 12, 20000) for n in ("x_nm", "y_nm")}
    # Relative standard error of an RMS over 20,000 pairs: 1 / sqrt(2 * 2 * 20,000) = 0.35 %.
    assert score(found, truth).rmse_lateral_nm == pytest.approx(12 * math.sqrt(2), rel=0.015)


def test_two_empty_tables_agree_and_errors_of_nothing_are_nan():
    result = score(EMPTY, EMPTY, 250, 500)
    assert (result.precision, result.recall, result.jaccard) == (1, 1, 1)
    assert math.isnan(result.rmse_lateral_nm)
    assert math.isnan(result.rmse_axial_nm)
    assert json.loads(json.dumps(result.to_dict()))["rmse_lateral_nm"] is None


def test_finding_nothing_has_no_recall_and_finding_ghosts_no_precision():
    nothing, ghosts = score(EMPTY, grid(4)), score(grid(4), EMPTY)
    assert (nothing.precision, nothing.recall, nothing.jaccard) == (1, 0, 0)
    assert (ghosts.precision, ghosts.recall, ghosts.jaccard) == (0, 1, 0)


def test_heights_beyond_the_axial_tolerance_are_no_match():
    found = grid(4) | {"z_nm": grid(4)["z_nm"] + np.array([-501.0, -499.0, 499.0, 501.0])}
    result = score(found, grid(4), 250, 500)
    assert result.matches.found_rows.tolist() == [1, 2]
    assert result.rmse_axial_nm == pytest.approx(499)


def test_axial_error_is_left_out_without_an_axial_tolerance():
    found = grid(4) | {"z_nm": np.full(4, np.nan)}
    result = score(found, grid(4))
    assert result.jaccard == 1
    assert math.isnan(result.rmse_axial_nm)


def test_efficiency_weighs_jaccard_against_error():
    # Worked by hand: 100 - sqrt((100 - 60)^2 + (1 * 30)^2) = 50.
    assert efficiency(0.6, 30.0, 1.0) == pytest.approx(50.0)


def structured(columns):
    table = np.zeros(len(columns["frame"]), [(name, float) for name in columns])
    for name, column in columns.items():
        table[name] = column
    return table


def test_structured_arrays_and_dicts_give_one_score():
    assert score(structured(grid(12)), grid(15), 250, 500) == score(grid(12), grid(15), 250, 500)


def test_data_frames_give_the_same_score():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame(grid(12))
    assert score(frame, grid(15), 250, 500) == score(grid(12), grid(15), 250, 500)


def test_a_frame_holds_its_first_edge_and_not_its_last():
    table = {"x_nm": [-0.1, 0.0, 299.9, 300.0, 100.0], "y_nm": [50.0, 0.0, 199.9, 50.0, 200.0]}
    assert in_frame(table, (2, 3), 100.0).tolist() == [False, True, True, False, False]


@pytest.mark.parametrize(
    ("shape", "pixel_nm"), [((0, 3), 100.0), ((3,), 100.0), ((3, 3), math.nan), ((3, 3), 0.0)]
)
def test_a_frame_without_area_is_refused(shape, pixel_nm):
    with pytest.raises(EvaluationError, match="give"):
        in_frame(EMPTY, shape, pixel_nm)


def with_photons(columns, photons):
    return columns | {"photons": np.asarray(photons, float)}


def test_a_dim_emitter_counts_neither_way_whether_it_was_found_or_not():
    truth = with_photons(grid(6), [900, 900, 900, 100, 100, 100])
    found = {name: column[1:5] for name, column in truth.items()}
    result = score(found, truth, ignore_below_photons=500)
    assert (result.true_positives, result.false_positives, result.false_negatives) == (2, 0, 1)
    assert (result.ignored_found, result.ignored_truth) == (2, 3)
    assert result.counted_found.tolist() == [True, True, False, False]
    assert result.matches.truth_rows.tolist() == [1, 2]


def test_an_emitter_with_just_the_photons_asked_for_counts():
    truth = with_photons(grid(3), [499.9, 500.0, 500.1])
    assert score(grid(3), truth, ignore_below_photons=500).counted_truth.tolist() == [0, 1, 1]


def test_dim_emitters_are_matched_first_and_dropped_then():
    # The dim one stands nearer. Dropped before the matching, it would leave the bright one hit.
    truth = with_photons({"frame": [0, 0], "x_nm": [0.0, 90.0], "y_nm": [0.0, 0.0]}, [50, 900])
    found = {"frame": [0], "x_nm": [30.0], "y_nm": [0.0]}
    result = score(found, truth, ignore_below_photons=500)
    assert (result.true_positives, result.false_positives, result.false_negatives) == (0, 0, 1)


def test_counts_are_those_of_the_challenges_own_way():
    # Emitters are far apart, so nearest-first and best matching pair alike; ghosts stand alone.
    rng = np.random.default_rng(8)
    truth = with_photons(grid(60), rng.uniform(0, 1000, 60))
    seen = rng.random(60) < 0.7
    found = {name: truth[name][seen] for name in ("frame", "x_nm", "y_nm")}
    found["x_nm"] = found["x_nm"] + rng.normal(0, 120, len(found["x_nm"]))
    found["frame"] = np.append(found["frame"], [1, 2])
    for name in ("x_nm", "y_nm"):
        found[name] = np.append(found[name], [900.0, 1100.0])
    result = score(found, truth, 250, ignore_below_photons=400)
    counted = (result.true_positives, result.false_positives, result.false_negatives)
    assert counted == challenge_counts(found, truth, 250, 400)
    assert min(counted) > 0


def test_a_mask_ignores_what_a_limit_of_photons_would():
    truth = with_photons(grid(6), [900, 100, 900, 100, 900, 100])
    by_limit = score(grid(5), truth, ignore_below_photons=500)
    assert score(grid(5), truth, ignored=truth["photons"] < 500) == by_limit
    assert by_limit.ignored_truth == 3


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"ignore_below_photons": -1.0}, "ignore_below_photons=-1.0"),
        ({"ignore_below_photons": math.nan}, "ignore_below_photons=nan"),
        ({"ignore_below_photons": 5.0}, "no column 'photons'"),
        ({"ignored": [0, 1, 0, 1]}, "give 4 booleans"),
        ({"ignored": np.zeros(3, bool)}, "give 4 booleans"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(option, says):
    with pytest.raises(EvaluationError, match=says):
        score(grid(4), grid(4), **option)


def test_efficiency_in_three_dimensions_is_the_mean_of_both():
    found = grid(10) | {"x_nm": grid(10)["x_nm"] + 30.0, "z_nm": np.full(10, 80.0)}
    result = score(found, grid(10), 250, 500)
    # Nothing missed: 100 - 1 * 30 laterally and 100 - 0.5 * 80 axially.
    assert result.efficiency_3d == pytest.approx((70 + 60) / 2)
    assert math.isnan(score(found, grid(10)).efficiency_3d)
    assert result.to_dict()["efficiency_3d"] == pytest.approx(65)
