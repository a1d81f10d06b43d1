"""Molecules sit where the recipe says."""

import numpy as np
import pytest
from scipy import stats

from simscope.errors import SampleError
from simscope.keys import Key
from simscope.recipe import load_recipe
from simscope.recipe.draws import draw_samples
from simscope.sample import height_range_nm, place

FALSE_ALARM = 1e-6
SAMPLES = np.arange(200)


def placed(recipe, samples=SAMPLES, seed=1):
    key = Key(seed)
    return place(recipe, key, samples, draw_samples(recipe, key, samples))


def dense(**changes):
    recipe = load_recipe("smlm-2d-dense")
    for path, value in changes.items():
        recipe = recipe.replace(f"structure.{path}", value)
    return recipe


def test_counts_of_a_density_are_poisson():
    recipe = dense(density_per_um2=1.0)
    counts = np.bincount(placed(recipe).sample, minlength=len(SAMPLES))
    mean = 6.4**2
    dispersion = ((counts - mean) ** 2).sum() / mean
    low, high = stats.chi2.ppf([FALSE_ALARM / 2, 1 - FALSE_ALARM / 2], len(counts))
    assert low < dispersion < high


def test_positions_fill_the_frame_evenly():
    molecules = placed(dense(density_per_um2=5.0))
    for axis in (molecules.x_nm, molecules.y_nm):
        assert stats.kstest(axis, stats.uniform(0, 6400).cdf).pvalue > FALSE_ALARM
    corners = stats.pearsonr(molecules.x_nm, molecules.y_nm)
    assert corners.pvalue > FALSE_ALARM


def test_margin_widens_the_box_on_every_side():
    molecules = placed(dense(margin_nm=500.0, density_per_um2=5.0))
    assert molecules.x_nm.min() < -400
    assert molecules.x_nm.max() > 6800
    assert -500 <= molecules.y_nm.min() < -400


def test_a_count_is_exact():
    recipe = load_recipe("smlm-2d-dense")
    data = recipe.written()
    data["structure"] = {"kind": "uniform", "count": 7}
    molecules = placed(type(recipe).from_dict(data))
    assert np.array_equal(np.bincount(molecules.sample), np.full(200, 7))
    assert np.array_equal(molecules.id[:7], np.arange(7))


def test_a_sample_is_the_same_alone_and_in_company():
    recipe = dense()
    together = placed(recipe)
    alone = placed(recipe, np.array([17]))
    rows = together.sample == 17
    assert np.array_equal(together.x_nm[rows], alone.x_nm)
    assert np.array_equal(together.id[rows], alone.id)


def test_density_zero_gives_empty_samples():
    assert placed(dense(density_per_um2=0.0)).size == 0


def test_unbounded_height_is_refused_with_the_remedy():
    with pytest.raises(SampleError, match="give min and max"):
        height_range_nm(dense(z_nm={"normal": [500, 10]}))
    assert height_range_nm(dense(z_nm={"uniform": [0, 800]})) == (0.0, 800.0)


def filaments(**changes):
    recipe = load_recipe("smlm-2d-dense")
    data = recipe.written()
    data["structure"] = {"kind": "filaments", "count": 4, "margin_nm": 0, **changes}
    return type(recipe).from_dict(data)


def test_filament_labels_sit_on_the_tube():
    from simscope.sample.structures import _worm_path

    recipe = filaments(radius_nm=12.5, linker_nm=10, z_nm=300, count=1, labels_per_um=400)
    molecules = placed(recipe, np.arange(5))
    for sample in range(5):
        rows = molecules.sample == sample
        points = np.stack([molecules.x_nm[rows], molecules.y_nm[rows]], axis=1).astype(float)
        path = _worm_path(recipe.structure, recipe, Key(1), sample, 0)
        step = np.diff(path, axis=0)
        along = ((points[:, None] - path[:-1]) * step).sum(axis=2) / (step**2).sum(axis=1)
        foot = path[:-1] + np.clip(along, 0, 1)[..., None] * step
        distance = np.linalg.norm(points[:, None] - foot, axis=2).min(axis=1)
        radius = np.hypot(distance, molecules.z_nm[rows] - 300.0)
        # within the bend of one 50 nm step and float32 positions
        assert np.abs(radius - 22.5).max() < 1.0


def test_filament_label_density_is_the_stated_one():
    recipe = filaments(labels_per_um=200, count=1, persistence_um=1e5, linker_nm=0, radius_nm=0)
    molecules = placed(recipe, np.arange(60))
    densities = []
    for sample in range(60):
        rows = molecules.sample == sample
        x, y = molecules.x_nm[rows], molecules.y_nm[rows]
        length_um = np.hypot(np.ptp(x), np.ptp(y)) * 1e-3
        if length_um > 2:
            densities.append(rows.sum() / length_um)
    assert np.mean(densities) == pytest.approx(200, rel=0.03)


def test_filaments_bend_with_the_persistence_length():
    from simscope.sample.structures import PATH_STEP_NM, _worm_path

    recipe = filaments(persistence_um=2.0)
    turns = []
    for filament in range(300):
        path = _worm_path(recipe.structure, recipe, Key(3), 0, filament)
        steps = np.diff(path[len(path) // 2 :], axis=0)
        turns.append((steps[0] @ steps[20]) / PATH_STEP_NM**2)
    # two dimensions: <cos> = exp(-s / (2 P)) over s = 20 steps; std of the mean ~ 0.4/sqrt(300)
    assert np.mean(turns) == pytest.approx(np.exp(-20 * PATH_STEP_NM / 4000), abs=0.1)


def table(tmp_path, rows, **changes):
    path = tmp_path / "Moleküle 1.npy"
    np.save(path, np.asarray(rows, float))
    recipe = load_recipe("smlm-2d-dense")
    data = recipe.written()
    data["structure"] = {"kind": "table", "path": str(path), **changes}
    return type(recipe).from_dict(data)


def test_table_molecules_are_imaged_where_they_stand(tmp_path):
    recipe = table(tmp_path, [[100, 200, 0], [3000, 50, 0]], shift_x_nm=10)
    molecules = placed(recipe, np.arange(3))
    assert np.array_equal(molecules.x_nm, np.tile([110, 3010], 3).astype(np.float32))
    assert np.array_equal(molecules.y_nm, np.tile([200, 50], 3).astype(np.float32))


def test_table_outside_the_frame_is_an_error_with_the_remedy(tmp_path):
    with pytest.raises(SampleError, match="shift_x_nm"):
        placed(table(tmp_path, [[1e6, 0, 0]]), np.arange(1))


def test_bead_sits_at_its_offset_from_the_middle():
    recipe = load_recipe("psf-zernike").replace("structure.x_nm", 70.0)
    recipe = recipe.replace("structure.y_nm", -30.0)
    molecules = placed(recipe, np.arange(2))
    assert np.allclose(molecules.x_nm, 1670)
    assert np.allclose(molecules.y_nm, 1570)
