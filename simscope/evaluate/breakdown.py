"""Scores against what makes emitters hard: crowding, light and height.

True emitters fall into bins of their own value, and a matched found one into the bin of its
partner. A false positive has no true value: it falls into the bin of the crowding where it stands,
or of the photons or height it claims. Where found emitters claim none, bins tell recall and errors,
but neither precision nor Jaccard index.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from simscope.errors import EvaluationError, did_you_mean
from simscope.evaluate.score import Score, numbers_or_none, root_mean_square, share
from simscope.evaluate.tables import Floats, has_column, places_apart, read_columns

QUANTITIES = ("photons", "z", "density", "crowd")
COLUMNS = {"photons": "photons", "z": "z_nm"}
NEIGHBOURHOOD_NM = 1000.0


@dataclass(frozen=True)
class Bin:
    """Score of the emitters with a value from ``low`` to below ``high``, in the last bin with it.

    None where something cannot be told.
    """

    low: float
    high: float
    true_emitters: int
    true_positives: int
    false_positives: int | None
    recall: float
    precision: float | None
    jaccard: float | None
    rmse_lateral_nm: float
    rmse_axial_nm: float

    def to_dict(self) -> dict[str, float | int | None]:
        """Plain numbers for JSON, None where there is no number."""
        return numbers_or_none(vars(self))


@dataclass(frozen=True)
class Values:
    """What to bin by: a value of each true emitter and, if known, of each found one."""

    truth: Floats
    found: Floats | None = None


def breakdown(
    found: Any,
    truth: Any,
    result: Score,
    by: str | Values,
    *,
    bins: int = 5,
    edges: npt.ArrayLike | None = None,
    neighbourhood_nm: float = NEIGHBOURHOOD_NM,
) -> list[Bin]:
    """Scores in bins of a quantity, lowest first; bins without a true emitter are left out.

    Parameters
    ----------
    found, truth, result
        Two tables and their score.
    by
        ``photons``; ``z`` [nm]; ``density`` [1/um^2] of other true emitters within
        ``neighbourhood_nm`` in the frame (at a border too low); ``crowd``, true emitters in the
        frame; or :class:`Values` of your own, such as :func:`signal_to_noise`.
    bins
        Their number, with as many true emitters in each as possible.
    edges
        Edges ``(bins + 1,)`` instead; what lies beyond the outermost is left out.

    Raises
    ------
    EvaluationError
        If the quantity is not known or a table lacks it, or bins or edges make no sense.
    """
    values = by if isinstance(by, Values) else quantity(found, truth, by, neighbourhood_nm)
    _require_rows(values, result)
    counted = values.truth[result.counted_truth]
    given = None if edges is None else _checked_edges(edges)
    limits = _edges_of(counted, bins) if given is None else given
    if not len(limits):
        return []
    of_truth = _member(values.truth, limits, clip=given is None)
    of_false = None
    if values.found is not None:
        extra = result.counted_found.copy()
        extra[result.matches.found_rows] = False
        of_false = _member(values.found[extra], limits, clip=given is None)
    made = [_bin(number, limits, of_truth, of_false, result) for number in range(len(limits) - 1)]
    return [one for one in made if one.true_emitters]


def quantity(
    found: Any, truth: Any, name: str, neighbourhood_nm: float = NEIGHBOURHOOD_NM
) -> Values:
    """Values of a quantity of :func:`breakdown` by name.

    Raises
    ------
    EvaluationError
        If it is not known, the truth lacks it, or the neighbourhood has no area.
    """
    if name in COLUMNS:
        column = COLUMNS[name]
        claims = has_column(found, column)
        return Values(
            read_columns(truth, (column,), "truth")[column],
            read_columns(found, (column,), "found")[column] if claims else None,
        )
    if name == "density":
        return _densities(found, truth, neighbourhood_nm)
    if name == "crowd":
        frames = read_columns(truth, ("frame",), "truth")["frame"]
        return Values(*(_counts_in(frames, table) for table in (truth, found)))
    hint = did_you_mean(name, QUANTITIES) or f"known are {', '.join(QUANTITIES)}"
    raise EvaluationError(f"cannot break down by {name!r}; {hint}")


def signal_to_noise(
    photons: npt.ArrayLike, background_photons: npt.ArrayLike, spot_area_px: float
) -> Floats:
    """Signal-to-noise ratio of emitters under shot noise, ``N / sqrt(N + A b)``.

    ``background_photons`` b is a pixel's; ``spot_area_px`` A is how many pixels of background
    share the spot, ``1 / sum(psf^2)``, which is ``4 pi sigma^2`` for a Gaussian spot of ``sigma``
    pixels.
    """
    light = np.asarray(photons, np.float64)
    return light / np.sqrt(light + spot_area_px * np.asarray(background_photons, np.float64))


def _densities(found: Any, truth: Any, radius_nm: float) -> Values:
    """True emitters per um^2 around each one, itself left out, and around each found one."""
    if not (math.isfinite(radius_nm) and radius_nm > 0):
        raise EvaluationError(f"neighbourhood_nm={radius_nm} is not above 0: give a radius in nm")
    names = ("frame", "x_nm", "y_nm")
    right, left = read_columns(truth, names, "truth"), read_columns(found, names, "found")
    places, area_um2 = places_apart((right, left), radius_nm), math.pi * radius_nm**2 * 1e-6
    if not len(places[0]):
        return Values(np.zeros(0), np.zeros(len(places[1])))
    tree = cKDTree(places[0])
    near = [tree.query_ball_point(place, radius_nm, return_length=True) for place in places]
    return Values((near[0] - 1) / area_um2, near[1] / area_um2)


def _counts_in(frames: Floats, table: Any) -> Floats:
    """How often the frame of each row of ``table`` stands in ``frames``, ``(rows,)``."""
    numbers, counts = np.unique(frames, return_counts=True)
    wanted = read_columns(table, ("frame",), "table")["frame"]
    if not len(numbers):
        return np.zeros(len(wanted))
    place = np.minimum(np.searchsorted(numbers, wanted), len(numbers) - 1)
    return np.where(numbers[place] == wanted, counts[place], 0).astype(np.float64)


def _require_rows(values: Values, result: Score) -> None:
    matches = result.matches
    for column, rows, what in (
        (values.truth, matches.truth_count, "true"), (values.found, matches.found_count, "found")
    ):  # fmt: skip
        if column is None:
            continue
        if np.shape(column) != (rows,) or not np.all(np.isfinite(column)):
            raise EvaluationError(
                f"values of shape {np.shape(column)} are not one finite number for each of {rows} "
                f"{what} emitters: give one each"
            )


def _checked_edges(edges: npt.ArrayLike) -> Floats:
    limits = np.asarray(edges, np.float64)
    if limits.ndim != 1 or len(limits) < 2 or not np.all(np.diff(limits) > 0):
        raise EvaluationError(f"edges={edges!r} do not rise: give at least two, lowest first")
    return limits


def _edges_of(values: Floats, bins: int) -> Floats:
    """Edges that part the values evenly, as far as equal values let them; none of none."""
    if bins < 1:
        raise EvaluationError(f"bins={bins} is below 1: give the number of bins")
    if not len(values):
        return np.zeros(0)
    rest = np.sort(values)
    edges, top = [rest[0]], rest[-1]
    for left in range(bins, 1, -1):
        cut = rest[min(len(rest) // left, len(rest) - 1)]
        if cut == rest[0]:  # of many equal values: all of them in one bin
            cut = rest[min(np.searchsorted(rest, cut, "right"), len(rest) - 1)]
        if cut == rest[0]:
            break
        edges.append(cut)
        rest = rest[np.searchsorted(rest, cut) :]
    return np.array([*edges, top])


def _member(values: Floats, edges: Floats, *, clip: bool) -> npt.NDArray[np.int64]:
    """Number of each value's bin, -1 if none; the last bin has its upper edge."""
    number = np.searchsorted(edges, values, "right") - 1
    last = len(edges) - 2
    number = np.where(values == edges[-1], last, number)
    if clip:
        return np.clip(number, 0, last)
    return np.where(number > last, -1, number)


def _bin(
    number: int,
    edges: Floats,
    of_truth: npt.NDArray[np.int64],
    of_false: npt.NDArray[np.int64] | None,
    result: Score,
) -> Bin:
    """The score of one bin."""
    matches = result.matches
    pairs = of_truth[matches.truth_rows] == number
    hits = int(pairs.sum())
    there = int(((of_truth == number) & result.counted_truth).sum())
    extra = None if of_false is None else int((of_false == number).sum())
    return Bin(
        low=float(edges[number]),
        high=float(edges[number + 1]),
        true_emitters=there,
        true_positives=hits,
        false_positives=extra,
        recall=share(hits, there),
        precision=None if extra is None else share(hits, hits + extra),
        jaccard=None if extra is None else share(hits, there + extra),
        rmse_lateral_nm=root_mean_square(matches.lateral_nm[pairs]),
        rmse_axial_nm=math.nan
        if matches.axial_nm is None
        else root_mean_square(matches.axial_nm[pairs]),
    )
