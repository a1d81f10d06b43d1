"""The command about the PSF: pictures and precision."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simscope.cli.frame import (
    AllowFiles,
    Force,
    Json,
    Seed,
    Settings,
    answer,
    changed,
    command,
    load,
)
from simscope.errors import RecipeError

if TYPE_CHECKING:
    from simscope.recipe import Recipe


MASK_RECIPE = "smlm-3d-tetrapod"
BOUND_PHOTONS, BOUND_BACKGROUND = 5000.0, 10.0


def mask_list() -> tuple[dict[str, Any], list[str]]:
    """Every mask with what it does and its paper: for machines, and as lines."""
    from simscope.recipe import MASKS

    values: dict[str, Any] = {}
    lines: list[str] = []
    for kind, model in MASKS.items():
        about, _, source = (model.__doc__ or "").partition("\n")
        values[kind] = {"about": about, "source": " ".join(source.split())}
        lines += [kind, *(f"    {text}" for text in values[kind].values() if text)]
    return values, lines


def with_mask(
    recipe: Recipe, mask: str | None, z_range: float | None, *, fit_focus: bool
) -> Recipe:
    """The recipe with a mask, named or as YAML, made for an axial range [nm].

    ``fit_focus`` brings the middle of the range into focus as well.
    """
    from simscope.optics import best_focus
    from simscope.recipe.recipe import anchor_files
    from simscope.recipe.text import parse_yaml

    given: Any = None if mask is None else parse_yaml(mask, "--mask")
    if mask is not None and not isinstance(given, str | dict):
        raise RecipeError(f"--mask {mask!r} names no mask: see simscope psf --list-masks")
    if isinstance(given, dict):
        anchor_files(given, Path.cwd())
    group = {"kind": given} if isinstance(given, str) else given
    if group is None:
        own = recipe.written()["optics"].get("mask")
        if own is None:
            raise RecipeError("--z-range makes a mask for a range: give --mask as well")
        group = own
    if z_range is not None and isinstance(group, dict):
        group = {**group, "z_range_nm": z_range}
    masked = recipe.replace("optics.mask", group)
    made_for = getattr(masked.optics.mask, "z_range_nm", None)
    if not fit_focus or made_for is None:
        return masked
    plain = masked.optics.model_copy(update={"mask": None})
    (focus_nm,) = best_focus(plain, 0.5 * made_for)
    return masked.replace("acquisition.focus_nm", round(float(focus_nm)))


def require_sense(
    crlb: bool, *, side_um: float | None, photons: float | None, background: float | None
) -> None:
    """Refuse options that the picture asked for, of the PSF or its bound, does not use."""
    if crlb and side_um is not None:
        raise RecipeError(
            f"--side-um {side_um:g} goes with pictures of the PSF, and --crlb uses all pixels of "
            "the frame: leave it out, or --set acquisition.shape=[33,33]"
        )
    for name, value in (("photons", photons), ("background", background)):
        if not crlb and value is not None:
            raise RecipeError(f"--{name} {value:g} goes with --crlb: add it, or leave this out")


def mask_heights(recipe: Recipe, z_range: float | None) -> tuple[float, float] | None:
    """Emitter heights [nm] worth showing: the mask's axial range; None without one."""
    made_for = z_range or getattr(recipe.optics.mask, "z_range_nm", None)
    return None if made_for is None else (0.0, made_for)


@command(
    examples="""
    simscope psf smlm-3d-tetrapod --out psf.png
    simscope psf smlm-2d-dense --na 1.2 --out psf.png
    simscope psf psf-zernike --sample 3 --seed 7 --out psf.png
    simscope psf smlm-2d-dense --focus-nm -500 500 --set optics.wavelength_nm=520 --out psf.png
    simscope psf --mask tetrapod --z-range 4000
    simscope psf --mask "{kind: file, path: mask.mat, na_per_pixel: 0.03}"
    simscope psf --list-masks
    simscope psf smlm-3d-tetrapod --crlb --photons 5000 --background 10 --out crlb.png
"""
)
def psf(
    recipe: Annotated[
        str | None,
        typer.Argument(help=f"Packaged recipe or path of a YAML file; {MASK_RECIPE} if absent."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="PNG file to write; psf.png (crlb.png) if absent.")
    ] = None,
    crlb: Annotated[
        bool, typer.Option("--crlb", help="Cramér-Rao bound of x, y, z against height instead.")
    ] = False,
    photons: Annotated[
        float | None,
        typer.Option(help="With --crlb: photons of the emitter at the camera, 5000 if absent."),
    ] = None,
    background: Annotated[
        float | None,
        typer.Option(help="With --crlb: background photons per pixel, 10 if absent."),
    ] = None,
    mask: Annotated[
        str | None, typer.Option(help="Phase mask: its kind, or its group of keys as YAML.")
    ] = None,
    z_range: Annotated[
        float | None,
        typer.Option(help="Axial range of the mask, and of the emitters shown [nm]."),
    ] = None,
    list_masks: Annotated[
        bool, typer.Option("--list-masks", help="List the masks with their papers.")
    ] = False,
    na: Annotated[float | None, typer.Option(help="Numerical aperture.")] = None,
    wavelength_nm: Annotated[float | None, typer.Option(help="Emission wavelength [nm].")] = None,
    z_nm: Annotated[tuple[float, float] | None, typer.Option(help="Emitter heights.")] = None,
    focus_nm: Annotated[
        tuple[float, float] | None, typer.Option(help="Objective positions.")
    ] = None,
    side_um: Annotated[
        float | None, typer.Option(help="Side of the pictures, without --crlb.")
    ] = None,
    sample: Annotated[int, typer.Option(help="Sample whose drawn aberrations are shown.")] = 0,
    seed: Seed = 0,
    settings: Settings = None,
    allow_files: AllowFiles = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Picture of the PSF: planes through focus, xy and xz cuts, pupil phase; or its precision."""
    if list_masks:
        answer(*mask_list(), as_json)
        return
    from simscope import show
    from simscope.dataset import output_target

    light = {"photons": photons, "background": background}
    require_sense(crlb, side_um=side_um, **light)
    target, inputs = out or Path("crlb.png" if crlb else "psf.png"), [recipe] if recipe else []
    show.require_picture_name(target)
    output_target(target, force=force, inputs=inputs)
    chosen = load(recipe or MASK_RECIPE, allow_files=allow_files)
    if mask is not None or z_range is not None:
        chosen = with_mask(chosen, mask, z_range, fit_focus=recipe is None)
    chosen = changed(chosen, settings)
    for path, value in (("optics.na", na), ("optics.wavelength_nm", wavelength_nm)):
        chosen = chosen if value is None else chosen.replace(path, value)
    shown_z = mask_heights(chosen, z_range) if recipe is None or z_range is not None else None
    heights = z_nm if z_nm or focus_nm else shown_z
    view: Any = {"sample": sample, "seed": seed, "z_nm": heights, "focus_nm": focus_nm}
    numbers: dict[str, Any] = {}
    lines: list[str] = []
    if crlb:
        curve = show.recipe_bound_curve(
            chosen,
            photons=BOUND_PHOTONS if photons is None else photons,
            background_photons=BOUND_BACKGROUND if background is None else background,
            **view,
        )
        figure, numbers, lines = show.crlb_figure(curve), curve.to_dict(), curve.rows()
    else:
        figure = show.recipe_psf_figure(chosen, side_um=side_um, **view)
    written = show.save_figure(figure, target, force=force, inputs=inputs)
    answer({"out": str(written), **numbers}, [*lines, f"wrote {written}"], as_json)
