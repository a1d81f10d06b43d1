"""Cosines and sines in one sweep, against the library's one by one."""

from __future__ import annotations

import numpy as np
import pytest

from simscope.kernels.trig import cosines_sines
from simscope.optics.phasors import cosine_sine, unit_phasor


@pytest.mark.parametrize("largest_rad", [1.0, 30.0, 1e3, 1e6])
def test_every_quarter_turn_has_the_librarys_cosine_and_sine(largest_rad):
    phase = np.random.default_rng(5).uniform(-largest_rad, largest_rad, 2000)
    eighths = 0.25 * np.pi * np.arange(-20.0, 21.0)  # where series and signs change
    phase = np.concatenate((phase, eighths, np.nextafter(eighths, 100.0), [0.0, -0.0]))
    cosine, sine = np.empty_like(phase), np.empty_like(phase)
    cosines_sines(phase, cosine, sine)
    # two units in the last place of 1
    np.testing.assert_allclose(cosine, np.cos(phase), rtol=0, atol=2.3e-16)
    np.testing.assert_allclose(sine, np.sin(phase), rtol=0, atol=2.3e-16)


def test_far_phases_are_as_exact_as_their_own_rounding():
    phase = np.random.default_rng(6).uniform(1e8, 1e9, 500)
    cosine, sine = cosine_sine(phase)
    rounding = np.spacing(1e9)
    np.testing.assert_allclose(cosine, np.cos(phase), rtol=0, atol=rounding)
    np.testing.assert_allclose(sine, np.sin(phase), rtol=0, atol=rounding)


def test_no_number_has_no_phasor():
    with np.errstate(invalid="ignore"):
        assert np.isnan(cosine_sine(np.array([np.nan, np.inf]))).all()


def test_phasors_keep_the_shape_of_their_phases():
    phase = np.arange(24.0).reshape(2, 3, 4)[:, ::2].transpose(2, 0, 1)
    np.testing.assert_allclose(unit_phasor(phase), np.exp(1j * phase), rtol=0, atol=4e-16)
    assert cosine_sine(phase).shape == (2, *phase.shape)
    assert cosine_sine(0.5).shape == (2,)
