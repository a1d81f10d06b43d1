"""Hot loops: numbers in, numbers out. Imports numpy, math and numba, nothing else."""
