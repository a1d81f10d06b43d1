"""Small recipes for both devices, and what differs between the samples they make."""

import numpy as np
from small_worlds import movie

import simscope as ss
from simscope.recipe import load_recipe

TINY = {
    "acquisition.shape": [17, 20],
    "structure.density_per_um2": {"uniform": [4, 8]},
    "rendering.window_px": 15,
    "rendering.accept_energy_loss": True,
    "rendering.accuracy": 0.01,
}
SMOOTH = {"kind": "smooth", "scale_um": 0.6, "photons_per_pixel": {"uniform": [5, 20]}}
FILAMENTS = {"kind": "filaments", "count": 2, "labels_per_um": 20, "z_nm": {"uniform": [30, 90]}}
EVANESCENT = {"kind": "evanescent", "depth_nm": {"uniform": [80, 120]}}
TETRAPOD_HEIGHT_NM = {"uniform": [0.0, 400.0]}


def worlds():
    """Recipes by what they are about, small enough for Numba's CUDA simulator."""
    dense = load_recipe("smlm-2d-dense").replace_all(TINY)
    filaments = dense.replace_all({"structure": FILAMENTS, "illumination": EVANESCENT})
    return {
        "dense frames": dense,
        "EMCCD": load_recipe("smlm-2d-dense-emccd").replace_all(TINY),
        "tetrapod": load_recipe("smlm-3d-tetrapod").replace_all(
            TINY | {"structure.z_nm": TETRAPOD_HEIGHT_NM, "optics.mask.z_range_nm": 500.0}
        ),
        "blinking movie": movie(6).replace_all(TINY | {"structure.z_nm": 0.0}),
        "optics over the field": load_recipe("smlm-2d-field").replace_all(TINY),
        "filaments in an evanescent wave": filaments,
        "oriented dipoles": load_recipe("smlm-2d-oriented").replace_all(TINY),
        "two channels": load_recipe("smlm-2d-oriented").replace_all(
            TINY | {"optics.analyser": {"channels": "both"}}
        ),
        "smooth background": dense.replace("background", SMOOTH),
        "Gaussian spots": dense.replace_all(
            {"optics.model": "gaussian", "structure.z_nm": {"uniform": [0, 300]}}
        ),
        "drawn camera": dense.replace_all(
            {"camera.read_noise_e": {"loguniform": [0.5, 3]}, "camera.qe": {"uniform": [0.6, 0.8]}}
        ),
    }


def differences(recipe, first, last, *, seed=7, cache=None):
    """What differs between the GPU's samples and the CPU's: names, and the share of pixels.

    Images are compared pixel by pixel, all else byte by byte.
    """
    cpu, gpu = (
        ss.Simulator(recipe, seed, cache=cache, device=name).batch(first, last, expected=True)
        for name in ("cpu", "cuda")
    )
    pairs = {
        "emitters": (cpu.emitters, gpu.emitters),
        "offsets": (cpu.emitter_offsets, gpu.emitter_offsets),
        "expected light": (cpu.expected_photons, gpu.expected_photons),
        **{path: (values, gpu.parameters[path]) for path, values in cpu.parameters.items()},
    }
    unequal = [name for name, (a, b) in pairs.items() if a.tobytes() != b.tobytes()]
    return {
        "unequal": unequal,
        "pixels": cpu.images.size,
        "share": float(np.mean(cpu.images != gpu.images)),
        "emitters": len(cpu.emitters),
        "types": [str(array.dtype) for array in (gpu.images, gpu.emitters["x_nm"])],
    }


def cells():
    """A continuous structure without molecules."""
    return load_recipe("volume-cells").replace_all(
        {
            "acquisition.shape": [12, 10],
            "acquisition.focus_nm": 400.0,
            "structure.planes": 3,
            "structure.margin_nm": 500.0,
            "structure.scale_um": 1.0,
            "rendering.max_window_px": 15,
            "rendering.accept_energy_loss": True,
        }
    )


def large_worlds():
    """Packaged recipes at full size, for a GPU."""
    dense = load_recipe("smlm-2d-dense")
    return {
        "dense frames": dense,
        "EMCCD": load_recipe("smlm-2d-dense-emccd"),
        "tetrapod": load_recipe("smlm-3d-tetrapod"),
        "oriented dipoles": load_recipe("smlm-2d-oriented"),
        "optics over the field": load_recipe("smlm-2d-field"),
        "blinking movie": movie(200),
        "smooth background": dense.replace("background", SMOOTH | {"scale_um": 2.0}),
    }
