"""Devices are found or refused with a reason; the GPU's drivers agree with the CPU's bit by bit."""

import pytest
from gpu_stand_in import under_simulator

import simscope.device as devices
from simscope.errors import DeviceError


def test_an_unknown_device_is_refused_by_name():
    with pytest.raises(DeviceError, match="device='gpu' is unknown: use one of auto, cpu, cuda"):
        devices.device("gpu")


def test_without_a_gpu_auto_is_the_cpu_and_cuda_says_why(monkeypatch):
    monkeypatch.setattr(devices, "_gpu", lambda: (None, "no CUDA GPU was found"))
    assert devices.device("auto") is devices.CPU
    with pytest.raises(DeviceError, match="no CUDA GPU was found; use 'cpu' or 'auto'"):
        devices.device("cuda")


def test_uniform_variates_have_the_same_bits_on_a_gpu():
    code = """
import numpy as np
from simscope.device import CPU, device
from simscope.kernels.addressed import uniform_at
gpu = device("cuda")
n = 300
words = [np.arange(n) * 7, np.arange(n) % 5, np.arange(n) // 3]
here, there = np.empty(n), np.empty(n)
key = (np.uint32(3), np.uint32(1), np.uint32(2))
uniform_at(here, *words, *key)
gpu.kernels("addressed").uniform_at(n, there, *words, *key)
print((here == there).all(), here.min() > 0)
"""
    assert under_simulator(code).split() == ["True", "True"]


def test_a_launch_refuses_arrays_that_compiled_code_would_misread():
    code = """
import numpy as np
from simscope.device import device
from simscope.kernels.cuda.elementary import exponential
right, out = np.linspace(-1, 1, 6), np.empty(6)
for wrong in (right.astype(np.float32), right.reshape(2, 3), np.linspace(-1, 1, 12)[::2]):
    try:
        exponential(6, wrong, out)
    except TypeError as error:
        print("refused", error)
exponential(6, right, out)
print(np.array_equal(out.round(12), np.exp(right).round(12)))
"""
    lines = under_simulator(code).splitlines()
    assert [line.split()[0] for line in lines] == ["refused"] * 3 + ["True"]
    assert "exponential got float32 of shape (6,)" in lines[0]


def test_elementary_functions_have_the_same_bits_on_a_gpu():
    code = """
import numpy as np
from simscope import elementary
from simscope.device import CPU, device
from simscope.recipe.distributions import log_gamma_quantile
gpu = device("cuda")
share = np.concatenate([np.linspace(1e-3, 1 - 1e-3, 150), 10.0 ** -np.arange(1, 16), [0.0, 1.0]])
places = np.concatenate([np.linspace(-20, 20, 150), [-800.0, -708.0, 709.0, 800.0]])
for function, x in ((elementary.normal_quantile, share), (elementary.exp, places),
                    (elementary.log, np.exp(places[:150])), (log_gamma_quantile(4.0), places)):
    here, there = function(x), function(x, gpu)
    print(here.tobytes() == there.tobytes())
counts = np.array([0, 3, 0, 1, 2, 0])
print(np.array_equal(CPU.repeat(np.arange(6), counts), gpu.repeat(np.arange(6), counts)))
"""
    assert under_simulator(code).split() == ["True"] * 5


def test_smooth_background_has_the_same_bits_on_a_gpu():
    code = """
import numpy as np
from simscope.device import device
from simscope.keys import Key
from simscope.recipe import load_recipe
from simscope.recipe.draws import draw_samples
from simscope.sample import background_photons
recipe = load_recipe("smlm-2d-dense").replace_all({
    "acquisition.shape": [12, 17],
    "background": {"kind": "smooth", "scale_um": 0.7, "contrast": {"uniform": [0.1, 0.9]},
                   "photons_per_pixel": {"loguniform": [1, 50]}},
})
key, indices = Key(5), np.array([3, 4])
drawn = draw_samples(recipe, key, indices)
here = background_photons(recipe, key, indices, drawn)
there = background_photons(recipe, key, indices, drawn, device("cuda"))
print(here.tobytes() == there.tobytes(), here.shape, here.std() > 1)
"""
    assert under_simulator(code).strip() == "True (2, 12, 17) True"
