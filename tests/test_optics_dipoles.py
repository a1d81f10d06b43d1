"""Oriented dipoles and analysers: second moments, images, and what polarisation must do."""

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_dipoles import cone_directions, dipole_image, rotation

from simscope.errors import OpticsError
from simscope.optics import Reach, Window, moments, psf
from simscope.optics.collection import collected_power
from simscope.optics.dipoles import DipoleModel, dipole_moments
from simscope.optics.interfaces import objective_of
from simscope.optics.model import image_model
from simscope.recipe import Analyser, ConeDipole, FixedDipole, FreeDipole, Optics
from simscope.recipe.dipoles import constraint_of_half_angle, half_angle_of_constraint

OIL_WATER = Optics(na=1.4, n_sample=1.33, n_coverslip=1.518, n_immersion=1.518)
NEEDS_JIT = pytest.mark.skipif(
    numba.config.DISABLE_JIT, reason="wide or many images are too slow without JIT"
)
STACK = {"na": 1.4, "wavelength_nm": 600.0, "ns": 1.33, "ng": 1.518, "ni": 1.518}
METHODS = ["pupil"] if numba.config.DISABLE_JIT else ["pupil", "radial"]
COARSE = {"shape": (15, 15), "pixel_nm": 120.0}
ANGLES = st.floats(0, 180)


def fixed(polar_deg, azimuth_deg):
    """A dipole with plain angles."""
    return FixedDipole(polar_deg=polar_deg, azimuth_deg=azimuth_deg)


def split(optics, angle_deg, channels="both"):
    """The optics with an analyser."""
    return optics.model_copy(update={"analyser": Analyser(angle_deg=angle_deg, channels=channels)})


def points(count=9, pitch_nm=120.0):
    """Grid of points around the emitter: x, y, each (count, count)."""
    line = (np.arange(count) - (count - 1) / 2) * pitch_nm
    return np.meshgrid(line, line)


@settings(max_examples=20, deadline=None)
@given(polar=st.floats(0, np.pi), azimuth=st.floats(-4, 4), half=st.floats(0, np.pi / 2))
def test_moments_are_the_mean_square_over_the_cone(polar, azimuth, half):
    axes = cone_directions(half) @ rotation(polar, azimuth).T
    mean = axes.T @ axes / len(axes)
    expected = [mean[0, 0], mean[1, 1], mean[2, 2], mean[0, 1], mean[0, 2], mean[1, 2]]
    # the rings' midpoint rule errs by 1 / (12 rings^2)
    assert np.allclose(moments(polar, azimuth, half)[0], expected, atol=5e-6)


def test_cone_runs_from_fixed_to_free():
    closed = ConeDipole(polar_deg=40, azimuth_deg=70, half_angle_deg=0)
    opened = ConeDipole(polar_deg=40, azimuth_deg=70, half_angle_deg=90)
    assert np.allclose(dipole_moments(closed), dipole_moments(fixed(40, 70)), atol=1e-15)
    assert np.allclose(dipole_moments(opened), dipole_moments(None), atol=1e-15)
    assert np.allclose(dipole_moments(FreeDipole()), [1 / 3] * 3 + [0] * 3)


def test_rotational_constraint_and_half_angle_are_two_names_of_one_cone():
    constraint = np.linspace(0, 1, 11)
    again = constraint_of_half_angle(half_angle_of_constraint(constraint))
    assert np.allclose(again, constraint, atol=1e-14)
    by_angle = ConeDipole(polar_deg=20, azimuth_deg=5, half_angle_deg=60)
    by_constraint = ConeDipole(polar_deg=20, azimuth_deg=5, rotational_constraint=0.375)
    assert np.allclose(dipole_moments(by_angle), dipole_moments(by_constraint), atol=1e-14)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("polar", "azimuth", "z", "focus", "angle"),
    [(60, 30, 300, 100, 0), (45, 0, 250, 0, 35), (90, 90, 0, 0, 90), (10, 200, 50, -200, 120)],
)
def test_oriented_images_equal_the_sum_over_rays(method, polar, azimuth, z, focus, angle):
    optics = OIL_WATER.model_copy(update={"method": method})
    x, y = points()
    axis = rotation(np.radians(polar), np.radians(azimuth))[:, 2]
    expected = dipole_image(STACK, axis, x.ravel(), y.ravel(), z, focus, np.radians(angle))
    expected = expected.reshape(2, *x.shape)
    window, reach = Window(x.shape, 120.0, points=True), Reach((z, z), (focus, focus))
    for wanted, channels in ((expected[0], "parallel"), (expected[1], "crossed")):
        model = image_model(
            split(optics, angle, channels), window, reach,
            moment=dipole_moments(fixed(polar, azimuth)),
        )  # fmt: skip
        # the model's own accuracy, 1e-6 of the peak, and the twin's 1e-7
        error = np.abs(model.images(z, focus)[0] - wanted).max()
        assert error < 1.2e-6 * expected.sum(axis=0).max()


