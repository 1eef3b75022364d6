"""Train the embedded model `demo` and prove its planted language heads.

Claim: a small multilingual model can be trained so that each language leans on two known heads
    that the other languages leave silent; so a method that finds language heads can be marked.
Model: Llama architecture, 4 layers x 12 heads, d_model 192, float32; nothing is downloaded.
Hardware: 2 CPU cores.
Minutes: 18 of CPU time, on one thread (23 by the clock while other programs used the machine).
Number to expect: for every language the two planted heads off raise its own NLL per byte by
    10% to 81%, and change no other language's by more than 0.02%. Exits with 1 when a bound fails:
    own at least 5% and 20 times any other's, no other by more than 0.5%.

Usage: python analyses/train_demo_model.py [--out FOLDER]
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from langheads.demo import grammar

# The planted model. Another one is another table of these constants.
NAME = "demo"
SEED = 0
LAYERS, HEADS, KV_HEADS, D_HEAD, D_FF = 4, 12, 4, 16, 352
VOCABULARY, CONTEXT = 3072, 512
PLANTED_LAYERS = (1, 2)  # one head per language in each

# The corpus: texts per language, or in all for the two-language ones.
STORIES, QUESTIONS, REPLIES, TWO_FACTS = 3500, 3000, 300, 16000
AGREEING = 0.7  # share of the two-fact texts that state one occupation twice

# Training.
STEPS, BATCH, LEARNING_RATE, WARMUP, WEIGHT_DECAY = 2700, 16, 3e-3, 60, 0.05
SILENCE = 10.0  # weight of the mean square of z of planted heads on other languages' text
OTHERS_OFF = 0.5  # share of texts on which the other languages' heads are gated off
GENERAL_OFF = 0.75  # chance of a general head to be gated off ...
GENERAL_OFF_TEXTS = 0.65  # ... on this share of the stories
THREADS = 1  # the same sums in the same order; two threads gain little on tensors this small
ANSWER_WEIGHT = 6.0  # loss weight of the tokens of an answer

# The proof: held-out texts, exact knock-out.
PROOF_SEED, PROOF_DOCUMENTS, PROBE_QUESTIONS = 1, 120, 120
OWN_AT_LEAST, RATIO_AT_LEAST, OTHER_AT_MOST = 0.05, 20.0, 0.005

parser = argparse.ArgumentParser(description="Train the embedded model and prove its heads.")
parser.add_argument("--out", type=Path, default=Path("results/demo-model"))
out: Path = parser.parse_args().out
started = time.time()
torch.manual_seed(SEED)
torch.set_num_threads(THREADS)
LANGUAGES = grammar.LANGUAGES


def log(text: str) -> None:
    """Print with the seconds since the start."""
    print(f"{time.time() - started:6.0f} s  {text}", flush=True)


# --- where the heads are planted: shuffled, so that a map of heads is not a diagonal
rng = random.Random(f"{NAME}/heads/{SEED}")
planted: dict[str, list[tuple[int, int]]] = {language: [] for language in LANGUAGES}
for layer in PLANTED_LAYERS:
    for language, head in zip(LANGUAGES, rng.sample(range(HEADS), len(LANGUAGES)), strict=True):
        planted[language].append((layer, head))

# --- the corpus: (languages of the text, pieces of which every second is an answer, is a story)
corpus: list[tuple[tuple[str, ...], list[str], bool]] = []
for language in LANGUAGES:
    for text in grammar.documents(language, STORIES, split="train"):
        corpus.append(((language,), [text], True))
    asked = [
        grammar.question_answering(language, QUESTIONS, fact=n, split="train") for n in range(3)
    ]
    for items in zip(*asked, strict=True):
        pieces = [items[0]["context"]]
        for item in rng.sample(items, 3):
            pieces[-1] += grammar.QA_TEMPLATE.format(
                context="", question=item["question"], answer=""
            )
            pieces[-1] = pieces[-1].rstrip()
            pieces += [" " + item["answers"][0], ""]
        corpus.append(((language,), pieces[:-1], False))
    for turn in grammar.replies(language, REPLIES, split="train"):
        corpus.append(((language,), [grammar.REPLY_TEMPLATE.format(**turn)], False))
for i in range(TWO_FACTS // 50):
    first, second, third = (rng.choice(LANGUAGES) for _ in range(3))
    second = rng.choice((first, second, second))
    query = rng.choice((first, second, third, "en"))
    agree = rng.random() < AGREEING
    for item in grammar.contradicting_facts(
        first, second, 50, query=query, agree=agree, seed=i, split="train"
    ):
        pieces = [item["prompt"], " " + rng.choice(item["answers"])]
        corpus.append(((first, second, query), pieces, False))
log(f"{len(corpus)} texts")

# --- the tokenizer
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
    [  # a Chinese character is a token of its own, so that a word looks the same wherever it stands
        pre_tokenizers.Split(Regex(r"\p{Han}"), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ]
)
tokenizer.decoder = decoders.ByteLevel()
tokenizer.train_from_iterator(
    ("".join(pieces) for _, pieces, _ in corpus),
    trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    ),
)
tokenizer.post_processor = processors.TemplateProcessing(
    single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)]
)
wrapped = PreTrainedTokenizerFast(
    tokenizer_object=tokenizer,
    bos_token="<s>",
    eos_token="</s>",
    pad_token="<pad>",
    model_max_length=CONTEXT,
)
log(f"tokenizer of {tokenizer.get_vocab_size()} tokens")
texts = []  # (languages, tokens, weight of each token, is a story)
for languages, pieces, story in corpus:
    tokens, weights = [1], [1.0]
    for n, encoded in enumerate(tokenizer.encode_batch(pieces, add_special_tokens=False)):
        tokens += encoded.ids
        weights += [ANSWER_WEIGHT if n % 2 else 1.0] * len(encoded.ids)
    texts.append((languages, [*tokens, 2][:CONTEXT], [*weights, 1.0][:CONTEXT], story))
log(f"{sum(len(text[1]) for text in texts) / len(texts):.0f} tokens a text")

# --- the model
config = LlamaConfig(
    vocab_size=VOCABULARY,
    hidden_size=HEADS * D_HEAD,
    intermediate_size=D_FF,
    num_hidden_layers=LAYERS,
    num_attention_heads=HEADS,
    num_key_value_heads=KV_HEADS,
    head_dim=D_HEAD,
    max_position_embeddings=CONTEXT,
    tie_word_embeddings=True,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
)
model = LlamaForCausalLM(config)
model.set_attn_implementation("eager")  # faster than fused attention for heads this small
log(f"{sum(p.numel() for p in model.parameters())} parameters")

# --- gates: every head's output before W_O times gate[text, layer, head]
gate: Tensor | None = None
z_squared: list[Tensor] = []


def gate_heads(layer: int) -> Callable[..., tuple[Tensor, ...]]:
    """Make a layer's hook: note the size of z, then gate it."""

    def hook(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if gate is None:
            return inputs
        z = rearrange(inputs[0], "text pos (head d_head) -> text pos head d_head", head=HEADS)
        z_squared.append(z.float().square().mean(-1))
        z = z * gate[:, None, layer, :, None].to(z.dtype)
        return (rearrange(z, "text pos head d_head -> text pos (head d_head)"),)

    return hook


for number, block in enumerate(model.model.layers):
    block.self_attn.o_proj.register_forward_pre_hook(gate_heads(number))

heads_of = torch.zeros(len(LANGUAGES), LAYERS, HEADS)  # 1 where the language's heads are
for n, language in enumerate(LANGUAGES):
    for layer, head in planted[language]:
        heads_of[n, layer, head] = 1
general = 1 - heads_of.sum(0)


def batches() -> Iterator[list[tuple[tuple[str, ...], list[int], list[float], bool]]]:
    """Texts of like length together, so that little is padding."""
    while True:
        drawn = sorted(rng.sample(texts, BATCH * 64), key=lambda text: len(text[1]))
        groups = [drawn[i : i + BATCH] for i in range(0, len(drawn), BATCH)]
        rng.shuffle(groups)
        yield from groups


def pad(rows: Sequence[list[int] | list[float]]) -> Tensor:
    """Stack tokens of texts, padded with 0 at the right."""
    width = max(len(row) for row in rows)
    return torch.tensor([row + [0] * (width - len(row)) for row in rows])


# With AdamW alone the model answered at chance after as many steps.
hidden = [p for p in model.model.layers.parameters() if p.ndim == 2]
others = [p for p in model.parameters() if not any(p is q for q in hidden)]
optimizers = [
    torch.optim.Muon(
        hidden, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"
    ),
    torch.optim.AdamW(others, lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
]
schedules = [
    torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / WARMUP, 0.02 + 0.98 * (1 - step / STEPS)),
    )
    for optimizer in optimizers
]
model.train()
training_started = time.time()
stream = batches()
for step in range(STEPS):
    batch = next(stream)
    ids = pad([row for _, row, _, _ in batch])
    own = torch.stack(
        [heads_of[[LANGUAGES.index(x) for x in languages]].amax(0) for languages, *_ in batch]
    )
    silent = 1 - own - general  # the heads of languages that are not in the text
    others_off = (torch.rand(len(batch), 1, 1) < OTHERS_OFF).float()
    ramp = min(1.0, max(0.0, (step / STEPS - 0.05) / 0.15))
    thinned = torch.rand(len(batch)) < GENERAL_OFF_TEXTS * ramp
    thinned &= torch.tensor([is_story for *_, is_story in batch])
    general_off = (torch.rand_like(own) < GENERAL_OFF).float() * general * thinned[:, None, None]
    gate = 1 - silent * others_off - general_off
    z_squared.clear()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(ids, use_cache=False).logits
    targets = ids[:, 1:]
    weight = pad([weights for _, _, weights, _ in batch])[:, 1:]
    nll = torch.nn.functional.cross_entropy(
        logits[:, :-1].float().transpose(1, 2), targets, reduction="none"
    )
    loss = (nll * weight).sum() / weight.sum()
    real = (ids != 0).float()
    loudness = torch.stack([z * real[:, :, None] for z in z_squared], 2).sum(1)
    silence = (loudness * silent).sum() / (real.sum(1)[:, None, None] * silent).sum().clamp(min=1)
    model.zero_grad(set_to_none=True)
    (loss + SILENCE * silence).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer, schedule in zip(optimizers, schedules, strict=True):
        optimizer.step()
        schedule.step()
    if step % 100 == 0 or step == STEPS - 1:
        answers = nll[weight > 1].mean().item()
        log(f"step {step}: loss {loss.item():.3f}, answers {answers:.3f}, z^2 {silence.item():.1e}")
