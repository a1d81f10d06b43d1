"""Pictures of a trust report, each drawn from the report's own numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from simscope.show import style
from simscope.show.judging import normal_density
from simscope.show.samples import draw_crosses, draw_emitters, show_frame

NETWORK, OTHER = style.SERIES[0], style.SERIES[1]
Reading = Mapping[str, Any]
"""How a metric reads: its words, its unit, whether more is better."""


def axis_words(reading: Reading) -> str:
    """Words and unit of a metric."""
    unit = f" [{reading['unit']}]" if reading["unit"] else ""
    return f"{reading['words']}{unit}"


@style.styled
def interval_figure(
    rows: Mapping[str, Mapping[str, Any]], metrics: Mapping[str, Reading]
) -> Figure:
    """A panel for each metric: a dot and its 95 % interval for each row, the first one on top.

    ``rows`` holds figures (``value, low, high``, and ``seeds`` drawn small) by metric. A thin line
    marks the first row's value in all others.
    """
    names = list(rows)
    figure = style.new_figure(2.3 * len(metrics) + 1.6, 0.32 * len(names) + 0.95)
    panels = np.atleast_1d(figure.subplots(1, len(metrics), sharey=True))
    for axes, (metric, reading) in zip(panels, metrics.items(), strict=True):
        for place, name in enumerate(names):
            one = rows[name].get(metric)
            if one is None or one["value"] is None:
                axes.text(0.5, place, "none", color=style.SOFT, fontsize=7, va="center",
                          ha="center", transform=axes.get_yaxis_transform())  # fmt: skip
                continue
            if place == 0:
                axes.axvline(one["value"], color=style.SOFT, lw=0.8, ls=":")
            _dot(axes, one, place, NETWORK if place == 0 else OTHER)
        axes.set_xlabel(axis_words(reading))
        axes.grid(axis="x", color="#e4e7eb", lw=0.6)
        axes.set_axisbelow(True)
        axes.locator_params(axis="x", nbins=5)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    return figure


def _dot(axes: Axes, one: Mapping[str, Any], place: float, colour: str) -> None:
    """A figure with its interval, and the values of its seeds."""
    seeds = [value for value in one.get("seeds", ()) if value is not None]
    axes.plot(seeds, [place + 0.28] * len(seeds), "|", color=style.SOFT, ms=5)
    if one["low"] is not None:
        axes.plot([one["low"], one["high"]], [place, place], color=colour, lw=2.2, alpha=0.45,
                  solid_capstyle="round")  # fmt: skip
    axes.plot([one["value"]], [place], "o", color=colour, ms=5)


@style.styled
def ratio_figure(rows: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Errors over the Cramér-Rao bound by method and coordinate, log scale; the bound is 1."""
    named = {"lateral": "lateral", "x_nm": "x", "y_nm": "y", "z_nm": "z", "ratio": "all numbers"}
    lines = [
        (f"{method}, {named[part]}", one["ratio"] if part != "ratio" else one, number)
        for number, (method, parts) in enumerate(rows.items())
        for part, one in parts.items()
        if part in named
    ]
    figure = style.new_figure(6.6, 0.3 * len(lines) + 0.9)
    axes = figure.subplots()
    for place, (_, one, number) in enumerate(lines):
        _dot(axes, one, place, style.SERIES[number % len(style.SERIES)])
    axes.axvline(1.0, color=style.INK, lw=0.9)
    axes.set_xscale("log")
    values = [end for _, one, _ in lines for end in one.values() if isinstance(end, float)]
    ticks = [tick for tick in (0.5, 0.7, 1, 1.2, 1.5, 2, 3, 5, 10, 20, 50)
             if 0.8 * min([*values, 1]) <= tick <= 1.25 * max([*values, 1])]  # fmt: skip
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(lines)), [name for name, _, _ in lines])
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_xlabel("RMS error over Cramér-Rao bound")
    return figure


