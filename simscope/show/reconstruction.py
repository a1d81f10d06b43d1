"""A super-resolved picture from a blinking movie: every localisation adds a small spot."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import ndimage

from simscope.dataset import Dataset
from simscope.show import style

BIN_NM = 20.0
BLUR_NM = 15.0


@style.styled
def reconstruction_figure(data: Dataset, found: npt.NDArray[Any], *, sample: int = 0) -> Figure:
    """Mean of a movie's frames, what was localised in it, and the molecules that shone.

    The two right panels count positions in bins of 20 nm, blurred by 15 nm, on a square-root scale.
    """
    first = sample * data.frames_per_sample
    frames = (found["frame"] >= first) & (found["frame"] < first + data.frames_per_sample)
    truth = data.sample_emitters(sample)
    movie = data.image(sample).reshape(-1, *data.images.shape[-2:])
    height, width = np.array(movie.shape[-2:]) * data.pixel_nm / 1000.0
    figure = style.new_figure(9.2, 3.35)
    left, middle, right = figure.subplots(1, 3)
    for axes in (left, middle, right):
        style.bare(axes)
    left.imshow(movie.mean(axis=0), cmap=style.COUNTS, extent=(0, width, height, 0))
    left.set_title(f"mean of {len(movie)} frames")
    _draw_spots(middle, found[frames], width, height)
    middle.set_title(f"{int(frames.sum()):,} localisations")
    _draw_spots(right, truth, width, height)
    right.set_title(f"truth: {len(truth):,} emitters in frames")
    for axes in (left, middle, right):
        style.scale_bar(axes, width, height)
    return figure


def _draw_spots(axes: Axes, table: npt.NDArray[Any], width_um: float, height_um: float) -> None:
    shape = (int(np.ceil(height_um * 1000 / BIN_NM)), int(np.ceil(width_um * 1000 / BIN_NM)))
    limits = ((0.0, shape[0] * BIN_NM), (0.0, shape[1] * BIN_NM))
    counts, _, _ = np.histogram2d(table["y_nm"], table["x_nm"], bins=shape, range=limits)
    spots = np.sqrt(ndimage.gaussian_filter(counts, BLUR_NM / BIN_NM))
    top = float(np.percentile(spots[spots > 0.05], 99)) if np.any(spots > 0.05) else 1.0
    extent = (0.0, shape[1] * BIN_NM / 1000, shape[0] * BIN_NM / 1000, 0.0)
    axes.imshow(spots, cmap=style.LIGHT, vmin=0.0, vmax=top, extent=extent)
    axes.set_xlim(0, width_um)
    axes.set_ylim(height_um, 0)
