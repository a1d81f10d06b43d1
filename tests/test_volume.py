"""Volumes imaged plane by plane, against sums over points; what transforms must not do."""

import warnings

import numba
import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_volume import summed_convolution, summed_points

import simscope as ss
from simscope.device import Device
from simscope.errors import DeviceError, OpticsError, SimscopeWarning
from simscope.optics import VolumeImager, Voxels, convolution, image_volume, volume
from simscope.optics.collection import relative_collection
from simscope.optics.convolution import SummedConvolution, tiling
from simscope.optics.volume_modes import shared_modes

pytestmark = pytest.mark.filterwarnings("ignore::simscope.SimscopeWarning")

MATCHED = ss.Optics(na=1.2, wavelength_nm=600, n_sample=1.33, n_immersion=1.33)
MISMATCHED = ss.Optics(na=1.3, wavelength_nm=600, n_sample=1.36, n_immersion=1.518)
ASTIGMATIC = MATCHED.model_copy(
    update={"wavefront": ss.load_recipe("psf-zernike").optics.wavefront.model_copy(
        update={"random_modes": (), "coefficients_nm": {3: 60.0, 7: 40.0}})}
)  # fmt: skip
SINGLE = 1e-6
"""What single precision may add up to, as a share of the brightest pixel."""


def photons(shape, seed=1):
    """A volume of unlike voxels, a third of them dark."""
    random = np.random.default_rng(seed)
    values = random.gamma(2.0, 50.0, shape) * (random.random(shape) < 0.67)
    return values.astype(np.float32)


@pytest.mark.parametrize("optics", [MATCHED, MISMATCHED, ASTIGMATIC])
def test_volume_is_the_sum_of_its_points(optics):
    values = photons((6, 13, 10))
    asked = {"voxel_nm": (250.0, 100.0, 100.0), "z0_nm": 150.0, "focus_nm": [300.0, 1000.0]}
    exact = summed_points(values, optics, **asked, window=15)
    seen = image_volume(
        values, optics, **asked, window_px=15, accuracy=1e-6, accept_energy_loss=True
    )
    assert seen.dtype == np.float32
    assert np.abs(seen - exact).max() < SINGLE * exact.max()


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 4), st.integers(0, 20), st.integers(0, 16))
def test_single_voxel_looks_like_an_emitter_at_its_centre(z, y, x):
    values = np.zeros((5, 21, 17))
    values[z, y, x] = 800.0
    seen = image_volume(
        values, MISMATCHED, voxel_nm=(300.0, 110.0, 110.0), focus_nm=500.0, window_px=41,
        accuracy=1e-5, accept_energy_loss=True,
    )  # fmt: skip
    exact = 800.0 * ss.psf(MISMATCHED, 300.0 * z, 500.0, (41, 41), 110.0)[0]
    here = exact[20 - y : 41 - y, 20 - x : 37 - x]
    assert np.abs(seen - here).max() < 2e-5 * exact.max()


@pytest.mark.parametrize("finer", [2, 3])
def test_voxels_finer_than_pixels_are_placed_inside_them(finer):
    side = 21
    values = np.zeros((1, finer * side, finer * side), np.float32)
    row, column = finer * 10, finer * 9 + finer - 1
    values[0, row, column] = 1.0
    seen = image_volume(
        values, MATCHED, voxel_nm=(200.0, 120.0 / finer, 120.0 / finer), pixel_nm=120.0,
        focus_nm=300.0, window_px=40 * finer + 1, accuracy=1e-6, accept_energy_loss=True,
    )  # fmt: skip
    shift_y, shift_x = (((k + 0.5) / finer - 10.5) * 120.0 for k in (row, column))
    exact = ss.psf(MATCHED, 0.0, 300.0, (side, side), 120.0, y_nm=shift_y, x_nm=shift_x)[0]
    inside = (slice(1, -1), slice(1, -1))
    assert np.abs(seen - exact)[inside].max() < 3e-6 * exact.max()


def test_moving_the_volume_moves_the_image():
    values = np.zeros((4, 60, 60), np.float32)
    values[:, 20:30, 20:34] = photons((4, 10, 14))
    moved = np.roll(values, (5, -3), axis=(1, 2))
    asked = {"voxel_nm": (300.0, 100.0, 100.0), "focus_nm": 500.0, "window_px": 27}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SimscopeWarning)
        first, second = (image_volume(v, MISMATCHED, **asked) for v in (values, moved))
    assert np.abs(np.roll(first, (5, -3), axis=(0, 1)) - second).max() < SINGLE * first.max()


