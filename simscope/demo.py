"""The whole way in one command: recipe, data, training, localisation, score, bound, report.

Held-out data come from other random streams than the training stream, so nothing the network is
judged on was seen in training.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from simscope.acquire import Simulator
from simscope.dataset import (
    Forecast,
    forecast,
    forecast_rows,
    generate,
    open_dataset,
    write_localizations,
)
from simscope.errors import SimscopeError
from simscope.evaluate import Score, crlb, score
from simscope.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from simscope.learn import TrainedModel
    from simscope.show import Section, Trial

FLAT, DEEP = "smlm-2d-dense", "smlm-3d-tetrapod"
RADIUS_NM = 250.0
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How much of everything the demo does."""

    minutes: float
    frames: dict[float, int]
    movie_frames: int
    deep_samples: int


@dataclass(frozen=True)
class HeldOut:
    """A test set with one density [1/um^2], what was found in it, the score and the bound."""

    density_per_um2: float
    path: Path
    frames: int
    found: npt.NDArray[Any]
    score: Score
    bound_nm: npt.NDArray[np.float64]

    @property
    def name(self) -> str:
        """Short name for figures and tables."""
        return f"{self.density_per_um2:g} per µm²"

    @property
    def bound_rms_nm(self) -> float:
        """RMS of the bound over the emitters that were found [nm]; NaN if none was."""
        rows = self.score.matches.truth_rows
        return float(np.sqrt(np.mean(self.bound_nm[rows] ** 2))) if len(rows) else math.nan


def run_demo(
    out: str | os.PathLike[str],
    *,
    minutes: float = 4.0,
    quick: bool = False,
    seed: int = 7,
    force: bool = False,
    tell: Tell = print,
) -> Path:
    """Path of ``report.html``, after simulating, training, judging; all files lie beside it.

    ``quick`` trains for seconds only, to see that everything runs.

    Raises
    ------
    SimscopeError
        If ``out`` holds files already (unless ``force``), or any step fails.
    """
    require_minutes(minutes)
    folder, began = prepared_folder(Path(out), force=force), time.monotonic()
    plan, recipe = plan_of(minutes, quick=quick), load_recipe(FLAT)
    tell(f"1/6 checking the recipe {recipe.name}")
    outlook = forecast(Simulator(recipe, seed))
    tell("2/6 simulating held-out data, a blinking movie, and Tetrapod frames")
    tests = {
        density: simulate(
            recipe.replace("structure.density_per_um2", density),
            frames, seed + number, folder / f"test-{density:g}.h5",
        )
        for number, (density, frames) in enumerate(plan.frames.items())
    }  # fmt: skip
    movie = simulate(movie_recipe(plan.movie_frames), 1, seed, folder / "movie.h5")
    deep = simulate(load_recipe(DEEP), plan.deep_samples, seed, folder / "tetrapod.h5")
    tell(f"3/6 training Deep-STORM for {plan.minutes:g} minutes on the stream")
    model = trained(recipe, folder / "run", plan.minutes, seed)
    tell("4/6 localising")
    held_out = [judge(model, density, path) for density, path in tests.items()]
    tell("5/6 scores: " + "; ".join(headline(test) for test in held_out))
    numbers = results(model, held_out, time.monotonic() - began)
    (folder / "scores.json").write_text(json.dumps(numbers, indent=1, allow_nan=False), "utf8")
    tell("6/6 writing the report")
    return write_demo_report(folder, recipe, outlook, model, held_out, movie, deep, seed)


def require_minutes(minutes: float) -> None:
    """Refuse training times that are none.

    Raises
    ------
    SimscopeError
        If the time is not a finite number above 0.
    """
    if not (math.isfinite(minutes) and minutes > 0):
        raise SimscopeError(f"minutes={minutes} is not a time above 0: train for at least 0.1")


def plan_of(minutes: float, *, quick: bool) -> Plan:
    """Sizes of the whole demo, or of one that only shows that everything runs."""
    if quick:
        return Plan(min(minutes, 0.3), {1.0: 20, 5.0: 10}, movie_frames=40, deep_samples=4)
    return Plan(minutes, {1.0: 200, 5.0: 100}, movie_frames=500, deep_samples=8)


