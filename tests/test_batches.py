"""Batches: every sample once an epoch, the same order for everybody, going on where one stopped."""

import gc
import itertools
import json
import os
import subprocess
import sys
import threading
import tracemalloc

import numpy as np
import pytest
import small_worlds
from hypothesis import given, settings
from hypothesis import strategies as st

import simscope as ss
from simscope.dataset.loading import Batches, Stored, order_of
from simscope.dataset.order import BLOCK_SAMPLES, WINDOW_BLOCKS, Order
from simscope.dataset.parts import Part
from simscope.errors import DatasetError, SimscopeError

pytestmark = pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning")

SAMPLES = 23


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return ss.generate(small_worlds.snapshot(), SAMPLES, 5, folder / "a.h5", expected=True)


@st.composite
def orders(draw):
    start = draw(st.integers(0, 50))
    stop = start + draw(st.integers(1, 200))
    return {
        "start": start,
        "stop": stop,
        "batch_size": draw(st.integers(1, 40)),
        "seed": draw(st.none() | st.integers(0, 2**63 - 1)),
        "cuts": draw(st.lists(st.integers(0, 260), max_size=8)),
    }


def numbers(order, epochs=1):
    return [order.samples(number).tolist() for number in range(epochs * len(order))]


@settings(deadline=None)
@given(orders(), st.integers(1, 7), st.integers(0, 2))
def test_an_epoch_holds_every_sample_once_over_all_shares(given_order, of, epoch):
    batches = -(-(given_order["stop"] - given_order["start"]) // given_order["batch_size"])
    of = min(of, batches)
    seen = []
    for k in range(of):
        order = Order(**given_order, share=(k, of))
        seen += numbers(order, epoch + 1)[epoch * len(order) :]
    together = sorted(itertools.chain(*seen))
    assert together == list(range(given_order["start"], given_order["stop"]))


@settings(deadline=None)
@given(orders(), st.integers(2, 5))
def test_a_batch_is_the_same_however_it_is_shared(given_order, of):
    alone = Order(**given_order)
    for k in range(min(of, len(alone))):
        assert numbers(Order(**given_order, share=(k, of))) == numbers(alone)[k::of]


@settings(deadline=None)
@given(orders(), st.integers(1, 5))
def test_shares_that_drop_the_last_have_equally_many_full_batches(given_order, of):
    samples = given_order["stop"] - given_order["start"]
    most = samples // (of * given_order["batch_size"])
    if not most:
        with pytest.raises(DatasetError, match="has no batch"):
            Order(**given_order, share=(0, of), drop_last=True)
        return
    shares = [numbers(Order(**given_order, share=(k, of), drop_last=True)) for k in range(of)]
    assert {len(share) for share in shares} == {most}
    every = list(itertools.chain(*itertools.chain(*shares)))
    assert len(every) == len(set(every)) == most * of * given_order["batch_size"]


def test_epochs_and_seeds_shuffle_differently_and_again_the_same():
    one, other = Order(0, 100, 10, seed=1), Order(0, 100, 10, seed=2)
    assert numbers(one, 3) == numbers(Order(0, 100, 10, seed=1), 3)
    epochs = [numbers(one, 3)[k : k + 10] for k in (0, 10, 20)] + [numbers(other)]
    assert all(a != b for a, b in itertools.combinations(epochs, 2))
    assert numbers(one)[0] != list(range(10))


def test_windows_of_an_epoch_are_shuffled_unlike_one_another():
    order = Order(0, 80, 40, seed=3, cuts=range(0, 80, 10))
    first, second = order._windows_of(0)
    places = []
    for number, window in enumerate((first, second)):
        inside = np.concatenate([np.arange(block.start, block.stop) for block in window.blocks])
        where = np.argsort(inside)[np.argsort(np.argsort(order.samples(number)))]
        assert np.array_equal(inside[where], order.samples(number))
        places.append(where)
    assert np.mean(places[0] == places[1]) < 0.3


def test_shuffled_places_are_even():
    # each of 40 samples stands first in an epoch as often as any other: chi-square, 39 degrees
    order = Order(0, 40, 1, seed=3, cuts=range(0, 40, 4))
    firsts = [int(order.samples(epoch * 40)[0]) for epoch in range(4000)]
    counts = np.bincount(firsts, minlength=40)
    assert np.sum((counts - 100) ** 2 / 100) < 80  # probability 1e-4


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 64))
def test_shuffling_reads_few_files_at_a_time(seed, batch_size):
    cuts = range(0, 1000, 25)
    order = Order(0, 1000, batch_size, seed=seed, cuts=cuts)
    files = [set((order.samples(k) // 25).tolist()) for k in range(len(order))]
    when = {name: [k for k, used in enumerate(files) if name in used] for name in range(40)}
    for k in range(len(order)):
        in_use = [name for name, used in when.items() if used[0] <= k <= used[-1]]
        windows_touched = -(-batch_size // (25 * WINDOW_BLOCKS)) + 1
        assert len(in_use) <= WINDOW_BLOCKS * windows_touched


def test_shuffling_as_many_samples_as_there_can_be_takes_little_memory():
    tracemalloc.start()
    order = Order(0, 2**32, 64, seed=1)
    seen = [order.samples(number) for number in (0, 5 * BLOCK_SAMPLES // 64, len(order) - 1)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6
    assert all(len(np.unique(samples)) == 64 for samples in seen)


def assert_holds(batch, sim):
    for place, number in enumerate(batch.samples.tolist()):
        sample = sim[number]
        np.testing.assert_array_equal(batch.images[place], sample.image)
        frames = sim.frames_per_sample
        offsets = batch.emitter_offsets[place * frames : (place + 1) * frames + 1]
        rows = batch.emitters[offsets[0] : offsets[-1]].copy()
        rows["frame"] -= number * frames
        np.testing.assert_array_equal(rows, sample.emitters)
        np.testing.assert_array_equal(
            np.repeat(np.arange(frames), np.diff(offsets)), sample.emitters["frame"]
        )
        for path, value in sample.parameters.items():
            assert batch.parameters[path][place] == value


@pytest.mark.parametrize("world", small_worlds.WORLDS)
@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_hold_the_simulators_samples_in_the_order_they_name(world, shuffle, tmp_path):
    recipe = small_worlds.WORLDS[world]()
    path = ss.generate(recipe, 7, 5, tmp_path / "data.h5")
    sim = ss.Simulator(recipe, 5)
    seen = []
    for batch in ss.batches(path, 3, seed=2, shuffle=shuffle):
        assert_holds(batch, sim)
        seen += batch.samples.tolist()
    assert sorted(seen) == list(range(7))
    assert (seen == list(range(7))) is not shuffle


@pytest.mark.parametrize("world", ["snapshot", "movie"])
def test_batches_of_shards_hold_the_simulators_samples(world, tmp_path):
    recipe = small_worlds.WORLDS[world]()
    path = ss.generate(recipe, 11, 5, tmp_path / "data.h5", samples_per_shard=2)
    sim = ss.Simulator(recipe, 5)
    seen = []
    for batch in ss.batches(path, 4, seed=2, epochs=2):
        assert_holds(batch, sim)
        seen += batch.samples.tolist()
    assert sorted(seen[:11]) == sorted(seen[11:]) == list(range(11))


def test_batches_of_movies_cut_into_windows_hold_whole_movies(tmp_path, monkeypatch):
    monkeypatch.setattr("simscope.dataset.plan.PIECE_BYTES", 2 * 24 * 20 * 5)
    recipe = small_worlds.movie()
    path = ss.generate(recipe, 4, 5, tmp_path / "data.h5")
    with ss.open_dataset(path) as data:
        assert len(data.shards) > 4
    for batch in ss.batches(path, 3, seed=2):
        assert_holds(batch, ss.Simulator(recipe, 5))


def test_the_truth_of_a_shard_is_read_once_an_epoch_and_few_are_kept(tmp_path, monkeypatch):
    path = ss.generate(small_worlds.snapshot(), 60, 5, tmp_path / "data.h5", samples_per_shard=3)
    read, table = [], Part.table
    monkeypatch.setattr(
        Part, "table", lambda self, offsets: read.append(self.path) or table(self, offsets)
    )
    with ss.open_dataset(path) as data:
        for _ in ss.batches(data, 7, seed=3):
            assert len(data._truths) <= WINDOW_BLOCKS
    assert len(read) == len(set(read)) == 20


def test_batches_of_a_recipe_are_the_simulators():
    recipe = small_worlds.snapshot()
    sim = ss.Simulator(recipe, 3)
    made = list(ss.batches(recipe, 4, seed=3, start=2, stop=11, prefetch=2))
    assert [batch.samples.tolist() for batch in made] == [[2, 3, 4, 5], [6, 7, 8, 9], [10]]
    for batch in made:
        assert_holds(batch, sim)


def test_targets_and_noiseless_images_are_those_of_the_samples(file):
    asked = {"targets": ["density:upsampling=2", "clean"]}
    from_file = next(ss.batches(file, 5, shuffle=False, **asked))
    made = next(ss.batches(small_worlds.snapshot(), 5, seed=5, **asked))
    np.testing.assert_array_equal(from_file.targets["density"], made.targets["density"])
    np.testing.assert_array_equal(from_file.expected_photons, made.expected_photons)
    shuffled = next(ss.batches(file, 5, seed=1, **asked))
    whole = next(ss.batches(file, SAMPLES, shuffle=False, **asked))
    density = whole.targets["density"][shuffled.samples]
    np.testing.assert_array_equal(shuffled.targets["density"], density)
    np.testing.assert_array_equal(
        shuffled.expected_photons, whole.expected_photons[shuffled.samples]
    )


@pytest.mark.parametrize("prefetch", [0, 1, 4])
@pytest.mark.parametrize("handed", [0, 1, 6, 9, 12])
def test_a_run_goes_on_with_the_next_batch_not_handed_out(file, prefetch, handed):
    asked = {"batch_size": 5, "seed": 4, "epochs": 3, "prefetch": prefetch, "share": (1, 2)}
    whole = [batch.samples.tolist() for batch in ss.batches(file, **asked)]
    assert len(whole) == 3 * 2
    asked["share"] = (0, 2)
    whole = [batch.samples.tolist() for batch in ss.batches(file, **asked)]
    assert len(whole) == 3 * 3
    with ss.batches(file, **asked) as first:
        handed = min(handed, len(whole))
        before = [next(first).samples.tolist() for _ in range(handed)]
        state = json.loads(json.dumps(first.state()))
    after = [batch.samples.tolist() for batch in ss.batches(file, **asked, state=state)]
    assert before + after == whole


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"batch_size": 4}, "batch_size=5"),
        ({"seed": 5}, "seed=4"),
        ({"share": (1, 2)}, "share"),
        ({"stop": 20}, "stop"),
        ({"shuffle": False}, "seed"),
    ],
)
def test_a_state_of_other_batches_is_refused_with_the_difference(file, changed, named):
    asked = {"batch_size": 5, "seed": 4}
    state = ss.batches(file, **asked).state()
    with pytest.raises(DatasetError, match=named):
        ss.batches(file, **asked | changed, state=state)


def test_a_state_of_other_data_is_refused(file, tmp_path):
    state = ss.batches(file, 5).state()
    other = ss.generate(small_worlds.snapshot(), SAMPLES, 6, tmp_path / "b.h5")
    with pytest.raises(DatasetError, match="data_seed=5"):
        ss.batches(other, 5, state=state)


@pytest.mark.parametrize(
    "state", [3, {}, {"epoch": 0, "batch": 0, "of": None}, {"epoch": -1}, {"batch": 0.5}]
)
def test_what_is_no_state_is_refused(file, state):
    if isinstance(state, dict) and len(state) == 1:
        state = ss.batches(file, 5).state() | state
    with pytest.raises(DatasetError, match=r"state|epoch|batch"):
        ss.batches(file, 5, state=state)


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0}, {"batch_size": 2.5}, {"batch_size": True}, {"epochs": 0},
        {"prefetch": -1}, {"start": -1}, {"start": 9, "stop": 9}, {"stop": SAMPLES + 1},
        {"share": 3}, {"share": (2, 2)}, {"share": (0, 0)}, {"share": (-1, 2)},
        {"share": (5, 6)}, {"seed": -1}, {"targets": ["nothing"]},
    ],
)  # fmt: skip
def test_impossible_arguments_are_refused_at_once(file, wrong):
    with pytest.raises(SimscopeError):
        ss.batches(file, **{"batch_size": 5} | wrong)


