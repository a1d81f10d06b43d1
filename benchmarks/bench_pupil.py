"""Vectorial phase-mask PSFs, every emitter with a place and defocus of its own.

    python benchmarks/bench_pupil.py

Both sides make the same images: the light of 6 field components (Ex and Ey of dipoles along x, y,
z) behind a mask, from 64x64 nodes on a square grid over the pupil to 31x31 points, checked to 1e-5
of the peak before anything is timed. PyTorch multiplies complex64 matrices, as one would write it:
fields with the mask multiplied once, one phase a node for each emitter, one large product along x,
one along y; of five ways tried the fastest, in batches of the size that is fastest here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numba
import numpy as np
import torch
from timing import Row, interleaved, on_threads

import simscope as ss
from simscope.optics import Window, objective_of
from simscope.optics.field import (
    PupilField,
    field_at,
    passed,
    plane_energy,
    quadrants,
    static_phasor,
)
from simscope.optics.pupil_batch import PupilBatch
from simscope.optics.quadrature import PupilNodes
from simscope.recipe import Optics, TetrapodMask
from simscope.render import ExactRenderer

OPTICS = Optics(
    na=1.4, wavelength_nm=670, n_sample=1.518, n_coverslip=1.518, n_immersion=1.518,
    mask=TetrapodMask(),
)  # fmt: skip
NODES, PIXELS, PIXEL_NM = 64, 31, 100.0
EMITTERS = 1024
BATCHES = (8, 16, 32, 64)
STACKS = 48
MULTIPLY_ADDS = 5 * 8 * (32 * 32 * 16 + 32 * 16 * 16)
"""Of one image: 5 distinct components, 4 parities, real and imaginary, along and across chords."""


def square_field() -> PupilField:
    """Field at the middles of 64x64 squares over the pupil, those beyond its edge weighing 0."""
    objective = objective_of(OPTICS)
    line = (np.arange(NODES // 2) + 0.5) * 2.0 * objective.na / NODES
    kx, ky = np.tile(line, (NODES // 2, 1)), line[:, None]
    radius = np.hypot(kx, ky)
    weight = (radius < objective.na) * (line[1] - line[0]) ** 2
    shrink = np.minimum(1.0, 0.999 * objective.na / radius)
    field = field_at(objective, PupilNodes(kx * shrink, ky * shrink, weight))
    return dataclasses.replace(field, nodes=PupilNodes(kx, ky, weight))


class TorchProducts:
    """The same images by PyTorch's complex64 matrix products."""

    def __init__(self, field: PupilField, static: np.ndarray, batch: int) -> None:
        self.batch = batch
        k, nodes = field.objective.wavenumber_per_nm, field.nodes
        middle = (PIXELS - 1) / 2
        x_nm = (np.arange(PIXELS) - middle) * PIXEL_NM
        line = np.concatenate((-nodes.kx[0, ::-1], nodes.kx[0]))
        self.kx, self.ky = (torch.from_numpy((k * line).astype("f4")) for _ in range(2))
        self.root = torch.from_numpy(whole(k * field.sample_root.real, (0, 0)).astype("f4"))
        self.tilt = torch.from_numpy(np.exp(-1j * k * np.outer(line, x_nm)).astype("c8"))
        path = np.exp(1j * k * field.path_nm)
        masked = whole_of(static * path) * whole(nodes.weight, (0, 0))
        parts = [whole(a, odd) for a, odd in zip(field.amplitude, field.parity, strict=True)]
        a, b, c, d, e = (part * masked for part in parts)
        self.fields = torch.from_numpy(np.array((a, b, d, b, c, e)).astype("c8"))
        energy, _ = plane_energy(field, np.zeros(1), passed(static))
        self.scale = float(1.0 / (field.objective.wavelength_nm**2 * energy[0]))

    def images(self, z_nm: np.ndarray, x_nm: np.ndarray, y_nm: np.ndarray) -> torch.Tensor:
        """Intensity at the points, (n, y, x)."""
        places = [torch.from_numpy(a.astype("f4")) for a in (z_nm, x_nm, y_nm)]
        return torch.cat([
            self._batch(*(place[i : i + self.batch] for place in places))
            for i in range(0, len(z_nm), self.batch)
        ])  # fmt: skip

    def _batch(self, z: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        phase = z[:, None, None] * self.root + x[:, None, None] * self.kx
        phase += (y[:, None] * self.ky)[:, :, None]
        light = torch.complex(phase.cos(), phase.sin())[:, None] * self.fields
        along = torch.matmul(light, self.tilt).transpose(2, 3).contiguous()
        waves = torch.matmul(along, self.tilt).transpose(2, 3)
        return (waves.real.square() + waves.imag.square()).sum(1) * self.scale


def whole(quadrant: np.ndarray, odd: tuple[int, int]) -> np.ndarray:
    """Values at all nodes, continued from kx, ky > 0 by parity."""
    half = np.concatenate(((-1) ** odd[1] * quadrant[:, ::-1], quadrant), axis=1)
    return np.concatenate(((-1) ** odd[0] * half[::-1], half))


def whole_of(parts: np.ndarray) -> np.ndarray:
    """Values at all nodes from their quadrants (2, 2, rows, columns)."""
    above, below = (
        np.concatenate((row[1][:, ::-1], row[0]), axis=1) for row in parts
    )  # fmt: skip
    return np.concatenate((below[::-1], above))


def multiply_add_s() -> float:
    """Seconds of one multiply-add at best: numpy's product of large float32 matrices."""
    a = np.random.default_rng(0).normal(size=(1024, 1024)).astype(np.float32)
    return float(interleaved({"product": lambda: a @ a}, 9)["product"].min()) / a.shape[0] ** 3


def fastest(peers: dict[int, TorchProducts], places: list[np.ndarray]) -> TorchProducts:
    """The peer with the batch that suits this machine best."""
    few = [place[:128] for place in places]
    works = {str(n): lambda p=peer: p.images(*few) for n, peer in peers.items()}
    times = interleaved(works, 5)
    return peers[int(min(times, key=lambda name: times[name].min()))]


def rows(threads: int) -> list[Row]:
    """The phase-mask row on ``threads`` threads, and stacks with drawn wavefronts."""
    field = square_field()
    static = static_phasor(OPTICS, field.objective, *quadrants(field.nodes))
    window = Window((PIXELS, PIXELS), PIXEL_NM, points=True)
    ours = PupilBatch(field, static, (), *window.grids(field.objective.band_limit_per_nm, 1e-4))
    rng = np.random.default_rng(1)
    z, x, y = (rng.uniform(-limit, limit, EMITTERS) for limit in (500.0, 50.0, 50.0))
    none, flat = np.zeros((EMITTERS, 0)), np.zeros(EMITTERS)
    torch_threads = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with on_threads(threads):
            peer = fastest({n: TorchProducts(field, static, n) for n in BATCHES}, [z, x, y])
            works: dict[str, Callable[[], object]] = {
                "ours": lambda: ours.images(z, flat, x, y, none),
                "torch": lambda: peer.images(z, x, y),
            }
            mine, theirs = np.asarray(works["ours"]()), works["torch"]().numpy()
            assert np.abs(mine - theirs).max() < 1e-5 * theirs.max()
            times = interleaved(works, 11)
            floor_s = MULTIPLY_ADDS * multiply_add_s()
    finally:
        torch.set_num_threads(torch_threads)
    image = Row(
        "phase-mask PSF, 6 fields, 64² nodes to 31² px", threads, "PSF", EMITTERS, times["ours"],
        f"PyTorch complex64 matmul, batches of {peer.batch}", EMITTERS, times["torch"], 3.5,
        floor_s, "rate of multiply-adds",
    )  # fmt: skip
    return [image, stack_row(threads)]


def stack_row(threads: int) -> Row:
    """Stacks of psf-zernike, against one stack after the other in double precision."""
    model = ExactRenderer(ss.load_recipe("psf-zernike")).model
    rng = np.random.default_rng(2)
    focus_nm = np.linspace(-1000.0, 1000.0, 21)
    drawn = rng.normal(size=(STACKS, len(model.modes)))
    drawn *= 60.0 / np.linalg.norm(drawn, axis=1, keepdims=True)
    x, y = rng.uniform(-50.0, 50.0, (2, STACKS))

    wavefronts = [dict(zip(model.modes, own, strict=True)) for own in drawn]

    def one_by_one() -> np.ndarray:
        return np.array([
            model.images(0.0, focus_nm, x[i], y[i], wavefront_nm=wavefronts[i])
            for i in range(STACKS // 8)
        ])  # fmt: skip

    def at_once() -> np.ndarray:
        return model.stacks(0.0, focus_nm, x, y, coefficients_nm=drawn)

    with on_threads(threads):
        exact = one_by_one()
        assert np.abs(at_once()[: len(exact)] - exact).max() < 5e-6 * exact.max()
        times = interleaved({"ours": at_once, "double": one_by_one}, 7)
    return Row(
        "stack with a drawn wavefront, 21x35x35 px (psf-zernike)", threads, "stack", STACKS,
        times["ours"], "our float64 model, one by one", STACKS // 8, times["double"],
    )  # fmt: skip


if __name__ == "__main__":
    print(Row.HEADER)
    for count in sorted({1, int(numba.config.NUMBA_NUM_THREADS)}):
        for row in rows(count):
            print(row, flush=True)
