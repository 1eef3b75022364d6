"""What a command took, in time and memory."""

import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
import torch

from langheads.io import shards
from langheads.io.cost import counted, peak_memory, spent
from langheads.io.part_file import Piece
from langheads.io.parts import Parts, Waiting, active_parts
from langheads.io.shards import in_parts

ROWS = [torch.tensor([1.0])]


def test_memory_of_whoever_started_the_process_is_not_its_own():
    child = "from langheads.io.cost import peak_memory; print(peak_memory())"
    fat = b"1" * 2**28
    said = subprocess.run([sys.executable, "-c", child], check=True, capture_output=True).stdout
    assert 2**22 < int(said) < len(fat)


def test_memory_of_cards_is_that_of_the_fullest(monkeypatch):
    used = [0, 7, 3]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(used))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda card=0: used[card])
    assert peak_memory() == 7
    used[1:] = [0, 0]
    assert peak_memory() > 2**22


def test_a_rank_counts_once_what_it_made_in_a_round_before(tmp_path, monkeypatch):
    real, took = time.perf_counter, [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: real() + took[0])

    def made(number):
        def make():
            took[0] += (3, 40)[number]
            return ROWS

        name = str(number)
        return Piece("nll", "w", name, number, number, 2, 1, 1, 1, None), make

    @contextmanager
    def ranks():
        def all_agree(yes):
            if not yes and not (tmp_path / "w-00001-1.part").exists():
                # The other rank is at it, beside this one.
                Parts(tmp_path).rows(*made(1))
                took[0] -= 40
            return yes

        yield 0, 2, all_agree

    monkeypatch.setattr(shards, "_ranks", ranks)

    def work():
        if None in [active_parts().rows(*made(number))[0] for number in (0, 1)]:
            raise Waiting(1)
        return spent()

    for before in (40, 43):
        # The command given again has made neither.
        took[0] = 0
        with counted():
            told = in_parts(work, tmp_path, keep=True)
        assert told["took_seconds"] == pytest.approx(43, abs=1)
        assert told["took_before_seconds"] == before
    assert spent() == {}
