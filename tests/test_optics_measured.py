"""Measured PSFs: the programs' conventions, the spline's exactness, and refusals of bad files."""

import json
import os

import h5py
import numpy as np
import pytest
import reference_measured as reference
import scipy.io
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import simscope as ss
from simscope import cli
from simscope.errors import OpticsError, RecipeError, SimscopeWarning
from simscope.optics import Reach, Window, build_table, image_model
from simscope.optics.measured_files import load_calibration
from simscope.optics.measured_spline import (
    SplineVolume,
    bspline_nodes,
    edge_fade,
    smoothing_matrix,
)
from simscope.recipe import MeasuredPsf, Optics, Recipe, ZernikeWavefront
from simscope.recipe.base import file_references

PIXEL_NM, DZ_NM, FOCAL_PLANE, SIDE = 65.0, 40.0, 8, 23
PLANES = 18
# matched media: the image depends on height above the focal plane alone, as a calibration's does;
# astigmatism, coma and spherical aberration tell x from y, left from right, up from down
EXACT = Optics(
    na=1.2, wavelength_nm=600, n_sample=1.33, n_immersion=1.33,
    wavefront=ZernikeWavefront(coefficients_nm={3: 20, 5: 40, 7: 15, 12: 20}), accuracy=1e-4,
)  # fmt: skip
SPLINE_ERROR = 2e-3
"""Of a cubic spline on samples of 65 x 65 x 40 nm, as a share of the peak: measured 1.1e-3."""

STACK_KEYS = {
    "pixel_nm": PIXEL_NM,
    "dz_nm": DZ_NM,
    "z_axis": "focus",
    "centre_px": "middle",
    "centre_plane": FOCAL_PLANE,
    "background": 0.0,
}
pytestmark = pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning")


@pytest.fixture(scope="module")
def beads():
    """A bead on the coverslip while the objective moves towards it, (planes, y, x)."""
    focus_nm = (np.arange(PLANES) - FOCAL_PLANE) * DZ_NM
    return ss.psf(EXACT, 0.0, focus_nm, (SIDE, SIDE), PIXEL_NM)


@pytest.fixture(scope="module")
def coefficients(beads):
    """The beads' spline as fit3Dcspline stores it: d1 rows, d2 columns, d3 planes."""
    return reference.cspline_coefficients(beads.transpose(1, 2, 0)).astype(np.float32)


def spline_fields(coefficients):
    cell = np.empty(1, dtype=object)
    cell[0] = coefficients
    return {"coeff": cell, "dz": DZ_NM, "z0": float(FOCAL_PLANE), "x0": (SIDE + 1) / 2}


def save_mat(path, fields):
    scipy.io.savemat(path, {"SXY": {"cspline": fields, "PSF": np.zeros(3)}})
    return path


def save_mat73(path, fields):
    """As MATLAB writes version 7.3: HDF5 behind 512 bytes, axes reversed, cells by reference."""
    with h5py.File(path, "w", userblock_size=512) as file:
        group = file.create_group("SXY").create_group("cspline")
        for name, value in fields.items():
            if name != "coeff":
                group[name] = np.array([[value]])
        cells = [
            file.create_dataset(f"#refs#/{i}", data=c.T) for i, c in enumerate(fields["coeff"])
        ]
        group["coeff"] = np.array([[cell.ref for cell in cells]], dtype=h5py.ref_dtype)
    return save_as_mat73(path)


def save_as_mat73(path):
    """An HDF5 file under MATLAB's header."""
    content = bytearray(path.read_bytes())
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM"
    content[: len(header)] = header
    path.with_suffix(".mat").write_bytes(content)
    return path.with_suffix(".mat")


def save_uipsf(path, samples, params, **more):
    with h5py.File(path, "w") as file:
        file["res/I_model"] = samples.astype(np.float32)
        for name, value in more.items():
            file[f"res/{name}"] = value
        file.attrs["params"] = json.dumps(params)
    return path


UIPSF_PARAMS = {
    "PSFtype": "zernike_vector",
    "pixel_size": {"x": PIXEL_NM / 1e3, "y": PIXEL_NM / 1e3, "z": DZ_NM / 1e3},
}


@pytest.fixture(scope="module")
def mat(tmp_path_factory, coefficients):
    path = tmp_path_factory.mktemp("mat") / "beads_3dcal.mat"
    return save_mat(path, spline_fields(coefficients))


@pytest.fixture(scope="module")
def npy(tmp_path_factory, beads):
    path = tmp_path_factory.mktemp("npy") / "beads.npy"
    np.save(path, beads)
    return path


