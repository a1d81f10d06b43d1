"""How light forms an image: objective and media, pupil, Zernike modes, masks, fast tables."""

from simscope.optics.collection import CollectedLight, collected_fraction
from simscope.optics.dipoles import FREE_MOMENTS, DipoleModel, channels, image_weights, moments
from simscope.optics.evanescent import critical_angle_deg, evanescent_depth_nm
from simscope.optics.field_dependence import field_coefficients, frame_to_field, optics_at
from simscope.optics.focus import best_focus, focal_shift
from simscope.optics.gaussian import GaussianSpots, gaussian_spots
from simscope.optics.interfaces import Objective, objective_of
from simscope.optics.masks import array_mask, mask_phase
from simscope.optics.model import ImageModel, Reach, image_model
from simscope.optics.modulator import (
    Roughness,
    make_amplitude_map,
    make_wavefront_map,
    pupil_roughness,
)
from simscope.optics.pixels import Window
from simscope.optics.psf import psf, pupil_phase
from simscope.optics.pupil import PupilModel
from simscope.optics.pupil_arrays import PupilArrays, pixel_shares, pupil_arrays
from simscope.optics.radial import RadialModel
from simscope.optics.spectrum import at_wavelength
from simscope.optics.table import SplineTable, taper
from simscope.optics.table_build import build_table, judge_energy
from simscope.optics.volume import VolumeImager, Voxels, image_volume
from simscope.optics.zernike import (
    fringe_to_nm,
    fringe_to_osa,
    nm_to_fringe,
    nm_to_noll,
    nm_to_osa,
    noll_to_nm,
    noll_to_osa,
    osa_to_fringe,
    osa_to_nm,
    osa_to_noll,
    zernike,
)

__all__ = [
    "FREE_MOMENTS",
    "CollectedLight",
    "DipoleModel",
    "GaussianSpots",
    "ImageModel",
    "Objective",
    "PupilArrays",
    "PupilModel",
    "RadialModel",
    "Reach",
    "Roughness",
    "SplineTable",
    "VolumeImager",
    "Voxels",
    "Window",
    "array_mask",
    "at_wavelength",
    "best_focus",
    "build_table",
    "channels",
    "collected_fraction",
    "critical_angle_deg",
    "evanescent_depth_nm",
    "field_coefficients",
    "focal_shift",
    "frame_to_field",
    "fringe_to_nm",
    "fringe_to_osa",
    "gaussian_spots",
    "image_model",
    "image_volume",
    "image_weights",
    "judge_energy",
    "make_amplitude_map",
    "make_wavefront_map",
    "mask_phase",
    "moments",
    "nm_to_fringe",
    "nm_to_noll",
    "nm_to_osa",
    "noll_to_nm",
    "noll_to_osa",
    "objective_of",
    "optics_at",
    "osa_to_fringe",
    "osa_to_nm",
    "osa_to_noll",
    "pixel_shares",
    "psf",
    "pupil_arrays",
    "pupil_phase",
    "pupil_roughness",
    "taper",
    "zernike",
]
