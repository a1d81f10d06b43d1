"""Commands that make datasets and look into them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simscope.cli.frame import (
    AllowFiles,
    Data,
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
    from simscope.dataset.generation import Outcome


@command(
    examples="""
    simscope generate smlm-2d-dense --samples 1000 --seed 7 --out train.h5
    simscope generate mine.yaml --samples 50 --set acquisition.frames=200 --out movies.h5
    simscope generate smlm-2d-dense --samples 1000000 --workers 16 --out train.h5
    simscope generate smlm-2d-dense --samples 1000000 --shards 40:60 --out train.h5
    simscope generate smlm-2d-dense --samples 1000000 --dask tcp://head:8786 --out train.h5
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
    target: Annotated[
        list[str] | None,
        typer.Option(help="Store what networks learn, such as density:upsampling=8; repeat."),
    ] = None,
    codec: Annotated[str, typer.Option(help="default, fast or none.")] = "default",
    settings: Settings = None,
    allow_files: AllowFiles = False,
    threads: Threads = None,
    workers: Annotated[int, typer.Option(help="Processes on this machine.")] = 1,
    samples_per_shard: Annotated[
        int | None, typer.Option(help="Samples in a file of a large run; by size if left out.")
    ] = None,
    shards: Annotated[
        str | None, typer.Option(help="Make only these shards, such as 40:60 for 40 to 59.")
    ] = None,
    dask: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler whose workers do the work.")
    ] = None,
    device: DeviceName = "cpu",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Simulate samples into an HDF5 file with exact truth; go on where a run was ended.

    A large run becomes shards in a folder beside the file, which shows them as one.
    """
    from simscope.dataset import output_target
    from simscope.dataset.generation import carry_out

    output_target(out, force=True, inputs=[recipe])
    chosen = load(recipe, settings, allow_files=allow_files)
    with progress_bar(f"{chosen.name}, frames") as update:
        outcome = carry_out(
            chosen, samples, seed, out,
            force=force, threads=threads, progress=update, expected=expected, device=device,
            codec=codec, targets=target or (), samples_per_shard=samples_per_shard, shards=shards,
            workers=workers, dask=dask,
        )  # fmt: skip
    facts = {
        "out": str(outcome.path), "samples": samples, "seed": seed, "bytes": outcome.bytes,
        "device": outcome.device, "complete": outcome.complete, "shards": outcome.shards,
        "finished": outcome.finished, "made": outcome.made,
    }  # fmt: skip
    answer(facts, [_told(outcome, samples)], as_json)


def _told(outcome: Outcome, samples: int) -> str:
    """What a run has come to, in a line."""
    from simscope.dataset import readable_bytes

    size = readable_bytes(outcome.bytes)
    if not outcome.complete:
        return (
            f"{outcome.finished} of {outcome.shards} shards are in {outcome.path}, {size}: the "
            "dataset is complete once all are"
        )
    parts = f"{samples:,} samples, {size}"
    if outcome.shards > 1:
        parts += f", in {outcome.shards} shards"
    if not outcome.made:
        return f"{outcome.path} is complete already: {parts}"
    return f"wrote {outcome.path}: {parts}{_computed_on(outcome.device)}"


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
    data: Data,
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
