"""Distributions a recipe may put where a number stands: ``{uniform: [0, 100]}`` and friends.

Every draw inverts the cumulative distribution at one 52-bit uniform variate, so one counter gives
one value and bounds cost nothing (Devroye 1986, *Non-Uniform Random Variate Generation*, II.2).
Their elementary functions are our own, so that a draw has the same bits on every device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, model_serializer, model_validator
from scipy import special

from simscope.device import CPU, Device
from simscope.elementary import Spline, exp, log, normal_quantile
from simscope.errors import did_you_mean
from simscope.recipe.problems import Explained

Floats = npt.NDArray[np.float64]
SPLINE_END, SPLINE_PIECES = 8.5, 1024
SMALLEST_SHARE = 2.0**-54  # half the spacing of uniform variates


class Distribution(BaseModel, metaclass=Explained):
    """A named distribution; written ``{name: {argument: value}}`` or ``{name: [values]}``."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
    name: ClassVar[str] = ""
    host_only: ClassVar[bool] = False
    """Whether quantiles are worked out on the CPU alone."""

    @model_serializer(mode="plain")
    def _serialise(self) -> dict[str, Any]:
        return self.written()

    def written(self) -> dict[str, Any]:
        """The distribution as it stands in a recipe."""
        arguments = {
            field: getattr(self, field)
            for field in type(self).model_fields
            if getattr(self, field) is not None
        }
        return {
            self.name: {
                key: list(value) if isinstance(value, tuple) else value
                for key, value in arguments.items()
            }
        }

    def label(self) -> str:
        """Short text for messages, such as ``uniform(low=0, high=100)``."""
        arguments = self.written()[self.name]
        return f"{self.name}({', '.join(f'{key}={value}' for key, value in arguments.items())})"

    def support(self) -> tuple[float, float]:
        """Smallest and largest value that can be drawn."""
        raise NotImplementedError

    def likely_range(self) -> tuple[float, float]:
        """Range that all but 2e-12 of the draws lie in; limits are checked against it."""
        low, high = self.quantile(np.array([1e-12, 1 - 1e-12]))
        return float(low), float(high)

    def mean(self) -> float:
        """Expected value (of the unbounded form where bounds are given)."""
        raise NotImplementedError

    def quantile(self, probability: Any, device: Device = CPU) -> Any:
        """Value below which the given share of draws falls; same shape as ``probability``.

        Both float64 on the device, which must be the CPU where the distribution is ``host_only``.
        """
        raise NotImplementedError


class Uniform(Distribution):
    """Uniform between ``low`` and ``high``."""

    name: ClassVar[str] = "uniform"
    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Uniform:
        _require_ordered(self.name, self.low, self.high)
        return self

    def support(self) -> tuple[float, float]:
        return self.low, self.high

    def mean(self) -> float:
        return 0.5 * (self.low + self.high)

    def quantile(self, probability: Any, device: Device = CPU) -> Any:
        return self.low + (self.high - self.low) * probability


class SolidAngle(Distribution):
    """Polar angle [deg] of directions spread evenly over a sphere, between ``low`` and ``high``.

    Even over the sphere means even in the cosine of the angle.
    """

    name: ClassVar[str] = "solid_angle"
    host_only: ClassVar[bool] = True
    low: float
    high: float

    @model_validator(mode="after")
    def _on_the_sphere(self) -> SolidAngle:
        _require_ordered(self.name, self.low, self.high)
        if self.low < 0.0 or self.high > 180.0:
            raise ValueError(
                f"solid_angle [{self.low:g}, {self.high:g}] leaves [0, 180] degrees: polar angles "
                "end there"
            )
        return self

    def support(self) -> tuple[float, float]:
        return self.low, self.high

    def mean(self) -> float:
        if self.low == self.high:
            return self.low
        low, high = math.radians(self.low), math.radians(self.high)
        moment = math.sin(high) - high * math.cos(high) - math.sin(low) + low * math.cos(low)
        return math.degrees(moment / (math.cos(low) - math.cos(high)))

    def quantile(self, probability: Any, device: Device = CPU) -> Any:
        low, high = math.cos(math.radians(self.low)), math.cos(math.radians(self.high))
        angle: Floats = np.degrees(np.arccos(np.clip(low + (high - low) * probability, -1.0, 1.0)))
        return np.clip(angle, self.low, self.high)


