"""Orientations and excitation in recipes: laws of the draws, labels in files, light in images."""

import h5py
import numba
import numpy as np
import pytest
from scipy import stats
from small_worlds import movie, snapshot

import simscope as ss
from simscope.acquire import EMITTER_DTYPE, ORIENTED_DTYPE
from simscope.errors import EvaluationError, OpticsError, RecipeError
from simscope.keys import Key
from simscope.optics import collected_fraction, evanescent_depth_nm, moments
from simscope.recipe import ConeDipole, FixedDipole, Optics, Recipe
from simscope.recipe.distributions import parse_distribution
from simscope.sample import orient, place

FALSE_ALARM = 1e-6
OIL_WATER = {"na": 1.4, "wavelength_nm": 600, "n_sample": 1.33, "n_immersion": 1.518}
NEEDS_JIT = pytest.mark.skipif(
    numba.config.DISABLE_JIT, reason="tables are too slow to build without JIT"
)
TIRF = {"kind": "evanescent", "angle_deg": 68.0, "excitation_wavelength_nm": 561}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Folder for the tables of this module."""
    if numba.config.DISABLE_JIT:
        pytest.skip("tables are too slow to build without JIT")
    return tmp_path_factory.mktemp("tables")


def oriented(recipe, **dipoles):
    """The recipe with dipoles that do not rotate freely."""
    return recipe.replace("dipoles", {"kind": "fixed"} | dipoles)


def tirf_recipe(**illumination):
    """Molecules within 300 nm of the coverslip, seen through oil."""
    return snapshot().replace_all(
        {
            "optics": OIL_WATER,
            "structure.z_nm": {"uniform": [0, 300]},
            "illumination": illumination or TIRF,
            "rendering.window_px": 31,
        }
    )


def drawn_molecules(recipe, count=4000):
    """Molecules of one sample with their orientation."""
    recipe = recipe.replace("structure", {"kind": "uniform", "count": count})
    indices = np.array([3])
    return orient(recipe, Key(5), indices, place(recipe, Key(5), indices, {}))


def test_solid_angle_spreads_directions_evenly_over_the_sphere():
    law = parse_distribution({"solid_angle": [30, 120]})
    values = law.quantile(Key(1).uniform(np.arange(20_000)))
    cosine = np.cos(np.radians(values))
    low, width = np.cos(np.radians(120)), np.cos(np.radians(30)) - np.cos(np.radians(120))
    assert stats.kstest(cosine, stats.uniform(low, width).cdf).pvalue > FALSE_ALARM
    # four standard errors of the mean
    assert abs(values.mean() - law.mean()) < 4 * values.std() / np.sqrt(len(values))


def test_dipoles_left_without_angles_are_isotropic():
    molecules = drawn_molecules(oriented(snapshot()))
    moment = moments(np.radians(molecules.polar_deg), np.radians(molecules.azimuth_deg))
    # squares of a direction scatter by 0.3, products by 0.26: four standard errors of 4000
    assert np.allclose(moment.mean(axis=0), [1 / 3] * 3 + [0] * 3, atol=4 * 0.3 / np.sqrt(4000))
    assert molecules.polar_deg.max() <= 90
    assert not molecules.half_angle_deg.any()


def test_rotational_constraint_becomes_the_half_angle_of_the_label():
    recipe = oriented(snapshot(), kind="cone", rotational_constraint=0.375)
    assert np.allclose(drawn_molecules(recipe, 5).half_angle_deg, 60.0, atol=1e-4)
    free = drawn_molecules(snapshot(), 5)
    assert free.polar_deg is None


def test_molecule_keeps_its_orientation_in_all_frames(cache):
    recipe = oriented(movie(20)).replace("structure.density_per_um2", 20.0)
    sim = ss.Simulator(recipe, seed=3, cache=cache)
    emitters = sim[0].emitters
    assert len(np.unique(emitters["frame"])) > 2
    for molecule in np.unique(emitters["id"]):
        rows = emitters[emitters["id"] == molecule]
        assert len(np.unique(rows["polar_deg"])) == 1
    assert len(np.unique(emitters["polar_deg"])) == len(np.unique(emitters["id"])) > 3


def test_orientations_do_not_depend_on_the_batch(cache):
    recipe = oriented(snapshot(), kind="cone", half_angle_deg={"uniform": [0, 90]})
    sim = ss.Simulator(recipe, seed=3, cache=cache)
    batch, alone = sim.batch(0, 3), sim[2]
    rows = slice(*batch.emitter_offsets[[2, 3]])
    for name in ("polar_deg", "azimuth_deg", "half_angle_deg", "photons"):
        assert np.array_equal(batch.emitters[name][rows], alone.emitters[name])
    assert np.array_equal(batch.images[2], alone.image)


def test_frames_show_each_molecule_as_its_label_says(cache):
    recipe = oriented(snapshot()).replace_all(
        {
            "optics": OIL_WATER,
            "structure": {"kind": "bead", "z_nm": {"uniform": [0, 300]}},
            "background.photons_per_pixel": 0,
            "acquisition.shape": [17, 17],
        }
    )
    sim = ss.Simulator(recipe, seed=8, cache=cache)
    batch = sim.batch(0, 3, expected=True)
    for row, image in zip(batch.emitters, batch.expected_photons, strict=True):
        dipole = FixedDipole(
            polar_deg=float(row["polar_deg"]), azimuth_deg=float(row["azimuth_deg"])
        )
        exact = row["photons"] * ss.psf(
            recipe.optics, float(row["z_nm"]), shape=(17, 17), pixel_nm=recipe.pixel_nm,
            dipole=dipole,
        )[0]  # fmt: skip
        inner = (slice(4, 13), slice(4, 13))  # the window is tapered to zero at its edge
        assert np.allclose(image[inner], exact[inner], atol=3e-3 * exact.max())


def test_file_holds_orientations_only_where_there_are_any(tmp_path, cache):
    path = tmp_path / "oriented.h5"
    recipe = oriented(snapshot(), kind="cone", half_angle_deg=20)
    ss.generate(recipe, samples=3, seed=2, out=path)
    with ss.open_dataset(path) as data:
        sim = ss.Simulator(recipe, seed=2, cache=cache)
        assert data.emitters.dtype == ORIENTED_DTYPE
        assert np.array_equal(data[1].emitters, sim[1].emitters)
    with h5py.File(path) as file:
        assert file["emitters/polar_deg"].attrs["unit"] == b"deg"
    free = tmp_path / "free.h5"
    ss.generate(snapshot(), samples=1, seed=2, out=free)
    with ss.open_dataset(free) as data:
        assert data.emitters.dtype == EMITTER_DTYPE
    with h5py.File(free) as file:
        assert "polar_deg" not in file["emitters"]


def test_excitation_falls_off_with_the_depth_of_the_evanescent_wave(cache):
    uniform = tirf_recipe(kind="uniform")
    plain = ss.Simulator(uniform, seed=4, cache=cache).batch(0, 2).emitters
    lit = ss.Simulator(tirf_recipe(), seed=4, cache=cache).batch(0, 2).emitters
    depth = evanescent_depth_nm(68.0, 561, 1.518, 1.33)
    expected = plain["photons"] * np.exp(-plain["z_nm"] / depth)
    assert np.allclose(lit["photons"], expected, rtol=1e-6)  # float32 labels


def test_drawn_depths_are_labels_and_act_sample_by_sample(cache):
    recipe = tirf_recipe(kind="evanescent", depth_nm={"uniform": [60, 200]})
    batch = ss.Simulator(recipe, seed=4, cache=cache).batch(0, 3)
    uniform = tirf_recipe(kind="uniform")
    plain = ss.Simulator(uniform, seed=4, cache=cache).batch(0, 3).emitters
    depth = batch.parameters["illumination.depth_nm"][batch.emitters["frame"]]
    assert len(np.unique(depth)) == 3
    expected = plain["photons"] * np.exp(-plain["z_nm"] / depth)
    assert np.allclose(batch.emitters["photons"], expected, rtol=1e-6)


def test_relative_collection_dims_and_brightens_by_height_and_orientation(cache):
    plain = oriented(tirf_recipe(kind="uniform"))
    relative = plain.replace("optics.collection", "relative")
    before, after = (
        ss.Simulator(r, seed=4, cache=cache).batch(0, 1).emitters for r in (plain, relative)
    )
    far = collected_fraction(plain.optics, 30_000.0)[0]
    for row, light in zip(before[:5], after["photons"][:5], strict=True):
        dipole = FixedDipole(
            polar_deg=float(row["polar_deg"]), azimuth_deg=float(row["azimuth_deg"])
        )
        share = collected_fraction(plain.optics, float(row["z_nm"]), dipole)[0] / far
        # the far value at 30 um still differs from the limit by 2e-4
        assert light == pytest.approx(row["photons"] * share, rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"illumination.angle_deg": 60.0}, OpticsError, "critical angle 61.18"),
        ({"illumination.angle_deg": {"uniform": [60, 70]}}, OpticsError, "angle_deg=60"),
        ({"optics.n_sample": 1.518}, OpticsError, "denser immersion"),
        (
            {
                "optics.modality": {
                    "kind": "light_sheet",
                    "excitation_wavelength_nm": 561,
                    "sheet_na": 0.1,
                }
            },
            OpticsError,
            "both say how",
        ),
        (
            {"optics.analyser": {}, "acquisition.focus_nm": {"uniform": [0, 100]}},
            RecipeError,
            "share one focus",
        ),
    ],
    ids=[
        "subcritical",
        "maybe subcritical",
        "matched",
        "two excitations",
        "analyser of a drawn focus",
    ],
)
def test_impossible_light_is_refused_before_anything_is_simulated(changes, error, words):
    recipe = tirf_recipe().replace_all(changes)
    with pytest.raises(error, match=words):
        ss.Simulator(recipe, seed=1)


def analysed(recipe, channels):
    """The recipe behind an analyser at an odd angle."""
    return recipe.replace("optics.analyser", {"angle_deg": 35.0, "channels": channels})


def test_two_channels_lie_side_by_side_and_add_to_the_whole(cache):
    recipe = oriented(tirf_recipe(kind="uniform"), kind="cone", half_angle_deg=30)
    recipe = recipe.replace("background", {"kind": "smooth", "photons_per_pixel": 5})
    whole = ss.Simulator(recipe, seed=4, cache=cache).batch(0, 2, expected=True)
    split = ss.Simulator(analysed(recipe, "both"), seed=4, cache=cache)
    both = split.batch(0, 2, expected=True)
    assert both.images.shape == (2, 24, 40)
    assert split.maps.gain.shape == (24, 40)
    assert np.array_equal(both.emitters, whole.emitters)
    left, right = both.expected_photons[..., :20], both.expected_photons[..., 20:]
    # two tables, each as exact as asked: 1e-3 of the peak
    assert np.allclose(left + right, whole.expected_photons, atol=2e-3 * left.max())
    assert np.abs(left - right).max() > 0.05 * left.max()


def test_one_channel_is_that_half_of_the_pair_and_counts_its_own_light(cache):
    recipe = oriented(tirf_recipe(kind="uniform"))
    both, one, other, whole = (
        ss.Simulator(r, seed=4, cache=cache).batch(0, 1, expected=True)
        for r in (
            *(analysed(recipe, channels) for channels in ("both", "parallel", "crossed")),
            recipe,
        )
    )
    assert np.array_equal(both.expected_photons[..., :20], one.expected_photons)
    assert np.array_equal(both.expected_photons[..., 20:], other.expected_photons)
    total = one.emitters["photons"] + other.emitters["photons"]
    assert np.allclose(total, whole.emitters["photons"], rtol=1e-6)
    row = whole.emitters[0]
    dipole = FixedDipole(polar_deg=float(row["polar_deg"]), azimuth_deg=float(row["azimuth_deg"]))
    pair = ss.psf(
        analysed(recipe, "both").optics, float(row["z_nm"]), dipole=dipole, shape=(101, 101)
    ).sum(axis=(1, 2, 3))
    # the window leaves out a percent or two, not quite alike in both channels
    share = one.emitters["photons"][0] / row["photons"]
    assert share == pytest.approx(pair[0] / pair.sum(), abs=5e-3)


@NEEDS_JIT
def test_emitters_of_a_split_file_lie_on_its_first_channel(tmp_path):
    recipe = analysed(tirf_recipe(kind="uniform"), "both").replace("structure.margin_nm", 1500)
    path = tmp_path / "split.h5"
    ss.generate(recipe, samples=2, seed=2, out=path)
    with ss.open_dataset(path) as data:
        assert data.images.shape == (2, 24, 40)
        assert data.emitters["x_nm"].max() > 20 * data.pixel_nm
        assert data.emitters_in_frame["x_nm"].max() < 20 * data.pixel_nm


def test_bounds_are_refused_behind_an_analyser(cache):
    sim = ss.Simulator(analysed(tirf_recipe(kind="uniform"), "both"), seed=1, cache=cache)
    with pytest.raises(EvaluationError, match="analyser"):
        ss.evaluate.crlb(sim, sim[0].emitters)


def test_evanescent_light_below_the_coverslip_is_refused():
    recipe = tirf_recipe().replace_all(
        {"illumination": {"kind": "evanescent", "depth_nm": 100}, "structure.z_nm": -10}
    )
    with pytest.raises(OpticsError, match="below the coverslip"):
        ss.Simulator(recipe, seed=1)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("dipoles", {"kind": "fixd"}, "did you mean 'fixed'"),
        ("dipoles", {"kind": "cone"}, "half_angle_deg or rotational_constraint"),
        ("dipoles", {"kind": "cone", "half_angle_deg": 95}, "limit 90"),
        ("dipoles", {"kind": "fixed", "polar_deg": {"uniform": [0, 190]}}, "limit 180"),
        ("dipoles", {"kind": "fixed", "polar_deg": {"solid_angle": [0, 190]}}, "180"),
        ("illumination", {"kind": "evanescent"}, "depth_nm or angle_deg"),
        ("illumination", {"kind": "evanescent", "angle_deg": 65}, "excitation_wavelength_nm"),
        (
            "illumination",
            {"kind": "evanescent", "depth_nm": 100, "excitation_wavelength_nm": 488},
            "drop excitation_wavelength_nm",
        ),
    ],
)
def test_recipes_say_what_is_wrong_with_dipoles_and_light(path, value, words):
    with pytest.raises(RecipeError, match=words):
        snapshot().replace(path, value)


def test_dipoles_survive_yaml():
    recipe = oriented(snapshot(), kind="cone", half_angle_deg={"uniform": [0, 90]})
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
    assert isinstance(recipe.dipoles, ConeDipole)
    assert dict(recipe.drawn("emitter")).keys() >= {
        "dipoles.polar_deg", "dipoles.azimuth_deg", "dipoles.half_angle_deg",
    }  # fmt: skip
    assert Optics(analyser={"angle_deg": 30, "channels": "crossed"}).analyser.angles_deg == (120,)
