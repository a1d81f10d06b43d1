"""Speed of the kernels, measured: `make bench` prints the tables of benchmarks/README.md.

    python benchmarks/run.py [topic ...] [--picture docs/images/roofline.png]

Every topic stands in a file bench_<topic>.py of its own, with a function ``rows(threads)``. Works
are run in turns with a plain version, or a peer, that does the same in this one process; figures
are medians, ratios are given with their quartiles.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import importlib.util
import platform
import sys
from pathlib import Path

import numba
import numpy as np
import roofline
from timing import Row

TOPICS = (
    "random", "camera", "render", "frames", "pupil", "volume", "blink", "dataset", "loading", "fit",
)  # fmt: skip
PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "roofline.png"


def measured(topics: list[str]) -> list[Row]:
    """Rows of all topics on one thread and on all cores, printed as they come."""
    found = [topic for topic in topics if importlib.util.find_spec(f"bench_{topic}")]
    for topic in sorted(set(topics) - set(found)):
        print(f"bench_{topic}.py is not here: left out", file=sys.stderr)
    rows: list[Row] = []
    print(Row.HEADER)
    for topic in found:
        module = importlib.import_module(f"bench_{topic}")
        for threads in sorted({1, int(numba.config.NUMBA_NUM_THREADS)}):
            for row in module.rows(threads):
                print(row, flush=True)
                rows.append(row)
    return rows


def machine() -> str:
    """Date, processor and versions, as a sentence."""
    return (
        f"Measured {datetime.date.today()} on {numba.config.NUMBA_NUM_THREADS} cores of "
        f"{processor()}, Python {platform.python_version()}, NumPy {np.__version__}, "
        f"Numba {numba.__version__}."
    )


def processor() -> str:
    """The processor's own name where the system tells it, else its architecture."""
    info = Path("/proc/cpuinfo")
    names = (
        [line for line in info.read_text().splitlines() if line.startswith("model name")]
        if (info.exists())
        else []
    )
    return names[0].partition(":")[2].strip() if names else platform.machine()


def main() -> None:
    """Measure and print the tables; draw the picture if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("topics", nargs="*", default=list(TOPICS), metavar="topic")
    parser.add_argument("--picture", type=Path, nargs="?", const=PICTURE, help="roofline PNG")
    given = parser.parse_args()
    unknown = set(given.topics) - set(TOPICS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; topics are {', '.join(TOPICS)}")
    print(f"{machine()}\n")
    rows = measured(given.topics)
    if "frames" in given.topics:
        print(f"\n{importlib.import_module('bench_frames').written()}")
    if "dataset" in given.topics:
        print(f"\n{importlib.import_module('bench_dataset').report()}")
    limits = roofline.machine_limits()
    print(f"\n{roofline.table(limits, rows)}")
    if given.picture is not None:
        roofline.draw(limits, rows, given.picture)
        print(f"\nwrote {given.picture}")


if __name__ == "__main__":
    main()
