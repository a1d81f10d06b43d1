"""Speed of the camera: whole sCMOS and EMCCD pixels against plain NumPy.

    python benchmarks/bench_camera.py

Frames of 64x64 px whose mean electrons are log-uniform from 0.5 to 300, so that dim and bright
pixels lie side by side. The plain version draws Poisson, gamma and normal numbers with a NumPy
generator in single precision where there is one, and works in place. The limit is the camera's own
arithmetic, if Philox, two logarithms and the reading and writing of a pixel were all there is.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np
import numpy.typing as npt
from timing import Row, interleaved, on_threads

from simscope.camera import CameraMaps, camera_maps, detect
from simscope.camera.settings import Camera
from simscope.kernels.detect import normals_for_one, words_for_one, words_for_two
from simscope.keys import Key
from simscope.recipe.camera import EMCCD, SCMOS

FRAMES, SHAPE = 512, (64, 64)
PIXELS = FRAMES * SHAPE[0] * SHAPE[1]
DIMMEST_E, BRIGHTEST_E = 0.5, 300.0
KEY = Key(5)
CAMERAS: dict[str, tuple[Camera, float, float]] = {
    "sCMOS pixel": (
        SCMOS(
            qe=0.8, read_noise_e=1.5, e_per_adu=0.45, offset_std_adu=2.0, gain_std=0.02,
            read_noise_sigma_log=0.3,
        ), 12.0, 24.0,
    ),
    "EMCCD pixel": (
        EMCCD(qe=0.9, em_gain=300, read_noise_e=50, e_per_adu=20, clock_induced_charge_e=0.002),
        7.0, 14.0,
    ),
}  # fmt: skip
Images = npt.NDArray[np.float32]


def light(camera: Camera) -> Images:
    """Photons whose electrons are log-uniform, float32 (frame, y, x)."""
    rng = np.random.default_rng(1)
    electrons = np.exp(rng.uniform(np.log(DIMMEST_E), np.log(BRIGHTEST_E), (FRAMES, *SHAPE)))
    return (electrons / float(camera.qe)).astype(np.float32)  # type: ignore[arg-type]


def plain(photons: Images, camera: Camera, maps: CameraMaps, rng: np.random.Generator) -> Images:
    """Counts by NumPy, as one writes them: Poisson, gamma, normal, maps, rounding, uint16."""
    dark = camera.clock_induced_charge_e if isinstance(camera, EMCCD) else 0.0
    signal = rng.poisson(photons * np.float32(camera.qe) + np.float32(dark)).astype(np.float32)
    if isinstance(camera, EMCCD):
        signal = rng.standard_gamma(signal, dtype=np.float32) * np.float32(camera.em_gain)
    noise = rng.standard_normal(signal.shape, dtype=np.float32)
    noise *= maps.read_noise * np.float32(camera.read_noise_e)
    signal += noise
    signal *= maps.gain / np.float32(camera.e_per_adu)
    signal += maps.offset_adu + np.float32(camera.baseline_adu)
    np.rint(signal, out=signal)
    np.clip(signal, 0, 2**camera.bit_depth - 1, out=signal)
    return signal.astype(np.uint16)


def ours(photons: Images, camera: Camera, maps: CameraMaps) -> Callable[[], Images]:
    """Detection of these frames, as the simulator calls it."""
    frames = np.arange(FRAMES)
    return lambda: detect(
        photons, camera, maps, KEY, sample_index=0, frame_index=frames, exposure_s=0.0
    )[0]


def check_same_work(ours_adu: Images, plain_adu: Images, camera: Camera) -> None:
    """Refuse to compare works whose counts differ by more than their noise.

    ``sum(adu)`` of either has a relative standard error of 1e-3 or less, of the squares 4e-3.
    """
    for power, room in ((1, 0.01), (2, 0.04)):
        a, b = (np.mean(adu.astype(np.float64) ** power) for adu in (ours_adu, plain_adu))
        if abs(a / b - 1) > room:
            raise AssertionError(f"{camera.kind}: mean count to the {power} is {a:g}, not {b:g}")


@numba.njit(error_model="numpy", nogil=True)
def words_alone(single: bool, tiles: int, words: Images, normals: Images) -> None:
    """The random numbers of so many tiles and nothing else."""
    zero = np.uint32(0)
    for tile in range(tiles):
        step = np.uint32(tile)
        if single:
            words_for_one(words[0], words[1], words[2], words[3], 0, step, zero, np.uint32(1), zero)
            normals_for_one(words[1], words[2], normals[0], normals[1])
        else:
            words_for_two(words[0], normals[0], 0, step, zero, np.uint32(1), zero)


def floor_s(camera: Camera, threads: int) -> float:
    """Least seconds a pixel can cost: its Philox words and read noise, nothing else."""
    size = 1024
    words, normals = np.empty((4, size), np.uint32), np.empty((2, size), np.float32)
    tiles = PIXELS // size
    single = isinstance(camera, EMCCD)
    times = interleaved({"words": lambda: words_alone(single, tiles, words, normals)})
    return float(np.median(times["words"])) / PIXELS / threads


def rows(threads: int) -> list[Row]:
    """A row of each camera; NumPy on one thread, for it has no more."""
    found = []
    for work, (camera, *bars) in CAMERAS.items():
        photons, maps = light(camera), camera_maps(camera, SHAPE, KEY)
        rng = np.random.default_rng(2)
        works = {
            "ours": ours(photons, camera, maps),
            "plain": lambda p=photons, c=camera, m=maps, r=rng: plain(p, c, m, r),
        }
        check_same_work(works["ours"](), works["plain"](), camera)
        with on_threads(threads):
            times = interleaved(works, 9)
        found.append(
            Row(
                work=f"{work}, means 0.5 to 300", threads=threads, unit="pixel", amount=PIXELS,
                ours=times["ours"], peer="NumPy, 1 thread", their_amount=PIXELS,
                theirs=times["plain"], bar=bars[threads > 1], floor_s=floor_s(camera, threads),
                bound="random words and read noise alone",
            )
        )  # fmt: skip
    return found


def main() -> None:
    print(Row.HEADER)
    for threads in (1, 2):
        for row in rows(threads):
            print(row)


if __name__ == "__main__":
    main()
