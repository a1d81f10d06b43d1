"""What a recipe says of the sample: where molecules sit, what glows behind them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from simscope.recipe.base import Model, PerEmitter, PerSample, number
from simscope.recipe.volumes import LabelsStructure, TextureStructure, VolumeStructure


class UniformStructure(Model):
    """Molecules spread evenly over the field of view, by density or by count."""

    kind: Literal["uniform"] = "uniform"
    density_per_um2: PerSample | None = number(
        "molecules per area; the number in a sample is Poisson",
        unit="1/um^2",
        default=None,
        ge=0,
        le=1e4,
    )
    count: PerSample | None = number(
        "molecules in a sample, rounded to a whole number",
        unit="1",
        default=None,
        ge=0,
        le=1e7,
    )
    z_nm: PerEmitter = number("height above the coverslip", unit="nm", default=0.0, ge=-1e5, le=1e5)
    margin_nm: float = number(
        "how far beyond the frame molecules are placed", unit="nm", default=0.0, ge=0, le=1e6
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> UniformStructure:
        if (self.density_per_um2 is None) == (self.count is None):
            raise ValueError("give either density_per_um2 or count, one of the two")
        return self


class FilamentStructure(Model):
    """Labelled worm-like filaments, such as microtubules with antibody linkers."""

    kind: Literal["filaments"] = "filaments"
    count: PerSample = number("filaments in a sample", unit="1", default=3.0, ge=0, le=1e4)
    labels_per_um: PerSample = number(
        "labels along a filament; their number is Poisson", unit="1/um", default=50.0, ge=0, le=1e5
    )
    radius_nm: float = number("radius of the tube", unit="nm", default=12.5, ge=0, le=1000)
    linker_nm: PerEmitter = number(
        "distance of the fluorophore from the tube's surface",
        unit="nm",
        default=10.0,
        ge=0,
        le=1000,
    )
    persistence_um: float = number(
        "persistence length of the projected path", unit="um", default=50.0, gt=0, le=1e5
    )
    z_nm: PerEmitter = number(
        "height of each filament's axis, drawn per filament",
        unit="nm",
        default=50.0,
        ge=-1e5,
        le=1e5,
    )
    margin_nm: float = number(
        "how far beyond the frame molecules are kept", unit="nm", default=1000.0, ge=0, le=1e6
    )


TableFormat = Literal["auto", "plain", "thunderstorm", "picasso", "smap", "decode", "challenge"]


class TableStructure(Model):
    """Molecules from a table of any software for localisation, or an array of x, y, z in nm.

    Every row is a molecule; the table's own frames and photons are not used.
    """

    kind: Literal["table"] = "table"
    path: str = Field(description="table: .csv, .h5/.hdf5, .mat or .npy")
    format: TableFormat = Field("auto", description="software's layout, or auto by the content")
    dataset: str | None = Field(None, description="dataset or group inside an HDF5 file")
    pixel_nm: float | None = number(
        "pixel of the table, where it counts in pixels and does not state it",
        unit="nm",
        default=None,
        gt=0,
        le=1e6,
    )
    axes: Literal["xy", "yx"] = Field(
        "xy", description="what the table's first two coordinates are: yx where the row comes first"
    )
    shift_x_nm: float = number("added to every x", unit="nm", default=0.0)
    shift_y_nm: float = number("added to every y", unit="nm", default=0.0)
    shift_z_nm: float = number("added to every z", unit="nm", default=0.0)
    margin_nm: float = number(
        "how far beyond the frame molecules are kept", unit="nm", default=1000.0, ge=0, le=1e6
    )


class BeadStructure(Model):
    """One point source near the middle of the frame."""

    kind: Literal["bead"] = "bead"
    x_nm: PerSample = number("offset from the frame's middle", unit="nm", default=0.0)
    y_nm: PerSample = number("offset from the frame's middle", unit="nm", default=0.0)
    z_nm: PerSample = number("height above the coverslip", unit="nm", default=0.0, ge=-1e5, le=1e5)


Structure = Annotated[
    UniformStructure
    | FilamentStructure
    | TableStructure
    | BeadStructure
    | VolumeStructure
    | LabelsStructure
    | TextureStructure,
    Field(discriminator="kind"),
]


class UniformBackground(Model):
    """The same expected background light in every pixel."""

    kind: Literal["uniform"] = "uniform"
    photons_per_pixel: PerSample = number(
        "background photons per pixel and frame", unit="photons/px", default=0.0, ge=0, le=1e7
    )


class SmoothBackground(Model):
    """Background that varies smoothly over the frame, as out-of-focus cells do; one per sample."""

    kind: Literal["smooth"] = "smooth"
    photons_per_pixel: PerSample = number(
        "mean background photons per pixel and frame",
        unit="photons/px",
        default=0.0,
        ge=0,
        le=1e7,
    )
    contrast: PerSample = number(
        "spread of the logarithm of the background over the frame",
        unit="1",
        default=0.3,
        ge=0,
        le=2,
    )
    scale_um: float = number(
        "distance over which the background varies", unit="um", default=5.0, ge=0.05, le=1e4
    )


def _background_kind(value: Any) -> Any:
    return value.get("kind", "uniform") if isinstance(value, dict) else getattr(value, "kind", None)


Background = Annotated[
    Annotated[UniformBackground, Tag("uniform")] | Annotated[SmoothBackground, Tag("smooth")],
    Discriminator(_background_kind),
]
