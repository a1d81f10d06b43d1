"""Modulators, wavefront maps and amplitude maps: what they add, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from reference_pupil import modulated_psf

from simscope.errors import OpticsError
from simscope.optics import (
    PupilModel,
    array_mask,
    at_wavelength,
    make_amplitude_map,
    make_wavefront_map,
    objective_of,
    psf,
    pupil_roughness,
)
from simscope.optics.field import mode_values
from simscope.optics.modulator import shown_phase, shown_phasor
from simscope.recipe import (
    MASKS,
    AmplitudeMap,
    DoubleHelixMask,
    Optics,
    SpatialLightModulator,
    TetrapodMask,
    VortexMask,
    WavefrontMap,
    ZernikeWavefront,
    load_recipe,
)
from simscope.recipe.zernike_names import osa_to_fringe, osa_to_noll

WATER = {"na": 1.0, "wavelength_nm": 600, "n_sample": 1.33, "n_immersion": 1.33,
         "n_coverslip": 1.33, "accuracy": 1e-4}  # fmt: skip


def water(**parts):
    """A water objective with no interface, so that heights of both signs are allowed."""
    return Optics(**{**WATER, **parts})


def difference(a, b):
    """Largest difference of two images as a share of the peak."""
    return float(np.abs(a - b).max() / b.max())


def test_fine_pixels_and_many_levels_tend_to_the_ideal_mask():
    ideal = psf(water(mask=TetrapodMask()), 800.0)
    errors = [
        difference(
            psf(water(mask=TetrapodMask(), slm={"pixels_across": n, "levels": 256}), 800.0), ideal
        )
        for n in (20, 40, 80)
    ]
    # light lost to a pixel's diffraction orders goes as the square of the phase step across it
    assert errors[0] > 2.5 * errors[1] > 6.0 * errors[2]
    assert errors[2] < 0.05


@pytest.mark.parametrize(("across", "levels", "unmodulated"), [(24, 16, 0.1), (13, None, 0.0)])
def test_modulators_agree_with_the_light_of_their_pixels_to_1e4(across, levels, unmodulated):
    slm = {"pixels_across": across, "levels": levels, "unmodulated": unmodulated}
    optics = water(
        mask={"kind": "cubic", "alpha_rad": 9.0}, slm=slm, model="gibson_lanni", method="pupil"
    )
    model = PupilModel(optics, shape=(9, 11), pixel_nm=150.0, points=True)
    middle = (np.arange(across) + 0.5) * 2.0 / across - 1.0
    phase = 9.0 * (middle[:, None] ** 3 + middle**3)
    if levels:
        phase = 2 * np.pi / levels * np.round(phase * levels / (2 * np.pi))
    shown = np.sqrt(1 - unmodulated) * np.exp(1j * phase) + np.sqrt(unmodulated)
    y, x = ((np.arange(n) - n // 2) * 150.0 for n in (9, 11))
    exact = modulated_psf(1.0, 600.0, shown, x, y)
    # what is promised of pupils that jump between pixels
    np.testing.assert_allclose(model.images(0.0)[0], exact, atol=1e-4 * exact.max())


def test_modulator_shows_one_phase_a_pixel_of_its_levels():
    optics = water(mask=TetrapodMask(), slm={"pixels_across": 10, "levels": 8})
    line = np.linspace(-0.99, 0.99, 67)
    kx, ky = np.meshgrid(line, line)
    shown = shown_phasor(optics, objective_of(optics), kx, ky)
    row, column = np.floor(ky / 0.2).astype(int), np.floor(kx / 0.2).astype(int)
    for i, j in ((0, 0), (-3, 2), (4, -5)):
        inside = shown[(row == i) & (column == j)]
        np.testing.assert_allclose(inside, inside[0], atol=1e-12)
    levels = np.angle(shown) / (2.0 * np.pi / 8)
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-9)


def test_phase_is_wrapped_at_the_design_wavelength_only():
    slm = SpatialLightModulator(pixels_across=10)
    phase = np.array([-1.0, 0.5, 7.0])
    np.testing.assert_allclose(shown_phase(phase, slm), [2 * np.pi - 1, 0.5, 7 - 2 * np.pi])
    flat = slm.model_copy(update={"wrapped": False})
    np.testing.assert_allclose(shown_phase(phase, flat), phase)
    # a whole turn at the design wavelength is none: wrapping shows elsewhere alone
    kx, ky = np.random.default_rng(0).uniform(-0.7, 0.7, (2, 40))
    optics = water(mask=TetrapodMask(z_range_nm=8000.0), slm=slm)
    plate = optics.model_copy(update={"slm": flat})
    objective = objective_of(optics)
    np.testing.assert_allclose(
        shown_phasor(optics, objective, kx, ky), shown_phasor(plate, objective, kx, ky), atol=1e-9
    )
    red, red_plate = at_wavelength(optics, 650.0), at_wavelength(plate, 650.0)
    shown = shown_phasor(red, objective_of(red), kx, ky)
    turns = shown / shown_phasor(red_plate, objective_of(red), kx, ky)
    # apart by whole turns times 600/650
    steps = np.angle(turns) / (2.0 * np.pi * 50.0 / 650.0)
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-9)
    assert np.abs(steps).max() >= 1


@pytest.mark.parametrize("share", [0.05, 0.2])
def test_unmodulated_light_is_a_share_of_the_ideal_spot(share):
    # a vortex leaves the axis dark, so all light there is the zero order
    spot = psf(water(na=0.3), 0.0, shape=(1, 1), pixel_nm=20.0)[0, 0, 0]
    slm = {"pixels_across": 60, "unmodulated": share}
    optics = water(na=0.3, mask=VortexMask(), slm=slm)
    dark = psf(water(na=0.3, mask=VortexMask()), 0.0, shape=(1, 1), pixel_nm=20.0)[0, 0, 0]
    centre = psf(optics, 0.0, shape=(1, 1), pixel_nm=20.0)[0, 0, 0]
    # the dark centre is not quite dark: axial dipoles, and pixels on the vortex
    assert centre - (1 - share) * dark == pytest.approx(share * spot, rel=0.02)


def test_pupils_say_where_they_are_rough():
    for kind, model in MASKS.items():
        if kind in ("file", "array"):
            continue
        optics = water(mask=model())
        rough = pupil_roughness(optics, objective_of(optics))
        assert rough.smooth == (kind not in ("vortex", "double_helix"))
        assert bool(rough.radii_na) == (kind == "double_helix")
    shown = water(mask=DoubleHelixMask(), slm={"pixels_across": 8})
    rough = pupil_roughness(shown, objective_of(shown))
    np.testing.assert_allclose(rough.lines_na, [0.25, 0.5, 0.75])
    assert rough.jumps
    assert not rough.singular_centre
    odd = water(mask=DoubleHelixMask(), slm={"pixels_across": 5})
    np.testing.assert_allclose(pupil_roughness(odd, objective_of(odd)).lines_na, [0.2, 0.6])
    # splines meet at the middles of the pixels
    array = water(mask=array_mask(np.zeros((6, 6)), 0.4))
    np.testing.assert_allclose(pupil_roughness(array, objective_of(array)).lines_na, [0.2, 0.6])


def grid(size, pitch):
    """Pupil coordinates (kx, ky) [NA] of an array's pixels."""
    line = (np.arange(size) - 0.5 * (size - 1)) * pitch
    return np.meshgrid(line, line)


