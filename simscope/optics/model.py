"""Which model serves which optics, and in which order its effects apply: the one place that knows.

Every model answers the same question, ``images``: probability per pixel of emitters at heights,
foci and lateral positions. From the inside out: the monochromatic image of a molecule (radial
integrals, pupil, or measured); its mean over the emission spectrum; times excitation and pinhole
beyond widefield, as these act on every molecule; its mean over the molecules of a bead; the
dipole's orientation and the analyser, as weighted sums of basis images, which all of these pass on.
A Gaussian blur and the pixel's area are part of the ``Window`` of the outermost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simscope.errors import OpticsError
from simscope.optics.bead import BeadModel
from simscope.optics.checks import check_supported
from simscope.optics.dipoles import oriented
from simscope.optics.field import with_wavefront
from simscope.optics.field_dependence import optics_at
from simscope.optics.gaussian import GaussianModel
from simscope.optics.measured import MeasuredModel
from simscope.optics.modalities import band_limit_per_nm, modality_model
from simscope.optics.pixels import Window
from simscope.optics.pupil import PupilModel
from simscope.optics.radial import RadialModel, symmetry_breakers
from simscope.optics.reach import Reach
from simscope.optics.spectrum import SpectrumModel

FloatArray = NDArray[np.float64]

__all__ = ["ImageModel", "Reach", "image_model"]


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
    optics = with_wavefront(optics_at(optics, 0.0, 0.0), dict(wavefront_nm or {}))
    asked = float(optics.accuracy if accuracy is None else accuracy)
    if window.points and optics.blur_nm:
        raise OpticsError(
            f"blur_nm={optics.blur_nm:g} is part of a pixel's integral and cannot act on points: "
            "ask for pixels, or set blur_nm to 0"
        )
    window = replace(window, blur_nm=optics.blur_nm)
    return oriented(emitter_model(optics, window, reach, accuracy=asked), optics, moment)


def emitter_model(optics: Any, window: Window, reach: Reach, *, accuracy: float) -> ImageModel:
    """The model of what shines, a bead or a molecule, in the optics' modality."""
    if not optics.bead_diameter_nm:
        return lit_model(optics, window, reach, accuracy=accuracy)
    _refuse_measured(optics, "bead_diameter_nm")
    band = band_limit_per_nm(optics)
    model: ImageModel = BeadModel(optics, window, reach, accuracy, lit_model, band)
    return model


def lit_model(optics: Any, window: Window, reach: Reach, *, accuracy: float) -> ImageModel:
    """The model of a molecule in the optics' modality."""
    if optics.modality.kind == "widefield":
        return coloured_model(optics, window, reach, accuracy=accuracy)
    model: ImageModel = modality_model(optics, window, reach, accuracy, coloured_model)
    return model


def coloured_model(optics: Any, window: Window, reach: Reach, *, accuracy: float) -> ImageModel:
    """The model of a molecule in widefield, over its whole emission spectrum."""
    if optics.spectrum is None:
        return molecule_model(optics, window, reach, accuracy=accuracy)
    _refuse_measured(optics, "spectrum")
    return SpectrumModel(optics, window, reach, accuracy, molecule_model)


def _refuse_measured(optics: Any, name: str) -> None:
    if optics.measured is not None:
        raise OpticsError(f"a measured PSF already holds what {name} does: leave {name} out")


def molecule_model(
    optics: Any, window: Window, reach: Reach, *, accuracy: float | None = None
) -> ImageModel:
    """The model of a free molecule at one wavelength: by integrals, pupil, spot, or measured."""
    if optics.model == "gaussian":
        return GaussianModel(optics, window)
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
