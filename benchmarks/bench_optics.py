"""Speed of the optics: single stacks, aberrated stacks, table builds, rendered emitters.

    python benchmarks/bench_optics.py [stack] [zernike] [table]

Prints the best of several runs; use an idle machine and set the thread counts of BLAS and Numba in
the environment.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable

import numpy as np

from simscope.errors import SimscopeWarning
from simscope.optics import PupilModel, SplineTable, build_table, psf
from simscope.optics.field import with_wavefront
from simscope.recipe import Optics, TetrapodMask

PLAIN = Optics(na=1.4, wavelength_nm=600, method="pupil")
WAVEFRONT = {5: 30.0, 7: 20.0, 8: 15.0, 12: 25.0}
TETRAPOD = Optics(na=1.45, wavelength_nm=670, n_coverslip=1.518, mask=TetrapodMask())
THREADS = 2


def best_s(call: Callable[[], object], runs: int = 7) -> float:
    """Shortest wall time [s] of several runs after one to warm up."""
    call()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def bench_stack() -> None:
    """A 64x64x41 oil/water stack on the pupil: set-up, images, basis images, slopes, whole call."""
    z_nm = np.linspace(0, 2000, 41)
    setup = {"shape": (64, 64), "pixel_nm": 100.0, "z_nm": (0, 2000)}
    for name, strength in (("symmetric", {}), ("aberrated", WAVEFRONT)):
        optics = with_wavefront(PLAIN, strength)

        def model(chosen: Optics = optics) -> PupilModel:
            return PupilModel(chosen, **setup)

        ready = model()
        calls: dict[str, Callable[[], object]] = {
            "set-up": model,
            "images": lambda m=ready: m.images(z_nm),
            "basis images": lambda m=ready: m.basis_images(z_nm),
            "slopes": lambda m=ready: m.slopes(z_nm),
            "ss.psf": lambda o=optics: psf(o, z_nm, shape=(64, 64)),
        }
        print(
            f"64x64x41 {name}, {ready.nodes_across} nodes across, error {ready.error_estimate:.0e}"
        )
        for what, call in calls.items():
            print(f"    {what}: {1e3 * best_s(call, 15):.1f} ms")


def bench_zernike_stacks() -> None:
    modes = range(3, 15)
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(40, len(modes)))
    drawn *= 80 / np.linalg.norm(drawn, axis=1, keepdims=True)
    focus_nm = np.linspace(-1000, 1000, 21)
    for accuracy in (1e-3, 1e-4):
        model = PupilModel(
            PLAIN, shape=(32, 32), pixel_nm=100.0, focus_nm=(-1000, 1000), accuracy=accuracy,
            wavefront_limit_nm=dict.fromkeys(modes, 100 / np.sqrt(len(modes))),
        )  # fmt: skip
        seconds = best_s(lambda m=model: m.stacks(0.0, focus_nm, coefficients_nm=drawn))
        print(f"21x32x32 drawn wavefronts, accuracy {accuracy:g}: {40 / seconds:.0f} stacks/s")


def bench_table(name: str, optics: Optics, **request: float) -> SplineTable:
    start = time.perf_counter()
    table = build_table(optics, cache=None, accept_energy_loss=True, **request)
    seconds = time.perf_counter() - start
    left = 100 * table.energy_left_out[:, 1].max()
    print(
        f"table {name}: {seconds:.2f} s, {table.window_px} px, error {table.error:.1e}, "
        f"{left:.1f} % left out, {table.coefficients.nbytes / 1e6:.1f} MB"
    )
    return table


def bench_render(name: str, table: SplineTable, size: int, emitters: int) -> None:
    rng = np.random.default_rng(0)
    frames = 200
    x, y = rng.uniform(0, size * table.pixel_nm, (2, frames * emitters))
    z = rng.uniform(table.z0_nm, table.z_max_nm, frames * emitters)
    light = rng.uniform(500, 5000, frames * emitters)
    offsets = np.arange(frames + 1) * emitters
    out = np.zeros((frames, size, size), np.float32)
    for threads in (1, THREADS):
        seconds = best_s(
            lambda t=threads: table.render(x, y, z, light, offsets, (size, size), out, threads=t)
        )
        print(f"render {name}, {threads} threads: {1e6 * seconds / x.size:.2f} us per emitter")


def bench_tables() -> None:
    """Builds of flat and Tetrapod tables, and rendering from them."""
    flat = {"focus_nm": 0.0, "z_min_nm": 0.0, "z_max_nm": 0.0, "pixel_nm": 100.0}
    bench_render("flat, 31 px", bench_table("flat", PLAIN, window_px=31, **flat), 64, 20)
    bench_render("flat, automatic", bench_table("flat, automatic", PLAIN, **flat), 64, 20)
    deep = {"focus_nm": 1500.0, "z_min_nm": 0.0, "z_max_nm": 4000.0, "pixel_nm": 110.0}
    for window in (31, 61, 81):
        table = bench_table(f"Tetrapod {window} px", TETRAPOD, window_px=window, **deep)
        bench_render(f"Tetrapod, {window} px", table, 121, 15)


def main() -> None:
    warnings.simplefilter("ignore", SimscopeWarning)
    parts = {"stack": bench_stack, "zernike": bench_zernike_stacks, "table": bench_tables}
    for name in sys.argv[1:] or parts:
        parts[name]()


if __name__ == "__main__":
    main()
