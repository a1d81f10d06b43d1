"""Frames of a long movie come in windows, in any order, and are those of the whole movie."""

import warnings

import numba
import numpy as np
import pytest
from gpu_stand_in import under_simulator
from hypothesis import given, settings
from hypothesis import strategies as st
from small_worlds import BLINKING, SMALL, snapshot, stack

from simscope.acquire import Simulator
from simscope.errors import SimscopeError, SimscopeWarning
from simscope.recipe import Recipe
from simscope.sample import photophysics

FRAMES = 30
MARKOV = {
    "kind": "markov",
    "states": ["bright", "dim", "dark"],
    "photons_per_s": 20000,
    "brightness": {"bright": 1, "dim": 0.3},
    "rates_per_s": {
        "bright": {"dim": {"uniform": [20, 60]}, "dark": 30},
        "dim": {"bright": 25},
        "dark": {"bright": 8},
    },
    "start": "equilibrium",
}
SNAPSHOT = {"kind": "snapshot", "photons": 500, "active_fraction": 0.5}
OWN_OPTICS = {"kind": "zernike", "coefficients_nm": {5: {"uniform": [-30, 30]}}}
LIGHTS = {"blinking": BLINKING, "markov": MARKOV, "snapshot": SNAPSHOT}


def movie(kind, **changes):
    acquisition = {"shape": [24, 20], "frames": FRAMES, "exposure_ms": 10, "interval_ms": 12}
    changed = {"photophysics": LIGHTS[kind], "acquisition": acquisition, **changes}
    return Recipe.from_dict(SMALL | changed)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """A simulator and samples 0 and 1 in one go, by kind of light."""
    cache = tmp_path_factory.mktemp("tables")
    found = {}
    for kind in LIGHTS:
        sim = Simulator(movie(kind), 7, threads=1, cache=cache)
        found[kind] = (
            sim,
            Simulator(movie(kind), 7, threads=1, cache=cache).batch(0, 2, expected=True),
        )
    return found


def joined(chunks):
    """Images, expected photons, emitters and rows per frame of chunks one after the other."""
    chunks = list(chunks)
    return (
        np.concatenate([chunk.images[0] for chunk in chunks]),
        np.concatenate([chunk.expected_photons[0] for chunk in chunks]),
        np.concatenate([chunk.emitters for chunk in chunks]),
        np.concatenate([np.diff(chunk.emitter_offsets) for chunk in chunks]),
    )


def of_whole(batch, index, first, last):
    """The same of frames of a whole sample."""
    begin, end = index * FRAMES + first, index * FRAMES + last
    rows = slice(batch.emitter_offsets[begin], batch.emitter_offsets[end])
    return (
        batch.images[index, first:last],
        batch.expected_photons[index, first:last],
        batch.emitters[rows],
        np.diff(batch.emitter_offsets)[begin:end],
    )


def require_same(windows, whole):
    for mine, theirs in zip(windows, whole, strict=True):
        assert np.array_equal(mine, theirs)


spans = st.tuples(st.integers(0, FRAMES - 1), st.integers(1, FRAMES)).filter(lambda s: s[0] < s[1])
asked = st.lists(
    st.tuples(st.integers(0, 1), spans, st.integers(1, FRAMES)), min_size=1, max_size=5
)


@pytest.mark.parametrize("kind", LIGHTS)
@settings(max_examples=2 if numba.config.DISABLE_JIT else 40, deadline=None)
@given(asked)
def test_a_window_is_the_same_frames_of_the_whole_movie_whatever_came_before(worlds, kind, asked):
    sim, whole = worlds[kind]
    for index, (first, last), room in asked:
        max_bytes = room * (sim._frame_bytes + 1)
        chunks = sim.frames(index, first, last, max_bytes=max_bytes, expected=True)
        require_same(joined(chunks), of_whole(whole, index, first, last))


