"""What a person writes to have a network judged: one frozen record, in YAML.

A study names a network, the experiment it is trained on, a budget, seeds, sizes of training sets,
other microscopes, and the data it is tested on. Given ``budget.steps`` it is a pure description of
results: the same study gives the same figures on the same machine.
"""

from __future__ import annotations

import hashlib
import json
import re
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from simscope.errors import RecipeError, StudyError, did_you_mean
from simscope.recipe import Model, Recipe, load_recipe
from simscope.recipe.text import parse_yaml, to_yaml

AS_TRAINED = "as trained"
"""Name of the experiment trained on, beside the names a study gives to others."""
STUDY = "study.yaml"
"""The study, in the folder of its runs and report."""
FEWEST_SEEDS = 3
QUICK_STEPS, QUICK_SAMPLES = 8, 8


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"[^\W_][^/\x00-\x1f]{0,59}", name) or name != name.strip():
        raise ValueError(
            f"{name!r} cannot be a name: begin with a letter or digit, use no '/', and at most 60 "
            "characters"
        )
    if name == AS_TRAINED:
        raise ValueError(f"{AS_TRAINED!r} is the name of the recipe itself: choose another")
    return name


Name = Annotated[str, AfterValidator(_checked_name)]
Changes = dict[str, Any]
"""Values by dotted recipe path, as ``Recipe.replace_all`` takes them."""


class Budget(Model):
    """How long every run of a study trains: one of the three."""

    steps: int | None = Field(None, ge=1, description="updates of the weights; results repeat")
    cpu_minutes: float | None = Field(None, gt=0, description="processor time [min]")
    minutes: float | None = Field(None, gt=0, description="wall time [min]")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(value is not None for value in (self.steps, self.cpu_minutes, self.minutes)) != 1:
            raise ValueError("give one of steps, cpu_minutes, minutes")
        return self


class Tests(Model):
    """What networks are tested on; no sample of it is ever trained on.

    ``conditions`` and ``structures`` change the recipe trained on: conditions lie within what it
    draws (such as one density), structures do not.
    """

    samples: int = Field(48, ge=2, le=100_000, description="samples of every test")
    seed: int = Field(2_000_003, ge=0, description="seed of the test data")
    radius_nm: float | None = Field(None, gt=0, description="lateral tolerance [nm]")
    axial_radius_nm: float | None = Field(None, gt=0, description="axial tolerance [nm]")
    bootstrap: int = Field(1000, ge=50, le=100_000, description="resamplings of an interval")
    conditions: dict[Name, Changes] = Field(default_factory=dict)
    structures: dict[Name, Changes] = Field(default_factory=dict)
    isolated: Changes | None = Field(None, description="changes that leave emitters alone")
    isolated_samples: int | None = Field(None, ge=2, description="such frames; 4 times samples")


class Claim(Model):
    """A sentence of the verdict table: a figure of the report and the limit it must keep.

    ``figure`` is the way to a number in ``report.json``: names below ``sections`` joined by ``/``,
    such as ``accuracy/1 per µm²/jaccard``.
    """

    claim: str = Field(min_length=1, max_length=200)
    figure: str = Field(min_length=3)
    at_least: float | None = None
    at_most: float | None = None
    unit: str = ""

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("give at_least or at_most, one of the two")
        return self


