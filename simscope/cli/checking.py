"""Commands that look into datasets: what one is, whether it is right, where two differ."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from simscope.cli.frame import Data, Json, Threads, aligned, answer, command, progress_bar

DIFFERENT = 1


@command(
    examples="""
    simscope verify data.h5
    simscope verify data.h5 --all --json
    simscope verify data.h5 --samples 1000 --files ~/calibrations
"""
)
def verify(
    data: Data,
    samples: Annotated[
        int, typer.Option(help="Samples made once more, evenly from the first to the last.")
    ] = 100,
    every: Annotated[bool, typer.Option("--all", help="Make all samples once more.")] = False,
    files: Annotated[
        Path | None, typer.Option(help="Folder with the files that the recipe reads.")
    ] = None,
    allow_files: Annotated[
        bool, typer.Option("--allow-files", help="Let the recipe read files anywhere.")
    ] = False,
    checksums: Annotated[
        bool, typer.Option(help="Read all of the dataset and compare its checksums.")
    ] = True,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Hold a dataset against its checksums and its own recipe and seed, bit for bit.

    Ends with 0 if all is equal, 1 if something differs, 2 if it cannot be verified.
    """
    from simscope.dataset import verify as compare

    with progress_bar("verifying, frames") as update:
        verdict = compare(
            data, samples=None if every else samples, files=files, allow_files=allow_files,
            checksums=checksums, threads=threads, progress=update,
        )  # fmt: skip
    tell(verdict.to_dict(), verdict.lines(), as_json, equal=verdict.identical)


@command(
    examples="""
    simscope info data.h5
    simscope info data.h5 --tree
    simscope info unfinished/ --json
"""
)
def info(
    data: Annotated[Path, typer.Argument(help="Dataset file, or the folder of a run.")],
    tree: Annotated[bool, typer.Option("--tree", help="List every array of the file.")] = False,
    as_json: Json = False,
) -> None:
    """Say what a dataset is: recipe, sizes, drawn numbers, codec; or how far a run has come."""
    from simscope.dataset import array_tree, describe

    about = describe(data)
    values, lines = about.to_dict(), aligned(about.rows())
    if tree and not values["unfinished"]:
        arrays = array_tree(data)
        values["arrays"] = arrays
        lines += ["", *tree_lines(arrays)]
    answer(values, [printable(line) for line in lines], as_json)


@command(
    examples="""
    simscope diff a.h5 b.h5
    simscope diff a.h5 b.h5 --json
"""
)
def diff(
    first: Data,
    second: Annotated[Path, typer.Argument(help="Dataset file to compare it with.")],
    as_json: Json = False,
) -> None:
    """Where two datasets differ: recipe, seed, samples, arrays; however they are stored.

    Ends with 0 if they are the same, 1 if they differ, 2 if one cannot be read.
    """
    from simscope.dataset import difference

    with progress_bar("comparing, frames") as update:
        delta = difference(first, second, progress=update)
    tell(delta.to_dict(), delta.lines(), as_json, equal=delta.same)


def tell(values: dict[str, Any], lines: list[str], as_json: bool, *, equal: bool) -> None:
    """Print what was found; end with code 1 unless all is equal."""
    answer(values, [printable(line) for line in lines], as_json)
    if not equal:
        raise typer.Exit(DIFFERENT)


def tree_lines(arrays: list[dict[str, Any]]) -> list[str]:
    """A line for every array: name, shape and type, unit, description."""
    rows = [
        (one["name"], " x ".join(map(str, one["shape"])), one["type"], one["unit"],
         one["description"])
        for one in arrays
    ]  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return [
        "  ".join((*(f"{text:<{width}}" for text, width in zip(row, widths, strict=False)), row[4]))
        for row in rows
    ]


def printable(line: str) -> str:
    """A line without control characters, which a stranger's file may hold."""
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line
    )
