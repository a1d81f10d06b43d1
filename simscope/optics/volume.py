"""Images of fluorophore volumes: every plane convolved with the PSF of its own height, and added.

    I(x, y; focus) = sum over z of volume(z) * psf(z, focus)

The PSF of a height holds its defocus and, under a mismatch of indices, its spherical aberration, so
this is no convolution in three dimensions. Light is incoherent: images of all points add.

A voxel is a point at its centre, shining its photons: the image of a single voxel is that of an
emitter there (``simscope.psf``). For a structure sampled on voxels no wider than a quarter of
wavelength / NA that is no approximation, as a PSF passes no frequency beyond 2 NA / wavelength and
the sums of points and of boxes differ by a factor near 1 below it. Outside the volume nothing
shines. The PSFs end at a square window, outside of which light is lost and told of.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simscope.blas import single_blas_thread
from simscope.device import CPU, Device, placed
from simscope.errors import OpticsError
from simscope.memory import MOST_BYTES, MOST_VOXELS
from simscope.optics.checks import (
    check_heights,
    check_numbers,
    check_plain,
    check_supported,
    check_wavefront,
    check_window,
    is_number,
)
from simscope.optics.collection import relative_collection
from simscope.optics.convolution import SummedConvolution
from simscope.optics.interfaces import objective_of
from simscope.optics.model import Reach, image_model
from simscope.optics.pixels import Window
from simscope.optics.table_build import judge_energy
from simscope.optics.volume_modes import shared_modes

FloatArray = NDArray[np.float64]

HELD_SHARE = 0.98
"""Share of the light an automatic window tries to hold at every height and focus."""

TRANSFER_BYTES = 3 << 29
"""Memory of transfer functions kept at once; more foci are taken in groups."""

WIDEST_CHOICE_PX = 255

COPIES = 3
"""Arrays of the size of all PSFs, and of all images, that exist at once."""

MOST_PHOTONS = 1e20
"""Photons of a voxel whose sums over any volume stay far inside float32."""


@dataclass(frozen=True)
class Voxels:
    """Where the points of a volume are: its shape, pitch and lowest plane, (z, y, x).

    Plane k lies ``z0_nm + k * pitch_nm[0]`` above the coverslip; voxel (y, x) has its centre at
    ``((y + 0.5) * pitch_nm[1], (x + 0.5) * pitch_nm[2])`` from the outer corner of the first pixel.
    """

    shape: tuple[int, int, int]
    pitch_nm: tuple[float, float, float]
    z0_nm: float

    @property
    def heights_nm(self) -> FloatArray:
        """Heights of the planes above the coverslip [nm], (z,)."""
        return self.z0_nm + self.pitch_nm[0] * np.arange(self.shape[0], dtype=np.float64)

    def per_pixel(self, pixel_nm: float) -> int:
        """Voxels along a pixel; raises OpticsError unless whole numbers of them fill the field."""
        _, pitch_y, pitch_x = self.pitch_nm
        if pitch_y != pitch_x:
            raise OpticsError(
                f"voxel_nm is {pitch_y:g} along y and {pitch_x:g} along x: resample the volume to "
                "voxels that are square across"
            )
        check_plain(pixel_nm=pixel_nm)
        if pixel_nm <= 0:
            raise OpticsError(f"pixel_nm={pixel_nm:g} is not above 0: give the pixel pitch in nm")
        count = max(1, round(pixel_nm / pitch_x))
        if not math.isclose(count * pitch_x, pixel_nm, rel_tol=1e-6):
            raise OpticsError(
                f"pixel_nm={pixel_nm:g} is no whole multiple of the voxels' {pitch_x:g} nm: "
                f"resample the volume to voxels of {pixel_nm / count:g} nm"
            )
        if self.shape[1] % count or self.shape[2] % count:
            raise OpticsError(
                f"a volume of {self.shape[1]} x {self.shape[2]} voxels does not fill pixels of "
                f"{count} x {count}: crop or pad it to whole pixels"
            )
        return count


class VolumeImager:
    """Images volumes of one shape through one set of optics: set up once, used for many.

    ``focus_nm``: objective displacements (n,). ``window_px``: side of the square window of the
    PSFs in voxels, "auto" for the smallest odd one that holds 98 % of the light at every height,
    at most ``max_window_px``. ``accuracy``: worst error of a voxel's image as a share of the peak
    of its plane over all foci, and of its light. ``wavefront_nm``: OSA index -> RMS nm on top of
    the optics' own. ``optics.collection`` plays no part: the photons are those collected. Raises
    OpticsError for impossible optics and places and where more than 20 % of the light falls
    outside the window (unless ``accept_energy_loss``); warns above 5 %. A window that reaches from
    one end of the field to the other loses nothing: what it leaves out misses the frame.
    """

    def __init__(
        self,
        optics: Any,
        voxels: Voxels,
        focus_nm: ArrayLike,
        pixel_nm: float,
        *,
        window_px: int | Literal["auto"] = "auto",
        max_window_px: int = WIDEST_CHOICE_PX,
        accuracy: float = 1e-4,
        accept_energy_loss: bool = False,
        wavefront_nm: Mapping[int, float] | None = None,
        device: Device | str = CPU,
    ) -> None:
        (focus,) = check_numbers(focus_nm=focus_nm)
        check_request(optics, voxels, window_px, max_window_px, accuracy)
        check_wavefront(wavefront_nm)
        check_room(voxels, focus.size, 1 if window_px == "auto" else window_px)
        self.voxels, self.device, self.accuracy = voxels, placed(device), accuracy
        self.per_pixel = voxels.per_pixel(pixel_nm)
        self._psfs = _PlanePsfs(optics, voxels, focus, 0.5 * accuracy, dict(wavefront_nm or {}))
        with single_blas_thread():
            self.window_px = (
                self._psfs.held_window(max_window_px) if window_px == "auto" else window_px
            )
            check_room(voxels, focus.size, self.window_px)
            psfs, lost, where = self._psfs.images(self.window_px)
        self.energy_left_out_max = lost
        judge_energy(lost, where, self.window_px, accepted=accept_energy_loss)
        self._modes = shared_modes(psfs, 0.5 * accuracy)
        self._kept: SummedConvolution | None = None
        self._groups = self._grouped(focus.size)

    @property
    def modes(self) -> int:
        """Images that are convolved for each focus: planes, or fewer where they suffice."""
        return int(self._modes.images.shape[0])

    def image(self, volume: Any, weights: ArrayLike | None = None) -> Any:
        """Expected photons per pixel, float32 (focus, y, x), on the device.

        ``volume``: photons of each voxel towards the camera, (z, y, x), on the device.
        ``weights``: factors of the planes, (z,). Values are never negative. Raises OpticsError for
        another shape, values below 0 or not finite.
        """
        planes = checked_volume(volume, self.voxels.shape, self.device)
        factors = None if weights is None else np.asarray(weights, np.float32)
        xp = self.device.xp
        parts = [self._convolution(group)(planes, factors) for group in self._groups]
        out = parts[0] if len(parts) == 1 else xp.concatenate(parts)
        count = self.per_pixel
        if count > 1:
            foci, height, width = out.shape
            out = out.reshape(foci, height // count, count, width // count, count)
            out = out.sum(axis=(2, 4))
        # the exact value is never negative; rounding and dropped modes can be where it is dark
        return xp.maximum(out, 0.0, out=out)

    def _convolution(self, foci: slice) -> SummedConvolution:
        """The convolutions of some foci, kept if they are all of them."""
        if self._kept is not None:
            return self._kept
        made = SummedConvolution(
            self._modes.images[:, foci].swapaxes(0, 1), self.voxels.shape[1:], self._modes.mix,
            self.device,
        )  # fmt: skip
        if len(self._groups) == 1:
            self._kept = made
        return made

    def _grouped(self, foci: int) -> list[slice]:
        """Foci in groups whose transfer functions fit in memory."""
        height, width = (size + self.window_px for size in self.voxels.shape[1:])
        each = 4 * self.modes * height * width
        step = max(1, TRANSFER_BYTES // each)
        return [slice(first, min(first + step, foci)) for first in range(0, foci, step)]


def image_volume(
    volume: Any,
    optics: Any,
    *,
    voxel_nm: tuple[float, float, float] | float,
    z0_nm: float = 0.0,
    focus_nm: ArrayLike = 0.0,
    pixel_nm: float | None = None,
    window_px: int | Literal["auto"] = "auto",
    max_window_px: int = WIDEST_CHOICE_PX,
    accuracy: float = 1e-4,
    accept_energy_loss: bool = False,
    wavefront_nm: Mapping[int, float] | None = None,
    device: Device | str = CPU,
) -> Any:
    """Expected photons per pixel of a fluorophore volume, float32 (y, x) or (focus, y, x).

    ``volume``: photons of each voxel towards the camera, (z, y, x), a point at each voxel's centre;
    plane 0 lies ``z0_nm`` above the coverslip, higher ones above it. ``voxel_nm``: pitch (z, y, x),
    or one number for all; ``pixel_nm``, that across by default, may be a whole multiple of it.
    ``focus_nm`` (objective displacement towards the sample): a number gives one image, a list a
    stack. ``window_px`` to ``wavefront_nm`` as in :class:`VolumeImager`, which serves many
    volumes of one shape. ``optics.collection='relative'`` multiplies each plane by what is
    collected from its height. Arrays lie on ``device``. Results do not depend on the number of
    threads. Float32 adds errors of about 1e-7 of the brightest pixel. Raises OpticsError.
    """
    check_supported(optics)
    pitch = _pitch(voxel_nm)
    check_plain(z0_nm=z0_nm)
    shape = tuple(int(count) for count in np.shape(volume))
    if len(shape) != 3 or 0 in shape:
        raise OpticsError(f"a volume of shape {shape} is none: give (z, y, x) voxels")
    voxels = Voxels(shape, pitch, float(z0_nm))
    imager = VolumeImager(
        optics, voxels, focus_nm, pitch[2] if pixel_nm is None else pixel_nm, window_px=window_px,
        max_window_px=max_window_px, accuracy=accuracy, accept_energy_loss=accept_energy_loss,
        wavefront_nm=wavefront_nm, device=device,
    )  # fmt: skip
    weights = None
    if optics.collection == "relative":
        weights = relative_collection(optics, voxels.heights_nm)
    images = imager.image(volume, weights)
    return images[0] if np.ndim(focus_nm) == 0 else images


class _PlanePsfs:
    """The PSFs of a volume's planes at all foci, on the grid of its voxels."""

    def __init__(
        self, optics: Any, voxels: Voxels, focus_nm: FloatArray, accuracy: float,
        wavefront_nm: dict[int, float],
    ) -> None:  # fmt: skip
        self.optics, self.voxels, self.focus_nm = optics, voxels, focus_nm
        self.accuracy, self.wavefront_nm = accuracy, wavefront_nm

    def images(self, window: int) -> tuple[FloatArray, float, str]:
        """PSFs (planes, foci, y, x), the largest share of light they cut off, and where."""
        heights, foci = self.voxels.heights_nm, self.focus_nm
        z, focus = (a.ravel() for a in np.meshgrid(heights, foci, indexing="ij"))
        sampled, expected = self._sampled(window, z, focus)
        # what a window over the whole field leaves out could land nowhere in the image
        lost = np.zeros(z.size)
        if window < _spanning_px(self.voxels):
            lost = 1.0 - sampled.sum(axis=(1, 2)) / expected
        worst = int(np.argmax(lost))
        where = f"z_nm={z[worst]:g}, focus_nm={focus[worst]:g}"
        shape = (heights.size, foci.size, window, window)
        return sampled.reshape(shape), float(max(lost[worst], 0.0)), where

    def held_window(self, widest: int) -> int:
        """Smallest odd window that holds 98 % of the light at every height and focus, capped."""
        heights, foci = self.voxels.heights_nm, self.focus_nm
        z, focus = (
            a.ravel() for a in np.meshgrid(_spread(heights, 9), _spread(foci, 3), indexing="ij")
        )
        widest = min(widest, _spanning_px(self.voxels))
        window = min(33, widest)
        while True:
            sampled, expected = self._sampled(window, z, focus)
            held = (_within(sampled) / expected[:, None]).min(axis=0)
            if held[-1] >= HELD_SHARE or window == widest:
                enough = np.flatnonzero(held >= HELD_SHARE)
                return 2 * int(enough[0]) + 1 if enough.size else window
            window = min(2 * window - 1, widest)

    def _sampled(
        self, window: int, z_nm: FloatArray, focus_nm: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Images (n, y, x) and what they sum to on an infinite camera, (n,)."""
        pitch = self.voxels.pitch_nm[2]
        check_window((window, window), pitch, images=z_nm.size)
        model = image_model(
            self.optics,
            Window((window, window), pitch, blur_nm=self.optics.blur_nm),
            Reach.over(z_nm, focus_nm, 0.0, 0.0),
            accuracy=self.accuracy,
            wavefront_nm=self.wavefront_nm,
        )
        images = np.asarray(model.images(z_nm, focus_nm), np.float64)
        expected = np.ones(z_nm.size)
        if hasattr(model, "energies"):
            expected *= np.asarray(model.energies(z_nm, focus_nm))
        elif self.optics.analyser is not None:
            expected *= 0.5
        return images, expected


def _spanning_px(voxels: Voxels) -> int:
    """Side of the smallest window that reaches from every voxel to every other."""
    return 2 * max(voxels.shape[1:]) - 1


def _spread(values: FloatArray, count: int) -> FloatArray:
    """At most ``count`` of the values, both ends among them."""
    return values[np.unique(np.linspace(0, values.size - 1, count).round().astype(int))]


def _within(images: FloatArray) -> FloatArray:
    """Sums over the middle 1x1, 3x3, ... pixels, (n, half windows)."""
    side = images.shape[-1]
    offset = np.abs(np.arange(side) - side // 2)
    ring = np.maximum(offset[:, None], offset).ravel()
    rings = [np.bincount(ring, weights=image.ravel()) for image in images]
    return np.cumsum(rings, axis=1)


def _pitch(voxel_nm: tuple[float, float, float] | float) -> tuple[float, float, float]:
    """Voxel pitch (z, y, x) [nm] from what a caller gave."""
    values = tuple(np.atleast_1d(np.asarray(voxel_nm, object)).tolist())
    values = 3 * values if len(values) == 1 else values
    if len(values) != 3 or not all(is_number(v) and v > 0 for v in values):
        raise OpticsError(f"voxel_nm={voxel_nm!r}: give (z, y, x) in nm, all above 0")
    return float(values[0]), float(values[1]), float(values[2])


def check_request(
    optics: Any, voxels: Voxels, window_px: Any, max_window_px: Any, accuracy: Any
) -> None:
    """Return nothing; raise OpticsError for what no volume can be imaged with."""
    check_supported(optics)
    check_plain(accuracy=accuracy)
    check_heights(objective_of(optics), voxels.heights_nm, 0.5 * optics.bead_diameter_nm)
    if not 1e-6 <= accuracy <= 0.1:
        raise OpticsError(
            f"accuracy={accuracy:g} lies outside [1e-6, 0.1] for volumes: choose one in "
            "that range, such as 1e-4"
        )
    if optics.field_dependence is not None:
        raise OpticsError(
            "optics.field_dependence changes PSFs over the field, a volume takes one for each "
            "plane: take it out, or image parts of the volume with optics_at"
        )
    if optics.analyser is not None and len(optics.analyser.angles_deg) != 1:
        raise OpticsError(
            "optics.analyser shows two channels, a volume has one image: give one angle at a time"
        )
    widest = max_window_px if window_px == "auto" else window_px
    whole = isinstance(widest, int) and not isinstance(widest, bool)
    if not whole or widest % 2 == 0 or not 1 <= widest <= 1023:
        raise OpticsError(f"window of {widest} voxels: give an odd number from 1 to 1023, or auto")


def check_room(voxels: Voxels, foci: int, window_px: int) -> None:
    """Return nothing; raise OpticsError where volume, PSFs or images take too much memory."""
    planes, height, width = voxels.shape
    if math.prod(voxels.shape) > MOST_VOXELS:
        raise OpticsError(
            f"a volume of {planes} x {height} x {width} voxels is larger than {MOST_VOXELS} "
            "voxels: image it piece by piece (light adds), or use larger voxels or fewer planes"
        )
    psfs = COPIES * 8 * planes * foci * window_px**2
    images = COPIES * 4 * foci * height * width
    if psfs + images > MOST_BYTES:
        raise OpticsError(
            f"{planes} planes at {foci} foci take {psfs / 1e9:.3g} GB for PSFs of {window_px} x "
            f"{window_px} voxels and {images / 1e9:.3g} GB for images of {height} x {width}, more "
            f"than {MOST_BYTES / 1e9:g}: image fewer foci at a time, or give a smaller window_px "
            "or fewer planes"
        )


def checked_volume(volume: Any, shape: tuple[int, int, int], device: Device = CPU) -> Any:
    """The volume as float32 on the device; raises OpticsError unless it holds photons."""
    xp = device.xp
    planes = xp.asarray(volume)
    if planes.dtype.kind not in "fiub":
        raise OpticsError(f"a volume of {planes.dtype} holds no photons: give plain numbers")
    if planes.shape != shape:
        raise OpticsError(
            f"a volume of shape {tuple(planes.shape)} was given where {shape} was set up: make "
            "another VolumeImager"
        )
    lowest, highest = float(planes.min()), float(planes.max())
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        raise OpticsError("a volume holds values that are not finite: give photons of each voxel")
    if lowest < 0.0:
        raise OpticsError(
            f"a volume holds {lowest:g} photons in a voxel: subtract its background and clip at 0"
        )
    if highest > MOST_PHOTONS:
        raise OpticsError(
            f"a volume holds {highest:g} photons in a voxel, more than {MOST_PHOTONS:g}: scale it"
        )
    return planes.astype(np.float32, copy=False)