def test_sources_that_are_none_are_refused(tmp_path):
    for source in (None, 3, ["a"], tmp_path / "absent.h5", "absent.yaml"):
        with pytest.raises(SimscopeError):
            ss.batches(source, 5)


def test_reading_ahead_is_bounded_and_in_order(file, monkeypatch):
    taken, take = [], Stored.take
    monkeypatch.setattr(
        Stored, "take", lambda self, samples, **how: taken.append(1) or take(self, samples, **how)
    )
    with ss.batches(file, 2, prefetch=3, epochs=None) as stream:
        for handed in range(1, 30):
            next(stream)
            assert handed <= len(taken) <= handed + 3


def test_an_error_in_the_background_is_raised_and_no_batch_is_lost(file):
    whole = [batch.samples.tolist() for batch in ss.batches(file, 4, seed=1)]
    fails = [whole[3]]

    def transform(batch):
        if batch.samples.tolist() in fails:
            fails.clear()
            raise ZeroDivisionError
        return batch.samples.tolist()

    seen = []
    stream = ss.batches(file, 4, seed=1, transform=transform, prefetch=2)
    errors = 0
    while not stream.over:
        try:
            seen.append(next(stream))
        except ZeroDivisionError:
            errors += 1
    assert errors == 1
    assert seen == whole


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_who_makes_every_third_batch_makes_the_same_read_ahead_or_not(file, ahead):
    whole = [batch.samples.tolist() for batch in ss.batches(file, 4, seed=1, epochs=2)]
    for first in range(3):
        source = Stored(file)
        order = order_of(source, 4, 1)
        some = Batches(source, order, epochs=2, first=first, step=3, ahead=ahead)
        assert [batch.samples.tolist() for batch in some] == whole[first::3]


