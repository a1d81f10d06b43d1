"""Confocal, two-photon, light-sheet, STED and image-scanning PSFs against their definitions."""

from __future__ import annotations

import numba
import numpy as np
import pytest

import simscope as ss
from simscope.errors import OpticsError, RecipeError
from simscope.optics import Reach, Window, image_model
from simscope.optics.modalities.beams import beam_optics, detector_elements, without_aberrations
from simscope.optics.modalities.donut import Donut
from simscope.optics.modalities.scan import reassignment_share
from simscope.recipe import Optics
from tests.reference import radial_psf
from tests.reference_modalities import (
    airy,
    circular_focus,
    disc_mean,
    highest,
    square_mean,
    width,
)

pytestmark = pytest.mark.skipif(
    numba.config.DISABLE_JIT, reason="images by interpreted kernels take minutes"
)

AIRY_UNIT = 1.22
MATCHED = {"na": 1.2, "n_sample": 1.518, "n_immersion": 1.518, "n_coverslip": 1.518}
WATER = {"na": 1.2, "n_sample": 1.33, "n_immersion": 1.33}
OIL = {"na": 1.4, "n_sample": 1.33, "n_immersion": 1.518}
SCALAR = {"model": "gibson_lanni", "na": 0.4, "n_sample": 1.0, "n_immersion": 1.0, "accuracy": 1e-7}
CONFOCAL = {"kind": "confocal", "excitation_wavelength_nm": 488}
TWO_PHOTON = {"kind": "two_photon", "excitation_wavelength_nm": 900}
SHEET = {"kind": "light_sheet", "excitation_wavelength_nm": 488, "waist_nm": 900}
STED = {
    "kind": "sted",
    "excitation_wavelength_nm": 560,
    "depletion_wavelength_nm": 660,
    "saturation": 10,
}
ISM = {"kind": "ism", "excitation_wavelength_nm": 488, "across": 3, "pitch_airy_units": 0.4}
ALL = [CONFOCAL, TWO_PHOTON, SHEET, STED, ISM]


