"""PSF tables: their error, the light they leave out, their derivatives and their cache."""

from __future__ import annotations

import multiprocessing
import warnings

import numba
import numpy as np
import pytest

from simscope.errors import OpticsError, SimscopeWarning
from simscope.optics import Reach, Window, build_table, image_model, moments, psf
from simscope.optics.cache import default_cache_dir, table_key
from simscope.optics.dipoles import FREE_MOMENTS
from simscope.optics.table import taper
from simscope.recipe import FileMask, Optics

WATER = Optics(na=1.1, wavelength_nm=600, n_sample=1.33, n_immersion=1.33, n_coverslip=1.33)
DEEP = {
    "focus_nm": 300.0, "z_min_nm": 0.0, "z_max_nm": 600.0, "pixel_nm": 100.0, "window_px": 21,
    "cache": None, "accept_energy_loss": True,
}  # fmt: skip
FLAT = DEEP | {"z_max_nm": 0.0, "focus_nm": 0.0}

slow_without_jit = pytest.mark.skipif(
    numba.config.DISABLE_JIT, reason="checks the table at many points, minutes as plain Python"
)


@pytest.fixture(scope="module")
def table():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SimscopeWarning)
        return build_table(WATER, **DEEP)


@pytest.fixture(scope="module")
def flat():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SimscopeWarning)
        return build_table(WATER, **FLAT)


def tapered(optics, x_nm, y_nm, z_nm, focus_nm, window):
    """Exact image of an emitter off the window's centre, times the documented taper."""
    image = psf(optics, z_nm, focus_nm, (window, window), 100.0, x_nm=x_nm, y_nm=y_nm)[0]
    middle = np.arange(window) - window // 2
    return image * taper(middle - y_nm / 100, window)[:, None] * taper(middle - x_nm / 100, window)


def test_rendered_emitters_agree_with_the_exact_model_to_the_bound(table):
    rng = np.random.default_rng(5)
    x, y = rng.uniform(-50, 50, (2, 4))
    z = rng.uniform(0, 600, 4)
    images = table.render(x + 1050, y + 1050, z, np.ones(4), np.arange(5), (21, 21))
    for i in range(4):
        exact = tapered(WATER, x[i], y[i], z[i], 300.0, 21)
        assert np.abs(images[i] - exact).max() < 1.5 * table.error * table.peak
    assert 0 < table.error < 1e-3


def test_flat_tables_hold_one_height_and_say_nothing_of_z(flat):
    assert flat.coefficients.shape[:2] == (1, 1)
    _, _, _, by_z = flat.derivatives(10.0, 20.0, 0.0)
    assert (by_z == 0).all()
    with pytest.raises(OpticsError, match="leaves the table's range"):
        flat.derivatives(0.0, 0.0, 50.0)


def test_energy_left_out_is_what_the_image_lacks_to_one(table):
    z_nm, left = table.energy_left_out[0]
    # at the centre of a pixel; the table's figure is the mean over sub-pixel shifts
    held = tapered(WATER, 0.0, 0.0, z_nm, 300.0, 21).sum()
    assert left == pytest.approx(1 - held, abs=2e-3)


def test_derivatives_are_those_of_the_rendered_image(table):
    x, y, z, step = 33.0, -21.0, 260.0, 1.0
    image, *slopes = table.derivatives(x, y, z)
    rendered = table.render([x + 1000], [y + 1100], [z], [1.0], [0, 1], (21, 21))[0]
    # x = 1033 lies in pixel 10, y = 1079 too: the same window
    np.testing.assert_allclose(image[0], rendered, atol=2e-6 * table.peak)
    for axis, slope in enumerate(slopes):
        shift = np.eye(3)[axis] * step
        ahead = table.derivatives(x + shift[0], y + shift[1], z + shift[2])[0]
        behind = table.derivatives(x - shift[0], y - shift[1], z - shift[2])[0]
        difference = (ahead - behind) / (2 * step)
        # central differences over 1 nm are off by (1 nm)^2/6 times the third derivative
        np.testing.assert_allclose(slope, difference, atol=1e-3 * np.abs(slope).max())


