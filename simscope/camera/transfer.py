"""Camera gain and background from ordinary frames: the photon-transfer line of real images.

Shot noise makes the variance of a pixel a straight line in its mean, ``variance = mean_e / K**2 +
read**2`` with ``K`` electrons per count (Janesick 2007, *Photon Transfer*). In images with
structure, the noise is taken from the mixed second difference of 2x2 blocks, ``(a - b - c + d)/2``,
which has the variance of one pixel and no contribution from any linear slope (after Immerkær 1996,
CVIU 64:300), and the mean from the same blocks. Blocks are grouped by the mean of those around
them: grouped by their own, noise would widen the range of means and flatten the line.

Spots a pixel or two wide are no slopes. For frames full of them the noise is taken from sixth
differences along both axes, whose response ``(2 sin k/2)^6`` leaves of such light, which has no
high frequencies in both directions, a few percent of its shot noise (as Heintzmann et al. 2018,
arXiv:1611.05654, take noise from outside the pupil's band); the mean is that of the same pixels,
weighted by the squares of the filter, as the noise is.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np
import numpy.typing as npt

from simscope.errors import CameraError

Floats = npt.NDArray[np.float64]
ORDER = 6
"""Differences that leave noise alone of an image of spots."""


@dataclass(frozen=True)
class PhotonTransfer:
    """What ordinary frames tell of the camera.

    ``e_per_adu`` from the slope; ``variance_at_zero_adu2`` the line's value at 0 ADU, which mixes
    read noise and offset: ``read_adu**2 - baseline_adu / e_per_adu``. ``mean_adu`` and
    ``variance_adu2`` are the points of the line, ``background_adu`` the dimmest percent of blocks'
    mean and ``typical_adu`` the median.
    """

    e_per_adu: float
    variance_at_zero_adu2: float
    background_adu: float
    typical_adu: float
    mean_adu: Floats
    variance_adu2: Floats

    def baseline_adu(self, read_noise_e: float) -> float:
        """Offset [ADU] if the read noise [e] is known, from the data sheet, say."""
        read_adu2 = (read_noise_e / self.e_per_adu) ** 2
        return (read_adu2 - self.variance_at_zero_adu2) * self.e_per_adu

    def read_noise_e(self, baseline_adu: float) -> float:
        """Read noise [e] if the offset [ADU] is known.

        Raises
        ------
        CameraError
            If the offset is so high that no read noise is left.
        """
        read_adu2 = self.variance_at_zero_adu2 + baseline_adu / self.e_per_adu
        if read_adu2 < 0:
            lowest = -self.variance_at_zero_adu2 * self.e_per_adu
            raise CameraError(
                f"baseline_adu={baseline_adu:g} leaves a negative read noise: the line needs at "
                f"least {lowest:.1f} ADU; raise baseline_adu"
            )
        return float(np.sqrt(read_adu2) * self.e_per_adu)


def _around(blocks: Floats) -> Floats:
    """Mean of the eight blocks around each block of ``(frames, y, x)``, mirrored at the edges."""
    padded = np.pad(blocks, ((0, 0), (1, 1), (1, 1)), mode="reflect")
    rows, columns = blocks.shape[1:]
    total = sum(padded[:, y : y + rows, x : x + columns] for y in range(3) for x in range(3))
    return np.asarray((total - blocks) / 8)


def photon_transfer(
    frames_adu: npt.ArrayLike, *, points: int = 24, spots: bool = False
) -> PhotonTransfer:
    """Gain and background of a camera from ordinary frames ``(frames, y, x)`` [ADU].

    The brightest fifth of the blocks is left out, where structure sharper than a block would pass
    for noise. With ``spots``, for frames of molecules sampled at no less than one pixel a standard
    deviation, all but the brightest twentieth of pixels count. An EM register doubles the slope:
    multiply ``e_per_adu`` by 2 to allow for it, which gives electrons before the register.

    Raises
    ------
    CameraError
        If there are too few pixels, or the variance does not grow with the mean.
    """
    frames = np.asarray(frames_adu, np.float64)
    if (
        frames.ndim != 3
        or frames.size < 400 * points
        or min(frames.shape[1:]) <= ORDER
        or not np.isfinite(frames).all()
    ):
        raise CameraError(
            f"frames of shape {frames.shape}: give finite (frames, y, x) with at least "
            f"{400 * points} pixels in all, more than {ORDER} along each side"
        )
    noise, mean, rank = _sixth_differences(frames) if spots else _second_differences(frames)
    order = np.argsort(rank, kind="stable")[: int((0.95 if spots else 0.8) * mean.size)]
    groups = np.array_split(order, points)
    means = np.array([mean[group].mean() for group in groups])
    variances = np.array([(noise[group] ** 2).mean() for group in groups])
    slope, at_zero = np.polyfit(means, variances, 1, w=1 / np.maximum(variances, 1e-12))
    if not slope > 0:
        raise CameraError(
            f"variance changes by {slope:.3g} ADU per ADU of mean: these frames show no shot "
            "noise; give raw frames with some variation of brightness"
        )
    return PhotonTransfer(
        e_per_adu=float(1 / slope),
        variance_at_zero_adu2=float(at_zero),
        background_adu=float(mean[order[: mean.size // 100]].mean()),
        typical_adu=float(np.median(mean)),
        mean_adu=means,
        variance_adu2=variances,
    )


def _second_differences(frames: Floats) -> tuple[Floats, Floats, Floats]:
    """Noise, mean, and what to group by, of 2x2 blocks, each flat."""
    a, b, c, d = (frames[:, y::2, x::2] for y in (0, 1) for x in (0, 1))
    rows, columns = d.shape[1:]
    a, b, c = (part[:, :rows, :columns] for part in (a, b, c))
    blocks = (a + b + c + d) / 4
    return ((a - b - c + d) / 2).ravel(), blocks.ravel(), _around(blocks).ravel()


def _sixth_differences(frames: Floats) -> tuple[Floats, Floats, Floats]:
    """Noise, mean and again the mean around every pixel with three on all sides, each flat."""
    squares = np.array([comb(ORDER, k) for k in range(ORDER + 1)], float) ** 2
    noise = np.diff(np.diff(frames, ORDER, axis=1), ORDER, axis=2) / squares.sum()
    mean = frames
    for axis in (1, 2):
        count = mean.shape[axis] - ORDER
        parts = (np.take(mean, range(k, k + count), axis) for k in range(ORDER + 1))
        mean = sum(weight * part for weight, part in zip(squares, parts, strict=True))
    mean = mean / squares.sum() ** 2
    return noise.ravel(), mean.ravel(), mean.ravel()
