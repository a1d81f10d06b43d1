"""Phase masks: what they add to the pupil, and what is refused."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.ndimage
from reference import published_convention_image

from simscope.errors import OpticsError, SimscopeWarning
from simscope.optics import (
    PupilModel,
    array_mask,
    at_wavelength,
    make_wavefront_map,
    mask_phase,
    objective_of,
    psf,
)
from simscope.optics.maps import array_phasor
from simscope.optics.masks import (
    cubic_alpha_rad,
    defocus_waves,
    design_phase,
    helix_radii_na,
    helix_turn_per_nm,
    load_mask,
    mask_phasor,
    tetrapod_phase,
)
from simscope.optics.modulator import pupil_transmission
from simscope.recipe import (
    MASKS,
    AstigmatismMask,
    CubicMask,
    DefocusMask,
    DoubleHelixMask,
    FileMask,
    Optics,
    SaddlePointMask,
    TetrapodMask,
    VortexMask,
    load_recipe,
)

PUBLISHED = Path(__file__).parents[2] / "shared" / "data" / "deepstorm3d"


def test_a_mask_pixel_lies_at_its_own_place_in_the_pupil():
    values = np.random.default_rng(0).uniform(-3, 3, (11, 11))
    row, column = np.mgrid[:11, :11]
    kx, ky = (column - 5) * 0.2, (row - 5) * 0.2
    np.testing.assert_allclose(
        array_phasor(values, 0.2, kx, ky, na=1.0), np.exp(1j * values), atol=1e-12
    )


def test_wrapped_and_unwrapped_masks_are_one():
    line = np.linspace(-6, 6, 61)
    values = line[None, :] + 0.3 * line[:, None] ** 2
    wrapped = np.angle(np.exp(1j * values))
    kx, ky = np.random.default_rng(1).uniform(-0.7, 0.7, (2, 50))
    a, b = (array_phasor(v, 0.04, kx, ky, na=1.0) for v in (values, wrapped))
    np.testing.assert_allclose(a, b, atol=1e-12)


def test_vortex_turns_as_often_as_its_charge():
    angle = np.linspace(-3, 3, 7)
    phase = mask_phase(
        VortexMask(charge=2), np.cos(angle), np.sin(angle), objective=objective_of(Optics())
    )
    np.testing.assert_allclose(np.exp(1j * phase), np.exp(2j * angle))


def test_tetrapod_phase_is_odd_under_a_quarter_turn():
    # this makes the image above focus the quarter-turned image below focus
    x, y = np.random.default_rng(2).uniform(-0.7, 0.7, (2, 40))
    np.testing.assert_allclose(tetrapod_phase(5.0, x, y), -tetrapod_phase(5.0, -y, x), atol=1e-12)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((4, 5)), "square"),
        (np.zeros(5), "square"),
        (np.full((90, 90), np.nan), "not finite"),
        (np.zeros((90, 90), complex), "real phases"),
        (np.zeros((20, 20)), "spans"),
    ],
)
def test_unusable_mask_files_are_refused_in_words(tmp_path, array, words):
    np.save(tmp_path / "mask.npy", array)
    optics = Optics(mask=FileMask(path=str(tmp_path / "mask.npy"), na_per_pixel=0.04))
    with pytest.raises(OpticsError, match=words):
        psf(optics)


def test_mat_files_give_their_only_array_or_the_named_one(tmp_path):
    scipy.io.savemat(tmp_path / "one.mat", {"a": np.eye(3)})
    scipy.io.savemat(tmp_path / "two.mat", {"a": np.eye(3), "b": 2 * np.eye(3)})
    assert load_mask(tmp_path / "one.mat")[0, 0] == 1
    assert load_mask(tmp_path / "two.mat", "b")[0, 0] == 2
    with pytest.raises(OpticsError, match=r"\['a', 'b'\]"):
        load_mask(tmp_path / "two.mat")
    with pytest.raises(OpticsError, match="does not exist"):
        load_mask(tmp_path / "none.mat")
    (tmp_path / "mask.txt").write_text("0")
    with pytest.raises(OpticsError, match="neither"):
        load_mask(tmp_path / "mask.txt")


def lobe_axis(image):
    """Second moments (x, y) of the brightest light [px^2]: which way the lobes lie."""
    bright = np.where(image > 0.4 * image.max(), image, 0.0)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    y, x = y - image.shape[0] // 2, x - image.shape[1] // 2
    return (bright * x**2).sum() / bright.sum(), (bright * y**2).sum() / bright.sum()


def test_tetrapod_lobes_lie_along_one_axis_above_focus_and_along_the_other_below():
    optics = Optics(
        na=1.45, wavelength_nm=670, n_coverslip=1.518, mask=TetrapodMask(z_range_nm=4000.0)
    )
    low, high = psf(optics, [200.0, 3800.0], 1500.0, shape=(61, 61), pixel_nm=110.0)
    low_x, low_y = lobe_axis(low)
    high_x, high_y = lobe_axis(high)
    assert max(low_x / low_y, low_y / low_x) > 4
    assert max(high_x / high_y, high_y / high_x) > 4
    assert (low_x > low_y) != (high_x > high_y)


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="published masks are not here")
def test_published_mask_spreads_the_image_over_its_range():
    mask = FileMask(path=str(PUBLISHED / "mask_tetrapod_printed.mat"), na_per_pixel=0.03)
    optics = Optics(na=1.45, wavelength_nm=670, n_coverslip=1.518, mask=mask, accuracy=0.01)
    low, high = psf(optics, [0.0, 4000.0], 1500.0, shape=(61, 61), pixel_nm=110.0)
    assert low.sum() > 0.5
    assert np.argmax(low) != np.argmax(high)


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="published masks are not here")
@pytest.mark.parametrize("z_nm", [300.0, 3500.0])
def test_published_masks_give_images_of_the_published_orientation(z_nm):
    # red if a sign of mask, height, focus or transform is turned: then another image wins
    values = load_mask(PUBLISHED / "mask_learned.mat")
    mask = FileMask(path=str(PUBLISHED / "mask_learned.mat"), na_per_pixel=0.016)
    optics = Optics(na=1.25, wavelength_nm=580, n_coverslip=1.518, mask=mask, accuracy=0.01)
    image = psf(optics, z_nm, 1500.0, shape=(61, 61), pixel_nm=110.0)[0]
    theirs = published_convention_image(
        values, 0.016, 1.25, 580, 1.33, 1.518, z_nm, 1500.0, 61, 110.0
    )
    likeness = {
        "as is": theirs,
        "rotated": theirs[::-1, ::-1],
        "mirrored": theirs[:, ::-1],
        "transposed": theirs.T,
    }
    scores = {n: np.corrcoef(image.ravel(), t.ravel())[0, 1] for n, t in likeness.items()}
    assert max(scores, key=lambda n: scores[n]) == "as is"
    # scalar, point-sampled and uniform against vectorial: close, not equal
    assert scores["as is"] > 0.9


def _write_v73(path: Path) -> None:
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(116) + bytes(8) + b"\x00\x02IM"
    path.write_bytes(header.ljust(512, b"\x00"))


def _truncated(path: Path) -> None:
    np.save(path, np.zeros((9, 9)))
    path.write_bytes(path.read_bytes()[:300])


def _truncated_mat(path: Path) -> None:
    scipy.io.savemat(path, {"mask": np.zeros((9, 9))})
    path.write_bytes(path.read_bytes()[:300])


UNREADABLE = {
    "text.npy": (lambda path: path.write_text("0.1 0.2\n0.3 0.4"), "write it with np.save"),
    "empty.npy": (lambda path: path.write_bytes(b""), "write it with np.save"),
    "short.npy": (_truncated, "write it with np.save"),
    "things.npy": (
        lambda path: np.save(path, np.array([[{}, 1], [2, 3]], object), allow_pickle=True),
        "write it with np.save",
    ),
    "text.mat": (lambda path: path.write_text("0.1 0.2\n0.3 0.4"), "export it again"),
    "empty.mat": (lambda path: path.write_bytes(b""), "export it again"),
    "short.mat": (_truncated_mat, "export it again"),
    "new.mat": (_write_v73, "resave as v7"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_files_that_hold_no_mask_are_refused_in_words(tmp_path, name):
    write, words = UNREADABLE[name]
    write(tmp_path / name)
    with pytest.raises(OpticsError, match=words):
        psf(Optics(mask=FileMask(path=str(tmp_path / name), na_per_pixel=0.03)), shape=(5, 5))


def test_flat_masks_from_files_are_no_mask(tmp_path):
    np.save(tmp_path / "flat.npy", np.zeros((101, 101)))
    optics = Optics(mask=FileMask(path=str(tmp_path / "flat.npy"), na_per_pixel=0.03))
    plain = psf(Optics(), shape=(9, 9))
    # both are computed to 1e-6 of the peak
    np.testing.assert_allclose(psf(optics, shape=(9, 9)), plain, atol=2e-6 * plain.max())


WATER = {"na": 1.0, "wavelength_nm": 600, "n_sample": 1.33, "n_immersion": 1.33,
         "n_coverslip": 1.33, "accuracy": 1e-4}  # fmt: skip


def water(**parts):
    """A water objective with no interface, so that heights of both signs are allowed."""
    return Optics(**{**WATER, **parts})


def across(image):
    """Distances (x, y) of the pixels from the window's middle [px]."""
    y, x = np.indices(image.shape)
    return x - image.shape[1] // 2, y - image.shape[0] // 2


