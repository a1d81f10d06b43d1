"""Speed of rendering: emitters against the usual spline of 64 coefficients a voxel, and linearity.

``python benchmarks/bench_render.py`` prints the rows, emitters of every kind of table, and how cost
grows with emitters and pixels. The peer is the interpolation of SMAP and DECODE (Li et al. 2018,
Speiser et al. 2021) as one writes it well in Numba: powers once for an emitter, float32, lines of
neighbouring pixels for each coefficient, so that it vectorises. Its coefficients are those of the
same images as ours, and both render the same frames to its interpolation error.
"""

from __future__ import annotations

import argparse
import math
import time
from functools import cache
from typing import Any

import numba
import numpy as np
from numba import njit, prange
from scipy.ndimage import spline_filter
from timing import Row, duration, interleaved, on_threads

import simscope as ss
from simscope.kernels.lanes import LANES, load, store
from simscope.kernels.numeric import fma
from simscope.optics import GaussianSpots, SplineTable, build_table, gaussian_spots

WINDOW, HEIGHT_NM, PIXEL_NM = 31, 600.0, 100.0
FRAMES, PER_FRAME, SIDE = 64, 20, 64
BASIS = np.array([[1, 4, 1, 0], [-3, 0, 3, 0], [3, -6, 3, 0], [-1, 3, -3, 1]]) / 6.0
"""Powers of the fraction (rows) in the four nearest B-splines (columns)."""

OPTICS = {"na": 1.4, "wavelength_nm": 600, "n_sample": 1.45, "n_coverslip": 1.518}


@cache
def table(deep: bool = True, dipoles: bool = False) -> SplineTable:
    """A 31x31 px table with an error of at most 1e-3 of the peak."""
    return build_table(
        ss.Optics(**OPTICS), focus_nm=0.0, z_min_nm=0.0, z_max_nm=HEIGHT_NM if deep else 0.0,
        pixel_nm=PIXEL_NM, window_px=WINDOW, accept_energy_loss=True, dipoles=dipoles,
    )  # fmt: skip


