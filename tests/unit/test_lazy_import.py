"""Nothing heavy is imported before it is needed."""

import subprocess
import sys

import pytest

import langheads

HEAVY = (
    "torch", "transformers", "transformer_lens", "numpy", "scipy", "xarray", "pandas", "h5py",
    "datasets", "pyarrow", "plotly", "accelerate", "jinja2", "tqdm", "einops", "rich",
)  # fmt: skip


def run(*arguments):
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=True, timeout=60
    )


@pytest.mark.parametrize("module", ["langheads", "langheads.cli", "langheads.io.errors"])
def test_importing_imports_nothing_heavy(module):
    program = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    loaded = set(run("-c", program).stdout.split())
    assert "langheads" in loaded
    assert loaded.isdisjoint(HEAVY)


@pytest.mark.parametrize("arguments", [["--help"], ["score", "--help"], []])
def test_help_imports_nothing_heavy(arguments):
    program = (
        "import sys; from langheads.cli import main\n"
        f"sys.argv = ['langheads', *{arguments}]\n"
        "main(); print(*{name.split('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    done = run("-c", program)
    assert "Usage: langheads" in done.stdout
    assert set(done.stderr.split()).isdisjoint(HEAVY)


def test_help_names_every_verb():
    as_module = run("-m", "langheads").stdout
    text = run("-c", "from langheads.cli import main; main()").stdout
    assert text == as_module
    for verb in ("score", "knockout", "select", "ablate", "report", "run", "demo"):
        assert f"\n  {verb} " in text


def test_every_promised_name_is_there():
    for name in langheads.__all__:
        assert getattr(langheads, name) is not None
        assert name in dir(langheads)
    assert langheads.score.__module__ == "langheads.scores.score"
    assert callable(langheads.report)
    assert callable(langheads.ablate)


def test_another_name_is_not_there():
    with pytest.raises(AttributeError, match="No langheads attribute scroe"):
        langheads.scroe  # noqa: B018
