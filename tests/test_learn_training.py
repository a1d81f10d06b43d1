"""Training: learns, repeats itself, records everything, refuses what cannot work."""

import json
import re
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning"),
]

import simscope as ss  # noqa: E402
from simscope import cli  # noqa: E402
from simscope.errors import SimscopeWarning, TrainingError  # noqa: E402
from simscope.learn.bioimageio import PAPERS  # noqa: E402
from simscope.learn.feed import (  # noqa: E402
    Feed,
    held_out_batch,
    open_source,
    validation_batch,
)
from simscope.learn.loop import Loop  # noqa: E402
from simscope.learn.networks import NETWORKS, network  # noqa: E402
from simscope.learn.networks.deepstorm_slim import DeepStormSlimTask, split_output  # noqa: E402
from simscope.learn.runs import make_task  # noqa: E402
from simscope.learn.stream import training_seed  # noqa: E402

TINY = {"channels": 16, "dilations": [1, 2]}
PLAN = {"steps": 12, "batch_size": 4, "validation_samples": 8, "validations": 3}
SHORT = PLAN | {"threads": 1}


def changed(recipe, **values):
    for path, value in values.items():
        recipe = recipe.replace(path.replace("__", "."), value)
    return recipe


@pytest.fixture(scope="module")
def dense():
    return changed(
        ss.load_recipe("smlm-2d-dense"),
        acquisition__shape=[32, 32],
        structure__density_per_um2=1.0,
        rendering__window_px=9,
        rendering__accept_energy_loss=True,
    )


@pytest.fixture(scope="module")
def stacks():
    return changed(
        ss.load_recipe("psf-zernike"),
        acquisition__shape=[16, 16],
        acquisition__focus_nm={"start_nm": -500, "stop_nm": 500, "planes": 3},
        optics__wavefront__random_modes=[3, 5],
    )


