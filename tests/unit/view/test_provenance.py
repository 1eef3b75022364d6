"""The provenance on the page: short to read, and nothing of any file is lost."""

import hashlib
import json
import re

import pytest

from langheads.view import report
from langheads.view.folder import read_run
from langheads.view.provenance import provenance_tables
from tests.unit.view.made_up_results import make_full_page
from tests.unit.view.made_up_run import make_ablation, make_heads, make_scores
from tests.unit.view.test_report import Page

# Settings of format 1 -> the arguments that they are.
NEW = {"level": "alpha", "sure": "min_confidence", "times": "min_ratio", "shift": "steering"}
NEW |= {"bootstraps": "n_resamples", "resamples": "n_resamples"}
NEW |= {"controls": "n_controls", "draws": "n_controls"}


def sha(text):
    return hashlib.sha256(text.encode()).hexdigest()


def leaves(value):
    """Every name and value in it, however deep; JSON in strings is opened."""
    if isinstance(value, str) and value.startswith("{"):
        value = json.loads(value)
    if isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from leaves(item)
    elif value is not None:
        yield str(value)


def make_run(folder):
    languages = ["en", "zh"]
    texts = json.dumps({name: sha(name) for name in languages})
    make_scores(languages, text_hash=texts, time="1").to_netcdf(folder / "scores.nc")
    others = json.dumps({"zh": sha("zh"), "en": sha("other")})
    ablation = make_ablation(languages, text_hash=others, time="2", controls_drawn=100)
    ablation.assign_attrs(seed=3).to_netcdf(folder / "ablation.nc")
    provenance = {
        **dict(read_run(folder).of("scores")["scores.nc"].attrs),
        "rule": {"name": "count", "of": {"revision": sha("x")[:40]}},
        "means": None,
    }
    make_heads(languages, provenance=provenance).save(folder / "heads.json")
    return folder


def make_page(folder):
    report(make_run(folder))


@pytest.mark.parametrize("make", [make_page, make_full_page])
def test_every_value_of_every_file_is_in_the_page(made_once, make):
    run = made_once("full" if make is make_full_page else "two-files", make)
    page = Page((run / "report.html").read_text("utf-8"))
    sources = dict(read_run(run).sources())
    tables = [t for t in page.tables if t[0] == ["setting", "value", "files"]]
    assert len(tables) == 2
    whole = {row[0]: row[1] for row in page.tables[-1][1:]}
    assert page.tables[-1][0] == ["starts with", "hash", "of"]
    found = {}
    for setting, value, files in (row for table in tables for row in table[1:]):
        if files.startswith("all files"):
            missing = files.removeprefix("all files").removeprefix(" but ")
            files = [name for name in sources if name not in missing.split(", ")]
        else:
            files = files.split(", ")
        for short, long in whole.items():
            value = value.replace(short, long)
        for name in files:
            assert (name, setting) not in found
            found[name, setting] = value
    stored = {(name, key) for name, attrs in sources.items() for key in attrs}
    assert set(found) == {(name, NEW.get(key, key)) for name, key in stored}
    for name, key in stored:
        for leaf in leaves(sources[name][key]):
            assert leaf in found[name, NEW.get(key, key)], (name, key)


def test_settings_are_shown_by_the_names_of_the_arguments(tmp_path):
    """As they stand in files of format 1, in a head set's sentence and among the provenance."""
    rule = {"name": "contrast", "score": "lahis", "times": 3.0, "level": 0.05}
    claims = {"en": {"L0H1": {"share": 0.25}}, "zh": {}}
    scored = {"en": [sha("a document")]}
    heads = make_heads(["en", "zh"], rule=rule | {"permutations": 99, "claims": claims})
    heads.save(tmp_path / "heads.json")
    ablation = make_ablation(["en", "zh"], rule=json.dumps(heads.rule), scored=json.dumps(scored))
    more = {"controls": 100, "bootstraps": 50, "sure": 0.3, "level": "not a rule's"}
    ablation.assign_attrs(more).to_netcdf(tmp_path / "ablation.nc")
    page = Page(report(tmp_path).read_text("utf-8"))
    assert "Rule: contrast (score lahis, min_ratio 3.0, alpha 0.05, permutations 99)." in page.text
    tables = [table for table in page.tables if table[0] == ["setting", "value", "files"]]
    rows = {row[0]: row[1] for table in tables for row in table[1:]}
    said = "name: contrast; score: lahis; min_ratio: 3.0; alpha: 0.05; permutations: 99"
    assert rows["rule"] == said
    shown = {"n_controls": "100", "n_resamples": "50", "min_confidence": "0.3"}
    assert rows.items() >= (shown | {"alpha": "not a rule's"}).items()
    assert not rows.keys() & {*more, "scored"}


def test_a_value_is_said_once_with_the_files_that_share_it(tmp_path):
    page = Page(report(make_run(tmp_path)).read_text("utf-8"))
    first, rest = (t for t in page.tables if t[0] == ["setting", "value", "files"])
    assert [row for row in first if row[0] == "seed"] == [
        ["seed", "0", "scores.nc, heads.json"],
        ["seed", "3", "ablation.nc"],
    ]
    assert first[1] == ["model", "made-up", "all files"]
    en, zh, other = (sha(x)[:12] for x in ("en", "zh", "other"))
    assert [row for row in rest if row[0] == "text_hash"] == [
        ["text_hash", f"en: {en}; zh: {zh}", "scores.nc, heads.json"],
        ["text_hash", f"zh: {zh}; en: {other}", "ablation.nc"],
    ]
    rule = next(row for row in rest if row[0] == "rule")
    assert rule[1] == f"name: count; of: (revision: {sha('x')[:12]})"
    # No hash stands in full but in its own table, each once.
    whole = page.tables[-1]
    assert not [c for t in (first, rest) for row in t for c in row if re.search("[0-9a-f]{40}", c)]
    assert [row[1] for row in whole[1:]] == list(dict.fromkeys(row[1] for row in whole[1:]))
    assert [whole[-1][0], whole[-1][2]] == [sha("x")[:12], "rule"]


def test_files_are_named_by_those_missing_where_these_are_few():
    sources = [(f"{i}.nc", {"model": "m", "seed": 1 if i == 2 else 0}) for i in range(4)]
    (table,) = provenance_tables(sources)
    assert table.rows == [
        ["model", "m", "all files"],
        ["seed", "0", "all files but 2.nc"],
        ["seed", "1", "2.nc"],
    ]
    assert not table.folded
    (table,) = provenance_tables(sources[:3])
    assert table.rows[1:] == [["seed", "0", "0.nc, 1.nc"], ["seed", "1", "2.nc"]]


def test_what_only_looks_like_a_hash_stays_as_it_is():
    text = "x" + "ab" * 32 + ", " + "cd" * 40
    (table,) = provenance_tables([("a.nc", {"text": text})])
    assert table.rows == [["text", text, "all files"]]
