"""What a recipe will give, before anything large is computed: derived numbers, size and time."""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simscope.acquire import Chunk, Simulator
from simscope.camera import noise_model
from simscope.dataset import codec, schema
from simscope.dataset.schema import Layout, checked_samples
from simscope.errors import SimscopeWarning
from simscope.optics import FREE_MOMENTS, GaussianSpots, SplineTable, moments, psf
from simscope.recipe import Optics, Steady, ZernikeWavefront
from simscope.recipe.draws import per_sample

Floats = npt.NDArray[np.float64]

TRIAL_SECONDS = 0.075
TRIAL_BYTES = 1 << 22
TRIAL_SAMPLES = 4096
TRIAL_EMITTERS = 50


@dataclass(frozen=True)
class Trial:
    """The first samples, or the first frames of a long movie, and what they cost.

    ``images`` is ``(frames, y, x)``; ``samples`` says how many samples these frames are, below 1
    for a part of a movie; ``sample_bytes`` is what a sample takes in a file, ``seconds`` the time
    the trial took.
    """

    images: npt.NDArray[np.uint16]
    emitters: npt.NDArray[Any]
    parameters: dict[str, Floats]
    samples: float
    sample_bytes: float
    seconds: float


@dataclass(frozen=True)
class Forecast:
    """Derived numbers of a recipe; ``None`` where the trial samples held no emitter.

    Continuous structures have no emitters: theirs are ``structure_photons``, mean light of the
    structure per pixel and frame, and ``brightest_photons``, its light in a frame's brightest
    pixel, both ``None`` for recipes with molecules.
    """

    recipe: str
    sample_axes: str
    sample_shape: tuple[int, ...]
    pixel_nm: float
    nyquist_pixel_nm: float
    nyquist_margin: float
    emitters_per_frame: float
    photons_per_emitter: float | None
    structure_photons: float | None
    brightest_photons: float | None
    background_photons: float
    peak_share: float | None
    peak_snr: float | None
    window_px: int
    whole_frame: bool
    energy_left_out: float | None
    saturated_share: float
    samples: int
    file_bytes: float
    seconds: float
    samples_per_s: float
    drawn: dict[str, str]
    warnings: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return asdict(self)


def forecast(sim: Simulator, samples: int = 1000) -> Forecast:
    """Derived numbers of a simulator, and size and time of a file of ``samples`` samples.

    Emitters, photons, compression and speed are measured on a short trial (of a long movie, on its
    first frames); the size leaves out optional arrays, the time leaves out compression, which runs
    beside the simulation.

    Raises
    ------
    DatasetError
        If ``samples`` is not a whole number in ``[1, 2**32]``.
    """
    samples = checked_samples(samples)
    layout = Layout.of(sim, samples=samples, expected=False)
    trial = timed_trial(sim, layout)
    optics = sim.resolved.optics
    nyquist_nm = nyquist_pixel_nm(optics)
    photons = trial.emitters["photons"].astype(np.float64)
    shares = peak_shares(sim, trial.emitters[:TRIAL_EMITTERS])
    background = background_photons(sim, trial)
    mean, brightest = structure_photons(sim, len(trial.images), background)
    signal = np.median(photons) * np.median(shares) if len(shares) else brightest
    limit = 2**sim.resolved.camera.bit_depth - 1
    return Forecast(
        recipe=sim.recipe.name,
        sample_axes=sim.sample_axes,
        sample_shape=tuple(sim.sample_shape),
        pixel_nm=sim.recipe.pixel_nm,
        nyquist_pixel_nm=nyquist_nm,
        nyquist_margin=nyquist_nm / sim.recipe.pixel_nm,
        emitters_per_frame=len(photons) / len(trial.images),
        photons_per_emitter=float(photons.mean()) if len(photons) else None,
        structure_photons=mean,
        brightest_photons=brightest,
        background_photons=background,
        peak_share=float(np.median(shares)) if len(shares) else None,
        peak_snr=None if signal is None else peak_snr(sim, trial, float(signal), background),
        window_px=int(sim.report["window_px"]),
        whole_frame=bool(sim.report.get("covers_frame", False)),
        energy_left_out=sim.report.get("energy_left_out_max"),
        saturated_share=float(np.mean(trial.images >= limit)),
        samples=samples,
        file_bytes=layout.fixed_bytes + samples * trial.sample_bytes,
        seconds=samples * trial.seconds / trial.samples,
        samples_per_s=trial.samples / trial.seconds,
        drawn={path: dist.label() for path, _, dist in sim.recipe.drawables()},
        warnings=list(sim.warnings),
    )


def nyquist_pixel_nm(optics: Optics) -> float:
    """Largest pixel that loses no detail [nm]: intensity holds frequencies up to 2 NA / wavelength.

    Expects optics whose numbers are drawn already.
    """
    return float(optics.wavelength_nm) / (4.0 * float(optics.na))  # type: ignore[arg-type]


