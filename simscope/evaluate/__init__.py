"""Judging: matching, scores, and the Cramér-Rao bound."""

from simscope.evaluate.baseline import found_nothing, local_maxima, mean_prediction
from simscope.evaluate.bootstrap import Interval, bootstrap, score_intervals, seed_interval
from simscope.evaluate.bounded import BoundedErrors, matched_bounds, normalised_errors
from simscope.evaluate.breakdown import Bin, Values, breakdown, signal_to_noise
from simscope.evaluate.calibration import (
    Calibration,
    Reliability,
    calibrated,
    calibration,
    matched_errors,
    mean_errors,
    probability_calibration,
    reliability,
)
from simscope.evaluate.crlb import crlb
from simscope.evaluate.fit_frames import CANDIDATE_DTYPE, candidates, fit_frames
from simscope.evaluate.fit_study import FIT_STUDY_DTYPE, fit_study
from simscope.evaluate.fitting import FIT_DTYPE, box_of, fit
from simscope.evaluate.frc import RingCorrelation, localization_resolution, ring_correlation
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
from simscope.evaluate.regression import (
    ParameterScore,
    regression_intervals,
    regression_scores,
    wavefront_errors,
)
from simscope.evaluate.score import Score, efficiency, score
from simscope.evaluate.tables import has_column, in_frame

__all__ = [
    "CANDIDATE_DTYPE",
    "FIT_DTYPE",
    "FIT_STUDY_DTYPE",
    "Bin",
    "BoundedErrors",
    "Calibration",
    "Interval",
    "Matches",
    "ParameterScore",
    "Reliability",
    "RingCorrelation",
    "Score",
    "Values",
    "airy_limit_nm",
    "bootstrap",
    "bound_from_information",
    "bound_or_infinity",
    "box_of",
    "breakdown",
    "calibrated",
    "calibration",
    "candidates",
    "crlb",
    "efficiency",
    "exact_variance",
    "fisher_information",
    "fit",
    "fit_frames",
    "fit_study",
    "found_nothing",
    "gaussian_limit_nm",
    "has_column",
    "in_frame",
    "local_maxima",
    "localization_resolution",
    "match",
    "matched_bounds",
    "matched_errors",
    "mean_errors",
    "mean_prediction",
    "normalised_errors",
    "probability_calibration",
    "psf_crlb",
    "quantum_limit",
    "regression_intervals",
    "regression_scores",
    "reliability",
    "rieger_stallinga_limit_nm",
    "ring_correlation",
    "score",
    "score_intervals",
    "seed_interval",
    "signal_to_noise",
    "wavefront_errors",
]
