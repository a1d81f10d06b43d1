"""What a PSF table is made of and measured by: the images of one set of optics, at any height.

Whichever model serves the optics (radial integrals, pupil, measured, spectrum, bead, modality)
gives them, as one image or as the six basis images of a dipole, together with the light each should
hold. ``ExactPoints`` are images off the table's grid, from which its error is taken.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from simscope.optics.dipoles import FREE_MOMENTS, analyser_angle_deg, image_weights, moments
from simscope.optics.model import Reach, image_model
from simscope.optics.pixels import Window
from simscope.optics.table import SplineTable, taper

FloatArray = NDArray[np.float64]

HELD_SHARE = 0.96
"""Share of the light an automatic window tries to hold at every height."""

CHECK_POINTS = 48

DIM_SHARE = 0.01
"""Share of the brightest height's light below which losses are counted against this much light."""


@dataclass(frozen=True)
class TableRequest:
    """What a table is to hold, apart from the optics; see ``build_table``."""

    focus_nm: float
    z_min_nm: float
    z_max_nm: float
    pixel_nm: float
    window_px: int | Literal["auto"]
    max_window_px: int
    accuracy: float
    dipoles: bool = False
    frame_shape: tuple[int, int] | None = None


class TableImages:
    """The images of one set of optics that a table is to hold, from whichever model serves them."""

    def __init__(self, optics: Any, request: TableRequest) -> None:
        self.given = self.optics = optics
        self.request = request
        self.count = 6 if request.dipoles else 1
        self.analyser_deg = analyser_angle_deg(optics) if request.dipoles else None
        if request.dipoles:
            # the basis images are filtered here, so that their energies stay those of all light
            self.optics = optics.model_copy(update={"analyser": None})

    def at_height(self, z_nm: float) -> TableImages:
        """The same images of one height alone."""
        return TableImages(self.given, replace(self.request, z_min_nm=z_nm, z_max_nm=z_nm))

    def model(self, shape: tuple[int, int], z_nm: FloatArray, per_pixel: int | None) -> Any:
        """Model ten times more exact than the table is to be; the z range may run on below 0."""
        request = self.request
        return image_model(
            self.optics,
            Window(shape, request.pixel_nm, per_pixel, blur_nm=self.optics.blur_nm),
            Reach(
                (float(z_nm.min()), float(z_nm.max())),
                (request.focus_nm, request.focus_nm),
                0.5 * request.pixel_nm if per_pixel is None else 0.0,
            ),
            accuracy=0.1 * request.accuracy,
        )

    def images(
        self, model: Any, z_nm: FloatArray, x_nm: FloatArray | float = 0.0,
        y_nm: FloatArray | float = 0.0,
    ) -> FloatArray:  # fmt: skip
        """Images at heights, float64 (heights, images, y, x)."""
        places = (z_nm, self.request.focus_nm, x_nm, y_nm)
        if self.request.dipoles:
            basis = model.basis_images(*places, analyser_deg=self.analyser_deg)
            return np.asarray(basis, dtype=np.float64)
        return np.asarray(model.images(*places), dtype=np.float64)[:, None]

    def light(self, model: Any, z_nm: FloatArray) -> tuple[FloatArray, FloatArray]:
        """What the images would sum to on an infinite camera, (heights, images), and energies.

        The energies of the basis images, (heights, 6), are what weights are normalised by; without
        dipoles there are none, (0, 6).
        """
        if self.request.dipoles:
            energies = np.asarray(model.basis_energies(z_nm), dtype=np.float64)
            # an analyser passes half of what all orientations together send
            return energies * (1.0 if self.analyser_deg is None else 0.5), energies
        expected = np.ones((z_nm.size, 1))
        if hasattr(model, "energies"):
            expected *= np.asarray(model.energies(z_nm, self.request.focus_nm))[:, None]
        elif self.optics.analyser is not None:
            expected *= 0.5
        return expected, np.empty((0, 6))

    @property
    def continues_below(self) -> bool:
        """Whether heights a little beyond the range can be computed, below the coverslip even.

        Computed images of molecules continue analytically. Measured ones end with their stack, and
        a bead cannot sink into the glass.
        """
        return self.optics.measured is None and self.optics.bead_diameter_nm == 0.0

    def left_out(self, sums: FloatArray, expected: FloatArray) -> FloatArray:
        """Largest share of light missing at each height; ``sums`` (heights, images)."""
        if self.analyser_deg is not None:
            sums, expected = (a[:, :3].sum(axis=1, keepdims=True) for a in (sums, expected))
        sums, expected = sums[:, :3], expected[:, :3]
        light = np.maximum(expected, DIM_SHARE * expected.max())
        return np.asarray(((expected - sums) / light).max(axis=1))


