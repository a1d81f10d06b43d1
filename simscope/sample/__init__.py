"""Where the fluorophores are, and when they shine."""

from simscope.sample.background import background_photons
from simscope.sample.host import host_parts
from simscope.sample.objects import (
    Section,
    camera_labels,
    check_objects,
    objects_in_frame,
)
from simscope.sample.orientation import orient
from simscope.sample.photophysics import (
    Shining,
    expected_bright,
    shine,
    shine_blinking,
    shine_snapshot,
    skip,
)
from simscope.sample.structures import Molecules, expected_molecules, height_range_nm, place
from simscope.sample.volumes import VolumeGrid, volume_grid, volume_photons, voxel_nm

__all__ = [
    "Molecules",
    "Section",
    "Shining",
    "VolumeGrid",
    "background_photons",
    "camera_labels",
    "check_objects",
    "expected_bright",
    "expected_molecules",
    "height_range_nm",
    "host_parts",
    "objects_in_frame",
    "orient",
    "place",
    "shine",
    "shine_blinking",
    "shine_snapshot",
    "skip",
    "volume_grid",
    "volume_photons",
    "voxel_nm",
]
