"""Speed of maximum-likelihood fits: the batched kernel against NumPy and SciPy, one at a time.

    python benchmarks/bench_fit.py

Isolated emitters of 2,000 photons, fitted from positions half a pixel off with boxes of 13 px:
in two dimensions, and through a cylindrical lens with heights unknown. The plain version is
``scipy.optimize.least_squares`` (MINPACK's Levenberg-Marquardt) of the counts over the roots of
their expected variance at the start, with images and analytic slopes of the same table by NumPy;
it begins at the height that ours would choose. No limit is stated: images and sums over pixels
take about equal shares.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares
from timing import Row, interleaved

from simscope import Simulator, load_recipe
from simscope.evaluate import fit
from simscope.evaluate.fitting import Chip, spline_table

EMITTERS, PLAIN = 2000, 20
BOX, SIDE = 13, 31
PHOTONS = 2000.0
HEIGHTS = {"smlm-2d-dense": 0.0, "smlm-3d-astigmatism": {"uniform": [0, 800]}}
Values = npt.NDArray[Any]


def emitters_of(name: str) -> tuple[Simulator, Values, Values]:
    """Simulator, images [ADU] and emitters, one near the middle of each frame."""
    recipe = load_recipe(name)
    for path, value in {
        "acquisition.shape": [SIDE, SIDE],
        "structure": {"kind": "bead", "x_nm": {"uniform": [-50, 50]}, "z_nm": HEIGHTS[name]},
        "photophysics.photons": PHOTONS,
        "background.photons_per_pixel": 10.0,
    }.items():
        recipe = recipe.replace(path, value)
    simulator = Simulator(recipe, 1)
    batch = simulator.batch(0, EMITTERS)
    return simulator, batch.images, batch.emitters


def plain(simulator: Simulator, images: Values, starts: Values) -> Values:
    """Places [nm] of the emitters, (n, 3), by SciPy."""
    table, chip = spline_table(simulator), Chip.of(simulator.resolved, simulator.maps)
    flat = table.z0_nm == table.z_max_nm
    found = np.empty((len(images), 3))
    for e, image in enumerate(images):
        x0, y0, z0 = starts[e]
        corner = [int(v / table.pixel_nm) - BOX // 2 for v in (y0, x0)]
        box = slice(corner[0], corner[0] + BOX), slice(corner[1], corner[1] + BOX)
        counts, rest = chip.counts(image)[box], chip.rest[box]
        root = np.sqrt(np.maximum(counts, 1.0))

        def model(p: Values, corner: Any = corner) -> list[Values]:
            z = np.clip(p[2] * 100, table.z0_nm, table.z_max_nm)
            images = table.derivatives(p[0] * 100, p[1] * 100, z, BOX + 4)
            shift = [
                int(v * 100 // table.pixel_nm) - (BOX + 4) // 2 - c
                for v, c in zip((p[1], p[0]), corner, strict=True)
            ]
            cut = tuple(slice(-s, BOX - s) for s in shift)
            return [part[0][cut] for part in images]

        def off(p: Values, counts: Any = counts, rest: Any = rest, root: Any = root) -> Values:
            mean = chip.gain * (p[3] * 1000 * model(p)[0] + p[4]) + rest
            return np.asarray(((counts - mean) / root).ravel())

        def slopes(p: Values, root: Any = root) -> Values:
            psf, dx, dy, dz = model(p)
            columns = [1e5 * p[3] * d for d in (dx, dy, 0 * dz if flat else dz)]
            columns += [1000 * psf, np.ones_like(psf)]
            return np.stack([-chip.gain * (c / root).ravel() for c in columns], axis=1)

        start = np.array([x0 / 100, y0 / 100, z0 / 100, PHOTONS / 1000, 10.0])
        found[e] = 100 * least_squares(off, start, slopes, method="trf", xtol=1e-4).x[:3]
    return found


def rows(threads: int) -> list[Row]:
    """Fits on so many threads against SciPy on one."""
    made = []
    for name, label in (
        ("smlm-2d-dense", "fit of x, y"),
        ("smlm-3d-astigmatism", "fit of x, y, z"),
    ):
        simulator, images, emitters = emitters_of(name)
        places = np.stack([emitters[n] for n in ("x_nm", "y_nm", "z_nm")], axis=1).astype(float)
        starts = places + np.array([40.0, -30.0, 0.0])
        near = {"frame": np.arange(EMITTERS), "x_nm": starts[:, 0], "y_nm": starts[:, 1]}
        work = {
            "ours": lambda a=(images, simulator, near): fit(*a, box_px=BOX, threads=threads),
            "theirs": lambda a=(simulator, images[:PLAIN], starts[:PLAIN]): plain(*a),
        }
        ours, theirs = work["ours"](), work["theirs"]()
        # the same work: least squares and likelihood agree to a fraction of the uncertainty
        off = np.abs(theirs[:, 0] - ours["x_nm"][:PLAIN]) / ours["uncertainty_x_nm"][:PLAIN]
        assert np.median(off) < 0.5, np.median(off)
        times = interleaved(work, rounds=5)
        made.append(
            Row(
                f"{label}, {BOX}x{BOX} px", threads, "fit", EMITTERS, times["ours"],
                "SciPy least squares, NumPy images, 1 thread", PLAIN, times["theirs"],
            )
        )  # fmt: skip
    return made


if __name__ == "__main__":
    print(Row.HEADER)
    for count in sorted({1, int(numba.config.NUMBA_NUM_THREADS)}):
        for row in rows(count):
            print(row, flush=True)
