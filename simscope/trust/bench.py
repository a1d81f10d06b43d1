"""Where networks sit their tests: every pair of network and test data is judged once."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any, Protocol

from simscope.errors import SimscopeWarning
from simscope.keys import Key
from simscope.recipe import Recipe
from simscope.trust.exams import Exam, Member, Subject, simulated
from simscope.trust.figures import Figures


class Family(Protocol):
    """How one kind of network is judged; what all kinds share stands in ``sections.py``.

    Every method takes the bench that holds the subject of the report.
    """

    name: str
    item: str
    """What is resampled for intervals: ``frame`` or ``sample``."""

    def metrics(self, bench: Bench) -> list[str]:
        """Figures of merit, names as in ``METRICS``, the most telling first."""

    def judge(self, bench: Bench, model: Any, exam: Exam) -> Any:
        """What the network says of an exam, held against the truth."""

    def figures(self, bench: Bench, judged: Any) -> Figures:
        """Every metric of what :meth:`judge` gave, with its interval."""

    def null(self, bench: Bench) -> dict[str, Any]:
        """Predictors that know nothing, or need no training, on the same data."""

    def limit(self, bench: Bench) -> dict[str, Any]:
        """Errors beside the Cramér-Rao bound and a classical fit."""

    def empty(self, bench: Bench) -> dict[str, Any]:
        """What the network says of images without anything in them."""

    def samples(self, bench: Bench) -> dict[str, Any]:
        """The best and the worst samples."""

    def calibration(self, bench: Bench) -> dict[str, Any]:
        """Whether stated probabilities and uncertainties are true."""

    def breakdown(self, bench: Bench) -> dict[str, Any]:
        """Errors against what makes a sample hard."""


@dataclass
class Bench:
    """Subject, family and the results so far, so that nothing is computed twice."""

    subject: Subject
    family: Family
    exams: dict[Any, Exam] = field(default_factory=dict)
    results: dict[Any, Any] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """Stream of the resamplings."""
        return Key(self.subject.tests.seed).child("trust/bootstrap")

    @property
    def resampling(self) -> dict[str, Any]:
        """Arguments of every bootstrap."""
        return {"key": self.key, "resamples": self.subject.tests.bootstrap}

    @property
    def metrics(self) -> list[str]:
        """Figures of merit of this subject."""
        return self.family.metrics(self)

    def exam(self, recipe: Recipe, samples: int | None = None) -> Exam:
        """Test samples of a recipe."""
        count = samples or self.subject.tests.samples
        wanted = (recipe.sha256, count)
        if wanted not in self.exams:
            self.exams[wanted] = simulated(recipe, self.subject.tests.seed, 0, count)
        return self.exams[wanted]

    def judged(self, member: Member, recipe: Recipe, samples: int | None = None) -> Any:
        """A network's result on a recipe's test samples.

        Raises
        ------
        SimscopeError
            If the network cannot read them.
        """
        exam = self.exam(recipe, samples)
        wanted = (member.model.folder, recipe.sha256, len(exam.images))
        if wanted not in self.results:
            self.results[wanted] = self.judge(member, exam)
        return self.results[wanted]

    def judge(self, member: Member, exam: Exam) -> Any:
        """A network's result on any samples, not kept."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SimscopeWarning)
            return self.family.judge(self, member.model, exam)

    def figures_of(self, member: Member, recipe: Recipe, samples: int | None = None) -> Figures:
        """Every metric of a network on a recipe's test samples, with its interval."""
        return self.family.figures(self, self.judged(member, recipe, samples))
