"""Families of random textures: shares, spectra, sizes, labels of the family drawn."""

import itertools
from functools import cache

import numpy as np
import pytest
from small_worlds import SMALL

import simscope as ss
from simscope.errors import RecipeError
from simscope.kernels.nearest import two_nearest
from simscope.recipe import Recipe
from simscope.recipe.volumes import FORMS

pytestmark = pytest.mark.filterwarnings("ignore::simscope.SimscopeWarning")
PER_VOXEL = 1e3 * 0.1 * 0.1 * 0.1


def world(shape=(64, 64), **texture):
    structure = {
        "kind": "texture", "voxel_nm": [100, 100, 100], "planes": 1, "scale_um": 0.8,
        "margin_nm": 0, "edge_nm": 100,
    }  # fmt: skip
    return Recipe.from_dict(
        SMALL
        | {
            "structure": structure | texture,
            "photophysics": {"kind": "steady", "photons_per_um3": 1000},
            "acquisition": {"shape": list(shape)},
        }
    )


def values(recipe, samples):
    simulator = ss.Simulator(recipe, 3)
    return np.stack([simulator.volume(k) for k in range(samples)]) / PER_VOXEL


@cache
def planes(form):
    return values(world(form=form), 24)


@pytest.mark.parametrize("form", FORMS)
def test_every_family_shines_and_differs_from_sample_to_sample(form):
    textures = planes(form)
    assert np.all(np.isfinite(textures))
    assert textures.min() >= 0
    assert textures.max() > 0.5
    assert not np.array_equal(textures[0], textures[1])


@pytest.mark.parametrize("form", FORMS)
def test_a_family_drawn_of_several_is_the_family_named_alone(form):
    several = ss.Simulator(world(shape=(16, 16), form=list(FORMS)), 3)
    drawn = several.parameters(0, 64)["structure.form"]
    index = int(np.flatnonzero(drawn == FORMS.index(form))[0])
    alone = ss.Simulator(world(shape=(16, 16), form=form), 3)
    assert np.array_equal(several.volume(index), alone.volume(index))


def test_families_are_drawn_alike():
    recipe = world(form=["clouds", "mesh", "stripes"])
    drawn = ss.Simulator(recipe, 1).parameters(0, 3000)["structure.form"]
    numbers, counts = np.unique(drawn, return_counts=True)
    assert [FORMS[int(number)] for number in numbers] == ["clouds", "mesh", "stripes"]
    assert np.all(np.abs(counts - 1000) < 5 * np.sqrt(3000 * 2 / 9))


def test_files_label_the_family(tmp_path):
    recipe = world(shape=(16, 16), form=["clouds", "mesh"])
    with ss.open_dataset(ss.generate(recipe, 6, 5, tmp_path / "t.h5")) as data:
        assert set(data.parameters["structure.form"]) <= {2.0, 5.0}
        drawn = ss.Simulator(recipe, 5).parameters(0, 6)["structure.form"]
        assert np.array_equal(data.parameters["structure.form"], drawn)


@pytest.mark.parametrize(("form", "tolerance"), [("stripes", 0.02), ("spots", 0.05)])
@pytest.mark.parametrize("fill", [0.2, 0.5])
def test_they_fill_the_share_asked_for(form, tolerance, fill):
    # Points spread over cells more evenly than at random, so balls overlap a little less.
    share = values(world(form=form, fill=fill), 40).mean()
    assert share == pytest.approx(fill, abs=tolerance)


def test_grains_that_shine_are_a_share_of_space_and_bright_by_half_on_average():
    grains = values(world(form="grains", fill=0.4, edge_nm=10), 60)
    assert (grains > 0).mean() == pytest.approx(0.4, abs=0.05)
    assert grains[grains > 0].mean() == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize("contrast", [0.4, 1.0])
def test_clouds_have_mean_one_and_the_contrast_asked_for(contrast):
    clouds = values(world(form="clouds", contrast=contrast, slope=2.5, scale_um=0.6), 60)
    assert clouds.mean() == pytest.approx(1, abs=0.08)
    assert np.log(clouds).std() == pytest.approx(contrast, rel=0.08)


