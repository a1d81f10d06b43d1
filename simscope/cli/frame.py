"""What all commands share: how they fail, how they report, options of the same name."""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simscope.errors import RecipeError, SimscopeError

if TYPE_CHECKING:
    from simscope.recipe import Recipe

BAD_INPUT = 2
INTERRUPTED, ENDED, UNREAD = 130, 143, 141
LINE_EVERY_S = 60.0
"""How often progress is told where no bar can move, as in the log of a batch job."""
EXTRAS = {"matplotlib": "view"} | dict.fromkeys(
    ("torch", "safetensors", "onnx", "onnxscript"), "train"
)

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
    try:
        app()
    except OSError as error:  # of typer's own printing, outside any command
        sys.exit(f"simscope: the system refused: {error.strerror or error}")


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
    except BrokenPipeError:
        hang_up()
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
        notes = getattr(request, "__notes__", ["nothing incomplete was left behind"])
        stop(f"interrupted; {'; '.join(notes)}", code)


def hang_up() -> None:
    """End quietly where nobody reads on, as behind ``| head``."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python complains as it flushes at its end
    raise typer.Exit(UNREAD)


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
Data = Annotated[Path, typer.Argument(help="Dataset file.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change one value; may be repeated."),
]
Seed = Annotated[int, typer.Option(help="Seed of all random numbers.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what exists.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Threads = Annotated[int | None, typer.Option(help="Threads; results do not depend on it.")]
AllowFiles = Annotated[
    bool,
    typer.Option("--allow-files", help="Let the recipe read files outside its own folder."),
]
DeviceName = Annotated[
    str, typer.Option("--device", help="cpu, cuda or auto; samples do not depend on it.")
]


def load(name: str, settings: list[str] | None = None, *, allow_files: bool = False) -> Recipe:
    """The named recipe with ``path=value`` settings applied, values read as YAML."""
    from simscope.recipe import load_recipe

    return changed(load_recipe(name, allow_files=allow_files), settings)


def changed(recipe: Recipe, settings: list[str] | None) -> Recipe:
    """The recipe with ``path=value`` settings applied, values read as YAML."""
    from simscope.recipe.recipe import anchor_files

    changes: dict[str, Any] = {}
    for path, setting in named_values(settings, "--set", "camera.qe=0.8").items():
        value = {path.rsplit(".", 1)[-1]: setting}
        anchor_files(value, Path.cwd())
        (changes[path],) = value.values()
    return recipe.replace_all(changes) if changes else recipe


def named_values(settings: list[str] | None, option: str, example: str) -> dict[str, Any]:
    """What ``name=value`` settings of an option say, values read as YAML.

    Raises
    ------
    RecipeError
        If one is not written so.
    """
    from simscope.recipe.text import parse_yaml

    values: dict[str, Any] = {}
    for setting in settings or []:
        name, equals, text = setting.partition("=")
        if not equals or not name.strip():
            kind = "path=value" if option == "--set" else "name=value"
            raise RecipeError(f"{option} {setting!r}: write it as {kind}, such as {example}")
        values[name.strip()] = parse_yaml(text, f"{option} {name.strip()}")
    return values


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
    before: list[int] = []  # what was done when it appeared, by a run that was ended early
    line = start

    def update(done: int, total: int) -> None:
        nonlocal line
        bars.start()
        before[:] = before or [done]
        now = time.monotonic()
        rate = max(0, done - before[0]) / max(now - start, 1e-3)
        bars.update(task, completed=done, total=total, rate=_rate(rate))
        if not bars.console.is_terminal and now - line >= LINE_EVERY_S:
            line = now
            typer.echo(_progress_line(label, done, total, rate), err=True)

    try:
        yield update
    finally:
        if bars.live.is_started:
            bars.stop()


def _rate(rate: float) -> str:
    """A rate in words; nothing where none is known yet."""
    return f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s" if rate else ""


def _progress_line(label: str, done: int, total: int, rate: float) -> str:
    """Progress where no bar can move."""
    left = f", {timedelta(seconds=round((total - done) / rate))} left" if rate else ""
    return f"{label}: {done:,} of {total:,}, {_rate(rate) or 'no rate yet'}{left}"


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


def rounded(value: float | int | None) -> str:
    """A number with four digits, counts in full, ``-`` for none."""
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4g}"
