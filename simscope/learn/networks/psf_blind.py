"""Blind PSF regression: focus, heights or aberrations from single patches of unknown structures.

An image is structure times optical transfer, frequency by frequency, plus noise. Structures have
spectra that vary smoothly, transfer functions end and have zeros, and the noise of photons has a
level one knows. So beside the patch the network sees the logarithm of its power spectrum relative
to that level, where the structure is a smooth addend: what it learns there holds for structures it
never saw. Two small residual trunks, one for each view, meet in a full layer that gives two
numbers a parameter: its value, and how far that may be off.

Numbers of the PSF from textured patches: Shajkofci and Liebling 2020, *IEEE Trans. Image Process.*
29:5848 (there from pixels alone). Frames larger than a patch are cut into patches, all with the
numbers of their frame, so one recipe serves training on small patches and maps of large fields.
"""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from simscope.acquire import Batch
from simscope.errors import TrainingError
from simscope.learn.inputs import photons_from_counts, scales_of
from simscope.learn.layers import ResidualBlock
from simscope.learn.regressor import Floats, Regressor, RegressorConfig
from simscope.recipe import FocusStack, Recipe
from simscope.recipe.draws import parameter_units

OF_THE_PSF = ("optics.", "acquisition.focus_nm", "structure.z_nm")
"""Where a recipe's numbers that shape PSFs stand."""
DECADES = 3.0
"""Powers above noise are divided by so many powers of ten."""


class PsfBlindConfig(RegressorConfig):
    """Size of the network and scales of its data."""

    kind: Literal["psf-blind"] = "psf-blind"
    parameters: tuple[str, ...] = Field(
        (), description="recipe paths of the numbers to read; all drawn ones of the PSF if empty"
    )
    patch_px: int = Field(64, ge=16, le=512, description="side of a patch, a multiple of 8 [px]")
    channels: int = Field(32, ge=1, description="features at half the resolution")


def trunk(channels_in: int, channels: int) -> nn.Sequential:
    """Residual convolutions that halve the field three times, to 4 times the channels."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, 5, stride=2, padding=2),
        nn.ReLU(),
        ResidualBlock(channels),
        nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
        nn.ReLU(),
        ResidualBlock(2 * channels),
        nn.Conv2d(2 * channels, 4 * channels, 3, stride=2, padding=1),
        nn.ReLU(),
        ResidualBlock(4 * channels),
    )


class PsfBlindNet(nn.Module):
    """Patches and spectra (n, 2, y, x) to values and doubts (n, 2 * parameters)."""

    def __init__(self, parameters: int, patch_px: int, channels: int) -> None:
        super().__init__()
        self.middle = patch_px // 2
        self.pixels, self.frequencies = trunk(1, channels), trunk(1, channels)
        places = (patch_px // 8) * (patch_px // 16)
        self.hidden = nn.Linear(4 * channels * places, 8 * channels)
        self.joint = nn.Linear(12 * channels, 8 * channels)
        self.head = nn.Linear(8 * channels, 2 * parameters)

    def forward(self, views: torch.Tensor) -> torch.Tensor:
        """Values in units of their spread, then logarithms of variances."""
        seen = self.pixels(views[:, :1]).mean(dim=(2, 3))
        spectrum = self.frequencies(views[:, 1:, :, self.middle :]).flatten(1)
        places = functional.relu(self.hidden(spectrum))
        return self.head(functional.relu(self.joint(torch.cat([seen, places], dim=1))))


def psf_parameters(recipe: Recipe) -> tuple[str, ...]:
    """Paths of all numbers a recipe draws per sample that shape its PSF, sorted."""
    drawn = {path for path in parameter_units(recipe) if path.startswith(OF_THE_PSF)}
    return tuple(sorted(drawn - set(recipe.drawn("dataset")) - {"optics.wavefront.rms_nm"}))


def cut_patches(images: npt.NDArray[Any], patch_px: int) -> npt.NDArray[Any]:
    """Patches (n, rows, columns, patch_px, patch_px) side by side about the frames' middle.

    ``images``: (n, y, x). What is left over along the edges is left out.
    """
    count, height, width = images.shape
    rows, columns = height // patch_px, width // patch_px
    top, left = (height - rows * patch_px) // 2, (width - columns * patch_px) // 2
    whole = images[:, top : top + rows * patch_px, left : left + columns * patch_px]
    return whole.reshape(count, rows, patch_px, columns, patch_px).swapaxes(2, 3)


def log_spectra(photons: torch.Tensor, noise_variance: torch.Tensor) -> torch.Tensor:
    """Logarithm of the power spectrum over the noise's, in units of ``DECADES``, (n, y, x).

    Zero frequency lies at the middle. ``photons``: patches (n, y, x) of any mean, which is taken
    off and the rest faded to zero at the edges (Hann); ``noise_variance``: (n,), of each pixel.
    """
    window, cosines, sines = (part.to(photons) for part in fading_waves(photons.shape[-1]))
    across = window[:, None] * window
    level = (photons * across).sum(dim=(1, 2), keepdim=True) / across.sum()
    faded = (photons - level) * across
    even, odd = cosines @ faded, sines @ faded
    power = (even @ cosines.T - odd @ sines.T) ** 2 + (even @ sines.T + odd @ cosines.T) ** 2
    floor = noise_variance[:, None, None] * (across**2).sum()
    return torch.log10(power / floor + 0.1) / DECADES


@cache
def fading_waves(side: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hann window (places,), cosines and sines (frequencies from lowest to highest, places).

    A transform by two products is as fast as any at this size, and any software can run it.
    """
    places, waves = np.arange(side), np.arange(side) - side // 2
    turns = 2 * np.pi * (np.outer(waves, places) % side) / side
    window = 0.5 - 0.5 * np.cos(2 * np.pi * places / (side - 1))
    return tuple(  # type: ignore[return-value]
        torch.from_numpy(part.astype(np.float32)) for part in (window, np.cos(turns), np.sin(turns))
    )


