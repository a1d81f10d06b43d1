"""Quadrature on pupils that are smooth only between known lines and circles.

Masks made of rings jump across circles, modulators jump and splines of arrays have kinks across the
lines of a grid. The chords of ``quadrature.py`` are cut at all of them, and rows and chords get
Gauss-Legendre nodes in every piece, under the same substitutions at the critical circle and the
pupil edge. Rows are also cut where grid lines meet these circles, unless there are so many that it
does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from simscope.optics.interfaces import Objective
from simscope.optics.quadrature import PupilNodes, gauss

FloatArray = NDArray[np.float64]
Rule = tuple[FloatArray, FloatArray]

NEAR_CENTRE = 0.25
"""Share of the pupil radius within which the middle of a vortex needs its own substitution."""

CENTRE_NODES = 12
"""Nodes that the middle of a vortex gets on top, on a chord through it."""

SOFT_NODES = 4
"""Nodes that every square root at the end of a piece gets on top."""

FEW_LINES = 64
"""Lines up to which rows are cut at their corners with the circles as well."""


@dataclass(frozen=True)
class Stretch:
    """A part of a chord or of the rows, with the substitution that makes it smooth.

    ``place(u)`` and ``slope(u)`` map the variable ``u`` onto pupil coordinates [NA], ``where`` is
    its inverse; the part runs from ``start`` to ``end`` [NA]. ``root`` is the axial index or decay
    rate that varies along it [NA], which sets the phase or decay to be resolved.
    """

    start: float
    end: float
    place: Callable[[FloatArray], FloatArray]
    slope: Callable[[FloatArray], FloatArray]
    where: Callable[[float], float]
    root: Callable[[float], float]

    def rule(self, cuts: list[float], share: float, soft: tuple[float, ...], *, spare: int) -> Rule:
        """Nodes and weights [NA], cut at ``cuts``: ``share`` per length and ``spare`` a piece.

        Pieces that end at one of ``soft`` draw their nodes towards it.
        """
        inside = [cut for cut in cuts if self.start < cut < self.end]
        edges = [self.start, *inside, self.end]
        rules = []
        for low, high in pairwise(edges):
            length = max(high - low, abs(self.root(high) - self.root(low)))
            count = math.ceil(share * length) + spare
            first, last = self.where(low), self.where(high)
            u, weight = _drawn(first, last, count, low in soft, high in soft)
            rules.append((self.place(u), self.slope(u) * weight))
        return join(rules)


def join(rules: list[Rule]) -> Rule:
    """One rule from several, side by side."""
    return np.concatenate([r[0] for r in rules]), np.concatenate([r[1] for r in rules])


def _drawn(first: float, last: float, count: int, from_low: bool, to_high: bool) -> Rule:
    """Gauss nodes on [first, last], drawn to the ends asked for so that square roots are flat."""
    node, weight = gauss(count + SOFT_NODES * (from_low + to_high))
    right = 0.5 * math.pi * node
    if from_low and to_high:
        share, step = np.sin(right) ** 2, 0.5 * np.pi * np.sin(2.0 * right)
    elif to_high:
        share, step = np.sin(right), 0.5 * np.pi * np.cos(right)
    elif from_low:
        share, step = 1.0 - np.cos(right), 0.5 * np.pi * np.sin(right)
    else:
        share, step = node, np.ones_like(node)
    return first + (last - first) * share, (last - first) * step * weight


def towards(end: float, start: float = 0.0) -> Stretch:
    """From ``start`` to ``end``, so that roots of ``end^2 - q^2`` are smooth: q = end sin(u)."""
    return Stretch(
        start,
        end,
        lambda u: end * np.sin(u),
        lambda u: end * np.cos(u),
        lambda q: math.asin(min(q / end, 1.0)),
        lambda q: math.sqrt(max((end - q) * (end + q), 0.0)),
    )


def beyond(start_squared: float, end: float) -> Stretch:
    """Beyond the critical circle, smooth for functions of the decay rate sqrt(q^2 - a^2).

    ``start_squared`` is a^2, negative where the chord lies outside the circle altogether.
    """
    a = max(math.sqrt(abs(start_squared)), 1e-12 * end)
    if start_squared > 0:
        return Stretch(
            a,
            end,
            lambda u: a * np.cosh(u),
            lambda u: a * np.sinh(u),
            lambda q: math.acosh(max(q / a, 1.0)),
            lambda q: math.sqrt(max((q - a) * (q + a), 0.0)),
        )
    return Stretch(
        0.0,
        end,
        lambda u: a * np.sinh(u),
        lambda u: a * np.cosh(u),
        lambda q: math.asinh(q / a),
        lambda q: math.hypot(q, a),
    )


def from_branch(start: float, end: float) -> Stretch:
    """From ``start`` to ``end``, so that roots of ``q - start`` are smooth: q = start + u^2."""
    return Stretch(
        start,
        end,
        lambda u: start + u**2,
        lambda u: 2.0 * u,
        lambda q: math.sqrt(max(q - start, 0.0)),
        lambda q: math.sqrt(max((q - start) * (q + start), 0.0)),
    )


def panel_nodes(
    objective: Objective,
    count: int,
    *,
    radii_na: tuple[float, ...] = (),
    lines_na: tuple[float, ...] = (),
    singular_centre: bool = False,
    nodes_a_piece: int = 2,
) -> PupilNodes:
    """Quadrature nodes cut at circles of ``radii_na`` and at grid lines of ``lines_na``.

    ``count`` nodes per pupil radius are spread over the pieces, and ``nodes_a_piece`` more go to
    each. Chords
    with fewer pieces are filled up with nodes of weight 0.
    """
    na, critical = objective.na, objective.n_sample
    share = count / na
    # rows touch circles from below as square roots, at the centre of a vortex as the distance
    soft = (*radii_na, *((0.0,) if singular_centre else ()))
    few = lines_na if len(lines_na) <= FEW_LINES else ()
    circles = {na, min(na, critical)}
    corners = {math.sqrt((r - q) * (r + q)) for r in circles for q in few if q < r}
    cuts = sorted({*lines_na, *radii_na, *corners})
    if critical >= na:
        ky, row_weight = towards(na).rule(cuts, share, soft, spare=nodes_a_piece)
    else:
        ends = (critical, na, *soft)
        inside = towards(critical).rule(cuts, share, ends, spare=nodes_a_piece)
        ky, row_weight = join(
            [inside, from_branch(critical, na).rule(cuts, 2.0 * share, ends, spare=nodes_a_piece)]
        )
    chords = [
        _chord(objective, row, share, radii_na, lines_na, singular_centre, nodes_a_piece)
        for row in ky
    ]
    longest = max(len(x) for x, _ in chords)
    kx = np.array([np.pad(x, (0, longest - len(x)), mode="edge") for x, _ in chords])
    column_weight = np.array([np.pad(w, (0, longest - len(w))) for _, w in chords])
    return PupilNodes(kx, ky[:, None], row_weight[:, None] * column_weight)


def _chord(
    objective: Objective,
    ky: float,
    share: float,
    radii_na: tuple[float, ...],
    lines_na: tuple[float, ...],
    singular_centre: bool,
    nodes_a_piece: int,
) -> Rule:
    """Rule along the half chord at ``ky``, cut at lines, circles and the critical circle."""
    na, critical = objective.na, objective.n_sample
    crossings = (math.sqrt((r - ky) * (r + ky)) for r in radii_na if r > ky)
    cuts = sorted({*lines_na, *crossings})
    end = math.sqrt((na - ky) * (na + ky))
    crossing_squared = (critical - ky) * (critical + ky)
    parts: list[Rule] = []
    near = min([NEAR_CENTRE * na, *cuts])
    if singular_centre and ky < NEAR_CENTRE * na:
        # (x + i ky) / |x + i ky| varies over lengths of ky: x = ky sinh(u) makes it even
        parts.append(beyond(-(ky**2), near).rule([], share, (), spare=CENTRE_NODES))
    start = near if parts else 0.0
    if critical >= na:
        parts.append(towards(end, start).rule(cuts, share, (), spare=nodes_a_piece))
    elif crossing_squared <= 0:
        parts.append(beyond(crossing_squared, end).rule(cuts, share, (), spare=nodes_a_piece))
    else:
        parts.append(
            towards(math.sqrt(crossing_squared), start).rule(cuts, share, (), spare=nodes_a_piece)
        )
        parts.append(beyond(crossing_squared, end).rule(cuts, share, (), spare=nodes_a_piece))
    return join(parts)