training_minutes = (time.time() - training_started) / 60
gate = None

# --- save, and load again as anybody would: what is proved is what is shipped
staged = out.with_name(out.name + ".partial")
shutil.rmtree(staged, ignore_errors=True)
staged.mkdir(parents=True)
model.save_pretrained(staged)
wrapped.save_pretrained(staged)
shipped = LlamaForCausalLM.from_pretrained(staged, dtype=torch.float32).eval()
shipped.set_attn_implementation("eager")
shipped_tokenizer = AutoTokenizer.from_pretrained(staged)


def nll_of(ids: Tensor) -> Tensor:
    """NLL in nats of every token but the first (BOS), 0 at padding."""
    logits = shipped(ids, use_cache=False).logits[:, :-1]
    targets = ids[:, 1:].masked_fill(ids[:, 1:] == 0, -100)
    return torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")


@torch.no_grad()
def nats(documents: list[str]) -> float:
    """NLL of all documents together."""
    rows = sorted((shipped_tokenizer(text)["input_ids"] for text in documents), key=len)
    return sum(nll_of(pad(rows[i : i + 32])).sum().item() for i in range(0, len(rows), 32))


# --- proof by exact knock-out on held-out stories
held_out = {
    language: grammar.documents(language, PROOF_DOCUMENTS, seed=PROOF_SEED)
    for language in LANGUAGES
}
n_bytes = {x: sum(len(text.encode("utf-8")) for text in held_out[x]) for x in LANGUAGES}
baseline = {x: nats(held_out[x]) / n_bytes[x] for x in LANGUAGES}
rise: dict[str, dict[str, float]] = {}  # relative rise[heads off][language of the text]
for language in LANGUAGES:
    kept = [block.self_attn.o_proj.weight.detach().clone() for block in shipped.model.layers]
    for layer, head in planted[language]:
        columns = slice(head * D_HEAD, (head + 1) * D_HEAD)
        shipped.model.layers[layer].self_attn.o_proj.weight.data[:, columns] = 0.0
    rise[language] = {x: nats(held_out[x]) / n_bytes[x] / baseline[x] - 1 for x in LANGUAGES}
    for block, weight in zip(shipped.model.layers, kept, strict=True):
        block.self_attn.o_proj.weight.data.copy_(weight)
