"""How a network is judged that neither finds emitters nor gives numbers: by its own figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from simscope.errors import StudyError
from simscope.trust.bench import Bench
from simscope.trust.exams import Exam
from simscope.trust.figures import Figures, figure


@dataclass(frozen=True)
class Own:
    """What a network's own judgement says of an exam."""

    exam: Exam
    values: dict[str, float]


class Unknown:
    """Networks of another kind, such as those that restore images."""

    name, item = "network", "sample"

    def metrics(self, bench: Bench) -> list[str]:
        """What the network judged itself by in training."""
        return list(bench.subject.first.record["held_out"])

    def judge(self, bench: Bench, model: Any, exam: Exam) -> Own:
        """The network's own figures on the exam."""
        from simscope.learn.compute import run_network

        task = model.task
        batch = exam.batch
        if getattr(task, "expected", False):
            batch = exam.simulator.batch(0, len(exam.images), expected=True)
        return Own(exam, task.judge(run_network(task, batch.images), batch))

    def figures(self, bench: Bench, judged: Own) -> Figures:
        """Every metric, without intervals."""
        return {name: figure(judged.values.get(name)) for name in self.metrics(bench)}

    def null(self, bench: Bench) -> dict[str, Any]:
        """Not known."""
        raise StudyError("no null predictor is known for this kind of network")

    def limit(self, bench: Bench) -> dict[str, Any]:
        """Not known."""
        raise StudyError("no physical limit is known for this kind of network")

    def empty(self, bench: Bench) -> dict[str, Any]:
        """Not known."""
        raise StudyError("what an empty image means to this kind of network is not known")

    def samples(self, bench: Bench) -> dict[str, Any]:
        """Not known."""
        raise StudyError("which samples are best or worst is not known for this kind of network")

    def calibration(self, bench: Bench) -> dict[str, Any]:
        """Not known."""
        raise StudyError("this kind of network states neither probabilities nor uncertainties")

    def breakdown(self, bench: Bench) -> dict[str, Any]:
        """Not known."""
        raise StudyError("what makes samples hard is not known for this kind of network")
