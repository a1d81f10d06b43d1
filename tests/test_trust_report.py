"""The trust report: nothing left out, figures that are right, one page that needs nothing else."""

import html
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("matplotlib", reason="matplotlib is not installed")
pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning"),
]

import simscope as ss  # noqa: E402
from simscope.errors import DatasetError, StudyError, TrainingError  # noqa: E402
from simscope.evaluate import calibrated, score  # noqa: E402
from simscope.trust import Study, examine, report_on, run_study, study  # noqa: E402
from simscope.trust.bench import Bench  # noqa: E402
from simscope.trust.exams import simulated, subject_of_runs, subject_of_study  # noqa: E402
from simscope.trust.localizing import Localizers, away_from_border, without_emitters  # noqa: E402
from simscope.trust.regressing import Regressors  # noqa: E402
from simscope.trust.regression_bound import regression_bounds  # noqa: E402
from simscope.trust.sections import SECTIONS, microscopes, overtraining, trained_on  # noqa: E402
from simscope.trust.stated import stated_errors  # noqa: E402
from simscope.trust.training import (  # noqa: E402
    Run,
    expected_minutes,
    runs_of,
    train_all,
    train_one,
)

FLAT = {
    "acquisition.shape": [24, 24],
    "structure.density_per_um2": 1.5,
    "rendering.window_px": 9,
    "rendering.accept_energy_loss": True,
}
STUDY = {
    "name": "tiny",
    "network": "deepstorm-slim",
    "config": {"channels": 16, "dilations": [1, 2]},
    "recipe": "smlm-2d-dense",
    "changes": FLAT,
    "budget": {"steps": 4},
    "plan": {"batch_size": 4, "validation_samples": 4, "validations": 2},
    "sizes": [8],
    "microscopes": {"other pixels": {"camera.pixel_pitch_um": 11}},
    "tests": {
        "samples": 5,
        "bootstrap": 50,
        "isolated_samples": 12,
        "conditions": {"dense": {"structure.density_per_um2": 4}},
        "structures": {"movie": {"acquisition.frames": 2}},
    },
    "claims": [
        {"claim": "finds all", "figure": "accuracy/figures/dense/recall", "at_least": 1.0},
    ],
}
STACKS = {
    "name": "stacks",
    "network": "zernike",
    "config": {"channels": 8},
    "recipe": "psf-zernike",
    "changes": {
        "acquisition.shape": [16, 16],
        "acquisition.focus_nm": {"start_nm": -500, "stop_nm": 500, "planes": 3},
        "optics.wavefront.random_modes": [3, 5],
    },
    "budget": {"steps": 2},
    "plan": {"batch_size": 4, "validation_samples": 4, "validations": 1},
    "seeds": [0],
    "tests": {"samples": 6, "bootstrap": 50},
}


FEW = study.Tests(samples=4, bootstrap=50)


def silent(line):
    """Tell nobody."""


def made(settings, folder):
    """Folder of a study that was run."""
    run_study(Study(**settings), folder, tell=silent, bars=False)
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return made(STUDY, tmp_path_factory.mktemp("study") / "tiny")


@pytest.fixture(scope="module")
def stacks(tmp_path_factory):
    return made(STACKS, tmp_path_factory.mktemp("study") / "stacks")


def read(folder):
    return json.loads((folder / "report.json").read_text("utf8"))


def plain(report):
    """A report as JSON keeps it."""
    return json.loads(json.dumps(report))


def everywhere(value, path=""):
    """Every dictionary in a report with the way to it."""
    if isinstance(value, dict):
        yield path, value
        for name, inner in value.items():
            yield from everywhere(inner, f"{path}/{name}")
    if isinstance(value, list):
        for number, inner in enumerate(value):
            yield from everywhere(inner, f"{path}/{number}")


@pytest.fixture(params=["tiny", "stacks"])
def either(request):
    return request.getfixturevalue(request.param)


def test_no_section_is_left_out_and_what_was_not_tested_says_why(either):
    report, page = read(either), (either / "report.html").read_text("utf8")
    assert set(report["sections"]) == {*SECTIONS, "limits"}
    for name, (title, _) in SECTIONS.items():
        assert report["sections"][name]["status"] in ("measured", "not_tested"), name
        assert f"<h2>{html.escape(title)}</h2>" in page
    for path, entry in everywhere(report):
        if entry.get("status") == "not_tested":
            assert len(entry["reason"]) > 10, path
            if "/study" not in path:
                assert html.escape(entry["reason"]) in page, path


