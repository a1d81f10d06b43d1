"""Where emitters come to focus, against published approximations and wave optics."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import stallinga_focus_scale

from simscope.errors import OpticsError
from simscope.optics import best_focus, focal_shift, psf
from simscope.recipe import Optics, TetrapodMask

OIL_WATER = Optics(na=1.4, wavelength_nm=600, n_sample=1.33)
CRITERIA = ("peak", "rms", "paraxial")


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("model", ["vectorial", "gibson_lanni"])
def test_in_matched_media_an_emitter_is_in_focus_at_its_height(criterion, model):
    optics = Optics(na=1.4, n_sample=1.518, n_coverslip=1.518, model=model)
    heights = np.array([-700.0, 0.0, 300.0, 5000.0])
    np.testing.assert_allclose(best_focus(optics, heights, criterion), heights, atol=1e-3)
    np.testing.assert_allclose(focal_shift(optics, heights, criterion), 0.0, atol=1e-3)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_at_low_na_the_focus_moves_by_the_ratio_of_the_indices(criterion):
    # Carlsson 1991; the next order is NA^2 / 4 of the difference of the squared inverse indices
    optics = Optics(na=0.1, n_immersion=1.0, n_sample=1.33)
    ratio = best_focus(optics, [1e4, 3e4], criterion) / [1e4, 3e4]
    np.testing.assert_allclose(ratio, 1.0 / 1.33, rtol=0.1**2 / 4)


@settings(max_examples=5, deadline=None)
@given(st.floats(0.3, 1.2), st.floats(1.25, 1.5))
def test_flattest_wavefront_follows_stallingas_formula(na, n_sample):
    # even weight over the pupil: the scalar model
    optics = Optics(na=na, n_sample=n_sample, model="gibson_lanni")
    expected = 2000.0 * stallinga_focus_scale(na, n_sample, 1.518)
    assert best_focus(optics, 2000.0, "rms")[0] == pytest.approx(expected, rel=1e-6)


LOGINOV = {
    # wave optics of Loginov et al., Optica 11, 553 (2024), published with the paper as
    # actual -> nominal focus position [um]; 510 nm
    "oil into water": (
        Optics(na=1.4, n_immersion=1.51, n_coverslip=1.51, n_sample=1.33, wavelength_nm=510),
        {3.0: 3.794, 5.0: 6.233, 10.0: 12.227, 20.0: 24.051, 50.0: 59.107},
        0.02,
    ),
    "air into water": (
        Optics(na=0.85, n_immersion=1.0, n_coverslip=1.33, n_sample=1.33, wavelength_nm=510),
        {1.0: 0.6505, 5.0: 3.2745, 10.0: 6.5650, 20.0: 13.267},
        0.02,
    ),
}


@pytest.mark.parametrize("name", LOGINOV)
def test_brightest_focus_agrees_with_published_wave_optics(name):
    optics, published, tolerance = LOGINOV[name]
    depth, nominal = 1e3 * np.array([*published]), 1e3 * np.array([*published.values()])
    # their steps along z are 10 nm and more, and their peak that of a scanned image: 2 %
    np.testing.assert_allclose(best_focus(optics, depth), nominal, rtol=tolerance)


def test_high_na_focus_lies_between_central_and_marginal_rays():
    # Diel et al., Nat. Protoc. 15, 2773 (2020): the median ray, NA/2, as a rule of thumb
    optics = Optics(na=1.2, n_sample=1.33)
    depth = np.array([2000.0, 10_000.0])
    central = best_focus(optics, depth, "paraxial")
    marginal = depth * np.sqrt((1.518**2 - 1.2**2) / (1.33**2 - 1.2**2))
    median = depth * np.sqrt((1.518**2 - 0.6**2) / (1.33**2 - 0.6**2))
    peak = best_focus(optics, depth)
    assert (central < peak).all()
    assert (peak < marginal).all()
    # one ray for all depths: good to 10 %
    np.testing.assert_allclose(peak, median, rtol=0.1)


@settings(max_examples=6, deadline=None)
@given(st.floats(0.0, 4000.0), st.sampled_from(["vectorial", "gibson_lanni"]))
def test_no_other_focus_is_brighter(z_nm, model):
    optics = OIL_WATER.model_copy(update={"model": model})
    focus = best_focus(optics, z_nm)[0]
    tried = focus + np.concatenate(([0.0], np.linspace(-1500.0, 1500.0, 61), [-2.0, 2.0]))
    # pixels so small that their value is the intensity in the middle
    values = psf(optics, z_nm, tried, shape=(1, 1), pixel_nm=2.0)[:, 0, 0]
    # I_1 does not reach the axis, but some of it the pixel; and both are accurate to 1e-6
    assert values[0] >= values.max() * (1 - 4e-6)


def test_a_thick_coverslip_shifts_the_focus_even_at_the_coverslip():
    optics = OIL_WATER.model_copy(update={"coverslip_um": 180.0, "coverslip_design_um": 170.0})
    assert abs(best_focus(optics, 0.0)[0]) > 10.0
    assert best_focus(optics, 0.0, "paraxial")[0] == 0.0


def test_arrays_go_in_and_come_out_in_their_order():
    heights = np.array([800.0, 0.0, 800.0, 100.0])
    focus = best_focus(OIL_WATER, heights)
    assert focus[0] == focus[2]
    for height, value in zip(heights, focus, strict=True):
        # each call has quadrature of its own
        assert best_focus(OIL_WATER, height)[0] == pytest.approx(value, abs=1e-3)


def test_a_millimetre_deep_the_peak_still_follows_its_caustic():
    # all lengths scaled by ten scale the rays: far beyond the wavelength so does the focus
    deep, deeper = best_focus(OIL_WATER, [1e5, 1e6])
    assert deeper == pytest.approx(10.0 * deep, rel=0.03)
    assert (deep < best_focus(OIL_WATER, 1e5, "rms")).all()


def test_what_has_no_focus_is_refused():
    with pytest.raises(OpticsError, match=r"lies beyond 1e.06"):
        best_focus(OIL_WATER, 1e7)
    with pytest.raises(OpticsError, match="mask"):
        best_focus(OIL_WATER.model_copy(update={"mask": TetrapodMask()}), 0.0)
    with pytest.raises(OpticsError, match="below the coverslip"):
        best_focus(OIL_WATER, -1.0)
    with pytest.raises(OpticsError, match="choose one of peak, rms, paraxial"):
        best_focus(OIL_WATER, 0.0, "sharpest")
    with pytest.raises(OpticsError, match="not finite"):
        focal_shift(OIL_WATER, np.nan)
