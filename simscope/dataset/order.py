"""Which samples are in which batch: a pure function of a seed, an epoch and the files' cuts.

Samples of a recipe do not depend on one another, so any order is as good as any other; shuffling
makes epochs differ. It goes through a dataset window by window: its blocks (files of a run, large
ones cut at ``BLOCK_SAMPLES``) come in random order, and so do the samples within every
``WINDOW_BLOCKS`` successive blocks. So only few files are read at a time, and what is kept in
memory does not grow with the dataset.

Batches are counted through all epochs of a share. Share *k* of *n* has every *n*-th batch of an
epoch from the *k*-th on.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from simscope.dataset.read import MOST_TABLES
from simscope.errors import DatasetError
from simscope.keys import Key

BLOCK_SAMPLES = 1 << 16
WINDOW_BLOCKS = MOST_TABLES  # whose truth a dataset keeps, so that each is read once an epoch

Samples = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Window:
    """Samples that are shuffled together: where they stand in the epoch, and their blocks."""

    number: int
    first: int
    blocks: tuple[range, ...]

    @property
    def stop(self) -> int:
        return self.first + sum(map(len, self.blocks))


@dataclass
class Order:
    """Batches of samples ``start`` to ``stop``, one epoch after another.

    ``seed`` shuffles them anew each epoch; with None they come in order. ``cuts`` are the first
    samples of the files they are read from. ``drop_last`` leaves out the end of an epoch that does
    not fill a batch for every share, so that all shares have equally many of equal size.

    Raises
    ------
    DatasetError
        If a value is impossible, or the share has no batch.
    """

    start: int
    stop: int
    batch_size: int
    seed: int | None = None
    share: tuple[int, int] = (0, 1)
    drop_last: bool = False
    cuts: Sequence[int] = ()
    _windows: dict[int, list[_Window]] = field(default_factory=dict, init=False, repr=False)
    _shuffled: dict[tuple[int, int], Samples] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.batch_size = whole_number("batch_size", self.batch_size, 1)
        self.start, self.stop = (
            whole_number(name, getattr(self, name), 0) for name in ("start", "stop")
        )
        if self.stop <= self.start:
            raise DatasetError(
                f"start={self.start}, stop={self.stop} leave no sample: give stop > start"
            )
        self.share = _checked_share(self.share)
        if self.seed is not None:
            self._key = Key(self.seed).child("batches")
            self._blocks = _blocks(self.start, self.stop, self.cuts)
        if len(self) < 1:
            self._refuse_empty()

    def _refuse_empty(self) -> None:
        samples, (k, of) = self.stop - self.start, self.share
        raise DatasetError(
            f"share ({k}, {of}) of {samples} samples in batches of {self.batch_size} has no batch: "
            f"lower batch_size{' or the number of shares' if of > 1 else ''}, or give more samples"
        )

    def __len__(self) -> int:
        """Batches of this share in an epoch."""
        samples, (k, of) = self.stop - self.start, self.share
        if self.drop_last:
            return samples // self.batch_size // of
        return max(0, -(-(-(-samples // self.batch_size) - k) // of))

    def samples(self, number: int) -> Samples:
        """Samples of the share's batch ``number``, counted from the first epoch on; int64."""
        epoch, within = divmod(number, len(self))
        first = (self.share[0] + self.share[1] * within) * self.batch_size
        last = min(first + self.batch_size, self.stop - self.start)
        if self.seed is None:
            return np.arange(self.start + first, self.start + last)
        return self._of_epoch(epoch, first, last)

    def _of_epoch(self, epoch: int, first: int, last: int) -> Samples:
        """Samples at the places ``first`` to ``last`` of a shuffled epoch."""
        found = []
        for window in self._windows_of(epoch):
            low, high = max(first, window.first), min(last, window.stop)
            if low < high:
                inside = self._of_window(epoch, window)
                found.append(inside[low - window.first : high - window.first])
        return np.concatenate(found)

    def _windows_of(self, epoch: int) -> list[_Window]:
        """The blocks in the order of an epoch, so many at a time."""
        if epoch not in self._windows:
            order = _permutation(self._key.child("blocks"), len(self._blocks), epoch)
            windows, first = [], 0
            for number, begin in enumerate(range(0, len(order), WINDOW_BLOCKS)):
                chosen = tuple(self._blocks[k] for k in order[begin : begin + WINDOW_BLOCKS])
                windows.append(_Window(number, first, chosen))
                first = windows[-1].stop
            _keep_two(self._windows)[epoch] = windows
        return self._windows[epoch]

    def _of_window(self, epoch: int, window: _Window) -> Samples:
        """Samples of a window in the order of an epoch."""
        name = (epoch, window.number)
        if name not in self._shuffled:
            inside = np.concatenate([np.arange(block.start, block.stop) for block in window.blocks])
            key = self._key.child("samples")
            order = _permutation(key, len(inside), epoch, sample=window.number)
            _keep_two(self._shuffled)[name] = inside[order]
        return self._shuffled[name]


def _blocks(start: int, stop: int, cuts: Sequence[int]) -> list[range]:
    """Samples ``start`` to ``stop`` by files, large ones in parts."""
    edges = sorted({start, stop, *(cut for cut in cuts if start < cut < stop)})
    return [
        range(first, min(first + BLOCK_SAMPLES, last))
        for low, last in itertools.pairwise(edges)
        for first in range(low, last, BLOCK_SAMPLES)
    ]


def _permutation(key: Key, count: int, epoch: int, **address: Any) -> Samples:
    """Numbers 0 to ``count`` in an order random by key and epoch."""
    return np.argsort(key.uniform(np.arange(count), step=epoch, **address), kind="stable")


def _keep_two(kept: dict[Any, Any]) -> dict[Any, Any]:
    """The dictionary with room for one more: all but the newest forgotten."""
    for name in list(kept)[:-1]:
        del kept[name]
    return kept


def _checked_share(share: Any) -> tuple[int, int]:
    try:
        k, of = share
    except (TypeError, ValueError):
        raise DatasetError(f"share={share!r}: give (k, of), such as (0, 4)") from None
    whole_number("share of", of, 1)
    if whole_number("share", k, 0) >= of:
        raise DatasetError(f"share=({k}, {of}): of {of} shares the last is {of - 1}")
    return int(k), int(of)


def whole_number(name: str, value: Any, least: int) -> int:
    """The value as an int, once it is a whole number from ``least`` up.

    Raises
    ------
    DatasetError
        If it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise DatasetError(f"{name}={value!r} is not a whole number from {least} up: use an int")
    return int(value)
