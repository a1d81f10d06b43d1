"""PSF regression: Zernike coefficients of the wavefront from a through-focus stack of one bead.

The planes of a stack are the channels of a small residual convolutional network that halves the
field three times (He et al. 2016, CVPR). Its last features, averaged to 4 x 4 places of the field
so that where the light goes still counts, pass two full layers to one number a mode. Phase
retrieval by a network: Möckl, Petrov and Moerner 2019, *Appl. Phys. Lett.* 115:251106.

Coefficients are in nm RMS (orthonormal modes), so the root of the summed squared error is the RMS
wavefront error.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from simscope.acquire import Batch
from simscope.errors import TrainingError
from simscope.learn.inputs import Scales, photons_and_roots, photons_from_counts, scales_of
from simscope.learn.task import Task
from simscope.optics import osa_to_nm
from simscope.recipe import FocusStack, Recipe
from simscope.recipe.draws import parameter_units

COEFFICIENTS = "optics.wavefront.coefficients_nm."


class ZernikeConfig(Scales):
    """Size of the network and scales of its data."""

    kind: Literal["zernike"] = "zernike"
    channels: int = Field(48, ge=1, description="features at full resolution")
    coefficient_nm: float = Field(1.0, gt=0, description="RMS of a coefficient in training [nm]")


class DownBlock(nn.Module):
    """Halve the field, then one residual convolution."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels_in, channels, 3, stride=2, padding=1)
        self.same = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm_down = nn.BatchNorm2d(channels)
        self.norm_same = nn.BatchNorm2d(channels)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features (n, channels, y / 2, x / 2)."""
        halved = functional.relu(self.norm_down(self.down(features)))
        return halved + functional.relu(self.norm_same(self.same(halved)))


class ZernikeNet(nn.Module):
    """Stacks (n, planes, y, x) to coefficients (n, modes), in units of ``coefficient_nm``."""

    def __init__(self, planes: int, modes: int, channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2 * planes, channels, 3, padding=1)
        self.blocks = nn.Sequential(
            DownBlock(channels, channels),
            DownBlock(channels, 2 * channels),
            DownBlock(2 * channels, 2 * channels),
        )
        self.hidden = nn.Linear(2 * channels * 16, 4 * channels)
        self.head = nn.Linear(4 * channels, modes)

    def forward(self, stacks: torch.Tensor) -> torch.Tensor:
        """Coefficients as in the class's first line."""
        features = self.blocks(functional.relu(self.stem(stacks)))
        pooled = functional.adaptive_avg_pool2d(features, 4).flatten(1)
        return self.head(functional.relu(self.hidden(pooled)))


def drawn_coefficients(recipe: Recipe) -> tuple[str, ...]:
    """Paths of the Zernike coefficients [nm] a recipe draws, sorted by OSA index."""
    paths = (path for path in parameter_units(recipe) if path.startswith(COEFFICIENTS))
    return tuple(sorted(paths, key=osa_index))


def osa_index(path: str) -> int:
    """OSA index of the mode whose coefficient stands at a recipe path."""
    return int(path.removeprefix(COEFFICIENTS))


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


class ZernikeTask(Task):
    """Zernike regression for a recipe whose wavefront is drawn per sample.

    Raises
    ------
    TrainingError
        If the recipe draws no Zernike coefficients.
    """

    kind = "zernike"
    plan: ClassVar[dict[str, Any]] = {
        "batch_size": 64,
        "learning_rate": 2e-3,
        "validation_samples": 256,
    }
    config: ZernikeConfig
    network: ZernikeNet

    def __init__(self, recipe: Recipe, config: ZernikeConfig | None = None) -> None:
        super().__init__(recipe, config or ZernikeConfig())
        self.paths = drawn_coefficients(recipe)
        if not self.paths:
            raise TrainingError(
                f"recipe {recipe.name!r} draws no Zernike coefficients per sample: set "
                "optics.wavefront.random_modes or distributions in coefficients_nm"
            )
        focus = recipe.acquisition.focus_nm
        self.planes = focus.planes if isinstance(focus, FocusStack) else recipe.acquisition.frames
        self.network = ZernikeNet(self.planes, len(self.paths), self.config.channels)

    @property
    def modes(self) -> tuple[int, ...]:
        """OSA indices of the output's columns."""
        return tuple(osa_index(path) for path in self.paths)

    def fit_scales(self, batch: Batch) -> None:
        """Take dark level, spread and RMS coefficient from a batch."""
        size = float(np.sqrt(np.mean(self.coefficients_nm(batch) ** 2)))
        self.config = self.config.model_copy(
            update=scales_of(photons_from_counts(batch.images, self.recipe))
            | {"coefficient_nm": size}
        )

    def inputs(self, images: Any) -> torch.Tensor:
        """Scaled photons and their even-noise root, planes as channels (n, 2 * planes, y, x)."""
        photons = photons_from_counts(images, self.recipe)
        return photons_and_roots(
            photons.reshape(len(photons), -1, *photons.shape[-2:]), self.config
        )

    def targets(self, batch: Batch) -> torch.Tensor:
        """Coefficients (n, modes) in units of ``coefficient_nm``."""
        scaled = self.coefficients_nm(batch) / self.config.coefficient_nm
        return torch.from_numpy(scaled.astype(np.float32))

    def augment(
        self, inputs: torch.Tensor, targets: torch.Tensor, chance: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The batch mirrored in x, y, both or neither, by ``chance`` in (0, 1).

        The PSF of a freely rotating dipole mirrors with the pupil, and each mode then keeps or
        changes its sign: four samples for the price of one.
        """
        along = int(4 * chance)
        axes = [axis for axis, bit in ((3, 1), (2, 2)) if along & bit]
        signs = mirror_signs(self.modes, mirror_x=bool(along & 1), mirror_y=bool(along & 2))
        return torch.flip(inputs, axes), targets * torch.from_numpy(signs)

    def loss(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Mean squared error of the coefficients relative to their spread."""
        return functional.mse_loss(output.float(), target)

    def judge(self, output: torch.Tensor, batch: Batch) -> dict[str, float]:
        """RMS wavefront error [nm], over all samples, beside the RMS that was drawn."""
        truth = self.coefficients_nm(batch)
        return wavefront_errors(self.read(output), truth)

    def read(self, output: torch.Tensor) -> npt.NDArray[np.float64]:
        """Coefficients [nm] (n, modes) from the network's output."""
        return output.numpy().astype(np.float64) * self.config.coefficient_nm

    def coefficients_nm(self, batch: Batch) -> npt.NDArray[np.float64]:
        """Drawn coefficients [nm] (n, modes), columns as in ``modes``."""
        return np.column_stack([batch.parameters[path] for path in self.paths])


def wavefront_errors(
    predicted_nm: npt.NDArray[np.float64], truth_nm: npt.NDArray[np.float64]
) -> dict[str, float]:
    """RMS wavefront error and drawn RMS [nm] over samples, and their ratio."""
    error = float(np.sqrt(np.mean(np.sum((predicted_nm - truth_nm) ** 2, axis=1))))
    drawn = float(np.sqrt(np.mean(np.sum(truth_nm**2, axis=1))))
    return {"rms_error_nm": error, "rms_drawn_nm": drawn, "relative_error": error / drawn}
