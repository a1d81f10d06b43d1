"""Files: every codec against the entropy of the noise, writing, and reading single frames.

    python benchmarks/run.py dataset

Frames are camera frames of a packaged recipe, 64x64 px of 2 bytes. Rates are raw bytes, before
packing. All works of a table are run in turns in one process, on a RAM disk where there is one.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import h5py
import numpy as np
from bench_frames import with_count
from isal import isal_zlib
from timing import Row, interleaved

import simscope as ss
from simscope.camera.inverse import noise_model
from simscope.dataset import codec
from simscope.dataset.frames import Frames
from simscope.dataset.plan import Plan
from simscope.dataset.schema import Layout
from simscope.dataset.write import DatasetWriter

RECIPE, EMITTERS = "smlm-2d-dense", 20
FRAMES, FILE_FRAMES, READS = 1024, 6144, 1000
ROUNDS = 7
GZIP = {"compression": "gzip", "compression_opts": 1, "shuffle": True}

Frames16 = np.ndarray


def simulator() -> ss.Simulator:
    """The microscope whose frames are stored."""
    return ss.Simulator(with_count(RECIPE, EMITTERS), 1)


def entropy_bits(sim: ss.Simulator) -> float:
    """Bits of noise a pixel, were its mean known: no lossless codec can store fewer.

    The entropy of a Gauss distribution of the pixel's variance, in steps of one count.
    """
    light = sim.batch(0, 256, expected=True).expected_photons
    acquisition = sim.resolved.acquisition
    exposure_s = acquisition.exposure_ms * 1e-3
    noise = noise_model(sim.resolved.camera, sim.maps, light, exposure_s=exposure_s)
    variance = noise.variance_e2 * noise.adu_per_e**2 + 1 / 12
    return float(np.mean(0.5 * np.log2(2 * np.pi * np.e * variance)))


# ---- packing -------------------------------------------------------------------------------------


def shuffled(frames: Frames16) -> list[bytes]:
    """Bytes of each frame, low ones first."""
    return [frame.reshape(-1).view(np.uint8).reshape(-1, 2).T.tobytes() for frame in frames]


def zlib_runs(plane: bytes) -> bytes:
    """A stream of zlib that looks for runs alone, the former default."""
    packer = zlib.compressobj(1, strategy=zlib.Z_RLE)
    return packer.compress(plane) + packer.flush()


PEERS: dict[str, Callable[[bytes], bytes]] = {
    "zlib level 1": partial(zlib.compress, level=1),
    "zlib level 1, runs only": zlib_runs,
    "ISA-L level 0": lambda plane: isal_zlib.compress(plane, 0),
    "ISA-L level 1": lambda plane: isal_zlib.compress(plane, 1),
}
"""Other deflate encoders, each after the same shuffle by NumPy."""


def packers(frames: Frames16) -> dict[str, Callable[[Frames16], list]]:
    """Every way to pack frames, by name."""
    found: dict[str, Callable[[Frames16], list]] = {
        name: codec.named(name).pack for name in codec.NAMES
    }
    for name, peer in PEERS.items():
        found[f"default's data by {name}"] = lambda some, peer=peer: list(map(peer, shuffled(some)))
    return found


def halves(pool: ThreadPoolExecutor, pack: Callable, frames: Frames16) -> list:
    """Both halves of the frames at once."""
    middle = len(frames) // 2
    return list(pool.map(pack, (frames[:middle], frames[middle:])))


def unpacked(name: str, packed: list, frames: Frames16) -> None:
    """Frames back from their chunks."""
    unpack, out = codec.named(name).unpack, np.empty_like(frames[0])
    for chunk in packed:
        unpack(chunk, out)


def codecs() -> str:
    """Markdown table of all codecs: rates, ratio, and how near it is to the entropy."""
    sim = simulator()
    frames = sim.batch(0, FRAMES).images
    ways, ceiling = packers(frames), 16 / entropy_bits(sim)
    with ThreadPoolExecutor(2) as pool:
        works: dict = {(name, 1): partial(pack, frames) for name, pack in ways.items()}
        works |= {(name, 2): partial(halves, pool, pack, frames) for name, pack in ways.items()}
        for name in codec.NAMES:
            works[name, "unpack"] = partial(unpacked, name, ways[name](frames), frames)
        times = interleaved(works, ROUNDS)
    lines = [
        f"Entropy of the noise allows {ceiling:.2f}x.",
        "",
        "| codec | packs, MB/s, 1 thread | 2 threads | ratio | of the entropy's | "
        "unpacks, frames/s |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, pack in ways.items():
        ratio = frames.nbytes / sum(map(len, pack(frames)))
        rates = " | ".join(megabytes(times[name, n], frames.nbytes) for n in (1, 2))
        back = f"{FRAMES / np.median(times[name, 'unpack']):,.0f}" if name in codec.NAMES else "-"
        lines.append(f"| {name} | {rates} | {ratio:.2f} | {100 * ratio / ceiling:.0f} % | {back} |")
    return "\n".join(lines)


def megabytes(times: np.ndarray, nbytes: int) -> str:
    """Median rate and its quartiles."""
    low, middle, high = np.percentile(nbytes / times / 1e6, [25, 50, 75])
    return f"{middle:,.0f} ({low:,.0f} to {high:,.0f})"


# ---- files ---------------------------------------------------------------------------------------


def scratch() -> tempfile.TemporaryDirectory:
    """A folder in memory if possible: the disk is not what is measured."""
    shm = Path("/dev/shm")
    return tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None)


def write_file(path: Path, plan: Plan, chunks: list, threads: int) -> None:
    """A whole dataset: packed, summed, stored, reopened, checked, its file summed."""
    with DatasetWriter(path, plan, plan[0], threads=threads, force=True) as writer:
        for chunk in chunks:
            writer.write_parameters(chunk.sample_start, chunk.parameters)
            writer.append(chunk)
        writer.note([], {})
        writer.finish()


def write_plainly(path: Path, images: Frames16) -> None:
    """The images alone, through HDF5's own filters."""
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=images, chunks=(1, *images.shape[1:]), **GZIP)


