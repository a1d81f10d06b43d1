"""Designed masks: better than where they start, judged by simscope itself, and usable."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning"),
]

from small_worlds import SMALL  # noqa: E402

import simscope as ss  # noqa: E402
from simscope.cli import app  # noqa: E402
from simscope.errors import RecipeError, TrainingError  # noqa: E402
from simscope.learn import mask_design  # noqa: E402
from simscope.learn.design_plan import DesignPlan, mask_of, new_phase, random_start  # noqa: E402
from simscope.learn.joint_design import design_jointly  # noqa: E402
from simscope.learn.layer_frames import Frames, add_patches  # noqa: E402
from simscope.learn.mask_design import design_mask, layer_for, mean_bound_nm  # noqa: E402

HEIGHTS = (0.0, 1200.0)
QUICK = {"z_nm": HEIGHTS, "heights": 5, "window_px": 17, "order": 4, "pixels": 32, "starts": 1}
LAYER_ACCURACY = 1e-3
TINY = {"channels": 8, "dilations": [1], "plane_nm": 300.0}


@pytest.fixture(scope="module")
def deep():
    """Molecules over 1.2 um of depth in water, single frames of 24 x 20 pixels."""
    recipe = ss.Recipe.from_dict(SMALL)
    return recipe.replace_all(
        {"structure.z_nm": {"uniform": list(HEIGHTS)}, "acquisition.focus_nm": 500.0}
    )


@pytest.fixture(scope="module")
def design(deep):
    return design_mask(deep, DesignPlan(**QUICK, steps=25), threads=1)


def test_a_mask_from_nothing_says_more_than_no_mask_and_than_the_tetrapod(deep, design):
    without = mean_bound_nm(deep, design.plan)
    tetrapod = deep.replace("optics.mask", {"kind": "tetrapod", "z_range_nm": 1200})
    assert design.bound_nm < mean_bound_nm(tetrapod, design.plan) < without
    assert design.curve[-1] < design.curve[0]


def test_the_layer_and_simscope_agree_on_the_bound_of_a_design(design):
    # 32 pixels over the pupil leave a share of a per cent between the modes and their mask
    assert design.expected_nm == pytest.approx(design.bound_nm, rel=0.02)


def test_dark_current_of_a_long_exposure_raises_the_bound(deep):
    dark = deep.replace("camera.dark_e_per_s", 500.0)
    short, long = (
        mean_bound_nm(dark.replace("acquisition.exposure_ms", ms), DesignPlan(**QUICK))
        for ms in (1.0, 200.0)
    )
    assert short < 0.8 * long  # 0.5 and 100 electrons beside 20 photons of background


def test_one_seed_gives_one_mask(deep, design):
    again = design_mask(deep, design.plan, threads=1)
    assert again.mask == design.mask
    assert again.curve == design.curve


def test_starts_differ_and_have_the_strength_asked_for():
    plan = DesignPlan(**QUICK)
    phase = new_phase(plan, 1.2)
    one, two = (random_start(plan, phase, number) for number in (0, 1))
    assert not torch.equal(one, two)
    assert float(one.square().sum().sqrt()) == pytest.approx(plan.start_rad)


def test_the_best_of_all_starts_is_kept(monkeypatch):
    plan = DesignPlan(**QUICK | {"starts": 3})
    phase = new_phase(plan, 1.2)
    (values,) = phase.parameters()
    ways = iter([([5.0, 3.0], 1.0), ([4.0, 2.0], 2.0), ([6.0, 4.0], 3.0)])

    def descended(values, cost, steps, tell):
        costs, end = next(ways)
        return costs, torch.full_like(values, end)

    monkeypatch.setattr(mask_design, "_descend", descended)
    ends, curve = mask_design._learn(phase, None, plan, lambda *now: None)
    assert (ends, curve) == ([3.0, 2.0, 4.0], [4.0, 2.0])
    assert torch.equal(values, torch.full_like(values, 2.0))


def test_pixels_learn_from_the_phase_of_the_same_modes(deep):
    plan = DesignPlan(**QUICK, basis="pixels", steps=4)
    design = design_mask(deep, plan, threads=1)
    modes = design_mask(deep, DesignPlan(**QUICK, steps=1), threads=1)
    assert design.curve[0] == pytest.approx(modes.curve[0], rel=0.02)
    assert min(design.curve) < design.curve[0]
    assert np.array(design.mask.values).shape == (32, 32)


def test_progress_is_told_and_the_record_holds_all_that_decided(deep):
    told = []
    plan = DesignPlan(**QUICK, steps=3)
    design = design_mask(deep, plan, update=lambda *now: told.append(now), threads=1)
    assert [(done, total) for done, total, _ in told] == [(1, 3), (2, 3), (3, 3)]
    record = json.loads(json.dumps(design.record(), allow_nan=False))
    assert DesignPlan(**record["plan"]) == plan
    assert record["curve_nm"] == design.curve
    assert len(record["coefficients_rad"]) == len(plan.modes) == 12


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"z_nm": (500, 100)}, "lower height first"),
        ({"window_px": 20}, "odd"),
        ({"background_photons": 0}, "background_photons"),
        ({"hights": 3}, "heights"),
    ],
)
def test_impossible_designs_are_refused(given, says):
    with pytest.raises(RecipeError, match=says):
        DesignPlan(**given)


def test_frames_through_the_layer_equal_those_of_the_simulator(deep):
    # the same molecules through the same mask: one by matrix products, one by the spline table
    plan = DesignPlan(**QUICK | {"pixels": 64, "window_px": 25, "start_rad": 0.3})
    phase = new_phase(plan, 1.2)
    (values,) = phase.parameters()
    layer = layer_for(deep, phase, plan, reach_nm=100.0)
    values.data = random_start(plan, phase, 0).to(values)
    masked = deep.replace_all(
        {"optics.mask": mask_of(phase, plan, 1.2).model_dump(), "rendering.window_px": 25}
    )
    simulator = ss.Simulator(masked, ss.learn.stream.training_seed(3))
    expected = simulator.batch(0, 3, expected=True).expected_photons
    frames = Frames(masked, layer, 500.0, 3)
    with torch.no_grad():
        photons = frames.photons(frames.truth(0, 3)).numpy()
    # the simulator fades its windows out at their edge, the layer cuts them off
    assert np.abs(photons - expected).max() < 0.01 * expected.max()
    assert photons.sum() == pytest.approx(expected.sum(), rel=0.01)


def test_a_crowd_in_pieces_gives_the_gradients_of_one_whole(deep, monkeypatch):
    plan, gradients = DesignPlan(**QUICK), []
    phase = new_phase(plan, 1.2)
    frames = Frames(deep, layer_for(deep, phase, plan, 100.0), 500.0, 1)
    truth = frames.truth(0, 2)
    for at_once in (len(truth.emitters), 5):
        monkeypatch.setattr("simscope.learn.layer_frames.MOLECULES_AT_ONCE", at_once)
        cost = frames.photons(truth).square().sum()
        gradients.append(torch.autograd.grad(cost, phase.coefficients_rad)[0])
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4 * float(gradients[0].abs().max()))


def test_noise_of_joint_frames_has_the_camera_s_variance(deep):
    plan = DesignPlan(**QUICK)
    frames = Frames(deep, layer_for(deep, new_phase(plan, 1.2), plan, 100.0), 500.0, 1)
    photons = torch.full((4, 100, 100), 50.0)
    noisy = frames.noisy(photons, 1)
    expected = (
        float(frames.detection.variance_e2(photons[0, 0, 0])) / frames.detection.efficiency**2
    )
    assert float(noisy.var()) == pytest.approx(expected, rel=5 * np.sqrt(2 / 40000))
    assert not torch.equal(noisy, frames.noisy(photons, 2))


def test_patches_land_where_they_belong_and_are_cut_at_the_edge():
    patches = torch.arange(18, dtype=torch.float32).reshape(2, 3, 3) + 1
    frame, row, column = np.array([1, 0]), np.array([0, 2]), np.array([1, 4])
    out = add_patches(patches, frame, row, column, (2, 4, 5)).numpy()
    np.testing.assert_array_equal(out[1, :2, :3], patches[0, 1:].numpy())
    np.testing.assert_array_equal(out[0, 1:, 3:], patches[1, :, :2].numpy())
    assert out.sum() == patches[0, 1:].sum() + patches[1, :, :2].sum()


@pytest.fixture(scope="module")
def joint(deep, tmp_path_factory):
    plan = DesignPlan(**QUICK, steps=24)
    out = tmp_path_factory.mktemp("joint")
    return design_jointly(deep, "deepstorm3d", plan, out=out, config=TINY, threads=1)


def test_joint_learning_moves_the_mask_and_lowers_the_loss(joint):
    assert joint.moved_rad > 0.05
    assert np.mean(joint.curve[-6:]) < np.mean(joint.curve[:6])


def test_the_network_of_a_joint_design_loads_with_its_mask(joint, deep):
    model = ss.learn.load(joint.folder)
    assert model.recipe.optics.mask == joint.mask
    assert model.recipe.structure == deep.structure
    images = ss.Simulator(model.recipe, 9).batch(0, 2).images
    assert len(ss.learn.localize(model, images, threshold=0.01)) >= 0
    assert model.record["held_out"].keys() == joint.held_out.keys()


def test_networks_that_need_more_than_single_frames_are_refused(deep, tmp_path):
    with pytest.raises(TrainingError, match="deepstorm3d"):
        design_jointly(deep, "zernike", DesignPlan(**QUICK), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


SIZES = ["--order", "4", "--pixels", "32", "--starts", "1", "--steps", "3"]


def test_the_command_writes_mask_recipe_record_and_picture(deep, tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text(deep.replace("optics.mask", {"kind": "astigmatism"}).to_yaml())
    out = tmp_path / "mask"
    line = ["design-mask", str(own), "--out", str(out), *SIZES]
    result = CliRunner().invoke(app, [*line, "--json"])
    assert result.exit_code == 0, result.output
    record = json.loads((out / "design.json").read_text())
    values = np.load(out / "mask.npy")
    written = ss.load_recipe(out / "recipe.yaml")
    np.testing.assert_array_equal(np.array(written.optics.mask.values), values)
    plan = DesignPlan(**record["plan"])
    assert plan.z_nm == HEIGHTS
    assert mean_bound_nm(written, plan) == pytest.approx(record["mean_bound_nm"], rel=1e-9)
    assert (out / "design.png").stat().st_size > 10_000
    again = CliRunner().invoke(app, line)
    assert again.exit_code == 2
    assert "add --force" in again.output


def test_the_command_refuses_what_does_not_go_together(tmp_path):
    flat = ["design-mask", "smlm-2d-dense", "--out", str(tmp_path / "a")]
    result = CliRunner().invoke(app, flat)
    assert result.exit_code == 2
    assert "--z-range" in result.output
    crowd = ["design-mask", "smlm-3d-tetrapod", "--out", str(tmp_path / "b"), "--density", "1"]
    result = CliRunner().invoke(app, crowd)
    assert result.exit_code == 2
    assert "--joint" in result.output


@pytest.mark.slow
def test_the_command_learns_mask_and_network_together(deep, tmp_path):
    own, out = tmp_path / "own.yaml", tmp_path / "joint"
    own.write_text(deep.to_yaml())
    line = ["design-mask", str(own), "--joint", "deepstorm3d", "--density", "1", "--out", str(out)]
    result = CliRunner().invoke(app, [*line, "--steps", "2", "--order", "4", "--pixels", "32"])
    assert result.exit_code == 0, result.output
    model = ss.learn.load(out)
    assert model.recipe.structure.density_per_um2 == 1
    written = ss.load_recipe(out / "recipe.yaml")
    assert written.optics.mask == model.recipe.optics.mask
    assert len(json.loads((out / "design.json").read_text())["curve"]) == 2
