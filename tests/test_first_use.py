"""First use: kernels compile once, are kept wherever something can be, and never go stale."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numba
import numpy as np
import pytest
from numba.core.caching import IndexDataCacheFile, NullCache
from small_worlds import snapshot
from typer.testing import CliRunner

from simscope import cli
from simscope.cli.frame import BAD_INPUT
from simscope.kernels import addressed, caching, notice
from simscope.kernels.compiled import compiled
from simscope.warmup import warm_up

ROOT = Path(__file__).resolve().parents[1]
needs_compiler = pytest.mark.skipif(
    bool(numba.config.DISABLE_JIT), reason="compilation is switched off"
)

HELPER = """
from simscope.kernels.compiled import inlined

@inlined
def scaled(x):
    return 2 * x
"""
CALLER = """
from simscope.kernels.compiled import compiled
from simscope.kernels.helper import scaled

@compiled
def caller(x):
    return scaled(x) + 1
"""
CALL = """
import sys
from simscope.kernels.caller import caller
print(*(caller(kind(10)) for kind in (int, float) if kind.__name__ in sys.argv))
print(sum(caller.stats.cache_misses.values()), sum(caller.stats.cache_hits.values()))
print(caller.stats.cache_path)
"""


@pytest.fixture
def copied(tmp_path):
    """A copy of the package with two small kernels, one calling the other."""
    package = tmp_path / "site" / "simscope"
    shutil.copytree(
        ROOT / "kernels", package / "kernels", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(ROOT / "simscope" / "__init__.py", package)
    (package / "kernels" / "helper.py").write_text(HELPER)
    (package / "kernels" / "caller.py").write_text(CALLER)
    return package / "kernels"


def start(copied, home, *types):
    """Start a process that calls the copied kernel, with ``home`` as the user's cache folder."""
    changed = {
        "PYTHONPATH": str(copied.parents[1]),
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    kept = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    return subprocess.Popen(
        [sys.executable, "-c", CALL, *types],
        cwd=copied.parents[1], env=kept | changed, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def finished(process):
    """What the process printed: (value, misses, hits, folder, stderr)."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    values, counts, folder = out.splitlines()
    misses, hits = (int(count) for count in counts.split())
    return values, misses, hits, folder, err


def call(copied, home, *types):
    return finished(start(copied, home, *(types or ("int",))))


def without_a_folder_of_its_own(copied):
    """Make the installation's cache folder impossible, also for root whom no mode bits stop."""
    (copied / "__pycache__").write_text("a file where the folder would be")


@needs_compiler
def test_editing_a_helper_recompiles_its_callers(copied, tmp_path):
    assert call(copied, tmp_path)[:3] == ("21", 1, 0)
    assert call(copied, tmp_path)[:3] == ("21", 0, 1)
    helper = copied / "helper.py"
    before = helper.stat()
    helper.write_text(HELPER.replace("2 * x", "3 * x"))
    os.utime(helper, ns=(before.st_atime_ns, before.st_mtime_ns))  # same size, same time
    assert call(copied, tmp_path)[:3] == ("31", 1, 0)
    helper.write_text(HELPER)
    assert call(copied, tmp_path)[:3] == ("21", 0, 1)


@needs_compiler
def test_editing_what_a_kernel_does_not_use_recompiles_nothing(copied, tmp_path):
    call(copied, tmp_path)
    with (copied / "philox.py").open("a") as file:
        file.write("\nUNUSED = 1\n")
    assert call(copied, tmp_path)[:3] == ("21", 0, 1)


@needs_compiler
def test_an_installation_nobody_may_write_to_uses_the_cache_folder(copied, tmp_path):
    without_a_folder_of_its_own(copied)
    *_, folder, err = call(copied, tmp_path / "home")
    assert Path(folder).is_relative_to(tmp_path / "home")
    assert err == ""
    assert call(copied, tmp_path / "home")[:3] == ("21", 0, 1)


@needs_compiler
def test_with_no_folder_at_all_kernels_still_run_and_say_so_once(copied):
    without_a_folder_of_its_own(copied)
    value, misses, hits, folder, err = call(copied, "/dev/null/none")
    assert (value, misses, hits, folder) == ("21", 1, 0, "None")
    assert err.count("CacheWarning") == 1
    assert "set NUMBA_CACHE_DIR" in err


@needs_compiler
def test_processes_that_compile_at_once_leave_a_whole_cache(copied, tmp_path):
    together = [start(copied, tmp_path, kind) for kind in ("int", "float") * 2]
    for process in together:
        finished(process)
    assert call(copied, tmp_path, "int", "float")[:3] == ("21 21.0", 0, 2)


def test_two_processes_that_see_an_empty_cache_write_to_two_files(tmp_path, monkeypatch):
    with monkeypatch.context() as racing:
        racing.setattr(IndexDataCacheFile, "_load_index", lambda self: {})
        for key in ("int64", "float64"):
            caching.Entries(str(tmp_path), "kernel", "stamp").save(key, f"code for {key}")
    entries = caching.Entries(str(tmp_path), "kernel", "stamp")
    assert entries.load("int64") == "code for int64"
    assert entries.load("float64") == "code for float64"
    assert caching.Entries(str(tmp_path), "kernel", "other").load("int64") is None


@needs_compiler
def test_a_full_disk_costs_only_the_keeping(monkeypatch):
    def refuse(self, key, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    @compiled
    def doubled(x):
        return 2 * x

    monkeypatch.setattr(caching.Entries, "load", lambda self, key: None)
    monkeypatch.setattr(caching.Entries, "save", refuse)
    caching.warn_once.cache_clear()
    with pytest.warns(caching.CacheWarning, match=r"No space left.*NUMBA_CACHE_DIR"):
        assert doubled(np.float32(2)) == 4


def test_sources_of_a_kernel_are_all_it_imports_directly_or_not():
    names = caching.sources("from simscope.kernels.variates import uniform\n")
    assert {"variates", "philox", "numeric", "compiled", "caching"} <= names
    assert "splat" not in names
    assert caching.imported("from simscope.kernels import blink, splat") == {"blink", "splat"}


AFTER_WARMUP = """
import sys
from pathlib import Path
import simscope as ss
from simscope.kernels.notice import NOTICE
for threads in map(int, sys.argv[2:]):
    sim = ss.Simulator(sys.argv[1], 3, threads=threads, cache=Path(sys.argv[1]).parent)
    sim.batch(0, 5)
    sim[1]
print(NOTICE.compiled)
"""


@needs_compiler
def test_after_warming_up_a_fresh_process_compiles_nothing(tmp_path):
    recipe = snapshot()
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.to_yaml(), "utf8")
    (warmed,) = warm_up([path], cache=tmp_path)
    assert warmed.recipe == recipe.name
    threads = sorted({1, numba.config.NUMBA_NUM_THREADS})
    result = subprocess.run(
        [sys.executable, "-c", AFTER_WARMUP, path, *map(str, threads)],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    assert result.stdout == "0\n"
    assert "compiling" not in result.stderr
    assert warm_up([path], cache=tmp_path)[0].compiled == 0


@needs_compiler
def test_warming_up_where_nothing_can_be_kept_ends_with_code_2(monkeypatch):
    monkeypatch.setattr(addressed.uniform_at, "_cache", NullCache())
    result = CliRunner().invoke(cli.app, ["warmup", "smlm-2d-dense"])
    assert result.exit_code == BAD_INPUT
    assert "set NUMBA_CACHE_DIR to a folder you can write to" in result.stderr


def compiling(seconds, clock, told, module="simscope.kernels.splat"):
    """Tell a notice that a function took so long to compile."""
    function = SimpleNamespace(__module__=module, __name__="splat")
    event = SimpleNamespace(data={"dispatcher": SimpleNamespace(py_func=function)})
    told.on_start(event)
    clock[0] += seconds
    told.on_end(event)


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(notice.time, "monotonic", lambda: now[0])
    return now


def test_a_long_compilation_is_told_once_and_a_short_one_never(clock, capsys):
    told = notice.CompileNotice()
    compiling(0.9, clock, told)
    clock[0] += 1000.0  # time passes, but not by compiling
    compiling(0.05, clock, told)
    compiling(60.0, clock, told, module="somebody.else")
    assert capsys.readouterr().err == ""
    for _ in range(3):
        compiling(5.0, clock, told)
    said = capsys.readouterr().err
    assert said.count(notice.TEXT) == 1
    assert "10 s to a minute" in said
    assert told.compiled == 5


def test_a_terminal_sees_how_many_kernels_are_done_and_is_left_clean(clock, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    told = notice.CompileNotice()
    for _ in range(3):
        compiling(2.0, clock, told)
    shown = capsys.readouterr().err
    assert "1 done, now splat" in shown
    assert "2 done, now splat" in shown
    assert shown.endswith(notice.CLEAR)
