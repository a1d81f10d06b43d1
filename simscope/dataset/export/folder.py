"""A folder that appears whole or not at all, and says what is in it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from simscope import __version__
from simscope.dataset.export.frames import Frames
from simscope.errors import DatasetError

MARK = "simscope-export.json"
"""What makes a folder one that may be replaced: it says where the export came from."""


@contextmanager
def new_folder(path: str | os.PathLike[str], *, force: bool = False) -> Iterator[Path]:
    """A folder to fill beside ``path``, which takes that name once the block ends well.

    If the block fails nothing is left behind, and what was at ``path`` stays. ``force`` replaces
    an earlier export, and nothing else.

    Raises
    ------
    DatasetError
        If ``path`` exists and may not be replaced, cannot be made, or the disk refuses.
    """
    target = Path(path)
    _require_free(target, force)
    part = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
    try:
        part.mkdir()
        yield part
        _put(part, target, force)
    except OSError as error:
        # NumPy tells of a short write without the system's reason
        reason = error.strerror or f"the disk took part of a write only ({error})"
        raise DatasetError(
            f"cannot write {target}: {reason}; free some space or choose another folder"
        ) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _require_free(target: Path, force: bool) -> None:
    if not target.name:
        raise DatasetError(f"{target} is no name for a new folder: choose one")
    if not target.parent.is_dir():
        raise DatasetError(f"folder {target.parent} does not exist: create it first")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise DatasetError(f"folder {target.parent} is not writable: choose another folder")
    if not target.exists() and not target.is_symlink():
        return
    if _is_empty(target):
        return
    if target.is_symlink() or not (target / MARK).is_file():
        raise DatasetError(
            f"{target} exists and is no export of simscope, so it is not replaced: choose another "
            "name"
        )
    if not force:
        raise DatasetError(f"{target} exists: choose another name, or overwrite it with --force")


def _is_empty(target: Path) -> bool:
    """Whether it is a folder with nothing in it, made to be filled."""
    return target.is_dir() and not target.is_symlink() and not any(target.iterdir())


def _put(part: Path, target: Path, force: bool) -> None:
    """Give the finished folder its name; an earlier export leaves only then."""
    _require_free(target, force)  # much may have come there while the part was written
    if _is_empty(target):
        target.rmdir()
    if not target.exists():
        os.rename(part, target)
        return
    old = target.with_name(f"{target.name}.{secrets.token_hex(4)}.old")
    os.rename(target, old)
    try:
        os.rename(part, target)
    except OSError:
        os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def describe(frames: Frames, folder: Path, to: str, convention: str, notes: Iterable[str]) -> None:
    """Write the recipe, the mark and a page that says what stands in the folder, and how."""
    data = frames.data
    mark: dict[str, Any] = {
        "to": to,
        "simscope": __version__,
        "recipe": frames.recipe.name,
        "recipe_sha256": data.recipe_sha256,
        "seed": data.seed,
        "first_sample": frames.first,
        "samples": frames.samples,
        "frames": frames.count,
    }
    (folder / MARK).write_text(json.dumps(mark, indent=1) + "\n", "utf8")
    (folder / "recipe.yaml").write_text(frames.recipe.to_yaml(), "utf8")
    lines = [
        f"{frames.recipe.name}, seed {data.seed}, samples {frames.first} to {frames.last - 1}: "
        f"{frames.count} frames of {frames.shape[0]} x {frames.shape[1]} pixels (rows x columns), "
        f"pixel {frames.pixel_nm:g} nm",
        "",
        convention.strip(),
        *(f"\nNote: {note}" for note in notes),
    ]
    (folder / "ABOUT.txt").write_text("\n".join(lines) + "\n", "utf8")
