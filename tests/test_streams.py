"""Streams are named, split without ambiguity, never overlap, and give every law by counter.

Two streams have different Philox keys, one stream's counters are distinct and each read by one
law: that is shown by construction, and by looking for repeated blocks and correlations.
"""

import ast
import itertools
from pathlib import Path

import numba
import numpy as np
import pytest
import reference_random
import small_worlds
from gpu_stand_in import under_simulator
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import philox4x32_10

import simscope
from simscope.errors import SimscopeError
from simscope.kernels.philox import philox4x32
from simscope.keys import Key
from simscope.sample.textures import MOST_OCTAVES

SOURCES = sorted(
    path
    for path in Path(simscope.__file__).parent.rglob("*.py")
    if "kernels" not in path.relative_to(Path(simscope.__file__).parent).parts
)
needs_speed = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="needs compiled kernels")
NAMES = st.lists(st.text(min_size=1).filter(lambda s: "/" not in s and s.isprintable()), max_size=4)


# ---- every law at any counter -------------------------------------------------------------------

COUNTER = st.tuples(*[st.integers(0, 2**32 - 1)] * 3, st.integers(0, 2**16 - 1))
LAWS = {
    "uniform": ((), {"rel": 0}),
    "normal": ((), {"rel": 1e-14, "abs": 1e-14}),
    "exponential": ((), {"rel": 1e-15}),
    "gamma": ((st.floats(0.01, 1e6),), {"rel": 1e-12}),
}
COUNTS = {
    "binomial": (st.integers(0, 2**31 - 1), st.floats(0, 1)),
    "poisson": (st.floats(0, 1e7),),
}


def ours_and_twin(law, strategies, counter, seed, data):
    parameters = [data.draw(strategy) for strategy in strategies]
    element, step, sample, draw = counter
    key = Key(seed).child("twin")
    ours = getattr(key, law)(element, *parameters, step=step, sample=sample, draw=draw)
    twin = getattr(reference_random, law)(counter, [int(w) for w in key.words], *parameters)
    return ours.item(), twin


@pytest.mark.parametrize("law", LAWS)
@settings(max_examples=60, deadline=None)
@given(counter=COUNTER, seed=st.integers(0, 2**63 - 1), data=st.data())
def test_a_variate_equals_its_twin(law, counter, seed, data):
    strategies, tolerance = LAWS[law]
    ours, twin = ours_and_twin(law, strategies, counter, seed, data)
    assert ours == pytest.approx(twin, **tolerance)


@pytest.mark.parametrize("law", COUNTS)
@settings(max_examples=100, deadline=None)
@given(counter=COUNTER, seed=st.integers(0, 2**63 - 1), data=st.data())
def test_a_count_equals_its_twin(law, counter, seed, data):
    ours, (low, high) = ours_and_twin(law, COUNTS[law], counter, seed, data)
    assert low <= ours <= high


def test_float32_variates_equal_their_twins_in_any_shape():
    key = Key(4).child("many")
    twins = [
        reference_random.uniform32((i, 7, 3, 2), [int(w) for w in key.words]) for i in range(63)
    ]
    drawn = key.uniform32((7, 9), step=7, sample=3, draw=2)
    assert drawn.dtype == np.float32
    np.testing.assert_array_equal(drawn.ravel(), twins)
    np.testing.assert_array_equal(key.uniform32(5, step=7, sample=3, draw=2), twins[:5])


@needs_speed
def test_float32_variates_do_not_depend_on_the_number_of_threads():
    before, key = numba.get_num_threads(), Key(4)
    together = key.uniform32(100_003)
    try:
        numba.set_num_threads(1)
        np.testing.assert_array_equal(key.uniform32(100_003), together)
    finally:
        numba.set_num_threads(before)


def test_parameters_and_counters_broadcast():
    key = Key(5)
    table = key.gamma(np.arange(3)[:, None], [0.5, 2.0], sample=9)
    assert table.shape == (3, 2)
    assert table[2, 0] == key.gamma(2, 0.5, sample=9)
    assert key.poisson([], 4.0).shape == (0,)
    assert key.binomial(np.arange(4), 10, 0.0).tolist() == [0, 0, 0, 0]
    assert key.binomial(np.arange(4), 10, 1.0).tolist() == [10] * 4


