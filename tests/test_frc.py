"""Fourier ring correlation against sums written out and a closed form."""

import math

import numpy as np
import pytest
from reference_judging import ring_correlation_by_sums

from simscope.errors import EvaluationError
from simscope.evaluate import localization_resolution, ring_correlation
from simscope.evaluate.frc import SPLIT, _in_second_half, _resolution, _tapered

RNG = np.random.default_rng


def molecules(seed, count=3000, per_molecule=20.0, sigma_nm=20.0, side_nm=8000.0):
    """Molecules spread evenly, each localised a Poisson number of times, in frames at random."""
    rng = RNG(seed)
    which = np.repeat(np.arange(count), rng.poisson(per_molecule, count))
    places = rng.uniform(0, side_nm, (count, 2))[which]
    x, y = (places + rng.normal(0, sigma_nm, places.shape)).T
    return {"x_nm": x, "y_nm": y, "frame": rng.integers(0, 1000, len(x))}


@pytest.mark.parametrize("side", [16, 17])
def test_rings_are_those_of_fourier_sums_written_out(side):
    rng = RNG(1)
    scene = rng.normal(size=(side, side))
    first, second = (scene + rng.normal(size=scene.shape) for _ in range(2))
    curve = ring_correlation(first, second, 10.0)
    expected = ring_correlation_by_sums(*(_tapered(picture) for picture in (first, second)))
    assert curve.correlation == pytest.approx(expected)
    assert curve.frequency_per_nm[0] == pytest.approx(1 / (side * 10.0))


@pytest.mark.parametrize(("sigma_nm", "per_molecule"), [(20.0, 20.0), (35.0, 20.0), (20.0, 6.0)])
def test_resolution_of_molecules_localised_many_times_is_the_closed_form(sigma_nm, per_molecule):
    # Of m localisations a molecule in each half, Poisson: FRC = m e / (1 + m e) with
    # e = exp(-(2 pi sigma q)^2), which is 1/7 where m e = 1/6; m is half of all.
    table = molecules(2, per_molecule=per_molecule, sigma_nm=sigma_nm)
    expected = 2 * math.pi * sigma_nm / math.sqrt(math.log(3 * per_molecule))
    curve = localization_resolution(table, pixel_nm=8.0)
    assert curve.resolution_nm == pytest.approx(expected, rel=0.06)


def test_pictures_fade_to_nothing_at_their_edges_and_have_no_mean():
    picture = RNG(7).normal(50.0, 1.0, (65, 65))
    tapered = _tapered(picture)
    for edge in (tapered[0], tapered[-1], tapered[:, 0], tapered[:, -1]):
        assert np.abs(edge).max() < 1e-9
    inner = np.s_[8:-8, 8:-8]  # an eighth of the side fades at either end
    assert tapered[inner] == pytest.approx(picture[inner] - picture.mean())


def test_a_table_is_split_in_halves_by_frames():
    frames = np.array([9, 3, 4, 4, 8, 0, 1])
    columns = {"x_nm": np.zeros(7), "frame": frames}
    assert set(frames[_in_second_half(columns, "alternate", SPLIT)]) == {1, 3, 9}
    assert frames[_in_second_half(columns, "halves", SPLIT)].tolist() == [9, 4, 4, 8]


def test_the_crossing_lies_between_the_rings_of_a_straight_curve():
    rings = np.arange(1, 201)
    resolution = _resolution(rings / 1000.0, 1 - rings / 200, 0.5025)
    assert resolution == pytest.approx(1000 / 99.5)


def test_a_picture_agrees_with_itself_at_all_frequencies():
    picture = RNG(3).normal(size=(40, 50))
    curve = ring_correlation(picture, picture, 10.0)
    assert curve.correlation == pytest.approx(1)
    assert math.isnan(curve.resolution_nm)
    assert curve.to_dict()["resolution_nm"] is None


def test_pictures_of_noise_alone_agree_at_none():
    first, second = RNG(4).normal(size=(2, 128, 128))
    curve = ring_correlation(first, second, 10.0)
    # Outer rings hold some 400 frequencies, half of them their own: 1 / sqrt(200) is 7 %.
    assert np.abs(curve.correlation[30:]).max() < 0.35
    assert curve.resolution_nm > 100


def test_molecules_that_stay_on_pass_for_resolution_only_if_frames_are_mixed():
    count = 3000
    x, y = np.repeat(RNG(5).uniform(0, 8000, (2, count)), 10, axis=1)
    again = {"x_nm": x, "y_nm": y}
    again["frame"] = np.arange(10 * count)  # each molecule in ten frames on end
    resolved = {
        split: localization_resolution(again, pixel_nm=8.0, split=split).resolution_nm
        for split in ("random", "alternate", "halves")
    }
    assert math.isnan(resolved["random"])
    assert math.isnan(resolved["alternate"])
    assert resolved["halves"] > 200


def test_the_middle_square_of_long_pictures_is_compared():
    rng = RNG(6)
    first, second = rng.normal(size=(2, 32, 64))
    whole = ring_correlation(first, second, 5.0)
    middle = ring_correlation(first[:, 16:48], second[:, 16:48], 5.0)
    assert whole.correlation.tolist() == middle.correlation.tolist()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: ring_correlation(np.eye(20), np.eye(21), 1.0), "no rings"),
        (lambda: ring_correlation(np.eye(8), np.eye(8), 1.0), "16 pixels"),
        (lambda: ring_correlation(np.ones((20, 20)), np.eye(20), 1.0), "flat"),
        (lambda: ring_correlation(np.eye(20), np.eye(20), 0.0), "pixel_nm=0.0"),
        (lambda: localization_resolution(molecules(0, 9), split="randon"), "did you mean 'random'"),
        (lambda: localization_resolution(molecules(0, 9), pixel_nm=1e-3), "raise pixel_nm"),
        (lambda: localization_resolution({"x_nm": [1.0], "y_nm": [1.0]}), "an empty half"),
    ],
)
def test_what_has_no_resolution_is_refused(call, says):
    with pytest.raises(EvaluationError, match=says):
        call()
