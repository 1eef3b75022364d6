"""What people give at the public door: taken as it is meant, or refused in one line."""

import sys

import datasets
import numpy as np
import pytest
import torch

import langheads
from langheads import cli
from langheads.cli.values import _file_or_names
from langheads.heads import HeadSet, LanguageHeads, as_language_heads, every_head, one_head_set
from langheads.io.arguments import asked_languages
from langheads.io.errors import InputError, LangheadsError, ProvenanceError
from langheads.model.gates import gates_of_all
from langheads.text import read_texts

SHAPE = (3, 4)


def language_heads(**specific):
    sets = {language: HeadSet(names, SHAPE) for language, names in specific.items()}
    return LanguageHeads(sets, HeadSet([], SHAPE), "tiny")


def without(model, *heads):
    """Gates written by hand."""
    gates = torch.ones(SHAPE)
    for layer, head in heads:
        gates[layer, head] = 0
    return gates


# Gates


@pytest.mark.parametrize(
    ("given", "settings"),
    [
        ("L0H1,L2H3", {}),
        ("L0H1 L2H3", {}),
        (["L0H1", (2, 3)], {}),
        (np.array([[1, 0, 1, 1], [1, 1, 1, 1], [1, 1, 1, 0]]), {}),
        ({"L0H1": 0.0, (2, 3): np.float32(0)}, {"value": 7.0}),
        ({"zh": ["L0H1", "L2H3"]}, {}),
        ({"zh": "L0H1,L2H3", "en": "L1H1"}, {"language": "zh"}),
        (language_heads(zh=["L0H1", "L2H3"]), {}),
        (language_heads(zh=["L0H1", "L2H3"], en=["L1H1"]), {"language": "zh"}),
    ],
)
def test_gates_are_taken_as_they_are_meant(tiny, given, settings):
    expected = without(tiny, (0, 1), (2, 3))
    assert torch.equal(gates_of_all(tiny, given, **settings).float(), expected)
    tokens = tiny.to_tokens("the cat")
    with torch.no_grad(), langheads.gated(tiny, expected):
        logits = tiny(tokens)
    with torch.no_grad(), langheads.gated(tiny, given, **settings):
        assert torch.equal(tiny(tokens), logits)
    replies = [
        langheads.generate(tiny, ["the cat"], gates=gates, max_new_tokens=3, **more)[0].tokens
        for gates, more in ((expected, {}), (given, settings))
    ]
    assert replies[0] == replies[1]


def test_a_gate_a_head_is_its_value(tiny):
    """The values were ignored, and the heads switched off."""
    tokens = tiny.to_tokens("the cat")
    with torch.no_grad():
        untouched = tiny(tokens)
        with langheads.gated(tiny, {"L1H3": 1.0, "L0H0": 1}):
            assert torch.equal(tiny(tokens), untouched)
        with langheads.gated(tiny, {"L1H3": 0.5}):
            half = tiny(tokens)
        gates = torch.ones(SHAPE)
        gates[1, 3] = 0.5
        with langheads.gated(tiny, gates):
            assert torch.equal(tiny(tokens), half)


@pytest.mark.parametrize(
    ("given", "settings", "message"),
    [
        (language_heads(zh=["L0H1"], en=["L1H1"]), {}, 'heads of zh, en given.*language="zh"'),
        (language_heads(zh=["L0H1"]), {"language": "fr"}, "heads of fr asked for.*zh, general"),
        (["L0H1"], {"language": "zh"}, "without languages"),
        ({"L0H1": float("nan")}, {}, "gate of L0H1"),
        ({"L0H1": 1, (0, 1): 0}, {}, "two gates"),
        ({"L9H1": 1.0}, {}, "head L9H1 asked for"),
        ({"zh": 0.0}, {}, "'zh' is not a head"),
        ("zh", {}, "'zh' is not a head"),
        ("", {}, "'' is not a head"),
        (3, {}, "int 3 given for heads"),
        ([3], {}, "3 is not a head"),
        ([[1.0, 0.0]], {}, "is not a head"),
        (np.array(["L0H1"]), {}, "gates of dtype"),
        (np.zeros(3), {}, r"shape \[3\]"),
        (["L0H1"], {"value": "off"}, "the gate of L0H1 is 'off'"),
    ],
)
def test_what_is_no_gate_is_one_line(untyped, tiny, given, settings, message):
    with pytest.raises(LangheadsError, match=message) as told:
        gates_of_all(tiny, given, **settings)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"L1H3": "x"}, "L1H3 is a head and was given 'x'"),
        # Its heads were switched off, as if it were a language.
        ({"L1H3": "L0H2"}, "L1H3 is a head and was given 'L0H2'"),
        ({"L0H0": 0.5, (1, 3): "off"}, "(1, 3) is a head and was given 'off'"),
        ({"L1H3": 0.5, "zh": ["L0H1"]}, "L1H3 is a head and was given 0.5"),
        ({"L0H1": torch.tensor(1.0)}, "L0H1 is a head and was given tensor(1.)"),
    ],
)
def test_a_head_that_was_given_no_gate_is_named(untyped, tiny, given, named):
    with pytest.raises(InputError) as told, langheads.gated(tiny, given):
        pass
    assert str(told.value) == (
        f'{named}; write a number for each head, like {{"L3H7": 0.5}}, or heads for each '
        'language, like {"zh": ["L3H7"]}'
    )


