"""Views of attention: what is shown, how it is stored, what is refused."""

import json
import logging
import re

import numpy as np
import pytest
import xarray as xr

import langheads
from langheads.heads import HeadSet, LanguageHeads
from langheads.io.errors import InputError, ProvenanceError
from langheads.view import report, show_attention
from langheads.view.attention.page import BYTES_A_CELL
from langheads.view.attention.patterns import (
    AttentionData,
    AttentionPatterns,
    ShownHead,
    Span,
    decode,
    encode,
    pool,
)
from langheads.view.attention.show import AttentionView
from tests.unit.view.made_up_run import PROVENANCE, write_run

HOSTILE = "</script><script>document.title='owned'</script>"


def random_patterns(n_heads, size, seed=0):
    weights = np.tril(np.random.default_rng(seed).exponential(size=(n_heads, size, size)) ** 4)
    return weights / weights.sum(axis=2, keepdims=True)


def made_up(tokens, n_heads=2, provenance=PROVENANCE, **fields):
    context = AttentionPatterns("zh", tuple(tokens), random_patterns(n_heads, len(tokens)))
    heads = tuple(ShownHead(f"L{i}H1", "zh", 0.1 * i) for i in range(n_heads))
    return AttentionView(AttentionData(heads, (context,), "lahis (nats)", provenance, **fields))


def shown_data(page):
    """The JSON inside a page."""
    found = re.search(r'id="attention-data">(.*?)</script>', page, flags=re.DOTALL)
    return json.loads(found[1])


# Numbers


def test_pooling_by_hand():
    pattern = np.array([[[1, 0, 0, 0], [0.4, 0.6, 0, 0], [0.1, 0.2, 0.7, 0], [0.5, 0.2, 0, 0.3]]])
    found = pool(pattern, [(0, 1), (1, 3), (3, 4)])
    expected = [[1, 0, 0], [(0.4 + 0.1) / 2, (0.6 + 0.9) / 2, 0], [0.5, 0.2, 0.3]]
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-15)
    # What comes after the last group is left out.
    np.testing.assert_allclose(pool(pattern, [(0, 2), (2, 3)])[0], [[1, 0], [0.3, 0.7]])


@pytest.mark.parametrize(
    "groups", [[(0, 40)], [(i, i + 1) for i in range(40)], [(0, 17), (17, 40)]]
)
def test_pooling_keeps_row_sums(groups):
    pattern = random_patterns(3, 40)
    np.testing.assert_allclose(pool(pattern, groups).sum(axis=2), 1, rtol=0, atol=1e-12)


def test_eight_bits_are_as_near_as_promised():
    pattern = random_patterns(1, 200)[0]
    found = decode(encode(pattern), 200)
    assert np.abs(found - pattern).max() < 0.004
    small = pattern[(pattern > 1e-3)]
    assert (np.abs(found[pattern > 1e-3] - small) / small).max() < 0.15
    assert found[0, 0] == 1
    assert (np.triu(found, 1) == 0).all()
    with pytest.raises(ValueError, match="20100 values, expected 20301 for 201 tokens"):
        decode(encode(pattern), 201)


def test_saved_and_read_again(tmp_path):
    view = made_up(["<bos>", " 猫", HOSTILE, "\0\u202e"])
    path = view.save(tmp_path / "new" / "a.json")
    read = AttentionData.load(path)
    assert read.heads == view.data.heads
    assert read.contexts[0].tokens == view.data.contexts[0].tokens
    assert (read.score, read.provenance) == (view.data.score, view.data.provenance)
    difference = np.abs(read.contexts[0].patterns - view.data.contexts[0].patterns)
    assert difference.max() < 0.004
    assert shown_data(AttentionView(read).html()) == shown_data(view.html())
    with pytest.raises(InputError, match=r"allowed are \.html and \.json"):
        view.save(tmp_path / "a.png")
    assert [p.name for p in tmp_path.iterdir()] == ["new"]


