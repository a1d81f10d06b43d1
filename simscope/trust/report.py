"""The trust report: what was measured as one JSON file, and the page made from it alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from simscope.dataset.output import replacing
from simscope.errors import StudyError
from simscope.trust.bench import Bench, Family
from simscope.trust.exams import Subject, subject_of_runs, subject_of_study
from simscope.trust.figures import METRICS
from simscope.trust.sections import measure
from simscope.trust.status import measured
from simscope.trust.study import STUDY, Study, Tests, study_from_yaml
from simscope.trust.training import (
    Tell,
    checked_jobs,
    checked_out,
    duration_words,
    expected_minutes,
    runs_of,
    train_all,
)
from simscope.trust.verdicts import claims_of, limits_in_words, verdict

SCHEMA, SCHEMA_VERSION = "simscope.trust-report", 1
JSON, HTML = "report.json", "report.html"
Progress = Callable[[int, int], None]


def examine(subject: Subject, progress: Progress | None = None) -> dict[str, Any]:
    """The whole report as plain JSON values."""
    bench = Bench(subject, family_of(subject))
    sections = measure(bench, progress)
    study = subject.study
    asked = claims_of(bench.family.name, subject.first.name, bench.metrics)
    claims = [*(study.claims if study else ()), *asked]
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "title": subject.title,
        "description": study.description if study else subject.recipe.description,
        "network": subject.first.model.kind,
        "family": bench.family.name,
        "item": bench.family.item,
        "recipe": subject.recipe.name,
        "trained_range": {path: law.label() for path, _, law in subject.recipe.drawables()},
        "metrics": {name: _reading(name, bench) for name in bench.metrics},
        "verdicts": [verdict(claim, sections) for claim in claims],
        "sections": sections,
    }
    said = list(study.limits) if study else []
    if subject.unfinished:
        said.append(f"Not trained yet, so left out: {', '.join(subject.unfinished)}.")
    sections["limits"] = measured({"words": limits_in_words(report, said)})
    return report


def _reading(name: str, bench: Bench) -> dict[str, Any]:
    """How a metric reads: words, unit, whether more is better, digits."""
    if name not in METRICS:
        return {"words": name.replace("_", " "), "unit": "", "more_is_better": True, "digits": 3}
    reading = METRICS[name]._asdict()
    if name == "rms_error":
        from simscope.trust.regressing import units

        reading["unit"] = units(bench)[0]
    return reading


def family_of(subject: Subject) -> Family:
    """How the subject's network is judged."""
    from simscope.learn.localizer import Localizer
    from simscope.learn.regressor import Regressor
    from simscope.trust.localizing import Localizers
    from simscope.trust.regressing import Regressors
    from simscope.trust.unknown import Unknown

    task = subject.first.model.task
    if isinstance(task, Localizer):
        return Localizers()
    return Regressors() if isinstance(task, Regressor) else Unknown()


def write(report: dict[str, Any], folder: Path, *, force: bool = True) -> Path:
    """Path of ``report.html``, with ``report.json`` beside it.

    Raises
    ------
    DatasetError
        If files are there and ``force`` is not set, or they cannot be written.
    """
    from simscope.trust.page import write_page

    text = json.dumps(report, indent=1, allow_nan=False, ensure_ascii=False)
    with replacing(folder / JSON, force=force) as part:
        part.write_text(text, "utf8")
    return write_page(json.loads(text), folder / HTML, force=force)


def run_study(
    study: Study,
    out: str | Path,
    *,
    jobs: int = 1,
    tell: Tell = print,
    bars: bool = True,
    progress: Progress | None = None,
) -> Path:
    """Path of the report of a study, after training whatever of it is not yet trained.

    The folder keeps ``study.yaml``, the runs, finite training sets and the report. A study that was
    stopped goes on; runs that the study still asks for are kept.

    Raises
    ------
    SimscopeError
        If the study cannot be done, or the folder cannot be used.
    """
    checked_jobs(jobs)
    runs = runs_of(study)
    folder = checked_out(Path(out))
    with replacing(folder / STUDY, force=True) as part:
        part.write_text(study.to_yaml(), "utf8")
    minutes = expected_minutes(runs, folder, jobs)
    tell(
        f"{len(runs)} runs of {study.network}: training takes about {duration_words(minutes)} "
        "more, tests a few minutes"
        if minutes else "every run is there"
    )  # fmt: skip
    try:
        train_all(runs, folder, jobs=jobs, tell=tell, progress=bars)
    except KeyboardInterrupt as request:
        request.add_note("finished runs stay, and the same command goes on with the others")
        raise
    tell("testing")
    return write(examine(subject_of_study(study, folder), progress), folder)


def report_on(
    folders: list[Path],
    *,
    out: Path | None = None,
    tests: Tests | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Path of the report of a study's folder, or of run folders; nothing is trained.

    The report of runs lies in ``out``, by default the first run's folder, and replaces another
    only with ``force``; a study's report is always made anew.

    Raises
    ------
    SimscopeError
        If there is nothing to report, or it cannot be written.
    """
    if len(folders) == 1 and (folders[0] / STUDY).is_file():
        study = study_from_yaml((folders[0] / STUDY).read_text("utf8"), str(folders[0] / STUDY))
        subject = subject_of_study(study, folders[0])
        target = checked_out(out) if out else folders[0]
        return write(examine(subject, progress), target)
    missing = [folder for folder in folders if not folder.is_dir()]
    if missing:
        raise StudyError(f"no folder {missing[0]}: give run folders or the folder of a study")
    subject = subject_of_runs(folders, tests)
    target = checked_out(out) if out else folders[0]
    return write(examine(subject, progress), target, force=force)
