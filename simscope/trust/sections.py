"""The sections of a trust report: a fixed list, each measured or ``not_tested`` with the reason.

What reviews of learning in microscopy ask for: every hyper-parameter, curves and tests for
overtraining, intervals over repetitions, comparison with the limit and with classical methods,
transfer, confidence, failures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from simscope.dataset import open_dataset
from simscope.errors import SimscopeError, StudyError
from simscope.trust.bench import Bench
from simscope.trust.exams import Exam, Member, simulated
from simscope.trust.figures import Figures, figure, gap, over_seeds
from simscope.trust.status import is_tested, measured, not_tested
from simscope.trust.study import AS_TRAINED, FEWEST_SEEDS
from simscope.trust.training import DATA

Section = Callable[[Bench], dict[str, Any]]


def identity(bench: Bench) -> dict[str, Any]:
    """Network, recipe, study and weights, each with its hash."""
    subject = bench.subject
    study = subject.study
    return {
        "network": subject.first.model.kind,
        "recipe": subject.recipe.written(),
        "recipe_sha256": subject.recipe.sha256,
        "study_sha256": study.sha256 if study else not_tested("runs were given, no study"),
        "runs": [
            {
                "run": member.name,
                "folder": member.model.folder.name,
                "recipe_sha256": member.model.recipe.sha256,
                "weights_sha256": _file_hash(member.model.folder / "weights.safetensors"),
            }
            for member in subject.members
        ],
        "unfinished": list(subject.unfinished),
        "versions": subject.first.record["versions"],
    }


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hyper_parameters(bench: Bench) -> dict[str, Any]:
    """Every hyper-parameter of the first run, and what differs between runs."""
    first = bench.subject.first.record
    runs = {
        member.name: {"seed": member.record["seed"], "source": Path(member.record["source"]).name}
        for member in bench.subject.members
    }
    return {
        "parameters": first["parameters"],
        "plan": first["plan"],
        "config": first["config"],
        "runs": runs,
    }


def cost(bench: Bench) -> dict[str, Any]:
    """Hardware, and time of every training."""
    names = ("seconds", "cpu_seconds", "steps", "samples_seen", "stopped")
    runs = {m.name: {name: m.record.get(name) for name in names} for m in bench.subject.members}
    total = [run["cpu_seconds"] for run in runs.values() if run["cpu_seconds"] is not None]
    return {
        "hardware": bench.subject.first.record["hardware"],
        "runs": runs,
        "cpu_seconds": sum(total),
    }


def curves(bench: Bench) -> dict[str, Any]:
    """Loss on training samples and on fresh ones, and scores on these, during training."""
    return {"runs": {m.name: m.record["curves"] for m in bench.subject.members}}


def accuracy(bench: Bench) -> dict[str, Any]:
    """Every metric on every condition: over seeds if there are three, else over frames."""
    subject = bench.subject
    recipes = {AS_TRAINED: subject.recipe, **subject.conditions}
    each: dict[str, dict[str, Figures]] = {
        member.label: {name: bench.figures_of(member, recipe) for name, recipe in recipes.items()}
        for member in subject.seeds
    }
    enough = len(subject.seeds) >= FEWEST_SEEDS
    first = each[subject.first.label]
    many = {
        name: {
            metric: over_seeds(metric, [seed[name][metric]["value"] for seed in each.values()])
            for metric in bench.metrics
        }
        for name in recipes
    }
    ranges = {
        name: {
            metric: seed_range([seed[name][metric]["value"] for seed in each.values()])
            for metric in bench.metrics
        }
        for name in recipes
    }
    reason = f"{FEWEST_SEEDS} runs with other seeds are needed, there is {len(subject.seeds)}"
    return {
        "samples": subject.tests.samples,
        "intervals": "seeds" if enough else f"{bench.family.item}s",
        "figures": many if enough else first,
        "over_seeds": many if enough else not_tested(reason),
        "seed_range": ranges if enough else not_tested(reason),
        "over_items": each,
    }


def seed_range(values: list[float | None]) -> dict[str, Any]:
    """Largest less smallest value of the seeds."""
    known = [value for value in values if value is not None]
    return figure(max(known) - min(known)) if known else figure(None)


def overtraining(bench: Bench) -> dict[str, Any]:
    """Every metric on samples trained on less that on fresh ones of the same recipe."""
    subject, runs = bench.subject, {}
    for member in [subject.first, *subject.sizes]:
        try:
            seen = bench.family.figures(bench, bench.judge(member, trained_on(bench, member)))
        except SimscopeError as error:
            runs[member.name] = not_tested(str(error))
            continue
        fresh = bench.figures_of(member, subject.recipe)
        gaps = {name: gap(seen[name], fresh[name]) for name in bench.metrics}
        runs[member.name] = {"trained_on": seen, "fresh": fresh, "gap": gaps}
    return {"runs": runs}


def trained_on(bench: Bench, member: Member) -> Exam:
    """Samples the network saw in training: the first of its stream, or of its file.

    Raises
    ------
    SimscopeError
        If the file is not there any more.
    """
    from simscope.learn.stream import training_seed

    record = member.record
    batch_size, kept = record["plan"]["batch_size"], record["plan"]["validation_samples"]
    count = min(bench.subject.tests.samples, record["samples_seen"])
    source = Path(record["source"])
    if source.suffix.lower() not in (".h5", ".hdf5"):
        return simulated(member.model.recipe, training_seed(record["seed"]), 0, count)
    beside = member.model.folder.resolve().parents[1] / DATA / source.name
    path = next((place for place in (beside, source) if place.is_file()), None)
    if path is None:
        raise StudyError(f"the training file {source.name} is not there any more")
    with open_dataset(path) as data:
        used = max(len(data) - 2 * kept, batch_size)
        return simulated(data.recipe, data.seed, 0, min(count, used))


def training_size(bench: Bench) -> dict[str, Any]:
    """Every metric against the number of different samples trained on, all for the same budget."""
    subject = bench.subject
    if not subject.sizes:
        raise StudyError("no run on a finite training set is there")
    points: list[dict[str, Any]] = [
        {"samples": min(int(member.label), member.record["samples_seen"]), "stream": False}
        | {"figures": bench.figures_of(member, subject.recipe)}
        for member in subject.sizes
    ]
    streamed = {"samples": subject.first.record["samples_seen"], "stream": True}
    points.append(streamed | {"figures": bench.figures_of(subject.first, subject.recipe)})
    return {"points": sorted(points, key=lambda point: point["samples"])}


def null(bench: Bench) -> dict[str, Any]:
    """What knows nothing or needs no training, beside the network; gain over the best of it."""
    found = bench.family.null(bench)
    metric = telling(bench)
    gain = {}
    for name, rows in found["figures"].items():
        others = [row[metric] for kind, row in rows.items() if kind != "network"]
        known = [other for other in others if other["value"] is not None]
        best = max(known, key=lambda one: one["value"], default=figure(None))
        gain[name] = gap(rows["network"][metric], best)
    return found | {"metric": metric, "gain": gain}


def telling(bench: Bench) -> str:
    """The metric, between 0 and 1, by which losses and gains are told."""
    return next((name for name in ("jaccard", "r2") if name in bench.metrics), bench.metrics[0])


def limit(bench: Bench) -> dict[str, Any]:
    """Errors beside those physics allows, and beside a maximum-likelihood fit."""
    return bench.family.limit(bench)


def microscopes(bench: Bench) -> dict[str, Any]:
    """Trained on one microscope, tested on another: every pair."""
    subject = bench.subject
    rows: dict[str, Any] = {}
    for trained, (_, member) in subject.microscopes.items():
        rows[trained] = {}
        for tested, (recipe, _) in subject.microscopes.items():
            rows[trained][tested] = (
                not_tested("this run is not finished")
                if member is None
                else _figures_or_reason(bench, member, recipe)
            )
    home, losses, metric = rows[AS_TRAINED], {}, telling(bench)
    for tested in list(subject.microscopes)[1:]:
        if is_tested(home[tested]) and is_tested(rows[tested][tested]):
            losses[tested] = gap(rows[tested][tested][metric], home[tested][metric])
    names = list(subject.microscopes)
    return {"names": names, "figures": rows, "worst": worst_of(losses, metric)}


def worst_of(losses: dict[str, dict[str, Any]], metric: str) -> dict[str, Any]:
    """The entry with the largest loss of a metric, by name."""
    known = {name: loss for name, loss in losses.items() if loss["value"] is not None}
    if not known:
        return not_tested("there is nothing to compare")
    name = max(known, key=lambda one: known[one]["value"])
    return {"name": name, "metric": metric, "loss": known[name]}


def structures(bench: Bench) -> dict[str, Any]:
    """Structures never trained on."""
    subject = bench.subject
    figures = {
        name: _figures_or_reason(bench, subject.first, recipe)
        for name, recipe in subject.structures.items()
    }
    home, metric = bench.figures_of(subject.first, subject.recipe), telling(bench)
    losses = {
        name: gap(home[metric], one[metric]) for name, one in figures.items() if is_tested(one)
    }
    return {"figures": {AS_TRAINED: home} | figures, "worst": worst_of(losses, metric)}


def _figures_or_reason(bench: Bench, member: Member, recipe: Any) -> dict[str, Any]:
    try:
        return bench.figures_of(member, recipe)
    except SimscopeError as error:
        return not_tested(str(error))


def empty(bench: Bench) -> dict[str, Any]:
    """What is seen where nothing is."""
    return bench.family.empty(bench)


def calibration(bench: Bench) -> dict[str, Any]:
    """Whether the network knows how sure it may be."""
    return bench.family.calibration(bench)


def breakdown(bench: Bench) -> dict[str, Any]:
    """What makes samples hard."""
    return bench.family.breakdown(bench)


def samples(bench: Bench) -> dict[str, Any]:
    """Best and worst samples."""
    return bench.family.samples(bench)


def reproduce(bench: Bench) -> dict[str, Any]:
    """The command, and the study in full."""
    study = bench.subject.study
    return {
        "command": bench.subject.command,
        "study": study.model_dump(mode="json") if study else not_tested("runs were given"),
    }


SECTIONS: dict[str, tuple[str, Section]] = {
    "accuracy": ("Accuracy", accuracy),
    "limit": ("Beside the physical limit", limit),
    "null": ("Beside predictors that know nothing", null),
    "overtraining": ("Overtraining", overtraining),
    "training_size": ("Size of the training set", training_size),
    "microscopes": ("Other microscopes", microscopes),
    "structures": ("Structures never seen", structures),
    "empty": ("Empty images", empty),
    "calibration": ("Calibration of uncertainty", calibration),
    "breakdown": ("What makes it hard", breakdown),
    "samples": ("Best and worst samples", samples),
    "curves": ("Training curves", curves),
    "cost": ("Hardware and time", cost),
    "hyper_parameters": ("Every hyper-parameter", hyper_parameters),
    "identity": ("Recipe, hashes, versions", identity),
    "reproduce": ("Do it again", reproduce),
}
"""Name, heading and measurement of every section, in the order of the page."""


def measure(
    bench: Bench, progress: Callable[[int, int], None] | None = None
) -> dict[str, dict[str, Any]]:
    """Every section by name, with its status."""
    found = {}
    for number, (name, (_, section)) in enumerate(SECTIONS.items()):
        found[name] = _measured(bench, name, section)
        if progress:
            progress(number + 1, len(SECTIONS))
    return found


def _measured(bench: Bench, name: str, section: Section) -> dict[str, Any]:
    if name in bench.subject.absent:
        return not_tested(bench.subject.absent[name])
    try:
        return measured(section(bench))
    except SimscopeError as error:
        return not_tested(str(error))
