"""A GPU kernel with its signature: compiled for the device at hand when it is first launched.

``on_grid`` marks a function whose threads each take the element ``cuda.grid(1)``. Its signature
stands beside it, so that a test without a GPU can compile it to PTX, and so that every launch runs
the same code. Arguments are held against it at every launch, under Numba's CUDA simulator
(``NUMBA_ENABLE_CUDASIM=1``) too: compiled code would read whatever it is handed.
"""

from functools import cached_property

import numpy as np
from numba import cuda
from numba.core import config, sigutils, types
from numba.np.numpy_support import as_dtype

THREADS = 128  # in a block, unless a launch says otherwise


class GridKernel:
    """A kernel of one thread an element; call it with the number of elements and the arguments."""

    def __init__(self, body, signature):
        self.body, self.signature = body, signature
        self.__doc__, self.__name__ = body.__doc__, body.__name__

    @cached_property
    def compiled(self):
        """The kernel, compiled for the current device."""
        return cuda.jit(self.signature)(self.body)

    @cached_property
    def kinds(self):
        """Type of every argument."""
        return sigutils.normalize_signature(self.signature)[0]

    def __call__(self, count, *arguments, threads=THREADS):
        """Run ``count`` elements, ``threads`` in a block, on the stream that the arrays come from.

        Raises
        ------
        TypeError
            If an argument does not fit the signature, or an array does not lie on the GPU.
        """
        if len(arguments) != len(self.kinds):
            raise TypeError(f"{self.__name__} takes {len(self.kinds)} arguments: {self.signature}")
        ready = [
            self._ready(kind, value) for kind, value in zip(self.kinds, arguments, strict=True)
        ]
        if count > 0:
            stream = next((value.stream for value in ready if hasattr(value, "stream")), 0)
            blocks = (count + threads - 1) // threads
            if config.ENABLE_CUDASIM:
                cuda.jit(_Simulated(self.body, ready))[blocks, threads]()
            else:
                self.compiled[blocks, threads, stream](*ready)

    def _ready(self, kind, value):
        """The argument as compiled code expects it: scalars of the right type, arrays as views."""
        if not isinstance(kind, types.Array):
            scalar = as_dtype(kind).type(value)
            return scalar if config.ENABLE_CUDASIM else scalar.item()
        if hasattr(value, "__cuda_array_interface__"):
            value = cuda.as_cuda_array(value, sync=False)  # the launch waits on the same stream
        elif not (config.ENABLE_CUDASIM and isinstance(value, np.ndarray)):
            raise TypeError(
                f"{self.__name__} got {type(value).__name__} for {kind}: not on the GPU"
            )
        fits = value.dtype == as_dtype(kind.dtype) and value.ndim == kind.ndim
        if not fits or (kind.layout == "C" and not _contiguous(value)):
            raise TypeError(
                f"{self.__name__} got {value.dtype} of shape {value.shape} and strides "
                f"{value.strides} for {kind}"
            )
        return value


class _Simulated:
    """A body with its arguments: the simulator would swap arrays for some that no body takes."""

    def __init__(self, body, arguments):
        self.body, self.arguments = body, arguments
        self.__globals__ = body.__globals__  # where the simulator puts its own ``cuda``
        self.__name__, self.__doc__ = body.__name__, body.__doc__

    def __call__(self):
        self.body(*self.arguments)


def _contiguous(array):
    """Whether rows follow each other without gaps; numbers of a single row or none always do."""
    expected = array.dtype.itemsize
    for size, stride in zip(reversed(array.shape), reversed(array.strides), strict=True):
        if size > 1 and stride != expected and array.size:
            return False
        expected *= size
    return True


def on_grid(signature):
    """Decorate the body of a :class:`GridKernel`, such as ``on_grid("(float32[::1], uint32)")``."""

    def decorate(body):
        return GridKernel(body, signature)

    return decorate