def test_dipole_tilted_towards_x_above_the_focus_shines_towards_x():
    # a dipole emits across its axis: down and towards the side it leans to
    image = psf(OIL_WATER, 400.0, 0.0, dipole=fixed(45, 0), **COARSE)[0]
    below = psf(OIL_WATER, 0.0, 400.0, dipole=fixed(45, 0), **COARSE)[0]
    place = np.arange(15) - 7
    assert (image.sum(axis=0) @ place) / image.sum() > 0.5
    assert (below.sum(axis=0) @ place) / below.sum() < -0.5


@NEEDS_JIT
@settings(max_examples=8, deadline=None)
@given(polar=ANGLES, azimuth=ANGLES)
def test_quarter_turn_of_the_dipole_turns_the_image(polar, azimuth):
    image, turned = (
        psf(OIL_WATER, 200.0, 0.0, dipole=fixed(polar, angle), **COARSE)[0]
        for angle in (azimuth, azimuth + 90)
    )
    # x becomes y: rows take the place of columns, and columns run backwards
    assert np.allclose(turned, image[::-1].T, atol=2e-6 * image.max())


@NEEDS_JIT
@settings(max_examples=8, deadline=None)
@given(angle=ANGLES, polar=ANGLES, azimuth=ANGLES)
def test_crossed_channels_add_to_the_image_without_analyser(angle, polar, azimuth):
    dipole = fixed(polar, azimuth)
    both = psf(split(OIL_WATER, angle), [0.0, 300.0], dipole=dipole, **COARSE)
    whole = psf(OIL_WATER, [0.0, 300.0], dipole=dipole, **COARSE)
    assert both.shape == (2, 2, 15, 15)
    assert np.allclose(both.sum(axis=0), whole, atol=2e-6 * whole.max())
    alone = psf(split(OIL_WATER, angle, "crossed"), [0.0, 300.0], dipole=dipole, **COARSE)
    assert np.array_equal(alone, both[1])


@NEEDS_JIT
def test_free_dipole_splits_evenly_between_channels():
    wide = {"shape": (61, 61), "pixel_nm": 150.0}
    both = psf(split(OIL_WATER, 20), 0.0, **wide)[:, 0]
    whole = psf(OIL_WATER, 0.0, **wide)[0]
    shares = both.sum(axis=(1, 2)) / whole.sum()
    # what the window cuts off differs a little between the channels
    assert np.allclose(shares, 0.5, atol=2e-3)


def test_transverse_dipole_passes_only_its_own_analyser_at_low_na():
    low = Optics(na=0.2, n_sample=1.0, n_immersion=1.0, n_coverslip=1.5, coverslip_um=0)
    both = psf(split(low, 0), 0.0, dipole=fixed(90, 0), shape=(15, 15), pixel_nm=500.0)
    # light across appears with the fourth power of the aperture: sin^4 / 16 or so
    assert both[1].sum() < 0.2**4 / 8 * both[0].sum()