def automatic_window(images: TableImages) -> int:
    """Smallest odd window [px] that holds 96 % of the light at every height, capped."""
    request = images.request
    widest = request.max_window_px
    z_nm = np.unique(np.linspace(request.z_min_nm, request.z_max_nm, 9))
    model = images.model((widest, widest), z_nm, None)
    sampled = images.images(model, z_nm)
    expected, _ = images.light(model, z_nm)
    offset = np.arange(widest) - widest // 2
    for window in range(9, widest, 2):
        weight = taper(offset.astype(np.float64), window)
        held = np.einsum("zkyx,y,x->zk", sampled, weight, weight)
        if images.left_out(held, expected).max() <= 1.0 - HELD_SHARE:
            return window
    return int(widest)


class ExactPoints:
    """The exact model at fixed pseudo-random points off the table's grid, to measure errors by."""

    def __init__(
        self, images: TableImages, window: int, place: tuple[float, float] | None = None,
        points: int = CHECK_POINTS,
    ) -> None:  # fmt: skip
        request = images.request
        seed = 20140926 if place is None else [round(v) for v in place]
        draws = np.random.default_rng(seed).random((3, points))
        self.window = window
        self.pixel_nm = request.pixel_nm
        self.x, self.y = (draws[:2] - 0.5) * self.pixel_nm
        self.z = request.z_min_nm + draws[2] * (request.z_max_nm - request.z_min_nm)
        model = images.model((window, window), self.z, None)
        exact = images.images(model, self.z, self.x, self.y)
        self.place = place
        self.weights = None
        if request.dipoles:
            self.weights = image_weights(_orientations(points), model.basis_energies(self.z))
        total = exact[:, 0] if self.weights is None else np.einsum(
            "nk,nkyx->nyx", self.weights, exact)  # fmt: skip
        middle = np.arange(window) - window // 2
        weight_y, weight_x = (
            taper(middle - shift[:, None] / self.pixel_nm, window) for shift in (self.y, self.x)
        )
        self.images = total * weight_y[:, :, None] * weight_x[:, None, :]

    def error(self, table: SplineTable) -> float:
        """Worst difference of the rendered table from the exact model, over the table's peak."""
        middle = (self.window // 2 + 0.5) * self.pixel_nm
        if self.place is not None:
            # the image of the field around one place, wherever its emitters are drawn
            table = _frozen(table, self.place)
        rendered = table.render(
            self.x + middle, self.y + middle, self.z, np.ones(self.z.size),
            np.arange(self.z.size + 1), (self.window, self.window), weights=self.weights,
        )  # fmt: skip
        return float(np.abs(rendered - self.images).max() / table.peak)


def _frozen(table: SplineTable, place: tuple[float, float]) -> SplineTable:
    """A table of one image: the one that a table over the field holds for a place (x, y)."""
    mixture = table._mixture(np.array([place[0]]), np.array([place[1]]), None)
    numbers, weights = mixture.images[0], mixture.weights[0].astype(np.float32)
    one = np.tensordot(weights, table.coefficients[numbers], 1)[None].astype(np.float32)
    return replace(table, coefficients=np.ascontiguousarray(one), node_axes=np.empty((0, 3)))


def _orientations(count: int) -> FloatArray:
    """Moments (count, 6) of fixed dipoles: along x, y, z, freely rotating, then random axes."""
    draws = np.random.default_rng(19590801).random((2, count))
    drawn = moments(np.arccos(draws[0]), 2.0 * np.pi * draws[1])
    drawn[:4] = np.concatenate((np.eye(3, 6), np.array(FREE_MOMENTS)[None]))
    return drawn
