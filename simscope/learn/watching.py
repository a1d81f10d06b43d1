"""Watching a run: a progress bar with loss and rate, and TensorBoard's files where asked for."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from simscope.errors import TrainingError

UNJUDGED = {"step", "seconds", "cpu_seconds", "learning_rate", "train_loss", "validation_loss"}


class Watch:
    """A bar on stderr, and curves in ``folder/tensorboard``; used as a context.

    Raises
    ------
    TrainingError
        If TensorBoard's files are asked for and it is not installed.
    """

    def __init__(self, name: str, *, bar: bool = True, folder: Path | None = None) -> None:
        self._bar = progress_bar(disable=not bar)
        self._line = self._bar.add_task(name, total=1.0, note="")
        self._judged = ""
        self._writer: Any = None if folder is None else _writer(folder / "tensorboard")

    def update(self, done: float, loss: float, steps_per_s: float) -> None:
        """Show the share done, the loss and the rate."""
        note = f"loss {loss:.4g}{self._judged}, {steps_per_s:.3g} steps/s"
        self._bar.update(self._line, completed=min(done, 1.0), note=note)

    def look(self, point: dict[str, float]) -> None:
        """Note the figures of a look at validation samples."""
        judged = next((name for name in point if name not in UNJUDGED), None)
        if judged is not None:
            self._judged = f", {judged.replace('_', ' ')} {point[judged]:.3g}"
        if self._writer is not None:
            for name, value in point.items():
                self._writer.add_scalar(name, value, int(point["step"]))
            self._writer.flush()

    def __enter__(self) -> Watch:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
        if self._writer is not None:
            self._writer.close()


def progress_bar(*, disable: bool = False) -> Progress:
    """A bar on stderr with share, time left and a note (``fields[note]``)."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    return Progress(*columns, console=Console(stderr=True), disable=disable)


def _writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise TrainingError(
            "tensorboard=True needs TensorBoard, which is not installed: pip install tensorboard"
        ) from None
    return SummaryWriter(str(folder))
