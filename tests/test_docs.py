"""The page of PSF models: its examples run as printed, one after another."""

import re
import runpy
import warnings
from pathlib import Path

import numba
import pytest

from simscope.errors import SimscopeWarning

PAGE = Path(__file__).parents[1] / "docs" / "psf.md"


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="renders and tabulates, too slow without JIT")
def test_examples_run_as_printed_in_one_session(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIMSCOPE_CACHE", str(tmp_path / "tables"))
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf8"), re.DOTALL)
    assert len(blocks) > 5
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks), "utf8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SimscopeWarning)
        runpy.run_path(str(script))