@pytest.mark.parametrize("z_range_nm", [500.0, 1500.0])
def test_line_foci_of_astigmatism_lie_its_range_apart(z_range_nm):
    z = np.linspace(-z_range_nm, z_range_nm, 81)
    images = psf(water(mask=AstigmatismMask(z_range_nm=z_range_nm)), z, 0.0, (41, 41), 90.0)
    # the sharpest line: the brightest column of the light summed along it, and likewise rows
    narrow_x, narrow_y = (z[images.sum(axis).max(axis=1).argmax()] for axis in (1, 2))
    # narrow across y, so drawn out along x, above focus; steps are 1/40 of the range
    assert narrow_y - narrow_x == pytest.approx(z_range_nm, rel=0.05)


def test_astigmatism_draws_molecules_above_focus_out_along_its_angle():
    for angle in (0.0, 40.0, 90.0):
        mask = AstigmatismMask(z_range_nm=800.0, angle_deg=angle)
        image = psf(water(mask=mask), 400.0, 0.0, (41, 41), 60.0)[0]
        x, y = across(image)
        turn = np.angle((np.where(image > 0.3 * image.max(), image, 0) * (x + 1j * y) ** 2).sum())
        assert np.cos(turn - 2.0 * np.radians(angle)) > 0.99


def test_double_helix_turns_at_its_rate_and_keeps_two_lobes():
    mask = DoubleHelixMask(z_range_nm=2000.0)
    optics = water(na=1.2, mask=mask, accuracy=1e-3)
    z = np.linspace(-700.0, 700.0, 8)
    images = psf(optics, z, 0.0, (51, 51), 80.0)
    angles = []
    for image in images:
        x, y = across(image)
        bright = np.where(image > 0.5 * image.max(), image, 0.0)
        assert scipy.ndimage.label(bright)[1] == 2
        angles.append(0.5 * np.angle((bright * (x + 1j * y) ** 2).sum()))
    rate = np.polyfit(z, 0.5 * np.unwrap(2.0 * np.array(angles)), 1)[0]
    # the rings' middles in defocus stand for the rings, good to a tenth for few of them
    assert rate == pytest.approx(helix_turn_per_nm(mask, objective_of(optics)), rel=0.1)
    assert rate * 2000.0 < np.pi


