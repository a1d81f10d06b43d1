"""GPU drivers: what the drivers one folder up loop over, here one thread an element.

Each file is named like the one whose scalar bodies it calls, and holds no formula of its own.
Imported only where a GPU, or Numba's CUDA simulator, is asked for.
"""
