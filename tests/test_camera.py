"""Laws of the cameras: photon transfer, excess noise, maps, saturation, and their inverses.

Statistical tests run on fixed keys; tolerances are multiples of the standard error named there.
"""

import warnings

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from simscope.camera import CameraMaps, adu_to_photons, camera_maps, detect, noise_model
from simscope.camera.settings import dark_electrons
from simscope.device import CPU
from simscope.errors import CameraError, SimscopeWarning
from simscope.keys import Key
from simscope.recipe.camera import CCD, EMCCD, SCMOS
from simscope.recipe.distributions import parse_distribution

KEY = Key(20)
SMALL = (8, 8) if numba.config.DISABLE_JIT else (64, 64)
needs_speed = pytest.mark.skipif(
    numba.config.DISABLE_JIT, reason="statistics of many frames need compiled kernels"
)


def expose(photons, camera, *, maps=None, sample=0, frame=0, exposure_s=0.0, parameters=None):
    """Counts of frames of these photons and the saturated pixels per frame."""
    photons = np.asarray(photons, np.float32)
    maps = camera_maps(camera, photons.shape[1:], KEY) if maps is None else maps
    return detect(
        photons,
        camera,
        maps,
        KEY,
        sample_index=sample,
        frame_index=frame,
        exposure_s=exposure_s,
        parameters=parameters,
    )


def flat(photons, frames, shape=SMALL):
    return np.full((frames, *shape), photons, np.float32)


def moments(photons, camera, frames=60, **options):
    """Mean and variance [ADU] over all pixels of independent flat frames, and their number."""
    adu, _ = expose(flat(photons, frames), camera, frame=np.arange(frames), **options)
    return adu.mean(), adu.var(dtype=np.float64), adu.size


# ---- noise ----


@needs_speed
@pytest.mark.parametrize("photons", [0.0, 2.0, 20.0, 500.0, 5000.0])
def test_variance_against_mean_is_the_photon_transfer_line(photons):
    # var [ADU^2] = qe photons / k^2 + (read / k)^2 + 1/12; standard error of a variance is
    # sqrt((2 + excess kurtosis) / n), the kurtosis of a Poisson variate at most 1/m; 5 sigma.
    camera = CCD(qe=0.7, read_noise_e=2.0, e_per_adu=0.5)
    mean, variance, n = moments(photons, camera)
    electrons = 0.7 * photons
    expected = electrons / 0.5**2 + (2.0 / 0.5) ** 2 + 1 / 12
    assert mean == pytest.approx(100 + electrons / 0.5, abs=5 * np.sqrt(expected / n))
    assert variance == pytest.approx(expected, rel=5 * np.sqrt(3 / n))


@needs_speed
@pytest.mark.parametrize("photons", [0.5, 5.0, 50.0])
def test_register_doubles_the_shot_noise(photons):
    # Excess noise factor sqrt 2 at any gain well above 1; compound Poisson kurtosis 12/m.
    camera = EMCCD(qe=1.0, em_gain=300, read_noise_e=30.0, e_per_adu=10.0, baseline_adu=200)
    mean, variance, n = moments(photons, camera, parameters={"clock_induced_charge_e": 0.0})
    gain = 300 / 10
    expected = gain**2 * 2 * photons + 3.0**2 + 1 / 12
    assert mean == pytest.approx(200 + gain * photons, abs=5 * np.sqrt(expected / n))
    assert variance == pytest.approx(expected, rel=5 * np.sqrt((2 + 12 / photons) / n))


@needs_speed
def test_single_electron_leaves_the_register_exponential():
    # Read noise 0, mean 0.01: of the pixels that hold charge, 0.5 % hold two electrons.
    camera = EMCCD(qe=1.0, em_gain=1000, read_noise_e=0, e_per_adu=1.0, clock_induced_charge_e=0.01)
    adu, _ = expose(flat(0.0, 200), camera, frame=np.arange(200))
    lit = adu[adu > 100].astype(float) - 100
    expected = stats.expon(scale=1000)
    assert lit.size == pytest.approx(adu.size * 0.01, rel=0.05)  # 5 sigma of 8192
    # Rounding moves the law by half a count, two electrons by 0.5 %; both below 0.02.
    assert stats.kstest(lit, expected.cdf).statistic < 0.02


