"""Studies as people write them: checked before anything is trained, hashed, cut short."""

import json
import math
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from simscope import cli
from simscope.errors import RecipeError, StudyError
from simscope.evaluate import Interval
from simscope.recipe import load_recipe
from simscope.trust import Study, load_study, packaged_studies
from simscope.trust.figures import figure, gap, of_intervals, over_seeds
from simscope.trust.localizing import poisson_interval
from simscope.trust.study import Claim, study_from_yaml
from simscope.trust.verdicts import figure_at, verdict

PLAIN = {
    "name": "plain",
    "network": "deepstorm-slim",
    "recipe": "smlm-2d-dense",
    "budget": {"steps": 10},
}


@pytest.mark.parametrize("name", packaged_studies())
def test_every_packaged_study_describes_possible_experiments(name):
    study = load_study(name)
    assert study.name == name
    assert len(study.seeds) >= 3
    assert study.sizes
    assert study.microscopes
    assert study.tests.structures
    assert study.recipes()


@pytest.mark.parametrize("name", packaged_studies())
def test_a_study_reads_back_from_its_own_yaml_as_it_was(name):
    study = load_study(name)
    again = study_from_yaml(study.to_yaml(), name)
    assert again.sha256 == study.sha256
    assert again.recipes() == study.recipes()
    assert again.to_yaml() == study.to_yaml()


def test_the_hash_of_a_study_follows_its_recipe_not_how_it_is_named():
    named = Study(**PLAIN)
    written = Study(**PLAIN | {"recipe": load_recipe("smlm-2d-dense").written()})
    changed = Study(**PLAIN | {"changes": {"optics.na": 1.35}})
    assert named.sha256 == written.sha256
    assert named.sha256 != changed.sha256


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"budget": {}}, "one of steps"),
        ({"budget": {"steps": 5, "minutes": 1.0}}, "one of steps"),
        ({"budget": {"steps": 0}}, "steps"),
        ({"plan": {"steps": 5}}, "belongs into budget"),
        ({"seeds": [1, 1, 2]}, "different"),
        ({"sizes": [0]}, "sizes"),
        ({"netwrok": "x"}, "did you mean 'network'"),
        ({"microscopes": {"a/b": {}}}, "cannot be a name"),
        ({"microscopes": {"as trained": {}}}, "recipe itself"),
        ({"microscopes": {"odd": {"optics.nna": 1.2}}}, "microscopes.odd: .*na"),
        ({"tests": {"structures": {"bad": {"structure.z_nm": "high"}}}}, "structures.bad"),
        ({"claims": [{"claim": "c", "figure": "a/b"}]}, "at_least or at_most"),
    ],
)
def test_a_study_that_cannot_be_done_is_refused_with_the_place_named(change, says):
    with pytest.raises(RecipeError, match=says):
        Study(**PLAIN | change)


def test_unknown_studies_and_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(StudyError, match="did you mean 'dense-2d'"):
        load_study("dense2d")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(StudyError, match="not a mapping"):
        load_study(tmp_path / "list.yaml")
    (tmp_path / "typo.yaml").write_text("name: x\nbudgget: {steps: 3}")
    with pytest.raises(StudyError, match=r"typo\.yaml"):
        load_study(tmp_path / "typo.yaml")