def test_cone_image_is_the_mean_over_its_directions_weighted_by_their_light():
    cone = ConeDipole(polar_deg=50, azimuth_deg=20, half_angle_deg=40)
    rings = cone_directions(np.radians(40), rings=6, around=6)
    axes = rings @ rotation(np.radians(50), np.radians(20)).T
    model = image_model(OIL_WATER, Window((15, 15), 120.0), Reach())
    image = DipoleModel(model, dipole_moments(cone)).images(0.0)[0]
    basis, energies = model.basis_images(0.0)[0], model.basis_energies(0.0)[0]
    total, light = np.zeros((15, 15)), 0.0
    for axis in axes:
        moment = moments(np.arccos(axis[2]), np.arctan2(axis[1], axis[0]))[0]
        total += np.tensordot(moment, basis, 1)
        light += moment @ energies
    # six rings stand for the cone to 1 / (12 * 36)
    assert np.allclose(total / light, image, atol=3e-3 * image.max())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("z", [0.0, 80.0, 600.0])
def test_basis_energies_are_the_collected_powers_of_the_axes(method, z):
    optics = OIL_WATER.model_copy(update={"method": method})
    model = image_model(optics, Window((3, 3), 100.0), Reach((z, z)))
    energies = model.basis_energies(z)[0]
    power = collected_power(objective_of(optics), np.array([z]))[0]
    # both by quadrature to 1e-6 or better, the one on the pupil and the other along its radius
    assert np.allclose(energies, power / power[:3].mean(), atol=2e-6)
    assert energies[:3].sum() == pytest.approx(3.0, abs=2e-6)


@NEEDS_JIT
def test_images_of_any_dipole_sum_to_one_over_a_wide_window():
    for dipole in (fixed(0, 0), fixed(90, 30), fixed(45, 10)):
        image = psf(OIL_WATER, 100.0, dipole=dipole, shape=(121, 121), pixel_nm=150.0)
        # the tails beyond 9 um hold a percent
        assert 0.98 < image.sum() < 1.0 + 1e-6


def test_relative_collection_scales_images_by_orientation_and_height():
    relative = OIL_WATER.model_copy(update={"collection": "relative"})
    plain, scaled = (psf(o, [0.0, 2000.0], **COARSE) for o in (OIL_WATER, relative))
    factor = (scaled / plain).mean(axis=(1, 2))
    assert factor[0] > 1.2  # supercritical light tunnels from the coverslip only
    assert factor[1] == pytest.approx(1.0, abs=0.02)
    along = psf(relative, 2000.0, dipole=fixed(0, 0), **COARSE).sum()
    across = psf(relative, 2000.0, dipole=fixed(90, 0), **COARSE).sum()
    assert along != pytest.approx(across, rel=1e-3)


def test_oriented_dipoles_follow_the_emitter_and_the_wavefront():
    shifted = psf(OIL_WATER, 0.0, dipole=fixed(60, 40), x_nm=120.0, **COARSE)[0]
    centred = psf(OIL_WATER, 0.0, dipole=fixed(60, 40), **COARSE)[0]
    assert np.allclose(shifted[:, 1:], centred[:, :-1], atol=3e-6 * centred.max())
    bent = psf(OIL_WATER, 0.0, dipole=fixed(60, 40), wavefront_nm={5: 40.0}, **COARSE)[0]
    assert np.abs(bent - centred).max() > 0.02 * centred.max()


@pytest.mark.parametrize(
    ("dipole", "optics", "words"),
    [
        (FixedDipole(), OIL_WATER, "still to be drawn"),
        (ConeDipole(half_angle_deg=20, polar_deg=3), OIL_WATER, "azimuth_deg is still"),
        ("z", OIL_WATER, "type str"),
        (fixed(0, 0), Optics(model="gibson_lanni"), "vectorial"),
        (None, split(Optics(model="gibson_lanni"), 0), "vectorial"),
    ],
    ids=["undrawn", "undrawn cone", "text", "scalar", "scalar analyser"],
)
def test_impossible_dipoles_are_refused_with_a_remedy(dipole, optics, words):
    with pytest.raises(OpticsError, match=words):
        psf(optics, 0.0, dipole=dipole, **COARSE)


def test_one_model_refuses_two_channels():
    with pytest.raises(OpticsError, match="two images"):
        image_model(split(OIL_WATER, 0), Window((5, 5), 100.0), Reach())
