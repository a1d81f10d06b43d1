"""Programs that take a TIFF stack and a table: Deep-STORM, SMAP, the SMLM challenge.

Each table's convention stands with its format in ``simscope.tables``. Frames are ``(y, x)`` as the
camera sees them.

- Deep-STORM in ZeroCostDL4Mic (Nehme et al. 2018, Optica 5, 458; von Chamier et al. 2021, Nat.
  Commun. 12, 2276) trains on a TIFF stack and ThunderSTORM's CSV of it, two-dimensional. The
  notebook finds a frame's rows by their ids, which must therefore number the rows from 1, sorted by
  frame; it reads the pixel from XResolution per cm. Its images have pixel k from k to k + 1, as
  here; its heat maps round a place to the nearest corner of a fine pixel, half of one off.
- SMAP (Ries 2020, Nat. Methods 17, 870) imports CSV by the names of its own columns.
- The SMLM challenge 2016 (Sage et al. 2019, Nat. Methods 16, 387) has frames and activations.
"""

from __future__ import annotations

from pathlib import Path

from simscope.dataset.export.frames import Frames
from simscope.dataset.export.tiff import write_stack
from simscope.dataset.export.truth import write_emitters

DEEPSTORM = """\
stack.tif: camera counts [ADU], uint16, one page a frame, rows along y
localizations.csv: ThunderSTORM's columns; nm from the outer corner of the first pixel, x along
columns, frames from 1, photons at the camera, ids number the rows from 1
"""
SMAP = """\
stack.tif: camera counts [ADU], uint16, one page a frame, rows along y
localizations.csv: SMAP's columns; nm, x along columns, frames from 1, photons at the camera
"""
CHALLENGE = """\
stack.tif: camera counts [ADU], uint16, one page a frame, rows along y
activations.csv: columns of the SMLM challenge 2016; nm from the outer corner of the first pixel, x
along columns, z above the coverslip, frames from 1, photons at the camera
"""


def write_deepstorm(frames: Frames, folder: Path) -> list[str]:
    """Write the export for Deep-STORM, rows numbered; heights, which it cannot learn, left out."""
    flat = {name: values for name, values in frames.emitters.items() if name not in ("z_nm", "id")}
    _write_images(frames, folder)
    write_emitters(frames, folder / "localizations.csv", "thunderstorm", flat)
    return [f"the notebook finds the pixel size, {frames.pixel_nm:g} nm, in the stack"]


def write_smap(frames: Frames, folder: Path) -> list[str]:
    """Write the export for SMAP and fit3Dcspline."""
    _write_images(frames, folder)
    write_emitters(frames, folder / "localizations.csv", "smap")
    return [camera_note(frames)]


def write_challenge(frames: Frames, folder: Path) -> list[str]:
    """Write the export in the layout of the SMLM challenge."""
    _write_images(frames, folder)
    write_emitters(frames, folder / "activations.csv", "challenge")
    return [camera_note(frames)]


def camera_note(frames: Frames) -> str:
    """The camera's numbers, which programs ask for to turn ADU into photons."""
    shown = {
        "offset [ADU]": "camera.baseline_adu",
        "conversion [e/ADU]": "camera.e_per_adu",
        "EM gain": "camera.em_gain",
        "quantum efficiency": "camera.qe",
        "read noise [e]": "camera.read_noise_e",
    }
    parts = []
    for name, path in shown.items():
        value = frames.mean(path)
        mean = " (mean)" if path in frames.drawn else ""
        parts += [] if value is None else [f"{name} {value:.6g}{mean}"]
    return f"camera: {', '.join(parts)}, pixel {frames.pixel_nm:g} nm"


def _write_images(frames: Frames, folder: Path) -> None:
    shape = (frames.count, *frames.shape)
    write_stack(folder / "stack.tif", frames.images(), shape, pixel_nm=frames.pixel_nm)
