"""Molecules shine as their states allow."""

import numpy as np
import pytest
from scipy import stats

from simscope import sample as sample_of
from simscope.errors import SampleError
from simscope.keys import Key
from simscope.recipe import Recipe
from simscope.recipe.draws import draw_samples
from simscope.sample import place
from simscope.sample.chains import BLEACHED, DARK, OFF, ON, chains_of

FALSE_ALARM = 1e-6
NONE = dict.fromkeys(
    (
        "on_to_dark_per_s",
        "dark_to_on_per_s",
        "on_to_off_per_s",
        "off_to_on_per_s",
        "on_to_bleached_per_s",
    ),
    0.0,
)


def recipe(photophysics, frames=1, count=200, **acquisition):
    return Recipe.from_dict(
        {
            "camera": {"kind": "ccd"},
            "acquisition": {"shape": [32, 32], "frames": frames, **acquisition},
            "structure": {"kind": "uniform", "count": count},
            "photophysics": photophysics,
        }
    )


def shine(made, samples=3, first=0, last=None, seed=1, carried=None):
    key, indices = Key(seed), np.arange(samples)
    drawn = draw_samples(made, key, indices)
    molecules = place(made, key, indices, drawn)
    last = made.acquisition.frames if last is None else last
    return sample_of.shine(made, key, indices, drawn, molecules, first, last, carried=carried)


def test_a_molecule_that_never_switches_gives_flux_times_exposure():
    made = recipe(
        {"kind": "blinking", "photons_per_s": 5000, "start": "on", **NONE},
        frames=4,
        exposure_ms=10,
        interval_ms=25,
    )
    shining = shine(made)
    assert len(shining.photons) == 3 * 200 * 4
    assert np.allclose(shining.photons, 50.0, rtol=1e-6)


def test_switching_in_mid_frame_gives_part_of_the_photons():
    rates = NONE | {"on_to_bleached_per_s": 20.0}
    made = recipe(
        {"kind": "blinking", "photons_per_s": 1000, "start": "on", **rates},
        frames=40,
        exposure_ms=10,
        count=4000,
    )
    shining = shine(made, samples=1)
    part = shining.photons < 10 * (1 - 1e-6)
    assert 0.9 * 4000 < part.sum() <= 4000
    # one exponential on-time a molecule: total photons over flux has the exponential law
    on_s = np.bincount(shining.molecule, weights=shining.photons, minlength=4000) / 1000
    law = stats.kstest(on_s[on_s < 0.39], stats.truncexpon(0.39 * 20, scale=1 / 20).cdf)
    assert law.pvalue > FALSE_ALARM


def test_equilibrium_starts_and_stays_at_the_stationary_share():
    rates = NONE | {"on_to_off_per_s": 30.0, "off_to_on_per_s": 10.0}
    rates |= {"on_to_dark_per_s": 40.0, "dark_to_on_per_s": 20.0}
    made = recipe(
        {"kind": "blinking", "photons_per_s": 1000, **rates}, frames=20, exposure_ms=1, count=20000
    )
    shining = shine(made, samples=1)
    share = np.bincount(shining.frame, weights=shining.photons, minlength=20) / 20000
    stationary = 1 / (1 + 3 + 2)
    # binomial spread of the on-share of 20,000 molecules, six deviations
    assert np.allclose(share, stationary, atol=6 * np.sqrt(stationary / 20000))


def test_bleached_molecules_stay_dark():
    rates = NONE | {"on_to_bleached_per_s": 1000.0}
    made = recipe({"kind": "blinking", "photons_per_s": 1000, "start": "on", **rates}, frames=100)
    assert shine(made).frame.max() % 100 < 5


def start_of(start, rates):
    """Probabilities (state,) at time 0, and the rates, of a blinking recipe."""
    made = recipe({"kind": "blinking", "photons_per_s": 1, "start": start, **rates})
    chains = chains_of(made, {}, 1)
    return chains.start[0], chains.rates[0]


def test_start_probabilities_solve_detailed_balance():
    rates = NONE | {"on_to_off_per_s": 3.0, "off_to_on_per_s": 0.5}
    rates |= {"on_to_dark_per_s": 4.0, "dark_to_on_per_s": 8.0}
    chance, generator = start_of("equilibrium", rates)
    generator -= np.diag(generator.sum(axis=1))
    assert np.allclose(chance @ generator, 0, atol=1e-12)
    assert chance.sum() == pytest.approx(1)
    assert start_of("off", rates)[0][OFF] == 1
    assert start_of("on", rates)[0][ON] == 1
    assert start_of("equilibrium", rates | {"dark_to_on_per_s": 0.0})[0][DARK] == 1
    assert start_of("equilibrium", NONE)[0][ON] == 1
    assert chance[BLEACHED] == 0


def test_snapshot_photons_are_fresh_in_every_frame():
    made = recipe({"kind": "snapshot", "photons": {"gamma": [4, 500]}}, frames=5)
    shining = shine(made)
    assert len(np.unique(shining.photons)) > 0.99 * 3 * 200 * 5
    assert shining.photons.mean() == pytest.approx(2000, rel=6 * 0.5 / np.sqrt(3000))


def test_active_fraction_of_the_molecules_shine():
    made = recipe({"kind": "snapshot", "photons": 100, "active_fraction": 0.2}, frames=10)
    shining = shine(made)
    shown = len(shining.photons)
    assert stats.binomtest(shown, 3 * 200 * 10, 0.2).pvalue > FALSE_ALARM


def test_windows_join_to_the_whole_movie():
    rates = NONE | {"on_to_off_per_s": 30.0, "off_to_on_per_s": 10.0}
    made = recipe({"kind": "blinking", "photons_per_s": 1000, **rates}, frames=30)
    whole = shine(made, samples=1)
    carried = {}
    parts = [
        shine(made, samples=1, first=a, last=b, carried=carried) for a, b in ((0, 11), (11, 30))
    ]
    assert np.array_equal(np.concatenate([part.photons for part in parts]), whole.photons)
    assert np.array_equal(np.concatenate([part.molecule for part in parts]), whole.molecule)


def test_switching_too_fast_to_follow_is_refused_with_the_limit():
    rates = NONE | {"on_to_dark_per_s": 1e7, "dark_to_on_per_s": 1e7}
    made = recipe({"kind": "blinking", "photons_per_s": 1, **rates}, exposure_ms=1e6)
    with pytest.raises(SampleError, match="limit is 1e"):
        shine(made)
