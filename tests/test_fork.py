"""A process forked from one that has simulated simulates on: the same bytes, and no hang."""

import os
import subprocess
import sys

import numba
import pytest

pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork") or numba.config.DISABLE_JIT,
    reason="needs a system that forks, and threads",
)

PREAMBLE = """
import hashlib, os, sys, warnings
sys.path.insert(0, {tests!r})
warnings.simplefilter("ignore")
from small_worlds import WORLDS
from simscope.acquire import Simulator
from simscope.recipe import Recipe

def world(kind):
    if kind != "glowing":
        return WORLDS[kind]()
    background = {{"kind": "smooth", "photons_per_pixel": 10, "contrast": 0.5, "scale_um": 0.5}}
    return WORLDS["snapshot"]().replace("background", background)

def digest(sim):
    batch = sim.batch(0, 40, expected=True)
    parts = (batch.images, batch.expected_photons, batch.emitters)
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()

def in_a_child(work):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, work().encode())
        os._exit(0)
    os.close(writing)
    found = os.read(reading, 64).decode()
    _, status = os.waitpid(child, 0)
    assert status == 0, status
    return found
"""


def run(code):
    script = PREAMBLE.format(tests=os.path.dirname(__file__)) + code
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


def test_a_forked_child_simulates_the_same_bytes():
    run("""
for kind in ("snapshot", "movie", "stack", "glowing"):
    sim = Simulator(world(kind), 7, threads=2)
    whole = digest(sim)
    assert in_a_child(lambda: digest(sim)) == whole
    assert in_a_child(lambda: digest(Simulator(world(kind), 7, threads=2))) == whole
    assert digest(sim) == whole
""")


def test_a_child_of_a_child_simulates_too():
    run("""
sim = Simulator(world("snapshot"), 7, threads=2)
whole = digest(sim)
def nested():
    assert digest(sim) == whole
    return in_a_child(lambda: digest(sim))
assert in_a_child(nested) == whole
""")


def test_threads_that_ran_outside_a_simulator_count_as_well():
    run("""
import numba, numpy as np
numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
from simscope.kernels.patches import fade_patches
fade_patches(np.ones((4, 1, 5, 5), np.float32), np.ones((4, 5)), np.ones((4, 5)))
assert in_a_child(lambda: digest(Simulator(world("snapshot"), 7, threads=2)))
""")


def test_a_table_can_be_built_in_a_forked_child(tmp_path):
    run(f"""
from pathlib import Path
sim = Simulator(world("snapshot"), 7, threads=2)
whole = digest(sim)
fresh = lambda: digest(Simulator(world("snapshot"), 7, threads=2, cache=Path({str(tmp_path)!r})))
assert in_a_child(fresh) == whole
""")
