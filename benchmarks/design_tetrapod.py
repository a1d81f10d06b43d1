"""Design of the Tetrapod mask: Zernike modes that minimise the localisation bound over a range.

After Shechtman et al., Phys. Rev. Lett. 113, 133902 (2014): the phase is a sum of Zernike modes and
the cost is the mean over the axial range of the Cramér-Rao bounds for x, y and z, for a signal and
background typical of single molecules. Here only modes that change sign under a quarter turn are
used, which makes the image below focus the quarter-turned image above. The optics are the ones of
the packaged recipe `smlm-3d-tetrapod`, with the nominal focus at 3/8 of the range as there.

    python benchmarks/design_tetrapod.py --z-range 4000

prints the coefficients [rad RMS] that `simscope/optics/masks.py` keeps; with `--saddle-point` those
of first and second astigmatism alone. Add `--mask file.mat
--na-per-pixel 0.03` to see the bound of a mask from a file in the same situation.
"""

from __future__ import annotations

import argparse

import numpy as np
import scipy.optimize

from simscope.optics import PupilModel, nm_to_osa
from simscope.optics.masks import SADDLE_POINT_MODES, TETRAPOD_MODES
from simscope.recipe import FileMask, Optics, TetrapodMask

PHOTONS, BACKGROUND = 3500.0, 50.0
"""Signal photons and background photons per pixel of 160 nm in Shechtman 2014."""

PIXEL_NM, WINDOW_PX = 160.0, 29
STEP_NM = 10.0
OPTICS = Optics(na=1.45, wavelength_nm=670, n_coverslip=1.518, n_sample=1.33, accuracy=1e-3)
MODES = {
    "tetrapod": tuple(nm_to_osa(n, m) for n, m in TETRAPOD_MODES),
    "saddle_point": tuple(nm_to_osa(n, m) for n, m in SADDLE_POINT_MODES),
}


def bounds_nm(model: PupilModel, z_nm: np.ndarray, focus_nm: float, wavefront_nm: dict) -> tuple:
    """Cramér-Rao bounds (x, y, z) [nm] at each height for Poisson noise, (3, heights)."""

    def image(dx: float, dy: float, dz: float) -> np.ndarray:
        return model.images(z_nm + dz, focus_nm, dx, dy, wavefront_nm=wavefront_nm)

    shifts = np.eye(3) * STEP_NM
    slopes = [PHOTONS * (image(*s) - image(*-s)) / (2 * STEP_NM) for s in shifts]
    mean = PHOTONS * image(0, 0, 0)
    slopes += [mean / PHOTONS, np.ones_like(mean)]
    fisher = np.einsum("izyx,jzyx,zyx->zij", slopes, slopes, 1 / (mean + BACKGROUND))
    return np.sqrt(np.diagonal(np.linalg.inv(fisher), axis1=1, axis2=2).T[:3])


def model_for(
    optics: Optics, z_range_nm: float, strongest_rad: float, modes: tuple[int, ...]
) -> PupilModel:
    """Pupil model for the design range, with room for wavefronts up to ``strongest_rad`` RMS."""
    limit_nm = strongest_rad * optics.wavelength_nm / (2 * np.pi) / np.sqrt(len(modes))
    return PupilModel(
        optics,
        shape=(WINDOW_PX, WINDOW_PX),
        pixel_nm=PIXEL_NM,
        z_nm=(0.0, z_range_nm + 2 * STEP_NM),
        focus_nm=(0.0, z_range_nm),
        reach_nm=STEP_NM,
        wavefront_limit_nm=dict.fromkeys(modes, limit_nm),
    )


def mean_bound_nm(
    coefficients_rad: np.ndarray, model: PupilModel, z_nm: np.ndarray, focus_nm: float
) -> float:
    """Mean over x, y, z and the range of the bound [nm] of Zernike coefficients [rad RMS]."""
    scale = model.objective.wavelength_nm / (2 * np.pi)
    wavefront = dict(zip(model.modes, scale * coefficients_rad, strict=True))
    return float(bounds_nm(model, z_nm, focus_nm, wavefront).mean())


def design(
    z_range_nm: float, focus_nm: float, heights: int, modes: tuple[int, ...]
) -> tuple[np.ndarray, float]:
    """Coefficients [rad RMS] and mean bound [nm] of the best mask found from several starts."""
    z_nm = np.linspace(STEP_NM, z_range_nm, heights)
    share = z_range_nm / 4000.0
    strongest = 8.0 * max(1.0, share)
    model = model_for(OPTICS, z_range_nm, strongest, modes)
    found = []
    for first, second in ((2.0, 2.5), (-2.0, 2.5), (2.5, 0.0)):
        start = np.zeros(len(modes))
        start[:2] = first * share, second * share
        found.append(
            scipy.optimize.minimize(
                mean_bound_nm,
                start,
                (model, z_nm, focus_nm),
                "L-BFGS-B",
                bounds=[(-strongest / np.sqrt(len(modes)), strongest / np.sqrt(len(modes)))]
                * len(modes),
                options={"eps": 0.02, "maxiter": 30},
            )
        )
        print(f"from {start[:2]}: {found[-1].fun:.2f} nm, {np.round(found[-1].x, 3)}")
    best = min(found, key=lambda result: result.fun)
    return best.x, float(best.fun)


def judge(optics: Optics, z_range_nm: float, focus_nm: float) -> float:
    """Mean bound [nm] of the optics' own mask over the range."""
    z_nm = np.linspace(STEP_NM, z_range_nm, 13)
    model = model_for(optics, z_range_nm, 0.0, MODES["tetrapod"])
    return float(bounds_nm(model, z_nm, focus_nm, {}).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--z-range", type=float, default=4000.0)
    parser.add_argument("--heights", type=int, default=9)
    parser.add_argument(
        "--focus", type=float, help="nominal focus [nm]; 3/8 of the range if absent"
    )
    parser.add_argument("--judge", action="store_true", help="judge the mask in masks.py")
    parser.add_argument("--saddle-point", action="store_true", help="two modes alone")
    parser.add_argument("--mask", help="mask file to judge")
    parser.add_argument("--na-per-pixel", type=float, default=0.03)
    given = parser.parse_args()
    focus_nm = 0.375 * given.z_range if given.focus is None else given.focus
    if given.mask or given.judge:
        mask = TetrapodMask(z_range_nm=given.z_range)
        if given.mask:
            mask = FileMask(path=given.mask, na_per_pixel=given.na_per_pixel)
        optics = OPTICS.model_copy(update={"mask": mask})
        bound = judge(optics, given.z_range, focus_nm)
        print(f"mean bound {bound:.2f} nm over {given.z_range:g} nm at focus {focus_nm:g} nm")
        return
    modes = MODES["saddle_point" if given.saddle_point else "tetrapod"]
    coefficients, bound = design(given.z_range, focus_nm, given.heights, modes)
    print(f"z range {given.z_range:g} nm, focus {focus_nm:g} nm: mean bound {bound:.2f} nm")
    print("coefficients [rad RMS]:", ", ".join(f"{c:.3f}" for c in coefficients))


if __name__ == "__main__":
    main()
