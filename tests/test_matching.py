"""Matching: gated before assignment, most pairs first, then least distance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_judging import best_matching_by_trying_all

from simscope.errors import EvaluationError
from simscope.evaluate import match

RADIUS_NM = 250.0


def table(positions_nm, frame=0, z_nm=None):
    positions_nm = np.asarray(positions_nm, float).reshape(-1, 2)
    columns = {
        "frame": np.full(len(positions_nm), frame),
        "x_nm": positions_nm[:, 0],
        "y_nm": positions_nm[:, 1],
    }
    return columns if z_nm is None else columns | {"z_nm": np.asarray(z_nm, float)}


points = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 20)).map(lambda p: (p[0] * 40.0, p[1] * 40.0)),
    max_size=5,
)


@settings(max_examples=80, deadline=None)
@given(points, points)
def test_matching_is_the_best_of_all_one_to_one_matchings(found, truth):
    found, truth = table(found), table(truth)
    count, total = best_matching_by_trying_all(found, truth, RADIUS_NM)
    matches = match(found, truth, RADIUS_NM)
    assert len(matches) == count
    assert matches.lateral_nm.sum() == pytest.approx(total, abs=1e-6)
    assert len(set(matches.found_rows)) == len(set(matches.truth_rows)) == count


def test_a_match_is_never_lost_to_a_forbidden_pair():
    # Ungated least-distance assignment pairs 0-1 and 1-0 here (summed 300 + 500 nm is beaten by
    # nothing allowed) and would drop both; gated, the one possible pair stays.
    found, truth = table([[0, 0], [1000, 0]]), table([[240, 0], [5000, 0]])
    matches = match(found, truth, RADIUS_NM)
    assert matches.found_rows.tolist() == [0]
    assert matches.truth_rows.tolist() == [0]


def test_two_long_pairs_beat_one_short_pair():
    found, truth = table([[0, 0], [200, 0]]), table([[200, 0], [400, 0]])
    assert len(match(found, truth, RADIUS_NM)) == 2


def test_emitters_of_different_frames_never_match():
    found = table([[100, 100]], frame=3)
    assert len(match(found, table([[100, 100]], frame=4))) == 0
    assert len(match(found, table([[100, 100]], frame=3))) == 1


def test_a_pair_exactly_at_the_radius_counts_and_one_beyond_does_not():
    found = table([[0, 0]])
    assert len(match(found, table([[250, 0]]), RADIUS_NM)) == 1
    assert len(match(found, table([[250.001, 0]]), RADIUS_NM)) == 0


def test_tolerances_hold_what_lies_exactly_on_them():
    # Distances of any digits: a search by squares must not lose them to rounding.
    for dx, dy in np.random.default_rng(4).uniform(0, 300, (200, 2)):
        assert len(match(table([[0, 0]]), table([[dx, dy]]), float(np.hypot(dx, dy)))) == 1
    low, high = table([[0, 0]], z_nm=[-100]), table([[0, 0]], z_nm=[400])
    assert len(match(low, high, RADIUS_NM, 500.0)) == 1
    assert len(match(low, high, RADIUS_NM, 499.999)) == 0


def test_of_two_above_one_another_the_one_nearer_in_height_is_matched():
    found = table([[0, 0], [0, 0]], z_nm=[-90, 10])
    truth = table([[5, 0], [5, 0]], z_nm=[0, -100])
    matches = match(found, truth, RADIUS_NM, 500.0)
    assert matches.truth_rows.tolist() == [1, 0]
    assert matches.axial_nm.tolist() == [10.0, 10.0]


def test_axial_gate_acts_before_the_assignment():
    found = table([[0, 0]], z_nm=[0])
    truth = table([[0, 0], [200, 0]], z_nm=[900, 100])
    matches = match(found, truth, RADIUS_NM, 500.0)
    assert matches.truth_rows.tolist() == [1]
    assert matches.axial_nm.tolist() == [-100.0]
    assert match(found, truth, RADIUS_NM).truth_rows.tolist() == [0]


def test_many_frames_give_what_each_frame_gives_alone():
    rng = np.random.default_rng(1)
    frames = rng.permutation(np.repeat(np.arange(60) * 7 - 20, 40))
    truth = {
        "frame": frames,
        "x_nm": rng.uniform(0, 3000, 2400),
        "y_nm": rng.uniform(0, 3000, 2400),
    }
    found = truth | {name: truth[name] + rng.normal(0, 80, 2400) for name in ("x_nm", "y_nm")}
    whole = match(found, truth)
    pairs = set(zip(whole.found_rows.tolist(), whole.truth_rows.tolist(), strict=True))
    alone = set()
    for frame in np.unique(frames):
        rows = np.flatnonzero(frames == frame)
        part = match(*({n: t[n][rows] for n in t} for t in (found, truth)))
        alone |= set(
            zip(rows[part.found_rows].tolist(), rows[part.truth_rows].tolist(), strict=True)
        )
    assert pairs == alone


def test_a_table_matches_itself_whatever_the_order_of_its_rows():
    rng = np.random.default_rng(2)
    truth = {
        "frame": rng.integers(0, 9, 500),
        "x_nm": rng.random(500) * 6e3,
        "y_nm": rng.random(500) * 6e3,
    }
    order = rng.permutation(500)
    found = {name: column[order] for name, column in truth.items()}
    matches = match(found, truth)
    assert (matches.truth_rows == order).all()
    assert (matches.lateral_nm == 0).all()


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ({"frame": [0], "x_nm": [1.0]}, "no column 'y_nm'.*frame, x_nm"),
        ({"frame": [0], "x_nm": [np.nan], "y_nm": [1.0]}, "not finite.*remove"),
        ({"frame": [0.5], "x_nm": [1.0], "y_nm": [1.0]}, "frame=0.5 is not a whole"),
        ({"frame": [0, 1], "x_nm": [1.0], "y_nm": [1.0]}, "differ in length"),
        ({"frame": [[0]], "x_nm": [1.0], "y_nm": [1.0]}, "2 dimensions"),
        (np.zeros((3, 4)), "without named columns"),
        ({"frame": [0], "x_nm": [1e13], "y_nm": [1.0]}, "x_nm=1e\\+13 lies beyond"),
        ({"frame": [1e19], "x_nm": [1.0], "y_nm": [1.0]}, r"frame=1e\+19 is not below 2\*\*53"),
        ({"frame": [10**400], "x_nm": [1.0], "y_nm": [1.0]}, "no column 'frame' of numbers"),
        ({"frame": [0], "x_nm": [1j], "y_nm": [1.0]}, "no column 'x_nm' of numbers"),
        (
            {"frame": [0, 0], "x_nm": np.ma.array([1.0, 2.0], mask=[0, 1]), "y_nm": [1.0, 2.0]},
            "1 masked rows.*leave",
        ),
    ],
)
def test_a_table_that_cannot_be_judged_is_refused(found, says):
    with pytest.raises(EvaluationError, match=says):
        match(found, table([[0, 0]]))


@pytest.mark.parametrize("radius", [0.0, -1.0, np.nan, np.inf, 1e300, "250", True])
def test_a_tolerance_that_is_no_length_is_refused(radius):
    with pytest.raises(EvaluationError, match="tolerance"):
        match(table([]), table([]), radius)
    with pytest.raises(EvaluationError, match="tolerance"):
        match(table([]), table([]), 250.0, radius)


def test_the_lateral_tolerance_cannot_be_left_out():
    with pytest.raises(EvaluationError, match=r"radius_nm=None.*tolerance"):
        match(table([]), table([]), None)


def test_a_masked_array_without_masked_rows_is_a_table_like_any_other():
    found = {name: np.ma.array(column) for name, column in table([[0, 0]]).items()}
    assert len(match(found, table([[10, 0]]))) == 1


def test_blocks_of_frames_do_not_change_the_matching(monkeypatch):
    rng = np.random.default_rng(4)
    truth, found = (
        {"frame": rng.integers(0, frames, 600)}
        | {n: rng.random(600) * 4e3 for n in ("x_nm", "y_nm")}
        for frames in (20, 30)
    )
    whole = match(found, truth)
    monkeypatch.setattr("simscope.evaluate.matching.ROWS_AT_ONCE", 7)
    monkeypatch.setattr("simscope.evaluate.matching.PAIRS_PER_BLOCK", 3)
    cut = match(found, truth)
    assert cut.found_rows.tolist() == whole.found_rows.tolist()
    assert cut.truth_rows.tolist() == whole.truth_rows.tolist()
    assert len(whole) > 100