def test_smaller_windows_of_derivatives_are_the_middle_of_larger(table):
    full, small = table.derivatives(40.0, 60.0, 100.0), table.derivatives(40.0, 60.0, 100.0, 11)
    for a, b in zip(full, small, strict=True):
        np.testing.assert_allclose(a[:, 5:-5, 5:-5], b, rtol=1e-12, atol=1e-18)
    for bad in (23, 10, 0):
        with pytest.raises(OpticsError, match="window_px"):
            table.derivatives(0.0, 0.0, 0.0, bad)


def test_images_add_up_and_scale_with_photons(flat):
    x, y, light = [700.0, 1500.0], [900.0, 1200.0], [100.0, 250.0]
    both = flat.render(x, y, [0.0, 0.0], light, [0, 2], (24, 26))
    each = flat.render(x, y, [0.0, 0.0], light, [0, 1, 2], (24, 26))
    np.testing.assert_allclose(both[0], each.sum(axis=0), rtol=1e-5, atol=1e-5)
    again = flat.render(x, y, [0.0, 0.0], light, [0, 2], (24, 26), out=both.copy())
    np.testing.assert_allclose(again, 2 * both, rtol=1e-5, atol=1e-5)


def test_expected_photons_are_never_negative(table):
    rng = np.random.default_rng(0)
    z = rng.uniform(0, 600, 6)
    images = table.render(rng.uniform(0, 2400, 6), rng.uniform(0, 2400, 6), z, 1e4 * np.ones(6),
                          np.arange(7), (24, 24))  # fmt: skip
    assert images.min() >= 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"z_nm": [700.0]}, "leaves the table's range"),
        ({"x_nm": [np.nan]}, "not finite"),
        ({"photons": [-1.0]}, "negative"),
        ({"frame_offsets": [0, 2]}, "frame_offsets"),
        ({"y_nm": [1.0, 2.0]}, "differ in length"),
        ({"out": np.zeros((1, 5, 6), np.float32)}, "need float32"),
    ],
)
def test_scenes_that_cannot_be_rendered_are_refused(table, change, words):
    scene = {"x_nm": [0.0], "y_nm": [0.0], "z_nm": [0.0], "photons": [1.0], "frame_offsets": [0, 1]}
    with pytest.raises(OpticsError, match=words):
        table.render(**(scene | {"shape": (5, 5)} | change))


def test_automatic_windows_hold_96_percent_or_say_so(monkeypatch):
    auto = build_table(WATER, **(FLAT | {"window_px": "auto", "accept_energy_loss": False}))
    assert auto.energy_left_out[0, 1] < 0.045
    smaller = build_table(WATER, **(FLAT | {"window_px": auto.window_px - 4}))
    assert smaller.energy_left_out[0, 1] > 0.04
    with pytest.warns(SimscopeWarning, match="rendering window"):
        build_table(WATER, **(FLAT | {"window_px": 13}))
    with pytest.raises(OpticsError, match=r"rendering\.accept_energy_loss: true"):
        build_table(WATER, **(FLAT | {"window_px": 7, "accept_energy_loss": False}))


def test_the_image_falls_to_zero_without_a_step_at_the_window_edge(flat):
    image = flat.derivatives(50.0, 50.0, 0.0)[0][0]
    edge = np.concatenate((image[0], image[-1], image[:, 0], image[:, -1]))
    # the edge pixels still hold a fraction of a pixel of the taper: sin(pi/12)^4 of the tail
    assert np.abs(edge).max() < 1e-4 * image.max()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"z_max_nm": -1.0}, "below z_min_nm"),
        ({"window_px": 20}, "odd number"),
        ({"window_px": 5}, "odd number"),
        ({"accuracy": 0.0}, "outside"),
        ({"focus_nm": np.nan}, "not finite"),
    ],
)
def test_impossible_tables_are_refused(change, words):
    with pytest.raises(OpticsError, match=words):
        build_table(WATER, **(DEEP | change))


@slow_without_jit
def test_unreachable_accuracy_is_refused_with_what_was_reached(monkeypatch):
    monkeypatch.setattr("simscope.optics.table_build.MOST_REFINEMENTS", 1)
    coarse = FLAT | {"pixel_nm": 130.0, "window_px": 9, "accuracy": 1e-6}
    with pytest.raises(OpticsError, match="reached an error"):
        build_table(WATER, **coarse)