@pytest.fixture(scope="module")
def run(dense, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    return ss.learn.train(
        "deepstorm-slim", dense, out=out, seed=4, config=TINY, progress=False, **SHORT
    )


def train(*arguments, **keywords):
    return ss.learn.train(*arguments, **({"progress": False, "config": TINY} | SHORT | keywords))


def weights_of(model):
    return {name: value.numpy() for name, value in model.task.network.state_dict().items()}


def test_training_lowers_the_loss_on_samples_never_seen(run):
    losses = run.record["curves"]["validation_loss"]
    assert losses[-1] < losses[0]


def test_one_seed_gives_one_result(dense, tmp_path):
    few = {"steps": 3, "batch_size": 2, "validation_samples": 4}
    one, again, other = (
        train("deepstorm-slim", dense, out=tmp_path / name, seed=seed, **few)
        for name, seed in (("one", 4), ("again", 4), ("other", 5))
    )
    assert again.record["curves"]["train_loss"] == one.record["curves"]["train_loss"]
    for name, value in weights_of(one).items():
        np.testing.assert_array_equal(value, weights_of(again)[name])
    assert any((value != weights_of(other)[name]).any() for name, value in weights_of(one).items())


def test_training_leaves_the_global_random_state_alone(dense, tmp_path):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    train("deepstorm-slim", dense, out=tmp_path / "run", steps=1)
    assert torch.equal(torch.rand(3), expected)


def test_a_loaded_network_finds_what_the_trained_one_found(run, dense):
    images = ss.Simulator(dense, 9).batch(0, 3).images
    found = ss.learn.localize(run, images, threshold=0.05)
    again = ss.learn.localize(run.folder, images, threshold=0.05)
    assert found.tobytes() == again.tobytes()  # NaN where a network does not tell
    assert len(found)
    assert set(found["frame"]) <= {0, 1, 2}
    assert (found["photons"] > 0).all()


def test_record_names_every_hyper_parameter_and_curve(run, dense):
    record = json.loads((run.folder / "run.json").read_text())
    assert record["plan"] == ss.learn.Plan(**PLAN).model_dump(mode="json")
    assert record["config"]["channels"] == 16
    assert record["seed"] == 4
    assert record["recipe_sha256"] == dense.sha256
    assert (record["steps"], record["samples_seen"]) == (12, 48)
    lengths = {len(curve) for curve in record["curves"].values()}
    assert lengths == {3}
    assert {"train_loss", "validation_loss", "jaccard", "learning_rate"} <= set(record["curves"])
    assert record["hardware"]["cores"] >= 1


class BatchesNoted:
    """A source that notes which samples are asked for."""

    def __init__(self, data, monkeypatch):
        self.asked, self.given = [], data.source.take
        monkeypatch.setattr(data.source, "take", self.take)

    def take(self, samples, **how):
        self.asked.append(samples.tolist())
        return self.given(samples, **how)


@pytest.mark.parametrize("kind", ["stream", "file"])
def test_training_validation_and_held_out_samples_are_apart(dense, tmp_path, monkeypatch, kind):
    source = dense if kind == "stream" else ss.generate(dense, 24, 1, tmp_path / "data.h5")
    plan = ss.learn.Plan(**PLAN)
    data, task = open_source(source, 4, 4, None), make_task("deepstorm-slim", dense, TINY)
    noted = BatchesNoted(data, monkeypatch)
    task.fit_scales(validation_batch(data, task, plan))
    with Feed(data, task, plan, 4) as feed:
        for _ in range(4):
            next(feed)
    held_out_batch(data, task, plan)
    validation, *training, held_out = map(set, noted.asked)
    trained = set().union(*training)
    assert len(validation) == len(held_out) == 8
    assert not validation & held_out
    assert not trained & (validation | held_out)
    assert len(trained) == (16 if kind == "stream" else 8)


def test_every_batch_of_a_file_is_augmented_in_its_own_way_also_after_a_stop(
    dense, tmp_path, monkeypatch
):
    plan, data = ss.learn.Plan(**PLAN), ss.generate(dense, 24, 1, tmp_path / "data.h5")
    task, chances = make_task("deepstorm-slim", dense, TINY), []
    task.fit_scales(ss.Simulator(dense, 2).batch(0, 8))

    def noted(inputs, targets, chance):
        chances.append(chance)
        return inputs, targets

    monkeypatch.setattr(task, "augment", noted)
    for first in (0, 3):
        with Feed(open_source(data, 4, 4, None), task, plan, 4, first=first) as feed:
            for _ in range(5 - first):
                next(feed)
    assert len(set(chances[:5])) == 5  # of two and a half epochs
    assert chances[5:] == chances[3:5]


def test_training_from_a_file_keeps_two_sets_of_its_last_samples(dense, tmp_path):
    path = ss.generate(dense, 20, 1, tmp_path / "data.h5")
    model = train("deepstorm-slim", path, out=tmp_path / "run", steps=5)
    assert model.record["data"] == {"recipe_sha256": dense.sha256, "seed": 1}
    assert model.record["held_out"].keys() == model.record["validation"].keys()
    assert model.record["held_out"] != model.record["validation"]
    with pytest.raises(TrainingError, match="too few"):
        train("deepstorm-slim", path, out=tmp_path / "other", validation_samples=19)


def test_judging_on_the_data_trained_on_is_warned_of(dense, stacks, tmp_path):
    path, other = (ss.generate(dense, 20, seed, tmp_path / f"{seed}.h5") for seed in (1, 2))
    train("deepstorm-slim", path, out=tmp_path / "run", steps=1)
    with pytest.warns(SimscopeWarning, match=r"the seed \(1\).*another seed"):
        ss.learn.localize(tmp_path / "run", path)
    bead = ss.generate(stacks, 20, 3, tmp_path / "bead.h5")
    train("zernike", bead, out=tmp_path / "zernike", steps=1, config={"channels": 4})
    with pytest.warns(SimscopeWarning, match=r"the seed \(3\).*another seed"):
        ss.learn.regress(tmp_path / "zernike", bead)
    with warnings.catch_warnings():
        warnings.simplefilter("error", SimscopeWarning)
        ss.learn.localize(tmp_path / "run", other)


class KilledError(Exception):
    """Stands for the end of the process: nothing of the run's own hears of it."""


def killed_at(step, monkeypatch, error):
    """From now on the update of that number fails; checkpoints are written at every step."""
    counted = iter(range(10**6))
    update = Loop._update

    def failing(self, *arguments):
        if next(counted) == step:
            raise error
        return update(self, *arguments)

    monkeypatch.setattr(Loop, "_update", failing)


@pytest.mark.parametrize(
    ("how", "kind", "optimiser"),
    [
        ("killed", "stream", "adamw"),
        ("killed", "file", "muon"),
        ("interrupted", "stream", "muon"),
        ("interrupted", "file", "adamw"),
    ],
)
def test_a_stopped_run_goes_on_to_the_same_curve_and_weights(
    dense, tmp_path, monkeypatch, how, kind, optimiser
):
    asked = {"seed": 4, "optimiser": optimiser}
    source = dense if kind == "stream" else ss.generate(dense, 24, 1, tmp_path / "data.h5")
    whole = train("deepstorm-slim", source, out=tmp_path / "whole", **asked)
    error = KilledError() if how == "killed" else KeyboardInterrupt()
    with monkeypatch.context() as patch:
        patch.setattr("simscope.learn.loop.SECONDS_AT_RISK", 0.0 if how == "killed" else 1e9)
        killed_at(7, patch, error)
        with pytest.raises(type(error)):
            train("deepstorm-slim", source, out=tmp_path / "run", **asked)
    assert not (tmp_path / "run" / "run.json").exists()
    with pytest.raises(TrainingError, match="seed=4, now seed=5"):
        train("deepstorm-slim", source, out=tmp_path / "run", **asked | {"seed": 5})
    again = train("deepstorm-slim", source, out=tmp_path / "run", **asked)
    assert again.record["resumed_at_step"] == 7
    for name in ("step", "learning_rate", "train_loss", "validation_loss", "jaccard"):
        assert again.record["curves"][name] == whole.record["curves"][name]
    for clock in ("seconds", "cpu_seconds"):  # budgets count what was spent before the stop
        assert np.all(np.diff(again.record["curves"][clock]) > 0)
    for name, value in weights_of(whole).items():
        np.testing.assert_array_equal(value, weights_of(again)[name])
    assert again.record["held_out"] == whole.record["held_out"]
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()


def test_a_damaged_checkpoint_is_named_and_force_begins_anew(dense, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint.safetensors").write_bytes(b"no checkpoint at all")
    with pytest.raises(TrainingError, match=r"damaged.*force"):
        train("deepstorm-slim", dense, out=tmp_path / "run")
    model = train("deepstorm-slim", dense, out=tmp_path / "run", force=True, steps=1)
    assert model.record["resumed_at_step"] is None


def test_tensorboard_gets_the_curves_where_it_is_installed(dense, tmp_path):
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    train("deepstorm-slim", dense, out=tmp_path / "run", tensorboard=True, steps=1)
    assert list((tmp_path / "run" / "tensorboard").iterdir())


def test_a_processor_budget_ends_the_run(dense, tmp_path):
    model = train("deepstorm-slim", dense, out=tmp_path / "run", steps=None, cpu_minutes=0.005)
    assert model.record["cpu_seconds"] >= 0.3
    assert model.record["steps"] >= 1
    assert model.record["curves"]["cpu_seconds"][-1] <= model.record["cpu_seconds"]


def test_weights_with_the_lowest_validation_loss_are_kept(dense, tmp_path, monkeypatch):
    weights = iter([5.0, 3.0, 1.0, 2.0, 4.0])  # the third are the best

    def updated(self, *arguments):
        value = next(weights)
        with torch.no_grad():
            self.task.network.stem.bias.fill_(value)
        return 10 * value

    monkeypatch.setattr(Loop, "_update", updated)
    monkeypatch.setattr(
        DeepStormSlimTask, "loss", lambda self, output, target: self.network.stem.bias[0].detach()
    )
    model = train("deepstorm-slim", dense, out=tmp_path / "run", steps=5, validations=5)
    assert model.record["curves"]["validation_loss"] == [5, 3, 1, 2, 4]
    assert set(weights_of(model)["stem.bias"]) == {1.0}
    told = model.record["curves"]["train_loss"]  # runs behind what updates say
    assert told[:3] == pytest.approx([50, 49, 0.95 * 49 + 0.05 * 10])


def test_the_best_weights_outlive_a_stop(dense, tmp_path, monkeypatch):
    weights = iter([5.0, 1.0, 3.0, None, 4.0, 2.0])  # the second are the best, the fourth a kill

    def updated(self, *arguments):
        value = next(weights)
        if value is None:
            raise KilledError
        with torch.no_grad():
            self.task.network.stem.bias.fill_(value)
        return value

    monkeypatch.setattr("simscope.learn.loop.SECONDS_AT_RISK", 0.0)
    monkeypatch.setattr(Loop, "_update", updated)
    monkeypatch.setattr(
        DeepStormSlimTask, "loss", lambda self, output, target: self.network.stem.bias[0].detach()
    )
    how = {"out": tmp_path / "run", "steps": 5, "validations": 5}
    with pytest.raises(KilledError):
        train("deepstorm-slim", dense, **how)
    model = train("deepstorm-slim", dense, **how)
    assert model.record["curves"]["validation_loss"] == [5, 1, 3, 4, 2]
    assert set(weights_of(model)["stem.bias"]) == {1.0}


def test_the_slim_loss_is_least_where_the_map_tells_the_truth(dense):
    task, batch = make_task("deepstorm-slim", dense, TINY), ss.Simulator(dense, 2).batch(0, 4)
    task.fit_scales(batch)
    target = task.targets(batch)
    perfect = torch.nan_to_num(target.clone())
    perfect[:, :-1] = torch.log(target[:, :-1].clamp(min=1e-12))
    least = float(task.loss(perfect, target))
    emitters = float(target[:, :-1].sum())
    for shift in (-0.2, 0.2):  # of every logarithm: a deviance of exp(s) - 1 - s an emitter
        worse = perfect.clone()
        worse[:, :-1] += shift
        expected = least + np.expm1(shift) - shift
        assert float(task.loss(worse, target)) == pytest.approx(expected, abs=1e-4)
        worse = perfect.clone()
        worse[:, -1] += shift
        per_photon = task.config.photon_weight * 0.5 * shift**2
        assert float(task.loss(worse, target)) == pytest.approx(least + per_photon, abs=1e-5)
    assert emitters == pytest.approx(len(task.truth(batch)["frame"]), rel=1e-3)
    assert float(task.loss(perfect.roll(1, dims=-1), target)) > least + 0.1


def test_patience_is_counted_in_looks_without_gain(dense, tmp_path, monkeypatch):
    losses = iter([5.0, 3.0, 4.0, 2.0, 2.5, 2.0, 1.0, 0.5])

    def looked(self, watch):
        self.standing.looks += 1
        self.standing.curve.append({"validation_loss": next(losses), "step": self.standing.step})

    monkeypatch.setattr(Loop, "_look", looked)
    model = train("deepstorm-slim", dense, out=tmp_path / "run", steps=8, validations=8, patience=2)
    assert model.record["steps"] == 6  # 2.0 again is no gain
    assert "no gain in 2 looks" in model.record["stopped"]


def test_an_untrained_slim_network_says_the_mean_density(dense):
    task, batch = make_task("deepstorm-slim", dense), ss.Simulator(dense, 2).batch(0, 8)
    task.fit_scales(batch)
    with torch.no_grad():
        said = task.density(task.network(task.inputs(batch.images))).sum().item()
    assert said == pytest.approx(len(task.truth(batch)["frame"]), rel=0.5)


def test_training_stops_early_when_nothing_is_gained(dense, tmp_path):
    model = train(
        "deepstorm-slim", dense, out=tmp_path / "run", steps=40, validations=40, patience=2,
        learning_rate=1e-12,
    )  # fmt: skip
    assert model.record["steps"] < 40
    assert "no gain" in model.record["stopped"]


def test_a_bright_isolated_emitter_is_found_by_a_perfect_map(dense):
    task = make_task("deepstorm-slim", dense, TINY)
    sparse = changed(dense, structure__density_per_um2=0.2)
    batch = ss.Simulator(sparse, 2).batch(0, 6)
    task.fit_scales(batch)
    perfect = task.targets(batch)
    perfect[:, :-1] = torch.log(perfect[:, :-1].clamp(min=1e-9))
    figures = task.judge(torch.nan_to_num(perfect), batch)
    assert figures["jaccard"] > 0.95
    assert figures["rmse_lateral_nm"] < 15
    found = task.found(torch.nan_to_num(perfect))
    matches = ss.evaluate.match(found, batch.emitters, 30)
    ratio = found["photons"][matches.found_rows] / batch.emitters["photons"][matches.truth_rows]
    # of each its own; said of the typical one, half of them would be wrong by 1.5
    assert np.median(np.abs(np.log(ratio))) < 1e-3


def test_movies_of_a_plane_count_frames_through_all_samples(dense):
    movie = changed(dense, acquisition__frames=3)
    batch = ss.Simulator(movie, 2).batch(2, 4)
    task = make_task("deepstorm-slim", movie, TINY)
    task.fit_scales(batch)
    assert len(task.targets(batch)) == 6
    log_map, photons = split_output(task.network(task.inputs(batch.images)), 4)
    assert log_map.shape == (6, 128, 128)
    assert photons.shape == (6, 32, 32)


def test_zernike_network_trains_and_names_its_coefficients(stacks, tmp_path):
    model = train("zernike", stacks, out=tmp_path / "run", config={"channels": 8})
    batch = ss.Simulator(stacks, 5).batch(0, 3)
    predicted = ss.learn.regress(model.folder, batch.images)
    assert predicted.keys() <= batch.parameters.keys()
    assert {len(values) for values in predicted.values()} == {3}
    assert 0 < model.record["held_out"]["relative_error"] < 3
    assert model.record["held_out"]["rms_drawn_nm"] > 0
    fresh = ss.Simulator(stacks, training_seed(0)).batch(3 * 2**30, 3 * 2**30 + 8)
    found, truth = ss.learn.regress(model, fresh.images), fresh.parameters
    squared = sum((found[path] - truth[path]) ** 2 for path in found)
    expected = np.sqrt(squared.mean())
    assert model.record["held_out"]["rms_error_nm"] == pytest.approx(expected, rel=1e-6)
    with pytest.raises(TrainingError, match="planes"):
        ss.learn.regress(model, batch.images[:, :2])
    with pytest.raises(TrainingError, match="no positions"):
        ss.learn.localize(model, batch.images)


def test_networks_refuse_recipes_they_cannot_learn(dense, stacks):
    with pytest.raises(TrainingError, match="focus stacks"):
        make_task("deepstorm-slim", stacks)
    with pytest.raises(TrainingError, match="no Zernike coefficients"):
        make_task("zernike", dense)
    with pytest.raises(TrainingError, match="guess the middle"):
        DeepStormSlimTask(changed(stacks, acquisition__focus_nm=0.0))
    with pytest.raises(TrainingError, match=r"choose deepstorm, .*; did you mean"):
        make_task("resnet", dense)
    with pytest.raises(TrainingError, match="chanels"):
        make_task("deepstorm-slim", dense, {"chanels": 3})


def test_samples_too_large_for_memory_are_refused_before_the_work(dense, tmp_path):
    movie = changed(dense, acquisition__frames=10**6)
    with pytest.raises(TrainingError, match=r"lower batch_size.*frames"):
        train("deepstorm-slim", movie, out=tmp_path / "run")


def test_emitters_without_light_are_no_one_s_to_find(dense):
    task, batch = make_task("deepstorm-slim", dense, TINY), ss.Simulator(dense, 2).batch(0, 2)
    lit = len(task.truth(batch)["frame"])
    row = int(np.flatnonzero(np.isin(batch.emitters["x_nm"], task.truth(batch)["x_nm"]))[0])
    batch.emitters["photons"][row] = 0.0
    assert len(task.truth(batch)["frame"]) == lit - 1


def test_emitters_outside_the_frame_are_no_one_s_to_find(dense):
    wide = changed(dense, structure__margin_nm=1000.0)
    task, batch = make_task("deepstorm-slim", wide, TINY), ss.Simulator(wide, 3).batch(0, 4)
    task.fit_scales(batch)
    perfect = task.targets(batch)
    perfect[:, :-1] = torch.log(perfect[:, :-1].clamp(min=1e-9))
    assert task.judge(torch.nan_to_num(perfect), batch)["recall"] > 0.9
    assert (batch.emitters["x_nm"] < 0).any()


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        ({"steps": None}, "no steps, minutes"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"batchsize": 3}, "batchsize"),
    ],
)
def test_impossible_plans_are_refused(dense, tmp_path, plan, says):
    with pytest.raises(TrainingError, match=says):
        train("deepstorm-slim", dense, out=tmp_path / "run", **plan)


