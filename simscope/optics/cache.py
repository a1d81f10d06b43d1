"""Finished tables on disk, under a hash of everything they depend on.

Files are written to the side and moved into place, so that processes can share the folder; a file
that cannot be read is rebuilt.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simscope.errors import WorkWarning
from simscope.recipe.base import file_references

TABLE_VERSION = 6
"""Raised whenever the same request would give another table, or a table is kept otherwise."""


def default_cache_dir() -> Path:
    """Folder for tables: ``$SIMSCOPE_CACHE``, or ``simscope`` in the user's cache folder."""
    chosen = os.environ.get("SIMSCOPE_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "simscope"


def table_key(optics: Any, request: dict[str, Any]) -> str:
    """Hash of optics, request, version and every file the optics refer to: 40 hex digits."""
    described = {
        "version": TABLE_VERSION,
        "optics": optics.resolved().model_dump(mode="json"),
        "request": request,
    }
    digest = hashlib.blake2b(json.dumps(described, sort_keys=True).encode(), digest_size=20)
    for path in file_references(optics).values():
        digest.update(_file_digest(path))
    return digest.hexdigest()


def _file_digest(path: Path) -> bytes:
    """Hash of a file's content; of nothing where there is none, which its reader will report."""
    digest = hashlib.blake2b(digest_size=20)
    if path.is_file():
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.digest()


def load_arrays(folder: Path, key: str) -> dict[str, NDArray[Any]] | None:
    """Stored arrays by name, or None if there are none or they cannot be read (with a warning)."""
    path = folder / f"psf-{key}.npz"
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except Exception as error:  # damaged files make the reader raise nearly anything
        warnings.warn(
            f"cached table {path.name} is damaged ({error}): building it again",
            WorkWarning,
            stacklevel=3,
        )
        return None


def save_arrays(folder: Path, key: str, arrays: dict[str, NDArray[Any]]) -> None:
    """Store arrays under ``key`` in one step; only warns where the folder cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, side = tempfile.mkstemp(dir=folder, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
            os.replace(side, folder / f"psf-{key}.npz")
        finally:
            Path(side).unlink(missing_ok=True)
    except OSError as error:
        warnings.warn(
            f"the table cannot be cached in {folder} ({error}): set SIMSCOPE_CACHE",
            WorkWarning,
            stacklevel=3,
        )
