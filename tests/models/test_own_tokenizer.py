"""Each check of a tokenizer by itself, at its limits; folders are in test_hostile_folders."""

import json
import sys
from types import SimpleNamespace

import pytest
from transformer_lens.model_bridge import TransformerBridge

from langheads.io.errors import ModelError
from langheads.model.own_tokenizer import check_rules, check_tokenizer

module = sys.modules["langheads.model.own_tokenizer"]
LONG = "makes a text more than 100 times as long"


def replace(text, by):
    return {"type": "Replace", "pattern": {"String": text}, "content": by}


@pytest.mark.parametrize(
    "content", [b"{", b"[1]", b"[" * 100_000, b"\xff", b"null", b'{"normalizer": 3}']
)
def test_what_is_no_tokenizer_is_left_to_loading(tmp_path, content):
    (tmp_path / "t.json").write_bytes(content)
    check_rules(tmp_path / "t.json", "m")
    check_rules(tmp_path / "none", "m")
    (tmp_path / "t.json").write_text(json.dumps({"decoder": {"decoders": 3}}))
    check_rules(tmp_path / "t.json", "m")


def test_each_part_is_tried_with_the_parts_in_it(tmp_path):
    (tmp_path / "t.json").write_text(json.dumps({
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {
            "type": "Sequence", "normalizers": [replace("b", "c")] * 2,
        }]},
        "decoder": {"type": "Sequence", "decoders": [replace("a", "b" * 201)]},
    }))  # fmt: skip
    with pytest.raises(ModelError) as told:
        check_rules(tmp_path / "t.json", "m")
    assert str(told.value) == f"tokenizer.json of m has a decoder that {LONG}"


def test_rules_are_at_most_ten_thousand_and_put_in_at_most_two_hundred_letters():
    why = module._why_not
    assert why("normalizer", []) == ""
    assert why("normalizer", [replace("b", "c" * 200)]) == ""
    assert why("normalizer", [replace("b", "c" * 201)]) == LONG
    assert why("decoder", [replace("b", 3)] * 10_001) == LONG
    # Ten thousand are tried, of which the first fails.
    assert why("decoder", [replace("b", 3)] * 10_000).startswith("fails on a short text (")


def test_a_text_becomes_at_most_a_hundred_times_as_long(monkeypatch):
    """A rule that names no letter is tried on its own letters, too: here those of its JSON."""
    monkeypatch.setattr(module, "_LETTERS", "")
    letters = len({*json.dumps([{"type": "Z"}])})
    for length, expected in ((100 * letters, ""), (100 * letters + 1, LONG)):
        made = SimpleNamespace(
            normalizer=SimpleNamespace(normalize_str=lambda text, n=length: "x" * n),
            decoder=SimpleNamespace(decode=lambda texts, n=length: "x" * n),
        )
        monkeypatch.setattr(module, "Tokenizer", SimpleNamespace(from_str=lambda of, m=made: m))
        for part in ("normalizer", "decoder"):
            assert module._why_not(part, [{"type": "Z"}]) == expected


def test_letters_that_rules_name_are_tried_as_they_are():
    """One beyond those that every rule is tried on."""
    rules = [replace("\u0bf5", "\u0bf5" * 150)] * 2
    assert module._why_not("normalizer", rules) == LONG


def test_what_a_rule_says_when_it_fails_is_cut_and_an_interrupt_is_none(monkeypatch):
    def raises(error):
        def from_str(of):
            raise error

        monkeypatch.setattr(module, "Tokenizer", SimpleNamespace(from_str=from_str))

    raises(ValueError("a  b" * 60))
    assert module._why_not("normalizer", [{}]) == f"fails on a short text ({('a b' * 60)[:100]})"
    for error in (KeyboardInterrupt(), SystemExit()):
        raises(error)
        with pytest.raises(type(error)):
            module._why_not("normalizer", [{}])


@pytest.fixture
def checked(zoo, monkeypatch):
    """A check of a model of 259 tokens with another tokenizer."""
    model = zoo.fresh("llama-gqa")

    def check(vocabulary, added=(), bos=None, config_bos=None, d_vocab=259):
        model.cfg.d_vocab = d_vocab
        tokenizer = SimpleNamespace(
            get_vocab=lambda: vocabulary,
            get_added_vocab=lambda: {name: vocabulary[name] for name in added},
            init_kwargs={"bos_token": bos},
        )
        monkeypatch.setattr(type(model), "tokenizer", tokenizer)
        model.original_model.config.__dict__["bos_token_id"] = config_bos
        check_tokenizer(model)

    return check


def words(count, **more):
    return {f"w{i}": i for i in range(count)} | more


def test_tokens_that_the_model_does_not_have_are_refused_but_for_added_ones(checked, caplog):
    checked(words(259))
    name = "x" * 50
    with pytest.raises(ModelError) as told:
        checked(words(259, **{name: 259}))
    assert str(told.value) == (
        f"the tokenizer has token {name[:40]!r} with number 259, but the model has 259 tokens; it "
        "is the tokenizer of another model"
    )
    with pytest.raises(ModelError, match="'b' with number 260"):
        checked(words(259, a=259, b=260, c=300), added=["c"])
    checked(words(259, a=259), added=["a"])
    checked({"a": 259}, added=["a"])
    assert not [of for of in caplog.messages if "tokenizer 1" not in of]


def test_a_tokenizer_of_few_of_the_tokens_is_told(checked, caplog, zoo, monkeypatch):
    """Of fewer than four fifths."""
    checked(words(208))
    assert not caplog.messages
    checked(words(207))
    told = "the model has 259 tokens and its tokenizer 207: it may be that of another model"
    assert caplog.messages == [told]
    # Of 260 four fifths are 208.
    checked(words(208), d_vocab=260)
    assert caplog.messages == [told]
    monkeypatch.setattr(TransformerBridge, "tokenizer", None)
    check_tokenizer(zoo.fresh("llama-gqa"))


def test_another_number_of_bos_than_the_configuration_says_is_told(checked, caplog):
    for said in (3, None, [3], "3"):
        checked(words(259), bos="w3", config_bos=said)
    checked(words(259), bos="none", config_bos=3)
    checked(words(259), bos=None, config_bos=3)
    assert not caplog.messages
    for said in (2, 4):
        checked(words(259), bos="w3", config_bos=said)
        assert caplog.messages.pop() == (
            f"config.json says bos_token_id {said}, but w3 of the tokenizer has number 3: it may "
            "be that of another model"
        )
        caplog.clear()
