"""Tricubic splines through measured PSFs: values, slopes and integrals at any place.

A cubic spline on a regular grid is, in every cell, a cubic polynomial of the distance ``t`` from
the cell's first sample. Calibration files store the 64 coefficients of each cell's powers; a plain
stack of samples is stored as B-spline coefficients instead, 4 of which make a cell's polynomial
along an axis. One 4x4 matrix tells the two apart, so that one piece of code evaluates both: along
each axis the spline is a row of a matrix times the stored ``nodes``.

Measured images end somewhere. Beyond the outermost samples the spline is faded to zero, so that
images and tables have no step there: the light beyond is unknown, not absent.

Sources: Li et al., Nat. Methods 15, 367 (2018), for the cell polynomials; Unser, IEEE Signal
Process. Mag. 16(6), 22 (1999), for B-splines.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from simscope.optics.legendre import legendre_rule

FloatArray = NDArray[np.float64]

POWERS: FloatArray = np.eye(4)
"""Cells that store coefficients of 1, t, t^2 and t^3."""

B_SPLINES: FloatArray = (
    np.array([[1.0, 4, 1, 0], [-3, 0, 3, 0], [3, -6, 3, 0], [-1, 3, -3, 1]]) / 6.0
)
"""Powers of t (rows) in the four cubic B-splines that reach into a cell (columns)."""

FADE_PX = 1.5
"""Width of the fall to zero at the lateral edges; it ends half a pixel beyond the last sample."""

GAUSS_NODES = 8
"""Nodes per cell of integrals over the image: exact for the cubic, 1e-9 for the fade."""


@dataclass(frozen=True)
class SplineVolume:
    """Tricubic spline of plane, row and column, each counted in samples from 0.

    ``nodes``: float64, ``stride`` of them from cell to cell along each axis; ``cells``: number of
    cells along each axis, one less than samples; ``local``: (4, 4), ``POWERS`` or ``B_SPLINES``.
    """

    nodes: FloatArray
    cells: tuple[int, int, int]
    stride: int
    local: FloatArray

    @classmethod
    def through(cls, samples: FloatArray) -> SplineVolume:
        """The spline through samples (plane, row, column), third derivative smooth at the ends."""
        nodes = samples
        for axis in range(3):
            nodes = bspline_nodes(nodes, axis)
        planes, rows, columns = samples.shape
        return cls(nodes, (planes - 1, rows - 1, columns - 1), 1, B_SPLINES)

    @classmethod
    def of_cells(cls, powers: FloatArray) -> SplineVolume:
        """The spline of cell polynomials (plane, row, column, power of plane, row, column)."""
        planes, rows, columns = powers.shape[:3]
        ordered = powers.transpose(0, 3, 1, 4, 2, 5)
        nodes = np.ascontiguousarray(ordered, np.float64).reshape(4 * planes, 4 * rows, 4 * columns)
        return cls(nodes, (planes, rows, columns), 4, POWERS)

    def matrix(self, axis: int, places: FloatArray, order: int = 0) -> FloatArray:
        """Matrix (places, nodes) from the nodes along an axis to values, or to slopes by place."""
        cell, weights = self._local_weights(axis, places, order)
        matrix = np.zeros((places.size, self.nodes.shape[axis]))
        columns = self.stride * cell[:, None] + np.arange(4)
        np.put_along_axis(matrix, columns, weights, axis=1)
        return matrix

    def faded_matrix(self, axis: int, places: FloatArray, order: int = 0) -> FloatArray:
        """As ``matrix``, of the spline faded to zero at the two ends of a lateral axis."""
        fade, slope = edge_fade(places, self.cells[axis])
        if order == 0:
            return fade[:, None] * self.matrix(axis, places)
        return fade[:, None] * self.matrix(axis, places, 1) + slope[:, None] * self.matrix(
            axis, places
        )

    def plane(self, place: float, order: int = 0) -> FloatArray:
        """Nodes of the image at a plane, or of its slope by plane, (nodes row, nodes column)."""
        cell, weights = self._local_weights(0, np.array([place]), order)
        first = self.stride * int(cell[0])
        return np.tensordot(weights[0], self.nodes[first : first + 4], 1)

    def light(self, place: float, order: int = 0) -> float:
        """Integral of the faded image at a plane over rows and columns, or its slope by plane."""
        cell, weights = self._local_weights(0, np.array([place]), order)
        first = self.stride * int(cell[0])
        return float(weights[0] @ self._lights[first : first + 4])

    @cached_property
    def _lights(self) -> FloatArray:
        """Lateral integral of every node plane."""
        rows, columns = (self._integral(axis) for axis in (1, 2))
        return (self.nodes @ columns) @ rows

    def _integral(self, axis: int) -> FloatArray:
        """Row (nodes,) that integrates the faded spline along a lateral axis."""
        cells = self.cells[axis]
        x, w = legendre_rule(GAUSS_NODES)
        edges = np.concatenate(([-0.5], np.arange(cells + 1.0), [cells + 0.5]))
        half = 0.5 * np.diff(edges)[:, None]
        places = (edges[:-1, None] + half * (1.0 + x)).ravel()
        return (half * w).ravel() @ self.faded_matrix(axis, places)

    def _local_weights(
        self, axis: int, places: FloatArray, order: int
    ) -> tuple[NDArray[np.int64], FloatArray]:
        """Cell of each place (places,) and weights of its four nodes (places, 4)."""
        cell = np.clip(np.floor(places), 0, self.cells[axis] - 1).astype(np.int64)
        t = (places - cell)[:, None]
        power = np.arange(4)
        powers = t**power if order == 0 else power * t ** np.maximum(power - 1, 0)
        return cell, powers @ self.local


def edge_fade(places: FloatArray, cells: int) -> tuple[FloatArray, FloatArray]:
    """Weight [1] of measured samples at ``places`` along an axis, and its slope by place.

    1 inside, falling as cos^2 over ``FADE_PX`` to 0 at half a sample beyond the outermost ones.
    """
    offset = places - 0.5 * cells
    share = (np.abs(offset) - (0.5 * cells + 0.5 - FADE_PX)) / FADE_PX
    angle = 0.5 * np.pi * np.clip(share, 0.0, 1.0)
    slope = -np.sin(2.0 * angle) * (0.5 * np.pi / FADE_PX) * np.sign(offset)
    inside = share < 1.0
    return np.where(inside, np.cos(angle) ** 2, 0.0), np.where(inside, slope, 0.0)


def smoothing_matrix(count: int, cells: int) -> FloatArray:
    """Matrix (count, count) from evenly spaced samples to their least-squares spline's values.

    The cubic spline has ``cells`` cells of equal width over the samples, at most ``count - 3``.
    Cubic polynomials pass unchanged; white noise keeps the share ``(cells + 3) / count`` of its
    variance on average, the trace of the projection over the samples.
    """
    spline = SplineVolume(np.zeros((cells + 3, 0, 0)), (cells, 0, 0), 1, B_SPLINES)
    design = spline.matrix(0, np.linspace(0.0, cells, count))
    basis, _ = np.linalg.qr(design)
    return np.asarray(basis @ basis.T)


def bspline_nodes(samples: FloatArray, axis: int) -> FloatArray:
    """B-spline coefficients through samples along an axis, two more than samples.

    The spline passes through every sample; at either end its third derivative runs on smoothly
    across the second sample ("not a knot"), so that no slope is made up. Needs four samples.
    """
    count = samples.shape[axis]
    system = np.zeros((count + 2, count + 2))
    for row in range(count):
        system[row, row : row + 3] = (1.0 / 6.0, 4.0 / 6.0, 1.0 / 6.0)
    fourth_difference = (1.0, -4.0, 6.0, -4.0, 1.0)
    system[count, :5] = fourth_difference
    system[count + 1, -5:] = fourth_difference
    values = np.moveaxis(samples, axis, 0).reshape(count, -1)
    padded = np.concatenate((values, np.zeros((2, values.shape[1]))))
    nodes = np.linalg.solve(system, padded)
    shape = (count + 2, *np.moveaxis(samples, axis, 0).shape[1:])
    return np.moveaxis(nodes.reshape(shape), 0, axis)
