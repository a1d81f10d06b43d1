"""How photons become numbers: CCD, EMCCD and sCMOS cameras."""

from simscope.camera.detector import detect
from simscope.camera.inverse import NoiseModel, adu_to_photons, excess_noise, noise_model
from simscope.camera.maps import CameraMaps, camera_maps
from simscope.camera.transfer import PhotonTransfer, photon_transfer

__all__ = [
    "CameraMaps",
    "NoiseModel",
    "PhotonTransfer",
    "adu_to_photons",
    "camera_maps",
    "detect",
    "excess_noise",
    "noise_model",
    "photon_transfer",
]
