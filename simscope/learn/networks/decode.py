"""DECODE: which pixels hold an emitter, where in the pixel, how bright, and how sure of all that.

After Speiser et al. 2021, *Nat. Methods* 18:1082, "Deep learning enables fast and dense
single-molecule localization with high accuracy". Every camera pixel says with which probability an
emitter is in or near it, its offset from the pixel's middle, its height and photons, and a standard
deviation for each. One loss trains all of it, the likelihood of the true emitters of a frame:

- their number, a sum of independent pixels (Poisson binomial), taken as Gaussian with mean
  ``sum p`` and variance ``sum p (1 - p)``;
- where and how bright each is, drawn from a mixture of Gaussians, one per pixel, of weights
  ``p / sum p``.

In movies the network sees the frame before and the one after, too. In the paper two U-Nets do the
work (``trunk="unet"``); here, for CPUs, one chain of residual dilated convolutions by default.

Approximations: the Gaussian count is poor where ``sum p (1 - p)`` is far below one, so this
variance is kept above ``LEAST_VARIANCE``; the mixture of an emitter is taken over the pixels
around it only, since offsets end within a pixel. The background is not predicted.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from simscope.acquire import Batch
from simscope.evaluate import match
from simscope.learn.inputs import Scales, photons_and_roots, photons_from_counts, scales_of
from simscope.learn.layers import DilatedBlock, initialise
from simscope.learn.localizer import Localizer, empty_table, frames_of
from simscope.recipe import Recipe

COORDINATES = ("x", "y", "z", "photons")
CHANNELS = 1 + 2 * len(COORDINATES)
"""Of the output: a logit, four values in the order of ``COORDINATES``, a width for each."""
LEAST_VARIANCE = 0.01
LEAST_WIDTH, LARGEST_WIDTH = 0.002, 3.0
Z_ROOM = 1.2
"""Heights beyond the range of training that can be said, as a factor."""
SAME_EMITTER_PX = 0.5
"""Neighbouring pixels whose positions are closer than this speak of one emitter."""
SURE_OF_ITSELF = 0.6
"""A pixel so probable stands for an emitter of its own even beside a more probable one."""


class DecodeConfig(Scales):
    """Size of the network, scales of its data, and the least probability of an emitter."""

    kind: Literal["decode"] = "decode"
    trunk: Literal["dilated", "unet"] = Field("dilated", description="slim, or as published")
    channels: int = Field(64, ge=1, description="features per pixel (48 in the paper)")
    dilations: tuple[int, ...] = Field((1, 2, 2, 1), description="one residual block each")
    depth: int = Field(2, ge=1, le=5, description="halvings of the frame in a U-Net")
    context_frames: Literal[0, 1] | None = Field(
        None, description="frames before and after that are seen; by default 1 in movies"
    )
    reach_px: int = Field(3, ge=1, description="pixels around an emitter that may speak for it")
    typical_photons: float = Field(1000.0, gt=0, description="unit of photons")
    middle_nm: float = Field(0.0, description="middle of the heights [nm]")
    half_range_nm: float = Field(0.0, ge=0, description="unit of height; 0 if all are alike")
    emitters_per_pixel: float = Field(1e-2, gt=0, lt=1, description="mean of the training data")
    threshold: float = Field(0.5, gt=0, description="least probability of an emitter")


class DilatedTrunk(nn.Module):
    """Features per camera pixel from all frames at once, by residual dilated convolutions."""

    def __init__(self, config: DecodeConfig, frames: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2 * frames, config.channels, 3, padding=1)
        self.blocks = nn.Sequential(*(DilatedBlock(config.channels, d) for d in config.dilations))
        self.radius_px = 1 + sum(config.dilations)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features (n, channels, y, x) of images (n, 2 frames, y, x)."""
        return self.blocks(functional.relu(self.stem(images)))


def _two_convolutions(before: int, after: int) -> nn.Sequential:
    first, second = nn.Conv2d(before, after, 3, padding=1), nn.Conv2d(after, after, 3, padding=1)
    return nn.Sequential(first, nn.ELU(), second, nn.ELU())


