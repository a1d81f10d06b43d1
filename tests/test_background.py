"""Background is as bright and as smooth as the recipe says."""

import numpy as np
import pytest
from reference_background import smooth_light
from scipy import stats

from simscope.keys import Key
from simscope.recipe import load_recipe
from simscope.recipe.draws import draw_samples
from simscope.sample import background_photons


def background(samples=400, **written):
    recipe = load_recipe("smlm-2d-dense").replace_all(
        {"background": written, "acquisition.shape": [18, 20]}
    )
    indices = np.arange(samples)
    key = Key(3)
    return background_photons(recipe, key, indices, draw_samples(recipe, key, indices))


def test_even_background_is_the_drawn_level():
    level = background(kind="uniform", photons_per_pixel={"uniform": [5, 6]})
    assert level.shape == (400, 1, 1)
    assert 5 <= level.min() < level.max() <= 6


def test_smooth_background_has_the_stated_mean_and_contrast_at_every_pixel():
    level = background(kind="smooth", photons_per_pixel=20.0, contrast=0.4, scale_um=1.5)
    assert level.shape == (400, 18, 20)
    logs = np.log(level / 20.0)
    spread = logs.std(axis=0)
    # standard error of a standard deviation of 400 samples: 0.4 / sqrt(800); six of them
    assert np.abs(spread - 0.4).max() < 6 * 0.4 / np.sqrt(800)
    assert level.mean() == pytest.approx(20.0, rel=0.05)
    assert stats.kstest(logs[:, 7, 13], stats.norm(-0.08, 0.4).cdf).pvalue > 1e-6


def test_smooth_background_is_smooth_on_the_scale_of_a_pixel():
    level = background(200, kind="smooth", photons_per_pixel=20.0, contrast=0.4, scale_um=1.5)
    steps = np.diff(np.log(level), axis=2)
    assert steps.std() < 0.4 * 2 * 0.1 / 1.5


def test_samples_have_different_smooth_backgrounds():
    level = background(2, kind="smooth", photons_per_pixel=20.0)
    assert np.abs(level[0] - level[1]).max() > 1


def test_smooth_background_of_a_sample_is_the_same_bits_in_any_batch():
    recipe = load_recipe("smlm-2d-dense").replace(
        "background", {"kind": "smooth", "photons_per_pixel": 20.0}
    )
    recipe = recipe.replace("acquisition.shape", [41, 37])
    key, indices = Key(3), np.arange(6)
    together = background_photons(recipe, key, indices, draw_samples(recipe, key, indices))
    for i in (0, 3, 5):
        alone = background_photons(recipe, key, indices[[i]], {})
        assert np.array_equal(alone[0], together[i])


@pytest.mark.parametrize("scale_um", [0.3, 0.1, 1.7, 40.0])
def test_smooth_background_is_a_sum_of_b_splines_through_random_nodes(scale_um):
    recipe = load_recipe("smlm-2d-dense").replace_all(
        {
            "background": {"kind": "smooth", "photons_per_pixel": 20, "scale_um": scale_um},
            "acquisition.shape": [9, 13],
        }
    )
    key, contrast = Key(8), recipe.background.contrast
    found = background_photons(recipe, key, np.array([6]), {})[0]
    place = (recipe.acquisition.shape, recipe.pixel_nm, scale_um * 1e3)
    exact = smooth_light(key, 6, *place, 20.0, contrast)
    assert found == pytest.approx(exact, rel=1e-6)  # float32
