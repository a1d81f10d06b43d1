"""The folder of a run: what belongs there, what is finished, what a dead process left behind.

``run.json`` is written first and says which run this is; a shard grows under a name no other
process has, and only when it lies checked at its own name is its entry ``shard-00007.json``
written. So an entry promises a finished shard, whatever was killed when, and several processes, on
several machines, may fill one folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simscope import __version__
from simscope.dataset.plan import Entry, Plan
from simscope.dataset.write import reason, sync
from simscope.errors import DatasetError

RUN_FILE = "run.json"
RUN_FORMAT = "simscope-run"
RUN_VERSION = 1

OURS = re.compile(r"(shard-\d{5,}\.(h5|json)|run\.json)(\.[\w.]+-\d+-[0-9a-f]+\.part)?")
PART = re.compile(r".+\.(?P<host>[\w.]+)-(?P<pid>\d+)-[0-9a-f]+\.part")

Values = dict[str, Any]


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"shard-{number:05d}.h5"


def folder_of(target: Path) -> Path:
    """Folder of the shards of a dataset: its name without ``.h5``."""
    plain = target.suffix.lower() in (".h5", ".hdf5") and target.stem
    return target.with_name(target.stem if plain else f"{target.name}.shards")


def host_name() -> str:
    """Name of this machine as it stands in the names of growing files."""
    return re.sub(r"\W", "_", socket.gethostname()) or "host"


def unique_part(path: Path) -> Path:
    """A name beside ``path`` under which no other process of any machine grows it."""
    return path.with_name(f"{path.name}.{host_name()}-{os.getpid()}-{secrets.token_hex(4)}.part")


def is_orphan(part: Path) -> bool:
    """Whether a growing file was left by a process of this machine that runs no more."""
    match = PART.fullmatch(part.name)
    if match is None or match["host"] != host_name():
        return False
    try:
        os.kill(int(match["pid"]), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False


def _files(folder: Path) -> list[Path]:
    """Files of a folder in order; none where there is no folder."""
    return sorted(folder.iterdir()) if folder.is_dir() else []


def description(plan: Plan) -> Values:
    """What makes a run this one and no other: all that its bytes depend on, plain for JSON."""
    layout = plan.layout
    return {
        "format": RUN_FORMAT,
        "format_version": RUN_VERSION,
        "simscope": __version__,
        "recipe": layout.recipe.written(),
        "inputs": layout.inputs,
        "seed": layout.seed,
        "samples": layout.samples,
        "expected": layout.expected,
        "codec": layout.codec,
        "targets": layout.target_settings,
        "shards": len(plan),
        "samples per shard": plan.samples_per_piece,
        "frames per shard": plan.frames_per_piece,
    }


def changes(was: Values, now: Values) -> list[str]:
    """What differs between two descriptions, such as ``seed: 7 -> 8``; recipe paths dotted."""
    before, after = dict(_leaves(was)), dict(_leaves(now))
    names = [*before, *(name for name in after if name not in before)]
    return [
        f"{name}: {_shown(before.get(name))} -> {_shown(after.get(name))}"
        for name in names
        if before.get(name) != after.get(name)
    ]


def _leaves(values: Values, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(value: Any) -> str:
    text = "none" if value is None else json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def read_run(run_file: Path, remedy: str) -> Values:
    """What ``run.json`` says of its run.

    Raises
    ------
    DatasetError
        If it cannot be read or is not simscope's; the ``remedy`` ends its sentence.
    """
    try:
        values = json.loads(run_file.read_text("utf8"))
    except (ValueError, RecursionError, OSError) as error:
        raise DatasetError(f"{run_file} cannot be read ({error}): {remedy}") from None
    if not isinstance(values, dict) or values.get("format") != RUN_FORMAT:
        raise DatasetError(f"{run_file} is not simscope's: {remedy}")
    return values


@dataclass(frozen=True)
class RunFolder:
    """The folder in which the shards of ``target`` are made, by one plan."""

    target: Path
    plan: Plan

    @property
    def path(self) -> Path:
        """The folder."""
        return folder_of(self.target)

    @property
    def run_file(self) -> Path:
        """Where it is written which run this is."""
        return self.path / RUN_FILE

    def shard(self, number: int) -> Path:
        """Where a finished shard lies."""
        return self.path / shard_name(number)

    def entry_file(self, number: int) -> Path:
        """Where the entry of a finished shard lies."""
        return self.shard(number).with_suffix(".json")

    def written_run(self) -> Values | None:
        """What the folder is for, as written in it; None for a folder that is new or empty.

        Raises
        ------
        DatasetError
            If the folder holds something else than a run of simscope.
        """
        if not os.path.lexists(self.path):
            return None
        if not self.path.is_dir():
            raise DatasetError(f"{self.path} is no folder, shards need one: choose another name")
        names = [path.name for path in _files(self.path)]
        if RUN_FILE not in names:
            foreign = [name for name in names if not name.startswith(f"{RUN_FILE}.")]
            if foreign:
                raise DatasetError(
                    f"{self.path} holds {foreign[0]} and is no folder of a run: choose another name"
                )
            return None
        return read_run(self.run_file, "choose another name")

    def begin(self) -> None:
        """Make the folder and write which run it is for; nothing if that stands there already.

        Raises
        ------
        DatasetError
            If it is the folder of another run, or cannot be written.
        """
        if self.require_ours():
            return
        try:
            self.path.mkdir(exist_ok=True)
        except OSError as error:
            raise DatasetError(f"cannot make folder {self.path}: {error.strerror}") from None
        self._write_run()

    def require_ours(self) -> bool:
        """Whether the folder is there and for this run; nothing is written.

        Raises
        ------
        DatasetError
            If it is the folder of another run, or of something else.
        """
        written = self.written_run()
        if written is not None:
            self.require_same(written)
        return written is not None

    def require_same(self, written: Values) -> None:
        """Return nothing; DatasetError naming what differs if the folder is for another run."""
        different = changes(written, description(self.plan))
        if different:
            raise DatasetError(
                f"{self.path} is of another run ({'; '.join(different[:5])}): choose another name, "
                "or discard that run with --force"
            )

    def entry(self, number: int) -> Entry | None:
        """What is known of a shard; None unless it is finished and as long as it should be."""
        file = self.entry_file(number)
        try:
            entry = signed_entry(file.read_text("utf8"), source=str(file))
            size = self.shard(number).stat().st_size
        except (OSError, DatasetError, UnicodeDecodeError):
            return None  # unfinished or damaged: the shard is made anew
        expected = (shard_name(number), self.plan[number].frames, size)
        return entry if (entry.file, entry.frames, entry.bytes) == expected else None

    def entries(self, numbers: Iterable[int] | None = None) -> dict[int, Entry]:
        """Entries of the finished shards by number, of these or of all."""
        wanted = range(len(self.plan)) if numbers is None else numbers
        if not self.path.is_dir():
            return {}
        found = ((number, self.entry(number)) for number in wanted)
        return {number: entry for number, entry in found if entry is not None}

    def enter(self, number: int, entry: Entry) -> None:
        """Write down that a shard is finished."""
        write_text(self.entry_file(number), signed_text(entry))

    def withdraw(self, number: int) -> None:
        """Take back what is written of a shard that must be made anew."""
        self.entry_file(number).unlink(missing_ok=True)

    def remove_orphans(self) -> None:
        """Remove what dead processes of this machine left, in the folder and beside it."""
        beside = (
            path for path in _files(self.target.parent) if path.name.startswith(self.target.name)
        )
        inside = (path for path in _files(self.path) if OURS.fullmatch(path.name))
        for part in (*beside, *inside):
            if is_orphan(part):
                part.unlink(missing_ok=True)

    def begin_anew(self) -> None:
        """Remove the shards of another run and write which run the folder is for now."""
        self._remove(lambda path: path != self.run_file)
        self._write_run()

    def discard(self) -> None:
        """Remove the files of a run, ``run.json`` last, then the folder; what is not ours stays."""
        self._remove(lambda path: path != self.run_file)
        self._remove(lambda path: True)
        with contextlib.suppress(OSError):  # somebody keeps something there
            self.path.rmdir()

    def _remove(self, chosen: Callable[[Path], bool]) -> None:
        """Remove files of ours, entries before their shards."""
        ours = (path for path in _files(self.path) if OURS.fullmatch(path.name) and chosen(path))
        for path in sorted(ours, key=lambda path: path.suffix == ".h5"):
            path.unlink(missing_ok=True)

    def _write_run(self) -> None:
        write_text(self.run_file, json.dumps(description(self.plan), indent=1, sort_keys=True))


def signed_text(entry: Entry) -> str:
    """JSON of an entry with its own SHA-256, as what it says is believed when the run goes on."""
    values = json.loads(entry.to_json())
    return json.dumps(values | {"entry_sha256": _digest(entry)}, sort_keys=True, indent=1)


def signed_entry(text: str, *, source: str) -> Entry:
    """The entry of such a text.

    Raises
    ------
    DatasetError
        If it is none, or not as it was written.
    """
    try:
        values = json.loads(text)
        digest = values.pop("entry_sha256")
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise DatasetError(f"{source} is damaged ({error}): remove it and run again") from None
    entry = Entry.from_json(json.dumps(values), source=source)
    if digest != _digest(entry):
        raise DatasetError(f"{source} is not as it was written: remove it and run again")
    return entry


def _digest(entry: Entry) -> str:
    return hashlib.sha256(entry.to_json().encode()).hexdigest()


def write_text(path: Path, text: str) -> None:
    """Put a text file in its place in one step, on the disk itself.

    Raises
    ------
    DatasetError
        If the disk refuses.
    """
    part = unique_part(path)
    try:
        with part.open("w", encoding="utf8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        sync(path.parent)
    except OSError as error:
        raise DatasetError(f"cannot write {path}: {reason(error)}") from None
    finally:
        part.unlink(missing_ok=True)
