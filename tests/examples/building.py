"""The site, built as `make docs` builds it."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def build_site(folder):
    """Without a warning; about 3 seconds."""
    if not find_spec("mkdocs") or not find_spec("mkdocstrings"):
        pytest.skip('no mkdocs here: pip install -e ".[docs]"')
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder,
         "--config-file", ROOT / "docs" / "mkdocs.yml"],
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    # Not --quiet, under which --strict lets warnings pass.
    assert not done.returncode, done.stderr
    assert "WARNING" not in done.stderr
    return folder
