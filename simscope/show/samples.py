"""Contact sheets: what the camera sees, with the truth drawn over it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from simscope.dataset import Dataset
from simscope.errors import DatasetError
from simscope.evaluate import Matches
from simscope.recipe import VOLUMES
from simscope.show import style

PANEL_IN = 1.75
STACK_COLUMNS = 7


@style.styled
def contact_sheet(
    data: Dataset,
    *,
    samples: Sequence[int] | None = None,
    truth: bool = True,
    columns: int | None = None,
) -> Figure:
    """Grid of samples with open circles at the emitters; movies and stacks show a row of frames.

    All panels share one grey scale, noted in ADU; it is a square-root scale for stacks. Samples of
    continuous structures differ too much for that: each has a scale of its own, its ends below its
    panels. Circles are coloured by height where heights differ. ``samples`` are the indices shown:
    by default 16, evenly spread, or 4 movies or stacks. ``columns`` applies to single frames.

    Raises
    ------
    DatasetError
        If an index is not in the dataset.
    """
    chosen = _spread(len(data), 16 if data.frames_per_sample == 1 else 4, samples)
    panels = _panels(data, chosen)
    square = math.ceil(math.sqrt(len(panels)))
    shown = min(STACK_COLUMNS, data.frames_per_sample)
    columns = min(shown if data.frames_per_sample > 1 else columns or square, len(panels))
    rows = math.ceil(len(panels) / columns)
    height, width = data.images.shape[-2:]
    figure = style.new_figure(
        PANEL_IN * columns + 1.0, PANEL_IN * rows * height / width + 0.22 * rows + 0.45
    )
    grid = figure.subplots(rows, columns, squeeze=False)
    stack = data.sample_axes[0] == "z"
    scales = _grey_scales(data, [image for _, image, _ in panels], root=stack)
    own_scales, rooted = len(set(map(id, scales))) > 1, stack * ", square root"
    colours = _height_colours([emitters for _, _, emitters in panels]) if truth else None
    for axes, (title, image, emitters), scale in zip(grid.flat, panels, scales, strict=False):
        shown = show_frame(axes, image, data.pixel_nm, scale)
        axes.set_title(title, pad=3)
        if own_scales:
            axes.set_xlabel(f"{scale.vmin:.0f} to {scale.vmax:.0f} ADU{rooted}", labelpad=2)
        if truth:
            draw_emitters(axes, emitters, colours=colours)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    _scale_bar_of(grid[0, 0], data)
    if not own_scales:
        label = "camera counts [ADU]" + stack * ", square-root scale"
        style.note_range(shown, list(grid.flat), label)
    if colours is not None:
        style.note_range(colours, list(grid.flat), "emitter height z [nm]")
    figure.suptitle(f"{data.recipe.name}, seed {data.seed}", fontsize=10, x=0.01, ha="left")
    return figure


@style.styled
def failure_sheet(
    data: Dataset, found: npt.NDArray[Any], matches: Matches, *, frames: int = 8
) -> Figure:
    """Frames with most mistakes: found, missed and false emitters marked, one panel a frame.

    ``matches`` are those with ``data.emitters_in_frame``.
    """
    hit, missed, false = _judged(data, found, matches)
    total = len(data) * data.frames_per_sample
    mistakes = np.bincount(missed["frame"], minlength=total)
    mistakes += np.bincount(false["frame"].astype(np.int64), minlength=total)[:total]
    worst = np.argsort(-mistakes, kind="stable")[: min(frames, total)]
    columns = min(4, len(worst))
    rows = math.ceil(len(worst) / columns)
    figure = style.new_figure(2.35 * columns + 0.1, 2.6 * rows + 0.45)
    grid = figure.subplots(rows, columns, squeeze=False)
    images = [data.frame(int(frame)) for frame in worst]
    for axes, frame, image in zip(grid.flat, worst, images, strict=False):
        show_frame(axes, image, data.pixel_nm, style.grey_scale(image))
        draw_emitters(axes, _rows(hit, frame), edge=style.FOUND, label="found")
        draw_emitters(axes, _rows(missed, frame), edge=style.MISSED, label="missed")
        draw_crosses(axes, _rows(false, frame), label="false")
        lost, extra = len(_rows(missed, frame)), len(_rows(false, frame))
        axes.set_title(f"frame {frame}: {lost} missed, {extra} false", pad=3)
    for axes in grid.flat[len(worst) :]:
        axes.set_axis_off()
    _scale_bar_of(grid[0, 0], data)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def show_frame(axes: Axes, image: npt.NDArray[Any], pixel_nm: float, scale: Normalize) -> Any:
    """Draw camera counts in um from the outer corner of the first pixel."""
    height, width = np.array(image.shape) * pixel_nm / 1000.0
    style.bare(axes)
    return axes.imshow(
        image, cmap=style.COUNTS, norm=scale, extent=(0, width, height, 0), aspect="equal"
    )


def draw_emitters(
    axes: Axes,
    emitters: npt.NDArray[Any],
    *,
    edge: str = style.TRUTH,
    colours: ScalarMappable | None = None,
    label: str | None = None,
) -> None:
    """Open circles at the emitters, coloured by height if a colour scale is given."""
    edges: Any = edge if colours is None else colours.to_rgba(emitters["z_nm"])
    axes.scatter(
        emitters["x_nm"] / 1000.0, emitters["y_nm"] / 1000.0,
        s=16, facecolors="none", edgecolors=edges, linewidths=0.7, label=label, clip_on=True,
    )  # fmt: skip
    _keep_limits(axes)


def draw_crosses(axes: Axes, emitters: npt.NDArray[Any], *, label: str | None = None) -> None:
    """Crosses at localisations that match no emitter."""
    axes.scatter(
        emitters["x_nm"] / 1000.0, emitters["y_nm"] / 1000.0,
        s=18, marker="x", color=style.FALSE, linewidths=1.0, label=label,
    )  # fmt: skip
    _keep_limits(axes)


def _keep_limits(axes: Axes) -> None:
    left, right, bottom, top = axes.images[0].get_extent()
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)


def _scale_bar_of(axes: Axes, data: Dataset) -> None:
    height, width = np.array(data.images.shape[-2:]) * data.pixel_nm / 1000.0
    style.scale_bar(axes, width, height)


def _spread(total: int, count: int, wanted: Sequence[int] | None) -> list[int]:
    if wanted is None:
        return sorted({int(k) for k in np.linspace(0, total - 1, min(count, total))})
    bad = [index for index in wanted if not 0 <= index < total]
    if bad or not wanted:
        raise DatasetError(f"samples {list(wanted)} not all in 0 to {total - 1}: choose others")
    return list(wanted)


def _panels(
    data: Dataset, samples: Sequence[int]
) -> list[tuple[str, npt.NDArray[Any], npt.NDArray[Any]]]:
    """Title, image and emitters of every panel."""
    panels = []
    for index in samples:
        emitters = data.sample_emitters(index)
        if data.frames_per_sample == 1:
            panels.append((f"sample {index}", data.image(index), emitters))
            continue
        shown = min(STACK_COLUMNS, data.frames_per_sample)
        frames = np.linspace(0, data.frames_per_sample - 1, shown).round().astype(int)
        for frame in frames:
            title = f"{index}, {_frame_name(data, int(frame))}"
            image = data.frame(index * data.frames_per_sample + int(frame))
            panels.append((title, image, emitters[emitters["frame"] == frame]))
    return panels


def _grey_scales(data: Dataset, images: Sequence[Any], *, root: bool) -> list[Normalize]:
    """Grey scale of every panel: one for all, or one for each sample of continuous structures."""
    if not isinstance(data.recipe.structure, VOLUMES):
        return [style.grey_scale(images, root=root)] * len(images)
    each = min(STACK_COLUMNS, data.frames_per_sample)
    firsts = range(0, len(images), each)
    scales = [style.grey_scale(images[first : first + each], root=root) for first in firsts]
    return [scale for scale in scales for _ in range(each)]


def _frame_name(data: Dataset, frame: int) -> str:
    focus = data.recipe.acquisition.focus_nm
    if data.sample_axes[0] == "z" and hasattr(focus, "positions_nm"):
        return f"focus {focus.positions_nm[frame]:+.0f} nm"
    return f"frame {frame}"


def _height_colours(tables: Sequence[npt.NDArray[Any]]) -> ScalarMappable | None:
    heights = np.concatenate([table["z_nm"] for table in tables])
    if not len(heights) or np.ptp(heights) == 0:
        return None
    return ScalarMappable(Normalize(heights.min(), heights.max()), style.height_map())


def _judged(
    data: Dataset, found: npt.NDArray[Any], matches: Matches
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    truth = data.emitters_in_frame
    was_hit = np.zeros(len(truth), bool)
    was_hit[matches.truth_rows] = True
    was_right = np.zeros(len(found), bool)
    was_right[matches.found_rows] = True
    return truth[was_hit], truth[~was_hit], found[~was_right]


def _rows(table: npt.NDArray[Any], frame: int) -> npt.NDArray[Any]:
    return table[table["frame"] == frame]
