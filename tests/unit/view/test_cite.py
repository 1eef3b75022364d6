"""What is cited belongs to what was done, and is what the modules name as their sources."""

import re
from pathlib import Path

import pytest

import langheads
from langheads.io.errors import InputError
from langheads.io.schemas import SCHEMAS
from langheads.scores.registry import SCORES, Score
from langheads.view import cite as module
from tests.unit.view.made_up_results import make_full_page
from tests.unit.view.made_up_run import make_heads, make_scores

ROOT = Path(__file__).parents[3]
ALWAYS = {"langheads", "nanda2022transformerlens"}


def keys_in(path):
    return re.findall(r"^@\w+\{([^,]+),$", path.read_text("utf-8"), re.M)


def test_every_source_that_is_named_is_there_and_every_entry_is_used():
    found = module.references()
    used = {key for of in (*SCORES.values(), *SCHEMAS.values()) for key in of.sources}
    used |= {key for keys in module._RULES.values() for key in keys} | {*module._SAMPLED}
    assert used | ALWAYS | {"evendar2006elimination"} == set(found)
    for key, entry in found.items():
        assert entry.count("{") == entry.count("}"), key
        assert {"title", "author"} <= set(re.findall(r"^  (\w+) = \{", entry, re.M)), key


def test_arxiv_numbers_are_those_of_the_modules():
    sources = [*ROOT.glob("src/langheads/**/*.py"), *ROOT.glob("hooks/*.py")]
    said = " ".join(path.read_text("utf-8") for path in sources)
    for key, entry in module.references().items():
        for number in re.findall(r"eprint = \{(.*?)\}", entry):
            assert number in said, key


def test_only_what_was_used_is_cited(tmp_path):
    scores = make_scores(["en", "zh"])
    kept = ["lahis", "lahis_se"]
    langheads.save(scores[kept], tmp_path / "scores.nc")
    path = langheads.cite(tmp_path)
    assert path == tmp_path / "references.bib"
    assert keys_in(path) == ["langheads", "nanda2022transformerlens", "liu2025lahis"]
    assert "% scores.nc\n@misc{liu2025lahis," in path.read_text("utf-8")
    renamed = scores[kept].rename(lahis="entropy", lahis_se="entropy_se")
    langheads.save(renamed, tmp_path / "scores.nc")
    heads = make_heads(["en", "zh"], rule={"name": "contrast", "score": "taylor"})
    heads.save(tmp_path / "heads.json")
    assert set(keys_in(langheads.cite(tmp_path))) == ALWAYS | {
        "tang2024neurons", "michel2019sixteen", "janssen1997studentized", "chung2013exact",
        "benjamini1995controlling",
    }  # fmt: skip


def test_a_source_that_only_a_score_from_outside_knows_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(SCORES, "mine", Score("mine", "Mine", "nats", sources=("me2026",)))
    scores = make_scores(["en", "zh"])
    langheads.save(scores.assign(mine=scores.taylor)[["mine"]], tmp_path / "scores.nc")
    text = langheads.cite(tmp_path).read_text("utf-8")
    assert text.endswith("% scores.nc\n% me2026: no entry of langheads\n")


def test_a_folder_with_everything(made_once, tmp_path):
    made_once.copy("full", make_full_page, tmp_path)
    keys = keys_in(langheads.cite(tmp_path, tmp_path / "b" / "paper.bib"))
    assert len(keys) == len(set(keys))
    assert set(keys) >= ALWAYS | {
        "liu2025lahis", "naufil2026heads", "petsiuk2018rise", "phipson2010permutation",
        "heimersheim2024patching", "owen2007pigeonhole", "marchisio2024confusion",
        "rajpurkar2016squad",
    }  # fmt: skip
    with pytest.raises(InputError, match="no folder"):
        langheads.cite(tmp_path / "none")
