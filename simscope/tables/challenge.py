"""CSV of the SMLM challenge 2016: nm from the corner of the image, frames counted from 1.

The organisers' simulator (``activation_4states.m``) heads its ground truth
``Ground-truth,frame,xnano,ynano,znano,intensity`` and a blank, which readers such as DECODE expect.
The first column numbers the rows from 1; ``xnano`` runs along columns and ``ynano`` along rows over
the field of view, from 0 to 6400 nm for 64 pixels of 100 nm; ``intensity`` is photons in the frame.
``znano`` is the emitter's height in the organisers' simulator; its sign is passed on as it is.
DECODE turns it (``emitter_trafo.py``), as its calibrations take the planes of a bead stack to
follow the objective, and for these data sets takes a further pixel off ``ynano``; neither is
done here. Source: Sage et al., Nat. Methods 16, 387 (2019).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from simscope.tables import text
from simscope.tables.columns import Columns, Imaging, frames_from_one
from simscope.tables.peek import Peek

HEADER = "Ground-truth,frame,xnano,ynano,znano,intensity "
NAMES = {
    "Ground-truth": "id",
    "frame": "frame",
    "xnano": "x_nm",
    "ynano": "y_nm",
    "znano": "z_nm",
    "intensity": "photons",
}


def claims(peek: Peek) -> bool:
    """Whether the header is one of these."""
    return peek.kind == "text" and {"xnano", "ynano"} <= set(peek.names)


def read(path: Path, imaging: Imaging, peek: Peek) -> Columns:
    """Columns in simscope's convention."""
    columns = {NAMES.get(name, name): values for name, values in text.read_columns(path).items()}
    if "frame" in columns:
        columns["frame"] = frames_from_one(columns["frame"], str(path))
    return columns


def write(path: Path, columns: Columns, imaging: Imaging, suffix: str) -> None:
    """Write a ``.csv`` table; heights and photons that are not known are 0."""
    rows = len(columns["x_nm"])
    zero = np.zeros(rows)
    values = [np.arange(1, rows + 1), columns["frame"] + 1, columns["x_nm"], columns["y_nm"]]
    values += [columns.get("z_nm", zero), columns.get("photons", zero)]
    text.write_rows(path, HEADER, ["%d", "%d", *["%.3f"] * 4], values)
