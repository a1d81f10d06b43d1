"""What networks learn, worked out from the truth of a sample, on request stored in the dataset.

- ``density``: emitters per cell of a grid finer than the camera's, each a small Gaussian of weight
  one on its exact place, as Deep-STORM learns (Nehme et al. 2018, *Optica* 5:458).
- ``voxels``: the same in three dimensions, as DeepSTORM3D learns (Nehme et al. 2020, *Nat.
  Methods* 17:734).
- ``labels``: which object each camera pixel shows, where a recipe has objects.
- ``wavefront``: optical path over the pupil [nm].

The noiseless image, ``clean``, is no target of its own: datasets hold it as ``expected_photons``.
A frame's target depends on its own emitters alone, so any batch or window gives the same bytes.
"""

from simscope.targets.base import Axis, Target
from simscope.targets.grids import (
    DensityTarget,
    VoxelTarget,
    density_map,
    frame_of_row,
    lit_in_frame,
    voxel_map,
)
from simscope.targets.naming import CLEAN, TARGETS, parse_targets, split_clean
from simscope.targets.objects import LabelTarget
from simscope.targets.wavefront import WavefrontTarget

__all__ = [
    "CLEAN",
    "TARGETS",
    "Axis",
    "DensityTarget",
    "LabelTarget",
    "Target",
    "VoxelTarget",
    "WavefrontTarget",
    "density_map",
    "frame_of_row",
    "lit_in_frame",
    "parse_targets",
    "split_clean",
    "voxel_map",
]
