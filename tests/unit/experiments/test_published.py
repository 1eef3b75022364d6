"""The published settings: what they set, what they refuse, and the functions that have them."""

import inspect
from importlib import import_module

import numpy as np
import pytest

import langheads
from langheads.cli.signatures import read_function
from langheads.experiments.published import PUBLISHED, published
from langheads.io.errors import InputError
from langheads.text import Rules
from langheads.text.questions import QA_TEMPLATE, QA_TEMPLATES, template_in

# From the released code: `multilingual_exps.py` and `lan_head_mask.py`.
RELEASED = {
    "ablate": {"docs": 1000, "max_tokens": 2048, "n_random": 9},
    "adapt": {"train": 200, "epochs": 2, "learning_rate": 0.01, "batch_size": 1},
    "generate_replies": {"max_new_tokens": 80},
    "off_target": {"max_new_tokens": 80},
    "transfer": {"gates_enhance": (3.0,), "gates_weaken": (0.0,), "max_new_tokens": 5,
                 "n_occupations": 10, "orders": ("A first",), "query": "en"},
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_settings_are_arguments_of_their_function_and_the_command_line_has_the_switch(name):
    asked = inspect.signature(getattr(langheads, name)).parameters
    assert set(PUBLISHED[name]) <= set(asked)
    assert asked["as_published"].default is False
    told = {parameter.name: parameter for parameter in read_function(name).parameters}
    assert told["as_published"].types == ("bool",)
    assert told["as_published"].help.startswith("As the paper and its released code have it")
    assert RELEASED[name].items() <= PUBLISHED[name].items()
    assert name.removesuffix("_replies") in import_module(published.__module__).__doc__


@pytest.fixture
def transfer():
    def transfer(model, *, gates_enhance=(2.0,), gates_weaken=(0.0,), orders=("A first", "A last"),
                 query="de", n_occupations=4, limit=7, max_new_tokens=3, seed=0,
                 as_published=False):  # fmt: skip
        return locals()

    return published(transfer)


def test_what_is_asked_for_is_set_and_the_rest_is_left_alone(transfer):
    assert transfer("m", seed=3)["max_new_tokens"] == 3
    found = transfer("m", seed=3, as_published=True)
    assert found == PUBLISHED["transfer"] | {"model": "m", "seed": 3, "as_published": True}


def test_what_is_given_otherwise_is_refused(transfer):
    with pytest.raises(InputError) as caught:
        transfer("m", max_new_tokens=8, as_published=True)
    assert str(caught.value) == (
        "max_new_tokens 8 asked for, but as published it is 5; leave out one of max_new_tokens and "
        "as_published"
    )
    assert transfer("m", max_new_tokens=8)["max_new_tokens"] == 8
    # The command line gives every argument, lists among them: defaults and what is published.
    given = {"gates_enhance": [2.0], "orders": ["A first", "A last"], "gates_weaken": [0.0]}
    found = transfer("m", as_published=True, max_new_tokens=3, query="en", **given)
    assert found["gates_enhance"] == (3.0,)
    assert found["orders"] == ("A first",)


def test_transfer_as_published_is_transfer_with_these_settings(tiny, monkeypatch):
    heads = {"en": ["L0H1"], "zh": ["L2H2"]}
    # 90 pairs of occupations take too long here.
    small = {"n_occupations": 2, "max_new_tokens": 2}
    monkeypatch.setitem(PUBLISHED, "transfer", PUBLISHED["transfer"] | small)
    rest = {"n_controls": 2, "attention": False}
    found = langheads.transfer(tiny, heads, as_published=True, **rest)
    assert list(found.order.values) == ["A first"]
    assert list(found.setting.values) == ["enhance 3", "weaken 0"]
    by_hand = langheads.transfer(tiny, heads, orders=["A first"], **small, **rest)
    np.testing.assert_array_equal(found.logprob_difference, by_hand.logprob_difference)


def questions(n=6):
    return {"hi": [{"context": f"{i} tea", "question": "?", "answers": [str(i)]} for i in range(n)]}


def test_a_mask_as_published_steps_question_by_question_in_the_language(tiny, monkeypatch):
    small = {"train": 3, "epochs": 1}
    monkeypatch.setitem(PUBLISHED, "adapt", PUBLISHED["adapt"] | small)
    mask = langheads.adapt(tiny, ["L1H2"], questions(), language="hi", as_published=True)
    assert mask.settings["template"] == QA_TEMPLATES["hi"]
    assert (mask.settings["batch_size"], mask.settings["steps"]) == (1, 3)
    assert mask.settings["validation"] == 0
    how = {"batch_size": 1, "validation": 0.0, "template": QA_TEMPLATES["hi"], **small}
    again = langheads.adapt(tiny, ["L1H2"], questions(), language="hi", **how)
    assert again.values == mask.values
    plain = langheads.adapt(tiny, ["L1H2"], questions(), language="hi", **how | {
        "template": QA_TEMPLATE})  # fmt: skip
    assert plain.values != mask.values


def test_a_mask_as_published_is_of_the_raw_top(tiny):
    empty = langheads.HeadSet([], (3, 4))
    some = {"hi": langheads.HeadSet(["L1H2"], (3, 4))}
    heads = langheads.LanguageHeads(some, empty, "tiny", rule={"name": "count"})
    with pytest.raises(InputError) as caught:
        langheads.adapt(tiny, heads, questions(), language="hi", as_published=True)
    assert str(caught.value) == (
        "heads of the rule 'count' given, but as published they are those of the highest score; "
        "choose them with the rule top"
    )


def test_templates_in_a_language():
    for language in QA_TEMPLATES:
        template = template_in("language", language)
        words = template.format(context="c c", question="q q")
        assert words.count("c c") == words.count("q q") == 1
        assert words.endswith(":")
    assert template_in("{context}{question}", "xx") == "{context}{question}"
    with pytest.raises(InputError, match="no template in language xx; there are ar, de, el, en"):
        template_in("language", "xx")


def test_the_detectors_first_guess_counts_however_sure():
    assert PUBLISHED["off_target"]["rules"] == Rules(min_confidence=0.0)
    assert {"own off", "suspect off"} < set(PUBLISHED["off_target"]["conditions"])


def test_replies_as_published(tiny):
    asked = [{"prompt": "the cat", "language": "en"}]
    made = langheads.generate_replies(tiny, asked, as_published=True).provenance
    assert {key: made[key] for key in ("max_new_tokens", "temperature", "sure", "baseline")} == {
        "max_new_tokens": 80, "temperature": 0.0, "sure": 0.0, "baseline": "zero",
    }  # fmt: skip
    with pytest.raises(
        InputError, match=r"temperature 1\.0 asked for, but as published it is 0\.0;"
    ):
        langheads.generate_replies(tiny, asked, temperature=1.0, as_published=True)
