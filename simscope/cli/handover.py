"""Commands that hand datasets, networks and restored images over to other programs."""

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


@command(
    examples="""
    simscope export-model runs/a --to onnx --out a.onnx
    simscope export-model runs/a --to bioimageio --out a.zip --author "A. Person" --license MIT
"""
)
def export_model(
    run: Annotated[Path, typer.Argument(help="Folder of a training run.")],
    to: Annotated[str, typer.Option(help="onnx, torch-export or bioimageio.")],
    out: Annotated[Path, typer.Option(help="File to write: .onnx, .pt2 or .zip.")],
    title: Annotated[str | None, typer.Option(help="Title of a bioimageio package.")] = None,
    author: Annotated[
        list[str] | None, typer.Option(help="Author of a bioimageio package; may be repeated.")
    ] = None,
    model_license: Annotated[
        str | None, typer.Option("--license", help="Its licence (SPDX); CC-BY-4.0 if not given.")
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write a trained network for other software; it takes raw counts."""
    from simscope import learn

    about = {
        "title": title,
        "authors": tuple(name for name in author or () if name.strip()),
        "license": model_license,
    }
    given = {name: value for name, value in about.items() if value}
    written = learn.export_model(run, out, to, force=force, **given)
    answer({"out": str(written), "to": to}, [f"wrote {written}"], as_json)


@command(
    examples="""
    simscope restore runs/u noisy.h5 --out restored.tif
    simscope restore runs/u noisy.tif --out restored.tif
"""
)
def restore(
    run: Annotated[Path, typer.Argument(help="Folder of a training run of a U-Net.")],
    data: Annotated[Path, typer.Argument(help="Dataset file or TIFF of camera counts.")],
    out: Annotated[Path, typer.Option(help="TIFF to write: photons per pixel, float32.")],
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Take the noise out of images with a trained U-Net."""
    from simscope import learn
    from simscope.dataset.export.tiff import write_stack
    from simscope.dataset.output import output_target, replacing, require_suffix
    from simscope.tiff import SUFFIXES

    require_suffix(out, *SUFFIXES)
    output_target(out, force=force, inputs=[data])
    model = learn.load(run)
    restored = learn.restore(model, data)
    pages = restored.reshape(-1, *restored.shape[-2:])
    with replacing(out, force=force, inputs=[data]) as part:
        write_stack(part, pages, restored.shape, restored.dtype, pixel_nm=model.recipe.pixel_nm)
    shape = " x ".join(map(str, restored.shape))
    answer(
        {"out": str(out), "shape": list(restored.shape)},
        [f"wrote {out}: {shape}, photons per pixel"], as_json,
    )  # fmt: skip
