"""Named, splittable random streams.

A ``Key`` is a path below a seed; BLAKE2b of seed and path gives the 64-bit key of a Philox4x32-10
generator (Salmon et al. 2011, SC'11, "Parallel random numbers: as easy as 1, 2, 3"). Variates are
addressed by counter ``(element, step, sample, draw)``, so no state is ever kept or shared: within
a stream the generator is a bijection, so two counters never give the same block.

Every law takes the block at its counter, which one law alone may ask for: ``normal(3)`` is the
normal quantile of ``uniform(3)``. So a stream serves one law, or laws of different ``draw``.

============ ===================================================================================
law          what it reads
============ ===================================================================================
uniform      two words of its block, 52 bits; so do normal, exponential, poisson, binomial: they
             are its quantiles
gamma        its whole block; round r of rejection takes the block at ``draw + r 2^16``
uniform32    word ``i % 4`` of the block of element ``i // 4``
============ ===================================================================================

Counters are whole numbers in ``[0, 2^32)``, ``draw`` in ``[0, 2^16)``; others are refused.
"""

from __future__ import annotations

import hashlib
import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, SupportsIndex, TypedDict, Unpack

import numpy as np
import numpy.typing as npt

from simscope.device import CPU, Device, placed
from simscope.errors import SimscopeError
from simscope.kernels.binomial import MOST_TRIALS
from simscope.kernels.poisson import LARGEST_MEAN
from simscope.kernels.variates import DRAWS
from simscope.memory import MOST_BYTES

MAX_SEED = 2**63 - 1
MOST_COUNTERS = 2**32
LARGEST_SHAPE = 1e300
LEAST_BYTES = 32  # of a variate and its three counters


class Address(TypedDict, total=False):
    """Where variates stand in a stream besides ``element``, and where they are wanted."""

    sample: npt.ArrayLike
    step: npt.ArrayLike
    draw: int
    device: Device | str


