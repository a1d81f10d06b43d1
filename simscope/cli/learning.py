"""Commands that train networks, and put localisers and regressors to use; and the demo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simscope.cli.frame import (
    AllowFiles,
    Force,
    Json,
    Seed,
    Settings,
    aligned,
    answer,
    command,
    load,
    named_values,
    progress_bar,
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
    twice = [name for name in chosen_plan if budget.get(name) is not None]
    if twice:
        raise TrainingError(f"--plan {twice[0]} is given as an option, too: leave one out")
    if all((budget | chosen_plan)[name] is None for name in budget):
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
    simscope localize runs/a frames.tif --out found.csv --camera estimate --pixel-nm 100
    simscope localize runs/a movie.tif --out a.csv --camera baseline_adu=398 --camera e_per_adu=0.24
"""
)
def localize(
    run: Annotated[Path, typer.Argument(help="Folder of a training run.")],
    data: Annotated[Path, typer.Argument(help="Dataset file, or TIFF stack of any software.")],
    out: Annotated[
        Path, typer.Option(help="Table to write: .csv (ThunderSTORM), .h5, .npy, .mat (SMAP).")
    ],
    camera: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SETTING",
            help="Of the frames: estimate, a recipe, or NAME=VALUE that differs from the "
            "model's; may be repeated.",
        ),
    ] = None,
    pixel_nm: Annotated[float | None, typer.Option(help="Pixel of the frames, checked.")] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Least probability; the trained one if absent.")
    ] = None,
    table_format: Annotated[str | None, typer.Option("--format", help=TABLE_FORMATS)] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Find the emitters in a dataset or TIFF stack with a trained network."""
    from simscope import learn
    from simscope.dataset import output_target, write_localizations
    from simscope.learn.localize import movie_of
    from simscope.tables import format_for

    output_target(out, force=force, inputs=[data])
    chosen = format_for(out, table_format)
    model = learn.load(run)
    movie = movie_of(model, data)
    with progress_bar("localize") as update:
        found = learn.localize(
            model, data, camera=camera_given(camera), pixel_nm=pixel_nm, threshold=threshold,
            progress=update,
        )  # fmt: skip
    written = write_localizations(out, found, format=chosen, force=force, inputs=[data], **movie)
    answer(
        {"out": str(written), "found": len(found)}, [f"wrote {written}: {len(found):,} emitters"],
        as_json,
    )  # fmt: skip


def camera_given(settings: list[str] | None) -> Any:
    """What the options ``--camera`` say: None, "estimate", a recipe, or settings by name."""
    if not settings or settings == ["estimate"]:
        return settings[0] if settings else None
    if len(settings) == 1 and "=" not in settings[0]:
        return load(settings[0])
    return named_values(settings, "--camera", "baseline_adu=100")


@command(
    examples="""
    simscope regress runs/z test.h5 --out coefficients.csv
    simscope regress runs/b field.tif --out map.csv --map --stride-px 16
"""
)
def regress(
    run: Annotated[Path, typer.Argument(help="Folder of a training run.")],
    data: Annotated[Path, typer.Argument(help="Dataset file, or TIFF stack of any software.")],
    out: Annotated[Path, typer.Option(help="Table to write, .csv.")],
    as_map: Annotated[
        bool, typer.Option("--map", help="Place by place over one field, for psf-blind.")
    ] = False,
    stride_px: Annotated[
        int | None, typer.Option(help="With --map: pixels between places; half a patch if absent.")
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Read numbers of the PSF, and how sure they are, off images with a trained network."""
    from simscope import learn
    from simscope.dataset.output import output_target, require_suffix
    from simscope.learn.regress import beside, write_columns

    require_suffix(out, ".csv")
    output_target(out, force=force, inputs=[data])
    if stride_px is not None and not as_map:
        raise TrainingError(f"--stride-px {stride_px} is for maps: add --map, or leave it out")
    model = learn.load(run)
    if as_map:
        columns = learn.regress_map(model, data, stride_px=stride_px).table()
    else:
        columns = beside(*learn.regress(model, data, uncertainty=True))
    rows = write_columns(out, columns, force=force, inputs=[data])
    answer({"out": str(out), "rows": rows}, [f"wrote {out}: {rows:,} rows"], as_json)


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
