"""Speed of the main path, measured: `make bench` prints the table of benchmarks/README.md.

Ratios are against a plain NumPy or Numba version of the same work, run interleaved in the same
process on the same threads; every figure is the median of the rounds with the spread between the
quartiles. The plain versions are checked to do the same work, not the same bits.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np
from numba import njit, prange

import simscope as ss
from simscope.camera import camera_maps, detect
from simscope.keys import Key

ROUNDS = 7


def interleaved(works: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, list]:
    """Seconds of every round of every work, taken in turns after one warm-up each."""
    for work in works.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            begin = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - begin)
    return times


def rate(times: list[float], amount: float) -> str:
    """Median rate and its quartiles."""
    low, middle, high = np.percentile(amount / np.array(times), [25, 50, 75])
    return f"{middle:,.0f} ({low:,.0f} to {high:,.0f})"


def generation(name: str, count: int, samples: int) -> tuple[str, str]:
    """Frames per second written to HDF5, and in memory only."""
    data = ss.load_recipe(name).written()
    data["structure"] = {
        "kind": "uniform",
        "count": count,
        "z_nm": data["structure"]["z_nm"],
    }
    recipe = ss.Recipe.from_dict(data)
    simulator = ss.Simulator(recipe, 1)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "bench.h5"
        times = interleaved(
            {
                "file": lambda: ss.generate(recipe, samples, 1, out, force=True),
                "memory": lambda: [None for _ in simulator.chunks(0, samples)],
            },
            rounds=5,
        )
    return rate(times["file"], samples), rate(times["memory"], samples)


def numpy_scmos(photons, camera, maps, random):
    """The sCMOS pixel as one writes it in NumPy."""
    electrons = random.poisson(photons * camera.qe + camera.dark_e_per_s * 0.02)
    noisy = electrons + camera.read_noise_e * maps.read_noise * random.standard_normal(
        photons.shape
    )
    adu = maps.gain * noisy / camera.e_per_adu + camera.baseline_adu + maps.offset_adu
    return np.clip(np.floor(adu + 0.5), 0, 65535).astype(np.uint16)


def numpy_emccd(photons, camera, maps, random):
    """The EMCCD pixel as one writes it in NumPy."""
    mean = photons * camera.qe + camera.dark_e_per_s * 0.02 + camera.clock_induced_charge_e
    electrons = random.poisson(mean)
    output = np.where(electrons > 0, random.standard_gamma(np.maximum(electrons, 1)), 0.0)
    noisy = output * camera.em_gain + camera.read_noise_e * random.standard_normal(photons.shape)
    adu = noisy / camera.e_per_adu + camera.baseline_adu
    return np.clip(np.floor(adu + 0.5), 0, 65535).astype(np.uint16)


def cameras(threads: int) -> list[tuple[str, str, str, str]]:
    """Nanoseconds a pixel of each camera, ours and NumPy's (one thread)."""
    rows = []
    for name, plain in (("smlm-2d-dense", numpy_scmos), ("smlm-2d-dense-emccd", numpy_emccd)):
        camera = ss.load_recipe(name).camera
        key = Key(1)
        maps = camera_maps(camera, (64, 64), key)
        random = np.random.default_rng(1)
        for level in (1.0, 10.0, 100.0):
            photons = np.full((128, 64, 64), level, np.float32)
            photons *= random.uniform(0.5, 1.5, photons.shape).astype(np.float32)

            def ours(photons=photons, camera=camera, maps=maps, key=key):
                return detect(
                    photons, camera, maps, key, sample_index=0,
                    frame_index=np.arange(128), exposure_s=0.02,
                )  # fmt: skip

            def theirs(photons=photons, camera=camera, maps=maps, plain=plain, random=random):
                return plain(photons, camera, maps, random)

            numba.set_num_threads(threads)
            times = interleaved({"ours": ours, "numpy": theirs})
            nanoseconds = {k: np.median(v) / photons.size * 1e9 for k, v in times.items()}
            ratios = np.array(times["numpy"]) / np.array(times["ours"])
            rows.append(
                (
                    f"{camera.kind} pixel, {level:g} photons, {counted(threads)}",
                    f"{nanoseconds['ours']:.1f} ns",
                    f"NumPy, 1 thread: {nanoseconds['numpy']:.1f} ns",
                    spread(ratios),
                )
            )
    return rows


def counted(threads: int) -> str:
    """Number of threads in words."""
    return "1 thread" if threads == 1 else f"{threads} threads"


