"""The command line: parse, call, print. Results go to stdout, progress and notes to stderr."""

from __future__ import annotations

import functools
import json
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simscope.errors import DatasetError, RecipeError, SimscopeError

if TYPE_CHECKING:
    from simscope.recipe import Recipe

BAD_INPUT = 2
INTERRUPTED, ENDED = 130, 143
EXTRAS = {"torch": "train", "matplotlib": "view"}

app = typer.Typer(
    name="simscope",
    help="Physics in, labelled microscope images out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Entry point of the ``simscope`` command."""
    signal.signal(signal.SIGTERM, _interrupt)
    app()


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Let a request to end do what Ctrl-C does, so that nothing incomplete stays."""
    raise EndRequest


class EndRequest(KeyboardInterrupt):
    """Somebody asked the program to end (SIGTERM)."""


def command(*, examples: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorator: make a function a command, with examples in its help and clear failures.

    Bad input or a refusing disk ends with one message and exit code 2, Ctrl-C with 130, SIGTERM
    with 143.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> None:
            with failures_explained(), warnings_as_notes():
                function(*args, **kwargs)

        lines = "".join(f"\n\n`{line.strip()}`" for line in examples.strip().splitlines())
        run.__doc__ = f"{function.__doc__}\n\n**Examples**{lines}"
        return app.command()(run)

    return register


@contextmanager
def failures_explained() -> Iterator[None]:
    """Turn expected failures into one message on stderr and an exit code."""
    try:
        yield
    except SimscopeError as error:
        stop(str(error), BAD_INPUT)
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        stop(f"the system refused{where}: {error.strerror or error}", BAD_INPUT)
    except ImportError as error:
        name = error.name or getattr(error.__cause__, "name", None) or ""
        missing = name.split(".")[0]
        if missing not in EXTRAS:
            raise
        stop(f"{missing} is not installed: pip install 'simscope[{EXTRAS[missing]}]'", BAD_INPUT)
    except MemoryError:
        stop("not enough memory: make the images or the number of emitters smaller", BAD_INPUT)
    except KeyboardInterrupt as request:
        code = ENDED if isinstance(request, EndRequest) else INTERRUPTED
        stop("interrupted; nothing incomplete was left behind", code)


def stop(message: str, code: int) -> None:
    """End the program with a message on stderr."""
    typer.echo(f"simscope: {message}", err=True)
    raise typer.Exit(code)


@contextmanager
def warnings_as_notes() -> Iterator[None]:
    """Print simscope's own warnings as short notes on stderr; others as Python does."""
    usual = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *rest: Any) -> None:
        if category.__module__.startswith("simscope."):
            typer.echo(f"note: {message}", err=True)
        else:
            usual(message, category, *rest)

    with warnings.catch_warnings():
        warnings.showwarning = show  # type: ignore[assignment]
        yield


