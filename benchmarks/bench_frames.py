"""Whole frames, from drawn emitters to counts: in memory, and written to HDF5.

    python benchmarks/bench_frames.py

The published figure of DECODE (Speiser et al. 2021, Nat. Methods 18, 1082), 1,770 frames/s with
10 emitters and an EMCCD, was measured on a machine like the one of benchmarks/README.md. Its
scheme stands here as well, as one would write it today: emitters as 64-coefficient cubic splines
in Numba on as many threads, the noise by NumPy.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numba
import numpy as np
from numba import njit, prange
from timing import Row, interleaved, on_threads

import simscope as ss
from simscope.camera import detect

PUBLISHED_PER_S = 1770.0
FRAMES = 4096
PLAIN_FRAMES = 256
CASES = (
    # recipe, emitters, bars against the published figure on 1 and 2 threads
    ("smlm-2d-dense", 20, (28_000 / PUBLISHED_PER_S, 56_000 / PUBLISHED_PER_S)),
    ("smlm-2d-dense-emccd", 10, (20.0, 40.0)),
)


def with_count(name: str, count: int) -> ss.Recipe:
    """A packaged recipe with so many emitters in every frame."""
    recipe = ss.load_recipe(name)
    z_nm = recipe.written()["structure"]["z_nm"]
    return recipe.replace("structure", {"kind": "uniform", "count": count, "z_nm": z_nm})


@njit(parallel=True, fastmath=True, error_model="numpy")
def add_cubic_splines(coefficients, x, y, photons, out):
    """Add emitters (frame, k) to frames by 64 coefficients a voxel, weights once an emitter."""
    window = coefficients.shape[0]
    for frame in prange(out.shape[0]):
        weights = np.empty(64, np.float32)
        for e in range(x.shape[1]):
            row, column = int(y[frame, e]), int(x[frame, e])
            dx, dy, dz = x[frame, e] - column, y[frame, e] - row, np.float32(0.3)
            for k in range(64):
                weights[k] = (
                    photons[frame, e] * dx ** (k % 4) * dy ** (k // 4 % 4) * dz ** (k // 16)
                )
            top, left = row - window // 2, column - window // 2
            for r in range(max(0, -top), min(window, out.shape[1] - top)):
                for c in range(max(0, -left), min(window, out.shape[2] - left)):
                    value = np.float32(0)
                    for k in range(64):
                        value += weights[k] * coefficients[r, c, k]
                    out[frame, top + r, left + c] += value


class PlainFrames:
    """The usual way to the same frames: splines, then background and noise by NumPy."""

    def __init__(self, simulator: ss.Simulator, emitters: int) -> None:
        self.camera = simulator.resolved.camera
        self.maps = simulator.maps
        self.emitters = emitters
        self.random = np.random.default_rng(1)
        window = simulator.table.window_px
        axis = np.arange(window) - window // 2
        self.coefficients = np.zeros((window, window, 64), np.float32)
        spot = np.exp(-(axis**2) / (2 * 1.3**2))
        self.coefficients[:, :, 0] = np.outer(spot, spot) / spot.sum() ** 2

    def __call__(self) -> np.ndarray:
        """Counts of some frames, uint16."""
        shape = (PLAIN_FRAMES, self.emitters)
        x, y = (self.random.uniform(0, 64, shape).astype(np.float32) for _ in range(2))
        photons = self.random.gamma(4, 500, shape).astype(np.float32)
        frames = np.zeros((PLAIN_FRAMES, 64, 64), np.float32)
        add_cubic_splines(self.coefficients, x, y, photons, frames)
        return self.read_out(frames + np.float32(10))

    def read_out(self, photons: np.ndarray) -> np.ndarray:
        """Counts of a CCD, sCMOS or EMCCD as one writes it in NumPy."""
        camera, maps, random = self.camera, self.maps, self.random
        dark_e = camera.dark_e_per_s * 0.02 + getattr(camera, "clock_induced_charge_e", 0.0)
        electrons = random.poisson(camera.qe * photons + dark_e).astype(np.float32)
        if camera.kind == "emccd":
            output = random.standard_gamma(np.maximum(electrons, 1), dtype=np.float32)
            electrons = np.where(electrons > 0, output * np.float32(camera.em_gain), 0)
        noise = random.standard_normal(photons.shape, dtype=np.float32)
        read = electrons + np.float32(camera.read_noise_e) * maps.read_noise * noise
        adu = maps.gain * read / camera.e_per_adu + camera.baseline_adu + maps.offset_adu
        return np.clip(np.floor(adu + 0.5), 0, 65535).astype(np.uint16)


def simulated(simulator: ss.Simulator, frames: int) -> None:
    """Simulate samples of one frame each, a chunk at a time, as a training loop would."""
    for _ in simulator.chunks(0, frames):
        pass


def kernels_alone_s(simulator: ss.Simulator) -> float:
    """Seconds a frame needs in renderer and camera with all input laid out before."""
    batch = simulator.batch(0, 256, expected=True)
    emitters, table = batch.emitters, simulator.table
    columns = [np.ascontiguousarray(emitters[c]) for c in ("x_nm", "y_nm", "z_nm", "photons")]
    photons = batch.expected_photons
    key, acquisition = simulator.key, simulator.resolved.acquisition
    works = {
        "render": lambda: table.render(
            *columns, batch.emitter_offsets, (64, 64), threads=numba.get_num_threads()
        ),
        "detect": lambda: detect(
            photons, simulator.resolved.camera, simulator.maps, key, sample_index=np.arange(256),
            frame_index=0, exposure_s=acquisition.exposure_ms * 1e-3,
        ),
    }  # fmt: skip
    return sum(float(np.median(times)) for times in interleaved(works).values()) / 256


def check_same_work(simulator: ss.Simulator, plain: PlainFrames) -> None:
    """Raise unless both make frames of alike mean and spread."""
    ours, theirs = simulator.batch(0, PLAIN_FRAMES).images, plain()
    baseline = plain.camera.baseline_adu
    ratio = (ours.mean() - baseline) / (theirs.mean() - baseline)
    if not 0.8 < ratio < 1.25:
        raise RuntimeError(f"the frames compared differ in light by a factor of {ratio:.2f}")


def rows(threads: int) -> list[Row]:
    """Whole frames in memory against DECODE's scheme, here and as published."""
    made = []
    for name, emitters, bars in CASES:
        simulator = ss.Simulator(with_count(name, emitters), 1, threads=threads)
        plain = PlainFrames(simulator, emitters)
        with on_threads(threads):
            check_same_work(simulator, plain)
            floor_s = kernels_alone_s(simulator)
            times = interleaved(
                {"ours": lambda s=simulator: simulated(s, FRAMES), "plain": plain}, rounds=9
            )
        kind = simulator.resolved.camera.kind
        work = f"64x64 frame, {emitters} emitters, background, {kind}"
        ours = dict(work=work, threads=threads, unit="frame", amount=FRAMES, ours=times["ours"])
        limit = dict(floor_s=floor_s, bound="renderer and camera alone")
        published = np.full_like(times["ours"], 1 / PUBLISHED_PER_S)
        made += [
            Row(**ours, peer="DECODE as published", their_amount=1, theirs=published,
                bar=bars[threads > 1], **limit),
            Row(**ours, peer="its scheme in Numba and NumPy", their_amount=PLAIN_FRAMES,
                theirs=times["plain"]),
        ]  # fmt: skip
    return made


