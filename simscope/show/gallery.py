"""Every mask and every kind of microscope in one picture, at five depths each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from matplotlib.figure import Figure

from simscope.recipe import MASKS, Model, Optics
from simscope.recipe.modality import Modality
from simscope.show import style
from simscope.show.optics import cropped_psf

DEPTHS = 5
NOT_COMPUTED = ("file", "array")
MASK_SIDE_UM, MASK_PIXEL_NM = 6.0, 75.0
SPOT_SIDE_UM, SPOT_PIXEL_NM = 2.4, 40.0
STILL_RANGE_NM = 1600.0
"""Range shown for what has no axial range of its own."""

WATER = Optics(
    na=1.2, wavelength_nm=600, n_sample=1.333, n_coverslip=1.333, n_immersion=1.333, accuracy=1e-3
)
"""A water-dipping objective: no interface, so heights on both sides of the focus."""

SETTINGS: dict[str, dict[str, Any]] = {
    "confocal": {"excitation_wavelength_nm": 561},
    "two_photon": {"excitation_wavelength_nm": 1040},
    "light_sheet": {"excitation_wavelength_nm": 561, "waist_nm": 600},
    "sted": {
        "excitation_wavelength_nm": 561,
        "depletion_wavelength_nm": 660,
        "saturation": 20,
    },
    "ism": {"excitation_wavelength_nm": 561},
}
"""What kinds of microscopes need to be told, at common laser lines."""


@dataclass(frozen=True)
class Row:
    """One row of the gallery: optics under a name, and the range of heights to show [nm]."""

    name: str
    optics: Optics
    range_nm: float
    side_um: float
    pixel_nm: float


def mask_rows() -> list[Row]:
    """The plain pupil and every mask simscope computes, over the range each is made for."""
    rows = [Row("no mask", WATER, STILL_RANGE_NM, MASK_SIDE_UM, MASK_PIXEL_NM)]
    for kind, model in MASKS.items():
        if kind not in NOT_COMPUTED:
            mask = model()
            range_nm = getattr(mask, "z_range_nm", None) or STILL_RANGE_NM
            optics = WATER.model_copy(update={"mask": mask})
            rows.append(Row(kind, optics, range_nm, MASK_SIDE_UM, MASK_PIXEL_NM))
    return rows


def modality_rows() -> list[Row]:
    """Widefield and every other kind of microscope that recipes know."""
    rows = []
    for model in _members(Modality):
        kind = model.model_fields["kind"].default
        modality = model(**SETTINGS.get(kind, {}))
        optics = WATER.model_copy(update={"modality": modality})
        rows.append(Row(kind, optics, STILL_RANGE_NM, SPOT_SIDE_UM, SPOT_PIXEL_NM))
    return rows


def _members(union: Any) -> list[type[Any]]:
    """Every model of a union of recipe models."""
    if isinstance(union, type):
        return [union] if issubclass(union, Model) else []
    return [model for part in get_args(union) for model in _members(part)]


@style.styled
def gallery_figure() -> Figure:
    """Every mask (left) and every kind of microscope (right) at five depths, a row each.

    Every panel has its own square-root scale, from 0 to its brightest pixel, whose value is noted
    as a share of the row's brightest. Heights are those of the emitter, seen by a water-dipping
    objective of NA 1.2 focused at 0.
    """
    columns = (("phase masks", mask_rows()), ("microscopes", modality_rows()))
    tallest = max(len(rows) for _, rows in columns)
    figure = style.new_figure(10.0, 0.93 * tallest + 0.6)
    halves: Any = figure.subfigures(1, 2, wspace=0.02)
    for half, (title, rows) in zip(halves, columns, strict=True):
        half.suptitle(
            f"{title}, NA {WATER.na:g} in water; square-root scale, peak noted", fontsize=9
        )
        panels = half.subplots(tallest, DEPTHS, squeeze=False)
        for line, row in zip(panels, rows, strict=False):
            _draw(line, row)
        for line in panels[len(rows) :]:
            for axes in line:
                axes.set_axis_off()
    return figure


def _draw(line: Any, row: Row) -> None:
    """Draw one row: the name, five heights, and a scale bar."""
    heights = np.linspace(-0.5 * row.range_nm, 0.5 * row.range_nm, DEPTHS)
    side = 2 * int(row.side_um * 500.0 / row.pixel_nm) + 1
    images = cropped_psf(row.optics, heights, 0.0, side, row.pixel_nm)
    for axes, image, height in zip(line, images, heights, strict=True):
        style.bare(axes)
        extent = (0, row.side_um, row.side_um, 0)
        axes.imshow(np.sqrt(image), cmap=style.LIGHT, vmin=0, extent=extent)
        axes.set_title(f"{height / 1000:+.2f} µm" if height else "0 µm", pad=2, fontsize=7)
        percent = 100.0 * image.max() / images.max()
        peak = f"{percent:.0f} %" if percent >= 1.0 else f"{percent:.1g} %"
        axes.text(0.04, 0.06, peak, color="white", fontsize=6.5, transform=axes.transAxes)
    line[0].set_ylabel(row.name.replace("_", " "), fontsize=8)
    style.scale_bar(line[-1], row.side_um, row.side_um)
