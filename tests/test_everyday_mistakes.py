"""What people do wrong in the first hour, and whether what they are told helps them on."""

import os
import subprocess
import sys

import pytest
from small_worlds import snapshot

from simscope.cli import frame
from simscope.dataset import describe, generation, open_dataset
from simscope.dataset.export.folder import MARK, new_folder
from simscope.dataset.generation import carry_out
from simscope.errors import DatasetError


def run(folder, samples=4, **options):
    return carry_out(snapshot(), samples, 7, folder / "run.h5", samples_per_shard=1, **options)


def test_a_run_refused_for_want_of_room_leaves_the_name_free(tmp_path, monkeypatch):
    class Usage:
        free = 1_000

    with monkeypatch.context() as patch:
        patch.setattr(generation.shutil, "disk_usage", lambda folder: Usage)
        with pytest.raises(DatasetError, match="ask for fewer samples"):
            run(tmp_path)
    assert run(tmp_path, samples=2).complete


def test_what_the_error_of_lost_shards_advises_brings_them_back(tmp_path):
    run(tmp_path)
    shards = sorted((tmp_path / "run").iterdir())
    before = [path.read_bytes() for path in shards]
    for path in shards:
        path.unlink()
    (tmp_path / "run").rmdir()
    with pytest.raises(DatasetError, match="same arguments and --force"):
        open_dataset(tmp_path / "run.h5")
    assert run(tmp_path, force=True).complete
    assert [path.read_bytes() for path in shards] == before


def test_opening_an_unfinished_run_or_its_folder_says_what_to_do(tmp_path):
    run(tmp_path, shards="0:2")
    with pytest.raises(DatasetError, match=r"is not finished.*run generate again"):
        open_dataset(tmp_path / "run.h5")
    with pytest.raises(DatasetError, match=r"folder of a run: give .*run\.h5 beside it"):
        open_dataset(tmp_path / "run")
    run(tmp_path)
    assert describe(tmp_path / "run") == describe(tmp_path / "run.h5")


def test_progress_of_some_shards_counts_their_frames_alone(tmp_path):
    told = []
    run(tmp_path, shards="1:3", progress=lambda done, total: told.append((done, total)))
    assert told[0] == (0, 2)
    assert told[-1] == (2, 2)


def test_more_shards_or_processes_than_a_machine_bears_are_refused_at_once(tmp_path):
    with pytest.raises(DatasetError, match=r"4,000,000 shards, more than 100,000: .* least 40"):
        run(tmp_path, samples=4_000_000, shards="0:1")
    with pytest.raises(DatasetError, match="workers=100000 is more than"):
        run(tmp_path, workers=100_000)
    assert not list(tmp_path.iterdir())


def test_an_export_fills_an_empty_folder_and_no_other(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with new_folder(empty) as part:
        (part / MARK).write_text("{}")
    assert (empty / MARK).is_file()
    with pytest.raises(DatasetError, match="exists"), new_folder(empty):
        pass


def test_what_comes_to_an_exports_name_while_it_is_written_stays(tmp_path):
    target = tmp_path / "out"
    with pytest.raises(DatasetError, match="no export of simscope"), new_folder(target):
        target.write_text("precious")
    assert target.read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_reader_that_has_seen_enough_is_no_error():
    code = "import sys; sys.argv[1:] = ['schema']; from simscope.cli.frame import main; main()"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", f"import simscope.cli; {code}"],
        stdout=write, stderr=subprocess.PIPE, timeout=60, check=False,
    )  # fmt: skip
    os.close(write)
    assert (done.returncode, done.stderr) == (frame.UNREAD, b"")


def test_the_log_of_a_batch_job_tells_of_progress(monkeypatch, capsys):
    monkeypatch.setattr(frame, "LINE_EVERY_S", 0.0)
    with frame.progress_bar("frames") as update:
        update(0, 2000)
        update(1500, 2000)
    assert "frames: 1,500 of 2,000, " in capsys.readouterr().err