def timed_trial(sim: Simulator, layout: Layout) -> Trial:
    """The first chunk of a file; large enough to be timed, small enough not to be felt.

    Of movies above ``TRIAL_BYTES`` only the first frames are computed: memory stays flat. A focus
    stack is computed whole, whatever it takes.
    """
    count = 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SimscopeWarning)
        while True:
            _, early = _timed_chunk(sim, count, layout.expected)
            chunk, late = _timed_chunk(sim, count, layout.expected)
            seconds = max(min(early, late), 1e-6)
            grown = chunk.sample_stop < count or chunk.frame_stop < sim.frames_per_sample
            if grown or seconds > TRIAL_SECONDS or count >= TRIAL_SAMPLES:
                break
            count *= 4
    images = chunk.images.reshape(-1, *chunk.images.shape[-2:])
    samples = len(images) / sim.frames_per_sample
    return Trial(
        images=images,
        emitters=chunk.emitters,
        parameters=sim.parameters(0, chunk.sample_stop),
        samples=samples,
        sample_bytes=stored_bytes(chunk, layout) / samples,
        seconds=seconds,
    )


def _timed_chunk(sim: Simulator, count: int, expected: bool) -> tuple[Chunk, float]:
    start = time.perf_counter()
    chunk = next(sim.chunks(0, count, max_bytes=TRIAL_BYTES, expected=expected))
    return chunk, time.perf_counter() - start


def background_photons(sim: Simulator, trial: Trial) -> float:
    """Mean expected background [photons per pixel and frame]."""
    path, samples = "background.photons_per_pixel", math.ceil(trial.samples)
    level = float(per_sample(sim.resolved, trial.parameters, path, samples).mean())
    return level if sim.resolved.optics.analyser is None else 0.5 * level


def structure_photons(
    sim: Simulator, frames: int, background: float
) -> tuple[float, float] | tuple[None, None]:
    """Mean light of a continuous structure per pixel, and in a frame's brightest pixel [photons].

    Of the noiseless first frames, ``frames`` at most; the brightest pixel is the median over them.
    None for molecules.
    """
    if not isinstance(sim.resolved.photophysics, Steady):
        return None, None
    count = math.ceil(frames / sim.frames_per_sample)
    chunk = next(sim.chunks(0, count, max_bytes=TRIAL_BYTES, expected=True))
    light = chunk.expected_photons.reshape(-1, *chunk.images.shape[-2:]) - background
    return float(light.mean()), float(np.median(light.max(axis=(1, 2))))


def peak_shares(sim: Simulator, emitters: npt.NDArray[Any]) -> Floats:
    """Share of an emitter's photons that falls into its brightest pixel, one per emitter.

    Where every sample has optics of its own, aberrations drawn per sample are left out and the
    sharpest plane counts.
    """
    if not len(emitters):
        return np.empty(0)
    if sim.table is not None:
        places = (emitters["x_nm"], emitters["y_nm"], emitters["z_nm"])
        images, *_ = sim.table.derivatives(*places, weights=image_weights(sim.table, emitters))
        return images.max(axis=(1, 2))
    height = float(np.median(emitters["z_nm"]))
    planes = psf(undrawn(sim.resolved.optics), height, focus_positions_nm(sim), (33, 33),
                 sim.recipe.pixel_nm)  # fmt: skip
    return np.array([planes.max() / sim.resolved.channels])


def image_weights(table: SplineTable | GaussianSpots, emitters: npt.NDArray[Any]) -> Floats | None:
    """Weights of the table's images for labelled emitters, (emitters, 6); None for one image."""
    if not isinstance(table, SplineTable) or not table.for_dipoles:
        return None
    if "polar_deg" not in (emitters.dtype.names or ()):
        return table.orientation_weights([FREE_MOMENTS], emitters["z_nm"])
    angles = (emitters[name] for name in ("polar_deg", "azimuth_deg", "half_angle_deg"))
    moment = moments(*(np.radians(angle.astype(np.float64)) for angle in angles))
    return table.orientation_weights(moment, emitters["z_nm"])


def undrawn(optics: Optics) -> Optics:
    """The same optics without analyser and the aberrations that differ from sample to sample."""
    optics = optics.model_copy(update={"analyser": None})
    wavefront = optics.wavefront
    if wavefront is None or not wavefront.drawn:
        return optics
    fixed = {
        mode: value
        for mode, value in wavefront.coefficients_nm.items()
        if isinstance(value, int | float)
    }
    return optics.model_copy(update={"wavefront": ZernikeWavefront(coefficients_nm=fixed)})


