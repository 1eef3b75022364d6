"""The chain in one call is the steps one after the other."""

import json
import os

import pytest
import xarray as xr

import langheads
from langheads import pipeline
from langheads.demo import grammar
from langheads.heads import Head
from langheads.io.errors import InputError, InterventionError
from langheads.model import DEMO
from langheads.view.attention.patterns import AttentionData
from langheads.view.folder import read_run

SMALL = {"docs": 4, "seed": 2, "max_tokens": 60, "languages": ["zh", "en"]}
CHOICE = {"quantile": 0.7, "general_at": 3, "share": 0.2}


def without_time(dataset):
    return dataset.drop_attrs().assign_attrs(
        {key: value for key, value in dataset.attrs.items() if key != "time"}
    )


def test_a_run_is_its_steps(tiny, texts, tmp_path):
    page = pipeline.run(
        tiny, texts, tmp_path / "run", method=["taylor", "lahis"], proof_docs=3, n_controls=3,
        **CHOICE, **SMALL,
    )  # fmt: skip
    assert page == tmp_path / "run" / "report.html"
    assert sorted(os.listdir(page.parent)) == [
        "ablation.nc", "attention.json", "heads.json", "report.html", "scores.nc",
    ]  # fmt: skip
    scores = langheads.score(tiny, texts, method=["taylor", "lahis"], **SMALL)
    heads = langheads.select(scores, score="taylor", **CHOICE)
    proof = langheads.ablate(tiny, heads, texts, n_controls=3, **SMALL | {"docs": 3})
    written = langheads.load_result(page.parent / "scores.nc", "scores")
    xr.testing.assert_equal(written, scores)
    read = langheads.LanguageHeads.load(page.parent / "heads.json")
    assert read.specific == heads.specific
    assert read.rule == heads.rule
    assert read.rule["score"] == "taylor"
    written = langheads.load_result(page.parent / "ablation.nc", "ablation")
    xr.testing.assert_equal(written, proof)
    assert written.attrs["overlap"] == 0
    view = AttentionData.load(page.parent / "attention.json")
    assert [context.label for context in view.contexts] == ["zh", "en"]
    for head in view.heads:
        # A head may be on both lists.
        for language in head.role.split(", "):
            assert Head.parse(head.name) in heads.specific[language]
        taylor = scores.taylor.sel(language=head.role.split(", ")[0]).values
        assert head.score == taylor[Head.parse(head.name)]
    assert "<html" in page.read_text("utf-8")[:500]


