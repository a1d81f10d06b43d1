"""Speed on a GPU: whole frames, kernels one by one, exact PSFs, tensors for PyTorch.

    python benchmarks/bench_gpu.py [--device cpu] [--frames 10000]

Prints a Markdown table. Bytes are what a work must at least read and write of arrays in the
device's memory, each once; the share of the limit is those bytes over the time, over the bandwidth
of a plain copy measured in the same process. Without a GPU it says so; what the host does for each
sample is measured anyway, with the GPU's kernels left out.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import simscope as ss
from simscope import camera as cameras
from simscope import device as devices
from simscope.device import Device
from simscope.errors import DeviceError, SimscopeWarning
from simscope.kernels.cuda.launch import GridKernel
from simscope.keys import Key

RECIPE = "smlm-2d-dense"
ROUNDS = 7
COPIED = 1 << 28  # bytes of the plain copy
SAMPLES = 20_000  # of the host's share
PSFS, NODES_PX = 4096, 64
EMITTER_ROWS = 8 + 8 + 4 * 4  # frame, id, x, y, z, photons


@dataclass(frozen=True)
class Work:
    """Something timed: ``amount`` units a call, ``unit_bytes`` each has to move, bar per second."""

    name: str
    unit: str
    amount: float
    seconds: float
    unit_bytes: float = 0.0
    bar: float = 0.0

    HEADER = (
        "| work | each | per second | GB/s | share of a plain copy's bandwidth | bar |\n"
        "| --- | --- | --- | --- | --- | --- |"
    )

    def row(self, bandwidth: float) -> str:
        """A row of the table; ``bandwidth`` in bytes/s."""
        rate = self.amount / self.seconds
        moved = rate * self.unit_bytes
        bytes_s = f"{moved * 1e-9:,.0f} | {moved / bandwidth:.0%}" if moved else "- | -"
        bar = f"{self.bar:,.0f}/s" if self.bar else "-"
        each = f"{1e9 / rate:,.2f} ns a {self.unit}"
        return f"| {self.name} | {each} | {rate:,.0f} | {bytes_s} | {bar} |"


def wait(device: Device) -> None:
    """Return once the device has done all it was given."""
    if hasattr(device.xp, "cuda"):
        device.xp.cuda.get_current_stream().synchronize()


def median_s(device: Device, work: Callable[[], object]) -> float:
    """Seconds of the median round, after one to warm up; each ends with the device idle."""
    work()
    wait(device)
    times = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        work()
        wait(device)
        times.append(time.perf_counter() - begin)
    return float(np.median(times))


def bandwidth(device: Device) -> float:
    """Bytes read and written per second by a plain copy."""
    source = device.xp.ones(COPIED, np.uint8)
    target = device.xp.empty_like(source)

    def copy() -> None:
        target[:] = source

    return 2 * COPIED / median_s(device, copy)


def whole_frames(device: Device, frames: int) -> Work:
    """Frames of the recipe from drawn numbers to counts, left on the device."""
    sim = ss.Simulator(RECIPE, 7, device=device.name)
    made = sim.batch(0, frames, on_device=True)
    pixels, emitters = made.images[0].size, len(made.emitters["id"]) / frames
    # background written, light added to it, read by the camera; counts and emitters written
    needed = pixels * (4 + 8 + 4 + 2) + emitters * EMITTER_ROWS
    seconds = median_s(device, lambda: sim.batch(0, frames, on_device=True))
    name = f"{RECIPE}: 64x64 px, {emitters:.0f} emitters, to counts on the device"
    return Work(name, "frame", frames, seconds, needed, 1_000_000)


def single_kernels(device: Device, frames: int) -> Iterator[Work]:
    """Random words, rendering and cameras alone."""
    xp, key = device.xp, Key(3)
    count = 4096 * frames // 4
    words = xp.arange(count, dtype=np.uint32)
    seconds = median_s(device, lambda: key.uniform(words, device=device))
    yield Work("uniform variates, float64 at any counter", "variate", count, seconds, 8 + 24)
    yield rendering(device, frames)
    for name in (RECIPE, f"{RECIPE}-emccd"):
        recipe = ss.load_recipe(name)
        shape = recipe.acquisition.shape
        photons = xp.full((frames, *shape), 30.0, np.float32)
        maps = cameras.camera_maps(recipe.camera, shape, key)
        arguments: dict[str, Any] = {
            "sample_index": np.arange(frames), "frame_index": 0, "exposure_s": 0.02,
            "device": device,
        }  # fmt: skip

        def read(p: Any = photons, r: Any = recipe, m: Any = maps, a: Any = arguments) -> object:
            return cameras.detect(p, r.camera, m, key, **a)

        name = f"{recipe.camera.kind} pixels, 30 photons"
        yield Work(name, "pixel", photons.size, median_s(device, read), 4 + 2)


def rendering(device: Device, frames: int) -> Work:
    """Emitters of the recipe from its table, 20 a frame."""
    sim = ss.Simulator(RECIPE, 7, device=device.name)
    table, shape, count = sim.table, sim.resolved.camera_shape, 20 * frames
    assert table is not None
    x, y = (
        Key(5).child(axis).uniform(np.arange(count)) * shape[0] * table.pixel_nm for axis in "xy"
    )
    columns = [device.put(values) for values in (x, y, np.zeros(count), np.full(count, 2000.0))]
    offsets = device.put(np.arange(frames + 1) * 20)
    seconds = median_s(device, lambda: table.render(*columns, offsets, shape, device=device))
    moved = 8 * shape[0] * shape[1] / 20 + 4 * 8
    name = f"rendering, {table.window_px}x{table.window_px} px from a table"
    return Work(name, "emitter", count, seconds, moved)


def exact_psfs(device: Device) -> Work:
    """Phase-mask PSFs through the whole pupil, 6 field components."""
    import bench_pupil as pupil

    from simscope.optics import Window
    from simscope.optics.field import quadrants, static_phasor
    from simscope.optics.pupil_batch import PupilBatch

    field = pupil.square_field()
    static = static_phasor(pupil.OPTICS, field.objective, *quadrants(field.nodes))
    window = Window((NODES_PX, NODES_PX), pupil.PIXEL_NM, points=True)
    grids = window.grids(field.objective.band_limit_per_nm, 1e-4)
    batch = PupilBatch(field, static, (), *grids, device)
    z, x, y = (
        np.random.default_rng(1).uniform(-limit, limit, PSFS) for limit in (500.0, 50.0, 50.0)
    )
    none, flat = np.zeros((PSFS, 0)), np.zeros(PSFS)
    seconds = median_s(device, lambda: batch.images(z, flat, x, y, none))
    name = f"phase-mask PSFs, 64x64 nodes to {NODES_PX}x{NODES_PX} px"
    return Work(name, "PSF", PSFS, seconds, 4 * NODES_PX**2, 200_000)


def tensors(device: Device, frames: int) -> Work:
    """Batches of a stream as tensors of PyTorch, where they were made."""
    from simscope.learn import StreamingDataset

    stream = StreamingDataset(
        RECIPE, 7, batch_size=1024, stop=frames // 1024 * 1024 or 1024, device=device.name
    )

    def run() -> None:
        for _ in stream:
            pass

    return Work(
        "stream of batches of 1,024 into tensors", "frame", stream.stop, median_s(device, run)
    )


@contextlib.contextmanager
def without_kernels() -> Iterator[None]:
    """A device whose kernels do nothing, on NumPy arrays."""
    launch, found = GridKernel.__call__, devices._gpu
    GridKernel.__call__ = lambda *arguments, **settings: None  # type: ignore[method-assign]
    devices._gpu = lambda: (Device("cuda", np), "")  # type: ignore[assignment]
    try:
        yield
    finally:
        GridKernel.__call__, devices._gpu = launch, found  # type: ignore[method-assign]


def host_share() -> str:
    """What the host does for a sample and for a batch, with hardly an emitter and 9 pixels."""
    recipe = ss.load_recipe(RECIPE).replace_all(
        {
            "structure.density_per_um2": {"uniform": [0.0, 1e-6]},
            "acquisition.shape": [3, 3],
            "rendering.window_px": 9,
            "rendering.accept_energy_loss": True,
        }
    )
    with without_kernels():
        sim = ss.Simulator(recipe, 7, device="cuda")
        one, many = (
            median_s(devices.CPU, lambda n=n: sim.batch(0, n, on_device=True)) for n in (1, SAMPLES)
        )
    return (
        f"The host's part, kernels and launches left out: {one * 1e3:.2f} ms a batch and "
        f"{(many - one) / SAMPLES * 1e6:.2f} µs a sample."
    )


def works(device: Device, frames: int) -> Iterator[Work]:
    """Everything there is to measure here."""
    yield whole_frames(device, frames)
    yield from single_kernels(device, frames)
    if importlib.util.find_spec("torch") is None:
        print("PyTorch is not installed: its stream, and the exact PSFs beside it, are left out")
        return
    yield exact_psfs(device)
    yield tensors(device, frames)


def name_of(device: Device) -> str:
    """What the device is called."""
    if not hasattr(device.xp, "cuda"):
        return "the CPU"
    properties = device.xp.cuda.runtime.getDeviceProperties(device.xp.cuda.runtime.getDevice())
    return str(properties["name"].decode())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--frames", type=int, default=10_000, help="frames of a batch")
    given = parser.parse_args()
    warnings.simplefilter("ignore", SimscopeWarning)
    try:
        device = devices.device(given.device)
    except DeviceError as error:
        print(f"No GPU was measured: {error}.\n\n{host_share()}")
        return
    limit = bandwidth(device)
    print(f"Measured on {name_of(device)}; a plain copy moves {limit * 1e-9:,.0f} GB/s.\n")
    print(Work.HEADER)
    for work in works(device, given.frames):
        print(work.row(limit), flush=True)
    print(f"\n{host_share()}")


if __name__ == "__main__":
    main()
