"""Drawing a recipe's numbers: once per dataset, per sample, or per emitter.

Each path in the recipe has its own stream, so adding one drawn number changes no other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from simscope.device import CPU, Device
from simscope.elementary import normal_quantile
from simscope.keys import Key
from simscope.recipe.base import Model, Scope
from simscope.recipe.distributions import Distribution
from simscope.recipe.recipe import Recipe
from simscope.recipe.volumes import FORMS
from simscope.recipe.wavefront import ZernikeWavefront

Floats = npt.NDArray[np.float64]
SCOPES: tuple[Scope, Scope] = ("dataset", "sample")
COEFFICIENT = "optics.wavefront.coefficients_nm."
FORM = "structure.form"


def draw_dataset(recipe: Recipe, key: Key) -> tuple[Recipe, dict[str, float]]:
    """The recipe with numbers drawn once per dataset put in, and those numbers by path."""
    drawn: dict[str, float] = {}
    for path, distribution in recipe.drawn("dataset").items():
        value = float(distribution.quantile(_stream(key, path).uniform([0]))[0])
        recipe = recipe.replace(path, value)
        drawn[path] = value
    return recipe, drawn


def draw_samples(recipe: Recipe, key: Key, samples: npt.NDArray[np.int64]) -> dict[str, Floats]:
    """Numbers drawn per sample by path, each of shape ``(samples,)``."""
    drawn = {
        path: distribution.quantile(_stream(key, path).uniform(0, sample=samples))
        for path, distribution in recipe.drawn("sample").items()
    }
    wavefront = recipe.optics.wavefront
    if wavefront is not None and wavefront.random_modes:
        drawn.update(_random_direction(wavefront, drawn, key, samples))
    forms = drawn_forms(recipe)
    if forms:
        numbers = np.array([FORMS.index(form) for form in forms], np.float64)
        uniform = _stream(key, FORM).uniform(0, sample=samples)
        drawn[FORM] = numbers[(uniform * len(forms)).astype(np.int64)]
    return drawn


def drawn_forms(recipe: Recipe) -> tuple[str, ...]:
    """Families of textures of which every sample draws one; empty where nothing is drawn."""
    form = getattr(recipe.structure, "form", "")
    return form if isinstance(form, tuple) else ()


def draw_emitters(
    value: float | Distribution,
    key: Key,
    path: str,
    *,
    element: npt.ArrayLike,
    sample: npt.ArrayLike,
    step: npt.ArrayLike = 0,
    device: Device = CPU,
) -> Any:
    """One value per emitter: the constant, or a draw at each counter; float64, broadcast shape.

    Counters and values lie on the device.
    """
    if isinstance(value, Distribution):
        uniform = _stream(key, path).uniform(element, sample=sample, step=step, device=device)
        if value.host_only:
            return device.put(value.quantile(device.get(uniform)), np.float64)
        return value.quantile(uniform, device)
    shape = np.broadcast_shapes(np.shape(element), np.shape(sample), np.shape(step))
    return device.xp.full(shape, float(value))


def counter_words(device: Device, **counters: Any) -> dict[str, Any]:
    """Counters of molecules as a :class:`Key` takes them, uint32 on their device, and the device.

    They fit: there are at most 1e7 molecules in a sample and 2**32 samples and frames. Words need
    not be looked through, for which the host would have to wait for a GPU.
    """
    words = {name: device.put(value).astype(np.uint32) for name, value in counters.items()}
    return words | {"device": device}


def per_sample(recipe: Recipe, drawn: dict[str, Floats], path: str, samples: int) -> Floats:
    """Value at a path for each sample, drawn or constant, shape ``(samples,)``."""
    if path in drawn:
        return drawn[path]
    value: Any = recipe
    for part in path.split("."):
        value = value[part] if isinstance(value, dict) else getattr(value, part)
    return np.full(samples, float(value))


def number_of(recipe: Recipe, drawn: dict[str, float], path: str) -> float:
    """The number at a path of one sample, drawn or constant."""
    return drawn[path] if path in drawn else float(per_sample(recipe, {}, path, 1)[0])


def parameter_units(recipe: Recipe) -> dict[str, str]:
    """Unit of every number drawn per dataset or per sample, by path."""
    units = {path: _unit(recipe, path) for scope in SCOPES for path in recipe.drawn(scope)}
    wavefront = recipe.optics.wavefront
    if wavefront is not None:
        units.update({f"{COEFFICIENT}{mode}": "nm" for mode in sorted(wavefront.random_modes)})
    if drawn_forms(recipe):
        units[FORM] = "1"
    return units


def _stream(key: Key, path: str) -> Key:
    return key.child("parameters").child(path)


def _random_direction(
    wavefront: ZernikeWavefront, drawn: dict[str, Floats], key: Key, samples: npt.NDArray[np.int64]
) -> dict[str, Floats]:
    """Coefficients [nm] of a random direction whose root sum of squares is ``rms_nm``."""
    modes = wavefront.random_modes
    stream = _stream(key, "optics.wavefront.random_modes")
    uniform = stream.uniform(np.array(modes)[None, :], sample=samples[:, None])
    direction = normal_quantile(uniform)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    constant = wavefront.rms_nm
    rms = drawn["optics.wavefront.rms_nm"] if isinstance(constant, Distribution) else constant
    values = direction * np.broadcast_to(np.asarray(rms, np.float64), samples.shape)[:, None]
    return {f"{COEFFICIENT}{mode}": values[:, k] for k, mode in enumerate(modes)}


def _unit(recipe: Recipe, path: str) -> str:
    model: Any = recipe
    extra: Any = None
    for part in path.split("."):
        if not isinstance(model, Model):
            break  # numbers of a dictionary share the unit of its field
        extra = type(model).model_fields[part].json_schema_extra
        model = getattr(model, part)
    unit = extra.get("unit") if isinstance(extra, dict) else None
    return str(unit) if unit else "nm"
