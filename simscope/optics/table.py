"""PSF tables: an image of a unit emitter that can be put anywhere in a frame within a microsecond.

A table holds pixel-integrated images as separable cubic B-splines over height and sub-pixel
position, tapered to zero at the window's edge. It holds one image; or six, of which any dipole's
image is a weighted sum; or one for every node of a grid over the field of view, between which
cubic B-splines interpolate, so that each emitter gets the PSF of its own place. ``table_build.py``
makes them and measures their error.

Source of the B-splines: Unser, IEEE Signal Process. Mag. 16(6), 22 (1999).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simscope.device import CPU, Device
from simscope.errors import OpticsError
from simscope.kernels.splat import in_lanes
from simscope.optics.dipoles import FREE_MOMENTS, image_weights
from simscope.optics.scene import GPU_TILE, column, scene

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

TAPER_PX = 3.0
"""Width of the smooth fall to zero at the window's edge, in pixels (an eighth of small windows)."""


@dataclass(frozen=True)
class NodeAxis:
    """Field nodes along x or y: ``count`` of them from ``first_nm`` on, ``step_nm`` apart.

    Places count from the outer corner of the frame's first pixel. One node stands for the whole
    axis; beyond the outermost nodes the image stays as it is there.
    """

    first_nm: float
    step_nm: float
    count: int

    @property
    def images(self) -> int:
        """B-spline coefficients along this axis, one more than nodes at either end."""
        return 1 if self.count == 1 else self.count + 2

    def mixture(self, place_nm: Any, xp: Any = np) -> tuple[Any, Any, Any]:
        """Images around places, their weights [1] and slopes [1/nm], each (places, 4 or 1)."""
        if self.count == 1:
            one = xp.ones((place_nm.size, 1))
            return xp.zeros(one.shape, np.int64), one, xp.zeros(one.shape)
        place = (place_nm - self.first_nm) / self.step_nm
        within = xp.clip(place, 0.0, self.count - 1.0)
        lowest = xp.minimum(xp.floor(within), self.count - 2.0)
        weights, slopes = cubic(within - lowest, xp)
        slopes = xp.where(within == place, slopes, 0.0) / self.step_nm
        return lowest.astype(np.int64)[:, None] + xp.arange(4), weights.T, slopes.T


@dataclass(frozen=True)
class Mixture:
    """Which images each emitter sums: numbers, weights and their slopes by x and y [1/nm].

    Each (emitters, k), or (1, k) where all emitters sum alike.
    """

    images: Any
    weights: Any
    slope_x: Any
    slope_y: Any

    @classmethod
    def constant(cls, weights: Any, xp: Any = np) -> Mixture:
        """All images with weights (emitters or 1, images) that do not depend on the place."""
        none = xp.zeros_like(weights)
        numbers = xp.broadcast_to(xp.arange(weights.shape[1]), weights.shape)
        return cls(xp.ascontiguousarray(numbers), weights, none, none)

    def row(self, emitter: int) -> tuple[IntArray, FloatArray]:
        """Images of one emitter and (3, k) weights and slopes by x and y."""
        e = min(emitter, self.images.shape[0] - 1)
        return self.images[e], np.stack((self.weights[e], self.slope_x[e], self.slope_y[e]))


