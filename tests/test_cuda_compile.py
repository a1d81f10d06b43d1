"""Every GPU kernel compiles for today's devices, and leaves the assembler nothing to fuse."""

import importlib
import pkgutil

import pytest
from gpu_stand_in import SUPPORTED, arithmetic, compiled_ptx, missing_toolchain

import simscope.kernels.cuda

needs_toolchain = pytest.mark.skipif(bool(missing_toolchain()), reason=missing_toolchain())


def grid_kernels():
    """(module.name, kernel) of every GPU kernel."""
    if missing_toolchain():
        return []
    from simscope.kernels.cuda.launch import GridKernel

    names = [module.name for module in pkgutil.iter_modules(simscope.kernels.cuda.__path__)]
    modules = [importlib.import_module(f"simscope.kernels.cuda.{name}") for name in names]
    return [
        pytest.param(value, id=f"{module.__name__.split('.')[-1]}.{name}")
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, GridKernel)
    ]


@needs_toolchain
@pytest.mark.parametrize("kernel", grid_kernels())
def test_kernel_compiles_without_a_gpu_and_rounds_as_on_the_cpu(kernel):
    for capability in SUPPORTED:
        ptx = compiled_ptx(kernel, capability)
        assert f".target sm_{capability[0]}{capability[1]}" in ptx
        # a product fused with a sum would round once where the CPU rounds twice
        assert arithmetic(ptx) == arithmetic(compiled_ptx(kernel, capability, fuse=False))


@needs_toolchain
def test_a_product_left_to_the_compiler_would_be_noticed():
    from numba import cuda

    from simscope.kernels.cuda.launch import on_grid
    from simscope.kernels.numeric import product

    @on_grid("(float32[::1], float32[::1])")
    def fused(x, out):
        i = cuda.grid(1)
        out[i] = x[i] * x[i] + x[i]

    @on_grid("(float32[::1], float32[::1])")
    def apart(x, out):
        i = cuda.grid(1)
        out[i] = product(x[i], x[i]) + x[i]

    for kernel, notices in ((fused, True), (apart, False)):
        free, held = (compiled_ptx(kernel, (9, 0), fuse=fuse) for fuse in (True, False))
        assert (arithmetic(free) != arithmetic(held)) == notices
