"""The trust report as one HTML page, made from its JSON alone (images are simulated again)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from simscope.acquire import Simulator
from simscope.errors import SimscopeError, SimscopeWarning
from simscope.recipe import Recipe
from simscope.recipe.text import to_yaml
from simscope.show import (
    Code,
    Contents,
    Folded,
    Missing,
    Picture,
    Points,
    Section,
    Table,
    Text,
    Verdicts,
    write_report,
)
from simscope.show import trust as pictures
from simscope.show.report import Block
from simscope.trust.sections import SECTIONS
from simscope.trust.status import is_tested
from simscope.trust.words import (
    bound_row,
    few_metrics,
    metric_table,
    number_words,
    or_dash,
    range_end,
    shown,
    verdict_row,
)

Report = dict[str, Any]
Blocks = list[Block]
LIMITS = "Limits in plain words"


def write_page(report: Report, path: Path, *, force: bool = True) -> Path:
    """Path of the HTML file of a report."""
    titles = ["Verdicts", LIMITS, *(title for title, _ in SECTIONS.values())]
    rows = [verdict_row(row) for row in report["verdicts"]]
    explained = Text(
        "A claim holds if its whole interval keeps the limit, fails if its whole interval breaks "
        "it, and is open in between. What nobody measured is not tested."
    )
    parts = [
        Section("Verdicts", [Verdicts(rows), explained, Contents(titles[1:])]),
        Section(LIMITS, [Points(report["sections"]["limits"]["words"])]),
        *(Section(title, blocks_of(name, report)) for name, (title, _) in SECTIONS.items()),
    ]
    summary = f"{report['network']} trained on {report['recipe']}. {report['description']}"
    return write_report(path, report["title"], summary, parts, force=force)


def blocks_of(name: str, report: Report) -> Blocks:
    """What stands under a section's heading; the reason if it was not tested."""
    section = report["sections"][name]
    if not is_tested(section):
        return [Missing(section["reason"])]
    return _BLOCKS[name](section, report)


def accuracy(section: Report, report: Report) -> Blocks:
    """Figures on every condition."""
    words = (
        f"{section['samples']} test samples each, none of them trained on. Intervals of 95 % over "
        f"{section['intervals']}" + ("; ticks are single seeds." if section["intervals"] == "seeds"
                                     else " of one run.")
    )  # fmt: skip
    blocks: Blocks = [
        Text(words),
        Picture(
            pictures.interval_figure(section["figures"], few_metrics(report)),
            "Figures of merit on what the network was trained for.",
        ),
        metric_table(section["figures"], report, "tested on"),
    ]
    if not is_tested(section["over_seeds"]):
        blocks.insert(0, Missing(f"intervals over seeds: {section['over_seeds']['reason']}"))
    seeds = [
        metric_table(rows, report, "tested on", f"Seed {seed}, intervals over {report['item']}s")
        for seed, rows in section["over_items"].items()
    ]
    return [*blocks, Folded("Every seed alone", seeds)]


def limit(section: Report, report: Report) -> Blocks:
    """Errors over the bound."""
    rows = section["figures"]
    blocks: Blocks = []
    known = {method: parts for method, parts in rows.items() if is_tested(parts)}
    what = (
        f"{section['emitters']} isolated emitters away from the border"
        if "emitters" in section else f"{section['samples']} samples"
    )  # fmt: skip
    blocks.append(
        Text(
            f"{what}. The Cramér-Rao bound is the smallest error any unbiased method can have on "
            "these very photons, pixels and this noise; 1 is perfect. Below 1, an error was cut "
            "off by the tolerance of the match, or prior knowledge was used."
        )
    )
    if known:
        caption = "RMS error over RMS bound, with 95 % intervals."
        blocks.append(Picture(pictures.ratio_figure(known), caption))
    lines = []
    for method, parts in rows.items():
        if not is_tested(parts):
            blocks.append(Missing(f"{method}: {parts['reason']}"))
            continue
        table = {"all numbers": parts} if "ratio" in parts else parts
        lines += [
            bound_row(f"{method}, {part}", one)
            for part, one in table.items()
            if isinstance(one, dict) and "ratio" in one
        ]
    unit = f" [{section['unit']}]"
    headers = ("method, coordinate", f"RMS error{unit}", f"bound{unit}", "ratio", "bias over bound")
    return [*blocks, Table(headers, lines)] if lines else blocks