def test_the_page_fetches_nothing_and_says_what_the_json_says(either):
    report, page = read(either), (either / "report.html").read_text("utf8")
    assert not re.search(r"(src|href)\s*=\s*[\"'](?!data:|#)", page)
    assert "@import" not in page
    assert "<script" not in page
    text = html.unescape(page)
    for row in report["verdicts"]:
        assert row["claim"] in text
        assert row["value"] is None or f"{row['value']:.3g}".replace("-", "−") in text
    for figures in report["sections"]["accuracy"]["figures"].values():
        for metric, one in figures.items():
            digits = report["metrics"][metric]["digits"]
            if one["value"] is not None:
                assert f"{one['value']:.{digits}f}".replace("-", "−") in text
    for sentence in report["sections"]["limits"]["words"]:
        assert sentence in text
    assert report["sections"]["identity"]["recipe_sha256"] in text


def test_the_json_states_its_schema_and_holds_no_nan(either):
    text = (either / "report.json").read_text("utf8")
    report = json.loads(text, parse_constant=pytest.fail)
    assert (report["schema"], report["schema_version"]) == ("simscope.trust-report", 1)


def test_scores_are_those_of_evaluate_on_the_test_samples(tiny):
    asked = Study(**STUDY)
    model = ss.learn.load(next((tiny / "runs").glob("seed-0-*")))
    dense = asked.recipes()["conditions/dense"]
    with ss.open_dataset(ss.generate(dense, 5, asked.tests.seed, tiny / "again.h5")) as data:
        by_hand = score(ss.learn.localize(model, data), data.emitters_in_frame, 250.0)
    told = read(tiny)["sections"]["accuracy"]["over_items"]["0"]["dense"]
    assert told["jaccard"]["value"] == pytest.approx(by_hand.jaccard)
    assert told["rmse_lateral_nm"]["value"] == pytest.approx(by_hand.rmse_lateral_nm)


def test_intervals_are_over_seeds_as_soon_as_there_are_three(tiny, stacks):
    many, one = (read(folder)["sections"]["accuracy"] for folder in (tiny, stacks))
    assert many["intervals"] == "seeds"
    values = [many["over_items"][seed]["dense"]["recall"]["value"] for seed in ("0", "1", "2")]
    assert many["figures"]["dense"]["recall"]["value"] == pytest.approx(np.mean(values))
    assert one["intervals"] == "samples"
    assert one["over_seeds"]["status"] == "not_tested"


def test_networks_do_not_sit_tests_with_other_pixels(tiny):
    cells = read(tiny)["sections"]["microscopes"]["figures"]
    assert "pixels" in cells["as trained"]["other pixels"]["reason"]
    assert cells["other pixels"]["other pixels"]["jaccard"]["value"] is not None


def test_regressors_do_not_sit_tests_with_other_pixels(stacks):
    subject = subject_of_study(Study(**STACKS), stacks)
    larger = subject.recipe.replace("camera.pixel_pitch_um", 20)
    with pytest.raises(TrainingError, match="pixels"):
        Bench(subject, Regressors()).judged(subject.first, larger)


def test_every_run_states_its_time_and_every_hyper_parameter(tiny):
    sections = read(tiny)["sections"]
    runs = sections["cost"]["runs"]
    assert set(runs) == {"seed 0", "seed 1", "seed 2", "size 8", "microscope other pixels"}
    assert all(run["cpu_seconds"] > 0 and run["steps"] == 4 for run in runs.values())
    assert set(sections["hyper_parameters"]["plan"]) == set(ss.learn.Plan.model_fields)
    assert sections["hyper_parameters"]["config"]["channels"] == 16


def test_a_finished_study_is_not_trained_again_and_gives_the_same_figures(tiny, monkeypatch):
    before = read(tiny)
    runs = runs_of(Study(**STUDY))
    monkeypatch.setattr(ss.learn, "train", lambda *_, **__: pytest.fail("trained again"))
    assert expected_minutes(runs, tiny) == 0
    train_all(runs, tiny, tell=silent)
    assert plain(examine(subject_of_study(Study(**STUDY), tiny))) == before


