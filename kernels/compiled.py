"""The three ways a kernel is compiled, in one place.

``inlined`` is a scalar body that becomes part of its caller, ``compiled`` a function of its own,
``threaded`` a driver whose ``prange`` runs on Numba's threads. All release the interpreter's lock,
are cached on disk and follow IEEE arithmetic: dividing by zero gives infinity, nothing is
reassociated, and no product is contracted with a sum unless ``numeric.fma`` says so. Bodies marked
``inlined`` or ``compiled`` run on a GPU too, called by the drivers in ``kernels/cuda``.
"""

from numba import njit

OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy"}

inlined = njit(**OPTIONS, forceinline=True)
compiled = njit(**OPTIONS)
threaded = njit(**OPTIONS, parallel=True)
