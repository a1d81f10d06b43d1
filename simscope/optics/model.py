"""Which model serves which optics, and in which order its effects apply: the one place that knows.

Every model answers the same question, ``images``: probability per pixel of emitters at heights,
foci and lateral positions. From the inside out: the monochromatic image of a molecule (radial
integrals, pupil, or measured), averaged over the emission spectrum, spread over a bead, and
multiplied by excitation and pinhole beyond widefield. A Gaussian blur and the pixel's area are part
of the ``Window``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simscope.optics.checks import check_supported
from simscope.optics.dipoles import oriented
from simscope.optics.field import with_wavefront
from simscope.optics.field_dependence import optics_at
from simscope.optics.measured import MeasuredModel
from simscope.optics.pixels import Window
from simscope.optics.pupil import PupilModel
from simscope.optics.radial import RadialModel, symmetry_breakers

FloatArray = NDArray[np.float64]


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


class ImageModel(Protocol):
    """Images of unit emitters over ranges the model was set up for."""

    def images(
        self,
        z_nm: ArrayLike = 0.0,
        focus_nm: ArrayLike = 0.0,
        x_nm: ArrayLike = 0.0,
        y_nm: ArrayLike = 0.0,
    ) -> FloatArray:
        """Probability per pixel, float64 (n, y, x); arguments broadcast to n images."""
        ...


def image_model(
    optics: Any,
    window: Window,
    reach: Reach,
    *,
    accuracy: float | None = None,
    wavefront_nm: Mapping[int, float] | None = None,
    moment: ArrayLike | None = None,
) -> ImageModel:
    """The model for ``optics``, set up for a window and ranges, its error at most ``accuracy``.

    ``wavefront_nm``: OSA index -> RMS nm on top of the optics' own. ``accuracy`` is a share of
    each image's peak, the optics' own if None. ``moment``: second moments (6,) of the dipole's
    orientation, freely rotating if None. Optics that change over the field are taken at its
    centre; ``optics_at`` gives others. Raises OpticsError for impossible optics.
    """
    check_supported(optics)
    optics = optics_at(optics, 0.0, 0.0)
    return monochromatic_model(
        with_wavefront(optics, dict(wavefront_nm or {})),
        window,
        reach,
        accuracy=accuracy,
        moment=moment,
    )


def monochromatic_model(
    optics: Any,
    window: Window,
    reach: Reach,
    *,
    accuracy: float | None = None,
    moment: ArrayLike | None = None,
) -> ImageModel:
    """The model of a molecule at one wavelength: its orientation, and the analyser, included."""
    model = molecule_model(optics, window, reach, accuracy=accuracy)
    return oriented(model, optics, moment)


def molecule_model(
    optics: Any, window: Window, reach: Reach, *, accuracy: float | None = None
) -> ImageModel:
    """The model of a free molecule at one wavelength: by radial integrals, pupil, or measured."""
    if optics.measured is not None:
        return MeasuredModel(optics, window, reach)
    if optics.method == "radial" or (optics.method == "auto" and not symmetry_breakers(optics)):
        return RadialModel(optics, window, reach, accuracy)
    return PupilModel(
        optics,
        shape=window.shape,
        pixel_nm=window.pixel_nm,
        per_pixel=window.per_pixel,
        points=window.points,
        blur_nm=window.blur_nm,
        z_nm=reach.z_nm,
        focus_nm=reach.focus_nm,
        reach_nm=reach.lateral_nm,
        accuracy=accuracy,
    )
