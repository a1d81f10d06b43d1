"""How bright molecules appear: excitation at their height, and the share of light collected.

Photons of the photophysics are those of a molecule at the coverslip (evanescent excitation), and
of a freely rotating one far from it (relative collection); the truth tells what arrives.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from simscope import optics as opticses
from simscope import sample as samples_of
from simscope.device import CPU, Device
from simscope.elementary import exp
from simscope.errors import OpticsError
from simscope.recipe import Distribution, EvanescentIllumination, Recipe
from simscope.recipe.draws import per_sample
from simscope.render import molecule_moments
from simscope.sample import Molecules

Floats = npt.NDArray[np.float64]


class Brightness:
    """Photons of each molecule relative to what its photophysics says.

    Raises OpticsError if the light is not totally reflected, or a molecule could sit where
    excitation or collection are not defined.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        low, high = samples_of.height_range_nm(recipe)
        self._evanescent = isinstance(recipe.illumination, EvanescentIllumination)
        if self._evanescent:
            self._check_evanescent(low)
        relative = recipe.optics.collection == "relative"
        self._collected = opticses.CollectedLight(recipe.optics, (low, high)) if relative else None
        self._passed = None
        if recipe.optics.analyser is not None and recipe.channels == 1:
            self._passed = PassedLight(recipe, (low, high))

    @property
    def host_parts(self) -> list[str]:
        """What the CPU computes for a GPU."""
        parts = {"collected light": self._collected, "light an analyser passes": self._passed}
        return [name for name, part in parts.items() if part is not None]

    def factors(
        self, molecules: Molecules, drawn: dict[str, Floats], samples: int, device: Device = CPU
    ) -> Any:
        """Relative photons of each molecule, (molecules,) on their device; None where all are 1."""
        if not self._evanescent and self._collected is None:
            return None
        out = device.xp.ones(molecules.size)
        if self._evanescent:
            depth_nm = device.put(self._depth_nm(drawn, samples))[molecules.sample]
            out *= exp(-molecules.z_nm.astype(np.float64) / depth_nm, device)
        if self._collected is not None:
            here = device.get_all(molecules)
            moment = molecule_moments(here)
            z = here.z_nm.astype(np.float64)
            free = opticses.FREE_MOMENTS
            out *= device.put(self._collected.relative(z, free if moment is None else moment))
        return out

    def passed(self, molecules: Molecules, device: Device = CPU) -> Any:
        """Share of each molecule's light that the analyser lets onto the camera; None if all.

        (molecules,) on their device.
        """
        if self._passed is None:
            return None
        here = device.get_all(molecules)
        moment = molecule_moments(here)
        free = np.array([opticses.FREE_MOMENTS])
        z = here.z_nm.astype(np.float64)
        return device.put(self._passed.share(z, free if moment is None else moment))

    def _depth_nm(self, drawn: dict[str, Floats], samples: int) -> Floats:
        """Depth of the excitation of each sample [nm], (samples,)."""
        light, optics = self.recipe.illumination, self.recipe.optics
        assert isinstance(light, EvanescentIllumination)
        if light.depth_nm is not None:
            return per_sample(self.recipe, drawn, "illumination.depth_nm", samples)
        assert light.excitation_wavelength_nm is not None
        return opticses.evanescent_depth_nm(
            per_sample(self.recipe, drawn, "illumination.angle_deg", samples),
            light.excitation_wavelength_nm,
            _plain(optics.n_immersion),
            _plain(optics.n_sample),
        )

    def _check_evanescent(self, lowest_nm: float) -> None:
        """Raise unless every angle that may be drawn is totally reflected above the coverslip."""
        light, optics = self.recipe.illumination, self.recipe.optics
        assert isinstance(light, EvanescentIllumination)
        if optics.modality.kind != "widefield":
            raise OpticsError(
                f"illumination evanescent and modality {optics.modality.kind} both say how "
                "molecules are excited: use modality widefield, or illumination uniform"
            )
        n_immersion, n_sample = _plain(optics.n_immersion), _plain(optics.n_sample)
        opticses.critical_angle_deg(n_immersion, n_sample)
        if lowest_nm < 0.0:
            raise OpticsError(
                f"a molecule may lie at z_nm={lowest_nm:g}, below the coverslip, where there is no "
                "evanescent wave: keep heights at or above 0"
            )
        if light.angle_deg is not None:
            assert light.excitation_wavelength_nm is not None
            opticses.evanescent_depth_nm(
                _extremes(light.angle_deg), light.excitation_wavelength_nm, n_immersion, n_sample
            )


class PassedLight:
    """Share of light that one channel of an analyser passes, by height and orientation.

    Splines over the heights through the exact energies of the basis images.
    """

    KNOT_NM = 10.0
    AT_ONCE = 64

    def __init__(self, recipe: Recipe, z_nm: tuple[float, float]) -> None:
        from scipy.interpolate import CubicSpline  # slow to import

        analyser = recipe.optics.analyser
        assert analyser is not None
        focus = recipe.acquisition.focus_nm
        place = float(focus) if isinstance(focus, int | float) else 0.0
        low, high = z_nm[0], max(z_nm[1], z_nm[0] + 1.0)
        model: Any = opticses.image_model(
            recipe.optics.model_copy(update={"analyser": None, "method": "pupil"}),
            opticses.Window((1, 1), recipe.pixel_nm),
            opticses.Reach((low, high), (place, place)),
            accuracy=1e-4,
        )
        z = np.linspace(low, high, max(8, math.ceil((high - low) / self.KNOT_NM)))
        (angle,) = analyser.angles_deg
        pieces = np.array_split(z, math.ceil(z.size / self.AT_ONCE))
        self._whole, self._part = (
            CubicSpline(
                z, np.concatenate([model.basis_energies(some, analyser_deg=a) for some in pieces])
            )
            for a in (None, angle)
        )

    def share(self, z_nm: Floats, moment: Floats) -> Floats:
        """Passed over all light, (n,); ``moment``: second moments (n, 6) or (1, 6)."""
        part, whole = ((spline(z_nm) * moment).sum(axis=-1) for spline in (self._part, self._whole))
        return np.asarray(part / whole)


def _extremes(value: float | Distribution) -> Floats:
    return np.array(value.support() if isinstance(value, Distribution) else (value, value))


def _plain(value: float | Distribution) -> float:
    assert isinstance(value, int | float)
    return float(value)
