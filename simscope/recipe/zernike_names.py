"""Names of Zernike modes: OSA/ANSI, Noll and Fringe indices, and the pair (n, m) they stand for.

Sources: Thibos et al., J. Refract. Surg. 18, S652 (2002) for OSA/ANSI; Noll, J. Opt. Soc. Am. 66,
207 (1976); Loomis, in Optical Shop Testing (Fringe ordering, all radial orders).
"""

from __future__ import annotations

import math

from simscope.errors import OpticsError


def check_mode(n: int, m: int) -> None:
    """Return nothing; raise OpticsError unless ``Z_n^m`` exists."""
    if n < 0 or abs(m) > n or (n - m) % 2:
        raise OpticsError(
            f"Zernike mode (n={n}, m={m}) does not exist: need n >= |m| with n - m even"
        )


def osa_to_nm(index: int) -> tuple[int, int]:
    """Radial order and azimuthal frequency ``(n, m)`` of an OSA/ANSI index (from 0)."""
    _check_index(index, 0, "OSA/ANSI")
    n = (math.isqrt(8 * index + 1) - 1) // 2
    return n, 2 * index - n * (n + 2)


def nm_to_osa(n: int, m: int) -> int:
    """OSA/ANSI index (from 0) of the mode ``(n, m)``."""
    check_mode(n, m)
    return (n * (n + 2) + m) // 2


def noll_to_nm(index: int) -> tuple[int, int]:
    """Radial order and azimuthal frequency ``(n, m)`` of a Noll index (from 1).

    Within one order |m| grows; even indices are cosines. Source: Noll 1976, table 1.
    """
    _check_index(index, 1, "Noll")
    n = (math.isqrt(8 * (index - 1) + 1) - 1) // 2
    place = index - 1 - n * (n + 1) // 2
    m = 2 * ((place + 1) // 2) if n % 2 == 0 else 2 * (place // 2) + 1
    return n, m if index % 2 == 0 else -m


def nm_to_noll(n: int, m: int) -> int:
    """Noll index (from 1) of the mode ``(n, m)``."""
    check_mode(n, m)
    first = n * (n + 1) // 2 + 1
    return next(j for j in range(first, first + n + 1) if noll_to_nm(j) == (n, m))


def fringe_to_nm(index: int) -> tuple[int, int]:
    """Radial order and azimuthal frequency ``(n, m)`` of a Fringe index (from 1).

    Groups of equal n + |m| = 2g occupy the indices g^2+1 to (g+1)^2, |m| falling, cosine first.
    """
    _check_index(index, 1, "Fringe")
    group = math.isqrt(index - 1)
    place = index - 1 - group * group
    m = group - place // 2
    n = 2 * group - m
    return n, m if place % 2 == 0 else -m


def nm_to_fringe(n: int, m: int) -> int:
    """Fringe index (from 1) of the mode ``(n, m)``."""
    check_mode(n, m)
    group = (n + abs(m)) // 2
    return group * group + 2 * (group - abs(m)) + 1 + (1 if m < 0 else 0)


def osa_to_noll(index: int) -> int:
    """Noll index (from 1) of an OSA/ANSI index (from 0)."""
    return nm_to_noll(*osa_to_nm(index))


def noll_to_osa(index: int) -> int:
    """OSA/ANSI index (from 0) of a Noll index (from 1)."""
    return nm_to_osa(*noll_to_nm(index))


def osa_to_fringe(index: int) -> int:
    """Fringe index (from 1) of an OSA/ANSI index (from 0)."""
    return nm_to_fringe(*osa_to_nm(index))


def fringe_to_osa(index: int) -> int:
    """OSA/ANSI index (from 0) of a Fringe index (from 1)."""
    return nm_to_osa(*fringe_to_nm(index))


def _check_index(index: int, lowest: int, name: str) -> None:
    if index < lowest:
        raise OpticsError(f"{name} index {index} is below {lowest}, where {name} starts counting")