def threads_here():
    gc.collect()
    return [t for t in threading.enumerate() if t.name.startswith("simscope-batches")]


def test_no_thread_stays_when_all_is_read_or_nobody_listens(file):
    list(ss.batches(file, 4))
    stream = ss.batches(file, 4)
    next(stream)
    stream.close()
    left = ss.batches(file, 4)
    next(left)
    waiting = threads_here()
    assert len(waiting) == 1
    del left
    gc.collect()
    waiting[0].join(10)
    assert not threads_here()


def test_a_dataset_given_opened_stays_open(file):
    with ss.open_dataset(file) as data:
        assert len(list(ss.batches(data, 5))) == 5
        assert data[0].image.shape == (24, 20)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_an_iterator_does_not_pretend_to_survive_a_fork(file):
    stream = ss.batches(file, 4)
    next(stream)
    child = os.fork()
    if not child:
        try:
            next(stream)
        except DatasetError:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_batches_need_no_torch(file):
    code = f"""
import sys
sys.modules["torch"] = None
import simscope as ss
print(sum(len(batch.images) for batch in ss.batches({str(file)!r}, 4)))
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert int(run.stdout) == SAMPLES


def test_batches_beyond_memory_are_refused_before_any_work():
    recipe = small_worlds.movie(frames=10**6)
    with pytest.raises(DatasetError, match="lower batch_size"):
        ss.batches(recipe, 100)


def test_picking_what_is_not_there_is_refused(file):
    with ss.open_dataset(file) as data:
        for wrong in ([], [SAMPLES], [-1], [0.5], 3, [[1]]):
            with pytest.raises(DatasetError):
                data.pick(wrong)
        assert data.pick([2, 2]).samples.tolist() == [2, 2]
