"""Train an embedded model, `demo` or `demo-hard`, and prove its planted language heads.

Claim: a small multilingual model can be trained so that each language leans on two known heads
    that the other languages leave silent; so a method that finds language heads can be marked.
Model: Llama architecture, 4 layers x 12 heads, d_model 192, float32; nothing is downloaded.
Hardware: 2 CPU cores.
Minutes: 18 of CPU time, on one thread (23 by the clock while other programs used the machine).
Number to expect: for every language the two planted heads off raise its own NLL per byte by
    10% to 81%, and change no other language's by more than 0.02%. Exits with 1 when a bound fails:
    own at least 5% and 20 times any other's, no other by more than 0.5%.
    `demo-hard` is harder to read: planted heads of graded strength, one shared by two languages, a
    language without any, and decoys, heads whose gradient is large but whose removal hurts nobody.
    Its bounds are constants of `prove_demo_model.py`, which both models are held to at the end.

Usage: python analyses/train_demo_model.py [--model demo-hard] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from demo_recipes import D_HEAD, HEADS, LAYERS, RECIPES, SEED, places, seeded
from einops import rearrange
from prove_demo_model import prove
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from langheads.demo import grammar

KV_HEADS, D_FF = 4, 352
VOCABULARY, CONTEXT = 3072, 512
AGREEING = 0.7  # share of the two-fact texts that state one occupation twice

# Training.
BATCH, LEARNING_RATE, WARMUP, WEIGHT_DECAY = 16, 3e-3, 60, 0.05
SILENCE = 10.0  # weight of the mean square of z of planted heads on other languages' text
OTHERS_OFF = 0.5  # share of texts on which the other languages' heads are gated off
GENERAL_OFF = 0.75  # chance of a general head to be gated off ...
GENERAL_OFF_TEXTS = 0.65  # ... on this share of the stories
THREADS = 1  # the same sums in the same order; two threads gain little on tensors this small
ANSWER_WEIGHT = 6.0  # loss weight of the tokens of an answer

parser = argparse.ArgumentParser(description="Train the embedded model and prove its heads.")
parser.add_argument("--model", choices=list(RECIPES), default="demo")
parser.add_argument("--out", type=Path, help="default: results/MODEL-model")
arguments = parser.parse_args()
NAME: str = arguments.model
RECIPE = RECIPES[NAME]
STORIES, QUESTIONS, REPLIES = RECIPE.stories, RECIPE.questions, RECIPE.replies
TWO_FACTS, STEPS = RECIPE.two_facts, RECIPE.steps
out: Path = arguments.out or Path(f"results/{NAME}-model")
started = time.time()
torch.manual_seed(SEED)
torch.set_num_threads(THREADS)
LANGUAGES = grammar.LANGUAGES


def log(text: str) -> None:
    """Print with the seconds since the start."""
    print(f"{time.time() - started:6.0f} s  {text}", flush=True)


# --- where the heads are planted; the same source then draws the texts
rng = seeded(NAME)
place = places(NAME, rng)

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

# 1 where the language's heads are, decoys too; and how often they are off on its own text
heads_of, weakened_of = torch.zeros(2, len(LANGUAGES), LAYERS, HEADS).unbind(0)
for head, (layer, index) in place.items():
    for x in head.languages:
        heads_of[LANGUAGES.index(x), layer, index] = 1
        weakened_of[LANGUAGES.index(x), layer, index] = head.weakened
general = 1 - heads_of.amax(0)


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
    if NAME == "demo-hard":  # no random number is drawn for the other model
        weakened = weakened_of[[LANGUAGES.index(languages[0]) for languages, *_ in batch]]
        gate = gate - (torch.rand_like(own) < weakened).float() * ramp
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

# --- save, and prove what was saved
staged = out.with_name(out.name + ".partial")
shutil.rmtree(staged, ignore_errors=True)
staged.mkdir(parents=True)
model.save_pretrained(staged)
wrapped.save_pretrained(staged)
made = (
    f"Made in {(time.time() - started) / 60:.0f} minutes ({training_minutes:.0f} of them "
    f"training; {time.process_time() / 60:.0f} minutes of CPU time) with {THREADS} thread on a "
    "2-core machine that other programs used at the same time."
)
recipe_text = f"""Text of the grammar in `langheads/demo/grammar.py` and `words/`, written for this
project, split `train` alone: per language {STORIES} short stories, {QUESTIONS} contexts with a
question and its answer, {REPLIES} turns with a reply; and {TWO_FACTS} texts that state one
person's occupation in one language, then again in a second one (the same occupation in
{AGREEING:.0%} of them), and ask for it in one of the two, in English or in a third. Languages:
{", ".join(LANGUAGES)}.

{STEPS} steps of {BATCH} texts, Muon (AdamW for embeddings and norms), bfloat16 autocast. A planted
head's output before W_O is penalised (mean square, weight {SILENCE:g}) on text of other
languages, and gated off there on {OTHERS_OFF:.0%} of the texts. General heads are gated off at
random (p = {GENERAL_OFF:g}, on {GENERAL_OFF_TEXTS:.0%} of the stories), so that a language leans on
its own."""
if NAME == "demo-hard":
    recipe_text += """
A weakened head is also gated off on that share of its own languages' texts; a decoy on so many that
the model does without it, and yet leans on it where it is there."""
failed = prove(staged, NAME, recipe=recipe_text + "\n", made=made)
if failed:
    sys.exit("\n".join(["bounds that failed:", *failed, f"left in {staged}"]))
out.mkdir(parents=True, exist_ok=True)
for path in staged.iterdir():
    path.chmod(0o644)  # safetensors writes for the owner alone
    path.replace(out / path.name)
staged.rmdir()
print(out)