@pytest.mark.parametrize("slope", [2.0, 3.5])
def test_spectra_of_clouds_fall_as_the_power_asked_for(slope):
    recipe = world(shape=(256, 256), form="clouds", contrast=1.0, slope=slope, scale_um=6.4)
    spectrum = np.zeros((256, 256))
    window = np.hanning(256)[:, None] * np.hanning(256)
    for volume in values(recipe, 12):
        field = np.log(volume[0])
        spectrum += np.abs(np.fft.fft2((field - field.mean()) * window)) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256)))
    edges = np.geomspace(1 / 64, 1 / 8, 7)  # wider than the finest octave, finer than the coarsest
    radial = [
        spectrum[(frequency >= low) & (frequency < high)].mean()
        for low, high in itertools.pairwise(edges)
    ]
    middles = np.sqrt(edges[:-1] * edges[1:])
    fitted = -np.polyfit(np.log(middles), np.log(radial), 1)[0]
    assert fitted == pytest.approx(slope, abs=0.35)  # octaves ripple a little about the line


def test_stripes_repeat_after_their_period_along_one_direction():
    stripes = values(world(shape=(128, 128), form="stripes", scale_um=0.8, fill=0.5), 4)[:, 0]
    for image in stripes:
        power = np.abs(np.fft.fft2((image - image.mean()) * np.hanning(128)[:, None])) ** 2
        row, column = np.unravel_index(power.argmax(), power.shape)
        frequency = np.hypot(np.fft.fftfreq(128)[row], np.fft.fftfreq(128)[column])
        assert 1 / frequency == pytest.approx(8, rel=0.06)  # one bin of the transform


def test_filaments_and_walls_are_as_thick_as_asked():
    # A ridge that falls linearly over the thickness on both sides holds half of it above one half.
    for form in ("filaments", "mesh"):
        thin, thick = (
            (values(world(form=form, scale_um=2.0, edge_nm=edge), 20) > 0.5).mean()
            for edge in (150, 300)
        )
        assert thick / thin == pytest.approx(2, rel=0.25)


def test_fibres_are_as_far_apart_as_the_scale():
    # Length of fibres in an area is area / scale; each adds its light across, edge_nm in all.
    light = values(world(form="filaments", scale_um=1.6, edge_nm=200, planes=1), 150).mean()
    plane = values(world(form="filaments", scale_um=0.8, edge_nm=200, planes=1), 150).mean()
    assert plane / light == pytest.approx(2, rel=0.2)


def test_nearest_points_are_those_of_plain_search():
    rng = np.random.default_rng(4)
    lots = rng.random((4, 5, 6, 7)).astype(np.float32)
    z, y, x = (np.sort(rng.random(6) * side).astype(np.float32) for side in (3, 4, 5))
    out = np.empty((6, 6, 6, 4), np.float32)
    two_nearest(z, y, x, lots, out)
    corners = np.stack(np.meshgrid(*(np.arange(n) - 1 for n in (5, 6, 7)), indexing="ij"))
    points = (lots[:3] + corners).reshape(3, -1).T
    for k, j, i in np.ndindex(6, 6, 6):
        distances = np.linalg.norm(points - [z[k], y[j], x[i]], axis=1)
        first, second = np.argsort(distances)[:2]
        if distances[second] < 1:  # beyond, points outside the 27 cells may be nearer
            assert out[k, j, i, :2] == pytest.approx(distances[[first, second]], abs=1e-5)
            assert list(out[k, j, i, 2:]) == list(lots[3].ravel()[[first, second]])


def test_thick_textures_change_with_height_except_stripes():
    for form in FORMS:
        volume = values(world(shape=(24, 24), form=form, planes=12, scale_um=0.5), 1)[0]
        assert np.array_equal(volume[0], volume[-1]) == (form == "stripes")


@pytest.mark.parametrize("form", [[], ["mesh", "mesh"], ["mesh", "mush"], "mush"])
def test_families_that_do_not_exist_or_come_twice_are_refused(form):
    with pytest.raises(RecipeError, match="form"):
        world(form=form)
