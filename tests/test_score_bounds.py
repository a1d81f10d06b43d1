"""Bounds of matched emitters: whose they are, and on which background."""

from importlib import import_module

import numpy as np

from simscope.evaluate import matched_bounds, score
from simscope.evaluate.crlb import CRLB_DTYPE


def test_bounds_are_those_of_the_emitters_that_were_matched(monkeypatch):
    asked = []

    def echoed(source, emitters, background_photons):
        """Bounds that say of whom they are, on which background."""
        asked.append(len(emitters["x_nm"]))
        made = np.zeros(len(emitters["x_nm"]), CRLB_DTYPE)
        made["x_nm"], made["photons"] = emitters["x_nm"], background_photons
        return made

    monkeypatch.setattr(import_module("simscope.evaluate.bounded"), "crlb", echoed)
    rng, rows = np.random.default_rng(9), np.arange(300)
    truth = {"frame": rows, "x_nm": rng.uniform(1, 9, 300), "y_nm": rows * 0.0, "z_nm": rows * 0.0}
    truth["photons"] = rows + 0.0
    seen = rng.permutation(300)[:120]
    found = {name: truth[name][seen] for name in ("frame", "x_nm", "y_nm")}
    result, level = score(found, truth), rng.uniform(5, 50, 300)
    for most in (5000, 120, 50):
        bounds = matched_bounds(None, truth, result, background_photons=level, most=most)
        known = np.flatnonzero(~np.isnan(bounds["x_nm"]))
        assert len(known) == asked[-1] == min(most, 120)
        assert set(known) <= set(seen)
        assert np.array_equal(bounds["x_nm"][known], truth["x_nm"][known])
        assert np.array_equal(bounds["photons"][known], level[known])
        assert known.max() > 280  # from all over the table
    one = matched_bounds(None, truth, result, background_photons=7.0)
    assert np.nanmax(one["photons"]) == 7.0
