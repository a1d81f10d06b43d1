"""PSF regression: Zernike coefficients of the wavefront from a through-focus stack of one bead.

The planes of a stack are the channels of a small residual convolutional network that halves the
field three times (He et al. 2016, CVPR). Residual branches begin at zero instead of being
normalised (Zhang, Dauphin and Ma 2019, ICLR), so that no sample's answer hangs on its batch. The
last features, averaged to 4 x 4 places of the field so that where the light goes still counts,
pass two full layers to two numbers a mode: its coefficient, and how far that may be off. Phase
retrieval by a network: Möckl, Petrov and Moerner 2019, *Appl. Phys. Lett.* 115:251106.

Coefficients are in nm RMS (orthonormal modes), so the root of the summed squared error is the RMS
wavefront error.
"""

from __future__ import annotations

from itertools import product
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from simscope.acquire import Batch
from simscope.errors import TrainingError
from simscope.evaluate.regression import wavefront_errors
from simscope.learn.inputs import photons_and_roots, photons_from_counts, scales_of
from simscope.learn.layers import ResidualBlock
from simscope.learn.regressor import Regressor, RegressorConfig
from simscope.optics import osa_to_nm
from simscope.recipe import Distribution, FocusStack, Recipe
from simscope.recipe.draws import COEFFICIENT, parameter_units


class ZernikeConfig(RegressorConfig):
    """Size of the network and scales of its data."""

    kind: Literal["zernike"] = "zernike"
    channels: int = Field(64, ge=1, description="features at half the resolution")


class ZernikeNet(nn.Module):
    """Stacks (n, 2 * planes, y, x) to coefficients and doubts (n, 2 * modes)."""

    def __init__(self, planes: int, modes: int, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(2 * planes, channels, 5, stride=2, padding=2),
            nn.ReLU(),
            ResidualBlock(channels),
            nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
            nn.ReLU(),
            ResidualBlock(2 * channels),
            ResidualBlock(2 * channels),
            nn.Conv2d(2 * channels, 4 * channels, 3, stride=2, padding=1),
            nn.ReLU(),
            ResidualBlock(4 * channels),
        )
        self.hidden = nn.Linear(4 * channels * 16, 8 * channels)
        self.head = nn.Linear(8 * channels, 2 * modes)

    def forward(self, stacks: torch.Tensor) -> torch.Tensor:
        """Coefficients in units of their spread, then logarithms of variances."""
        pooled = functional.adaptive_avg_pool2d(self.body(stacks), 4).flatten(1)
        return self.head(functional.relu(self.hidden(pooled)))


def drawn_coefficients(recipe: Recipe) -> tuple[str, ...]:
    """Paths of the Zernike coefficients [nm] a recipe draws, sorted by OSA index."""
    paths = (path for path in parameter_units(recipe) if path.startswith(COEFFICIENT))
    return tuple(sorted(paths, key=osa_index))


def osa_index(path: str) -> int:
    """OSA index of the mode whose coefficient stands at a recipe path."""
    return int(path.removeprefix(COEFFICIENT))


def mirror_signs(
    modes: tuple[int, ...], *, mirror_x: bool, mirror_y: bool
) -> npt.NDArray[np.float32]:
    """Factor +1 or -1 of each mode's coefficient when the pupil is mirrored, ``(modes,)``.

    Modes go as cos(m phi) for m >= 0 and sin(-m phi) below. ``x -> -x`` is ``phi -> pi - phi``,
    ``y -> -y`` is ``phi -> -phi``.
    """
    orders = np.array([osa_to_nm(mode)[1] for mode in modes])
    signs = np.ones(len(modes), np.float32)
    if mirror_x:
        signs *= np.where((orders + (orders < 0)) % 2 == 0, 1, -1)
    if mirror_y:
        signs *= np.where(orders < 0, -1, 1)
    return signs


def swap_axes(
    modes: tuple[int, ...],
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]] | None:
    """Whose coefficient each mode takes when x and y change places, and its factor +1 or -1.

    Both ``(modes,)``; None if a mode's partner, of order -m where m is odd, is not among them.
    ``phi -> pi / 2 - phi``.
    """
    degrees_orders = [osa_to_nm(mode) for mode in modes]
    partners = [(n, -m if m % 2 else m) for n, m in degrees_orders]
    if not set(partners) <= set(degrees_orders):
        return None
    orders = np.array([m for _, m in degrees_orders])
    signs = np.where(np.abs(orders) % 4 < 2, 1, -1)  # of cos(m pi / 2), or of sin where m is odd
    signs[(orders < 0) & (orders % 2 == 0)] *= -1
    return np.array([degrees_orders.index(pair) for pair in partners]), signs.astype(np.float32)