@pytest.mark.parametrize("kind", ["blinking", "markov"])
def test_two_windows_read_in_turns_do_not_disturb_each_other(worlds, kind):
    sim, whole = worlds[kind]
    one_frame = sim._frame_bytes
    early, late = (
        sim.frames(0, first, last, max_bytes=one_frame, expected=True)
        for first, last in ((0, 20), (10, 30))
    )
    pairs = list(zip(early, late, strict=True))
    require_same(joined(pair[0] for pair in pairs), of_whole(whole, 0, 0, 20))
    require_same(joined(pair[1] for pair in pairs), of_whole(whole, 0, 10, 30))


def test_a_window_given_up_half_way_leaves_the_next_one_right(worlds):
    sim, whole = worlds["blinking"]
    next(sim.frames(1, 3, 20, max_bytes=5 * sim._frame_bytes, expected=True))
    require_same(joined(sim.frames(1, 12, 30, expected=True)), of_whole(whole, 1, 12, 30))


def test_parameters_of_every_window_are_those_of_its_sample(worlds):
    sim, whole = worlds["markov"]
    for chunk in sim.frames(1, 4, 9, max_bytes=1):
        assert (chunk.sample_start, chunk.sample_stop) == (1, 2)
        for path, values in chunk.parameters.items():
            assert values == whole.parameters[path][1], path


def test_skipping_makes_no_image_and_windows_in_order_skip_nothing(worlds, monkeypatch):
    sim, _ = worlds["blinking"]
    rendered, skipped = [], []
    window, skip = Simulator._window, Simulator._skip

    def counted(self, indices, first, last, **options):
        rendered.append((first, last))
        return window(self, indices, first, last, **options)

    def noted(self, run, frame):
        skipped.append(frame)
        return skip(self, run, frame)

    monkeypatch.setattr(Simulator, "_window", counted)
    monkeypatch.setattr(Simulator, "_skip", noted)
    list(sim.frames(0, 20, 22))
    assert (rendered, skipped) == ([(20, 22)], [20])
    for first in range(22, 30, 2):
        list(sim.frames(0, first, first + 2))
    assert skipped == [20]


def test_molecules_are_placed_once_for_windows_in_order(worlds, monkeypatch):
    sim, _ = worlds["blinking"]
    begun = []
    begin = photophysics._start_switching
    monkeypatch.setattr(
        photophysics, "_start_switching", lambda *given: begun.append(1) or begin(*given)
    )
    for first in range(0, 30, 3):
        list(sim.frames(1, first, first + 3))
    assert len(begun) == 1


@pytest.mark.parametrize("span", [(-1, 3), (3, 3), (4, 2), (0, FRAMES + 1)])
def test_frames_that_are_not_there_are_refused(worlds, span):
    with pytest.raises(SimscopeError, match=rf"frames .* within \[0, {FRAMES}\]"):
        list(worlds["blinking"][0].frames(0, *span))


def test_planes_of_a_stack_come_whole_or_not_at_all(tmp_path):
    sim = Simulator(stack(), 7, cache=tmp_path)
    (chunk,) = sim.frames(1, 0, 3, max_bytes=1)
    assert np.array_equal(chunk.images[0], sim.batch(1, 2).images[0])
    with pytest.raises(SimscopeError, match="ask for 0 to 3"):
        list(sim.frames(1, 0, 2))


def test_frames_of_a_single_frame_are_the_sample(tmp_path):
    sim = Simulator(snapshot(), 7, cache=tmp_path)
    (chunk,) = sim.frames(3, 0, 1)
    assert np.array_equal(chunk.images[0, 0], sim[3].image)


def test_warnings_of_a_piece_do_not_depend_on_pieces_before(tmp_path):
    bright = snapshot().replace("photophysics.photons", {"gamma": [4, 2e5]})
    dim = Simulator(snapshot(), 7, cache=tmp_path)
    lasting = list(dim.warnings)
    sim = Simulator(bright, 7, cache=tmp_path)
    with pytest.warns(SimscopeWarning, match="saturated"):
        sim.batch(0, 4)
    first = list(sim.warnings)
    sim.fresh_warnings()
    assert sim.warnings == lasting
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once, though it is noted with every piece
        sim.batch(0, 4)
    assert sim.warnings == first


