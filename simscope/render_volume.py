"""From continuous structures to expected photons per pixel: every plane with its own PSF.

One imager serves where every sample has the same heights, foci and wavefront; else every sample
gets its own, all of one window.
"""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from simscope import optics as opticses
from simscope import sample as samples_of
from simscope.brightness import Brightness
from simscope.device import CPU, Device
from simscope.keys import Key
from simscope.recipe import Distribution, FocusStack, Recipe
from simscope.recipe.draws import COEFFICIENT, draw_samples
from simscope.render import Run, constant_wavefront, focus_range_nm
from simscope.sample import Molecules, Shining

Floats = npt.NDArray[np.float64]


class VolumeRenderer:
    """Renders the volumes of a recipe's samples, the same light in every frame of a movie."""

    on_host = True  # a GPU's Fourier transforms differ in last bits, and counts now and then

    def __init__(self, recipe: Recipe, brightness: Brightness, key: Key) -> None:
        self.recipe, self.brightness, self.key = recipe, brightness, key
        self.grid = samples_of.volume_grid(recipe)
        focus = recipe.acquisition.focus_nm
        self.planes_nm = focus.positions_nm if isinstance(focus, FocusStack) else None
        self._kept: tuple[Any, opticses.VolumeImager] | None = None
        corners = self._corners()
        self.window = max(imager.window_px for imager in corners)
        self.energy_left_out_max = max(imager.energy_left_out_max for imager in corners)
        self._convolved = max(imager.modes for imager in corners)

    @property
    def report(self) -> dict[str, Any]:
        """Window [camera px], light left out, and images convolved for each focus."""
        return {
            "rendering": "volume",
            "window_px": math.ceil(self.window / self.grid.per_pixel),
            "energy_left_out_max": self.energy_left_out_max,
            "voxels": self.grid.shape,
            "convolved_images": self._convolved,
        }

    @property
    def host_parts(self) -> list[str]:
        """What the CPU computes for a GPU."""
        return ["images of volumes"]

    def volume(self, index: int) -> npt.NDArray[np.float32]:
        """Photons of each voxel of the frame towards the camera, float32 (z, y, x), no margin."""
        indices = np.array([index], np.int64)
        drawn = draw_samples(self.recipe, self.key, indices)
        margin = self.grid.margin_px * self.grid.per_pixel
        inside = slice(margin, -margin or None)
        return self._photons(index, _of_sample(drawn, 0))[:, inside, inside]

    def render(
        self, run: Run, shining: Shining, first: int, last: int, device: Device = CPU,
        out: Any = None,
    ) -> Any:  # fmt: skip
        """Expected photons, float32 (samples * frames, y, x), added to ``out`` if given."""
        frames, inside = last - first, slice(self.grid.margin_px, -self.grid.margin_px or None)
        shape = (len(run.indices), frames, *self.recipe.acquisition.shape)
        out = device.xp.zeros(shape, np.float32) if out is None else out.reshape(shape)
        for row, index in enumerate(run.indices):
            drawn = _of_sample(run.drawn, row)
            imager = self._imager(drawn, first, last, device)
            photons = device.put(self._photons(int(index), drawn))
            weights = self._weights(run, row, imager.voxels.heights_nm)
            out[row] += imager.image(photons, weights)[:, inside, inside]
        return out.reshape(-1, *shape[2:])

    def _photons(self, index: int, drawn: dict[str, float]) -> npt.NDArray[np.float32]:
        return samples_of.volume_photons(self.recipe, self.key, index, drawn, self.grid)

    def _weights(self, run: Run, row: int, heights_nm: Floats) -> Floats | None:
        """Excitation and collection of the planes of a sample, (planes,), None where all are 1."""
        count = heights_nm.size
        flat = np.zeros(count, np.float32)
        planes = Molecules(
            np.full(count, row), np.arange(count), flat, flat, heights_nm.astype(np.float32)
        )
        factors = self.brightness.factors(planes, run.drawn, len(run.indices))
        return None if factors is None else np.asarray(factors, np.float64)

    def _imager(
        self, drawn: dict[str, float], first: int, last: int, device: Device
    ) -> opticses.VolumeImager:
        """The imager of a sample; the last one is kept."""
        structure: Any = self.recipe.structure
        z_nm = drawn.get("structure.z_nm", structure.z_nm)
        foci = self._foci(drawn) if self.planes_nm is None else self._foci(drawn)[first:last]
        modes = {
            int(path.removeprefix(COEFFICIENT)): value
            for path, value in drawn.items()
            if path.startswith(COEFFICIENT)
        }
        asked = (z_nm, foci, tuple(sorted(modes.items())), device.name)
        if self._kept is None or self._kept[0] != asked:
            self._kept = (asked, self._set_up(z_nm, foci, modes, self.window, device))
        return self._kept[1]

    def _foci(self, drawn: dict[str, float]) -> tuple[float, ...]:
        """Focus of a sample, or of the planes of its stack [nm]."""
        if self.planes_nm is not None:
            return tuple(self.planes_nm)
        focus: Any = drawn.get("acquisition.focus_nm", self.recipe.acquisition.focus_nm)
        return (float(focus),)

    def _set_up(
        self, z_nm: float, foci: tuple[float, ...], modes: dict[int, float],
        window: int | None = None, device: Device = CPU,
    ) -> opticses.VolumeImager:  # fmt: skip
        """An imager for one height, its foci and drawn wavefront; ``window`` in voxels."""
        recipe, rendering = self.recipe, self.recipe.rendering
        structure: Any = recipe.structure
        asked = rendering.window_px
        if window is None and isinstance(asked, int):
            window = self._voxels(asked)
        return opticses.VolumeImager(
            recipe.optics.model_copy(
                update={"wavefront": constant_wavefront(recipe.optics.wavefront)}
            ),
            opticses.Voxels(self.grid.shape, samples_of.voxel_nm(structure), float(z_nm)),
            foci,
            recipe.pixel_nm,
            window_px="auto" if window is None else window,
            max_window_px=self._voxels(rendering.max_window_px),
            accuracy=rendering.accuracy,
            accept_energy_loss=rendering.accept_energy_loss,
            wavefront_nm=modes,
            device=device,
        )

    def _voxels(self, pixels: int) -> int:
        """The odd number of voxels that spans a window of pixels."""
        return (pixels * self.grid.per_pixel) | 1

    def _corners(self) -> list[opticses.VolumeImager]:
        """Imagers at the ends of the ranges of heights and foci, drawn wavefronts left out."""
        structure: Any = self.recipe.structure
        heights = _ends(structure.z_nm)
        if self.planes_nm is not None:
            foci = [tuple(self.planes_nm)]
        else:
            foci = [(end,) for end in sorted(set(focus_range_nm(self.recipe.acquisition.focus_nm)))]
        return [self._set_up(z, some, {}) for z, some in product(heights, foci)]


def _of_sample(drawn: dict[str, Floats], row: int) -> dict[str, float]:
    """The numbers drawn for one sample of a run."""
    return {path: float(values[row]) for path, values in drawn.items()}


def _ends(value: float | Distribution) -> list[float]:
    """Lowest and highest value, or the only one; ranges are known to be bounded."""
    return sorted(set(value.support())) if isinstance(value, Distribution) else [float(value)]
