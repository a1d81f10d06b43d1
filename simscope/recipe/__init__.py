"""Recipes: what a person writes, checked, drawable, and lossless in YAML."""

from simscope.recipe.acquisition import Acquisition, FocusStack, Rendering
from simscope.recipe.base import Model, Number
from simscope.recipe.camera import CCD, EMCCD, SCMOS, Camera
from simscope.recipe.distributions import Distribution
from simscope.recipe.optics import (
    FileMask,
    Mask,
    Optics,
    TetrapodMask,
    VortexMask,
    ZernikeWavefront,
)
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

__all__ = [
    "CCD",
    "EMCCD",
    "SCMOS",
    "Acquisition",
    "BeadStructure",
    "Blinking",
    "Camera",
    "Distribution",
    "FilamentStructure",
    "FileMask",
    "FocusStack",
    "Mask",
    "Model",
    "Number",
    "Optics",
    "Photophysics",
    "Recipe",
    "Rendering",
    "SmoothBackground",
    "Snapshot",
    "Structure",
    "TableStructure",
    "TetrapodMask",
    "UniformBackground",
    "UniformStructure",
    "VortexMask",
    "ZernikeWavefront",
    "load_recipe",
    "packaged_recipes",
    "recipe_schema",
]
