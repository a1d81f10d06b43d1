"""A pupil model's numbers as plain arrays over the whole pupil, for other array libraries.

:class:`PupilModel` works on a quadrant and its mirror images. Written out over all four, its image
of a freely rotating dipole is two matrix products and a sum of squares,

    E_c = A_y (amplitude_c transmission phasor) A_x^T ,   image = W_y (sum free_c |E_c|^2) W_x^T ,

which any library with complex matrices can follow and differentiate. Every number here is the
model's own; only the way in which they are laid out is new.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simscope.optics.field import decay_rate, quadrants
from simscope.optics.maps import at_points
from simscope.optics.phasors import unit_phasor
from simscope.optics.pupil import PupilModel

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]


@dataclass(frozen=True)
class PupilArrays:
    """What maps a pupil's transmission to pixels; nodes of the whole pupil as (rows, columns).

    ``kx, ky``: pupil points [NA], the same ``ky`` all along a row. ``amplitude``: (components,
    rows, columns), ``free``: (components,) weight of each in a freely rotating dipole's light.
    ``weight``: quadrature's area [NA^2]. ``static``: transmission of the optics' own mask, maps
    and wavefront. ``sample_root, immersion_root``: axial indices less their value on axis;
    ``path_nm``: design path. ``decay_per_nm``: slope of the logarithm of the energy by height.
    ``to_x``: (rows, columns, samples) and ``to_y``: (samples, rows), phasors to the image's
    samples; ``weights_x, weights_y``: (pixels, samples) [nm], samples to pixel integrals.
    """

    wavelength_nm: float
    na: float
    kx: FloatArray
    ky: FloatArray
    amplitude: ComplexArray
    free: FloatArray
    weight: FloatArray
    static: ComplexArray
    sample_root: ComplexArray
    immersion_root: FloatArray
    path_nm: FloatArray
    decay_per_nm: FloatArray
    to_x: ComplexArray
    to_y: ComplexArray
    weights_x: FloatArray
    weights_y: FloatArray


def pupil_arrays(model: PupilModel) -> PupilArrays:
    """The model's field, transmission and transforms, written out over the whole pupil."""
    field, k = model.field, model.objective.wavenumber_per_nm
    nodes = field.nodes
    kx, ky = (_whole(values) for values in quadrants(nodes))
    signs = [_signs(*parity) for parity in field.parity]
    amplitude = [_whole(s * a) for s, a in zip(signs, field.amplitude, strict=True)]
    same = np.ones((2, 2, 1, 1))
    return PupilArrays(
        wavelength_nm=float(model.objective.wavelength_nm),
        na=float(model.objective.na),
        kx=kx,
        ky=ky,
        amplitude=np.array(amplitude),
        free=np.array(field.free),
        weight=_whole(same * nodes.weight),
        static=_whole(model.static),
        sample_root=_whole(same * field.sample_root),
        immersion_root=_whole(same * field.immersion_root),
        path_nm=_whole(same * field.path_nm),
        decay_per_nm=_whole(same * decay_rate(field)),
        to_x=unit_phasor(-k * kx[..., None] * model.grid_x.positions_nm),
        to_y=unit_phasor(-k * np.outer(model.grid_y.positions_nm, ky[:, 0])),
        weights_x=model.grid_x.weights,
        weights_y=model.grid_y.weights,
    )


def pixel_shares(size: int, na_per_pixel: float, k: FloatArray) -> FloatArray:
    """Share of each pixel of an array ``size`` wide in the value at pupil coordinates, (..., size).

    Along one axis; along both, shares multiply. They are those of the splines between the pixels
    of masks, so that ``shares_y @ phasors @ shares_x.T`` is a mask's transmission. ``k``: [NA].
    """
    middles = na_per_pixel * (np.arange(size, dtype=np.float64) - 0.5 * (size - 1))
    return at_points(np.eye(size), na_per_pixel, k[..., None], middles, order=3)


def _signs(odd_y: int, odd_x: int) -> FloatArray:
    """Sign of a component of that parity in the (y, x) quadrants, (2, 2, 1, 1)."""
    side = np.array((1.0, -1.0))
    return (side**odd_y)[:, None, None, None] * (side**odd_x)[None, :, None, None]


def _whole(quadrants: Any) -> Any:
    """Values in the quadrants (2, 2, rows, columns) as one array (2 rows, 2 columns)."""
    _, _, rows, columns = quadrants.shape
    return np.ascontiguousarray(quadrants.transpose(0, 2, 1, 3).reshape(2 * rows, 2 * columns))