def test_the_study_printed_in_the_documentation_can_be_done():
    page = (Path(__file__).parents[1] / "docs" / "trust.md").read_text("utf8")
    (text,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    study = study_from_yaml(text, "docs/trust.md")
    assert study.claims
    assert study.recipes()["microscopes/oil, NA 1.49"].optics.na == 1.49


def test_a_recipe_named_by_file_is_found_beside_the_study(tmp_path):
    (tmp_path / "mine.yaml").write_text(load_recipe("smlm-2d-dense").to_yaml())
    text = "name: s\nnetwork: deepstorm-slim\nrecipe: mine.yaml\nbudget: {steps: 3}"
    (tmp_path / "study.yaml").write_text(text)
    assert load_study(tmp_path / "study.yaml").base == load_recipe("smlm-2d-dense")


def test_a_quick_study_keeps_its_questions_and_says_that_it_is_quick():
    study = load_study("dense-2d")
    quick = study.quick()
    assert quick.budget.steps < study.budget.steps
    assert quick.tests.samples < study.tests.samples
    assert quick.microscopes == study.microscopes
    assert quick.seeds == study.seeds
    assert "quick" in quick.title


def test_another_budget_replaces_the_one_there_is():
    study = load_study("dense-2d").with_budget(steps=None, cpu_minutes=2.0)
    assert (study.budget.steps, study.budget.cpu_minutes) == (None, 2.0)
    with pytest.raises(RecipeError, match="one of steps"):
        study.with_budget(steps=1, cpu_minutes=2.0)


@pytest.mark.parametrize(
    ("found", "status"),
    [((0.9, 0.85, 0.95), "holds"), ((0.82, 0.75, 0.88), "open"), ((0.7, 0.6, 0.79), "fails"),
     ((0.9, None, None), "holds"), ((0.7, None, None), "fails")],
)  # fmt: skip
def test_a_claim_holds_or_fails_only_if_its_whole_interval_does(found, status):
    claim = Claim(claim="c", figure="a/b", at_least=0.8)
    row = verdict(claim, {"a": {"status": "measured", "b": figure(*found)}})
    assert (row["status"], row["value"]) == (status, found[0])
    less = Claim(claim="c", figure="a/b", at_most=0.8)
    turned = {"holds": "fails", "fails": "holds", "open": "open"}
    row = verdict(less, {"a": {"status": "measured", "b": figure(*found)}})
    assert row["status"] == turned[status]


def test_a_claim_about_what_was_not_measured_says_why():
    sections = {"empty": {"status": "not_tested", "reason": "too dark"}, "limit": {"x": 1}}
    assert figure_at("empty/per_um2", sections) == sections["empty"]
    assert "did you mean 'empty'" in figure_at("emty/per_um2", sections)["reason"]
    assert figure_at("limit/x", sections)["value"] == 1
    assert "nothing to compute" in figure_at("a/b", {"a": {"b": figure(math.nan)}})["reason"]


def test_figures_hold_plain_numbers_or_none():
    told = of_intervals({"a": Interval(1.0, math.nan, math.inf)})
    assert told == {"a": {"value": 1.0, "low": None, "high": None}}
    assert over_seeds("jaccard", [None, None])["value"] is None


def test_the_interval_over_seeds_of_a_share_stays_between_0_and_1():
    told = over_seeds("jaccard", [0.9, 0.99, 0.98])
    assert told["high"] == 1.0
    assert told["low"] < 0.9
    assert over_seeds("rmse_lateral_nm", [0.9, 0.99, 0.98])["high"] > 1.0


def test_the_gap_of_two_figures_is_as_wide_as_both_intervals_in_quadrature():
    told = gap(figure(5.0, 2.0, 8.0), figure(3.0, -1.0, 7.0))
    assert told == {"value": 2.0, "low": -3.0, "high": 7.0}
    assert gap(figure(5.0), figure(3.0)) == {"value": 2.0, "low": None, "high": None}


@pytest.mark.parametrize(("count", "low", "high"), [(0, 0.0, 3.689), (5, 1.623, 11.668)])
def test_poisson_intervals_are_those_of_garwoods_table(count, low, high):
    assert poisson_interval(count) == pytest.approx((low, high), abs=1e-3)


def command(*words):
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def test_the_command_lists_packaged_studies_and_refuses_what_is_none(tmp_path):
    dense = ("study", "dense-2d", "--out", tmp_path / "a")
    listed = command("study", "--json")
    assert listed.exit_code == 0
    assert set(json.loads(listed.stdout)) == set(packaged_studies())
    for words, says in (
        (("study", "dense-2d"), "no --out given"),
        (("study", "dens-2d", "--out", tmp_path / "a"), "did you mean"),
        ((*dense, "--steps", 3, "--cpu-minutes", 2), "one of"),
        ((*dense, "--jobs", 0), "jobs=0"),
        (("report", tmp_path / "nowhere"), "no folder"),
    ):
        refused = command(*words)
        assert refused.exit_code == 2, refused.output
        assert says in " ".join(refused.output.split())
        assert "Traceback" not in refused.output
    assert not (tmp_path / "a").exists()