def prepared_folder(folder: Path, *, force: bool) -> Path:
    """The output folder, made if needed.

    Raises
    ------
    SimscopeError
        If it is a file, cannot be made, or holds files and ``force`` is not set.
    """
    if folder.exists() and not folder.is_dir():
        raise SimscopeError(f"{folder} is a file: give the name of a folder")
    if folder.is_dir() and any(folder.iterdir()) and not force:
        raise SimscopeError(f"{folder} is not empty: choose another, or overwrite with --force")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SimscopeError(f"cannot make folder {folder}: {error.strerror}") from None
    return folder


def simulate(recipe: Recipe, samples: int, seed: int, out: Path) -> Path:
    """A dataset file, replacing an older one."""
    return generate(recipe, samples, seed, out, force=True)


def movie_recipe(frames: int) -> Recipe:
    """Microtubule-like filaments whose labels blink, seen by the same microscope."""
    structure = {"kind": "filaments", "count": 5, "labels_per_um": 60, "z_nm": 12,
                 "radius_nm": 0, "linker_nm": 10}  # fmt: skip
    blinking = {
        "kind": "blinking",
        "photons_per_s": {"gamma": [4, 25000]},
        "on_to_off_per_s": 25.0,
        "off_to_on_per_s": 0.4,
        "on_to_bleached_per_s": 0.5,
    }
    return (
        load_recipe(FLAT)
        .replace("structure", structure)
        .replace("photophysics", blinking)
        .replace("acquisition.frames", frames)
        .replace("name", "blinking-filaments")
    )


def trained(recipe: Recipe, run: Path, minutes: float, seed: int) -> TrainedModel:
    """The demo's network, trained on the stream of this recipe."""
    from simscope import learn

    return learn.train("deepstorm-slim", recipe, out=run, minutes=minutes, seed=seed, force=True)


def judge(model: TrainedModel, density_per_um2: float, path: Path) -> HeldOut:
    """A test set localised, written as a table, scored, and bounded."""
    from simscope import learn

    with open_dataset(path) as data:
        found = learn.localize(model, data)
        write_localizations(path.with_suffix(".csv"), found, force=True)
        truth = data.emitters_in_frame
        bound = crlb(Simulator(data.recipe, data.seed), truth)
        return HeldOut(
            density_per_um2=density_per_um2,
            path=path,
            frames=len(data),
            found=found,
            score=score(found, truth, radius_nm=RADIUS_NM),
            bound_nm=np.hypot(bound["x_nm"], bound["y_nm"]),
        )


def headline(test: HeldOut) -> str:
    """Density, Jaccard index, error and bound in a few words."""
    return (
        f"{test.name}: Jaccard {test.score.jaccard:.3f}, RMSE {test.score.rmse_lateral_nm:.1f} nm "
        f"(bound {test.bound_rms_nm:.1f} nm)"
    )


def results(model: TrainedModel, tests: list[HeldOut], seconds: float) -> dict[str, Any]:
    """Everything measured, as plain numbers."""
    return {
        "seconds": seconds,
        "parameters": model.parameters,
        "tests": [
            test.score.to_dict()
            | {
                "density_per_um2": test.density_per_um2,
                "frames": test.frames,
                "radius_nm": RADIUS_NM,
                "bound_rms_nm": test.bound_rms_nm if len(test.score.matches) else None,
            }
            for test in tests
        ],
    }


