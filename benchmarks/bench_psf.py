"""Point spread functions against other packages: `make bench-psf` prints the tables.

    python benchmarks/bench_psf.py [--rounds 7] [--skip-errors]

Speed: every work is run in turns with the others in this one process, warmed up once; figures are
medians with their quartiles. Errors: worst over a 33x33x11 stack as a share of its peak, against
the brute-force quadrature of tests/reference.py, of ours and of the peers alike; peers' stacks are
scaled to fit best, since most are not normalised. Peers that are not installed are left out with a
word: `pip install simscope[peers]`. Set the threads of BLAS, Numba and OpenMP in the environment.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import numba
import numpy as np
from timing import interleaved

import simscope as ss
from simscope.optics import PupilModel, build_table

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import reference

INDEX = 1.515
OIL_WATER = ss.Optics(
    na=1.4, wavelength_nm=600, n_sample=1.33, n_immersion=INDEX, n_coverslip=INDEX
)
ABERRATION_NM = {5: 30.0, 7: 20.0, 8: 15.0, 12: 25.0}
SITUATIONS: dict[str, tuple[dict[str, float], float]] = {
    # what differs from OIL_WATER, and the emitter's height [nm]
    "matched": ({"n_sample": INDEX}, 0.0),
    "oil/water, 0 um": ({}, 0.0),
    "oil/water, 1 um": ({}, 1000.0),
    "oil/water, 3 um": ({}, 3000.0),
    "coverslip 5 um too thick": ({"coverslip_um": 175.0, "coverslip_design_um": 170.0}, 500.0),
    "water dipping, NA 1.0": (
        {"na": 1.0, "n_immersion": 1.33, "n_coverslip": 1.33, "coverslip_um": 0.0}, 0.0,
    ),
    "air, NA 0.3": ({"na": 0.3, "n_immersion": 1.0}, 0.0),
    "TIRF, NA 1.49": ({"na": 1.49}, 100.0),
}  # fmt: skip
PEERS = ("psfmodels", "microscPSF.microscPSF", "psf_generator")


def peer(name: str) -> ModuleType | None:
    """A peer's module, or None with a word where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        print(f"- left out {name}: {error}; pip install simscope[peers]")
        return None


def milliseconds(times: list[float]) -> str:
    """Median and quartiles."""
    low, middle, high = np.percentile(1e3 * np.array(times), [25, 50, 75])
    return f"{middle:.4g} ms ({low:.4g} to {high:.4g})"


def peer_parameters(optics: ss.Optics) -> dict[str, float]:
    """Parameters as psfmodels and MicroscPSF name them, lengths in um."""
    o = optics.resolved()
    return {
        "NA": o.na, "ng0": o.n_coverslip_design, "ng": o.n_coverslip, "ni0": o.n_immersion_design,
        "ni": o.n_immersion, "ns": o.n_sample, "ti0": o.working_distance_um,
        "tg": o.coverslip_um, "tg0": o.coverslip_design_um,
    }  # fmt: skip


def psfmodels_stack(
    optics: ss.Optics, z_nm: float, focus_nm: np.ndarray, pixels: int, *, normalize: bool = True
) -> np.ndarray:
    """The stack of psfmodels, scalar or vectorial, at its 3x oversampling.

    Its focus counts from the emitter's paraxial focus shift, z (n_immersion / n_sample - 1).
    """
    module = importlib.import_module("psfmodels")
    draw = module.vectorial_psf if optics.model == "vectorial" else module.scalar_psf
    shift_nm = ss.optics.focal_shift(optics, z_nm, "paraxial")[0]
    return draw(
        zv=1e-3 * (focus_nm - shift_nm), nx=pixels, dxy=0.1, pz=1e-3 * z_nm,
        wvl=1e-3 * optics.wavelength_nm, params=peer_parameters(optics) | {"sf": 3},
        normalize=normalize,
    )  # fmt: skip


def microscpsf_stack(
    optics: ss.Optics, z_nm: float, focus_nm: np.ndarray, pixels: int
) -> np.ndarray:
    """The stack of MicroscPSF's fast method, whose stage runs the other way."""
    module = importlib.import_module("microscPSF.microscPSF")
    parameters = peer_parameters(optics) | {"M": 100.0, "zd0": 200e3}
    return module.gLXYZFocalScan(
        parameters, 0.1, pixels, -1e-3 * focus_nm, pz=1e-3 * z_nm, wvl=1e-3 * optics.wavelength_nm
    )


def psf_generator_stack(planes: int, pixels: int) -> object:
    """An aberrated vectorial stack of psf_generator, 128 pupil points across."""
    module = importlib.import_module("psf_generator")
    propagator = module.VectorialCartesianPropagator(
        n_pix_pupil=128, n_pix_psf=pixels, wavelength=600.0, na=1.4, pix_size=100.0,
        defocus_step=50.0, n_defocus=planes, n_i=INDEX, apod_factor=True,
        zernike_coefficients=[0.0, 0.0, 0.0, 0.2, 0.2, 0.0, 0.0, 0.1, 0.1],
    )  # fmt: skip
    return propagator.compute_focus_field()


