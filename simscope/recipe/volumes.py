"""What a recipe says of continuous structures: a user's volume or labels, or random bodies.

They have no molecules: light is counted per volume, everything shines steadily, and the truth is
the noiseless image, the volume itself, and which object lies where.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import Field, field_validator

from simscope.recipe.base import Model, PerEmitter, PerSample, number
from simscope.recipe.dipoles import FreeDipole

SHARE = {"ge": 0.0, "le": 1.0}

Form = Literal["bodies", "membranes", "clouds", "spots", "grains", "mesh", "filaments", "stripes"]
FORMS: tuple[Form, ...] = get_args(Form)
"""Families of random textures; the label ``structure.form`` counts along these."""


def check_pitch(pitch_nm: tuple[float, float, float], what: str) -> None:
    """Return nothing; ValueError unless the pitch of voxels (z, y, x) [nm] is sensible."""
    if not all(1.0 <= side <= 1e5 for side in pitch_nm):
        raise ValueError(f"{what}={list(pitch_nm)} lies outside 1 to 1e5 nm: give (z, y, x)")


class _Voxels(Model):
    """What all volumes have: the pitch of voxels, the height of the lowest plane, and a margin."""

    voxel_nm: tuple[float, float, float] | None
    z_nm: PerSample = number(
        "height above the coverslip of the middle of the lowest plane",
        unit="nm",
        default=0.0,
        ge=-1e5,
        le=1e5,
    )
    margin_nm: float = number(
        "how far beyond the frame the volume is kept, as its light blurs into the frame",
        unit="nm",
        default=2000.0,
        ge=0,
        le=1e5,
    )

    @field_validator("voxel_nm")
    @classmethod
    def _pitch_sensible(
        cls, pitch: tuple[float, float, float] | None
    ) -> tuple[float, float, float] | None:
        if pitch is not None:
            check_pitch(pitch, "voxel_nm")
        return pitch


class _FromFile(_Voxels):
    """A file's voxels, cut out and turned at random."""

    path: str
    voxel_nm: tuple[float, float, float] | None = Field(
        None,
        description="pitch of the voxels (z, y, x) [nm], those across a whole share of a pixel; "
        "the physical size an OME-TIFF states if absent",
    )
    crop_y: PerSample = number(
        "where along y the frame is cut out: 0 the first rows, 1 the last",
        unit="1",
        default={"uniform": [0, 1]},
        **SHARE,
    )
    crop_x: PerSample = number(
        "where along x the frame is cut out: 0 the first columns, 1 the last",
        unit="1",
        default={"uniform": [0, 1]},
        **SHARE,
    )
    turn: PerSample = number(
        "quarter turns from x towards y; from 4 on mirrored along x first",
        unit="1",
        default={"choice": [0, 1, 2, 3, 4, 5, 6, 7]},
        ge=0,
        le=7,
    )


class VolumeStructure(_FromFile):
    """A volume from a .npy or TIFF file, (z, y, x), cut out and turned at random.

    Values are relative to the highest in the file; plane 0 is the lowest.
    """

    kind: Literal["volume"] = "volume"
    path: str = Field(description=".npy or TIFF file with a stack (z, y, x), lowest plane first")


class LabelsStructure(_FromFile):
    """Objects from a label image, .npy or TIFF, cut out and turned at random.

    Whole numbers (y, x) or (z, y, x), lowest plane first: 0 is background, every other number one
    object. A flat image is one plane of voxels, as high as ``voxel_nm`` says.
    """

    kind: Literal["labels"] = "labels"
    path: str = Field(description=".npy or TIFF file with whole numbers (y, x) or (z, y, x)")
    brightness: PerEmitter = number(
        "brightness of each object, drawn afresh in every sample",
        unit="1", default=1.0, ge=0, le=1e3,
    )  # fmt: skip
    contrast: PerSample = number(
        "spread of the logarithm of brightness inside objects; 0 makes them flat",
        unit="1", default=0.0, ge=0, le=2,
    )  # fmt: skip
    scale_um: float = number(
        "distance over which brightness varies inside objects",
        unit="um", default=1.0, ge=0.05, le=1e4,
    )  # fmt: skip


