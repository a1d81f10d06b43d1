"""PSF tables over the field of view: nodes, and the splines that run across them.

Exact images half way between nodes tell how densely nodes must lie; the finished table's error is
measured at random places of the frame (``table_build.py``).

Source of the not-a-knot end conditions: de Boor, A Practical Guide to Splines (1978), chapter IV.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simscope.errors import OpticsError
from simscope.optics.field_dependence import frame_to_field, optics_at
from simscope.optics.table import NodeAxis, cubic
from simscope.optics.table_images import TableImages, TableRequest

FloatArray = NDArray[np.float64]

CHECK_PLACES = 24
"""Random places of the field at which a table over the field is checked."""

NODE_COUNTS = (1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 22)
"""Field nodes tried along an axis."""

FIELD_SHARE = 0.35
"""Share of the table's accuracy that the spline across nodes may use up."""


class FieldOfView:
    """Optics over the camera frame, place by place; places in nm from the frame's corner."""

    def __init__(self, optics: Any, request: TableRequest) -> None:
        assert request.frame_shape is not None
        self.optics = optics
        self.request = request
        rows, columns = request.frame_shape
        self.size_nm = (rows * request.pixel_nm, columns * request.pixel_nm)

    def images(self, x_nm: float, y_nm: float) -> TableImages:
        """The images of an emitter at a place in the frame."""
        centre = self.optics.field_dependence.frame_centre_nm
        x, y = frame_to_field(x_nm, y_nm, self.size_nm, centre)
        return TableImages(optics_at(self.optics, float(x), float(y)), self.request)

    @property
    def extremes(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Edges and middle of the frame along y and x [nm]."""
        y, x = ((0.0, 0.5 * size, size) for size in self.size_nm)
        return y, x

    def axis(self, axis: int, count: int) -> NodeAxis:
        """``count`` nodes along y (0) or x (1), from edge to edge; one in the middle."""
        size = self.size_nm[axis]
        if count == 1:
            return NodeAxis(0.5 * size, 1.0, 1)
        return NodeAxis(0.0, size / (count - 1), count)

    def check_places(self) -> list[tuple[float, float]]:
        """Fixed pseudo-random places (x, y) of the frame [nm]."""
        draws = np.random.default_rng(20230411).random((CHECK_PLACES, 2))
        return [(float(x * self.size_nm[1]), float(y * self.size_nm[0])) for x, y in draws]

    def node_count(self, axis: int, window: int) -> int:
        """Nodes along an axis between which a spline meets its share of the accuracy.

        Judged half way between nodes, on lines along both edges of the frame.
        """
        line = _Line(self, axis, window)
        error = math.inf
        for count in NODE_COUNTS:
            error = line.error(count)
            if error <= FIELD_SHARE * self.request.accuracy:
                return count
        allowed = FIELD_SHARE * self.request.accuracy
        raise OpticsError(
            f"{NODE_COUNTS[-1]} nodes along {'yx'[axis]} leave an error of {error:.1e} of the "
            f"peak between them, {allowed:.1e} is allowed there so that the whole table keeps to "
            f"accuracy={self.request.accuracy:g}: raise it, use a "
            "field that changes less over the frame, or one whose half_width_nm or maps cover the "
            "frame (at their edge aberrations stop changing, with a kink)"
        )


class _Line:
    """Exact images along two opposite edges of the frame, to judge how densely nodes must lie."""

    HEIGHTS = 5

    def __init__(self, field: FieldOfView, axis: int, window: int) -> None:
        self.field, self.axis, self.window = field, axis, window
        request = field.request
        self.z = np.unique(np.linspace(request.z_min_nm, request.z_max_nm, self.HEIGHTS))
        self._known: dict[float, FloatArray] = {}

    def error(self, count: int) -> float:
        """Worst error half way between ``count`` nodes, over the largest value met [1]."""
        axis = self.field.axis(self.axis, count)
        nodes = np.stack([self._images(axis.first_nm + k * axis.step_nm) for k in range(count)])
        splines = np.tensordot(spline_through(count), nodes, 1)
        size = self.field.size_nm[self.axis]
        halves = (np.arange(max(count - 1, 2)) + 0.5) * size / max(count - 1, 2)
        worst = 0.0
        for place in halves:
            numbers, weights, _ = axis.mixture(np.array([place]))
            between = np.tensordot(weights[0], splines[numbers[0]], 1)
            worst = max(worst, float(np.abs(between - self._images(float(place))).max()))
        return worst / float(nodes.max())

    def _images(self, place_nm: float) -> FloatArray:
        """Exact images at a place of both lines, (2 * heights, images, y, x)."""
        if place_nm not in self._known:
            self._known[place_nm] = np.concatenate(
                [self._exact(place_nm, other) for other in (0.0, self.field.size_nm[1 - self.axis])]
            )
        return self._known[place_nm]

    def _exact(self, along_nm: float, across_nm: float) -> FloatArray:
        place = (along_nm, across_nm) if self.axis else (across_nm, along_nm)
        images = self.field.images(*place)
        model = images.model((self.window, self.window), self.z, None)
        return images.images(model, self.z)


def spline_through(count: int) -> FloatArray:
    """Matrix (count + 2, count) from values on even nodes to B-spline coefficients.

    Without knowledge beyond the ends: not-a-knot conditions, which leave a parabola for three
    nodes and a straight line for two. One node is itself, (1, 1).
    """
    if count == 1:
        return np.ones((1, 1))
    system = np.zeros((count + 2, count + 2))
    for node in range(count):
        system[node, node : node + 3] = cubic(np.array(0.0))[0][:3]
    for row, first in ((count, 0), (count + 1, count - 2)):
        if count == 2:
            # no curvature at the end
            system[row, first + row - count : first + row - count + 3] = (1.0, -2.0, 1.0)
        elif count == 3:
            # no third derivative on the interval
            system[row, first : first + 4] = (-1.0, 3.0, -3.0, 1.0)
        else:
            # the third derivative is the same on both intervals at the end
            first = min(first, count - 3)
            system[row, first : first + 5] = (1.0, -4.0, 6.0, -4.0, 1.0)
    return np.asarray(np.linalg.inv(system)[:, :count], dtype=np.float64)


def across_nodes(
    nodes: list[NDArray[np.float32]], axes: list[NodeAxis], quantum: float
) -> NDArray[np.float32]:
    """B-spline coefficients across field nodes (y outer, x inner), (images, planes, ...).

    ``nodes``: coefficients of every node's table, (planes, ...). Rounded to whole ``quantum``.
    """
    matrix = np.kron(*(spline_through(axis.count) for axis in axes))
    shape = nodes[0].shape
    crossed = np.empty((matrix.shape[0], *shape), dtype=np.float32)
    for plane in range(shape[0]):
        values = np.stack([node[plane].ravel() for node in nodes]).astype(np.float64)
        mixed = np.round((matrix @ values) / quantum) * quantum
        crossed[:, plane] = mixed.reshape(-1, *shape[1:])
    return crossed


def strength_nm(optics: Any) -> float:
    """RMS of the constant wavefront [nm]."""
    wavefront = optics.wavefront
    values = [] if wavefront is None else [*wavefront.coefficients_nm.values()]
    return float(np.sqrt(np.sum(np.square(np.array(values, dtype=np.float64)))))
