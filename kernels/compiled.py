"""The four ways a kernel is compiled, in one place.

``inlined`` is a scalar body that becomes part of its caller, ``compiled`` a function of its own,
``pasted`` a step of one or two drivers that is never compiled by itself, ``threaded`` a driver
whose ``prange`` runs on Numba's threads. All release the interpreter's lock, are kept on disk
(``caching.py``) and follow IEEE arithmetic: dividing by zero gives infinity, nothing is
reassociated, and no product is contracted with a sum unless ``numeric.fma`` says so.
Bodies marked ``inlined`` or ``compiled`` run on a GPU too, called by the drivers in
``kernels/cuda``.
"""

from numba import njit

from simscope.kernels.caching import on_disk

OPTIONS = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}


def inlined(function):
    """A scalar body that becomes part of its caller."""
    return on_disk(njit(**OPTIONS, forceinline=True)(function))


def compiled(function):
    """A function of its own, on the calling thread."""
    return on_disk(njit(**OPTIONS)(function))


def pasted(function):
    """A step whose text becomes part of its caller: each level above would compile it once more."""
    return njit(**OPTIONS, inline="always")(function)


def threaded(function):
    """A driver whose ``prange`` runs on Numba's threads."""
    return on_disk(njit(**OPTIONS, parallel=True)(function))
