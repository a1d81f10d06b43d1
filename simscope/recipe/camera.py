"""What a recipe says of the camera: how photons become numbers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from simscope.recipe.base import Model, PerSample, number


class _Camera(Model):
    pixel_pitch_um: float = number("camera pixel pitch", unit="um", default=10.0, gt=0, le=1000)
    qe: PerSample = number("quantum efficiency", unit="e/photon", default=0.9, gt=0, le=1)
    dark_e_per_s: PerSample = number("dark current", unit="e/px/s", default=0.0, ge=0, le=1e6)
    read_noise_e: PerSample = number("read noise, RMS", unit="e", default=1.0, ge=0, le=1e4)
    e_per_adu: PerSample = number("electrons per count", unit="e/ADU", default=1.0, gt=0, le=1e4)
    baseline_adu: PerSample = number(
        "offset of the converter", unit="ADU", default=100.0, ge=0, le=65535
    )
    bit_depth: int = Field(16, ge=8, le=16, description="bits of the converter; counts saturate")
    full_well_e: float | None = number("charge a pixel can hold", unit="e", default=None, gt=0)


class CCD(_Camera):
    """Plain CCD: shot noise, dark current, read noise."""

    kind: Literal["ccd"] = "ccd"


class EMCCD(_Camera):
    """Electron-multiplying CCD: the register's gain is a gamma variate (Hirsch et al. 2013)."""

    kind: Literal["emccd"] = "emccd"
    em_gain: PerSample = number("mean gain of the register", unit="1", default=300.0, ge=1, le=5000)
    clock_induced_charge_e: PerSample = number(
        "spurious charge per pixel and frame before the register",
        unit="e/px",
        default=0.002,
        ge=0,
        le=10,
    )


class SCMOS(_Camera):
    """sCMOS: every pixel has its own offset, gain and read noise (Huang et al. 2013)."""

    kind: Literal["scmos"] = "scmos"
    offset_std_adu: float = number(
        "spread of the pixel offsets", unit="ADU", default=0.0, ge=0, le=1e4
    )
    gain_std: float = number(
        "relative spread of the pixel gains", unit="1", default=0.0, ge=0, lt=0.3
    )
    read_noise_sigma_log: float = number(
        "spread of the logarithm of the pixel read noise (read_noise_e is the median)",
        unit="1",
        default=0.0,
        ge=0,
        le=2,
    )
    maps_path: str | None = Field(
        None,
        description=".npz with arrays gain (relative, about 1), offset_adu (added to baseline_adu, "
        "about 0) and read_noise_e, instead of drawn maps",
    )


Camera = Annotated[CCD | EMCCD | SCMOS, Field(discriminator="kind")]
