"""The promise: sample i is f(recipe, seed, i) and nothing else."""

import threading

import numpy as np
import pytest
from small_worlds import snapshot

from simscope import acquire
from simscope.acquire import Simulator
from simscope.errors import OpticsError, SimscopeError
from simscope.recipe import Recipe, load_recipe

SMALL = {
    "name": "small",
    "optics": {"na": 1.2, "wavelength_nm": 600, "n_sample": 1.33, "n_immersion": 1.33},
    "camera": {"kind": "scmos", "pixel_pitch_um": 10, "offset_std_adu": 2, "gain_std": 0.02},
    "acquisition": {"shape": [24, 20]},
    "structure": {"kind": "uniform", "density_per_um2": {"uniform": [0.5, 3]}},
    "photophysics": {"kind": "snapshot", "photons": {"gamma": [4, 500]}},
    "background": {"photons_per_pixel": {"uniform": [2, 20]}},
    "rendering": {"window_px": 17},
}
BLINKING = {
    "kind": "blinking",
    "photons_per_s": {"gamma": [4, 20000]},
    "on_to_dark_per_s": 50,
    "dark_to_on_per_s": 100,
    "on_to_off_per_s": 20,
    "off_to_on_per_s": 2,
    "on_to_bleached_per_s": 1,
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("psf-tables")


def simulator(cache, seed=7, threads=None, **changes):
    return Simulator(Recipe.from_dict(SMALL | changes), seed, threads=threads, cache=cache)


def movie(cache, frames=60, seed=7, threads=None):
    return simulator(
        cache,
        seed,
        threads,
        photophysics=BLINKING,
        acquisition={"shape": [24, 20], "frames": frames, "exposure_ms": 10, "interval_ms": 12},
        structure={"kind": "uniform", "density_per_um2": 10},
    )


def stack(cache, seed=7, threads=None):
    recipe = load_recipe("psf-zernike").replace("acquisition.focus_nm.planes", 3)
    return Simulator(
        recipe.replace("acquisition.shape", [16, 16]), seed, threads=threads, cache=cache
    )


MAKERS = {"snapshot": simulator, "movie": movie, "stack": stack}


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
def test_a_sample_is_the_same_in_any_batch_order_and_thread_count(maker, cache):
    whole = maker(cache).batch(0, 6)
    alone = maker(cache, threads=1)
    for i in (4, 0, 5, 1, 3, 2):
        sample = alone[i]
        assert np.array_equal(sample.image, whole.images[i])
        frames = alone.frames_per_sample
        rows = slice(*whole.emitter_offsets[[i * frames, (i + 1) * frames]])
        truth = whole.emitters[rows].copy()
        truth["frame"] -= i * frames
        assert np.array_equal(sample.emitters, truth)
        for path, value in sample.parameters.items():
            assert whole.parameters[path][i] == value


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
def test_seeds_and_samples_differ(maker, cache):
    here, there = maker(cache, seed=1), maker(cache, seed=2)
    assert not np.array_equal(here[0].image, there[0].image)
    assert not np.array_equal(here[0].image, here[1].image)


def test_a_movie_by_windows_is_the_movie_in_one_go(cache):
    sim = movie(cache)
    whole = sim.batch(0, 2, expected=True)
    frame_bytes = 24 * 20 * 4
    chunks = list(sim.chunks(0, 2, max_bytes=7 * frame_bytes, expected=True))
    first = [chunk for chunk in chunks if chunk.sample_start == 0]
    assert len(first) > 5
    assert [chunk.frame_start for chunk in first[1:]] == [c.frame_stop for c in first[:-1]]
    for index in range(2):
        mine = [chunk for chunk in chunks if chunk.sample_start == index]
        images = np.concatenate([chunk.images[0] for chunk in mine])
        assert np.array_equal(images, whole.images[index])
    emitters = np.concatenate([chunk.emitters for chunk in chunks])
    assert np.array_equal(emitters, whole.emitters)
    counts = np.concatenate([np.diff(chunk.emitter_offsets) for chunk in chunks])
    assert np.array_equal(counts, np.diff(whole.emitter_offsets))


def test_snapshots_by_windows_are_those_in_one_go(cache):
    acquisition = {"shape": [24, 20], "frames": 9}
    sim = simulator(cache, acquisition=acquisition, photophysics={
        "kind": "snapshot", "photons": {"gamma": [4, 500]}, "active_fraction": 0.5,
    })  # fmt: skip
    whole = sim.batch(1, 2)
    chunks = list(sim.chunks(1, 2, max_bytes=2 * 24 * 20 * 4))
    assert len(chunks) > 3
    images = np.concatenate([chunk.images[0] for chunk in chunks])
    assert np.array_equal(images, whole.images[0])
    emitters = np.concatenate([chunk.emitters for chunk in chunks])
    assert np.array_equal(emitters, whole.emitters)


@pytest.mark.parametrize("kind", ["bead", "uniform"])
def test_planes_of_a_stack_do_not_depend_on_the_memory_of_a_chunk(cache, kind):
    sim = stack(cache)
    if kind == "uniform":
        structure = {"kind": "uniform", "density_per_um2": 1, "z_nm": 0}
        changed = sim.recipe.written() | {"structure": structure}
        sim = Simulator(Recipe.from_dict(changed), 7, cache=cache)
    whole = sim.batch(0, 2, expected=True)
    chunks = list(sim.chunks(0, 2, max_bytes=1, expected=True))
    images = np.concatenate([chunk.images for chunk in chunks])
    assert np.array_equal(images, whole.images)
    # a window of its own shows the planes it is asked for
    window = sim._window(np.arange(2), 1, 3, expected=True).expected_photons
    expected = whole.expected_photons[:, 1:]
    assert np.abs(window - expected).max() < 1e-5 * expected.max()


def test_batches_beyond_memory_are_refused_in_words_and_chunks_are_not(cache):
    sim = simulator(cache, acquisition={"shape": [24, 20], "frames": 10**9})
    with pytest.raises(SimscopeError, match=r"1 sample\(s\) of 1000000000 .* GB.*ask for chunks"):
        sim.batch(0, 1)
    with pytest.raises(SimscopeError, match="ask for chunks"):
        sim[0]
    assert next(sim.chunks(0, 1, max_bytes=100_000)).frame_start == 0
    with pytest.raises(SimscopeError, match=r"4294967296 sample\(s\).*at most \d+ at a time"):
        simulator(cache).batch(0, 2**32)


def test_stacks_beyond_memory_are_refused_before_they_are_simulated(cache, monkeypatch):
    monkeypatch.setattr(acquire, "MOST_BYTES", 1000)
    for ask in (lambda sim: sim[0], lambda sim: next(sim.chunks(0, 1))):
        with pytest.raises(SimscopeError, match="fewer planes"):
            ask(stack(cache))


def test_short_samples_come_several_to_a_chunk(cache):
    sim = simulator(cache)
    chunks = list(sim.chunks(3, 10, max_bytes=40_000))
    assert 1 < len(chunks) < 7
    assert [chunk.sample_start for chunk in chunks] == [3] + [c.sample_stop for c in chunks[:-1]]
    assert chunks[-1].sample_stop == 10
    assert np.array_equal(
        np.concatenate([chunk.images[:, 0] for chunk in chunks]), sim.batch(3, 10).images
    )


def test_truth_is_sorted_by_frame_and_indexed(cache):
    batch = movie(cache).batch(1, 3)
    frames = batch.emitters["frame"]
    assert np.all(np.diff(frames) >= 0)
    assert frames.min() >= 60
    for frame in (60, 100, 179):
        rows = slice(*batch.emitter_offsets[[frame - 60, frame - 59]])
        assert np.all(frames[rows] == frame)
    assert batch.emitter_offsets[-1] == len(frames)
    assert np.all(batch.emitters["photons"] > 0)


def test_molecules_keep_their_place_and_id_over_a_movie(cache):
    emitters = movie(cache)[0].emitters
    ids = np.unique(emitters["id"])
    assert len(ids) > 5
    for index in ids:
        rows = emitters["id"] == index
        assert len(np.unique(emitters["x_nm"][rows])) == 1


def test_photons_in_the_expected_image_are_those_of_the_truth(cache):
    sim = simulator(cache, rendering={"window_px": 17, "accept_energy_loss": True})
    batch = sim.batch(0, 40, expected=True)
    inside = (np.abs(batch.emitters["x_nm"] - 1000) < 200) & (
        np.abs(batch.emitters["y_nm"] - 1200) < 400
    )
    background = batch.parameters["background.photons_per_pixel"]
    seen = batch.expected_photons.sum(axis=(1, 2)) - background * 24 * 20
    truth = np.add.reduceat(batch.emitters["photons"], batch.emitter_offsets[:-1])
    assert np.all(seen < truth)
    assert inside.any()
    assert seen.sum() > 0.8 * truth.sum()


def test_an_emitter_appears_at_its_own_coordinates(cache):
    sim = simulator(cache, structure={"kind": "bead", "x_nm": 310.0, "y_nm": -240.0})
    image = sim.batch(0, 1, expected=True).expected_photons[0].astype(float)
    image -= image.min()
    y, x = np.indices(image.shape)
    centre_x = (image * (x + 0.5)).sum() / image.sum() * 100
    centre_y = (image * (y + 0.5)).sum() / image.sum() * 100
    # the window's tail is cut by the frame on one side: good to a tenth of a pixel
    assert centre_x == pytest.approx(1000 + 310, abs=10)
    assert centre_y == pytest.approx(1200 - 240, abs=10)


def test_empty_samples_are_background_and_noise(cache):
    sim = simulator(cache, structure={"kind": "uniform", "density_per_um2": 0})
    batch = sim.batch(0, 5)
    assert len(batch.emitters) == 0
    assert np.array_equal(batch.emitter_offsets, np.zeros(6))
    assert batch.images.mean() > 100


def test_drawn_camera_settings_are_labels_and_are_used(cache):
    camera = {"kind": "ccd", "baseline_adu": {"uniform": [100, 1000]}}
    batch = simulator(cache, camera=camera).batch(0, 8)
    baseline = batch.parameters["camera.baseline_adu"]
    lowest = batch.images.reshape(8, -1).min(axis=1)
    assert np.corrcoef(baseline, lowest)[0, 1] > 0.99


def test_drawn_focus_blurs_the_image(cache):
    acquisition = {"shape": [24, 20], "focus_nm": {"uniform": [0, 800]}}
    sim = simulator(
        cache,
        acquisition=acquisition,
        rendering={"window_px": 41},
        structure={"kind": "bead"},
        photophysics={"kind": "snapshot", "photons": 5000},
    )
    batch = sim.batch(0, 12, expected=True)
    focus = batch.parameters["acquisition.focus_nm"]
    peaks = (
        batch.expected_photons.max(axis=(1, 2)) - batch.parameters["background.photons_per_pixel"]
    )
    assert np.corrcoef(focus, peaks)[0, 1] < -0.8


def test_dataset_draws_are_labels_of_every_sample(cache):
    sim = simulator(cache, optics=SMALL["optics"] | {"na": {"uniform": [1.1, 1.25]}})
    values = sim.batch(0, 3).parameters["optics.na"]
    assert np.all(values == sim.resolved.optics.na)
    assert sim.parameter_names["optics.na"] == "1"


def test_saturation_is_recorded(cache):
    sim = simulator(
        cache,
        camera={"kind": "ccd", "bit_depth": 8, "baseline_adu": 10},
        photophysics={"kind": "snapshot", "photons": 20000},
    )
    with pytest.warns(UserWarning, match="saturated"):
        image = sim.batch(0, 4).images
    assert image.max() == 255
    assert any("saturated" in message for message in sim.warnings)


def test_emitter_below_the_coverslip_is_an_error(cache):
    optics = SMALL["optics"] | {"n_immersion": 1.518}
    with pytest.raises(OpticsError, match="below the coverslip"):
        simulator(cache, optics=optics, structure={"kind": "uniform", "count": 1, "z_nm": -50})


@pytest.mark.parametrize("span", [(3, 3), (-1, 2), (0, 2**33), ("a", 2), (0, 1.0), (True, 2)])
def test_impossible_sample_ranges_are_refused(cache, span):
    with pytest.raises(SimscopeError, match="sample"):
        simulator(cache).batch(*span)
    with pytest.raises(SimscopeError, match="sample"):
        list(simulator(cache).chunks(*span))


@pytest.mark.parametrize("threads", [0, 1.5, True, "2", 10**6])
def test_impossible_thread_counts_are_refused(cache, threads):
    with pytest.raises(SimscopeError, match="threads"):
        simulator(cache, threads=threads)


def test_crowded_samples_come_fewer_to_a_chunk(cache):
    crowd = simulator(cache, structure={"kind": "uniform", "count": 10_000})
    first = next(crowd.chunks(0, 1000, max_bytes=1 << 22))
    assert first.sample_stop - first.sample_start <= 2


def test_a_structure_beyond_reason_is_refused_before_it_is_placed(cache):
    with pytest.raises(SimscopeError, match="margin_nm"):
        simulator(cache, structure={"kind": "uniform", "density_per_um2": 1e4, "margin_nm": 1e6})


def test_a_simulator_is_not_iterated_without_end(cache):
    with pytest.raises(TypeError):
        iter(simulator(cache))


def test_axes_and_shapes_follow_the_acquisition(cache):
    assert (simulator(cache).sample_axes, simulator(cache).sample_shape) == ("yx", (24, 20))
    assert (movie(cache).sample_axes, movie(cache).sample_shape) == ("tyx", (60, 24, 20))
    assert (stack(cache).sample_axes, stack(cache).sample_shape) == ("zyx", (3, 16, 16))


def test_no_light_is_negative_even_without_background(cache):
    sim = simulator(
        cache,
        background={"photons_per_pixel": 0},
        photophysics={"kind": "snapshot", "photons": 1e5},
    )
    assert sim.batch(0, 10, expected=True).expected_photons.min() >= 0


def test_a_simulator_notes_no_warning_of_another_thread():
    bright = snapshot().replace("photophysics.photons", 1e7)
    quiet, loud = (Simulator(recipe, 7, threads=1) for recipe in (snapshot(), bright))
    before, going = list(quiet.warnings), threading.Event()

    def shout():
        while not going.is_set():
            loud.fresh_warnings()
            loud.batch(0, 2)

    thread = threading.Thread(target=shout)
    thread.start()
    for start in range(40):
        quiet.batch(start, start + 1)
    going.set()
    thread.join()
    assert quiet.warnings == before
