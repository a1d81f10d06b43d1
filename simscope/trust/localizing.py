"""How networks that find emitters are judged for a report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import gammaincinv

from simscope.camera import adu_to_photons
from simscope.errors import EvaluationError, SimscopeError, StudyError
from simscope.evaluate import (
    Score,
    bootstrap,
    breakdown,
    calibration,
    crlb,
    local_maxima,
    normalised_errors,
    probability_calibration,
    score,
    score_intervals,
)
from simscope.evaluate.bounded import ratio_figures
from simscope.recipe import Recipe
from simscope.trust.bench import Bench
from simscope.trust.exams import Exam
from simscope.trust.figures import Figures, Floats, figure, number, of_intervals
from simscope.trust.stated import stated_errors
from simscope.trust.status import not_tested
from simscope.trust.study import AS_TRAINED

BORDER_NM = 800.0
"""Isolated emitters nearer than this to the border are left out, or a quarter of a small frame."""
LOWEST_PROBABILITY = 0.05
SHOWN = 4


@dataclass(frozen=True)
class Judged:
    """A table of emitters held against the truth of an exam."""

    exam: Exam
    found: Any
    truth: npt.NDArray[Any]
    score: Score


class Localizers:
    """Networks that write a table of emitters."""

    name, item = "localiser", "frame"

    def metrics(self, bench: Bench) -> list[str]:
        """Jaccard index and errors; axial ones where a tolerance in z is set."""
        if radii(bench)[1] is None:
            return ["jaccard", "rmse_lateral_nm", "precision", "recall", "efficiency_lateral"]
        errors = ["rmse_lateral_nm", "rmse_axial_nm"]
        return ["jaccard", *errors, "precision", "recall", "efficiency_3d"]

    def judge(self, bench: Bench, model: Any, exam: Exam) -> Judged:
        """Table of the network, scored."""
        from simscope import learn

        found = learn.localize(model, exam.images, pixel_nm=exam.recipe.pixel_nm)
        return judged_table(bench, found, exam)

    def figures(self, bench: Bench, judged: Judged) -> Figures:
        """Every metric, intervals over samples."""
        if not len(judged.found["frame"]) and not len(judged.truth):
            return {name: figure(None) for name in self.metrics(bench)}
        intervals = score_intervals(
            judged.found, judged.truth, judged.score,
            frames_per_unit=judged.exam.images.shape[1], **bench.resampling,
        )  # fmt: skip
        return of_intervals({name: intervals[name] for name in self.metrics(bench)})

    def null(self, bench: Bench) -> dict[str, Any]:
        """Finding nothing, and local maxima with their centroid, on every condition."""
        subject, rows = bench.subject, {}
        for name, recipe in {AS_TRAINED: subject.recipe, **subject.conditions}.items():
            exam = bench.exam(recipe)
            nothing = judged_table(bench, exam.emitters[:0], exam)
            maxima = judged_table(bench, brightest(exam), exam)
            rows[name] = {
                "network": bench.figures_of(subject.first, recipe),
                "nothing found": self.figures(bench, nothing),
                "local maxima": self.figures(bench, maxima),
            }
        return {"figures": rows}

    def limit(self, bench: Bench) -> dict[str, Any]:
        """Errors of isolated emitters over the Cramér-Rao bound: network and maximum likelihood."""
        tests = bench.subject.tests
        recipe, count = isolated(bench), tests.isolated_samples or 4 * tests.samples
        exam = bench.exam(recipe, count)
        inside = away_from_border(exam)
        bound = bounds_of(exam)
        for name in ("x_nm", "y_nm", "z_nm", "photons"):
            bound[name][~inside] = np.nan
        methods: dict[str, Callable[[], Judged]] = {
            "network": lambda: bench.judged(bench.subject.first, recipe, count),
            "maximum likelihood": lambda: fitted(bench, exam),
        }
        rows = {}
        for name, judged in methods.items():
            try:
                rows[name] = over_bound(bench, judged(), bound)
            except SimscopeError as error:
                rows[name] = not_tested(str(error))
        return {"emitters": int(inside.sum()), "unit": "nm", "figures": rows}

    def empty(self, bench: Bench) -> dict[str, Any]:
        """Emitters found in frames that hold none, per frame and um^2, Poisson intervals."""
        recipe = without_emitters(bench.subject.recipe)
        exam = bench.exam(recipe)
        found = len(bench.judged(bench.subject.first, recipe).found)
        low, high = poisson_interval(found)
        area = exam.area_um2 * exam.frames
        return {
            "frames": exam.frames,
            "hallucinations": found,
            "per_frame": figure(found / exam.frames, low / exam.frames, high / exam.frames),
            "per_um2": figure(found / area, low / area, high / area),
        }

    def samples(self, bench: Bench) -> dict[str, Any]:
        """Frames with the best and with the worst result, and all that is needed to draw them."""
        judged = bench.judged(bench.subject.first, bench.subject.recipe)
        hits, wrong = hits_and_mistakes(judged)
        lit = np.flatnonzero(hits + wrong)
        if not len(lit):
            raise StudyError("the test frames hold no emitters: raise the density")
        order = lit[np.lexsort((-hits[lit], wrong[lit] / (hits + wrong)[lit]))]
        return {
            "kind": "emitters",
            "seed": bench.subject.tests.seed,
            "recipe": judged.exam.recipe.written(),
            "best": [shown_frame(judged, int(frame)) for frame in order[:SHOWN]],
            "worst": [shown_frame(judged, int(frame)) for frame in order[::-1][:SHOWN]],
        }

    def calibration(self, bench: Bench) -> dict[str, Any]:
        """Share of true emitters among those of a stated probability; errors over stated ones."""
        from simscope import learn

        subject = bench.subject
        exam = bench.exam(subject.recipe)
        found = learn.localize(subject.first.model, exam.images, threshold=LOWEST_PROBABILITY)
        probabilities = _reliability(judged_table(bench, found, exam))
        judged = bench.judged(subject.first, subject.recipe)
        told = calibration(judged.found, judged.truth, judged.score)
        sample = judged.truth["frame"][judged.score.matches.truth_rows] // exam.images.shape[1]
        uncertainty: dict[str, Any] = {
            name: stated_errors(bench, one, sample[one.places])
            for name, one in told.items()
            if len(one.z_scores) > 1
        }
        reason = "the network states no uncertainties"
        return {"probability": probabilities, "uncertainty": uncertainty or not_tested(reason)}

    def breakdown(self, bench: Bench) -> dict[str, Any]:
        """Scores against photons, crowding and height."""
        judged = bench.judged(bench.subject.first, bench.subject.recipe)
        against = {}
        for name in ("photons", "density", "z"):
            bins = breakdown(judged.found, judged.truth, judged.score, name, bins=6)
            rows = [one.to_dict() for one in bins]
            same = f"all test emitters are alike in {name}"
            against[name] = rows if len(rows) > 1 else not_tested(same)
        return {"against": against}


def radii(bench: Bench) -> tuple[float, float | None]:
    """Lateral and axial tolerance [nm]: the study's, or else the network's."""
    task, tests = bench.subject.first.model.task, bench.subject.tests
    lateral, axial = tests.radius_nm, tests.axial_radius_nm
    return (
        getattr(task, "radius_nm", 250.0) if lateral is None else lateral,
        getattr(task, "axial_radius_nm", None) if axial is None else axial,
    )


def judged_table(bench: Bench, found: Any, exam: Exam) -> Judged:
    """Any table of emitters held against the truth of an exam."""
    truth = exam.emitters
    return Judged(exam, found, truth, score(found, truth, *radii(bench)))


def frames_of(exam: Exam) -> npt.NDArray[Any]:
    """All frames of an exam (frames, y, x), counts [ADU]."""
    return exam.images.reshape(-1, *exam.images.shape[-2:])


def brightest(exam: Exam) -> dict[str, npt.NDArray[Any]]:
    """Local maxima of the photons with their centroids, at the mean height: no training needed."""
    photons = adu_to_photons(frames_of(exam), exam.simulator.resolved.camera)
    found = local_maxima(photons, exam.recipe.pixel_nm)
    height = float(np.mean(exam.emitters["z_nm"])) if len(exam.emitters) else 0.0
    return {name: found[name] for name in ("frame", "x_nm", "y_nm")} | {
        "z_nm": np.full(len(found), height)
    }


def isolated(bench: Bench) -> Recipe:
    """The recipe with one emitter a frame: the study's changes, or a count of one.

    Raises
    ------
    SimscopeError
        If neither is possible.
    """
    subject = bench.subject
    if subject.isolated is not None:
        return subject.isolated
    if subject.recipe.structure.kind != "uniform":
        raise StudyError("the structure has no count of emitters: give tests.isolated in a study")
    return subject.recipe.replace_all(
        {"structure.density_per_um2": None, "structure.count": 1, "structure.margin_nm": 0.0}
    )


def without_emitters(recipe: Recipe) -> Recipe:
    """The recipe with nothing but background.

    Raises
    ------
    SimscopeError
        If the structure has neither density nor count.
    """
    for name in ("density_per_um2", "count"):
        if getattr(recipe.structure, name, None) is not None:
            return recipe.replace(f"structure.{name}", 0)
    raise StudyError("the recipe's structure has neither density nor count to set to 0")


def away_from_border(exam: Exam) -> npt.NDArray[np.bool_]:
    """Which true emitters are alone in their frame and far from its border."""
    emitters, inside = exam.emitters, np.ones(len(exam.emitters), np.bool_)
    for axis, pixels in zip(("y_nm", "x_nm"), exam.images.shape[-2:], strict=True):
        size_nm = pixels * exam.recipe.pixel_nm
        border = min(BORDER_NM, size_nm / 4)
        inside &= (emitters[axis] > border) & (emitters[axis] < size_nm - border)
    alone = np.bincount(emitters["frame"], minlength=exam.frames) == 1
    return inside & alone[emitters["frame"]]


def bounds_of(exam: Exam) -> npt.NDArray[Any]:
    """Cramér-Rao bound of every true emitter, on the background of its own sample."""
    emitters = exam.emitters
    level = exam.background_photons(emitters["frame"])
    return crlb(exam.simulator, emitters, background_photons=level)


def fitted(bench: Bench, exam: Exam) -> Judged:
    """Maximum-likelihood fits begun at the middles of the pixels that hold the emitters."""
    pixel, start = exam.recipe.pixel_nm, exam.emitters
    for axis in ("x_nm", "y_nm"):
        start[axis] = (np.floor(start[axis] / pixel) + 0.5) * pixel
    from simscope.evaluate.fitting import fit

    found = fit(frames_of(exam), exam.simulator, start)
    return judged_table(bench, found[found["converged"]], exam)


def over_bound(bench: Bench, judged: Judged, bound: npt.NDArray[Any]) -> dict[str, Any]:
    """Share found, and RMS error, RMS bound and their ratio of each coordinate; bias over bound.

    Raises
    ------
    StudyError
        If no emitter with a bound was found.
    """
    bounded = np.isfinite(bound["x_nm"])
    hits = int(bounded[judged.score.matches.truth_rows].sum())
    if hits < 2:
        raise StudyError(f"{hits} isolated emitters were found: train longer or test on more")
    rows: dict[str, Any] = {"found": figure(hits / int(bounded.sum())), "pairs": hits}
    errors = normalised_errors(judged.found, judged.truth, judged.score, bound)
    for name in ("lateral", "x_nm", "y_nm", "z_nm"):
        if name in errors and len(errors[name].errors):
            one = errors[name]
            units = np.column_stack([one.errors**2, one.bounds**2, one.errors])
            rows[name] = of_intervals(bootstrap(units, _bound_figures, **bench.resampling))
            if name == "lateral":
                rows[name].pop("bias")
    return rows


def _bound_figures(means: Floats) -> dict[str, Floats]:
    figures = ratio_figures(means)
    return figures | {"bias": means[..., 2] / figures["bound"]}


def poisson_interval(count: int) -> tuple[float, float]:
    """Ends of the exact 95 % interval of a Poisson mean of which ``count`` was seen.

    Garwood 1936, *Biometrika* 28:437.
    """
    low = float(gammaincinv(count, 0.025)) if count else 0.0
    return low, float(gammaincinv(count + 1, 0.975))


def hits_and_mistakes(judged: Judged) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Emitters found, and those missed or false, in every frame."""
    frames, truth = judged.exam.frames, judged.truth["frame"]
    hits = np.bincount(truth[judged.score.matches.truth_rows], minlength=frames)
    there = np.bincount(truth, minlength=frames)
    said = np.bincount(judged.found["frame"], minlength=frames)
    return hits, there + said - 2 * hits