def test_rings_of_the_double_helix_take_equal_steps_of_defocus():
    mask, objective = DoubleHelixMask(z_range_nm=4000.0), objective_of(Optics())
    radii = np.array([0.0, *helix_radii_na(mask, objective)])
    steps = np.diff(np.sqrt(objective.n_sample**2 - radii**2))
    np.testing.assert_allclose(steps, steps[0])


def test_cubic_mask_keeps_its_contrast_over_its_range_and_the_plain_pupil_does_not():
    # at the very ends half the contrast is left: the stationary point meets the pupil's edge
    z = np.linspace(-2100.0, 2100.0, 5)

    def steadiness(mask):
        """Smallest contrast over heights relative to the largest, at a quarter of the cutoff."""
        images = psf(water(na=1.2, mask=mask, accuracy=1e-3), z, 0.0, (101, 101), 125.0)
        spectrum = np.abs(np.fft.fft2(images))
        # 2 NA / wavelength is 50 steps of 1/(101 * 125 nm)
        contrast = spectrum[:, 12, 0] / spectrum[:, 0, 0]
        return contrast.min() / contrast.max()

    # high NA and the finite strength leave some change, a plain pupil loses all contrast
    assert steadiness(CubicMask(z_range_nm=6000.0)) > 0.6
    assert steadiness(None) < 0.1


