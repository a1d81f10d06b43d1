"""Commands that make datasets and look into them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simscope.cli.frame import (
    AllowFiles,
    DeviceName,
    Force,
    Json,
    RecipeName,
    Seed,
    Settings,
    Threads,
    answer,
    command,
    load,
    progress_bar,
)

if TYPE_CHECKING:
    pass


@command(
    examples="""
    simscope generate smlm-2d-dense --samples 1000 --seed 7 --out train.h5
    simscope generate mine.yaml --samples 50 --set acquisition.frames=200 --out movies.h5
    simscope generate smlm-2d-dense --samples 100000 --device auto --out train.h5
"""
)
def generate(
    recipe: RecipeName,
    samples: Annotated[int, typer.Option(help="Samples to simulate.")],
    out: Annotated[Path, typer.Option(help="HDF5 file to write.")],
    seed: Seed = 0,
    expected: Annotated[
        bool, typer.Option("--expected", help="Store the noiseless images as well.")
    ] = False,
    settings: Settings = None,
    allow_files: AllowFiles = False,
    threads: Threads = None,
    device: DeviceName = "cpu",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Simulate samples into an HDF5 file with exact truth."""
    from simscope import dataset
    from simscope.dataset import output_target, readable_bytes

    output_target(out, force=force, inputs=[recipe])
    chosen = load(recipe, settings, allow_files=allow_files)
    with progress_bar(f"{chosen.name}, samples") as update:
        written = dataset.generate(
            chosen, samples, seed, out,
            force=force, threads=threads, progress=update, expected=expected, device=device,
        )  # fmt: skip
    with dataset.open_dataset(written) as data:
        used = data.report["device"]
    size = written.stat().st_size
    answer(
        {"out": str(written), "samples": samples, "seed": seed, "bytes": size, "device": used},
        [f"wrote {written}: {samples:,} samples, {readable_bytes(size)}{_computed_on(used)}"],
        as_json,
    )


def _computed_on(device: dict[str, Any]) -> str:
    """Where samples came from, nothing if it was the CPU."""
    if device["name"] == "cpu":
        return ""
    parts = ", ".join(device["on_cpu"])
    return f", on {device['name']}" + (f" (on the CPU: {parts})" if parts else "")


@command(
    examples="""
    simscope show train.h5 --out sheet.png
    simscope show train.h5 --sample 0 --sample 5 --no-truth --out sheet.png
"""
)
def show(
    data: Annotated[Path, typer.Argument(help="Dataset file.")],
    out: Annotated[Path, typer.Option(help="PNG file to write.")],
    sample: Annotated[list[int] | None, typer.Option(help="Show this sample; repeat.")] = None,
    truth: Annotated[bool, typer.Option(help="Circle the emitters.")] = True,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Contact sheet of a dataset, truth overlaid."""
    from simscope import show as pictures
    from simscope.dataset import open_dataset, output_target

    pictures.require_picture_name(out)
    output_target(out, force=force, inputs=[data])
    with open_dataset(data) as opened:
        figure = pictures.contact_sheet(opened, samples=sample, truth=truth)
    written = pictures.save_figure(figure, out, force=force, inputs=[data])
    answer({"out": str(written)}, [f"wrote {written}"], as_json)