class LogUniform(Distribution):
    """Uniform in the logarithm between ``low`` > 0 and ``high``."""

    name: ClassVar[str] = "loguniform"
    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> LogUniform:
        _require_positive(self.name, low=self.low)
        _require_ordered(self.name, self.low, self.high)
        return self

    def support(self) -> tuple[float, float]:
        return self.low, self.high

    def mean(self) -> float:
        if self.low == self.high:
            return self.low
        return (self.high - self.low) / math.log(self.high / self.low)

    def quantile(self, probability: Any, device: Device = CPU) -> Any:
        ratio = math.log(self.high / self.low)
        return self.low * exp(ratio * probability, device)


class _Bounded(Distribution):
    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _bounds_ordered(self) -> _Bounded:
        low, high = self.support()
        _require_ordered(self.name, low, high)
        if self._cdf(high) - self._cdf(low) < 1e-9:
            raise ValueError(f"{self.label()}: bounds hold no probability; widen min and max")
        return self

    def support(self) -> tuple[float, float]:
        natural_low, natural_high = self._natural_support()
        low = natural_low if self.min is None else max(self.min, natural_low)
        high = natural_high if self.max is None else min(self.max, natural_high)
        return low, high

    def quantile(self, probability: Any, device: Device = CPU) -> Any:
        low, high = self.support()
        share_low, share_high = self._cdf(low), self._cdf(high)
        value = self._inverse(share_low + (share_high - share_low) * probability, device)
        return device.xp.clip(value, low, high)

    def _natural_support(self) -> tuple[float, float]:
        return 0.0, math.inf

    def _cdf(self, value: float) -> float:
        raise NotImplementedError

    def _inverse(self, probability: Any, device: Device) -> Any:
        raise NotImplementedError


class _MeanNamed(Distribution):
    """A distribution whose argument ``mean`` is stored as ``mean_``, beside the method."""

    mean_: float

    @model_validator(mode="before")
    @classmethod
    def _store_mean(cls, data: Any) -> Any:
        if isinstance(data, dict) and "mean" in data:
            data = dict(data)
            data["mean_"] = data.pop("mean")
        return data

    def written(self) -> dict[str, Any]:
        arguments = super().written()[self.name]
        return {self.name: {key.rstrip("_"): value for key, value in arguments.items()}}

    def mean(self) -> float:
        return self.mean_


class Normal(_MeanNamed, _Bounded):
    """Normal with ``mean`` and ``std``, truncated to ``min`` and ``max`` where given."""

    name: ClassVar[str] = "normal"
    std: float

    @model_validator(mode="after")
    def _positive(self) -> Normal:
        _require_positive(self.name, std=self.std)
        return self

    def _natural_support(self) -> tuple[float, float]:
        return -math.inf, math.inf

    def _cdf(self, value: float) -> float:
        return float(special.ndtr((value - self.mean_) / self.std)) if self.std > 0 else 0.0

    def _inverse(self, probability: Any, device: Device) -> Any:
        return self.mean_ + self.std * normal_quantile(probability, device)


class LogNormal(_Bounded):
    """Log-normal with ``median`` and the standard deviation ``sigma`` of its logarithm."""

    name: ClassVar[str] = "lognormal"
    median: float
    sigma: float

    @model_validator(mode="after")
    def _positive(self) -> LogNormal:
        _require_positive(self.name, median=self.median, sigma=self.sigma)
        return self

    def mean(self) -> float:
        return self.median * math.exp(0.5 * self.sigma**2)

    def _cdf(self, value: float) -> float:
        if value <= 0 or self.median <= 0 or self.sigma <= 0:
            return 0.0
        return float(special.ndtr(math.log(value / self.median) / self.sigma))

    def _inverse(self, probability: Any, device: Device) -> Any:
        logarithm = self.sigma * normal_quantile(probability, device)
        return self.median * exp(logarithm, device)


