"""Maps of emitter density: positions go in and come out, mass is counted."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = pytest.mark.train

from simscope.learn.heatmap import density_map, peaks  # noqa: E402


def density_map_one_by_one(image, x_cells, y_cells, shape, blur_cells):
    """The map written as its definition: a normalised Gaussian at each emitter, cell by cell."""
    density = np.zeros(shape)
    reach = int(np.ceil(3 * blur_cells))
    for which, x, y in zip(image, x_cells, y_cells, strict=True):
        spot = {}
        for row in range(int(y) - reach, int(y) + reach + 1):
            for column in range(int(x) - reach, int(x) + reach + 1):
                far = (row + 0.5 - y) ** 2 + (column + 0.5 - x) ** 2
                spot[row, column] = np.exp(-far / (2 * blur_cells**2))
        total = sum(spot.values())
        for (row, column), value in spot.items():
            if 0 <= row < shape[1] and 0 <= column < shape[2]:
                density[which, row, column] += value / total
    return density


def spread_out(rng, count, side):
    """Positions at least 12 cells apart and 6 from the border."""
    grid = np.stack(np.meshgrid(np.arange(6, side - 6, 16), np.arange(6, side - 6, 16)), -1)
    places = grid.reshape(-1, 2)
    chosen = places[rng.permutation(len(places))[:count]]
    return (chosen + rng.uniform(0, 4, chosen.shape)).T


def test_map_is_the_sum_of_normalised_gaussians():
    rng = np.random.default_rng(0)
    image, x, y = rng.integers(0, 2, 30), rng.uniform(0, 20, 30), rng.uniform(0, 24, 30)
    fast = density_map(image, x, y, (2, 24, 20), 1.1)
    np.testing.assert_allclose(
        fast, density_map_one_by_one(image, x, y, (2, 24, 20), 1.1), atol=1e-6
    )


def test_mass_of_a_map_counts_the_emitters_of_each_image():
    rng = np.random.default_rng(1)
    x, y = spread_out(rng, 9, 64)
    image = np.array([0] * 4 + [2] * 5)
    mass = density_map(image, x, y, (3, 64, 64), 1.0).sum(axis=(1, 2))
    np.testing.assert_allclose(mass, [4, 0, 5], rtol=1e-5)


def test_emitters_outside_the_frame_leave_no_trace():
    outside = density_map(
        np.zeros(3, int), np.array([-0.1, 20, 5]), np.array([5, 5, 21.0]), (1, 20, 20), 1
    )
    assert outside.sum() == 0


def test_isolated_emitters_come_back_where_they_were():
    rng = np.random.default_rng(2)
    x, y = spread_out(rng, 12, 80)
    density = density_map(np.zeros(12, int), x, y, (1, 80, 80), 1.0)
    found = peaks(torch.from_numpy(density), reach_cells=5, threshold=0.5)
    order, expected = np.lexsort((found.y_cells, found.x_cells)), np.lexsort((y, x))
    # A Gaussian of one cell cut at three, sampled once a cell, shifts its centroid by < 0.02 cells.
    np.testing.assert_allclose(found.x_cells[order], x[expected], atol=0.02)
    np.testing.assert_allclose(found.y_cells[order], y[expected], atol=0.02)
    np.testing.assert_allclose(found.weight, 1.0, rtol=1e-3)


def test_a_faint_peak_is_left_out_by_the_threshold_alone():
    density = torch.zeros(1, 20, 20)
    density[0, 4, 4], density[0, 15, 15] = 0.9, 0.2
    assert len(peaks(density, reach_cells=3, threshold=0.3).weight) == 1
    assert len(peaks(density, reach_cells=3, threshold=0.1).weight) == 2


def test_mass_beyond_the_reach_does_not_pull_the_position():
    density = torch.zeros(1, 9, 30)
    density[0, 4, 2:13] = torch.linspace(1.0, 0.1, 11)
    near = peaks(density, reach_cells=2, threshold=0.1)
    assert near.x_cells[0] < 4
    assert near.weight[0] == pytest.approx(float(density[0, 4, 2:5].sum()))


def test_an_empty_map_has_no_peaks():
    assert len(peaks(torch.zeros(2, 8, 8), reach_cells=3, threshold=0.1).image) == 0
