"""Test data simulated afresh, and the networks of a report that sit the tests."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from simscope.acquire import Batch, Simulator
from simscope.errors import SimscopeWarning, StudyError
from simscope.evaluate import in_frame
from simscope.recipe import Recipe
from simscope.targets import frame_of_row
from simscope.trust.study import (
    AS_TRAINED,
    STUDY,
    Study,
    Tests,
    load_study,
    packaged_studies,
)

if TYPE_CHECKING:
    from simscope.learn import TrainedModel


@dataclass(frozen=True)
class Exam:
    """Samples of a recipe with their truth: a pure function of recipe, seed and numbers."""

    simulator: Simulator
    batch: Batch

    @property
    def recipe(self) -> Recipe:
        """The experiment."""
        return self.simulator.recipe

    @property
    def images(self) -> npt.NDArray[Any]:
        """Counts [ADU] as (samples, frames, y, x), so that no sample is another's neighbour."""
        shape = self.batch.images.shape
        return self.batch.images.reshape(shape[0], -1, *shape[-2:])

    @property
    def frames(self) -> int:
        """Frames, of all samples."""
        return int(np.prod(self.images.shape[:2]))

    @property
    def area_um2(self) -> float:
        """Area of a frame in the sample [um^2]."""
        height, width = self.images.shape[-2:]
        return height * width * (self.recipe.pixel_nm * 1e-3) ** 2

    @property
    def emitters(self) -> npt.NDArray[Any]:
        """Emitters with light on the frame; ``frame`` counts from 0 through all samples."""
        table = self.batch.emitters.copy()
        table["frame"] = frame_of_row(self.batch.emitter_offsets)
        seen = in_frame(table, self.images.shape[-2:], self.recipe.pixel_nm)
        return table[seen & (table["photons"] > 0)]

    def background_photons(self, frame: npt.NDArray[np.int64]) -> npt.NDArray[np.float64] | None:
        """Background [photons/px] of frames where samples differ in it; None if they do not."""
        level = self.batch.parameters.get("background.photons_per_pixel")
        return None if level is None else level[frame // self.images.shape[1]]


def simulated(recipe: Recipe, seed: int, start: int, stop: int) -> Exam:
    """Samples ``start`` to ``stop`` of a recipe.

    Raises
    ------
    SimscopeError
        If the recipe cannot be computed or the samples take too much memory.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SimscopeWarning)
        simulator = Simulator(recipe, seed)
        return Exam(simulator, simulator.batch(start, stop))


@dataclass(frozen=True)
class Member:
    """A trained network of a report; ``role`` says what it is there for."""

    role: str
    label: str
    model: TrainedModel = field(repr=False)

    @property
    def name(self) -> str:
        """Role and label in one, as tables show it."""
        return f"{self.role} {self.label}"

    @property
    def record(self) -> dict[str, Any]:
        """``run.json`` of the run."""
        return self.model.record


@dataclass(frozen=True)
class Subject:
    """All a report is about: networks, what they are tested on, and what is missing with reasons.

    ``absent`` are sections there is no data for, with the reason; ``unfinished`` runs that a study
    names and that are not trained.
    ``seeds`` are alike but for their seed; ``sizes`` were trained on finite sets; ``microscopes``
    hold, by name, the experiment and the network trained on it (None where there is none).
    """

    title: str
    tests: Tests
    seeds: list[Member]
    sizes: list[Member]
    microscopes: dict[str, tuple[Recipe, Member | None]]
    conditions: dict[str, Recipe]
    structures: dict[str, Recipe]
    isolated: Recipe | None
    study: Study | None = None
    command: str = ""
    absent: dict[str, str] = field(default_factory=dict)
    unfinished: tuple[str, ...] = ()

    @property
    def first(self) -> Member:
        """The network the single-network sections are about."""
        return self.seeds[0]

    @property
    def recipe(self) -> Recipe:
        """The experiment trained on."""
        return self.first.model.recipe

    @property
    def members(self) -> list[Member]:
        """All networks, the main ones first."""
        others = [member for _, member in self.microscopes.values() if member is not None]
        return [*self.seeds, *self.sizes, *(m for m in others if m not in self.seeds)]


def subject_of_runs(folders: list[Path], tests: Tests | None = None) -> Subject:
    """What run folders of one network allow to be reported.

    Runs of the first one's recipe are its seeds; those of others count as other microscopes.

    Raises
    ------
    StudyError
        If no folder is given, or the runs are of several networks.
    TrainingError
        If a folder holds no finished run.
    """
    from simscope import learn

    if not folders:
        raise StudyError("no run folders given: name at least one")
    models = [learn.load(folder) for folder in folders]
    kinds = sorted({model.kind for model in models})
    if len(kinds) > 1:
        raise StudyError(f"runs of {', '.join(kinds)}: report one network at a time")
    tests, first = tests or Tests(), models[0]
    seeds = [m for m in models if m.recipe.sha256 == first.recipe.sha256]
    members = [Member("seed", str(m.record["seed"]), m) for m in seeds]
    microscopes: dict[str, tuple[Recipe, Member | None]] = {AS_TRAINED: (first.recipe, members[0])}
    for model in models:
        if model.recipe.sha256 != first.recipe.sha256:
            name = f"{model.recipe.name} {model.recipe.sha256[:6]}"
            microscopes.setdefault(name, (model.recipe, Member("microscope", name, model)))
    reason = "a run alone does not tell: name {} in a study and run `simscope study`"
    absent = {
        "training_size": reason.format("sizes of training sets"),
        "structures": reason.format("structures never trained on"),
    }
    if len(microscopes) == 1:
        absent["microscopes"] = reason.format("other microscopes")
    return Subject(
        title=f"{first.kind} on {first.recipe.name}", tests=tests, seeds=members, sizes=[],
        microscopes=microscopes, conditions={}, structures={}, isolated=None, absent=absent,
        command="simscope report " + " ".join(folder.name for folder in folders),
    )  # fmt: skip


def subject_of_study(study: Study, out: Path) -> Subject:
    """What a study's folder allows to be reported; runs that are not there are said to be absent.

    Raises
    ------
    StudyError
        If none of the runs with the study's seeds is finished.
    """
    from simscope import learn
    from simscope.trust.training import runs_of

    members: dict[str, dict[str, Member]] = {"seed": {}, "size": {}, "microscope": {}}
    runs = runs_of(study)
    for run in runs:
        if run.is_finished(out):
            model = learn.load(run.folder(out))
            members[run.role][run.label] = Member(run.role, run.label, model)
    if not members["seed"]:
        raise StudyError(
            f"{out} holds no finished run of study {study.name!r}: run `simscope study`"
        )
    recipes = study.recipes()
    seeds = list(members["seed"].values())
    microscopes = {
        name: (recipes[f"microscopes/{name}"], members["microscope"].get(name))
        for name in study.microscopes
    }
    return Subject(
        title=study.title or study.name, tests=study.tests, seeds=seeds,
        sizes=list(members["size"].values()),
        microscopes={AS_TRAINED: (study.base, seeds[0])} | microscopes,
        conditions={name: recipes[f"conditions/{name}"] for name in study.tests.conditions},
        structures={name: recipes[f"structures/{name}"] for name in study.tests.structures},
        isolated=recipes.get("isolated/emitters") if study.tests.isolated else None,
        study=study, command=f"simscope study {_called(study, out)} --out {out.name}",
        absent=_left_out(study),
        unfinished=tuple(f"{run.role} {run.label}" for run in runs if not run.is_finished(out)),
    )  # fmt: skip


def _called(study: Study, out: Path) -> str:
    """What names the study on the command line: its packaged name, or the file in its folder."""
    packaged = study.name in packaged_studies() and load_study(study.name).sha256 == study.sha256
    return study.name if packaged else f"{out.name}/{STUDY}"


def _left_out(study: Study) -> dict[str, str]:
    """Sections a study gives no data for, with the reason."""
    asked = {
        "training_size": (study.sizes, "sizes"),
        "microscopes": (study.microscopes, "microscopes"),
        "structures": (study.tests.structures, "tests.structures"),
    }
    return {
        section: f"the study names no {name}" for section, (given, name) in asked.items()
        if not given
    }  # fmt: skip
