"""Draws follow their laws, and depend on nothing but seed, path and counter."""

import numpy as np
import pytest
from scipy import stats

from simscope.errors import SimscopeError
from simscope.keys import Key
from simscope.recipe import load_recipe
from simscope.recipe.distributions import parse_distribution, poisson_quantile
from simscope.recipe.draws import draw_dataset, draw_emitters, draw_samples, parameter_units

FALSE_ALARM = 1e-6
LAWS = [
    ({"uniform": [2, 5]}, stats.uniform(2, 3)),
    ({"loguniform": [1, 100]}, stats.loguniform(1, 100)),
    ({"normal": [3, 2]}, stats.norm(3, 2)),
    ({"normal": {"mean": 1, "std": 2, "min": 0, "max": 4}}, stats.truncnorm(-0.5, 1.5, 1, 2)),
    ({"lognormal": [10, 0.5]}, stats.lognorm(0.5, scale=10)),
    ({"gamma": [3, 3000]}, stats.gamma(3, scale=3000)),
    ({"exponential": 7}, stats.expon(scale=7)),
]


@pytest.mark.parametrize(("written", "law"), LAWS, ids=lambda item: str(item)[:40])
def test_draws_follow_the_stated_law(written, law):
    distribution = parse_distribution(written)
    values = distribution.quantile(Key(1).child("law").uniform(np.arange(20_000)))
    assert stats.kstest(values, law.cdf).pvalue > FALSE_ALARM
    low, high = distribution.support()
    assert values.min() >= low
    assert values.max() <= high


@pytest.mark.parametrize("mean", [0.3, 4.0, 80.0])
def test_poisson_counts_follow_poisson_law(mean):
    counts = parse_distribution({"poisson": mean}).quantile(Key(2).uniform(np.arange(20_000)))
    edges = np.unique(stats.poisson.ppf(np.linspace(0.01, 0.99, 20), mean))
    cells = np.searchsorted(edges, counts)
    share = np.diff(np.concatenate([[0.0], stats.poisson.cdf(edges, mean), [1.0]]))
    seen = np.bincount(cells, minlength=len(share))
    assert stats.chisquare(seen, share * len(counts)).pvalue > FALSE_ALARM


def test_poisson_quantile_is_the_smallest_count_that_reaches_the_probability():
    probability = np.array([1e-9, 0.2, 0.5, 0.999999])
    for mean in (0.0, 0.01, 3.3, 250.0):
        ours = poisson_quantile(np.full(4, mean), probability)
        assert np.array_equal(ours, stats.poisson.ppf(probability, mean) if mean else np.zeros(4))


def test_choice_respects_weights():
    choice = parse_distribution({"choice": {"values": [1, 2, 3], "weights": [1, 0, 3]}})
    values = choice.quantile(Key(3).uniform(np.arange(40_000)))
    ones = int((values == 1).sum())
    assert set(np.unique(values)) == {1.0, 3.0}
    assert stats.binomtest(ones, len(values), 0.25).pvalue > FALSE_ALARM


def test_streams_of_different_names_samples_and_seeds_differ():
    base = Key(5).child("a").uniform(np.arange(1000))
    others = [
        Key(5).child("b").uniform(np.arange(1000)),
        Key(6).child("a").uniform(np.arange(1000)),
        Key(5).child("a").uniform(np.arange(1000), sample=1),
        Key(5).child("a").uniform(np.arange(1000), step=1),
        Key(5).child("a").uniform(np.arange(1000), draw=1),
    ]
    for other in others:
        assert np.intersect1d(base, other).size == 0
        assert abs(np.corrcoef(base, other)[0, 1]) < 0.2


def test_any_element_can_be_drawn_alone():
    key = Key(9).child("x")
    together = key.uniform(np.arange(50), sample=7)
    assert together[31] == key.uniform(31, sample=7)


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, True, "7"])
def test_bad_seed_is_refused(seed):
    with pytest.raises(SimscopeError, match="seed"):
        Key(seed)


def test_random_zernike_direction_has_the_drawn_rms():
    recipe = load_recipe("psf-zernike")
    drawn = draw_samples(recipe, Key(1), np.arange(200))
    coefficients = np.array([v for p, v in drawn.items() if ".coefficients_nm." in p])
    rms = np.sqrt((coefficients**2).sum(axis=0))
    assert np.allclose(rms, drawn["optics.wavefront.rms_nm"], rtol=1e-12)
    assert coefficients.shape == (12, 200)
    assert set(drawn) == set(parameter_units(recipe))


def test_random_zernike_direction_prefers_no_mode():
    drawn = draw_samples(load_recipe("psf-zernike"), Key(1), np.arange(4000))
    shares = [
        np.mean((v / drawn["optics.wavefront.rms_nm"]) ** 2)
        for p, v in drawn.items()
        if ".coefficients_nm." in p
    ]
    # a component of a random unit vector in 12 dimensions has mean square 1/12, variance ~ 2/168
    assert np.allclose(shares, 1 / 12, atol=5 * np.sqrt(0.012 / 4000))


def test_dataset_draws_are_fixed_once_and_put_in():
    recipe = load_recipe("smlm-2d-dense").replace("optics.na", {"uniform": [1.2, 1.4]})
    fixed, drawn = draw_dataset(recipe, Key(4))
    assert fixed.optics.na == drawn["optics.na"]
    assert draw_dataset(recipe, Key(4))[1] == drawn
    assert draw_dataset(recipe, Key(5))[1] != drawn


def test_adding_one_drawn_number_changes_no_other():
    recipe = load_recipe("smlm-2d-dense")
    before = draw_samples(recipe, Key(1), np.arange(10))["structure.density_per_um2"]
    more = recipe.replace("background.photons_per_pixel", {"uniform": [1, 20]})
    assert np.array_equal(
        draw_samples(more, Key(1), np.arange(10))["structure.density_per_um2"], before
    )


def test_emitter_draws_are_constants_or_one_per_counter():
    assert np.array_equal(
        draw_emitters(3.0, Key(1), "p", element=np.arange(4), sample=0), np.full(4, 3.0)
    )
    photons = load_recipe("smlm-2d-dense").photophysics.photons
    a = draw_emitters(photons, Key(1), "p", element=np.arange(4), sample=0)
    b = draw_emitters(photons, Key(1), "p", element=np.arange(4), sample=1)
    assert len(np.unique(np.concatenate([a, b]))) == 8


def test_every_drawable_field_has_the_scope_its_annotation_says():
    data = load_recipe("smlm-2d-dense").written()
    data["optics"] |= {
        "na": {"uniform": [1.2, 1.3]},
        "n_coverslip_design": {"uniform": [1.51, 1.53]},
        "wavefront": {"coefficients_nm": {6: {"normal": [0, 10]}}},
    }
    data["camera"]["qe"] = {"uniform": [0.7, 0.9]}
    data["acquisition"]["focus_nm"] = {"uniform": [-100, 100]}
    data["structure"]["z_nm"] = {"uniform": [0, 100]}
    scopes = {
        path: scope
        for path, scope, _ in type(load_recipe("smlm-2d-dense")).from_dict(data).drawables()
    }
    assert scopes == {
        "optics.na": "dataset",
        "optics.n_coverslip_design": "dataset",
        "optics.wavefront.coefficients_nm.6": "sample",
        "camera.qe": "sample",
        "acquisition.focus_nm": "sample",
        "structure.density_per_um2": "sample",
        "structure.z_nm": "emitter",
        "photophysics.photons": "emitter",
    }
