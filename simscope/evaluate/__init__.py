"""Judging: matching, scores, and the Cramér-Rao bound."""

from simscope.evaluate.crlb import crlb
from simscope.evaluate.information import (
    bound_from_information,
    bound_or_infinity,
    fisher_information,
)
from simscope.evaluate.limits import (
    airy_limit_nm,
    gaussian_limit_nm,
    quantum_limit,
    rieger_stallinga_limit_nm,
)
from simscope.evaluate.matching import Matches, match
from simscope.evaluate.pixel_noise import exact_variance
from simscope.evaluate.psf_crlb import psf_crlb
from simscope.evaluate.score import Score, efficiency, score
from simscope.evaluate.tables import in_frame

__all__ = [
    "Matches",
    "Score",
    "airy_limit_nm",
    "bound_from_information",
    "bound_or_infinity",
    "crlb",
    "efficiency",
    "exact_variance",
    "fisher_information",
    "gaussian_limit_nm",
    "in_frame",
    "match",
    "psf_crlb",
    "quantum_limit",
    "rieger_stallinga_limit_nm",
    "score",
]