def line(optics, count=81, step_nm=10.0, **where):
    """Values at points along x through the middle, and their places."""
    places = (np.arange(count) - count // 2) * step_nm
    reach = Reach.over(*(where.get(name, 0.0) for name in ("z_nm", "focus_nm", "x_nm", "y_nm")))
    model = image_model(optics, Window((1, count), step_nm, points=True), reach)
    return places, model.images(**where)[0, 0]


def stack(optics):
    """The optics in the words of tests/reference.py."""
    return {
        "na": optics.na, "wavelength_nm": optics.wavelength_nm, "ns": optics.n_sample,
        "ng": optics.n_coverslip, "ng0": optics.n_coverslip, "ni": optics.n_immersion,
        "ni0": optics.n_immersion, "tg": 170e3, "tg0": 170e3, "ti0": 150e3,
    }  # fmt: skip


def profile(optics, wavelength_nm, z_nm=0.0, focus_nm=0.0, reach_nm=800.0):
    """Slow radial profile as a function of the radius, by dense cubic interpolation."""
    from scipy.interpolate import make_interp_spline

    at = stack(optics.model_copy(update={"wavelength_nm": wavelength_nm}))
    radius = np.linspace(0, reach_nm, 130)
    return make_interp_spline(radius, radial_psf(at, radius, z_nm, focus_nm, panels=2500), k=5)


@pytest.mark.parametrize("media", [MATCHED, WATER])
def test_the_focus_of_circular_light_is_the_detection_psf_read_backwards(media):
    # reciprocity: sqrt of the two-photon signal against a sum of plane waves in sample medium
    optics = Optics(modality=TWO_PHOTON, **(media | {"n_coverslip": media["n_sample"]}))
    places, ours = line(optics, z_nm=300.0)
    theirs = circular_focus(1.2, media["n_sample"], 900, places, 0 * places, 0 * places + 300.0)
    theirs = theirs / theirs.max()
    assert np.abs(np.sqrt(ours / ours.max()) - theirs).max() < 1e-6


@pytest.mark.parametrize(
    ("media", "z_nm"), [(MATCHED, 0.0), (MATCHED, 700.0), (OIL, 0.0), (OIL, 1000.0)]
)
def test_a_confocal_image_is_excitation_times_what_the_pinhole_passes(media, z_nm):
    optics = Optics(modality={**CONFOCAL, "pinhole_airy_units": 0.8}, **media)
    places, ours = line(optics, 41, 25.0, z_nm=z_nm)
    radius_nm = 0.5 * 0.8 * AIRY_UNIT * 600 / optics.na
    passed = disc_mean(profile(optics, 600, z_nm), radius_nm, np.abs(places))
    theirs = profile(optics, 488, z_nm)(np.abs(places)) * passed
    # spline of the slow profile errs by 1e-7 of its peak
    assert np.abs(ours / ours.max() - theirs / theirs.max()).max() < 2e-6


def test_a_vanishing_pinhole_gives_the_product_and_an_open_one_the_excitation():
    small = Optics(modality={**CONFOCAL, "pinhole_airy_units": 1e-3}, **SCALAR)
    wide = Optics(modality={**CONFOCAL, "pinhole_airy_units": 10}, **SCALAR)
    places, product = line(small, 41, 50.0)
    exciting, detected = airy(places, 0.4, 488), airy(places, 0.4, 600)
    want = exciting * detected / (exciting * detected).max()
    assert np.abs(product / product.max() - want).max() < 3e-6  # pinhole of 1e-3: its square
    _, opened = line(wide, 41, 50.0)
    # 10 Airy units hold all but 2 % of an Airy pattern, evenly over the line
    assert np.abs(opened / opened.max() - exciting / exciting.max()).max() < 1e-3


def test_a_small_pinhole_narrows_the_image_towards_one_over_root_two():
    # equal wavelengths almost: Airy squared has 0.72 of the width (Wilson and Sheppard 1984)
    modality = {**CONFOCAL, "excitation_wavelength_nm": 599.9, "pinhole_airy_units": 0.01}
    places, narrow = line(Optics(modality=modality, **SCALAR), 61, 25.0)
    _, plain = line(Optics(**SCALAR), 61, 25.0)
    assert width(places, narrow) / width(places, plain) == pytest.approx(0.72, abs=0.01)


def test_confocal_light_falls_out_of_focus_where_widefield_keeps_it():
    optics = Optics(modality=CONFOCAL, **WATER)
    z = np.array([0.0, 500.0, 1000.0, 2000.0])
    reach = Reach(z_nm=(0.0, 2000.0))
    confocal = image_model(optics, Window((9, 9), 100.0), reach).energies(z)
    assert confocal[0] == pytest.approx(1.0, abs=1e-5)
    assert (np.diff(confocal) < 0).all()
    assert confocal[-1] < 0.05
    widefield = ss.psf(Optics(**WATER), z_nm=z, shape=(401, 401), pixel_nm=100.0).sum((1, 2))
    assert np.abs(widefield - 1.0).max() < 0.02  # what a window of 40 um leaves out


def test_an_in_focus_image_sums_to_one_and_energies_to_the_images():
    for modality in (CONFOCAL, TWO_PHOTON, STED, ISM):
        optics = Optics(modality=modality, accuracy=1e-5, **WATER)
        model = image_model(optics, Window((81, 81), 50.0), Reach(z_nm=(0.0, 400.0)))
        z = np.array([0.0, 400.0])
        sums, energies = model.images(z).sum((1, 2)), model.energies(z)
        assert energies[0] == pytest.approx(1.0, abs=1e-4)
        # tails beyond 2 um of a product of two tails 1/r^3
        assert sums == pytest.approx(energies, abs=1e-3)


def test_two_photon_images_are_the_square_of_the_focus_and_section_like_its_cone():
    optics = Optics(modality=TWO_PHOTON, **SCALAR)
    places, ours = line(optics, 81, 40.0)
    want = airy(places, 0.4, 900) ** 2
    assert np.abs(ours / ours.max() - want / want.max()).max() < 1e-6
    z = np.array([2e4, 4e4])
    model = image_model(optics, Window((3, 3), 100.0), Reach(z_nm=(0.0, 4e4)))
    fall = np.log(np.divide(*model.energies(z))) / np.log(2.0)
    assert fall == pytest.approx(2.0, abs=0.1)  # int I^2 over a cone's section goes as 1/z^2


def test_excitation_filling_part_of_the_pupil_focuses_like_that_aperture():
    half = Optics(modality={**TWO_PHOTON, "excitation_na": 0.2}, **SCALAR)
    places, ours = line(half, 81, 40.0)
    want = airy(places, 0.2, 900) ** 2
    assert np.abs(ours / ours.max() - want / want.max()).max() < 1e-6


def test_supercritical_excitation_fades_with_height_as_its_evanescent_waves_do():
    optics = Optics(modality=TWO_PHOTON, **OIL)
    model = image_model(optics, Window((3, 3), 50.0), Reach(z_nm=(0.0, 3000.0)))
    # squared plane sums, out of focus too: compare with the twin's unnormalised field
    from simscope.optics.interfaces import objective_of
    from simscope.optics.modalities.beams import focus_energy

    beam = objective_of(beam_optics(optics, 900.0))
    light = focus_energy(beam, np.array([0.0, 200.0, 3000.0]), scalar=False)
    assert light[0] == 1.0
    assert light[2] < light[1] < 0.9
    scalar = focus_energy(beam, np.array([0.0, 200.0]), scalar=True)
    q = np.sqrt((np.arange(200_000) + 0.5) / 200_000) * 1.4
    fading = np.exp(-2 * beam.wavenumber_per_nm * 200 * np.sqrt(np.maximum(q**2 - 1.33**2, 0)))
    assert scalar[1] == pytest.approx(fading.mean(), abs=1e-6)
    assert np.isfinite(model.images(np.array([0.0, 200.0]))).all()


@pytest.mark.parametrize("z_nm", [0.0, 250.0])
def test_a_donut_equals_a_sum_of_plane_waves_and_is_dark_in_its_middle(z_nm):
    optics = beam_optics(Optics(**(WATER | {"n_coverslip": 1.33})), 660.0)
    donut = Donut(optics, Window((1, 81), 12.0, points=True), Reach(z_nm=(0.0, 250.0)), 1e-7)
    ours = donut.images(z_nm)[0, 0]
    places = (np.arange(81) - 40) * 12.0
    theirs = circular_focus(1.2, 1.33, 660, places, 0 * places, 0 * places + z_nm, charge=1)
    fine = np.linspace(0, 500, 501)
    peak = highest(circular_focus(1.2, 1.33, 660, fine, 0 * fine, 0 * fine, charge=1))
    assert np.abs(ours - theirs / peak).max() < 1e-6
    assert ours[40] < 1e-12
    if z_nm == 0.0:
        assert ours.max() == pytest.approx(1.0, abs=2e-3)  # nearest of the points to the ring


def test_an_aberrated_donut_equals_a_sum_of_plane_waves():
    coma_nm = 40.0

    def wavefront(px, py):
        rho2 = px**2 + py**2
        return coma_nm * np.sqrt(8.0) * (3 * rho2 - 2) * px  # OSA 8, orthonormal

    optics = Optics(wavefront={"coefficients_nm": {8: coma_nm}}, **(WATER | {"n_coverslip": 1.33}))
    window = Window((1, 41), 25.0, points=True)
    donut = Donut(beam_optics(optics, 660.0), window, Reach(), 1e-6)
    plain = Donut(without_aberrations(beam_optics(optics, 660.0)), window, Reach(), 1e-6)
    places = (np.arange(41) - 20) * 25.0
    # the beam at s lights a molecule at 0 as the twin's beam at 0 lights a point at -s
    theirs = circular_focus(
        1.2, 1.33, 660, -places, 0 * places, 0 * places, charge=1, wavefront_nm=wavefront
    )
    own = circular_focus(1.2, 1.33, 660, places, 0 * places, 0 * places, charge=1)
    scale = plain.images()[0, 0].max() / own.max()
    assert np.abs(donut.images()[0, 0] - theirs * scale).max() < 1e-5
    assert np.abs(theirs * scale - plain.images()[0, 0]).max() > 0.05


def test_pupil_and_radial_donuts_agree():
    optics = beam_optics(Optics(**OIL), 660.0)
    nothing = optics.model_copy(
        update={"wavefront": Optics(wavefront={"coefficients_nm": {12: 1e-12}}).wavefront}
    )
    window, reach = Window((9, 11), 60.0, points=True), Reach((0.0, 500.0), (0.0, 0.0), 80.0)
    where = (np.array([0.0, 500.0]), 0.0, 80.0, -30.0)
    rounded = Donut(optics, window, reach, 1e-7).slopes(*where)
    summed = Donut(nothing, window, reach, 1e-7).slopes(*where)
    scale = np.abs(rounded).max(axis=(0, 2, 3), keepdims=True)
    assert (np.abs(rounded - summed) / scale).max() < 2e-7


def test_sted_images_are_confocal_ones_times_what_the_donut_leaves():
    optics = Optics(modality={**STED, "residual": 0.05}, **(WATER | {"n_coverslip": 1.33}))
    places, ours = line(optics, 41, 15.0, z_nm=200.0)
    confocal = optics.model_copy(
        update={"modality": Optics(modality={**CONFOCAL, "excitation_wavelength_nm": 560}).modality}
    )
    _, lit = line(confocal, 41, 15.0, z_nm=200.0)
    none, fine = 0 * places, np.linspace(0, 500, 501)
    ring = highest(circular_focus(1.2, 1.33, 660, fine, 0 * fine, 0 * fine, charge=1))
    middle = circular_focus(1.2, 1.33, 660, np.zeros(1), np.zeros(1), np.zeros(1))[0]
    depletion = circular_focus(1.2, 1.33, 660, places, none, none + 200.0, charge=1) / ring
    depletion += 0.05 * circular_focus(1.2, 1.33, 660, places, none, none + 200.0) / middle
    want = lit * np.exp(-10.0 * depletion)
    assert np.abs(ours / ours.max() - want / want.max()).max() < 3e-6


def test_sted_width_follows_the_inverse_square_root_law():
    # Harke 2008: near its zero the donut is a parabola, d = c r^2, so that a Gaussian spot of
    # width w0 shrinks to w0 / sqrt(1 + zeta c w0^2 / (4 ln 2))
    saturations = np.array([0.0, 20.0, 80.0, 320.0])
    widths = []
    for saturation in saturations:
        modality = {**STED, "saturation": saturation, "pinhole_airy_units": 3}
        step_nm = 5.0 if saturation == 0 else 60.0 / np.sqrt(1 + saturation)
        widths.append(width(*line(Optics(modality=modality, accuracy=1e-4, **WATER), 121, step_nm)))
    widths = np.array(widths)
    donut = Donut(
        beam_optics(Optics(**WATER), 660.0), Window((1, 3), 5.0, points=True), Reach(), 1e-9
    )
    curvature = donut.images()[0, 0, 2] / 5.0**2
    law = widths[0] / np.sqrt(1 + saturations * curvature * widths[0] ** 2 / (4 * np.log(2)))
    assert widths == pytest.approx(law, rel=0.05)  # spots are no exact Gaussians
    assert np.diff(np.log(widths[2:])) / np.log(4.0) == pytest.approx([-0.5], abs=0.02)


def test_sted_pixels_hold_the_integral_of_the_points():
    optics = Optics(modality={**STED, "saturation": 40}, **WATER)
    model = image_model(optics, Window((3, 5), 40.0), Reach())
    pixels = model.images()[0]

    def image(x, y):
        out = np.empty(np.size(x))
        for i, (x0, y0) in enumerate(zip(np.ravel(x), np.ravel(y), strict=True)):
            out[i] = points.images(0.0, 0.0, -x0, -y0)[0, 0, 0]
        return out

    points = image_model(optics, Window((1, 1), 5.0, points=True), Reach(lateral_nm=120.0))
    x, y = np.array([0.0, 40.0, 80.0]), np.zeros(3)
    want = square_mean(image, 40.0, x, y, count=8) * 40.0**2
    assert np.abs(pixels[1, 2:] - want).max() < 2e-6 * pixels.max()


def test_ism_sums_shifted_elements():
    optics = Optics(modality={**ISM, "reassignment": 0.4}, **SCALAR)
    places, ours = line(optics, 21, 60.0)
    pitch = 0.4 * AIRY_UNIT * 600 / 0.4

    def detected(x, y):
        return airy(np.hypot(x, y), 0.4, 600)

    want = np.zeros(places.size)
    for uy in (-pitch, 0.0, pitch):
        for ux in (-pitch, 0.0, pitch):
            light = airy(np.hypot(places - 0.4 * ux, -0.4 * uy), 0.4, 488)
            seen = square_mean(detected, pitch, places + 0.6 * ux, np.full(places.size, 0.6 * uy))
            want += light * seen
    assert np.abs(ours / ours.max() - want / want.max()).max() < 1e-6


def test_reassignment_keeps_the_light_and_narrows_the_spot():
    widths, sums, peaks = [], [], []
    for share in (0.0, "adaptive"):
        modality = {**ISM, "across": 5, "pitch_airy_units": 0.25, "reassignment": share}
        optics = Optics(modality=modality, **WATER)
        places, values = line(optics, 81, 10.0)
        widths.append(width(places, values))
        peaks.append(values.max())
        sums.append(ss.psf(optics, shape=(81, 81), pixel_nm=50.0).sum())
    assert sums[0] == pytest.approx(sums[1], abs=1e-3)
    assert widths[1] < 0.87 * widths[0]
    assert peaks[1] > 1.2 * peaks[0]


def test_hexagonal_elements_lie_one_pitch_apart():
    modality = Optics(modality={**ISM, "array": "hexagonal", "across": 5}).modality
    places = np.array(list(detector_elements(modality, 100.0)))
    assert len(places) == 19
    apart = np.linalg.norm(places[:, None] - places, axis=2) + 1e9 * np.eye(19)
    assert apart.min(axis=1) == pytest.approx(np.full(19, 40.0))
    assert np.abs(places.sum(axis=0)).max() < 1e-9


def test_adaptive_reassignment_is_below_one_half_for_a_stokes_shift():
    adaptive = Optics(modality={**ISM, "reassignment": "adaptive"})
    assert reassignment_share(adaptive) == pytest.approx(488**2 / (488**2 + 600**2))


def test_a_light_sheet_dims_molecules_by_its_gaussian_profile():
    optics = Optics(modality={**SHEET, "height_nm": 100.0}, **WATER)
    z = np.array([1000.0, 1500.0, 2500.0])
    plain = ss.psf(Optics(**WATER), z_nm=z, focus_nm=1200.0)
    lit = ss.psf(optics, z_nm=z, focus_nm=1200.0)
    want = np.exp(-2 * ((z - 1300.0) / 900.0) ** 2)  # matched: focal plane at 1200
    assert lit / plain == pytest.approx(np.broadcast_to(want[:, None, None], lit.shape))


def test_a_light_sheet_lies_in_the_focal_plane_of_unlike_media():
    # paraxially an oil objective moved by f focuses f n_sample / n_immersion deep
    index = {"na": 0.5, "n_sample": 1.33, "n_immersion": 1.518}
    focus = 3000.0
    z = focus * 1.33 / 1.518 + np.array([-600.0, 0.0, 600.0])
    lit, plain = (
        ss.psf(Optics(modality=modality, **index), z_nm=z, focus_nm=focus)
        for modality in (SHEET, {"kind": "widefield"})
    )
    dimmed = np.exp(-2 * (600.0 / 900.0) ** 2)
    want = np.array([dimmed, 1.0, dimmed])[:, None, None]
    assert lit / plain == pytest.approx(np.broadcast_to(want, lit.shape))


def test_a_light_sheet_thickens_by_root_two_at_one_rayleigh_length():
    from simscope.optics.modalities.sheet import sheet_at

    rayleigh_nm = np.pi * 900.0**2 * 1.33 / 488
    modality = Optics(modality={**SHEET, "offset_nm": rayleigh_nm}).modality
    thickness, peak = sheet_at(modality, 1.33)
    assert thickness == pytest.approx(900.0 * np.sqrt(2))
    assert peak == pytest.approx(1 / np.sqrt(2))
    by_na = Optics(
        modality={"kind": "light_sheet", "excitation_wavelength_nm": 488, "sheet_na": 0.1}
    )
    assert sheet_at(by_na.modality, 1.33)[0] == pytest.approx(488 / (0.1 * np.pi))


def test_a_tilted_wavefront_moves_beams_and_detection_together():
    # OSA 2 (1, 1): tilt 2 rho cos(phi) [RMS nm]; the image moves by 2 c / NA
    shift_nm = 60.0
    tilt = {"coefficients_nm": {2: 0.5 * shift_nm * 1.2}}
    for modality in (CONFOCAL, STED):
        optics = Optics(modality=modality, accuracy=1e-5, **WATER)
        moved = ss.psf(optics.model_copy(update={"wavefront": Optics(wavefront=tilt).wavefront}),
                       shape=(9, 15), pixel_nm=40.0)  # fmt: skip
        shifted = ss.psf(optics, shape=(9, 15), pixel_nm=40.0, x_nm=shift_nm)
        assert np.abs(moved - shifted).max() < 2e-5 * shifted.max()


def test_aberrations_cost_a_confocal_microscope_light():
    optics = Optics(modality=CONFOCAL, **WATER)
    aberrated = optics.model_copy(
        update={"wavefront": Optics(wavefront={"coefficients_nm": {12: 60.0}}).wavefront}
    )
    model = image_model(aberrated, Window((3, 3), 100.0), Reach())
    assert 0.2 < model.energies(0.0)[0] < 0.9


@pytest.mark.parametrize("modality", ALL, ids=lambda m: m["kind"])
def test_slopes_are_the_derivatives_of_the_images(modality):
    optics = Optics(modality=modality, accuracy=1e-7, **OIL)
    window, reach = Window((5, 6), 70.0), Reach((250.0, 350.0), (200.0, 200.0), 60.0)
    model = image_model(optics, window, reach)
    x, y, z, step = 20.0, -35.0, 300.0, 2.0
    slopes = model.slopes(z, 200.0, x, y)[0]
    images = {
        "x": [model.images(z, 200.0, x + s * step, y)[0] for s in (1, -1)],
        "y": [model.images(z, 200.0, x, y + s * step)[0] for s in (1, -1)],
        "z": [model.images(z + s * step, 200.0, x, y)[0] for s in (1, -1)],
    }
    assert np.abs(slopes[0] - model.images(z, 200.0, x, y)[0]).max() < 1e-6 * slopes[0].max()
    for i, name in enumerate("xyz", start=1):
        by_hand = (images[name][0] - images[name][1]) / (2 * step)
        # central differences of 2 nm err by step^2 f'''/6
        assert np.abs(slopes[i] - by_hand).max() < 3e-3 * np.abs(by_hand).max()


@pytest.mark.parametrize("modality", [CONFOCAL, ISM, STED], ids=lambda m: m["kind"])
def test_sub_pixel_windows_hold_the_same_pixels(modality):
    optics = Optics(modality=modality, accuracy=1e-5, **WATER)
    plain = image_model(optics, Window((5, 5), 60.0), Reach()).images()[0]
    fine = image_model(optics, Window((41, 41), 60.0, per_pixel=10), Reach()).images()[0]
    assert np.abs(fine[::10, ::10] - plain).max() < 3e-5 * plain.max()


@pytest.mark.parametrize(
    ("modality", "words"),
    [
        ({**CONFOCAL, "excitation_wavelength_nm": 650}, "too little energy"),
        ({**CONFOCAL, "pinhole_airy_units": 0}, "pinhole_airy_units"),
        ({**CONFOCAL, "excitation_na": 1.45}, "exceeds the objective"),
        ({"kind": "confocal"}, "excitation_wavelength_nm"),
        ({**TWO_PHOTON, "excitation_wavelength_nm": 550}, "one photon"),
        ({**TWO_PHOTON, "excitation_wavelength_nm": 1300}, "too little energy"),
        ({**STED, "depletion_wavelength_nm": 500}, "would excite"),
        ({**SHEET, "sheet_na": 0.1}, "one of waist_nm and sheet_na"),
        ({**SHEET, "waist_nm": 388}, "waist_nm=388 .* at least 389 nm"),
        ({**SHEET, "waist_nm": None, "sheet_na": 0.41}, "sheet_na=0.41 is above the limit 0.4"),
        ({**ISM, "across": 4}, "even"),
        ({**ISM, "reassignment": 1.5}, "outside"),
    ],
)
def test_impossible_modalities_are_refused_in_words(modality, words):
    with pytest.raises(RecipeError, match=words):
        Optics(modality=modality)


def test_what_is_not_modelled_is_refused_in_words():
    with pytest.raises(OpticsError, match="orientation"):
        ss.psf(Optics(modality=CONFOCAL), dipole=ss.recipe.FixedDipole(polar_deg=30, azimuth_deg=0))
    half = {**CONFOCAL, "excitation_na": 1.0}
    with pytest.raises(OpticsError, match="together with a wavefront"):
        ss.psf(Optics(modality=half, wavefront={"coefficients_nm": {12: 10.0}}))
    with pytest.raises(OpticsError, match="points"):
        image_model(Optics(blur_nm=50), Window((3, 3), 50.0, points=True), Reach())
