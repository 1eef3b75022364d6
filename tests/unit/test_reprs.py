"""What an object says of itself at the end of a notebook's cell: short, whole, safe."""

from html.parser import HTMLParser

import numpy as np
import pytest

import langheads
from langheads.heads import HeadSet, LanguageHeads
from langheads.heads.classes import HeadClasses
from langheads.heads.mask import HeadMask
from langheads.io.errors import InputError
from langheads.view.attention.patterns import AttentionData, AttentionPatterns, ShownHead

SHAPE = (4, 12)
HEADS = LanguageHeads(
    {"en": HeadSet("L2H11,L1H8", SHAPE), "<b>hi": HeadSet([], SHAPE)},
    HeadSet("L1H9", SHAPE),
    "org/model & more",
    {"name": "count"},
    {"text_hash": "x" * 5000},
)


class Cells(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.rows, self.tags = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data):
        if self.rows:
            self.rows[-1][-1] += data


def test_heads_by_language_are_a_table_in_a_notebook():
    found = Cells(HEADS._repr_html_())
    assert found.rows == [
        ["language", "number", "heads, strongest first"],
        ["en", "2", "L2H11 L1H8"],
        ["<b>hi", "0", ""],
        ["general", "1", "L1H9"],
    ]
    assert found.tags == {"table", "caption", "thead", "tbody", "tr", "th", "td", "bdi"}
    assert repr(HEADS) == (
        "LanguageHeads of org/model & more, 4 layers of 12 heads\n  en: L2H11 L1H8\n  <b>hi: \n"
        "  general: L1H9"
    )


def test_heads_of_a_language_by_its_name():
    assert HEADS["en"] is HEADS.specific["en"]
    assert HEADS["general"] is HEADS.general
    assert HEADS["<b>hi"] == HeadSet([], SHAPE)
    with pytest.raises(InputError) as refused:
        HEADS["zh"]
    assert str(refused.value) == ("heads of zh asked for; the head set has en, <b>hi, general")
    # Nothing takes them for a list because they can be asked by name.
    with pytest.raises(TypeError):
        iter(HEADS)


def test_a_set_names_some_of_many_heads():
    every = HeadSet(((layer, head) for layer in range(4) for head in range(12)), SHAPE)
    assert repr(every) == (
        "HeadSet([L0H0, L0H1, L0H2, L0H3, L0H4, L0H5, L0H6, L0H7, L0H8, L0H9, L0H10, L0H11, L1H0, "
        "L1H1, L1H2, L1H3, … 32 more], shape=(4, 12))"
    )
    assert repr(HeadSet(list(every)[:16], SHAPE)).endswith("L1H3], shape=(4, 12))")


def test_what_is_large_says_what_it_is():
    long = {"text_hash": "x" * 500}
    some = HeadSet("L1H3,L2H0", SHAPE)
    mask = HeadMask(some, (0.25, 1.5), "hi", "demo", long, {"train": [2.5] * 999}, long, long)
    assert repr(mask) == "HeadMask(L1H3 L2H0, gates 0.25 to 1.5, learned from hi, demo)"
    patterns = np.tile(np.eye(30), (2, 1, 1))
    context = AttentionPatterns("zh", ("猫",) * 30, patterns)
    data = AttentionData((ShownHead("L1H3"), ShownHead("L2H0")), (context, context), "", long)
    view = langheads.AttentionView(data)
    said = "AttentionData(L1H3 L2H0 over 30 tokens of 'zh', 30 tokens of 'zh')"
    assert repr(view) == f"AttentionView(data={said})"
    reply = langheads.Reply("w " * 900, "El gato.", (1, 2, 3), (4,) * 900, "eos")
    assert repr(reply) == "Reply('w w w w w w ... w w w w w w ' -> 'El gato.', 3 tokens, eos)"
    deltas = {name: np.zeros((3, *SHAPE)) for name in ("en", "hi", "difference")}
    none = HeadSet([], SHAPE)
    classes = HeadClasses(
        {"en": some, "hi": none}, none, none, none, deltas, 1, "m", "u", long, long
    )
    assert len(repr(classes)) < 400
    texts = langheads.read_texts({"en": ["a text", "x" * 999], "hi": ["b text"]}, aligned=False)
    assert repr(texts) == f"Corpus(en 2, hi 1 documents, {texts.source!r}, seed 0)"