def measured(path, blur_nm=0.0, **keys):
    psf = MeasuredPsf(path=str(path), **({"pixel_nm": PIXEL_NM} | keys))
    return Optics(measured=psf, blur_nm=blur_nm)


def images(optics, places, shape=(17, 17), pixel_nm=PIXEL_NM, **window):
    z, focus, x, y = places
    model = image_model(optics, Window(shape, pixel_nm, **window), Reach.over(z, focus, x, y))
    return model.images(z, focus, x, y)


PLACES = tuple(
    np.array(v) for v in ((7.0, 130, 260), (111.0, 0, 300), (31.0, -17, 4), (9.0, 25, -32))
)


def exact(z, focus, x, y, shape=(17, 17), pixel_nm=PIXEL_NM):
    each = zip(z, focus, x, y, strict=True)
    return np.concatenate(
        [ss.psf(EXACT, z, f, shape, pixel_nm, x_nm=x, y_nm=y) for z, f, x, y in each]
    )


def assert_same_shape(found, wanted, tolerance, light_lost=0.15):
    """Images agree but for one factor: how much light fell beside the window no file tells."""
    factor = (found * wanted).sum((1, 2)) / (found**2).sum((1, 2))
    difference = np.abs(found * factor[:, None, None] - wanted).max((1, 2))
    assert (difference < tolerance * wanted.max((1, 2))).all()
    assert (np.abs(factor - 1) < light_lost).all()


@pytest.mark.parametrize("save", [save_mat, save_mat73])
def test_fit3dcspline_calibrations_give_back_the_psf_they_were_made_from(
    tmp_path, coefficients, save
):
    path = save(tmp_path / "beads_3dcal.mat", spline_fields(coefficients))
    assert_same_shape(images(measured(path), PLACES), exact(*PLACES), SPLINE_ERROR)


@pytest.mark.parametrize("save", [save_mat, save_mat73])
def test_older_calibrations_hold_their_coefficients_without_a_cell(
    tmp_path, mat, coefficients, save
):
    if save is save_mat:
        path = save(tmp_path / "old.mat", spline_fields(coefficients) | {"coeff": coefficients})
    else:
        path = save(tmp_path / "old.mat", spline_fields(coefficients))
        with h5py.File(path, "r+") as file:
            del file["SXY/cspline/coeff"]
            file["SXY/cspline/coeff"] = coefficients.T
    np.testing.assert_array_equal(images(measured(path), PLACES), images(measured(mat), PLACES))


