"""The scan of heads: what its forwards leave free is given back, where it is much."""

import pytest

import langheads
from langheads import gated
from langheads.heads import HeadSet
from langheads.io.errors import InterventionError
from langheads.model import tokenize_languages
from langheads.scores import scan


def test_gaps_between_forwards_are_given_back_where_logits_are_many(tiny, texts, monkeypatch):
    (documents,) = tokenize_languages(tiny, {"en": texts["en"][:2]}).values()
    tokens = 2 * max(map(len, documents.tokens))
    heads, given_back = HeadSet(["L0H1", "L1H0", "L1H2", "L2H3"], (3, 4)), []
    monkeypatch.setattr(scan, "trim", lambda: given_back.append(1))
    expected = scan.knockout_nll(tiny, documents, heads)
    assert not given_back
    # Two heads of a layer run side by side, and one has half their logits.
    monkeypatch.setattr(scan, "_MANY_LOGITS", tokens * tiny.cfg.d_vocab)
    assert (scan.knockout_nll(tiny, documents, heads) == expected).all()
    assert len(given_back) == 1


def test_a_knock_out_inside_gates_of_the_user_says_why_not(tiny, texts):
    before = langheads.score(tiny, texts, docs=4, languages=["en"], method="lahis").lahis
    told = "and inside their block nothing else that sets heads, such as a knock-out"
    with pytest.raises(InterventionError, match=told), gated(tiny, ["L0H1"]):
        langheads.knockout(tiny, texts, docs=4, languages=["en"])
    again = langheads.score(tiny, texts, docs=4, languages=["en"], method="lahis").lahis
    assert again.equals(before)
