"""What a recipe says of when molecules shine: snapshots, blinking, any scheme of states."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from simscope.errors import did_you_mean
from simscope.recipe.base import Model, PerEmitter, PerSample, number
from simscope.recipe.distributions import Distribution
from simscope.recipe.volumes import Steady

MOST_STATES = 8
STATE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
EQUILIBRIUM = "equilibrium"


class Snapshot(Model):
    """Every frame is on its own: each molecule shines with a freshly drawn number of photons."""

    kind: Literal["snapshot"] = "snapshot"
    photons: PerEmitter = number(
        "mean photons of a molecule in a frame, drawn for every molecule and frame",
        unit="photons",
        ge=0,
        le=1e7,
    )
    active_fraction: PerSample = number(
        "share of the molecules that shine in a frame", unit="1", default=1.0, ge=0, le=1
    )


class Blinking(Model):
    """Continuous-time Markov chain: on, dark (short), off (long), bleached."""

    kind: Literal["blinking"] = "blinking"
    photons_per_s: PerEmitter = number(
        "photon flux at the camera while on, drawn once per molecule",
        unit="photons/s",
        gt=0,
        le=1e9,
    )
    on_to_dark_per_s: PerSample = number("rate", unit="1/s", default=0.0, ge=0, le=1e7)
    dark_to_on_per_s: PerSample = number("rate", unit="1/s", default=0.0, ge=0, le=1e7)
    on_to_off_per_s: PerSample = number("rate", unit="1/s", default=10.0, ge=0, le=1e7)
    off_to_on_per_s: PerSample = number("rate", unit="1/s", default=0.1, ge=0, le=1e7)
    on_to_bleached_per_s: PerSample = number("rate", unit="1/s", default=0.0, ge=0, le=1e7)
    start: Literal["equilibrium", "on", "off"] = Field(
        "equilibrium",
        description="state at time 0; equilibrium ignores bleaching",
    )


def _form_of_start(start: Any) -> str:
    """Which of its two forms a start is meant to have, so that errors speak of that one alone."""
    return "dict[str,float]" if isinstance(start, dict) else "str"


class Markov(Model):
    """Continuous-time Markov chain of 2 to 8 states with any rates between them."""

    kind: Literal["markov"] = "markov"
    states: tuple[str, ...] = Field(description="names of the states, 2 to 8")
    photons_per_s: PerEmitter = number(
        "photon flux at the camera in a state of brightness 1, drawn once per molecule",
        unit="photons/s",
        gt=0,
        le=1e9,
    )
    brightness: dict[str, PerSample] = number(
        "flux of a state relative to photons_per_s; states not named are dark",
        unit="1",
        ge=0,
        le=1,
    )
    rates_per_s: dict[str, dict[str, PerSample]] = number(
        "transition rates as {from: {to: rate}}, or as a matrix with a row for each state left",
        unit="1/s",
        ge=0,
        le=1e7,
    )
    start: Annotated[
        Annotated[str, Tag("str")] | Annotated[dict[str, float], Tag("dict[str,float]")],
        Discriminator(_form_of_start),
    ] = Field(
        description="at time 0: a state, probabilities of states, or equilibrium, the stationary "
        "distribution of the scheme without the states that have no way out",
    )

    @model_validator(mode="before")
    @classmethod
    def _matrix_by_names(cls, data: Any) -> Any:
        """Rates given as a matrix, named by their states; zeros are left out."""
        rates = data.get("rates_per_s") if isinstance(data, dict) else None
        if not isinstance(rates, list | tuple):
            return data
        states = data.get("states")
        names = tuple(states) if isinstance(states, list | tuple) else ()
        rows = [row if isinstance(row, list | tuple) else () for row in rates]
        if len(rows) != len(names) or any(len(row) != len(names) for row in rows):
            raise ValueError(
                f"rates_per_s is no matrix of {len(names)} rows and columns: give one of each for "
                f"every state of {', '.join(map(str, names)) or 'states'}"
            )
        named = {
            start: {to: rate for to, rate in zip(names, row, strict=True) if rate != 0}
            for start, row in zip(names, rows, strict=True)
        }
        return data | {"rates_per_s": {start: row for start, row in named.items() if row}}

    @model_validator(mode="after")
    def _scheme_sensible(self) -> Markov:
        self._check_states()
        for name in self.brightness:
            self._check_known(name, "brightness")
        if not any(_may_be_positive(value) for value in self.brightness.values()):
            raise ValueError("no state is bright: give one of them a brightness above 0")
        for start, row in self.rates_per_s.items():
            self._check_known(start, "rates_per_s")
            for to in row:
                self._check_known(to, f"rates_per_s.{start}")
            if start in row:
                raise ValueError(
                    f"rates_per_s.{start}.{start} leads from a state to itself: leave it out "
                    "(in a matrix the diagonal is 0)"
                )
        self._check_start()
        return self

    def _check_states(self) -> None:
        count = len(self.states)
        if not 2 <= count <= MOST_STATES:
            raise ValueError(f"{count} states lie outside [2, {MOST_STATES}]: give 2 to 8 of them")
        if len(set(self.states)) < count:
            raise ValueError(f"states {list(self.states)} repeat a name: give each its own")
        for name in self.states:
            if not STATE_NAME.fullmatch(name) or name == EQUILIBRIUM:
                raise ValueError(
                    f"state {name!r} is no name for a state: use a letter, then letters, digits, "
                    f"- or _, 40 at most, and not {EQUILIBRIUM!r}"
                )

    def _check_known(self, name: str, where: str) -> None:
        if name not in self.states:
            hint = did_you_mean(name, self.states) or f"states are {', '.join(self.states)}"
            raise ValueError(f"{where} names an unknown state {name!r}: {hint}")

    def _check_start(self) -> None:
        if isinstance(self.start, str):
            if self.start != EQUILIBRIUM:
                self._check_known(self.start, "start")
            return
        for name, share in self.start.items():
            self._check_known(name, "start")
            if not 0 <= share <= 1:
                raise ValueError(f"start.{name}={share:g} lies outside [0, 1]: it is a probability")
        total = sum(self.start.values())
        if abs(total - 1) > 1e-6:
            raise ValueError(f"probabilities in start sum to {total:g}: make them sum to 1")


def _may_be_positive(value: float | Distribution) -> bool:
    return (value.likely_range()[1] if isinstance(value, Distribution) else value) > 0


Photophysics = Annotated[Snapshot | Blinking | Markov | Steady, Field(discriminator="kind")]
