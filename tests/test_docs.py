"""The page of PSF models: its examples run as printed, one after another."""

import re
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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SimscopeWarning)
        exec(compile("\n".join(blocks), str(PAGE), "exec"), {})  # noqa: S102
