"""Streams and files hand out the simulator's samples, each once, in one order."""

import dataclasses
import itertools
import json
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
import small_worlds

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning"),
]

from torch.utils.data import BatchSampler, DataLoader, RandomSampler  # noqa: E402

import simscope as ss  # noqa: E402
from simscope.errors import DatasetError, SimscopeError, SimscopeWarning, TrainingError  # noqa: E402
from simscope.learn import HDF5Dataset, StreamingDataset, collate  # noqa: E402
from simscope.learn.stream import tensors, training_seed  # noqa: E402


@pytest.fixture(scope="module")
def recipe():
    dense = ss.load_recipe("smlm-2d-dense")
    for path, value in {
        "acquisition.shape": [20, 24],
        "structure.density_per_um2": 2.0,
        "rendering.window_px": 9,
        "rendering.accept_energy_loss": True,
    }.items():
        dense = dense.replace(path, value)
    return dense


@pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning")
def test_stream_holds_the_simulators_samples(recipe):
    stream = StreamingDataset(recipe, 3, batch_size=4, start=8, stop=18)
    images = torch.cat([batch["images"] for batch in stream])
    expected = ss.Simulator(recipe, 3).batch(8, 18)
    np.testing.assert_array_equal(images.numpy(), expected.images.astype(np.float32))


@pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning")
def test_workers_share_the_samples_without_change_of_order(recipe):
    stream = StreamingDataset(recipe, 3, batch_size=2, stop=10, threads=1)
    alone = [batch["start"] for batch in DataLoader(stream, batch_size=None)]
    shared = DataLoader(stream, batch_size=None, num_workers=2, multiprocessing_context="spawn")
    assert [batch["start"] for batch in shared] == alone == [0, 2, 4, 6, 8]


@pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning")
def test_file_and_stream_give_the_same_batches(recipe, tmp_path):
    path = ss.generate(recipe, 6, 5, tmp_path / "data.h5")
    from_file, from_stream = HDF5Dataset(path).batch(2, 5), ss.Simulator(recipe, 5).batch(2, 5)
    np.testing.assert_array_equal(from_file.images, from_stream.images)
    np.testing.assert_array_equal(from_file.emitters, from_stream.emitters)
    np.testing.assert_array_equal(from_file.emitter_offsets, from_stream.emitter_offsets)
    assert from_file.parameters.keys() == from_stream.parameters.keys()
    item = HDF5Dataset(path)[-1]
    assert item["images"].shape == (20, 24)
    assert len(HDF5Dataset(path)) == 6
    with pytest.raises(IndexError):
        HDF5Dataset(path)[6]


def test_training_never_sees_the_samples_of_its_own_seed():
    seeds = [training_seed(seed) for seed in range(1000)]
    assert len(set(seeds)) == 1000
    assert not set(seeds) & set(range(1000))


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"start": 5, "stop": 4}, {"stop": 2**40}])
def test_impossible_ranges_are_refused(recipe, wrong):
    with pytest.raises(SimscopeError, match=r"batch_size|start|stop"):
        StreamingDataset(recipe, 0, **wrong)


