"""Samples made by the GPU's kernels are those of the CPU, byte for byte, in Numba's simulator."""

import json

import numpy as np
import pytest
from gpu_stand_in import under_simulator
from gpu_worlds import worlds

SIMULATED = """
import json, sys, warnings
from pathlib import Path
import simscope as ss
from gpu_worlds import cells, differences, worlds
warnings.simplefilter("ignore")
folder = Path(sys.argv[1])
found = {name: differences(recipe, 3, 5, cache=folder) for name, recipe in worlds().items()}

movie = ss.Simulator(worlds()["blinking movie"], 7, cache=folder, device="cuda")
whole = movie.batch(3, 4)
windows = list(movie.chunks(3, 4, max_bytes=3000))
found["windows"] = [
    len(windows),
    b"".join(c.images.tobytes() for c in windows) == whole.images.tobytes(),
    b"".join(c.emitters.tobytes() for c in windows) == whole.emitters.tobytes(),
]

for name in ("cpu", "cuda"):
    ss.generate(worlds()["drawn camera"], 3, 7, folder / f"{name}.h5", device=name, expected=True)

exact = ss.load_recipe("psf-zernike").replace_all(
    {"acquisition.shape": [9, 9], "acquisition.focus_nm.planes": 2}
)
found["exact"] = differences(exact, 0, 2, cache=folder)
found["cells"] = differences(cells(), 0, 2, cache=folder)
found["reports"] = [
    ss.Simulator(recipe, 7, cache=folder, device="cuda").report["device"]
    for recipe in (worlds()["dense frames"], exact, worlds()["filaments in an evanescent wave"])
]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("simulated")


@pytest.fixture(scope="module")
def found(folder):
    return json.loads(under_simulator(SIMULATED, folder).splitlines()[-1])


@pytest.mark.parametrize("name", [*worlds(), "exact", "cells"])
def test_a_gpu_makes_the_same_bytes(found, name):
    world = found[name]
    assert world["unequal"] == []
    assert world["share"] == 0.0
    assert world["emitters"] >= {"exact": 2, "cells": 0}.get(name, 10)
    assert world["types"] == ["uint16", "float32"]


def test_a_movie_by_windows_is_the_movie_in_one_go_on_a_gpu(found):
    windows, same_images, same_emitters = found["windows"]
    assert windows > 1
    assert same_images
    assert same_emitters


def test_a_file_from_a_gpu_holds_the_same_samples(found, folder):
    import simscope as ss

    with ss.open_dataset(folder / "cpu.h5") as cpu, ss.open_dataset(folder / "cuda.h5") as gpu:
        assert np.array_equal(cpu.images[:], gpu.images[:])
        assert np.array_equal(cpu.emitters[:], gpu.emitters[:])
        assert np.array_equal(cpu.expected_photons[:], gpu.expected_photons[:])
        for path in ("camera.qe", "camera.read_noise_e"):
            assert np.array_equal(cpu.parameters[path][:], gpu.parameters[path][:])
    assert (folder / "cpu.h5").read_bytes() == (folder / "cuda.h5").read_bytes()


def test_what_the_cpu_does_for_a_gpu_is_told(found):
    on_gpu, exact, filaments = found["reports"]
    assert on_gpu == {"name": "cuda", "on_cpu": []}
    assert exact["on_cpu"] == ["images of single emitters"]
    assert filaments["on_cpu"] == ["paths of filaments"]
