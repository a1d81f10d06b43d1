"""Machine code kept on disk: safe against edits, other processes and folders nobody may write to.

Numba's own cache takes a file's code for fresh while that one file is unchanged, although code of
the files it imports from is compiled into it; numbers the entries of a function, so that two
processes may give one number to two of them; and ends the program where nothing can be written.
Here an entry's name says which sources, argument types and processor it is for, and a cache that
cannot be written is done without, with a word.
"""

import ast
import functools
import hashlib
import inspect
import sys
import warnings
from importlib import resources

from numba.core.caching import FunctionCache, IndexDataCacheFile, NullCache

PACKAGE = "simscope.kernels"
REMEDY = (
    "every process will compile the kernels it uses again, for seconds: set NUMBA_CACHE_DIR to a "
    "folder you can write to"
)


class CacheWarning(UserWarning):
    """Compiled kernels cannot be kept on disk; results stand."""


def on_disk(dispatcher):
    """The dispatcher, its compiled code kept on disk where that is possible."""
    if hasattr(dispatcher, "py_func"):  # else compilation is switched off
        dispatcher._cache = cache_of(dispatcher.py_func)
    return dispatcher


def cache_of(function):
    """A function's cache; one that keeps nothing, after a warning, where no folder serves."""
    try:
        return KernelCache(function)
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
        warn_once("neither the installation's folder nor your cache folder can be written to")
        return NullCache()


@functools.cache
def warn_once(reason):
    """Warn that kernels are not kept on disk, once a process and reason."""
    warnings.warn(f"{reason}: {REMEDY}", CacheWarning, stacklevel=2)


class KernelCache(FunctionCache):
    """Numba's cache of one function, with an entry's whole origin in its name."""

    def __init__(self, function):
        super().__init__(function)
        stamp = source_stamp(inspect.getsource(sys.modules[function.__module__]))
        self._cache_file = Entries(self.cache_path, self._impl.filename_base, stamp)

    def save_overload(self, sig, data):
        """Keep compiled code; a disk that refuses (full, read-only) costs only the keeping."""
        try:
            super().save_overload(sig, data)
        except OSError as error:
            warn_once(f"{self.cache_path} takes no compiled kernels ({error.strerror or error})")


class Entries:
    """Files of one function's compiled code, a pair for each combination of types and processor.

    Files are replaced whole. Processes that compile the same at once write the same; those that
    compile different things never write to one file.
    """

    def __init__(self, folder, base, stamp):
        self._folder, self._base, self._stamp = folder, base, stamp

    def load(self, key):
        """Compiled code for a key, or None."""
        return self._entry(key).load(key)

    def save(self, key, data):
        """Keep compiled code for a key."""
        self._entry(key).save(key, data)

    def _entry(self, key):
        name = hashlib.sha256(repr((self._stamp, key)).encode()).hexdigest()[:16]
        return IndexDataCacheFile(self._folder, f"{self._base}-{name}", self._stamp)


@functools.cache
def source_stamp(text):
    """Hash of a source text and of all it imports from this package, directly or not."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(sources(text)):
        digest.update(f"{name}\n{source(name)}".encode())
    return digest.hexdigest()


def sources(text):
    """Names of all modules of this package that a source text is compiled from."""
    found, ahead = set(), set(imported(text))
    while ahead:
        name = ahead.pop()
        found.add(name)
        ahead |= imported(source(name)) - found
    return found


@functools.cache
def imported(text):
    """Names of the package's modules that a source text imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
        if module == PACKAGE:
            found |= {alias.name for alias in node.names}
        elif module.startswith(f"{PACKAGE}."):
            found.add(module.removeprefix(f"{PACKAGE}."))
    return frozenset(found)


@functools.cache
def source(name):
    """Source of a module of the package, also out of a zip archive."""
    return resources.files(PACKAGE).joinpath(f"{name}.py").read_text("utf8")
