"""Commands that hand datasets over to other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simscope.cli.frame import Data, Force, Json, answer, command, progress_bar


@command(
    examples="""
    simscope export train.h5 --to decode --out for-decode
    simscope export train.h5 --to ome-tiff --samples 0:100 --out images
"""
)
def export(
    data: Data,
    to: Annotated[
        str,
        typer.Option(
            help="decode, deepstorm3d, deepstorm, picasso, smap, challenge, ome-tiff, ome-zarr, "
            "npz, coco or labels."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    samples: Annotated[
        str | None, typer.Option(metavar="FIRST:LAST", help="Samples to export; LAST is left out.")
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write a dataset as another program reads it; see ABOUT.txt in the folder."""
    from simscope.dataset import export_dataset

    with progress_bar(f"{to}, frames") as update:
        written = export_dataset(data, to, out, samples=samples, force=force, progress=update)
    files = sum(1 for path in written.rglob("*") if path.is_file())
    answer(
        {"out": str(written), "to": to, "files": files},
        [f"wrote {written}: {files} files; {written / 'ABOUT.txt'} says what stands where"],
        as_json,
    )
