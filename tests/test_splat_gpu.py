"""Frames rendered on a GPU: same bits as on the CPU, whatever the tiles and the threads."""

from gpu_stand_in import under_simulator

SCENE = """
import numpy as np
from simscope.device import CPU, device
from simscope.optics.table import SplineTable
gpu = device("cuda")

def table(rng, planes=1, images=1, energies=np.empty((0, 6)), node_axes=np.empty((0, 3)), m=2):
    window, width = 7, 16
    nodes = np.zeros((images, planes, m * window + 4, width * m), np.float32)
    inner = slice(3, m * window)
    nodes[:, :, inner, inner] = rng.normal(1, 1, nodes[:, :, inner, inner].shape)
    packed = nodes.reshape(images, planes, -1, width, m).swapaxes(3, 4)
    heights = 1 if planes == 1 else planes - 2
    left_out = np.stack([100.0 * np.arange(heights), np.zeros(heights)], 1)
    return SplineTable(
        np.ascontiguousarray(packed), m, window, 100.0, 0.0, 100.0, 100.0 * (heights - 1), 0.0,
        1.0, 1e-3, left_out, energies, node_axes)

def agree(table, weights=None, shape=(13, 35), emitters=9):
    rng = np.random.default_rng(5)
    x, y = rng.uniform(-400, 3900, emitters), rng.uniform(-400, 1700, emitters)
    x[0], y[0] = 300.0, 500.0  # on a corner of four pixels
    z = rng.uniform(0, table.z_max_nm, emitters)
    photons = rng.uniform(1, 9, emitters)
    scene = x, y, z, photons, np.array([0, 4, 4, emitters])
    begin = rng.uniform(0, 1, (3, *shape)).astype(np.float32)
    images = [
        table.render(*scene, shape, begin.copy(), weights=weights, threads=threads, device=where)
        for where, threads in ((CPU, 1), (CPU, 3), (gpu, 1))
    ]
    assert (images[0] > 0).mean() > 0.5
    print(*((images[0] == other).all() for other in images[1:]))
rng = np.random.default_rng(1)
"""


def agrees(code):
    return set(under_simulator(SCENE + code).split()) == {"True"}


def test_an_image_without_height_has_the_same_bits_on_a_gpu():
    assert agrees("agree(table(rng)); agree(table(rng, m=3))")


def test_an_image_with_height_has_the_same_bits_on_a_gpu():
    assert agrees("agree(table(rng, planes=6))")


def test_six_images_of_a_dipole_have_the_same_bits_on_a_gpu():
    assert agrees("""
dipole = table(rng, planes=4, images=6, energies=np.ones((2, 6)))
agree(dipole, emitters=6)
weights = rng.normal(0, 1, (6, 6))
weights[2, [0, 3]] = 0.0  # images left out, the first among them
agree(dipole, weights=weights, emitters=6)
""")


def test_images_over_the_field_have_the_same_bits_on_a_gpu():
    # coordinates of the nodes leave some emitters outside, where the image stays as at the edge
    assert agrees("""
axes = np.array([[0.0, 400.0, 3], [0.0, 900.0, 3]])
agree(table(rng, images=25, node_axes=axes), emitters=6)
""")
