"""Errors and warnings: one clear sentence that names the value, the limit and the remedy."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class SimscopeError(ValueError):
    """Base of every error simscope raises on bad input; the command line exits with code 2."""


class RecipeError(SimscopeError):
    """A recipe does not describe a possible experiment."""


class OpticsError(SimscopeError):
    """The optics asked for cannot be computed, or not to the accuracy asked for."""


class SampleError(SimscopeError):
    """Emitters, structures or photophysics are impossible or empty."""


class CameraError(SimscopeError):
    """Camera settings, maps or counts are impossible."""


class DatasetError(SimscopeError):
    """A dataset file is missing, foreign, incomplete, in the way, or cannot be written."""


class TableError(DatasetError):
    """A table of emitters cannot be read or written, or its format cannot be told."""


class EvaluationError(SimscopeError):
    """Tables to be compared lack columns, or a bound cannot be computed."""


class DeviceError(SimscopeError):
    """The device asked for is unknown or cannot be used."""


class TrainingError(SimscopeError):
    """A network cannot be built, trained or applied as asked."""


class StudyError(SimscopeError):
    """A study of a network cannot be done as written, or its runs are not there."""


class SimscopeWarning(UserWarning):
    """Something is recorded that a careful user would want to know; the result stands."""


class WorkWarning(SimscopeWarning):
    """It concerns this machine or the work ahead, not the result: nothing to keep with data."""


class WindowWarning(SimscopeWarning):
    """Part of the light falls outside the window that was asked for."""


def did_you_mean(word: object, known: Iterable[str], *, cutoff: float = 0.5) -> str:
    """``did you mean 'name'?`` for the known name nearest to a word, or nothing if none is near."""
    near = difflib.get_close_matches(str(word), list(known), n=1, cutoff=cutoff)
    return f"did you mean {near[0]!r}?" if near else ""


@contextmanager
def held_warnings() -> Iterator[list[SimscopeWarning]]:
    """Every SimscopeWarning raised inside, held back until the end; others are passed on then.

    For results that are kept: whoever gets one later is to be warned as the first was.
    """
    held: list[SimscopeWarning] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SimscopeWarning)
        yield held
    for warning in caught:
        if isinstance(warning.message, SimscopeWarning):
            held.append(warning.message)
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
