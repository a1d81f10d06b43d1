"""One BLAS thread at a time: the products are small, and threads of our own share the planes.

More threads inside each product only get in each other's way, and might move last bits.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


def single_blas_thread() -> AbstractContextManager[Any]:
    """Context in which BLAS uses one thread; restores the number before at its end."""
    return _controller().limit(limits=1, user_api="blas")