RecipeName = Annotated[str, typer.Argument(help="Packaged recipe or path of a YAML file.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change one value; may be repeated."),
]
Seed = Annotated[int, typer.Option(help="Seed of all random numbers.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what exists.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Threads = Annotated[int | None, typer.Option(help="Threads; results do not depend on it.")]
DeviceName = Annotated[
    str, typer.Option("--device", help="cpu, cuda or auto; samples do not depend on it.")
]


def load(name: str, settings: list[str] | None = None) -> Recipe:
    """The named recipe with ``path=value`` settings applied, values read as YAML."""
    from simscope.recipe import load_recipe

    return changed(load_recipe(name), settings)


def changed(recipe: Recipe, settings: list[str] | None) -> Recipe:
    """The recipe with ``path=value`` settings applied, values read as YAML."""
    from simscope.recipe.recipe import anchor_files
    from simscope.recipe.text import parse_yaml

    changes: dict[str, Any] = {}
    for setting in settings or []:
        path, equals, text = setting.partition("=")
        if not equals or not path.strip():
            raise RecipeError(f"--set {setting!r}: write it as path=value, such as camera.qe=0.8")
        path = path.strip()
        value = {path.rsplit(".", 1)[-1]: parse_yaml(text, f"--set {path}")}
        anchor_files(value, Path.cwd())
        (changes[path],) = value.values()
    return recipe.replace_all(changes) if changes else recipe


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr with rate and time left; yields ``update(done, total)``.

    It appears at the first update, so that a refusal stands alone.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    start = time.monotonic()
    bars = Progress(*columns, console=Console(stderr=True))
    task = bars.add_task(label, total=None, rate="")

    def update(done: int, total: int) -> None:
        bars.start()
        rate = done / max(time.monotonic() - start, 1e-3)
        bars.update(task, completed=done, total=total, rate=f"{rate:,.0f}/s")

    try:
        yield update
    finally:
        if bars.live.is_started:
            bars.stop()


def answer(values: dict[str, Any], lines: list[str], as_json: bool) -> None:
    """Print a result on stdout: as lines for people, or as JSON for machines."""
    if as_json:
        typer.echo(json.dumps(values, indent=2, allow_nan=False, default=str))
    else:
        typer.echo("\n".join(lines))


def aligned(rows: list[tuple[str, str]]) -> list[str]:
    """Lines with the values below each other."""
    width = max(len(name) for name, _ in rows)
    return [f"{name:<{width}}  {value}".rstrip() for name, value in rows]


def show_version(wanted: bool) -> None:
    """Print the version and end."""
    if wanted:
        from simscope import __version__

        typer.echo(f"simscope {__version__}")
        raise typer.Exit


@app.callback()
def simscope(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Version.")
    ] = False,
) -> None:
    """Physics in, labelled microscope images out.

    Start with `simscope recipes`, then `simscope check smlm-2d-dense`. Everything from recipe to
    trained network and report: `simscope demo`.
    """


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
    threads: Threads = None,
    device: DeviceName = "cpu",
    as_json: Json = False,
) -> None:
    """Print what a recipe will give: pixel, Nyquist, photons, SNR, PSF window, size, time."""
    from simscope.acquire import Simulator
    from simscope.dataset import forecast, forecast_rows

    sim = Simulator(load(recipe, settings), seed, threads=threads, device=device)
    outlook = forecast(sim, samples)
    answer(outlook.to_dict(), aligned(forecast_rows(outlook)), as_json)


MASK_RECIPE = "smlm-3d-tetrapod"
BOUND_PHOTONS, BOUND_BACKGROUND = 5000.0, 10.0


def mask_list() -> tuple[dict[str, Any], list[str]]:
    """Every mask with what it does and its paper: for machines, and as lines."""
    from simscope.recipe import MASKS

    values: dict[str, Any] = {}
    lines: list[str] = []
    for kind, model in MASKS.items():
        about, _, source = (model.__doc__ or "").partition("\n")
        values[kind] = {"about": about, "source": " ".join(source.split())}
        lines += [kind, *(f"    {text}" for text in values[kind].values() if text)]
    return values, lines


def with_mask(
    recipe: Recipe, mask: str | None, z_range: float | None, *, fit_focus: bool
) -> Recipe:
    """The recipe with a mask, named or as YAML, made for an axial range [nm].

    ``fit_focus`` brings the middle of the range into focus as well.
    """
    from simscope.optics import best_focus
    from simscope.recipe.recipe import anchor_files
    from simscope.recipe.text import parse_yaml

    given: Any = None if mask is None else parse_yaml(mask, "--mask")
    if mask is not None and not isinstance(given, str | dict):
        raise RecipeError(f"--mask {mask!r} names no mask: see simscope psf --list-masks")
    if isinstance(given, dict):
        anchor_files(given, Path.cwd())
    group = {"kind": given} if isinstance(given, str) else given
    if group is None:
        own = recipe.written()["optics"].get("mask")
        if own is None:
            raise RecipeError("--z-range makes a mask for a range: give --mask as well")
        group = own
    if z_range is not None and isinstance(group, dict):
        group = {**group, "z_range_nm": z_range}
    masked = recipe.replace("optics.mask", group)
    made_for = getattr(masked.optics.mask, "z_range_nm", None)
    if not fit_focus or made_for is None:
        return masked
    plain = masked.optics.model_copy(update={"mask": None})
    (focus_nm,) = best_focus(plain, 0.5 * made_for)
    return masked.replace("acquisition.focus_nm", round(float(focus_nm)))


def require_sense(
    crlb: bool, *, side_um: float | None, photons: float | None, background: float | None
) -> None:
    """Refuse options that the picture asked for, of the PSF or its bound, does not use."""
    if crlb and side_um is not None:
        raise RecipeError(
            f"--side-um {side_um:g} goes with pictures of the PSF, and --crlb uses all pixels of "
            "the frame: leave it out, or --set acquisition.shape=[33,33]"
        )
    for name, value in (("photons", photons), ("background", background)):
        if not crlb and value is not None:
            raise RecipeError(f"--{name} {value:g} goes with --crlb: add it, or leave this out")