@pytest.mark.parametrize("device", ["foo", "cuda:77", "meta", "cpu:x", None])
def test_processors_that_are_not_there_are_refused_before_anything_is_made(dense, tmp_path, device):
    with pytest.raises(TrainingError, match=r"device=.*use 'cpu'"):
        train("deepstorm-slim", dense, out=tmp_path / "run", device=device)
    assert not (tmp_path / "run").exists()


def test_a_finished_run_is_never_overwritten_unasked(run, dense):
    with pytest.raises(TrainingError, match="holds a run already"):
        train("deepstorm-slim", dense, out=run.folder)


def test_damaged_and_foreign_runs_are_refused(run, tmp_path):
    with pytest.raises(TrainingError, match="no finished run"):
        ss.learn.load(tmp_path)
    for name in ("config.json", "run.json", "weights.safetensors"):
        (tmp_path / name).write_bytes((run.folder / name).read_bytes())
    (tmp_path / "weights.safetensors").write_bytes(b"not an archive")
    with pytest.raises(TrainingError, match="damaged"):
        ss.learn.load(tmp_path)


def test_images_a_network_cannot_read_are_refused(run, dense):
    with pytest.raises(TrainingError, match="shape"):
        ss.learn.localize(run, np.zeros(7))
    with pytest.raises(TrainingError, match="NaN"):
        ss.learn.localize(run, np.full((1, 32, 32), np.nan))
    with pytest.raises(TrainingError, match="threshold"):
        ss.learn.localize(run, np.zeros((1, 32, 32)), threshold=0.0)


