"""Molecules shine as their states allow."""

import re
from pathlib import Path

import numpy as np
import pytest
from gpu_stand_in import under_simulator
from scipy import stats

from simscope import sample as sample_of
from simscope.errors import RecipeError, SampleError
from simscope.keys import Key
from simscope.recipe import Recipe
from simscope.recipe.draws import draw_samples, parameter_units
from simscope.recipe.text import parse_yaml
from simscope.sample import place
from simscope.sample.chains import BLEACHED, DARK, OFF, ON, bright_share, chains_of, equilibrium

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


# ---- schemes of one's own ----

SCHEME = {
    "kind": "markov",
    "states": ["on", "dim", "off", "bleached"],
    "photons_per_s": 1000,
    "brightness": {"on": 1, "dim": 0.25},
    "rates_per_s": {
        "on": {"dim": 30.0, "off": 5.0, "bleached": 0.5},
        "dim": {"on": 60.0},
        "off": {"on": {"uniform": [2, 4]}},
    },
    "start": "equilibrium",
}


def scheme(frames=20, count=200, exposure_ms=10, **changes):
    return recipe(SCHEME | changes, frames=frames, count=count, exposure_ms=exposure_ms)


def test_blinking_is_a_scheme_of_four_states():
    rates = NONE | {"on_to_off_per_s": 30.0, "off_to_on_per_s": 10.0, "on_to_bleached_per_s": 2.0}
    rates |= {"on_to_dark_per_s": 4.0, "dark_to_on_per_s": 8.0}
    flux = {"gamma": [4, 300]}
    blinking = recipe({"kind": "blinking", "photons_per_s": flux, **rates}, frames=30)
    written_out = scheme(
        30,
        states=["on", "dark", "off", "bleached"],
        photons_per_s=flux,
        brightness={"on": 1},
        rates_per_s=[[0, 4, 30, 2], [8, 0, 0, 0], [10, 0, 0, 0], [0, 0, 0, 0]],
    )
    a, b = shine(blinking), shine(written_out)
    assert np.array_equal(a.molecule, b.molecule)
    assert np.array_equal(a.frame, b.frame)
    assert np.array_equal(a.photons, b.photons)
    assert a.photons.size > 1000


def test_photons_add_up_states_of_different_brightness():
    # 4 s from the dim state, which lights up once for good: 1000/s after, 250/s before
    made = scheme(
        400,
        4000,
        rates_per_s={"dim": {"on": 5.0}},
        start="dim",
    )
    shining = shine(made, samples=1)
    photons = np.bincount(shining.molecule, weights=shining.photons, minlength=4000)
    waited_s = (4000 - photons) / 750
    # float32 photons: 400 frames of 10 photons, each to 6e-7
    assert waited_s.min() > -1e-5
    law = stats.kstest(waited_s[waited_s < 3.9], stats.truncexpon(3.9 * 5, scale=1 / 5).cdf)
    assert law.pvalue > FALSE_ALARM


def test_rates_drawn_per_sample_are_labels_that_hold():
    made = scheme(photons_per_s=1)
    assert list(made.drawn("sample")) == ["photophysics.rates_per_s.off.on"]
    drawn = draw_samples(made, Key(3), np.arange(5))
    rates = chains_of(made, drawn, 5).rates
    assert np.array_equal(rates[:, 2, 0], drawn["photophysics.rates_per_s.off.on"])
    assert np.unique(rates[:, 2, 0]).size == 5
    assert np.all(rates[:, 0, 1] == 30.0)


