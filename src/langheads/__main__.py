"""``python -m langheads``, the same as ``langheads``."""

from langheads.cli import main

if __name__ == "__main__":
    main()