def test_a_page_holds_no_markup_from_texts(tmp_path):
    view = made_up([HOSTILE, "<!--", "&amp;\u2028"], provenance={"model": HOSTILE})
    page = view.html()
    assert HOSTILE not in page
    assert [c["tokens"] for c in shown_data(page)[0]["contexts"]] == [
        [HOSTILE, "<!--", "&amp;\u2028"]
    ]
    # Data and the script that draws; and no address of another host is loaded.
    assert len(re.findall(r"<script", page)) - page.count('"<script>') == 2
    assert "unpkg" not in page
    framed = view._repr_html_()
    assert framed.startswith('<iframe sandbox="allow-scripts"')
    assert framed.count("<") == 2
    assert framed.count('"') == 6


def test_512_tokens_and_16_heads_are_below_5_mb():
    view = made_up([" कुत्ता"] * 512, n_heads=16)
    assert len(view.html().encode()) < 5e6
    assert len(shown_data(view.html())[0]["contexts"][0]["patterns"]) == 16
    assert "AttentionHeads:" not in view.html()


# What show_attention shows


@pytest.fixture(scope="module")
def demo():
    return langheads.load("demo", device="cpu")


@pytest.fixture
def scores():
    rng = np.random.default_rng(0)
    values = rng.permutation(3 * 4 * 2).reshape(2, 3, 4).astype(float)
    values[0, 1, 1] = np.nan
    return xr.Dataset(
        {"lahis": (("language", "layer", "head"), values, {"units": "nats"})},
        coords={"language": ["en", "zh"]},
        attrs={"kind": "scores"},
    )


def test_heads_of_scores_and_of_a_head_set(tiny, scores):
    data = show_attention(tiny, "abc", scores, language="en", top=3).data
    values = scores.lahis.sel(language="en").values
    best = np.sort(values[np.isfinite(values)])[::-1][:3]
    assert [head.score for head in data.heads] == list(best)
    for head in data.heads:
        layer, index = map(int, re.fullmatch(r"L(\d)H(\d)", head.name).groups())
        assert values[layer, index] == head.score
        assert head.role == "en"
    assert data.score == "lahis (nats)"
    chosen = LanguageHeads(
        {"en": HeadSet(["L2H1"], (3, 4)), "zh": HeadSet(["L0H3", "L2H1"], (3, 4))},
        HeadSet([], (3, 4)),
        "tiny",
    )
    heads = show_attention(tiny, "abc", chosen, scores=scores).data.heads
    assert [(head.name, head.role) for head in heads] == [("L2H1", "en, zh"), ("L0H3", "zh")]
    assert heads[0].score == values[2, 1]
    assert heads[1].score == scores.lahis.sel(language="zh").values[0, 3]
    heads = show_attention(tiny, "abc", chosen, language="zh").data.heads
    assert [(head.name, head.role, head.score) for head in heads] == [
        ("L0H3", "zh", None),
        ("L2H1", "zh", None),
    ]


def test_spans_are_where_the_text_has_them(demo):
    text, other = "猫在石头上睡觉。", "The cat sleeps on the stone."
    view = show_attention(
        demo, text, ["L1H3"], beside=other, spans={"animal": "cat", "place": (2, 4), "cat": "猫"},
        labels=["zh", "en"], provenance=False,
    )  # fmt: skip
    first, second = view.data.contexts
    assert {span.label: "".join(first.tokens[span.start : span.stop]) for span in first.spans} == {
        "place": "石头",
        "cat": "猫",
    }
    (span,) = second.spans
    assert span == Span("animal", span.start, span.stop)
    assert "cat" in "".join(second.tokens[span.start : span.stop])
    assert (first.label, second.label) == ("zh", "en")