class TextureStructure(_Voxels):
    """Random structures of one or more families, fresh in every sample.

    ``bodies`` and ``membranes`` are where a Gaussian random field that varies over ``scale_um``
    exceeds a level, and where it crosses it. ``clouds`` are log-normal with a power-law spectrum.
    ``spots``, ``grains`` and ``mesh`` are balls about scattered points, the cells nearest to each,
    and the walls between these. ``filaments`` are winding fibres, ``stripes`` a grating.
    """

    kind: Literal["texture"] = "texture"
    voxel_nm: tuple[float, float, float] = Field(
        description="pitch of the voxels (z, y, x) [nm]; those across a whole share of a pixel"
    )
    form: Form | tuple[Form, ...] = Field(
        "bodies",
        description="family of textures; of several, each sample draws one, equally likely",
    )
    planes: int = Field(ge=1, le=1024, description="planes of voxels")
    scale_um: PerSample = number(
        "distance over which things vary: of random fields, between points, fibres or stripes",
        unit="um", default=1.5, ge=0.1, le=1000,
    )  # fmt: skip
    fill: PerSample = number(
        "share of space inside bodies, spots and stripes, or of grains that shine, on average",
        unit="1", default=0.3, gt=0, lt=1,
    )  # fmt: skip
    edge_nm: float = number(
        "thickness of membranes, walls and filaments, and of the ramp at the surface of all "
        "others but clouds; of bodies and membranes where the field is as steep as on average",
        unit="nm", default=200.0, gt=0, le=1e5,
    )  # fmt: skip
    slope: PerSample = number(
        "power of the spatial frequency by which the spectrum of a plane of clouds falls, before "
        "the exponential; from scale_um down to the voxels",
        unit="1", default=3.0, ge=1, le=6,
    )  # fmt: skip
    contrast: PerSample = number(
        "spread of the logarithm of brightness of clouds", unit="1", default=1.0, gt=0, le=3
    )

    @field_validator("form")
    @classmethod
    def _forms_differ(cls, form: Any) -> Any:
        if not isinstance(form, str) and (not form or len(set(form)) != len(form)):
            raise ValueError(f"form={list(form)}: name at least one family, none twice")
        return form


class Steady(Model):
    """Continuous structures shine evenly in all frames."""

    kind: Literal["steady"] = "steady"
    photons_per_um3: PerSample = number(
        "photons per frame towards the camera from each cubic micrometre of value or brightness 1",
        unit="photons/um^3",
        ge=0,
        le=1e12,
    )


FROM_FILES = (VolumeStructure, LabelsStructure)
VOLUMES = (*FROM_FILES, TextureStructure)


def check_volume(recipe: Any) -> None:
    """Return nothing; raise ValueError where volumes and the rest of a recipe do not fit."""
    kind, light = recipe.structure.kind, recipe.photophysics.kind
    continuous = isinstance(recipe.structure, VOLUMES)
    if continuous and not isinstance(recipe.photophysics, Steady):
        raise ValueError(
            f"a structure of kind {kind} has no molecules for photophysics of kind {light}: use "
            "photophysics {kind: steady, photons_per_um3: ...}"
        )
    if not continuous and isinstance(recipe.photophysics, Steady):
        raise ValueError(
            f"photophysics of kind steady is for volumes, a structure of kind {kind} has "
            "molecules: use photophysics of kind snapshot, blinking or markov"
        )
    if not continuous:
        return
    if not isinstance(recipe.dipoles, FreeDipole):
        raise ValueError(f"dipoles of a {kind} rotate freely: leave out dipoles")
    for name in ("analyser", "field_dependence"):
        if getattr(recipe.optics, name) is not None:
            raise ValueError(
                f"optics.{name} does not work with a structure of kind {kind}, which has one image "
                "of each plane: leave it out"
            )
