"""Random textures: families of continuous structures made up for every sample.

* ``bodies``, ``membranes``: a Gaussian random field where it exceeds a level, or crosses it; the
  level follows from the share of space to be filled.
* ``clouds``: ``exp(contrast f - contrast^2 / 2)`` with a field f of unit variance, a sum of octaves
  from ``scale_um`` down to the voxels. An octave half as wide has ``2^(2 - slope)`` of the
  variance, so that the power spectrum of f in a plane falls as ``q^-slope``; the mean is 1.
* ``spots``, ``grains``, ``mesh``: one point at a random place of each cell of a cubic grid
  (cellular noise, Worley 1996, SIGGRAPH); balls about the points, the space nearest to each, the
  walls between.
* ``filaments``: straight fibres at random angles and heights, wound by smooth random shifts.
* ``stripes``: a grating of random angle and phase, the same at every height.

Values are 0 outside and 1 inside; those of clouds have no upper limit, and fibres that cross add.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simscope.elementary import exp, normal_quantile
from simscope.kernels.nearest import two_nearest
from simscope.keys import Key
from simscope.recipe import Recipe, TextureStructure
from simscope.recipe.draws import FORM, number_of
from simscope.recipe.volumes import FORMS, Form
from simscope.sample.fields import MEAN_STEEPNESS, random_field

Singles = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

MOST_OCTAVES = 10
WINDING_SCALE, WINDING = 4.0, 0.5
"""Fibres wind over so many times ``scale_um``, by so much of it."""


@dataclass(frozen=True)
class _World:
    """What a texture is made of: a sample's numbers, its voxels, its streams."""

    key: Key
    sample: int
    shape: tuple[int, int, int]
    pitch_um: tuple[float, float, float]
    scale_um: float
    fill: float
    edge_um: float
    slope: float
    contrast: float

    def field(self, name: str, scale_um: float) -> Singles:
        """A Gaussian random field that varies over a distance, one value a voxel."""
        steps = (
            self.pitch_um[0] / scale_um, self.pitch_um[1] / scale_um, self.pitch_um[2] / scale_um
        )  # fmt: skip
        return random_field(self.key.child(f"structure/{name}"), self.sample, self.shape, steps)

    def centres_um(self, axis: int) -> Singles:
        """Distances of voxels' centres from the first plane, row or column's outer side [um]."""
        centres = (np.arange(self.shape[axis]) + 0.5) * self.pitch_um[axis]
        along = [1, 1, 1]
        along[axis] = -1
        return centres.astype(np.float32).reshape(along)

    def size_um(self, axis: int) -> float:
        """Extent of the volume along an axis [um]."""
        return self.shape[axis] * self.pitch_um[axis]


def texture_values(
    recipe: Recipe, structure: TextureStructure, key: Key, sample: int, drawn: dict[str, float],
    shape: tuple[int, int, int],
) -> Singles:  # fmt: skip
    """Values of a sample's texture from 0 up, float32 (z, y, x); ``drawn``: its numbers."""
    scale_um, fill, slope, contrast = (
        number_of(recipe, drawn, f"structure.{name}")
        for name in ("scale_um", "fill", "slope", "contrast")
    )
    pitch_z, pitch_y, pitch_x = structure.voxel_nm
    world = _World(
        key, sample, shape, (1e-3 * pitch_z, 1e-3 * pitch_y, 1e-3 * pitch_x),
        scale_um, fill, 1e-3 * structure.edge_nm, slope, contrast,
    )  # fmt: skip
    return _MAKERS[form_of(structure, drawn)](world)


def form_of(structure: TextureStructure, drawn: dict[str, float]) -> Form:
    """The family a sample's texture belongs to."""
    return structure.form if isinstance(structure.form, str) else FORMS[int(drawn[FORM])]


def _height_above_level(world: _World) -> Singles:
    """Distance from where the field crosses its level, roughly, in units of the edge."""
    field = world.field("field", world.scale_um)
    field -= np.float32(float(normal_quantile(1.0 - np.array([world.fill]))[0]))
    field *= np.float32(world.scale_um / (MEAN_STEEPNESS * world.edge_um))
    return field


def _bodies(world: _World) -> Singles:
    field = _height_above_level(world)
    field += np.float32(0.5)
    return np.clip(field, 0.0, 1.0, out=field)


def _membranes(world: _World) -> Singles:
    field = _height_above_level(world)
    np.abs(field, out=field)
    np.subtract(np.float32(1.0), field, out=field)
    return np.clip(field, 0.0, 1.0, out=field)


def _clouds(world: _World) -> Singles:
    finest = min(world.pitch_um[1:])
    octaves = 1 + int(max(math.log2(world.scale_um / finest), 0.0))
    shares = np.exp2((2.0 - world.slope) * np.arange(min(octaves, MOST_OCTAVES)))
    weights = np.sqrt(shares / shares.sum())
    field = np.zeros(world.shape, np.float64)
    for octave, weight in enumerate(weights):
        field += weight * world.field(f"octave-{octave}", world.scale_um / 2**octave)
    return exp(world.contrast * (field - 0.5 * world.contrast)).astype(np.float32)


