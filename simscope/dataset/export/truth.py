"""Truth beside exported images: emitters by the conventions of ``simscope.tables``, parameters."""

from __future__ import annotations

import csv
from pathlib import Path

from simscope import tables
from simscope.dataset.export.frames import Columns, Frames


def write_emitters(frames: Frames, path: Path, style: str, columns: Columns | None = None) -> None:
    """Write the emitters on the pixels, or given columns, as a table of another software."""
    tables.write(
        path,
        frames.emitters if columns is None else columns,
        format=style,
        pixel_nm=frames.pixel_nm,
        shape=frames.shape,
        frames=frames.count,
    )


def write_parameters(frames: Frames, path: Path) -> None:
    """Write everything drawn as CSV: a row a sample, a column a recipe path with its unit."""
    units = frames.data.parameter_units
    with path.open("w", encoding="utf8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["sample", *(f"{name} [{units[name]}]" for name in sorted(units))])
        columns = [frames.drawn[name] for name in sorted(units)]
        for number, values in enumerate(zip(*columns, strict=True) if columns else ()):
            rows.writerow([number, *(repr(float(value)) for value in values)])


def write_truth(frames: Frames, folder: Path) -> list[str]:
    """Write ``emitters.csv`` and ``parameters.csv``, those there is something for; their notes."""
    notes = []
    if frames.recipe.photophysics.kind != "steady":
        write_emitters(frames, folder / "emitters.csv", "plain")
        notes.append(
            "emitters.csv: nm from the outer corner of the first pixel, x along columns, y along "
            "rows, z above the coverslip, frames from 0 over all samples"
        )
    if frames.data.parameter_units:
        write_parameters(frames, folder / "parameters.csv")
        notes.append("parameters.csv: everything drawn, samples counted from 0 in this export")
    return notes