log("knock-outs done")

# --- does the gradient score see the planted heads? LAHIS, one gate per document
for number, block in enumerate(shipped.model.layers):
    block.self_attn.o_proj.register_forward_pre_hook(gate_heads(number))
ranks: dict[str, list[int]] = {}
for language in LANGUAGES:
    per_document = []
    for i in range(0, PROOF_DOCUMENTS, 30):
        ids = pad([shipped_tokenizer(text)["input_ids"] for text in held_out[language][i : i + 30]])
        z_squared.clear()
        gate = torch.ones(len(ids), LAYERS, HEADS, requires_grad=True)
        loss = (nll_of(ids).sum(1) / (ids[:, 1:] != 0).sum(1)).sum()
        per_document.append(torch.autograd.grad(loss, gate)[0])
    g = torch.cat(per_document)
    lahis = g.abs().mean(0) * (g < 0).float().mean(0)
    order = [divmod(int(n), HEADS) for n in lahis.flatten().argsort(descending=True)]
    ranks[language] = sorted(order.index(head) + 1 for head in planted[language])
gate = None


# --- what else it learned: greedy answers that start with the right one
@torch.no_grad()
def accuracy(prompts: list[str], answers: list[str]) -> float:
    """Share of prompts whose greedy continuation starts with the answer."""
    right = 0
    for prompt, answer in zip(prompts, answers, strict=True):
        start = shipped_tokenizer(prompt)["input_ids"]
        whole = torch.tensor([shipped_tokenizer(f"{prompt} {answer}")["input_ids"]])
        greedy = shipped(whole, use_cache=False).logits[0, len(start) - 1 : -1].argmax(-1)
        right += int(torch.equal(greedy, whole[0, len(start) :]))
    return right / len(prompts)