@needs_speed
def test_dark_current_adds_shot_noise_in_proportion_to_time():
    camera = CCD(dark_e_per_s=40.0, read_noise_e=0.0, e_per_adu=0.1)
    for exposure_s in (0.0, 0.5, 2.0):
        mean, variance, n = moments(0.0, camera, exposure_s=exposure_s)
        electrons = 40 * exposure_s
        assert mean == pytest.approx(100 + electrons / 0.1, abs=5 * 10 * np.sqrt(electrons / n))
        assert variance == pytest.approx(electrons / 0.01, rel=5 * np.sqrt(3 / n))


@needs_speed
@pytest.mark.parametrize(
    "camera",
    [
        CCD(qe=0.6, read_noise_e=3.0, dark_e_per_s=10),
        SCMOS(read_noise_e=1.4, read_noise_sigma_log=0.4, gain_std=0.1, offset_std_adu=3),
        EMCCD(read_noise_e=50, e_per_adu=4.0, em_gain=100, clock_induced_charge_e=0.1),
    ],
)
def test_noise_model_gives_the_moments_that_frames_have(camera):
    frames, shape = 3000, (16, 16)
    maps = camera_maps(camera, shape, KEY)
    photons = np.linspace(0, 40, 256).reshape(shape)
    adu, _ = expose(
        np.broadcast_to(photons, (frames, *shape)),
        camera,
        maps=maps,
        frame=np.arange(frames),
        exposure_s=0.1,
    )
    model = noise_model(camera, maps, photons, exposure_s=0.1)
    electrons = (adu - 100.0 - maps.offset_adu) / model.adu_per_e
    variance = model.variance_e2 + 1 / 12 / model.adu_per_e**2
    # 256 pixels at once: 5 sigma each; kurtosis of dim EMCCD pixels reaches 12 / 0.1.
    error = np.sqrt(variance / frames)
    assert np.all(np.abs(electrons.mean(axis=0) - model.mean_e) < 5 * error)
    kurtosis = stats.kurtosis(electrons, axis=0)
    spread = np.sqrt((2 + np.maximum(kurtosis, 0)) / frames)
    assert np.all(np.abs(electrons.var(axis=0) / variance - 1) < 5 * spread)


# ---- maps ----


@needs_speed
def test_maps_are_recovered_from_darks_and_flats():
    # The calibration of Huang et al. 2013: offset and read noise from darks, gain from flats.
    camera = SCMOS(
        qe=1.0,
        read_noise_e=2.0,
        e_per_adu=0.5,
        offset_std_adu=5,
        gain_std=0.05,
        read_noise_sigma_log=0.3,
    )
    shape, frames = (24, 24), 4000
    maps = camera_maps(camera, shape, KEY)
    darks, _ = expose(flat(0, frames, shape), camera, maps=maps, frame=np.arange(frames))
    flats, _ = expose(
        flat(200, frames, shape), camera, maps=maps, sample=1, frame=np.arange(frames)
    )
    offset = darks.mean(axis=0) - 100
    gain = (flats.mean(axis=0) - darks.mean(axis=0)) * 0.5 / 200
    read = np.sqrt(darks.var(axis=0) - 1 / 12) * 0.5 / (2.0 * maps.gain)
    sigma_adu = 2.0 * maps.read_noise / 0.5
    assert np.all(np.abs(offset - maps.offset_adu) < 5 * sigma_adu * maps.gain / np.sqrt(frames))
    assert np.all(np.abs(gain - maps.gain) < 5 * 1.2 * np.sqrt(220 / frames) / 200)
    assert np.all(np.abs(read / maps.read_noise - 1) < 5 * np.sqrt(0.5 / frames))


def test_drawn_maps_have_the_spread_asked_for():
    camera = SCMOS(offset_std_adu=4.0, gain_std=0.03, read_noise_sigma_log=0.5)
    maps = camera_maps(camera, SMALL, KEY)
    n = maps.gain.size
    assert maps.gain.dtype == maps.offset_adu.dtype == maps.read_noise.dtype == np.float32
    # Standard error of a standard deviation: 1 / sqrt(2 n); 4 sigma.
    for values, sigma in [
        (maps.offset_adu, 4.0),
        (maps.gain - 1, 0.03),
        (np.log(maps.read_noise), 0.5),
    ]:
        assert values.std() == pytest.approx(sigma, rel=4 / np.sqrt(2 * n))
        assert values.mean() == pytest.approx(0, abs=4 * sigma / np.sqrt(n))


