"""How networks that read numbers off images are judged for a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from simscope.errors import StudyError
from simscope.evaluate import (
    Interval,
    bootstrap,
    calibrated,
    mean_prediction,
    regression_intervals,
    regression_scores,
)
from simscope.evaluate.bounded import ratio_figures
from simscope.trust.bench import Bench
from simscope.trust.exams import Exam
from simscope.trust.figures import Figures, Floats, figure, number, of_intervals
from simscope.trust.regression_bound import regression_bounds
from simscope.trust.stated import stated_errors
from simscope.trust.status import not_tested
from simscope.trust.study import AS_TRAINED

SHOWN = 4
BOUNDED_SAMPLES = 12
DARK_PHOTONS = 1e-6
"""Photons of an object that is not there; a recipe's must be above 0."""


@dataclass(frozen=True)
class Read:
    """What a regressor said of an exam, all (samples, parameters) in their units."""

    exam: Exam
    values: Floats
    truth: Floats
    uncertainty: Floats

    @property
    def errors(self) -> Floats:
        """Values less truth."""
        return self.values - self.truth


class Regressors:
    """Networks that give numbers, one for each recipe path."""

    name, item = "regressor", "sample"

    def metrics(self, bench: Bench) -> list[str]:
        """RMS error where all numbers share a unit, summed over them; R²."""
        return ["rms_error", "r2"] if _share_a_unit(bench) else ["r2"]

    def judge(self, bench: Bench, model: Any, exam: Exam) -> Read:
        """Values read off the images, of the first patch where a network reads several off each.

        Patches of one sample share its truth, so they are not independent.
        """
        from simscope.learn.compute import run_network
        from simscope.learn.foreign import PIXEL_TOLERANCE, require_pixel

        task, images = model.task, exam.batch.images
        unknown = [path for path in task.paths if path not in exam.batch.parameters]
        if unknown:
            raise StudyError(
                f"these data do not tell {', '.join(unknown)}: draw it from a distribution"
            )
        require_pixel(task.recipe.pixel_nm, exam.recipe.pixel_nm, PIXEL_TOLERANCE)
        task.check_images(images.shape)
        output = run_network(task, images)
        values, truth = task.read(output), task.truth(exam.batch)
        one = slice(None, None, len(values) // len(images))
        return Read(exam, values[one], truth[one], task.uncertainty(output)[one])

    def figures(self, bench: Bench, judged: Read) -> Figures:
        """Every metric, intervals over samples."""
        intervals = intervals_of(bench, judged.values, judged.truth)
        return of_intervals({name: intervals[name] for name in self.metrics(bench)})

    def null(self, bench: Bench) -> dict[str, Any]:
        """Saying the mean of every number, whatever the image, on every condition."""
        subject, rows = bench.subject, {}
        for name, recipe in {AS_TRAINED: subject.recipe, **subject.conditions}.items():
            judged = bench.judged(subject.first, recipe)
            mean = mean_prediction(judged.truth, len(judged.truth))
            intervals = intervals_of(bench, mean, judged.truth)
            rows[name] = {
                "network": self.figures(bench, judged),
                "mean of the truth": of_intervals({m: intervals[m] for m in self.metrics(bench)}),
            }
        return {"figures": rows}

    def limit(self, bench: Bench) -> dict[str, Any]:
        """RMS error of the numbers beside their Cramér-Rao bound on some of the test samples."""
        subject = bench.subject
        judged = bench.judged(subject.first, subject.recipe)
        scale = scale_of(bench, judged.truth)
        bounds = regression_bounds(judged.exam, paths_of(bench), BOUNDED_SAMPLES)
        errors = judged.errors[: len(bounds)] / scale
        table = np.column_stack([np.sum(errors**2, axis=1), np.sum((bounds / scale) ** 2, axis=1)])
        ratio = bootstrap(table, ratio_figures, **bench.resampling)
        each = {
            path: figure(np.sqrt(np.mean(bounds[:, column] ** 2)))
            for column, path in enumerate(paths_of(bench))
        }
        fit = not_tested("no maximum-likelihood fit of these numbers is part of simscope")
        rows = {"network": of_intervals(ratio), "maximum likelihood": fit}
        unit = units(bench)[0] if _share_a_unit(bench) else "drawn spread"
        return {"samples": len(bounds), "unit": unit, "figures": rows, "bound_of_each": each}

    def empty(self, bench: Bench) -> dict[str, Any]:
        """Spread of what is said of images without an object: 0 would be to say the mean."""
        recipe = bench.subject.recipe
        if getattr(recipe.photophysics, "photons", None) is None:
            raise StudyError("the recipe's light has no number of photons to take away")
        dark = recipe.replace("photophysics.photons", DARK_PHOTONS)
        judged = bench.judged(bench.subject.first, dark)
        spread = judged.truth.std(axis=0)
        said = np.sqrt(np.mean((judged.values - judged.truth.mean(axis=0)) ** 2, axis=0))
        out: dict[str, Any] = {
            "samples": len(judged.values),
            "said_over_drawn": figure(float(np.sqrt(np.mean((said / spread) ** 2)))),
        }
        stated = np.sqrt(np.mean((judged.uncertainty / spread) ** 2))
        return out | {"stated_over_drawn": figure(float(stated))}

    def samples(self, bench: Bench) -> dict[str, Any]:
        """Samples with the smallest and the largest error, with what was said of them."""
        subject = bench.subject
        judged = bench.judged(subject.first, subject.recipe)
        spread = np.maximum(judged.truth.std(axis=0), 1e-12)
        order = np.argsort(np.sum((judged.errors / spread) ** 2, axis=1), kind="stable")
        paths = paths_of(bench)
        return {
            "kind": "numbers",
            "seed": subject.tests.seed,
            "recipe": judged.exam.recipe.written(),
            "parameters": list(paths),
            "units": list(units(bench)),
            "best": [_shown(judged, int(row)) for row in order[:SHOWN]],
            "worst": [_shown(judged, int(row)) for row in order[::-1][:SHOWN]],
        }

    def calibration(self, bench: Bench) -> dict[str, Any]:
        """Errors over the stated ones."""
        judged = bench.judged(bench.subject.first, bench.subject.recipe)
        probability = not_tested("a regressor states no probabilities")
        told = calibrated(judged.errors.ravel(), judged.uncertainty.ravel())
        sample = np.repeat(np.arange(len(judged.errors)), judged.errors.shape[1])
        return {
            "probability": probability,
            "uncertainty": {"all numbers": stated_errors(bench, told, sample)},
        }

    def breakdown(self, bench: Bench) -> dict[str, Any]:
        """RMS error, bias and R² of each number."""
        judged = bench.judged(bench.subject.first, bench.subject.recipe)
        paths = paths_of(bench)
        scores = regression_scores(judged.values, judged.truth, paths)
        return {
            "parameters": [
                {"parameter": path, "unit": unit} | one.to_dict()
                for (path, one), unit in zip(scores.items(), units(bench), strict=True)
            ]
        }


def paths_of(bench: Bench) -> tuple[str, ...]:
    """Recipe path of each number."""
    task: Any = bench.subject.first.model.task
    return tuple(task.paths)


def units(bench: Bench) -> tuple[str, ...]:
    """Unit of each number."""
    task: Any = bench.subject.first.model.task
    return tuple(task.units)


def intervals_of(bench: Bench, values: Floats, truth: Floats) -> dict[str, Interval]:
    """Root of the summed mean squared errors and R², with intervals over samples.

    Numbers of different units are first divided by the spread of their truth.
    """
    scale = scale_of(bench, truth)
    return regression_intervals(values / scale, truth / scale, **bench.resampling)


def scale_of(bench: Bench, truth: Floats) -> Floats:
    """What numbers are divided by before they are added: 1, or their spread if units differ."""
    if _share_a_unit(bench):
        return np.ones(truth.shape[1])
    return np.maximum(truth.std(axis=0), 1e-12)


def _share_a_unit(bench: Bench) -> bool:
    return len(set(units(bench))) == 1


def _shown(judged: Read, row: int) -> dict[str, Any]:
    """A sample for pictures: which, what is true and what was said."""
    return {
        "sample": row,
        "truth": [number(value) for value in judged.truth[row]],
        "said": [number(value) for value in judged.values[row]],
    }
