"""The PSF layer: equal to the model it copies, gradients equal to differences."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning"),
]

from reference_pupil import aberrated_pixels  # noqa: E402

import simscope as ss  # noqa: E402
from simscope.errors import OpticsError  # noqa: E402
from simscope.evaluate import psf_crlb  # noqa: E402
from simscope.learn.information import Detection, bounds_nm  # noqa: E402
from simscope.learn.psf_layer import (  # noqa: E402
    PixelPhase,
    PsfLayer,
    ZernikePhase,
    with_room_for,
)
from simscope.optics import PupilModel, pixel_shares, pupil_arrays  # noqa: E402
from simscope.optics.maps import array_phasor  # noqa: E402
from simscope.recipe import AmplitudeMap, Optics  # noqa: E402

OIL = Optics(na=1.45, wavelength_nm=670, n_coverslip=1.518, n_sample=1.33)
WATER = Optics(na=1.1, wavelength_nm=600, n_sample=1.33, n_immersion=1.33)
STACK = {"na": 1.1, "wavelength_nm": 600, "ns": 1.33, "ng": 1.523, "ng0": 1.523, "ni": 1.33}
STACK |= {"ni0": 1.33, "tg": 170e3, "tg0": 170e3, "ti0": 150e3}
MODES, RAD = (3, 5, 7, 12), np.array([0.9, -0.5, 0.7, 0.4])
Z_NM, SHAPE, PIXEL_NM = [100.0, 900.0], (17, 15), 110.0
PLACE = {"focus_nm": 400.0, "x_nm": 30.0, "y_nm": -45.0}


def layer_of(optics=OIL, phase=None, **how):
    window = {"shape": SHAPE, "pixel_nm": PIXEL_NM, "z_nm": (0.0, 1000.0)}
    window |= {"focus_nm": (0.0, 500.0), "reach_nm": 60.0, "strength_rad": 1.5}
    return PsfLayer(optics, aberrated() if phase is None else phase, **(window | how))


def aberrated():
    phase = ZernikePhase(MODES)
    phase.coefficients_rad.data = torch.from_numpy(RAD)
    return phase


def pixelated(size=12, na=1.1):
    phase = PixelPhase(size, 2.0 * na / (size - 2))
    phase.phase_rad.data = torch.from_numpy(np.random.default_rng(3).normal(size=(size, size)))
    return phase


def in_nm(optics=OIL):
    return dict(zip(MODES, RAD * optics.wavelength_nm / (2 * np.pi), strict=True))


def relative(images, expected):
    return np.abs(images.detach().numpy() - expected).max() / expected.max()


@pytest.mark.parametrize(
    "optics", [OIL, WATER, OIL.model_copy(update={"model": "gibson_lanni", "blur_nm": 30.0})]
)
def test_layer_of_modes_equals_the_psf_of_that_wavefront(optics):
    expected = ss.psf(
        optics, Z_NM, shape=SHAPE, pixel_nm=PIXEL_NM, wavefront_nm=in_nm(optics), **PLACE
    )
    images = layer_of(optics)(Z_NM, **PLACE)
    assert relative(images, expected) < 3e-6  # both are within 1e-6 of the peak


def test_light_lost_in_the_optics_own_pupil_is_no_light_of_the_image():
    values = np.full((24, 24), 0.3)
    values[6:18, 6:18] = 1.0  # bright in the middle of the pupil alone
    dimmed = WATER.model_copy(
        update={"amplitude_map": AmplitudeMap(values=values, na_per_pixel=0.1), "accuracy": 3e-6}
    )
    expected = ss.psf(
        dimmed, Z_NM, shape=SHAPE, pixel_nm=PIXEL_NM, wavefront_nm=in_nm(WATER), **PLACE
    )
    images = layer_of(dimmed, accuracy=3e-6)(Z_NM, **PLACE)
    assert relative(images, expected) < 1e-4


def test_a_quadrature_has_room_for_the_strength_asked_for():
    limits_nm = with_room_for(ZernikePhase(MODES), OIL, 3.0)[1]
    assert list(limits_nm) == list(MODES)
    assert np.hypot.reduce(list(limits_nm.values())) == pytest.approx(3.0 * 670 / (2 * np.pi))


def test_layer_of_pixels_equals_the_psf_of_that_array_mask():
    phase = pixelated()
    masked = WATER.model_copy(update={"mask": phase.mask, "accuracy": 3e-6})
    expected = ss.psf(masked, Z_NM, shape=SHAPE, pixel_nm=PIXEL_NM, **PLACE)
    images = layer_of(WATER, phase, accuracy=3e-6)(Z_NM, **PLACE)
    assert relative(images, expected) < 1e-5


def test_layer_equals_a_sum_over_rays_written_from_the_textbook():
    def path_nm(rho, phi):
        return 60.0 * np.sqrt(8) * (3 * rho**3 - 2 * rho) * np.sin(phi)  # (3, -1), OSA 7

    phase = ZernikePhase([7])
    phase.coefficients_rad.data[:] = 60.0 * 2 * np.pi / 600
    pixels = (np.arange(3) - 1) * PIXEL_NM
    x, y = np.meshgrid(pixels, pixels)
    twin = aberrated_pixels(
        STACK, path_nm, x.ravel() - 30, y.ravel() + 45, PIXEL_NM, 900, 400, order=5
    )
    image = layer_of(WATER, phase, shape=(3, 3))(900.0, **PLACE)
    assert relative(image, twin.reshape(1, 3, 3)) < 1e-5


def test_single_precision_keeps_five_digits():
    layer = layer_of()
    exact = layer(Z_NM, **PLACE).detach().numpy()
    assert relative(layer.single()(Z_NM, **PLACE), exact) < 1e-5
    assert layer(Z_NM, **PLACE).dtype == torch.float32


def test_slopes_equal_those_of_the_pupil_model():
    model = PupilModel(
        OIL, shape=SHAPE, pixel_nm=PIXEL_NM, z_nm=(0, 1000), focus_nm=(0, 500), reach_nm=60,
        wavefront_limit_nm=in_nm(), any_direction=False,
    )  # fmt: skip
    expected = model.slopes(Z_NM, **PLACE, wavefront_nm=in_nm())
    slopes = layer_of().slopes(Z_NM, **PLACE).detach().numpy()
    for k in range(4):
        error = np.abs(slopes[:, k] - expected[:, k]).max()
        assert error < 1e-5 * np.abs(expected[:, k]).max()


@pytest.mark.parametrize("kind", ["modes", "pixels"])
def test_gradients_by_the_mask_equal_differences(kind):
    phase = aberrated() if kind == "modes" else pixelated()
    layer = layer_of(WATER, phase, accuracy=1e-4)
    (values,) = phase.parameters()
    weights = torch.from_numpy(np.random.default_rng(1).normal(size=(2, *SHAPE)))

    def cost():
        return (weights * layer(Z_NM, **PLACE)).sum()

    (gradient,) = torch.autograd.grad(cost(), values)
    flat, step = values.data.view(-1), 1e-5
    for index in (0, len(flat) // 2, len(flat) // 2 + 4, len(flat) - 1):
        if index >= len(flat):
            continue
        with torch.no_grad():
            flat[index] += step
            above = cost()
            flat[index] -= 2 * step
            below = cost()
            flat[index] += step
        difference = float(above - below) / (2 * step)
        assert float(gradient.view(-1)[index]) == pytest.approx(difference, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", ["z_nm", "focus_nm", "x_nm", "y_nm"])
def test_gradients_by_the_place_equal_differences(name):
    layer, middle = layer_of(accuracy=1e-4), {"z_nm": 900.0} | PLACE
    value = torch.tensor([middle[name]], dtype=torch.float64, requires_grad=True)

    def centre(at):
        return layer(**(middle | {name: at}))[0, 7, 9]

    (gradient,) = torch.autograd.grad(centre(value), value)
    difference = (centre(middle[name] + 0.01) - centre(middle[name] - 0.01)) / 0.02
    assert float(gradient) == pytest.approx(difference.item(), rel=1e-6)


def test_slopes_by_place_equal_gradients_by_place():
    layer = layer_of(accuracy=1e-4)
    slopes = layer.slopes(900.0, **PLACE)[0, 1:, 7, 9]
    for slope, name in zip(slopes, ("x_nm", "y_nm", "z_nm"), strict=True):
        place = {"z_nm": 900.0} | PLACE
        value = torch.tensor([place[name]], dtype=torch.float64, requires_grad=True)
        image = layer(**(place | {name: value}))[0, 7, 9]
        assert float(slope) == pytest.approx(float(torch.autograd.grad(image, value)[0]), rel=1e-9)


@pytest.mark.parametrize("camera", ["scmos", "emccd"])
def test_bounds_in_torch_equal_those_of_evaluate(camera):
    recipe = ss.load_recipe("smlm-3d-tetrapod")
    if camera == "emccd":
        recipe = recipe.replace("camera", {"kind": "emccd", "pixel_pitch_um": 11, "em_gain": 100})
    expected = psf_crlb(
        Optics(**OIL.model_dump() | {"wavefront": {"coefficients_nm": in_nm()}}),
        Z_NM, 400.0, photons=2000, background_photons=15, camera=recipe.camera,
        exposure_ms=recipe.acquisition.exposure_ms, pixel_nm=PIXEL_NM, shape=SHAPE,
    )  # fmt: skip
    slopes = layer_of().slopes(Z_NM, 400.0)
    bounds = bounds_nm(slopes, 2000, 15, Detection(recipe)).detach().numpy()
    for column, name in zip(bounds.T, ("x_nm", "y_nm", "z_nm"), strict=True):
        np.testing.assert_allclose(column, expected[name], rtol=1e-4)


def test_pixel_shares_are_those_of_the_splines_of_array_masks():
    values = np.random.default_rng(2).uniform(-3, 3, (9, 9))
    arrays = pupil_arrays(PupilModel(WATER, shape=(5, 5), pixel_nm=110.0))
    pitch = 2 * 1.1 / 8
    along = pixel_shares(9, pitch, arrays.kx)
    across = pixel_shares(9, pitch, arrays.ky[:, 0])
    between = np.einsum("rj,rci,ji->rc", across, along, np.exp(1j * values))
    expected = array_phasor(values, pitch, arrays.kx, arrays.ky, na=1.1)
    np.testing.assert_allclose(between, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"bead_diameter_nm": 100.0}, "bead_diameter_nm"),
        ({"model": "gaussian"}, "one pupil"),
        ({"mask": {"kind": "tetrapod"}}, "set mask to None"),
    ],
)
def test_optics_the_layer_cannot_follow_are_refused(change, says):
    optics = Optics(**WATER.model_dump() | change)
    with pytest.raises(OpticsError, match=says):
        layer_of(optics, pixelated())
