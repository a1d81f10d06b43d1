"""Commands about recipes: list, schema, check, warm up."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from simscope.cli.frame import (
    AllowFiles,
    DeviceName,
    Json,
    RecipeName,
    Seed,
    Settings,
    Threads,
    aligned,
    answer,
    command,
    load,
)

if TYPE_CHECKING:
    pass


@command(
    examples="""
    simscope recipes
    simscope recipes smlm-2d-dense > mine.yaml
"""
)
def recipes(
    name: Annotated[str | None, typer.Argument(help="Print this recipe as YAML.")] = None,
    as_json: Json = False,
) -> None:
    """List the packaged recipes, or print one to start your own from."""
    from simscope.recipe import load_recipe, packaged_recipes

    if name is not None:
        recipe = load_recipe(name)
        answer(recipe.written(), [recipe.to_yaml().rstrip()], as_json)
        return
    about = {name: load_recipe(name).description for name in packaged_recipes()}
    answer(about, [f"{name}\n    {text}" for name, text in about.items()], as_json)


@command(
    examples="""
    simscope schema > recipe.schema.json
"""
)
def schema() -> None:
    """Print the JSON schema of a recipe, for editors that complete and check YAML."""
    from simscope.recipe import recipe_schema

    typer.echo(json.dumps(recipe_schema(), indent=2))


@command(
    examples="""
    simscope check smlm-2d-dense
    simscope check mine.yaml --samples 100000 --set camera.read_noise_e=2.5
    simscope check smlm-3d-tetrapod --json
"""
)
def check(
    recipe: RecipeName,
    samples: Annotated[int, typer.Option(help="Samples to estimate size and time for.")] = 1000,
    seed: Seed = 0,
    settings: Settings = None,
    allow_files: AllowFiles = False,
    threads: Threads = None,
    device: DeviceName = "cpu",
    as_json: Json = False,
) -> None:
    """Print what a recipe will give: pixel, Nyquist, photons, SNR, PSF window, size, time."""
    from simscope.acquire import Simulator
    from simscope.dataset import forecast, forecast_rows

    sim = Simulator(
        load(recipe, settings, allow_files=allow_files), seed, threads=threads, device=device
    )
    outlook = forecast(sim, samples)
    answer(outlook.to_dict(), aligned(forecast_rows(outlook)), as_json)


@command(
    examples="""
    simscope warmup
    simscope warmup smlm-2d-dense mine.yaml
"""
)
def warmup(
    recipes: Annotated[
        list[str] | None, typer.Argument(help="Recipes to make ready; all packaged if absent.")
    ] = None,
    allow_files: AllowFiles = False,
    as_json: Json = False,
) -> None:
    """Compile the kernels that recipes need, and keep them and the PSF tables on disk."""
    from simscope.warmup import Warmed, kernel_folder, warm_up

    def report(one: Warmed) -> None:
        typer.echo(f"{one.recipe}: {one.compiled} compiled, {one.seconds:.1f} s", err=True)

    folder = str(kernel_folder())
    chosen = [load(name, allow_files=allow_files) for name in recipes or ()]
    done = warm_up(chosen, report=report)
    count, seconds = (sum(getattr(one, name) for one in done) for name in ("compiled", "seconds"))
    answer(
        {"folder": folder, "compiled": count, "seconds": seconds},
        [f"{count} functions compiled in {seconds:.1f} s, kept in {folder}"],
        as_json,
    )
