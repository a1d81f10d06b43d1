"""Cosines and sines of many phases: half of all work that is no matrix product is in them."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from simscope.kernels.trig import cosines_sines


def cosine_sine(phase_rad: Any, xp: Any = np) -> Any:
    """Cosine (0) and sine (1) of phases, float64 (2, ...), an array of the module ``xp``."""
    interpreted: bool = numba.config.DISABLE_JIT  # type: ignore[attr-defined]
    if xp is not np or interpreted:  # a plain Python loop over nodes would take minutes
        return xp.stack((xp.cos(phase_rad), xp.sin(phase_rad)))
    phase = np.asarray(phase_rad, dtype=np.float64, order="C")
    both = np.empty((2, *phase.shape))
    cosines_sines(phase.ravel(), both[0].reshape(-1), both[1].reshape(-1))
    return both


def unit_phasor(phase_rad: Any, xp: Any = np) -> Any:
    """exp(i phase) [1], complex128 of the shape of ``phase_rad``."""
    cosine, sine = cosine_sine(phase_rad, xp)
    return cosine + 1j * sine
