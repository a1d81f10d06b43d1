"""A published stack of another simulator, localised by a network trained on simscope's data alone.

    python benchmarks/published_stack.py ../shared/data/deepstorm --out runs/published

Needs ``artificial_stack.tif`` and ``artificial_positions.csv`` of github.com/EliasNehme/Deep-STORM
(20 frames made with ThunderSTORM, 6 molecules per square micrometre). What the recipe states was
read off the stack, gain and base by ``simscope.camera.photon_transfer(frames, spots=True)``:
ThunderSTORM samples its Gaussian at pixel centres, so spots of 106 to 115 nm act like 102 to 111 nm
averaged over pixels; 2 counts a photon over a base of 100, variance twice that of shot noise, as
from an EM register; background of 20 photons. The positions are read to score, never to train.
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
from simscope.evaluate.baseline import local_maxima

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


def best_baseline(frames: npt.NDArray[Any], truth: Any) -> dict[str, float]:
    """Figures of local maxima and centroids, by the settings with the highest Jaccard index.

    They are chosen on the truth itself, to the baseline's favour; a network's never are.
    """
    known = recipe()
    camera, background = known.camera, known.background.photons_per_pixel
    photons = ss.camera.adu_to_photons(frames, camera)
    noise = np.sqrt(2 * background)  # an EM register doubles the variance
    found = (
        local_maxima(
            photons, known.pixel_nm, threshold=threshold, smoothing_px=smoothing_px,
            window_px=window_px, background_photons=background, noise_photons=noise,
        )
        for threshold in (3, 6, 10, 15, 20, 30)
        for smoothing_px in (0.0, 0.5, 1.0)
        for window_px in (3, 5)
    )  # fmt: skip
    scores = [ss.evaluate.score(table, truth, RADIUS_NM) for table in found]
    return figures(max(scores, key=lambda score: score.jaccard))


def figures(score: Any) -> dict[str, float]:
    """What is told of a score."""
    names = ("jaccard", "precision", "recall", "rmse_lateral_nm")
    return {name: round(getattr(score, name), 4) for name in names}


def main() -> None:
    """Train, localise, score, and print what was reached."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help=f"folder of {STACK} and {POSITIONS}")
    parser.add_argument("--out", type=Path, default=Path("runs/published"))
    parser.add_argument("--network", default="deepstorm-slim")
    parser.add_argument("--config", default="{}", help="fields of the network's config, as JSON")
    parser.add_argument("--cpu-minutes", type=float, default=3.0)
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
    result = figures(ss.evaluate.score(ss.learn.localize(model, frames), truth, RADIUS_NM))
    baseline = best_baseline(frames, truth)
    print(json.dumps({
        "network": chosen.network, "parameters": model.parameters,
        "cpu_minutes": model.record["cpu_seconds"] / 60, "found": result, "baseline": baseline,
        "jaccard_ratio": result["jaccard"] / baseline["jaccard"],
        "held_out": model.record["held_out"],
    }, indent=1))  # fmt: skip


if __name__ == "__main__":
    main()
