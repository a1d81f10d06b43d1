"""How photons become numbers: CCD, EMCCD and sCMOS cameras."""

from simscope.camera.detector import detect
from simscope.camera.inverse import NoiseModel, adu_to_photons, noise_model
from simscope.camera.maps import CameraMaps, camera_maps

__all__ = [
    "CameraMaps",
    "NoiseModel",
    "adu_to_photons",
    "camera_maps",
    "detect",
    "noise_model",
]
