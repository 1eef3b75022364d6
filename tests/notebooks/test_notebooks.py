"""The notebooks run from top to bottom on the embedded model, and hold no outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ANALYSES = Path(__file__).parents[2] / "analyses"
NOTEBOOKS = sorted(ANALYSES.glob("*.ipynb"))
# What the last cell of each must show.
SHOWN = {
    "ablate_language_heads": "application/vnd.plotly.v1+json",
    "attention_transfer": "text/html",
    "bring_your_own_model": "application/vnd.plotly.v1+json",
    "explore_language_heads": "text/html",
}


def test_all_are_here():
    assert {path.stem for path in NOTEBOOKS} == set(SHOWN)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stripped(path):
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
# The kernel's own machinery warns about sockets and event loops.
@pytest.mark.filterwarnings("ignore::Warning")
def test_it_runs(path, tmp_path, monkeypatch):
    # Jupyter keeps its settings and connection files in the home folder.
    for name in ("HOME", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(path, 4)
    NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    last = [cell for cell in notebook.cells if cell.cell_type == "code"][-1]
    shown = {kind for output in last.outputs for kind in output.get("data", {})}
    assert SHOWN[path.stem] in shown