def test_maps_belong_to_the_chip_and_differ_from_each_other():
    camera = SCMOS(offset_std_adu=1.0, gain_std=0.1, read_noise_sigma_log=0.1)
    maps = camera_maps(camera, (8, 8), KEY)
    again = camera_maps(camera, (8, 8), KEY)
    other = camera_maps(camera, (8, 8), Key(21))
    np.testing.assert_array_equal(maps.offset_adu, again.offset_adu)
    assert not np.array_equal(maps.offset_adu, other.offset_adu)
    parts = [maps.offset_adu, (maps.gain - 1) / 0.1, np.log(maps.read_noise) / 0.1]
    for i in range(3):
        for j in range(i):
            assert abs(np.corrcoef(parts[i].ravel(), parts[j].ravel())[0, 1]) < 5 / 8


@pytest.mark.parametrize("camera", [CCD(), EMCCD()])
def test_ccd_and_emccd_are_flat(camera):
    maps = camera_maps(camera, (3, 5), KEY)
    assert maps.shape == (3, 5)
    assert np.all(maps.gain == 1)
    assert np.all(maps.offset_adu == 0)
    assert np.all(maps.read_noise == 1)


def test_maps_from_file_hold_read_noise_in_electrons(tmp_path):
    path = tmp_path / "maps.npz"
    read_noise_e = np.linspace(1, 3, 20).reshape(4, 5)
    np.savez(path, gain=np.full((4, 5), 1.1), offset_adu=np.ones((4, 5)), read_noise_e=read_noise_e)
    camera = SCMOS(maps_path=str(path), read_noise_e=1.6)
    maps = camera_maps(camera, (4, 5), KEY)
    np.testing.assert_allclose(maps.read_noise * 1.6, read_noise_e, rtol=1e-6)
    assert np.all(maps.gain == np.float32(1.1))
    drawn = SCMOS(maps_path=str(path), read_noise_e=parse_distribution({"uniform": [1, 2]}))
    relative = camera_maps(drawn, (4, 5), KEY).read_noise
    np.testing.assert_allclose(relative * np.median(read_noise_e), read_noise_e, rtol=1e-6)


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"gain": np.ones((4, 5))}, "lacks offset_adu, read_noise_e"),
        (dict.fromkeys(("gain", "offset_adu", "read_noise_e"), np.ones((5, 4))), "crop the map"),
        (dict.fromkeys(("gain", "offset_adu", "read_noise_e"), np.full((4, 5), np.nan)), "finite"),
        (dict.fromkeys(("gain", "offset_adu", "read_noise_e"), -np.ones((4, 5))), "above 0"),
        (
            {
                "gain": np.ones((4, 5)),
                "offset_adu": np.ones((4, 5)),
                "read_noise_e": -np.ones((4, 5)),
            },
            "below 0",
        ),
        (dict.fromkeys(("gain", "offset_adu", "read_noise_e"), np.array("text")), "numbers"),
        (dict.fromkeys(("gain", "offset_adu", "read_noise_e"), np.array([{}])), "numbers"),
    ],
)
def test_impossible_map_files_are_refused(tmp_path, arrays, complaint):
    path = tmp_path / "maps.npz"
    np.savez(path, **arrays)
    with pytest.raises(CameraError, match=complaint):
        camera_maps(SCMOS(maps_path=str(path)), (4, 5), KEY)


def test_missing_and_foreign_map_files_are_refused(tmp_path):
    with pytest.raises(CameraError, match="does not exist"):
        camera_maps(SCMOS(maps_path=str(tmp_path / "none.npz")), (4, 5), KEY)
    text = tmp_path / "text.npz"
    text.write_text("not a zip file")
    with pytest.raises(CameraError, match=r"is not an \.npz"):
        camera_maps(SCMOS(maps_path=str(text)), (4, 5), KEY)
    array = tmp_path / "array.npy"
    np.save(array, np.ones((4, 5)))
    with pytest.raises(CameraError, match=r"is not an \.npz"):
        camera_maps(SCMOS(maps_path=str(array)), (4, 5), KEY)


def test_noiseless_camera_contradicts_a_noisy_map_file(tmp_path):
    path = tmp_path / "maps.npz"
    ones = np.ones((4, 5))
    np.savez(path, gain=ones, offset_adu=ones, read_noise_e=2 * ones)
    with pytest.raises(CameraError, match="set read_noise_e to its median, 2"):
        camera_maps(SCMOS(maps_path=str(path), read_noise_e=0.0), (4, 5), KEY)
    np.savez(path, gain=ones, offset_adu=ones, read_noise_e=0 * ones)
    camera_maps(SCMOS(maps_path=str(path), read_noise_e=0.0), (4, 5), KEY)


