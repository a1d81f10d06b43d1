"""The command that designs phase masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simscope.cli.frame import (
    AllowFiles,
    Force,
    Json,
    RecipeName,
    Seed,
    Settings,
    aligned,
    answer,
    command,
    load,
    progress_bar,
    rounded,
)
from simscope.errors import DatasetError, RecipeError

if TYPE_CHECKING:
    from simscope.learn.design_plan import DesignPlan
    from simscope.recipe import ArrayMask, Recipe

RECORD, MASK, RECIPE, PICTURE = "design.json", "mask.npy", "recipe.yaml", "design.png"


@command(
    examples="""
    simscope design-mask smlm-3d-tetrapod --out runs/mask
    simscope design-mask smlm-3d-tetrapod --z-range 0 3000 --photons 2000 --out runs/mask3
    simscope design-mask smlm-3d-tetrapod --basis pixels --pixels 64 --out runs/pixels
    simscope design-mask smlm-3d-tetrapod --joint deepstorm3d --density 0.1 --out runs/joint
"""
)
def design_mask(
    recipe: RecipeName,
    out: Annotated[Path, typer.Option(help="Folder for mask, recipe, record and picture.")],
    z_range: Annotated[
        tuple[float, float] | None, typer.Option(help="Heights to serve [nm]; the recipe's.")
    ] = None,
    photons: Annotated[float | None, typer.Option(help="Photons of a molecule; 3500.")] = None,
    background: Annotated[
        float | None, typer.Option(help="Background photons per pixel; 20.")
    ] = None,
    basis: Annotated[str, typer.Option(help="zernike or pixels.")] = "zernike",
    order: Annotated[int | None, typer.Option(help="Highest radial order of modes; 8.")] = None,
    pixels: Annotated[int | None, typer.Option(help="Pixels across the pupil; 96.")] = None,
    starts: Annotated[int | None, typer.Option(help="Random starts; 4.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps from each start.")] = None,
    joint: Annotated[
        str | None,
        typer.Option(help="Network to learn together with: deepstorm3d or deepstorm-slim."),
    ] = None,
    density: Annotated[
        float | None, typer.Option(help="With --joint: molecules per square um.")
    ] = None,
    seed: Seed = 0,
    threads: Annotated[int | None, typer.Option(help="Threads of PyTorch.")] = None,
    settings: Settings = None,
    allow_files: AllowFiles = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Design a phase mask: the lowest Cramér-Rao bound over a range of heights, from nothing.

    Writes mask.npy, recipe.yaml with the mask in it, design.json and design.png. With --joint the
    mask is learned together with a network that finds the molecules.
    """
    from simscope.learn.design_plan import DesignPlan
    from simscope.learn.mask_design import height_range
    from simscope.show import design_figure  # noqa: F401 (before the work, if it is missing)

    chosen = load(recipe, settings, allow_files=allow_files)
    require_room(out, force)
    given = {
        "photons": photons, "background_photons": background, "order": order, "pixels": pixels,
        "starts": starts, "steps": steps, "z_nm": z_range or height_range(chosen),
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    plan = DesignPlan(basis=basis, seed=seed, **given)
    if joint is None:
        if density is not None:
            raise RecipeError(f"--density {density:g} goes with --joint: add it, or leave this out")
        _by_bound(chosen, plan, out, threads, as_json)
    else:
        _jointly(_populated(chosen, plan, density), plan, joint, out, threads, force, as_json)


def require_room(out: Path, force: bool) -> None:
    """Refuse a folder that holds a design already."""
    if (out / RECORD).exists() and not force:
        raise DatasetError(f"{out} holds a design already: choose another folder, or add --force")
    if out.exists() and not out.is_dir():
        raise DatasetError(f"{out} is a file: choose another name for the folder")


def _by_bound(
    recipe: Recipe, plan: DesignPlan, out: Path, threads: int | None, as_json: bool
) -> None:
    from simscope.learn.mask_design import design_mask as design
    from simscope.learn.mask_design import mean_bound_nm

    with progress_bar("designing") as update:
        result = design(
            recipe, plan, threads=threads, update=lambda done, total, _: update(done, total)
        )
    record = result.record() | {"recipe": recipe.name}
    rows = [("mean bound", f"{rounded(result.bound_nm)} nm")]
    if recipe.optics.mask is not None:
        record["own_mask_mean_bound_nm"] = mean_bound_nm(recipe, plan)
        own = rounded(record["own_mask_mean_bound_nm"])
        rows.append((f"with the recipe's own {recipe.optics.mask.kind}", f"{own} nm"))
    rows.append(("starts", ", ".join(rounded(value) for value in result.starts)))
    write(out, recipe, result.mask, record, plan, result.curve, "mean bound [nm]")
    shown = {name: value for name, value in record.items() if name != "curve_nm"}
    answer({"out": str(out)} | shown, [f"wrote {out}", *aligned(rows)], as_json)


def _populated(recipe: Recipe, plan: DesignPlan, density: float | None) -> Recipe:
    """The recipe with molecules all over the range, so many per area if that is given."""
    changes: dict[str, Any] = {"structure.z_nm": {"uniform": list(plan.z_nm)}}
    if density is not None:
        changes["structure.density_per_um2"] = density
    return recipe.replace_all(changes)


def _jointly(
    recipe: Recipe, plan: DesignPlan, network: str, out: Path, threads: int | None, force: bool,
    as_json: bool,
) -> None:  # fmt: skip
    from simscope.learn.joint_design import design_jointly

    with progress_bar("learning mask and network") as update:
        result = design_jointly(
            recipe, network, plan, out=out, threads=threads, force=force,
            update=lambda done, total, _: update(done, total),
        )  # fmt: skip
    record = result.record() | {"recipe": recipe.name}
    write(out, recipe, result.mask, record, plan, result.curve, "loss")
    rows = [(name.replace("_", " "), rounded(value)) for name, value in result.held_out.items()]
    rows.append(("mean bound", f"{rounded(result.bound_nm)} nm"))
    shown = {name: value for name, value in record.items() if name != "curve"}
    answer({"out": str(out)} | shown, [f"wrote {out}", *aligned(rows)], as_json)


def write(
    out: Path, recipe: Recipe, mask: ArrayMask, record: dict[str, Any], plan: DesignPlan,
    curve: list[float], what: str,
) -> None:  # fmt: skip
    """Write mask, recipe, record and picture of a design into its folder."""
    import numpy as np

    from simscope.show import design_figure, recipe_bound_curve, save_figure

    masked = recipe.replace("optics.mask", mask.model_dump())
    bound, before = (
        recipe_bound_curve(
            one, z_nm=plan.z_nm, photons=plan.photons, background_photons=plan.background_photons
        )
        for one in (masked, recipe)
    )
    out.mkdir(parents=True, exist_ok=True)
    figure = design_figure(
        masked.optics, curve, bound, before if recipe.optics.mask is not None else None, what=what
    )
    np.save(out / MASK, np.array(mask.values))
    (out / RECIPE).write_text(masked.to_yaml(), "utf8")
    save_figure(figure, out / PICTURE, force=True)
    (out / RECORD).write_text(json.dumps(record, indent=1, allow_nan=False), "utf8")
