"""Phase masks: what they add to the pupil, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io
from reference import published_convention_image

from simscope.errors import OpticsError
from simscope.optics import mask_phase, objective_of, psf, pupil
from simscope.optics.masks import array_phasor, load_mask, tetrapod_phase
from simscope.recipe import FileMask, Optics, TetrapodMask, VortexMask

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
    # masks from files are computed to 1e-3 of the peak
    np.testing.assert_allclose(psf(optics, shape=(9, 9)), plain, atol=1e-3 * plain.max())


def test_masks_of_noise_are_given_up_after_few_probes(tmp_path, monkeypatch):
    probed = []
    field = pupil._Probe.field
    monkeypatch.setattr(pupil._Probe, "field", lambda self, n: probed.append(n) or field(self, n))
    np.save(tmp_path / "noise.npy", np.random.default_rng(0).uniform(-3, 3, (101, 101)))
    optics = Optics(mask=FileMask(path=str(tmp_path / "noise.npy"), na_per_pixel=0.03))
    with pytest.raises(OpticsError, match="smoother mask"):
        psf(optics, 500.0, shape=(33, 33))
    assert len(probed) <= 4
