"""What stands in for a GPU in tests: Numba's CUDA simulator, and the compiler without a device."""

import functools
import importlib.util
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

SUPPORTED = ((8, 0), (9, 0))
"""Compute capabilities of A100 and H100 or H200."""


@functools.cache
def missing_toolchain():
    """Why kernels cannot be compiled to PTX here, or nothing if they can."""
    if importlib.util.find_spec("numba_cuda") is None:
        return "the package numba-cuda is not installed"
    from numba.cuda.cudadrv.error import NvvmSupportError
    from numba.cuda.cudadrv.nvvm import NVVM

    try:
        NVVM()
    except (NvvmSupportError, OSError) as error:
        return f"libNVVM cannot be loaded: {error}"
    return ""


def compiled_ptx(kernel, capability, *, fuse=True):
    """PTX text of a ``GridKernel`` for a compute capability, no GPU needed.

    With ``fuse`` the compiler may contract products and sums, as it does on a device.
    """
    from numba import cuda
    from numba.cuda import codegen, dispatcher

    def compile_ir(llvm_ir, **options):
        return real_compile_ir(llvm_ir, **options | {"fma": fuse})

    real_device, real_compile_ir = dispatcher.get_current_device, codegen.nvvm.compile_ir
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
    codegen.nvvm.compile_ir = compile_ir
    try:
        signature = cuda.compiler.sigutils.normalize_signature(kernel.signature)[0]
        return cuda.compile_ptx(kernel.body, signature, cc=capability)[0]
    finally:
        dispatcher.get_current_device = real_device
        codegen.nvvm.compile_ir = real_compile_ir


ARITHMETIC = re.compile(r"^\s*(fma|mul|add|sub|div|sqrt)\b[^;]*\.f(?:32|64)\b", re.M)


def arithmetic(ptx):
    """How often each floating-point operation stands in the PTX."""
    return Counter(ARITHMETIC.findall(ptx))


SIMULATOR = {
    "NUMBA_ENABLE_CUDASIM": "1",
    "NUMBA_DISABLE_JIT": "0",  # the bodies stay compiled where the tests measure coverage
    "PYTHONPATH": str(Path(__file__).parent),
}


def under_simulator(code, *arguments, timeout=600):
    """Output of Python code run in a fresh process under Numba's CUDA simulator."""
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | SIMULATOR,
        capture_output=True, text=True, timeout=timeout,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stdout