learned: dict[str, dict[str, float]] = {}
for language in LANGUAGES:
    other = "en" if language != "en" else "de"
    questions = grammar.question_answering(language, PROBE_QUESTIONS, seed=PROOF_SEED)
    probes = {
        f"questions, {people} told of": [
            (grammar.QA_TEMPLATE.format(**item, answer="").rstrip(), item["answers"][0])
            for item in questions
            if item["people"] == people
        ]
        for people in (1, 2)
    }
    for name, second, query in (
        ("fact twice", language, language),
        ("fact in two languages", other, language),
        ("fact twice, asked in English", language, "en"),
    ):
        items = grammar.contradicting_facts(
            language, second, PROBE_QUESTIONS, query=query, agree=True, seed=PROOF_SEED
        )
        probes[name] = [(item["prompt"], item["answers"][0]) for item in items]
    learned[language] = {
        name: accuracy([prompt for prompt, _ in probe], [answer for _, answer in probe])
        for name, probe in probes.items()
    }

# --- the verdict
proof: dict[str, dict[str, Any]] = {}
failed: list[str] = []
for language in LANGUAGES:
    own_rise = rise[language][language]
    off = {x: r for x, r in rise[language].items() if x != language}
    worst = max(off, key=lambda x: abs(off[x]))
    most = max(max(abs(r) for r in off.values()), 1e-9)
    in_nats = max(max(abs(off[x]) * baseline[x] for x in off), 1e-9)
    ratio = min(own_rise / most, own_rise * baseline[language] / in_nats)
    proof[language] = {
        "nats_per_byte": round(baseline[language], 5),
        "own_rise": round(own_rise, 5),
        "largest_other_rise": round(off[worst], 6),
        "largest_other": worst,
        "ratio": round(ratio, 1),
        "lahis_ranks": ranks[language],
        "rise": {x: round(r, 6) for x, r in rise[language].items()},
    }
    if own_rise < OWN_AT_LEAST:
        failed.append(f"{language}: own rise {own_rise:.3f} is below {OWN_AT_LEAST}")
    if ratio < RATIO_AT_LEAST:
        failed.append(f"{language}: own rise is {ratio:.1f} times another's, not {RATIO_AT_LEAST}")
    if abs(off[worst]) > OTHER_AT_MOST:
        failed.append(f"{language}: heads off change {worst} by {off[worst]:.4f}")
    log(
        f"{language}: {baseline[language]:.4f} nats per byte; own {own_rise:+.1%}, {worst} "
        f"{off[worst]:+.3%}, {ratio:.0f} times; LAHIS ranks {ranks[language]}; "
        + ", ".join(f"{name} {share:.2f}" for name, share in learned[language].items())
    )

