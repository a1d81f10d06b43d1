"""Our elementary functions of arrays are as exact as the library's."""

import numpy as np
import pytest
from scipy import special, stats

from simscope import elementary
from simscope.recipe.distributions import log_gamma_quantile

SHARES = np.concatenate(
    [
        np.linspace(1e-4, 1 - 1e-4, 2001),
        10.0 ** -np.arange(1.0, 16),
        1 - 10.0 ** -np.arange(1.0, 15),
    ]
)
PLACES = np.linspace(-700, 700, 5001)


def test_exponential_and_logarithm_are_right_to_the_last_places():
    assert elementary.exp(PLACES) == pytest.approx(np.exp(PLACES), rel=5e-16, abs=0)
    assert elementary.log(np.exp(PLACES)) == pytest.approx(PLACES, rel=3e-16, abs=3e-16)


def test_exponential_overflows_to_infinity_and_underflows_to_nothing():
    assert elementary.exp(np.array([709.1, 1e9, np.inf])).tolist() == [np.inf] * 3
    assert elementary.exp(np.array([-709.0, -1e9])).tolist() == [0.0, 0.0]


def test_normal_quantile_holds_far_into_both_tails():
    assert elementary.normal_quantile(SHARES) == pytest.approx(special.ndtri(SHARES), rel=3e-15)
    tiny = 10.0 ** -np.arange(20.0, 300, 20)
    assert elementary.normal_quantile(tiny) == pytest.approx(special.ndtri(tiny), rel=3e-15, abs=0)


def test_normal_quantile_of_the_ends_is_finite():
    low, high = elementary.normal_quantile(np.array([0.0, 1.0]))
    assert low == -high
    assert 37 < high < 38


@pytest.mark.parametrize("shape", [0.02, 0.3, 1.0, 4.0, 50.0, 1e5])
def test_gamma_quantile_is_that_of_the_distribution(shape):
    quantile = elementary.exp(log_gamma_quantile(shape)(elementary.normal_quantile(SHARES)))
    exact = stats.gamma(shape).ppf(SHARES)
    normal = exact > 1e-300
    assert quantile[normal] == pytest.approx(exact[normal], rel=1e-8, abs=0)
    assert (quantile[~normal] < 1e-290).all()


def test_scalars_and_grids_keep_their_shape():
    assert elementary.exp(np.zeros((2, 3))).shape == (2, 3)
    assert elementary.exp(0.0).shape == ()


def test_end_pieces_of_a_spline_reach_beyond_the_ends():
    cubes = elementary.Spline(
        1.0, 0.5, np.array([[1.0, 1, 1], [3, 4.5, 6], [3, 6.75, 12], [1, 3.375, 8]])
    )
    places = np.array([-1.0, 1.0, 1.4, 1.5, 2.2, 2.5, 4.0])
    assert cubes(places) == pytest.approx(places**3, rel=1e-14, abs=1e-14)
