"""Numbers in text: the header and columns of tables with commas, semicolons or tabs.

Read are UTF-8 with or without a byte-order mark, quoted or bare headers, and, where fields are
separated by semicolons or tabs, decimal commas.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from simscope.errors import TableError
from simscope.tables.columns import Columns

Floats = npt.NDArray[np.float64]

SEPARATORS = ",;\t"
LONGEST_HEADER = 1 << 16


def header(path: Path, *, skip: int = 0) -> list[str]:
    """Names of the columns, stripped of quotes and blanks.

    Raises
    ------
    TableError
        If the file is not text in UTF-8, its first line is no header, or names repeat.
    """
    line = _first_line(path, skip)
    try:
        names = next(csv.reader([line], delimiter=_separator(line), skipinitialspace=True), [])
    except csv.Error as error:
        raise TableError(f"cannot read the header of {path}, {error}: write it anew") from None
    names = [name.strip() for name in names]
    _require_names(path, names)
    return names


def read_columns(path: Path, *, skip: int = 0) -> Columns:
    """Columns by the names of their header, float64 each; a table may have no rows.

    ``skip`` lines before the header are left out.

    Raises
    ------
    TableError
        As :func:`header`, or if rows differ in length, or a field is no number.
    """
    names = header(path, skip=skip)
    separator = _separator(_first_line(path, skip))
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [line for line in file.read().splitlines()[skip + 1 :] if line.strip()]
            body = _parse(lines, separator)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise TableError(f"cannot read {path}: {_one_line(error)}") from None
    if not len(body):
        return {name: np.empty(0) for name in names}
    if body.shape[1] != len(names):
        raise TableError(
            f"{path} has {len(names)} headers but {body.shape[1]} columns: give each column a name"
        )
    return {name: body[:, number].copy() for number, name in enumerate(names)}


def write_rows(path: Path, head: str, formats: Sequence[str], columns: Sequence[object]) -> None:
    """Write a header and rows of numbers, lines ending in a line feed.

    ``formats`` are those of the ``columns`` in turn; between them may stand fixed texts, which are
    formats without a ``%``.
    """
    values = [np.asarray(column) for column in columns]
    rows = np.column_stack(values) if values and len(values[0]) else np.empty((0, len(values)))
    with path.open("w", encoding="utf-8", newline="\n") as file:
        np.savetxt(file, rows, fmt=",".join(formats), header=head, comments="")


def _first_line(path: Path, skip: int) -> str:
    try:
        with path.open("rb") as raw:
            start = raw.read(LONGEST_HEADER)
        if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise TableError(f"{path} is text in UTF-16: save it as UTF-8")
        if b"\x00" in start:
            raise TableError(f"cannot read {path}: it is no text; give a table in a known format")
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [file.readline(LONGEST_HEADER) for _ in range(skip + 1)]
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(f"cannot read {path}: {_one_line(error)}") from None
    return lines[-1].rstrip("\r\n")


def _separator(line: str) -> str:
    """The separator a header uses outside its quotes; a comma where there is none."""
    bare = "".join(part for number, part in enumerate(line.split('"')) if number % 2 == 0)
    return max(SEPARATORS, key=bare.count) if bare else ","


def _require_names(path: Path, names: list[str]) -> None:
    if not any(names):
        raise TableError(f"{path} is empty: give a header and at least one row")
    if all(_is_number(name) for name in names):
        raise TableError(f"{path} has no header: name the columns x_nm,y_nm,z_nm in the first row")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise TableError(f"{path} names {repeated} more than once: rename the columns")


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


def _parse(lines: list[str], separator: str) -> Floats:
    if not lines:
        return np.empty((0, 0))
    if separator != "," and any("," in line for line in lines):
        if any("." in line for line in lines):
            raise ValueError(
                "it has commas and points in its numbers: write one of them, as decimal sign only"
            )
        lines = [line.replace(",", ".") for line in lines]
    return np.loadtxt(lines, delimiter=separator, ndmin=2, quotechar='"', comments=None)


def _one_line(error: object) -> str:
    return " ".join(str(error).split())
