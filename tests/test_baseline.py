"""The spot finder without training: exact on clean spots, quiet on empty frames."""

import math
from importlib import import_module

import numpy as np
import pytest
from reference_judging import centroid_nm

from simscope.errors import EvaluationError
from simscope.evaluate import found_nothing, local_maxima, score

PIXEL_NM = 100.0


def spots(places_px, light, sigma_px=1.1, shape=(24, 30), background=10.0):
    """Frames with one Gaussian spot each, sampled at pixel centres."""
    y, x = (np.arange(size) + 0.5 for size in shape)
    frames = [
        light * np.exp(-((y[:, None] - py) ** 2 + (x - px) ** 2) / (2 * sigma_px**2))
        / (2 * np.pi * sigma_px**2)
        for px, py in places_px
    ]  # fmt: skip
    return np.array(frames) + background


def test_a_clean_spot_is_found_where_it_stands_with_its_light():
    places = np.array([[12.5, 9.5], [12.7, 9.4], [20.2, 15.9]])
    found = local_maxima(spots(places, 1000.0), PIXEL_NM, window_px=9)
    assert found["frame"].tolist() == [0, 1, 2]
    # Nine pixels hold 4.5 of the 1.1 px deviation: 1e-4 of the light is beyond, if centred.
    assert np.column_stack([found["x_nm"], found["y_nm"]]) == pytest.approx(places * 100, abs=1.0)
    assert found["photons"] == pytest.approx(1000.0, rel=1e-3)


def test_windows_at_the_border_are_cut_and_centroids_those_of_loops():
    images = spots([[0.6, 12.0], [29.0, 0.4]], 800.0) + np.random.default_rng(0).normal(
        0, 1, (2, 24, 30)
    )
    found = local_maxima(images, PIXEL_NM, background_photons=10.0, noise_photons=1.0, threshold=20)
    assert len(found) == 2
    for spot, image in zip(found, images, strict=True):
        near = min(
            (centroid_nm(image - 10.0, r, c, 5, PIXEL_NM) for r in range(24) for c in range(30)
             if image[r, c] > 40),
            key=lambda place: abs(place[2] - spot["photons"]),
        )  # fmt: skip
        assert (spot["x_nm"], spot["y_nm"], spot["photons"]) == pytest.approx(near)


def test_what_is_darker_than_the_background_takes_no_light_away():
    image = spots([[8.5, 8.5]], 800.0, sigma_px=0.8)
    hole = image.copy()
    hole[0, 6, 7] = -90.0
    at = {"background_photons": 10.0, "noise_photons": 1.0, "threshold": 20, "smoothing_px": 0.5}
    whole, pierced = (local_maxima(frames, PIXEL_NM, **at) for frames in (image, hole))
    lost = image[0, 6, 7] - 10.0
    assert pierced["photons"] == pytest.approx(whole["photons"] - lost)


def test_empty_frames_hold_as_many_spots_as_chance_gives():
    noise = np.random.default_rng(1).normal(100.0, 10.0, (40, 64, 64))
    assert len(local_maxima(noise, PIXEL_NM, threshold=6.0)) == 0
    # Maxima above u of a smooth Gaussian field whose slopes have variance 1 / (2 s^2), per area:
    # u exp(-u^2 / 2) / (2 s^2 (2 pi)^(3/2)). The noise, estimated to 1 %, moves this by 10 %.
    expected = 40 * 64 * 64 * 3 * math.exp(-4.5) / (2 * (2 * math.pi) ** 1.5)
    assert len(local_maxima(noise, PIXEL_NM, threshold=3.0)) == pytest.approx(expected, rel=0.3)


@pytest.mark.parametrize(
    ("smoothing_px", "contrast"),
    # A Gaussian leaves 1 / (2 pi s^2) of one pixel's light, and 1 / (2 sqrt(pi) s) of white noise.
    [(0.0, 50.0), (1.0, 50 / math.sqrt(math.pi)), (2.0, 25 / math.sqrt(math.pi))],
)
def test_contrast_counts_in_deviations_of_the_smoothed_noise(smoothing_px, contrast):
    image = np.zeros((1, 31, 31))
    image[0, 15, 15] = 50.0
    found = local_maxima(image, PIXEL_NM, smoothing_px=smoothing_px, noise_photons=1.0)
    assert found["contrast"] == pytest.approx([contrast], rel=1e-3)


def test_raising_the_threshold_is_keeping_rows_of_more_contrast():
    images = np.random.default_rng(3).poisson(spots([[8.0, 8.0]] * 5, 300.0))
    low, high = (local_maxima(images, PIXEL_NM, threshold=sigmas) for sigmas in (2.0, 4.0))
    assert len(low) > len(high) >= 5
    assert (low[low["contrast"] > 4.0] == high).all()


def test_blocks_of_frames_do_not_change_what_is_found(monkeypatch):
    images = np.random.default_rng(4).poisson(spots([[8.0, 8.0]] * 7, 300.0))
    whole = local_maxima(images, PIXEL_NM, threshold=3.0)
    monkeypatch.setattr(import_module("simscope.evaluate.baseline"), "PIXELS_AT_ONCE", 1500)
    assert (local_maxima(images, PIXEL_NM, threshold=3.0) == whole).all()


def test_who_finds_nothing_misses_all_and_invents_nothing():
    truth = {"frame": [0, 1], "x_nm": [1.0, 2.0], "y_nm": [1.0, 2.0]}
    result = score(found_nothing(), truth)
    assert (result.precision, result.recall, result.jaccard) == (1, 0, 0)


@pytest.mark.parametrize(
    ("images", "options", "says"),
    [
        (np.zeros((8, 8)), {}, "are not finite"),
        (np.full((1, 8, 8), np.nan), {}, "are not finite"),
        (np.zeros((1, 8, 8)), {"threshold": 0.0}, "threshold=0.0"),
        (np.zeros((1, 8, 8)), {"window_px": 4}, "window_px=4 is not odd"),
        (np.zeros((1, 8, 8)), {"smoothing_px": -1.0}, "smoothing_px=-1.0"),
        (np.zeros((1, 8, 8)), {"noise_photons": 0.0}, "noise_photons=0.0"),
    ],
)
def test_images_and_numbers_that_make_no_sense_are_refused(images, options, says):
    with pytest.raises(EvaluationError, match=says):
        local_maxima(images, PIXEL_NM, **options)
