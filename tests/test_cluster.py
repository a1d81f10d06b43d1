"""A Dask cluster of several processes makes the same files as one process, whoever is lost."""

import gc
import logging
import os
import signal
import sys
from pathlib import Path

import numba
import pytest
from small_worlds import movie, snapshot
from stored_files import sums

from simscope.dataset import cluster as clusters
from simscope.dataset.generation import carry_out
from simscope.errors import DatasetError, SimscopeError

distributed = pytest.importorskip("distributed")

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(numba.config.DISABLE_JIT, reason="fresh processes are too slow without JIT"),
]
SAMPLES = 12


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMSCOPE_CACHE", str(tmp_path_factory.mktemp("psf-tables")))
        yield


@pytest.fixture(scope="module")
def cluster(cache):
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None,
        silence_logs=logging.CRITICAL,
    ) as local:  # fmt: skip
        yield local


def run(folder, **others):
    settings = {"samples_per_shard": 1} | others
    return carry_out(movie(frames=300), SAMPLES, 7, folder / "run.h5", **settings)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    run(folder)
    return sums(folder)


def test_a_cluster_makes_the_same_files_with_a_worker_killed_in_mid_run(tmp_path, cluster, whole):
    killed = []

    def kill_one(done, total):
        if done > 0 and not killed:
            killed.append(next(iter(cluster.workers.values())).pid)
            os.kill(killed[0], signal.SIGKILL)

    outcome = run(tmp_path, dask=cluster.scheduler_address, progress=kill_one)
    assert (outcome.complete, outcome.made, len(killed)) == (True, SAMPLES, 1)
    assert sums(tmp_path) == whole


def test_a_client_may_be_given_and_stays_open(tmp_path, cluster, whole):
    with distributed.Client(cluster, set_as_default=False) as client:
        run(tmp_path, shards="0:3", dask=client)
        assert client.status == "running"
    run(tmp_path)
    assert sums(tmp_path) == whole


def test_ctrl_c_cancels_what_is_outstanding_and_the_run_goes_on(tmp_path, cluster, whole):
    def interrupt(done, total):
        if done > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as told:
        run(tmp_path, dask=cluster.scheduler_address, progress=interrupt)
    assert "of 12 shards are finished" in told.value.__notes__[0]
    run(tmp_path, dask=cluster.scheduler_address)
    assert sums(tmp_path) == whole


def test_an_error_on_a_worker_comes_back_as_itself(tmp_path, cluster, monkeypatch):
    other = clusters.Job.of

    def foreign(folder, device):
        job = other(folder, device)
        job.run["seed"] = 8
        return job

    monkeypatch.setattr(clusters.Job, "of", foreign)
    with pytest.raises(SimscopeError, match=r"is of another run .seed: 7 -> 8.*0 of 12 shards"):
        run(tmp_path, dask=cluster.scheduler_address)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "warp://x:1", "head", ""])
def test_no_scheduler_is_one_clear_error_and_nothing_is_said_later(tmp_path, monkeypatch, address):
    monkeypatch.setattr(clusters, "CONNECT_S", 1)
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    with pytest.raises(DatasetError, match="no Dask scheduler answers at"):
        run(tmp_path, dask=address)
    gc.collect()
    assert unraisable == []


def test_a_relative_name_is_the_same_to_workers_elsewhere(tmp_path, monkeypatch, cluster, whole):
    monkeypatch.chdir(tmp_path)
    assert run(Path(), dask=cluster.scheduler_address).complete
    assert sums(tmp_path) == whole


class Client:
    """Stands for a client whose workers answer so."""

    def __init__(self, answers):
        self.answers = answers

    def nthreads(self):
        return dict.fromkeys(self.answers, 1)

    def run(self, function, *arguments, on_error):
        return self.answers


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (("9.9", True), "has simscope 9.9"),
        (("here", False), "does not see .*run.json"),
        (ModuleNotFoundError("No module named 'simscope'"), "cannot run simscope .ModuleNotFound"),
    ],
)
def test_unfit_workers_are_named(tmp_path, monkeypatch, answer, said):
    monkeypatch.setattr(clusters, "__version__", "here")
    outcome = carry_out(snapshot(), 2, 7, tmp_path / "run.h5", samples_per_shard=1, shards="0:1")
    assert not outcome.complete

    class Folder:
        run_file = outcome.path / "run.json"

    with pytest.raises(DatasetError, match=f"worker tcp://a:1 {said}"):
        clusters.check_workers(Client({"tcp://a:1": answer}), Folder)


def test_dask_and_worker_processes_do_not_go_together(tmp_path):
    with pytest.raises(DatasetError, match="give one"):
        run(tmp_path, dask="tcp://127.0.0.1:9", workers=2)