class Gamma(_Bounded):
    """Gamma with ``shape`` and ``scale`` (mean = shape * scale)."""

    name: ClassVar[str] = "gamma"
    shape: float
    scale: float

    @model_validator(mode="after")
    def _positive(self) -> Gamma:
        _require_positive(self.name, shape=self.shape, scale=self.scale)
        return self

    def mean(self) -> float:
        return self.shape * self.scale

    def _cdf(self, value: float) -> float:
        if self.shape <= 0 or self.scale <= 0:
            return 0.0
        return float(special.gammainc(self.shape, max(value, 0.0) / self.scale))

    def _inverse(self, probability: Any, device: Device) -> Any:
        normal = normal_quantile(probability, device)
        logarithm = log_gamma_quantile(self.shape)(normal, device)
        return self.scale * exp(logarithm, device)


class Exponential(_MeanNamed, _Bounded):
    """Exponential with ``mean``."""

    name: ClassVar[str] = "exponential"

    @model_validator(mode="after")
    def _positive(self) -> Exponential:
        _require_positive(self.name, mean=self.mean_)
        return self

    def _cdf(self, value: float) -> float:
        return -math.expm1(-max(value, 0.0) / self.mean_) if self.mean_ > 0 else 0.0

    def _inverse(self, probability: Any, device: Device) -> Any:
        left = device.xp.maximum(1.0 - probability, SMALLEST_SHARE)
        return -self.mean_ * log(left, device)


class Poisson(_MeanNamed):
    """Poisson counts with ``mean`` (0 to 1e7)."""

    name: ClassVar[str] = "poisson"
    host_only: ClassVar[bool] = True

    @model_validator(mode="after")
    def _in_range(self) -> Poisson:
        if not 0 <= self.mean_ <= 1e7:
            raise ValueError(f"poisson mean={self.mean_:g} lies outside [0, 1e7]: change it")
        return self

    def support(self) -> tuple[float, float]:
        return 0.0, math.inf if self.mean_ > 0 else 0.0

    def quantile(self, probability: Any, device: Device = CPU) -> Any:
        return poisson_quantile(np.full(np.shape(probability), self.mean_), probability)


class Choice(Distribution):
    """One of ``values``, equally likely or with ``weights``."""

    name: ClassVar[str] = "choice"
    values: tuple[float, ...]
    weights: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _sensible(self) -> Choice:
        if not self.values or not all(map(math.isfinite, self.values)):
            raise ValueError("choice needs at least one finite value: {choice: [1.0, 2.0]}")
        if self.weights is not None:
            if len(self.weights) != len(self.values):
                raise ValueError(
                    f"choice has {len(self.values)} values and {len(self.weights)} weights: "
                    "give one weight a value"
                )
            if min(self.weights) < 0 or not 0 < sum(self.weights) < math.inf:
                raise ValueError(f"choice weights={list(self.weights)} must be >= 0 and not all 0")
        return self

    def support(self) -> tuple[float, float]:
        return min(self.values), max(self.values)

    def mean(self) -> float:
        return float(np.average(self.values, weights=self.weights))

    def quantile(self, probability: Any, device: Device = CPU) -> Any:
        weights = np.ones(len(self.values)) if self.weights is None else np.array(self.weights)
        edges = device.put(np.cumsum(weights) / weights.sum())
        index = device.xp.searchsorted(edges, probability, side="right")
        values = device.put(self.values, np.float64)
        return values[device.xp.minimum(index, len(self.values) - 1)]


KINDS: dict[str, type[Distribution]] = {
    kind.name: kind
    for kind in (
        Uniform,
        SolidAngle,
        LogUniform,
        Normal,
        LogNormal,
        Gamma,
        Exponential,
        Poisson,
        Choice,
    )
}


def distribution_schema() -> dict[str, Any]:
    """JSON schema of a number or a distribution, for editors."""
    kinds: list[dict[str, Any]] = [
        {
            "type": "object",
            "properties": {name: {"description": kind.__doc__}},
            "required": [name],
            "additionalProperties": False,
        }
        for name, kind in KINDS.items()
    ]
    return {"anyOf": [{"type": "number"}, *kinds]}


