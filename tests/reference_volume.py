"""Images of volumes point by point, from the definition: no transform, no shared images."""

import numpy as np

from simscope import psf


def summed_points(volume, optics, *, voxel_nm, z0_nm, focus_nm, window):
    """Expected photons (focus, y, x): every voxel's PSF, cut to its window, added in float64."""
    planes, height, width = volume.shape
    foci = np.atleast_1d(np.asarray(focus_nm, float))
    half = window // 2
    out = np.zeros((foci.size, height + 2 * half, width + 2 * half))
    for k in range(planes):
        z_nm = z0_nm + k * voxel_nm[0]
        image = psf(optics, z_nm, foci, (window, window), voxel_nm[1])
        for y in range(height):
            for x in range(width):
                out[:, y : y + window, x : x + window] += volume[k, y, x] * image
    return out[:, half : half + height, half : half + width]


def summed_convolution(planes, kernels):
    """Sum over k of planes (k, y, x) convolved with kernels (k, odd, odd), by four loops."""
    _, height, width = planes.shape
    half_y, half_x = kernels.shape[1] // 2, kernels.shape[2] // 2
    out = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            for v in range(max(0, y - half_y), min(height, y + half_y + 1)):
                for u in range(max(0, x - half_x), min(width, x + half_x + 1)):
                    out[y, x] += planes[:, v, u] @ kernels[:, y - v + half_y, x - u + half_x]
    return out
