"""Beads: images of evenly filled spheres against sums over points in them."""

from __future__ import annotations

import numba
import numpy as np
import pytest

import simscope as ss
from simscope.errors import OpticsError
from simscope.optics import Reach, Window, collected_fraction, image_model, objective_of
from simscope.optics.bead import ball_rule, ball_transform
from simscope.optics.filters import disc_filter, disc_transform, sampled, source_spacing_nm
from simscope.recipe import Optics
from tests.reference_modalities import ball_points

pytestmark = pytest.mark.skipif(
    numba.config.DISABLE_JIT, reason="images by interpreted kernels take minutes"
)

WATER = {"na": 1.2, "n_sample": 1.33, "n_immersion": 1.33}
OIL = {"na": 1.4, "n_sample": 1.33, "n_immersion": 1.518}


def ball_sum(optics, z_nm, radius_nm, shape, pixel_nm):
    """Sum of molecules' images over points of a ball, each height as it is collected."""
    points, weights = ball_points(radius_nm)
    heights = z_nm + points[2]
    if optics.n_sample != optics.n_immersion:
        weights = weights * collected_fraction(optics, heights)
    reach = Reach((heights.min(), heights.max()), (0.0, 0.0), radius_nm)
    model = image_model(optics, Window(shape, pixel_nm), reach)
    images = model.images(heights, 0.0, points[0], points[1])
    return np.einsum("n,nyx->yx", weights / weights.sum(), images)


@pytest.mark.parametrize(("media", "z_nm"), [(WATER, 400.0), (OIL, 120.0)])
def test_a_bead_is_the_mean_over_its_volume(media, z_nm):
    optics = Optics(**media)
    bead = optics.model_copy(update={"bead_diameter_nm": 200.0})
    ours = ss.psf(bead, z_nm=z_nm, shape=(9, 9), pixel_nm=80.0)[0]
    theirs = ball_sum(optics, z_nm, 100.0, (9, 9), 80.0)
    assert np.abs(ours - theirs).max() < 1e-6 * theirs.max()
    point = ss.psf(optics, z_nm=z_nm, shape=(9, 9), pixel_nm=80.0)[0]
    assert np.abs(point - theirs).max() > 0.03 * theirs.max()


def test_a_tiny_bead_is_a_molecule():
    plain = ss.psf(Optics(**WATER), z_nm=300.0)
    tiny = ss.psf(Optics(bead_diameter_nm=0.1, **WATER), z_nm=300.0)
    assert np.abs(tiny - plain).max() < 1e-6 * plain.max()


def test_a_large_bead_keeps_all_its_light():
    image = ss.psf(Optics(bead_diameter_nm=1000.0, **WATER), z_nm=0.0, shape=(201, 201))
    assert image.sum() == pytest.approx(1.0, abs=2e-2)  # the window of 20 um


def test_the_transform_of_a_ball_is_that_of_its_slices():
    radius, lateral, axial = 150.0, 0.002, 0.001
    height = radius * np.polynomial.legendre.leggauss(60)[0]
    weight = np.polynomial.legendre.leggauss(60)[1] * (radius**2 - height**2)
    slices = disc_transform(1.0, np.sqrt(radius**2 - height**2) * lateral)
    want = (weight * slices * np.cos(2 * np.pi * axial * height)).sum() / weight.sum()
    ours = ball_transform(radius, np.array([lateral]), np.array([axial + 0j]))[0]
    assert ours == pytest.approx(want, abs=1e-12)


def test_more_accuracy_takes_more_discs():
    counts = [
        ball_rule(250.0, 0.004, objective_of(Optics(**OIL)), accuracy)[0].size
        for accuracy in (1e-2, 1e-4, 1e-6, 1e-8)
    ]
    assert counts == sorted(set(counts))
    assert counts[-1] < 15