class UNet(nn.Module):
    """Ronneberger et al. 2015 (MICCAI): features widen as the frame is halved, and back."""

    def __init__(self, before: int, width: int, depth: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        pairs = list(zip([before, *widths], widths, strict=False))
        self.down = nn.ModuleList(_two_convolutions(a, b) for a, b in pairs)
        rise = [(widths[k + 1], widths[k]) for k in reversed(range(depth))]
        self.narrow = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in rise)
        self.up = nn.ModuleList(_two_convolutions(2 * b, b) for _, b in rise)
        self.radius_px = sum(5 * 2**level for level in range(depth)) + 2 * 2**depth

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features (n, width, y, x); y and x must be multiples of ``2**depth``."""
        seen = [self.down[0](features)]
        for step in self.down[1:]:
            seen.append(step(functional.max_pool2d(seen[-1], 2)))
        features = seen.pop()
        for narrow, step in zip(self.narrow, self.up, strict=True):
            larger = functional.interpolate(narrow(features), scale_factor=2, mode="nearest")
            features = step(torch.cat([seen.pop(), larger], dim=1))
        return features


class UNetTrunk(nn.Module):
    """The published pair: a U-Net for each frame, and one for the features of all frames."""

    def __init__(self, config: DecodeConfig, frames: int) -> None:
        super().__init__()
        self.frames, self.multiple = frames, 2**config.depth
        self.each = UNet(2, config.channels, config.depth)
        self.all = UNet(frames * config.channels, config.channels, config.depth)
        self.radius_px = self.each.radius_px + self.all.radius_px

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features (n, channels, y, x) of images (n, 2 frames, y, x)."""
        height, width = images.shape[-2:]
        right, below = (self._to_whole_blocks(side) - side for side in (width, height))
        padded = functional.pad(images, (0, right, 0, below))
        frames = [padded[:, k :: self.frames] for k in range(self.frames)]
        features = torch.cat([self.each(frame) for frame in frames], dim=1)
        return functional.pad(self.all(features), (0, -right, 0, -below))

    def _to_whole_blocks(self, side: int) -> int:
        """The next multiple; written so that exporters see that halving it leaves no rest."""
        return (side + self.multiple - 1) // self.multiple * self.multiple


class Decode(nn.Module):
    """Images (n, 2 frames, y, x) to ``CHANNELS`` raw values per pixel, float32.

    :func:`predictions` gives them their meaning. Offsets of a hundredth of a pixel need the last
    layer in single precision.
    """

    def __init__(self, config: DecodeConfig) -> None:
        super().__init__()
        trunk = UNetTrunk if config.trunk == "unet" else DilatedTrunk
        self.trunk = trunk(config, 1 + 2 * (config.context_frames or 0))
        self.hidden = nn.Conv2d(config.channels, config.channels, 3, padding=1)
        self.head = nn.Conv2d(config.channels, CHANNELS, 1)
        initialise(self, blocks=0.5, head=0.1)

    def start_from(self, emitters_per_pixel: float) -> None:
        """Begin with the mean density everywhere, one typical emitter, widths of one."""
        bias = torch.zeros(CHANNELS)
        bias[0] = math.log(emitters_per_pixel / (1 - emitters_per_pixel))
        bias[4] = math.log(math.e - 1)  # softplus gives 1
        bias[5:] = math.log(1 / (LARGEST_WIDTH - 1))  # a sigmoid of this is 1 / LARGEST_WIDTH
        with torch.no_grad():
            self.head.bias.copy_(bias)  # type: ignore[union-attr]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Output as in the class's first line."""
        features = functional.elu(self.hidden(self.trunk(images)))
        with torch.autocast(images.device.type, enabled=False):
            return self.head(features.float())


