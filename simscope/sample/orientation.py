"""Which way molecules point: an axis and a cone for each, drawn once per molecule."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from simscope.device import CPU, Device
from simscope.keys import Key
from simscope.recipe import Recipe
from simscope.recipe.dipoles import ConeDipole, FreeDipole, half_angle_of_constraint
from simscope.recipe.draws import counter_words, draw_emitters
from simscope.sample.structures import Molecules


def orient(
    recipe: Recipe,
    key: Key,
    indices: npt.NDArray[np.int64],
    molecules: Molecules,
    device: Device = CPU,
) -> Molecules:
    """The molecules with their orientation [deg], unchanged where dipoles rotate freely.

    Molecules lie on the device, ``indices`` on the host.

    Angles are float32, exactly as they are rendered and written. Every angle has its own stream,
    addressed by molecule and sample, so a molecule keeps its orientation in all frames.
    """
    dipoles = recipe.dipoles
    if isinstance(dipoles, FreeDipole):
        return molecules
    sample = device.put(indices)[molecules.sample]
    counter = counter_words(device, element=molecules.id, sample=sample)
    polar = draw_emitters(dipoles.polar_deg, key, "dipoles.polar_deg", **counter)
    azimuth = draw_emitters(dipoles.azimuth_deg, key, "dipoles.azimuth_deg", **counter)
    if not isinstance(dipoles, ConeDipole):
        half_angle = device.xp.zeros_like(polar)
    elif dipoles.half_angle_deg is not None:
        half_angle = draw_emitters(dipoles.half_angle_deg, key, "dipoles.half_angle_deg", **counter)
    else:
        assert dipoles.rotational_constraint is not None
        constraint = draw_emitters(
            dipoles.rotational_constraint, key, "dipoles.rotational_constraint", **counter
        )
        half_angle = device.put(np.degrees(half_angle_of_constraint(device.get(constraint))))
    return dataclasses.replace(
        molecules,
        polar_deg=polar.astype(np.float32),
        azimuth_deg=azimuth.astype(np.float32),
        half_angle_deg=half_angle.astype(np.float32),
    )
