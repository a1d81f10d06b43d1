"""NumPy archives without pickles: images, truth and recipe, split into files of bounded size.

``samples-00000.npz`` and so on hold whole samples each: ``images`` uint16 ``(samples, ..., y, x)``
[ADU], a column ``emitters_<name>`` for each of the truth with ``frame`` counted from the file's
first, ``emitter_offsets`` (rows of frame k are ``offsets[k]:offsets[k + 1]``), ``parameters`` with
``parameter_names``, ``expected_photons`` where stored, and the text ``recipe_json``. Conventions
are simscope's own, and all emitters are kept, those beside the frame too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from simscope.dataset.export.frames import Frames

FILE_BYTES = 64 << 20
"""Images of one file; a single sample that is larger makes a larger one."""

CONVENTION = """\
samples-00000.npz, ...: images [ADU], uint16; emitters_x_nm, emitters_y_nm from the outer corner of
the first pixel, x along columns, emitters_z_nm above the coverslip, emitters_photons at the camera,
emitters_frame from 0 in each file; parameters (samples, names); open with
numpy.load(name, allow_pickle=False)
"""


def write(frames: Frames, folder: Path) -> list[str]:
    """Write the export; returns what the user must know besides the convention."""
    rows, columns = frames.shape
    sample_bytes = 2 * rows * columns * frames.per_sample
    step = max(1, FILE_BYTES // sample_bytes)
    for start in range(frames.first, frames.last, step):
        stop = min(start + step, frames.last)
        name = f"samples-{start - frames.first:05d}.npz"
        np.savez(folder / name, allow_pickle=False, **arrays(frames, start, stop))
        frames.tick((stop - frames.first) * frames.per_sample, frames.count)
    return []


def arrays(frames: Frames, start: int, stop: int) -> dict[str, Any]:
    """What the file of samples ``start`` to ``stop`` (not included) holds."""
    data = frames.data
    held: dict[str, Any] = {"images": np.asarray(data.images[start:stop])}
    if data.expected_photons is not None:
        held["expected_photons"] = np.asarray(data.expected_photons[start:stop])
    table, offsets = data.emitters_of(start, stop)
    table["frame"] -= start * frames.per_sample
    held |= {f"emitters_{name}": table[name].copy() for name in table.dtype.names or ()}
    held["emitter_offsets"] = offsets
    drawn, units = data.parameters_of(start, stop), data.parameter_units
    names = sorted(units)
    values = [drawn[name] for name in names]
    held["parameters"] = np.stack(values, axis=1) if names else np.zeros((stop - start, 0))
    held["parameter_names"] = np.array([f"{name} [{units[name]}]" for name in names], np.str_)
    held["pixel_nm"] = np.float64(frames.pixel_nm)
    held["seed"] = np.array(str(data.seed))
    held["first_sample"] = np.int64(start)
    held["recipe_json"] = np.array(frames.recipe.to_json())
    return held