def _spots(world: _World) -> Singles:
    nearest, _, _, _ = _two_nearest(world)
    # of points anywhere, balls of this radius would cover just this share
    radius = world.scale_um * (-0.75 / math.pi * math.log1p(-world.fill)) ** (1 / 3)
    return np.clip((np.float32(radius) - nearest) / np.float32(world.edge_um) + 0.5, 0.0, 1.0)


def _grains(world: _World) -> Singles:
    nearest, second, lot, other = _two_nearest(world)
    own, beside = (
        np.where(lots < world.fill, lots / np.float32(world.fill), 0.0) for lots in (lot, other)
    )
    share = np.clip(0.5 + (second - nearest) / np.float32(2 * world.edge_um), 0.5, 1.0)
    return (share * own + (1 - share) * beside).astype(np.float32)


def _mesh(world: _World) -> Singles:
    nearest, second, _, _ = _two_nearest(world)
    return np.clip(1 - (second - nearest) / np.float32(2 * world.edge_um), 0.0, 1.0)


def _two_nearest(world: _World) -> tuple[Singles, Singles, Singles, Singles]:
    """Distances [um] to the nearest point and the next, and the lots in (0, 1) of the two."""
    places = [world.centres_um(axis).ravel() / np.float32(world.scale_um) for axis in range(3)]
    shape = tuple(int(place[-1]) + 3 for place in places)  # one more cell on either side
    numbers = np.arange(math.prod(shape)).reshape(shape)
    lots = world.key.child("structure/points").uniform(
        numbers, sample=world.sample, step=np.arange(4).reshape(4, 1, 1, 1)
    )
    out = np.empty((*world.shape, 4), np.float32)
    two_nearest(*places, lots.astype(np.float32), out)
    nearest, second, lot, other = np.moveaxis(out, -1, 0)
    scale = np.float32(world.scale_um)
    return scale * nearest, scale * second, lot, other


def _filaments(world: _World) -> Singles:
    """Fibres ``scale_um`` apart on average, in every layer of this thickness."""
    z, y, x = (world.centres_um(axis) for axis in range(3))
    depth, height, width = (world.size_um(axis) for axis in range(3))
    reach = 0.5 * math.hypot(height, width) + world.scale_um
    layers = max(depth / world.scale_um, 1.0)
    stream = world.key.child("structure/fibres")
    mean = 2 * reach / world.scale_um * layers
    count = int(stream.child("count").poisson(0, mean, sample=world.sample))
    angle, offset, level = (
        stream.uniform(np.arange(count), sample=world.sample, step=k) for k in range(3)
    )
    winding = WINDING_SCALE * world.scale_um
    shift_y, shift_x = (
        np.float32(WINDING * world.scale_um) * world.field(f"winding-{axis}", winding)
        for axis in "yx"
    )
    y, x = y - np.float32(0.5 * height) + shift_y, x - np.float32(0.5 * width) + shift_x
    out = np.zeros(world.shape, np.float32)
    for k in range(count):
        cosine, sine = _direction(angle[k])
        across = cosine * x + sine * y - np.float32(reach * (2 * offset[k] - 1))
        distance = np.sqrt(across**2 + (z - np.float32(depth * level[k])) ** 2)
        out += np.clip(1 - distance / np.float32(world.edge_um), 0.0, 1.0)
    return out


def _stripes(world: _World) -> Singles:
    stream = world.key.child("structure/grating")
    angle, phase = stream.uniform(np.arange(2), sample=world.sample)
    cosine, sine = _direction(angle)
    across = cosine * world.centres_um(2) + sine * world.centres_um(1)
    turns = across / np.float32(world.scale_um) + np.float32(phase)
    from_middle = np.abs(turns - np.floor(turns) - 0.5) * np.float32(world.scale_um)
    half_um = np.float32(0.5 * world.fill * world.scale_um)
    band = np.clip((half_um - from_middle) / np.float32(world.edge_um) + 0.5, 0.0, 1.0)
    return np.ascontiguousarray(np.broadcast_to(band, world.shape), np.float32)


def _direction(turn: float) -> tuple[np.float32, np.float32]:
    """Cosine and sine of a share of half a turn; float32, so that they are alike everywhere."""
    return np.float32(math.cos(math.pi * turn)), np.float32(math.sin(math.pi * turn))


_MAKERS: dict[Form, Callable[[_World], Singles]] = {
    "bodies": _bodies,
    "membranes": _membranes,
    "clouds": _clouds,
    "spots": _spots,
    "grains": _grains,
    "mesh": _mesh,
    "filaments": _filaments,
    "stripes": _stripes,
}
