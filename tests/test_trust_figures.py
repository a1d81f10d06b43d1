"""Figures of a trust report held against tables whose errors are known."""

from types import SimpleNamespace

import numpy as np
import pytest
from small_worlds import movie, snapshot

pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning"),
]

from simscope.errors import StudyError  # noqa: E402
from simscope.evaluate import score_intervals  # noqa: E402
from simscope.evaluate.crlb import CRLB_DTYPE  # noqa: E402
from simscope.evaluate.fitting import FIT_DTYPE  # noqa: E402
from simscope.keys import Key  # noqa: E402
from simscope.trust import localizing, regressing, study  # noqa: E402
from simscope.trust.exams import simulated  # noqa: E402
from simscope.trust.localizing import (  # noqa: E402
    Localizers,
    hits_and_mistakes,
    judged_table,
    over_bound,
    poisson_interval,
    shown_frame,
)
from simscope.trust.regressing import Read, Regressors  # noqa: E402
from simscope.trust.verdicts import limits_in_words  # noqa: E402

BOUND_NM = 2.0


def bench_of(task=None, **subject):
    """A bench with no more than figures need."""
    task = task or SimpleNamespace(radius_nm=100.0, axial_radius_nm=None)
    first = SimpleNamespace(model=SimpleNamespace(task=task))
    about = SimpleNamespace(first=first, tests=study.Tests(bootstrap=200), **subject)
    resampling = {"key": Key(1).child("bootstrap"), "resamples": 200}
    return SimpleNamespace(subject=about, resampling=resampling)


@pytest.fixture(scope="module")
def films():
    """Movies of blinking molecules, six samples of twelve frames."""
    return simulated(movie(12).replace("structure.margin_nm", 500), 3, 0, 6)


@pytest.fixture(scope="module")
def stills():
    """Single frames, few emitters in each."""
    few = {"structure.density_per_um2": 0.08, "acquisition.shape": [40, 36]}
    return simulated(snapshot().replace_all(few), 4, 0, 60)


def moved(emitters, **by_nm):
    """What was found, moved off the truth."""
    table = emitters[["frame", "x_nm", "y_nm", "z_nm", "photons"]].copy()
    for name, step in by_nm.items():
        table[name] = table[name] + step
    return table


def bound_of(emitters):
    bound = np.zeros(len(emitters), CRLB_DTYPE)
    for name in ("x_nm", "y_nm", "z_nm", "photons"):
        bound[name] = BOUND_NM
    return bound


def test_errors_are_told_in_bounds_with_their_sign(stills):
    bench, truth = bench_of(), stills.emitters
    bound = bound_of(truth)
    bound["x_nm"][::3] = np.nan
    found = moved(truth, x_nm=3.0 * BOUND_NM, y_nm=-4.0 * BOUND_NM)
    rows = over_bound(bench, judged_table(bench, found, stills), bound)
    assert rows["x_nm"]["ratio"]["value"] == pytest.approx(3, rel=1e-3)
    assert rows["x_nm"]["bias"]["value"] == pytest.approx(3, rel=1e-3)
    assert rows["y_nm"]["bias"]["value"] == pytest.approx(-4, rel=1e-3)
    assert rows["lateral"]["rmse"]["value"] == pytest.approx(5 * BOUND_NM, rel=1e-3)
    assert rows["lateral"]["bound"]["value"] == pytest.approx(np.sqrt(2) * BOUND_NM, rel=1e-3)
    assert "bias" not in rows["lateral"]
    assert rows["found"]["value"] == 1
    assert rows["pairs"] == np.isfinite(bound["x_nm"]).sum()
    half = over_bound(bench, judged_table(bench, found[::2], stills), bound_of(truth))
    assert half["found"]["value"] == pytest.approx(0.5, abs=0.01)
    with pytest.raises(StudyError, match="0 isolated emitters were found"):
        over_bound(bench, judged_table(bench, found[:0], stills), bound)


