"""A GPU kernel with its signature: compiled for the device at hand when it is first launched.

``on_grid`` marks a function whose threads each take the element ``cuda.grid(1)``. Its signature
stands beside it, so that a test without a GPU can compile it to PTX, and so that every launch runs
the same code. Under Numba's CUDA simulator (``NUMBA_ENABLE_CUDASIM=1``) signatures do not matter.
"""

from functools import cached_property

from numba import cuda

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

    def __call__(self, count, *arguments, threads=THREADS):
        """Run ``count`` elements on the default stream, ``threads`` of them in a block."""
        if count > 0:
            self.compiled[(count + threads - 1) // threads, threads](*arguments)


def on_grid(signature):
    """Decorate the body of a :class:`GridKernel`, such as ``on_grid("(float32[::1], uint32)")``."""

    def decorate(body):
        return GridKernel(body, signature)

    return decorate