def test_a_lost_run_is_said_to_be_missing_when_the_report_is_made_again(tiny, tmp_path):
    copy = tmp_path / "copy"
    for path in tiny.rglob("*"):
        if path.is_file() and "microscope" not in str(path) and path.suffix != ".h5":
            target = copy / path.relative_to(tiny)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes().replace(b"train-16-", b"train-17-"))
    bench = bench_of(STUDY, copy)
    cells = microscopes(bench)["figures"]
    assert cells["other pixels"]["as trained"]["reason"] == "this run is not finished"
    assert bench.subject.unfinished == ("microscope other pixels",)
    assert (
        "Not trained yet, so left out: microscope other pixels."
        in (examine(bench.subject)["sections"]["limits"]["words"])
    )
    gone = overtraining(bench)["runs"]["size 8"]
    assert "not there any more" in gone["reason"]


def test_runs_of_another_budget_get_folders_of_their_own():
    first, longer = (runs_of(Study(**STUDY | {"budget": {"steps": n}})) for n in (4, 5))
    assert not {run.name for run in first} & {run.name for run in longer}
    assert len({run.name for run in first}) == len(first)


@pytest.mark.slow
def test_trainings_side_by_side_give_the_weights_of_one_after_the_other(tiny, tmp_path):
    few = STUDY | {"seeds": [0, 1], "sizes": [], "microscopes": {}}
    made_apart = tmp_path / "apart"
    runs = runs_of(Study(**few))
    train_all(runs, made_apart, jobs=2, tell=silent)
    for run in runs:
        name = Path("runs", run.name, "weights.safetensors")
        assert (made_apart / name).read_bytes() == (tiny / name).read_bytes()


def test_a_run_alone_gives_a_report_that_says_what_is_missing(tiny, tmp_path):
    run = next((tiny / "runs").glob("seed-1-*"))
    report_on([run], out=tmp_path / "alone", tests=FEW)
    sections = read(tmp_path / "alone")["sections"]
    for name in ("training_size", "microscopes", "structures"):
        assert sections[name]["status"] == "not_tested"
    assert sections["accuracy"]["status"] == "measured"
    with pytest.raises(DatasetError, match="--force"):
        report_on([run], out=tmp_path / "alone")


def test_runs_of_several_recipes_give_the_matrix_of_microscopes(tiny):
    folders = [
        next((tiny / "runs").glob(f"{name}-*")) for name in ("seed-0", "seed-1", "microscope")
    ]
    subject = subject_of_runs(folders)
    assert [member.label for member in subject.seeds] == ["0", "1"]
    cells = microscopes(Bench(subject, Localizers()))["figures"]
    assert len(cells) == 2
    assert all(row[name]["jaccard"]["value"] is not None for name, row in cells.items())


def test_runs_that_cannot_be_reported_together_are_refused(tiny, stacks, tmp_path):
    flat, deep = (next((folder / "runs").glob("seed-0-*")) for folder in (tiny, stacks))
    with pytest.raises(StudyError, match="one network at a time"):
        report_on([flat, deep], out=tmp_path)
    with pytest.raises(StudyError, match="no folder"):
        report_on([tmp_path / "nowhere"])


def bench_of(settings, folder):
    return Bench(subject_of_study(Study(**settings), folder), Localizers())


def test_samples_of_the_overtraining_test_are_those_trained_on(tiny, monkeypatch):
    bench = bench_of(STUDY, tiny)
    run = runs_of(Study(**STUDY))[0]
    asked = []
    given = ss.Simulator.batch

    def noted(self, start, stop, **how):
        batch = given(self, start, stop, **how)
        asked.append((start, batch.images.copy()))
        return batch

    seen = trained_on(bench, bench.subject.first).images
    monkeypatch.setattr(ss.Simulator, "batch", noted)
    train_one(run, tiny / "once-more", progress=False)
    first = next(images for start, images in asked if start == 0)
    np.testing.assert_array_equal(seen[: len(first), 0], first[: len(seen)])


def test_samples_of_a_finite_set_are_those_of_its_file(tiny):
    bench = bench_of(STUDY, tiny)
    (size,) = bench.subject.sizes
    seen = trained_on(bench, size).images
    with ss.open_dataset(next((tiny / "data").glob("*.h5"))) as data:
        assert len(data) == 8 + 2 * 4
        np.testing.assert_array_equal(seen[:, 0], data.images[: len(seen)])