def test_the_spline_of_the_file_is_evaluated_term_by_term(mat, coefficients):
    x, y, z = 21.0, -13.0, 57.0
    found = images(measured(mat), ([z], [0.0], [x], [y]))[0]
    for row, column in ((8, 8), (5, 10), (11, 3)):
        d1, d2 = ((k - 8) + SIDE // 2 - s / PIXEL_NM for k, s in ((row, y), (column, x)))
        wanted = reference.cspline_value(coefficients, d1, d2, FOCAL_PLANE - z / DZ_NM)
        middle = reference.cspline_value(
            coefficients, *(SIDE // 2 - s / PIXEL_NM for s in (y, x)), FOCAL_PLANE - z / DZ_NM
        )
        # the quotient of two pixels is free of the normalisation
        assert found[row, column] / found[8, 8] == pytest.approx(wanted / middle, rel=1e-9)


def test_decode_places_emitters_as_we_do_with_its_x_along_columns(mat, coefficients):
    x_px, y_px, z_nm = 0.3, -0.2, 66.0
    roi = reference.decode_roi(coefficients, 12, FOCAL_PLANE, DZ_NM, (x_px, y_px, z_nm), 13)
    place = ([z_nm], [0.0], [x_px * PIXEL_NM], [y_px * PIXEL_NM])
    found = images(measured(mat, format="decode"), place, (13, 13))[0]
    # DECODE's frames are [x, y], ours [y, x]
    np.testing.assert_allclose(found.T / found.sum(), roi / roi.sum(), rtol=1e-9)


def test_smap_and_decode_swap_x_and_y(mat):
    z, focus, x, y = PLACES
    smap = images(measured(mat, format="smap"), (z, focus, x, y))
    decode = images(measured(mat, format="decode"), (z, focus, y, x))
    np.testing.assert_allclose(smap, decode.transpose(0, 2, 1), rtol=1e-12, atol=1e-18)
    as_named = images(measured(mat, axes="xy"), (z, focus, y, x))
    np.testing.assert_array_equal(decode, as_named)


def test_planes_that_follow_the_focus_run_against_those_that_follow_the_height(mat):
    by_focus = images(measured(mat), ([100.0], [0.0], [0.0], [0.0]))
    by_height = images(measured(mat, z_axis="height"), ([0.0], [100.0], [0.0], [0.0]))
    np.testing.assert_array_equal(by_focus, by_height)
    assert_same_shape(by_focus, exact([100.0], [0.0], [0.0], [0.0]), SPLINE_ERROR)


@pytest.mark.parametrize("wrong", [{"x0": 13.0}, {"x0": 11.0}, {"z0": 9.0}, {"z0": 7.0}])
def test_a_centre_off_by_one_is_seen(tmp_path, coefficients, wrong):
    path = save_mat(tmp_path / "beads_3dcal.mat", spline_fields(coefficients) | wrong)
    with pytest.raises(AssertionError):
        assert_same_shape(images(measured(path), PLACES), exact(*PLACES), 10 * SPLINE_ERROR)


def test_uipsf_results_say_their_units_and_centre(tmp_path, beads):
    # uiPSF's planes run about their middle
    middle = beads[: 2 * FOCAL_PLANE + 1]
    path = save_uipsf(tmp_path / "psf.h5", middle, UIPSF_PARAMS, A=np.zeros(2))
    optics = Optics(measured=MeasuredPsf(path=str(path)))
    assert_same_shape(images(optics, PLACES), exact(*PLACES), SPLINE_ERROR)
    old = {"pixelsize_x": PIXEL_NM / 1e3, "pixelsize_y": PIXEL_NM / 1e3, "pixelsize_z": DZ_NM / 1e3}
    path = save_uipsf(tmp_path / "old.h5", middle, old)
    older = Optics(measured=MeasuredPsf(path=str(path)))
    np.testing.assert_array_equal(images(older, PLACES), images(optics, PLACES))


def test_uipsf_models_learnt_in_situ_run_with_the_height(tmp_path, beads):
    params = UIPSF_PARAMS | {"PSFtype": "insitu_zernike"}
    path = save_uipsf(tmp_path / "insitu.h5", beads[::-1], params)
    with pytest.raises(OpticsError, match=r"give measured\.centre_plane"):
        images(measured(path), PLACES)
    optics = measured(path, centre_plane=PLANES - 1 - FOCAL_PLANE)
    assert_same_shape(images(optics, PLACES), exact(*PLACES), SPLINE_ERROR)


def test_channels_of_uipsf_and_of_fit3dcspline_are_chosen(tmp_path, beads, coefficients):
    path = tmp_path / "two.h5"
    with h5py.File(path, "w") as file:
        file["res/channel0/I_model"] = beads[:, ::-1]
        file["res/channel1/I_model"] = beads
        file.attrs["params"] = json.dumps(UIPSF_PARAMS)
    with pytest.raises(OpticsError, match=r"holds 2 channels: say which with measured\.channel"):
        images(measured(path), PLACES)
    optics = measured(path, channel=1, centre_plane=FOCAL_PLANE)
    assert_same_shape(images(optics, PLACES), exact(*PLACES), SPLINE_ERROR)
    two = np.empty(2, dtype=object)
    two[:] = [coefficients[::-1], coefficients]
    fields = spline_fields(coefficients) | {"coeff": two}
    for save in (save_mat, save_mat73):
        path = save(tmp_path / f"{save.__name__}.mat", fields)
        optics = measured(path, channel=1)
        assert_same_shape(images(optics, PLACES), exact(*PLACES), SPLINE_ERROR)
        with pytest.raises(OpticsError, match="channel=2 is not in"):
            images(measured(path, channel=2), PLACES)


@pytest.mark.parametrize("ending", [".npy", ".tif"])
def test_plain_stacks_less_their_background_give_back_the_psf(tmp_path, beads, ending):
    counts = 1e6 * beads + 100.0
    path = tmp_path / f"beads{ending}"
    if ending == ".npy":
        np.save(path, counts)
    else:
        tifffile.imwrite(path, counts.astype(np.float32))
    keys = STACK_KEYS | {"background": 100.0}
    # one count of float32 at 1e6 is 6e-8 of it
    assert_same_shape(images(measured(path, **keys), PLACES), exact(*PLACES), SPLINE_ERROR)
    raw = images(measured(path, **STACK_KEYS), PLACES)
    with pytest.raises(AssertionError):
        assert_same_shape(raw, exact(*PLACES), SPLINE_ERROR)


def test_half_a_pixel_of_centre_is_half_a_pixel_of_image(npy):
    half = PIXEL_NM / 2
    off = STACK_KEYS | {"centre_px": ((SIDE - 1) / 2 + 0.5, (SIDE - 1) / 2)}
    z, focus, x, y = PLACES
    centred = images(measured(npy, **STACK_KEYS), (z, focus, x, y - half))
    np.testing.assert_allclose(images(measured(npy, **off), PLACES), centred, atol=1e-15)
    with pytest.raises(AssertionError):
        assert_same_shape(centred, exact(*PLACES), 10 * SPLINE_ERROR)


def test_peaks_and_centroids_find_a_displaced_bead(tmp_path):
    # no aberration: peak and centroid are the emitter's place
    plain = EXACT.model_copy(update={"wavefront": None})
    stack = ss.psf(plain, 0.0, np.arange(-3, 4) * DZ_NM, (31, 25), PIXEL_NM, x_nm=20.0, y_nm=-40.0)
    np.save(tmp_path / "off.npy", stack)
    for how, tolerance in (("peak", 0.02), ("centroid", 0.05)):
        keys = STACK_KEYS | {"centre_px": how, "centre_plane": "sharpest"}
        found = load_calibration(measured(tmp_path / "off.npy", **keys).measured)
        wanted = (3.0, 15 - 40 / PIXEL_NM, 12 + 20 / PIXEL_NM)
        # pixels: the parabola is the peak's to third order; the window cuts the centroid's tails
        assert found.centre == pytest.approx(wanted, abs=tolerance)


@pytest.mark.parametrize("background", ["border", "minimum"])
def test_a_flat_background_is_found(tmp_path, beads, background):
    np.save(tmp_path / "raised.npy", beads + 1.0)
    keys = STACK_KEYS | {"background": background}
    found = images(measured(tmp_path / "raised.npy", **keys), PLACES)
    # the beads' own tails count as background: up to 4e-3 of the peak
    assert_same_shape(found, exact(*PLACES), 6e-3, light_lost=0.25)


def test_slopes_are_those_of_the_images(mat):
    z, _, x, y = PLACES
    model = image_model(
        measured(mat, blur_nm=30.0), Window((SIDE, SIDE), PIXEL_NM), Reach(z_nm=(-20, 300))
    )
    slopes = model.slopes(z, 0.0, x, y)
    np.testing.assert_array_equal(slopes[:, 0], model.images(z, 0.0, x, y))
    for axis, step in enumerate(((0, 1, 0), (0, 0, 1), (1, 0, 0))):
        dz, dx, dy = 0.25 * np.array(step)
        ahead = model.images(z + dz, 0.0, x + dx, y + dy)
        behind = model.images(z - dz, 0.0, x - dx, y - dy)
        difference = (ahead - behind) / 0.5
        # central differences over 0.25 nm: 1e-5, the third derivative of a spline being uneven
        worst = np.abs(slopes[:, 1 + axis] - difference).max()
        assert worst < 5e-5 * np.abs(difference).max()


@settings(max_examples=15, deadline=None)
@given(
    height=st.floats(-360, 320), x=st.floats(-200, 200), y=st.floats(-200, 200),
    blur=st.sampled_from([0.0, 8.0, 60.0]),
)  # fmt: skip
def test_every_image_sums_to_one_wherever_the_emitter_lies(npy, height, x, y, blur):
    optics = measured(npy, blur_nm=blur, **STACK_KEYS)
    found = images(optics, ([height], [0.0], [x], [y]), (41, 41))
    # the sum over pixels of a smooth function is its integral to the spline's finest detail, and
    # noise of the spline below zero is cut off
    assert found.sum() == pytest.approx(1.0, abs=2e-3)
    assert found.min() >= 0.0


def test_sub_pixel_shifts_are_the_pixels_of_displaced_emitters(npy):
    optics = measured(npy, **STACK_KEYS)
    fine = images(optics, ([50.0], [0.0], [0.0], [0.0]), (37, 37), per_pixel=4)[0]
    for i, j in ((0, 0), (1, 3), (2, 2)):
        # fine sample 4 a + i lies (4 a + i - 18) / 4 pixels from the emitter, pixel a of 9 lies
        # a - 4 from the window's middle
        x, y = ((2 - k) / 4 * PIXEL_NM for k in (j, i))
        moved = images(optics, ([50.0], [0.0], [x], [y]), (9, 9))[0]
        np.testing.assert_allclose(fine[i::4, j::4][:9, :9], moved, rtol=1e-9)


def test_whole_multiples_of_the_pixel_add_up(npy):
    optics = measured(npy, **STACK_KEYS)
    small = images(optics, PLACES, (18, 18))
    large = images(optics, PLACES, (9, 9), pixel_nm=2 * PIXEL_NM)
    np.testing.assert_allclose(
        large, small.reshape(-1, 9, 2, 9, 2).sum((2, 4)), rtol=1e-12, atol=1e-18
    )


def test_nearly_equal_pixels_warn_and_others_are_refused(npy):
    optics = measured(npy, **STACK_KEYS)
    with pytest.warns(SimscopeWarning, match=r"1\.01 of the calibrated 65 nm"):
        close = images(optics, PLACES, pixel_nm=1.01 * PIXEL_NM)
    # fewer, larger pixels hold the same light
    assert images(optics, PLACES, (41, 41), 1.01 * PIXEL_NM).sum((1, 2)) == pytest.approx(
        1, abs=3e-3
    )
    # the blur of the smaller pixel stays
    assert_same_shape(close, exact(*PLACES, pixel_nm=1.01 * PIXEL_NM), 2 * SPLINE_ERROR)
    for pixel_nm in (100.0, 30.0):
        with pytest.raises(OpticsError, match="serves its own pixel and whole multiples"):
            images(optics, PLACES, pixel_nm=pixel_nm)


def test_a_blur_widens_by_its_own_variance(npy):
    grid = np.arange(61) - 30.0

    def variance_nm2(blur_nm):
        optics = measured(npy, blur_nm=blur_nm, **STACK_KEYS)
        image = images(optics, ([0.0], [0.0], [0.0], [0.0]), (61, 61))[0]
        across = image.sum(0)
        mean = (grid * across).sum() / across.sum()
        return ((grid - mean) ** 2 * across).sum() / across.sum() * PIXEL_NM**2

    still = variance_nm2(0.0)
    for blur_nm in (10.0, 70.0):
        # undershoots of the spline cut off at 0 leave 1e-3 of the light in other places
        assert variance_nm2(blur_nm) - still == pytest.approx(blur_nm**2, rel=0.05, abs=60)


@pytest.mark.parametrize("blur_px", [0.12, 1.1])
def test_a_blur_is_the_convolution_with_a_gaussian(npy, blur_px):
    place, fine = ([30.0], [0.0], [5.0], [0.0]), 20
    side = fine * 19
    sharp = images(measured(npy, **STACK_KEYS), place, (side + 1, side + 1), per_pixel=fine)[0]
    blurred = images(measured(npy, blur_nm=blur_px * PIXEL_NM, **STACK_KEYS), place, (5, 5))[0]
    steps = np.arange(side + 1) - side / 2
    for row, column in ((2, 2), (0, 3), (4, 1)):
        gauss = [np.exp(-0.5 * ((steps / fine - (k - 2)) / blur_px) ** 2) for k in (row, column)]
        mean = gauss[0] @ sharp @ gauss[1] / (gauss[0].sum() * gauss[1].sum())
        # both sums are exact but for the spline's kinks
        assert blurred[row, column] == pytest.approx(mean, rel=4e-6)


def test_nothing_is_made_up_beyond_the_calibrated_window(npy):
    wide = images(measured(npy, **STACK_KEYS), ([0.0], [0.0], [0.0], [0.0]), (41, 41))[0]
    beside = (41 - SIDE) // 2
    window = slice(beside, beside + SIDE)
    assert (wide[window, window] > 0).mean() > 0.98
    wide[window, window] = 0.0
    assert (wide == 0.0).all()


def test_heights_beyond_the_calibrated_planes_are_refused(mat):
    with pytest.raises(OpticsError, match=r"leaves the calibrated range \[-360, 320\] nm"):
        images(measured(mat), ([0.0], [361.0], [0.0], [0.0]))
    model = image_model(measured(mat), Window((9, 9), PIXEL_NM), Reach(z_nm=(0, 320)))
    with pytest.raises(OpticsError, match="from 0 to 330 leaves"):
        model.images([0.0, 330.0])


def test_splines_through_samples_hold_cubics_exactly():
    z, y, x = np.meshgrid(np.arange(5.0), np.arange(6.0), np.arange(7.0), indexing="ij")

    def cubic(z, y, x):
        return (1 + z - 0.2 * z**3) * (2 - y**2 + 0.1 * y**3) * (x**3 - 4 * x + 1)

    volume = SplineVolume.through(cubic(z, y, x))
    places = np.array([0.0, 0.3, 2.7, 4.9])
    rows, columns = volume.matrix(1, places), volume.matrix(2, places + 1)
    found = rows @ volume.plane(1.4) @ columns.T
    np.testing.assert_allclose(found, cubic(1.4, places[:, None], places + 1), rtol=1e-11)
    assert bspline_nodes(np.ones((4, 1)), 0) == pytest.approx(1.0)


def test_smoothing_along_z_keeps_cubics_and_its_share_of_the_noise():
    smooth = smoothing_matrix(21, 5)
    z = np.linspace(-1, 1, 21)
    for power in range(4):
        np.testing.assert_allclose(smooth @ z**power, z**power, atol=1e-12)
    # a projection onto 5 + 3 splines: the mean variance left of white noise is 8 / 21
    assert (smooth**2).sum(axis=1).mean() == pytest.approx(8 / 21)


def test_smoothing_along_z_takes_the_noise_of_beads_not_their_shape(tmp_path, beads):
    noisy = beads + np.random.default_rng(8).normal(0, 0.02 * beads.max(), beads.shape)
    worst = {}
    for name, stack in (("clean", beads), ("noisy", noisy)):
        np.save(tmp_path / f"{name}.npy", stack)
        for knots_nm in (None, 110.0):
            keys = STACK_KEYS | {"z_knots_nm": knots_nm}
            found = images(measured(tmp_path / f"{name}.npy", **keys), PLACES)
            wanted = exact(*PLACES)
            share = found / found.sum((1, 2), keepdims=True)
            difference = share - wanted / wanted.sum((1, 2), keepdims=True)
            worst[name, knots_nm] = np.sqrt((difference**2).mean()) / share.max()
    # 6 cells: 9 of 18 numbers along z are left, and noise grows by the square root
    assert worst["noisy", 110.0] < 0.8 * worst["noisy", None]
    assert worst["clean", 110.0] < 2 * worst["clean", None]
    with pytest.raises(OpticsError, match=r"z_knots_nm=42 with 18 planes 40 nm apart"):
        images(measured(tmp_path / "noisy.npy", **(STACK_KEYS | {"z_knots_nm": 42.0})), PLACES)


def test_the_fade_falls_smoothly_to_zero_half_a_pixel_beyond_the_edge():
    places = np.linspace(-1.5, 11.5, 1301)
    fade, slope = edge_fade(places, 10)
    assert (fade[(places > 1) & (places < 9)] == 1).all()
    assert (fade[(places <= -0.5) | (places >= 10.5)] == 0).all()
    np.testing.assert_allclose(np.gradient(fade, places), slope, atol=0.03)


def test_light_at_the_calibrations_edge_is_warned_of(tmp_path, beads):
    np.save(tmp_path / "cut.npy", beads[:, 6:-6, 6:-6])
    with pytest.warns(SimscopeWarning, match="an unknown part fell beside the calibrated window"):
        images(measured(tmp_path / "cut.npy", **STACK_KEYS), PLACES, (9, 9))


def test_noise_below_zero_is_warned_of(tmp_path, beads):
    np.save(tmp_path / "deep.npy", beads)
    keys = STACK_KEYS | {"background": 1e-3}
    with pytest.warns(SimscopeWarning, match=r"% of the light less its background of 0\.001"):
        images(measured(tmp_path / "deep.npy", **keys), PLACES)


def test_a_changed_file_is_read_again(tmp_path, beads):
    path = tmp_path / "beads.npy"
    np.save(path, beads)
    before = images(measured(path, **STACK_KEYS), PLACES)
    np.save(path, beads[:, ::-1])
    os.utime(path, ns=(1, 1))
    after = images(measured(path, **STACK_KEYS), PLACES)
    assert np.abs(after - before).max() > 0.01 * before.max()


def test_optics_beside_a_measured_psf_are_refused(mat):
    keys = {"path": str(mat), "pixel_nm": PIXEL_NM}
    for extra in (
        {"mask": {"kind": "vortex"}},
        {"wavefront": {"kind": "zernike", "coefficients_nm": {5: 30}}},
        {"bead_diameter_nm": 100},
        {"model": "gibson_lanni"},
    ):
        with pytest.raises(RecipeError, match="measured"):
            recipe_with(keys, **extra)
    with pytest.raises(OpticsError, match="wavefront given beside measured"):
        ss.psf(measured(mat), 0.0, 0.0, (9, 9), PIXEL_NM, wavefront_nm={5: 20})
    model = image_model(measured(mat), Window((9, 9), PIXEL_NM), Reach())
    with pytest.raises(OpticsError, match="not the six of a dipole"):
        model.basis_images([0.0])
    with pytest.raises(OpticsError, match="no intensities at points"):
        image_model(measured(mat), Window((9, 9), PIXEL_NM, points=True), Reach())


def recipe_with(keys, **optics):
    return Recipe.from_dict(
        {
            "optics": {"measured": keys, **optics},
            "camera": {"kind": "scmos", "pixel_pitch_um": 6.5},
            "acquisition": {"shape": [24, 20], "focus_nm": 150},
            "structure": {
                "kind": "uniform", "density_per_um2": 4, "z_nm": {"uniform": [0, 250]},
            },
            "photophysics": {"kind": "snapshot", "photons": 3000},
            "background": {"photons_per_pixel": 5},
            "rendering": {"window_px": 19, "accept_energy_loss": True, "accuracy": 5e-3},
        }
    )  # fmt: skip


@pytest.mark.parametrize("missing", sorted(STACK_KEYS))
def test_what_no_stack_says_must_be_given(npy, missing):
    keys = {name: value for name, value in STACK_KEYS.items() if name != missing}
    optics = Optics(measured=MeasuredPsf(path=str(npy), **keys))
    with pytest.raises(OpticsError, match=rf"does not say {missing}: give measured\.{missing}"):
        images(optics, PLACES)


@pytest.mark.parametrize("key", ["background", "z_knots_nm"])
def test_finished_splines_are_not_treated_as_samples(mat, key):
    with pytest.raises(OpticsError, match=rf"measured\.{key} with .* holds a finished spline"):
        images(measured(mat, **{key: 100.0}), PLACES)


def test_fit3dcspline_files_do_not_say_their_pixel(mat):
    with pytest.raises(OpticsError, match=r"does not say pixel_nm: give measured\.pixel_nm"):
        images(Optics(measured=MeasuredPsf(path=str(mat))), PLACES)


@pytest.mark.parametrize("save", [save_mat, save_mat73])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dz": -40.0}, "dz=-40 nm"),
        ({"dz": np.nan}, "need one finite number"),
        ({"x0": 60.0}, "lies outside its 23 x 23 pixels"),
        ({"z0": 40.0}, "lies outside its planes 0 to 17"),
        ({"coeff": "nan"}, "values that are not finite"),
        ({"coeff": "short"}, r"\(d1, d2, planes, 64\)"),
        ({"coeff": "dark"}, "holds no light"),
        ({"z0": None}, r"lacks SXY\.cspline\.z0"),
    ],
)
def test_bad_calibrations_are_one_clear_error(tmp_path, coefficients, save, change, words):
    fields = spline_fields(coefficients)
    for name, value in change.items():
        if value is None:
            del fields[name]
        elif name == "coeff":
            bad = {"nan": coefficients * np.nan, "short": coefficients[..., :63]}
            fields["coeff"][0] = bad.get(value, 0 * coefficients)
        else:
            fields[name] = value
    path = save(tmp_path / "bad_3dcal.mat", fields)
    with pytest.raises(OpticsError, match=words):
        images(measured(path), PLACES)