def test_workers_forked_after_simulating_go_on():
    code = """
import simscope as ss
from torch.utils.data import DataLoader
from simscope.learn import StreamingDataset
ss.Simulator("smlm-2d-dense", 3, threads=2).batch(0, 600)
stream = StreamingDataset("smlm-2d-dense", 3, batch_size=3, stop=6)
loader = DataLoader(
    stream, batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=100
)
print([batch["start"] for batch in loader])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert run.stdout.strip() == "[0, 3]", run.stderr


@pytest.mark.parametrize(
    "wrong", [{"batch_size": 1.5}, {"batch_size": True}, {"start": 0.5}, {"stop": "5"}]
)
def test_odd_arguments_are_refused_at_once(wrong):
    with pytest.raises(SimscopeError, match="whole number"):
        StreamingDataset("smlm-2d-dense", 3, **wrong)
    with pytest.raises(SimscopeError, match="seed"):
        StreamingDataset("smlm-2d-dense", -3)


@pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning")
def test_tensors_lie_in_the_memory_of_a_devices_arrays(recipe):
    batch = ss.Simulator(recipe, 3).batch(4, 7, on_device=True)
    made = tensors(batch)
    assert set(made["emitters"]) == {"frame", "id", "x_nm", "y_nm", "z_nm", "photons"}
    for name, tensor in made["emitters"].items():
        assert tensor.data_ptr() == batch.emitters[name].ctypes.data, name
    assert made["emitter_offsets"].data_ptr() == batch.emitter_offsets.ctypes.data
    for path, tensor in made["parameters"].items():
        assert tensor.data_ptr() == batch.parameters[path].ctypes.data


@pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning")
def test_a_devices_arrays_never_pass_through_numpy(recipe):
    class Foreign:
        """An array of another library: it can be exchanged, but not turned into NumPy's."""

        def __init__(self, array):
            self.array, self.flags = array, array.flags

        def __len__(self):
            return len(self.array)

        def astype(self, kind):
            return Foreign(self.array.astype(kind))

        def __array__(self, *args, **kwargs):
            raise TypeError("implicit conversion to NumPy")

        def __dlpack__(self, **keywords):
            return self.array.__dlpack__(**keywords)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    batch = ss.Simulator(recipe, 3).batch(4, 6, on_device=True)
    emitters = {name: Foreign(column) for name, column in batch.emitters.items()}
    foreign = dataclasses.replace(
        batch,
        images=Foreign(batch.images),
        emitters=emitters,
        emitter_offsets=Foreign(batch.emitter_offsets),
    )
    made, expected = tensors(foreign), tensors(batch)
    assert torch.equal(made["images"], expected["images"])
    for name, column in batch.emitters.items():
        assert made["emitters"][name].data_ptr() == column.ctypes.data


@pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning")
def test_tables_and_columns_make_the_same_tensors(recipe):
    sim = ss.Simulator(recipe, 3)
    rows, columns = (tensors(sim.batch(4, 7, on_device=where)) for where in (False, True))
    assert torch.equal(rows["images"], columns["images"])
    assert rows["emitters"].keys() == columns["emitters"].keys()
    for name, column in columns["emitters"].items():
        assert torch.equal(rows["emitters"][name], column)


def test_a_stream_refuses_devices_that_are_not_there(recipe):
    with pytest.raises(SimscopeError, match="device='gpu' is unknown"):
        StreamingDataset(recipe, 3, device="gpu")


@pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning")
def test_transforms_get_columns_where_they_ask_for_the_devices_arrays(recipe):
    def kind(batch):
        return type(batch.emitters)

    made = [
        next(iter(StreamingDataset(recipe, 3, stop=4, transform=kind, on_device=where)))
        for where in (None, True)
    ]
    assert made == [np.ndarray, dict]


# ---- files, workers and epochs ------------------------------------------------------------------

SAMPLES = 23


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SimscopeWarning)
        return ss.generate(small_worlds.snapshot(), SAMPLES, 5, folder / "a.h5")


def through(stream, workers=0, **how):
    """A loader over a stream; a worker that hangs is an error."""
    if workers:
        how = {"multiprocessing_context": "fork", "timeout": 100} | how
    return DataLoader(stream, batch_size=None, num_workers=workers, **how)


def named(loader):
    return [batch["samples"].tolist() for batch in loader]


def order_of(file, epochs=1, **asked):
    stream = ss.batches(file, 4, seed=2, epochs=epochs, **asked)
    return [batch.samples.tolist() for batch in stream]


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_any_number_of_workers_hands_out_the_same_batches(file, workers):
    stream = StreamingDataset(file, 2, batch_size=4)
    with ss.open_dataset(file) as data:
        seen = []
        for batch in through(stream, workers):
            numbers = batch["samples"].tolist()
            seen.append(numbers)
            images = np.stack([data.image(number) for number in numbers])
            np.testing.assert_array_equal(batch["images"].numpy(), images)
            rows = np.concatenate([data.sample_emitters(number)["x_nm"] for number in numbers])
            np.testing.assert_array_equal(batch["emitters"]["x_nm"].numpy(), rows)
    assert seen == order_of(file)
    assert sorted(itertools.chain(*seen)) == list(range(SAMPLES))


@pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning")
def test_spawned_workers_hand_out_the_same_batches_epoch_after_epoch(file):
    stream = StreamingDataset(file, 2, batch_size=4)
    loader = through(stream, 2, multiprocessing_context="spawn", persistent_workers=True)
    assert [named(loader), named(loader)] == [order_of(file, 2)[:6], order_of(file, 2)[6:]]


@pytest.mark.parametrize("workers", [0, 2])
def test_passes_of_processes_that_live_on_are_epochs(file, workers):
    stream = StreamingDataset(file, 2, batch_size=4)
    loader = through(stream, workers, persistent_workers=bool(workers))
    whole = order_of(file, 3)
    assert [named(loader) for _ in range(3)] == [whole[:6], whole[6:12], whole[12:]]


@pytest.mark.parametrize("persistent", [False, True])
def test_an_epoch_left_early_is_followed_by_the_next(file, persistent):
    stream = StreamingDataset(file, 2, batch_size=4)
    loader = through(stream, 2, persistent_workers=persistent)
    whole = order_of(file, 2)
    next(iter(loader))
    if not persistent:
        stream.set_epoch(1)
    assert named(loader) == whole[6:]


@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, False), (2, True)])
def test_set_epoch_is_heard_by_all_workers(file, workers, persistent):
    stream = StreamingDataset(file, 2, batch_size=4)
    loader = through(stream, workers, persistent_workers=persistent)
    whole = order_of(file, 4)
    for epoch in (2, 0, 3):
        stream.set_epoch(epoch)
        assert named(loader) == whole[6 * epoch : 6 * epoch + 6]


