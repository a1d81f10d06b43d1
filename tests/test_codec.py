"""Codecs: what is packed outside HDF5 is what its own filters unpack, and the other way round."""

import sys
import zlib
from contextlib import suppress

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from simscope.dataset import codec
from simscope.dataset.frames import Frames
from simscope.errors import DatasetError

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


def counts(seed=1, frames=3):
    return np.random.default_rng(seed).poisson(200, (frames, 24, 20)).astype(np.uint16)


def test_an_unknown_codec_is_refused_with_the_nearest_name():
    with pytest.raises(DatasetError, match="did you mean 'default'"):
        codec.named("defualt")


def test_fast_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    codec._fast.cache_clear()
    with pytest.raises(DatasetError, match=r"pip install 'simscope\[fast\]'"):
        codec.named("fast")


@pytest.mark.parametrize("name", CODECS)
@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 4))
def test_damaged_chunks_are_an_error_or_other_values_and_nothing_worse(name, seed, cut):
    rng = np.random.default_rng(seed)
    values = counts(seed, 1)
    kind, out = codec.named(name), np.empty_like(values[0])
    (packed,) = kind.pack(values)
    damaged = np.frombuffer(bytes(packed), np.uint8).copy()
    if cut:
        damaged = damaged[: rng.integers(0, len(damaged))]
    else:
        damaged[rng.integers(0, len(damaged))] ^= 1 << rng.integers(0, 8)
    if name == "default":
        with pytest.raises(DatasetError):
            kind.unpack(bytes(damaged), out)
    else:  # without a sum of its own; /arrays_sha256 tells
        with suppress(DatasetError):
            kind.unpack(bytes(damaged), out)
            assert not cut


def test_noise_instead_of_a_chunk_is_an_error():
    rng = np.random.default_rng(2)
    out = np.empty((24, 20), np.uint16)
    for name in CODECS:
        for size in (0, 1, 11, 12, 13, 500, 5000):
            with pytest.raises(DatasetError):
                codec.named(name).unpack(rng.bytes(size), out)


def test_a_chunk_that_unpacks_to_gigabytes_takes_memory_for_one_frame():
    bomb = zlib.compress(bytes(1 << 26), 9)
    with pytest.raises(DatasetError, match="does not hold"):
        codec.named("default").unpack(bomb, np.empty(64, np.uint16))


def test_lengths_inside_a_fast_chunk_cannot_lead_beyond_it():
    values = np.random.default_rng(1).poisson(200, (1, 10_000)).astype(np.uint16)
    kind, out = codec.named("fast"), np.empty(10_000, np.uint16)
    packed = bytearray(kind.pack(values)[0])
    packed[codec.HEADER.size : codec.HEADER.size + 4] = b"\x7f\xff\xff\xff"
    with pytest.raises(DatasetError, match="fill"):
        kind.unpack(bytes(packed), out)


def test_the_sum_at_the_end_of_a_chunk_must_be_there_and_right_and_the_last():
    values = counts(frames=1)
    kind, out = codec.named("default"), np.empty_like(values[0])
    whole = bytes(kind.pack(values)[0])
    kind.unpack(whole, out)
    assert np.array_equal(out, values[0])
    for missing in range(1, 5):
        with pytest.raises(DatasetError):
            kind.unpack(whole[:-missing], out)
    for place in range(-4, 0):
        wrong = bytearray(whole)
        wrong[place] ^= 1
        with pytest.raises(DatasetError):
            kind.unpack(bytes(wrong), out)
    with pytest.raises(DatasetError, match="does not hold"):
        kind.unpack(whole + b"\0", out)


def test_blocks_of_fast_chunks_are_not_believed():
    values = np.random.default_rng(1).poisson(200, (1, 10_000)).astype(np.uint16)
    kind, out = codec.named("fast"), np.empty(10_000, np.uint16)
    packed = bytes(kind.pack(values)[0])
    huge = codec.HEADER.pack(20_000, 2 * codec.MAX_BLOCK_BYTES) + packed[codec.HEADER.size :]
    with pytest.raises(DatasetError, match="does not hold"):
        kind.unpack(huge, out)
    first = codec.HEADER.size + 4
    length = int.from_bytes(packed[first - 4 : first], "big")
    noise = packed[:first] + length * b"\xff" + packed[first + length :]
    with pytest.raises(DatasetError, match="fails with code"):
        kind.unpack(noise, out)


def test_a_missing_chunk_is_damage_and_no_zeros():
    with in_memory() as file:
        dataset = file.create_dataset("values", (2, 4, 4), "u2", chunks=(1, 4, 4))
        with pytest.raises(DatasetError, match="damaged"):
            Frames(dataset).one(1)


@pytest.mark.parametrize(
    "stored_otherwise",
    [
        {"compression": "gzip", "chunks": (1, 24, 20)},
        {"compression": "lzf", "chunks": (1, 24, 20)},
        {"compression": "gzip", "shuffle": True, "chunks": (2, 24, 20)},
        {"compression": "gzip", "shuffle": True, "chunks": (1, 24, 7)},
        {"compression": "gzip", "shuffle": True, "fletcher32": True, "chunks": (1, 24, 20)},
        {},
    ],
)
def test_arrays_stored_in_other_ways_are_read_as_h5py_reads_them(stored_otherwise):
    values = counts()
    with in_memory() as file:
        frames = Frames(file.create_dataset("values", data=values, **stored_otherwise))
        assert np.array_equal(frames.read(1, 3), values[1:])
        assert np.array_equal(frames.one(2), values[2])
        assert np.array_equal(frames.window(0, 3, 9), values[0, 3:9])


def test_a_chunk_stored_without_its_filters_is_read_as_it_is():
    values = counts()
    with in_memory() as file:
        dataset = stored(file, "default", values, (1, 24, 20))
        dataset.id.write_direct_chunk((1, 0, 0), values[1].tobytes(), filter_mask=3)
        assert np.array_equal(Frames(dataset).read(0, 3), values)


@pytest.mark.parametrize("name", CODECS)
def test_columns_of_whole_chunks_and_a_rest_are_read(name):
    column = np.cumsum(np.random.default_rng(4).poisson(9, 1000))
    with in_memory() as file:
        frames = Frames(stored(file, name, column, (300,)))
        assert np.array_equal(frames.read(0, 1000), column)
        assert np.array_equal(frames.read(299, 901), column[299:901])
        assert frames.one(700) == column[700]