def test_light_of_two_volumes_adds():
    imager = VolumeImager(MATCHED, Voxels((5, 30, 31), (200.0, 90.0, 90.0), 0.0), 400.0, 90.0)
    first, second = photons((5, 30, 31), 1), photons((5, 30, 31), 2)
    both = imager.image(3.0 * first + second)
    apart = 3.0 * imager.image(first) + imager.image(second)
    assert np.abs(both - apart).max() < SINGLE * both.max()


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 2), (2, 1, 5)])
def test_few_voxels_are_imaged_exactly_whatever_misses_the_frame(shape):
    values = photons(shape) + np.float32(1.0)
    asked = {"voxel_nm": (300.0, 100.0, 100.0), "z0_nm": 0.0, "focus_nm": 900.0}
    with warnings.catch_warnings():
        warnings.simplefilter("error", SimscopeWarning)
        seen = image_volume(values, MISMATCHED, **asked, accuracy=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SimscopeWarning)
        exact = summed_points(values, MISMATCHED, **asked, window=9)[0]
    assert np.abs(seen - exact).max() < 2e-6 * exact.max()
    voxels = Voxels(shape, asked["voxel_nm"], 0.0)
    assert VolumeImager(MISMATCHED, voxels, 900.0, 100.0).energy_left_out_max == 0.0


def test_an_impossible_accuracy_is_told_with_the_range_to_choose_from():
    with pytest.raises(OpticsError, match=r"\[1e-6, 0.1\] for volumes: choose one in that range"):
        image_volume(np.ones((1, 9, 9)), MATCHED, voxel_nm=100.0, accuracy=0)


@pytest.mark.parametrize(
    ("shape", "foci", "asked", "fault"),
    [
        ((1000, 8192, 8192), 1, {}, "larger than 1073741824 voxels: image it piece by piece"),
        ((200, 64, 64), 2000, {"window_px": 63}, "take 38.1 GB for PSFs.*fewer foci at a time"),
        ((2, 8192, 8192), 100, {}, "80.5 GB for images of 8192 x 8192, more than 16"),
    ],
)
def test_volumes_beyond_memory_are_refused_before_any_work(monkeypatch, shape, foci, asked, fault):
    monkeypatch.setattr(volume, "image_model", None)
    with pytest.raises(OpticsError, match=fault):
        image_volume(
            np.broadcast_to(np.float32(1.0), shape), MATCHED, voxel_nm=100.0,
            focus_nm=np.linspace(0.0, 1000.0, foci), **asked,
        )  # fmt: skip


def test_windows_chosen_by_themselves_are_judged_before_their_psfs_are_made(monkeypatch):
    monkeypatch.setattr(volume._PlanePsfs, "images", None)
    with pytest.raises(OpticsError, match=r"200 planes at 2000 foci take .* GB for PSFs of"):
        VolumeImager(MATCHED, Voxels((200, 64, 64), (10.0, 100.0, 100.0), 0.0),
                     np.linspace(0.0, 2000.0, 2000), 100.0)  # fmt: skip


def test_windows_narrower_than_the_field_still_count_what_they_cut_off():
    voxels = Voxels((1, 4, 5), (300.0, 100.0, 100.0), 0.0)
    with pytest.raises(OpticsError, match="falls outside the rendering window of 7 pixels"):
        VolumeImager(MISMATCHED, voxels, 900.0, 100.0, window_px=7)


@pytest.mark.parametrize("z", [0, 3, 6])
def test_light_is_kept_but_for_what_the_window_leaves_out(z):
    values = np.zeros((7, 81, 81), np.float32)
    values[z, 40, 40] = 1000.0
    seen = image_volume(values, MISMATCHED, voxel_nm=(200.0, 100.0, 100.0), focus_nm=600.0,
                        window_px=51)  # fmt: skip
    held = ss.psf(MISMATCHED, 200.0 * z, 600.0, (51, 51), 100.0).sum()
    assert seen.sum(dtype=np.float64) == pytest.approx(1000.0 * held, rel=1e-4)


