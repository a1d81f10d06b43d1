"""What a recipe says of Gaussian spots, the simplest model of a microscope's image."""

from __future__ import annotations

from typing import Any

from simscope.recipe.base import Model, PerDataset, number

COMPUTED_ONLY: dict[str, Any] = {
    "wavefront": None,
    "wavefront_map": None,
    "amplitude_map": None,
    "field_dependence": None,
    "mask": None,
    "slm": None,
    "measured": None,
    "analyser": None,
    "spectrum": None,
    "bead_diameter_nm": 0.0,
    "collection": "normalised",
    "method": "auto",
}
"""Entries of the optics that shape computed images, and what they are where absent."""


class GaussianSpot(Model):
    """Width of a spot and how it grows out of focus; absent widths follow from the objective."""

    sigma_nm: PerDataset | None = number(
        "standard deviation in focus; 0.21 wavelength_nm / na if absent",
        unit="nm",
        default=None,
        gt=0,
        le=1e5,
    )
    depth_nm: PerDataset | None = number(
        "defocus at which a spot is sqrt(2) wider; 4 pi n_sample sigma_nm^2 / wavelength_nm, that "
        "of a Gaussian beam, if absent",
        unit="nm",
        default=None,
        gt=0,
        le=1e6,
    )
    astigmatism_nm: PerDataset = number(
        "height of the focus of the width along x above that of the width along y",
        unit="nm",
        default=0.0,
        ge=-1e5,
        le=1e5,
    )


def gaussian_conflict(optics: Any) -> str | None:
    """What optics say that a Gaussian spot cannot heed, or None."""
    if optics.model != "gaussian":
        if optics.gaussian is None:
            return None
        return f"gaussian given beside model {optics.model!r}: leave it out, or set model: gaussian"
    given = [name for name, absent in COMPUTED_ONLY.items() if getattr(optics, name) != absent]
    if optics.modality.kind != "widefield":
        given.append("modality")
    if not given:
        return None
    return (
        f"{given[0]} given beside model 'gaussian': a Gaussian spot knows its width alone; leave "
        f"{given[0]} out, or use model: vectorial"
    )
