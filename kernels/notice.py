"""A word on stderr while kernels compile for long: what a first use waits for.

Nothing is said below a second of compiling, nor where all code comes from the disk.
"""

import sys
import time

from numba.core import event

PATIENCE_S = 1.0
TEXT = "note: compiling kernels for this machine, once"
CLEAR = "\r\x1b[K"


class CompileNotice(event.Listener):
    """Counts the kernels compiled by this process, and tells who waits for them.

    A terminal gets one line that is kept up to date and taken away in the end; anything else gets
    one line in the life of the process.
    """

    def __init__(self):
        self.compiled = 0
        self._depth = 0
        self._before_s = 0.0
        self._began_s = 0.0
        self._told = False

    def on_start(self, event):
        """A function begins to compile, perhaps within another that calls it."""
        if not is_kernel(event):
            return
        if self._depth == 0:
            self._began_s = time.monotonic()
        self._depth += 1
        if self._spent_s() > PATIENCE_S:
            self._tell(event.data["dispatcher"].py_func.__name__)

    def on_end(self, event):
        """A function has compiled."""
        if not is_kernel(event):
            return
        self.compiled += 1
        self._depth -= 1
        if self._depth == 0:
            self._before_s += time.monotonic() - self._began_s
            if self._told and sys.stderr.isatty():
                print(CLEAR, end="", file=sys.stderr, flush=True)

    def _spent_s(self):
        return self._before_s + time.monotonic() - self._began_s

    def _tell(self, name):
        if sys.stderr.isatty():
            line = f"{CLEAR}{TEXT}: {self.compiled} done, now {name}"
            print(line, end="", file=sys.stderr, flush=True)
        elif not self._told:
            print(f"{TEXT}; this takes 10 s to a minute", file=sys.stderr, flush=True)
        self._told = True


def is_kernel(event):
    """Whether a compiling event is about a function of this package."""
    return (event.data["dispatcher"].py_func.__module__ or "").startswith("simscope.kernels")


NOTICE = CompileNotice()
event.register("numba:compile", NOTICE)
