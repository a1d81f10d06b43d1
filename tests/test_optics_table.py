"""PSF tables: their error, the light they leave out, their derivatives and their cache."""

from __future__ import annotations

import warnings

import numba
import numpy as np
import pytest

from simscope.errors import OpticsError, SimscopeWarning
from simscope.optics import build_table, psf
from simscope.optics.cache import default_cache_dir
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
def test_unreachable_accuracy_is_refused_with_what_was_reached():
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