def writing() -> str:
    """Markdown table of writing whole datasets, with all sums and checks."""
    sim = simulator()
    chunks = list(sim.chunks(0, FILE_FRAMES))
    images = np.concatenate([chunk.images for chunk in chunks])[:, 0]
    works: dict[str, Callable[[], object]] = {}
    with scratch() as folder:
        for name in codec.NAMES:
            plan = Plan.of(Layout.of(sim, samples=FILE_FRAMES, expected=False, codec=name))
            for threads in (1, 2):
                path = Path(folder) / f"{name}-{threads}.h5"
                works[f"{name}, {threads} threads"] = partial(
                    write_file, path, plan, chunks, threads
                )
        plain = Path(folder) / "plain.h5"
        works["images alone, h5py's gzip level 1 and shuffle"] = partial(
            write_plainly, plain, images
        )
        times = interleaved(works, ROUNDS)
    lines = ["| dataset written | MB/s of images |", "| --- | --- |"]
    lines += [f"| {name} | {megabytes(taken, images.nbytes)} |" for name, taken in times.items()]
    return "\n".join(lines)


def generating() -> str:
    """Markdown table of simulating, writing, and both by ``generate`` at once."""
    sim = simulator()
    chunks = list(sim.chunks(0, FILE_FRAMES))
    plan = Plan.of(Layout.of(sim, samples=FILE_FRAMES, expected=False))
    with scratch() as folder:
        out, alone = Path(folder) / "run.h5", Path(folder) / "alone.h5"
        works = {
            "simulate": lambda: sum(1 for _ in sim.chunks(0, FILE_FRAMES)),
            "write": partial(write_file, alone, plan, chunks, 1),
            "generate": lambda: ss.generate(sim.recipe, FILE_FRAMES, 1, out, force=True),
        }
        times = interleaved(works, ROUNDS)
    slower = np.maximum(times["simulate"], times["write"])
    cost = np.percentile(times["generate"] / slower, [25, 50, 75])
    lines = ["| work | frames/s |", "| --- | --- |"]
    lines += [f"| {name} | {FILE_FRAMES / np.median(t):,.0f} |" for name, t in times.items()]
    low, middle, high = cost
    lines.append(f"\nA run takes {middle:.2f}x ({low:.2f} to {high:.2f}) the slower of the two.")
    return "\n".join(lines)


def stored(path: Path, name: str, frames: Frames16, count: int) -> None:
    """A file of so many frames, made by repeating some."""
    kind = codec.named(name)
    packed = (kind.pack(frames) * -(-count // len(frames)))[:count]
    corners = np.zeros((count, 3), np.int64)
    corners[:, 0] = np.arange(count)
    with h5py.File(path, "w", libver=("earliest", "v108")) as file:
        shape = (count, *frames.shape[1:])
        images = file.create_dataset(
            "images", shape, frames.dtype, chunks=(1, *shape[1:]), **kind.filters
        )
        codec.write_chunks(images, corners, packed)


def rows(threads: int) -> list[Row]:
    """Single frames in random order against bare h5py, on one thread."""
    if threads > 1:
        return []
    frames = simulator().batch(0, FRAMES).images
    order = np.random.default_rng(1)
    made = []
    with scratch() as folder:
        for name in ("default", "none"):
            path = Path(folder) / f"{name}.h5"
            stored(path, name, frames, FILE_FRAMES)
            with h5py.File(path) as file:
                images = file["images"]
                ways = {"ours": Frames(images).one, "bare": images.__getitem__}
                works = {  # further apart than HDF5's cache reaches
                    way: lambda read=read: [
                        read(int(k)) for k in order.choice(FILE_FRAMES, READS, replace=False)
                    ]
                    for way, read in ways.items()
                }
                times = interleaved(works, ROUNDS)
            made.append(
                Row(work=f"random frame of 64x64 px, codec {name}", threads=1, unit="frame",
                    amount=READS, ours=times["ours"], peer="h5py", their_amount=READS,
                    theirs=times["bare"], bar=0.9)
            )  # fmt: skip
    return made


def report() -> str:
    """All tables as markdown."""
    return "\n\n".join((codecs(), writing(), generating()))


def main() -> None:
    """Print the rows and all tables."""
    print(Row.HEADER)
    for row in rows(1):
        print(row, flush=True)
    print(f"\n{report()}")


if __name__ == "__main__":
    main()
