"""Replies: what is refused, the chat template, memory, and text without special tokens."""

import logging

import pytest
import torch

from langheads.experiments.replies.generate import generate, prompt_tokens
from langheads.experiments.replies.judge import answer
from langheads.heads import HeadSet
from langheads.io.chat import as_chats
from langheads.io.errors import (
    InputError,
    InterventionError,
    OutOfMemoryError,
    ProvenanceError,
)
from langheads.model import decoding
from langheads.text import detector

PROMPTS = ["the cat", "猫在睡觉。", "a much longer prompt about a cat on a stone", "x"]


@pytest.fixture
def with_template(tiny, monkeypatch):
    template = (
        "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    monkeypatch.setattr(tiny.tokenizer, "chat_template", template)
    return tiny


@pytest.mark.parametrize(
    ("prompts", "arguments", "message"),
    [
        ([], {}, "no prompts"),
        (["a", ""], {"bos": False}, "prompt 2 is empty and no BOS"),
        (["a", "b" * 250], {}, "prompt 2 has 251 tokens, with 40 new ones more than .* of 256"),
        (["a"], {"max_new_tokens": 0}, "0 new tokens .* at least 1"),
        (["a"], {"temperature": -1.0}, "temperature -1.0 asked for"),
        (["a"], {"temperature": 1e-320}, r"0 \(greedy\) or from 0.0001 to 10000"),
        (["a"], {"temperature": float("inf")}, "temperature inf asked for"),
        (["a"], {"temperature": float("nan")}, "temperature nan asked for"),
        (["a"], {"chat": True}, "no chat template"),
        (["a"], {"batch_tokens": 0}, "batch_tokens 0 asked for"),
        (["a"], {"gates": ["L7H0"]}, "head L7H0 asked for"),
        (
            ["a"],
            {"gates": HeadSet(["L0H0"], (9, 9))},
            "a model of 9 layers x 9 heads, but this one has 3 x 4",
        ),
        (["a"], {"gates": torch.ones(2, 3, 4)}, "gates for 2 prompts, but 1 prompts"),
        (["a"], {"gates": torch.ones(2, 4)}, r"gates of shape \[2, 4\]"),
    ],
)
def test_refused(tiny, prompts, arguments, message):
    wanted = ProvenanceError if "but this one" in message else InputError
    with pytest.raises(wanted, match=message):
        generate(tiny, prompts, **arguments)


def test_bos_of_a_tokenizer_without_one(bare_folder):
    import langheads

    bare = langheads.load(bare_folder, device="cpu")
    (row,) = prompt_tokens(bare, ["ab"], max_new_tokens=1, bos=False)
    assert len(row) == 2
    with pytest.raises(InputError, match="the model has 259 tokens; use --no-bos"):
        generate(bare, ["ab"], bos=True)


def test_an_iterator_of_heads_serves_every_batch(tiny):
    listed = generate(tiny, PROMPTS, gates=["L1H1", "L2H0"], max_new_tokens=6, batch_tokens=1)
    once = iter(["L1H1", "L2H0"])
    assert generate(tiny, PROMPTS, gates=once, max_new_tokens=6, batch_tokens=1) == listed


def test_prompt_tokens_by_hand(tiny):
    """A token a byte: BOS is 1, and the byte-level alphabet starts at 3."""
    rows = prompt_tokens(tiny, ["ab", ""], max_new_tokens=1)
    assert [row.tolist() for row in rows] == [
        [1, *tiny.tokenizer.convert_tokens_to_ids(["a", "b"])],
        [1],
    ]


def test_chat_template_is_used_once_and_brings_its_own_bos(with_template):
    (row,) = prompt_tokens(with_template, ["hello"], max_new_tokens=1, chat=True)
    assert with_template.tokenizer.decode(row) == "<s>[user] hello\n[assistant]"
    (reply,) = generate(with_template, ["hello"], chat=True, max_new_tokens=5)
    assert reply.prompt == "hello"
    assert reply.prompt_tokens == tuple(row.tolist())
    plain = "[user] hello\n[assistant]"
    assert generate(with_template, [plain], max_new_tokens=5)[0].tokens == reply.tokens


def test_a_template_renders_as_the_tokenizer_does(with_template):
    prompts = ["hello", "猫\n", "\ud800 <b>{{ 7 * 7 }}"]
    expected = [
        with_template.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
        )
        for prompt in prompts
    ]
    assert as_chats(with_template.tokenizer, prompts) == expected


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('a\x1b[2J\nb') }}", "failed \\(a\u241b\\[2J b\\);"),
        ("{{ messages.x.y }}", "chat template of the model's tokenizer failed .*; leave"),
        ("{% for", "chat template of the model's tokenizer failed .*; leave"),
        ("{% for i in range(10**9) %}x{% endfor %}", "failed .*; leave chat off"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "failed .*; leave chat off"),
        ("{{ 'x ' * 3000000 }}", "prompt 1 has 6000000 characters, far more than"),
        ("{{ 'x' * 10**8 }}{{ bos_token }}", r"failed \(it says too much\); leave chat off"),
        ("{{ 'x' * 10**11 }}", r"failed \(MemoryError\); leave chat off"),
        ("{% set n = namespace(x='x') %}{% for i in range(50) %}{% set n.x = n.x ~ n.x %}"
         "{% endfor %}{{ n.x }}", r"failed \(MemoryError\); leave chat off"),
        ("{{ '%99999999999d' % 1 }}", "failed .*; leave chat off"),
        (r"{{ '\ud800' }}", r"^prompts: \[0\] has a lone surrogate at character 1$"),
        pytest.param(
            "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
            r"failed \(it takes too much time or memory\); leave chat off",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "{{ 9**(9**9) }}",
            r"failed \(it takes too much time or memory\); leave chat off",
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_a_hostile_chat_template_is_refused_in_one_line(tiny, monkeypatch, template, message):
    monkeypatch.setattr(tiny.tokenizer, "chat_template", template)
    with pytest.raises(InputError, match=message) as error:
        prompt_tokens(tiny, ["hello"], max_new_tokens=1, chat=True)
    assert "\n" not in str(error.value)


def test_ends_and_halved_characters(tiny, monkeypatch):
    """Special tokens are never shown, nor the bytes of a character that the limit cut."""
    ids = tiny.tokenizer("猫é", add_special_tokens=False)["input_ids"]
    given = {
        "end": [*ids, 2],  # 猫é</s>
        "inside": [*ids[:3], 0, 1, *ids[3:]],  # padding and BOS in between
        "cut": ids[:4],  # the first byte of é
    }
    monkeypatch.setattr(
        decoding, "decode", lambda *_, **__: [torch.tensor(row) for row in given.values()]
    )
    found = generate(tiny, ["猫", "猫", "猫"], max_new_tokens=9)
    assert [(r.text, r.finished) for r in found] == [
        ("猫é", "eos"),
        ("猫é", "length"),
        ("猫", "length"),
    ]


def test_end_tokens_are_not_counted_as_repetition(tiny, monkeypatch):
    tokens = [*range(50, 54)] * 2
    monkeypatch.setattr(decoding, "decode", lambda *_, **__: [torch.tensor([*tokens, 2, 2, 2, 2])])
    made = answer(tiny, ["x"], [None], detector(), min_confidence=0.0, batch_tokens="auto")
    assert made.replies[0].tokens[-1] == 2
    # Five 4-grams, the last is the first.
    assert made.judged[0].repetition == pytest.approx(1 / 5)


def test_memory_halves_the_batch_and_tells(tiny, monkeypatch, caplog):
    real, sizes = decoding.decode, []

    def small(model, rows, **arguments):
        sizes.append(len(rows))
        if len(rows) > 1:
            raise MemoryError
        return real(model, rows, **arguments)

    gates = torch.ones(len(PROMPTS), 3, 4)
    gates[2, 1, 1] = 0.0
    expected = generate(tiny, PROMPTS, gates=gates, max_new_tokens=6)
    monkeypatch.setattr(decoding, "decode", small)
    with caplog.at_level(logging.WARNING, "langheads"):
        assert generate(tiny, PROMPTS, gates=gates, max_new_tokens=6) == expected
    assert sizes[0] == len(PROMPTS)
    assert sizes[-1] == 1
    assert "out of memory: going on with" in caplog.text


def test_one_prompt_that_does_not_fit(tiny, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(decoding, "decode", full)
    with pytest.raises(OutOfMemoryError, match="one prompt of 8 tokens and 5 new ones"):
        generate(tiny, ["the cat"], gates=["L0H0"], max_new_tokens=5)


def test_a_gate_that_does_not_fire_is_told(tiny, monkeypatch):
    monkeypatch.setattr(decoding, "decode", lambda model, rows, **_: [torch.tensor([5])])
    with pytest.raises(InterventionError, match="hook_z did not fire"):
        generate(tiny, ["the cat"], gates=["L0H0"])