def null(section: Report, report: Report) -> Blocks:
    """The network beside predictors that know nothing."""
    first = next(iter(section["figures"].values()))
    blocks: Blocks = [
        Text("What finds nothing, always says the mean, or needs no training, on the same data."),
        Picture(pictures.interval_figure(first, few_metrics(report)), "On what it was trained on."),
    ]
    for name, rows in section["figures"].items():
        blocks.append(metric_table(rows, report, "predictor", name))
    return blocks


def overtraining(section: Report, report: Report) -> Blocks:
    """Samples trained on against fresh ones."""
    known = {name: run for name, run in section["runs"].items() if is_tested(run)}
    blocks: Blocks = [
        Text(
            "The same score on samples seen in training and on fresh ones of the same recipe. A "
            "stream never repeats a sample, so nothing can be learned by heart; a finite set can."
        )
    ]
    if known:
        figure = pictures.gap_figure(known, few_metrics(report))
        blocks.append(
            Picture(figure, "Red better than blue by more than chance would be overtraining.")
        )
        gaps = {name: run["gap"] for name, run in known.items()}
        blocks.append(metric_table(gaps, report, "run", "Trained on less fresh"))
    missing = {name: run for name, run in section["runs"].items() if not is_tested(run)}
    return [*blocks, *(Missing(f"{name}: {run['reason']}") for name, run in missing.items())]


def training_size(section: Report, report: Report) -> Blocks:
    """Scores against the number of training samples."""
    points = section["points"]
    rows = {
        f"{point['samples']:,} " + ("streamed" if point["stream"] else "samples"): point["figures"]
        for point in points
    }
    words = "Finite training sets of other sizes, all for the same budget, tested on fresh samples."
    caption = "Circles: finite sets, seen again and again. Square: the stream."
    figure = pictures.size_figure(points, few_metrics(report))
    return [Text(words), Picture(figure, caption), metric_table(rows, report, "trained on")]


def microscopes(section: Report, report: Report) -> Blocks:
    """The matrix of trained on and tested on."""
    names, cells = section["names"], section["figures"]
    blocks: Blocks = [
        Text(
            "A network knows the microscope it was trained on. Off the diagonal it meets another "
            "one; on the diagonal it is at home. All were trained for the same budget."
        )
    ]
    for metric, reading in few_metrics(report, 2).items():
        figure = pictures.matrix_figure(names, cells, metric, reading)
        blocks.append(Picture(figure, f"{reading['words']}, trained on (row), tested on (column)."))
    rows = {
        f"{trained} → {tested}": cells[trained][tested] for trained in names for tested in names
    }
    table = metric_table(rows, report, "trained on → tested on")
    return [*blocks, Folded("All figures with their intervals, and why some are missing", [table])]


def structures(section: Report, report: Report) -> Blocks:
    """Structures the network never saw."""
    rows = section["figures"]
    known = {name: row for name, row in rows.items() if is_tested(row)}
    figure = pictures.interval_figure(known, few_metrics(report))
    return [Picture(figure, "The same network, data of another kind."),
            metric_table(rows, report, "structure")]  # fmt: skip


