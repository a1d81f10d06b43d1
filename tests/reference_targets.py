"""Slow twins of what networks learn, written from their definitions."""

import math
from collections import Counter
from fractions import Fraction

import numpy as np


def counted(frame, z, y, x, shape, blur):
    """Emitters per voxel: of each a Gaussian, normalised over the voxels of the grid near it."""
    out = np.zeros(shape)
    reach = max(1, math.ceil(3 * blur)) if blur > 0 else 0
    for which, *place in zip(frame, z, y, x, strict=True):
        if not (
            0 <= place[0] <= shape[1] and 0 <= place[1] < shape[2] and 0 <= place[2] < shape[3]
        ):
            continue
        home = [min(int(p), size - 1) for p, size in zip(place, shape[1:], strict=True)]
        near = [
            [c for c in range(h - reach, h + reach + 1) if 0 <= c < size]
            for h, size in zip(home, shape[1:], strict=True)
        ]
        spot = {}
        for k in near[0]:
            for j in near[1]:
                for i in near[2]:
                    off = sum((c + 0.5 - p) ** 2 for c, p in zip((k, j, i), place, strict=True))
                    spot[k, j, i] = math.exp(-off / (2 * blur**2)) if blur else 1.0
        total = sum(spot.values())
        for voxel, value in spot.items():
            out[(which, *voxel)] += value / total
    return out


def majority(labels):
    """The most frequent label, of equals the lowest."""
    counts = Counter(int(label) for label in labels)
    most = max(counts.values(), default=0)
    return min((label for label, count in counts.items() if count == most), default=0)


def seen_from_above(labels):
    """Label of each column of (z, y, x): what most of its voxels bear, background left out."""
    _, height, width = labels.shape
    return np.array([
        [majority(v for v in labels[:, y, x] if v > 0) for x in range(width)]
        for y in range(height)
    ])  # fmt: skip


def on_pixels(fine, per_pixel):
    """Label of each pixel: what most of its fine cells bear, background counted as 0."""
    height, width = (side // per_pixel for side in fine.shape)
    return np.array([
        [
            majority(fine[y * per_pixel :, x * per_pixel :][:per_pixel, :per_pixel].ravel())
            for x in range(width)
        ]
        for y in range(height)
    ])  # fmt: skip


def zernike_polynomial(n, m, rho, phi):
    """Zernike mode of unit RMS at one point, by the sum of factorials in exact arithmetic."""
    radial = 0.0
    for k in range((n - abs(m)) // 2 + 1):
        above = (-1) ** k * math.factorial(n - k)
        below = math.factorial(k) * math.factorial((n + abs(m)) // 2 - k)
        below *= math.factorial((n - abs(m)) // 2 - k)
        radial += float(Fraction(above, below)) * rho ** (n - 2 * k)
    if m == 0:
        return math.sqrt(n + 1) * radial
    wave = math.cos(m * phi) if m > 0 else math.sin(-m * phi)
    return math.sqrt(2 * (n + 1)) * radial * wave
