"""Light sheets: widefield images, dimmed by the sheet at the emitter's height.

The sheet is a Gaussian beam focused by a cylindrical lens: at distance x from its waist its half
thickness (1/e^2) is w(x) = w0 sqrt(1 + (x/xR)^2) with xR = pi w0^2 n / wavelength, and its
intensity, of the same total power, I = (w0 / w(x)) exp(-2 dz^2 / w(x)^2): 1 in the middle of the
waist. A numerical aperture NA makes w0 = wavelength / (pi NA). The sheet's middle lies in the
paraxial focal plane of the detection, focus_nm n_sample / n_immersion, plus ``height_nm``.

Fails for sheets with NA above about 0.4 (paraxial beam), and leaves out shadows and scattering.
Source: Siegman, Lasers (1986), sec. 17.1; Huisken et al., Science 305, 1007 (2004).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simscope.optics.interfaces import objective_of
from simscope.optics.modalities.jets import along_z, times

FloatArray = NDArray[np.float64]


class SheetModel:
    """Images of molecules lit by a light sheet; ``detection`` is their widefield model."""

    def __init__(self, optics: Any, detection: Any) -> None:
        self._detection = detection
        objective = objective_of(optics)
        self._focal_plane_per_focus = objective.n_sample / objective.n_immersion
        self.height_nm = float(optics.modality.height_nm)
        self.thickness_nm, self.peak = sheet_at(optics.modality, objective.n_sample)

    def images(
        self,
        z_nm: ArrayLike = 0.0,
        focus_nm: ArrayLike = 0.0,
        x_nm: ArrayLike = 0.0,
        y_nm: ArrayLike = 0.0,
    ) -> FloatArray:
        """Probability per pixel of molecules, float64 (n, y, x), 1 in all in mid-sheet."""
        images = self._detection.images(z_nm, focus_nm, x_nm, y_nm)
        light = np.broadcast_to(self.energies(z_nm, focus_nm), images.shape[0])
        return np.asarray(light[:, None, None] * images)

    def energies(self, z_nm: ArrayLike = 0.0, focus_nm: ArrayLike = 0.0) -> FloatArray:
        """Sums of the images over an infinite camera [1], (n,): the sheet's relative intensity."""
        off_nm = self._off_sheet_nm(z_nm, focus_nm)
        return self.peak * np.exp(-2.0 * (off_nm / self.thickness_nm) ** 2)

    def slopes(
        self,
        z_nm: ArrayLike = 0.0,
        focus_nm: ArrayLike = 0.0,
        x_nm: ArrayLike = 0.0,
        y_nm: ArrayLike = 0.0,
    ) -> FloatArray:
        """Images and their derivatives by x, y, z [1/nm], float64 (n, 4, y, x)."""
        seen = self._detection.slopes(z_nm, focus_nm, x_nm, y_nm)
        light, off_nm = np.broadcast_arrays(
            self.energies(z_nm, focus_nm), self._off_sheet_nm(z_nm, focus_nm)
        )
        slope = -4.0 * off_nm / self.thickness_nm**2 * light
        return times(along_z(light, slope, seen), seen)

    def basis_images(
        self,
        z_nm: ArrayLike = 0.0,
        focus_nm: ArrayLike = 0.0,
        x_nm: ArrayLike = 0.0,
        y_nm: ArrayLike = 0.0,
        **options: Any,
    ) -> FloatArray:
        """Six images of oriented dipoles, every orientation excited alike, (n, 6, y, x)."""
        basis = self._detection.basis_images(z_nm, focus_nm, x_nm, y_nm, **options)
        light = np.broadcast_to(self.energies(z_nm, focus_nm), basis.shape[0])
        return np.asarray(light[:, None, None, None] * basis)

    def basis_energies(self, z_nm: ArrayLike, **options: Any) -> FloatArray:
        """Sums of the six images over an infinite camera in mid-sheet, (n, 6)."""
        return np.asarray(self._detection.basis_energies(z_nm, **options))

    def _off_sheet_nm(self, z_nm: ArrayLike, focus_nm: ArrayLike) -> FloatArray:
        """Height above the sheet's middle [nm], (n,)."""
        z, focus = (np.atleast_1d(np.asarray(a, dtype=np.float64)) for a in (z_nm, focus_nm))
        return np.asarray(z - focus * self._focal_plane_per_focus - self.height_nm)


def sheet_at(modality: Any, n_sample: float) -> tuple[float, float]:
    """Half thickness [nm] and relative intensity [1] of the sheet at its offset from the waist."""
    wavelength_nm = float(modality.excitation_wavelength_nm)
    waist_nm = modality.waist_nm or wavelength_nm / (math.pi * modality.sheet_na)
    rayleigh_nm = math.pi * waist_nm**2 * n_sample / wavelength_nm
    wider = math.sqrt(1.0 + (modality.offset_nm / rayleigh_nm) ** 2)
    return waist_nm * wider, 1.0 / wider
