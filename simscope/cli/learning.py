"""Commands that train and localise; and the demo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simscope.cli.frame import (
    AllowFiles,
    Data,
    Force,
    Json,
    Seed,
    Settings,
    aligned,
    answer,
    command,
    load,
    named_values,
    rounded,
)
from simscope.errors import DatasetError, TrainingError, did_you_mean

if TYPE_CHECKING:
    from simscope.recipe import Recipe

DEFAULT_MINUTES = 4.0
TABLE_FORMATS = "plain, thunderstorm, picasso, smap, decode or challenge."


def training_source(
    source: str, settings: list[str] | None, *, allow_files: bool = False
) -> str | Recipe:
    """The dataset file or the recipe to train on."""
    if Path(source).suffix.lower() not in (".h5", ".hdf5"):
        return load(source, settings, allow_files=allow_files)
    if settings:
        raise DatasetError(f"--set changes recipes, {source} is a dataset: generate a new one")
    if not Path(source).exists():
        raise DatasetError(f"no dataset {source}: check the path, or name a recipe")
    return source


@command(
    examples="""
    simscope train deepstorm-slim smlm-2d-dense --out runs/a --minutes 4
    simscope train zernike psf-zernike --out runs/z --steps 3000 --seed 1
    simscope train deepstorm-slim train.h5 --out runs/b --cpu-minutes 8
    simscope train deepstorm-slim train.h5 --out runs/c --config channels=64 --plan batch_size=32
"""
)
def train(
    network: Annotated[str, typer.Argument(help="Name of a network.")],
    source: Annotated[str, typer.Argument(help="Recipe to stream from, or dataset file.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; a stopped run there goes on.")],
    minutes: Annotated[
        float | None, typer.Option(help="Wall time of training; 4 if no budget is given.")
    ] = None,
    cpu_minutes: Annotated[float | None, typer.Option(help="Processor time of training.")] = None,
    steps: Annotated[
        int | None, typer.Option(help="Updates of the weights; so that results repeat exactly.")
    ] = None,
    seed: Seed = 0,
    settings: Settings = None,
    config: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A field of the network; may be repeated."),
    ] = None,
    plan: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A hyper-parameter of training, likewise."),
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of PyTorch and simulator.")] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write curves for TensorBoard too.")
    ] = False,
    allow_files: AllowFiles = False,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "cpu",
    force: Annotated[bool, typer.Option("--force", help="Begin anew.")] = False,
    as_json: Json = False,
) -> None:
    """Train a network on a stream of fresh samples, or on a file.

    Networks: decode, deepstorm, deepstorm-slim, deepstorm3d, psf-blind, unet, zernike.
    """
    from simscope import learn

    chosen: str | Recipe = training_source(source, settings, allow_files=allow_files)
    chosen_plan = named_values(plan, "--plan", "batch_size=32")
    for name in chosen_plan:
        if name not in learn.Plan.model_fields:
            known = did_you_mean(name, learn.Plan.model_fields) or "see docs/training.md"
            raise TrainingError(f"--plan {name} is no hyper-parameter: {known}")
    budget = {"minutes": minutes, "cpu_minutes": cpu_minutes, "steps": steps}
    if not any(budget.values()):
        budget["minutes"] = DEFAULT_MINUTES
    model = learn.train(
        network, chosen, out=out, seed=seed, device=device, force=force, threads=threads,
        config=named_values(config, "--config", "channels=64"), tensorboard=tensorboard,
        **budget | chosen_plan,
    )  # fmt: skip
    held_out = model.record["held_out"]
    rows = [(name.replace("_", " "), rounded(value)) for name, value in held_out.items()]
    answer({"out": str(out), "held_out": held_out}, [f"wrote {out}", *aligned(rows)], as_json)


@command(
    examples="""
    simscope localize runs/a test.h5 --out found.csv
    simscope localize runs/a test.h5 --out found.hdf5 --format picasso
"""
)
def localize(
    run: Annotated[Path, typer.Argument(help="Folder of a training run.")],
    data: Data,
    out: Annotated[
        Path, typer.Option(help="Table to write: .csv (ThunderSTORM), .h5, .npy, .mat (SMAP).")
    ],
    table_format: Annotated[str | None, typer.Option("--format", help=TABLE_FORMATS)] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Find the emitters in a dataset with a trained network."""
    from simscope import learn
    from simscope.dataset import output_target, write_localizations
    from simscope.dataset.tables import movie_of
    from simscope.tables import format_for

    output_target(out, force=force, inputs=[data])
    chosen = format_for(out, table_format)
    found = learn.localize(learn.load(run), data)
    written = write_localizations(
        out, found, format=chosen, force=force, inputs=[data], **movie_of(data)
    )
    answer(
        {"out": str(written), "found": len(found)}, [f"wrote {written}: {len(found):,} emitters"],
        as_json,
    )  # fmt: skip


@command(
    examples="""
    simscope demo --out demo
    simscope demo --out demo --quick --force
"""
)
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path("demo"),
    minutes: Annotated[float, typer.Option(help="Training time.")] = 4.0,
    quick: Annotated[
        bool, typer.Option("--quick", help="A minute in all: a barely trained network.")
    ] = False,
    seed: Seed = 7,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """The whole way: check, simulate, train, localise, score, and write report.html."""
    from simscope.demo import run_demo

    report = run_demo(
        out, minutes=minutes, quick=quick, seed=seed, force=force,
        tell=lambda line: typer.echo(line, err=True),
    )  # fmt: skip
    answer({"report": str(report)}, [f"report: {report}"], as_json)
