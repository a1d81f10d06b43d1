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
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, min_weight_full_bipartite_matching
from scipy.spatial import cKDTree

from simscope.errors import EvaluationError
from simscope.evaluate.tables import FARTHEST_NM, Floats, places_apart, read_columns

Rows = npt.NDArray[np.int64]
PAIRS_PER_BLOCK = 1000
ROWS_AT_ONCE = 100_000


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

    def only(self, chosen: npt.NDArray[np.bool_]) -> Matches:
        """Those pairs where ``chosen`` ``(matches,)`` is True; counts of rows stay."""
        axial_nm = None if self.axial_nm is None else self.axial_nm[chosen]
        return replace(
            self,
            found_rows=self.found_rows[chosen],
            truth_rows=self.truth_rows[chosen],
            lateral_nm=self.lateral_nm[chosen],
            axial_nm=axial_nm,
        )


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
    pairs = [np.zeros((2, 0), np.int64)]
    for of_found, of_truth in _rows_of_frames(left["frame"], right["frame"]):
        some, others = _at(left, of_found), _at(right, of_truth)
        allowed = _gated_pairs(some, others, radius_nm, axial_radius_nm)
        best = _best_pairs(some, others, *allowed)
        pairs.append(np.stack([of_found[best[0]], of_truth[best[1]]]))
    rows_found, rows_truth = np.concatenate(pairs, axis=1)
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


def _at(table: dict[str, Floats], rows: Rows) -> dict[str, Floats]:
    return {name: column[rows] for name, column in table.items()}


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
    trees = [cKDTree(places) for places in places_apart((found, truth), radius_nm)]
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
    found: dict[str, Floats], truth: dict[str, Floats], rows: Rows, columns: Rows
) -> tuple[Rows, Rows]:
    """Rows of the pairs, out of those allowed, that the best matching uses.

    Emitters that no chain of allowed pairs connects do not matter to each other, so each such
    group is matched by itself, and a pair without a rival needs no search.
    """
    group = _groups(len(found["frame"]), len(truth["frame"]), rows, columns)
    chosen = np.bincount(group)[group] == 1
    rivals = np.flatnonzero(~chosen)
    order = rivals[np.lexsort((columns[rivals], rows[rivals], group[rivals]))]
    distance = _distances(found, truth, rows, columns)
    for block in _blocks_of_groups(group[order]):
        pairs = order[block]
        chosen[pairs] = _assign(rows[pairs], columns[pairs], distance[pairs])
    return rows[chosen], columns[chosen]


def _groups(found_count: int, truth_count: int, rows: Rows, columns: Rows) -> Rows:
    """Number of the connected group of each allowed pair, ``(pairs,)``."""
    size = found_count + truth_count
    graph = csr_array((np.ones(len(rows), np.int8), (rows, found_count + columns)), (size, size))
    labels: Rows = connected_components(graph, directed=False)[1][rows].astype(np.int64)
    return labels


def _rows_of_frames(found: Floats, truth: Floats) -> Iterator[tuple[Rows, Rows]]:
    """Rows of both tables, whole frames at a time and about ``ROWS_AT_ONCE`` of them."""
    orders = [np.argsort(frames, kind="stable") for frames in (found, truth)]
    left, right = (frames[order] for frames, order in zip((found, truth), orders, strict=True))
    first = [0, 0]
    while first[0] < len(left) and first[1] < len(right):
        ends = [
            frames[min(start + ROWS_AT_ONCE, len(frames)) - 1]
            for frames, start in zip((left, right), first, strict=True)
        ]
        last = min(ends)
        stop = [int(np.searchsorted(frames, last, "right")) for frames in (left, right)]
        yield orders[0][first[0] : stop[0]], orders[1][first[1] : stop[1]]
        first = stop


def _blocks_of_groups(groups: Rows) -> Iterator[slice]:
    """Slices that hold whole groups and, where groups are small, about ``PAIRS_PER_BLOCK``."""
    starts = np.flatnonzero(np.diff(groups, prepend=-1) != 0)
    first = 0
    for start in [*starts[1:].tolist(), len(groups)]:
        if start - first >= PAIRS_PER_BLOCK or (start == len(groups) and start > first):
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
