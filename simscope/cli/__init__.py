"""The command line: parse, call, print. Results go to stdout, progress and notes to stderr."""

from simscope.cli.frame import app, load, main

# isort: split
# in the order of the list that --help prints
from simscope.cli import recipes

# isort: split
from simscope.cli import optics

# isort: split
from simscope.cli import datasets

# isort: split
from simscope.cli import checking

# isort: split
from simscope.cli import handover

# isort: split
from simscope.cli import design

# isort: split
from simscope.cli import learning

# isort: split
from simscope.cli import judging

# isort: split
from simscope.cli import trust

__all__ = [
    "app",
    "checking",
    "datasets",
    "design",
    "handover",
    "judging",
    "learning",
    "load",
    "main",
    "optics",
    "recipes",
    "trust",
]
