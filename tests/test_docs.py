"""The pages of documentation: their examples run as printed, one after another."""

import importlib.util
import re
import runpy
import warnings
from pathlib import Path

import numba
import pytest

from simscope.errors import SimscopeWarning

PAGES = {  # examples at least
    "psf.md": 6,
    "photophysics.md": 1,
    "volumes.md": 1,
    "targets.md": 2,
    "gpu.md": 1,
    "exchange.md": 2,
    "loading.md": 6,
    "judging.md": 6,
    "fitting.md": 2,
    "training.md": 1,
    "regression.md": 1,
    "localize.md": 1,
    "trust.md": 1,
    "design.md": 1,
}
WITH_TORCH = {"loading.md", "training.md", "regression.md", "localize.md", "trust.md", "design.md"}
WITHOUT_A_GPU = {'device="cuda"': 'device="cpu"', "100_000": "20", "10_000": "20", "1024": "4"}
"""What to change in the page on GPUs where there is none: the device, and how much is asked."""


def examples(page):
    blocks = re.findall(
        r"```python\n(.*?)```",
        (Path(__file__).parents[1] / "docs" / page).read_text("utf8"),
        re.DOTALL,
    )
    assert len(blocks) >= PAGES[page]
    return "\n".join(blocks)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a script in an empty folder, with tables of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIMSCOPE_CACHE", str(tmp_path / "tables"))

    def run(text):
        script = tmp_path / "page.py"
        script.write_text(text, "utf8")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SimscopeWarning)
            return runpy.run_path(str(script))

    return run


pytestmark = pytest.mark.skipif(
    numba.config.DISABLE_JIT, reason="renders and tabulates, too slow without JIT"
)


@pytest.mark.parametrize("page", sorted(PAGES.keys() - WITH_TORCH - {"gpu.md"}))
def test_examples_run_as_printed_in_one_session(page, run):
    run(examples(page))


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="feeds PyTorch")
@pytest.mark.parametrize("page", sorted(WITH_TORCH))
def test_examples_with_pytorch_run_as_printed_in_one_session(page, run):
    run(examples(page))


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="gives PyTorch its tensors")
def test_examples_for_a_gpu_run_without_one_on_few_samples(run):
    text = examples("gpu.md")
    for asked, instead in WITHOUT_A_GPU.items():
        assert asked in text
        text = text.replace(asked, instead)
    done = run(text)
    assert next(iter(done["stream"]))


def test_first_lines_of_the_readme_run_without_a_warning(tmp_path):
    text = (Path(__file__).parents[1] / "README.md").read_text("utf8")
    block = re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1)
    script = tmp_path / "first.py"
    script.write_text(block[: block.index("ss.generate(")], "utf8")
    with warnings.catch_warnings():
        warnings.simplefilter("error", SimscopeWarning)
        assert {"psf", "bound"} <= runpy.run_path(str(script)).keys()
