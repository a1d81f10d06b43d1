"""Cuts of a run: every frame in one piece, in order, whatever the sizes."""

import dataclasses
import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simscope.dataset.plan import MOST_PIECES, PIECE_BYTES, Entry, Plan
from simscope.errors import DatasetError


def layout(samples, frames, frame_bytes, axes="tyx"):
    """What a plan asks of a layout."""
    return SimpleNamespace(
        samples=samples, frames_per_sample=frames, sample_axes=axes,
        frames=samples * frames, image_bytes=samples * frames * frame_bytes,
    )  # fmt: skip


LAYOUTS = st.builds(
    layout, st.integers(1, 3000), st.integers(1, 4000), st.integers(1, PIECE_BYTES * 2)
)


def covered(plan):
    """Runs of frames of the run that the pieces hold, one after another."""
    per_sample = plan.layout.frames_per_sample
    for piece in plan:
        if piece.samples > 1:
            assert (piece.frame_start, piece.frame_stop) == (0, per_sample)
        first = piece.sample_start * per_sample + piece.frame_start
        yield first, first + piece.frames


@given(LAYOUTS, st.none() | st.integers(1, 5000))
def test_every_frame_is_in_one_piece_and_pieces_come_in_order(layout, samples_per_piece):
    plan = Plan.of(layout, samples_per_piece=samples_per_piece)
    due = 0
    for number, (first, last) in enumerate(covered(plan)):
        assert plan[number].number == number
        assert first == due < last
        due = last
    assert due == layout.frames
    assert len(list(plan)) == len(plan)
    with pytest.raises(IndexError):
        plan[len(plan)]


@given(LAYOUTS)
def test_pieces_are_no_larger_than_told_unless_there_would_be_too_many(layout):
    plan = Plan.of(layout)
    frame = layout.image_bytes // layout.frames
    room = max(PIECE_BYTES, -(-layout.image_bytes // MOST_PIECES), frame)
    assert max(piece.frames for piece in plan) * frame <= room


def test_a_focus_stack_stays_whole_where_a_movie_is_cut():
    movie, stack = (layout(3, 100, PIECE_BYTES // 40, axes) for axes in ("tyx", "zyx"))
    assert [piece.frames for piece in Plan.of(movie)] == 3 * [40, 40, 20]
    assert [piece.frames for piece in Plan.of(stack)] == [100, 100, 100]


def test_a_run_that_just_fits_is_one_piece():
    frame = PIECE_BYTES // 10
    assert len(Plan.of(layout(10, 1, frame))) == 1
    assert [piece.samples for piece in Plan.of(layout(11, 1, frame))] == [10, 1]


def test_choices_of_pieces_are_those_of_python():
    plan = Plan.of(layout(10, 1, 1), samples_per_piece=1)
    assert list(plan.numbers(None)) == list(plan.numbers(":")) == list(range(10))
    assert list(plan.numbers("2:5")) == [2, 3, 4]
    assert list(plan.numbers(" 8 : ")) == [8, 9]
    for text in ("3:3", "5:2", "0:11", "3", "-1:2", "a:b", ""):
        with pytest.raises(DatasetError, match="shards"):
            plan.numbers(text)


ENTRY = Entry("shard-00000.h5", 0, 3, 5, 0, 999, 64 * "a", {"images": 64 * "b"}, ("one",))


def test_an_entry_comes_back_from_its_text():
    assert Entry.from_json(ENTRY.to_json(), source="x") == ENTRY


@pytest.mark.parametrize(
    "change",
    [{"frames": -1}, {"rows": 1.5}, {"bytes": True}, {"file_sha256": "a"}, {"file_sha256": 64},
     {"arrays_sha256": {"images": "b"}}, {"arrays_sha256": None}, {"file": 3}, {"more": 1},
     {"warnings": None}],
    ids=str,
)  # fmt: skip
def test_an_entry_that_cannot_be_one_is_refused(change):
    text = json.dumps(dataclasses.asdict(ENTRY) | change)
    with pytest.raises(DatasetError, match="x is damaged"):
        Entry.from_json(text, source="x")
