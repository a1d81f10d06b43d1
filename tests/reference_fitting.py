"""Slow twin of the fits: one emitter at a time, SciPy's optimiser, the camera written out.

The likelihood of Huang et al. 2013 (Nat. Methods 10:653, eq. 2 of its supplement): electrons plus
the variance of their read noise are Poisson; halves of both behind a register that doubles the
shot noise.
"""

import numpy as np
from scipy.optimize import minimize

WINDOW_PX = 17  # around the emitter; wider than the box by far more than the fit moves


def expected_photons(table, x_nm, y_nm, z_nm, photons, background, shape):
    """Expected photons per pixel, (y, x), from the table's derivatives in NumPy."""
    image = np.full(shape, float(background))
    window = table.derivatives(x_nm, y_nm, z_nm, WINDOW_PX)[0][0]
    rows, columns = (
        np.arange(WINDOW_PX) + int(place // table.pixel_nm) - WINDOW_PX // 2
        for place in (y_nm, x_nm)
    )
    on = [(k >= 0) & (k < side) for k, side in zip((rows, columns), shape, strict=True)]
    image[np.ix_(rows[on[0]], columns[on[1]])] += photons * window[np.ix_(*on)]
    return image


def poisson_like(adu, camera, maps, exposure_s):
    """Counts with variance equal to their mean; their mean without light; counts per photon."""
    excess = 2.0 if camera.kind == "emccd" else 1.0
    em_gain = camera.em_gain if excess == 2.0 else 1.0
    dark = camera.dark_e_per_s * exposure_s
    dark += camera.clock_induced_charge_e if excess == 2.0 else 0.0
    electrons = (adu - camera.baseline_adu - maps.offset_adu) * camera.e_per_adu
    electrons = electrons / (maps.gain * em_gain)
    read_e2 = (camera.read_noise_e * maps.read_noise / em_gain) ** 2
    counts = (electrons + read_e2 / excess) / excess
    return counts, (dark + read_e2 / excess) / excess, camera.qe / excess


def fit_one(table, counts, rest, gain, box, start):
    """Likeliest (x, y, z, photons, background) and its log-likelihood, less a perfect model's.

    ``box``: first row, row after the last, first column, column after the last.
    """
    inside = slice(box[0], box[1]), slice(box[2], box[3])
    seen = counts[inside]

    def unlikelihood(scaled):
        x, y, z, photons, background = scaled * scale
        z = float(np.clip(z, table.z0_nm, table.z_max_nm))
        light = expected_photons(table, x, y, z, photons, background, counts.shape)
        mean = np.maximum(gain * light + rest, 1e-3)[inside]
        return float(np.sum(mean - seen - seen * np.log(mean / np.maximum(seen, 1e-300))))

    scale = np.array([10.0, 10.0, 20.0, max(start[3], 1.0) / 20, max(start[4], 0.1) / 20])
    found = minimize(
        unlikelihood, np.asarray(start) / scale, method="Nelder-Mead",
        options={"xatol": 1e-4, "fatol": 1e-7, "maxiter": 4000, "maxfev": 4000, "adaptive": True},
    )  # fmt: skip
    return found.x * scale, -found.fun
