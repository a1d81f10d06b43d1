"""What callers hand to the PSF models is judged before anything is computed."""

import warnings

import numpy as np
import pytest

import simscope as ss
from simscope.errors import OpticsError, WindowWarning
from simscope.optics import best_focus, optics_at
from simscope.optics.masks import load_mask
from simscope.recipe import Optics

WRONG = {
    "a word as height": ({"z_nm": "100"}, "z_nm='100' is no plain number"),
    "truth as height": ({"z_nm": True}, "z_nm=True is no plain number"),
    "words as foci": ({"focus_nm": ["0", "1"]}, "focus_nm=.* is no plain number"),
    "a complex focus": ({"focus_nm": 1j}, "focus_nm=1j is no plain number"),
    "rows of two lengths": ({"z_nm": [[1, 2], [3]]}, "z_nm=.* is no plain number"),
    "heights and foci that do not match": (
        {"z_nm": [0, 1, 2], "focus_nm": [0, 1]}, r"z_nm of shape \(3,\), focus_nm of shape \(2,\)"
    ),
    "truth as a mode": ({"wavefront_nm": {True: 1}}, "OSA index True"),
    "half a place": ({"field_nm": (1,)}, r"field_nm=\(1,\) is no place"),
    "no place": ({"field_nm": None}, "field_nm=None is no place"),
    "a number as place": ({"field_nm": 5}, "field_nm=5 is no place"),
    "a place in space": ({"field_nm": (1, 2, 3)}, "is no place"),
    "letters as place": ({"field_nm": "ab"}, "field_nm='ab' is no place"),
    "a place that is nowhere": ({"field_nm": (float("nan"), 0)}, "is no place"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_number_is_named_and_not_computed(case):
    given, words = WRONG[case]
    with pytest.raises(OpticsError, match=words):
        ss.psf(Optics(), shape=(5, 5), **given)


@pytest.mark.parametrize("place", [("a", 0), (None, 0), (0, float("nan"))])
def test_optics_are_asked_for_at_a_place(place):
    with pytest.raises(OpticsError, match="is no place"):
        optics_at(Optics(), *place)


def test_pixels_too_wide_for_the_pupil_model_are_named():
    with pytest.raises(OpticsError, match=r"pixel_nm=20000 is too wide .* give smaller pixels"):
        ss.psf(Optics(method="pupil"), shape=(5, 5), pixel_nm=2e4)


def test_a_word_has_no_best_focus():
    with pytest.raises(OpticsError, match="z_nm='a' is no plain number"):
        best_focus(Optics(), "a")


def test_whole_numbers_and_single_precision_are_numbers():
    heights = [0, np.float32(100.0), np.int64(200)]
    images = ss.psf(Optics(), heights, shape=(5, 5), field_nm=np.zeros(2))
    np.testing.assert_array_equal(images, ss.psf(Optics(), [0.0, 100.0, 200.0], shape=(5, 5)))


def test_a_folder_is_no_mask_and_nobody_is_told_to_unpickle(tmp_path):
    with pytest.raises(OpticsError, match=r"is a folder: name a file in mask\.path"):
        load_mask(tmp_path)
    (tmp_path / "mask.npy").write_text("not an array")
    with pytest.raises(OpticsError, match=r"write it with np\.save") as refused:
        load_mask(tmp_path / "mask.npy")
    assert "pickle" not in str(refused.value)


def test_light_outside_the_window_is_told_with_its_share():
    optics = Optics(n_sample=1.33)
    with pytest.warns(WindowWarning, match=r"(\d+) % of the light at z_nm=3000") as told:
        image = ss.psf(optics, [0, 3000], shape=(15, 15))
    share = float(str(told[0].message).split(" %")[0])
    # told in whole percent
    assert abs(share - 100 * (1 - image[1].sum())) <= 0.5


def test_a_window_that_holds_the_light_and_a_dim_section_bring_no_warning():
    confocal = {"kind": "confocal", "excitation_wavelength_nm": 500, "pinhole_airy_units": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("error", WindowWarning)
        ss.psf(Optics(n_sample=1.518), 0, shape=(41, 41))
        section = ss.psf(Optics(n_sample=1.518, modality=confocal), 0, 600, (61, 61), 60)
    # it is the pinhole that takes the light out of focus, not the window
    assert section.sum() < 0.8