def test_strength_of_the_cubic_mask_grows_with_its_range():
    objective = objective_of(water())
    waves = defocus_waves(objective, 3000.0)
    alpha = cubic_alpha_rad(CubicMask(z_range_nm=3000.0), objective)
    # 2 pi waves of defocus over the range, half to each side, is 1.5 alpha
    assert 1.5 * alpha == pytest.approx(np.pi * waves)
    assert cubic_alpha_rad(CubicMask(alpha_rad=-20.0), objective) == -20.0
    with pytest.raises(ValueError, match="one of the two"):
        CubicMask(alpha_rad=20.0, z_range_nm=2000.0)


def test_vortex_is_dark_in_the_middle_at_every_height():
    # axial dipoles and the pixel's width leave some light on the axis, little at this NA
    images = psf(water(na=0.5, mask=VortexMask()), [-600.0, 0.0, 600.0], 0.0, (31, 31), 50.0)
    assert (images[:, 15, 15] < 0.1 * images.max(axis=(1, 2))).all()


def test_defocus_mask_is_a_travel_of_the_objective():
    optics = Optics(method="pupil", mask=DefocusMask(defocus_nm=700.0))
    shifted = psf(Optics(method="pupil"), 300.0, 900.0, (21, 21))
    np.testing.assert_allclose(
        psf(optics, 300.0, 200.0, (21, 21)), shifted, atol=2e-6 * shifted.max()
    )


@pytest.mark.parametrize("mask", [TetrapodMask(), SaddlePointMask()])
def test_tetrapod_and_saddle_point_are_symmetric_and_turn_a_quarter_through_focus(mask):
    above, below = psf(water(mask=mask), [700.0, -700.0], 0.0, (41, 41))
    tolerance = 2e-4 * above.max()
    np.testing.assert_allclose(above, above[::-1, ::-1], atol=tolerance)
    np.testing.assert_allclose(above, np.rot90(below), atol=tolerance)


def test_transposed_array_transposes_the_image():
    values = np.random.default_rng(3).normal(0.0, 1.0, (41, 41))
    image, turned = (
        psf(water(mask=array_mask(v, 0.06)), 200.0, 0.0, (15, 15))[0] for v in (values, values.T)
    )
    np.testing.assert_allclose(turned, image.T, atol=2e-4 * image.max())


def test_tilt_moves_the_image_by_its_nanometres():
    line = (np.arange(51) - 25) * 0.05
    k = 2.0 * np.pi / 600.0
    tilt = array_mask(k * (200.0 * line[None, :] - 100.0 * line[:, None]), 0.05)
    plain = psf(water(method="pupil"), 0.0, 0.0, (17, 17))[0]
    # 200 nm to the right and 100 nm up, 2 and 1 pixels; splines of a phasor turning
    # 0.1 rad a pixel err by 1e-6
    moved = psf(water(mask=tilt), 0.0, 0.0, (17, 17))[0]
    np.testing.assert_allclose(moved[:-1, 2:], plain[1:, :-2], atol=2e-4 * plain.max())