@pytest.mark.parametrize("format_", ["smap", "uipsf", "stack"])
@pytest.mark.parametrize("damage", ["empty", "text", "cut"])
def test_damaged_files_are_one_clear_error(tmp_path, beads, coefficients, format_, damage):
    if format_ == "smap":
        path = save_mat(tmp_path / "a.mat", spline_fields(coefficients))
    elif format_ == "uipsf":
        path = save_uipsf(tmp_path / "a.h5", beads, UIPSF_PARAMS)
    else:
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, beads.astype(np.float32))
    content = path.read_bytes()
    damaged = {
        "empty": b"",
        "text": b"no calibration at all\n" * 9,
        "cut": content[: len(content) // 3],
    }
    path.write_bytes(damaged[damage])
    with pytest.raises(OpticsError, match="cannot be read as a"):
        images(measured(path, **(STACK_KEYS if format_ == "stack" else {})), PLACES)


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (np.ones((9, 9)), "needs \\(planes, rows, columns\\)"),
        (np.ones((3, 9, 9)), "each at least 4"),
        (np.ones((9, 9, 9), complex), "needs real numbers"),
        (np.full((9, 9, 9), np.nan), "729 values that are not finite"),
        (np.zeros((9, 9, 9)), "no light above its background"),
        (np.arange(9.0)[:, None, None] * np.ones((9, 9)), "plane 0 of bad.npy holds no light"),
    ],
)
def test_arrays_that_are_no_psf_are_refused(tmp_path, samples, words):
    np.save(tmp_path / "bad.npy", samples)
    with pytest.raises(OpticsError, match=words):
        images(measured(tmp_path / "bad.npy", **STACK_KEYS), PLACES)