def test_brightness_may_be_drawn():
    made = scheme(brightness={"dim": {"uniform": [0.1, 0.2]}}, rates_per_s={}, start="dim")
    shining = shine(made)
    drawn = draw_samples(made, Key(1), np.arange(3))["photophysics.brightness.dim"]
    assert np.allclose(shining.photons[::20], 10 * drawn[shining.frame[::20] // 20], rtol=1e-6)


def test_a_sample_does_not_depend_on_those_beside_it():
    made = scheme()
    together, alone = shine(made, samples=3), shine(made, samples=1)
    first = together.frame < 20
    assert np.array_equal(together.photons[first], alone.photons)
    assert np.array_equal(together.molecule[first], alone.molecule)


def test_molecules_start_as_told():
    rates = {"on": {"off": 1.0}}
    given = scheme(rates_per_s=rates, start={"off": 0.75, "dim": 0.25})
    assert chains_of(given, {}, 2).start.tolist() == [[0, 0.25, 0.75, 0]] * 2
    dim = scheme(rates_per_s=rates, start="dim")
    assert chains_of(dim, {}, 1).start.tolist() == [[0, 1, 0, 0]]


@pytest.mark.parametrize("fast", [1.0, 1e7])
def test_equilibrium_is_left_alone_by_the_rates(fast):
    # shares of entirely different size keep all their digits
    rates = np.array([[0, fast, 1e-3, 0], [2, 0, 3, 0], [1e-4, 5, 0, 0], [0, 0, 0, 0]])
    share = equilibrium(rates, ("a", "b", "c", "d"))
    inflow, outflow = share @ rates, share * rates.sum(axis=1)
    np.testing.assert_allclose(inflow[:3], outflow[:3], rtol=1e-13)
    assert share[3] == 0
    assert share.sum() == pytest.approx(1, rel=1e-15)


def test_equilibrium_leaves_out_states_without_exit_and_passes_through_transient_ones():
    # a -> b <-> c, b -> bleached: bleaching is ignored, a is left behind
    rates = np.array([[0, 1, 0, 0], [0, 0, 2, 7], [0, 4, 0, 0], [0, 0, 0, 0.0]])
    share = equilibrium(rates, ("a", "b", "c", "bleached"))
    np.testing.assert_allclose(share, [0, 2 / 3, 1 / 3, 0], rtol=1e-14)


def test_equilibria_that_depend_on_the_past_are_refused():
    apart = [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]
    with pytest.raises(SampleError, match="for ever in on and dim or in off and bleached, so"):
        shine(scheme(rates_per_s=apart))
    with pytest.raises(SampleError, match="no state has a way out"):
        shine(scheme(rates_per_s={}))


def test_rows_to_expect_follow_the_brightest_time():
    # all start on and go off for good: every molecule has a row at first
    fading = scheme(rates_per_s={"on": {"off": 50.0}}, start="on")
    assert bright_share(fading) == 1.0
    # in equilibrium: the share of time that is bright, plus 0.01 s of lighting up
    rates = {"on": {"off": 40.0}, "off": {"on": 1.0}}
    steady = scheme(rates_per_s=rates)
    assert bright_share(steady) == pytest.approx((1 + 0.01 * 40) / 41, rel=1e-9)
    shining = shine(scheme(rates_per_s=rates, count=200_000), samples=1)
    rows = len(shining.photons) / 20 / 200_000
    # 44,000 visits of 3.5 rows each, spread nearly as widely: 0.6 %, six deviations
    assert rows == pytest.approx(bright_share(steady), rel=0.036)


def test_light_has_the_same_bits_on_a_gpu():
    code = """
import numpy as np
from simscope import sample as sample_of
from simscope.device import CPU, device
from simscope.keys import Key
from simscope.recipe.draws import draw_samples, parameter_units
from simscope.recipe.text import parse_yaml
from test_photophysics import NONE, recipe, scheme

rates = NONE | {"on_to_off_per_s": 30.0, "off_to_on_per_s": 10.0, "on_to_bleached_per_s": 3.0}
flux = {"gamma": [4, 300]}
for made in (
    scheme(12, 40, exposure_ms=20, photons_per_s=flux),
    recipe({"kind": "blinking", "photons_per_s": flux, **rates}, 12, 40, exposure_ms=20),
    recipe({"kind": "snapshot", "photons": 100.0, "active_fraction": 0.3}, 12, 8),
    recipe({"kind": "snapshot", "photons": {"gamma": [4, 500]}}, 12, 4),
):
    key, indices = Key(1), np.array([4, 5, 6])
    drawn = draw_samples(made, key, indices)
    for first, last in ((0, 5), (5, 6), (6, 12)):
        if first == 0:
            carried = {CPU: {}, device("cuda"): {}}
        light = []
        for where, kept in carried.items():
            molecules = where.put_all(sample_of.place(made, key, indices, drawn))
            light.append(sample_of.shine(
                made, key, indices, drawn, molecules, first, last, carried=kept, device=where
            ))
        here, there = light
        for name in ("frame", "molecule", "photons", "offsets"):
            a, b = getattr(here, name), getattr(there, name)
            assert a.dtype == b.dtype and np.array_equal(a, b), (name, made.photophysics.kind)
    print(made.photophysics.kind, len(here.photons) > 20)
"""
    assert under_simulator(code).split() == [
        "markov", "True", "blinking", "True", "snapshot", "True", "snapshot", "True",
    ]  # fmt: skip


MISTAKES = [
    ({"states": list("abcdefghi")}, "9 states lie outside [2, 8]"),
    ({"states": ["on"]}, "1 states lie outside [2, 8]"),
    ({"states": ["on", "dim", "off", "off"]}, "repeat a name"),
    ({"states": ["on", "dim", "off", "a.b"]}, "'a.b' is no name for a state"),
    ({"states": ["on", "dim", "off", "equilibrium"]}, "not 'equilibrium'"),
    ({"brightness": {"om": 1}}, "unknown state 'om': did you mean 'on'?"),
    ({"brightness": {"off": 0}}, "no state is bright"),
    ({"brightness": {"on": 1.5}}, "brightness.on=1.5 is above the limit 1"),
    ({"rates_per_s": {"on": {"of": 1}}}, "rates_per_s.on names an unknown state 'of'"),
    ({"rates_per_s": {"one": {"on": 1}}}, "rates_per_s names an unknown state 'one'"),
    ({"rates_per_s": {"on": {"on": 1}}}, "rates_per_s.on.on leads from a state to itself"),
    ({"rates_per_s": [[0] * 4, [0, 5] + [0] * 2] + [[0] * 4] * 2}, "dim.dim leads from a state to"),
    ({"rates_per_s": [[0, 1], [1, 0]]}, "no matrix of 4 rows and columns"),
    ({"rates_per_s": {"on": {"off": -1}}}, "rates_per_s.on.off=-1 is below the limit 0 1/s"),
    ({"rates_per_s": {"on": {"off": "x"}}}, "rates_per_s.on.off: 'x' is not a number"),
    ({"rates_per_s": {"on": {"off": np.inf}}}, "rates_per_s.on.off=inf is not finite"),
    ({"rates_per_s": {"on": {"off": {"normal": [5, 5]}}}}, "is below the limit 0 1/s: bound"),
    ({"start": "onn"}, "start names an unknown state 'onn': did you mean 'on'?"),
    ({"start": {"on": 0.5}}, "sum to 0.5: make them sum to 1"),
    ({"start": {"on": 2}}, "start.on=2 lies outside [0, 1]"),
]


@pytest.mark.parametrize(("change", "words"), MISTAKES, ids=[words for _, words in MISTAKES])
def test_an_impossible_scheme_is_refused_in_words(change, words):
    with pytest.raises(RecipeError) as caught:
        scheme(**change)
    assert words in str(caught.value)
    assert "photophysics" in str(caught.value)


def test_the_example_of_the_page_shines_as_it_says():
    page = Path(__file__).parents[1] / "docs" / "photophysics.md"
    (block,) = re.findall(r"```yaml\n(.*?)```", page.read_text("utf8"), re.DOTALL)
    made = recipe(parse_yaml(block, page.name)["photophysics"], frames=10)
    assert list(made.drawn("sample")) == ["photophysics.rates_per_s.on.off"]
    assert 0 < bright_share(made) < 0.1


def test_a_scheme_survives_yaml_and_gets_new_rates():
    made = scheme(start={"on": 0.25, "off": 0.75}, states=["off", "on", "dim", "bleached"])
    again = Recipe.from_yaml(made.to_yaml())
    assert again == made
    assert again.photophysics.states == ("off", "on", "dim", "bleached")
    changed = made.replace("photophysics.rates_per_s.dim.on", {"loguniform": [1, 9]})
    assert parameter_units(changed) == {
        "photophysics.rates_per_s.dim.on": "1/s",
        "photophysics.rates_per_s.off.on": "1/s",
    }
