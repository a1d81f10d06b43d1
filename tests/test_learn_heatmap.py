"""Maps of emitter density taken apart: emitters come back out where they went in."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = pytest.mark.train

from simscope.learn.heatmap import peaks  # noqa: E402
from simscope.targets import density_map  # noqa: E402


def spread_out(rng, count, side):
    """Positions at least 12 cells apart and 6 from the border."""
    grid = np.stack(np.meshgrid(np.arange(6, side - 6, 16), np.arange(6, side - 6, 16)), -1)
    places = grid.reshape(-1, 2)
    chosen = places[rng.permutation(len(places))[:count]]
    return (chosen + rng.uniform(0, 4, chosen.shape)).T


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