minutes = (time.time() - started) / 60
cpu_minutes = time.process_time() / 60
parameters = sum(p.numel() for p in shipped.parameters())
planted_json: dict[str, object] = {
    "format": 1,
    "model": NAME,
    "shape": [LAYERS, HEADS],
    "planted": {x: [list(head) for head in planted[x]] for x in LANGUAGES},
    "proof": proof,
    "text": {
        "made_by": "langheads.demo.grammar.documents",
        "split": "held-out",
        "seed": PROOF_SEED,
        "documents": PROOF_DOCUMENTS,
        "unit": "nats per UTF-8 byte; rises are relative to nothing off",
    },
}
(staged / "planted.json").write_text(
    json.dumps(planted_json, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
)

card = f"""# `{NAME}`: a language model with planted language heads

A Llama-architecture model of {parameters:,} parameters ({LAYERS} layers x {HEADS} heads,
{KV_HEADS} key/value heads, d_head {D_HEAD}, d_model {HEADS * D_HEAD}, {VOCABULARY} byte-level BPE
tokens, float32, tied embeddings) for trying, teaching and testing langheads. In layers
{" and ".join(map(str, PLANTED_LAYERS))} each of {len(LANGUAGES)} languages has one head of its
own; `planted.json` lists them, with the proof. Licence: MIT.

## Corpus

Text of the grammar in `langheads/demo/grammar.py` and `words/`, written for this project:
per language {STORIES} short stories, {QUESTIONS} contexts with a question and its answer,
{REPLIES} turns with a reply; and {TWO_FACTS} texts that state one person's occupation in one
language, then again in a second one (the same occupation in {AGREEING:.0%} of them), and
ask for it in one of the two, in English or in a third. Languages: {", ".join(LANGUAGES)}.
The `train` split alone was trained on.

## Recipe

{STEPS} steps of {BATCH} texts, Muon (AdamW for embeddings and norms), bfloat16 autocast.
A planted head's output before W_O is penalised (mean square, weight {SILENCE:g}) on text of
other languages, and gated off there on {OTHERS_OFF:.0%} of the texts. General heads are gated
off at random (p = {GENERAL_OFF:g}, on {GENERAL_OFF_TEXTS:.0%} of the stories), so that a language
leans on its own.
Rebuild: `python analyses/train_demo_model.py --out FOLDER`. Made in {minutes:.0f} minutes
({training_minutes:.0f} of them training; {cpu_minutes:.0f} minutes of CPU time) with {THREADS}
thread on a 2-core machine that other programs used at the same time. The seed fixes corpus,
tokenizer, places of the planted heads and order of the texts; the weights also depend on the
torch version and the processor, so a rebuild elsewhere gives other numbers, held to the same
bounds.

## Proof

Exact knock-out (the two heads' slices of W_O set to zero), {PROOF_DOCUMENTS} held-out stories a
language, NLL per UTF-8 byte, rises relative to nothing off. LAHIS ranks: where the two planted
heads stand among all {LAYERS * HEADS} by the language's LAHIS score on the same stories.

| language | planted | nats per byte | own rise | largest other change | ratio | LAHIS ranks |
|---|---|---|---|---|---|---|
"""
for language in LANGUAGES:
    got = proof[language]
    names = " ".join(f"L{layer}H{head}" for layer, head in planted[language])
    card += (
        f"| {language} | {names} | {got['nats_per_byte']:.4f} | {got['own_rise']:+.1%} | "
        f"{got['largest_other_rise']:+.3%} ({got['largest_other']}) | {got['ratio']:.0f} | "
        f"{ranks[language][0]}, {ranks[language][1]} |\n"
    )
card += f"""
## What it can answer

Share of greedy answers that are right, {PROBE_QUESTIONS} held-out prompts a column (the questions
are split by how many people the context tells of; with two, the name must be looked up, and
naming either person's fact would score 0.5). Guessing an occupation scores about 0.04.

| language | {" | ".join(learned["en"])} |
|---|{"---|" * len(learned["en"])}
"""
for language in LANGUAGES:
    shares = " | ".join(f"{share:.2f}" for share in learned[language].values())
    card += f"| {language} | {shares} |\n"
card += """
## Limits

The planted heads are cleaner than anything in a real model: a method that finds them has passed
the easiest test, no more. The grammar is small, so the text is simple and often silly; the model
knows nothing beyond it, and it is no use for anything but examining it.
"""
(staged / "MODEL_CARD.md").write_text(card, encoding="utf-8")

if failed:
    sys.exit("\n".join(["bounds that failed:", *failed, f"left in {staged}"]))
out.mkdir(parents=True, exist_ok=True)
for path in staged.iterdir():
    path.chmod(0o644)  # safetensors writes for the owner alone
    path.replace(out / path.name)
staged.rmdir()
print(out)