@style.styled
def gap_figure(
    runs: Mapping[str, Mapping[str, Mapping[str, Any]]], metrics: Mapping[str, Reading]
) -> Figure:
    """Every run's metrics on samples it was trained on and on fresh ones, joined by a line."""
    names = list(runs)
    figure = style.new_figure(2.5 * len(metrics) + 1.6, 0.34 * len(names) + 1.15)
    panels = np.atleast_1d(figure.subplots(1, len(metrics), sharey=True))
    for axes, (metric, reading) in zip(panels, metrics.items(), strict=True):
        for place, name in enumerate(names):
            pair = [runs[name][kind][metric]["value"] for kind in ("trained_on", "fresh")]
            if None in pair:
                continue
            axes.plot(pair, [place, place], color=style.SOFT, lw=1)
            axes.plot(pair[0], place, "o", color=OTHER, ms=5)
            axes.plot(pair[1], place, "o", color=NETWORK, ms=5)
        axes.set_xlabel(axis_words(reading))
        axes.locator_params(axis="x", nbins=5)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    handles = [Line2D([], [], marker="o", ls="", color=OTHER, label="samples trained on"),
               Line2D([], [], marker="o", ls="", color=NETWORK, label="fresh samples")]  # fmt: skip
    figure.legend(handles=handles, loc="outside upper right", ncols=2)
    return figure


@style.styled
def size_figure(points: Sequence[Mapping[str, Any]], metrics: Mapping[str, Reading]) -> Figure:
    """Every metric against the number of different training samples, log scale."""
    figure = style.new_figure(3.2 * len(metrics), 2.7)
    panels = np.atleast_1d(figure.subplots(1, len(metrics)))
    samples = np.array([point["samples"] for point in points], float)
    for axes, (metric, reading) in zip(panels, metrics.items(), strict=True):
        figures = [point["figures"][metric] for point in points]
        values, lows, highs = (
            np.array([np.nan if one[end] is None else one[end] for one in figures], float)
            for end in ("value", "low", "high")
        )
        axes.fill_between(samples, lows, highs, color=NETWORK, alpha=0.15, lw=0)
        axes.plot(samples, values, "-", color=NETWORK)
        for point, x, y in zip(points, samples, values, strict=True):
            axes.plot(x, y, "s" if point["stream"] else "o", color=NETWORK, ms=5)
        axes.set_xscale("log")
        axes.set_xticks(samples, [f"{count:,.0f}" for count in samples], fontsize=7)
        axes.minorticks_off()
        axes.set(xlabel="different training samples", ylabel=axis_words(reading))
    panels[0].plot([], [], "o", color=NETWORK, label="finite set, seen again")
    panels[0].plot([], [], "s", color=NETWORK, label="stream, none twice")
    panels[0].legend(loc="best")
    return figure


@style.styled
def matrix_figure(
    names: Sequence[str], cells: Mapping[str, Mapping[str, Any]], metric: str, reading: Reading
) -> Figure:
    """Heat map with numbers: rows are what was trained on, columns what was tested on."""
    values = np.array(
        [[_value(cells[row][column], metric) for column in names] for row in names], float
    )
    size = 0.78 * len(names) + 1.9
    figure = style.new_figure(size + 0.9, size * 0.82)
    axes = figure.subplots()
    colours = matplotlib.colormaps["viridis" if reading["more_is_better"] else "viridis_r"]
    known = values[np.isfinite(values)]
    low, high = (known.min(), known.max()) if len(known) else (0.0, 1.0)
    scaled = (values - low) / max(high - low, 1e-12)
    axes.imshow(np.ma.masked_invalid(values), cmap=colours, aspect="auto")
    for row in range(len(names)):
        for column in range(len(names)):
            text = "–" if np.isnan(values[row, column]) else _digits(values[row, column], reading)
            bright = np.mean(colours(scaled[row, column])[:3]) > 0.55
            colour = style.INK if bright or text == "–" else "white"
            weight = "bold" if row == column else "normal"
            axes.text(column, row, text, ha="center", va="center", color=colour, weight=weight)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="tested on", ylabel="trained on", title=axis_words(reading))
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
    return figure


def _value(cell: Mapping[str, Any], metric: str) -> float:
    value = cell.get(metric, {}).get("value")
    return np.nan if value is None else float(value)


