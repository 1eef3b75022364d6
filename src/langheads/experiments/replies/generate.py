"""Replies of a model under gates.

Each prompt is continued token by token, greedily unless a temperature is asked for, with its
gates on every position of every forward: those of the prompt and those of the reply. Batches hold
prompts of similar length, padded on the left; a reply does not depend on the batch of its prompt,
nor on the cache, except that in 16 bits rounding may decide between tokens of almost equal
probability. Attention is eager, as TransformerLens runs it.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from langheads import model as engine
from langheads.io.arguments import check_seed
from langheads.io.chat import as_chats
from langheads.io.errors import InputError
from langheads.io.progress import progress_bar
from langheads.io.records import Text, parse
from langheads.text import beginning, bos_prefix

# Nearer to 0, logits divided by the temperature overflow float32; the user means greedy.
_COLDEST, _HOTTEST = 1e-4, 1e4


@dataclass(frozen=True)
class Reply:
    """The model's reply to one prompt.

    Attributes:
        prompt: as it was given.
        text: the reply without special tokens; the bytes of a last character that the length
            limit cut in two are left out.
        tokens: the tokens of the reply, the end-of-sequence token included.
        prompt_tokens: the tokens before the reply: BOS, prompt, and the chat template's marks.
        finished: ``eos`` where the model ended the reply itself, ``length`` where the limit did.
    """

    prompt: str
    text: str
    tokens: tuple[int, ...]
    prompt_tokens: tuple[int, ...]
    finished: str

    def __repr__(self) -> str:
        said = f"{reprlib.repr(self.prompt)} -> {self.text!r}"
        return f"Reply({said}, {len(self.tokens)} tokens, {self.finished})"


def generate(
    model: TransformerBridge,
    prompts: str | Sequence[str],
    *,
    gates: engine.Gates | None = None,
    value: float = 0.0,
    language: str | None = None,
    baseline: Float[Tensor, "layer head d_head"] | None = None,
    max_new_tokens: int = 40,
    temperature: float = 0.0,
    seed: int = 0,
    batch_tokens: int | str = "auto",
    use_cache: bool = True,
    chat: bool = False,
    bos: bool | None = None,
) -> list[Reply]:
    """Continue prompts, under gates if some are given.

    Other interventions go around the call and come first: ``with steered(...): generate(...)``.

    Args:
        model: the model.
        prompts: texts; one string is one prompt.
        gates, value, language, baseline: see `langheads.gated`; ``[prompt, layer, head]`` gives
            every prompt gates of its own, None leaves the model alone.
        max_new_tokens: length limit of a reply.
        temperature: 0 is greedy; from 1e-4 to 1e4, a sample of softmax(logits / temperature).
        seed: of the samples; every prompt has its own random numbers, whatever its batch.
        batch_tokens: tokens a batch, padding and replies included; halved when memory runs out.
        use_cache: keep keys and values; without, replies are the same, only slower.
        chat: put each prompt into the tokenizer's chat template, as a user's turn.
        bos: prepend BOS; by default as the tokenizer does. A chat template has its own.

    Returns:
        Replies in the order of the prompts. A checkpoint's own sampling settings (repetition
        penalty, top-p) are not used.

    Raises:
        InputError: no prompts, an empty or too long one, no chat template, unusable gates.
        OutOfMemoryError: one prompt alone does not fit.

    Example:
        >>> from langheads import load, generate
        >>> reply, = generate(load("demo"), ["- Good morning!"], gates=["L1H8"], max_new_tokens=5)
        >>> len(reply.tokens) <= 5
        True
    """
    _check_sampling(max_new_tokens, temperature)
    seed = check_seed(seed)
    prompts = as_prompts(prompts)
    rows = prompt_tokens(model, prompts, max_new_tokens=max_new_tokens, chat=chat, bos=bos)
    under = None
    if gates is not None:
        under = engine.gates_of_all(model, gates, value, language, baseline)
    if under is not None and under.ndim == 3 and len(under) != len(prompts):
        raise InputError(f"gates for {len(under)} prompts, but {len(prompts)} prompts were given")
    with progress_bar(total=len(rows), unit="prompt", desc="generate") as bar:
        grown = engine.decode_rows(
            model, rows, max_new_tokens=max_new_tokens, gates=under, baseline=baseline,
            # Streams of consecutive seeds must not overlap: prompts are spread apart.
            seeds=[seed * 1_000_003 + i for i in range(len(rows))],
            batch_tokens=batch_tokens, progress=bar, temperature=temperature, use_cache=use_cache,
        )  # fmt: skip
    return [_reply(model, *each) for each in zip(prompts, rows, grown, strict=True)]


def _check_sampling(max_new_tokens: int, temperature: float) -> None:
    if max_new_tokens < 1 or not (temperature == 0 or _COLDEST <= temperature <= _HOTTEST):
        raise InputError(
            f"{max_new_tokens} new tokens at temperature {temperature} asked for; at least 1 "
            f"token, and a temperature of 0 (greedy) or from {_COLDEST:g} to {_HOTTEST:g}"
        )


def as_prompts(prompts: str | Sequence[str]) -> list[str]:
    """A list of prompts; a string is one prompt, and anything but strings is refused."""
    if isinstance(prompts, str):
        return [prompts]
    many = isinstance(prompts, Iterable) and not isinstance(prompts, Mapping)
    found: list[Any] = list(prompts) if many else [prompts]
    for number, each in enumerate(found, start=1):
        if not isinstance(each, str):
            raise InputError(f"prompt {number} is {each!r:.60}, which is no string")
    return found


def prompt_tokens(
    model: TransformerBridge,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    chat: bool = False,
    bos: bool | None = None,
) -> list[Int[Tensor, " _"]]:
    """Tokens ``[pos]`` of each prompt; arguments and errors as for `generate`."""
    tokenizer = engine.tokenizer_of(model)
    if not prompts:
        raise InputError("no prompts; give at least one")
    texts = list(prompts)
    if chat:
        if not getattr(tokenizer, "chat_template", None):
            raise InputError(
                "chat asked for, but the model's tokenizer has no chat template; leave chat off, "
                "or use an instruction-tuned model"
            )
        texts = as_chats(tokenizer, texts)
    # Tokenizers refuse half a character, which Python and a template can hold.
    parse(list[Text], texts, "prompts")
    # A chat template has its own BOS.
    prefix = bos_prefix(tokenizer, bool(bos) if chat else engine.bos_policy(model, bos))
    room = engine.context_length(model)
    for number, text in enumerate(texts, start=1):
        if room is not None and beginning(tokenizer, text, room + 1) != text:
            raise InputError(
                f"prompt {number} has {len(text)} characters, far more than the model's context "
                f"of {room} tokens holds; shorten it"
            )
    encoded = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    rows = [prefix + ids for ids in encoded]
    for number, row in enumerate(rows, start=1):
        if not row:
            raise InputError(f"prompt {number} is empty and no BOS stands before it; give a text")
        engine.check_tokens(model, row, f"prompt {number}", new=max_new_tokens)
    return [torch.tensor(row, dtype=torch.long) for row in rows]


def _reply(
    model: TransformerBridge, prompt: str, row: Int[Tensor, " pos"], tokens: Int[Tensor, " new"]
) -> Reply:
    text, ids = engine.reply_text(model, tokens), tokens.tolist()
    finished = "eos" if ids[-1] in engine.end_tokens(model) else "length"
    return Reply(
        prompt=prompt,
        text=text.rstrip("\ufffd") if finished == "length" else text,
        tokens=tuple(ids),
        prompt_tokens=tuple(row.tolist()),
        finished=finished,
    )