def write_demo_report(
    folder: Path,
    recipe: Recipe,
    outlook: Forecast,
    model: TrainedModel,
    tests: list[HeldOut],
    movie: Path,
    deep: Path,
    seed: int,
) -> Path:
    """Path of the report with all figures inside."""
    from simscope import show

    sections = [
        recipe_section(recipe, outlook),
        samples_section(tests),
        training_section(model),
        scores_section(tests),
        failures_section(tests),
        movie_section(model, movie),
        deep_section(deep),
        limits_section(),
        again_section(seed),
    ]
    summary = (
        "Physics in, labelled images out: simulated single-molecule images, a small network "
        "trained on them, and its errors beside the physical limit. "
        + "; ".join(headline(test) for test in tests)
        + "."
    )
    return show.write_report(
        folder / "report.html", "simscope: from recipe to trained network", summary, sections,
        force=True,
    )  # fmt: skip


def recipe_section(recipe: Recipe, outlook: Forecast) -> Section:
    """The recipe, its derived numbers and its PSF."""
    from simscope import show

    return show.Section(
        "The microscope",
        [
            show.Text(recipe.description),
            show.Table(("quantity", "value"), forecast_rows(outlook)),
            show.Code(recipe.to_yaml(), fold="The whole recipe (YAML)"),
            show.Picture(
                show.recipe_psf_figure(recipe),
                "The PSF, computed from the vectorial pupil model: planes around focus, cuts, and "
                "the phase in the objective's pupil.",
            ),
        ],
    )


def samples_section(tests: list[HeldOut]) -> Section:
    """Contact sheets of the held-out sets."""
    from simscope import show

    blocks: list[Any] = [
        show.Text(
            "Held-out samples at fixed densities. Circles are the true positions, known exactly "
            "because they were chosen before the image was computed."
        )
    ]
    for test in tests:
        with open_dataset(test.path) as data:
            sheet = show.contact_sheet(data, samples=range(min(8, len(data))), columns=4)
        blocks.append(show.Picture(sheet, f"{test.name}, the first frames of {test.path.name}."))
    return show.Section("Samples with truth", blocks)


def training_section(model: TrainedModel) -> Section:
    """How the network was trained."""
    from simscope import show

    record = model.record
    words = (
        f"A Deep-STORM-style network (Nehme et al. 2018) with {model.parameters:,} parameters, "
        f"trained for {record['seconds'] / 60:.1f} minutes and {record['steps']:,} steps on "
        f"{record['samples_seen']:,} samples straight from the simulator, none of them twice. "
        f"It stopped because: {record['stopped']}."
    )
    caption = (
        "Loss, and scores on validation samples with densities drawn from 0.5 to 5 per µm², during "
        "training."
    )
    figure = show.training_figure(record["curves"])
    return show.Section("Training", [show.Text(words), show.Picture(figure, caption)])


def scores_section(tests: list[HeldOut]) -> Section:
    """Scores beside the Cramér-Rao bound, as a table and over photons."""
    from simscope import show

    rows = [
        (
            test.name,
            f"{test.frames}",
            f"{len(test.bound_nm):,}",
            f"{test.score.jaccard:.3f}",
            f"{test.score.precision:.3f}",
            f"{test.score.recall:.3f}",
            f"{test.score.rmse_lateral_nm:.1f}",
            f"{test.bound_rms_nm:.1f}",
        )
        for test in tests
    ]
    headers = ("density", "frames", "emitters", "Jaccard", "precision", "recall", "RMSE [nm]",
               "bound [nm]")  # fmt: skip
    caption = (
        f"One-to-one matching within {RADIUS_NM:g} nm, per frame. RMSE is lateral, over matched "
        "pairs; the bound is the Cramér-Rao bound of the same emitters, each alone on its "
        "background, in the same form."
    )
    figure_caption = (
        "Left: faint molecules are missed. Middle: the error of those found, and the least error "
        "physics allows for an emitter without neighbours (dashed). Right: how errors spread. "
        "Where errors of very faint emitters fall below the dashed line, only their luckier "
        "fluctuations were found at all."
    )
    return show.Section(
        "Scores beside the physical limit",
        [
            show.Table(headers, rows, caption),
            show.Picture(show.precision_figure([trial(test) for test in tests]), figure_caption),
        ],
    )


def trial(test: HeldOut) -> Trial:
    """A held-out set in the form the precision figure takes."""
    from simscope import show

    with open_dataset(test.path) as data:
        return show.Trial(test.name, data.emitters_in_frame, test.score, test.bound_nm)