def test_automatic_window_holds_the_light_of_the_hardest_plane():
    voxels = Voxels((21, 128, 128), (200.0, 100.0, 100.0), 0.0)
    imager = VolumeImager(MATCHED, voxels, 2000.0, 100.0)
    assert imager.energy_left_out_max <= 1.0 - volume.HELD_SHARE
    side = imager.window_px - 2
    held = ss.psf(MATCHED, voxels.heights_nm, 2000.0, (side, side), 100.0).sum(axis=(1, 2))
    assert held.min() < volume.HELD_SHARE


def test_depth_has_its_own_aberration_under_mismatch_and_none_without():
    """Planes in their own focus look alike through matched media only (Hell et al. 1993)."""
    for optics, alike in ((MATCHED, True), (MISMATCHED, False)):
        peaks = []
        for z_nm in (500.0, 10500.0):
            values = np.ones((1, 1, 1)) * 1.0
            padded = np.pad(values, ((0, 0), (20, 20), (20, 20)))
            focus = z_nm if alike else float(ss.optics.best_focus(optics, z_nm)[0])
            seen = image_volume(padded, optics, voxel_nm=100.0, z0_nm=z_nm, focus_nm=focus,
                                accept_energy_loss=True, window_px=41)  # fmt: skip
            peaks.append(float(seen.max()))
        if alike:
            assert peaks[1] == pytest.approx(peaks[0], rel=1e-3)
        else:
            assert peaks[1] < 0.8 * peaks[0]


def test_every_focus_of_a_stack_is_the_image_at_that_focus():
    values = photons((8, 24, 24))
    asked = {"voxel_nm": (150.0, 100.0, 100.0), "window_px": 25, "accept_energy_loss": True}
    foci = [0.0, 400.0, 800.0]
    stack = image_volume(values, MISMATCHED, focus_nm=foci, **asked)
    alone = [image_volume(values, MISMATCHED, focus_nm=focus, **asked) for focus in foci]
    assert stack.shape == (3, 24, 24)
    assert np.abs(stack - np.stack(alone)).max() < 1e-4 * stack.max()


def test_foci_in_groups_give_the_same_bits(monkeypatch):
    values, voxels = photons((6, 20, 22)), Voxels((6, 20, 22), (200.0, 100.0, 100.0), 0.0)
    asked = (MATCHED, voxels, [0.0, 300.0, 600.0], 100.0)
    together = VolumeImager(*asked).image(values)
    monkeypatch.setattr(volume, "TRANSFER_BYTES", 1)
    assert np.array_equal(VolumeImager(*asked).image(values), together)


@pytest.mark.parametrize("shape", [(17, 23), (9, 40), (1, 5)])
def test_convolutions_add_up_as_four_loops_do(shape):
    planes, random = photons((3, *shape)), np.random.default_rng(5)
    kernels = random.random((3, 7, 9))
    exact = summed_convolution(planes, kernels)
    seen = SummedConvolution(kernels[None], shape)(planes)[0]
    assert np.abs(seen - exact).max() < SINGLE * exact.max()


@pytest.mark.parametrize("longest", [24, 40, 64])
def test_tiles_join_without_a_seam(monkeypatch, longest):
    planes = photons((2, 150, 131))
    kernels = np.random.default_rng(6).random((1, 2, 13, 9))
    monkeypatch.setattr(convolution, "KERNELS_PER_TILE", 1)
    whole = SummedConvolution(kernels, (150, 131))
    monkeypatch.setattr(convolution, "SHORTEST_TILE", longest)
    monkeypatch.setattr(convolution, "LONGEST_TILE", longest)
    tiled = SummedConvolution(kernels, (150, 131))
    assert whole.rows.step == 150
    assert max(tiled.rows.step, tiled.columns.step) < 64
    exact = sum(
        scipy.signal.fftconvolve(p.astype(float), k, "same")
        for p, k in zip(planes, kernels[0], strict=True)
    )
    for made in (whole, tiled):
        assert np.abs(made(planes)[0] - exact).max() < SINGLE * exact.max()


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 3000), st.integers(0, 200), st.booleans())
def test_tiles_cover_the_field_once_and_nothing_wraps_onto_them(length, half, real):
    cut = tiling(length, half, real=real)
    expected = 0
    for tile in cut.tiles():
        assert tile.result.start == expected
        expected = tile.result.stop
        count = tile.result.stop - tile.result.start
        assert tile.within.stop - tile.within.start == count
        # light from the piece's end comes round to its start, and the other way about
        field = tile.field.stop - tile.field.start
        assert field - 1 + half - cut.size < tile.within.start
        assert cut.size - half > tile.within.stop - 1
        assert tile.field.start == max(0, tile.result.start - half)
        assert tile.field.stop == min(length, tile.result.stop + half)
    assert expected == length