def test_gates_where_only_heads_are_taken_are_told_to_be_heads():
    """It said to write a number for each head, which is what was given."""
    with pytest.raises(InputError) as told:
        every_head({"L1H3": 0.5}, SHAPE)
    assert str(told.value) == (
        'L1H3 is a head and was given 0.5; write heads for each language, like {"zh": ["L3H7"]}'
    )


def test_heads_of_another_shape_are_refused_also_where_they_would_fit(tiny):
    with pytest.raises(ProvenanceError, match="2 layers x 4 heads"):
        every_head(HeadSet(["L0H1"], (2, 4)), SHAPE)


# Heads a language


def test_heads_by_name_are_a_head_set():
    found = as_language_heads({"zh": "L0H1,L2H3", "en": [(1, 1)], "general": ["L0H0"]}, SHAPE)
    assert {x: str(of) for x, of in found.specific.items()} == {"zh": "L0H1 L2H3", "en": "L1H1"}
    assert str(found.general) == "L0H0"
    assert as_language_heads("L0H1", SHAPE).general == HeadSet(["L0H1"], SHAPE)
    # Before the model is known, any shape that holds them.
    assert as_language_heads({"zh": "L0H1,L2H3"}).shape == (3, 4)
    assert str(every_head({"zh": "L0H1", "en": "L2H3,L0H1"}, SHAPE)) == "L0H1 L2H3"
    assert str(one_head_set({"zh": "L0H1", "en": []}, SHAPE)) == "L0H1"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("L0H1,L5H7", ["L0H1", "L5H7"]),
        ("zh=L0H1,L5H7", {"zh": ["L0H1", "L5H7"]}),
        ("zh=L0H1, L5H7, en=L1H1", {"zh": ["L0H1", "L5H7"], "en": ["L1H1"]}),
    ],
)
def test_heads_on_the_command_line(written, expected):
    assert _file_or_names(written, ["LanguageHeads"]) == expected


@pytest.mark.parametrize("written", ["L0H1,zh=L1H1", "zh=L0H1,zh=L1H1"])
def test_heads_on_the_command_line_that_are_unclear_are_refused(written):
    with pytest.raises(InputError, match="write heads like zh=L0H1"):
        _file_or_names(written, ["LanguageHeads"])


def verb(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["langheads", *map(str, arguments)])
    cli.main()


def test_ablate_takes_heads_by_name_as_it_takes_a_file(
    tiny_folder, tiny, texts_folder, tmp_path, monkeypatch
):
    by_file = langheads.LanguageHeads(
        {"zh": HeadSet(["L0H1", "L2H3"], SHAPE)}, HeadSet([], SHAPE), "m"
    )
    by_file.save(tmp_path / "heads.json")
    small = ["--text", texts_folder, "--docs", "3", "--n-controls", "2", "--device", "cpu"]
    for name, given in (("a", tmp_path / "heads.json"), ("b", "zh=L0H1,L2H3")):
        out = tmp_path / f"{name}.nc"
        verb(monkeypatch, "ablate", tiny_folder, "--heads", given, "--out", out, *small)
    a, b = (langheads.load_result(tmp_path / f"{name}.nc") for name in "ab")
    assert a.equals(b)
    in_python = langheads.ablate(tiny, {"zh": "L0H1,L2H3"}, texts_folder, docs=3, n_controls=2)
    np.testing.assert_array_equal(in_python.delta_nats_per_byte, a.delta_nats_per_byte)


