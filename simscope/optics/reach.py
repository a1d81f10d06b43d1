"""What a model must serve: how high, how far out of focus and how far aside emitters may be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Reach:
    """Ranges a model must serve: heights, foci (lowest, highest) and largest lateral shift [nm]."""

    z_nm: tuple[float, float] = (0.0, 0.0)
    focus_nm: tuple[float, float] = (0.0, 0.0)
    lateral_nm: float = 0.0

    @classmethod
    def over(cls, z_nm: ArrayLike, focus_nm: ArrayLike, x_nm: ArrayLike, y_nm: ArrayLike) -> Reach:
        """The reach that holds all given values."""
        z, focus = np.asarray(z_nm, float), np.asarray(focus_nm, float)
        lateral = max(np.abs(np.asarray(x_nm, float)).max(), np.abs(np.asarray(y_nm, float)).max())
        return cls(
            (float(z.min()), float(z.max())), (float(focus.min()), float(focus.max())),
            float(lateral),
        )  # fmt: skip
