"""Two versions of the same arrays, taken piece by piece: where they differ first, and by how much.

Values are compared bit for bit, so a zero with another sign differs and equal NaNs do not.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Places:
    """Where the items of an array's first axis lie; None where that has no meaning.

    ``sample`` and ``frame`` (in the sample) are int64, one an item; ``row`` counts the emitters of
    a frame.
    """

    sample: Ints | None = None
    frame: Ints | None = None
    row: Ints | None = None

    @classmethod
    def of_frames(cls, first: int, count: int, frames_per_sample: int) -> Places:
        """Places of ``count`` frames from number ``first`` of a run on."""
        frames = np.arange(first, first + count)
        return cls(frames // frames_per_sample, frames % frames_per_sample)

    @classmethod
    def of_samples(cls, start: int, stop: int) -> Places:
        """Places of whole samples."""
        return cls(np.arange(start, stop))

    def of_rows(self, counts: Ints) -> Places:
        """Places of the emitters of these frames, ``counts`` to each."""
        assert self.sample is not None
        assert self.frame is not None
        begins = np.cumsum(counts) - counts
        row = np.arange(counts.sum()) - np.repeat(begins, counts)
        return Places(np.repeat(self.sample, counts), np.repeat(self.frame, counts), row)

    def chosen(self, which: npt.NDArray[np.bool_]) -> Places:
        """Places of some of the items."""
        sample, frame, row = (
            None if part is None else part[which] for part in (self.sample, self.frame, self.row)
        )
        return Places(sample, frame, row)


@dataclass(frozen=True)
class Difference:
    """How an array differs: ``values`` of ``compared`` ones, in ``samples`` of the samples.

    ``sample``, ``frame`` (from 0 in the sample), ``row`` (from 0 in the frame) and ``index`` (in
    the item: y and x of a frame) say where first; ``was`` and ``now`` are the values there.
    ``largest`` is the largest difference of two values, None if one of them is no number.
    """

    array: str
    values: int
    compared: int
    samples: int
    sample: int | None
    frame: int | None
    row: int | None
    index: tuple[int, ...]
    was: Any
    now: Any
    largest: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = {"index": list(self.index), "was": _finite(self.was), "now": _finite(self.now)}
        return asdict(self) | values

    def text(self, was: str, now: str) -> str:
        """One line, where ``was`` and ``now`` are the names of the two versions."""
        if not self.values:
            return f"{self.array}: {was} has {self.was}, {now} {self.now}"
        samples = f", in {self.samples:,} samples" if self.sample is not None else ""
        largest = "not a number" if self.largest is None else f"{self.largest:.6g}"
        return (
            f"{self.array}: {self.values:,} of {self.compared:,} values differ{samples}; first at "
            f"{self.place()}: {was} {self.was}, {now} {self.now}; largest difference {largest}"
        )

    def place(self) -> str:
        """Where they differ first, in words."""
        pixel = self.array in ("images", "expected_photons") or self.array.startswith("camera/")
        parts = [
            f"{name} {value}"
            for name, value in (("sample", self.sample), ("frame", self.frame), ("row", self.row))
            if value is not None
        ]
        if len(self.index) == 2 and pixel:
            parts.append(f"pixel (y={self.index[0]}, x={self.index[1]})")
        elif self.index:
            parts.append(f"index {', '.join(map(str, self.index))}")
        return ", ".join(parts) or "the only value"


@dataclass
class Tally:
    """What is known of one array so far."""

    compared: int = 0
    values: int = 0
    samples: int = 0
    last_sample: int = -1
    largest: float = 0.0
    first: dict[str, Any] = field(default_factory=dict)


class Comparison:
    """Arrays compared so far, by name; pieces come in the order of their samples."""

    def __init__(self) -> None:
        self._tallies: dict[str, Tally] = {}
        self._unlike: dict[str, Difference] = {}

    @property
    def arrays(self) -> list[str]:
        """Names of the arrays of which some values were compared."""
        return [name for name, tally in self._tallies.items() if tally.compared]

    @property
    def differences(self) -> tuple[Difference, ...]:
        """Arrays that differ, in the order in which they came."""
        told = [
            Difference(
                name, tally.values, tally.compared, tally.samples,
                largest=tally.largest if math.isfinite(tally.largest) else None, **tally.first,
            )
            for name, tally in self._tallies.items()
            if tally.values and name not in self._unlike
        ]  # fmt: skip
        return (*self._unlike.values(), *told)

    def unlike(self, name: str, was: Any, now: Any) -> None:
        """Note that an array is there once only, or has another shape or type."""
        self._unlike.setdefault(
            name, Difference(name, 0, 0, 0, None, None, None, (), was, now, None)
        )

    def once(self, name: str, *, was: bool) -> None:
        """Note that an array is there in one version only, the first (``was``) or the second."""
        said = ("the array", "no such array")
        self.unlike(name, *(said if was else said[::-1]))

    def take(
        self, name: str, was: npt.ArrayLike, now: npt.ArrayLike, places: Places | None = None
    ) -> npt.NDArray[np.bool_] | None:
        """Compare a piece of an array; True for every item of the first axis that differs.

        None where the pieces have another shape or type, which is noted.
        """
        left, right = np.asarray(was), np.asarray(now)
        if left.shape != right.shape or left.dtype.newbyteorder("=") != right.dtype.newbyteorder(
            "="
        ):
            self.unlike(name, _kind(left), _kind(right))
            return None
        tally = self._tallies.setdefault(name, Tally())
        tally.compared += left.size
        differ = _bits(left) != _bits(right)
        if differ.any():
            _add(tally, left, right, differ, Places() if places is None else places)
        return _any_within(differ)

    def take_emitters(
        self,
        was: tuple[npt.NDArray[Any], Ints],
        now: tuple[npt.NDArray[Any], Ints],
        places: Places,
    ) -> None:
        """Compare the emitters (table, offsets) of some frames: how many, then column by column.

        Columns are compared in the frames that have as many emitters in both.
        """
        counts = [np.diff(offsets) for _, offsets in (was, now)]
        uneven = self.take("emitters/rows in a frame", counts[0], counts[1], places)
        assert uneven is not None
        left, right = (
            table[np.repeat(~uneven, count)]
            for (table, _), count in zip((was, now), counts, strict=True)
        )
        rows = places.chosen(~uneven).of_rows(counts[0][~uneven])
        mine, theirs = left.dtype.names or (), right.dtype.names or ()
        for column in dict.fromkeys((*mine, *theirs)):
            if column in mine and column in theirs:
                self.take(f"emitters/{column}", left[column], right[column], rows)
            else:
                self.once(f"emitters/{column}", was=column in mine)

    def take_named(
        self,
        group: str,
        was: dict[str, npt.NDArray[Any]],
        now: dict[str, npt.NDArray[Any]],
        places: Places | None = None,
    ) -> None:
        """Compare arrays by their names in a group, those that are there once only as well."""
        for name in dict.fromkeys((*was, *now)):
            if name in was and name in now:
                self.take(f"{group}/{name}", was[name], now[name], places)
            else:
                self.once(f"{group}/{name}", was=name in was)


def _finite(value: Any) -> Any:
    """The value, as text where JSON knows no such number."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _any_within(differ: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which items of the first axis have a value that differs."""
    return np.asarray(differ.any(axis=tuple(range(1, differ.ndim))))


