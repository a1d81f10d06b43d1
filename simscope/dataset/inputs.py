"""The files a dataset's recipe reads, found on this machine and proved to be the same.

A stranger's recipe may name any file, so none is opened unless it lies below the dataset's folder
or a folder given for this, or the user allows all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from simscope.dataset.read import Dataset
from simscope.dataset.schema import file_sha256
from simscope.errors import DatasetError
from simscope.recipe import Recipe
from simscope.recipe.base import file_references


def recipe_with_files(
    data: Dataset, folder: str | os.PathLike[str] | None = None, *, allow_files: bool = False
) -> Recipe:
    """The recipe of a dataset, with its files where they are here, of the SHA-256 noted.

    Raises
    ------
    DatasetError
        If a file is not found where it may be looked for, or is another than was read then.
    """
    recipe = data.recipe
    named = file_references(recipe)
    if not named:
        return recipe
    beside = data.path.resolve().parent
    folders = [beside] if folder is None else [beside, Path(folder).resolve()]
    found = {key: str(_found(data, key, file, folders, allow_files)) for key, file in named.items()}
    return recipe.replace_all(found)


def _found(data: Dataset, key: str, file: Path, folders: list[Path], allow_files: bool) -> Path:
    noted = data.inputs.get(key, {}).get("sha256")
    if noted is None:
        raise DatasetError(f"{data.path} notes no checksum of {key}={file}: it cannot be verified")
    looked: list[str] = []
    for place in _places(file, folders):
        within = any(place.is_relative_to(folder) for folder in folders)
        if not within and not allow_files:
            looked.append(f"{place} lies outside the dataset's folder and is not read")
        elif not place.is_file():
            looked.append(f"{place} is not there")
        elif file_sha256(place) != noted:
            looked.append(f"{place} has another content")
        else:
            return place
    raise DatasetError(
        f"{data.path} was made with the file {key}={file}, SHA-256 {noted[:12]}..., which is "
        f"missing ({'; '.join(looked)}): copy it beside the dataset, name its folder with --files, "
        "or allow any place with --allow-files"
    )


def _places(file: Path, folders: list[Path]) -> Iterator[Path]:
    """Where a file may lie: its own path, then by its name in the folders; links resolved."""
    plain = PureWindowsPath(file).name if "\\" in str(file) else PurePosixPath(file).name
    yield from dict.fromkeys(
        path.resolve() for path in (file, *(folder / plain for folder in folders))
    )
