"""Zernike polynomials and their index conventions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simscope.errors import OpticsError
from simscope.optics import zernike as exported_zernike
from simscope.optics.zernike import (
    fringe_to_nm,
    nm_to_fringe,
    nm_to_noll,
    nm_to_osa,
    noll_to_nm,
    osa_to_nm,
    osa_to_noll,
    zernike,
)


def test_modes_are_orthonormal_over_the_disc():
    # Gauss in rho^2 and equal steps in angle integrate these polynomials exactly
    node, weight = np.polynomial.legendre.leggauss(16)
    theta = 2 * np.pi * np.arange(32) / 32
    rho, angle = np.meshgrid(np.sqrt(0.5 * (node + 1)), theta)
    area = np.repeat(weight[None] / 2, 32, axis=0) / 32
    modes = np.array([zernike(*osa_to_nm(j), rho, angle) for j in range(45)])
    overlap = np.einsum("iab,jab,ab->ij", modes, modes, area)
    np.testing.assert_allclose(overlap, np.eye(45), atol=1e-12)


@pytest.mark.parametrize(
    ("nm", "osa", "noll", "fringe"),
    [
        ((0, 0), 0, 1, 1),
        ((1, 1), 2, 2, 2),
        ((1, -1), 1, 3, 3),
        ((2, 0), 4, 4, 4),
        ((2, 2), 5, 6, 5),
        ((2, -2), 3, 5, 6),
        ((3, 1), 8, 8, 7),
        ((3, -1), 7, 7, 8),
        ((4, 0), 12, 11, 9),
        ((3, 3), 9, 10, 10),
        ((3, -3), 6, 9, 11),
        ((4, 2), 13, 12, 12),
        ((6, 0), 24, 22, 16),
    ],
)
def test_indices_agree_with_the_printed_tables(nm, osa, noll, fringe):
    assert (nm_to_osa(*nm), nm_to_noll(*nm), nm_to_fringe(*nm)) == (osa, noll, fringe)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 400))
def test_every_index_convention_names_each_mode_once(index):
    n, m = osa_to_nm(index)
    assert nm_to_osa(n, m) == index
    assert noll_to_nm(nm_to_noll(n, m)) == (n, m)
    assert fringe_to_nm(nm_to_fringe(n, m)) == (n, m)
    assert osa_to_noll(index) == nm_to_noll(n, m)


def test_defocus_and_astigmatism_match_their_closed_forms():
    rho, theta = np.array([0.0, 0.4, 1.0]), np.array([0.0, 0.7, -2.0])
    np.testing.assert_allclose(zernike(2, 0, rho, theta), np.sqrt(3) * (2 * rho**2 - 1))
    np.testing.assert_allclose(
        zernike(2, -2, rho, theta), np.sqrt(6) * rho**2 * np.sin(2 * theta), atol=1e-15
    )
    assert exported_zernike is zernike


@pytest.mark.parametrize(("n", "m"), [(2, 1), (1, 3), (-1, 1)])
def test_impossible_modes_are_refused(n, m):
    with pytest.raises(OpticsError, match="does not exist"):
        zernike(n, m, 0.5, 0.0)
    with pytest.raises(OpticsError, match="below"):
        noll_to_nm(0)


def test_index_conversions_are_each_others_inverse():
    from simscope import optics

    for index in range(60):
        assert optics.noll_to_osa(optics.osa_to_noll(index)) == index
        assert optics.fringe_to_osa(optics.osa_to_fringe(index)) == index
    # Noll 1976, table I: defocus 4, coma 7 and 8, spherical 11; OSA/ANSI Z80.28: 4, 7, 8, 12
    assert [optics.noll_to_osa(j) for j in (4, 11)] == [4, 12]
    assert {optics.noll_to_osa(7), optics.noll_to_osa(8)} == {7, 8}