def test_the_limit_is_told_of_isolated_emitters_alone(stills, monkeypatch):
    inside = localizing.away_from_border(stills)
    assert 2 < inside.sum() < len(inside)
    alone = np.bincount(stills.emitters["frame"], minlength=60) == 1
    by_hand = alone[stills.emitters["frame"]]
    for axis, size_nm in (("x_nm", 3600), ("y_nm", 4000)):
        by_hand &= np.abs(stills.emitters[axis] - size_nm / 2) < size_nm / 2 - 800
    assert np.array_equal(inside, by_hand)
    found = moved(stills.emitters, x_nm=np.where(inside, 5.0, 50.0))
    monkeypatch.setattr(localizing, "bounds_of", lambda exam: bound_of(exam.emitters))
    bench = bench_of(isolated=stills.recipe)
    bench.exam = lambda recipe, count=None: stills
    bench.judged = lambda member, recipe, count=None: judged_table(bench, found, stills)
    monkeypatch.setattr(
        localizing, "fitted", lambda bench, exam: judged_table(bench, exam.emitters, exam)
    )
    told = Localizers().limit(bench)
    assert told["emitters"] == told["figures"]["network"]["pairs"] == inside.sum()
    assert told["figures"]["network"]["x_nm"]["rmse"]["value"] == pytest.approx(5, rel=1e-3)
    assert told["figures"]["maximum likelihood"]["lateral"]["rmse"]["value"] == 0


