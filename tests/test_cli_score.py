"""The score command: everything it prints, for people and for machines."""

import json

import numba
import numpy as np
import pytest
from small_worlds import movie, snapshot
from typer.testing import CliRunner

import simscope as ss
from simscope import cli, evaluate
from simscope.dataset import write_localizations

COUNT = 200


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A truth of 200 emitters, every tenth dim, and a table with errors and uncertainties."""
    folder, rng = tmp_path_factory.mktemp("tables"), np.random.default_rng(0)
    names = ("x_nm", "y_nm", "z_nm", "photons")
    truth = np.zeros(COUNT, [("frame", int)] + [(name, float) for name in names])
    truth["frame"] = np.arange(COUNT) // 10
    truth["x_nm"] = np.arange(COUNT) % 10 * 900.0
    truth["photons"] = np.where(np.arange(COUNT) % 10 == 0, 50.0, rng.uniform(300, 900, COUNT))
    extra = [(name, float) for name in ("uncertainty_x_nm", "uncertainty_y_nm", "probability")]
    found = np.zeros(COUNT, truth.dtype.descr + extra)
    for name in truth.dtype.names:
        found[name] = truth[name]
    for name in ("x_nm", "y_nm"):
        found[name] += rng.normal(0, 10, COUNT)
        found[f"uncertainty_{name}"] = 10.0
    found["probability"] = 0.95
    bright = truth["photons"] > 100
    write_localizations(folder / "truth.csv", truth)
    write_localizations(folder / "found.npy", found[bright])
    return folder


def run(*words):
    return CliRunner().invoke(cli.app, ["score", *(str(word) for word in words)])


def numbers(folder, *options):
    result = run(folder / "found.npy", folder / "truth.csv", *options, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_dim_emitters_that_were_missed_are_forgiven_only_if_asked(folder):
    strict, lenient = (
        numbers(folder, *options) for options in ((), ("--ignore-below-photons", 100))
    )
    assert (strict["recall"], strict["false_negatives"]) == (0.9, 20)
    assert (lenient["recall"], lenient["ignored_truth"]) == (1.0, 20)


def test_efficiency_in_three_dimensions_needs_an_axial_radius(folder):
    assert numbers(folder)["efficiency_3d"] is None
    both = numbers(folder, "--axial-radius-nm", 500)
    assert both["rmse_axial_nm"] == 0
    assert both["efficiency_3d"] == pytest.approx(
        (both["efficiency_lateral"] + both["efficiency_axial"]) / 2
    )


def test_uncertainties_and_probabilities_in_a_table_are_judged(folder):
    judged = numbers(folder)
    assert judged["calibration"]["x_nm"]["spread"] == pytest.approx(1, abs=0.2)
    assert set(judged["calibration"]["x_nm"]["coverage"]) == {"0.5", "0.68", "0.9", "0.95"}
    assert judged["probability"]["expected_error"] == pytest.approx(0.05)


def test_breakdowns_intervals_and_resolution_come_when_asked(folder):
    asked = ("--by", "photons", "--by", "density", "--bins", 3, "--intervals", "--resolution")
    judged = numbers(folder, *asked)
    assert [one["recall"] for one in judged["by"]["photons"]][1:] == [1.0, 1.0]
    assert len(judged["by"]["photons"]) == 3
    recall = judged["intervals"]["recall"]
    assert recall["low"] <= recall["value"] == 0.9 <= recall["high"]
    assert judged["intervals_over"] == "frames"
    assert set(judged["resolution_nm"]) == {"found", "truth"}
    shown = run(folder / "found.npy", folder / "truth.csv", *asked).stdout
    for words in ("by photons: from", "95 % intervals", "z-scores spread", "resolution nm, found"):
        assert words in shown


def test_the_picture_is_written_once_and_over_only_if_forced(folder, tmp_path):
    pytest.importorskip("matplotlib", reason="draws")
    picture = tmp_path / "score.png"
    tables = (folder / "found.npy", folder / "truth.csv", "--out", picture)
    assert run(*tables).exit_code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    refused = run(*tables)
    assert (refused.exit_code, "--force" in refused.output) == (2, True)
    assert run(*tables, "--force").exit_code == 0


def test_a_table_with_no_match_at_all_draws_and_prints(folder, tmp_path):
    pytest.importorskip("matplotlib", reason="draws")
    nothing = np.load(folder / "found.npy")[:0]
    write_localizations(tmp_path / "none.npy", nothing)
    result = run(
        tmp_path / "none.npy", folder / "truth.csv", "--out", tmp_path / "a.png", "--json",
        "--by", "photons", "--intervals",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    judged = json.loads(result.stdout)
    assert (judged["jaccard"], judged["rmse_lateral_nm"], judged["bias_x_nm"]) == (0, None, None)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="tabulates, too slow without JIT")
def test_errors_drawn_at_the_bounds_of_the_datasets_own_recipe_have_ratio_one(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("SIMSCOPE_CACHE", str(tmp_path / "tables"))
    recipe = snapshot()  # with a background drawn for each sample
    ss.generate(recipe, 40, 3, tmp_path / "data.h5")
    with ss.open_dataset(tmp_path / "data.h5") as data:
        truth = data.emitters_in_frame
        level = data.parameters["background.photons_per_pixel"][truth["frame"]]
        bound = evaluate.crlb(ss.Simulator(recipe, 3), truth, background_photons=level)
    found, rng = truth.copy(), np.random.default_rng(1)
    for name in ("x_nm", "y_nm"):
        found[name] += np.nan_to_num(bound[name]) * rng.normal(size=len(truth))
    write_localizations(tmp_path / "found.npy", found)
    result = run(tmp_path / "found.npy", tmp_path / "data.h5", "--crlb", "--json")
    judged = json.loads(result.stdout)["crlb"]
    assert judged["x_nm"]["pairs"] > 100
    # Relative standard error of an RMS over n pairs is 1 / sqrt(2 n).
    assert judged["lateral"]["ratio"] == pytest.approx(1, abs=4 / judged["x_nm"]["pairs"] ** 0.5)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="tabulates, too slow without JIT")
@pytest.mark.parametrize(("samples", "drawn"), [(20, "samples"), (3, "frames")])
def test_movies_are_drawn_whole_where_there_are_enough(tmp_path, monkeypatch, samples, drawn):
    monkeypatch.setenv("SIMSCOPE_CACHE", str(tmp_path / "tables"))
    ss.generate(movie(4), samples, 3, tmp_path / "data.h5")
    result = run(tmp_path / "data.h5", tmp_path / "data.h5", "--intervals", "--json")
    judged = json.loads(result.stdout)
    assert (judged["intervals_over"], judged["intervals"]["jaccard"]["low"]) == (drawn, 1.0)


def test_a_table_as_truth_has_no_microscope_and_so_no_bound(folder):
    result = run(folder / "found.npy", folder / "truth.csv", "--crlb")
    assert result.exit_code == 2
    assert "truth.csv" in result.stderr


def test_tables_that_never_meet_earn_a_note(folder, tmp_path):
    late = np.load(folder / "found.npy")
    late["frame"] += 1000
    write_localizations(tmp_path / "late.npy", late)
    result = run(tmp_path / "late.npy", folder / "truth.csv", "--json")
    assert json.loads(result.stdout)["jaccard"] == 0
    assert "note: nothing found lies within 250 nm" in result.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--by", "foton"), "cannot break down by 'foton'"),
        (("--out", "a.pdf"), ".png"),
        (("--ignore-below-photons", "-3"), "ignore_below_photons=-3.0"),
        (("--radius-nm", "0"), "tolerance"),
    ],
)
def test_what_makes_no_sense_ends_in_one_sentence(folder, options, says):
    result = run(folder / "found.npy", folder / "truth.csv", *options)
    assert result.exit_code == 2
    assert says in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
