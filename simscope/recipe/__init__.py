"""Recipes: what a person writes, checked, drawable, and lossless in YAML."""

from simscope.recipe.acquisition import Acquisition, FocusStack, Rendering
from simscope.recipe.analyser import Analyser
from simscope.recipe.base import Model, Number
from simscope.recipe.camera import CCD, EMCCD, SCMOS, Camera
from simscope.recipe.dipoles import ConeDipole, Dipole, FixedDipole, FreeDipole
from simscope.recipe.distributions import Distribution
from simscope.recipe.field_dependence import FieldDependence, MapsField, PolynomialField
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
from simscope.recipe.optics import Optics
from simscope.recipe.recipe import Recipe, load_recipe, packaged_recipes, recipe_schema
from simscope.recipe.sample import (
    BeadStructure,
    Blinking,
    FilamentStructure,
    Photophysics,
    SmoothBackground,
    Snapshot,
    Structure,
    TableStructure,
    UniformBackground,
    UniformStructure,
)
from simscope.recipe.wavefront import AmplitudeMap, WavefrontMap, ZernikeWavefront

__all__ = [
    "CCD",
    "EMCCD",
    "MASKS",
    "SCMOS",
    "Acquisition",
    "AmplitudeMap",
    "Analyser",
    "ArrayMask",
    "AstigmatismMask",
    "BeadStructure",
    "Blinking",
    "Camera",
    "ConeDipole",
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
    "Illumination",
    "MapsField",
    "Mask",
    "MeasuredPsf",
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
    "Structure",
    "TableStructure",
    "TetrapodMask",
    "UniformBackground",
    "UniformIllumination",
    "UniformStructure",
    "VortexMask",
    "WavefrontMap",
    "ZernikeWavefront",
    "load_recipe",
    "packaged_recipes",
    "recipe_schema",
]
