"""Judging: matching, scores, and the Cramér-Rao bound."""

from simscope.evaluate.crlb import bound_from_information, crlb, fisher_information
from simscope.evaluate.matching import Matches, match
from simscope.evaluate.score import Score, efficiency, score
from simscope.evaluate.tables import in_frame

__all__ = [
    "Matches",
    "Score",
    "bound_from_information",
    "crlb",
    "efficiency",
    "fisher_information",
    "in_frame",
    "match",
    "score",
]
