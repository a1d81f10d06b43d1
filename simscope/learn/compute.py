"""How networks are run: threads, number format, batches of counts in, float32 out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy.typing as npt
import torch

from simscope.errors import TrainingError
from simscope.learn.task import Task

ITEMS_AT_ONCE = 64


def run_network(task: Task, images: npt.NDArray[Any], *, fast: bool = False) -> torch.Tensor:
    """Output of the network for counts [ADU], float32, on the CPU.

    Single precision, alike on all machines to rounding; ``fast``: in the format of training.
    """
    network = task.network
    device = next(network.parameters()).device
    network.eval()
    inputs = task.inputs(images)
    pixels = inputs.shape[-2] * inputs.shape[-1]
    at_once = min(ITEMS_AT_ONCE, max(1, task.pixels_at_once // pixels))
    with torch.inference_mode(), autocast(device, fast):
        parts = [network(part.to(device)).float().cpu() for part in inputs.split(at_once)]
    return torch.cat(parts)


def autocast(device: torch.device, fast: bool = True) -> torch.autocast:
    """bfloat16 for convolutions where :func:`quick_dtype` says so, else float32."""
    has_it = quick_dtype(device) == torch.bfloat16
    return torch.autocast(device.type, torch.bfloat16, enabled=fast and has_it)


def quick_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the processor has it in hardware, else float32."""
    cpu_has_it = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    has_it = torch.cuda.is_bf16_supported() if device.type == "cuda" else cpu_has_it
    return torch.bfloat16 if has_it else torch.float32


def checked_device(name: str) -> torch.device:
    """The processor to train on: ``cpu``, ``cuda``, ``cuda:<number>``, or ``auto`` for the best.

    Raises
    ------
    TrainingError
        If the name is no such processor, or this machine does not have it.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise TrainingError(f"device={name!r} is unknown: use 'cpu' or 'cuda'") from None
    if device.type not in ("cpu", "cuda"):
        raise TrainingError(f"device={name!r} is not supported: use 'cpu' or 'cuda'")
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= cards:
        raise TrainingError(
            f"device={name!r} is not on this machine, which has {cards} CUDA devices: use 'cpu' "
            "or another number"
        )
    return device


@contextmanager
def enough_memory() -> Iterator[None]:
    """Nothing; a TrainingError inside if PyTorch gets no memory, which it tells as RuntimeError."""
    try:
        yield
    except RuntimeError as error:
        if "allocate" not in str(error) and not isinstance(error, torch.OutOfMemoryError):
            raise
        raise TrainingError(
            "not enough memory for this network and these images: make the network (channels, "
            "dilations), batch_size or the images smaller"
        ) from None


@contextmanager
def using_threads(threads: int | None) -> Iterator[int]:
    """The number of threads PyTorch uses inside, as it was again outside."""
    before = torch.get_num_threads()
    if threads is not None and threads < 1:
        raise TrainingError(f"threads={threads} is below 1: give at least one")
    torch.set_num_threads(threads or before)
    try:
        yield threads or before
    finally:
        torch.set_num_threads(before)
