"""A published stack of another simulator, localised by a network trained on simscope's data alone.

    python benchmarks/published_stack.py ../shared/data/deepstorm --out runs/published

Needs ``artificial_stack.tif`` and ``artificial_positions.csv`` of github.com/EliasNehme/Deep-STORM
(20 frames made with ThunderSTORM, 6 molecules per square micrometre). What the recipe states was
read off the stack: ThunderSTORM samples its Gaussian at pixel centres, so spots of 106 to 115 nm
act like 102 to 111 nm averaged over pixels; 2 counts a photon over a base of 100, variance twice
that of shot noise, as from an EM register; background of 20 photons. The positions are read to
score, never to train.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import simscope as ss

STACK, POSITIONS = "artificial_stack.tif", "artificial_positions.csv"
RADIUS_NM = 250.0
RECIPE: dict[str, Any] = {
    "name": "published-stack",
    "optics": {
        "model": "gaussian",
        "na": 1.3,
        "wavelength_nm": 660,
        "n_sample": 1.33,
        "magnification": 160,
        "gaussian": {"sigma_nm": 106.5},
    },
    "camera": {
        "kind": "emccd",
        "pixel_pitch_um": 16,
        "qe": 1.0,
        "em_gain": 100,
        "e_per_adu": 50,
        "baseline_adu": 100,
        "read_noise_e": 0,
        "clock_induced_charge_e": 0,
    },
    "acquisition": {"shape": [64, 64]},
    "structure": {"kind": "uniform", "density_per_um2": {"uniform": [2, 9]}, "z_nm": 0},
    "photophysics": {"kind": "snapshot", "photons": {"uniform": [1800, 2700]}},
    "background": {"photons_per_pixel": 20},
}


def recipe() -> ss.Recipe:
    """The experiment that the published stack shows, of densities on both sides of its own."""
    return ss.Recipe.from_dict(RECIPE)


def maxima_and_centroids(
    frames: npt.NDArray[Any], pixel_nm: float, level_adu: float, reach_px: int = 2
) -> dict[str, npt.NDArray[np.float64]]:
    """Columns frame, x_nm, y_nm of local maxima above ``level_adu``, moved to centroids around."""
    from scipy.ndimage import maximum_filter

    light = frames - np.percentile(frames, 1)
    peak = (light == maximum_filter(light, (0, 3, 3))) & (frames > level_adu)
    frame, row, column = np.nonzero(peak)
    offsets = np.arange(-reach_px, reach_px + 1)
    padded = np.pad(np.maximum(light, 0), ((0, 0), (reach_px, reach_px), (reach_px, reach_px)))
    near = padded[
        frame[:, None, None],
        (row[:, None] + reach_px + offsets)[:, :, None],
        (column[:, None] + reach_px + offsets)[:, None, :],
    ]
    total = near.sum(axis=(1, 2))
    x = column + 0.5 + (near * offsets).sum(axis=(1, 2)) / total
    y = row + 0.5 + (near * offsets[:, None]).sum(axis=(1, 2)) / total
    return {"frame": frame.astype(float), "x_nm": x * pixel_nm, "y_nm": y * pixel_nm}


def best_baseline(frames: npt.NDArray[Any], truth: Any, pixel_nm: float) -> float:
    """Highest Jaccard index over levels and reaches, chosen on the truth to its own favour."""
    return max(
        ss.evaluate.score(
            maxima_and_centroids(frames, pixel_nm, level, reach), truth, RADIUS_NM
        ).jaccard
        for level in np.percentile(frames, np.arange(10, 100, 10))
        for reach in (1, 2)
    )


def main() -> None:
    """Train, localise, score, and print what was reached."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help=f"folder of {STACK} and {POSITIONS}")
    parser.add_argument("--out", type=Path, default=Path("runs/published"))
    parser.add_argument("--network", default="deepstorm-slim")
    parser.add_argument("--config", default="{}", help="fields of the network's config, as JSON")
    parser.add_argument("--cpu-minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    missing = [name for name in (STACK, POSITIONS) if not (chosen.folder / name).is_file()]
    if missing:
        sys.exit(f"skipped: {chosen.folder} lacks {', '.join(missing)}")
    import tifffile

    frames = tifffile.imread(chosen.folder / STACK)
    truth = ss.dataset.read_localizations(chosen.folder / POSITIONS)
    model = ss.learn.train(
        chosen.network, recipe(), out=chosen.out, seed=chosen.seed, force=True, threads=1,
        config=json.loads(chosen.config), cpu_minutes=chosen.cpu_minutes,
    )  # fmt: skip
    result = ss.evaluate.score(ss.learn.localize(model, frames), truth, RADIUS_NM)
    baseline = best_baseline(frames, truth, model.recipe.pixel_nm)
    print(json.dumps({
        "jaccard": result.jaccard, "precision": result.precision, "recall": result.recall,
        "rmse_lateral_nm": result.rmse_lateral_nm, "baseline_jaccard": baseline,
        "ratio": result.jaccard / baseline, "cpu_minutes": model.record["cpu_seconds"] / 60,
        "parameters": model.parameters, "held_out": model.record["held_out"],
    }, indent=1))  # fmt: skip


if __name__ == "__main__":
    main()
