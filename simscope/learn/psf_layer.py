"""The PSF as a layer of a network: images and slopes with gradients by mask and position.

The pupil's fields, phases and transforms are simscope's own, taken as constant arrays
(:mod:`simscope.optics.pupil_arrays`); what is written here are the matrix products between a
transmission and the pixels,

    E = A_y (amplitude T(mask) exp(ik Psi(z, focus, x, y))) A_x^T ,   image ~ sum |E|^2 ,

which torch differentiates by the mask (Zernike coefficients or pixels) and by the positions.
Learned pupils for point emitters: Nehme et al. 2020, *Nat. Methods* 17:734.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from simscope.errors import OpticsError
from simscope.optics import PupilArrays, PupilModel, pixel_shares, pupil_arrays
from simscope.optics.field import mode_values
from simscope.recipe import ArrayMask

OWN_WAYS = {
    "measured": None, "spectrum": None, "bead_diameter_nm": 0.0, "slm": None, "analyser": None,
    "field_dependence": None, "collection": "normalised",
}  # fmt: skip
"""Fields of optics with images of their own, beyond one pupil, and their values without."""


class ZernikePhase(nn.Module):
    """Transmission of a sum of Zernike modes, parameter ``coefficients_rad`` (RMS, (modes,))."""

    values: torch.Tensor

    def __init__(self, modes: Sequence[int]) -> None:
        super().__init__()
        self.modes = tuple(int(mode) for mode in modes)
        self.coefficients_rad = nn.Parameter(torch.zeros(len(self.modes)))

    def fit_to(self, arrays: PupilArrays) -> None:
        """Set up the modes' values at the nodes of a pupil."""
        values = [mode_values(mode, arrays.kx, arrays.ky, arrays.na) for mode in self.modes]
        self.register_buffer("values", torch.from_numpy(np.array(values)), persistent=False)

    def forward(self) -> torch.Tensor:
        """Transmission [1] at the nodes, complex (rows, columns)."""
        phase = torch.tensordot(self.coefficients_rad, self.values, 1)
        return torch.polar(torch.ones_like(phase), phase)


class PixelPhase(nn.Module):
    """Transmission of an array of phases, parameter ``phase_rad`` (size, size), row = ky.

    Between pixels by cubic splines of the phasor, exactly as ``ArrayMask``.
    """

    shares_x: torch.Tensor
    shares_y: torch.Tensor

    def __init__(self, size: int, na_per_pixel: float) -> None:
        super().__init__()
        self.na_per_pixel = float(na_per_pixel)
        self.phase_rad = nn.Parameter(torch.zeros(size, size))

    def fit_to(self, arrays: PupilArrays) -> None:
        """Set up the pixels' shares in the nodes of a pupil."""
        size = len(self.phase_rad)
        for name, k in (("shares_x", arrays.kx), ("shares_y", arrays.ky[:, 0])):
            shares = torch.from_numpy(pixel_shares(size, self.na_per_pixel, k))
            self.register_buffer(name, shares, persistent=False)

    def forward(self) -> torch.Tensor:
        """Transmission [1] at the nodes, complex (rows, columns)."""
        parts = [
            torch.einsum("rci,ri->rc", self.shares_x, self.shares_y @ part)
            for part in (torch.cos(self.phase_rad), torch.sin(self.phase_rad))
        ]
        return torch.complex(*parts)

    @property
    def mask(self) -> ArrayMask:
        """The phases as a mask for a recipe."""
        values = self.phase_rad.detach().cpu().double().numpy()
        return ArrayMask(values=values, na_per_pixel=self.na_per_pixel)


Phase = ZernikePhase | PixelPhase


