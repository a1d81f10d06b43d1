"""A simulated twin of a real microscope: the walk of docs/real-microscope.md, as a script.

    python docs/real_microscope.py FOLDER real-microscope.png

Takes real Tetrapod frames and the published mask, reads gain, noise and background off the frames,
builds the recipe, matches density and brightness to the histogram, and draws real beside simulated.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.ndimage
import tifffile

import simscope as ss
from simscope.camera import PhotonTransfer, photon_transfer

DENSITIES = (0.04, 0.06, 0.08, 0.1, 0.12, 0.14)
BRIGHTNESS = (0.2, 0.3, 0.4, 0.5)
BINS_ADU = np.arange(0, 260, 5)
MASK = "mask_tetrapod_printed.mat"


@dataclass(frozen=True)
class Twin:
    """Real frames, what was read off them, the recipe, and one simulated frame [ADU]."""

    real_adu: np.ndarray
    transfer: PhotonTransfer
    recipe: ss.Recipe
    simulated_adu: np.ndarray
    overlap: float
    gap_adu: float


def read_frames(folder: Path) -> np.ndarray:
    """Real frames [ADU], shape ``(frames, y, x)``."""
    return np.stack([tifffile.imread(path) for path in sorted(folder.glob("tetrapod_frame_*.tif"))])


def background_adu(frames: np.ndarray) -> np.ndarray:
    """Slowly varying light behind the molecules [ADU]: dimmest of the blurred frames, blurred."""
    dimmest = scipy.ndimage.gaussian_filter(frames.astype(float), (0, 3, 3)).min(axis=0)
    return scipy.ndimage.gaussian_filter(dimmest, 10)


def published_recipe(folder: Path, frames: np.ndarray, transfer: PhotonTransfer) -> ss.Recipe:
    """The published instrument with the camera and background read off the frames."""
    level = background_adu(frames)
    changes = {
        "name": "real-microscope",
        "optics.mask": {"kind": "file", "path": str(folder / MASK), "na_per_pixel": 0.03},
        "camera": {
            "kind": "ccd",
            "pixel_pitch_um": 11,
            "qe": 1.0,
            "e_per_adu": transfer.e_per_adu,
            "baseline_adu": 0.0,
            "read_noise_e": transfer.read_noise_e(baseline_adu=0.0),
        },
        "acquisition.shape": list(frames.shape[1:]),
        "background": {
            "kind": "smooth",
            "photons_per_pixel": float(level.mean() * transfer.e_per_adu),
            "contrast": float(np.log(level).std()),
            "scale_um": 6.0,
        },
        "rendering.accept_energy_loss": True,
    }
    recipe = ss.load_recipe("smlm-3d-tetrapod")
    for path, value in changes.items():
        recipe = recipe.replace(path, value)
    return recipe


def histogram_overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Shared area of two normalised histograms, 0 to 1."""
    shares = [np.histogram(np.minimum(x, 259), BINS_ADU)[0] / x.size for x in (a, b)]
    return float(np.minimum(*shares).sum())


def quantile_gap_adu(a: np.ndarray, b: np.ndarray) -> float:
    """Mean distance [ADU] of quantiles from the darkest to the brightest tenth of a percent."""
    shares = [0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999]
    return float(np.abs(np.quantile(a, shares) - np.quantile(b, shares)).mean())


def twin(folder: Path, *, densities=DENSITIES, brightness=BRIGHTNESS, seed=3) -> Twin:
    """The simulated frame whose quantiles come closest over a few densities and brightnesses."""
    frames = read_frames(folder)
    transfer = photon_transfer(frames)
    base = published_recipe(folder, frames, transfer)
    best: Twin | None = None
    for density in densities:
        for scale in brightness:
            recipe = base.replace("structure.density_per_um2", density)
            recipe = recipe.replace("photophysics.photons", {"gamma": [3, 3000 * scale]})
            image = ss.Simulator(recipe, seed)[0].image
            gap = quantile_gap_adu(frames, image)
            if best is None or gap < best.gap_adu:
                overlap = histogram_overlap(frames, image)
                best = Twin(frames, transfer, recipe, image, overlap, gap)
    assert best is not None
    return best


def draw(result: Twin, out: Path) -> None:
    """Real frame, simulated frame and their histograms, as one PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7.2), layout="constrained")
    grid = figure.subplot_mosaic([["real", "twin"], ["hist", "transfer"]], height_ratios=(3, 2))
    pairs = (
        ("real", result.real_adu[0], "real frame"),
        ("twin", result.simulated_adu, "simulated"),
    )
    for name, image, title in pairs:
        shown = grid[name].imshow(image, cmap="gray", vmin=20, vmax=150, interpolation="nearest")
        grid[name].set(title=title, xticks=[], yticks=[])
        grid[name].plot([20, 20 + 5000 / 110], [318, 318], color="white", lw=3)
        grid[name].text(20, 308, "5 µm", color="white")
    figure.colorbar(shown, ax=[grid["real"], grid["twin"]], label="ADU", shrink=0.8)
    for values, label in ((result.real_adu, "real, 8 frames"), (result.simulated_adu, "simulated")):
        grid["hist"].hist(values.ravel(), BINS_ADU, density=True, histtype="step", label=label)
    grid["hist"].set(xlabel="ADU", ylabel="share per ADU", yscale="log", ylim=(1e-6, 0.1))
    grid["hist"].set_title(f"histograms share {result.overlap:.0%} of their area")
    grid["hist"].legend()
    transfer = result.transfer
    line = transfer.variance_at_zero_adu2 + transfer.mean_adu / transfer.e_per_adu
    grid["transfer"].plot(transfer.mean_adu, transfer.variance_adu2, "o", label="2x2 blocks")
    grid["transfer"].plot(transfer.mean_adu, line, "-", label=f"{transfer.e_per_adu:.2f} e/ADU")
    grid["transfer"].set(xlabel="mean [ADU]", ylabel="variance [ADU²]", title="photon transfer")
    grid["transfer"].legend()
    figure.savefig(out, dpi=110)


def main() -> None:
    """Run the walk on the folder and write the picture given on the command line."""
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    result = twin(folder)
    draw(result, out)
    print(result.recipe.to_yaml())
    print(f"histogram overlap {result.overlap:.3f}, quantiles within {result.gap_adu:.2f} ADU on")
    print(f"average; picture in {out}")


if __name__ == "__main__":
    main()
