"""Speed of the optics: single stacks, aberrated stacks, table builds, rendered emitters.

    python benchmarks/bench_optics.py

Prints the best of several runs; use an idle machine and set the thread counts of BLAS and Numba in
the environment.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

import numpy as np

from simscope.errors import SimscopeWarning
from simscope.optics import PupilModel, SplineTable, build_table
from simscope.recipe import Optics, TetrapodMask

PLAIN = Optics(na=1.4, wavelength_nm=600)
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
    wavefront = {5: 30.0, 7: 20.0, 8: 15.0, 12: 25.0}
    z_nm = np.linspace(0, 2000, 41)
    for name, strength in (("symmetric", None), ("aberrated", wavefront)):
        model = PupilModel(
            PLAIN, shape=(64, 64), pixel_nm=100.0, z_nm=(0, 2000), wavefront_limit_nm=strength
        )
        seconds = best_s(lambda m=model, w=strength: m.images(z_nm, 0.0, wavefront_nm=w))
        print(f"64x64x41 {name}, {model.nodes_across} nodes across: {1e3 * seconds:.0f} ms")


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
        seconds = best_s(
            lambda m=model: m.stacks(0.0, focus_nm, coefficients_nm=drawn, threads=THREADS)
        )
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


def main() -> None:
    warnings.simplefilter("ignore", SimscopeWarning)
    bench_stack()
    bench_zernike_stacks()
    flat = {"focus_nm": 0.0, "z_min_nm": 0.0, "z_max_nm": 0.0, "pixel_nm": 100.0}
    bench_render("flat, 31 px", bench_table("flat", PLAIN, window_px=31, **flat), 64, 20)
    bench_render("flat, automatic", bench_table("flat, automatic", PLAIN, **flat), 64, 20)
    deep = {"focus_nm": 1500.0, "z_min_nm": 0.0, "z_max_nm": 4000.0, "pixel_nm": 110.0}
    for window in (31, 61, 81):
        table = bench_table(f"Tetrapod {window} px", TETRAPOD, window_px=window, **deep)
        bench_render(f"Tetrapod, {window} px", table, 121, 15)


if __name__ == "__main__":
    main()