def large_stacks(peers: dict[str, ModuleType | None], rounds: int) -> list[tuple[str, ...]]:
    """256x256x128 stacks, pixel-integrated, whole calls: rows of (work, time, ratio)."""
    focus = (np.arange(128) - 63.5) * 200.0
    rows = []
    for model in ("vectorial", "gibson_lanni"):
        optics = OIL_WATER.model_copy(update={"model": model})
        works: dict[str, Callable[[], object]] = {
            "simscope": lambda o=optics: ss.psf(o, 0.0, focus, (256, 256), 100.0)
        }
        if peers["psfmodels"]:
            works["psfmodels, 3x oversampled"] = lambda o=optics: psfmodels_stack(
                o, 0.0, focus, 256
            )
        if peers["microscPSF.microscPSF"] and model == "gibson_lanni":
            works["MicroscPSF, fast method, point samples"] = lambda o=optics: microscpsf_stack(
                o, 0.0, focus, 256
            )
        rows += compared(f"256x256x128 {model}", works, rounds)
    return rows


def aberrated_stacks(peers: dict[str, ModuleType | None], rounds: int) -> list[tuple[str, ...]]:
    """64x64x41 stacks through a bent wavefront, set-up included and not."""
    focus = (np.arange(41) - 20.0) * 50.0
    model = PupilModel(
        OIL_WATER, shape=(64, 64), pixel_nm=100.0, focus_nm=(-1000.0, 1000.0),
        wavefront_limit_nm=ABERRATION_NM, any_direction=False,
    )  # fmt: skip
    works: dict[str, Callable[[], object]] = {
        "simscope, model set up": lambda: model.images(0.0, focus, wavefront_nm=ABERRATION_NM),
        "simscope, whole call": lambda: ss.psf(
            OIL_WATER, 0.0, focus, (64, 64), 100.0, wavefront_nm=ABERRATION_NM
        ),
    }
    if peers["psf_generator"]:
        works["psf_generator, 128 pupil points, one polarisation"] = lambda: psf_generator_stack(
            41, 64
        )
    return compared("64x64x41 aberrated vectorial", works, rounds)


def compared(
    name: str, works: dict[str, Callable[[], object]], rounds: int
) -> list[tuple[str, ...]]:
    """Rows of (name, work, time, how many times the first work's), the first work being ours."""
    times = interleaved(works, rounds)
    ours = next(iter(times.values()))
    rows = []
    for work, taken in times.items():
        low, middle, high = np.percentile(np.divide(taken, ours), [25, 50, 75])
        ratio = "1" if taken is ours else f"{middle:.3g} ({low:.3g} to {high:.3g})"
        rows.append((name, work, milliseconds(taken), ratio))
    return rows


def scaling(rounds: int) -> list[tuple[str, ...]]:
    """Time per plane and per pixel, and memory as a share of the output."""
    rows = []
    sizes = ((128, 128), (256, 32), (256, 64), (256, 128), (256, 256), (512, 64))
    works = {
        f"{n}x{n}x{planes}": lambda n=n, planes=planes: ss.psf(
            OIL_WATER, 0.0, (np.arange(planes) - 0.5 * planes) * 12_800 / planes, (n, n), 100.0
        )
        for n, planes in sizes
    }
    times = interleaved(works, rounds)
    for (name, work), (n, planes) in zip(works.items(), sizes, strict=True):
        tracemalloc.start()
        nbytes = work().nbytes
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        per_pixel = 1e9 * np.median(times[name]) / (n * n * planes)
        share = f"{peak / nbytes:.2f}"
        rows.append((name, milliseconds(times[name]), f"{per_pixel:.2f} ns", share))
    return rows


FIRST_CALL = """
import time; begin = time.perf_counter()
import numpy as np, simscope as ss
ss.psf, ss.Optics
ready = time.perf_counter()
ss.psf(ss.Optics(), 0.0, np.linspace(-1000, 1000, 41), (64, 64), 100.0)
print(ready - begin, time.perf_counter() - ready)
"""


def first_call() -> str:
    """Import and first stack in a fresh process, the second of two so that caches are warm."""
    for _ in range(2):
        told = subprocess.run(
            [sys.executable, "-c", FIRST_CALL], capture_output=True, text=True, check=True
        )
    imported, called = map(float, told.stdout.split())
    return f"import {imported:.2f} s, first `ss.psf` (64x64x41) {called:.2f} s"


