"""Worker processes make the same files as one process, and losing one loses nothing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numba
import pytest
from small_worlds import movie, snapshot
from stored_files import sums

import simscope as ss
from simscope.dataset import workers as worker_module
from simscope.dataset.folder import RunFolder
from simscope.dataset.generation import carry_out
from simscope.dataset.plan import Plan
from simscope.dataset.schema import Layout
from simscope.dataset.workers import Crew, Worker, error_met, next_shard
from simscope.errors import CameraError, DatasetError, SimscopeWarning

pytestmark = [
    pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning"),
    pytest.mark.skipif(numba.config.DISABLE_JIT, reason="fresh processes are too slow without JIT"),
]

UNGUARDED = """
import sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, sys.argv[1])
import simscope as ss
from small_worlds import movie
ss.generate(movie(frames=int(sys.argv[3])), 8, 7, sys.argv[2], samples_per_shard=1, workers=2)
"""


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMSCOPE_CACHE", str(tmp_path_factory.mktemp("psf-tables")))
        yield


def run(folder, recipe=None, **others):
    settings = {"samples_per_shard": 2, "workers": 2} | others
    return carry_out(recipe or snapshot(), 10, 7, folder / "run.h5", **settings)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Checksums of a run by one process."""
    folder = tmp_path_factory.mktemp("whole")
    run(folder, workers=1)
    return sums(folder)


def test_workers_make_the_same_files_as_one_process_and_tell_their_progress(tmp_path, whole):
    told = []
    outcome = run(tmp_path, progress=lambda done, total: told.append((done, total)))
    assert (outcome.made, outcome.complete) == (5, True)
    assert sums(tmp_path) == whole
    assert (told[0], told[-1]) == ((0, 10), (10, 10))


def test_more_workers_than_shards_do_no_harm(tmp_path, whole):
    run(tmp_path, shards="0:4", workers=1)
    run(tmp_path, workers=3)
    assert sums(tmp_path) == whole


def test_a_worker_lost_in_mid_run_is_replaced_and_its_shard_made_again(
    tmp_path, whole, monkeypatch
):
    started, killed = [], []
    start = Worker.start

    def noted(job, threads):
        started.append(start(job, threads))
        return started[-1]

    def kill_one(done, total):
        busy = [worker for worker in started if worker.in_hand]
        if busy and not killed:
            killed.append(busy[0].process.pid)
            os.kill(busy[0].process.pid, signal.SIGKILL)

    monkeypatch.setattr(Worker, "start", noted)
    run(tmp_path, progress=kill_one)
    assert len(killed) == 1
    assert len(started) == 3
    assert sums(tmp_path) == whole
    assert all(worker.process.poll() is not None for worker in started)