def test_gains_that_reach_zero_are_refused():
    ones = np.ones((3, 3), np.float32)
    with pytest.raises(CameraError, match="lower gain_std"):
        CameraMaps(ones - np.eye(3, dtype=np.float32), 0 * ones, ones)


def test_maps_of_unlike_shapes_are_refused():
    ones = np.ones((3, 3), np.float32)
    with pytest.raises(CameraError, match="alike"):
        CameraMaps(ones, np.zeros((3, 4), np.float32), ones)


# ---- converter ----


def test_counts_saturate_at_the_top_code_and_are_counted():
    camera = CCD(bit_depth=8, e_per_adu=1.0)
    photons = flat(0.0, 2, (4, 4))
    photons[1] = 5000
    adu, saturated = expose(photons, camera, frame=[0, 1])
    assert np.all(adu[1] == 255)
    assert saturated.tolist() == [0, 16]


def test_full_well_saturates_below_the_converter():
    camera = CCD(full_well_e=1000, e_per_adu=1.0, read_noise_e=0.0)
    adu, saturated = expose(flat(5000.0, 1, (4, 4)), camera)
    assert np.all(adu == 1100)
    assert saturated.tolist() == [16]


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 50), st.floats(0, 500), st.integers(8, 16))
def test_noiseless_dark_frames_show_the_rounded_baseline(e_per_adu, baseline, bits):
    camera = CCD(e_per_adu=e_per_adu, baseline_adu=baseline, read_noise_e=0, bit_depth=bits)
    adu, _ = expose(flat(0.0, 1, (2, 3)), camera)
    expected = min(np.floor(np.float32(baseline) + np.float32(0.5)), 2**bits - 1)
    assert np.all(adu == expected)