@pytest.mark.parametrize(("radius_nm", "target_nm"), [(80.0, 31.0), (900.0, 12.0), (300.0, 170.0)])
def test_disc_filters_average_every_wave_in_the_band(radius_nm, target_nm):
    band, accuracy, targets = 0.004, 1e-7, 6
    area = disc_filter(radius_nm, band, accuracy, shift_nm=(35.0, -20.0))
    source_nm = source_spacing_nm(target_nm, band)
    (rows, columns), (matrices,) = sampled([area], (targets, targets), target_nm, source_nm)
    y, x = ((np.arange(n) - n // 2) * source_nm for n in (rows, columns))
    places = (np.arange(targets) - 2.5) * target_nm
    generator = np.random.default_rng(3)
    for _ in range(20):
        size, turn = band * generator.random(), 2 * np.pi * generator.random()
        fy, fx = size * np.sin(turn), size * np.cos(turn)
        wave = np.exp(2j * np.pi * (fy * y[:, None] + fx * x))
        ours = sum(a @ wave @ b.T for a, b in matrices)
        want = np.exp(2j * np.pi * (fy * (places[:, None] + 35.0) + fx * (places - 20.0)))
        assert np.abs(ours - disc_transform(radius_nm, size) * want).max() < accuracy


def test_filters_do_not_magnify_errors_outside_the_band():
    area = disc_filter(800.0, 0.004, 2e-5)
    _, (matrices,) = sampled([area], (1, 40), 13.0, source_spacing_nm(13.0, 0.004))
    assert sum(np.abs(a).sum(1).max() * np.abs(b).sum(1).max() for a, b in matrices) < 10.0


def test_slopes_are_the_derivatives_of_the_images():
    optics = Optics(bead_diameter_nm=150.0, **OIL)
    reach = Reach((190.0, 210.0), (0.0, 0.0), 30.0)
    model = image_model(optics, Window((5, 5), 80.0), reach, accuracy=1e-7)
    slopes = model.slopes(200.0, 0.0, 20.0, -10.0)[0]
    by_z = (model.images(202.0, 0.0, 20.0, -10.0) - model.images(198.0, 0.0, 20.0, -10.0))[0] / 4
    by_x = (model.images(200.0, 0.0, 22.0, -10.0) - model.images(200.0, 0.0, 18.0, -10.0))[0] / 4
    assert np.abs(slopes[3] - by_z).max() < 1e-3 * np.abs(by_z).max()
    assert np.abs(slopes[1] - by_x).max() < 1e-3 * np.abs(by_x).max()


def test_beads_of_a_confocal_microscope_hold_confocal_molecules():
    modality = {"kind": "confocal", "excitation_wavelength_nm": 488}
    optics = Optics(modality=modality, accuracy=1e-5, **WATER)
    bead = optics.model_copy(update={"bead_diameter_nm": 200.0})
    ours = ss.psf(bead, z_nm=0.0, shape=(7, 7), pixel_nm=60.0)[0]
    theirs = ball_sum(optics, 0.0, 100.0, (7, 7), 60.0)
    assert np.abs(ours - theirs).max() < 2e-5 * theirs.max()


def test_a_blur_broadens_by_its_variance():
    blurred = ss.psf(Optics(blur_nm=60.0, **WATER), shape=(41, 41), pixel_nm=50.0)[0]
    fine = ss.psf(Optics(**WATER), shape=(81, 81), pixel_nm=50.0)[0]
    x = (np.arange(81) - 40) * 50.0
    # a Gaussian's pixel weights, exact for images without frequencies near the pixel's
    kernel = np.exp(-0.5 * (x / 60.0) ** 2)
    kernel /= kernel.sum()
    rows = np.array([np.convolve(row, kernel, mode="same") for row in fine])
    both = np.array([np.convolve(column, kernel, mode="same") for column in rows.T]).T
    assert np.abs(both[20:61, 20:61] - blurred).max() < 1e-4 * blurred.max()


def test_beads_stay_above_the_coverslip():
    bead = Optics(bead_diameter_nm=200.0, **OIL)
    with pytest.raises(OpticsError, match="at least 100"):
        ss.psf(bead, z_nm=50.0)
    assert ss.psf(bead, z_nm=100.0).sum() > 0.8
