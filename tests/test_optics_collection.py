"""Collected light and evanescent excitation: energy is conserved, and known limits are met."""

import math

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_dipoles import power_flow

from simscope.errors import OpticsError
from simscope.optics import (
    CollectedLight,
    collected_fraction,
    critical_angle_deg,
    evanescent_depth_nm,
    moments,
)
from simscope.optics.collection import (
    collected_power,
    emitted_power,
    far_collected_power,
    relative_collection,
)
from simscope.optics.interfaces import objective_of
from simscope.recipe import FixedDipole, Optics

SITUATIONS = {
    "oil/water": {"na": 1.4, "n_sample": 1.33, "n_coverslip": 1.523, "n_immersion": 1.518},
    "TIRF oil/water": {"na": 1.49, "n_sample": 1.33, "n_coverslip": 1.523, "n_immersion": 1.518},
    "water/water": {"na": 1.2, "n_sample": 1.33, "n_coverslip": 1.523, "n_immersion": 1.33},
    "dense mount": {"na": 1.4, "n_sample": 1.56, "n_coverslip": 1.523, "n_immersion": 1.518},
    "air": {"na": 0.3, "n_sample": 1.0, "n_coverslip": 1.523, "n_immersion": 1.0},
    "nearly matched": {"na": 1.45, "n_sample": 1.515, "n_coverslip": 1.523, "n_immersion": 1.518},
}
ALONG, ACROSS = (FixedDipole(polar_deg=p, azimuth_deg=0) for p in (0, 90))
MATCHED = Optics(na=1.4, n_sample=1.518, n_coverslip=1.518, n_immersion=1.518)
OIL_WATER = Optics(**SITUATIONS["oil/water"])


@pytest.mark.parametrize("name", SITUATIONS)
@pytest.mark.parametrize("z", [0.0, 40.0, 500.0])
def test_energy_is_conserved_and_reciprocity_gives_the_collected_part(name, z):
    optics = Optics(**SITUATIONS[name])
    objective = objective_of(optics)
    stack = {
        "na": optics.na, "wavelength_nm": optics.wavelength_nm, "ns": optics.n_sample,
        "ng": optics.n_coverslip, "ni": optics.n_immersion,
    }  # fmt: skip
    emitted, collected = (
        power(objective, np.array([z]))[0] for power in (emitted_power, collected_power)
    )
    for axis in (0, 2):
        up, down, through = power_flow(stack, axis, z)
        # the twin's midpoint sums err by 1e-8
        assert emitted[axis] == pytest.approx(up + down, rel=5e-8)
        assert collected[axis] == pytest.approx(through, rel=5e-8)
        assert through < down


def test_matched_media_collect_the_cone_of_the_objective():
    cosine = math.cos(math.asin(1.4 / 1.518))
    heights = [-300.0, 0.0, 5000.0]
    assert np.allclose(collected_fraction(MATCHED, heights), (1 - cosine) / 2, rtol=1e-9)
    axial = 0.5 - 0.75 * cosine + 0.25 * cosine**3
    assert np.allclose(collected_fraction(MATCHED, heights, ALONG), axial, rtol=1e-9)


def test_molecule_at_the_coverslip_gives_oil_objectives_almost_twice_the_light_of_bulk_oil():
    # light goes into the denser side, most of it around the critical angle that NA 1.4 reaches
    at_glass = collected_fraction(OIL_WATER, 0.0)[0]
    bulk_oil = collected_fraction(MATCHED, 0.0)[0]
    assert 1.7 < at_glass / bulk_oil < 2.0
    # far away, all that leaves downwards through water is collected, and supercritical light gone
    far = collected_fraction(OIL_WATER, 20_000.0)[0]
    assert far == pytest.approx(far_collected_power(objective_of(OIL_WATER)), rel=2e-3)
    assert 0.4 < far < 0.5


def test_apertures_beyond_the_sample_index_matter_only_near_the_coverslip():
    tirf = Optics(**SITUATIONS["TIRF oil/water"])
    near, far = ((collected_fraction(o, [0.0, 20_000.0])) for o in (OIL_WATER, tirf))
    assert far[0] > 1.2 * near[0]
    assert far[1] == pytest.approx(near[1], rel=1e-3)


def test_standing_dipoles_at_the_coverslip_emit_more_than_lying_ones():
    # the field of an axial dipole tunnels best: Lukosz and Kunz 1977
    power = emitted_power(objective_of(OIL_WATER), np.array([0.0, 1e4]))
    assert power[0, 2] > power[0, 0] > 1.0
    assert np.allclose(power[1, :3], 1.0, atol=1e-3)