def noisy_beads(folder):
    """A recipe whose measured PSF is warned of, its file in the folder."""
    y, x = np.mgrid[-8:9, -8:9]
    volume = np.stack([np.exp(-(x**2 + y**2) / 4.0)] * 7) - 2e-3
    np.save(folder / "beads.npy", volume)
    measured = {
        "path": str(folder / "beads.npy"), "pixel_nm": 100, "dz_nm": 100, "z_axis": "focus",
        "centre_px": "middle", "centre_plane": 3, "background": 0.0,
    }  # fmt: skip
    optics = SMALL["optics"] | {"measured": measured}
    rendering = {"window_px": 11, "accept_energy_loss": True, "accuracy": 0.02}
    return Recipe.from_dict(SMALL | {"optics": optics, "rendering": rendering})


@pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning")
def test_a_table_from_the_cache_warns_and_renders_as_the_one_just_built(tmp_path):
    recipe, cache = noisy_beads(tmp_path), tmp_path / "tables"
    built = Simulator(recipe, 7, cache=cache)
    assert len(list(cache.glob("psf-*.npz"))) == 1
    kept = Simulator(recipe, 7, cache=cache)
    assert any("negative and set to 0" in message for message in built.warnings)
    assert kept.warnings == built.warnings
    assert kept.report == built.report
    mine, theirs = (sim.batch(0, 3, expected=True) for sim in (kept, built))
    assert np.array_equal(mine.expected_photons, theirs.expected_photons)
    assert np.array_equal(mine.images, theirs.images)


@pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning")
def test_a_cache_that_cannot_be_written_is_no_warning_about_the_data(tmp_path):
    (tmp_path / "file").write_text("in the way")
    sim = Simulator(snapshot(), 7, cache=tmp_path / "file" / "tables")
    assert not any("cached" in message for message in sim.warnings)


@pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning")
def test_windows_of_movies_whose_optics_are_drawn_are_those_of_the_whole(tmp_path):
    optics = SMALL["optics"] | {"wavefront": OWN_OPTICS}
    sim = Simulator(movie("blinking", optics=optics), 7, cache=tmp_path)
    assert sim.report["rendering"] == "exact"
    whole = sim.batch(0, 2, expected=True)
    for first, last in ((17, 23), (3, 9)):
        windows = sim.frames(1, first, last, max_bytes=4 * sim._frame_bytes, expected=True)
        require_same(joined(windows), of_whole(whole, 1, first, last))


ON_A_GPU = """
import numpy as np
from simscope.device import device
from simscope.keys import Key
from simscope.recipe.draws import draw_samples
from simscope.sample import place, shine, skip
from test_photophysics import scheme
made = scheme(14, 40, exposure_ms=20, photons_per_s=300.0)
key, indices, gpu = Key(3), np.arange(1), device("cuda")
drawn = draw_samples(made, key, indices)
def light(of, first):
    carried, molecules = {}, place(made, key, indices, drawn, of)
    options = {"carried": carried, "device": of}
    if first:
        skip(made, key, indices, drawn, molecules, first, **options)
    return shine(made, key, indices, drawn, molecules, first, 14, **options)
here, there, whole = light(device("cpu"), 8), light(gpu, 8), light(device("cpu"), 0)
for name in ("molecule", "photons", "offsets"):
    assert np.array_equal(getattr(here, name), gpu.get(getattr(there, name))), name
after = whole.offsets[8]
assert np.array_equal(here.photons, whole.photons[after:])
print(len(here.photons) > 20)
"""


def test_a_gpu_skips_to_the_same_state():
    assert under_simulator(ON_A_GPU).strip() == "True"