def empty(section: Report, report: Report) -> Blocks:
    """What is seen where nothing is."""
    if "hallucinations" in section:
        words = (
            f"{section['hallucinations']} emitters found in {section['frames']} frames that hold "
            f"none: {shown(section['per_frame'])} per frame, {shown(section['per_um2'])} per µm²."
        )
        return [Text(words)]
    blocks: Blocks = [
        Text(
            f"{section['samples']} images without an object. Spread of what is said of them over "
            f"the spread of the truth: {shown(section['said_over_drawn'])} (0 would be to say the "
            "mean, 1 to guess)."
        )
    ]
    stated = section["stated_over_drawn"]
    if not is_tested(stated):
        return [*blocks, Missing(stated["reason"])]
    words = f"Stated uncertainty there, over that spread: {shown(stated)} (1 is honest)."
    return [*blocks, Text(words)]


def calibration(section: Report, report: Report) -> Blocks:
    """Probabilities and uncertainties against what came true."""
    blocks: Blocks = []
    probability, told = section["probability"], section["uncertainty"]
    if is_tested(probability):
        error = shown(probability["expected_calibration_error"], 3)
        caption = f"Stated probability against truth; expected calibration error {error}."
        blocks.append(Picture(pictures.reliability_figure(probability["bins"]), caption))
    else:
        blocks.append(Missing(f"probabilities: {probability['reason']}"))
    if not is_tested(told):
        return [*blocks, Missing(f"uncertainties: {told['reason']}")]
    caption = "Left: errors over what the network said they would be. Right: coverage."
    blocks.append(Picture(pictures.stated_errors_figure(told), caption))
    levels = list(next(iter(told.values()))["coverage"])
    rows: list[tuple[str, ...]] = [
        (name, f"{one['count']:,}", shown(one["mean"], 2), shown(one["rms"], 2),
         *(number_words(one["coverage"][level], 3) for level in levels))
        for name, one in told.items()
    ]  # fmt: skip
    headers = ("", "errors", "mean", "RMS (1 is true)",
               *(f"within {100 * float(level):g} %" for level in levels))  # fmt: skip
    return [*blocks, Table(headers, rows)]


def breakdown(section: Report, report: Report) -> Blocks:
    """What makes samples hard."""
    if "parameters" in section:
        rows = section["parameters"]
        lines = [
            (row["parameter"], row["unit"], *(or_dash(row[name]) for name in
             ("drawn", "rmse", "bias", "r2"))) for row in rows
        ]  # fmt: skip
        headers = ("number", "unit", "drawn spread", "RMS error", "bias", "R²")
        caption = "RMS error of every number beside the spread it was drawn with."
        return [Picture(pictures.parameters_figure(rows), caption), Table(headers, lines)]
    against = section["against"]
    known = {name: rows for name, rows in against.items() if is_tested(rows)}
    blocks: Blocks = []
    if known:
        caption = "Share found and error in bins with as many true emitters each."
        blocks.append(Picture(pictures.breakdown_figure(known), caption))
    for name, bins in known.items():
        table = [
            (f"{range_end(row['low'])} to {range_end(row['high'])}", f"{row['true_emitters']:,}",
             *(or_dash(row[part]) for part in ("recall", "precision", "jaccard",
                                                "rmse_lateral_nm", "rmse_axial_nm")))
            for row in bins
        ]  # fmt: skip
        columns = (name, "emitters", "recall", "precision", "Jaccard", "lateral RMSE [nm]",
                   "axial RMSE [nm]")  # fmt: skip
        blocks.append(Table(columns, table))
    missing = [one["reason"] for one in against.values() if not is_tested(one)]
    return [*blocks, *(Missing(reason) for reason in missing)]