@pytest.mark.parametrize("corner", [(0, 0), (0, -1), (-1, 0), (-1, -1)])
def test_light_leaves_the_field_and_never_comes_back(corner):
    values = np.zeros((1, 60, 50), np.float32)
    values[0][corner] = 1.0
    seen = image_volume(values, MATCHED, voxel_nm=100.0, focus_nm=2000.0, window_px=41,
                        accept_energy_loss=True)  # fmt: skip
    far = np.flip(seen, axis=[k for k in (0, 1) if corner[k] == -1])
    assert far[:21, :21].sum() > 0.1
    assert max(far[21:].max(), far[:, 21:].max()) < 1e-7


def test_shared_modes_keep_their_promise():
    voxels = Voxels((40, 64, 64), (100.0, 100.0, 100.0), 0.0)
    foci = np.array([500.0, 2500.0])
    psfs, _, _ = volume._PlanePsfs(MISMATCHED, voxels, foci, 1e-7, {}).images(45)
    for accuracy in (1e-3, 1e-5):
        modes = shared_modes(psfs, accuracy)
        assert modes.mix is not None
        assert 8 < len(modes.images) < 32
        built = np.tensordot(modes.mix.T, modes.images, 1)
        peaks = psfs.max(axis=(1, 2, 3))[:, None, None, None]
        worst = (np.abs(built - psfs) / peaks).max()
        light = np.abs((built - psfs).sum(axis=(2, 3))).max()
        assert max(worst, light) <= modes.error <= accuracy


def test_modes_are_as_many_as_the_light_needs_where_pixels_need_fewer():
    """Planes unlike in a faint glow that is wide: little in any pixel, ten times that in all."""
    y, x = np.mgrid[-16:17, -16:17]
    core, glow = np.exp(-1.0 * (x**2 + y**2)), np.full((33, 33), 33.0**-2)
    shares = 0.5 + 3e-3 * np.sin(3.0 * np.arange(12))
    psfs = 0.5 * core / core.sum() + shares[:, None, None] * glow
    modes = shared_modes(psfs[:, None], 1e-3)
    assert modes.mix is not None
    built = np.tensordot(modes.mix.T, modes.images, 1)[:, 0]
    assert np.abs((built - psfs).sum(axis=(1, 2))).max() <= modes.error <= 1e-3


def test_weights_of_planes_count_where_modes_are_fewer_than_planes():
    voxels = Voxels((30, 24, 20), (100.0, 100.0, 100.0), 0.0)
    asked = {"window_px": 31, "accept_energy_loss": True}
    imager = VolumeImager(MISMATCHED, voxels, [500.0, 900.0], 100.0, **asked)
    assert imager.modes < 20
    values, weights = photons(voxels.shape), np.linspace(0.2, 1.0, 30, dtype=np.float32)
    seen, expected = imager.image(values, weights), imager.image(values * weights[:, None, None])
    assert np.abs(seen - expected).max() < SINGLE * expected.max()


def test_coarse_stacks_keep_an_image_for_every_plane():
    voxels = Voxels((5, 64, 64), (2000.0, 100.0, 100.0), 0.0)
    imager = VolumeImager(MATCHED, voxels, 3300.0, 100.0, accept_energy_loss=True)
    assert imager.modes == 5
    mirrored = VolumeImager(MATCHED, voxels, 4000.0, 100.0, accept_energy_loss=True)
    assert mirrored.modes == 3


def test_threads_change_no_bit():
    voxels = Voxels((30, 70, 90), (100.0, 100.0, 100.0), 0.0)
    imager = VolumeImager(MISMATCHED, voxels, [500.0, 900.0], 100.0)
    values, before, images = photons(voxels.shape), numba.get_num_threads(), []
    for threads in {1, before}:
        numba.set_num_threads(threads)
        images.append(imager.image(values).tobytes())
    numba.set_num_threads(before)
    assert len(set(images)) == 1