def test_knockout_takes_a_file_and_a_language_as_it_takes_names(
    tiny_folder, texts_folder, tmp_path, monkeypatch
):
    heads = langheads.LanguageHeads({"zh": HeadSet(["L0H1"], SHAPE)}, HeadSet(["L2H3"], SHAPE), "m")
    heads.save(tmp_path / "heads.json")
    found = []
    for given in ("L0H1,L2H3", "zh=L0H1,en=L2H3", tmp_path / "heads.json"):
        out = tmp_path / "knockout.nc"
        verb(
            monkeypatch, "knockout", tiny_folder, "--heads", given, "--out", out,
            "--text", texts_folder, "--docs", "2", "--device", "cpu",
        )  # fmt: skip
        found.append(langheads.load_result(out).delta_nats_per_byte)
    assert int(np.isfinite(found[0]).sum()) == 2 * 3
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)


def test_prune_and_generate_take_heads_by_name(tiny_folder, tmp_path, monkeypatch):
    common = ["--heads", "zh=L0H1", "--device", "cpu"]
    verb(monkeypatch, "prune", tiny_folder, *common, "--drop", "zh", "--out", tmp_path / "pruned")
    assert '"removed": [\n  "L0H1"\n ]' in (tmp_path / "pruned/pruned.json").read_text("utf-8")
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "the cat"}\n')
    verb(
        monkeypatch, "generate", tiny_folder, *common, "--gate", "zh=0", "--max-new-tokens", "2",
        "--prompts", tmp_path / "prompts.jsonl", "--out", tmp_path / "replies.jsonl",
        "--n-controls", "1",
    )  # fmt: skip
    assert (tmp_path / "replies.jsonl").exists()


# Texts and prompts


def test_one_string_is_one_prompt(tiny):
    (one,) = langheads.generate(tiny, "Die Stadt", max_new_tokens=2)
    assert one == langheads.generate(tiny, ["Die Stadt"], max_new_tokens=2)[0]


@pytest.mark.parametrize("prompts", [[{"prompt": "a"}], {"prompt": "a"}, [1], 3, [None]])
def test_what_is_no_prompt_is_one_line(untyped, tiny, prompts):
    with pytest.raises(InputError, match=r"prompt 1 is .*no string"):
        langheads.generate(tiny, prompts)


def test_texts_that_python_holds_are_read_as_they_are_meant():
    expected = {"de": ("eins", "zwei"), "en": ("one",)}

    def read(source):
        return {x: tuple(sorted(of)) for x, of in sorted(read_texts(source).texts.items())}

    rows = {"text": ["eins", "zwei", "one"], "language": ["de", "de", "en"]}
    flat = datasets.Dataset.from_dict(rows)
    german = datasets.Dataset.from_dict({"text": ["eins", "zwei"]})
    english = datasets.Dataset.from_dict({"text": ["one"]})
    assert read({"de": ["eins", "zwei"], "en": "one"}) == expected
    assert read({"de": german, "en": english}) == expected
    assert read(datasets.DatasetDict({"de": german, "en": english})) == expected
    assert read(flat) == expected
    splits = datasets.DatasetDict({"train": flat.select([0]), "test": flat.select([1, 2])})
    assert read(splits) == expected
    assert read_texts(flat, languages="en").languages == ("en",)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (["a", "b"], "texts of type list given"),
        (3, "texts of type int given"),
        ({"en": 3}, "language en: 3 is no list of documents"),
        ({"en": {"a": 1}}, "^language en: {'a': 1} is no list of documents$"),
        ({"en": ["a", 3]}, "language en"),
        (datasets.Dataset.from_dict({"text": ["a"]}), "no column language; found text"),
        ({"en": datasets.Dataset.from_dict({"words": ["a"]})}, "language en has no column text"),
    ],
)
def test_what_is_no_text_is_one_line(untyped, source, message):
    with pytest.raises(InputError, match=message) as told:
        read_texts(source)
    assert "\n" not in str(told.value)


def test_languages_in_one_string_are_not_letters(untyped):
    assert asked_languages("en") == ("en",)
    assert asked_languages("en, zh,en") == ("en", "zh")
    for wrong in (3, [3], [["en"]]):
        with pytest.raises(InputError, match="languages"):
            asked_languages(wrong)


def test_requests_may_be_mappings(tiny):
    from langheads import generate_replies

    asked = [{"prompt": "the cat", "language": "en"}]
    records = generate_replies(tiny, asked, max_new_tokens=2).records
    assert records[0]["prompt"] == "the cat"
    assert records[0]["id"] == "1"
