"""Gaussian spots: the simplest image model, and its rendering without any table.

A spot's widths along x and y grow with the distance from their foci as those of a Gaussian beam,
``sigma = sigma_0 sqrt(1 + (dz / depth)^2)``. In focus ``sigma_0 = 0.21 wavelength / NA`` matches
the paraxial Airy disc (Zhang, Zerubia and Olivo-Marin, Appl. Opt. 46, 1819 (2007)); two foci make
the astigmatism of three-dimensional localisation (Huang et al., Science 319, 810 (2008)). No rings,
no side lobes, no refraction at interfaces: light spread wider than two depths, or near the
coverslip, is not described. Pixel integrals: Smith et al., Nature Methods 7, 373 (2010).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simscope.device import CPU, Device
from simscope.errors import OpticsError
from simscope.kernels import gaussian as kernels
from simscope.optics.checks import check_numbers
from simscope.optics.interfaces import objective_of
from simscope.optics.pixels import Window
from simscope.optics.scene import GPU_TILE, column, scene
from simscope.recipe.distributions import Distribution
from simscope.recipe.gaussian import GaussianSpot

FloatArray = NDArray[np.float64]
IN_FOCUS = 0.21


@dataclass(frozen=True)
class SpotWidths:
    """Standard deviations of a spot: in focus, depth, heights of the foci of x and y; all nm.

    ``blur_nm``: standard deviation of a blur on top, added in squares.
    """

    sigma_nm: float
    depth_nm: float
    focus_x_nm: float
    focus_y_nm: float
    blur_nm: float = 0.0

    @classmethod
    def of(cls, optics: Any) -> SpotWidths:
        """Widths of a recipe's optics at focus 0, absent ones from the objective."""
        objective = objective_of(optics)
        spot: Any = GaussianSpot() if optics.gaussian is None else optics.gaussian
        for name in ("sigma_nm", "depth_nm", "astigmatism_nm"):
            if isinstance(getattr(spot, name), Distribution):
                raise OpticsError(f"optics.gaussian.{name} is drawn: give a plain number")
        sigma = spot.sigma_nm or IN_FOCUS * objective.wavelength_nm / objective.na
        beam = 4.0 * math.pi * objective.n_sample * sigma**2 / objective.wavelength_nm
        half = 0.5 * spot.astigmatism_nm
        return cls(float(sigma), float(spot.depth_nm or beam), half, -half, float(optics.blur_nm))

    def at_focus(self, focus_nm: float) -> SpotWidths:
        """The same widths about another focal plane."""
        return replace(
            self, focus_x_nm=self.focus_x_nm + focus_nm, focus_y_nm=self.focus_y_nm + focus_nm
        )

    def sigmas_nm(self, z_nm: Any, xp: Any = np) -> tuple[Any, Any]:
        """Standard deviations along x and y [nm] of spots at heights."""
        return self._sigma(z_nm - self.focus_x_nm, xp), self._sigma(z_nm - self.focus_y_nm, xp)

    def slopes(self, z_nm: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Derivatives of the two standard deviations by height [1]."""
        sigmas = self.sigmas_nm(z_nm)
        growth = (self.sigma_nm / self.depth_nm) ** 2
        return (
            growth * (z_nm - self.focus_x_nm) / sigmas[0],
            growth * (z_nm - self.focus_y_nm) / sigmas[1],
        )

    def _sigma(self, defocus_nm: Any, xp: Any) -> Any:
        ratio = defocus_nm / self.depth_nm
        squared = self.sigma_nm**2 * (1.0 + ratio * ratio) + self.blur_nm**2
        return xp.sqrt(squared)


class GaussianModel:
    """Images of Gaussian spots in a window; an ``ImageModel`` with closed-form slopes."""

    def __init__(self, optics: Any, window: Window) -> None:
        self.widths = SpotWidths.of(optics)
        self.window = window

    def images(
        self,
        z_nm: ArrayLike = 0.0,
        focus_nm: ArrayLike = 0.0,
        x_nm: ArrayLike = 0.0,
        y_nm: ArrayLike = 0.0,
    ) -> FloatArray:
        """Probability per pixel, float64 (n, y, x); arguments broadcast to n images."""
        return self.slopes(z_nm, focus_nm, x_nm, y_nm)[:, 0]

    def slopes(
        self,
        z_nm: ArrayLike = 0.0,
        focus_nm: ArrayLike = 0.0,
        x_nm: ArrayLike = 0.0,
        y_nm: ArrayLike = 0.0,
    ) -> FloatArray:
        """Image and its derivatives by x, y and z of the emitter [1/nm], float64 (n, 4, y, x)."""
        z, focus, x, y = check_numbers(z_nm=z_nm, focus_nm=focus_nm, x_nm=x_nm, y_nm=y_nm)
        sigmas, growth = self.widths.sigmas_nm(z - focus), self.widths.slopes(z - focus)
        along_y, along_x = (
            [self._along(axis, *emitter) for emitter in zip(place, sigma, strict=True)]
            for axis, place, sigma in ((0, y, sigmas[1]), (1, x, sigmas[0]))
        )
        return np.stack([
            outer(a, b, growth[1][i], growth[0][i])
            for i, (a, b) in enumerate(zip(along_y, along_x, strict=True))
        ])  # fmt: skip

    def basis_images(self, *_: Any, **__: Any) -> FloatArray:
        """Raise OpticsError: a spot looks the same for every orientation."""
        raise OpticsError(
            "model='gaussian' knows no dipole orientations: use model='vectorial', or dipoles of "
            "kind free"
        )

    def _along(self, axis: int, place_nm: float, sigma_nm: float) -> FloatArray:
        """Shares of pixels along an axis, slopes by place and sigma [1/nm], (3, pixels)."""
        window, per_pixel = self.window, self.window.per_pixel or 1
        count = window.shape[axis]
        middle = 0.5 * (count - 1)
        places = np.arange(count, dtype=np.float64) - middle
        centres: FloatArray = places * (window.pixel_nm / per_pixel)
        if window.points:
            return density(centres - place_nm, sigma_nm)
        edges = centres - 0.5 * window.pixel_nm
        return shares(edges, edges + window.pixel_nm, place_nm, sigma_nm)


def shares(low_nm: FloatArray, high_nm: FloatArray, place_nm: float, sigma_nm: float) -> FloatArray:
    """Shares of a spot between edges, slopes by its place and sigma [1/nm], (3, pixels)."""
    out = np.empty((3, low_nm.size))
    kernels.shares_between(low_nm, high_nm, place_nm, sigma_nm, out[0])
    to_low, to_high = (low_nm - place_nm) / sigma_nm, (high_nm - place_nm) / sigma_nm
    bell_low, bell_high = (
        np.exp(-0.5 * t * t) / (math.sqrt(2.0 * math.pi) * sigma_nm) for t in (to_low, to_high)
    )
    out[1] = bell_low - bell_high
    out[2] = to_low * bell_low - to_high * bell_high
    return out


def density(distance_nm: FloatArray, sigma_nm: float) -> FloatArray:
    """Density of a spot along an axis [1/nm], slopes by its place and sigma, (3, points)."""
    t = distance_nm / sigma_nm
    bell = np.exp(-0.5 * t * t) / (math.sqrt(2.0 * math.pi) * sigma_nm)
    return np.stack([bell, bell * t / sigma_nm, bell * (t * t - 1.0) / sigma_nm])


def outer(y: FloatArray, x: FloatArray, growth_y: float, growth_x: float) -> FloatArray:
    """Image and slopes by x, y and z from those along both axes, (4, rows, columns)."""
    by_z = growth_x * np.multiply.outer(y[0], x[2]) + growth_y * np.multiply.outer(y[2], x[0])
    return np.stack([
        np.multiply.outer(y[0], x[0]), np.multiply.outer(y[0], x[1]),
        np.multiply.outer(y[1], x[0]), by_z,
    ])  # fmt: skip


@dataclass(frozen=True)
class GaussianSpots:
    """Gaussian spots put anywhere in frames: what ``SplineTable`` is to other models.

    ``error``: largest error of a pixel as a share of the light, that of the window's end.
    """

    widths: SpotWidths
    pixel_nm: float
    z0_nm: float
    z_max_nm: float
    focus_nm: float
    error: float = kernels.LEFT_OUT
    images: int = 1
    for_dipoles: bool = False

    @property
    def window_px(self) -> int:
        """Side of the widest spot's window [px]."""
        ends = np.array([self.z0_nm, self.z_max_nm])
        sigma = max(float(s.max()) for s in self.widths.sigmas_nm(ends)) / self.pixel_nm
        return int(kernels.window_of(sigma, sigma))

    @property
    def energy_left_out(self) -> FloatArray:
        """(heights, 2): heights [nm] and largest share of the light outside windows."""
        return np.array([[z, kernels.LEFT_OUT] for z in sorted({self.z0_nm, self.z_max_nm})])

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
        """Expected photons per pixel, as ``SplineTable.render``; there are no ``weights``."""
        _refuse_weights(weights)
        found = scene(x_nm, y_nm, z_nm, photons, frame_offsets, shape, out, device)
        self._check_heights(found.z_nm)
        sigmas = self.widths.sigmas_nm(found.z_nm, device.xp)
        sigma_x, sigma_y = (sigma / self.pixel_nm for sigma in sigmas)
        x, y = found.x_nm / self.pixel_nm, found.y_nm / self.pixel_nm
        driver = device.kernels("gaussian")
        if not device.is_gpu:
            spots = found.offsets, x, y, sigma_x, sigma_y, found.photons, found.out
            band = found.band_rows(self.window_px, int(threads))
            driver.spots(*spots, band, int(threads))
            return found.out
        count, xp = int(x.size), device.xp
        windows = xp.zeros(count, np.int64)
        driver.windows_of(count, sigma_y, sigma_x, windows)
        across, down = (xp.zeros((count, self.window_px), np.float32) for _ in range(2))
        driver.pixel_shares(across.size, x, sigma_x, windows, across)
        driver.pixel_shares(down.size, y, sigma_y, windows, down)
        tiles = found.tiles(x, y, windows)
        driver.spots(
            found.out.size, *tiles, x, y, across, down, found.photons, windows, found.out, *GPU_TILE
        )
        return found.out

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

        The window is centred on the pixel that holds the emitter, as in
        ``SplineTable.derivatives``; there are no ``weights``.
        """
        _refuse_weights(weights)
        size = self.window_px if window_px is None else int(window_px)
        x, y, z = np.broadcast_arrays(
            *(column(n, v, CPU) for n, v in (("x_nm", x_nm), ("y_nm", y_nm), ("z_nm", z_nm)))
        )
        self._check_heights(z)
        sigmas, growth = self.widths.sigmas_nm(z), self.widths.slopes(z)
        found = np.empty((4, z.size, size, size))
        for e in range(z.size):
            along_y, along_x = (
                self._along(float(place), float(sigma), size)
                for place, sigma in ((y[e], sigmas[1][e]), (x[e], sigmas[0][e]))
            )
            found[:, e] = outer(along_y, along_x, growth[1][e], growth[0][e])
        return found[0], found[1], found[2], found[3]

    def _along(self, place_nm: float, sigma_nm: float, size: int) -> FloatArray:
        """Shares of the pixels of a window along an axis and their slopes, (3, size)."""
        first = math.floor(place_nm / self.pixel_nm) - size // 2
        edges: FloatArray = np.arange(first, first + size + 1, dtype=np.float64) * self.pixel_nm
        return shares(edges[:-1], edges[1:], place_nm, sigma_nm)

    def _check_heights(self, z: Any) -> None:
        low, high = (float(z.min()), float(z.max())) if z.size else (self.z0_nm, self.z_max_nm)
        if low < self.z0_nm - 1e-6 or high > self.z_max_nm + 1e-6:
            raise OpticsError(
                f"z_nm from {low:g} to {high:g} leaves the range [{self.z0_nm:g}, "
                f"{self.z_max_nm:g}] the spots were set up for: set them up for the wider range"
            )


def _refuse_weights(weights: ArrayLike | None) -> None:
    if weights is not None:
        raise OpticsError("Gaussian spots hold one image: leave weights out")


def gaussian_spots(
    optics: Any, *, focus_nm: float, z_min_nm: float, z_max_nm: float, pixel_nm: float
) -> GaussianSpots:
    """Gaussian spots of optics with ``model: gaussian`` for heights of a range."""
    widths = SpotWidths.of(optics).at_focus(focus_nm)
    return GaussianSpots(widths, pixel_nm, z_min_nm, z_max_nm, focus_nm)
