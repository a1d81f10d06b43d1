"""Maximum-likelihood fits: the table's own image, the likeliest emitter, errors on the bound."""

import numba
import numpy as np
import pytest
from reference_fitting import fit_one, poisson_like
from scipy.stats import chi2
from small_worlds import snapshot

import simscope as ss
from simscope import show
from simscope.camera import CameraMaps
from simscope.errors import EvaluationError
from simscope.evaluate import crlb, fit, fit_frames, fit_study, fitting
from simscope.evaluate.fit_frames import _contrast, _one_each, candidates
from simscope.kernels import fit as kernels

CAMERAS = {
    "scmos": {"kind": "scmos", "read_noise_e": 1.5, "offset_std_adu": 2, "gain_std": 0.05,
              "read_noise_sigma_log": 0.3, "dark_e_per_s": 2.0},
    "ccd": {"kind": "ccd", "read_noise_e": 4.0},
    "emccd": {"kind": "emccd", "em_gain": 300, "read_noise_e": 50, "e_per_adu": 20},
}  # fmt: skip
PLACE = ("x_nm", "y_nm", "z_nm")
many_fits = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="too many fits without JIT")


def one_emitter(name, side, *, camera=None, photons=3000.0, background=10.0, z_nm=None):
    """A recipe with one emitter near the middle of each sample, anywhere on a pixel."""
    recipe = ss.load_recipe(name)
    half = 0.5 * recipe.pixel_nm
    anywhere = {"uniform": [-half, half]}
    height = recipe.structure.z_nm if z_nm is None else {"uniform": list(z_nm)}
    changes = {
        "acquisition.shape": [side, side],
        "structure": {"kind": "bead", "x_nm": anywhere, "y_nm": anywhere, "z_nm": height},
        "photophysics.photons": photons,
        "background.photons_per_pixel": background,
    }
    if camera is not None:
        pitch = {"pixel_pitch_um": recipe.camera.pixel_pitch_um, "qe": 0.9, "e_per_adu": 0.5}
        changes["camera"] = pitch | camera
    for path, value in changes.items():
        recipe = recipe.replace(path, value)
    return recipe


def astigmatic(side=19, **changes):
    return one_emitter("smlm-3d-astigmatism", side, z_nm=(-200, 1000), **changes)


def seen_by(simulator, count, heights=(-np.inf, np.inf)):
    """Images of emitters between two heights, and the emitters with frames counted anew."""
    batch = simulator.batch(0, count)
    z = batch.emitters["z_nm"]
    kept = (z >= heights[0]) & (z <= heights[1])
    emitters = batch.emitters[kept].copy()
    emitters["frame"] = np.arange(len(emitters))
    return batch.images[kept], emitters


def near(emitters, spread_nm=40.0):
    """Positions as a spot finder gives them."""
    rng = np.random.default_rng(3)
    return {
        "frame": emitters["frame"],
        "x_nm": emitters["x_nm"] + rng.normal(0, spread_nm, len(emitters)),
        "y_nm": emitters["y_nm"] + rng.normal(0, spread_nm, len(emitters)),
    }


