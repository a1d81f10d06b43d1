"""Two datasets are compared by what they hold, however they are stored."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from small_worlds import WORLDS, movie, snapshot
from typer.testing import CliRunner

from simscope import cli
from simscope.dataset import difference, generate
from simscope.dataset.comparing import Comparison, Places

pytestmark = pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMSCOPE_CACHE", str(tmp_path_factory.mktemp("psf-tables")))
        yield


@pytest.mark.parametrize("kind", WORLDS)
def test_shards_and_a_single_file_of_one_run_are_the_same(tmp_path, kind):
    one = generate(WORLDS[kind](), 5, 7, tmp_path / "one.h5", expected=True)
    many = generate(
        WORLDS[kind](), 5, 7, tmp_path / "many.h5", expected=True, samples_per_shard=2,
        codec="none",
    )  # fmt: skip
    found = difference(one, many)
    assert found.same, found.lines()
    assert {"images", "expected_photons", "emitters/photons"} <= set(found.equal)
    assert {line.split(":")[0] for line in found.stored} == {"shards", "codec"}


def test_windows_of_a_movie_are_the_movie_in_one_file(tmp_path, monkeypatch):
    one = generate(movie(), 2, 7, tmp_path / "one.h5", targets=["density"])
    monkeypatch.setattr("simscope.dataset.plan.PIECE_BYTES", 20 * 2 * 24 * 20)
    monkeypatch.setattr("simscope.dataset.differences.BLOCK_BYTES", 40 * 2 * 24 * 20)
    many = generate(movie(), 2, 7, tmp_path / "many.h5", targets=["density"])
    found = difference(one, many)
    assert found.same, found.lines()
    assert any(line.startswith("shards: 1 -> ") for line in found.stored)


def test_recipes_are_compared_by_path(tmp_path):
    one = generate(snapshot(), 3, 7, tmp_path / "one.h5")
    changed = snapshot().replace("camera.qe", 0.5)
    other = generate(changed, 4, 8, tmp_path / "other.h5", expected=True)
    found = difference(one, other)
    assert not found.same
    assert found.samples == 3
    assert any(line.startswith("recipe.camera.qe: ") for line in found.changes)
    assert {"seed: 7 -> 8", "samples: 3 -> 4"} <= set(found.changes)
    names = {one.array for one in found.differences}
    assert {"images", "expected_photons"} <= names
    assert not names & set(found.equal)


def test_one_changed_recipe_value_leaves_truth_equal(tmp_path):
    one = generate(snapshot(), 3, 7, tmp_path / "one.h5")
    other = generate(snapshot().replace("camera.qe", 0.5), 3, 7, tmp_path / "other.h5")
    found = difference(one, other)
    assert [one.array for one in found.differences] == ["images"]
    assert "emitters/x_nm" in found.equal


def test_datasets_of_other_shapes_are_told_apart_without_a_crash(tmp_path):
    one = generate(snapshot(), 2, 7, tmp_path / "one.h5")
    other = generate(movie(), 2, 7, tmp_path / "other.h5")
    found = difference(one, other)
    assert any(line.startswith("shape of a sample") for line in found.changes)


def test_diff_ends_with_0_1_or_2(tmp_path):
    one = generate(snapshot(), 2, 7, tmp_path / "one.h5")
    other = generate(snapshot(), 2, 8, tmp_path / "other.h5")

    def invoke(*words):
        return CliRunner().invoke(cli.app, ["diff", *map(str, words)])

    assert invoke(one, one).exit_code == 0
    result = invoke(one, other, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["changes"] == ["seed: 7 -> 8"]
    assert invoke(one, tmp_path / "none.h5").exit_code == 2


floats = arrays.arrays(np.float32, (4, 3), elements=st.floats(width=32))


@given(floats, floats)
def test_what_is_found_is_what_the_bits_say(left, right):
    comparison = Comparison()
    for item in range(4):  # piece by piece
        piece = slice(item, item + 1)
        comparison.take("a", left[piece], right[piece], Places.of_samples(item, item + 1))
    differ = left.view(np.uint32) != right.view(np.uint32)
    found = comparison.differences
    assert bool(found) == differ.any()
    if found:
        (one,) = found
        assert (one.values, one.compared) == (differ.sum(), differ.size)
        assert one.samples == differ.any(axis=1).sum()
        assert (one.sample, *one.index) == tuple(np.argwhere(differ)[0])
        json.dumps(one.to_dict(), allow_nan=False)


def rows(*frames):
    """A table and offsets of frames with so many emitters each, x counted on."""
    counts = np.array(frames)
    table = np.zeros(counts.sum(), [("frame", "i8"), ("x_nm", "f4")])
    table["frame"] = np.repeat(np.arange(len(counts)), counts)
    table["x_nm"] = np.arange(len(table))
    return table, np.concatenate([[0], np.cumsum(counts)])


def test_an_emitter_that_is_missing_is_found_and_the_frames_beside_are_compared():
    found = Comparison()
    (table, offsets), others = rows(2, 3, 1), rows(2, 2, 1)
    others[0]["x_nm"][-1] = 5  # as in the other, whose last row is its sixth
    others[0]["x_nm"][1] = 9
    found.take_emitters((table, offsets), others, Places.of_frames(6, 3, 3))
    missing, moved = found.differences
    assert (missing.array, missing.values, missing.was, missing.now) == (
        "emitters/rows in a frame", 1, 3, 2
    )  # fmt: skip
    assert (missing.sample, missing.frame) == (2, 1)
    assert (moved.array, moved.values, moved.was, moved.now) == ("emitters/x_nm", 1, 1, 9)
    assert (moved.sample, moved.frame, moved.row) == (2, 0, 1)


def test_a_sample_that_comes_in_pieces_counts_once():
    found = Comparison()
    for first in (0, 2, 4, 6):
        places = Places.of_frames(first, 2, 4)
        found.take("images", np.zeros((2, 3)), np.ones((2, 3)), places)
    (images,) = found.differences
    assert (images.values, images.compared, images.samples) == (24, 24, 2)
