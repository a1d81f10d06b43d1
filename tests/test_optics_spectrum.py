"""Emission spectra: Gauss's rules over wavelength against dense sums."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from scipy.integrate import quad

import simscope as ss
from simscope.errors import OpticsError, RecipeError
from simscope.optics import Reach, Window
from simscope.optics.model import molecule_model
from simscope.optics.spectrum import (
    SpectrumModel,
    at_wavelength,
    detected_photons,
    gauss_rule,
    transmission,
)
from simscope.recipe import Optics

pytestmark = pytest.mark.skipif(
    numba.config.DISABLE_JIT, reason="images by interpreted kernels take minutes"
)

WATER = {"na": 1.2, "n_sample": 1.33, "n_immersion": 1.33}
FILTER = {"low_nm": 580.0, "high_nm": 640.0}
GAUSSIAN = {"kind": "gaussian", "fwhm_nm": 60.0, "filter": FILTER}


def bell(wavelength_nm):
    return np.exp(-4 * np.log(2) * ((wavelength_nm - 600.0) / 60.0) ** 2)


def test_a_narrow_spectrum_is_monochromatic():
    narrow = ss.psf(Optics(spectrum={"kind": "gaussian", "fwhm_nm": 0.01}, **WATER))
    plain = ss.psf(Optics(**WATER))
    # second order in 0.01/600, and two models' accuracy
    assert np.abs(narrow - plain).max() < 1e-6 * plain.max()


def test_three_nodes_hold_moments_up_to_the_fifth_order():
    points, masses = detected_photons(Optics(spectrum=GAUSSIAN))
    nodes, weights = gauss_rule(points, masses, 3)
    whole = quad(bell, 580, 640, epsabs=1e-13)[0]
    for order in range(6):
        exact = quad(lambda w, n=order: bell(w) * ((w - 610) / 30) ** n, 580, 640, epsabs=1e-13)[0]
        ours = (weights * ((nodes - 610) / 30) ** order).sum()
        assert ours == pytest.approx(exact / whole, abs=1e-10)


def test_the_image_is_the_photon_weighted_mean_over_wavelengths():
    where = {"z_nm": [0.0, 700.0], "shape": (15, 15), "pixel_nm": 80.0}
    ours = ss.psf(Optics(spectrum=GAUSSIAN, **WATER), **where)
    node, weight = np.polynomial.legendre.leggauss(40)
    wavelengths = 610.0 + 30.0 * node
    shares = weight * bell(wavelengths)
    shares /= shares.sum()
    dense = sum(
        s * ss.psf(Optics(wavelength_nm=w, **WATER), **where)
        for s, w in zip(shares, wavelengths, strict=True)
    )
    assert np.abs(ours - dense).max() < 1e-6 * dense.max()
    mono = ss.psf(Optics(**WATER), **where)
    assert np.abs(mono - dense).max() > 1e-3 * dense.max()


def test_more_accuracy_takes_more_wavelengths():
    counts = [
        SpectrumModel(
            Optics(spectrum=GAUSSIAN, **WATER), Window((15, 15), 100.0), Reach((0.0, 1500.0)),
            accuracy, molecule_model,
        ).wavelengths_nm.size
        for accuracy in (1e-2, 1e-4, 1e-6)
    ]  # fmt: skip
    assert counts[0] < counts[1] < counts[2] < 12


def test_slopes_are_the_derivatives_of_the_images():
    optics = Optics(spectrum=GAUSSIAN, **WATER)
    model = SpectrumModel(optics, Window((7, 7), 80.0), Reach((290.0, 310.0)), 1e-7, molecule_model)
    by_hand = (model.images(302.0) - model.images(298.0))[0] / 4.0
    slope = model.slopes(300.0)[0, 3]
    assert np.abs(slope - by_hand).max() < 1e-3 * np.abs(by_hand).max()


def test_a_csv_file_is_read_like_a_list(tmp_path):
    path = tmp_path / "dye.csv"
    path.write_text("wavelength,photons\n# a comment\n550,0\n600,1\n680,0\n")
    listed = {"kind": "table", "wavelengths_nm": [550, 600, 680], "values": [0, 1, 0]}
    from_file = detected_photons(Optics(spectrum={"kind": "table", "path": str(path)}))
    from_list = detected_photons(Optics(spectrum=listed))
    assert (from_file[0] == from_list[0]).all()
    assert (from_file[1] == from_list[1]).all()
    centre = (from_file[0] * from_file[1]).sum()
    assert centre == pytest.approx((550 + 600 + 680) / 3)  # centroid of a triangle


def test_a_filter_with_soft_edges_passes_half_at_its_edges():
    bandpass = Optics(spectrum={**GAUSSIAN, "filter": {**FILTER, "edge_nm": 10.0}}).spectrum.filter
    passed = transmission(bandpass, np.array([570.0, 575.0, 580.0, 585.0, 610.0, 640.0, 650.0]))
    assert passed == pytest.approx([0, 0, 0.5, 1, 1, 0.5, 0])


def test_a_mask_keeps_the_wavelength_it_is_made_for():
    optics = Optics(mask={"kind": "vortex"}, spectrum=GAUSSIAN)
    assert at_wavelength(optics, 620.0).mask.design_wavelength_nm == 600.0
    named = Optics(mask={"kind": "vortex", "design_wavelength_nm": 650.0})
    assert at_wavelength(named, 620.0).mask.design_wavelength_nm == 650.0


@pytest.mark.parametrize(
    ("spectrum", "words"),
    [
        ({"kind": "gaussian", "fwhm_nm": 0}, "fwhm_nm"),
        ({**GAUSSIAN, "filter": {"low_nm": 640, "high_nm": 580}}, "never opens"),
        ({"kind": "table"}, "wavelengths_nm with values"),
        ({"kind": "table", "wavelengths_nm": [600, 590], "values": [1, 1]}, "do not rise"),
        ({"kind": "table", "wavelengths_nm": [580, 590], "values": [1, -1]}, "negative"),
        ({"kind": "table", "wavelengths_nm": [5, 590], "values": [1, 1]}, "outside"),
        ({"kind": "table", "wavelengths_nm": [580, 590], "values": [1]}, "one value"),
    ],
)
def test_impossible_spectra_are_refused_in_words(spectrum, words):
    with pytest.raises(RecipeError, match=words):
        Optics(spectrum=spectrum)


def test_spectra_that_cannot_be_imaged_are_refused_in_words(tmp_path):
    blocked = {**GAUSSIAN, "filter": {"low_nm": 900, "high_nm": 950}}
    with pytest.raises(OpticsError, match="passes nothing"):
        ss.psf(Optics(spectrum=blocked))
    with pytest.raises(OpticsError, match="add a filter"):
        ss.psf(Optics(spectrum={"kind": "gaussian", "fwhm_nm": 400}))
    with pytest.raises(OpticsError, match="cannot read"):
        ss.psf(Optics(spectrum={"kind": "table", "path": str(tmp_path / "none.csv")}))
    path = tmp_path / "bad.csv"
    path.write_text("600,1\n610,one\n")
    with pytest.raises(OpticsError, match="610,one"):
        ss.psf(Optics(spectrum={"kind": "table", "path": str(path)}))


def test_a_double_helix_is_imaged_over_a_spectrum():
    # its rings are cut for 600 nm, at other wavelengths charges are no whole numbers
    mask = {"kind": "double_helix", "z_range_nm": 2400.0}
    spectrum = {"kind": "gaussian", "fwhm_nm": 40.0}
    where = {"z_nm": 300.0, "shape": (9, 9), "pixel_nm": 300.0}
    rough, fine = (
        ss.psf(Optics(mask=mask, spectrum=spectrum, accuracy=a, **WATER), **where)
        for a in (1e-3, 1e-5)
    )
    assert np.abs(rough - fine).max() < 1e-3 * fine.max()
