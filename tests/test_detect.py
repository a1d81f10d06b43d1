"""The fused camera kernel against its pixel-by-pixel twin, and its counters."""

import math

import numba
import numpy as np
import pytest
from gpu_stand_in import under_simulator
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_camera import box_muller, detect_pixel, marsaglia_tsang
from scipy import stats

from simscope.kernels import detect
from simscope.kernels.detect import STRIPE
from simscope.kernels.normal_pair import normal_pair32
from simscope.kernels.poisson import GROUP, ROW, TILE

KEY = (np.uint32(77), np.uint32(99))
FALSE_ALARM = 1e-4
NAMES = (
    "qe",
    "dark_e",
    "em_gain",
    "read_noise_e",
    "e_per_adu",
    "baseline_adu",
    "full_well_e",
)
PLAIN = dict(zip(NAMES, (0.8, 0.2, 1.0, 1.5, 0.4, 100.0, np.inf), strict=True))
MULTIPLYING = PLAIN | {"em_gain": 200.0, "read_noise_e": 20.0, "e_per_adu": 10.0}
needs_speed = pytest.mark.skipif(
    numba.config.DISABLE_JIT, reason="large frames need compiled kernels"
)


def read_out(
    photons, camera, *, maps=None, em=False, step=0, sample=0, top=65535, run=detect.detect_serial
):
    """Counts and the numbers cut (high, low) and impossible, by the kernel."""
    photons = np.atleast_2d(np.asarray(photons, np.float32))
    frames, pixels = photons.shape
    maps = np.array([[1], [0], [1]], np.float32).repeat(pixels, 1) if maps is None else maps
    parameters = np.tile(np.float32([camera[name] for name in NAMES]), (frames, 1))
    adu = np.empty((frames, pixels), np.uint16)
    counted = np.zeros((frames, -(-pixels // STRIPE), detect.COUNTED), np.int64)
    words = [np.broadcast_to(np.uint32(v), (frames,)).copy() for v in (step, sample)]
    run(photons, maps, em, parameters, np.float32(top), *words, *KEY, adu, counted)
    return adu, counted.sum(axis=(0, 1))


def twin(photons, camera, maps, em, step, sample):
    """Unrounded counts of one frame, pixel by pixel."""
    values = []
    for pixel, mean in enumerate(np.asarray(photons, np.float32)):
        chip = dict(
            zip(("gain", "offset_adu", "read_noise"), maps[:, pixel].astype(float), strict=True)
        )
        settings_of_pixel = camera | chip | {"kind": "emccd" if em else "scmos"}
        key = tuple(int(word) for word in KEY)
        values.append(detect_pixel(float(mean), pixel, step, sample, key, settings_of_pixel))
    return np.array(values)


@pytest.mark.parametrize("em", [False, True])
@pytest.mark.parametrize("brightness", [0.2, 3.0, 30.0, 3000.0])
def test_kernel_equals_the_twin_pixel_by_pixel(em, brightness):
    rng = np.random.default_rng(1)
    pixels = 60
    photons = rng.gamma(2.0, brightness / 2, pixels)
    maps = np.stack(
        [rng.normal(1, 0.05, pixels), rng.normal(0, 3, pixels), rng.lognormal(0, 0.3, pixels)]
    ).astype(np.float32)
    camera = MULTIPLYING if em else PLAIN
    adu, _ = read_out(photons, camera, maps=maps, em=em, step=4, sample=9)
    exact = twin(photons, camera, maps, em, 4, 9)
    clipped = np.clip(exact, 0, 65535)
    # float32 arithmetic: 1e-6 of the count, and 1e-5 of an electron's worth of read noise
    slack = 3e-6 * np.abs(exact) + 1e-4
    assert np.all(adu[0] <= np.floor(clipped + slack))
    assert np.all(adu[0] >= np.floor(np.maximum(clipped - slack, 0)))


@needs_speed
@pytest.mark.parametrize("em", [False, True])
def test_stripes_and_threads_do_not_change_a_count(em):
    photons = np.linspace(0, 30, STRIPE + 1001)[None].repeat(3, 0)
    camera = MULTIPLYING if em else PLAIN
    serial, serial_cut = read_out(photons, camera, em=em, step=[0, 1, 2], top=500)
    threaded, threaded_cut = read_out(
        photons, camera, em=em, step=[0, 1, 2], top=500, run=detect.detect_parallel
    )
    alone, _ = read_out(photons[1], camera, em=em, step=1, top=500)
    np.testing.assert_array_equal(serial, threaded)
    np.testing.assert_array_equal(serial_cut, threaded_cut)
    np.testing.assert_array_equal(serial[1], alone[0])


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 60), st.booleans())
def test_a_pixel_does_not_depend_on_how_many_follow(pixels, em):
    # Odd sizes too: on a CCD two pixels share a block.
    whole, _ = read_out(np.full(61, 5.0), MULTIPLYING if em else PLAIN, em=em)
    part, _ = read_out(np.full(pixels, 5.0), MULTIPLYING if em else PLAIN, em=em)
    np.testing.assert_array_equal(whole[0, :pixels], part[0])


def test_frames_and_samples_have_noise_of_their_own():
    frames = [
        read_out(np.full(50, 50.0), PLAIN, step=step, sample=sample)[0][0]
        for step, sample in [(0, 0), (1, 0), (0, 1), (1, 1)]
    ]
    for i in range(4):
        for j in range(i):
            assert np.mean(frames[i] == frames[j]) < 0.3  # equal by chance: 2 % of the pixels


def multiply(electrons, seed=8):
    """Register variates of these electron numbers, tile by tile as frames have them."""
    rng = np.random.default_rng(seed)
    values = np.empty_like(electrons)
    scratch = np.empty((6, ROW), np.uint32)
    for begin in range(0, electrons.size, TILE):
        part = electrons[begin : begin + TILE]
        normals = rng.standard_normal(part.size).astype(np.float32)
        words = rng.integers(0, 2**32, part.size, dtype=np.uint32)
        counter = (begin, np.uint32(1), np.uint32(2), *KEY)
        out = values[begin : begin + TILE]
        detect.multiply_tile(part, normals, words, out, scratch, *counter)
    return values


@needs_speed
@pytest.mark.parametrize("electrons", [1, 2, 3, 10, 1000, 100_000])
def test_register_multiplies_by_a_gamma_variate(electrons):
    # Marsaglia-Tsang in float32: sensitive at n = 1 (rejection) and at large n (cancellation).
    values = multiply(np.full(1_000_000, electrons, np.float32))
    assert stats.kstest(values, stats.gamma(electrons).cdf).pvalue > FALSE_ALARM


def test_register_leaves_dark_pixels_dark():
    assert not multiply(np.zeros(2 * GROUP, np.float32)).any()


def test_one_pixel_of_the_register_equals_its_tile():
    # The scalar body that a GPU's threads call; every 20th of the ones is drawn again.
    electrons = np.float32([0, 1, 2, 50]).repeat(200)
    rng = np.random.default_rng(4)
    normals = rng.standard_normal(electrons.size).astype(np.float32)
    words = rng.integers(0, 2**32, electrons.size, dtype=np.uint32)
    values = np.empty_like(electrons)
    scratch, counter = np.empty((6, ROW), np.uint32), (np.uint32(1), np.uint32(2), *KEY)
    detect.multiply_tile(electrons, normals, words, values, scratch, 7, *counter)
    alone = [
        detect.multiplied(n, normals[i], words[i], np.uint32(7 + i), *counter)
        for i, n in enumerate(electrons)
    ]
    np.testing.assert_array_equal(values, alone)


def proposal(shape, x, uniform_word):
    """Proposed variate, and (d, y, u) by which it stands, in single precision."""
    value, d, y = detect.gamma_proposal(np.float32(shape), np.float32(x))
    u = detect.unit_uniform(np.uint32(uniform_word))
    return value, (np.float32(d), np.float32(y), np.float32(u))


@settings(max_examples=100, deadline=None)
@given(st.floats(-5, 5, width=32), st.integers(0, 2**32 - 1), st.integers(1, 1000))
def test_gamma_proposal_equals_the_published_step(x, uniform_word, shape):
    u = (uniform_word // 2**8 + 0.5) / 2**24
    value, terms = proposal(shape, x, uniform_word)
    expected, stands = marsaglia_tsang(shape, x, u)
    assert value == pytest.approx(expected, rel=2e-5, abs=1e-5)
    assert terms[2] == pytest.approx(u, rel=1e-6)
    closest = [marsaglia_tsang(shape, x, u * (1 + d))[1] for d in (-1e-4, 1e-4)]
    if closest[0] == closest[1]:
        assert bool(detect.stands(*terms)) is stands


@settings(max_examples=500, deadline=None)
@given(st.floats(-6.75, 6.75, width=32), st.integers(0, 2**24 - 1), st.integers(1, 1000))
def test_what_surely_stands_does_stand(x, upper_bits, shape):
    # The bound is tight near u = 1: words there as often as elsewhere.
    for bits in (upper_bits, 2**24 - 1 - upper_bits // 2**10):
        u = (bits + 0.5) / 2**24
        if detect.surely_stands(*proposal(shape, x, bits * 2**8)[1]):
            assert marsaglia_tsang(shape, x, u * (1 - 1e-6))[1]


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_normal_pairs_are_those_of_box_and_muller(distance_word, direction_word):
    pair = normal_pair32(np.uint32(distance_word), np.uint32(direction_word))
    expected = box_muller(distance_word, direction_word)
    # u next to 1 is rounded to 24 bits: 4e-4 where the distance is 0, 3e-7 relative elsewhere
    room = 1e-6 * math.hypot(*expected) + 1e-7 / max(math.hypot(*expected), 3e-4)
    assert pair == pytest.approx(expected, abs=room)


@needs_speed
def test_normal_pairs_are_normal_and_independent():
    n = 1_000_000
    normals = np.empty(n, np.float32)
    detect.words_for_two(np.empty(n, np.uint32), normals, 0, np.uint32(3), np.uint32(0), *KEY)
    for values in (normals, normals[::2] + normals[1::2], normals[::2] - normals[1::2]):
        scale = 1.0 if values.size == n else math.sqrt(2.0)
        assert stats.kstest(values, stats.norm(scale=scale).cdf).pvalue > FALSE_ALARM
    u, v = (stats.norm.cdf(normals[lane::2]) for lane in (0, 1))
    seen = np.histogram2d(u, v, bins=20, range=[[0, 1], [0, 1]])[0]
    assert stats.chisquare(seen.ravel()).pvalue > FALSE_ALARM


@settings(max_examples=200, deadline=None)
@given(st.floats(-0.984375, 5.0, width=32))
def test_log_remainder_does_not_cancel(y):
    # Exact value by the series for small y, by log1p otherwise; relative error of P(y): 1e-5.
    if abs(y) < 0.02:
        exact = sum((-1) ** (k + 1) * y**k / k for k in range(4, 12))
    else:
        exact = np.log1p(y) - y + y**2 / 2 - y**3 / 3
    value = float(detect.log_remainder(np.float32(y)))
    assert value == pytest.approx(exact, rel=2e-4, abs=1e-30)


@pytest.mark.parametrize("em", [False, True])
def test_counts_are_cut_at_both_ends_and_counted(em):
    camera = (MULTIPLYING if em else PLAIN) | {"baseline_adu": 5.0, "read_noise_e": 100.0}
    photons = np.repeat([0.0, 400.0], 32)
    adu, (high, low, _) = read_out(photons, camera, em=em, top=255)
    assert adu.max() == 255
    assert adu.min() == 0
    assert 0 < high <= np.sum(adu == 255)
    assert 0 < low <= np.sum(adu == 0)


def test_full_well_caps_the_charge():
    camera = PLAIN | {"full_well_e": 50.0, "read_noise_e": 0.0, "e_per_adu": 1.0}
    adu, (high, _, _) = read_out(np.full(40, 500.0), camera)
    assert np.all(adu == 150)  # 50 e / (1 e/ADU) + baseline 100
    assert high == 40


def test_impossible_light_is_counted_and_taken_as_dark():
    photons = [-1.0, np.nan, 2e7, np.inf, -np.inf, 10.0]
    camera = PLAIN | {"dark_e": 0.0, "read_noise_e": 0.0}
    adu, (_, _, impossible) = read_out(photons, camera)
    assert impossible == 5
    assert np.all(adu[0, :5] == 100)
    assert adu[0, 5] > 100


def test_a_gpu_gives_the_same_bytes():
    # Every path: dark and bright, repaired and drawn again, cut at either end, impossible, odd.
    code = """
import numpy as np
from simscope.device import CPU, device
photons = np.r_[0, np.geomspace(1e-3, 1e5, 330), np.full(69, 1.5), -1.0].astype(np.float32)
photons = np.stack([photons, photons[::-1]])
pixels = photons.shape[1]
rng = np.random.default_rng(3)
maps = np.stack([rng.normal(1, 0.1, pixels), rng.normal(0, 5, pixels), rng.lognormal(0, 1, pixels)])
flat = np.array([[1], [0], [1]]).repeat(pixels, 1)
words = [np.array(values, np.uint32) for values in ([3, 4], [7, 0])]
same, counted = [], []
for multiplies, maps, values in (
    (False, flat, [0.8, 0.2, 1, 2, 0.5, 5, 5e4]),
    (False, maps, [0.9, 0.1, 1, 1.5, 0.4, 3, np.inf]),
    (True, flat, [0.9, 0.01, 300, 30, 10, 5, 1e6]),
):
    table = np.tile(np.float32(values), (2, 1))
    results = []
    for place in (CPU, device("cuda")):
        adu = np.empty(photons.shape, np.uint16)
        counts = place.kernels("detect").detect(
            place.xp, photons, maps.astype(np.float32), multiplies, table, np.float32(4000),
            *words, np.uint32(5), np.uint32(6), adu,
        )
        results.append((adu, counts))
    (here, counts), (there, counts_there) = results
    same += [(here == there).all(), (counts == counts_there).all()]
    counted.append(counts.min())
print(*same, min(counted) > 0)
"""
    assert under_simulator(code).split() == ["True"] * 7