def test_arrays_in_recipes_are_lossless_in_yaml():
    recipe = load_recipe("smlm-3d-tetrapod")
    values = np.random.default_rng(4).normal(size=(9, 9))
    group = array_mask(values, 0.4).model_dump(exclude_none=True)
    changed = recipe.replace("optics.mask", group)
    again = type(recipe).from_yaml(changed.to_yaml())
    assert again == changed
    assert np.array_equal(np.array(again.optics.mask.values), values)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros((3, 4)), "square"),
        (np.full((3, 3), np.inf), "finite"),
        (np.zeros((300, 300)), "kind file"),
        ([], "square"),
    ],
)
def test_arrays_that_are_no_mask_are_refused_in_words(values, words):
    with pytest.raises(ValueError, match=words):
        array_mask(values, 0.1)


@pytest.mark.parametrize("kind", MASKS)
def test_every_mask_says_what_it_does_and_computed_ones_cite_a_paper(kind):
    about, _, source = MASKS[kind].__doc__.partition("\n")
    assert about.endswith(".")
    assert kind in ("file", "array") or ("(20" in source or "(199" in source)


def test_masks_made_for_another_wavelength_disperse():
    optics = Optics(wavelength_nm=600.0, mask=TetrapodMask())
    redder = at_wavelength(optics, 660.0)
    kx, ky = np.random.default_rng(5).uniform(-0.9, 0.9, (2, 30))
    phases = [design_phase(o.mask, kx, ky, objective=objective_of(o)) for o in (optics, redder)]
    # the plate stays the same, its phase falls as 1/wavelength
    np.testing.assert_allclose(*phases, rtol=1e-12)
    there = mask_phasor(redder.mask, kx, ky, objective=objective_of(redder))
    np.testing.assert_allclose(there, np.exp(1j * phases[0] * 600.0 / 660.0), rtol=1e-9)
    assert at_wavelength(redder, 600.0).mask.design_wavelength_nm == 600.0


SCALAR = {"model": "gibson_lanni", "method": "pupil", "accuracy": 1e-6}


@pytest.mark.parametrize(
    ("mask", "na"),
    [
        (DoubleHelixMask(z_range_nm=3000.0), 1.2),
        # 4 rings at 500 nm would be 3 at 600 nm, and charges are no whole numbers there
        (DoubleHelixMask(z_range_nm=2200.0, design_wavelength_nm=500.0), 1.2),
        (VortexMask(charge=2), 1.2),
        (VortexMask(charge=3, design_wavelength_nm=520.0), 1.2),
        (VortexMask(charge=1), 0.7),
    ],
)
def test_ring_and_vortex_masks_agree_with_polar_quadrature_to_1e6(mask, na):
    optics = water(na=na, mask=mask, **SCALAR)
    model = PupilModel(optics, shape=(9, 9), pixel_nm=250.0, z_nm=(0.0, 600.0), points=True)
    image = model.images(600.0)[0]
    exact = polar_image(optics, 600.0, 9, 250.0)
    np.testing.assert_allclose(image, exact, atol=1e-6 * exact.max())


def test_quadrature_cut_at_pixels_agrees_with_plain_sums():
    # the plain sum on a square grid errs by 1e-3 at the pupil's stepped edge
    values = np.random.default_rng(6).uniform(-1.0, 1.0, (31, 31))
    for slm in (None, {"pixels_across": 24, "levels": 16, "unmodulated": 0.1}):
        optics = water(mask=array_mask(values, 0.1), slm=slm, **SCALAR)
        model = PupilModel(optics, shape=(9, 9), pixel_nm=120.0, z_nm=(0.0, 300.0), points=True)
        image = model.images(300.0)[0]
        exact = square_grid_image(optics, 300.0, 9, 120.0)
        np.testing.assert_allclose(image, exact, atol=3e-3 * exact.max())


