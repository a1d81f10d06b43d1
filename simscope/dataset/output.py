"""Put a finished file in its place, and never put it where it would do harm.

What is overwritten, on request, is a regular file; never a device or pipe, never an input of the
same command, and a link keeps pointing to its target, which is what gets replaced.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from simscope.errors import DatasetError

Name = str | os.PathLike[str]


def output_target(path: Name, *, force: bool = False, inputs: Iterable[Name] = ()) -> Path:
    """The file that writing to ``path`` would make or replace: ``path``, or what it links to.

    Raises
    ------
    DatasetError
        If it exists and is no regular file, or is one of ``inputs``, or ``force`` is not set; if
        its folder is missing or cannot be written to.
    """
    path = Path(path)
    if path.is_dir():
        raise DatasetError(f"{path} is a folder: give the name of a file")
    if path.exists():
        _require_replaceable(path, force, inputs)
    target = _followed(path)
    if not target.parent.is_dir():
        raise DatasetError(f"folder {target.parent} does not exist: create it first")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise DatasetError(f"folder {target.parent} is not writable: choose another folder")
    return target


def _require_replaceable(path: Path, force: bool, inputs: Iterable[Name]) -> None:
    if not path.is_file():
        raise DatasetError(f"{path} is a device or pipe, no regular file: choose another name")
    for name in inputs:
        if os.path.exists(name) and os.path.samefile(path, name):
            raise DatasetError(f"{path} is read by this command: choose another name to write to")
    if not force:
        raise DatasetError(f"{path} exists: choose another name, or overwrite it with --force")


def _followed(path: Path) -> Path:
    if not path.is_symlink():
        return path
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        raise DatasetError(f"{path} is a link that leads nowhere: choose another name") from None


def require_suffix(path: Name, *suffixes: str) -> None:
    """Return nothing; raise DatasetError unless a file to write is named as what it will hold."""
    if Path(path).suffix.lower() not in suffixes:
        raise DatasetError(f"{path}: give a name that ends in {' or '.join(suffixes)}")


@contextmanager
def replacing(path: Name, *, force: bool = False, inputs: Iterable[Name] = ()) -> Iterator[Path]:
    """A new name to write to; on leaving, that file takes the place of ``path`` in one step.

    If the block fails nothing is left behind, and what was at ``path`` stays.

    Raises
    ------
    DatasetError
        As :func:`output_target`, or if the disk refuses.
    """
    target = output_target(path, force=force, inputs=inputs)
    part = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
    try:
        yield part
        os.replace(part, target)
    except OSError as error:
        raise DatasetError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)
