"""Several trainings side by side, each in a fresh interpreter of its own.

A process is told its run as a line of JSON on its standard input and ends by itself when that is
closed, so none is left behind whatever becomes of the one that started it. Nothing is pickled, and
the caller's main module is not imported again.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from simscope.errors import SimscopeError, StudyError
from simscope.trust.training import Run, train_one

CODE = "from simscope.trust.jobs import serve; serve()"
PATIENCE_S = 10.0
"""How long a process may take to end, once asked to, before it is killed."""
LOOK_EVERY_S = 0.2


def train_side_by_side(
    runs: Sequence[Run], out: Path, jobs: int, trained: Callable[[Run], None]
) -> None:
    """Train every run, ``jobs`` at a time; ``trained`` is told each as it ends.

    Raises
    ------
    StudyError
        If one fails; the others are ended, and go on from their checkpoints another time.
    """
    left, working = list(runs), dict[subprocess.Popen[bytes], Run]()
    try:
        while left or working:
            while left and len(working) < jobs:
                run = left.pop(0)
                working[_started(run, out)] = run
            time.sleep(LOOK_EVERY_S)
            for process in [one for one in working if one.poll() is not None]:
                run = working.pop(process)
                _require_trained(process, run, out)
                trained(run)
    finally:
        for process in working:
            _end(process)


def _started(run: Run, out: Path) -> subprocess.Popen[bytes]:
    """A process that trains the run."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", CODE], **pipes)
    assert process.stdin is not None
    task = {"out": str(out.absolute()), "run": run.to_json()}
    process.stdin.write(json.dumps(task).encode() + b"\n")
    process.stdin.flush()
    return process


def _require_trained(process: subprocess.Popen[bytes], run: Run, out: Path) -> None:
    assert process.stdout is not None
    assert process.stdin is not None
    said = process.stdout.read().decode("utf8", "replace").strip()
    process.stdout.close()
    process.stdin.close()
    if process.returncode or not run.is_finished(out):
        reason = said or f"the process ended with code {process.returncode}"
        raise StudyError(f"training {run.role} {run.label} failed: {reason}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def serve() -> None:
    """Train the run that standard input names; the other side of :func:`train_side_by_side`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    answer = os.fdopen(os.dup(1), "w", encoding="utf8")
    os.dup2(2, 1)  # what anything prints goes to stderr, away from the answer
    task = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        train_one(Run.from_json(task["run"]), Path(task["out"]), progress=False)
    except (SimscopeError, MemoryError) as error:
        answer.write(str(error) or type(error).__name__)
        answer.close()
        sys.exit(1)


def _end_with_parent() -> None:
    """End this process once nobody holds the other end of its standard input."""
    sys.stdin.buffer.read()
    os._exit(1)
