"""From recipes to Markov chains: rates, brightness and start of every sample, rows to expect."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg

from simscope.errors import SampleError
from simscope.keys import Key
from simscope.recipe import Blinking, Markov, Recipe
from simscope.recipe.draws import draw_samples, per_sample
from simscope.recipe.photophysics import EQUILIBRIUM

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

STATES = ("on", "dark", "off", "bleached")
ON, DARK, OFF, BLEACHED = range(4)
BLINKING_RATES = {
    "on_to_dark_per_s": (ON, DARK),
    "dark_to_on_per_s": (DARK, ON),
    "on_to_off_per_s": (ON, OFF),
    "off_to_on_per_s": (OFF, ON),
    "on_to_bleached_per_s": (ON, BLEACHED),
}
MOST_TRANSITIONS = 1e7
EXAMPLES = 32


@dataclass(frozen=True)
class Chains:
    """Markov chains of samples, all of the same states.

    ``rates`` (sample, from, to) [1/s], diagonal 0; ``brightness`` (sample, state), relative to the
    flux; ``start`` (sample, state), probabilities at time 0.
    """

    rates: Floats
    brightness: Floats
    start: Floats


def chains_of(recipe: Recipe, drawn: dict[str, Floats], samples: int) -> Chains:
    """Chains of samples with these drawn numbers.

    Raises
    ------
    SampleError
        If a molecule would switch more often than can be followed, no state is bright, or there
        is no one equilibrium to start from.
    """
    photophysics = recipe.photophysics
    if isinstance(photophysics, Blinking):
        chains = _of_blinking(photophysics, recipe, drawn, samples)
    else:
        assert isinstance(photophysics, Markov)
        chains = _of_markov(photophysics, recipe, drawn, samples)
    _refuse_too_fast(chains.rates, recipe)
    return chains


def _of_blinking(
    photophysics: Blinking, recipe: Recipe, drawn: dict[str, Floats], samples: int
) -> Chains:
    """The four states of blinking: light in *on* alone, *bleached* left out of equilibrium."""
    rates = np.zeros((samples, 4, 4))
    for name, (start, to) in BLINKING_RATES.items():
        rates[:, start, to] = per_sample(recipe, drawn, f"photophysics.{name}", samples)
    brightness = np.tile(np.eye(4)[ON], (samples, 1))
    if photophysics.start != EQUILIBRIUM:
        at = np.eye(4)[STATES.index(photophysics.start)]
        return Chains(rates, brightness, np.tile(at, (samples, 1)))
    return Chains(rates, brightness, _each(_equilibrium_from_on, rates))


def _equilibrium_from_on(rates: Floats) -> Floats:
    """Long-run distribution of a molecule that was *on* and does not bleach."""
    kept = reached(rates, [ON]) & (np.arange(4) != BLEACHED)
    return stationary(rates, kept, STATES)


def _of_markov(
    photophysics: Markov, recipe: Recipe, drawn: dict[str, Floats], samples: int
) -> Chains:
    """The scheme a recipe writes out, states in its order."""
    states = photophysics.states

    def value(path: str) -> Floats:
        return per_sample(recipe, drawn, f"photophysics.{path}", samples)

    rates = np.zeros((samples, len(states), len(states)))
    for start, row in photophysics.rates_per_s.items():
        for to in row:
            rates[:, states.index(start), states.index(to)] = value(f"rates_per_s.{start}.{to}")
    brightness = np.zeros((samples, len(states)))
    for name in photophysics.brightness:
        brightness[:, states.index(name)] = value(f"brightness.{name}")
    if photophysics.start == EQUILIBRIUM:
        return Chains(rates, brightness, _each(lambda one: equilibrium(one, states), rates))
    given = photophysics.start
    shares = {given: 1.0} if isinstance(given, str) else given
    at = np.array([shares.get(name, 0.0) for name in states])
    return Chains(rates, brightness, np.tile(at, (samples, 1)))


def _each(solve: Callable[[Floats], Floats], rates: Floats) -> Floats:
    """One distribution for every sample; equal neighbours are solved once."""
    start = np.empty(rates.shape[:2])
    for row, matrix in enumerate(rates):
        same = row > 0 and np.array_equal(matrix, rates[row - 1])
        start[row] = start[row - 1] if same else solve(matrix)
    return start


def equilibrium(rates: Floats, states: tuple[str, ...]) -> Floats:
    """Stationary distribution (state,) of a chain without its absorbing states.

    ``rates`` (from, to) [1/s]. States with no way out (bleached) would hold every molecule in the
    end; they are left out with all ways into them, as if none were taken before time 0.

    Raises
    ------
    SampleError
        If no state has a way out, or the rest falls apart so that it has several equilibria.
    """
    kept = np.asarray(rates.any(axis=1))
    if not kept.any():
        raise SampleError(
            "no state has a way out, so there is no equilibrium to start from: "
            "start in a state, or raise a rate above 0"
        )
    return stationary(rates, kept, states)


def stationary(rates: Floats, kept: npt.NDArray[np.bool_], states: tuple[str, ...]) -> Floats:
    """Stationary distribution (state,) of the chain of the ``kept`` states alone.

    Raises SampleError if two sets of states cannot be left, so that it depends on the past.
    """
    inner = np.where(kept[:, None] & kept[None, :], rates, 0.0)
    ways = np.array([reached(inner, [state]) for state in range(len(rates))])
    lasting = kept & np.array([ways[ways[state], state].all() for state in range(len(rates))])
    closed = ways[np.argmax(lasting)]
    if not np.array_equal(closed, lasting):
        names = [
            " and ".join(name for name, one in zip(states, part, strict=True) if one)
            for part in np.unique(ways[lasting], axis=0)[::-1]
        ]
        raise SampleError(
            f"molecules stay for ever in {' or in '.join(names)}, so there is no one equilibrium "
            "to start from: start in a state, give probabilities, or add a rate between them"
        )
    share = np.zeros(len(rates))
    share[closed] = _balanced(inner[np.ix_(closed, closed)])
    return share


def reached(rates: Floats, origins: list[int]) -> npt.NDArray[np.bool_]:
    """Which states can be reached from the origins, those included."""
    found = np.zeros(len(rates), bool)
    found[origins] = True
    for _ in rates:
        found |= (rates[found] > 0).any(axis=0)
    return found


def _balanced(rates: Floats) -> Floats:
    """Stationary distribution of a chain whose states all reach each other.

    Elimination of one state after the other without a subtraction, so that every share is exact
    to rounding however far the rates lie apart (Grassmann, Taksar, Heyman, Oper. Res. 33, 1107
    (1985)).
    """
    rates = rates.copy()
    for last in range(len(rates) - 1, 0, -1):
        rates[:last, last] /= rates[last, :last].sum()
        rates[:last, :last] += np.outer(rates[:last, last], rates[last, :last])
    share = np.ones(len(rates))
    for state in range(1, len(rates)):
        share[state] = share[:state] @ rates[:state, state]
    return share / share.sum()


def _refuse_too_fast(rates: Floats, recipe: Recipe) -> None:
    """Raise SampleError where a molecule would switch more often than can be followed."""
    interval_s, _ = timing_s(recipe)
    duration_s = recipe.acquisition.frames * interval_s
    fastest_per_s = float(rates.sum(axis=2).max())
    switches = fastest_per_s * duration_s
    if switches > MOST_TRANSITIONS:
        raise SampleError(
            f"at {fastest_per_s:g} transitions per second a molecule could switch {switches:.3g} "
            f"times in {duration_s:g} s, the limit is {MOST_TRANSITIONS:g}: lower the rates, or "
            "take fewer or shorter frames (faster switching is a lower photons_per_s)"
        )


def timing_s(recipe: Recipe) -> tuple[float, float]:
    """From frame to frame, and the exposure [s]."""
    acquisition = recipe.acquisition
    interval_ms = acquisition.interval_ms or acquisition.exposure_ms
    return interval_ms * 1e-3, acquisition.exposure_ms * 1e-3


def bright_share(recipe: Recipe) -> float:
    """Most of the molecules likely to shine in one frame of a movie, a share in [0, 1].

    The largest over time and, where numbers are drawn, over 32 example samples: the chance to be
    bright as a frame begins, plus the mean number of times a dark molecule lights up in it.
    """
    drawn = any(path.startswith("photophysics.") for path in recipe.drawn("sample"))
    examples = EXAMPLES if drawn else 1
    chains = chains_of(recipe, draw_samples(recipe, Key(0), np.arange(examples)), examples)
    interval_s, _ = timing_s(recipe)
    share = 0.0
    for rates, brightness, start in zip(chains.rates, chains.brightness, chains.start, strict=True):
        bright = brightness > 0
        seen = np.where(bright, 1.0, interval_s * (rates * bright).sum(axis=1))
        for occupied in _over_time(start, rates, interval_s, recipe.acquisition.frames):
            share = max(share, float(occupied @ seen))
    return min(share, 1.0)


def _over_time(start: Floats, rates: Floats, interval_s: float, frames: int) -> Iterator[Floats]:
    """Occupation of the states after 0, 1, 2, 4, 8 ... frames: start exp(Q t)."""
    yield start
    passed = linalg.expm((rates - np.diag(rates.sum(axis=1))) * interval_s)
    for _ in range(frames.bit_length()):
        yield start @ passed
        passed = passed @ passed