@pytest.mark.parametrize(
    ("unit", "per_nm"), [("nm", 1.0), ("rad", 2 * np.pi / 600), ("waves", 1 / 600)]
)
def test_wavefront_map_of_a_zernike_mode_is_that_mode(unit, per_nm):
    kx, ky = grid(65, 0.04)
    coma = 40.0 * per_nm * mode_values(8, kx, ky, 1.0)
    mapped = psf(water(wavefront_map=make_wavefront_map(coma, 0.04, unit=unit)), 200.0)
    modes = psf(water(wavefront=ZernikeWavefront(coefficients_nm={8: 40.0})), 200.0)
    # cubic splines carry a cubic exactly, but for their ends outside the pupil
    assert difference(mapped, modes) < 2e-4


def test_map_in_radians_scales_with_wavelength_unlike_one_in_nm():
    kx, ky = grid(41, 0.06)
    path = 50.0 * mode_values(5, kx, ky, 1.0)
    for unit, per_nm in (("nm", 1.0), ("waves", 1 / 600)):
        optics = water(wavefront_map=make_wavefront_map(path * per_nm, 0.06, unit=unit))
        red = at_wavelength(optics, 700.0)
        wavefront = water(wavelength_nm=700, wavefront=ZernikeWavefront(coefficients_nm={5: 50.0}))
        # the map was made at 600 nm: its path in nm stays
        assert difference(psf(red), psf(wavefront)) < 2e-4


