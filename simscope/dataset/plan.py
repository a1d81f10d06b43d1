"""Which frames go to which file, decided before a run begins.

A run is a line of frames, ``sample * frames_per_sample + t``, cut into pieces: whole samples, or,
where a single sample is larger than a piece, windows of its frames. One piece is one file. Where
the cuts lie depends on what is written alone, never on who writes it.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from simscope.dataset.schema import Layout
from simscope.errors import DatasetError

PIECE_BYTES = 64 << 20
"""Raw images of a file, unless told otherwise: what a killed run loses at most per worker."""

MOST_PIECES = 1000
"""Pieces grow beyond ``PIECE_BYTES`` rather than become more than this many."""

MOST_SHARDS = 100_000
"""Files a run may be cut into on request: folders of more are slow to look through."""

Progress = Callable[[int, int], None]
"""``progress(done, total)``, both in frames."""


@dataclass(frozen=True)
class Piece:
    """Frames of one file: all frames of whole samples, or some frames of one sample."""

    number: int
    sample_start: int
    sample_stop: int
    frame_start: int
    frame_stop: int

    @property
    def samples(self) -> int:
        """Samples it touches."""
        return self.sample_stop - self.sample_start

    @property
    def frames_of_sample(self) -> int:
        """Frames it has of each of its samples."""
        return self.frame_stop - self.frame_start

    @property
    def frames(self) -> int:
        """Two-dimensional images in it."""
        return self.samples * self.frames_of_sample


@dataclass(frozen=True)
class Plan:
    """A layout and where it is cut: ``samples_per_piece``, or ``frames_per_piece`` of a sample.

    Of the two one is not None.
    """

    layout: Layout
    samples_per_piece: int | None
    frames_per_piece: int | None

    @classmethod
    def of(cls, layout: Layout, *, samples_per_piece: int | None = None) -> Plan:
        """The usual cuts of a layout, or whole samples, so many to a file.

        Raises
        ------
        DatasetError
            If ``samples_per_piece`` is not a whole number above 0, or makes too many pieces.
        """
        if samples_per_piece is not None:
            given = samples_per_piece
            if isinstance(given, bool) or not isinstance(given, int) or given < 1:
                raise DatasetError(f"{given!r} samples in a shard: give a whole number from 1 up")
            if (pieces := -(-layout.samples // given)) > MOST_SHARDS:
                raise DatasetError(
                    f"{given} samples in a shard make {pieces:,} shards, more than "
                    f"{MOST_SHARDS:,}: ask for at least {-(-layout.samples // MOST_SHARDS):,}"
                )
            return cls(layout, min(given, layout.samples), None)
        bytes_per_frame = layout.image_bytes / layout.frames
        room = max(PIECE_BYTES, math.ceil(layout.image_bytes / MOST_PIECES))
        frames = max(1, int(room / bytes_per_frame))
        # planes of a focus stack are worked out together: a stack stays in one piece
        if layout.frames_per_sample <= frames or "z" in layout.sample_axes:
            per_piece = max(1, frames // layout.frames_per_sample)
            return cls(layout, min(per_piece, layout.samples), None)
        return cls(layout, None, frames)

    def __len__(self) -> int:
        """Number of pieces."""
        layout = self.layout
        if self.samples_per_piece is not None:
            return -(-layout.samples // self.samples_per_piece)
        assert self.frames_per_piece is not None
        return layout.samples * -(-layout.frames_per_sample // self.frames_per_piece)

    def __getitem__(self, number: int) -> Piece:
        if not 0 <= number < len(self):
            raise IndexError(f"piece {number} of {len(self)}")
        layout = self.layout
        if self.samples_per_piece is not None:
            start = number * self.samples_per_piece
            stop = min(start + self.samples_per_piece, layout.samples)
            return Piece(number, start, stop, 0, layout.frames_per_sample)
        assert self.frames_per_piece is not None
        sample, window = divmod(number, -(-layout.frames_per_sample // self.frames_per_piece))
        first = window * self.frames_per_piece
        last = min(first + self.frames_per_piece, layout.frames_per_sample)
        return Piece(number, sample, sample + 1, first, last)

    def __iter__(self) -> Iterator[Piece]:
        return (self[number] for number in range(len(self)))

    def numbers(self, text: str | None) -> range:
        """Pieces that ``"40:60"`` means, the 40th up to and without the 60th; all for None.

        Raises
        ------
        DatasetError
            If the text is no such range, or leads beyond the pieces.
        """
        return numbers_in(text, len(self), "shards")


def numbers_in(text: str | None, count: int, what: str) -> range:
    """Numbers of ``count`` that ``"40:60"`` means, from 40 to 59; all for None.

    ``what`` names them in messages.

    Raises
    ------
    DatasetError
        If the text is no such range, or leads beyond them.
    """
    if text is None:
        return range(count)
    first, colon, last = (part.strip() for part in str(text).partition(":"))
    if not colon or any(part and not part.isdecimal() for part in (first, last)):
        raise DatasetError(f"{what} {text!r}: write first:last, such as 40:60 for 40 to 59")
    start, stop = int(first or 0), int(last or count)
    if not start < stop <= count:
        raise DatasetError(f"{what} {text}: there are {count}, 0:{count} is all")
    return range(start, stop)


@dataclass(frozen=True)
class Entry:
    """What is known of a finished file: a line of the manifest.

    ``arrays_sha256`` has the SHA-256 of the values of every array of the file by its path, as
    little-endian bytes in C order; the same on every machine, whatever packed them.
    """

    file: str
    first_frame: int
    frames: int
    rows: int
    saturated_pixels: int
    bytes: int
    file_sha256: str
    arrays_sha256: dict[str, str]
    warnings: tuple[str, ...] = ()

    def to_json(self) -> str:
        """JSON text."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, indent=1)

    @classmethod
    def from_json(cls, text: str, *, source: str) -> Entry:
        """The entry written so.

        Raises
        ------
        DatasetError
            If the text is none.
        """
        try:
            values: dict[str, Any] = json.loads(text)
            entry = cls(**values | {"warnings": tuple(values["warnings"])})
            entry._check()
        except (TypeError, KeyError, ValueError, AttributeError, RecursionError) as error:
            raise DatasetError(f"{source} is damaged ({error}): remove it and run again") from None
        return entry

    def _check(self) -> None:
        whole = (self.first_frame, self.frames, self.rows, self.saturated_pixels, self.bytes)
        if any(type(value) is not int or value < 0 for value in whole):
            raise ValueError("a number is no whole number from 0 up")
        digests = [self.file_sha256, *self.arrays_sha256.values()]
        if any(not isinstance(text, str) or len(text) != 64 for text in digests):
            raise ValueError("a checksum is none")
        if any(not isinstance(text, str) for text in (self.file, *self.warnings)):
            raise ValueError("a name or a warning is no text")
