"""Scores: counts pooled over frames, conventions for nothing, errors of known displacement."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
