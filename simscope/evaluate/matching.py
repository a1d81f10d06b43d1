"""Which found emitter is which true one: one-to-one optimal matching, frame by frame.

As in the 2016 challenge (Sage et al. 2019, *Nat. Methods* 16:387), with the gate before the
assignment: pairs farther apart than the tolerance do not exist, so none of them can ever push out
a possible one. Among all one-to-one matchings of the pairs that are left, the one with most pairs
is taken, and among those the one with the smallest sum of distances.

Written as a minimum-cost assignment on a sparse graph: every found emitter may either take a true
one at cost ``1 + distance`` or stay alone at a cost above any sum of distances.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from scipy.spatial import cKDTree

from simscope.errors import EvaluationError
from simscope.evaluate.tables import FARTHEST_NM, Floats, read_columns

Rows = npt.NDArray[np.int64]
ROWS_PER_BLOCK = 1000


@dataclass(frozen=True)
class Matches:
    """Pairs of rows, one pair a match, sorted by the row in ``found``.

    ``found_rows`` and ``truth_rows`` are int64 ``(matches,)``; ``found_count`` and ``truth_count``
    are the lengths of the two tables; ``lateral_nm`` and ``axial_nm`` are the distances within
    each pair, ``(matches,)`` [nm] (``axial_nm`` signed, found minus truth; None without z).
    """

    found_rows: Rows
    truth_rows: Rows
    found_count: int
    truth_count: int
    lateral_nm: Floats
    axial_nm: Floats | None

    def __len__(self) -> int:
        """Number of matched pairs."""
        return len(self.found_rows)


def match(
    found: Any, truth: Any, radius_nm: float = 250.0, axial_radius_nm: float | None = None
) -> Matches:
    """Best one-to-one pairs of rows of ``found`` and ``truth``, distances in nm.

    Tables have columns ``frame, x_nm, y_nm`` and, if ``axial_radius_nm`` is given, ``z_nm``. A
    pair may be matched if it shares a frame, lies within ``radius_nm`` laterally and within
    ``axial_radius_nm`` axially (both included).

    Raises
    ------
    EvaluationError
        If a radius is not in (0, 1e12] nm, or a table lacks a column or holds values that cannot
        be judged (see :func:`read_columns`).
    """
    _require_positive("radius_nm", radius_nm)
    names = ["frame", "x_nm", "y_nm"]
    if axial_radius_nm is not None:
        _require_positive("axial_radius_nm", axial_radius_nm)
        names.append("z_nm")
    left, right = read_columns(found, names, "found"), read_columns(truth, names, "truth")
    pairs = _gated_pairs(left, right, radius_nm, axial_radius_nm)
    distance = _distances(left, right, *pairs)
    chosen = _best_pairs(*pairs, distance, left["frame"])
    rows_found, rows_truth = pairs[0][chosen], pairs[1][chosen]
    order = np.argsort(rows_found)
    rows_found, rows_truth = rows_found[order], rows_truth[order]
    return Matches(
        rows_found,
        rows_truth,
        len(left["frame"]),
        len(right["frame"]),
        _lateral(left, right, rows_found, rows_truth),
        left["z_nm"][rows_found] - right["z_nm"][rows_truth] if "z_nm" in left else None,
    )


def _require_positive(name: str, value: Any) -> None:
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not (is_number and 0 < float(value) <= FARTHEST_NM):
        raise EvaluationError(
            f"{name}={value!r} lies outside (0, {FARTHEST_NM:g}]: give a tolerance in nm"
        )


def _gated_pairs(
    found: dict[str, Floats], truth: dict[str, Floats], radius_nm: float, axial_nm: float | None
) -> tuple[Rows, Rows]:
    """Rows of all pairs within the tolerances, each ``(pairs,)``."""
    if not len(found["frame"]) or not len(truth["frame"]):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    _, index = np.unique(np.concatenate([found["frame"], truth["frame"]]), return_inverse=True)
    apart = 3 * radius_nm * index.astype(np.float64)  # frames too far apart to meet in the tree
    count = len(found["frame"])
    trees = [
        cKDTree(np.column_stack([table["x_nm"], table["y_nm"], height]))
        for table, height in ((found, apart[:count]), (truth, apart[count:]))
    ]
    near = trees[0].sparse_distance_matrix(trees[1], radius_nm * (1 + 1e-6), output_type="ndarray")
    rows, columns = near["i"].astype(np.int64), near["j"].astype(np.int64)
    allowed = _lateral(found, truth, rows, columns) <= radius_nm
    if axial_nm is not None:
        allowed &= np.abs(found["z_nm"][rows] - truth["z_nm"][columns]) <= axial_nm
    return rows[allowed], columns[allowed]


def _lateral(
    found: dict[str, Floats], truth: dict[str, Floats], rows: Rows, columns: Rows
) -> Floats:
    return np.hypot(
        found["x_nm"][rows] - truth["x_nm"][columns], found["y_nm"][rows] - truth["y_nm"][columns]
    )


def _distances(
    found: dict[str, Floats], truth: dict[str, Floats], rows: Rows, columns: Rows
) -> Floats:
    lateral = _lateral(found, truth, rows, columns)
    if "z_nm" not in found:
        return lateral
    return np.hypot(lateral, found["z_nm"][rows] - truth["z_nm"][columns])


def _best_pairs(
    rows: Rows, columns: Rows, distance: Floats, frames: Floats
) -> npt.NDArray[np.bool_]:
    """Which of the allowed pairs the best matching uses, ``(pairs,)``."""
    chosen = np.zeros(len(rows), np.bool_)
    order = np.lexsort((columns, rows, frames[rows]))
    for block in _blocks_of_frames(frames[rows[order]]):
        pairs = order[block]
        chosen[pairs] = _assign(rows[pairs], columns[pairs], distance[pairs])
    return chosen


def _blocks_of_frames(frames: Floats) -> Iterator[slice]:
    """Slices that hold whole frames and, where frames are small, about ``ROWS_PER_BLOCK`` pairs."""
    starts = np.flatnonzero(np.diff(frames, prepend=np.nan) != 0)
    first = 0
    for start in [*starts[1:].tolist(), len(frames)]:
        if start - first >= ROWS_PER_BLOCK or (start == len(frames) and start > first):
            yield slice(first, start)
            first = start


def _assign(rows: Rows, columns: Rows, distance: Floats) -> npt.NDArray[np.bool_]:
    """Which pairs of one block are matched: most pairs first, then least summed distance."""
    left, row = np.unique(rows, return_inverse=True)
    right, column = np.unique(columns, return_inverse=True)
    alone = len(left) * (1.0 + distance.max()) + 1.0
    own = np.arange(len(left))
    cost = csr_array(
        (
            np.concatenate([1.0 + distance, np.full(len(left), alone)]),
            (np.concatenate([row, own]), np.concatenate([column, len(right) + own])),
        ),
        shape=(len(left), len(right) + len(left)),
    )
    taken_rows, taken = min_weight_full_bipartite_matching(cost)
    taken_by_row = np.empty(len(left), np.int64)
    taken_by_row[taken_rows] = taken
    return taken_by_row[row] == column