def test_quantisation_rounds_to_whole_electrons_at_unit_gain():
    camera = CCD(qe=1.0, e_per_adu=1.0, read_noise_e=0.0, baseline_adu=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        adu, _ = expose(flat(3.0, 1, (8, 8)), camera)
    half, _ = expose(flat(3.0, 1, (8, 8)), camera, parameters={"e_per_adu": 2.0})
    np.testing.assert_array_equal(half, np.floor(adu / 2 + 0.5))


@needs_speed
def test_rounding_errors_are_uniform_within_half_a_count():
    # The same noise read by a converter 64 times finer shows what the coarse one rounded: the test
    # of Kolmogorov and Smirnov allows 2.2 / sqrt(n) (false alarm 1e-4), fine steps half of 1/64.
    photons = flat(300.0, 4)
    coarse, _ = expose(photons, CCD(qe=1.0, e_per_adu=1.0, read_noise_e=5.0), frame=np.arange(4))
    fine, _ = expose(photons, CCD(qe=1.0, e_per_adu=1 / 64, read_noise_e=5.0), frame=np.arange(4))
    error = (coarse - 100.0 - (fine - 100.0) / 64).ravel()
    assert np.abs(error).max() <= 0.5 + 1 / 128
    uniform = stats.uniform(-0.5, 1.0)
    assert stats.kstest(error, uniform.cdf).statistic < 2.2 / np.sqrt(error.size) + 1 / 128


@needs_speed
def test_as_many_pixels_saturate_as_the_poisson_tail_says():
    camera = CCD(qe=1.0, e_per_adu=1.0, read_noise_e=0.0, baseline_adu=0.0, bit_depth=8)
    adu, saturated = expose(flat(240.0, 50), camera, frame=np.arange(50))
    share = stats.poisson.sf(255, 240.0)  # 16 %, standard error by the binomial law; 5 sigma
    error = np.sqrt(share * (1 - share) / adu.size)
    assert saturated.sum() / adu.size == pytest.approx(share, abs=5 * error)


@needs_speed
def test_every_pixel_lies_on_a_transfer_line_of_its_own_gain():
    # Slope of variance [ADU^2] in mean [ADU] is gain / e_per_adu in each pixel. Darks leave it a
    # relative standard error of sqrt(2 / frames), of both variances, and the mean's is far below.
    frames, shape = 4000, (12, 12)
    camera = SCMOS(qe=1.0, read_noise_e=1.0, e_per_adu=0.5, gain_std=0.15, offset_std_adu=4)
    maps = camera_maps(camera, shape, KEY)
    dark, bright = (
        expose(flat(light, frames, shape), camera, maps=maps, sample=i, frame=np.arange(frames))[0]
        for i, light in enumerate((0.0, 400.0))
    )
    slope = (bright.var(axis=0) - dark.var(axis=0)) / (bright.mean(axis=0) - dark.mean(axis=0))
    assert np.all(np.abs(slope / (maps.gain / 0.5) - 1) < 5 * np.sqrt(2.1 / frames))


def test_maps_are_put_on_a_device_once():
    maps = camera_maps(SCMOS(gain_std=0.1), (3, 5), KEY)
    assert maps.on(CPU) is maps.on(CPU)
    np.testing.assert_array_equal(maps.on(CPU)[0].reshape(3, 5), maps.gain)


def test_counts_cut_at_zero_are_reported():
    with pytest.warns(SimscopeWarning, match="baseline_adu=0 is too low"):
        expose(flat(0.0, 1, (8, 8)), CCD(baseline_adu=0.0, read_noise_e=5.0))


# ---- counters ----


@needs_speed
@pytest.mark.parametrize("camera", [CCD(), SCMOS(read_noise_sigma_log=0.2), EMCCD()])
def test_bytes_do_not_depend_on_threads_or_batches(camera):
    photons = np.random.default_rng(2).gamma(2, 5, (12, 33, 31)).astype(np.float32)
    maps = camera_maps(camera, (33, 31), KEY)
    sample, frame = np.arange(12) // 3, np.arange(12) % 3
    counts = []
    for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
        before = numba.get_num_threads()
        numba.set_num_threads(threads)
        counts.append(expose(photons, camera, maps=maps, sample=sample, frame=frame)[0])
        numba.set_num_threads(before)
    np.testing.assert_array_equal(counts[0], counts[1])
    order = np.random.default_rng(3).permutation(12)
    shuffled, _ = expose(
        photons[order], camera, maps=maps, sample=sample[order], frame=frame[order]
    )
    np.testing.assert_array_equal(shuffled, counts[0][order])
    for i in range(12):
        alone, _ = expose(photons[i : i + 1], camera, maps=maps, sample=sample[i], frame=frame[i])
        np.testing.assert_array_equal(alone[0], counts[0][i])


def test_noise_depends_on_key_sample_and_frame():
    photons = flat(100.0, 1, (8, 8))
    base, _ = expose(photons, CCD())
    assert not np.array_equal(base, expose(photons, CCD(), sample=1)[0])
    assert not np.array_equal(base, expose(photons, CCD(), frame=1)[0])
    maps = camera_maps(CCD(), (8, 8), KEY)
    other, _ = detect(photons, CCD(), maps, Key(21), sample_index=0, frame_index=0, exposure_s=0.0)
    assert not np.array_equal(base, other)


def test_drawn_parameters_act_frame_by_frame():
    camera = CCD(baseline_adu=parse_distribution({"uniform": [50, 500]}), read_noise_e=0.0)
    adu, _ = expose(flat(0.0, 3, (2, 2)), camera, parameters={"baseline_adu": [50.0, 100.0, 500.0]})
    assert adu[:, 0, 0].tolist() == [50, 100, 500]


# ---- inverse ----


@needs_speed
@pytest.mark.parametrize(
    "camera",
    [
        CCD(qe=0.6),
        SCMOS(offset_std_adu=5, gain_std=0.1, e_per_adu=0.3),
        EMCCD(e_per_adu=5.0, clock_induced_charge_e=0.0),
    ],
)
def test_counts_convert_back_to_the_photons_without_bias(camera):
    maps = camera_maps(camera, SMALL, KEY)
    photons = adu_to_photons(
        expose(flat(12.0, 40), camera, maps=maps, frame=np.arange(40))[0], camera, maps
    )
    assert photons.dtype == np.float32
    error = photons.std(dtype=np.float64) / np.sqrt(photons.size)
    assert photons.mean(dtype=np.float64) == pytest.approx(12.0, abs=5 * error)


def test_noise_model_of_a_flat_chip_follows_the_formulae():
    plain = noise_model(CCD(qe=0.5, read_noise_e=2.0, e_per_adu=0.25), None, 10.0)
    assert (plain.mean_e, plain.variance_e2, plain.adu_per_e) == (5.0, 9.0, 4.0)
    camera = EMCCD(qe=0.5, read_noise_e=40, em_gain=20, e_per_adu=10.0, clock_induced_charge_e=1.0)
    multiplied = noise_model(camera, None, 10.0)
    assert (multiplied.mean_e, multiplied.variance_e2, multiplied.adu_per_e) == (6.0, 16.0, 2.0)


# ---- refusals ----


@pytest.mark.parametrize(
    ("photons", "complaint"),
    [
        (-1.0, "at least 0"),
        (np.nan, "photons=nan"),
        (np.inf, "exceed 1e\\+07"),
        (2e7, "mean electrons in a pixel exceed"),
    ],
)
def test_impossible_photons_are_refused(photons, complaint):
    with pytest.raises(CameraError, match=complaint):
        expose(flat(photons, 1, (2, 2)), CCD())


def test_photons_that_do_not_fit_the_chip_are_refused():
    maps = camera_maps(CCD(), (4, 4), KEY)
    for shape in [(4, 4), (1, 4, 5)]:
        with pytest.raises(CameraError, match="do not fit"):
            expose(np.ones(shape), CCD(), maps=maps)


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"gain": 1.0}, "cannot vary"),
        ({"em_gain": 10.0}, "cannot vary"),
        ({"qe": 1.5}, "outside"),
        ({"read_noise_e": -1.0}, "outside"),
        ({"qe": np.nan}, "outside"),
        ({"qe": [0.5, 0.5]}, "one value for each"),
    ],
)
def test_impossible_parameters_are_refused(parameters, complaint):
    with pytest.raises(CameraError, match=complaint):
        expose(flat(1.0, 3, (2, 2)), CCD(), parameters=parameters)


