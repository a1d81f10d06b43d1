"""Codecs: what is packed outside HDF5 is what its own filters unpack, and the other way round."""

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from simscope.dataset import codec
from simscope.dataset.frames import Frames

CODECS = ("default", "fast", "none")
DTYPES = (np.uint16, np.float32, np.float64, np.int64)


def in_memory():
    return h5py.File("memory.h5", "w", driver="core", backing_store=False)


def stored(file, name, values, chunks):
    """An array packed by a codec, its chunks one after the other in C order."""
    kind = codec.named(name)
    dataset = file.create_dataset(
        "values", values.shape, values.dtype, chunks=chunks, **kind.filters
    )
    grid = [range(0, size, step) for size, step in zip(values.shape, chunks, strict=True)]
    corners = np.stack(np.meshgrid(*grid, indexing="ij"), -1).reshape(-1, values.ndim)
    rows = np.zeros((len(corners), *chunks), values.dtype)
    for row, corner in zip(rows, corners, strict=True):
        part = values[tuple(slice(a, a + n) for a, n in zip(corner, chunks, strict=True))]
        row[tuple(map(slice, part.shape))] = part
    codec.write_chunks(dataset, corners, kind.pack(rows))
    return dataset


@pytest.mark.parametrize("name", CODECS)
@settings(max_examples=40, deadline=None)
@given(
    arrays(
        st.sampled_from(DTYPES),
        st.tuples(st.integers(1, 4), st.integers(1, 50), st.integers(1, 70)),
        elements=st.integers(0, 65535),
    ),
    st.integers(1, 50),
)
def test_packed_chunks_are_read_by_hdf5_and_by_frames(name, values, step):
    with in_memory() as file:
        chunks = (1, min(step, values.shape[1]), values.shape[2])
        dataset = stored(file, name, values, chunks)
        frames = Frames(dataset)
        assert frames.codec.name == name
        assert np.array_equal(dataset[()], values)
        assert np.array_equal(frames.read(0, len(values)), values)
        assert np.array_equal(frames.one(len(values) - 1), values[-1])
        assert np.array_equal(frames.window(0, 1, values.shape[1]), values[0, 1:])


@pytest.mark.parametrize("name", CODECS)
def test_frames_reads_what_hdf5s_own_filters_packed(name):
    values = np.random.default_rng(1).poisson(200, (5, 33, 17)).astype(np.uint16)
    with in_memory() as file:
        filters = codec.named(name).filters
        dataset = file.create_dataset("values", data=values, chunks=(1, 33, 17), **filters)
        assert np.array_equal(Frames(dataset).read(1, 4), values[1:4])
