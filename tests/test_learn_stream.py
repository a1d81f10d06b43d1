"""Streams and files hand out the simulator's samples, each once, in one order."""

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = pytest.mark.train

from torch.utils.data import DataLoader  # noqa: E402

import simscope as ss  # noqa: E402
from simscope.errors import SimscopeError  # noqa: E402
from simscope.learn import HDF5Dataset, StreamingDataset  # noqa: E402
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


def test_workers_forked_after_simulating_are_told_the_remedy():
    import subprocess
    import sys

    code = """
import simscope as ss
from torch.utils.data import DataLoader
from simscope.learn import StreamingDataset
ss.Simulator("smlm-2d-dense", 3, threads=2).batch(0, 600)
stream = StreamingDataset("smlm-2d-dense", 3, batch_size=3, stop=6)
list(DataLoader(stream, batch_size=None, num_workers=1, multiprocessing_context="fork"))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    survived = run.returncode == 0  # with a threading layer that outlives a fork
    assert survived or "multiprocessing_context='spawn'" in run.stderr


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