class PsfBlindTask(Regressor):
    """Blind regression for a recipe that draws numbers of its PSF per sample.

    Raises
    ------
    TrainingError
        If the recipe draws none, images stacks or movies, or its frames are smaller than a patch.
    """

    kind = "psf-blind"
    plan: ClassVar[dict[str, Any]] = {
        "batch_size": 16,
        "optimiser": "muon",
        "learning_rate": 1e-3,
        "validation_samples": 128,
    }
    config: PsfBlindConfig
    network: PsfBlindNet

    def __init__(self, recipe: Recipe, config: PsfBlindConfig | None = None) -> None:
        config = config or PsfBlindConfig()
        super().__init__(recipe, config, _chosen(recipe, config.parameters))
        if isinstance(recipe.acquisition.focus_nm, FocusStack) or recipe.acquisition.frames > 1:
            raise TrainingError(
                f"recipe {recipe.name!r} images stacks or movies, {self.kind} reads single frames: "
                "train 'zernike' on stacks, or set acquisition.focus_nm to a distribution"
            )
        if config.patch_px % 8:
            raise TrainingError(f"patch_px={config.patch_px} is no multiple of 8: change it")
        self.check_images((1, *recipe.acquisition.shape))
        self.network = PsfBlindNet(len(self.paths), config.patch_px, config.channels)

    def check_images(self, shape: tuple[int, ...]) -> None:
        """Return nothing; TrainingError unless frames (n, y, x) hold at least a patch."""
        side = self.config.patch_px
        if len(shape) != 3 or min(shape[1:]) < side:
            raise TrainingError(
                f"images of shape {shape}: give (samples, y, x) of at least {side} x {side} pixels,"
                " or train with another patch_px"
            )

    def fit_scales(self, batch: Batch) -> None:
        """Take centres and spreads of the numbers from a batch; patches are scaled one by one."""
        update: dict[str, Any] = scales_of(photons_from_counts(batch.images, self.recipe))
        self.config = self.config.model_copy(update=update | self.learned_scales(batch))

    def inputs(self, images: Any) -> torch.Tensor:
        """Every patch on its own scale, and its spectrum: (n * patches, 2, y, x)."""
        photons = photons_from_counts(images, self.recipe)
        side = self.config.patch_px
        patches = np.ascontiguousarray(cut_patches(photons, side)).reshape(-1, 1, side, side)
        views = self.prepared(torch.from_numpy(patches))
        return views.contiguous(memory_format=torch.channels_last)

    def prepared(self, photons: torch.Tensor) -> torch.Tensor:
        """Both views (n, 2, y, x) of patches (n, 1, y, x) of photons."""
        patches = photons[:, 0]
        mean = patches.mean(dim=(1, 2))
        spread = patches.std(dim=(1, 2)).clamp(min=1e-6)
        scaled = (patches - mean[:, None, None]) / spread[:, None, None]
        return torch.stack([scaled, log_spectra(patches, mean.clamp(min=1.0))], dim=1)

    def truth(self, batch: Batch) -> Floats:
        """Drawn numbers of each patch's frame (n * patches, parameters), in their units."""
        return np.repeat(super().truth(batch), self.patches_of(batch.images.shape), axis=0)

    def patches_of(self, shape: tuple[int, ...]) -> int:
        """Patches cut out of each image of a block of this shape."""
        side = self.config.patch_px
        return (shape[-2] // side) * (shape[-1] // side)


def _chosen(recipe: Recipe, asked: tuple[str, ...]) -> tuple[str, ...]:
    """The paths asked for, or all of the PSF; TrainingError where the recipe does not draw them."""
    drawn = psf_parameters(recipe)
    if not drawn:
        raise TrainingError(
            f"recipe {recipe.name!r} draws nothing of its PSF per sample: give "
            "acquisition.focus_nm or a coefficient of optics.wavefront a distribution"
        )
    for path in asked:
        if path not in drawn:
            raise TrainingError(f"parameters: {path!r} is not drawn; choose of {', '.join(drawn)}")
    return asked or drawn
