"""How light forms an image: objective and media, pupil, Zernike modes, masks, fast tables."""

from simscope.optics.field_dependence import field_coefficients, optics_at
from simscope.optics.interfaces import Objective, objective_of
from simscope.optics.masks import array_mask, mask_phase
from simscope.optics.model import ImageModel, Reach, image_model
from simscope.optics.modulator import (
    Roughness,
    at_wavelength,
    make_amplitude_map,
    make_wavefront_map,
    pupil_roughness,
)
from simscope.optics.pixels import Window
from simscope.optics.psf import psf, pupil_phase
from simscope.optics.pupil import PupilModel
from simscope.optics.table import SplineTable, build_table, judge_energy, taper
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
    "ImageModel",
    "Objective",
    "PupilModel",
    "Reach",
    "Roughness",
    "SplineTable",
    "Window",
    "array_mask",
    "at_wavelength",
    "build_table",
    "field_coefficients",
    "fringe_to_nm",
    "fringe_to_osa",
    "image_model",
    "judge_energy",
    "make_amplitude_map",
    "make_wavefront_map",
    "mask_phase",
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
    "psf",
    "pupil_phase",
    "pupil_roughness",
    "taper",
    "zernike",
]