def focus_positions_nm(sim: Simulator) -> Floats:
    """Objective positions that occur [nm]: the stack's planes, the fixed one, or the mean draw."""
    focus = sim.resolved.acquisition.focus_nm
    if isinstance(focus, int | float):
        return np.array([float(focus)])
    positions = getattr(focus, "positions_nm", None)
    return np.array([focus.mean()]) if positions is None else positions  # type: ignore[union-attr]


def peak_snr(sim: Simulator, trial: Trial, signal: float, background: float) -> float:
    """Signal over noise of a pixel with ``signal`` photons on the background, all noise in."""
    camera = sim.resolved.camera
    drawn = {
        path.removeprefix("camera."): float(values.mean())
        for path, values in trial.parameters.items()
        if path.startswith("camera.")
    }
    exposure_s = sim.resolved.acquisition.exposure_ms * 1e-3
    light = np.array([background, background + signal])
    noise = noise_model(camera, None, light, exposure_s=exposure_s, parameters=drawn or None)
    return float((noise.mean_e[1] - noise.mean_e[0]) / np.sqrt(noise.variance_e2[1]))


def stored_bytes(chunk: Chunk, layout: Layout) -> float:
    """Bytes a chunk takes in a file: images packed as they would be, emitters nearly raw.

    Targets count as if they did not compress: they are sparse or few.
    """
    frames = len(chunk.emitter_offsets) - 1
    samples = frames / layout.frames_per_sample
    targets = (array for array in layout.frame_arrays if array.path.startswith(schema.TARGETS))
    total = 0.75 * chunk.emitters.nbytes + sum(
        array.item_bytes * (frames if array.per_frame else samples) for array in targets
    )
    for images in (chunk.images, chunk.expected_photons):
        if images is None:
            continue
        rows = images.reshape(-1, layout.frames_per_chunk, *images.shape[-2:])
        some = rows[: max(1, TRIAL_BYTES // rows[0].nbytes)]
        packed = sum(map(len, codec.named(layout.codec).pack(some)))
        total += packed / len(some) * len(rows)
    return total


def forecast_rows(outlook: Forecast) -> list[tuple[str, str]]:
    """Name and value of every derived number, in words."""
    margin = "finer than Nyquist" if outlook.nyquist_margin >= 1 else "COARSER than Nyquist"
    rows = [
        ("recipe", outlook.recipe),
        ("sample", f"{' x '.join(map(str, outlook.sample_shape))} ({outlook.sample_axes})"),
        ("sample pixel", f"{outlook.pixel_nm:.1f} nm"),
        (
            "Nyquist pixel",
            f"{outlook.nyquist_pixel_nm:.1f} nm; pixel {margin} by {outlook.nyquist_margin:.2f}",
        ),
        *_light_rows(outlook),
        ("background", f"{outlook.background_photons:.1f} photons per pixel and frame"),
        *_peak_rows(outlook),
        ("PSF window", f"{outlook.window_px} pixels"),
        ("light left out", _left_out(outlook)),
        ("saturated pixels", f"{outlook.saturated_share:.2%}"),
        ("file", f"{readable_bytes(outlook.file_bytes)} for {outlook.samples:,} samples"),
        (
            "time",
            f"{_duration(outlook.seconds)} at {outlook.samples_per_s:,.0f} samples/s here",
        ),
    ]
    rows += [("drawn", f"{path}: {label}") for path, label in outlook.drawn.items()]
    return rows + [("note", note) for note in outlook.warnings]


def _light_rows(outlook: Forecast) -> list[tuple[str, str]]:
    """What shines, in words: molecules or a structure."""
    if outlook.structure_photons is not None:
        mean = f"{outlook.structure_photons:,.1f} photons per pixel and frame, on average"
        return [("structure", mean)]
    each = _number(outlook.photons_per_emitter, "{:,.0f} a frame, on average")
    return [
        ("emitters per frame", f"{outlook.emitters_per_frame:.1f}"),
        ("photons per emitter", each),
    ]


def _peak_rows(outlook: Forecast) -> list[tuple[str, str]]:
    """Light and signal to noise in the brightest pixel, in words."""
    if outlook.brightest_photons is not None:
        brightest = f"{outlook.brightest_photons:,.0f} photons of the structure in a typical frame"
        whose = "there"
    else:
        brightest = _number(outlook.peak_share, "{:.1%} of an emitter's photons")
        whose = "for a typical emitter"
    snr = _number(outlook.peak_snr, f"{{:.1f}} {whose}, all noise in")
    return [("brightest pixel", brightest), ("peak SNR", snr)]


def _number(value: float | None, form: str, absent: str = "no emitter in the trial") -> str:
    return absent if value is None else form.format(value)


def _left_out(outlook: Forecast) -> str:
    if outlook.whole_frame:
        return "whole frame rendered"
    return _number(outlook.energy_left_out, "at most {:.1%}", "not measured")


def readable_bytes(count: float) -> str:
    """A number of bytes with a fitting unit."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
