"""What a recipe says of a measured PSF: which file, in which format, its units and its centre.

What the file itself tells may be left out here; what it does not tell must be given. Nothing is
guessed. A key given here wins over the file.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from simscope.recipe.base import Model, number

MeasuredFormat = Literal["auto", "smap", "decode", "uipsf", "stack"]

COMPUTED_ONLY = {
    "mask": None,
    "slm": None,
    "wavefront": None,
    "wavefront_map": None,
    "amplitude_map": None,
    "field_dependence": None,
    "spectrum": None,
    "analyser": None,
    "collection": "normalised",
    "bead_diameter_nm": 0.0,
    "model": "vectorial",
    "method": "auto",
}
"""Keys of the optics that only a computed PSF can have, and what they say when they are absent."""


class MeasuredPsf(Model):
    """A PSF from a calibration file instead of a computed one: all the measurement held is in it.

    ``z_nm - focus_nm``, the emitter's height above the focal plane, picks the depth in the file:
    a calibration is taken with beads on the coverslip and knows no dependence on depth.
    """

    path: str = Field(description="calibration file: .mat, .h5, .hdf5, .tif, .tiff or .npy")
    format: MeasuredFormat = Field(
        "auto",
        description="smap (fit3Dcspline's *_3dcal.mat), decode (the same file with DECODE's x and "
        "y), uipsf (HDF5), stack (planes as TIFF or .npy); auto judges by the file's ending, and "
        "reads .mat as smap",
    )
    pixel_nm: float | None = number(
        "pixel of the calibration in the sample", unit="nm", default=None, gt=0, le=10000
    )
    dz_nm: float | None = number(
        "step from plane to plane", unit="nm", default=None, gt=0, le=10000
    )
    z_axis: Literal["focus", "height"] | None = Field(
        None,
        description="what grows from plane to plane: focus (the objective moves towards the "
        "sample) or height (the emitter moves away from the objective)",
    )
    axes: Literal["yx", "xy"] | None = Field(
        None, description="order of the file's lateral axes; x runs along columns, y along rows"
    )
    centre_px: tuple[float, float] | Literal["middle", "peak", "centroid"] | None = Field(
        None,
        description="where the emitter lies in the file, (y, x) in pixels from the centre of the "
        "first pixel; or the middle of the image, its peak or its centroid at centre_plane",
    )
    centre_plane: float | Literal["middle", "sharpest"] | None = Field(
        None,
        description="plane in which the emitter is in the focal plane, counted from 0; or the "
        "middle one, or the one with the highest peak",
    )
    background: float | Literal["border", "minimum"] | None = Field(
        None,
        description="counts to subtract from a stack; or the median of its border pixels, or its "
        "smallest value",
    )
    z_knots_nm: float | None = number(
        "distance along z between the knots of a least-squares spline through the planes of "
        "voxels or a stack, which averages their noise; every plane as it is if absent",
        unit="nm",
        default=None,
        gt=0,
        le=10000,
    )
    channel: int | None = Field(
        None, ge=0, le=63, description="channel of a calibration with several, counted from 0"
    )


def measured_conflict(optics: Any) -> str | None:
    """What optics with a measured PSF say beside it that a measurement already holds, or None."""
    given = [name for name, absent in COMPUTED_ONLY.items() if getattr(optics, name) != absent]
    if optics.modality.kind != "widefield":
        given.append("modality")
    if not given:
        return None
    return (
        f"{given[0]} given beside measured: a measured PSF is used as it is and holds everything "
        f"that shapes it; leave {given[0]} out, or measured"
    )