def test_finished_tables_come_back_from_the_cache_bit_for_bit(tmp_path, monkeypatch):
    small = FLAT | {"window_px": 13, "cache": tmp_path}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SimscopeWarning)
        first = build_table(WATER, **small)
        files = list(tmp_path.iterdir())
        assert [f.suffix for f in files] == [".npz"]
        monkeypatch.setattr(
            "simscope.optics.table_build._Builder.build", lambda _: pytest.fail("built twice")
        )
        second = build_table(WATER, **small)
    assert (first.coefficients == second.coefficients).all()
    assert (first.peak, first.error, first.dz_nm) == (second.peak, second.error, second.dz_nm)


@pytest.mark.parametrize("damage", [b"", b"no archive", None])
def test_damaged_caches_are_built_again(tmp_path, damage):
    small = FLAT | {"window_px": 13, "cache": tmp_path}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SimscopeWarning)
        first = build_table(WATER, **small)
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(bytes(content) if damage is None else damage)
    with pytest.warns(SimscopeWarning, match="damaged"):
        again = build_table(WATER, **small)
    assert (first.coefficients == again.coefficients).all()


def test_a_changed_mask_file_is_another_table(tmp_path):
    optics = WATER.model_copy(
        update={"mask": FileMask(path=str(tmp_path / "mask.npy"), na_per_pixel=0.5)}
    )
    small = FLAT | {"window_px": 13, "cache": tmp_path / "tables"}
    peaks = []
    for slope in (0.0, 0.2):
        np.save(tmp_path / "mask.npy", slope * np.arange(25.0).reshape(5, 5))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SimscopeWarning)
            peaks.append(build_table(optics, **small).coefficients.argmax())
    assert peaks[0] != peaks[1]


def test_the_cache_folder_can_be_chosen(monkeypatch, tmp_path):
    monkeypatch.setenv("SIMSCOPE_CACHE", str(tmp_path))
    assert default_cache_dir() == tmp_path
    monkeypatch.delenv("SIMSCOPE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "simscope"


def test_a_folder_that_cannot_be_written_costs_a_warning_not_the_table(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(SimscopeWarning, match="cannot be cached"):
        build_table(WATER, **(FLAT | {"window_px": 13, "cache": tmp_path / "file" / "x"}))


# tables of any model


def exact_images(optics, x_nm, y_nm, z_nm, focus_nm, window, moment=None):
    """Exact images of emitters off the window's centre, times the documented taper."""
    model = image_model(
        optics, Window((window, window), 100.0),
        Reach((z_nm.min(), z_nm.max()), (focus_nm, focus_nm), 50.0), accuracy=1e-5, moment=moment,
    )  # fmt: skip
    images = model.images(z_nm, focus_nm, x_nm, y_nm)
    middle = np.arange(window) - window // 2
    weight_y, weight_x = (taper(middle - v[:, None] / 100, window) for v in (y_nm, x_nm))
    return images * weight_y[:, :, None] * weight_x[:, None, :]


def off_centre(seed, count, low, high):
    rng = np.random.default_rng(seed)
    return *rng.uniform(-50, 50, (2, count)), rng.uniform(low, high, count)


ANY = {
    "scalar": {"model": "gibson_lanni"},
    "interface": {"n_immersion": 1.518, "n_coverslip": 1.523, "na": 1.4},
    "spectrum": {"spectrum": {"kind": "gaussian", "fwhm_nm": 30.0}},
    "bead": {"bead_diameter_nm": 100.0},
    "light sheet": {
        "modality": {"kind": "light_sheet", "excitation_wavelength_nm": 550.0, "waist_nm": 600.0}
    },
    "blurred": {"blur_nm": 60.0},
}


@slow_without_jit
@pytest.mark.parametrize("change", ANY.values(), ids=ANY)
def test_tables_agree_with_whichever_model_serves_the_optics(change):
    optics = Optics(**(WATER.model_dump(exclude_none=True) | change))
    low = 0.5 * optics.bead_diameter_nm
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SimscopeWarning)
        table = build_table(optics, **(DEEP | {"z_min_nm": low, "window_px": 15}))
    x, y, z = off_centre(7, 6, low, 600.0)
    images = table.render(x + 750, y + 750, z, np.ones(6), np.arange(7), (15, 15))
    exact = exact_images(optics, x, y, z, 300.0, 15)
    assert np.abs(images - exact).max() < 1.5e-3 * table.peak


@slow_without_jit
def test_tables_of_measured_psfs_end_with_the_measurement(tmp_path):
    # red if heights beyond the stack were asked for, or the splines' ends were wrong
    heights = np.arange(0.0, 601.0, 50.0)
    np.save(tmp_path / "stack.npy", psf(WATER, heights, 300.0, (25, 25), 100.0))
    measured = {
        "path": str(tmp_path / "stack.npy"), "pixel_nm": 100.0, "dz_nm": 50.0, "z_axis": "height",
        "axes": "yx", "centre_px": "middle", "centre_plane": "middle", "background": 0.0,
    }  # fmt: skip
    optics = Optics(**(WATER.model_dump(exclude_none=True) | {"measured": measured}))
    span = {"z_min_nm": -300.0, "z_max_nm": 300.0, "focus_nm": 0.0, "window_px": 15}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SimscopeWarning)
        table = build_table(optics, **(DEEP | span))
    x, y, z = off_centre(8, 6, -300.0, 300.0)
    z[:2] = -300.0, 300.0
    images = table.render(x + 750, y + 750, z, np.ones(6), np.arange(7), (15, 15))
    exact = exact_images(optics, x, y, z, 0.0, 15)
    assert np.abs(images - exact).max() < 1.5e-3 * table.peak