def test_a_window_joins_what_is_before_it(demo):
    text = "The cat sleeps on the warm stone in the sun."
    whole = show_attention(demo, text, ["L1H3", "L2H0"], provenance=False).data.contexts[0]
    context = show_attention(
        demo, text, ["L1H3", "L2H0"], window=(5, 9), spans={"cat": "cat"}, provenance=False
    ).data.contexts[0]
    assert context.tokens == ("…", *whole.tokens[5:9])
    np.testing.assert_allclose(context.patterns[:, 1:, 1:], whole.patterns[:, 5:9, 5:9], atol=1e-7)
    before = whole.patterns[:, 5:9, :5].sum(axis=2)
    np.testing.assert_allclose(context.patterns[:, 1:, 0], before, atol=1e-6)
    np.testing.assert_allclose(context.patterns.sum(axis=2), 1, atol=1e-6)
    assert f"Shown are units 5 to 8 of {len(whole.tokens)}" in context.note
    assert "'cat' is not in the part that is shown." in context.note


def test_words_and_what_is_cut(demo):
    text = "The cat sleeps on the stone. " * 30
    view = show_attention(demo, text, ["L1H3"], pool_words=True, max_tokens=40, provenance=False)
    context = view.data.contexts[0]
    assert context.tokens[1:5] == ("The", " cat", " sleeps", " on")
    assert context.note == "The text is cut after 40 tokens. Tokens are joined to words."
    np.testing.assert_allclose(context.patterns.sum(axis=2), 1, atol=1e-6)


def test_too_large_a_view_is_joined_to_words_or_refused(demo, monkeypatch, caplog):
    text = "The cat sleeps on the warm stone in the sun."
    size = show_attention(demo, text, ["L1H3"], provenance=False).data.cells
    monkeypatch.setattr("langheads.view.attention.show.MOST_BYTES", size)
    with caplog.at_level(logging.WARNING, "langheads"):
        data = show_attention(demo, text, ["L1H3"], provenance=False).data
    assert " warm" in data.contexts[0].tokens
    assert "joined to words, to keep the page below 5 MB" in caplog.text
    with pytest.raises(InputError, match=r"1 heads over .* units make a page above 5 MB; give a w"):
        show_attention(demo, text, ["L1H3"], pool_words=False, provenance=False)


def test_where_words_join_nothing_the_last_that_fit_are_shown(demo, monkeypatch, caplog):
    """Chinese has no spaces."""
    text = "我们在桥边见面" * 60
    whole = show_attention(demo, text, ["L1H3"], gates=["L0H0"], provenance=False).data
    units = len(whole.contexts[0].tokens)
    monkeypatch.setattr("langheads.view.attention.show.MOST_BYTES", whole.cells * BYTES_A_CELL // 4)
    with caplog.at_level(logging.WARNING, "langheads"):
        data = show_attention(demo, text, ["L1H3"], gates=["L0H0"], provenance=False).data
    assert "units are shown, to keep the page below 5 MB" in caplog.text
    assert data.cells <= whole.cells / 4
    for context, before in zip(data.contexts, whole.contexts, strict=True):
        kept = len(context.tokens) - 1
        # A quarter of the cells is half of the units, and a tenth is cut at a time.
        assert 0.4 * units < kept < 0.52 * units
        assert context.tokens == ("…", *before.tokens[-kept:])
        np.testing.assert_allclose(
            context.patterns[:, 1:, 1:], before.patterns[:, -kept:, -kept:], atol=1e-6
        )
        assert "… is all before them" in context.note


def test_a_window_of_a_shorter_text_beside(demo):
    text = "我们在桥边见面" * 30
    view = show_attention(
        demo, text, ["L1H3"], beside="The cat sleeps.", window=(20, 60), provenance=False
    )
    first, beside = view.data.contexts
    assert len(first.tokens) == 41
    assert "".join(beside.tokens[1:]) == "The cat sleeps."
    same = show_attention(demo, "The cat sleeps.", ["L1H3"], provenance=False).data.contexts[0]
    np.testing.assert_allclose(beside.patterns, same.patterns, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beside": "b", "gates": ["L1H3"]}, "beside and gates were both given; give one"),
        ({"heads": ["L9H3"]}, "head L9H3 asked for, but the model has 4 layers of 12 heads"),
        ({"heads": []}, "no heads to show; give heads like L3H7"),
        ({"spans": {"x": "dog"}}, "span 'x' is not in the text; give a part of it"),
        ({"spans": {"x": (0, 99)}}, "span 'x' is 0 to 99, but the text has 8 characters"),
        ({"window": (3, 99)}, r"window 3 to 99 asked for; the text text has \d+ units"),
        ({"labels": ["a", "b"]}, "2 labels for 1 texts; give one each"),
        ({"text": ""}, "the text '' has no tokens to show"),
        ({"max_tokens": 1}, "max_tokens 1 asked for; at least 2"),
        ({"top": 0}, "top 0 asked for; at least 1 head"),
    ],
)
def test_what_cannot_be_shown_is_refused(demo, arguments, message):
    with pytest.raises(InputError, match=message):
        show_attention(demo, **{"text": "The cat.", "heads": ["L1H3"]} | arguments)


