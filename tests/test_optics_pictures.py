"""Pictures of PSFs: views and samples that cannot be shown."""

from __future__ import annotations

import pytest

from simscope.errors import SimscopeError
from simscope.recipe import Optics, load_recipe
from simscope.show import psf_figure, recipe_psf_figure


@pytest.mark.parametrize("side_um", [float("nan"), float("inf"), 0.0, -1.0, 0.1, 1e6])
def test_pictures_of_no_sensible_side_are_refused(side_um):

    with pytest.raises(SimscopeError, match="side_um"):
        recipe_psf_figure(load_recipe("smlm-2d-dense"), side_um=side_um)
    with pytest.raises(SimscopeError, match="side_um"):
        psf_figure(Optics(), side_um=side_um)


@pytest.mark.parametrize("sample", [-1, 2**32, 1.5, True])
def test_samples_that_cannot_be_acquired_cannot_be_shown(sample):

    with pytest.raises(SimscopeError, match="sample="):
        recipe_psf_figure(load_recipe("psf-zernike"), sample=sample, side_um=1.0)