def test_a_run_over_an_old_one_that_is_interrupted_leaves_no_page_of_both(
    tiny, texts, tmp_path, monkeypatch
):
    how = {"method": "lahis", "proof_docs": 2, "n_controls": 2, **CHOICE}
    page = pipeline.run(tiny, texts, tmp_path / "run", **how, **SMALL)
    whole = read_run(page.parent)
    assert whole.reasons == {}
    assert sorted(whole.results) == ["ablation", "attention", "heads", "scores"]

    def interrupted(*arguments, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "ablate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(tiny, texts, tmp_path / "run", **how, **SMALL | {"docs": 6})
    run = read_run(page.parent)
    assert list(run.results) == ["scores", "heads"]
    assert run.reasons == {
        "ablation.nc": "made from another heads file than heads.json; make it again",
        "attention.json": "made from another heads file than heads.json; make it again",
    }


def test_a_picture_that_cannot_be_made_loses_no_run(tiny, texts, tmp_path, monkeypatch, caplog):
    def show_attention(*arguments, **keywords):
        raise InterventionError("no pattern")

    monkeypatch.setattr(pipeline, "show_attention", show_attention)
    (tmp_path / "attention.json").write_text("of an earlier run")
    pipeline.run(tiny, texts, tmp_path, proof_docs=3, n_controls=2, **CHOICE, **SMALL)
    assert "no picture of attention: no pattern" in caplog.text
    assert sorted(os.listdir(tmp_path)) == ["ablation.nc", "heads.json", "report.html", "scores.nc"]


def test_what_was_finished_is_kept(tiny, texts, tmp_path):
    with pytest.raises(InputError, match="allowed are auto or a number"):
        pipeline.run(tiny, texts, tmp_path, batch_tokens=0, proof_docs=3, **SMALL)
    assert os.listdir(tmp_path) == []
    # Every listed head is general, so nothing is left to prove.
    with pytest.raises(InputError, match="no language has specific heads"):
        pipeline.run(tiny, texts, tmp_path, proof_docs=3, **CHOICE | {"general_at": 1}, **SMALL)
    assert sorted(os.listdir(tmp_path)) == ["heads.json", "scores.nc"]


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_measured(
    tiny, texts, tmp_path, monkeypatch
):
    def score(*arguments, **keywords):
        raise AssertionError("measured")

    monkeypatch.setattr(pipeline, "score", score)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot write"):
        pipeline.run(tiny, texts, tmp_path / "file" / "run")
    (tmp_path / "run" / "ablation.nc").mkdir(parents=True)
    with pytest.raises(InputError, match=r"ablation\.nc: it is a folder"):
        pipeline.run(tiny, texts, tmp_path / "run")


@pytest.mark.parametrize("docs", [0, 1, 181, 1000])
def test_the_demo_says_how_many_documents_it_takes(tmp_path, docs):
    with pytest.raises(InputError, match=f"{docs} documents asked for; the demo takes 2 to 180"):
        pipeline.demo(tmp_path / "demo", docs=docs)
    assert os.listdir(tmp_path) == []


def test_scoring_leaves_documents_for_the_proof(tiny, texts, tmp_path, caplog):
    pipeline.run(
        tiny, texts, tmp_path, proof_docs=5, n_controls=2, **CHOICE, **SMALL | {"docs": 1000}
    )
    assert "scoring 7 documents a language, so that 5 are left for the proof" in caplog.text
    assert langheads.load_result(tmp_path / "scores.nc").attrs["docs"] == 7
    assert langheads.load_result(tmp_path / "ablation.nc").attrs["overlap"] == 0
    with pytest.raises(InputError, match="has 12 documents, and 12 are asked for the proof"):
        pipeline.run(tiny, texts, tmp_path, proof_docs=12, **SMALL)


def test_the_demo_ends_with_a_page_and_a_table_that_its_results_bear_out(tmp_path, monkeypatch):
    # As many texts as it reads here; the rest of its time is in writing them.
    monkeypatch.setattr(pipeline, "_DEMO_TEXTS", 60)
    page, table = pipeline.demo(tmp_path / "demo", docs=12, n_controls=3)
    assert "<html" in page.read_text("utf-8")[:500]
    planted = json.loads((DEMO / "planted.json").read_text("utf-8"))["planted"]
    chosen = json.loads((page.parent / "heads.json").read_text("utf-8"))["specific"]
    proof = langheads.load_result(page.parent / "ablation.nc", "ablation")
    rows = {line.split()[0]: line for line in table.splitlines()[2:]}
    assert list(rows) == sorted(planted)
    for language, row in rows.items():
        found = [head for head in chosen[language] if head in planted[language]]
        assert f"{len(found)} of 2" in row
        assert row.count("*") == len(found)
        with_head_off = proof.delta_nats_per_byte.sel(baseline="zero", heads_of=language)
        rise = 100 * with_head_off / proof.nats_per_byte
        assert f"{float(rise.sel(text_of=language)):+.1f}%" in row
    # Twelve documents are few; still lahis lists every planted head but a few, and with a
    # language's planted heads off its own text is what suffers.
    assert sum("2 of 2" in row for row in rows.values()) >= 4
    own = [
        float(proof.delta_nats_per_byte.sel(baseline="zero", heads_of=x, text_of=x)) for x in rows
    ]
    others = [
        float(proof.delta_nats_per_byte.sel(baseline="zero", heads_of=x).drop_sel(text_of=x).max())
        for x in rows
    ]
    assert sum(a > 3 * b for a, b in zip(own, others, strict=True)) >= 5


def test_lahis_ranks_the_planted_heads_first(tmp_path):
    """Precision at the number of planted heads, on documents that the demo was not trained on."""
    texts = {x: grammar.documents(x, 24, seed=5) for x in grammar.LANGUAGES}
    scores = langheads.score(langheads.load("demo"), texts, method="lahis", docs=24)
    planted = json.loads((DEMO / "planted.json").read_text("utf-8"))["planted"]
    precision = {}
    for language, heads in planted.items():
        order = scores.lahis.sel(language=language).values.ravel().argsort()[::-1]
        ranked = [tuple(map(int, divmod(int(i), scores.sizes["head"]))) for i in order]
        precision[language] = sum(head in map(tuple, heads) for head in ranked[:2]) / 2
        # General heads matter for every language, so they may stand between; never many.
        assert {tuple(head) for head in heads} <= set(ranked[:6])
    assert sum(precision.values()) / 7 >= 0.5, precision


@pytest.mark.parametrize("name", ["text/de.jsonl", "planted.json"])
def test_demo_leaves_files_that_are_not_its_own(tmp_path, monkeypatch, name):
    """They were overwritten."""
    monkeypatch.setattr(pipeline, "_DEMO_TEXTS", 4)
    mine = tmp_path / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text('{"text": "mein Text"}\n', "utf-8")
    with pytest.raises(InputError, match=f"{name} is there and is not the demo's"):
        pipeline.demo(tmp_path, docs=2)
    assert mine.read_text("utf-8") == '{"text": "mein Text"}\n'
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == [mine.name]
