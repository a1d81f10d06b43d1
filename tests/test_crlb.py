"""Cramér-Rao bound: known limits of a Gaussian spot, and of the noise models."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import ndtr

from simscope.errors import EvaluationError
from simscope.evaluate import bound_from_information, fisher_information


def gaussian_spot(x_nm, y_nm, sigma_nm, pixel_nm, side):
    """Pixel-integrated Gaussian and its derivatives in x and y, each ``(side * side,)``."""
    edges = (np.arange(side + 1) - side / 2) * pixel_nm

    def axis(centre):
        t = (edges - centre) / sigma_nm
        density = np.exp(-0.5 * t**2) / (math.sqrt(2 * math.pi) * sigma_nm)
        return np.diff(ndtr(t)), -np.diff(density)

    (gx, dx), (gy, dy) = axis(x_nm), axis(y_nm)
    return np.outer(gy, gx).ravel(), np.outer(gy, dx).ravel(), np.outer(dy, gx).ravel()


def gaussian_bound(photons, background, sigma_nm, pixel_nm, side, read_e=0.0):
    """Bounds of x, y, photons, background for a Gaussian spot in the middle of the window."""
    spot, dx, dy = gaussian_spot(0.13 * pixel_nm, -0.2 * pixel_nm, sigma_nm, pixel_nm, side)
    derivatives = np.stack([photons * dx, photons * dy, spot, np.ones_like(spot)])
    information = fisher_information(derivatives, photons * spot + background + read_e**2)
    return bound_from_information(information)


def mortensen_bound(photons, background, sigma_nm, pixel_nm):
    """Mortensen et al. 2010, eq. 5: limit of maximum likelihood for a Gaussian spot [nm]."""
    variance = sigma_nm**2 + pixel_nm**2 / 12
    tau = 2 * math.pi * variance * background / (photons * pixel_nm**2)
    integral = quad(lambda t: math.log(t) / (1 + t / tau), 0, 1)[0]
    return math.sqrt(variance / photons / (1 + integral))


def test_without_background_the_bound_is_sigma_over_root_photons():
    # Ober et al. 2004; pixels of a tenth of sigma lose 0.04 % of the information.
    spot, dx, _ = gaussian_spot(3.0, -2.0, 100.0, 10.0, 160)
    keep = spot > 1e-14
    information = fisher_information(400.0 * dx[None, keep], 400.0 * spot[keep])
    assert bound_from_information(information)[0] == pytest.approx(100 / math.sqrt(400), rel=1e-3)


@pytest.mark.parametrize("background", [0.01, 0.1, 1.0, 10.0])
def test_bound_of_a_gaussian_follows_mortensen(background):
    # Pixels of 0.4 sigma: Mortensen's sigma_a stands for pixelation to second order, within 1 %.
    bound = gaussian_bound(1000.0, background, 100.0, 40.0, 41)
    expected = mortensen_bound(1000.0, background, 100.0, 40.0)
    assert bound[0] == pytest.approx(expected, rel=0.01)
    assert bound[1] == pytest.approx(expected, rel=0.01)


def test_bound_follows_the_closed_form_of_rieger_and_stallinga():
    # Rieger and Stallinga 2014, ChemPhysChem 15:664, eq. 6, an interpolation good to about 2 %.
    photons, background, sigma, pixel = 2000.0, 10.0, 120.0, 100.0
    variance = sigma**2 + pixel**2 / 12
    tau = 2 * math.pi * variance * background / (photons * pixel**2)
    closed = math.sqrt(variance / photons * (1 + 4 * tau + math.sqrt(2 * tau / (1 + 4 * tau))))
    assert gaussian_bound(photons, background, sigma, pixel, 21)[0] == pytest.approx(
        closed, rel=0.03
    )


def test_read_noise_acts_as_background_light_of_the_same_variance():
    with_read = gaussian_bound(500.0, 5.0, 120.0, 100.0, 15, read_e=2.0)
    with_light = gaussian_bound(500.0, 9.0, 120.0, 100.0, 15)
    assert with_read == pytest.approx(with_light, rel=1e-12)


def test_four_times_the_light_halves_the_bound_of_position():
    once = gaussian_bound(500.0, 5.0, 120.0, 100.0, 15)
    more = gaussian_bound(2000.0, 20.0, 120.0, 100.0, 15)
    assert more[:2] == pytest.approx(once[:2] / 2, rel=1e-12)


def test_knowing_less_never_lowers_the_bound():
    spot, dx, dy = gaussian_spot(20.0, 10.0, 120.0, 100.0, 15)
    full = np.stack([800 * dx, 800 * dy, spot, np.ones_like(spot)])
    variance = 800 * spot + 4
    one = bound_from_information(fisher_information(full[:1], variance))
    assert bound_from_information(fisher_information(full, variance))[0] >= one[0]


def test_maximum_likelihood_reaches_the_bound():
    # Gauss-Newton fit of 4,000 Poisson images; the standard error of a standard deviation is
    # 1 / sqrt(2 * 4000) = 1.1 %, so 4 % is 3.5 of them (false alarm 5e-4).
    photons, background, sigma, pixel, side = 3000.0, 5.0, 130.0, 100.0, 13
    spot, _, _ = gaussian_spot(0.0, 0.0, sigma, pixel, side)
    images = np.random.default_rng(3).poisson(photons * spot + background, (4000, side**2))
    estimates = np.tile([0.0, 0.0, photons, background], (4000, 1))
    for _ in range(4):
        for image, estimate in zip(images, estimates, strict=True):
            spot, dx, dy = gaussian_spot(estimate[0], estimate[1], sigma, pixel, side)
            mean = estimate[2] * spot + estimate[3]
            derivatives = np.stack([estimate[2] * dx, estimate[2] * dy, spot, np.ones_like(spot)])
            information = fisher_information(derivatives, mean)
            estimate += np.linalg.solve(information, derivatives @ ((image - mean) / mean))
    spot, dx, dy = gaussian_spot(0.0, 0.0, sigma, pixel, side)
    truth = np.stack([photons * dx, photons * dy, spot, np.ones_like(spot)])
    bound = bound_from_information(fisher_information(truth, photons * spot + background))
    assert estimates[:, :2].std(axis=0) == pytest.approx(bound[:2], rel=0.04)


def test_a_pixel_that_cannot_vary_is_refused():
    with pytest.raises(EvaluationError, match="not above 0"):
        fisher_information(np.ones((1, 3)), np.array([1.0, 0.0, 1.0]))


def test_parameters_that_act_alike_are_refused():
    with pytest.raises(EvaluationError, match="alike"):
        bound_from_information(fisher_information(np.ones((2, 5)), np.ones(5)))
    with pytest.raises(EvaluationError, match="unchanged"):
        bound_from_information(fisher_information(np.zeros((1, 5)), np.ones(5)))
