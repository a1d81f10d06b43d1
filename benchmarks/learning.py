"""What networks learn from simscope in a stated time: the table "Learning" of benchmarks/README.md.

    python benchmarks/learning.py [row ...] --out runs/bench

Trains each network once, with one thread and the processor time stated (ten processor minutes are
five minutes of two cores), and judges it on samples of other seeds. A run that was stopped goes on;
a finished one is only judged again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import simscope as ss
from simscope.evaluate import matched_bounds, normalised_errors, score
from simscope.learn import TrainedModel
from simscope.recipe import Recipe
from simscope.targets import frame_of_row

TEST_SEED = 991
Judge = Callable[[TrainedModel], str]


def changed(name: str, **changes: Any) -> Recipe:
    """A packaged recipe with values changed; two underscores stand for a dot."""
    return ss.load_recipe(name).replace_all(
        {path.replace("__", "."): value for path, value in changes.items()}
    )


@dataclass(frozen=True)
class Work:
    """A network, what it is trained on and how long, and what is said of it afterwards."""

    network: str
    recipe: Recipe
    cpu_minutes: float
    judge: Judge
    bar: str
    plan: dict[str, Any]
    seed: int = 0


def truth_of(batch: ss.Batch) -> dict[str, Any]:
    """Every emitter with light on the frames of a batch, with its background [photons/px]."""
    rows, frame = batch.emitters, frame_of_row(batch.emitter_offsets)
    truth = {name: rows[name].astype(float) for name in ("x_nm", "y_nm", "z_nm", "photons")}
    level = batch.parameters.get("background.photons_per_pixel")
    truth["frame"] = frame
    truth["background"] = None if level is None else level[frame]
    return truth


def localised(
    model: TrainedModel,
    recipe: Recipe,
    frames: int,
    radius_nm: float,
    axial_nm: float | None = None,
) -> tuple[Any, dict[str, Any]]:
    """Score on frames of a recipe, and errors by the bound of each emitter."""
    simulator = ss.Simulator(recipe, TEST_SEED)
    batch = simulator.batch(0, frames)
    truth = truth_of(batch)
    level = truth.pop("background")
    found = ss.learn.localize(model, batch.images)
    result = score(found, truth, radius_nm, axial_nm)
    bound = matched_bounds(simulator, truth, result, background_photons=level)
    return result, normalised_errors(found, truth, result, bound)


def judge_dense(model: TrainedModel) -> str:
    """Jaccard index and RMSE at 1 and at 5 emitters per square micrometre."""
    said = []
    for density in (1, 5):
        recipe = changed("smlm-2d-dense", structure__density_per_um2=density)
        result, errors = localised(model, recipe, 128, 250.0)
        said.append(
            f"{density}/µm²: Jaccard {result.jaccard:.3f}, RMSE {result.rmse_lateral_nm:.1f} nm "
            f"({errors['lateral'].ratio:.2f} x CRLB of lone emitters)"
        )
    return "; ".join(said)


def judge_isolated(model: TrainedModel) -> str:
    """Lateral RMSE over the bound where most emitters are alone."""
    recipe = changed("smlm-2d-dense", structure__density_per_um2=0.2)
    result, errors = localised(model, recipe, 150, 250.0)
    return (
        f"0.2/µm²: Jaccard {result.jaccard:.3f}, lateral RMSE {result.rmse_lateral_nm:.2f} nm = "
        f"{errors['lateral'].ratio:.2f} x CRLB"
    )


def judge_deep(model: TrainedModel) -> str:
    """Jaccard index within 100 nm in 3-D, and errors over the bound."""
    recipe = model.recipe.replace("structure.density_per_um2", 0.1)
    result, errors = localised(model, recipe, 128, 100.0, 100.0)
    return (
        f"0.1/µm²: Jaccard {result.jaccard:.3f} (100 nm lateral and axial), RMSE "
        f"{result.rmse_lateral_nm:.1f} nm lateral = {errors['lateral'].ratio:.2f} x CRLB, "
        f"{result.rmse_axial_nm:.1f} nm axial = {errors['z_nm'].ratio:.2f} x CRLB"
    )


def judge_wavefront(model: TrainedModel) -> str:
    """RMS wavefront error on 512 stacks."""
    scores = judged_regression(model, model.recipe, 512)
    return f"RMS wavefront error {scores['rms_error_nm']:.1f} of {scores['rms_drawn_nm']:.0f} nm"


def judge_blind(model: TrainedModel) -> str:
    """R² of the defocus in domain, and on a family of textures never trained on."""
    bodies = model.recipe.replace("structure.form", "bodies")
    known, unknown = (
        judged_regression(model, recipe, 128)["r2"] for recipe in (model.recipe, bodies)
    )
    return f"R² {known:.3f} on patches as trained, {unknown:.3f} on `bodies`, never trained on"


def judged_regression(model: TrainedModel, recipe: Recipe, samples: int) -> dict[str, Any]:
    """Figures of merit of a regression on samples of a recipe, as the network's own judge says."""
    from simscope.learn.compute import run_network

    batch = ss.Simulator(recipe, TEST_SEED).batch(0, samples)
    return model.task.judge(run_network(model.task, batch.images), batch)


