"""Trained networks for other software: ONNX, torch.export, and packages of the BioImage Model Zoo.

What is exported takes raw counts (:mod:`simscope.learn.portable`). Every file is read back and run
on a simulated sample before it is put in its place.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch

from simscope.dataset.output import output_target, replacing, require_suffix
from simscope.errors import TrainingError, did_you_mean
from simscope.learn.portable import AGREES, any_size, difference, portable
from simscope.learn.runs import TrainedModel, load

Name = str | os.PathLike[str]


def export_model(
    model: TrainedModel | Name,
    out: Name,
    to: str = "onnx",
    *,
    force: bool = False,
    **about: Any,
) -> Path:
    """Path of a trained network written for other software.

    Parameters
    ----------
    model
        A trained model or its run folder.
    out
        File to write: ``.onnx``, ``.pt2`` (torch.export) or ``.zip`` (bioimage.io).
    to
        ``onnx``, ``torch-export`` or ``bioimageio``.
    about
        For ``bioimageio``: ``authors`` (names), ``license`` (SPDX, default CC-BY-4.0), ``title``.

    Raises
    ------
    TrainingError
        If the format is unknown, what was written does not give the same output within 1e-4, or
        the network cannot be exported.
    DatasetError
        If ``out`` is not named as its format is, exists and ``force`` is not set, or cannot be
        written.
    """
    if to not in WRITERS:
        hint = did_you_mean(to, WRITERS) or f"choose {', '.join(WRITERS)}"
        raise TrainingError(f"to={to!r} is no format of models: {hint}")
    if about and to != "bioimageio":
        raise TrainingError(f"{', '.join(about)} is for bioimageio, not for {to}: leave it out")
    require_suffix(out, SUFFIXES[to])
    output_target(out, force=force)
    chosen = model if isinstance(model, TrainedModel) else load(Path(model))
    with replacing(out, force=force) as part:
        WRITERS[to](chosen, part, **about)
    return Path(out)


def write_onnx(model: TrainedModel, path: Path) -> None:
    """Write an ONNX file: input ``counts``, output ``output``, fields of any size if possible."""
    made, counts, output = portable(model)
    with quiet():
        program = torch.onnx.export(
            made, (_two(counts),), dynamo=True, input_names=["counts"], output_names=["output"],
            dynamic_shapes=_free_sizes(model), verbose=False, optimize=True,
        )  # fmt: skip
        if program is None:
            raise TrainingError(f"PyTorch wrote no ONNX of {model.kind}")
        program.save(str(path))
    _require_same("ONNX", _run_onnx(path, counts), output)


def _run_onnx(path: Path, counts: torch.Tensor) -> torch.Tensor:
    """Output of an ONNX file, by ONNX's own slow and plain evaluator."""
    from onnx.reference import ReferenceEvaluator

    (output,) = ReferenceEvaluator(str(path)).run(None, {"counts": counts.numpy()})
    return torch.from_numpy(output)


def write_torch_export(model: TrainedModel, path: Path) -> None:
    """Write a program of torch.export, for ``torch.export.load(path).module()``."""
    made, counts, output = portable(model)
    with quiet():
        program = torch.export.export(made, (_two(counts),), dynamic_shapes=_free_sizes(model))
        with path.open("wb") as file:
            torch.export.save(program, file)
        with path.open("rb") as file, torch.inference_mode():
            again = torch.export.load(file).module()(counts)
    _require_same("torch.export", again, output)


def write_bioimageio(model: TrainedModel, path: Path, **about: Any) -> None:
    """Write a package of the BioImage Model Zoo, with ONNX weights and a test sample."""
    from simscope.learn.bioimageio import write_package

    write_package(model, path, write_onnx, **about)


SUFFIXES = {"onnx": ".onnx", "torch-export": ".pt2", "bioimageio": ".zip"}
WRITERS: dict[str, Callable[..., None]] = {
    "onnx": write_onnx,
    "torch-export": write_torch_export,
    "bioimageio": write_bioimageio,
}


def _two(counts: torch.Tensor) -> torch.Tensor:
    """A batch of two, since exporters take a size of one for a law."""
    return counts.repeat(2, 1, 1, 1)


def _free_sizes(model: TrainedModel) -> tuple[dict[int, Any]]:
    """Axes of the counts that may have any size."""
    free = {0: torch.export.Dim.DYNAMIC}
    if any_size(model.task):
        free |= {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    return (free,)


def _require_same(what: str, again: torch.Tensor, output: torch.Tensor) -> None:
    error = difference(again, output)
    if not (again.shape == output.shape and error <= AGREES):
        raise TrainingError(
            f"the network as {what} differs from itself by {error:.2g}, above {AGREES:g}: report it"
        )


@contextmanager
def quiet() -> Any:
    """Without the exporters' own talk, which is about PyTorch's future, not about the model."""
    import logging

    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        exporter.setLevel(level)
