"""The command that judges what was found, by any software, against the truth."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simscope.cli.frame import Force, Json, aligned, answer, command, rounded
from simscope.errors import SimscopeWarning

if TYPE_CHECKING:
    from simscope.evaluate import Bin, Score

TABLE_FORMATS = "auto, plain, thunderstorm, picasso, smap, decode or challenge."
BACKGROUND = "background.photons_per_pixel"
FEWEST_SAMPLES = 20
HEADERS = {
    "low": "from",
    "high": "to",
    "true_emitters": "emitters",
    "recall": "recall",
    "precision": "precision",
    "jaccard": "jaccard",
    "rmse_lateral_nm": "rmse lateral",
    "rmse_axial_nm": "rmse axial",
}


@command(
    examples="""
    simscope score found.csv test.h5 --radius-nm 250
    simscope score found.csv truth.csv --axial-radius-nm 500 --ignore-below-photons 200
    simscope score found.csv test.h5 --by photons --by density --intervals --out score.png
    simscope score found.csv test.h5 --crlb
    simscope score locs.hdf5 test.h5 --format picasso --pixel-nm 108 --resolution --json
"""
)
def score(
    found: Annotated[Path, typer.Argument(help="Table of localisations of any software.")],
    truth: Annotated[Path, typer.Argument(help="Dataset file, or a table.")],
    radius_nm: Annotated[float, typer.Option(help="Largest lateral distance of a match.")] = 250.0,
    axial_radius_nm: Annotated[
        float | None, typer.Option(help="Largest axial distance of a match; z counts if given.")
    ] = None,
    ignore_below_photons: Annotated[
        float | None, typer.Option(help="Dimmer true emitters count neither way.")
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(help="Break down by photons, z, density or crowd; may be repeated."),
    ] = None,
    bins: Annotated[int, typer.Option(help="Bins of a breakdown.")] = 5,
    intervals: Annotated[
        bool, typer.Option("--intervals", help="95 % intervals, by frames or movies drawn anew.")
    ] = False,
    resolution: Annotated[
        bool, typer.Option("--resolution", help="Fourier ring correlation of both tables.")
    ] = False,
    limit: Annotated[
        bool, typer.Option("--crlb", help="Errors over the bounds of a dataset's own recipe.")
    ] = False,
    table_format: Annotated[
        str, typer.Option("--format", help=f"Of what was found: {TABLE_FORMATS}")
    ] = "auto",
    truth_format: Annotated[str, typer.Option(help="Of the truth: the same, or auto.")] = "auto",
    pixel_nm: Annotated[
        float | None, typer.Option(help="Pixel of tables that count in pixels and state none.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Picture of errors and shares, .png.")] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Score localisations against the truth, as the 2016 challenge of the field does.

    Jaccard, precision, recall, RMS errors, efficiency; and whether predicted uncertainties hold,
    where the table has them. Of a dataset, the emitters on its pixels count; a note says how many
    lie beside.
    """
    from simscope import evaluate
    from simscope.dataset import output_target, read_emitters, read_truth

    if out is not None:
        _require_picture(out)
        output_target(out, force=force, inputs=[found, truth])
    said = read_emitters(found, format=table_format, pixel_nm=pixel_nm)
    true = read_truth(truth, format=truth_format, pixel_nm=pixel_nm)
    result = evaluate.score(
        said, true, radius_nm, axial_radius_nm, ignore_below_photons=ignore_below_photons
    )
    if not len(result.matches) and len(said) and len(true):
        warnings.warn(
            f"nothing found lies within {radius_nm:g} nm of a true emitter of its frame: check "
            "units, axes, and whether both count frames from the same number",
            SimscopeWarning,
            stacklevel=2,
        )
    tables = {name: evaluate.breakdown(said, true, result, name, bins=bins) for name in by or []}
    values, lines = _judged(said, true, result)
    if intervals:
        together = _frames_drawn_together(truth)
        drawn = evaluate.score_intervals(said, true, result, frames_per_unit=together)
        _add_intervals(values, lines, drawn, "samples" if together > 1 else "frames")
    if limit:
        _add_limit(values, lines, truth, (said, true, result))
    if resolution:
        _add_resolution(values, lines, {"found": said, "truth": true})
    values |= {"by": {name: [one.to_dict() for one in table] for name, table in tables.items()}}
    for name, table in tables.items():
        lines += ["", *breakdown_lines(name, table)]
    if out is not None:
        from simscope import show

        picture = show.judging_figure(said, true, result)
        show.save_figure(picture, out, force=force, inputs=[found, truth])
        values["picture"] = str(out)
        lines.append(f"wrote {out}")
    answer(values, lines, as_json)