def test_workers_made_anew_warn_of_an_epoch_that_begins_again(file):
    code = f"""
from simscope.learn import StreamingDataset
from torch.utils.data import DataLoader
stream = StreamingDataset({str(file)!r}, 2, batch_size=4)
loader = DataLoader(stream, batch_size=None, num_workers=2, timeout=100)
list(loader)
print("again", flush=True)
list(loader)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0
    assert "epoch 0 begins again" in run.stderr
    assert "set_epoch" in run.stderr


@pytest.mark.parametrize("handed", [0, 1, 4, 6, 8])
def test_a_stream_goes_on_where_it_was_saved(file, handed):
    whole = order_of(file, 2)
    stream = StreamingDataset(file, 2, batch_size=4, endless=True)
    before = [batch["samples"].tolist() for batch in itertools.islice(stream, handed)]
    state = json.loads(json.dumps(stream.state_dict()))
    again = StreamingDataset(file, 2, batch_size=4)
    again.load_state_dict(state)
    rest = named(again) + (named(again) if handed < 6 else [])
    assert before + rest == whole


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_loader_with_workers_goes_on_from_the_batches_its_loop_counted(file, workers):
    stream = StreamingDataset(file, 2, batch_size=4)
    stream.set_epoch(1)
    before = [batch["samples"].tolist() for batch in itertools.islice(through(stream, workers), 2)]
    with pytest.raises(TrainingError, match="state_at"):
        stream.state_dict()
    again = StreamingDataset(file, 2, batch_size=4)
    again.load_state_dict(stream.state_at(1, 2))
    loader = through(again, workers, persistent_workers=True)
    whole = order_of(file, 3)
    assert before + named(loader) == whole[6:12]
    assert named(loader) == whole[12:]


def test_a_loaded_state_is_not_taken_for_two_passes(file):
    stream = StreamingDataset(file, 2, batch_size=4)
    stream.load_state_dict(stream.state_at(0, 3))
    loader = through(stream, 2)
    assert named(loader) == order_of(file)[3:]
    with pytest.raises(TrainingError, match="set_epoch"):
        list(loader)
    stream.set_epoch(1)
    assert named(loader) == order_of(file, 2)[6:]


def test_a_state_of_other_batches_is_refused(file):
    state = StreamingDataset(file, 2, batch_size=4).state_dict()
    with pytest.raises(DatasetError, match="batch_size=4"):
        StreamingDataset(file, 2, batch_size=5).load_state_dict(state)


@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_share_an_epoch(file, workers):
    parts = [
        named(through(StreamingDataset(file, 2, batch_size=4, share=(k, 3)), workers))
        for k in range(3)
    ]
    assert sorted(itertools.chain(*parts)) == sorted(order_of(file))
    assert parts[1] == order_of(file)[1::3]


def test_a_stream_survives_pickling_with_its_position(file):
    stream = StreamingDataset(file, 2, batch_size=4)
    named(stream)
    copy = pickle.loads(pickle.dumps(stream))  # noqa: S301 - our own
    assert named(copy) == order_of(file, 2)[6:]


@pytest.mark.parametrize("handed", [0, 3, 5, 6, 8])
@pytest.mark.parametrize("workers", [0, 2, 3])
def test_the_stateful_loader_of_torchdata_goes_on(file, workers, handed):
    stateful = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader
    how = {"multiprocessing_context": "fork", "timeout": 100, "persistent_workers": True}

    def loader():
        stream = StreamingDataset(file, 2, batch_size=4)
        return stateful(stream, batch_size=None, num_workers=workers, **how if workers else {})

    first, again = loader(), loader()
    endless = itertools.chain.from_iterable(itertools.repeat(first))
    before = [batch["samples"].tolist() for batch in itertools.islice(endless, handed)]
    again.load_state_dict(json.loads(json.dumps(first.state_dict())))
    after = [named(again) for _ in range(2)]
    assert before + after[0] + after[1] == order_of(file, 3)[: handed + sum(map(len, after))]
    assert all(len(epoch) in (6, 0) for epoch in after[1:])


@pytest.mark.parametrize("workers", [0, 2])
def test_samples_by_index_work_with_torchs_samplers(file, workers):
    data = HDF5Dataset(file)
    chosen = BatchSampler(RandomSampler(data, generator=torch.Generator().manual_seed(1)), 5, False)
    seen = []
    for batch in through(data, workers, sampler=list(chosen)):
        numbers = batch["samples"].tolist()
        for place, number in enumerate(numbers):
            item = data[number]
            assert torch.equal(batch["images"][place], item["images"])
        seen += numbers
    assert sorted(seen) == list(range(SAMPLES))


def test_collected_samples_are_the_batch_read_at_once(file):
    data = HDF5Dataset(file)
    numbers = [3, 1, 22, 1]
    collected, whole = collate([data[number] for number in numbers]), data[numbers]
    loaded = next(iter(DataLoader(data, batch_size=4, sampler=numbers, collate_fn=collate)))
    for made in (collected, loaded):
        assert made["samples"].tolist() == numbers
        assert torch.equal(made["images"], whole["images"])
        assert torch.equal(made["emitter_offsets"], whole["emitter_offsets"])
        for part in ("emitters", "parameters"):
            assert made[part].keys() == whole[part].keys()
            for name, values in made[part].items():
                assert torch.equal(values, whole[part][name]), name


def test_indices_out_of_range_are_refused(file):
    data = HDF5Dataset(file)
    assert data[-1]["samples"] == SAMPLES - 1
    for wrong in (SAMPLES, -SAMPLES - 1, [0, SAMPLES], []):
        with pytest.raises(IndexError):
            data[wrong]
    with pytest.raises(TypeError):
        data[1.5]


@pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning")
def test_targets_come_as_tensors(file):
    stream = StreamingDataset(file, 2, batch_size=4, targets=["density"])
    density = next(iter(stream))["targets"]["density"]
    assert density.shape == (4, 1, 96, 80)
    assert density.dtype == torch.float32
