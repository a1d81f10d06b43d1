"""Draws the picture of docs/targets.md into docs/images: `python docs/target_figures.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import simscope as ss
from simscope.show import save_figure, style
from simscope.targets import DensityTarget, LabelTarget, WavefrontTarget

IMAGES = Path(__file__).parent / "images"


@style.styled
def targets() -> Figure:
    """A frame and its density map, bodies in focus and their labels, and a wavefront."""
    molecules = ss.Simulator(ss.load_recipe("smlm-3d-tetrapod"), seed=7)
    bodies = ss.Simulator(
        ss.load_recipe("volume-cells").replace_all(
            {"structure.scale_um": 1.5, "structure.fill": 0.2, "acquisition.focus_nm": 2000}
        ),
        seed=7,
    )
    beads = ss.Simulator("psf-zernike", seed=7)
    seen, cells, stacks = (simulator.batch(0, 1) for simulator in (molecules, bodies, beads))
    density = DensityTarget(blur_cells=1.5).of(molecules, seen)[0, 0]
    labels = LabelTarget(section="focus").of(bodies, cells)[0, 0]
    path_nm = WavefrontTarget(pupil_px=256).of(beads, stacks)[0]
    far = float(np.abs(path_nm).max())
    figure = style.new_figure(11.0, 2.5)
    panels = figure.subplots(1, 5)
    for axes in panels:
        style.bare(axes)
    panels[0].imshow(seen.images[0], cmap=style.LIGHT)
    panels[1].imshow(density, cmap=style.LIGHT, vmax=0.5 * density.max())
    panels[2].imshow(cells.images[0], cmap=style.LIGHT)
    numbers = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)  # those in view
    colours = np.ma.masked_array(numbers % 10, labels == 0)
    panels[3].imshow(colours, cmap="tab10", interpolation="nearest")
    panels[4].imshow(np.ma.masked_equal(path_nm, 0), cmap="RdBu", vmin=-far, vmax=far)
    names = ("frame", "density", "bodies", "labels", "wavefront")
    for axes, name in zip(panels, names, strict=True):
        axes.set_title(name, fontsize=8)
    return figure


if __name__ == "__main__":
    print(save_figure(targets(), IMAGES / "targets.png", force=True))
