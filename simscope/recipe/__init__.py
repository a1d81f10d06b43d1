"""Recipes: what a person writes, checked, drawable, and lossless in YAML."""

from simscope.recipe.acquisition import Acquisition, FocusStack, Rendering
from simscope.recipe.analyser import Analyser
from simscope.recipe.base import Model, Number
from simscope.recipe.camera import CCD, EMCCD, SCMOS, Camera
from simscope.recipe.dipoles import ConeDipole, Dipole, FixedDipole, FreeDipole
from simscope.recipe.distributions import Distribution
from simscope.recipe.field_dependence import FieldDependence, MapsField, PolynomialField
from simscope.recipe.gaussian import GaussianSpot
from simscope.recipe.illumination import (
    EvanescentIllumination,
    Illumination,
    UniformIllumination,
)
from simscope.recipe.masks import (
    MASKS,
    ArrayMask,
    AstigmatismMask,
    CubicMask,
    DefocusMask,
    DoubleHelixMask,
    FileMask,
    Mask,
    SaddlePointMask,
    SpatialLightModulator,
    TetrapodMask,
    VortexMask,
)
from simscope.recipe.measured import MeasuredPsf
from simscope.recipe.modality import (
    Confocal,
    ImageScanning,
    LightSheet,
    Modality,
    Sted,
    TwoPhoton,
    Widefield,
)
from simscope.recipe.optics import Optics
from simscope.recipe.photophysics import Blinking, Markov, Photophysics, Snapshot
from simscope.recipe.recipe import Recipe, load_recipe, packaged_recipes, recipe_schema
from simscope.recipe.sample import (
    BeadStructure,
    FilamentStructure,
    SmoothBackground,
    Structure,
    TableStructure,
    UniformBackground,
    UniformStructure,
)
from simscope.recipe.spectrum import Bandpass, GaussianSpectrum, Spectrum, TableSpectrum
from simscope.recipe.volumes import (
    FROM_FILES,
    VOLUMES,
    LabelsStructure,
    Steady,
    TextureStructure,
    VolumeStructure,
)
from simscope.recipe.wavefront import AmplitudeMap, WavefrontMap, ZernikeWavefront

__all__ = [
    "CCD",
    "EMCCD",
    "FROM_FILES",
    "MASKS",
    "SCMOS",
    "VOLUMES",
    "Acquisition",
    "AmplitudeMap",
    "Analyser",
    "ArrayMask",
    "AstigmatismMask",
    "Bandpass",
    "BeadStructure",
    "Blinking",
    "Camera",
    "ConeDipole",
    "Confocal",
    "CubicMask",
    "DefocusMask",
    "Dipole",
    "Distribution",
    "DoubleHelixMask",
    "EvanescentIllumination",
    "FieldDependence",
    "FilamentStructure",
    "FileMask",
    "FixedDipole",
    "FocusStack",
    "FreeDipole",
    "GaussianSpectrum",
    "GaussianSpot",
    "Illumination",
    "ImageScanning",
    "LabelsStructure",
    "LightSheet",
    "MapsField",
    "Markov",
    "Mask",
    "MeasuredPsf",
    "Modality",
    "Model",
    "Number",
    "Optics",
    "Photophysics",
    "PolynomialField",
    "Recipe",
    "Rendering",
    "SaddlePointMask",
    "SmoothBackground",
    "Snapshot",
    "SpatialLightModulator",
    "Spectrum",
    "Steady",
    "Sted",
    "Structure",
    "TableSpectrum",
    "TableStructure",
    "TetrapodMask",
    "TextureStructure",
    "TwoPhoton",
    "UniformBackground",
    "UniformIllumination",
    "UniformStructure",
    "VolumeStructure",
    "VortexMask",
    "WavefrontMap",
    "Widefield",
    "ZernikeWavefront",
    "load_recipe",
    "packaged_recipes",
    "recipe_schema",
]