def failures_section(tests: list[HeldOut]) -> Section:
    """The worst frames of every held-out set."""
    from simscope import show

    blocks: list[Any] = [
        show.Text(
            "The frames with most mistakes. Misses come in twos: two molecules closer than about "
            "the width of the PSF are found as one, and faint ones drown beside bright ones."
        )
    ]
    for test in tests:
        with open_dataset(test.path) as data:
            sheet = show.failure_sheet(data, test.found, test.score.matches, frames=4)
        blocks.append(show.Picture(sheet, f"Worst of {test.frames} frames, {test.name}."))
    return show.Section("Failure cases", blocks)


def movie_section(model: TrainedModel, path: Path) -> Section:
    """A blinking movie the network never trained on, reconstructed."""
    from simscope import learn, show

    with open_dataset(path) as data:
        found = learn.localize(model, data)
        write_localizations(path.with_suffix(".csv"), found, force=True)
        result = score(found, data.emitters_in_frame, radius_nm=RADIUS_NM)
        beside = len(data.emitters) - len(data.emitters_in_frame)
        figure = show.reconstruction_figure(data, found)
    words = (
        "Labelled filaments whose molecules blink as a continuous-time Markov chain, so that a "
        "molecule may shine for part of a frame. The network was trained on scattered molecules "
        f"only. Jaccard {result.jaccard:.3f}, RMSE {result.rmse_lateral_nm:.1f} nm, counting "
        "every glimpse on the frame, however short, as an emitter to be found "
        f"({beside:,} glimpses beside the frame are left out)."
    )
    caption = "Left: what a conventional microscope sees. Middle: found. Right: where they were."
    return show.Section("Blinking filaments", [show.Text(words), show.Picture(figure, caption)])


def deep_section(path: Path) -> Section:
    """Molecules over four micrometres of depth through the Tetrapod mask."""
    from simscope import show

    with open_dataset(path) as data:
        sheet = show.contact_sheet(data, columns=4)
        figure = show.recipe_psf_figure(data.recipe)
        words = data.recipe.description
    return show.Section(
        "Three dimensions: a Tetrapod mask",
        [
            show.Text(words),
            show.Picture(figure, "The PSF over the depth of the sample, and the phase mask."),
            show.Picture(sheet, "Samples; the colour of a circle is the molecule's height."),
        ],
    )


def limits_section() -> Section:
    """What the demo does not show, in plain words."""
    from simscope import show

    limits = (
        "Trained and tested on the same simulated microscope: a real one differs from its recipe, "
        "and scores on real data will be lower until the recipe is fitted to it.",
        "Molecules are freely rotating dipoles; fixed dipoles shift and distort their images.",
        "The bound takes each molecule alone. In dense frames neighbours make the true limit "
        "larger, so the distance to the dashed line is not all the network's fault.",
        "The bound treats read noise as extra shot noise and leaves pixel-to-pixel gain "
        "differences out.",
        "The network is small and trained for minutes on a processor. It shows that the data are "
        "fit for training; it is no record.",
        "Light that falls outside the rendering window of an emitter is left out; the table above "
        "says how much.",
    )
    return show.Section("Limits", [show.Text(limit) for limit in limits])


def again_section(seed: int) -> Section:
    """How to get the same numbers again, and further."""
    from simscope import show

    commands = "\n".join(
        (
            f"simscope demo --out demo --seed {seed}",
            "simscope score demo/test-1.csv demo/test-1.h5 --radius-nm 250",
            f"simscope train deepstorm-slim smlm-2d-dense --out runs/a --minutes 20 --seed {seed}",
            "simscope recipes smlm-2d-dense > mine.yaml   # then make it your microscope",
        )
    )
    words = (
        "Data are a pure function of recipe and seed, so they come out the same anywhere. Training "
        "by the clock differs a little from machine to machine."
    )
    return show.Section("Again, and further", [show.Text(words), show.Code(commands)])