@cache
def classic() -> np.ndarray:
    """Coefficients (heights, 64, row, column) float32 of a cubic spline through pixel images."""
    ours = table()
    count = ours.coefficients.shape[1] - 3  # as many height steps as ours
    z = np.linspace(0.0, HEIGHT_NM, count + 1)
    middle = np.full(z.size, (WINDOW // 2 + 0.5) * PIXEL_NM)
    images = ours.derivatives(middle, middle, z)[0]
    nodes = spline_filter(np.pad(images, ((0, 0), (2, 2), (2, 2))), order=3, mode="mirror")
    nodes = np.pad(nodes, ((1, 1), (0, 0), (0, 0)), mode="reflect")
    nodes = np.pad(nodes, ((0, 0), (0, 1), (0, 1)))
    size = WINDOW + 1
    taps = np.array([
        nodes[a : a + count, b : b + size, c : c + size]
        for a in range(4) for b in range(4) for c in range(4)
    ]).reshape(4, 4, 4, count, size, size)  # fmt: skip
    powers = np.einsum("ia,jb,kc,abczyx->zijkyx", BASIS, BASIS, BASIS, taps, optimize=True)
    return powers.reshape(count, 64, size, size).astype(np.float32)


@njit(parallel=True, fastmath=True, error_model="numpy", nogil=True)
def classic_frames(coefficients, offsets, x, y, z, photons, out):
    """Add emitters at (x, y) px and z height steps; frames on threads."""
    size = coefficients.shape[2]
    for frame in prange(out.shape[0]):
        weights = np.empty(64, np.float32)
        line = np.empty(size, np.float32)
        for e in range(offsets[frame], offsets[frame + 1]):
            left, top = -math.floor(0.5 - x[e]), -math.floor(0.5 - y[e])
            dx, dy = np.float32(0.5 - x[e] + left), np.float32(0.5 - y[e] + top)
            plane = min(int(z[e]), coefficients.shape[0] - 1)
            dz = np.float32(z[e] - plane)
            wz = photons[e]
            for i in range(4):
                wy = wz
                for j in range(4):
                    wx = wy
                    for k in range(4):
                        weights[16 * i + 4 * j + k] = wx
                        wx *= dx
                    wy *= dy
                wz *= dz
            left -= size // 2
            top -= size // 2
            low, high = max(0, -left), min(size, out.shape[2] - left)
            for r in range(max(0, -top), min(size, out.shape[1] - top)):
                line[:] = 0
                for k in range(64):
                    source = coefficients[plane, k, r]
                    w = weights[k]
                    for c in range(size):
                        line[c] += w * source[c]
                target = out[frame, top + r]
                for c in range(low, high):
                    target[left + c] += line[c]


def scene(frames: int = FRAMES, per_frame: int = PER_FRAME, side: int = SIDE) -> dict[str, Any]:
    """Emitters spread over frames; lengths in nm."""
    random, count = np.random.default_rng(1), frames * per_frame
    x, y = random.uniform(0, side * PIXEL_NM, (2, count))
    offsets = np.arange(0, count + 1, per_frame)
    photons = random.uniform(500, 4000, count)
    return {
        "x_nm": x, "y_nm": y, "z_nm": random.uniform(0, HEIGHT_NM, count),
        "photons": photons, "frame_offsets": offsets,
    }  # fmt: skip


def check_same_work() -> float:
    """Largest difference of peer and ours [brightest pixel]; refuses to go on if above 5e-2."""
    where = scene(4, 5)
    ours = table().render(**where, shape=(SIDE, SIDE))
    theirs = np.zeros_like(ours)
    peer(where, theirs)()
    inside = np.abs(ours - theirs).max() / ours.max()
    if not inside < 5e-2:
        raise AssertionError(f"peer and ours differ by {inside:.2g} of the brightest pixel")
    return float(inside)


def peer(where: dict[str, Any], out: np.ndarray) -> Any:
    """The peer's call for a scene."""
    step = HEIGHT_NM / classic().shape[0]
    x, y = (where[name] / PIXEL_NM for name in ("x_nm", "y_nm"))
    light = where["photons"].astype(np.float32)
    arguments = classic(), where["frame_offsets"], x, y, where["z_nm"] / step, light, out

    def on_one_thread() -> None:
        before = numba.get_num_threads()
        numba.set_num_threads(1)
        classic_frames(*arguments)
        numba.set_num_threads(before)

    return on_one_thread


@njit(error_model="numpy", nogil=True)
def fused(rounds, memory):
    """Eight independent chains of fused multiply-adds in registers."""
    a, b, c, d = load(memory, 0), load(memory, 16), load(memory, 32), load(memory, 48)
    e, f, g, h = load(memory, 64), load(memory, 80), load(memory, 96), load(memory, 112)
    w = np.float32(0.999)
    for _ in range(rounds):
        a, b, c, d = fma(w, a, a), fma(w, b, b), fma(w, c, c), fma(w, d, d)
        e, f, g, h = fma(w, e, e), fma(w, f, f), fma(w, g, g), fma(w, h, h)
    store(memory, 0, a + b + c + d + e + f + g + h)


@cache
def fused_per_s() -> float:
    """Fused multiply-adds of a core in a second, best of some rounds."""
    memory, rounds = np.zeros(8 * LANES, np.float32), 100_000
    times = interleaved({"fma": lambda: fused(rounds, memory)}, rounds=20)["fma"]
    return rounds * 8 * LANES / float(times.min())


def operations(planes: int, images: int, window: int = WINDOW, per_pixel: int = 2) -> int:
    """Fused multiply-adds of an emitter wholly on the frame: heights, rows, columns."""
    width = math.ceil(window / LANES) * LANES
    nodes = (per_pixel * (window - 1) + 4) * per_pixel * width
    heights = 0 if planes == images == 1 else min(planes, 4) * images * nodes
    return heights + 4 * window * per_pixel * width + 4 * window * width


def rows(threads: int) -> list[Row]:
    """Emitters in three dimensions against the usual spline."""
    check_same_work()
    where, ours = scene(), table()
    out, theirs = (np.zeros((FRAMES, SIDE, SIDE), np.float32) for _ in range(2))
    works = {
        "ours": lambda: ours.render(**where, shape=(SIDE, SIDE), out=out, threads=threads),
        "theirs": peer(where, theirs),
    }
    with on_threads(threads):
        times = interleaved(works, rounds=41)
    count = FRAMES * PER_FRAME
    floor = operations(ours.coefficients.shape[1], 1) / fused_per_s() / threads
    return [
        Row(
            "emitter, 31x31 px, 3-D", threads, "emitter", count, times["ours"],
            "64 coefficients a voxel, Numba, 1 thread", count, times["theirs"],
            2.6 if threads == 1 else 5.0, floor, "fused multiply-adds",
        )
    ]  # fmt: skip


def kinds() -> dict[str, tuple[SplineTable | GaussianSpots, dict[str, Any]]]:
    """Every way to render, and the scene's further arguments."""
    flat, dipoles = table(False), table(dipoles=True)
    where = scene()
    moments = np.tile([0.5, 0.3, 0.2, 0.1, 0.1, 0.0], (FRAMES * PER_FRAME, 1))
    spots = gaussian_spots(
        ss.Optics(model="gaussian", **OPTICS), focus_nm=0.0, z_min_nm=0.0, z_max_nm=HEIGHT_NM,
        pixel_nm=PIXEL_NM,
    )  # fmt: skip
    astigmatic = ss.recipe.PolynomialField(half_width_nm=3200, coefficients_nm={5: [[1, 0, 60.0]]})
    over_field = build_table(
        ss.Optics(field_dependence=astigmatic, **OPTICS), focus_nm=0.0, z_min_nm=0.0,
        z_max_nm=HEIGHT_NM, pixel_nm=PIXEL_NM, window_px=WINDOW, accept_energy_loss=True,
        frame_shape=(SIDE, SIDE),
    )  # fmt: skip
    return {
        "B-splines, one height": (flat, {"z_nm": 0 * where["z_nm"]}),
        "B-splines, heights": (table(), {}),
        "six images of a dipole": (
            dipoles, {"weights": dipoles.orientation_weights(moments, where["z_nm"])}
        ),
        "nodes over the field": (over_field, {}),
        "Gaussian": (spots, {}),
    }  # fmt: skip


def kinds_table() -> str:
    """Nanoseconds an emitter of every kind of rendering, one thread."""
    works = {
        name: lambda of=of, more=more: of.render(**scene() | more, shape=(SIDE, SIDE))
        for name, (of, more) in kinds().items()
    }
    with on_threads(1):
        times = interleaved(works, rounds=21)
    lines = ["| rendered from | an emitter, median | fastest round |", "| --- | --- | --- |"]
    for name, seconds in times.items():
        each = seconds / (FRAMES * PER_FRAME)
        lines.append(f"| {name} | {duration(np.median(each))} | {duration(each.min())} |")
    return "\n".join(lines)


def linearity() -> str:
    """Cost of a single frame by emitters and size, fastest rounds on one and two threads."""
    lines = [
        "| frame | emitters | 1 thread | 2 threads | an emitter, 1 thread | a pixel, 1 thread |"
    ]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for side in (32, 64, 256, 2048):
        for emitters in (1, 10, 100, 1000, 10_000):
            where, out = scene(1, emitters, side), np.zeros((1, side, side), np.float32)

            def work(threads, where=where, out=out, side=side):
                table().render(**where, shape=(side, side), out=out, threads=threads)

            works = {str(threads): (lambda t=threads: work(t)) for threads in (1, 2)}
            one, two = (float(times.min()) for times in interleaved(works, rounds=15).values())
            lines.append(
                f"| {side}x{side} | {emitters} | {duration(one)} | {duration(two)} | "
                f"{duration(one / emitters)} | {duration(one / side**2)} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Print all tables."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    begin = time.perf_counter()
    print(f"fused multiply-adds: {fused_per_s() / 1e9:.0f} G/s a core")
    print(f"peer against ours: {check_same_work():.1e} of the brightest pixel")
    print(Row.HEADER)
    for threads in (1, 2):
        for row in rows(threads):
            print(row)
    print(kinds_table())
    print(linearity())
    print(f"{time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