@dataclass(frozen=True)
class SplineTable:
    """Images of a unit emitter as cubic B-splines over height and sub-pixel position.

    ``coefficients``: float32 (images, ...) in the layout of ``kernels/splat.py``; lowest height
    ``z0_nm``, step ``dz_nm``, highest ``z_max_nm``. ``error``: worst measured error over ``peak``
    (largest value of the table; of a freely rotating dipole's image where there are six).
    ``energy_left_out``: (heights, 2), columns z [nm] and largest share of the light outside the
    window or lost to its taper. ``energies``: (heights, 6), plane sums of the six basis images, or
    none. ``node_axes``: (2, 3), first place, step [nm] and count of field nodes along y and x, or
    none.
    """

    coefficients: NDArray[np.float32]
    per_pixel: int
    window_px: int
    pixel_nm: float
    z0_nm: float
    dz_nm: float
    z_max_nm: float
    focus_nm: float
    peak: float
    error: float
    energy_left_out: FloatArray
    energies: FloatArray
    node_axes: FloatArray

    @property
    def images(self) -> int:
        """Images in the table."""
        return int(self.coefficients.shape[0])

    @property
    def for_dipoles(self) -> bool:
        """Whether the table holds the six basis images of a dipole."""
        return bool(self.energies.size)

    @cached_property
    def nodes(self) -> tuple[NodeAxis, NodeAxis] | None:
        """Field nodes along y and x, None if the image does not depend on the field."""
        if not self.node_axes.size:
            return None
        y, x = (NodeAxis(float(a[0]), float(a[1]), round(float(a[2]))) for a in self.node_axes)
        return y, x

    def render(
        self,
        x_nm: ArrayLike,
        y_nm: ArrayLike,
        z_nm: ArrayLike,
        photons: ArrayLike,
        frame_offsets: ArrayLike,
        shape: tuple[int, int],
        out: Any = None,
        *,
        weights: ArrayLike | None = None,
        threads: int = 1,
        device: Device = CPU,
    ) -> Any:
        """Expected photons per pixel, float32 (frames, y, x), added to ``out`` if given.

        Inputs and result lie on ``device``; neither it nor ``threads`` changes a bit.

        Emitters of frame f are those from ``frame_offsets[f]`` to ``frame_offsets[f + 1] - 1``;
        positions count from the outer corner of the first pixel. Emitters outside the frame
        contribute what reaches into it. ``weights``: (emitters, images) of a dipole table, see
        ``orientation_weights``; freely rotating if None. Raises OpticsError for heights outside the
        table, values that are not finite, negative photons or offsets that do not fit.
        """
        found = scene(x_nm, y_nm, z_nm, photons, frame_offsets, shape, out, device)
        xp = device.xp
        mixture = self._mixture(found.x_nm, found.y_nm, weights, device)
        x, y = found.x_nm / self.pixel_nm, found.y_nm / self.pixel_nm
        table = self._on(device)
        emitters = (
            x, y, self._height(found.z_nm), found.photons, xp.ascontiguousarray(mixture.images),
            xp.ascontiguousarray(mixture.weights, dtype=np.float32), found.out,
        )  # fmt: skip
        driver = device.kernels("splat")
        if device.is_gpu:
            flat = table.reshape(*table.shape[:2], -1)
            tiles = found.tiles(x, y, xp.full(1, self.window_px, np.int64))
            driver.splat(
                found.out.size, flat, self.per_pixel, self.window_px, *tiles, *emitters, *GPU_TILE
            )
        else:
            band = found.band_rows(self.window_px, int(threads))
            driver.splat(
                table, self.per_pixel, self.window_px, found.offsets, *emitters, band, int(threads)
            )
        return found.out

    @property
    def in_lanes(self) -> NDArray[np.float32]:
        """The coefficients in the order kernels on the CPU read them, see ``kernels/splat.py``."""
        return np.asarray(self._on(CPU))

    def mixture(
        self, x_nm: ArrayLike, y_nm: ArrayLike, weights: ArrayLike | None = None
    ) -> Mixture:
        """Images that emitters at places sum on the CPU; ``weights`` as in ``render``."""
        return self._mixture(np.asarray(x_nm), np.asarray(y_nm), weights)

    def _on(self, device: Device) -> Any:
        """The coefficients on a device, copied there once; on a CPU in the order it reads."""
        if device.name not in self._copies:
            if device.is_gpu:
                self._copies[device.name] = device.put(self.coefficients)
            else:
                self._copies[device.name] = in_lanes(self.coefficients)
        return self._copies[device.name]

    @cached_property
    def _copies(self) -> dict[str, Any]:
        return {}

    @cached_property
    def _free(self) -> dict[str, Mixture]:
        """What emitters of no given orientation sum, by device."""
        return {}

    def derivatives(
        self,
        x_nm: ArrayLike,
        y_nm: ArrayLike,
        z_nm: ArrayLike,
        window_px: int | None = None,
        *,
        weights: ArrayLike | None = None,
    ) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Image of unit emitters and its derivatives by x, y, z [1/nm], each float64 (n, w, w).

        The window of ``window_px`` pixels (odd, the table's own if None) is centred on the pixel
        that holds the emitter: its first pixel is ``floor(x_nm / pixel_nm) - w // 2``. The
        derivatives are those of the spline, at fixed ``weights`` (as in ``render``). A table of one
        height knows no derivative by z and returns 0. Raises OpticsError for heights outside the
        table or too large a window.
        """
        window = self.window_px if window_px is None else int(window_px)
        if window > self.window_px or window < 1 or window % 2 == 0:
            raise OpticsError(
                f"window_px={window} must be odd and at most the table's {self.window_px}"
            )
        x, y, z = np.broadcast_arrays(
            *(column(n, v, CPU) for n, v in (("x_nm", x_nm), ("y_nm", y_nm), ("z_nm", z_nm)))
        )
        images = np.empty((4, x.size, window, window))
        height = self._height(z)
        mixture = self._mixture(x, y, weights)
        for e in range(x.size):
            step_x, step_y = (
                (1.0 - (v / self.pixel_nm - math.floor(v / self.pixel_nm))) * self.per_pixel
                for v in (float(x[e]), float(y[e]))
            )
            planes = self._planes(float(height[e]), *mixture.row(e))
            images[:, e] = self._unit_image(planes, step_x, step_y, window)
        return images[0], images[1], images[2], images[3]

    def orientation_weights(self, moments: ArrayLike, z_nm: ArrayLike) -> FloatArray:
        """Weights of the six images [1] for dipoles of second moments, float64 (n, 6).

        ``moments``: (n, 6) in the order xx, yy, zz, xy, xz, yz, trace 1. So weighted, an image
        sums to 1 over an infinite camera: weights are moments over the energy sum_k m_k E_k(z).
        Raises OpticsError for a table without basis images, or moments of no dipole.
        """
        if not self.for_dipoles:
            raise OpticsError("this table holds no basis images: build it with dipoles=True")
        z, moment = column("z_nm", z_nm, CPU), np.atleast_2d(np.asarray(moments, dtype=np.float64))
        if moment.shape not in ((z.size, 6), (1, 6)) or not np.isfinite(moment).all():
            raise OpticsError(
                f"moments of shape {moment.shape} do not fit {z.size} emitters: give finite "
                "(emitters, 6), in the order xx, yy, zz, xy, xz, yz"
            )
        if np.abs(moment[:, :3].sum(axis=1) - 1.0).max(initial=0.0) > 1e-6:
            raise OpticsError("moments have a trace other than 1: divide them by xx + yy + zz")
        return image_weights(moment, self._energies(z))

    def _energies(self, z: FloatArray) -> FloatArray:
        """Plane sums of the basis images at heights, (n, 6), by cubic splines."""
        self._height(z)
        if len(self.energies) == 1:
            return np.broadcast_to(self.energies, (z.size, 6))
        from scipy.interpolate import make_interp_spline  # slow to import

        heights = self.energy_left_out[:, 0]
        degree = min(3, len(heights) - 1)
        spline = make_interp_spline(heights, self.energies, k=degree)
        return np.asarray(spline(z), dtype=np.float64)

    def _mixture(self, x: Any, y: Any, weights: ArrayLike | None, device: Device = CPU) -> Mixture:
        """Which images emitters sum, and how much of each."""
        xp = device.xp
        if self.nodes is not None:
            if weights is not None:
                raise OpticsError("a table over the field weighs its images by the place alone")
            return _at_places(self.nodes, x, y, xp)
        if weights is None:
            if device.name not in self._free:
                free = [FREE_MOMENTS] if self.for_dipoles else [[1.0]]
                self._free[device.name] = Mixture.constant(device.put(free, np.float64), xp)
            return self._free[device.name]
        given = device.put(weights, np.float64)
        if given.shape not in ((x.size, self.images), (1, self.images)):
            raise OpticsError(
                f"weights have shape {given.shape}: need ({x.size} emitters, {self.images} images)"
            )
        if not bool(xp.isfinite(given).all()):
            raise OpticsError("weights hold values that are not finite: give plain numbers")
        return Mixture.constant(given, xp)

    def _planes(self, height: float, images: IntArray, weights: FloatArray) -> FloatArray:
        """Lateral coefficients at a height: value, slopes by x and y through the field, by z.

        ``weights``: (3, k) of the chosen images. Returns float64 (4, nodes, nodes).
        """
        planes, rows, m, width = self.coefficients.shape[1:]
        if planes == 1:
            chosen = self.coefficients[images]
            over_z = np.array(((1.0,), (0.0,)))
        else:
            lowest = min(max(math.floor(height), 0), planes - 4)
            chosen = self.coefficients[images, lowest : lowest + 4]
            value, slope = cubic(np.array(height - lowest))
            over_z = np.stack((value, slope / self.dz_nm))
        factors = np.concatenate(
            (weights[:, :, None] * over_z[0], weights[:1, :, None] * over_z[1])
        )
        flat = chosen.reshape(factors[0].size, -1).astype(np.float64)
        blended = (factors.reshape(4, -1) @ flat).reshape(4, rows, m, width)
        nodes = np.zeros((4, rows, max(rows, width * m)))
        nodes[:, :, : width * m] = blended.swapaxes(2, 3).reshape(4, rows, width * m)
        return nodes[:, :, :rows]

    def _unit_image(
        self, planes: FloatArray, step_x: float, step_y: float, window: int
    ) -> FloatArray:
        """Image and derivatives by x, y, z of one emitter, (4, window, window)."""
        value, field_x, field_y, by_z = planes
        rows, rows_slope = (_pixel_basis(self, step_y, window, slope) for slope in (False, True))
        columns, columns_slope = (
            _pixel_basis(self, step_x, window, slope) for slope in (False, True)
        )
        along = value @ columns.T
        return np.array(
            (
                rows @ along,
                rows @ (value @ columns_slope.T + field_x @ columns.T),
                rows_slope @ along + rows @ (field_y @ columns.T),
                rows @ (by_z @ columns.T),
            )
        )

    def _height(self, z: Any) -> Any:
        """Heights in steps above the lowest; OpticsError outside the table."""
        tolerance = 1e-6
        low, high = (float(z.min()), float(z.max())) if z.size else (self.z_max_nm, self.z0_nm)
        if low < self.z0_nm - tolerance or high > self.z_max_nm + tolerance:
            raise OpticsError(
                f"z_nm from {low:g} to {high:g} leaves the table's range [{self.z0_nm:g}, "
                f"{self.z_max_nm:g}]: build the table for the wider range"
            )
        return (z - self.z0_nm) / self.dz_nm


def _at_places(nodes: tuple[NodeAxis, NodeAxis], x: Any, y: Any, xp: Any = np) -> Mixture:
    """Images of field nodes (y outer, x inner) around places in the frame."""
    along_y, along_x = nodes
    row, row_weight, row_slope = along_y.mixture(y, xp)
    column, column_weight, column_slope = along_x.mixture(x, xp)
    shape = (x.size, row.shape[1] * column.shape[1])

    def pairs(first: Any, second: Any) -> Any:
        return (first[:, :, None] * second[:, None, :]).reshape(shape)

    numbers = row[:, :, None] * along_x.images + column[:, None, :]
    return Mixture(
        xp.ascontiguousarray(numbers.reshape(shape)),
        pairs(row_weight, column_weight),
        pairs(row_weight, column_slope),
        pairs(row_slope, column_weight),
    )


def cubic(t: Any, xp: Any = np) -> tuple[Any, Any]:
    """Weights [1] and slopes [per step] of the four nearest cubic B-splines, each (4, ...).

    Products are written out: powers of arrays may differ in the last bit between devices.
    """
    s = 1.0 - t
    t2, s2 = t * t, s * s
    weights = xp.stack([s2 * s, 3 * (t2 * t) - 6 * t2 + 4, 3 * (s2 * s) - 6 * s2 + 4, t2 * t]) / 6.0
    slopes = xp.stack([-s2, 3 * t2 - 4 * t, -3 * s2 + 4 * s, t2]) / 2.0
    return weights, slopes


def _pixel_basis(table: SplineTable, step: float, window: int, slope: bool) -> FloatArray:
    """Matrix (window, nodes) from nodes to pixels along one axis, or to their slope [1/nm]."""
    m = table.per_pixel
    node = math.floor(step)
    weights, slopes = cubic(np.array(step - node))
    four = slopes * (-m / table.pixel_nm) if slope else weights
    matrix = np.zeros((window, table.coefficients.shape[2]))
    skipped = (table.window_px - window) // 2
    for pixel in range(window):
        first = (pixel + skipped) * m + node
        matrix[pixel, first : first + 4] = four
    return matrix


def taper(offset_px: NDArray[Any], window_px: int) -> FloatArray:
    """Weight [1] of the image at ``offset_px`` from the emitter along one axis.

    1 inside, cos^2 to 0 over the last ``TAPER_PX`` pixels before half a pixel from the edge.
    """
    ring = min(TAPER_PX, window_px / 8.0)
    end = 0.5 * window_px - 0.5
    share = np.clip((np.abs(offset_px) - (end - ring)) / ring, 0.0, 1.0)
    return np.cos(0.5 * np.pi * share) ** 2
