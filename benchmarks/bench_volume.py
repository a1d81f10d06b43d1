"""Volumes of 64 x 256 x 256 voxels, every plane with its own PSF, against SciPy's fftconvolve.

    python benchmarks/bench_volume.py

Both sides are handed the PSFs (computed and, on our side, transformed once beforehand, as for a
data set), work in float32, keep the frame's size and are checked against float64. SciPy convolves
each plane with its PSF and adds; for a stack of foci, each plane with its PSF at each focus. One
convolution in three dimensions makes a whole focus stack, but with the same PSF at every depth:
right only where indices match.
"""

from __future__ import annotations

import time

import numpy as np
import scipy.fft
import scipy.signal
from timing import Row, interleaved, on_threads

import simscope as ss
from simscope.optics import VolumeImager, Voxels

PLANES, SIDE, PITCH_NM = 64, 256, 100.0
MIDDLE_NM = 0.5 * (PLANES - 1) * PITCH_NM
ACCURACY = 1e-6
OPTICS = ss.Optics(na=1.2, wavelength_nm=600, n_sample=1.33, n_immersion=1.33)
VOXELS = Voxels((PLANES, SIDE, SIDE), (PITCH_NM,) * 3, 0.0)
BARS = {1: 2.5, 2: 4.5}


def photons() -> np.ndarray:
    """A volume of unlike voxels."""
    return np.random.default_rng(1).gamma(2.0, 50.0, VOXELS.shape).astype(np.float32)


def plane_by_plane(volume: np.ndarray, psfs: np.ndarray) -> np.ndarray:
    """Images (focus, y, x): every plane by SciPy with its PSF, ``psfs`` (focus, z, y, x)."""
    out = np.zeros((len(psfs), *volume.shape[1:]), np.float32)
    for k, kernels in enumerate(psfs):
        for plane, kernel in zip(volume, kernels, strict=True):
            out[k] += scipy.signal.fftconvolve(plane, kernel, mode="same")
    return out


def set_up(foci_nm: np.ndarray) -> tuple[VolumeImager, np.ndarray]:
    """Our imager, and SciPy's PSFs (focus, z, y, x) in the same window."""
    imager = VolumeImager(OPTICS, VOXELS, foci_nm, PITCH_NM, accuracy=ACCURACY)
    window = (imager.window_px,) * 2
    psfs = [ss.psf(OPTICS, VOXELS.heights_nm, focus, window, PITCH_NM) for focus in foci_nm]
    return imager, np.array(psfs, np.float32)


def check(volume: np.ndarray, imager: VolumeImager, psfs: np.ndarray) -> None:
    """Both sides make the image that float64 makes, to float32's precision."""
    exact = plane_by_plane(volume.astype(np.float64), psfs[:1].astype(np.float64))[0]
    for seen in (imager.image(volume)[0], plane_by_plane(volume, psfs[:1])[0]):
        assert np.abs(seen - exact).max() < 2e-6 * exact.max()


def least_s(imager: VolumeImager, volume: np.ndarray, threads: int) -> float:
    """Seconds of the least these modes cost here: mixing planes, transforms of modes and foci."""
    foci, modes = len(imager.image(volume)), imager.modes
    side = scipy.fft.next_fast_len(SIDE + imager.window_px // 2, real=True)
    fields = np.ones((modes + foci, side, side), np.float32)
    mix, flat = np.ones((modes, PLANES), np.float32), volume.reshape(PLANES, -1)
    works = {
        "transform": lambda: scipy.fft.rfft2(fields, workers=threads),
        "mix": lambda: mix @ flat,
    }
    return sum(float(seconds.min()) for seconds in interleaved(works, 5).values())


def row(work: str, foci_nm: np.ndarray, threads: int, rounds: int, bar: float) -> Row:
    """Images at these foci against plane by plane on as many threads."""
    volume = photons()
    with on_threads(threads), scipy.fft.set_workers(threads):
        imager, psfs = set_up(foci_nm)
        check(volume, imager, psfs)
        times = interleaved(
            {"ours": lambda: imager.image(volume), "scipy": lambda: plane_by_plane(volume, psfs)},
            rounds,
        )
        return Row(
            f"{work}, {PLANES}x{SIDE}x{SIDE}, window {imager.window_px} px, "
            f"{imager.modes} of {PLANES} images",
            threads, "volume", 1, times["ours"], f"fftconvolve a plane, threads: {threads}",
            1, times["scipy"], bar, least_s(imager, volume, threads), "transforms and mixing",
        )  # fmt: skip


def whole_row(threads: int) -> Row:
    """A focus stack as deep as the volume against one convolution in three dimensions."""
    volume = photons()
    with on_threads(threads), scipy.fft.set_workers(threads):
        imager = VolumeImager(OPTICS, VOXELS, VOXELS.heights_nm, PITCH_NM, accuracy=1e-4)
        window = (imager.window_px,) * 2
        defocus = PITCH_NM * np.arange(-PLANES + 1, PLANES)
        kernel = ss.psf(OPTICS, -defocus, 0.0, window, PITCH_NM).astype(np.float32)

        def whole() -> np.ndarray:
            return scipy.signal.fftconvolve(volume, kernel, mode="same")

        seen, exact = imager.image(volume), whole()
        assert np.abs(seen - exact).max() < 2e-4 * exact.max()
        times = interleaved({"ours": lambda: imager.image(volume), "scipy": whole}, 3)
        return Row(
            f"{PLANES} foci of it, {imager.modes} of {PLANES} images, any PSFs", threads, "stack",
            1, times["ours"], "one 3-D fftconvolve, PSFs alike at all depths", 1, times["scipy"],
        )  # fmt: skip


def first_call() -> tuple[float, float]:
    """Seconds to set up an imager, and from optics to the first image."""
    begin = time.perf_counter()
    imager = VolumeImager(OPTICS, VOXELS, [MIDDLE_NM], PITCH_NM, accuracy=ACCURACY)
    ready = time.perf_counter() - begin
    imager.image(photons())
    return ready, time.perf_counter() - begin


def rows(threads: int) -> list[Row]:
    """One image, three foci, and a deep stack against a convolution in three dimensions."""
    middle = np.array([MIDDLE_NM])
    few = MIDDLE_NM + np.array([-1000.0, 0.0, 1000.0])
    return [
        row("depth-varying 3-D convolution", middle, threads, 11, BARS[threads]),
        row("three foci", few, threads, 5, 0.0),
        whole_row(threads),
    ]


if __name__ == "__main__":
    print(Row.HEADER)
    for count in (1, 2):
        for line in rows(count):
            print(line, flush=True)
    first_call()
    ready, image = first_call()
    print(f"\nset-up {ready:.3f} s, from optics to the first image {image:.3f} s")