class PsfLayer(nn.Module):
    """Images of free dipoles through optics and a phase that can be learned.

    Parameters
    ----------
    optics
        Widefield optics of one wavelength with plain numbers; their own mask and wavefront stay,
        and ``phase`` comes on top.
    phase
        A :class:`ZernikePhase` or :class:`PixelPhase`.
    strength_rad
        RMS of the strongest ``ZernikePhase`` to come, for the quadrature.
    shape, pixel_nm, z_nm, focus_nm, reach_nm, accuracy
        As of :class:`simscope.optics.PupilModel`: window and ranges served.

    Buffers are float64; ``layer.to(device)`` and ``layer.single()`` change where and how precisely
    it computes. Raises OpticsError for optics it cannot serve.
    """

    amplitude: torch.Tensor
    energy: torch.Tensor
    decay: torch.Tensor
    by_z: torch.Tensor
    by_focus: torch.Tensor
    by_x: torch.Tensor
    by_y: torch.Tensor
    to_x: torch.Tensor
    to_y: torch.Tensor
    slope_x: torch.Tensor
    slope_y: torch.Tensor
    weights_x: torch.Tensor
    weights_y: torch.Tensor

    def __init__(
        self, optics: Any, phase: Phase, *, shape: tuple[int, int], pixel_nm: float,
        z_nm: tuple[float, float] = (0.0, 0.0), focus_nm: tuple[float, float] = (0.0, 0.0),
        reach_nm: float = 0.0, strength_rad: float = 3.0, accuracy: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        seen, limit_nm = with_room_for(phase, plain_optics(optics), strength_rad)
        model = PupilModel(
            seen, shape=shape, pixel_nm=pixel_nm, z_nm=z_nm, focus_nm=focus_nm, reach_nm=reach_nm,
            wavefront_limit_nm=limit_nm, any_direction=False, accuracy=accuracy,
            blur_nm=optics.blur_nm,
        )  # fmt: skip
        arrays = pupil_arrays(model)
        self.phase = phase.double()
        phase.fit_to(arrays)
        k = model.objective.wavenumber_per_nm
        self.wavelength_nm = arrays.wavelength_nm
        energy = arrays.weight * np.tensordot(arrays.free, np.abs(arrays.amplitude) ** 2, 1)
        root = np.sqrt(arrays.free)[:, None, None] * arrays.weight
        self._hold(
            amplitude=root * arrays.amplitude * arrays.static * np.exp(1j * k * arrays.path_nm),
            energy=energy * np.abs(arrays.static) ** 2,
            decay=arrays.decay_per_nm,
            by_z=1j * k * arrays.sample_root,
            by_focus=k * arrays.immersion_root,
            by_x=k * arrays.kx,
            by_y=k * arrays.ky,
            to_x=arrays.to_x,
            to_y=arrays.to_y,
            slope_x=1j * k * arrays.kx[..., None] * arrays.to_x,
            slope_y=1j * k * arrays.ky[:, 0] * arrays.to_y,
            weights_x=arrays.weights_x,
            weights_y=arrays.weights_y,
        )

    def _hold(self, **arrays: npt.NDArray[Any]) -> None:
        for name, values in arrays.items():
            tensor = torch.from_numpy(np.ascontiguousarray(values))
            self.register_buffer(name, tensor, persistent=False)

    def single(self) -> PsfLayer:
        """The same layer in single precision: errors near 1e-6 of the peak."""
        self.float()  # leaves complex numbers as they are
        for module in self.modules():
            for name, buffer in module.named_buffers(recurse=False):
                if buffer.is_complex():
                    setattr(module, name, buffer.to(torch.complex64))
        return self

    def forward(
        self, z_nm: Any = 0.0, focus_nm: Any = 0.0, x_nm: Any = 0.0, y_nm: Any = 0.0
    ) -> torch.Tensor:
        """Probability per pixel (n, y, x); numbers or tensors (n,) of emitters broadcast."""
        pupil, energy, _ = self._pupil(z_nm, focus_nm, x_nm, y_nm)
        field = self._across(self.to_y, torch.matmul(pupil, self.to_x))
        return self._pixels(field, field) / energy[:, None, None]

    def slopes(
        self, z_nm: Any = 0.0, focus_nm: Any = 0.0, x_nm: Any = 0.0, y_nm: Any = 0.0
    ) -> torch.Tensor:
        """Images and their derivatives by x, y, z [1/nm], (n, 4, y, x); as in ``forward``."""
        pupil, energy, loss = self._pupil(z_nm, focus_nm, x_nm, y_nm)
        along = torch.matmul(pupil, self.to_x)
        field = self._across(self.to_y, along)
        turned = (
            self._across(self.to_y, torch.matmul(pupil, self.slope_x)),
            self._across(self.slope_y, along),
            self._across(self.to_y, torch.matmul(pupil * self.by_z[:, None], self.to_x)),
        )
        images = [self._pixels(field, field), *(2.0 * self._pixels(field, f) for f in turned)]
        image, x, y, z = (values / energy[:, None, None] for values in images)
        return torch.stack((image, x, y, z - (loss / energy)[:, None, None] * image), dim=1)

    def _pupil(self, *places: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Light at the nodes (rows, n * components, columns), its energies and their slopes (n,).

        As ``field.plane_phasor`` and ``plane_energy`` have them, with the transmission put in.
        """
        z, focus, x, y = self._columns(*places)
        transmission = self.phase()
        turn = x * self.by_x + y * self.by_y - focus * self.by_focus
        phasor = torch.polar(torch.exp(z * self.by_z.real), z * self.by_z.imag + turn)
        light = self.amplitude * (phasor * transmission)[:, None]
        passed = self.energy * (transmission.real**2 + transmission.imag**2)
        fading = torch.exp(z * self.decay)
        energies = [
            self.wavelength_nm**2 * torch.tensordot(fading, share, 2)
            for share in (passed, passed * self.decay)
        ]
        return light.flatten(0, 1).transpose(0, 1), energies[0], energies[1]

    def _columns(self, *places: Any) -> list[torch.Tensor]:
        """z, focus, x, y as tensors (n, 1, 1) of the layer's precision, on its device."""
        like = self.by_x
        tensors = [torch.as_tensor(v, dtype=like.dtype, device=like.device) for v in places]
        flat = torch.broadcast_tensors(*(torch.atleast_1d(value) for value in tensors))
        return [value[:, None, None] for value in flat]

    def _across(self, to_y: torch.Tensor, along: torch.Tensor) -> torch.Tensor:
        """Fields (y, n * components, x) at the samples from (rows, n * components, x)."""
        return (to_y @ along.flatten(1)).unflatten(1, along.shape[1:])

    def _pixels(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Pixel integrals (n, y, x) of Re(first conj(second)) summed over the components."""
        light = first.real * second.real + first.imag * second.imag
        samples = light.unflatten(1, (-1, len(self.amplitude))).sum(2).transpose(0, 1)
        return self.weights_y @ samples @ self.weights_x.T


def plain_optics(optics: Any) -> Any:
    """The same optics; OpticsError if their image is more than that of one pupil."""
    for name, without in OWN_WAYS.items():
        if getattr(optics, name) != without:
            raise OpticsError(
                f"optics.{name} has an image of its own that the PSF layer cannot differentiate: "
                f"set it to {without}"
            )
    if optics.model == "gaussian" or optics.modality.kind != "widefield":
        raise OpticsError(
            f"model {optics.model!r} in {optics.modality.kind} is not the image of one pupil: use "
            "model vectorial or gibson_lanni in widefield"
        )
    return optics


def with_room_for(
    phase: Phase, optics: Any, strength_rad: float
) -> tuple[Any, dict[int, float] | None]:
    """Optics, and wavefront limit [nm], for which a quadrature serves a phase as well.

    Pixels: a flat mask with the same pixel lines. Modes: as strong as ``strength_rad`` in all.
    """
    if isinstance(phase, ZernikePhase):
        each = strength_rad * optics.wavelength_nm / (2 * np.pi) / len(phase.modes) ** 0.5
        return optics, dict.fromkeys(phase.modes, float(each))
    if optics.mask is not None:
        raise OpticsError(
            f"optics have a {optics.mask.kind} mask and the pixels to be learned are another: set "
            "mask to None"
        )
    flat = ArrayMask(values=np.zeros(phase.phase_rad.shape), na_per_pixel=phase.na_per_pixel)
    return optics.model_copy(update={"mask": flat}), None
