"""Speed of switching molecules: 1e5 molecules through 1e5 frames against NumPy, frame by frame.

The peers redraw every molecule's state in every frame from the transition matrix exp(Q T), as is
usual, so they know the states as frames begin, not the light in the exposure. ``plain`` compares
one uniform number with the cumulative row of every molecule's state; ``sparse`` draws destinations
for those alone that leave their state. They run 10 frames a call: no frame costs more than another.
Both sides begin in equilibrium, and light up the same share of molecules.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import linalg
from timing import Row, interleaved, on_threads

from simscope.kernels import blink
from simscope.kernels.variates import fill_exponential

Floats = npt.NDArray[np.float64]

MOLECULES, FRAMES, THEIR_FRAMES = 100_000, 100_000, 10
WINDOW = 1000
"""Frames at a time, 186,000 rows: enough for two threads to share; one would do with fewer."""

INTERVAL_S = 0.01
ON = 0
RATES = np.array([[0, 10, 40, 0], [20, 0, 0, 0], [0.05, 0, 0, 0], [0, 0, 0, 0]])
"""Per second, between on, dark, off and bleached: on for 1 part in 802, and none bleaches."""

KEY = (np.uint32(1), np.uint32(2))
ROW_BYTES = 48  # 16 written to a buffer and read again, 16 written in order
BANDWIDTH_BYTES_PER_S = 10e9  # of one core


def passed() -> Floats:
    """Probability to be in state s, then in r a frame later: exp(Q T)."""
    return linalg.expm((RATES - np.diag(RATES.sum(axis=1))) * INTERVAL_S)


def equilibrium() -> Floats:
    """Share of time in every state, bleached never reached."""
    return np.linalg.matrix_power(passed(), 1 << 24)[ON]


class Movie:
    """The kernel: light of every bright molecule in every frame; counts what it did."""

    def __init__(self) -> None:
        self.transitions, self.rows, self.light_s = 0, 0, 0.0

    def __call__(self) -> None:
        """The whole movie, window by window."""
        tables = blink.chain_tables([0], RATES[None], np.eye(4)[[ON]])
        molecules = blink.asleep(np.arange(MOLECULES), np.zeros(MOLECULES))
        blink.start_molecules(molecules, tables, blink.weight_tables(equilibrium()[None]), *KEY)
        self.rows, self.light_s = 0, 0.0
        for first in range(0, FRAMES, WINDOW):
            window = (first, WINDOW, INTERVAL_S, INTERVAL_S)
            _, light_s, _ = blink.bright_frames(molecules, tables, window, *KEY)
            self.rows += len(light_s)
            self.light_s += float(light_s.sum())
        self.transitions = int(molecules[-1].sum())


class Plain:
    """NumPy: every state redrawn in every frame; counts the molecules that are on."""

    def __init__(self) -> None:
        self.generator = np.random.default_rng(1)
        self.state = self.generator.choice(4, MOLECULES, p=equilibrium()).astype(np.int8)
        self.cumulative = passed().cumsum(axis=1)[:, :-1]
        self.frames = self.rows = 0

    def __call__(self) -> None:
        """A few frames."""
        for _ in range(THEIR_FRAMES):
            self.rows += len(np.flatnonzero(self.state == ON))
            self.frames += 1
            self.advance()

    def advance(self) -> None:
        """Every state redrawn by its row."""
        uniform = self.generator.random(MOLECULES)
        self.state = (uniform[:, None] >= self.cumulative[self.state]).sum(axis=1)


class Sparse(Plain):
    """NumPy: destinations drawn only for the molecules that leave their state."""

    def __init__(self) -> None:
        super().__init__()
        self.stay = np.diag(passed()).copy()
        away = (passed() - np.diag(self.stay)).cumsum(axis=1)
        self.cumulative = (away / np.maximum(away[:, -1:], 1e-300))[:, :-1]

    def advance(self) -> None:
        """Destinations of those that leave."""
        leaving = np.flatnonzero(self.generator.random(MOLECULES) >= self.stay[self.state])
        uniform = self.generator.random(len(leaving))
        chosen = uniform[:, None] >= self.cumulative[self.state[leaving]]
        self.state[leaving] = chosen.sum(axis=1)


def check_same_work(movie: Movie, peers: list[Plain]) -> None:
    """Raise where one side lights up another share of the molecules than rates demand."""
    share = equilibrium()[ON]
    ours = movie.light_s / (MOLECULES * FRAMES * INTERVAL_S)
    # 5e6 visits to *on* on our side, a few hundred on theirs
    assert abs(ours / share - 1) < 0.01, (ours, share)
    for peer in peers:
        theirs = peer.rows / (peer.frames * MOLECULES)
        assert abs(theirs / share - 1) < 0.4, (theirs, share)


def floor_s(movie: Movie) -> float:
    """Least seconds of a movie on one core: a variate a transition, and the bytes of its rows."""
    out = np.empty(1_000_000)
    words = [np.uint32(0)] * 3
    variates = interleaved({"fill": lambda: fill_exponential(out, *words, *KEY)}, rounds=7)["fill"]
    each_s = float(variates.min()) / out.size
    return movie.transitions * each_s + movie.rows * ROW_BYTES / BANDWIDTH_BYTES_PER_S


def rows(threads: int) -> list[Row]:
    """The kernel against NumPy on one thread."""
    movie, plain, sparse = Movie(), Plain(), Sparse()
    works: dict[str, Callable[[], object]] = {"ours": movie, "plain": plain, "sparse": sparse}
    with on_threads(threads):
        times = interleaved(works, rounds=9)
    check_same_work(movie, [plain, sparse])
    limit_s = floor_s(movie) / FRAMES / threads
    bound = f"Philox and log of {movie.transitions:.2g} transitions, bytes of {movie.rows:.2g} rows"
    return [
        Row(
            "blinking, 1e5 molecules, 1e5 frames", threads, "frame", FRAMES, times["ours"],
            f"NumPy, {name}, states redrawn per frame", THEIR_FRAMES, times[name], 100.0,
            limit_s, bound,
        )
        for name in ("plain", "sparse")
    ]  # fmt: skip
