"""One look for every picture: fonts, colours, scale bars, and saving without global state."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from simscope.dataset.output import replacing
from simscope.errors import DatasetError

TRUTH = "#ff9f1c"
FOUND = "#2ec4b6"
MISSED = "#ff4d6d"
FALSE = "#c77dff"
INK = "#1f2933"
SOFT = "#7b8794"
SERIES = ("#0b6e99", "#d1495b", "#6a994e", "#8d5fd3")

COUNTS = "gray"
LIGHT = "inferno"
PHASE = "RdBu_r"
CYCLIC = "twilight_shifted"

STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.titlecolor": INK,
    "axes.labelsize": 9.0,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "text.color": INK,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "image.interpolation": "nearest",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}
DPI = 150

Arguments = ParamSpec("Arguments")


def styled(draw: Callable[Arguments, Figure]) -> Callable[Arguments, Figure]:
    """Decorator: the figure is drawn in simscope's style, whatever the user's own settings."""

    @functools.wraps(draw)
    def draw_in_style(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Figure:
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return draw_in_style


def new_figure(width_in: float, height_in: float) -> Figure:
    """An empty figure with its own canvas, unknown to pyplot."""
    figure = Figure(figsize=(width_in, height_in), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png_bytes(figure: Figure) -> bytes:
    """The figure as a PNG file's bytes."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def save_figure(
    figure: Figure,
    path: str | os.PathLike[str],
    *,
    force: bool = False,
    inputs: Sequence[str | os.PathLike[str]] = (),
) -> Path:
    """Path of the PNG file written; ``inputs`` are files it must never replace.

    Raises
    ------
    DatasetError
        If the name does not end in ``.png``, or the file exists (unless ``force``), is one of
        ``inputs``, or cannot be written.
    """
    require_picture_name(path)
    return write_new(path, png_bytes(figure), force=force, inputs=inputs)


def require_picture_name(path: str | os.PathLike[str]) -> None:
    """Refuse names whose ending promises another kind of file.

    Raises
    ------
    DatasetError
        If the name does not end in ``.png``.
    """
    if Path(path).suffix.lower() != ".png":
        raise DatasetError(f"{path}: pictures are written as PNG; give a name ending in .png")


def write_new(
    path: str | os.PathLike[str],
    content: bytes,
    *,
    force: bool = False,
    inputs: Sequence[str | os.PathLike[str]] = (),
) -> Path:
    """Path of a new file with this content, written whole or not at all.

    Raises
    ------
    DatasetError
        If the file exists (unless ``force``), is one of ``inputs``, or cannot be written.
    """
    with replacing(path, force=force, inputs=inputs) as part:
        part.write_bytes(content)
    return Path(path)


def height_map() -> Colormap:
    """Colours for heights: the light part of plasma, readable on black and on grey."""
    shades = matplotlib.colormaps["plasma"](np.linspace(0.3, 1.0, 256))
    return LinearSegmentedColormap.from_list("heights", shades)


def bare(axes: Axes) -> None:
    """Take ticks and frame off a picture."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def scale_bar(axes: Axes, width_um: float, height_um: float, *, colour: str = "white") -> None:
    """Draw a bar of a round length about a quarter of the picture wide, in data units of um."""
    length = round_length(0.25 * width_um)
    thickness = 0.02 * height_um
    left, top = 0.95 * width_um - length, 0.93 * height_um
    margin = 0.03 * width_um
    backing = (left - margin, 0.82 * height_um)
    axes.add_patch(
        Rectangle(backing, length + 2 * margin, 0.16 * height_um, color="black", alpha=0.55, lw=0,
                  zorder=3)
    )  # fmt: skip
    axes.add_patch(Rectangle((left, top), length, thickness, color=colour, lw=0, zorder=4))
    axes.text(
        left + length, top - 0.02 * height_um, f"{length:g} µm",
        color=colour, ha="right", va="bottom", fontsize=7, zorder=4,
    )  # fmt: skip


def round_length(length: float) -> float:
    """Largest of 1, 2, 5 times a power of ten that is not above ``length``."""
    power = 10.0 ** np.floor(np.log10(length))
    return float(max(step * power for step in (1.0, 2.0, 5.0) if step * power <= length * 1.0001))


def grey_scale(images: Any, *, root: bool = False) -> Normalize:
    """Grey scale [ADU] that shows nearly all pixels; ``root`` brightens faint light."""
    low, high = np.percentile(np.asarray(images), (0.1, 99.95 if root else 99.8))
    high = max(high, low + 1.0)
    return PowerNorm(0.5, low, high, clip=True) if root else Normalize(low, high)


def note_range(image: Any, axes: Axes | Sequence[Axes], label: str) -> None:
    """Colour bar beside the pictures."""
    figure: Any = (axes if isinstance(axes, Axes) else axes[0]).get_figure()
    bar = figure.colorbar(image, ax=axes, shrink=0.6, aspect=28, pad=0.015)
    bar.set_label(label)
    bar.outline.set_visible(False)