@pytest.mark.parametrize(
    ("ask", "complaint"),
    [
        (lambda key: key.uniform(-1), r"element=-1 lies outside \[0, 4294967295\]"),
        (lambda key: key.uniform([0, 2**32]), "element=4294967296 lies outside"),
        (lambda key: key.uniform(0, sample=2**40), "sample=1099511627776 lies outside"),
        (lambda key: key.uniform(0, step=np.uint64(2**64 - 1)), "step=18446744073709551615 lies"),
        (lambda key: key.uniform(0.5), "element has type float64: give whole numbers"),
        (lambda key: key.uniform("a"), "element has type <U1"),
        (lambda key: key.normal(0, draw=2**16), "draw=65536 is not a whole number in"),
        (lambda key: key.normal(0, draw=1.0), "draw=1.0 is not a whole number"),
        (lambda key: key.gamma(0, [1.0, 0.0]), "gamma shape=0.0 lies outside"),
        (lambda key: key.gamma(0, np.nan), "gamma shape=nan lies outside"),
        (lambda key: key.gamma(0, "3"), "gamma shape has type <U1: give real numbers"),
        (lambda key: key.binomial(0, 2**31, 0.5), "binomial trials=2147483648 lies outside"),
        (lambda key: key.binomial(0, 2.5, 0.5), "binomial trials has type float64"),
        (lambda key: key.binomial(0, 5, 1.01), r"binomial p=1.01 lies outside \[0, 1\]"),
        (lambda key: key.poisson(0, -1), r"poisson mean=-1 lies outside \[0, 10000000\]"),
        (lambda key: key.uniform32(3, sample=-1), "sample=-1 lies outside"),
        (lambda key: key.uniform32(3, sample=[1, 2]), r"sample has shape \(2,\) where one number"),
        (lambda key: key.uniform32((2, -3)), r"shape=\(2, -3\) is none"),
        (lambda key: key.uniform32(1.5), "shape=1.5 is none"),
        (lambda key: key.uniform32(2**60), "variates exceed 2\\*\\*32"),
        (lambda key: key.uniform([[1], [2, 3]]), "element is no array"),
        (lambda key: key.uniform([0, 1], sample=[0, 1, 2]), r"broadcast \(element \(2,\), step"),
        (lambda key: key.uniform(0, device="gpu"), "device='gpu' is unknown"),
        (lambda key: key.uniform32(3, device=None), "device=None is unknown"),
    ],
)
def test_impossible_counters_and_parameters_are_refused(ask, complaint):
    with pytest.raises(SimscopeError, match=complaint):
        ask(Key(1))


def test_a_device_may_be_given_by_its_name():
    key = Key(1)
    assert key.normal(3, device="cpu") == key.normal(3)
    assert np.array_equal(key.uniform32(5, device="cpu"), key.uniform32(5))


SIMULATED = """
import numpy as np
from simscope.device import CPU, device
from simscope.keys import Key
gpu, key, n = device("cuda"), Key(11).child("laws"), 120
places = dict(sample=np.arange(n) % 3, step=np.arange(n) // 7, draw=2)
means = np.geomspace(0.01, 1e7, n)
trials, p = np.geomspace(1, 2**31 - 1, n).astype(int), np.linspace(0, 1, n)
laws = {
    "uniform": (), "normal": (), "exponential": (),
    "gamma": (np.geomspace(0.01, 1e6, n),), "binomial": (trials, p), "poisson": (means,),
}
for law, parameters in laws.items():
    here, there = (getattr(key, law)(np.arange(n), *parameters, **places, device=where)
                   for where in (CPU, gpu))
    assert here.tobytes() == there.tobytes(), law
assert key.uniform32((13, 9)).tobytes() == key.uniform32((13, 9), device=gpu).tobytes()
words = [np.uint32(w) for w in (1, 2, 3, 4, 5)]
for name, parameters in {"uniform": (), "normal": (), "exponential": (), "gamma": (0.4,),
                         "lognormal": (0.7,)}.items():
    here, there = np.empty(n), np.empty(n)
    getattr(CPU.kernels("variates"), f"fill_{name}")(here, *parameters, *words)
    getattr(gpu.kernels("variates"), f"fill_{name}")(n, there, *parameters, *words)
    assert here.tobytes() == there.tobytes(), name
print("same")
"""


