"""The fused camera kernel against its pixel-by-pixel twin, and its counters."""

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import detect_pixel, marsaglia_tsang
from scipy import special, stats

from simscope.kernels import detect
from simscope.kernels.detect import STRIPE

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
    """Counts and the numbers cut (high, low), by the kernel."""
    photons = np.atleast_2d(np.asarray(photons, np.float32))
    frames, pixels = photons.shape
    maps = np.array([[1], [0], [1]], np.float32).repeat(pixels, 1) if maps is None else maps
    parameters = np.tile(np.float32([camera[name] for name in NAMES]), (frames, 1))
    adu = np.empty((frames, pixels), np.uint16)
    clipped = np.zeros((frames, -(-pixels // STRIPE), 2), np.int64)
    words = [np.broadcast_to(np.uint32(v), (frames,)).copy() for v in (step, sample)]
    run(photons, maps, em, parameters, np.float32(top), *words, *KEY, adu, clipped)
    return adu, clipped.sum(axis=(0, 1))


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


@needs_speed
@pytest.mark.parametrize("electrons", [1, 2, 3, 10, 1000, 100_000])
def test_register_multiplies_by_a_gamma_variate(electrons):
    # Marsaglia-Tsang in float32: sensitive at n = 1 (rejection) and at large n (cancellation).
    n = 200_000
    values = np.full(n, electrons, np.float32)
    words = np.random.default_rng(8).integers(0, 2**32, (2, n), dtype=np.uint32)
    flags = np.empty(n, np.int32)
    detect.multiply_tile(values, *words, flags, 0, np.uint32(1), np.uint32(2), *KEY)
    assert stats.kstest(values, stats.gamma(electrons).cdf).pvalue > FALSE_ALARM


def test_register_leaves_dark_pixels_dark():
    values = np.zeros(20, np.float32)
    words = np.arange(40, dtype=np.uint32).reshape(2, 20) * np.uint32(10**8)
    detect.multiply_tile(
        values, *words, np.empty(20, np.int32), 0, np.uint32(1), np.uint32(2), *KEY
    )
    assert not values.any()


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(1, 1000))
def test_gamma_proposal_equals_the_published_step(normal_word, uniform_word, shape):
    x = float(special.ndtri((normal_word + 0.5) / 2**32))
    u = (uniform_word // 2**8 + 0.5) / 2**24
    value, rejected = detect.gamma_proposal(
        np.float32(shape), np.uint32(normal_word), np.uint32(uniform_word)
    )
    expected, stands = marsaglia_tsang(shape, x, u)
    if abs(x) < 5:  # further out the float32 normal is less exact
        assert value == pytest.approx(expected, rel=2e-5, abs=1e-5)
    closest = [marsaglia_tsang(shape, x, u * (1 + d))[1] for d in (-1e-4, 1e-4)]
    if closest[0] == closest[1] and abs(x) < 5:
        assert bool(rejected) is not stands


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
    adu, (high, low) = read_out(photons, camera, em=em, top=255)
    assert adu.max() == 255
    assert adu.min() == 0
    assert 0 < high <= np.sum(adu == 255)
    assert 0 < low <= np.sum(adu == 0)


def test_full_well_caps_the_charge():
    camera = PLAIN | {"full_well_e": 50.0, "read_noise_e": 0.0, "e_per_adu": 1.0}
    adu, (high, _) = read_out(np.full(40, 500.0), camera)
    assert np.all(adu == 150)  # 50 e / (1 e/ADU) + baseline 100
    assert high == 40
