"""Named, splittable random streams.

A ``Key`` is a path below a seed; BLAKE2b of seed and path gives the 64-bit key of a Philox4x32-10
generator (Salmon et al. 2011, SC'11, "Parallel random numbers: as easy as 1, 2, 3"). Variates are
addressed by counter ``(element, step, sample, draw)``, so no state is ever kept or shared.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from simscope.device import CPU, Device
from simscope.errors import SimscopeError

MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class Key:
    """One random stream: a seed and the names that lead to it.

    Raises
    ------
    SimscopeError
        If the seed is not an integer in ``[0, 2**63 - 1]`` or a part of a name is empty.
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

    def child(self, name: str) -> Key:
        """Stream below this one, independent of it and of every other; ``a/b`` goes down two."""
        parts = tuple(name.split("/"))
        if not all(parts):
            raise SimscopeError(f"stream name {name!r} has an empty part: use 'a/b'")
        return Key(self.seed, self.path + parts)

    @cached_property
    def words(self) -> tuple[np.uint32, np.uint32]:
        """The Philox key, two uint32 words."""
        text = f"simscope:{self.seed}:" + "/".join(self.path)
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        low, high = np.frombuffer(digest, dtype="<u4")
        return np.uint32(low), np.uint32(high)

    def uniform(
        self,
        element: npt.ArrayLike,
        *,
        sample: npt.ArrayLike = 0,
        step: npt.ArrayLike = 0,
        draw: int = 0,
        device: Device = CPU,
    ) -> Any:
        """Uniform variates in (0, 1), 52 random bits each, one for every counter, on the device.

        ``element``, ``sample`` and ``step`` broadcast against each other and are taken as unsigned
        32-bit words.
        """
        xp = device.xp
        words = [xp.asarray(word, np.int64) for word in (element, step, sample)]
        shape = np.broadcast_shapes(*(word.shape for word in words))
        counters = (xp.ascontiguousarray(xp.broadcast_to(word, shape)).ravel() for word in words)
        out = xp.empty(math.prod(shape), np.float64)
        device.run(
            "addressed", "uniform_at", out.size, out, *counters, np.uint32(draw), *self.words
        )
        return out.reshape(shape)
