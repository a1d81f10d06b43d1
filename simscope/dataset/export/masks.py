"""Objects as masks: label images for Cellpose and StarDist, or annotations as COCO has them.

Labels are those of ``simscope.targets``: the camera pixel bears the object that covers most of it.

- ``labels``: ``images/00000.tif`` and ``masks/00000.tif`` of the same name, uint16, 0 background,
  the folders that StarDist's and Cellpose's training reads.
- ``coco``: ``images/`` and ``annotations.json`` (https://cocodataset.org/#format-data). A mask is
  an RLE: runs of pixels outside and inside in turn, column after column, packed into text six bits
  a character as ``maskApi.c`` of the COCO API does; ``bbox`` is [x, y, width, height] in pixels
  from the outer corner of the first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from simscope.dataset.export.frames import Frames
from simscope.dataset.export.truth import write_truth
from simscope.keys import Key
from simscope.sample import camera_labels, check_objects
from simscope.targets.base import resolved

Labels = npt.NDArray[np.uint16]

LABELS = """\
images/00000.tif, ...: camera counts [ADU], uint16, one file a frame, rows along y
masks/00000.tif, ...: labels of the same frame, uint16, 0 background, one number an object
"""
COCO = """\
images/00000.tif, ...: camera counts [ADU], uint16, one file a frame, rows along y
annotations.json: COCO; a mask (compressed RLE, iscrowd 0), bbox [x, y, width, height] and area an
object, in pixels; pixel 0 reaches from 0 to 1; category 1 is object
"""


def write_labels(frames: Frames, folder: Path) -> list[str]:
    """Write images and label images; returns what the user must know besides the convention."""
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for number, image, labels in labelled(frames):
        _write_image(folder / "images" / file_name(number), image)
        _write_image(folder / "masks" / file_name(number), labels)
    return [*label_notes(frames), *write_truth(frames, folder)]


def write_coco(frames: Frames, folder: Path) -> list[str]:
    """Write images and annotations; returns what the user must know besides the convention."""
    (folder / "images").mkdir()
    with (folder / "annotations.json").open("w", encoding="utf8") as file:
        file.write('{"info": ' + json.dumps(_info(frames)))
        file.write(', "licenses": [], "categories": ')
        file.write(json.dumps([{"id": 1, "name": "object", "supercategory": "object"}]))
        file.write(', "images": [')
        height, width = frames.shape
        _write_list(file, (
            {"id": number, "width": width, "height": height, "file_name": file_name(number)}
            for number in range(frames.count)
        ))  # fmt: skip
        file.write('], "annotations": [')
        _write_list(file, _annotations(frames, folder))
        file.write("]}\n")
    return [*label_notes(frames), *write_truth(frames, folder)]


def label_notes(frames: Frames) -> list[str]:
    """Where the labels come from."""
    if "labels" not in frames.data.target_names:
        return ["labels are worked out of the recipe: objects as seen from above"]
    settings = json.dumps(frames.data.target_settings.get("labels", {}))
    return [f"labels are those stored in the dataset, {settings}"]


def file_name(number: int) -> str:
    """Name of the file of a frame."""
    return f"{number:05d}.tif"


def labelled(frames: Frames) -> Iterator[tuple[int, npt.NDArray[np.uint16], Labels]]:
    """Number, image [ADU] and labels of every frame, each ``(y, x)``.

    Labels stored in the dataset are taken, otherwise they are worked out of the recipe.
    """
    check_objects(frames.recipe)
    stored = "labels" in frames.data.target_names
    planes = np.zeros((0, 0, 0), np.uint16)
    for number, image in enumerate(frames.images()):
        sample, within = divmod(number, frames.per_sample)
        if stored:
            found = frames.data.target("labels")
            labels = found[frames.first + sample] if frames.per_sample == 1 else found[
                frames.first + sample, within]  # fmt: skip
            yield number, image, np.asarray(labels, np.uint16).reshape(frames.shape)
            continue
        if within == 0:
            planes = projected_labels(frames, frames.first + sample)
        yield number, image, planes


def projected_labels(frames: Frames, sample: int) -> Labels:
    """Labels of a sample seen from above, uint16 ``(y, x)``, worked out of the recipe."""
    recipe = resolved(frames.data)
    return camera_labels(recipe, Key(frames.data.seed), sample, "projection")[0]


def _annotations(frames: Frames, folder: Path) -> Iterator[dict[str, Any]]:
    """Annotations of all frames one after another; their images are written on the way."""
    serial = 0
    for number, image, labels in labelled(frames):
        _write_image(folder / "images" / file_name(number), image)
        for label in np.unique(labels[labels > 0]):
            serial += 1
            yield annotation(labels == label) | {
                "id": serial, "image_id": number, "label": int(label)
            }  # fmt: skip


def annotation(mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """What COCO says of one object: mask, area, bounding box."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    return {
        "category_id": 1,
        "iscrowd": 0,
        "area": int(mask.sum()),
        "bbox": [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
        "segmentation": {"size": [int(size) for size in mask.shape], "counts": rle_text(mask)},
    }


def run_lengths(mask: npt.NDArray[np.bool_]) -> list[int]:
    """Pixels outside, inside, outside ... in turn, column after column, beginning outside."""
    flat = np.concatenate([[False], np.asarray(mask, bool).ravel(order="F")])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return [int(run) for run in np.diff(np.concatenate([[0], edges, [mask.size]]))]


def rle_text(mask: npt.NDArray[np.bool_]) -> str:
    """Run lengths of a mask as COCO's compressed text.

    From the fourth run on, what is packed is the difference to the run two before; five bits go to
    a character, the lowest first, its sixth bit says that more follow, and a negative number ends
    with its sign bit set.
    """
    runs = run_lengths(mask)
    out = []
    for number, run in enumerate(runs):
        value = run - runs[number - 2] if number > 2 else run
        more = True
        while more:
            bits = value & 0x1F
            value >>= 5
            more = value != (-1 if bits & 0x10 else 0)
            out.append(chr((bits | (0x20 if more else 0)) + 48))
    return "".join(out)


def _write_list(file: IO[str], items: Iterator[dict[str, Any]]) -> None:
    for number, item in enumerate(items):
        file.write((",\n" if number else "\n") + json.dumps(item))


def _info(frames: Frames) -> dict[str, Any]:
    return {
        "description": f"{frames.recipe.name}, simulated by simscope",
        "version": frames.data.recipe_sha256,
    }


def _write_image(path: Path, image: npt.NDArray[np.uint16]) -> None:
    import tifffile

    tifffile.imwrite(path, image, photometric="minisblack", software="simscope")
