"""Hand whole datasets over to other programs: one module a stack, each with its convention.

An export is a folder that appears whole: images, truth in the convention of the other program, the
recipe, and ``ABOUT.txt``, which says what stands where. Images are streamed, so memory stays flat;
emitters are held whole, some 100 bytes each.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from simscope.dataset.export import (
    decode,
    deepstorm3d,
    masks,
    npz,
    ome_tiff,
    ome_zarr,
    picasso,
    stacks,
)
from simscope.dataset.export.folder import describe, new_folder
from simscope.dataset.export.frames import Frames, require_molecules, silent
from simscope.dataset.plan import Progress
from simscope.dataset.read import open_dataset
from simscope.errors import DatasetError, did_you_mean


@dataclass(frozen=True)
class Stack:
    """A program's export: how it is written, its convention, whether it takes single molecules."""

    write: Callable[[Frames, Path], list[str]]
    convention: str
    molecules: bool


STACKS = {
    "decode": Stack(decode.write, decode.CONVENTION, True),
    "deepstorm3d": Stack(deepstorm3d.write, deepstorm3d.CONVENTION, True),
    "deepstorm": Stack(stacks.write_deepstorm, stacks.DEEPSTORM, True),
    "picasso": Stack(picasso.write, picasso.CONVENTION, True),
    "smap": Stack(stacks.write_smap, stacks.SMAP, True),
    "challenge": Stack(stacks.write_challenge, stacks.CHALLENGE, True),
    "ome-tiff": Stack(ome_tiff.write, ome_tiff.CONVENTION, False),
    "ome-zarr": Stack(ome_zarr.write, ome_zarr.CONVENTION, False),
    "npz": Stack(npz.write, npz.CONVENTION, False),
    "coco": Stack(masks.write_coco, masks.COCO, False),
    "labels": Stack(masks.write_labels, masks.LABELS, False),
}


def export_dataset(
    path: str | os.PathLike[str],
    to: str,
    out: str | os.PathLike[str],
    *,
    samples: str | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> Path:
    """Folder with a dataset, or some of its samples, as another program reads it.

    Parameters
    ----------
    path
        A dataset file, of one file or of shards.
    to
        One of :data:`STACKS`.
    samples
        ``"100:200"`` for the 100th up to and without the 200th; all for None.
    force
        Replace an earlier export.
    progress
        Called with the frames done and those to do.

    Raises
    ------
    DatasetError
        If the stack is not known or does not take such a dataset, the folder may not be written,
        or the dataset cannot be read.
    """
    if to not in STACKS:
        hint = did_you_mean(str(to), STACKS) or f"there are {', '.join(STACKS)}"
        raise DatasetError(f"no export to {to!r}; {hint}")
    stack = STACKS[to]
    with open_dataset(path) as data:
        frames = Frames.of(data, samples, progress)
        if stack.molecules:
            require_molecules(frames, to)
        with new_folder(out, force=force) as folder:
            notes = stack.write(frames, folder)
            describe(frames, folder, to, stack.convention, notes)
    return Path(out)
