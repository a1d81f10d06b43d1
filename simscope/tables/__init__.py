"""Tables of emitters of every software of localisation microscopy, read and written.

One module a software states its convention, units, axes, origin, first frame and sign of z, with
the source it was taken from. Everything read comes in simscope's own convention
(:mod:`simscope.tables.columns`).
"""

from simscope.tables.columns import Columns, Imaging, positions, to_records
from simscope.tables.formats import FORMATS, format_for, read, read_positions, write

__all__ = [
    "FORMATS",
    "Columns",
    "Imaging",
    "format_for",
    "positions",
    "read",
    "read_positions",
    "to_records",
    "write",
]