def test_emptied_frames_hold_light_but_no_emitters():
    exam = simulated(without_emitters(Study(**STUDY).base), 3, 0, 3)
    assert not len(exam.emitters)
    assert exam.images.mean() > 100


def test_isolated_emitters_are_alone_and_away_from_the_border():
    sparse = Study(**STUDY).base.replace("structure.density_per_um2", 0.15)
    exam = simulated(sparse, 3, 0, 60)
    emitters, inside = exam.emitters, away_from_border(exam)
    assert 0 < inside.sum() < len(emitters)
    for row in np.flatnonzero(inside):
        assert (emitters["frame"] == emitters["frame"][row]).sum() == 1
        assert 600 < emitters["x_nm"][row] < 1800


def test_intervals_of_stated_errors_draw_whole_samples():
    # 25 errors of each sample are one and the same: as good as one a sample, so 5 times as unsure.
    bench = SimpleNamespace(resampling={"resamples": 400})
    errors = np.repeat(np.random.default_rng(4).normal(size=100), 25)
    told = calibrated(errors, np.ones(errors.size))
    together, alone = (
        stated_errors(bench, told, sample)["rms"]
        for sample in (np.repeat(np.arange(100), 25), np.arange(errors.size))
    )
    assert together["value"] == pytest.approx(alone["value"]) == pytest.approx(told.spread)
    widths = [one["high"] - one["low"] for one in (together, alone)]
    assert widths[0] / widths[1] == pytest.approx(5, rel=0.25)


def test_the_bound_of_coefficients_falls_as_one_over_root_photons_without_background():
    recipe = Study(**STACKS).base.replace_all(
        {"background.photons_per_pixel": 0.01, "camera.read_noise_e": 0.0,
         "camera.dark_e_per_s": 0.0}
    )  # fmt: skip
    paths = tuple(f"optics.wavefront.coefficients_nm.{mode}" for mode in (3, 5))
    faint, bright = (
        regression_bounds(
            simulated(recipe.replace("photophysics.photons", photons), 3, 0, 2), paths, 2
        )
        for photons in (1e5, 4e5)
    )
    np.testing.assert_allclose(faint / bright, 2.0, rtol=0.02)


@pytest.mark.parametrize(
    ("network", "recipe", "changes", "config"),
    [
        ("unet", "smlm-2d-dense", FLAT, {}),
        ("psf-blind", "psf-blind", {"acquisition.shape": [64, 128]}, {"channels": 8}),
    ],
)
def test_a_network_of_any_kind_gets_a_report(network, recipe, changes, config, tmp_path):
    plan = {"steps": 1, "batch_size": 2, "validation_samples": 4, "validations": 1}
    recipe = ss.load_recipe(recipe).replace_all(changes)
    ss.learn.train(
        network, recipe, out=tmp_path / "run", config=config, progress=False, threads=1, **plan
    )
    report_on([tmp_path / "run"], tests=FEW)
    report = read(tmp_path / "run")
    assert report["sections"]["accuracy"]["status"] == "measured"
    assert report["sections"]["limit"]["status"] == "not_tested"


@pytest.mark.slow
def test_a_training_that_fails_beside_others_says_why_and_leaves_no_process(tmp_path):
    runs = runs_of(Study(**STUDY | {"sizes": [], "microscopes": {}}))[:2]
    bad = replace(runs[1], config={"channels": -1})
    with pytest.raises(StudyError, match=r"seed 1 failed: .*channels"):
        train_all([runs[0], bad], tmp_path, jobs=2, tell=silent)


def test_a_run_sent_to_another_process_is_the_same_run():
    for run in runs_of(Study(**STUDY)):
        assert Run.from_json(json.loads(json.dumps(run.to_json()))) == run


def test_a_run_is_named_after_everything_that_decides_it():
    base = Run("seed", "0", "deepstorm-slim", Study(**STUDY).base, 0, {}, {"steps": 3}, 1)
    others = [
        replace(base, seed=1), replace(base, plan={"steps": 4}), replace(base, threads=2),
        replace(base, recipe=base.recipe.replace("optics.na", 1.3)), replace(base, samples=64),
        replace(base, config={"channels": 8}),
    ]  # fmt: skip
    assert len({run.name for run in [base, *others]}) == 7