def _require_picture(path: Path) -> None:
    from simscope import show

    show.require_picture_name(path)


def _judged(found: Any, truth: Any, result: Score) -> tuple[dict[str, Any], list[str]]:
    """Score, mean errors and calibration: for machines, and as lines."""
    from simscope import evaluate

    values: dict[str, Any] = result.to_dict() | evaluate.mean_errors(found, truth, result)
    lines = aligned([(name.replace("_", " "), rounded(value)) for name, value in values.items()])
    values["calibration"] = {}
    for name, one in evaluate.calibration(found, truth, result).items():
        values["calibration"][name] = numbers = one.to_dict()
        coverage = ", ".join(
            f"{100 * float(nominal):g} %: {'-' if share is None else f'{100 * share:.1f}'}"
            for nominal, share in numbers["coverage"].items()
        )
        lines.append(f"{name}: z-scores spread {rounded(numbers['spread'])}; inside {coverage}")
    announced = evaluate.probability_calibration(found, result)
    if announced is not None:
        values["probability"] = announced.to_dict()
        error = rounded(values["probability"]["expected_error"])
        lines.append(f"probability: expected calibration error {error}")
    return values, lines


def _frames_drawn_together(truth: Path) -> int:
    """Frames of a sample, whose molecules shine in many, where there are samples enough to draw."""
    from simscope.dataset import open_dataset
    from simscope.dataset.tables import is_dataset

    if not is_dataset(truth):
        return 1
    with open_dataset(truth) as data:
        return data.frames_per_sample if len(data) >= FEWEST_SAMPLES else 1


def _add_intervals(
    values: dict[str, Any], lines: list[str], intervals: dict[str, Any], drawn: str
) -> None:
    """Add confidence intervals, and what was drawn for them, to what is printed."""
    values["intervals_over"] = drawn
    values["intervals"] = {name: one.to_dict() for name, one in intervals.items()}
    rows = [
        (name.replace("_", " "), " ".join((rounded(one["low"]), "to", rounded(one["high"]))))
        for name, one in values["intervals"].items()
    ]
    lines += ["", f"95 % intervals, {drawn} drawn anew", *aligned(rows)]


def _add_limit(
    values: dict[str, Any], lines: list[str], path: Path, judged: tuple[Any, Any, Score]
) -> None:
    """Add the ratio of errors to the Cramér-Rao bounds of the experiment in a dataset."""
    from simscope import Simulator, evaluate, open_dataset

    with open_dataset(path) as data:
        simulator, level = Simulator(data.recipe, data.seed), data.parameters.get(BACKGROUND)
        if level is not None:  # drawn for each sample
            level = level[judged[1]["frame"] // data.frames_per_sample]
    bounds = evaluate.matched_bounds(simulator, *judged[1:], background_photons=level)
    ratios = evaluate.normalised_errors(*judged, bounds)
    values["crlb"] = {name: one.to_dict() for name, one in ratios.items()}
    lines += ["", "errors over Cramér-Rao bounds"]
    for name, one in values["crlb"].items():
        ratio, bias = rounded(one["ratio"]), rounded(one["bias"])
        lines.append(f"{name}: ratio {ratio}, bias {bias}, of {one['pairs']} emitters")


def _add_resolution(values: dict[str, Any], lines: list[str], tables: dict[str, Any]) -> None:
    """Add the resolution of each table by Fourier ring correlation."""
    from simscope.evaluate import localization_resolution

    values["resolution_nm"] = {}
    for name, table in tables.items():
        reached = localization_resolution(table).to_dict()["resolution_nm"]
        values["resolution_nm"][name] = reached
        lines.append(f"resolution nm, {name}  {rounded(reached)}")


def breakdown_lines(name: str, table: list[Bin]) -> list[str]:
    """A breakdown as lines of aligned columns under headers."""
    rows = [[f"by {name}: from", *list(HEADERS.values())[1:]]]
    for one in table:
        numbers = one.to_dict()
        rows.append([rounded(numbers[key]) for key in HEADERS])
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = (zip(row, widths, strict=True) for row in rows)
    return ["  ".join(cell.rjust(width) for cell, width in line) for line in lines]
