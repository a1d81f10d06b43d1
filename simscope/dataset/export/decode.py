"""DECODE: frames in its axis order, emitters, and the parameters of camera and simulation.

DECODE's frames are ``[n, x, y]`` (``psf_kernel.py``: the first axis of an image runs along the
``xextent``), and ``load_tif`` turns nothing round, so the TIFF holds every frame transposed: an
emitter at x = 5, y = 2 peaks at ``[5, 2]``. Pixel 0 is centred at 0 and frames extend from -1/2.

Parameters have the keys of release 0.10 (``reference.yaml``, ``param_friendly.yaml``). Its camera
(``simulation/camera.py``) is ``floor((gain(Poisson(qe x + spur_noise)) + N(0, read_sigma)) /
e_per_adu) + baseline``: electrons throughout, ``spur_noise`` before the register, ``em_gain`` empty
where there is none. Source: Speiser et al., Nat. Methods 18, 1082 (2021).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from simscope.dataset.export.frames import Frames
from simscope.dataset.export.tiff import write_stack
from simscope.dataset.export.truth import write_emitters
from simscope.recipe import EMCCD

CONVENTION = """\
frames.tif: camera counts [ADU], uint16, axes [n, x, y] as DECODE wants them (each frame transposed)
emitters.h5: EmitterSet; x, y in pixels, pixel 0 centred at 0, z in nm above the coverslip, frames
from 0, photons at the camera
param.yaml: Camera and Simulation as of release 0.10; InOut is yours to fill in
"""
CAMERA = ("camera.qe", "camera.e_per_adu", "camera.baseline_adu", "camera.read_noise_e")


def write(frames: Frames, folder: Path) -> list[str]:
    """Write the export; returns what the user must know besides the convention."""
    rows, columns = frames.shape
    turned = (image.T for image in frames.images())
    shape = (frames.count, columns, rows)
    write_stack(folder / "frames.tif", turned, shape, pixel_nm=frames.pixel_nm)
    write_emitters(frames, folder / "emitters.h5", "decode")
    parameters = {"Camera": camera(frames), "Simulation": simulation(frames)}
    text = yaml.safe_dump(parameters, sort_keys=False)
    (folder / "param.yaml").write_text(text, "utf8")
    return notes(frames)


def camera(frames: Frames) -> dict[str, Any]:
    """DECODE's ``Camera``; of numbers drawn per sample the mean."""
    exposure_s = 1e-3 * frames.recipe.acquisition.exposure_ms
    spurious = frames.mean("camera.clock_induced_charge_e") or 0.0
    dark = frames.mean("camera.dark_e_per_s") or 0.0
    return {
        "baseline": frames.mean("camera.baseline_adu"),
        "convert2photons": True,
        "e_per_adu": frames.mean("camera.e_per_adu"),
        "em_gain": frames.mean("camera.em_gain"),
        "px_size": [frames.pixel_nm, frames.pixel_nm],
        "qe": frames.mean("camera.qe"),
        "read_sigma": frames.mean("camera.read_noise_e"),
        "spur_noise": spurious + dark * exposure_s,
    }


def simulation(frames: Frames) -> dict[str, Any]:
    """DECODE's ``Simulation``, from the truth of the exported frames."""
    rows, columns = frames.shape
    found = frames.emitters
    light = found["photons"]
    return {
        "bg_uniform": _background(frames),
        "emitter_av": len(found["frame"]) / frames.count,
        "emitter_extent": [_edges(columns), _edges(rows), _span(found["z_nm"])],
        "img_size": [columns, rows],
        "intensity_mu_sig": [_or_zero(light, np.mean), _or_zero(light, np.std)],
        "lifetime_avg": lifetime_frames(frames),
        "mode": "acquisition",
        "psf_extent": [_edges(columns), _edges(rows), None],
        "xy_unit": "px",
    }


def lifetime_frames(frames: Frames) -> float:
    """Frames in a row in which a molecule shines, on average; 1 where frames stand alone."""
    found = frames.emitters
    if not frames.is_movie or not len(found["frame"]):
        return 1.0
    sample = found["frame"] // frames.per_sample
    order = np.lexsort((found["frame"], found["id"], sample))
    sample, number, frame = sample[order], found["id"][order], found["frame"][order]
    goes_on = (np.diff(sample) == 0) & (np.diff(number) == 0) & (np.diff(frame) == 1)
    return float(len(frame) / (len(frame) - np.count_nonzero(goes_on)))


def notes(frames: Frames) -> list[str]:
    """What DECODE's parameters cannot say of this dataset."""
    said = []
    drawn = frames.differing((*CAMERA, "camera.em_gain", "camera.dark_e_per_s"))
    if drawn:
        said.append(f"{', '.join(drawn)} differ from sample to sample; param.yaml has their means")
    if not frames.is_movie:
        said.append(
            "every frame stands alone: train with frame_window (channels_in) 1, neighbours in time "
            "say nothing"
        )
    if frames.recipe.camera.kind == "scmos":
        said.append("pixels of the sCMOS differ in gain, offset and noise; DECODE's are all alike")
    if isinstance(frames.recipe.camera, EMCCD):
        said.append("read_sigma is the noise after the register, in electrons, as in DECODE")
    return said


def _background(frames: Frames) -> list[float]:
    values = frames.values("background.photons_per_pixel")
    return [0.0, 0.0] if values is None else [float(values.min()), float(values.max())]


def _edges(pixels: int) -> list[float]:
    """Where a row of pixels begins and ends, a list of its own each time: YAML would link one."""
    return [-0.5, pixels - 0.5]


def _span(values: Any) -> list[float]:
    return [float(values.min()), float(values.max())] if len(values) else [0.0, 0.0]


def _or_zero(values: Any, statistic: Any) -> float:
    return float(statistic(values)) if len(values) else 0.0