def table_build() -> str:
    """Table of smlm-3d-tetrapod, built and then found on disk."""
    recipe = ss.load_recipe("smlm-3d-tetrapod")
    low, high = recipe.structure.z_nm.support()
    taken = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):
            begin = time.perf_counter()
            build_table(
                recipe.optics, focus_nm=recipe.acquisition.focus_nm, z_min_nm=low, z_max_nm=high,
                pixel_nm=recipe.pixel_nm, window_px=recipe.rendering.window_px,
                max_window_px=recipe.rendering.max_window_px, accuracy=recipe.rendering.accuracy,
                accept_energy_loss=recipe.rendering.accept_energy_loss, cache=folder,
            )  # fmt: skip
            taken.append(time.perf_counter() - begin)
    return f"built in {taken[0]:.2f} s, found on disk in {taken[1]:.3f} s"


def exact_stack(
    optics: ss.Optics, z_nm: float, focus_nm: np.ndarray, pixels: int, panels: int
) -> np.ndarray:
    """Octant pixels of a centred stack by brute force, (planes, pixels of ``octant``)."""
    o = optics.resolved()
    stack = {
        "na": o.na, "wavelength_nm": o.wavelength_nm, "ns": o.n_sample, "ng": o.n_coverslip,
        "ng0": o.n_coverslip_design, "ni": o.n_immersion, "ni0": o.n_immersion_design,
        "tg": 1e3 * o.coverslip_um, "tg0": 1e3 * o.coverslip_design_um,
        "ti0": 1e3 * o.working_distance_um,
    }  # fmt: skip
    draw = reference.radial_psf if optics.model == "vectorial" else reference.gibson_lanni_psf
    rows, columns = octant(pixels)
    middle = pixels // 2

    def plane(focus: float) -> np.ndarray:
        return reference.pixel_mean(
            stack, (columns - middle) * 100.0, (rows - middle) * 100.0, 100.0, z_nm, focus,
            order=4, profile=lambda *place: draw(*place, panels=panels),
        )  # fmt: skip

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.array(list(pool.map(plane, focus_nm)))


def octant(pixels: int) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.tril_indices(pixels - pixels // 2)
    return rows + pixels // 2, columns + pixels // 2


def errors(peers: dict[str, ModuleType | None], panels: int) -> list[tuple[str, ...]]:
    """Rows of (situation, model, our error, peers' errors), shares of the stack's peak."""
    rows = []
    offsets = (np.arange(11) - 5.0) * 200.0
    for name, (changes, z_nm) in SITUATIONS.items():
        for model in ("vectorial", "gibson_lanni"):
            optics = OIL_WATER.model_copy(update={**changes, "model": model})
            focus = offsets + ss.optics.best_focus(optics, z_nm)[0].round(-1)
            exact = exact_stack(optics, z_nm, focus, 33, panels)
            ours = ss.psf(optics, z_nm, focus, (33, 33), 100.0)
            told = [f"{worst(ours, exact, fit=False):.1e}"]
            for peer_name, draw in (
                ("psfmodels", psfmodels_stack), ("microscPSF.microscPSF", microscpsf_stack),
            ):  # fmt: skip
                # MicroscPSF is scalar, and does not refocus for a wrong coverslip
                unfit = model == "vectorial" or "coverslip_design_um" in changes
                skip = peers[peer_name] is None or (unfit and draw is microscpsf_stack)
                told.append(
                    "-" if skip else f"{worst(draw(optics, z_nm, focus, 33), exact, fit=True):.1e}"
                )
            rows.append((name, model, *told))
    return rows


def worst(stack: np.ndarray, exact: np.ndarray, *, fit: bool) -> float:
    """Worst difference over the octant's pixels as a share of the stack's peak."""
    values = stack[:, *octant(stack.shape[1])]
    if fit:
        values = values * (values * exact).sum() / (values**2).sum()
    return float(np.abs(values - exact).max() / exact.max())


def print_table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    print("| " + " | ".join(head) + " |\n| " + " | ".join("---" for _ in head) + " |")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--skip-errors", action="store_true")
    parser.add_argument("--panels", type=int, default=2500, help="midpoints of the reference")
    chosen = parser.parse_args()
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"{numba.get_num_threads()} Numba threads, Python {platform.python_version()}, "
        f"NumPy {np.__version__}, Numba {numba.__version__}\n"
    )
    peers = {name: peer(name) for name in PEERS}
    rows = large_stacks(peers, chosen.rounds) + aberrated_stacks(peers, chosen.rounds)
    print_table(("stack", "work", "median (quartiles)", "times ours"), rows)
    print_table(("stack", "time", "per pixel", "memory / output"), scaling(chosen.rounds))
    print(f"- first call in a fresh process: {first_call()}")
    print(f"- table of `smlm-3d-tetrapod`: {table_build()}\n")
    if not chosen.skip_errors:
        head = ("worst error of 33x33x11", "model", "simscope", "psfmodels", "MicroscPSF")
        print_table(head, errors(peers, chosen.panels))


if __name__ == "__main__":
    main()