def test_foreign_files_are_refused(tmp_path, beads):
    with pytest.raises(OpticsError, match="does not exist"):
        images(measured(tmp_path / "none.mat"), PLACES)
    (tmp_path / "psf.png").write_bytes(b"x")
    with pytest.raises(OpticsError, match="ends in none of"):
        images(measured(tmp_path / "psf.png"), PLACES)
    scipy.io.savemat(tmp_path / "other.mat", {"mask": np.ones((4, 4))})
    with pytest.raises(OpticsError, match=r"lacks SXY\.cspline"):
        images(measured(tmp_path / "other.mat"), PLACES)
    for content in (3.0, "text", {"cspline": 5.0}, {"cspline": {"coeff": {"a": 1}}}):
        scipy.io.savemat(tmp_path / "odd.mat", {"SXY": content})
        with pytest.raises(OpticsError, match=r"lacks SXY\.cspline"):
            images(measured(tmp_path / "odd.mat"), PLACES)
    several = [{"cspline": {"dz": 1.0}}, {"cspline": {"dz": 1.0}}]
    scipy.io.savemat(tmp_path / "field.mat", {"SXY": several})
    with pytest.raises(OpticsError, match=r"parts of the field"):
        images(measured(tmp_path / "field.mat"), PLACES)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = np.ones(3)
    with pytest.raises(OpticsError, match="no group /res"):
        images(measured(tmp_path / "other.h5"), PLACES)
    for params in ([1, 2], {"pixel_size": 3}, {"pixel_size": {"x": -1, "y": None, "z": "a"}}):
        path = save_uipsf(tmp_path / "odd.h5", beads, params)
        with pytest.raises(OpticsError, match=r"does not say dz_nm"):
            images(measured(path), PLACES)
    with h5py.File(tmp_path / "odd.h5", "w", userblock_size=512) as file:
        file["SXY/cspline/coeff/inner"] = 1.0
    with pytest.raises(OpticsError, match=r"cannot be read as a MATLAB 7\.3 file"):
        images(measured(save_as_mat73(tmp_path / "odd.h5")), PLACES)
    path = save_uipsf(tmp_path / "4pi.h5", beads, UIPSF_PARAMS, A_model=np.ones(3))
    with pytest.raises(OpticsError, match="interferometric"):
        images(measured(path), PLACES)
    oblong = UIPSF_PARAMS | {"pixel_size": {"x": 0.1, "y": 0.12, "z": 0.05}}
    with pytest.raises(OpticsError, match="only square ones"):
        images(measured(save_uipsf(tmp_path / "oblong.h5", beads, oblong)), PLACES)


