"""Hot loops: numbers in, numbers out. Imports numpy, math and numba, nothing else."""

from simscope.kernels import notice

__all__ = ["notice"]
