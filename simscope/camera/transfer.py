"""Camera gain and background from ordinary frames: the photon-transfer line of real images.

Shot noise makes the variance of a pixel a straight line in its mean, ``variance = mean_e / K**2 +
read**2`` with ``K`` electrons per count (Janesick 2007, *Photon Transfer*). In images with
structure, the noise is taken from the mixed second difference of 2x2 blocks, ``(a - b - c + d)/2``,
which has the variance of one pixel and no contribution from any linear slope (after Immerkær 1996,
CVIU 64:300), and the mean from the same blocks. Blocks are grouped by the mean of those around
them: grouped by their own, noise would widen the range of means and flatten the line.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simscope.errors import CameraError

Floats = npt.NDArray[np.float64]


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


def photon_transfer(frames_adu: npt.ArrayLike, *, points: int = 24) -> PhotonTransfer:
    """Gain and background of a camera from ordinary frames ``(frames, y, x)`` [ADU].

    The brightest fifth of the blocks is left out, where structure sharper than a block would pass
    for noise. An EM register doubles the slope: divide ``e_per_adu`` by 2 to allow for it.

    Raises
    ------
    CameraError
        If there are too few pixels, or the variance does not grow with the mean.
    """
    frames = np.asarray(frames_adu, np.float64)
    if frames.ndim != 3 or frames.size < 400 * points or not np.isfinite(frames).all():
        raise CameraError(
            f"frames of shape {frames.shape}: give finite (frames, y, x) with at least "
            f"{400 * points} pixels in all"
        )
    a, b, c, d = (frames[:, y::2, x::2] for y in (0, 1) for x in (0, 1))
    rows, columns = d.shape[1:]
    a, b, c = (part[:, :rows, :columns] for part in (a, b, c))
    blocks = (a + b + c + d) / 4
    noise, mean = ((a - b - c + d) / 2).ravel(), blocks.ravel()
    order = np.argsort(_around(blocks).ravel(), kind="stable")[: int(0.8 * mean.size)]
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