class Study(Model):
    """Everything a trust report needs, from training to test."""

    schema_version: Literal[1] = 1
    name: Name
    title: str = Field("", max_length=200)
    description: str = ""
    network: str = Field(min_length=1, description="one of simscope.learn.NETWORKS")
    config: dict[str, Any] = Field(default_factory=dict, description="of the network")
    recipe: str | dict[str, Any] = Field(description="packaged name, YAML file, or written out")
    changes: Changes = Field(default_factory=dict, description="of the recipe, by path")
    budget: Budget
    plan: dict[str, Any] = Field(default_factory=dict, description="other hyper-parameters")
    threads: int = Field(1, ge=1, le=1024, description="threads of every run")
    device: str = Field("cpu", description="cpu, cuda or auto, to train on")
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1, max_length=100)
    sizes: tuple[int, ...] = Field((), description="samples of finite training sets")
    microscopes: dict[Name, Changes] = Field(default_factory=dict, description="by name, changes")
    tests: Tests = Field(default_factory=Tests)
    claims: tuple[Claim, ...] = ()
    limits: tuple[str, ...] = Field((), description="what the network cannot do, in plain words")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"seeds={list(self.seeds)}: give different whole numbers from 0")
        if len(set(self.sizes)) < len(self.sizes) or min(self.sizes, default=1) < 1:
            raise ValueError(f"sizes={list(self.sizes)}: give different whole numbers from 1")
        taken = set(self.plan) & {"steps", "cpu_minutes", "minutes"}
        if taken:
            raise ValueError(f"plan.{min(taken)} belongs into budget")
        self.recipes()
        return self

    @property
    def base(self) -> Recipe:
        """The experiment trained on."""
        recipe = (
            load_recipe(self.recipe) if isinstance(self.recipe, str)
            else Recipe.from_dict(self.recipe)
        )  # fmt: skip
        return recipe.replace_all(self.changes) if self.changes else recipe

    def recipes(self) -> dict[str, Recipe]:
        """Every experiment of the study by ``group/name``.

        Raises
        ------
        RecipeError
            If changes fit no experiment; the message begins with their name.
        """
        groups = {
            "microscopes": self.microscopes,
            "conditions": self.tests.conditions,
            "structures": self.tests.structures,
            "isolated": {"emitters": self.tests.isolated} if self.tests.isolated else {},
        }
        base = self.base
        found = {f"microscopes/{AS_TRAINED}": base}
        for group, changes in groups.items():
            for name, values in changes.items():
                found[f"{group}/{name}"] = changed(base, values, f"{group}.{name}")
        return found

    @property
    def sha256(self) -> str:
        """Hash of the study with its recipe written out, canonical JSON."""
        data = self.model_dump(mode="json") | {"recipe": self.base.written(), "changes": {}}
        text = json.dumps(data, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_yaml(self) -> str:
        """YAML text that :func:`load_study` reads back to an equal study."""
        return to_yaml(self.model_dump(mode="json", exclude_none=True, exclude_defaults=True))

    def with_budget(self, **budget: float | None) -> Study:
        """The same study with another budget for every run, if one is given.

        Raises
        ------
        RecipeError
            If more than one is given, or it is impossible.
        """
        given = {name: value for name, value in budget.items() if value is not None}
        return self.model_copy(update={"budget": Budget(**given)}) if given else self

    def quick(self) -> Study:
        """The same study in seconds, to see that everything runs; its figures mean nothing."""
        tests = self.tests.model_copy(
            update={
                "samples": min(self.tests.samples, QUICK_SAMPLES),
                "isolated_samples": min(self.tests.isolated_samples or QUICK_SAMPLES, 16),
                "bootstrap": min(self.tests.bootstrap, 100),
            }
        )
        small = {"validation_samples": QUICK_SAMPLES, "validations": 2, "batch_size": 4}
        return self.model_copy(
            update={
                "title": f"{self.title or self.name} (quick: no figure means anything)",
                "budget": Budget(steps=QUICK_STEPS),
                "plan": self.plan | small,
                "sizes": self.sizes[:2],
                "tests": tests,
            }
        )


def changed(recipe: Recipe, changes: Changes, where: str) -> Recipe:
    """The recipe with values by path changed; what is wrong is told with ``where`` before it."""
    try:
        return recipe.replace_all(changes) if changes else recipe
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from None


def packaged_studies() -> list[str]:
    """Names of the studies that come with simscope."""
    folder = resources.files("simscope.trust.packaged")
    return sorted(item.name[:-5] for item in folder.iterdir() if item.name.endswith(".yaml"))


def load_study(name_or_path: str | Path | Study) -> Study:
    """Study from a packaged name or a YAML file; a recipe it names is sought beside the file.

    Raises
    ------
    StudyError
        If there is no such study, or it describes none that can be done.
    """
    if isinstance(name_or_path, Study):
        return name_or_path
    name = str(name_or_path)
    if name in packaged_studies():
        packaged = resources.files("simscope.trust.packaged").joinpath(f"{name}.yaml")
        return study_from_yaml(packaged.read_text("utf8"), name)
    path = Path(name_or_path)
    if not path.is_file():
        known = packaged_studies()
        hint = did_you_mean(name, known)
        raise StudyError(
            f"no study {name!r}: {f'{hint} ' if hint else ''}packaged are {', '.join(known)}, or "
            "give the path of a YAML file"
        )
    try:
        text = path.read_text("utf8")
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"cannot read study {name}: {error}") from None
    return study_from_yaml(text, name, path.resolve().parent)


def study_from_yaml(text: str, source: str, folder: Path | None = None) -> Study:
    """Study from YAML text; ``folder`` is where recipes it names by file lie.

    Raises
    ------
    StudyError
        With one line a problem.
    """
    try:
        data = parse_yaml(text, source)
        if not isinstance(data, dict):
            raise StudyError(f"{source} holds {type(data).__name__}, not a mapping of keys: fix it")
        recipe = data.get("recipe")
        if folder is not None and isinstance(recipe, str) and (folder / recipe).is_file():
            data["recipe"] = str(folder / recipe)
        return Study.model_validate(data)
    except RecipeError as error:
        raise StudyError(f"{source}: {error}") from None
