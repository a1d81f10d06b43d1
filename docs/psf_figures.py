"""Draws the pictures of docs/psf.md into docs/images: `python docs/psf_figures.py`.

`docs/gallery.py` draws the gallery of masks and modalities.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import simscope as ss
from simscope.recipe import ConeDipole, FixedDipole
from simscope.show import crlb_figure, recipe_bound_curve, style

IMAGES = Path(__file__).parent / "images"
OIL_WATER = ss.Optics(na=1.4, wavelength_nm=600, n_sample=1.33)
SITUATIONS = {
    "matched, z = 0": (ss.Optics(na=1.4, n_sample=1.518, n_coverslip=1.518), 0.0),
    "oil/water, z = 0": (OIL_WATER, 0.0),
    "oil/water, z = 3 µm": (OIL_WATER, 3000.0),
    "water immersion NA 1.1,\ncoverslip 10 µm too thick": (
        ss.Optics(
            na=1.1, n_sample=1.33, n_immersion=1.33, coverslip_um=180, coverslip_design_um=170
        ),
        0.0,
    ),
    "water dipping, NA 1.0": (
        ss.Optics(na=1.0, n_sample=1.33, n_immersion=1.33, coverslip_um=0, n_coverslip=1.33),
        1000.0,
    ),
}
SIDE_PX, PIXEL_NM, TRAVEL_NM = 81, 50.0, 2000.0


@style.styled
def symmetric() -> Figure:
    """Sections along the axis, by the vectorial and the scalar model."""
    figure = style.new_figure(9.4, 4.4)
    panels = figure.subplots(2, len(SITUATIONS), sharex=True)
    half_um = 0.5e-3 * SIDE_PX * PIXEL_NM
    for column, (title, (optics, z_nm)) in enumerate(SITUATIONS.items()):
        middle = float(ss.optics.best_focus(optics, z_nm)[0])
        travel = np.linspace(-TRAVEL_NM, TRAVEL_NM, 161)
        for row, model in enumerate(("vectorial", "gibson_lanni")):
            chosen = optics.model_copy(update={"model": model})
            stack = ss.psf(chosen, z_nm, middle + travel, (SIDE_PX, SIDE_PX), PIXEL_NM)
            axes = panels[row, column]
            section = np.sqrt(stack[:, SIDE_PX // 2])
            low, high = (1e-3 * (middle + end) for end in (-TRAVEL_NM, TRAVEL_NM))
            axes.imshow(
                section,
                cmap=style.LIGHT,
                origin="lower",
                aspect="auto",
                extent=(-half_um, half_um, low, high),
            )
            axes.tick_params(labelsize=7)
            if row == 0:
                axes.set_title(title, fontsize=8)
            else:
                axes.set_xlabel("x [µm]")
        panels[0, 0].set_ylabel("vectorial\nobjective position [µm]")
        panels[1, 0].set_ylabel("Gibson-Lanni\nobjective position [µm]")
    return figure


@style.styled
def focus() -> Figure:
    """Where the sharpest image lies, against height and numerical aperture."""
    figure = style.new_figure(9.0, 3.2)
    left, right = figure.subplots(1, 2)
    z_nm = np.linspace(0, 10000, 41)
    for na, colour in zip((0.6, 1.0, 1.25, 1.4), style.SERIES, strict=True):
        optics = OIL_WATER.model_copy(update={"na": na})
        shift = ss.optics.focal_shift(optics, z_nm, criterion="peak")
        left.plot(1e-3 * z_nm, 1e-3 * shift, color=colour, label=f"NA {na:g}")
    paraxial = ss.optics.focal_shift(OIL_WATER, z_nm, criterion="paraxial")
    left.plot(1e-3 * z_nm, 1e-3 * paraxial, color=style.SOFT, ls="--", label="paraxial")
    left.set_xlabel("height of the emitter [µm]")
    left.set_ylabel("focal shift [µm]")
    left.set_title("oil objective, sample in water")
    left.legend()
    index = np.linspace(1.33, 1.518, 160)
    for z, colour in zip((2000.0, 5000.0, 10000.0), style.SERIES, strict=False):
        ratio = [
            ss.optics.best_focus(OIL_WATER.model_copy(update={"n_sample": float(n)}), z)[0] / z
            for n in index
        ]
        right.plot(index, ratio, color=colour, label=f"z = {1e-3 * z:g} µm")
    right.set_xlabel("index of the sample")
    right.set_ylabel("objective travel / height")
    right.set_title("NA 1.4")
    right.legend()
    return figure


@style.styled
def dipoles() -> Figure:
    """Images of dipoles by orientation, through an analyser, and what is collected."""
    figure = style.new_figure(9.4, 5.0)
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.1, 1.0))
    shown = {
        "along the axis": FixedDipole(polar_deg=0, azimuth_deg=0),
        "tilted by 45°": FixedDipole(polar_deg=45, azimuth_deg=0),
        "in plane, along x": FixedDipole(polar_deg=90, azimuth_deg=0),
        "in a cone of 45°": ConeDipole(polar_deg=45, azimuth_deg=0, half_angle_deg=45),
        "free": None,
    }
    panels = top.subplots(2, len(shown))
    for column, (title, dipole) in enumerate(shown.items()):
        for row, focus_nm in enumerate((0.0, -500.0)):
            image = ss.psf(OIL_WATER, 0.0, focus_nm, (31, 31), 50.0, dipole=dipole)[0]
            axes = panels[row, column]
            style.bare(axes)
            axes.imshow(image, cmap=style.LIGHT, vmin=0, extent=(0, 1.55, 1.55, 0))
            if row == 0:
                axes.set_title(title, fontsize=8)
            if column == 0:
                axes.set_ylabel(f"focus {focus_nm:g} nm", fontsize=8)
    style.scale_bar(panels[0, 0], 1.55, 1.55)
    left, right = bottom.subplots(1, 2)
    z_nm = np.linspace(0, 1000, 201)
    for title, dipole in list(shown.items())[::2]:
        left.plot(z_nm, ss.optics.collected_fraction(OIL_WATER, z_nm, dipole), label=title)
    left.set_xlabel("height above the coverslip [nm]")
    left.set_ylabel("collected share")
    left.legend()
    angle = np.linspace(0, 180, 37)
    for azimuth, colour in zip((0, 45, 90), style.SERIES, strict=False):
        dipole = FixedDipole(polar_deg=90, azimuth_deg=azimuth)
        passed = [
            ss.psf(_behind(OIL_WATER, a), 0.0, 0.0, (41, 41), 100.0, dipole=dipole).sum()
            for a in angle
        ]
        right.plot(angle, passed, color=colour, label=f"dipole at {azimuth}°")
    right.set_xlabel("angle of the analyser [°]")
    right.set_ylabel("share that passes")
    right.set_ylim(0, 1.25)
    right.legend(ncols=3, loc="upper center")
    return figure


def _behind(optics: ss.Optics, angle_deg: float) -> ss.Optics:
    """The optics behind an analyser, its parallel channel."""
    data = optics.model_dump() | {
        "analyser": {"angle_deg": float(angle_deg), "channels": "parallel"}
    }
    return ss.Optics.model_validate(data)


@style.styled
def field() -> Figure:
    """PSFs over the field: astigmatism and coma that grow away from its centre."""
    optics = ss.Optics.model_validate(
        {
            "n_sample": 1.45,
            "field_dependence": {
                "kind": "polynomial",
                "half_width_nm": 50_000,
                "coefficients_nm": {
                    5: [[2, 0, 60.0], [0, 2, -60.0]],
                    3: [[1, 1, 120.0]],
                    8: [[1, 0, 50.0]],
                    7: [[0, 1, 50.0]],
                },
            },
        }
    )
    figure = style.new_figure(4.6, 4.6)
    panels = figure.subplots(3, 3)
    for row, y_um in enumerate((-50, 0, 50)):
        for column, x_um in enumerate((-50, 0, 50)):
            image = ss.psf(optics, 0.0, 300.0, (41, 41), 50.0, field_nm=(1e3 * x_um, 1e3 * y_um))[0]
            axes = panels[row, column]
            style.bare(axes)
            axes.imshow(image, cmap=style.LIGHT, vmin=0, extent=(0, 2.05, 2.05, 0))
            axes.set_title(f"({x_um}, {y_um}) µm", fontsize=8)
    style.scale_bar(panels[0, 0], 2.05, 2.05)
    return figure


def bound() -> Figure:
    """Bounds of the packaged Tetrapod recipe over its depth."""
    recipe = ss.load_recipe("smlm-3d-tetrapod")
    return crlb_figure(recipe_bound_curve(recipe, photons=5000, background_photons=10))


FIGURES = {
    "symmetric": symmetric,
    "focus": focus,
    "dipoles": dipoles,
    "field": field,
    "crlb": bound,
}


def main() -> None:
    """Draw every picture and print where it went."""
    IMAGES.mkdir(exist_ok=True)
    for name, draw in FIGURES.items():
        print(style.save_figure(draw(), IMAGES / f"psf-{name}.png", force=True))


if __name__ == "__main__":
    main()