def test_every_law_has_the_same_bits_on_a_gpu():
    assert under_simulator(SIMULATED).strip() == "same"


# ---- names --------------------------------------------------------------------------------------


def test_splitting_in_steps_or_at_once_is_the_same_stream():
    key = Key(3)
    assert key.child("a").child("b") == key.child("a/b")
    assert key.child("a").child("b").words == key.child("a/b").words


@settings(max_examples=200, deadline=None)
@given(st.tuples(st.integers(0, 30), NAMES), st.tuples(st.integers(0, 30), NAMES))
def test_different_seeds_or_paths_never_share_a_text(one, other):
    keys = [Key(seed, tuple(path)) for seed, path in (one, other)]
    assert (keys[0].words == keys[1].words) == (keys[0] == keys[1])


def test_names_that_could_be_read_two_ways_are_refused():
    for path in (("a/b",), ("",), ("a", "/"), (3,)):
        with pytest.raises(SimscopeError, match="stream name"):
            Key(1, path)
    for name in ("", "a//b", "/a", "a/", 3, None):
        with pytest.raises(SimscopeError, match="stream name"):
            Key(1).child(name)


def child_calls(path):
    """Arguments of every ``.child(...)`` in a file, as syntax."""
    for node in ast.walk(ast.parse(path.read_text("utf8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "child":
            yield node.args[0]


def literal_names():
    """(name, file) of every stream named by a literal in the package."""
    return [
        (node.value, path.name)
        for path in SOURCES
        for node in child_calls(path)
        if isinstance(node, ast.Constant)
    ]


NAMED_BY_EXPRESSION = {
    "draws.py": "path",  # of a drawn number in the recipe, below "parameters"
    "keys.py": None,
    "structures.py": "name",
    "textures.py": "f'structure/{name}'",
    "fit_study.py": "name",  # below "fit-study"
}
BELOW = (
    *("along", "around", "start"),
    *("structure/winding-x", "structure/winding-y"),
    *(f"structure/octave-{octave}" for octave in range(MOST_OCTAVES)),
    *("x", "y", "x-start", "y-start"),
)


def test_streams_named_by_expressions_are_known():
    # a new one must be added here with the names it can take, or it escapes the tests below
    found = {
        path.name: ast.unparse(node)
        for path in SOURCES
        for node in child_calls(path)
        if not isinstance(node, ast.Constant)
    }
    assert found.items() <= NAMED_BY_EXPRESSION.items()


def drawn_paths():
    """Paths of all numbers that packaged and small recipes draw."""
    recipes = [simscope.load_recipe(name) for name in simscope.packaged_recipes()]
    recipes += [world() for world in small_worlds.WORLDS.values()]
    scopes = ("dataset", "sample", "emitter")
    return {path for recipe in recipes for scope in scopes for path in recipe.drawn(scope)}


def test_no_two_streams_of_any_seed_have_the_same_key():
    names = {name for name, _ in literal_names()} | set(BELOW)
    paths = {(), *((name,) for name in names), *itertools.product(names, repeat=2)}
    paths |= {("parameters", path) for path in drawn_paths()}
    keys = {
        Key(seed).child("/".join(path)) if path else Key(seed)
        for path in paths
        for seed in range(60)
    }
    assert len(keys) > 5_000
    assert len({key.words for key in keys}) == len(keys)


def test_a_stream_is_opened_in_one_place_only():
    homes = {}
    for name, file in literal_names():
        homes.setdefault(name, set()).add(file)
    assert all(len(files) == 1 for files in homes.values()), homes


@pytest.mark.parametrize("world", small_worlds.WORLDS)
def test_a_stream_serves_one_law(world, monkeypatch):
    """Of one sample: drivers each path was drawn by, kernels that were handed its words count."""
    drivers, original, words = {}, Key._variates, Key.words.func
    drawing = []

    def variates(self, driver, *arguments, **address):
        drivers.setdefault(self.path, set()).add((driver, address.get("draw", 0)))
        drawing.append(self)
        try:
            return original(self, driver, *arguments, **address)
        finally:
            drawing.pop()

    def given_away(self):
        if not drawing:
            drivers.setdefault(self.path, set()).add("a kernel of its own")
        return words(self)

    monkeypatch.setattr(Key, "_variates", variates)
    monkeypatch.setattr(Key, "words", property(given_away))
    simscope.Simulator(small_worlds.WORLDS[world](), seed=3)[0]
    assert ("camera", "shot") in drivers
    assert len(drivers) >= 2
    assert all(len(laws) == 1 for laws in drivers.values()), drivers


# ---- blocks -------------------------------------------------------------------------------------


@numba.njit(nogil=True)
def _fill_blocks(out, elements, samples, k0, k1):
    for s in range(samples):
        for i in range(elements):
            block = philox4x32(np.uint32(i), np.uint32(0), np.uint32(s), np.uint32(0), k0, k1)
            for lane in range(4):
                out[s, i, lane] = block[lane]


def blocks(key, elements=256, samples=16):
    """Blocks (samples, elements, 4) of uint32 at the first counters of a stream."""
    out = np.empty((samples, elements, 4), np.uint32)
    _fill_blocks(out, elements, samples, *key.words)
    return out


@needs_speed
def test_no_block_of_128_bits_repeats_among_a_million_of_many_streams():
    # 2^20 random blocks repeat with probability 2^39 / 2^128; the halves of 64 bits with 3e-8
    keys = [
        Key(seed).child(f"{name}/{i}")
        for seed in (0, 1, 7, 2**62)
        for name in "abcd"
        for i in range(16)
    ]
    drawn = np.concatenate([blocks(key).reshape(-1, 4) for key in keys])
    assert drawn.shape == (2**20, 4)
    for half in (drawn[:, :2], drawn[:, 2:]):
        assert np.unique(np.ascontiguousarray(half).view(np.uint64)).size == 2**20


@needs_speed
def test_neighbouring_streams_samples_and_counters_are_uncorrelated():
    # correlation of 2^18 pairs: standard deviation 2^-9; 5 sigma, 12 comparisons, 7e-6 in all
    key, n = Key(12), 2**18
    elements = np.arange(n)
    base = key.child("a").normal(elements, sample=4, step=1, draw=1)
    others = [
        *(key.child(name).normal(elements, sample=4, step=1, draw=1) for name in ("b", "a/a", "A")),
        Key(13).child("a").normal(elements, sample=4, step=1, draw=1),
        *(key.child("a").normal(elements, sample=4 + d, step=1, draw=1) for d in (-1, 1)),
        *(key.child("a").normal(elements, sample=4, step=1 + d, draw=1) for d in (-1, 1)),
        *(key.child("a").normal(elements, sample=4, step=1, draw=1 + d) for d in (-1, 1)),
        *(key.child("a").normal(elements + d, sample=4, step=1, draw=1) for d in (1, 2)),
    ]
    for other in others:
        assert abs(np.corrcoef(base, other)[0, 1]) < 5 / np.sqrt(n)


def test_blocks_of_a_stream_are_those_of_its_words():
    key = Key(8).child("x")
    counter = (3, 0, 2, 0)
    assert tuple(blocks(key, 4, 3)[2, 3]) == philox4x32_10(counter, [int(w) for w in key.words])


@pytest.mark.parametrize(
    ("element", "step"),
    [
        (range(2**40), 0),
        (np.broadcast_to(np.int64(3), 2**40), 0),
        (np.broadcast_to(np.int64(3), (2**20, 1)), np.broadcast_to(np.int64(0), 2**20)),
    ],
)
def test_more_variates_than_memory_holds_are_refused_in_words(element, step):
    with pytest.raises(SimscopeError, match=r"take 3.52e\+04 GB, .* draw at most 500000000"):
        Key(1).uniform(element, step=step)


def test_uniform32_beyond_memory_is_refused_in_words():
    with pytest.raises(SimscopeError, match=r"4294967296 variates take 17.2 GB, more than 16"):
        Key(1).uniform32(2**32)


@pytest.mark.parametrize("law", ["uniform", "poisson"])
def test_unknown_keywords_name_the_law_and_what_it_takes(law):
    parameters = (1.0,) if law == "poisson" else ()
    with pytest.raises(TypeError, match=rf"Key\.{law}\(\) takes no keyword size: .*sample, step"):
        getattr(Key(1), law)(0, *parameters, size=3)
