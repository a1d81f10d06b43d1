"""The demo runs from recipe to report, and says what it measured."""

import json

import numba
import pytest
from small_worlds import SMALL

from simscope import demo
from simscope.errors import SimscopeError
from simscope.recipe import Recipe

pytest.importorskip("matplotlib", reason="the report needs simscope[view]")
learn = pytest.importorskip("simscope.learn", reason="the demo needs simscope[train]")

pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning"),
    pytest.mark.skipif(numba.config.DISABLE_JIT, reason="too slow without JIT"),
]


def small_recipe(name):
    recipe = Recipe.from_dict(SMALL).replace("name", str(name))
    if name == demo.FLAT:
        recipe = recipe.replace("structure.z_nm", 0.0)
    return recipe.replace("background", {"photons_per_pixel": 5.0})


def train_briefly(recipe, run, minutes, seed):
    return learn.train(
        "deepstorm-slim", recipe, out=run, seed=seed, force=True, progress=False,
        steps=3, batch_size=2, validation_samples=4, validations=2,
    )  # fmt: skip


@pytest.fixture
def brief(monkeypatch, tmp_path):
    monkeypatch.setenv("SIMSCOPE_CACHE", str(tmp_path / "psf-tables"))
    monkeypatch.setattr(demo, "load_recipe", small_recipe)
    monkeypatch.setattr(demo, "trained", train_briefly)
    plan = demo.Plan(0.01, {1.0: 6, 5.0: 4}, movie_frames=8, deep_samples=2)
    monkeypatch.setattr(demo, "plan_of", lambda minutes, quick: plan)


def test_the_demo_ends_with_a_report_and_its_numbers(brief, tmp_path):
    said = []
    report = demo.run_demo(tmp_path / "démo", tell=said.append)
    page = report.read_text("utf8")
    for heading in ("The microscope", "Samples with truth", "Training", "physical limit",
                    "Failure cases", "Blinking", "Tetrapod", "Limits"):  # fmt: skip
        assert heading in page
    assert page.count("data:image/png;base64,") >= 9
    numbers = json.loads((report.parent / "scores.json").read_text("utf8"))
    assert [test["density_per_um2"] for test in numbers["tests"]] == [1.0, 5.0]
    assert all(0 <= test["jaccard"] <= 1 for test in numbers["tests"])
    assert [line[:3] for line in said] == [f"{k}/6" for k in range(1, 7)]
    with pytest.raises(SimscopeError, match="not empty"):
        demo.run_demo(tmp_path / "démo")


def test_sizes_follow_the_wish():
    assert demo.plan_of(4.0, quick=False).minutes == 4.0
    assert demo.plan_of(4.0, quick=True).minutes < 1
    assert demo.plan_of(0.1, quick=True).minutes == 0.1


def test_places_that_cannot_hold_the_demo_are_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SimscopeError, match="is a file"):
        demo.prepared_folder(tmp_path / "file", force=True)
    with pytest.raises(SimscopeError, match="cannot make"):
        demo.prepared_folder(tmp_path / "file" / "below", force=True)
