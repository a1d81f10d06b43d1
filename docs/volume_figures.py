"""Draws the pictures of docs/volumes.md into docs/images: `python docs/volume_figures.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

import simscope as ss
from simscope.recipe.volumes import FORMS
from simscope.show import save_figure, style

IMAGES = Path(__file__).parent / "images"
FOCI_NM = (1000.0, 2000.0, 3000.0)
GAMMA = 0.7  # brightness of what is shown, so that blur is seen beside what is sharp


@style.styled
def volume() -> Figure:
    """A sample of volume-cells seen from above and from the side, and imaged at three foci."""
    recipe = ss.load_recipe("volume-cells").replace_all(
        {"structure.scale_um": 1.0, "structure.fill": 0.12, "photophysics.photons_per_um3": 4000}
    )
    truth = ss.Simulator(recipe, seed=7).volume(0)
    images = [
        ss.Simulator(recipe.replace("acquisition.focus_nm", focus), seed=7)
        .batch(0, 1, expected=True)
        .expected_photons[0]
        for focus in FOCI_NM
    ]
    figure = style.new_figure(10.4, 3.6)
    panels = figure.subplots(2, 4, height_ratios=(4.6, 1.0))
    width_um = 1e-3 * recipe.pixel_nm * truth.shape[2]
    _show(panels[0, 0], truth.max(axis=0), (0, width_um, width_um, 0), "volume, from above")
    row = truth.shape[1] // 2
    depth_um = 1e-3 * recipe.structure.voxel_nm[0] * truth.shape[0]
    section = (0, width_um, 0, depth_um)
    _show(panels[1, 0], truth[:, row], section, None)
    panels[1, 0].set_ylabel("z", rotation=0)
    panels[0, 0].axhline(0.5 * width_um, color=style.TRUTH, lw=0.8)
    brightest = max(float(image.max()) for image in images)
    for column, (focus, image) in enumerate(zip(FOCI_NM, images, strict=True), start=1):
        title = f"image, focus at {1e-3 * focus:g} µm"
        _show(panels[0, column], image, (0, width_um, width_um, 0), title, brightest)
        _show(panels[1, column], truth[:, row], section, None)
        panels[1, column].axhline(1e-3 * focus, color=style.TRUTH, lw=1.0)
    style.scale_bar(panels[0, 0], width_um, width_um)
    return figure


@style.styled
def textures() -> Figure:
    """The families of random textures, and their images out of focus."""
    figure = style.new_figure(10.4, 2.9)
    panels = figure.subplots(2, len(FORMS))
    for column, form in enumerate(FORMS):
        recipe = ss.load_recipe("psf-blind").replace_all(
            {"structure.form": form, "structure.scale_um": 1.0, "acquisition.focus_nm": 600.0}
        )
        simulator = ss.Simulator(recipe, seed=7)
        truth = simulator.volume(0)[0]
        blurred = simulator.batch(0, 1, expected=True).expected_photons[0]
        width_um = 1e-3 * recipe.pixel_nm * truth.shape[1]
        _show(panels[0, column], truth, (0, width_um, width_um, 0), form)
        _show(panels[1, column], blurred, (0, width_um, width_um, 0), None)
    return figure


def _show(
    axes: Axes,
    image: NDArray[np.float32],
    extent: tuple[float, float, float, float],
    title: str | None,
    brightest: float | None = None,
) -> None:
    """Draw light over (left, right, bottom, top) [um], as a share of the brightest."""
    style.bare(axes)
    top = float(image.max()) if brightest is None else brightest
    shown = np.clip(image / top, 0.0, 1.0) ** GAMMA
    axes.imshow(
        shown, cmap=style.LIGHT, vmin=0, vmax=1, extent=extent, aspect="equal",
        origin="lower" if extent[2] < extent[3] else "upper",
    )  # fmt: skip
    if title is not None:
        axes.set_title(title, fontsize=8)


if __name__ == "__main__":
    print(save_figure(volume(), IMAGES / "volume-foci.png", force=True))
    print(save_figure(textures(), IMAGES / "textures.png", force=True))