class Predictions(NamedTuple):
    """What each pixel says, each tensor (n, y, x) or (n, 4, y, x) by ``COORDINATES``.

    Values and widths in pixels (from the frame's corner), half ranges of height (from the
    middle), and typical photons.
    """

    log_odds: torch.Tensor
    values: torch.Tensor
    widths: torch.Tensor


def predictions(output: torch.Tensor) -> Predictions:
    """Meaning of the network's raw output (n, ``CHANNELS``, y, x)."""
    raw, height, width = output.float(), *output.shape[-2:]
    middle_x = torch.arange(width, device=raw.device) + 0.5
    middle_y = (torch.arange(height, device=raw.device) + 0.5)[:, None]
    values = [
        middle_x + torch.tanh(raw[:, 1]),
        middle_y + torch.tanh(raw[:, 2]),
        Z_ROOM * torch.tanh(raw[:, 3]),
        functional.softplus(raw[:, 4]),
    ]
    widths = LEAST_WIDTH + LARGEST_WIDTH * torch.sigmoid(raw[:, 5:])
    return Predictions(raw[:, 0], torch.stack(values, dim=1), widths)


def count_loss(log_odds: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Minus log likelihood (n,) of the numbers of emitters ``counts`` (n,) in frames."""
    probability = torch.sigmoid(log_odds)
    mean = probability.sum(dim=(1, 2))
    variance = (probability * torch.sigmoid(-log_odds)).sum(dim=(1, 2)).clamp(min=LEAST_VARIANCE)
    return 0.5 * ((counts - mean) ** 2 / variance + torch.log(2 * math.pi * variance))


def mixture_loss(
    said: Predictions, frame: torch.Tensor, truth: torch.Tensor, reach_px: int, with_height: bool
) -> torch.Tensor:
    """Minus log likelihood (emitters,) of emitters ``truth`` (emitters, 4) in ``frame``.

    Only pixels up to ``reach_px`` from an emitter's own are components of its mixture, their
    weights still shares of the whole frame.
    """
    use = [0, 1, 2, 3] if with_height else [0, 1, 3]
    rows, columns, missing = _neighbours(truth, said.log_odds.shape[1:], reach_px)
    place = (frame[:, None], rows, columns)
    total = torch.logsumexp(functional.logsigmoid(said.log_odds).flatten(1), dim=1)
    log_weight = functional.logsigmoid(said.log_odds[place]) - total[frame, None]
    values, widths = (v.permute(0, 2, 3, 1)[place][..., use] for v in (said.values, said.widths))
    miss = (truth[:, None, use] - values) / widths
    log_density = -(0.5 * miss**2 + torch.log(widths)).sum(-1) - len(use) / 2 * math.log(
        2 * math.pi
    )
    return -torch.logsumexp((log_weight + log_density).masked_fill(missing, -math.inf), dim=1)


def _neighbours(
    truth: torch.Tensor, shape: Any, reach_px: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows, columns (emitters, pixels) of pixels around emitters, and which are off the frame."""
    step = torch.arange(-reach_px, reach_px + 1, device=truth.device)
    down, right = (grid.flatten() for grid in torch.meshgrid(step, step, indexing="ij"))
    rows = truth[:, 1].floor().long()[:, None] + down
    columns = truth[:, 0].floor().long()[:, None] + right
    missing = (rows < 0) | (rows >= shape[0]) | (columns < 0) | (columns >= shape[1])
    return rows.clamp(0, shape[0] - 1), columns.clamp(0, shape[1] - 1), missing


class DecodeTask(Localizer):
    """DECODE for a recipe of single frames or movies, flat or in depth.

    Raises
    ------
    TrainingError
        If the recipe is a focus stack or a single bead.
    """

    kind = "decode"
    config: DecodeConfig
    network: Decode

    def __init__(self, recipe: Recipe, config: DecodeConfig | None = None) -> None:
        config = config or DecodeConfig()
        if config.context_frames is None:
            in_movies = int(recipe.acquisition.frames > 1)
            config = config.model_copy(update={"context_frames": in_movies})
        super().__init__(recipe, config)
        self.network = Decode(config)

    @property
    def context(self) -> int:
        """Frames before and after each that the network sees."""
        return self.config.context_frames or 0

    @property
    def halo_px(self) -> int:
        """Radius of the receptive field, and of reading the output [px]."""
        return int(self.network.trunk.radius_px) + 1 + 2

    @property
    def stride_px(self) -> int:
        """Tiles of a frame must begin where a U-Net's halved pixels do."""
        return 2**self.config.depth if self.config.trunk == "unet" else 1

    def fit_scales(self, batch: Batch) -> None:
        """Take levels of images, photons and heights, and the mean density, from a batch."""
        self.require_emitters(batch)
        frames, truth = frames_of(batch.images), self.truth(batch)
        low, high = float(truth["z_nm"].min()), float(truth["z_nm"].max())
        density = len(truth["photons"]) / frames.size
        self.config = self.config.model_copy(
            update=scales_of(photons_from_counts(frames, self.recipe))
            | {
                "typical_photons": float(np.median(truth["photons"])),
                "middle_nm": (low + high) / 2,
                "half_range_nm": (high - low) / 2,
                "emitters_per_pixel": min(density, 0.5),
            }
        )
        self.network.start_from(self.config.emitters_per_pixel)

    def inputs(self, images: Any) -> torch.Tensor:
        """Scaled photons of the frames seen, earliest first, then their roots, whose noise is even.

        Shape (n, 2 frames, y, x). Beyond the ends of a movie its first and last frame come again.
        """
        photons = photons_from_counts(images, self.recipe)
        movies = photons.reshape(-1, *photons.shape[-3:]) if self.context else frames_of(photons)
        if not self.context:
            return photons_and_roots(movies[:, None], self.config)
        ends = [(0, 0), (self.context, self.context), (0, 0), (0, 0)]
        padded = np.pad(movies, ends, mode="edge")
        shifted = [padded[:, k : k + movies.shape[1]] for k in range(1 + 2 * self.context)]
        return photons_and_roots(
            np.stack([frames_of(frames) for frames in shifted], axis=1), self.config
        )

    def targets(self, batch: Batch) -> torch.Tensor:
        """Emitters (frames, most in a frame, 4) in the units of :class:`Predictions`, else NaN."""
        truth, frames = self.truth(batch), len(frames_of(batch.images))
        order = np.argsort(truth["frame"], kind="stable")
        frame = truth["frame"][order]
        counts = np.bincount(frame, minlength=frames)
        place = np.arange(len(frame)) - np.repeat(np.cumsum(counts) - counts, counts)
        emitters = np.full((frames, max(int(counts.max(initial=0)), 1), 4), np.nan, np.float32)
        emitters[frame, place] = self._in_units(truth)[order]
        return torch.from_numpy(emitters)

    def loss(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Minus log likelihood of all frames, per emitter."""
        said, there = predictions(output), ~torch.isnan(target[..., 0])
        counts = count_loss(said.log_odds, there.sum(dim=1))
        frame = there.nonzero()[:, 0]
        with_height = self.config.half_range_nm > 0
        mixture = mixture_loss(said, frame, target[there], self.config.reach_px, with_height)
        return (counts.sum() + mixture.sum()) / there.sum().clamp(min=1)

    def found(self, output: torch.Tensor, threshold: float | None = None) -> npt.NDArray[Any]:
        """Emitter table (``FOUND_DTYPE``) read from the network's output."""
        if threshold is None:
            threshold = self.config.threshold
        reading = read_pixels(predictions(output), threshold)
        table = empty_table(len(reading.frame))
        table["frame"], table["probability"] = reading.frame, reading.probability
        units, middles = self._units()
        for name, unit, middle, value, width in zip(
            COORDINATES, units, middles, reading.values.T, reading.widths.T, strict=True
        ):
            column = "photons" if name == "photons" else f"{name}_nm"
            if unit > 0:
                table[column] = middle + unit * value
                table[f"uncertainty_{column}"] = unit * width
        if self.config.half_range_nm == 0:
            table["z_nm"] = self.common_height_nm()
        return table

    def judge(self, output: torch.Tensor, batch: Batch) -> dict[str, float]:
        """As every localiser, and the RMS of errors over their predicted uncertainties."""
        found, truth = self.found(output), self.truth(batch)
        pairs = match(found, truth, self.radius_nm, self.axial_radius_nm)
        judged = super().judge(output, batch)
        for name in COORDINATES if self.config.half_range_nm > 0 else ("x", "y", "photons"):
            column = "photons" if name == "photons" else f"{name}_nm"
            error = found[column][pairs.found_rows] - truth[column][pairs.truth_rows]
            ratio = error / found[f"uncertainty_{column}"][pairs.found_rows]
            judged[f"rms_z_score_{name}"] = (
                float(np.sqrt(np.mean(ratio**2))) if len(ratio) else math.nan
            )
        return judged

    def _units(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Units and zeros of ``COORDINATES`` [nm, nm, nm, photons]."""
        config, pixel_nm = self.config, self.recipe.pixel_nm
        units = (pixel_nm, pixel_nm, config.half_range_nm, config.typical_photons)
        return units, (0.0, 0.0, config.middle_nm, 0.0)

    def _in_units(self, truth: dict[str, npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
        """True emitters (rows, 4) in the units of :class:`Predictions`."""
        columns = (truth[name] for name in ("x_nm", "y_nm", "z_nm", "photons"))
        units, middles = self._units()
        scaled = [(c - m) / (u or 1.0) for c, u, m in zip(columns, units, middles, strict=True)]
        return np.stack(scaled, axis=1)


class Reading(NamedTuple):
    """Emitters read from predictions: frame, probability (emitters,), values, widths (..., 4)."""

    frame: npt.NDArray[np.int64]
    probability: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]
    widths: npt.NDArray[np.float64]


def read_pixels(said: Predictions, threshold: float) -> Reading:
    """Emitters with a probability of at least ``threshold``.

    An emitter near the edge of a pixel shares its probability with the next. So, as in the paper,
    probabilities are summed around local maxima and around pixels sure of themselves; here over
    those of the 3 x 3 pixels that speak of the same place, whose Gaussians become one of the same
    mean and variance.
    """
    frame, row, column = _candidates(said.log_odds, threshold / 9).unbind(1)
    middle = torch.stack([column, row], dim=1) + 0.5
    rows, columns, missing = _neighbours(middle, said.log_odds.shape[1:], 1)
    place = (frame[:, None], rows, columns)
    log_odds = said.log_odds[place].double().masked_fill(missing, -math.inf)
    values, widths = (v.permute(0, 2, 3, 1)[place].double() for v in (said.values, said.widths))
    apart = torch.linalg.vector_norm(values[..., :2] - values[:, 4:5, :2], dim=-1)
    log_odds = log_odds.masked_fill(apart > SAME_EMITTER_PX, -math.inf)
    weight = torch.sigmoid(log_odds)
    total = weight.sum(dim=1)
    share = (weight / total[:, None])[..., None]
    mean = (share * values).sum(dim=1)
    variance = (share * (widths**2 + (values - mean[:, None]) ** 2)).sum(dim=1)
    keep = (total >= threshold) & (log_odds.argmax(dim=1) == 4)  # the fifth of nine is the pixel
    parts = (frame, total.clamp(max=1), mean, variance.sqrt())
    return Reading(*(part[keep].cpu().numpy() for part in parts))


def _candidates(log_odds: torch.Tensor, least: float) -> torch.Tensor:
    """Frame, row and column (emitters, 3) of local maxima, and of pixels sure of themselves."""
    highest = functional.max_pool2d(log_odds[:, None], 3, stride=1, padding=1)[:, 0]
    probability = torch.sigmoid(log_odds)
    peak = (log_odds == highest) & (probability >= least)
    return (peak | (probability > SURE_OF_ITSELF)).nonzero()
