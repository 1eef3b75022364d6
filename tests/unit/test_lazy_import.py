"""Nothing heavy is imported before it is needed."""

import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

import langheads
from langheads.scores import registry

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


def test_the_version_is_told_at_once():
    done = run("-X", "importtime", "-m", "langheads", "--version")
    assert done.stdout == f"langheads {langheads.__version__}\n"
    assert "numpy" not in done.stderr


def test_heads_are_selected_without_what_models_need(tmp_path):
    """1.8 s of processor time were half of it `scipy.stats`; torch was never needed."""
    scores = np.arange(24.0).reshape(2, 3, 4)
    lahis = xr.DataArray(scores, dims=("language", "layer", "head"), attrs={"units": "nats"})
    about = {"kind": "scores", "format": 1, "model": "m", "seed": 0}
    made = xr.Dataset({"lahis": lahis}, {"language": ["en", "zh"]}, about)
    langheads.save(made, tmp_path / "scores.nc")
    program = (
        "import sys; from langheads.cli import main; from langheads.io import apart\n"
        "known, server = [], apart._server\n"
        "apart._server = lambda key: (known.append('xarray' in sys.modules), server(key))[1]\n"
        f"sys.argv = ['langheads', 'select', {str(tmp_path / 'scores.nc')!r}, '--out', "
        f"{str(tmp_path / 'heads.json')!r}, '--quantile', '.8']\n"
        "main(); print(*sys.modules, *known)"
    )
    loaded = run("-c", program).stdout.split()
    # The process that reads the file starts beside the imports.
    assert loaded[-2:] == ["False", "True"]
    loaded = set(loaded)
    assert "langheads.selection.count" in loaded
    assert loaded.isdisjoint({"torch", "transformers", "scipy.stats", "plotly", "transformer_lens"})
    # The two lists are the same heads; four languages make a head general.
    assert langheads.LanguageHeads.load(tmp_path / "heads.json").specific["zh"] == {(2, 3)}


def test_help_names_every_verb():
    as_module = run("-m", "langheads").stdout
    text = run("-c", "from langheads.cli import main; main()").stdout
    assert text == as_module
    for verb in ("score", "knockout", "select", "ablate", "report", "run", "demo"):
        assert f"\n  {verb} " in text


def test_the_help_of_score_names_every_method():
    text = " ".join(run("-m", "langheads", "score", "--help").stdout.split())
    assert f"Known are {', '.join(registry.names())}." in text


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
