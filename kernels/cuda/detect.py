"""Photons to counts on a GPU, one thread a Philox block: two pixels, or one with a register."""

import numpy as np
from numba import cuda

from simscope.kernels.cuda.launch import on_grid
from simscope.kernels.detect import (
    COUNTED,
    CUT,
    IMPOSSIBLE,
    SATURATED,
    SHOT_DRAW,
    count_pixel,
)
from simscope.kernels.normal_pair import normal_pair32
from simscope.kernels.philox import philox4x32

FRAMES = (
    "(float32[:, ::1], float32[:, ::1], float32[:, ::1], float32, uint32[::1], uint32[::1], "
    "uint32, uint32, uint16[:, ::1], int32[:, ::1])"
)


@cuda.jit(device=True)
def write_pixel(
    frame, pixel, words, normals, multiplies, photons, maps, parameters, top, step, sample, k0, k1,
    adu, counted,
):  # fmt: skip
    """Write the count of a pixel; one that is cut or impossible is counted."""
    row = parameters[frame]
    code, saturated, cut, impossible = count_pixel(
        photons[frame, pixel], words, normals, multiplies,
        (np.uint32(pixel), step[frame], sample[frame], k0, k1),
        (maps[0, pixel], maps[1, pixel], maps[2, pixel]),
        (row[0], row[1], row[2], row[3], row[4], row[5], row[6]), top,
    )  # fmt: skip
    adu[frame, pixel] = code
    if saturated:
        cuda.atomic.add(counted, (frame, SATURATED), 1)
    if cut:
        cuda.atomic.add(counted, (frame, CUT), 1)
    if impossible:
        cuda.atomic.add(counted, (frame, IMPOSSIBLE), 1)


@on_grid(FRAMES)
def detect_pairs(photons, maps, parameters, top, step, sample, k0, k1, adu, counted):
    """Counts of cameras without a register, two pixels a thread."""
    i = cuda.grid(1)
    pixels = photons.shape[1]
    blocks = (pixels + 1) // 2
    if i < photons.shape[0] * blocks:
        frame, left = i // blocks, 2 * (i % blocks)
        a, b, c, d = philox4x32(np.uint32(left // 2), step[frame], sample[frame], SHOT_DRAW, k0, k1)
        x, y = normal_pair32(np.uint32(b), np.uint32(d))
        for pixel in range(left, min(left + 2, pixels)):
            odd = pixel > left
            shot, normal = np.uint32(c if odd else a), np.float32(y if odd else x)
            write_pixel(
                frame, pixel, (shot, shot), (normal, normal), False, photons, maps, parameters,
                top, step, sample, k0, k1, adu, counted,
            )  # fmt: skip


@on_grid(FRAMES)
def detect_multiplied(photons, maps, parameters, top, step, sample, k0, k1, adu, counted):
    """Counts of cameras with a register, a pixel a thread."""
    i = cuda.grid(1)
    if i < photons.size:
        frame, pixel = i // photons.shape[1], i % photons.shape[1]
        a, b, c, d = philox4x32(np.uint32(pixel), step[frame], sample[frame], SHOT_DRAW, k0, k1)
        x, y = normal_pair32(np.uint32(b), np.uint32(c))
        write_pixel(
            frame, pixel, (np.uint32(a), np.uint32(d)), (np.float32(x), np.float32(y)), True,
            photons, maps, parameters, top, step, sample, k0, k1, adu, counted,
        )  # fmt: skip


def detect(xp, photons, maps, multiplies, parameters, top, step, sample, k0, k1, adu):
    """As ``detect.detect``, of arrays of ``xp``."""
    counted = xp.zeros((photons.shape[0], COUNTED), xp.int32)
    run = detect_multiplied if multiplies else detect_pairs
    threads = photons.shape[0] * (photons.shape[1] if multiplies else (photons.shape[1] + 1) // 2)
    run(threads, photons, maps, parameters, top, step, sample, k0, k1, adu, counted)
    return counted