def test_heads_and_scores_that_do_not_fit_are_refused(demo, tiny, scores):
    with pytest.raises(ProvenanceError, match="3 layers x 4 heads, but this one has 4 x 12"):
        show_attention(demo, "a", scores, language="zh")
    with pytest.raises(ProvenanceError, match="9 layers x 9 heads, but this one has 4 x 12"):
        show_attention(demo, "a", HeadSet(["L1H1"], (9, 9)))
    with pytest.raises(InputError, match="language None asked for; the scores have en, zh"):
        show_attention(tiny, "a", scores)
    with pytest.raises(InputError, match="score 'taylor' asked for; the file has lahis"):
        show_attention(tiny, "a", scores, language="en", score="taylor")
    one = LanguageHeads({"en": HeadSet(["L1H1"], (3, 4))}, HeadSet([], (3, 4)), "tiny")
    with pytest.raises(InputError, match="language 'fr' asked for; the head set has en"):
        show_attention(tiny, "a", one, language="fr")
    with pytest.raises(ProvenanceError, match="3 layers x 4 heads, but this one has 4 x 12"):
        show_attention(demo, "a", one)


def test_gates_of_heads_of_another_model_are_refused(tiny):
    """As by `gated`: what is shown under them would say nothing of these heads."""
    made = langheads.model.describe(tiny) | {"weight_hash": "0" * 64, "model": "other"}
    heads = LanguageHeads({"en": HeadSet(["L1H1"], (3, 4))}, HeadSet([], (3, 4)), "o", {}, made)
    with pytest.raises(ProvenanceError, match="the head set was made with weights 000000000000"):
        show_attention(tiny, "a", ["L0H0"], gates=heads)


# The report


def test_the_report_shows_attention_of_the_folder(tmp_path):
    folder = write_run(tmp_path / "run")
    view = made_up(["<bos>", HOSTILE])
    view.save(folder / "attention.json")
    view.save(folder / "second.json")
    page = report(folder).read_text("utf-8")
    assert page.count('<div class="attention"></div>') == 2
    assert "Attention in context: second.json" in page
    assert len(shown_data(page)) == 2
    assert HOSTILE not in page
    # Of 1.3 MB, which only `AttentionView.circuitsvis` brings.
    assert "CircuitsVis" not in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "is not a view of attention of format 1"),
        ({"heads": []}, "is not a view of attention: 2 patterns of 2 tokens for 0"),
        ({"contexts": 3}, "is not a view of attention: contexts is 3, expected a list"),
        (
            {"contexts": [{"tokens": ["a"]}]},
            r"is not a view of attention: contexts\[0\].label, .* missing; found tok",
        ),
    ],
)
def test_a_broken_file_is_refused(tmp_path, change, message):
    folder = write_run(tmp_path / "run")
    path = made_up(["a", "b"]).save(folder / "attention.json")
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | change), "utf-8")
    with pytest.raises(InputError, match=message):
        report(folder)


def test_attention_of_another_model_is_left_out(tmp_path):
    folder = write_run(tmp_path / "run")
    made_up(["a"], provenance=PROVENANCE | {"weight_hash": "99"}).save(folder / "attention.json")
    assert "attention.json was made with weights 99" in report(folder).read_text("utf-8")
