"""What a recipe says of the emission spectrum."""

from __future__ import annotations

from typing import Literal

from simscope.recipe.base import Model, number


class GaussianSpectrum(Model):
    """Emission of Gaussian shape around ``wavelength_nm`` of the optics."""

    kind: Literal["gaussian"] = "gaussian"
    fwhm_nm: float = number("full width at half maximum", unit="nm", gt=0, le=500)


Spectrum = GaussianSpectrum