def test_a_recipe_with_a_measured_psf_simulates_and_has_a_bound(mat, tmp_path):
    recipe = recipe_with({"path": str(mat), "pixel_nm": PIXEL_NM})
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
    simulator = ss.Simulator(recipe, seed=3, cache=tmp_path)
    sample = simulator[0]
    assert simulator.table.error < 5e-3
    # 3000 photons on 40 pixels beside a background of 5
    assert sample.image.max() > sample.image.min() + 60
    place = np.array([[640.0, 770.0, 100.0, 5000.0]])
    emitter = {n: place[:, i] for i, n in enumerate(("x_nm", "y_nm", "z_nm", "photons"))}
    bound = ss.evaluate.crlb(recipe, emitter)
    assert 1.0 < bound["x_nm"][0] < 10.0
    assert bound["z_nm"][0] > bound["x_nm"][0]


@pytest.mark.parametrize(
    "focus_nm", [{"uniform": [100, 200]}, {"start_nm": 0, "stop_nm": 200, "planes": 3}]
)
def test_drawn_foci_and_stacks_read_the_measured_psf_plane_by_plane(mat, focus_nm):
    recipe = recipe_with({"path": str(mat), "pixel_nm": PIXEL_NM})
    simulator = ss.Simulator(recipe.replace("acquisition.focus_nm", focus_nm), seed=3, cache=None)
    assert simulator.report["rendering"] == "exact"
    assert simulator[0].image.max() > simulator[0].image.min() + 60


def test_tables_reach_the_ends_of_the_calibrated_planes(mat):
    table = build_table(
        measured(mat), focus_nm=360, z_min_nm=0, z_max_nm=680, pixel_nm=PIXEL_NM, window_px=29,
        accuracy=1e-3, cache=None,
    )  # fmt: skip
    assert table.error < 1e-3
    # the images sum to 1 within the calibrated window, which the table holds whole
    assert np.abs(table.energy_left_out[:, 1]).max() < 1e-3


def test_the_calibration_is_among_the_files_a_recipe_names(mat):
    recipe = recipe_with({"path": str(mat), "pixel_nm": PIXEL_NM})
    assert file_references(recipe) == {"optics.measured.path": mat}


def test_pictures_of_a_measured_psf_come_from_the_command_line(mat, tmp_path):
    recipe = tmp_path / "measured.yaml"
    recipe.write_text(recipe_with({"path": str(mat), "pixel_nm": PIXEL_NM}).to_yaml())
    words = ["psf", str(recipe), "--allow-files", "--out", str(tmp_path / "psf.png")]
    result = CliRunner().invoke(cli.app, words)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "psf.png").stat().st_size > 1000