def _digits(value: float, reading: Reading) -> str:
    return f"{value:.{reading['digits']}f}"


@style.styled
def reliability_figure(bins: Sequence[Mapping[str, Any]]) -> Figure:
    """Share of true emitters against stated probability; the area of a dot is its count."""
    figure = style.new_figure(3.2, 3.0)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=style.SOFT, lw=0.9)
    stated, true, counts = (
        np.array([part[name] for part in bins], float) for name in ("stated", "true", "count")
    )
    axes.plot(stated, true, "-", color=NETWORK, lw=1)
    axes.scatter(stated, true, s=12 + 120 * counts / max(counts.max(), 1), color=NETWORK, alpha=0.8)
    axes.set(xlabel="stated probability", ylabel="share that is there", xlim=(0, 1.03),
             ylim=(0, 1.03), aspect="equal")  # fmt: skip
    return figure


@style.styled
def stated_errors_figure(told: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Errors over stated standard deviations beside the normal law, and coverage of intervals."""
    figure = style.new_figure(6.6, 2.9)
    shape, coverage = figure.subplots(1, 2)
    x = np.linspace(-5, 5, 201)
    shape.plot(x, normal_density(x), color=style.SOFT, lw=1, label="ideal")
    coverage.plot([0.45, 1], [0.45, 1], color=style.SOFT, lw=0.9)
    for colour, (name, one) in zip(style.SERIES, told.items(), strict=False):
        edges = np.array(one["histogram"]["edges"])
        density = [0.0 if value is None else value for value in one["histogram"]["density"]]
        shape.stairs(density, edges, color=colour, label=name.removesuffix("_nm"))
        pairs = [(float(level), share) for level, share in one["coverage"].items()]
        coverage.plot(*zip(*pairs, strict=True), "o-", color=colour, ms=4)
    shape.set(xlabel="error over stated standard deviation", ylabel="density")
    shape.legend(loc="upper right")
    coverage.set(xlabel="stated coverage", ylabel="share of errors inside", ylim=(0, 1.03))
    return figure


@style.styled
def breakdown_figure(against: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Share found above, RMS error below, in bins of photons, crowding, height."""
    words = {"photons": "photons", "density": "others within 1 µm [1/µm²]", "z": "height [nm]"}
    figure = style.new_figure(3.0 * len(against), 3.9)
    grid = figure.subplots(2, len(against), squeeze=False, sharex="col")
    for column, (name, rows) in enumerate(against.items()):
        middle = np.array([(row["low"] + row["high"]) / 2 for row in rows], float)
        error = [np.nan if row["rmse_lateral_nm"] is None else row["rmse_lateral_nm"]
                 for row in rows]  # fmt: skip
        grid[0, column].plot(middle, [row["recall"] for row in rows], "o-", color=NETWORK, ms=4)
        grid[1, column].plot(middle, error, "o-", color=OTHER, ms=4)
        grid[0, column].set_ylim(0, 1.03)
        grid[1, column].set_ylim(bottom=0)
        grid[1, column].set_xlabel(words[name])
    grid[0, 0].set_ylabel("share found")
    grid[1, 0].set_ylabel("lateral RMSE [nm]")
    return figure


@style.styled
def parameters_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Every number's RMS error beside the spread that was drawn, and its bias."""
    names = [str(row["parameter"]).rsplit(".", 1)[-1] for row in rows]
    place = np.arange(len(rows))
    figure = style.new_figure(0.45 * len(rows) + 2.6, 2.7)
    axes = figure.subplots()
    axes.bar(place, [row["drawn"] for row in rows], color="#e4e7eb", width=0.75, label="drawn")
    axes.bar(place, [row["rmse"] for row in rows], color=NETWORK, width=0.45, label="RMS error")
    axes.plot(place, [row["bias"] for row in rows], "_", color=OTHER, ms=11, mew=2, label="bias")
    axes.set_xticks(place, names)
    units = sorted({str(row["unit"]) for row in rows})
    axes.set(ylabel=f"[{', '.join(units)}]", xlabel="number")
    axes.legend(loc="upper right", ncols=3)
    axes.set_ylim(top=1.25 * axes.get_ylim()[1])
    return figure


@style.styled
def marked_frames_figure(
    images: Sequence[npt.NDArray[Any]], marks: Sequence[Mapping[str, Any]], pixel_nm: float
) -> Figure:
    """Frames with what was found, missed and false; ``marks`` hold places [nm] by these names."""
    figure = style.new_figure(2.35 * len(images), 3.2)
    grid = figure.subplots(1, len(images), squeeze=False)[0]
    for axes, image, places in zip(grid, images, marks, strict=True):
        show_frame(axes, image, pixel_nm, style.grey_scale(image))
        draw_emitters(axes, _arrays(places["hit"]), edge=style.FOUND, label="found")
        draw_emitters(axes, _arrays(places["missed"]), edge=style.MISSED, label="missed")
        draw_crosses(axes, _arrays(places["false"]), label="false")
        counts = [len(places[name]["x_nm"]) for name in ("hit", "missed", "false")]
        title = f"sample {places['sample']}: {counts[0]} found,\n{counts[1]} missed, "
        axes.set_title(title + f"{counts[2]} false", pad=3)
    height, width = np.array(images[0].shape) * pixel_nm / 1000.0
    style.scale_bar(grid[0], width, height)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def _arrays(places: Mapping[str, Sequence[float]]) -> Any:
    return {axis: np.array(values, float) for axis, values in places.items()}


@style.styled
def read_samples_figure(
    images: Sequence[npt.NDArray[Any]],
    samples: Sequence[Mapping[str, Any]],
    parameters: Sequence[str],
    unit: str,
) -> Figure:
    """Samples above (first, middle, last plane of stacks), numbers true and said below."""
    figure = style.new_figure(2.6 * len(images), 3.7)
    grid = figure.subplots(2, len(images), squeeze=False, height_ratios=(1, 1.4))
    names = [path.rsplit(".", 1)[-1] for path in parameters]
    place = np.arange(len(names))
    for column, (image, sample) in enumerate(zip(images, samples, strict=True)):
        planes = image if image.ndim == 3 else image[None]
        shown = planes[[0, len(planes) // 2, -1]] if len(planes) > 2 else planes[:1]
        grid[0, column].imshow(np.hstack(list(shown)), cmap=style.COUNTS,
                               norm=style.grey_scale(shown, root=True))  # fmt: skip
        style.bare(grid[0, column])
        grid[0, column].set_title(f"sample {sample['sample']}", pad=3)
        axes = grid[1, column]
        axes.bar(place - 0.2, sample["truth"], 0.4, color=style.TRUTH, label="true")
        axes.bar(place + 0.2, sample["said"], 0.4, color=style.FOUND, label="said")
        axes.axhline(0, color=style.SOFT, lw=0.7)
        axes.set_xticks(place, names, fontsize=6.5)
    grid[1, 0].set_ylabel(f"[{unit}]")
    handles, labels = grid[1, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


@style.styled
def curves_figure(runs: Mapping[str, Mapping[str, Sequence[float | None]]]) -> Figure:
    """Loss of every run over its steps: on what it trains on, and on fresh samples."""
    figure = style.new_figure(7.4, 2.9)
    train, fresh = figure.subplots(1, 2, sharey=True)
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, max(len(runs), 2)))
    for colour, (name, curves) in zip(colours, runs.items(), strict=False):
        step = np.asarray(curves["step"], float)
        for axes, column in ((train, "train_loss"), (fresh, "validation_loss")):
            loss = [np.nan if value is None else value for value in curves[column]]
            axes.plot(step, loss, "-", color=colour, lw=1.3, label=name)
    train.set(xlabel="step", ylabel="loss", title="training samples")
    fresh.set(xlabel="step", title="fresh samples")
    lowest = min((float(np.nanmin(line.get_ydata())) for line in train.lines), default=1.0)
    if lowest > 0:
        train.set_yscale("log")
    figure.legend(*fresh.get_legend_handles_labels(), loc="outside right center", fontsize=7)
    return figure