def test_data_with_other_pixels_is_refused(run, dense, tmp_path):
    path = ss.generate(changed(dense, camera__pixel_pitch_um=11.0), 2, 1, tmp_path / "data.h5")
    with pytest.raises(TrainingError, match="110 nm"):
        ss.learn.localize(run, path)


def test_the_budget_that_ends_first_says_how_much_is_done():
    plan = ss.learn.Plan(steps=10, minutes=2, cpu_minutes=4)
    assert plan.share_done(5, 0.0, 0.0) == 0.5
    assert plan.share_done(0, 90.0, 0.0) == 0.75
    assert plan.share_done(0, 0.0, 60.0) == 0.25
    assert plan.share_done(5, 90.0, 60.0) == 0.75


def test_updates_follow_the_schedule_with_clipped_gradients(dense, tmp_path):
    model = train("deepstorm-slim", dense, out=tmp_path / "run", clip_norm=1e-3)
    plan = ss.learn.Plan(**PLAN)
    rates = [plan.rate((step - 1) / 12) for step in (4, 8, 12)]
    assert model.record["curves"]["learning_rate"] == pytest.approx(rates)
    gradients = [weights.grad.norm() for weights in model.task.network.parameters()]
    assert float(torch.stack(gradients).norm()) == pytest.approx(1e-3, rel=1e-3)