def test_another_device_gives_the_same_image():
    """NumPy's own transforms stand in for a GPU's: arrays taken whole, no pieces."""
    voxels = Voxels((12, 40, 44), (150.0, 100.0, 100.0), 0.0)
    values = photons(voxels.shape)
    here, there = (
        VolumeImager(MATCHED, voxels, [300.0, 900.0], 100.0, device=device).image(values)
        for device in (Device("cpu", np), Device("cuda", np))
    )
    assert np.abs(here - there).max() < SINGLE * here.max()


def test_relative_collection_dims_planes_far_from_the_coverslip():
    optics = MISMATCHED.model_copy(update={"collection": "relative"})
    values = photons((3, 16, 16))
    asked = {"voxel_nm": (200.0, 100.0, 100.0), "focus_nm": 100.0, "window_px": 31}
    share = relative_collection(optics, 200.0 * np.arange(3))
    expected = image_volume(values * share[:, None, None], MISMATCHED, **asked)
    seen = image_volume(values, optics, **asked)
    assert np.abs(seen - expected).max() < 2 * SINGLE * expected.max()


def test_much_light_outside_the_window_is_told_or_refused():
    asked = {"voxel_nm": (200.0, 100.0, 100.0), "focus_nm": 1500.0}
    with pytest.raises(OpticsError, match=r"% of the light at z_nm=0.*accept_energy_loss"):
        image_volume(photons((2, 30, 30)), MATCHED, window_px=11, **asked)
    with pytest.warns(SimscopeWarning, match="falls outside"):
        image_volume(photons((2, 30, 30)), MATCHED, window_px=45, **asked)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pixel_nm": 150.0}, "no whole multiple of the voxels' 100 nm.*75 nm|150 nm"),
        ({"pixel_nm": np.nan}, "pixel_nm=nan is not finite"),
        ({"pixel_nm": -100.0}, "pixel_nm=-100 is not above 0"),
        ({"volume": np.full((3, 20, 20), 1e38, np.float32)}, r"1e\+38 photons in a voxel, more"),
        ({"volume": np.full((3, 20, 20), 1e300)}, r"1e\+300 photons in a voxel, more than 1e\+20"),
        ({"pixel_nm": 300.0}, "does not fill pixels of 3 x 3: crop or pad"),
        ({"voxel_nm": (200.0, 100.0, 90.0)}, "resample the volume to voxels that are square"),
        ({"voxel_nm": (200.0, 100.0)}, r"give \(z, y, x\)"),
        ({"voxel_nm": -5.0}, "all above 0"),
        ({"volume": np.ones((20, 20))}, r"give \(z, y, x\) voxels"),
        ({"volume": -np.ones((3, 20, 20))}, "-1 photons in a voxel: subtract"),
        ({"volume": np.full((3, 20, 20), np.nan)}, "not finite"),
        ({"volume": np.ones((3, 20, 20), complex)}, "complex128 holds no photons"),
        ({"z0_nm": -50.0}, "below the coverslip"),
        ({"z0_nm": "0"}, "z0_nm='0'"),
        ({"window_px": 10}, "window of 10 voxels: give an odd number"),
        ({"accuracy": 1e-9}, r"lies outside \[1e-6, 0.1\]"),
        ({"focus_nm": np.nan}, "focus_nm"),
        ({"optics": "na"}, "not Optics"),
    ],
)
def test_bad_requests_are_named(change, message):
    asked = {
        "volume": np.ones((3, 20, 20)),
        "optics": MISMATCHED,
        "voxel_nm": (200.0, 100.0, 100.0),
    }
    with pytest.raises(OpticsError, match=message):
        image_volume(**(asked | change))


def test_optics_that_change_over_the_field_are_refused():
    optics = ss.load_recipe("smlm-2d-field").optics
    with pytest.raises(OpticsError, match="field_dependence"):
        image_volume(np.ones((3, 20, 20)), optics, voxel_nm=100.0)


def test_a_device_given_by_a_name_that_is_none_is_refused():
    with pytest.raises(DeviceError, match="device='gpu' is unknown"):
        image_volume(np.ones((3, 20, 20)), MATCHED, voxel_nm=100.0, device="gpu")


def test_an_imager_serves_one_shape():
    imager = VolumeImager(MATCHED, Voxels((2, 16, 16), (200.0, 100.0, 100.0), 0.0), 0.0, 100.0)
    with pytest.raises(OpticsError, match=r"\(2, 16, 15\) was given where \(2, 16, 16\)"):
        imager.image(np.ones((2, 16, 15)))