WORKS = {
    "slim": Work(
        "deepstorm-slim", ss.load_recipe("smlm-2d-dense"), 10, judge_dense,
        "Jaccard ≥ 0.96, RMSE ≤ 11 nm at 1/µm²; ≥ 0.80, ≤ 24 nm at 5/µm²", {},
    ),
    "decode": Work(
        "decode", changed("smlm-2d-dense", structure__density_per_um2={"uniform": [0.2, 2]}), 6,
        judge_isolated, "lateral RMSE ≤ 1.25 x CRLB", {"batch_size": 8}, 1,
    ),
    "tetrapod": Work(
        "deepstorm3d", changed("smlm-3d-tetrapod", acquisition__shape=[96, 96]), 40, judge_deep,
        "Jaccard ≥ 0.85, RMSE ≤ 3 x CRLB", {"validations": 24, "patience": 24},
    ),
    "zernike": Work(
        "zernike", ss.load_recipe("psf-zernike-large"), 20, judge_wavefront,
        "RMS wavefront error ≤ 30 nm", {"validations": 20, "patience": 20}, 1,
    ),
    "blind": Work(
        "psf-blind", ss.load_recipe("psf-blind"), 10, judge_blind,
        "R² ≥ 0.9, and ≥ 0.7 on a family never trained on", {"validations": 20, "patience": 20}, 1,
    ),
}  # fmt: skip


def trained(work: Work, folder: Path, progress: bool) -> TrainedModel:
    """The network of a row, trained now unless it was before."""
    if (folder / "run.json").exists():
        return ss.learn.load(folder)
    return ss.learn.train(
        work.network, work.recipe, out=folder, seed=work.seed, threads=1, progress=progress,
        cpu_minutes=work.cpu_minutes, **work.plan,
    )  # fmt: skip


def row(name: str, work: Work, model: TrainedModel) -> str:
    """One row of the table."""
    record = model.record
    made = record["seconds_waiting_for_data"] - record["seconds_preparing_targets"]
    return (
        f"| `{work.network}`, {model.parameters:,} parameters | {record['cpu_seconds'] / 60:.1f} | "
        f"{record['steps']:,} | {made / record['seconds']:.1%} | {work.judge(model)} | {work.bar} |"
    )


def main() -> None:
    """Train and judge the rows asked for, and print them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rows", nargs="*", default=list(WORKS), metavar="row")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    parser.add_argument("--no-progress", action="store_true")
    given = parser.parse_args()
    unknown = set(given.rows) - set(WORKS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; rows are {', '.join(WORKS)}")
    print("| network | processor minutes | steps | simulating | reached | bar |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in given.rows:
        model = trained(WORKS[name], given.out / name, not given.no_progress)
        print(row(name, WORKS[name], model), flush=True)


if __name__ == "__main__":
    main()