def polar_image(optics, z_nm, pixels, pixel_nm):
    """Scalar image at the pixel middles [1/nm^2] by rings of 60 Gauss radii and 400 angles.

    Gauss angles too, between the two sides of the negative kx axis: at wavelengths a mask is not
    made for its phase jumps there.
    """
    objective = objective_of(optics)
    radii = helix_radii_na(optics.mask, objective) if optics.mask.kind == "double_helix" else ()
    node, weight = np.polynomial.legendre.leggauss(60)
    angle, angle_weight = np.polynomial.legendre.leggauss(400)
    angle, angle_weight = np.pi * angle, np.pi * angle_weight
    place = (np.arange(pixels) - pixels // 2) * pixel_nm
    k = 2.0 * np.pi / objective.wavelength_nm
    field = 0.0
    for low, high in itertools.pairwise((0.0, *radii, objective.na)):
        q = 0.5 * (high + low) + 0.5 * (high - low) * node
        kx, ky = q[:, None] * np.cos(angle), q[:, None] * np.sin(angle)
        area = (0.5 * (high - low) * weight * q)[:, None] * angle_weight
        phase = mask_phase(optics.mask, kx, ky, objective=objective)
        root = np.sqrt(objective.n_sample**2 - q**2)[:, None]
        source = (area * np.exp(1j * (phase + k * z_nm * root))).ravel()
        wave_y = np.exp(-1j * k * place[:, None] * ky.ravel())
        wave_x = np.exp(-1j * k * place[:, None] * kx.ravel())
        field = field + (wave_y * source) @ wave_x.T
    return np.abs(field) ** 2 / (np.pi * (objective.na * objective.wavelength_nm) ** 2)


def square_grid_image(optics, z_nm, pixels, pixel_nm):
    """Scalar image at the pixel middles [1/nm^2] from a plain sum over 700 x 700 pupil points."""
    objective = objective_of(optics)
    line = (np.arange(700) - 349.5) * (2.0 * objective.na / 700)
    kx, ky = np.meshgrid(line, line)
    inside = np.hypot(kx, ky) <= objective.na
    field = np.zeros(kx.shape, complex)
    root = np.sqrt(objective.n_sample**2 - (kx**2 + ky**2)[inside])
    static = pupil_transmission(optics, objective, kx[inside], ky[inside])
    field[inside] = static * np.exp(2j * np.pi / objective.wavelength_nm * z_nm * root)
    place = (np.arange(pixels) - pixels // 2) * pixel_nm
    wave = np.exp(-2j * np.pi / objective.wavelength_nm * place[:, None] * line)
    energy = (np.abs(field) ** 2).sum() * objective.wavelength_nm**2
    return np.abs(wave @ field @ wave.T) ** 2 * (2.0 * objective.na / 700) ** 2 / energy


def test_masks_too_steep_to_resolve_are_refused_with_the_numbers():
    with pytest.raises(OpticsError, match=r"turns by .* rad .* asks for about \d+ nodes"):
        psf(water(na=1.2, mask=CubicMask(alpha_rad=1000.0)), 500_000.0, shape=(9, 9))
    noise = np.random.default_rng(9).normal(0.0, 1e6, (41, 41))
    with pytest.raises(OpticsError, match="use a smoother mask or wavefront"):
        psf(water(wavefront_map=make_wavefront_map(noise, 0.06)), shape=(9, 9))


def test_much_work_is_announced(monkeypatch):
    # takes a moment; from 250 000 nodes on it takes seconds
    monkeypatch.setattr("simscope.optics.sampling.MANY_NODES", 1_000)
    noise = array_mask(np.random.default_rng(8).uniform(-3.0, 3.0, (41, 41)), 0.06)
    with pytest.warns(SimscopeWarning, match="million nodes"):
        psf(water(mask=noise, accuracy=1e-2), shape=(5, 5))


def test_arrays_of_noise_are_computed_to_the_accuracy_asked():
    noise = array_mask(np.random.default_rng(8).uniform(-3.0, 3.0, (41, 41)), 0.06)
    rough, fine = (psf(water(mask=noise, accuracy=a), 500.0, shape=(9, 9)) for a in (1e-3, 1e-6))
    assert np.abs(rough - fine).max() < 1e-3 * fine.max()