def mask_heights(recipe: Recipe, z_range: float | None) -> tuple[float, float] | None:
    """Emitter heights [nm] worth showing: the mask's axial range; None without one."""
    made_for = z_range or getattr(recipe.optics.mask, "z_range_nm", None)
    return None if made_for is None else (0.0, made_for)


@command(
    examples="""
    simscope psf smlm-3d-tetrapod --out psf.png
    simscope psf smlm-2d-dense --na 1.2 --out psf.png
    simscope psf psf-zernike --sample 3 --seed 7 --out psf.png
    simscope psf smlm-2d-dense --focus-nm -500 500 --set optics.wavelength_nm=520 --out psf.png
    simscope psf --mask tetrapod --z-range 4000
    simscope psf --mask "{kind: file, path: mask.mat, na_per_pixel: 0.03}"
    simscope psf --list-masks
    simscope psf smlm-3d-tetrapod --crlb --photons 5000 --background 10 --out crlb.png
"""
)
def psf(
    recipe: Annotated[
        str | None,
        typer.Argument(help=f"Packaged recipe or path of a YAML file; {MASK_RECIPE} if absent."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="PNG file to write; psf.png (crlb.png) if absent.")
    ] = None,
    crlb: Annotated[
        bool, typer.Option("--crlb", help="Cramér-Rao bound of x, y, z against height instead.")
    ] = False,
    photons: Annotated[
        float | None,
        typer.Option(help="With --crlb: photons of the emitter at the camera, 5000 if absent."),
    ] = None,
    background: Annotated[
        float | None,
        typer.Option(help="With --crlb: background photons per pixel, 10 if absent."),
    ] = None,
    mask: Annotated[
        str | None, typer.Option(help="Phase mask: its kind, or its group of keys as YAML.")
    ] = None,
    z_range: Annotated[
        float | None,
        typer.Option(help="Axial range of the mask, and of the emitters shown [nm]."),
    ] = None,
    list_masks: Annotated[
        bool, typer.Option("--list-masks", help="List the masks with their papers.")
    ] = False,
    na: Annotated[float | None, typer.Option(help="Numerical aperture.")] = None,
    wavelength_nm: Annotated[float | None, typer.Option(help="Emission wavelength [nm].")] = None,
    z_nm: Annotated[tuple[float, float] | None, typer.Option(help="Emitter heights.")] = None,
    focus_nm: Annotated[
        tuple[float, float] | None, typer.Option(help="Objective positions.")
    ] = None,
    side_um: Annotated[
        float | None, typer.Option(help="Side of the pictures, without --crlb.")
    ] = None,
    sample: Annotated[int, typer.Option(help="Sample whose drawn aberrations are shown.")] = 0,
    seed: Seed = 0,
    settings: Settings = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Picture of the PSF: planes through focus, xy and xz cuts, pupil phase; or its precision."""
    if list_masks:
        answer(*mask_list(), as_json)
        return
    from simscope import show
    from simscope.dataset import output_target

    light = {"photons": photons, "background": background}
    require_sense(crlb, side_um=side_um, **light)
    target, inputs = out or Path("crlb.png" if crlb else "psf.png"), [recipe] if recipe else []
    show.require_picture_name(target)
    output_target(target, force=force, inputs=inputs)
    chosen = load(recipe or MASK_RECIPE)
    if mask is not None or z_range is not None:
        chosen = with_mask(chosen, mask, z_range, fit_focus=recipe is None)
    chosen = changed(chosen, settings)
    for path, value in (("optics.na", na), ("optics.wavelength_nm", wavelength_nm)):
        chosen = chosen if value is None else chosen.replace(path, value)
    shown_z = mask_heights(chosen, z_range) if recipe is None or z_range is not None else None
    heights = z_nm if z_nm or focus_nm else shown_z
    view: Any = {"sample": sample, "seed": seed, "z_nm": heights, "focus_nm": focus_nm}
    numbers: dict[str, Any] = {}
    lines: list[str] = []
    if crlb:
        curve = show.recipe_bound_curve(
            chosen,
            photons=BOUND_PHOTONS if photons is None else photons,
            background_photons=BOUND_BACKGROUND if background is None else background,
            **view,
        )
        figure, numbers, lines = show.crlb_figure(curve), curve.to_dict(), curve.rows()
    else:
        figure = show.recipe_psf_figure(chosen, side_um=side_um, **view)
    written = show.save_figure(figure, target, force=force, inputs=inputs)
    answer({"out": str(written), **numbers}, [*lines, f"wrote {written}"], as_json)


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
    threads: Threads = None,
    device: DeviceName = "cpu",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Simulate samples into an HDF5 file with exact truth."""
    from simscope import dataset
    from simscope.dataset import output_target, readable_bytes

    output_target(out, force=force, inputs=[recipe])
    chosen = load(recipe, settings)
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
    as_json: Json = False,
) -> None:
    """Compile the kernels that recipes need, and keep them and the PSF tables on disk."""
    from simscope.warmup import Warmed, kernel_folder, warm_up

    def report(one: Warmed) -> None:
        typer.echo(f"{one.recipe}: {one.compiled} compiled, {one.seconds:.1f} s", err=True)

    folder = str(kernel_folder())
    done = warm_up(recipes or (), report=report)
    count, seconds = (sum(getattr(one, name) for one in done) for name in ("compiled", "seconds"))
    answer(
        {"folder": folder, "compiled": count, "seconds": seconds},
        [f"{count} functions compiled in {seconds:.1f} s, kept in {folder}"],
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


def training_source(source: str, settings: list[str] | None) -> str | Recipe:
    """The dataset file or the recipe to train on."""
    if Path(source).suffix.lower() not in (".h5", ".hdf5"):
        return load(source, settings)
    if settings:
        raise DatasetError(f"--set changes recipes, {source} is a dataset: generate a new one")
    if not Path(source).exists():
        raise DatasetError(f"no dataset {source}: check the path, or name a recipe")
    return source


@command(
    examples="""
    simscope train deepstorm smlm-2d-dense --out runs/a --minutes 4
    simscope train zernike psf-zernike --out runs/z --minutes 10
    simscope train deepstorm train.h5 --out runs/b --minutes 4 --seed 1
"""
)
def train(
    network: Annotated[str, typer.Argument(help="deepstorm or zernike.")],
    source: Annotated[str, typer.Argument(help="Recipe to stream from, or dataset file.")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    minutes: Annotated[float, typer.Option(help="Training time.")] = 4.0,
    seed: Seed = 0,
    settings: Settings = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "cpu",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Train a network on a stream of fresh samples, or on a file."""
    from simscope import learn

    chosen: str | Recipe = training_source(source, settings)
    model = learn.train(
        network, chosen, out=out, minutes=minutes, seed=seed, device=device, force=force
    )
    held_out = model.record["held_out"]
    rows = [(name.replace("_", " "), _rounded(value)) for name, value in held_out.items()]
    answer({"out": str(out), "held_out": held_out}, [f"wrote {out}", *aligned(rows)], as_json)


@command(
    examples="""
    simscope localize runs/a test.h5 --out found.csv
"""
)
def localize(
    run: Annotated[Path, typer.Argument(help="Folder of a training run.")],
    data: Annotated[Path, typer.Argument(help="Dataset file.")],
    out: Annotated[Path, typer.Option(help="Table to write: .csv (ThunderSTORM) or .h5.")],
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Find the emitters in a dataset with a trained network."""
    from simscope import learn
    from simscope.dataset import output_target, write_localizations

    output_target(out, force=force, inputs=[data])
    found = learn.localize(learn.load(run), data)
    written = write_localizations(out, found, force=force, inputs=[data])
    answer(
        {"out": str(written), "found": len(found)}, [f"wrote {written}: {len(found):,} emitters"],
        as_json,
    )  # fmt: skip


@command(
    examples="""
    simscope evaluate found.csv test.h5 --radius-nm 250
    simscope evaluate found.csv test.h5 --radius-nm 250 --axial-radius-nm 500 --json
"""
)
def evaluate(
    found: Annotated[Path, typer.Argument(help="Table of localisations: .csv or .h5.")],
    truth: Annotated[Path, typer.Argument(help="Dataset file, or a table.")],
    radius_nm: Annotated[float, typer.Option(help="Largest lateral distance of a match.")] = 250.0,
    axial_radius_nm: Annotated[
        float | None, typer.Option(help="Largest axial distance of a match.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Score localisations against the truth: Jaccard, precision, recall, RMS error.

    Of a dataset, the emitters on its pixels count; a note says how many lie beside.
    """
    from simscope.dataset import read_emitters, read_truth
    from simscope.evaluate import score

    result = score(
        read_emitters(found), read_truth(truth),
        radius_nm=radius_nm, axial_radius_nm=axial_radius_nm,
    ).to_dict()  # fmt: skip
    rows = [(name.replace("_", " "), _rounded(value)) for name, value in result.items()]
    answer(result, aligned(rows), as_json)


def _rounded(value: float | int | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4g}"


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


if __name__ == "__main__":
    main()