def samples(section: Report, report: Report) -> Blocks:
    """Best and worst samples as pictures, simulated again from recipe, seed and number."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SimscopeWarning)
            recipe = Recipe.from_dict(section["recipe"])
            simulator = Simulator(recipe, section["seed"])
            return [
                *_sample_pictures(section, simulator, "worst"),
                *_sample_pictures(section, simulator, "best"),
            ]
    except SimscopeError as error:
        return [Missing(f"pictures: {error}")]


def _sample_pictures(section: Report, simulator: Simulator, kind: str) -> Blocks:
    chosen = section[kind]
    images = [simulator[sample["sample"]].image for sample in chosen]
    seed = section["seed"]
    numbers = ", ".join(str(sample["sample"]) for sample in chosen)
    caption = f"The {kind} test samples: {numbers} of seed {seed}."
    if section["kind"] == "numbers":
        figure = pictures.read_samples_figure(
            images, chosen, section["parameters"], section["units"][0]
        )
        return [Picture(figure, caption)]
    frames = [
        image.reshape(-1, *image.shape[-2:])[sample["frame"]]
        for image, sample in zip(images, chosen, strict=True)
    ]
    figure = pictures.marked_frames_figure(frames, chosen, simulator.recipe.pixel_nm)
    return [Picture(figure, caption)]


def curves(section: Report, report: Report) -> Blocks:
    """Loss during training."""
    caption = (
        "Loss of every run on what it trains on (smoothed) and on fresh samples. A finite set that "
        "is learned by heart falls on the left and rises on the right."
    )
    return [Picture(pictures.curves_figure(section["runs"]), caption)]


def cost(section: Report, report: Report) -> Blocks:
    """Hardware and time."""
    rows = [
        (name, or_dash(run["cpu_seconds"]), or_dash(run["seconds"]), f"{run['steps']:,}",
         f"{run['samples_seen']:,}", str(run["stopped"]))
        for name, run in section["runs"].items()
    ]  # fmt: skip
    headers = ("run", "processor time [s]", "time [s]", "steps", "samples seen", "ended by")
    hardware = "; ".join(f"{name} {value}" for name, value in section["hardware"].items())
    total = section["cpu_seconds"] / 60
    words = f"{total:.1f} processor minutes of training in all. {hardware}."
    return [Text(words), Table(headers, rows)]


def hyper_parameters(section: Report, report: Report) -> Blocks:
    """Everything that was set."""
    rows = [
        (f"{group}.{name}", str(value))
        for group in ("plan", "config")
        for name, value in section[group].items()
    ]
    runs = [(name, str(run["seed"]), run["source"]) for name, run in section["runs"].items()]
    return [
        Text(f"{section['parameters']:,} trained parameters."),
        Table(("hyper-parameter", "value"), rows),
        Table(("run", "seed", "trained on"), runs),
    ]


def identity(section: Report, report: Report) -> Blocks:
    """Hashes, versions and the recipe."""
    rows = [("recipe", section["recipe_sha256"])]
    study = section["study_sha256"]
    rows.append(("study", study if is_tested(study) else f"not tested: {study['reason']}"))
    rows += [(f"weights of {run['run']}", run["weights_sha256"]) for run in section["runs"]]
    versions = "; ".join(f"{name} {value}" for name, value in section["versions"].items())
    return [
        Text(f"{versions}."),
        Table(("SHA-256 of", "hash"), rows),
        Code(to_yaml(section["recipe"]), fold="The whole recipe (YAML)"),
    ]


def reproduce(section: Report, report: Report) -> Blocks:
    """The command."""
    blocks: Blocks = [Code(section["command"])]
    if is_tested(section["study"]):
        blocks.append(Code(to_yaml(section["study"]), fold="The whole study (YAML)"))
    return blocks


_BLOCKS: dict[str, Callable[[Report, Report], Blocks]] = {
    "accuracy": accuracy,
    "limit": limit,
    "null": null,
    "overtraining": overtraining,
    "training_size": training_size,
    "microscopes": microscopes,
    "structures": structures,
    "empty": empty,
    "calibration": calibration,
    "breakdown": breakdown,
    "samples": samples,
    "curves": curves,
    "cost": cost,
    "hyper_parameters": hyper_parameters,
    "identity": identity,
    "reproduce": reproduce,
}
