"""``python -m langheads.cli``."""

from langheads.cli import main

main()
