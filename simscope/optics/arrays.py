"""Arrays of numbers from a user's .npy, MATLAB and TIFF files; errors name file, fault and remedy.

``what`` says in an error which of the optics' files it is, ``setting`` where the recipe names it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simscope.errors import OpticsError, TableError
from simscope.tables import matlab
from simscope.tiff import read_tiff as read_image


def existing_file(path: str | Path, what: str, setting: str) -> Path:
    """The path with ``~`` expanded; raises OpticsError unless a file is there."""
    file = Path(path).expanduser()
    if file.is_dir():
        raise OpticsError(f"{what} file {str(path)!r} is a folder: name a file in {setting}.path")
    if not file.is_file():
        raise OpticsError(f"{what} file {str(path)!r} does not exist: check {setting}.path")
    return file


def read_npy(file: Path, what: str) -> NDArray[Any]:
    """The array in a .npy file."""
    # damaged headers make it raise nearly anything; mapped, a file must hold what it declares
    try:
        values = np.load(file, mmap_mode="r", allow_pickle=False)
    except Exception as error:
        # numpy's own words advise to unpickle, which runs whatever the file holds
        raise OpticsError(
            f"{what} file {str(file)!r} is no .npy array of plain numbers, or damaged: write it "
            "with np.save"
        ) from error
    if not isinstance(values, np.ndarray):
        raise OpticsError(f"{what} file {str(file)!r} is an .npz archive: save one array as .npy")
    return np.array(values)


def read_mat(
    file: Path, variable: str | None, what: str, setting: str, *, usual: str | None = None
) -> NDArray[Any]:
    """An array in a MATLAB file up to v7: ``variable``, or the only one, or the ``usual``."""
    if matlab.is_hdf5(file):
        raise OpticsError(
            f"{what} file {str(file)!r} is a MATLAB 7.3 file: resave as v7 (save -v7) or as .npy"
        )
    try:
        names = matlab.names(file)
        wanted = variable or (names[0] if len(names) == 1 else usual)
        values = matlab.read_variable(file, wanted) if wanted in names else None
    except TableError as error:
        raise OpticsError(
            f"{what} file {str(file)!r} cannot be read as a MATLAB file ({error}): "
            "export it again, as v7 (save -v7)"
        ) from None
    if wanted not in names:
        raise OpticsError(
            f"{what} variable {wanted!r} is not in {file.name}, which holds {names}: "
            f"set {setting}.variable to one of them"
        )
    if not isinstance(values, np.ndarray):
        raise OpticsError(f"{what} variable {wanted!r} in {file.name} is no array of numbers")
    return values


def read_tiff(file: Path, what: str) -> NDArray[Any]:
    """The image or stack in a TIFF file, the first if there are several."""
    return read_image(file, f"{what} file {str(file)!r}", OpticsError).values
