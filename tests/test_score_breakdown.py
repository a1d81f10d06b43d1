"""Scores in bins: they add up, and stand where emitters are hard."""

import math

import numpy as np
import pytest
from reference_judging import density_by_counting

from simscope.errors import EvaluationError
from simscope.evaluate import Values, breakdown, score, signal_to_noise
from simscope.evaluate.breakdown import quantity


@pytest.fixture(scope="module")
def scene():
    """Emitters of all kinds, of which the bright are found, with ghosts; and the score."""
    rng = np.random.default_rng(7)
    count = 600
    truth = {
        "frame": rng.integers(0, 12, count),
        "photons": rng.uniform(0, 1000, count),
        "z_nm": rng.uniform(-400, 400, count),
    } | {name: rng.uniform(0, 8000, count) for name in ("x_nm", "y_nm")}
    seen = truth["photons"] > 300
    found = {name: column[seen] for name, column in truth.items()}
    ghosts = {"frame": 3, "photons": 40.0, "z_nm": 0.0, "x_nm": 9500.0, "y_nm": 9500.0}
    found = {n: np.concatenate([c, np.full(9, ghosts[n])]) for n, c in found.items()}
    return found, truth, score(found, truth, 100, 50, ignore_below_photons=100)


@pytest.mark.parametrize("by", ["photons", "z", "density", "crowd"])
def test_bins_add_up_to_the_whole(scene, by):
    result = scene[-1]
    bins = breakdown(*scene, by, bins=4)
    assert sum(one.true_positives for one in bins) == result.true_positives
    assert sum(one.false_positives for one in bins) == result.false_positives == 9
    assert sum(one.true_emitters for one in bins) == int(result.counted_truth.sum())
    assert [one.low for one in bins[1:]] == [one.high for one in bins[:-1]]


def test_what_is_dim_is_what_is_missed(scene):
    bins = breakdown(*scene, "photons", edges=[100, 300, 600, 1000])
    assert [one.recall for one in bins] == [0.0, 1.0, 1.0]
    assert math.isnan(bins[0].rmse_lateral_nm)
    assert bins[0].to_dict()["rmse_lateral_nm"] is None


def test_one_bin_has_the_score_of_the_whole(scene):
    result, (one,) = scene[-1], breakdown(*scene, "photons", bins=1)
    for name in ("recall", "precision", "jaccard", "rmse_lateral_nm", "rmse_axial_nm"):
        assert getattr(one, name) == pytest.approx(getattr(result, name)), name


def test_what_counts_neither_way_moves_no_edge(scene):
    truth, counted = scene[1]["photons"], scene[-1].counted_truth
    bins = breakdown(*scene, "photons", bins=4)
    assert bins[0].low == truth[counted].min() > truth.min()
    assert {one.true_emitters for one in bins} <= {counted.sum() // 4, counted.sum() // 4 + 1}


def test_ghosts_fall_where_they_claim_to_be(scene):
    first, *others = breakdown(*scene, "photons", bins=3)
    assert first.false_positives == 9
    assert all(one.precision == 1 for one in others)


def test_a_table_that_claims_no_photons_has_recall_but_no_precision(scene):
    found, truth, result = scene
    silent = {name: column for name, column in found.items() if name != "photons"}
    one = breakdown(silent, truth, result, "photons", bins=1)[0]
    assert (one.precision, one.jaccard, one.false_positives) == (None, None, None)
    assert one.recall == pytest.approx(result.recall)


def test_densities_are_those_counted_one_by_one(scene):
    found, truth, _ = scene
    density = quantity(found, truth, "density", 900.0)
    assert density.truth == pytest.approx(density_by_counting(truth, 900.0))
    assert density.found[-9:].tolist() == [0.0] * 9  # nothing stands near the ghosts


def test_crowd_is_the_number_of_true_emitters_in_the_frame(scene):
    found, truth, _ = scene
    crowd = quantity(found, truth, "crowd")
    assert crowd.truth[0] == (truth["frame"] == truth["frame"][0]).sum()
    assert crowd.found[-1] == (truth["frame"] == 3).sum()


def test_no_true_emitter_stands_in_a_frame_of_ghosts_alone():
    truth = {"frame": [2, 2, 5], "x_nm": [0.0, 1.0, 2.0], "y_nm": [0.0] * 3}
    found = {"frame": [1, 2, 3, 9], "x_nm": [0.0] * 4, "y_nm": [0.0] * 4}
    assert quantity(found, truth, "crowd").found.tolist() == [0, 2, 0, 0]


def test_equal_values_share_a_bin():
    table = {"frame": np.arange(10), "x_nm": np.zeros(10), "y_nm": np.zeros(10)}
    values = Values(np.array([0.0] * 8 + [1.0, 2.0]))
    bins = breakdown(table, table, score(table, table), values, bins=3)
    assert [one.true_emitters for one in bins] == [8, 1, 1]


def test_what_lies_beyond_given_edges_is_left_out(scene):
    bins = breakdown(*scene, "z", edges=[-100, 0, 100])
    truth, result = scene[1], scene[2]
    inside = (np.abs(truth["z_nm"]) <= 100) & result.counted_truth
    assert sum(one.true_emitters for one in bins) == inside.sum()


def test_an_empty_truth_has_no_bins():
    empty = {name: np.zeros(0) for name in ("frame", "x_nm", "y_nm", "photons")}
    for by in ("photons", "density", "crowd"):
        assert breakdown(empty, empty, score(empty, empty), by) == []


def test_signal_to_noise_of_shot_noise_worked_by_hand():
    assert signal_to_noise(100, 0, 12.0) == pytest.approx(10)
    assert signal_to_noise(100, 25, 12.0) == pytest.approx(100 / math.sqrt(400))


@pytest.mark.parametrize(
    ("by", "options", "says"),
    [
        ("foton", {}, "cannot break down by 'foton'"),
        ("photon", {}, "did you mean 'photons'"),
        ("density", {"neighbourhood_nm": 0.0}, "neighbourhood_nm=0"),
        ("photons", {"bins": 0}, "bins=0"),
        ("photons", {"edges": [3, 2]}, "do not rise"),
        (Values(np.zeros(3)), {}, "one finite number for each of 600 true"),
    ],
)
def test_a_breakdown_that_makes_no_sense_is_refused(scene, by, options, says):
    with pytest.raises(EvaluationError, match=says):
        breakdown(*scene, by, **options)
