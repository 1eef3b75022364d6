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


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The code cells of each after all ran, in one kernel, which imports once."""
    folder = tmp_path_factory.mktemp("notebooks")
    joined, cells = nbformat.v4.new_notebook(), {}
    for path in NOTEBOOKS:
        joined.cells.append(nbformat.v4.new_code_cell("%reset -f"))
        cells[path] = [x for x in nbformat.read(path, 4).cells if x.cell_type == "code"]
        joined.cells += cells[path]
    with pytest.MonkeyPatch.context() as patch:
        # Jupyter keeps its settings and connection files in the home folder.
        for name in ("HOME", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
            patch.setenv(name, str(folder / "home"))
        patch.setenv("OMP_NUM_THREADS", "1")
        where = {"metadata": {"path": folder}}
        how = {"timeout": 240, "kernel_name": "python3", "allow_errors": True}
        NotebookClient(joined, resources=where, **how).execute()
    return cells


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
# The kernel's own machinery warns about sockets and event loops.
@pytest.mark.filterwarnings("ignore::Warning")
def test_it_runs(path, ran):
    for cell in ran[path]:
        failed = [output.evalue for output in cell.outputs if output.output_type == "error"]
        assert failed == [], cell.source
    shown = {kind for output in ran[path][-1].outputs for kind in output.get("data", {})}
    assert SHOWN[path.stem] in shown
