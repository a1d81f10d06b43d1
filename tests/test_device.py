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