@slow_without_jit
def test_light_a_sheet_does_not_excite_is_not_counted_as_left_out(table):
    sheet = {"kind": "light_sheet", "excitation_wavelength_nm": 550.0, "waist_nm": 450.0}
    optics = Optics(**(WATER.model_dump(exclude_none=True) | {"modality": sheet}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SimscopeWarning)
        dimmed = build_table(optics, **(DEEP | {"z_min_nm": 200.0}))
    widefield = np.interp(dimmed.energy_left_out[:, 0], *table.energy_left_out.T)
    np.testing.assert_allclose(dimmed.energy_left_out[:, 1], widefield, atol=2e-3)


# six images for dipoles

OIL = {"na": 1.4, "wavelength_nm": 600, "n_sample": 1.33, "n_immersion": 1.518}
SIX = DEEP | {"window_px": 15, "z_max_nm": 300.0, "focus_nm": 200.0, "dipoles": True}


@pytest.fixture(scope="module")
def six():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SimscopeWarning)
        return build_table(Optics(**OIL), **SIX)


@slow_without_jit
def test_weighted_basis_images_are_those_of_oriented_dipoles(six):
    # red if a basis image, its weight or the normalisation with height is wrong
    x, y, z = off_centre(11, 3, 0.0, 300.0)
    for polar, azimuth, half_angle in [(0, 0, 0), (90, 30, 0), (40, -70, 0), (60, 200, 35)]:
        moment = moments(*np.radians([polar, azimuth, half_angle]))[0]
        weights = six.orientation_weights(moment[None], z)
        images = six.render(
            x + 750, y + 750, z, np.ones(3), np.arange(4), (15, 15), weights=weights
        )
        exact = exact_images(Optics(**OIL), x, y, z, 200.0, 15, moment)
        assert np.abs(images - exact).max() < 1.5e-3 * six.peak


@slow_without_jit
def test_six_images_left_alone_are_those_of_a_free_dipole(six):
    x, y, z = off_centre(12, 4, 0.0, 300.0)
    free = six.render(x + 750, y + 750, z, np.ones(4), np.arange(5), (15, 15))
    exact = exact_images(Optics(**OIL), x, y, z, 200.0, 15)
    assert np.abs(free - exact).max() < 1e-3 * six.peak
    assert six.images == 6


