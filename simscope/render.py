"""From emitters and their light to expected photons per pixel.

One table serves where every sample has the same optics; where wavefront or focus are drawn, every
emitter is rendered from the pupil itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from simscope import optics as opticses
from simscope import sample as samples_of
from simscope.blas import single_blas_thread
from simscope.device import CPU, Device
from simscope.errors import RecipeError
from simscope.kernels import patches as kernels
from simscope.recipe import (
    BeadStructure,
    Distribution,
    FocusStack,
    FreeDipole,
    Recipe,
    ZernikeWavefront,
)
from simscope.recipe.draws import COEFFICIENT, per_sample
from simscope.sample import Molecules, Shining

Floats = npt.NDArray[np.float64]
Parameters = dict[str, Floats]


@dataclass
class Run:
    """Samples under way: their draws, molecules, and what photophysics carries between windows."""

    indices: npt.NDArray[np.int64]
    drawn: Parameters
    molecules: Molecules
    carried: dict[str, Any]


GAUSSIAN_DIPOLES = (
    "optics.model gaussian knows no dipole orientations: use model vectorial, or dipoles of "
    "kind free"
)


class TableRenderer:
    """Renders from one B-spline table, or Gaussian spots: the same optics for every sample.

    Oriented molecules weigh the table's six basis images; where the optics depend on the field,
    every molecule gets the image of its place in the frame.
    """

    on_host = False

    def __init__(self, recipe: Recipe, cache: Path | None) -> None:
        low, high = samples_of.height_range_nm(recipe)
        focus = recipe.acquisition.focus_nm
        assert isinstance(focus, float | int)
        rendering = recipe.rendering
        self.shape = recipe.acquisition.shape
        self.table: opticses.SplineTable | opticses.GaussianSpots
        if recipe.optics.model == "gaussian":
            if not isinstance(recipe.dipoles, FreeDipole):
                raise RecipeError(GAUSSIAN_DIPOLES)
            self.table = opticses.gaussian_spots(
                recipe.optics, focus_nm=float(focus), z_min_nm=low, z_max_nm=high,
                pixel_nm=recipe.pixel_nm,
            )  # fmt: skip
            return
        self.table = opticses.build_table(
            recipe.optics,
            focus_nm=float(focus),
            z_min_nm=low,
            z_max_nm=high,
            pixel_nm=recipe.pixel_nm,
            window_px=rendering.window_px,
            max_window_px=rendering.max_window_px,
            accuracy=rendering.accuracy,
            accept_energy_loss=rendering.accept_energy_loss,
            dipoles=not isinstance(recipe.dipoles, FreeDipole)
            or recipe.optics.analyser is not None,
            frame_shape=self.shape,
            cache="default" if cache is None else cache,
        )

    @property
    def rendering(self) -> str:
        """What frames are rendered from."""
        return "table" if isinstance(self.table, opticses.SplineTable) else "gaussian"

    @property
    def report(self) -> dict[str, Any]:
        """Window, images in the table, its error and the energy left out."""
        return {
            "rendering": self.rendering,
            "window_px": self.table.window_px,
            "table_images": self.table.images,
            "table_error": float(self.table.error),
            "energy_left_out_max": float(self.table.energy_left_out[:, 1].max()),
        }

    @property
    def host_parts(self) -> list[str]:
        """What the CPU works out for a GPU."""
        return ["weights of dipole images"] if self.table.for_dipoles else []

    def render(
        self, run: Run, shining: Shining, first: int, last: int, device: Device = CPU,
        out: Any = None,
    ) -> Any:  # fmt: skip
        """Expected photons, float32 ``(samples * frames, y, x)``, where the molecules lie.

        Added to ``out`` if given, as of every renderer here.
        """
        molecules, who = run.molecules, shining.molecule
        return self.table.render(
            molecules.x_nm[who],
            molecules.y_nm[who],
            molecules.z_nm[who],
            shining.photons,
            shining.offsets,
            self.shape,
            out,
            weights=self.weights(molecules, who, device),
            threads=numba.get_num_threads(),
            device=device,
        )

    def weights(self, molecules: Molecules, who: Any, device: Device = CPU) -> Any:
        """Weights ``(rows, 6)`` of the basis images, None where the table holds plain images.

        Worked out on the CPU: library functions turn angles into moments.
        """
        if not isinstance(self.table, opticses.SplineTable) or not self.table.for_dipoles:
            return None
        here = device.get_all(molecules)
        moment = molecule_moments(here)
        if moment is None:
            moment = np.array([opticses.FREE_MOMENTS])
        return device.put(self.table.orientation_weights(moment, here.z_nm))[who]


class ChannelRenderer:
    """Renders both channels of an analyser, parallel left and crossed right on one camera.

    Photons are those of both channels together; each is rendered from its own table.
    """

    on_host = TableRenderer.on_host

    def __init__(self, recipe: Recipe, cache: Path | None) -> None:
        self.channels = [
            TableRenderer(recipe.model_copy(update={"optics": optics}), cache)
            for optics in opticses.channels(recipe.optics)
        ]

    @property
    def report(self) -> dict[str, Any]:
        """As of :class:`TableRenderer`, the larger number of the two channels."""
        first, second = (renderer.report for renderer in self.channels)
        worst = {key: max(first[key], second[key]) for key in first if key != "rendering"}
        return {"rendering": "two channels", **worst}

    @property
    def host_parts(self) -> list[str]:
        """What the CPU works out for a GPU."""
        return self.channels[0].host_parts

    def render(
        self, run: Run, shining: Shining, first: int, last: int, device: Device = CPU,
        out: Any = None,
    ) -> Any:  # fmt: skip
        """Expected photons, float32 ``(samples * frames, y, 2 x)``, where the molecules lie.

        Added to ``out`` if given, side by side: as each channel would be on a camera of its own.
        """
        xp, halves = device.xp, [None, None]
        if out is not None:
            halves = [xp.ascontiguousarray(half) for half in xp.split(out, 2, axis=2)]
        sides = [
            renderer.render(run, shining, first, last, device, half)
            for renderer, half in zip(self.channels, halves, strict=True)
        ]
        return xp.concatenate(sides, axis=2)


class PerWavefront:
    """Any image model, set up anew for every wavefront it is asked for.

    Serves what the pupil model alone cannot: spectra, beads, measured PSFs, modalities. The last
    model is kept. Names and meanings are those of ``PupilModel``.
    """

    def __init__(
        self, optics: Any, window: opticses.Window, reach: opticses.Reach, accuracy: float,
        limits_nm: dict[int, float],
    ) -> None:  # fmt: skip
        self.modes = tuple(sorted(limits_nm))
        self.corners_nm = (reach.z_nm, reach.focus_nm)
        self.hardest_wavefronts_nm = [limits_nm]
        self._asked = (optics, window, reach, accuracy)
        self._kept: tuple[dict[int, float], Any] | None = None

    def images(self, *places: Any, wavefront_nm: dict[int, float]) -> Floats:
        """Probability per pixel at heights, foci, x and y, float64 (n, y, x)."""
        return np.asarray(self._model(wavefront_nm).images(*places), np.float64)

    def energies(self, z_nm: Floats, focus_nm: Floats, wavefront_nm: dict[int, float]) -> Floats:
        """What the images sum to over an infinite camera, (n,)."""
        model = self._model(wavefront_nm)
        if hasattr(model, "energies"):
            return np.asarray(model.energies(z_nm, focus_nm), np.float64)
        return np.ones(np.shape(z_nm))

    def stacks(
        self, z_nm: Floats, focus_nm: Floats, x_nm: Floats, y_nm: Floats, *,
        coefficients_nm: Floats | None,
    ) -> npt.NDArray[np.float32]:  # fmt: skip
        """Probability per pixel of one emitter per sample, float32 (samples, planes, y, x)."""
        z, focus = np.broadcast_arrays(z_nm, focus_nm)
        drawn = np.empty((len(z), 0)) if coefficients_nm is None else coefficients_nm
        return np.stack([
            self.images(
                z[i], focus[i], x_nm[i], y_nm[i],
                wavefront_nm=dict(zip(self.modes, drawn[i], strict=True)),
            )
            for i in range(len(z))
        ]).astype(np.float32)  # fmt: skip

    def _model(self, wavefront_nm: dict[int, float]) -> Any:
        if self._kept is None or self._kept[0] != wavefront_nm:
            optics, window, reach, accuracy = self._asked
            model = opticses.image_model(
                optics, window, reach, accuracy=accuracy, wavefront_nm=wavefront_nm
            )
            self._kept = (wavefront_nm, model)
        return self._kept[1]


def _needs_pupil_only(recipe: Recipe) -> bool:
    """Whether one pupil model serves every wavefront of the recipe."""
    optics = recipe.optics
    return (
        optics.measured is None
        and optics.model != "gaussian"
        and optics.spectrum is None
        and optics.bead_diameter_nm == 0.0
        and optics.modality.kind == "widefield"
        and optics.method != "radial"
    )


class ExactRenderer:
    """Renders every emitter from the model itself: samples differ in wavefront or focus.

    Where the window around an emitter may end inside the frame, its image is tapered as in tables,
    and the light left out is judged by the same limits.
    """

    on_host = True
    host_parts = ("images of single emitters",)

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.shape = recipe.acquisition.shape
        self.pixel_nm = recipe.pixel_nm
        focus = recipe.acquisition.focus_nm
        self.planes_nm = focus.positions_nm if isinstance(focus, FocusStack) else None
        self.window_px, self.covers_frame = self._window()
        dependence = recipe.optics.field_dependence
        self.field = None
        if dependence is not None:
            wavelength_nm = opticses.objective_of(recipe.optics).wavelength_nm
            self.field = opticses.field_coefficients(dependence, wavelength_nm)
        with single_blas_thread():
            self.model = self._set_up()
            self.energy_left_out_max = 0.0 if self.covers_frame else self._judged_loss()

    def _set_up(self) -> opticses.PupilModel | PerWavefront:
        """The model for all wavefronts, foci and places to come."""
        recipe, window = self.recipe, (self.window_px, self.window_px)
        fixed = {"wavefront": constant_wavefront(recipe.optics.wavefront), "field_dependence": None}
        optics = recipe.optics.model_copy(update=fixed)
        z_nm = samples_of.height_range_nm(recipe)
        focus_nm = focus_range_nm(recipe.acquisition.focus_nm)
        reach_nm, accuracy = 0.5 * self.pixel_nm, float(recipe.rendering.accuracy)
        limits_nm = _wavefront_limits_nm(recipe.optics.wavefront)
        if self.field is not None:
            for mode, limit in zip(self.field.modes, self.field.limits_nm(), strict=True):
                limits_nm[mode] = limits_nm.get(mode, 0.0) + float(limit)
        if _needs_pupil_only(recipe):
            return opticses.PupilModel(
                optics, shape=window, pixel_nm=self.pixel_nm, z_nm=z_nm, focus_nm=focus_nm,
                reach_nm=reach_nm, wavefront_limit_nm=limits_nm, accuracy=accuracy,
                blur_nm=optics.blur_nm,
            )  # fmt: skip
        if not isinstance(recipe.dipoles, FreeDipole):
            raise RecipeError(
                "oriented dipoles in samples that differ in wavefront or focus need plain optics: "
                "leave out spectrum, bead, modality, measured and method, or use dipoles of kind "
                "free"
            )
        reach = opticses.Reach(z_nm, focus_nm, reach_nm)
        seen = opticses.Window(window, self.pixel_nm, blur_nm=optics.blur_nm)
        return PerWavefront(optics, seen, reach, accuracy, limits_nm)

    @property
    def report(self) -> dict[str, Any]:
        """Window, energy left out and pupil sampling."""
        return {
            "rendering": "exact",
            "window_px": self.window_px,
            "covers_frame": self.covers_frame,
            "energy_left_out_max": self.energy_left_out_max,
            "pupil_nodes_across": getattr(self.model, "nodes_across", None),
        }

    def render(
        self, run: Run, shining: Shining, first: int, last: int, device: Device = CPU,
        out: npt.NDArray[np.float32] | None = None,
    ) -> npt.NDArray[np.float32]:  # fmt: skip
        """Expected photons, float32 ``(samples * frames, y, x)``; arrays lie on the host."""
        frames = last - first
        if out is None:
            out = np.zeros((len(run.indices) * frames, *self.shape), np.float32)
        place, shift_nm = self._places(run.molecules)
        with single_blas_thread():
            free = run.molecules.polar_deg is None
            if isinstance(self.recipe.structure, BeadStructure) and free:
                patches = self._bead_patches(run, shift_nm)
                who, within = shining.molecule, shining.frame % frames
                plane = first + within if self.planes_nm is not None else np.zeros_like(within)
                which = who * patches.shape[1] + plane
            else:
                patches, which = self._patches(run, shining, first, last, shift_nm)
        _add_patches(patches, which, place[:, shining.molecule], shining, out)
        return out

    def _places(self, molecules: Molecules) -> tuple[Floats, Floats]:
        """Places (x, y) of molecules [px], and their shifts from the middle of a pixel [nm]."""
        place = np.stack([molecules.x_nm, molecules.y_nm]).astype(np.float64) / self.pixel_nm
        return place, (place - np.floor(place) - 0.5) * self.pixel_nm

    def _bead_patches(self, run: Run, shift_nm: Floats) -> npt.NDArray[np.float32]:
        """Probability per pixel of each sample's bead, float32 ``(samples, planes, y, x)``."""
        samples = len(run.indices)
        focus = (
            per_sample(self.recipe, run.drawn, "acquisition.focus_nm", samples)[:, None]
            if self.planes_nm is None
            else self.planes_nm[None, :]
        )
        patches = self.model.stacks(
            run.molecules.z_nm[:, None].astype(np.float64),
            focus,
            *shift_nm,
            coefficients_nm=self._coefficients_nm(run) if self.model.modes else None,
        )
        return self._tapered(patches, shift_nm)

    def _patches(
        self, run: Run, shining: Shining, first: int, last: int, shift_nm: Floats
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Patches ``(n, 1, y, x)`` of every distinct molecule and focus, and each row's patch."""
        sample = run.molecules.sample[shining.molecule]
        focus = (
            per_sample(self.recipe, run.drawn, "acquisition.focus_nm", len(run.indices))[sample]
            if self.planes_nm is None
            else self.planes_nm[first + shining.frame % (last - first)]
        )
        distinct, back = np.unique(
            np.stack([shining.molecule.astype(np.float64), focus]), axis=1, return_inverse=True
        )
        who = distinct[0].astype(np.int64)
        places = np.stack((run.molecules.z_nm[who], distinct[1], *shift_nm[:, who]), axis=1)
        coefficients = self._coefficients_nm(run)[who]
        moment = molecule_moments(run.molecules)
        images = self._images(places, coefficients, None if moment is None else moment[who])
        return self._tapered(images[:, None], shift_nm[:, who]), back.ravel()

    def _images(
        self, places: Floats, coefficients_nm: Floats, moments: Floats | None
    ) -> npt.NDArray[np.float32]:
        """Probability per pixel of molecules at (n, 4 (z, focus, x, y)), float32 (n, y, x)."""
        model = self.model
        if isinstance(model, opticses.PupilModel) and model.serves_batches:
            weights = None
            if moments is not None:
                weights = opticses.image_weights(moments, model.basis_energies(places[:, 0]))
            drawn = model.batch(*places.T, coefficients_nm=coefficients_nm, weights=weights)
            return np.asarray(drawn)
        parts = [
            self._image(place, coefficients_nm[k], None if moments is None else moments[k])
            for k, place in enumerate(places)
        ]
        empty = np.empty((0, self.window_px, self.window_px))
        return np.concatenate([empty, *parts]).astype(np.float32)

    def _image(self, place: Floats, coefficients_nm: Floats, moment: Floats | None) -> Floats:
        """Probability per pixel of one molecule at (z, focus, x, y), (1, y, x)."""
        wavefront_nm = dict(zip(self.model.modes, coefficients_nm.tolist(), strict=True))
        if moment is None:
            return self.model.images(*place, wavefront_nm=wavefront_nm)
        assert isinstance(self.model, opticses.PupilModel)
        basis = self.model.basis_images(*place, wavefront_nm=wavefront_nm)
        weights = opticses.image_weights(moment, self.model.basis_energies(place[0]))
        return np.maximum(np.einsum("nk,nkyx->nyx", weights, basis), 0.0)

    def _tapered(
        self, patches: npt.NDArray[np.float32], shift_nm: Floats
    ) -> npt.NDArray[np.float32]:
        """Patches ``(n, planes, y, x)``, made to fall to zero at an edge that may be seen."""
        if self.covers_frame:
            return patches
        pixel = np.arange(self.window_px) - self.window_px // 2
        weight_x, weight_y = (
            opticses.taper(pixel - shift[:, None] / self.pixel_nm, self.window_px)
            for shift in shift_nm
        )
        kernels.fade_patches(patches, weight_y, weight_x)
        return patches

    def _judged_loss(self) -> float:
        """Largest share of light left out, over the corners of heights, foci and wavefronts."""
        rendering = self.recipe.rendering
        corners = np.array([*product(*self.model.corners_nm)])
        lost, where = 0.0, ""
        for wavefront_nm in self.model.hardest_wavefronts_nm:
            images = self.model.images(*corners.T, wavefront_nm=wavefront_nm)
            patches = images[:, None].astype(np.float32)
            held = self._tapered(patches, np.zeros((2, len(corners)))).sum(axis=(1, 2, 3))
            if isinstance(self.model, PerWavefront):
                held = held / self.model.energies(corners[:, 0], corners[:, 1], wavefront_nm)
            worst = int(np.argmin(held))
            if 1.0 - held[worst] > lost:
                lost = float(1.0 - held[worst])
                where = "z_nm={:g}, focus_nm={:g}".format(*corners[worst])
        judge = opticses.judge_energy
        judge(lost, where, self.window_px, accepted=rendering.accept_energy_loss)
        return lost

    def _coefficients_nm(self, run: Run) -> Floats:
        """Coefficients drawn per sample plus the field's, ``(molecules, modes)`` [nm]."""
        molecules = run.molecules
        total = np.zeros((molecules.size, len(self.model.modes)))
        for column, mode in enumerate(self.model.modes):
            if f"{COEFFICIENT}{mode}" in run.drawn:
                total[:, column] = run.drawn[f"{COEFFICIENT}{mode}"][molecules.sample]
        if self.field is not None:
            here = self.field.at(*self._field_places(molecules))
            total[:, [self.model.modes.index(mode) for mode in self.field.modes]] += here
        return total

    def _field_places(self, molecules: Molecules) -> tuple[Any, Any]:
        """Places (x, y) of molecules in the field of view [nm]."""
        dependence = self.recipe.optics.field_dependence
        assert dependence is not None
        size_nm = (self.shape[0] * self.pixel_nm, self.shape[1] * self.pixel_nm)
        return opticses.frame_to_field(
            molecules.x_nm.astype(np.float64), molecules.y_nm.astype(np.float64), size_nm,
            dependence.frame_centre_nm,
        )  # fmt: skip

    def _window(self) -> tuple[int, bool]:
        """Side of the patch around an emitter's pixel, and whether it always covers the frame."""
        rendering, structure = self.recipe.rendering, self.recipe.structure
        span = max(self.shape)
        if isinstance(structure, BeadStructure):
            farthest_nm = max(_largest(structure.x_nm), _largest(structure.y_nm))
            reach = span / 2 + farthest_nm / self.pixel_nm
        else:
            reach = span + structure.margin_nm / self.pixel_nm
        widest = rendering.max_window_px | 1
        if isinstance(rendering.window_px, int):
            window = rendering.window_px
        else:
            window = 2 * math.ceil(min(reach, widest)) + 1
            window = min(window, widest)
        return window, window // 2 >= reach


def molecule_moments(molecules: Molecules) -> Floats | None:
    """Second moments ``(molecules, 6)`` of oriented molecules, None for freely rotating ones."""
    if molecules.polar_deg is None:
        return None
    angles = (molecules.polar_deg, molecules.azimuth_deg, molecules.half_angle_deg)
    return opticses.moments(*(np.radians(np.asarray(a, np.float64)) for a in angles))


def _add_patches(
    patches: npt.NDArray[np.float32],
    which: npt.NDArray[np.int64],
    place: Floats,
    shining: Shining,
    out: npt.NDArray[np.float32],
) -> None:
    """Add the patch ``which`` of every row of light, at places (x, y) [px], to frames."""
    flat = patches.reshape(-1, *patches.shape[2:])
    photons = np.asarray(shining.photons, np.float32)
    rows = flat, which, photons, place[0], place[1], shining.offsets, out
    if numba.get_num_threads() == 1:
        kernels.add_to_frames(*rows, 0, len(out))
    else:
        kernels.add_patches(*rows)


def _largest(value: float | Distribution) -> float:
    low, high = value.support() if isinstance(value, Distribution) else (value, value)
    return max(abs(low), abs(high))


def focus_range_nm(focus: float | Distribution | FocusStack) -> tuple[float, float]:
    """Lowest and highest objective position that can occur [nm]; RecipeError if unbounded."""
    if isinstance(focus, FocusStack):
        return min(focus.start_nm, focus.stop_nm), max(focus.start_nm, focus.stop_nm)
    if not isinstance(focus, Distribution):
        return float(focus), float(focus)
    low, high = focus.support()
    if not (math.isfinite(low) and math.isfinite(high)):
        raise RecipeError(
            f"acquisition.focus_nm={focus.label()} has no bounds: give min and max so that the "
            "pupil can be sampled for it"
        )
    return low, high


def constant_wavefront(wavefront: ZernikeWavefront | None) -> ZernikeWavefront | None:
    """The part of a wavefront that is the same in every sample."""
    if wavefront is None:
        return None
    fixed = {
        mode: value
        for mode, value in wavefront.coefficients_nm.items()
        if not isinstance(value, Distribution)
    }
    return ZernikeWavefront(coefficients_nm=fixed) if fixed else None


def _wavefront_limits_nm(wavefront: ZernikeWavefront | None) -> dict[int, float]:
    """Coefficients [nm] whose root sum of squares no drawn wavefront exceeds."""
    if wavefront is None:
        return {}
    share = _largest(wavefront.rms_nm) / math.sqrt(max(len(wavefront.random_modes), 1))
    limits = dict.fromkeys(wavefront.random_modes, share)
    for mode, value in wavefront.coefficients_nm.items():
        if isinstance(value, Distribution):
            limits[mode] = _largest(value)
    for mode, limit in limits.items():
        if not math.isfinite(limit):
            raise RecipeError(
                f"wavefront coefficient {mode} has no bounds: give min and max so that the pupil "
                "can be sampled for it"
            )
    return limits