WRITTEN = (
    ("smlm-2d-dense", 20, 8192),
    ("smlm-2d-dense-emccd", 20, 8192),
    ("smlm-3d-tetrapod", 15, 768),
)


def written() -> str:
    """Markdown table of frames per second in memory and written to HDF5, all threads."""
    lines = ["| work | written to HDF5, frames/s | in memory, frames/s |", "| --- | --- | --- |"]
    for name, emitters, samples in WRITTEN:
        recipe = with_count(name, emitters)
        simulator = ss.Simulator(recipe, 1)
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "bench.h5"
            times = interleaved(
                {
                    "file": lambda r=recipe, n=samples, o=out: ss.generate(r, n, 1, o, force=True),
                    "memory": lambda s=simulator, n=samples: simulated(s, n),
                },
                rounds=5,
            )
        shape = "x".join(map(str, recipe.acquisition.shape))
        rates = (rate(times[way], samples) for way in ("file", "memory"))
        lines.append(f"| `{name}`, {shape} px, {emitters} emitters | " + " | ".join(rates) + " |")
    return "\n".join(lines)


def rate(times: np.ndarray, amount: float) -> str:
    """Median rate and its quartiles."""
    low, middle, high = np.percentile(amount / times, [25, 50, 75])
    return f"{middle:,.0f} ({low:,.0f} to {high:,.0f})"


def main() -> None:
    """Print the rows on one thread and on two."""
    print(Row.HEADER)
    for threads in sorted({1, int(numba.config.NUMBA_NUM_THREADS)}):
        for row in rows(threads):
            print(row, flush=True)


if __name__ == "__main__":
    begin = time.perf_counter()
    main()
    print(f"\n{time.perf_counter() - begin:.0f} s")
