"""Commands that judge networks: studies, and reports of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simscope.cli.frame import Force, Json, answer, command, progress_bar


@command(
    examples="""
    simscope study
    simscope study dense-2d --out reports/dense-2d
    simscope study dense-2d --out reports/quick --quick
    simscope study mine.yaml --out reports/mine --jobs 2 --steps 4000
"""
)
def study(
    name: Annotated[
        str | None, typer.Argument(help="Packaged study or YAML file; lists them if left out.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of runs and report.")] = None,
    jobs: Annotated[int, typer.Option(help="Trainings at a time.")] = 1,
    steps: Annotated[int | None, typer.Option(help="Steps of every run instead.")] = None,
    cpu_minutes: Annotated[
        float | None, typer.Option(help="Processor minutes of every run instead.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A few steps each, to see that everything runs.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train every network a study names, test them, and write report.html and report.json.

    A study that was stopped goes on; what is trained already is kept.
    """
    from simscope.errors import StudyError
    from simscope.trust import load_study, packaged_studies, run_study

    if name is None:
        about = {known: load_study(known).description for known in packaged_studies()}
        answer(about, [f"{known}\n    {text}" for known, text in about.items()], as_json)
        return
    if out is None:
        raise StudyError("no --out given: name the folder for runs and report")
    chosen = load_study(name).with_budget(steps=steps, cpu_minutes=cpu_minutes)
    chosen = chosen.quick() if quick else chosen
    with progress_bar("tests") as progress:
        page = run_study(
            chosen, out, jobs=jobs, tell=lambda line: typer.echo(line, err=True), progress=progress
        )
    answer({"report": str(page)}, [f"report: {page}"], as_json)


@command(
    examples="""
    simscope report reports/dense-2d
    simscope report runs/a
    simscope report runs/a runs/b runs/c --out reports/abc --samples 100
"""
)
def report(
    folders: Annotated[list[Path], typer.Argument(help="Run folders, or a study's folder.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the report.")] = None,
    samples: Annotated[int, typer.Option(help="Test samples; a study has its own.")] = 48,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Test trained networks and write the trust report; nothing is trained.

    What a run alone cannot tell stands there as not tested. Runs of one recipe and several seeds
    give intervals over seeds; runs of other recipes, the matrix of microscopes.
    """
    from simscope.trust import report_on
    from simscope.trust.study import Tests

    with progress_bar("tests") as progress:
        page = report_on(
            folders, out=out, tests=Tests(samples=samples), force=force, progress=progress
        )
    answer({"report": str(page)}, [f"report: {page}"], as_json)