def drawn(table, x_px, y_px, height, box):
    """Image and slopes [1/nm] of the kernel in a box, (4, rows, columns)."""
    mixture = table.mixture(np.array([x_px * table.pixel_nm]), np.array([y_px * table.pixel_nm]))
    images, weights = (np.ascontiguousarray(a) for a in (mixture.images, mixture.weights))
    model = (table.in_lanes, table.per_pixel, table.window_px, images, weights.astype(np.float32))
    room = kernels.room_of(table.in_lanes, images.shape[1], max(box[1] - box[0], box[3] - box[2]))
    place = np.array([x_px, y_px, height, 1.0, 1.0])
    kernels.draw(model, 0, place, np.array(box), True, room)
    rows, columns = box[1] - box[0], box[3] - box[2]
    planes = room[0].reshape(4, len(room[0]) // 4, -1)[:, :rows, 16 : 16 + columns]
    units = np.array([1.0, table.pixel_nm, table.pixel_nm, table.dz_nm])
    return planes / units[:, None, None]


@pytest.mark.parametrize("name", ["smlm-3d-astigmatism", "smlm-2d-field", "smlm-2d-oriented"])
@pytest.mark.parametrize("place", [(30.3, 31.8), (29.0, 30.999), (27.2, 33.6)])
def test_image_and_slopes_of_a_fit_are_those_of_the_table(name, place):
    table = ss.Simulator(name, 0).table
    steps = (table.z_max_nm - table.z0_nm) / table.dz_nm
    half = min(5, table.window_px // 2 - 4)
    box = (30 - half, 31 + half, 30 - half, 31 + half)
    ours = drawn(table, *place, 0.37 * steps, box)
    z = table.z0_nm + 0.37 * steps * table.dz_nm
    theirs = table.derivatives(place[0] * table.pixel_nm, place[1] * table.pixel_nm, z)
    first_x, first_y = (int(v) - table.window_px // 2 for v in place)
    cut = slice(box[0] - first_y, box[1] - first_y), slice(box[2] - first_x, box[3] - first_x)
    # Sums of some ten numbers in single precision. Slopes leave out that of the weights of nodes,
    # which a fit holds where it starts: half a percent of the image's.
    loose = 5e-3 if name == "smlm-2d-field" else 3e-6
    for own, other, error in zip(ours, theirs, (3e-6, loose, loose, 3e-6), strict=True):
        assert np.abs(own - other[0][cut]).max() <= error * np.abs(other).max() + 1e-12


@pytest.mark.parametrize("camera", CAMERAS)
def test_the_fit_finds_what_a_plain_optimiser_finds(camera):
    recipe = astigmatic(side=15, camera=CAMERAS[camera]).replace("acquisition.shape", [15, 23])
    simulator = ss.Simulator(recipe, 4)
    images, emitters = (part[:2] for part in seen_by(simulator, 5, (0, 800)))
    found = fit(images, simulator, near(emitters), box_px=9)
    for image, row, truth in zip(images, found, emitters, strict=True):
        counts, rest, gain = poisson_like(
            image.astype(float), recipe.camera, simulator.maps, recipe.acquisition.exposure_ms / 1e3
        )
        start = [*(truth[name] for name in PLACE), 3000.0, 10.0]
        x, y = (int(near(emitters)[name][row["frame"]] / 100) for name in ("x_nm", "y_nm"))
        box = (y - 4, y + 5, x - 4, x + 5)
        best, likelihood = fit_one(simulator.table, counts, rest, gain, box, start)
        names = (*PLACE, "photons", "background")
        for name, value in zip(names, best, strict=True):
            assert abs(row[name] - value) < 0.03 * row[f"uncertainty_{name}"], name
        assert row["log_likelihood"] == pytest.approx(likelihood, abs=1e-3)


@many_fits
@pytest.mark.parametrize("camera", CAMERAS)
def test_errors_are_as_large_as_the_bound_says(camera):
    # The sum of n squared errors over their bounds is chi-square of n degrees of freedom; false
    # alarms: 1e-5 a side and axis, 2e-4 in all nine, were the bound exact. 3 % are left to the
    # terms beyond the bound that fall with the photons.
    simulator = ss.Simulator(astigmatic(camera=CAMERAS[camera]), 5)
    images, emitters = seen_by(simulator, 260, (-50, 850))
    found = fit(images, simulator, near(emitters), box_px=11)
    assert found["converged"].all()
    for name in PLACE:
        errors = (found[name] - emitters[name]) / found[f"uncertainty_{name}"]
        low, high = chi2.ppf([1e-5, 1 - 1e-5], len(errors))
        assert low <= np.sum(errors**2) <= 1.03 * high, name
        assert abs(errors.mean()) < 4.4 / np.sqrt(len(errors)) + 0.03, name
    # a true model's twice negative log-likelihood: pixels less parameters, 1 % from the Gauss limit
    misfit = -2 * found["log_likelihood"].mean()
    assert misfit == pytest.approx(121 - 5, abs=5 * np.sqrt(2 * 121 / len(found)) + 0.03 * 121)


def test_uncertainties_are_the_bound_of_the_recipe():
    simulator = ss.Simulator(astigmatic(side=25, camera=CAMERAS["ccd"]), 6)
    images, emitters = seen_by(simulator, 6, (100, 700))
    found = fit(images, simulator, near(emitters), box_px=29)
    own = {name: found[name] for name in (*PLACE, "photons")}
    bound = crlb(simulator, own, background_photons=found["background"])
    for name in (*PLACE, "photons", "background"):
        assert found[f"uncertainty_{name}"] == pytest.approx(bound[name], rel=1e-3)


@many_fits
def test_pixels_that_read_noisily_weigh_less():
    hot = CAMERAS["scmos"] | {"read_noise_e": 4.0, "read_noise_sigma_log": 1.5}
    simulator = ss.Simulator(astigmatic(camera=hot), 7)
    images, emitters = seen_by(simulator, 150, (0, 800))
    blind = CameraMaps(
        simulator.maps.gain, simulator.maps.offset_adu, np.ones_like(simulator.maps.gain)
    )
    rms = []
    for maps in (None, blind):
        found = fit(images, simulator, near(emitters), box_px=11, maps=maps)
        errors = np.hypot(found["x_nm"] - emitters["x_nm"], found["y_nm"] - emitters["y_nm"])
        rms.append(np.sqrt(np.mean(errors**2)))
    assert rms[0] < 0.9 * rms[1]


def test_no_result_depends_on_threads_or_blocks_of_frames(monkeypatch):
    simulator = ss.Simulator(astigmatic(), 8)
    images, emitters = seen_by(simulator, 20, (0, 800))
    shuffled = np.random.default_rng(0).permutation(len(emitters))
    some = {name: column[shuffled] for name, column in near(emitters).items()}
    whole = fit(images, simulator, some, box_px=9, threads=1)
    assert np.array_equal(whole["frame"], some["frame"])
    monkeypatch.setattr(fitting, "BLOCK_BYTES", 4 * 19 * 19 * 3)
    parts = fit(images, simulator, some, box_px=9)
    assert whole.tobytes() == parts.tobytes()


def test_a_common_height_is_known():
    simulator = ss.Simulator(one_emitter("smlm-2d-dense", 15), 9)
    images, emitters = seen_by(simulator, 5)
    found = fit(images, simulator, near(emitters))
    assert found["converged"].all()
    assert np.all(found["z_nm"] == 0.0)
    assert np.isnan(found["uncertainty_z_nm"]).all()


def test_a_single_image_needs_no_frame_column():
    simulator = ss.Simulator(one_emitter("smlm-2d-dense", 15), 9)
    sample = simulator[2]
    found = fit(sample.image, simulator, {"x_nm": [750.0], "y_nm": [750.0]})
    assert found["frame"][0] == 0
    assert abs(found["x_nm"][0] - sample.emitters["x_nm"][0]) < 5 * found["uncertainty_x_nm"][0]


def test_a_fit_at_the_end_of_the_heights_has_not_converged():
    wide, narrow = astigmatic(), one_emitter("smlm-3d-astigmatism", 19, z_nm=(300, 500))
    images, emitters = seen_by(ss.Simulator(wide, 10), 40, (800, 1000))
    found = fit(images, ss.Simulator(narrow, 10), near(emitters), box_px=11)
    assert not found["converged"].any()


def test_a_background_of_nothing_is_held_at_its_limit():
    simulator = ss.Simulator(one_emitter("smlm-2d-dense", 15, background=0.0), 9)
    images, emitters = seen_by(simulator, 8)
    found = fit(images, simulator, near(emitters), box_px=9)
    held = found["background"] == kernels.LEAST_BACKGROUND
    assert 0 < held.sum() < 8  # the noise of reading would put half of them below nothing
    assert found["converged"].all()
    for name in ("x_nm", "y_nm"):
        assert np.all(np.abs(found[name] - emitters[name]) < 5 * found[f"uncertainty_{name}"])


@pytest.mark.parametrize(("dx_nm", "dy_nm"), [(-220, 0), (220, 0), (0, -220), (0, 220)])
def test_a_fit_at_the_edge_of_its_box_has_not_converged(dx_nm, dy_nm):
    simulator = ss.Simulator(one_emitter("smlm-2d-dense", 19), 9)
    images, emitters = seen_by(simulator, 3)
    beside = {
        "frame": emitters["frame"],
        "x_nm": emitters["x_nm"] + dx_nm, "y_nm": emitters["y_nm"] + dy_nm,
    }  # fmt: skip
    assert fit(images, simulator, beside, box_px=15)["converged"].all()
    assert not fit(images, simulator, beside, box_px=3)["converged"].any()


def test_starts_stand_all_over_the_heights():
    table = ss.Simulator(astigmatic(), 0).table
    starts = fitting.start_heights_nm(table)
    edges = np.concatenate([[table.z0_nm], 0.5 * (starts[1:] + starts[:-1]), [table.z_max_nm]])
    assert np.diff(edges) == pytest.approx(np.diff(edges)[0])
    assert np.diff(starts).max() <= fitting.START_STEP_NM


def test_contrast_is_highest_where_an_uneven_image_stands():
    spot = np.zeros((5, 5))
    spot[1, 1:4] = spot[1:4, 1] = 1.0  # an angle, unlike its mirror images
    template = spot - spot.mean()
    counts = np.full((20, 24), 100.0)
    counts[5:10, 9:14] += 30 * spot
    best, number = _contrast(counts, template[None] / np.linalg.norm(template))
    assert np.unravel_index(best.argmax(), best.shape) == (7, 11)
    # 30 counts of five pixels over a deviation of 10, along the template
    assert best.max() == pytest.approx(3 * np.linalg.norm(template))
    assert not number.any()


def test_a_box_keeps_nearly_all_the_window_tells():
    simulator = ss.Simulator(astigmatic(), 0)
    box = fitting.box_of(simulator)
    assert box % 2 == 1
    assert box < simulator.table.window_px
    assert box > fitting.box_of(ss.Simulator(one_emitter("smlm-2d-dense", 15), 0))


@many_fits
def test_isolated_emitters_are_found_and_fitted_without_a_hint():
    recipe = ss.load_recipe("smlm-2d-dense").replace("structure.density_per_um2", 0.15)
    simulator = ss.Simulator(recipe.replace("photophysics.photons", 3000.0), 11)
    batch = simulator.batch(0, 8)
    found = fit_frames(batch.images, simulator)
    inside = ss.evaluate.in_frame(batch.emitters, (64, 64), 100.0)
    result = ss.evaluate.score(found, batch.emitters[inside], 100.0)
    assert result.precision > 0.9
    assert result.recall > 0.85  # neighbours within two pixels, and emitters at the edge, are lost


def test_any_psf_is_found_by_its_own_image():
    simulator = ss.Simulator(astigmatic(side=41), 12)
    images, emitters = seen_by(simulator, 8, (-100, 900))
    found = fit_frames(images, simulator)
    assert np.array_equal(found["frame"], emitters["frame"])
    for name in PLACE:
        assert np.all(np.abs(found[name] - emitters[name]) < 5 * found[f"uncertainty_{name}"])


def test_candidates_stand_in_the_middle_of_pixels():
    simulator = ss.Simulator(astigmatic(side=31), 12)
    images, emitters = seen_by(simulator, 60, (100, 700))
    found = candidates(images, simulator)
    assert np.array_equal(found["frame"], emitters["frame"])
    for name in ("x_nm", "y_nm"):
        assert set(np.round(found[name] % 100)) == {50.0}
        # uniform over a pixel of 100 nm, a few in the next: 4 standard errors
        assert abs(np.mean(found[name] - emitters[name])) < 4 * 35 / np.sqrt(60)


def test_of_fits_at_one_place_the_likelier_stays():
    found = np.zeros(5, fitting.FIT_DTYPE)
    found["frame"] = [0, 0, 0, 1, 1]
    found["x_nm"] = [500, 560, 900, 560, 500]
    found["log_likelihood"] = [-60, -50, -90, -70, -80]
    assert _one_each(found).tolist() == [False, True, True, True, False]


def test_empty_frames_hold_no_emitters():
    dark = astigmatic(side=31).replace("photophysics.photons", 1e-6)
    simulator = ss.Simulator(dark, 13)
    assert len(fit_frames(simulator.batch(0, 5).images, simulator)) == 0


def wrong(**changes):
    return {"frame": [0], "x_nm": [500.0], "y_nm": [500.0]} | changes


@pytest.mark.parametrize(
    ("positions", "options", "words"),
    [
        (wrong(frame=[3]), {}, "frame=3 is not one of the 2 frames"),
        (wrong(x_nm=[-1.0]), {}, "1 lie off the frame"),
        (wrong(), {"box_px": 8}, "box_px=8 is not an odd"),
        (wrong(), {"heights_nm": [5000.0]}, "heights_nm must hold"),
        (wrong(), {"heights_nm": [[0.0], [1.0]]}, "fit no 1 positions"),
        (wrong(), {"threads": 0}, "threads=0"),
        ({"x_nm": [1.0], "y_nm": [1.0]}, {}, "no column 'frame'"),
    ],
)
def test_what_cannot_be_fitted_is_refused(positions, options, words):
    images = np.full((2, 19, 19), 110, np.uint16)
    with pytest.raises(EvaluationError, match=words):
        fit(images, astigmatic(), positions, **options)


def test_recipes_without_one_table_are_refused():
    gaussian = snapshot().replace("optics.model", "gaussian").replace("structure.z_nm", 0)
    with pytest.raises(EvaluationError, match="Gaussian spots without a table"):
        fit(np.zeros((24, 20), np.uint16), gaussian, {"x_nm": [1.0], "y_nm": [1.0]})
    with pytest.raises(EvaluationError, match="no frames of"):
        fit(np.zeros((23, 20), np.uint16), snapshot(), {"x_nm": [1.0], "y_nm": [1.0]})


@many_fits
def test_a_study_holds_errors_against_the_bound_of_the_whole_frame():
    simulator = ss.Simulator(one_emitter("smlm-2d-dense", 15), 14)
    study = fit_study(simulator, fits=400)
    assert len(study) == 1
    assert study["converged"][0] == 1.0
    assert np.isnan(study["ratio_z"][0])
    for axis in "xy":  # 3.5 % standard error, 4.4 of them
        assert 0.84 < study[f"ratio_{axis}"][0] < 1.2
        assert abs(study[f"bias_{axis}"][0]) < 0.22
    assert study.tobytes() == fit_study(simulator, fits=400, threads=1).tobytes()
    figure = show.fit_study_figure(study, "smlm-2d-dense")
    assert [len(axes.containers) for axes in figure.axes] == [2, 2]


STUDIES = {
    "smlm-2d-dense": (41, 2000.0, 10.0, None, [0.0]),
    "smlm-3d-astigmatism": (51, 3000.0, 10.0, (-200, 1000), [0, 200, 400, 600, 800]),
    "smlm-3d-tetrapod": (121, 9000.0, 15.0, (0, 4200), [200, 2000, 4000]),
}


@pytest.mark.slow
@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize("name", STUDIES)
def test_fits_sit_on_the_bound_at_every_height(name, camera):
    # 5,000 fits a height: RMSE over bound is known to 1 %, bias to 1.4 % of the bound. Asked for:
    # 1.0 to 1.05 and 5 %; granted beyond it: 4 standard errors.
    side, photons, background, range_nm, heights = STUDIES[name]
    recipe = one_emitter(
        name, side, camera=CAMERAS[camera], photons=photons, background=background, z_nm=range_nm
    )
    rows = fit_study(recipe, photons=photons, background_photons=background, z_nm=heights)
    for row in rows:
        assert row["converged"] > 0.999
        for axis in ("x", "y") if range_nm is None else ("x", "y", "z"):
            assert 0.96 < row[f"ratio_{axis}"] < 1.05 + 0.04, (row["z_nm"], axis)
            assert abs(row[f"bias_{axis}"]) < 0.05 + 0.057, (row["z_nm"], axis)