def spread(ratios: np.ndarray) -> str:
    """Median ratio and its quartiles."""
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    return f"{middle:.1f}x ({low:.1f} to {high:.1f})"


@njit(parallel=True, error_model="numpy")
def cspline_frames(coefficients, offsets, x, y, photons, out):
    """Emitters by the usual 64-coefficient cubic spline per voxel (SMAP and DECODE's scheme)."""
    window = coefficients.shape[1]
    for frame in prange(out.shape[0]):
        weights = np.empty(64, np.float32)
        for e in range(offsets[frame], offsets[frame + 1]):
            row, column = int(y[e]), int(x[e])
            dx, dy, dz = x[e] - column, y[e] - row, np.float32(0.3)
            k = 0
            wz = photons[e]
            for _ in range(4):
                wy = wz
                for _ in range(4):
                    wx = wy
                    for _ in range(4):
                        weights[k] = wx
                        k += 1
                        wx *= dx
                    wy *= dy
                wz *= dz
            for r in range(window):
                at_y = row - window // 2 + r
                if at_y < 0 or at_y >= out.shape[1]:
                    continue
                for c in range(window):
                    at_x = column - window // 2 + c
                    if at_x < 0 or at_x >= out.shape[2]:
                        continue
                    value = np.float32(0)
                    for k in range(64):
                        value += weights[k] * coefficients[0, r, c, k]
                    out[frame, at_y, at_x] += value


def rendering(threads: int) -> tuple[str, str, str, str]:
    """Emitters per second of the spline table against 64 coefficients a voxel."""
    recipe = ss.load_recipe("smlm-2d-dense").replace("rendering.window_px", 31)
    recipe = recipe.replace("structure.z_nm", {"uniform": [0, 600]})
    recipe = recipe.replace("rendering.accept_energy_loss", True)
    table = ss.Simulator(recipe, 1).table
    random = np.random.default_rng(1)
    frames, per_frame = 64, 20
    x, y = (random.uniform(0, 64, frames * per_frame).astype(np.float32) for _ in range(2))
    photons = np.full(x.size, 2000, np.float32)
    offsets = np.arange(0, x.size + 1, per_frame)
    out = np.zeros((frames, 64, 64), np.float32)
    coefficients = random.random((1, 31, 31, 64)).astype(np.float32)
    z = random.uniform(0, 600, x.size).astype(np.float32)
    numba.set_num_threads(threads)
    times = interleaved(
        {
            "ours": lambda: table.render(
                x * 100, y * 100, z, photons, offsets, (64, 64), threads=threads
            ),
            "cspline": lambda: cspline_frames(coefficients, offsets, x, y, photons, out),
        },
        rounds=25,
    )
    ratios = np.array(times["cspline"]) / np.array(times["ours"])
    return (
        f"emitter in 3-D, 31x31 px window, {counted(threads)}",
        f"{np.median(times['ours']) / x.size * 1e6:.2f} µs",
        f"64-coefficient spline: {np.median(times['cspline']) / x.size * 1e6:.2f} µs",
        spread(ratios),
    )


def main() -> None:
    """Measure and print the table."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    threads = int(numba.config.NUMBA_NUM_THREADS)
    print(f"{datetime.date.today()}, {platform.machine()}, {threads} cores, ", end="")
    print(f"Python {platform.python_version()}, numba {numba.__version__}\n")
    print("| work | written to HDF5, frames/s | in memory, frames/s |\n| --- | --- | --- |")
    for name, count, samples in (
        ("smlm-2d-dense", 20, 10_000),
        ("smlm-2d-dense-emccd", 20, 10_000),
        ("smlm-3d-tetrapod", 15, 1_000),
    ):
        written, memory = generation(name, count, samples)
        shape = "x".join(map(str, ss.load_recipe(name).acquisition.shape))
        print(f"| `{name}`, {shape} px, {count} emitters | {written} | {memory} |", flush=True)
    stacks = ss.Simulator("psf-zernike", 1)
    times = interleaved({"stacks": lambda: stacks.batch(0, 64)})["stacks"]
    print(f"| `psf-zernike`, 21x32x32 px, stacks/s | - | {rate(times, 64)} |")
    print("\n| work | ours | plain version | ratio |\n| --- | --- | --- | --- |")
    for count in sorted({1, threads}):
        for row in [*cameras(count), rendering(count)]:
            print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