@settings(max_examples=20, deadline=None)
@given(
    na=st.floats(0.2, 1.5), n_sample=st.floats(1.0, 1.6), z=st.floats(0, 5000),
    polar=st.floats(0, 90),
)  # fmt: skip
def test_no_objective_collects_more_than_is_emitted(na, n_sample, z, polar):
    optics = Optics(na=na, n_sample=n_sample, n_coverslip=1.523, n_immersion=1.518)
    fraction = collected_fraction(optics, z, FixedDipole(polar_deg=polar, azimuth_deg=0))
    assert 0.0 < fraction[0] < 1.0


def test_splines_of_collected_light_equal_the_exact_powers():
    z = np.linspace(0.0, 3000.0, 301)
    moment = moments(np.linspace(0, 1.5, 301), 0.3, 0.2)
    fast = CollectedLight(OIL_WATER, (0.0, 3000.0)).relative(z, moment)
    assert np.allclose(fast, relative_collection(OIL_WATER, z, moment), rtol=2e-6)


def test_free_dipoles_far_away_are_the_reference_of_relative_collection():
    assert relative_collection(OIL_WATER, 30_000.0)[0] == pytest.approx(1.0, abs=1e-3)
    assert relative_collection(MATCHED, [0.0, 300.0]) == pytest.approx(1.0, rel=1e-9)


def test_depth_of_evanescent_light_is_that_of_the_textbook():
    # 488 nm, 68 degrees in 1.518 oil against 1.33 water
    sine = 1.518 * math.sin(math.radians(68.0))
    by_hand = 488.0 / (4 * math.pi * math.sqrt(sine**2 - 1.33**2))
    assert evanescent_depth_nm(68.0, 488.0, 1.518, 1.33) == pytest.approx(by_hand, rel=1e-12)
    depths = evanescent_depth_nm([61.3, 65.0, 80.0], 488.0, 1.518, 1.33)
    assert np.all(np.diff(depths) < 0)
    assert 600 < depths[0] < 620


def test_evanescent_depth_and_tunnelling_share_one_law():
    # reciprocity: excitation by a wave of index q decays as the collection of that wave does
    angle = 66.0
    q = 1.518 * math.sin(math.radians(angle))
    depth = float(evanescent_depth_nm(angle, 600.0, 1.518, 1.33))
    narrow = [
        collected_power(
            objective_of(OIL_WATER.model_copy(update={"na": na})), np.array([0.0, 80.0])
        )
        for na in (q - 1e-4, q + 1e-4)
    ]
    ring = narrow[1][:, 2] - narrow[0][:, 2]
    # a ring of width 2e-4 mixes decays to 1e-7, and cancellation leaves 1e-8
    assert math.log(ring[0] / ring[1]) == pytest.approx(80.0 / depth, rel=1e-5)


@pytest.mark.parametrize("angle", [61.0, 90.0, 20.0])
def test_light_that_is_not_totally_reflected_is_refused_with_the_critical_angle(angle):
    assert critical_angle_deg(1.518, 1.33) == pytest.approx(61.18, abs=0.01)
    with pytest.raises(OpticsError, match=r"61\.18"):
        evanescent_depth_nm(angle, 488.0, 1.518, 1.33)


def test_matched_media_reflect_nothing_totally():
    with pytest.raises(OpticsError, match="denser immersion"):
        evanescent_depth_nm(70.0, 488.0, 1.33, 1.33)


@pytest.mark.parametrize("name", SITUATIONS)
def test_far_from_the_coverslip_its_own_reflection_no_longer_acts(name):
    optics = Optics(**SITUATIONS[name])
    far = far_collected_power(objective_of(optics))
    # the reflected field falls as 1 / (2 k n z), 1 / 2800 at a tenth of a millimetre
    assert collected_fraction(optics, 1e5) == pytest.approx(far, rel=4e-4)
    assert relative_collection(optics, 1e5) == pytest.approx(1.0, rel=4e-4)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="interpreted quadrature takes seconds")
def test_a_millimetre_deep_too():
    far = far_collected_power(objective_of(OIL_WATER))
    # nodes next to the critical angle: 14000 of them, the last within rounding of it
    assert collected_fraction(OIL_WATER, [0.0, 1e6])[1] == pytest.approx(far, rel=4e-5)


@pytest.mark.parametrize(
    ("optics", "z", "dipole", "words"),
    [
        (OIL_WATER, -1.0, None, "below the coverslip"),
        (Optics(**SITUATIONS["water/water"]), -1.0, None, "inside the coverslip"),
        (OIL_WATER, [0.0, 1e7], None, "z_nm=1e.07 lies beyond"),
        (OIL_WATER, math.nan, None, "not finite"),
        (OIL_WATER, 0.0, FixedDipole(), "still to be drawn"),
    ],
    ids=["below", "in the glass", "far", "nan", "undrawn"],
)
def test_impossible_questions_are_refused(optics, z, dipole, words):
    with pytest.raises(OpticsError, match=words):
        collected_fraction(optics, z, dipole)
