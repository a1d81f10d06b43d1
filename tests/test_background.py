"""Background is as bright and as smooth as the recipe says."""

import numpy as np
import pytest
from scipy import stats

from simscope.keys import Key
from simscope.recipe import load_recipe
from simscope.recipe.draws import draw_samples
from simscope.sample import background_photons


def background(samples=400, **written):
    recipe = load_recipe("smlm-2d-dense").replace("background", written)
    indices = np.arange(samples)
    key = Key(3)
    return background_photons(recipe, key, indices, draw_samples(recipe, key, indices))


def test_even_background_is_the_drawn_level():
    level = background(kind="uniform", photons_per_pixel={"uniform": [5, 6]})
    assert level.shape == (400, 1, 1)
    assert 5 <= level.min() < level.max() <= 6


def test_smooth_background_has_the_stated_mean_and_contrast_at_every_pixel():
    level = background(kind="smooth", photons_per_pixel=20.0, contrast=0.4, scale_um=1.5)
    assert level.shape == (400, 64, 64)
    logs = np.log(level / 20.0)
    spread = logs.std(axis=0)
    # standard error of a standard deviation of 400 samples: 0.4 / sqrt(800); six of them
    assert np.abs(spread - 0.4).max() < 6 * 0.4 / np.sqrt(800)
    assert level.mean() == pytest.approx(20.0, rel=0.05)
    assert stats.kstest(logs[:, 30, 30], stats.norm(-0.08, 0.4).cdf).pvalue > 1e-6


def test_smooth_background_is_smooth_on_the_scale_of_a_pixel():
    level = background(20, kind="smooth", photons_per_pixel=20.0, contrast=0.4, scale_um=1.5)
    steps = np.diff(np.log(level), axis=2)
    assert steps.std() < 0.4 * 2 * 0.1 / 1.5


def test_samples_have_different_smooth_backgrounds():
    level = background(2, kind="smooth", photons_per_pixel=20.0)
    assert np.abs(level[0] - level[1]).max() > 1


def test_smooth_background_of_a_sample_is_the_same_bits_in_any_batch():
    recipe = load_recipe("smlm-2d-dense").replace(
        "background", {"kind": "smooth", "photons_per_pixel": 20.0}
    )
    recipe = recipe.replace("acquisition.shape", [121, 97])
    key, indices = Key(3), np.arange(16)
    together = background_photons(recipe, key, indices, draw_samples(recipe, key, indices))
    for i in (0, 7, 15):
        alone = background_photons(recipe, key, indices[[i]], {})
        assert np.array_equal(alone[0], together[i])