def mirrors_with_the_pupil(recipe: Recipe) -> bool:
    """Whether images mirror and swap their axes as the drawn modes alone do.

    So they do in a widefield microscope of molecules that rotate freely, if nothing lopsided
    stands in the pupil but the drawn modes.
    """
    optics, waves = recipe.optics, recipe.optics.wavefront
    fixed = {} if waves is None else waves.coefficients_nm
    lopsided = [
        mode
        for mode, value in fixed.items()
        if not isinstance(value, Distribution) and value != 0 and osa_to_nm(mode)[1] != 0
    ]
    others = (
        optics.wavefront_map, optics.amplitude_map, optics.field_dependence, optics.mask,
        optics.slm, optics.measured, optics.analyser,
    )  # fmt: skip
    return (
        optics.modality.kind == "widefield"
        and recipe.dipoles.kind == "free"
        and not lopsided
        and all(other is None for other in others)
    )


class ZernikeTask(Regressor):
    """Zernike regression for a recipe whose wavefront is drawn per sample.

    Raises
    ------
    TrainingError
        If the recipe draws no Zernike coefficients.
    """

    kind = "zernike"
    plan: ClassVar[dict[str, Any]] = {
        "batch_size": 32,
        "optimiser": "muon",
        "learning_rate": 1e-3,
        "validation_samples": 256,
    }
    augments_fresh = True
    config: ZernikeConfig
    network: ZernikeNet

    def __init__(self, recipe: Recipe, config: ZernikeConfig | None = None) -> None:
        paths = drawn_coefficients(recipe)
        if not paths:
            raise TrainingError(
                f"recipe {recipe.name!r} draws no Zernike coefficients per sample: set "
                "optics.wavefront.random_modes or distributions in coefficients_nm"
            )
        super().__init__(recipe, config or ZernikeConfig(), paths)
        focus = recipe.acquisition.focus_nm
        self.planes = focus.planes if isinstance(focus, FocusStack) else recipe.acquisition.frames
        self.network = ZernikeNet(self.planes, len(paths), self.config.channels)

    @property
    def modes(self) -> tuple[int, ...]:
        """OSA indices of the output's columns."""
        return tuple(osa_index(path) for path in self.paths)

    def check_images(self, shape: tuple[int, ...]) -> None:
        """Return nothing; TrainingError unless stacks have the planes the network knows."""
        if len(shape) != 4 or shape[1] != self.planes:
            raise TrainingError(
                f"images of shape {shape}: give (samples, {self.planes} planes, y, x)"
            )

    def fit_scales(self, batch: Batch) -> None:
        """Take dark level and spread of the images, and the coefficients' means and spreads."""
        update: dict[str, Any] = scales_of(photons_from_counts(batch.images, self.recipe))
        self.config = self.config.model_copy(update=update | self.learned_scales(batch))

    def inputs(self, images: Any) -> torch.Tensor:
        """Scaled photons and their even-noise root, planes as channels (n, 2 * planes, y, x)."""
        photons = photons_from_counts(images, self.recipe)
        return photons_and_roots(
            photons.reshape(len(photons), -1, *photons.shape[-2:]), self.config
        )

    def augment(
        self, inputs: torch.Tensor, targets: torch.Tensor, chance: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The batch as it is, mirrored in x, in y, and in both, and these with x and y swapped.

        The PSF of a freely rotating dipole mirrors with the pupil, and modes then keep or change
        their signs, or change places: eight samples for the price of one. Four, without swapping,
        if frames are not square or a mode lacks its partner; only itself if the optics mirror in
        another way (:func:`mirrors_with_the_pupil`).
        """
        if not mirrors_with_the_pupil(self.recipe):
            return inputs, targets
        centres, spreads = (torch.from_numpy(part.astype(np.float32)) for part in self._scales())
        values = targets * spreads + centres
        images, numbers = [], []
        for mirror_x, mirror_y in product((False, True), repeat=2):
            axes = [axis for axis, yes in ((3, mirror_x), (2, mirror_y)) if yes]
            signs = mirror_signs(self.modes, mirror_x=mirror_x, mirror_y=mirror_y)
            images.append(torch.flip(inputs, axes))
            numbers.append(values * torch.from_numpy(signs))
        swap = swap_axes(self.modes)
        if swap is not None and inputs.shape[2] == inputs.shape[3]:
            places, factors = (torch.from_numpy(part) for part in swap)
            images += [image.transpose(2, 3) for image in images]
            numbers += [number[:, places] * factors for number in numbers]
        mirrored = torch.cat(images).contiguous(memory_format=torch.channels_last)
        return mirrored, (torch.cat(numbers) - centres) / spreads

    def judge(self, output: torch.Tensor, batch: Batch) -> dict[str, float]:
        """RMS wavefront error [nm], over all samples, beside the RMS drawn; then mode by mode."""
        errors = wavefront_errors(self.read(output), self.truth(batch))
        return errors | super().judge(output, batch)
