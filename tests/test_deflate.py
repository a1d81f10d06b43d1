"""Our deflate: every reader unpacks it, it never grows, and its bytes are the same everywhere."""

import hashlib
import zlib
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from isal import isal_zlib
from reference_deflate import inflate

from simscope.dataset import codec
from simscope.kernels import deflate

PLAIN = bool(numba.config.DISABLE_JIT)
MOST_ITEMS, EXAMPLES = (60, 10) if PLAIN else (70_000, 150)
DTYPES = ("<u2", "<f4", "<f8", "<i8", "u1")


def packed(chunks):
    return [bytes(stream) for stream in codec.named("default").pack(chunks)]


def shuffled(chunk):
    return chunk.reshape(-1).view(np.uint8).reshape(-1, chunk.dtype.itemsize).T.tobytes()


def doubling(size, rng):
    """Values that occur once, twice, four times ...: the deepest tree a block can have."""
    weights = 2 ** np.arange(size.bit_length())
    return rng.permutation(np.resize(np.repeat(np.arange(len(weights)), weights), size))


def values(kind, size, dtype, rng):
    made = {
        "constant": lambda: np.full(size, 7),
        "random": lambda: rng.integers(0, 256, size * np.dtype(dtype).itemsize, np.uint8),
        "ramp": lambda: np.arange(size) // 3,
        "steps": lambda: np.repeat(rng.integers(0, 9, size // 5 + 1), 5)[:size],
        "few": lambda: rng.integers(0, 3, size),
        "runs": lambda: np.repeat(rng.integers(0, 200, size), rng.geometric(0.01, size))[:size],
        "doubling": lambda: doubling(size, rng),
        "camera": lambda: rng.poisson(rng.gamma(3, 70, size)),
        "gauss": lambda: rng.normal(size=size),
    }[kind]()
    return made.view(dtype) if kind == "random" else made.astype(dtype)


KINDS = ("constant", "random", "ramp", "steps", "few", "runs", "doubling", "camera", "gauss")
PROBLEMS = st.tuples(
    st.sampled_from(KINDS),
    st.sampled_from(DTYPES),
    st.integers(1, MOST_ITEMS),
    st.integers(0, 2**32),
)


def check(kind, dtype, size, seed):
    chunk = values(kind, size, dtype, np.random.default_rng(seed))
    (stream,) = packed(chunk[None])
    plain = shuffled(chunk)
    assert zlib.decompress(stream) == plain
    assert isal_zlib.decompress(stream) == plain
    blocks = chunk.itemsize * -(-size // deflate.MOST)
    assert len(stream) <= len(plain) + 6 + 5 * blocks
    assert len(stream) <= 8 * deflate.most_words(chunk.nbytes, chunk.itemsize)


@settings(max_examples=EXAMPLES, deadline=None)
@given(PROBLEMS)
def test_every_stream_is_read_by_zlib_and_isal_and_never_outgrows_its_contents(problem):
    check(*problem)


@pytest.mark.slow
def test_ten_thousand_chunks_come_back():
    rng = np.random.default_rng(5)
    for number in range(10_000):
        size = int(np.exp(rng.uniform(0, np.log(70_000))))
        check(KINDS[number % len(KINDS)], DTYPES[rng.integers(len(DTYPES))], size, number)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.sampled_from(DTYPES),
    st.integers(1, min(600, MOST_ITEMS)),
    st.integers(0, 99),
)
def test_a_reader_written_from_the_standard_agrees(kind, dtype, size, seed):
    chunk = values(kind, size, dtype, np.random.default_rng(seed))
    assert inflate(packed(chunk[None])[0]) == shuffled(chunk)


@pytest.mark.skipif(PLAIN, reason="long runs, too slow without JIT")
@pytest.mark.parametrize("size", [1, 2, 4, 5, 257, 258, 259, 260, 261, 516, 65_535, 65_536])
def test_runs_of_every_awkward_length_come_back(size):
    chunk = np.zeros((1, size + 1), np.uint8)
    chunk[0, -1] = 1
    assert zlib.decompress(packed(chunk)[0]) == chunk.tobytes()


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(st.integers(0, 5000), min_size=2, max_size=286), st.sampled_from([7, 9, 12, 15]))
def test_limited_codes_are_complete_and_near_the_best(often, most):
    often = np.array(often if most > 7 else often[:19], np.int64)
    often[:2] += 1
    lengths, tree = np.zeros(320, np.int64), deflate.rooms(16)[4]
    bits = deflate.code_lengths(often, often.size, most, lengths, tree)
    used = lengths[: often.size]
    assert np.array_equal(used > 0, often > 0)
    assert used.max() <= most
    assert np.sum(2.0 ** -used[used > 0]) == 1
    assert bits == np.sum(often * used)
    share = often[often > 0] / often.sum()
    entropy = -np.sum(share * np.log2(share)) * often.sum()
    assert bits <= entropy + often.sum()  # Huffman's own bound; the limit hardly binds here


def test_the_deepest_tree_is_cut_at_the_limit():
    often = np.zeros(300, np.int64)
    often[:22] = [1, 1, *(round(1.618034**k) for k in range(2, 22))]
    lengths, tree = np.zeros(320, np.int64), deflate.rooms(16)[4]
    deflate.code_lengths(often, 257, 12, lengths, tree)
    assert lengths.max() == 12
    assert np.sum(2.0 ** -lengths[:22]) == 1


def test_a_chunk_has_the_same_bytes_alone_and_among_others_whoever_packs_it():
    chunks = np.random.default_rng(3).poisson(200, (9, 32, 32)).astype(np.uint16)
    together = packed(chunks)
    assert together == [packed(chunk[None])[0] for chunk in chunks]
    with ThreadPoolExecutor(2) as pool:
        apart = codec.named("default").pack_on(pool, 2, chunks)()
    assert together == [bytes(stream) for stream in apart]


def test_bytes_are_the_same_on_every_machine():
    number = np.arange(4096, dtype=np.uint64)
    noise = (number * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)
    chunk = (100 + noise % 97 + (noise >> np.uint64(7)) % 161 * (number % 5 == 0)).astype("<u2")
    stream = packed(chunk[None])[0]
    assert (
        hashlib.sha256(stream).hexdigest()
        == "2f35631cab6ab4831a43b5f5d2003d655612288ef226fd20123a52cfc582429f"
    )


@pytest.mark.skipif(PLAIN, reason="many frames, too slow without JIT")
def test_codes_that_are_cut_at_the_limit_are_the_same_on_every_machine():
    weights = 2 ** np.arange(15)  # 15 bits for the rarest, were there no limit
    spread = np.arange(32_767) * 7919 % 32_767  # an even order without runs
    chunk = np.repeat(np.arange(15), weights)[spread].astype(np.uint8)
    stream = packed(chunk[None])[0]
    assert zlib.decompress(stream) == chunk.tobytes()
    assert (
        hashlib.sha256(stream).hexdigest()
        == "e37cdfb320c9ab5613e27f4f9c5f9e590e0752a2161e752a7542fe9351cb67b5"
    )


def test_camera_frames_take_little_more_than_their_entropy():
    frames = np.random.default_rng(1).poisson(200, (20, 64, 64)).astype("<u2")
    entropy_bits = 0.0
    for plane in (frames & 255, frames >> 8):
        for frame in plane:
            share = np.bincount(frame.ravel()) / frame.size
            share = share[share > 0]
            entropy_bits -= np.sum(share * np.log2(share)) * frame.size
    found = sum(map(len, packed(frames)))
    # codes of whole bits cost under 1 %, code lengths about 100 bytes a plane
    assert found <= 1.01 * entropy_bits / 8 + 200 * len(frames)