def test_a_drawn_field_needs_its_value():
    camera = CCD(qe=parse_distribution({"uniform": [0.5, 0.9]}))
    with pytest.raises(CameraError, match=r"camera\.qe is a distribution"):
        expose(flat(1.0, 1, (2, 2)), camera)


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        (0.5, "whole numbers"),
        (-1, "counters hold"),
        (2**32, "counters hold"),
        ([1, 2], "one number"),
    ],
)
def test_impossible_frame_numbers_are_refused(frame, complaint):
    with pytest.raises(CameraError, match=complaint):
        expose(flat(1.0, 3, (2, 2)), CCD(), frame=frame)


@pytest.mark.parametrize("exposure_s", [-1.0, np.nan, np.inf])
def test_impossible_exposures_are_refused(exposure_s):
    with pytest.raises(CameraError, match="seconds >= 0"):
        dark_electrons(CCD(), exposure_s)


@pytest.mark.parametrize("photons", [-1.0, np.nan, np.inf])
def test_noise_model_refuses_impossible_photons(photons):
    with pytest.raises(CameraError, match="expected photons"):
        noise_model(CCD(), None, photons)


def test_no_frames_give_no_counts():
    adu, saturated = expose(np.empty((0, 4, 4)), CCD())
    assert adu.shape == (0, 4, 4)
    assert saturated.shape == (0,)


def test_noise_model_takes_the_maps_pixel_by_pixel():
    gain = np.array([[1.0, 1.5]], np.float32)
    maps = CameraMaps(gain, np.array([[0.0, 7.0]], np.float32), np.array([[1.0, 3.0]], np.float32))
    model = noise_model(SCMOS(qe=0.5, read_noise_e=2.0, e_per_adu=0.5), maps, [[10.0, 20.0]])
    np.testing.assert_allclose(model.mean_e, [[5.0, 10.0]])
    np.testing.assert_allclose(model.variance_e2, [[5.0 + 4.0, 10.0 + 36.0]])
    np.testing.assert_allclose(model.adu_per_e, [[2.0, 3.0]])


def test_counts_convert_back_with_offset_gain_and_efficiency():
    gain = np.array([[1.0, 1.5]], np.float32)
    maps = CameraMaps(gain, np.array([[0.0, 7.0]], np.float32), np.ones((1, 2), np.float32))
    camera = SCMOS(qe=0.5, e_per_adu=0.5, baseline_adu=100.0)
    np.testing.assert_allclose(adu_to_photons([[120, 137]], camera, maps), [[20.0, 20.0]])
    np.testing.assert_allclose(adu_to_photons([[120, 120]], camera), [[20.0, 20.0]])


def test_each_frame_is_judged_by_its_own_efficiency():
    photons = flat(1.0, 2, (2, 2))
    photons[1] = 1.1e7
    adu, saturated = expose(photons, CCD(), parameters={"qe": [1.0, 0.5]})
    assert saturated.tolist() == [0, 4]
    assert np.all(adu[1] == 65535)