def test_a_loss_that_is_no_number_ends_the_run(dense, tmp_path, monkeypatch):
    monkeypatch.setattr(
        DeepStormSlimTask, "loss", lambda self, output, target: output.sum() * float("nan")
    )
    with pytest.raises(TrainingError, match="lower learning_rate"):
        train("deepstorm-slim", dense, out=tmp_path / "run")


def test_learning_rate_warms_up_then_falls():
    plan = ss.learn.Plan(steps=10)
    rates = [plan.rate(share) for share in np.linspace(0, 1, 101)]
    assert max(rates) == pytest.approx(plan.learning_rate)
    assert rates.index(max(rates)) == 10
    assert rates[-1] == pytest.approx(plan.learning_rate * plan.final_rate)
    assert all(a >= b for a, b in pairwise(rates[10:]))


def test_every_network_is_named_wherever_networks_are_listed():
    helped = CliRunner().invoke(cli.app, ["train", "--help"]).output
    words = " ".join(re.sub(r"[^\w\s:,.-]", " ", helped).split())
    assert re.search(r"Networks: ([\w ,-]+)\.", words).group(1).split(", ") == sorted(NETWORKS)
    assert set(PAPERS) == set(NETWORKS)
    for page in ("README.md", "docs/training.md"):
        text = (Path(__file__).parents[1] / page).read_text("utf8")
        assert set(NETWORKS) <= set(re.findall(r"^\| `([\w-]+)` \|", text, re.M)), page
    for name in NETWORKS:
        task, config = network(name)
        assert (task.kind, config().kind) == (name, name)