@slow_without_jit
def test_derivatives_of_weighted_images_are_those_of_what_is_rendered(six):
    weights = six.orientation_weights(moments(0.7, 0.3), 150.0)
    place = np.array([33.0, -21.0, 150.0])
    image, *slopes = six.derivatives(*place, weights=weights)
    rendered = six.render(
        [place[0] + 700], [place[1] + 800], place[2:], [1.0], [0, 1], (15, 15), weights=weights
    )
    np.testing.assert_allclose(np.maximum(image[0], 0), rendered[0], atol=2e-6 * six.peak)
    for axis, slope in enumerate(slopes):
        step = np.eye(3)[axis]
        ahead, behind = (six.derivatives(*(place + s * step), weights=weights)[0] for s in (1, -1))
        np.testing.assert_allclose(slope, (ahead - behind) / 2, atol=1e-3 * np.abs(slope).max())


@slow_without_jit
def test_weights_that_fit_no_dipole_or_table_are_refused(six, flat):
    for moment, words in [
        (np.ones((1, 6)), "trace"), (np.ones((2, 6)) / 3, "fit 1 emitters"),
        (np.full((1, 6), np.nan), "finite"),
    ]:  # fmt: skip
        with pytest.raises(OpticsError, match=words):
            six.orientation_weights(moment, [100.0])
    scene = ([700.0], [700.0], [100.0], [1.0], [0, 1], (15, 15))
    with pytest.raises(OpticsError, match=r"need \(1 emitters, 6 images\)"):
        six.render(*scene, weights=np.ones((1, 1)))
    with pytest.raises(OpticsError, match="not finite"):
        six.render(*scene, weights=np.full((1, 6), np.inf))
    with pytest.raises(OpticsError, match="holds no basis images"):
        flat.orientation_weights(FREE_MOMENTS, [0.0])


def test_dipoles_need_a_model_that_knows_them():
    scan = {"kind": "confocal", "excitation_wavelength_nm": 560.0}
    for change in ({"modality": scan}, {"model": "gibson_lanni"}):
        with pytest.raises(OpticsError, match=r"vectorial|not modelled"):
            build_table(Optics(**(OIL | change)), **SIX)


# building


@slow_without_jit
def test_tables_do_not_depend_on_threads():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SimscopeWarning)
        one, two = (build_table(Optics(**OIL), **SIX, threads=n) for n in (1, 2))
    np.testing.assert_array_equal(one.coefficients, two.coefficients)
    np.testing.assert_array_equal(one.energies, two.energies)


def test_memory_is_stated_before_it_is_spent():
    with pytest.raises(OpticsError, match=r"takes [\d.]+ GB .* more than memory_gb=0\.0001"):
        build_table(WATER, **DEEP, memory_gb=1e-4)


def test_progress_counts_planes_up_to_all():
    seen = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SimscopeWarning)
        build_table(WATER, **FLAT, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 1)]


def test_every_file_the_optics_name_is_part_of_the_key(tmp_path):
    # red if a model with a path is added and forgotten here
    path = tmp_path / "values.npy"
    fields = {"path": str(path), "na_per_pixel": 0.5}
    given = {
        "mask": {"kind": "file", **fields},
        "wavefront_map": fields,
        "amplitude_map": fields,
        "spectrum": {"kind": "table", "path": str(path)},
        "measured": {"path": str(path), "pixel_nm": 100.0, "dz_nm": 50.0},
        "field_dependence": {
            "kind": "maps", "path": str(path), "modes": [5], "map_pixel_nm": 100.0
        },
    }  # fmt: skip
    for name, value in given.items():
        optics = Optics(**{name: value})
        keys = set()
        for content in (b"1", b"2"):
            path.write_bytes(content)
            keys.add(table_key(optics, {}))
        assert len(keys) == 2, name


def build_in_a_process(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SimscopeWarning)
        table = build_table(WATER, **(FLAT | {"window_px": 13, "cache": folder}))
    return table.coefficients.tobytes()


@slow_without_jit
def test_processes_that_build_the_same_table_at_once_share_one_file(tmp_path):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        one, two = pool.map(build_in_a_process, [tmp_path, tmp_path])
    assert one == two
    assert [f.suffix for f in tmp_path.iterdir()] == [".npz"]


@pytest.mark.parametrize(
    "given", [{"focus_nm": "0"}, {"pixel_nm": True}, {"z_max_nm": None}, {"accuracy": [1e-3]}]
)
def test_what_is_no_number_makes_no_table(given):
    (name,) = given
    with pytest.raises(OpticsError, match=f"^{name}=.* is no plain number"):
        build_table(WATER, **(DEEP | given))
