"""One BLAS thread at a time: the products are small, and threads of our own share the planes.

More threads inside each product only get in each other's way, and might move last bits.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from threadpoolctl import ThreadpoolController


class _SingleBlas:
    """Holds the process's BLAS at one thread while anybody needs it, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._controller: ThreadpoolController | None = None
        self._limit: AbstractContextManager[Any] | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Context of one user; the first sets the limit, the last takes it back."""
        with self._lock:
            if self._users == 0:
                self._controller = self._controller or ThreadpoolController()
                self._limit = self._controller.limit(limits=1, user_api="blas")
                self._limit.__enter__()
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0 and self._limit is not None:
                    self._limit.__exit__(None, None, None)
                    self._limit = None


_BLAS = _SingleBlas()


def single_blas_thread() -> AbstractContextManager[None]:
    """Context in which BLAS uses one thread; the number before comes back after its last user."""
    return _BLAS.held()