def test_a_shard_lost_with_every_worker_is_given_up_by_name(tmp_path, monkeypatch):
    code = (
        "import json, os, signal, sys\n"
        "input()\nprint(json.dumps({'ready': True}), flush=True)\n"
        "input()\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    monkeypatch.setattr(worker_module, "CODE", code)
    with pytest.raises(DatasetError, match=r"shard \d was lost with 3 .*signal 9.*0 of 5 shards"):
        run(tmp_path)
    assert not (tmp_path / "run.h5").exists()


def test_workers_that_do_not_start_are_one_clear_error(tmp_path, monkeypatch):
    started, begin = [], Worker.start

    def noted(job, threads):
        started.append(begin(job, threads))
        return started[-1]

    monkeypatch.setattr(Worker, "start", noted)
    monkeypatch.setattr(worker_module, "CODE", "raise SystemExit(7)")
    with pytest.raises(DatasetError, match=r"no work came from 3 .*exit code 7"):
        run(tmp_path)
    assert len(started) == 4  # two at first, one for each of two lost


def test_an_error_in_a_worker_comes_back_as_itself(tmp_path, monkeypatch):
    code = (
        "import json\ninput()\nprint(json.dumps({'error': 'CameraError', 'message': 'too bright'}))"
    )
    monkeypatch.setattr(worker_module, "CODE", code)
    with pytest.raises(CameraError, match="too bright; 0 of 5 shards are finished"):
        run(tmp_path)


def test_errors_of_unknown_names_are_never_looked_up_elsewhere():
    assert type(error_met("SystemExit", "x")) is DatasetError
    assert type(error_met("did_you_mean", "x")) is DatasetError
    assert type(error_met("MemoryError", "x")) is MemoryError


def test_a_worker_that_sees_another_run_refuses(tmp_path):
    run(tmp_path, shards="0:1", workers=1)
    sim = ss.Simulator(snapshot(), 7)
    plan = Plan.of(Layout.of(sim, samples=10), samples_per_piece=2)
    crew = Crew(RunFolder(tmp_path / "run.h5", plan), "cpu", 1, 1, finished=lambda *_: None)
    crew._job.run["simscope"] = "9.9"
    with pytest.raises(DatasetError, match=r'another run .simscope: "9\.9" -> '):
        crew.make([1, 2])


def test_warnings_of_workers_reach_the_caller_once(tmp_path):
    bright = snapshot().replace("camera.bit_depth", 8)
    with pytest.warns(SimscopeWarning) as told:
        run(tmp_path, recipe=bright)
    saturated = [str(warning.message) for warning in told if "saturated" in str(warning.message)]
    assert len(saturated) == 1


def start(tmp_path, frames=2000):
    tests = os.path.dirname(__file__)
    return subprocess.Popen(
        [sys.executable, "-c", UNGUARDED, tests, str(tmp_path / "run.h5"), str(frames)],
        stderr=subprocess.PIPE, process_group=0,
    )  # fmt: skip


def workers_of(tmp_path):
    """Processes whose growing files lie in the folder of the run."""
    parts = (tmp_path / "run").glob("shard-*.h5.*.part")
    return {int(part.name.split("-")[-2]) for part in parts}


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().split(")")[-1].split()[0] == "Z"


def test_a_script_without_a_main_guard_may_use_workers(tmp_path):
    process = start(tmp_path, frames=20)
    assert process.communicate(timeout=120)[1] == b""
    assert process.returncode == 0
    assert len(ss.open_dataset(tmp_path / "run.h5")) == 8


@pytest.mark.parametrize(
    "signum",
    [
        pytest.param(signal.SIGKILL, id="killed"),
        pytest.param(signal.SIGINT, id="interrupted", marks=pytest.mark.slow),
    ],
)
def test_workers_end_with_the_process_that_started_them(tmp_path, signum):
    process = start(tmp_path)
    wait_for(lambda: len(workers_of(tmp_path)) == 2 or process.poll() is not None)
    pids = workers_of(tmp_path)
    assert len(pids) == 2
    process.send_signal(signum)
    process.communicate(timeout=60)
    wait_for(lambda: all(map(gone, pids)))
    assert not list((tmp_path / "run").glob("*.part"))
    (tmp_path / "alone").mkdir()
    for folder in (tmp_path, tmp_path / "alone"):
        carry_out(movie(frames=2000), 8, 7, folder / "run.h5", samples_per_shard=1)
    assert sums(tmp_path / "alone") == {
        name: digest for name, digest in sums(tmp_path).items() if not name.startswith("alone")
    }


def test_a_worker_goes_on_with_its_movie():
    layout = Layout.of(ss.Simulator(movie(frames=10), 7), samples=3)
    plan = Plan(layout, None, 2)  # 3 movies of 5 windows
    everything = range(15)
    assert next_shard(plan, everything, -1) == 0
    assert next_shard(plan, everything[1:], -1) == 5
    assert next_shard(plan, [1, 2, 6, 7, 10], 5) == 6
    assert next_shard(plan, [1, 2, 10], 9) == 10
    assert next_shard(plan, [3, 4, 7], 14) == 3
    whole = Plan(layout, 1, None)
    assert next_shard(whole, [1, 2], 2) == 1