def _kind(values: npt.NDArray[Any]) -> str:
    return f"{values.dtype} of shape {values.shape}"


def _bits(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The values as whole numbers of the same bits."""
    values = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    return values.view(f"u{values.dtype.itemsize}") if values.dtype.kind == "f" else values


def _add(
    tally: Tally,
    left: npt.NDArray[Any],
    right: npt.NDArray[Any],
    differ: npt.NDArray[np.bool_],
    places: Places,
) -> None:
    """Add the values of a piece that differ to what is known of its array."""
    apart = np.abs(left[differ].astype(np.float64) - right[differ].astype(np.float64))
    tally.values += int(np.count_nonzero(differ))
    tally.largest = float(np.maximum(tally.largest, apart.max()))  # NaN stays
    if places.sample is not None:
        items = np.unique(places.sample[_any_within(differ)])
        tally.samples += int(np.count_nonzero(items > tally.last_sample))
        tally.last_sample = max(tally.last_sample, int(items[-1]))
    if not tally.first:
        at = tuple(int(i) for i in np.unravel_index(int(np.argmax(differ)), differ.shape))
        parts = {"sample": places.sample, "frame": places.frame, "row": places.row}
        tally.first = {
            name: None if part is None else int(part[at[0]]) for name, part in parts.items()
        }
        tally.first["index"] = at if places.sample is None else at[1:]
        tally.first |= {"was": left[at].item(), "now": right[at].item()}