@dataclass(frozen=True)
class Key:
    """One random stream: a seed and the names that lead to it.

    Raises
    ------
    SimscopeError
        If the seed is not an integer in ``[0, 2**63 - 1]``, or a part of the path is empty, no
        text, or holds a ``/``.
    """

    seed: int
    path: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.seed, bool) or not isinstance(self.seed, int | np.integer):
            raise SimscopeError(f"seed={self.seed!r} is not an integer: give a whole number >= 0")
        if not 0 <= self.seed <= MAX_SEED:
            raise SimscopeError(
                f"seed={self.seed} lies outside [0, {MAX_SEED}]: choose a seed in that range"
            )
        object.__setattr__(self, "seed", int(self.seed))
        for part in self.path:
            if not isinstance(part, str) or not part or "/" in part:
                raise SimscopeError(
                    f"stream name {part!r} is empty, no text or holds a '/': use child('a/b')"
                )

    def child(self, name: str) -> Key:
        """Stream below this one, independent of it and of every other; ``a/b`` goes down two."""
        parts = tuple(name.split("/")) if isinstance(name, str) else ()
        if not parts or not all(parts):
            raise SimscopeError(f"stream name {name!r} is no text or has an empty part: use 'a/b'")
        return Key(self.seed, self.path + parts)

    @cached_property
    def words(self) -> tuple[np.uint32, np.uint32]:
        """The Philox key, two uint32 words."""
        text = f"simscope:{self.seed}:" + "/".join(self.path)
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        low, high = np.frombuffer(digest, dtype="<u4")
        return np.uint32(low), np.uint32(high)

    def uniform(self, element: npt.ArrayLike, **address: Unpack[Address]) -> Any:
        """Uniform variates in (0, 1), 52 random bits each, one for every counter, on the device.

        Of all laws: ``element``, ``sample=0``, ``step=0`` and the parameters broadcast against
        each other; ``draw=0`` is one number, ``device=CPU`` where input may and output does lie.

        Raises
        ------
        SimscopeError
            If a counter is not a whole number in ``[0, 2**32)``, ``draw`` not in ``[0, 2**16)``, or
            a parameter impossible.
        """
        return self._variates("uniform_at", np.float64, element, **address)

    def normal(self, element: npt.ArrayLike, **address: Unpack[Address]) -> Any:
        """Standard normal variates, float64, addressed as :meth:`uniform`."""
        return self._variates("normal_at", np.float64, element, **address)

    def exponential(self, element: npt.ArrayLike, **address: Unpack[Address]) -> Any:
        """Exponential variates of mean 1, float64, addressed as :meth:`uniform`."""
        return self._variates("exponential_at", np.float64, element, **address)

    def gamma(
        self, element: npt.ArrayLike, shape: npt.ArrayLike, **address: Unpack[Address]
    ) -> Any:
        """Gamma variates of scale 1, float64, addressed as :meth:`uniform`; ``shape`` above 0.

        By rejection, exact in distribution (Marsaglia and Tsang 2000).
        """
        given = _Given("gamma shape", shape, math.ulp(0.0), LARGEST_SHAPE)
        return self._variates("gamma_at", np.float64, element, given, **address)

    def binomial(
        self,
        element: npt.ArrayLike,
        trials: npt.ArrayLike,
        p: npt.ArrayLike,
        **address: Unpack[Address],
    ) -> Any:
        """How many of ``trials`` succeed, each with probability ``p``; int64, as :meth:`uniform`.

        ``trials`` from 0 to 2^31 - 1, ``p`` from 0 to 1; exact in distribution, by inversion.
        """
        most = _Given("binomial trials", trials, 0, MOST_TRIALS, whole=True)
        chance = _Given("binomial p", p, 0, 1)
        return self._variates("binomial_at", np.int64, element, most, chance, **address)

    def poisson(
        self, element: npt.ArrayLike, mean: npt.ArrayLike, **address: Unpack[Address]
    ) -> Any:
        """Poisson variates, int64, addressed as :meth:`uniform`; ``mean`` from 0 to 1e7.

        Exact in distribution, by inversion.
        """
        given = _Given("poisson mean", mean, 0, LARGEST_MEAN)
        return self._variates("poisson_at", np.int64, element, given, **address)

    def uniform32(
        self,
        shape: SupportsIndex | tuple[SupportsIndex, ...],
        *,
        sample: int = 0,
        step: int = 0,
        draw: int = 0,
        device: Device | str = CPU,
    ) -> Any:
        """Uniform variates in (0, 1), float32 of this shape, 24 random bits each, on the device.

        The fast way to many: elements 0, 1, ... in reading order, four to a block.
        """
        device, sides = placed(device), _sides(shape)
        if math.prod(sides) > MOST_COUNTERS:
            raise SimscopeError(
                f"{math.prod(sides)} variates exceed 2**32: take a stream for each part"
            )
        _check_room(math.prod(sides), 4)
        counter = (_one("step", step), _one("sample", sample), _draw(draw))
        out = device.xp.empty(sides, np.float32)
        blocks = -(-out.size // 4)
        device.run("variates", "fill_uniform32", blocks, out.reshape(-1), *counter, *self.words)
        return out

    def _variates(
        self,
        driver: str,
        dtype: type,
        element: npt.ArrayLike,
        *parameters: _Given,
        sample: npt.ArrayLike = 0,
        step: npt.ArrayLike = 0,
        draw: int = 0,
        device: Device | str = CPU,
        **unknown: Any,
    ) -> Any:
        """Variates of a driver of ``kernels/addressed.py``, one for every counter."""
        if unknown:
            law = driver.removesuffix("_at")
            raise TypeError(
                f"Key.{law}() takes no keyword {', '.join(unknown)}: give "
                f"{', '.join(Address.__annotations__)}"
            )
        device = placed(device)
        xp = device.xp
        words = (_counter("element", element), _counter("step", step), _counter("sample", sample))
        arrays = [given.on(device) for given in (*parameters, *words)]
        shape = _common_shape((*parameters, *words), arrays)
        _check_room(math.prod(shape), 8 * (1 + len(arrays)))
        flat = (_spread(xp, array, shape) for array in arrays)
        out = xp.empty(math.prod(shape), dtype)
        device.run("addressed", driver, out.size, out, *flat, _draw(draw), *self.words)
        return out.reshape(shape)


@dataclass(frozen=True)
class _Given:
    """What a caller handed in, under its name, and the limits it must keep."""

    name: str
    value: npt.ArrayLike
    low: float
    high: float
    whole: bool = False

    def on(self, device: Device) -> Any:
        """The values on the device, int64 or float64; a SimscopeError for the first wrong one.

        An unsigned type that cannot hold more than the limit is not looked through.
        """
        xp = device.xp if isinstance(self.value, device.xp.ndarray) else np
        if isinstance(self.value, Sequence):
            _check_room(len(self.value), LEAST_BYTES)
        try:
            array = xp.asarray(self.value)
        except ValueError as error:
            raise SimscopeError(f"{self.name} is no array ({error}): give equal rows") from None
        _check_room(array.size, LEAST_BYTES)
        if array.size and array.dtype.kind not in ("iu" if self.whole else "iuf"):
            kind = "whole numbers" if self.whole else "real numbers"
            raise SimscopeError(f"{self.name} has type {array.dtype}: give {kind}")
        if array.dtype.kind != "u" or np.iinfo(array.dtype).max > self.high:
            self._look_through(xp, array)
        return device.xp.asarray(array, np.int64 if self.whole else np.float64)

    def _look_through(self, xp: Any, array: Any) -> None:
        inside = (array >= self.low) & (array <= self.high)
        if not xp.all(inside):
            value = array[~inside].ravel()[0]
            raise SimscopeError(
                f"{self.name}={value} lies outside [{self.low:g}, {self.high:.10g}]: "
                "choose it in that range"
            )


def _check_room(count: int, each: int) -> None:
    """Return nothing; SimscopeError if so many variates of so many bytes are a mistake."""
    if count * each > MOST_BYTES:
        raise SimscopeError(
            f"{count} variates take {count * each / 1e9:.3g} GB, more than {MOST_BYTES / 1e9:g}: "
            f"draw at most {int(MOST_BYTES // each)} at a time"
        )


def _spread(xp: Any, array: Any, shape: tuple[int, ...]) -> Any:
    """The array broadcast to a shape, flat: one that may be written to, which spares kernels."""
    if array.shape != shape:
        return xp.array(xp.broadcast_to(array, shape), order="C").ravel()
    return xp.ascontiguousarray(array).ravel()


def _counter(name: str, value: npt.ArrayLike) -> _Given:
    """A counter: whole numbers that fit one word of 32 bits."""
    return _Given(name, value, 0, MOST_COUNTERS - 1, whole=True)


def _common_shape(given: Sequence[_Given], arrays: Sequence[Any]) -> tuple[int, ...]:
    """The shape that all broadcast to; a SimscopeError naming them if there is none."""
    try:
        return np.broadcast_shapes(*(array.shape for array in arrays))
    except ValueError:
        pairs = zip(given, arrays, strict=True)
        shapes = ", ".join(f"{one.name} {tuple(array.shape)}" for one, array in pairs)
        raise SimscopeError(
            f"shapes do not broadcast ({shapes}): add axes of length 1, as in x[:, None]"
        ) from None


def _sides(shape: SupportsIndex | tuple[SupportsIndex, ...]) -> tuple[int, ...]:
    """A shape as a tuple of whole numbers from 0 up; a SimscopeError if it is none."""
    sides = shape if isinstance(shape, tuple | list) else (shape,)
    try:
        whole = tuple(operator.index(side) for side in sides)
    except TypeError:
        whole = (-1,)
    if min(whole, default=0) < 0:
        raise SimscopeError(f"shape={shape!r} is none: give whole numbers from 0 up")
    return whole


def _one(name: str, value: int) -> np.uint32:
    """One word of a counter; a SimscopeError for a list or a value out of range."""
    word = _counter(name, value).on(CPU)
    if word.ndim:
        raise SimscopeError(f"{name} has shape {word.shape} where one number belongs: give one")
    return np.uint32(word)


def _draw(draw: int) -> np.uint32:
    """The word ``draw``; a SimscopeError if it is not one number in its range."""
    if isinstance(draw, bool) or not isinstance(draw, int | np.integer) or not 0 <= draw < DRAWS:
        raise SimscopeError(f"draw={draw!r} is not a whole number in [0, {DRAWS}): draw fewer")
    return np.uint32(draw)
