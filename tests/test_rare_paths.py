"""Paths that few variates take read the words they should, and tiles and samples keep apart.

What happens once in a thousand or a billion draws shows in no histogram. Here it is sought out.
"""

import numpy as np
import pytest
from gpu_stand_in import under_simulator
from reference import philox4x32_10, poisson_quantile, unit_interval
from reference_camera import amplified, detect_pixel
from reference_random import gamma
from scipy import stats
from small_worlds import snapshot
from switching import KEY as SWITCHING_KEY
from test_detect import KEY, MULTIPLYING, PLAIN, STRIPE, TILE, read_out

from simscope.kernels import blink, detect, poisson
from simscope.keys import Key
from simscope.recipe.draws import draw_samples

WORDS = tuple(int(word) for word in KEY)
FLAT = {"gain": 1.0, "offset_adu": 0.0, "read_noise": 1.0}
REJECTED = np.uint32(2**32 - 1)


@pytest.mark.parametrize("mean", [2.0, 30.0, 1000.0])
def test_where_32_bits_leave_two_counts_the_reserved_block_decides(mean):
    """The edge between n and n + 1 lies within the word: its lower bits are block 2^31's."""
    low, high = stats.poisson.ppf([1e-3, 1 - 1e-3], mean)
    edges = np.floor(stats.poisson.cdf(np.arange(low, high), mean) * 2**32).astype(np.uint32)
    counter = (11, 12, 5)
    counts, exact = [], []
    for element, word in enumerate(np.tile(edges, 20)):
        words = (np.uint32(value) for value in (element, *counter))
        counts.append(poisson.poisson_count(word, np.float32(mean), *words, *KEY))
        lower = philox4x32_10((element, *counter[:2], counter[2] + 2**31), WORDS)[0]
        exact.append(poisson_quantile(unit_interval(int(word), lower), mean))
    assert len(set(counts[:: edges.size])) == 2
    np.testing.assert_array_equal(counts, exact)


def test_gamma_variates_of_later_rounds_equal_their_twins():
    """At shape 1 five in a hundred first proposals fall, and more than one falls twice."""
    elements = np.arange(800)
    values = Key(3).child("gamma").gamma(elements, 1.0, sample=2, step=4, draw=7)
    key = tuple(int(word) for word in Key(3).child("gamma").words)
    twins = [gamma((int(element), 4, 2, 7), key, 1.0) for element in elements]
    np.testing.assert_allclose(values, twins, rtol=1e-12)


def test_register_variates_of_later_draws_equal_their_twins():
    """A uniform next to 1 lets no first proposal stand; of the second ones five in a hundred."""
    for pixel in range(3000):
        words = (np.uint32(value) for value in (pixel, 3, 5))
        value = detect.multiplied(np.float32(1.0), np.float32(0.5), REJECTED, *words, *KEY)
        exact = amplified(1.0, (0.5, int(REJECTED)), pixel, 3, 5, WORDS)
        assert value == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("em", [False, True])
def test_pixels_beyond_the_first_stripe_equal_their_twins(em):
    pixels = np.arange(STRIPE + 990, STRIPE + 1060)
    rng = np.random.default_rng(2)
    photons = rng.uniform(0, 30, pixels[-1] + 1).astype(np.float32)
    gain, offset, noise = (
        rng.uniform(*ends, photons.size) for ends in ((0.9, 1.1), (0, 9), (0, 2))
    )
    maps = np.array([gain, offset, noise], np.float32)
    plain = MULTIPLYING if em else PLAIN
    adu, _ = read_out(photons, plain, maps=maps, em=em, step=1, sample=2)
    kind = {"kind": "emccd" if em else "scmos"}
    for pixel in pixels:
        chip = dict(zip(FLAT, maps[:, pixel].astype(float), strict=True))
        exact = detect_pixel(float(photons[pixel]), int(pixel), 1, 2, WORDS, plain | chip | kind)
        assert abs(adu[0, pixel] + 0.5 - exact) < 0.5 + 1e-3


@pytest.mark.parametrize("at", [0, TILE, 2 * TILE + 5])
def test_pixels_cut_or_impossible_are_counted_in_every_tile(at):
    photons = np.full(3 * TILE, 100.0)
    photons[at : at + 3] = -1.0, 9e6, np.nan
    camera = PLAIN | {"dark_e": 0.0, "read_noise_e": 0.0, "baseline_adu": 50.0}
    assert read_out(photons, camera)[1].tolist() == [1, 0, 2]
    assert read_out(photons, camera | {"baseline_adu": -1.0})[1].tolist() == [1, 2, 2]


def test_a_molecule_switches_alike_alone_and_beside_other_samples():
    rates = np.array([[0.0, 40.0], [25.0, 0.0]])
    window = (0, 30, 0.01, 0.01)

    def light(samples):
        count = len(samples)
        tables = blink.chain_tables(samples, np.tile(rates, (count, 1, 1)), np.eye(2)[[0] * count])
        chain = np.repeat(np.arange(count), 20)
        molecules = blink.asleep(np.tile(np.arange(20), count), chain)
        weights = blink.weight_tables(np.eye(2)[[0] * count])
        blink.start_molecules(molecules, tables, weights, *SWITCHING_KEY)
        return blink.bright_frames(molecules, tables, window, *SWITCHING_KEY)

    molecule, light_s, offsets = light([3, 8, 4])
    for row, sample in enumerate((3, 8, 4)):
        mine = slice(*offsets[[30 * row, 30 * (row + 1)]])
        alone, alone_s, _ = light([sample])
        np.testing.assert_array_equal(molecule[mine] - 20 * row, alone)
        np.testing.assert_array_equal(light_s[mine], alone_s)


def test_numbers_of_a_recipe_are_drawn_from_streams_of_their_own():
    recipe = snapshot().replace("structure.density_per_um2", {"uniform": [0, 1]})
    recipe = recipe.replace("background.photons_per_pixel", {"uniform": [0, 1]})
    drawn = draw_samples(recipe, Key(1), np.arange(2000))
    first, second = drawn.values()
    # 5 standard errors of a correlation of 2000 pairs
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(2000)


def test_the_last_few_of_many_uniform_variates_are_written_on_a_gpu():
    code = """
from simscope.device import device
from simscope.keys import Key
for size in range(1, 10):
    here, there = (Key(5).uniform32(size, device=device(name)) for name in ("cpu", "cuda"))
    print((here == there).all())
"""
    assert under_simulator(code).split() == ["True"] * 9
