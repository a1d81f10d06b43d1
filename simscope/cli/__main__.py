"""``python -m simscope.cli``."""

from simscope.cli import main

main()
