"""Wheel and sdist are built, say what they are, and run where nothing of the clone is."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.metadata import Metadata

import langheads

ROOT = Path(__file__).parents[2]


def run(*command, cwd):
    done = subprocess.run(
        [os.fspath(part) for part in command], cwd=cwd, capture_output=True, text=True,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    )  # fmt: skip
    assert not done.returncode, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    if not find_spec("hatchling"):
        pytest.skip('no hatchling here: pip install -e ".[dev]"')
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-d", folder, cwd=ROOT)
    return folder


@pytest.fixture(scope="module")
def wheel(dist):
    (only,) = dist.glob("*.whl")
    return only


@pytest.fixture(scope="module")
def sdist(dist):
    (only,) = dist.glob("*.tar.gz")
    return only


def names(wheel):
    return set(zipfile.ZipFile(wheel).namelist())


def test_metadata_is_valid_and_the_same(wheel, sdist):
    told = zipfile.ZipFile(wheel).read(f"langheads-{langheads.__version__}.dist-info/METADATA")
    with tarfile.open(sdist) as archive:
        assert archive.extractfile(f"{sdist.name[:-7]}/PKG-INFO").read() == told
    metadata = Metadata.from_email(told, validate=True)
    assert str(metadata.version) == langheads.__version__
    assert metadata.license_expression == "MIT"
    assert metadata.description_content_type == "text/markdown"


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    package = ROOT / "src"
    here = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "src/langheads"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    if here.returncode:
        pytest.skip("no clone")
    listed = {os.path.relpath(ROOT / name, package) for name in here.stdout.split()}
    info = f"langheads-{langheads.__version__}.dist-info"
    assert {name for name in names(wheel) if not name.startswith(info)} == listed
    assert f"{info}/licenses/LICENSE" in names(wheel)


def test_the_sdist_gives_the_same_wheel(wheel, sdist, tmp_path):
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    assert {"tests", "docs", "hooks", "figures", "analyses", "CHANGELOG.md", "Makefile"} <= {
        path.name for path in source.iterdir()
    }
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", cwd=source)
    (again,) = (source / "dist").glob("*.whl")
    assert names(again) == names(wheel)


@pytest.mark.slow
def test_the_wheel_runs_in_an_empty_environment(wheel, tmp_path):
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    run(
        *(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index"),
        wheel,
        cwd=tmp_path,
    )
    purelib = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run(python, "-c", purelib, cwd=tmp_path).strip())
    # What langheads needs is that of the environment which runs the tests, but for langheads.
    (site / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = "import langheads; print(langheads.__file__)"
    assert run(python, "-c", where, cwd=tmp_path).strip() == str(site / "langheads/__init__.py")
    command = tmp_path / "venv" / "bin" / "langheads"
    told = run(command, "--version", cwd=tmp_path)
    assert told == f"langheads {langheads.__version__}\n"
    assert "demo/report.html" in run(command, "demo", "--out", "demo", "--docs", "6", cwd=tmp_path)
    assert (tmp_path / "demo" / "report.html").stat().st_size > 1e6