def test_bounds_stand_on_the_background_of_each_emitter_s_sample(films, monkeypatch):
    monkeypatch.setattr(
        localizing, "crlb", lambda simulator, emitters, background_photons: background_photons
    )
    levels = films.batch.parameters["background.photons_per_pixel"]
    assert np.array_equal(localizing.bounds_of(films), levels[films.emitters["frame"] // 12])


def test_fits_begin_in_the_pixels_of_the_emitters_and_count_if_they_converge(stills, monkeypatch):
    begun = []

    def fit(images, simulator, start):
        begun.append((images.shape, start))
        found = np.zeros(len(start), FIT_DTYPE)
        for name in ("frame", "x_nm", "y_nm"):
            found[name] = start[name]
        found["converged"] = np.arange(len(start)) % 2 == 0
        return found

    monkeypatch.setattr("simscope.evaluate.fitting.fit", fit)
    judged = localizing.fitted(bench_of(), stills)
    (shape, start), truth = begun[0], stills.emitters
    assert shape == (60, 40, 36)
    for name in ("x_nm", "y_nm"):
        assert set(np.round(start[name] % 100)) == {50.0}
        assert np.abs(start[name] - truth[name]).max() <= 50.001
    assert len(judged.found) == (len(truth) + 1) // 2
    assert len(judged.truth) == len(truth)


def test_intervals_draw_whole_movies(films):
    bench, truth = bench_of(), films.emitters
    judged = judged_table(bench, moved(truth[truth["frame"] % 24 < 12]), films)
    figures = Localizers().figures(bench, judged)
    tables = judged.found, judged.truth, judged.score
    whole = score_intervals(*tables, frames_per_unit=12, **bench.resampling)["recall"]
    assert figures["recall"] == {"value": whole.value, "low": whole.low, "high": whole.high}
    assert figures["recall"]["high"] - figures["recall"]["low"] > 0.3  # three movies of six


def test_every_frame_has_its_hits_and_its_mistakes(films):
    bench, truth = bench_of(), films.emitters
    frames = np.unique(truth["frame"])
    lost, ghosts = frames[1], frames[3]
    gone = np.flatnonzero(truth["frame"] == lost)[:1]
    extra = moved(truth[truth["frame"] == ghosts][:1], x_nm=1e4)
    found = np.concatenate([np.delete(moved(truth), gone), extra, extra])
    judged = judged_table(bench, found, films)
    hits, wrong = hits_and_mistakes(judged)
    there = np.bincount(truth["frame"], minlength=films.frames)
    there[lost] -= 1
    assert hits.tolist() == there.tolist()
    assert {int(frame): int(wrong[frame]) for frame in np.flatnonzero(wrong)} == {
        int(lost): 1, int(ghosts): 2
    }  # fmt: skip
    shown = shown_frame(judged, int(ghosts))
    assert (shown["sample"], shown["frame"]) == divmod(ghosts, 12)
    assert len(shown["false"]["x_nm"]) == 2
    assert not shown["missed"]["x_nm"]
    assert len(shown_frame(judged, int(lost))["missed"]["x_nm"]) == 1


def test_the_worst_frames_are_those_with_most_mistakes(stills):
    bench, truth = bench_of(recipe=stills.recipe), stills.emitters
    worst = int(truth["frame"][len(truth) // 2])
    found = moved(truth[truth["frame"] != worst])
    bench.judged = lambda member, recipe: judged_table(bench, found, stills)
    told = Localizers().samples(bench)
    assert told["worst"][0]["sample"] == worst
    assert all(not one["missed"]["x_nm"] for one in told["best"])
    most = np.bincount(found["frame"]).max()
    assert len(told["best"][0]["hit"]["x_nm"]) == most


def test_hallucinations_are_counted_per_frame_and_area(stills):
    bench = bench_of(recipe=stills.recipe)
    bench.exam = lambda recipe: stills
    bench.judged = lambda member, recipe: SimpleNamespace(found=np.zeros(5))
    told = Localizers().empty(bench)
    pixel_um = stills.recipe.pixel_nm / 1000
    area = 60 * 40 * 36 * pixel_um**2
    low, high = poisson_interval(5)
    assert told["per_um2"] == pytest.approx({"value": 5 / area, "low": low / area,
                                             "high": high / area})  # fmt: skip
    assert told["per_frame"]["value"] == pytest.approx(5 / 60)


def test_backgrounds_are_those_of_each_frame_s_own_sample(films):
    levels = films.batch.parameters["background.photons_per_pixel"]
    frames = np.array([0, 11, 12, 71])
    assert films.background_photons(frames).tolist() == levels[[0, 0, 1, 5]].tolist()


def test_emitters_of_an_exam_are_lit_and_on_the_frame(films):
    emitters, pixel_nm = films.emitters, films.recipe.pixel_nm
    assert (emitters["photons"] > 0).all()
    assert emitters["x_nm"].max() < 20 * pixel_nm < films.batch.emitters["x_nm"].max()
    assert set(emitters["frame"]) <= set(range(72))
    assert emitters["frame"].max() >= 60  # frames of the last movie


UNITS = {"nm": ("nm", "nm"), "mixed": ("nm", "photons")}


@pytest.mark.parametrize("units", UNITS)
def test_the_limit_of_numbers_is_their_error_over_their_bound(units, monkeypatch):
    task = SimpleNamespace(paths=("a", "b"), units=UNITS[units])
    bench = bench_of(task, recipe=None)
    truth = np.random.default_rng(2).normal(0, [1.0, 1000.0], (30, 2))
    bounds = np.tile([0.1, 100.0], (12, 1))
    errors = np.full((30, 2), 77.0)
    errors[:12] = 3 * bounds
    read = Read(None, truth + errors, truth, np.ones((30, 2)))
    monkeypatch.setattr(regressing, "regression_bounds", lambda exam, paths, samples: bounds)
    bench.judged = lambda member, recipe: read
    told = Regressors().limit(bench)
    row = told["figures"]["network"]
    assert row["ratio"]["value"] == pytest.approx(3)
    scale = np.ones(2) if units == "nm" else truth.std(axis=0)
    assert row["bound"]["value"] == pytest.approx(np.hypot(*([0.1, 100.0] / scale)))
    assert [told["bound_of_each"][path]["value"] for path in "ab"] == pytest.approx([0.1, 100.0])
    assert np.array_equal(read.errors, read.values - truth)


def test_one_patch_of_each_image_is_judged(monkeypatch):
    rows = np.arange(12.0)[:, None]
    recipe = SimpleNamespace(pixel_nm=100.0)
    task = SimpleNamespace(
        recipe=recipe, paths=("a",), check_images=lambda shape: None,
        read=lambda output: rows + 0.5, truth=lambda batch: rows // 3,
        uncertainty=lambda output: rows + 9,
    )  # fmt: skip
    images = np.zeros((4, 8, 8))
    batch = SimpleNamespace(images=images, parameters={"a": None})
    exam = SimpleNamespace(batch=batch, recipe=recipe)
    monkeypatch.setattr("simscope.learn.compute.run_network", lambda task, images: None)
    read = Regressors().judge(bench_of(), SimpleNamespace(task=task), exam)
    assert read.truth.ravel().tolist() == [0, 1, 2, 3]
    assert read.values.ravel().tolist() == [0.5, 3.5, 6.5, 9.5]
    assert read.uncertainty.ravel().tolist() == [9, 12, 15, 18]


def test_what_fails_and_what_is_open_stands_among_the_limits():
    row = {"claim": "c", "value": 0.5, "relation": "at least", "limit": 0.8, "unit": ""}
    worst = {"status": "measured", "name": "film", "metric": "jaccard", "loss": {"value": 0.3}}
    report = {
        "recipe": "r",
        "trained_range": {},
        "metrics": {"jaccard": {"words": "Jaccard index"}},
        "sections": {
            "structures": {"status": "measured", "worst": worst},
            "empty": {"status": "not_tested", "reason": "it was dark"},
        },
        "verdicts": [row | {"status": status} for status in ("fails", "open", "holds")],
    }
    words = limits_in_words(report, ["Mine."])
    assert words[0] == "Mine."
    assert [("fails" in w, "is not settled" in w) for w in words if w.startswith("“c”")] == [
        (True, False), (False, True)
    ]  # fmt: skip
    assert any("worst structure is “film”: it costs 0.3 of the Jaccard" in w for w in words)
    assert "Not tested: empty, because it was dark." in words