def shown_frame(judged: Judged, frame: int) -> dict[str, Any]:
    """A frame for pictures: which, and where everything is [nm]."""
    matches = judged.score.matches
    hit, right = np.zeros(len(judged.truth), bool), np.zeros(len(judged.found), bool)
    hit[matches.truth_rows], right[matches.found_rows] = True, True
    here, said = judged.truth["frame"] == frame, judged.found["frame"] == frame
    groups = {
        "hit": judged.truth[here & hit],
        "missed": judged.truth[here & ~hit],
        "false": judged.found[said & ~right],
    }
    per_sample = judged.exam.images.shape[1]
    places = {
        name: {axis: rows[axis].astype(float).round(1).tolist() for axis in ("x_nm", "y_nm")}
        for name, rows in groups.items()
    }
    return {"sample": frame // per_sample, "frame": frame % per_sample, **places}


def _reliability(judged: Judged) -> dict[str, Any]:
    """Stated probabilities against what came true, in bins."""
    try:
        told = probability_calibration(judged.found, judged.score)
    except EvaluationError as error:
        return not_tested(str(error))
    if told is None or not len(judged.found):
        return not_tested("the network found nothing, or states no probabilities")
    bins = [
        {"stated": number(stated), "true": number(share), "count": int(count)}
        for stated, share, count in zip(told.probability, told.share, told.count, strict=True)
        if count
    ]
    return {"bins": bins, "expected_calibration_error": figure(told.expected_error)}
