"""Processes that share one run, and processes that are killed: the bits of one that was not."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

import langheads
from langheads.io.parts import kept_in_parts
from langheads.io.shards import in_parts
from tests.unit.cli.test_errors import verb  # noqa: F401 - a fixture
from tests.unit.io.test_shards import VERBS, result_of

SCORE = ("--method", "lahis,quadrature", "--docs", "8", "--device", "cpu", "--batch-tokens", "100")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}


def values(path):
    return result_of(langheads.load_result(path))


@pytest.fixture
def score(tiny_folder, texts_folder):
    """A command."""
    return lambda out: [
        *map(str, ("score", tiny_folder, "--text", texts_folder, *SCORE, "--out", out))
    ]


@pytest.fixture
def expected(verb, score, tmp_path):  # noqa: F811
    """What it makes in one process."""
    assert verb(*score(tmp_path / "alone.nc"))[0] == 0
    return values(tmp_path / "alone.nc")


@pytest.mark.slow
def test_ranks_of_torchrun(score, expected, tmp_path):
    out = tmp_path / "ranks.nc"
    ranks = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    subprocess.run([*ranks, "-m", "langheads", *score(out)], check=True, env=ENVIRONMENT)
    assert values(out) == expected
    assert sorted(os.listdir(tmp_path)) == ["alone.nc", "ranks.nc"]


@pytest.mark.slow
def test_a_worker_of_ray_is_killed(score, expected, tmp_path):
    pytest.importorskip("ray")
    out = tmp_path / "ray.nc"
    started = subprocess.Popen(
        [sys.executable, "-m", "langheads", *score(out), "--on", "ray:2"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    folder = tmp_path / "ray.nc.parts"
    while len(list(folder.glob("*.part"))) < 2:
        assert started.poll() is None, started.stderr.read()
        time.sleep(0.01)
    workers = subprocess.run(["pgrep", "-f", "ray::Worker"], capture_output=True, text=True).stdout
    os.kill(int(workers.split()[0]), signal.SIGKILL)
    told, error = started.communicate(timeout=300)
    assert started.returncode == 0, error
    assert told == f"{out}\n"
    assert values(out) == expected
    assert sorted(os.listdir(tmp_path)) == ["alone.nc", "ray.nc"]


@pytest.mark.parametrize("given", [["--on", "spark"], ["--on", "ray", "--shard", "1/2"]])
def test_what_cannot_be_shared(score, verb, tmp_path, given):  # noqa: F811
    code, _, error = verb(*score(tmp_path / "s.nc"), *given)
    assert (code, error) == (
        2,
        f"error: --on {given[1]!r} asked for; allowed are ray and ray:N, neither with --shard nor "
        "with --fresh\n",
    )


def whole_run(model, texts, folder):
    langheads.run(model, texts, folder, docs=4, proof_docs=4, n_controls=3, method="lahis",
                  batch_tokens=150, share=0.2, quantile=0.7)  # fmt: skip
    return [values(folder / name) for name in ("scores.nc", "ablation.nc")]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills children")
@pytest.mark.parametrize("name", ["score", "knockout", "generate", "run"])
def test_killed_at_any_moment(name, tiny, texts, tmp_path):
    def work(folder):
        if name == "run":
            return whole_run(tiny, texts, folder / "out")
        return result_of(VERBS[name](tiny, texts))

    rng = random.Random(0)
    started = time.perf_counter()
    with kept_in_parts(tmp_path / "first" / "parts") as parts:
        expected = work(tmp_path / "first")
    took, total = time.perf_counter() - started, parts.made
    killed_between = 0
    for number in range(30):
        folder = tmp_path / str(number)
        child = os.fork()
        if child == 0:
            torch.set_num_threads(1)
            in_parts(lambda folder=folder: work(folder), folder / "parts", keep=True)
            os._exit(0)
        # Some time after so many parts are there, however fast the machine is at the moment.
        wanted, end = rng.randrange(total), time.monotonic() + 60
        while len(list((folder / "parts").glob("*.part"))) < wanted and time.monotonic() < end:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, took / total))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        there = len(list((folder / "parts").glob("*.part")))
        killed_between += 0 < there < total
        with kept_in_parts(folder / "parts") as parts:
            assert work(folder) == expected
        assert (parts.found, parts.made) == (there, total - there)
        in_parts(lambda folder=folder: work(folder), folder / "parts")
        assert sorted(os.listdir(folder)) == (["out"] if name == "run" else [])
    assert killed_between > 5