def test_constant_amplitude_changes_nothing_and_an_opening_narrows_the_pupil():
    plain = psf(water(method="pupil"))
    half = psf(water(amplitude_map=make_amplitude_map(np.full((9, 9), 0.5), 0.3)))
    assert difference(half, plain) < 2e-4
    kx, ky = grid(201, 0.0101)
    stop = np.where(np.hypot(kx, ky) < 0.6, 1.0, 0.0)
    stopped = psf(water(amplitude_map=make_amplitude_map(stop, 0.0101)))
    # apodisation and the soft pixel-wide rim leave a few per cent
    assert difference(stopped, psf(water(na=0.6))) < 0.03
    assert stopped.max() < 0.5 * plain.max()


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e300])
def test_amplitudes_count_by_their_shape_alone(scale):
    kx, ky = grid(21, 0.12)
    values = np.exp(-(kx**2) - 2.0 * ky**2)
    images = [
        psf(water(amplitude_map=make_amplitude_map(v, 0.12)), shape=(9, 9))
        for v in (values, scale * values)
    ]
    assert difference(*images) < 1e-12


def test_maps_from_files_and_inline_are_one(tmp_path):
    values = np.random.default_rng(1).uniform(0.5, 1.0, (21, 21)).astype(np.float32)
    np.save(tmp_path / "map.npy", values)
    tifffile.imwrite(tmp_path / "map.tif", values)
    inline = psf(water(amplitude_map=make_amplitude_map(values, 0.12)), shape=(9, 9))
    for name in ("map.npy", "map.tif"):
        source = AmplitudeMap(path=str(tmp_path / name), na_per_pixel=0.12)
        assert np.array_equal(psf(water(amplitude_map=source), shape=(9, 9)), inline)


def test_maps_in_recipes_are_lossless_in_yaml():
    recipe = load_recipe("smlm-2d-dense")
    values = np.random.default_rng(2).normal(size=(7, 7))
    group = make_wavefront_map(values, 0.5, unit="rad").model_dump(exclude_none=True)
    changed = recipe.replace_all(
        {"optics.wavefront_map": group, "optics.slm": {"pixels_across": 300, "levels": 256}}
    )
    assert type(recipe).from_yaml(changed.to_yaml()) == changed


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"amplitude_map": make_amplitude_map(-np.eye(41), 0.1)}, "amplitude_map reaches -1"),
        ({"amplitude_map": make_amplitude_map(np.zeros((41, 41)), 0.1)}, "no light passes"),
        ({"amplitude_map": make_amplitude_map(np.ones((9, 9)), 0.1)}, "spans 0.45 of NA"),
        ({"wavefront_map": make_wavefront_map(np.ones((9, 9)), 0.1)}, "spans 0.45 of NA"),
        ({"mask": array_mask(np.zeros((9, 9)), 0.1)}, "spans 0.45 of NA"),
        ({"mask": TetrapodMask(), "slm": {"pixels_across": 900}}, "900 pixels across"),
        ({"wavefront_map": WavefrontMap(path="none.npy", na_per_pixel=1.0)}, "does not exist"),
    ],
)
def test_impossible_pupils_are_refused_with_the_number(parts, words):
    with pytest.raises(OpticsError, match=words):
        psf(water(**parts), shape=(5, 5))


@pytest.mark.parametrize(
    ("model", "values", "words"),
    [
        (SpatialLightModulator, {}, "one of the two"),
        (SpatialLightModulator, {"pixels_across": 9, "na_per_pixel": 0.1}, "one of the two"),
        (SpatialLightModulator, {"pixels_across": 9, "unmodulated": 1.0}, "unmodulated"),
        (SpatialLightModulator, {"pixels_across": 9, "levels": 1}, "levels"),
        (WavefrontMap, {"na_per_pixel": 0.1}, "path or values"),
        (ZernikeWavefront, {"indexing": "noll", "coefficients_nm": {0: 5.0}}, "below 1"),
        (ZernikeWavefront, {"indexing": "fringe", "coefficients_nm": {"six": 5.0}}, "whole number"),
    ],
)
def test_impossible_settings_are_refused_in_words(model, values, words):
    with pytest.raises(ValueError, match=words):
        model(**values)


@pytest.mark.parametrize(("indexing", "named"), [("noll", osa_to_noll), ("fringe", osa_to_fringe)])
def test_modes_named_by_noll_and_fringe_become_osa(indexing, named):
    modes = {3: 10.0, 8: -20.0, 12: 30.0}
    given = {named(osa): value for osa, value in modes.items()}
    wavefront = ZernikeWavefront(
        indexing=indexing, coefficients_nm=given, random_modes=(named(5),), rms_nm=9.0
    )
    assert wavefront == ZernikeWavefront(coefficients_nm=modes, random_modes=(5,), rms_nm=9.0)
    assert "indexing" not in wavefront.model_dump(exclude_none=True)