@lru_cache(maxsize=16)
def log_gamma_quantile(shape: float) -> Spline:
    """Logarithm of the gamma quantile of scale 1 against the normal quantile of its probability.

    Exact at ``SPLINE_PIECES`` + 1 places over all a uniform variate can give; smooth enough for a
    relative error below 2e-10 between them, far below the float32 of what is drawn. Below 1e-290
    the first term of the series, ``p = q^shape / Gamma(shape + 1)``, is exact.
    """
    from scipy.interpolate import CubicSpline  # slow to import

    normal = np.linspace(-SPLINE_END, SPLINE_END, SPLINE_PIECES + 1)
    below = special.gammaincinv(shape, special.ndtr(normal))
    above = special.gammainccinv(shape, special.ndtr(-normal))
    exact = np.where(normal < 0.0, below, above)
    series = (special.log_ndtr(normal) + special.gammaln(shape + 1.0)) / shape
    logarithm = np.where(exact > 1e-290, np.log(np.maximum(exact, 1e-290)), series)
    pieces = np.ascontiguousarray(CubicSpline(normal, logarithm).c)
    return Spline(-SPLINE_END, 2 * SPLINE_END / SPLINE_PIECES, pieces)


def poisson_quantile(mean: Floats, probability: Floats) -> Floats:
    """Poisson counts at the given cumulative probabilities; broadcast over ``mean``."""
    mean = np.broadcast_to(np.asarray(mean, np.float64), np.shape(probability))
    guess = np.ceil(special.pdtrik(probability, np.maximum(mean, 1e-300)) - 1e-9)
    count = np.maximum(np.nan_to_num(guess, nan=0.0), 0.0)
    lower = np.maximum(count - 1, 0.0)
    count = np.where(special.pdtr(lower, mean) >= probability, lower, count)
    return np.where(mean > 0, count, 0.0)


def parse_distribution(value: Any) -> Distribution:
    """The distribution written as ``{name: {...}}`` or ``{name: [...]}``.

    Raises
    ------
    ValueError
        If the name is unknown or the arguments do not fit.
    """
    if isinstance(value, Distribution):
        return value
    if not isinstance(value, dict) or len(value) != 1:
        raise ValueError(
            f"{value!r} is neither a number nor one distribution such as "
            "{uniform: [0, 1]}; known: " + ", ".join(KINDS)
        )
    ((name, arguments),) = value.items()
    if name not in KINDS:
        hint = did_you_mean(name, KINDS) or "known: " + ", ".join(KINDS)
        raise ValueError(f"unknown distribution {name!r}; {hint}")
    kind = KINDS[name]
    named = _named_arguments(kind, arguments)
    for argument, given in named.items() if isinstance(named, dict) else ():
        for part in given if isinstance(given, list | tuple) else [given]:
            if isinstance(part, bool | str):
                raise ValueError(f"{name} {argument}={given!r} is not a number: give numbers")
    return kind.model_validate(named)


def _named_arguments(kind: type[Distribution], arguments: Any) -> Any:
    if isinstance(arguments, dict):
        return arguments
    values = list(arguments) if isinstance(arguments, Sequence) else [arguments]
    if isinstance(arguments, str):
        raise ValueError(f"{kind.name} arguments {arguments!r} are text: give numbers")
    if kind is Choice:
        return {"values": values}
    fields = [name for name in kind.model_fields if name not in ("min", "max")]
    if len(values) != len(fields):
        shown = ", ".join(field.rstrip("_") for field in fields)
        raise ValueError(
            f"{kind.name} takes {len(fields)} numbers ({shown}), not {len(values)}: "
            f"write {{{kind.name}: [{shown}]}}"
        )
    return dict(zip(fields, values, strict=True))


def _require_ordered(name: str, low: float, high: float) -> None:
    if math.isnan(low) or math.isnan(high) or low > high:
        raise ValueError(f"{name} low={low:g} is above high={high:g}: swap them")
    if name in ("uniform", "loguniform") and not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{name} bounds [{low:g}, {high:g}] are not finite: give finite bounds")


def _require_positive(name: str, **values: float) -> None:
    for argument, value in values.items():
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"{name} {argument}={value:g} must be above 0 and finite: change it")
