"""Prove an embedded model's planted heads on held-out text, and write its card.

Claim: exact knock-out of the planted heads (their slices of W_O set to zero, plain transformers)
    raises the NLL of their own languages and of no other.
Model: `demo` or `demo-hard`, from a folder that `train_demo_model.py` saved.
Hardware: 2 CPU cores. Minutes: 3.
Number to expect: demo, each language's own NLL per byte up by 10% to 81%, no other's by more than
    0.02%; demo-hard: see the table that its card ends with.

Usage: python analyses/prove_demo_model.py FOLDER [--model demo-hard]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from demo_recipes import D_HEAD, HEADS, LAYERS, RECIPES, places, seeded
from einops import rearrange
from torch import Tensor
from transformers import AutoTokenizer, LlamaForCausalLM

import langheads
from langheads.demo import grammar
from langheads.model import describe

SEED, DOCUMENTS, PROBE_QUESTIONS = 1, 120, 120
# demo: a language's planted heads together.
OWN_AT_LEAST, RATIO_AT_LEAST, OTHER_AT_MOST = 0.05, 20.0, 0.005
# demo-hard: each head alone. A decoy has a gradient among the largest, and its knock-out is little:
# a quarter of the weakest planted head's at most. One that the model leaves idle is no decoy; two
# must be left. (The places and weakenings of the decoys are the third try: in the second the model
# left one idle and made use of another. The tries were judged by knock-outs and gradients.)
ALONE_AT_LEAST, DECOY_AT_MOST, DECOY_RANK, DECOYS = 0.02, 0.005, 8, 2
LANGUAGES = grammar.LANGUAGES

Place = tuple[int, int]


def knock_outs(folder: Path) -> tuple[dict[str, float], Callable[[Sequence[Place]], Any]]:
    """NLL in nats per byte of held-out stories, and a function: heads -> relative ΔNLL."""
    model, tokenizer = read(folder)
    texts = {x: grammar.documents(x, DOCUMENTS, seed=SEED) for x in LANGUAGES}
    n_bytes = {x: sum(len(text.encode("utf-8")) for text in texts[x]) for x in LANGUAGES}
    rows = {x: sorted((tokenizer(text)["input_ids"] for text in texts[x]), key=len) for x in texts}

    @torch.no_grad()
    def nats_per_byte(language: str) -> float:
        batches = [rows[language][i : i + 32] for i in range(0, DOCUMENTS, 32)]
        return sum(nll_of(model, pad(b)).sum().item() for b in batches) / n_bytes[language]

    baseline = {x: nats_per_byte(x) for x in LANGUAGES}

    def rises(heads: Sequence[Place]) -> dict[str, float]:
        weights = [block.self_attn.o_proj.weight for block in model.model.layers]
        kept = [weight.detach().clone() for weight in weights]
        for layer, head in heads:
            weights[layer].data[:, head * D_HEAD : (head + 1) * D_HEAD] = 0.0
        rise = {x: nats_per_byte(x) / baseline[x] - 1 for x in LANGUAGES}
        for weight, before in zip(weights, kept, strict=True):
            weight.data.copy_(before)
        return rise

    return baseline, rises


def gradients(folder: Path) -> dict[str, Tensor]:
    """Gradient of each held-out story's NLL in its gates at 1, ``[doc, layer, head]``."""
    model, tokenizer = read(folder)
    gate = torch.ones(0)

    def gate_heads(layer: int) -> Callable[..., tuple[Tensor, ...]]:
        def hook(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            z = rearrange(inputs[0], "text pos (head d_head) -> text pos head d_head", head=HEADS)
            z = z * gate[:, None, layer, :, None]
            return (rearrange(z, "text pos head d_head -> text pos (head d_head)"),)

        return hook

    for number, block in enumerate(model.model.layers):
        block.self_attn.o_proj.register_forward_pre_hook(gate_heads(number))
    found = {}
    for language in LANGUAGES:
        texts = grammar.documents(language, DOCUMENTS, seed=SEED)
        parts = []
        for i in range(0, DOCUMENTS, 30):
            ids = pad([tokenizer(text)["input_ids"] for text in texts[i : i + 30]])
            gate = torch.ones(len(ids), LAYERS, HEADS, requires_grad=True)
            loss = (nll_of(model, ids).sum(1) / (ids[:, 1:] != 0).sum(1)).sum()
            parts.append(torch.autograd.grad(loss, gate)[0])
        found[language] = torch.cat(parts)
    return found


def answers(folder: Path) -> dict[str, dict[str, float]]:
    """Share of greedy answers that start with the right one, per language and kind of question."""
    model, tokenizer = read(folder)

    @torch.no_grad()
    def accuracy(probe: Sequence[tuple[str, str]]) -> float:
        right = 0
        for prompt, answer in probe:
            start = tokenizer(prompt)["input_ids"]
            whole = torch.tensor([tokenizer(f"{prompt} {answer}")["input_ids"]])
            greedy = model(whole, use_cache=False).logits[0, len(start) - 1 : -1].argmax(-1)
            right += int(torch.equal(greedy, whole[0, len(start) :]))
        return right / len(probe)

    learned = {}
    for language in LANGUAGES:
        other = "en" if language != "en" else "de"
        questions = grammar.question_answering(language, PROBE_QUESTIONS, seed=SEED)
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
                language, second, PROBE_QUESTIONS, query=query, agree=True, seed=SEED
            )
            probes[name] = [(item["prompt"], item["answers"][0]) for item in items]
        learned[language] = {name: accuracy(probe) for name, probe in probes.items()}
    return learned


def read(folder: Path) -> tuple[Any, Any]:
    """The model as anybody would load it, and its tokenizer."""
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model.set_attn_implementation("eager")
    return model, AutoTokenizer.from_pretrained(folder)


def pad(rows: Sequence[list[int]]) -> Tensor:
    """Tokens of texts, padded with 0 at the right."""
    width = max(len(row) for row in rows)
    return torch.tensor([row + [0] * (width - len(row)) for row in rows])


def nll_of(model: Any, ids: Tensor) -> Tensor:
    """NLL in nats of every token but the first (BOS), 0 at padding."""
    logits = model(ids, use_cache=False).logits[:, :-1]
    targets = ids[:, 1:].masked_fill(ids[:, 1:] == 0, -100)
    return torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")


def prove(folder: Path, name: str, *, recipe: str, made: str) -> list[str]:
    """Write ``planted.json`` and ``MODEL_CARD.md`` beside the weights; return what failed."""
    place = places(name, seeded(name))
    of = {
        kind: {
            x: [place[head] for head in place if x in head.languages and head.decoy == decoy]
            for x in LANGUAGES
        }
        for kind, decoy in (("planted", False), ("decoys", True))
    }
    of["idle"] = {x: [] for x in LANGUAGES}
    baseline, rises = knock_outs(folder)
    g = gradients(folder)
    ranks = {x: _ranks(g[x].abs().mean(0) * (g[x] < 0).float().mean(0)) for x in LANGUAGES}
    failed: list[str] = []
    proof: dict[str, Any] = {}
    for language, heads in of["planted"].items():
        if not heads:
            continue
        rise = rises(heads)
        off = {x: r for x, r in rise.items() if x != language}
        worst = max(off, key=lambda x: abs(off[x]))
        most = max(abs(off[worst]), 1e-9)
        in_nats = max(max(abs(off[x]) * baseline[x] for x in off), 1e-9)
        own = rise[language]
        ratio = min(own / most, own * baseline[language] / in_nats)
        proof[language] = {
            "nats_per_byte": round(baseline[language], 5),
            "own_rise": round(own, 5),
            "largest_other_rise": round(off[worst], 6),
            "largest_other": worst,
            "ratio": round(ratio, 1),
            "lahis_ranks": sorted(ranks[language][head] for head in heads),
            "rise": {x: round(r, 6) for x, r in rise.items()},
        }
        if name == "demo":
            if own < OWN_AT_LEAST:
                failed.append(f"{language}: own ΔNLL {own:.3f} is below {OWN_AT_LEAST}")
            if ratio < RATIO_AT_LEAST:
                failed.append(f"{language}: own ΔNLL is {ratio:.1f} times another's")
            if abs(off[worst]) > OTHER_AT_MOST:
                failed.append(f"{language}: heads off change {worst} by {off[worst]:.4f}")
    result: dict[str, Any] = {
        "format": 1,
        "model": name,
        "weight_hash": describe(langheads.load(folder, device="cpu"))["weight_hash"],
        "shape": [LAYERS, HEADS],
        "planted": {x: [list(head) for head in heads] for x, heads in of["planted"].items()},
        "proof": proof,
        "text": {
            "made_by": "langheads.demo.grammar.documents",
            "split": "held-out",
            "seed": SEED,
            "documents": DOCUMENTS,
            "unit": "nats per UTF-8 byte; rises are relative to nothing off",
        },
    }
    if name == "demo":
        table = _language_table(of["planted"], proof) + _answer_table(answers(folder))
    else:
        alone = []
        for head, where in place.items():
            rise = rises([where])
            outside = max((abs(r) for x, r in rise.items() if x not in head.languages))
            gradient_rank = {x: _ranks(g[x].abs().mean(0))[where] for x in head.languages}
            alone.append(
                {
                    "head": list(where),
                    "languages": list(head.languages),
                    "weakened": head.weakened,
                    "decoy": head.decoy,
                    "rise": {x: round(r, 6) for x, r in rise.items()},
                    "gradient_rank": gradient_rank,
                }
            )
            own = [rise[x] for x in head.languages]
            label = f"L{where[0]}H{where[1]} of {'+'.join(head.languages)}"
            if head.decoy and max(gradient_rank.values()) > DECOY_RANK:
                for x in head.languages:
                    of["decoys"][x].remove(where)
                    of["idle"][x].append(where)
            elif head.decoy and max(map(abs, own)) > DECOY_AT_MOST:
                failed.append(f"decoy {label} changes its language by {max(own, key=abs):.4f}")
            if not head.decoy and min(own) < ALONE_AT_LEAST:
                failed.append(f"{label} raises its language by {min(own):.4f} only")
            if outside > OTHER_AT_MOST:
                failed.append(f"{label} changes another language by {outside:.4f}")
        if sum(map(len, of["decoys"].values())) < DECOYS:
            failed.append(f"fewer than {DECOYS} decoys have a large gradient")
        for kind in ("decoys", "idle"):
            result[kind] = {x: [list(h) for h in hs] for x, hs in of[kind].items()}
        result |= {"alone": alone}
        table = _head_table(alone, baseline)
    card = _CARD.format(
        name=name,
        recipe=recipe,
        made=made,
        documents=DOCUMENTS,
        table=table,
        layers=LAYERS,
        heads=HEADS,
        width=HEADS * D_HEAD,
        d_head=D_HEAD,
        flag="" if name == "demo" else f"--model {name} ",
        stories=RECIPES[name].stories,
    )
    (folder / "planted.json").write_text(
        json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    (folder / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    print(table)
    return failed


def _ranks(scores: Tensor) -> dict[Place, int]:
    order = scores.flatten().argsort(descending=True).tolist()
    return {divmod(n, HEADS): rank + 1 for rank, n in enumerate(order)}


def _language_table(planted: dict[str, list[Place]], proof: dict[str, Any]) -> str:
    text = """
The planted heads of a language off together. LAHIS ranks: where they stand among all heads by the
language's LAHIS score on the same stories. Ratio: own ΔNLL over the largest change of another
language, the smaller one of relative and in nats.

| language | planted | nats per byte | own ΔNLL | largest other change | ratio | LAHIS ranks |
|---|---|---|---|---|---|---|
"""
    for language, got in proof.items():
        names = " ".join(f"L{layer}H{head}" for layer, head in planted[language])
        text += (
            f"| {language} | {names} | {got['nats_per_byte']:.4f} | {got['own_rise']:+.1%} | "
            f"{got['largest_other_rise']:+.3%} ({got['largest_other']}) | {got['ratio']:.0f} | "
            f"{', '.join(map(str, got['lahis_ranks']))} |\n"
        )
    return text


def _head_table(alone: list[dict[str, Any]], baseline: dict[str, float]) -> str:
    nats = ", ".join(f"{x} {value:.4f}" for x, value in baseline.items())
    text = f"""
Each head off alone. Gradient rank: where its mean absolute gate gradient stands among all heads.
Weakened: share of its own texts on which it was gated off in training. A decoy whose gradient
ranks below {DECOY_RANK} is left idle by the model and counts as neither. Nothing off, nats per
byte: {nats}.

| head | of | weakened | decoy | own ΔNLL | largest other change | gradient rank |
|---|---|---|---|---|---|---|
"""
    for row in alone:
        layer, head = row["head"]
        own = ", ".join(f"{row['rise'][x]:+.2%}" for x in row["languages"])
        others = {x: r for x, r in row["rise"].items() if x not in row["languages"]}
        worst = max(others, key=lambda x: abs(others[x]))
        text += (
            f"| L{layer}H{head} | {' + '.join(row['languages'])} | {row['weakened']:.0%} | "
            f"{'yes' if row['decoy'] else ''} | {own} | {others[worst]:+.3%} ({worst}) | "
            f"{', '.join(str(rank) for rank in row['gradient_rank'].values())} |\n"
        )
    return text


def _answer_table(learned: dict[str, dict[str, float]]) -> str:
    text = f"""
## What it can answer

Share of greedy answers that are right, {PROBE_QUESTIONS} held-out prompts a column (the questions
are split by how many people the context tells of; with two, the name must be looked up, and
naming either person's fact would score 0.5). Guessing an occupation scores about 0.04.

| language | {" | ".join(learned["en"])} |
|---|{"---|" * len(learned["en"])}
"""
    for language, shares in learned.items():
        text += f"| {language} | {' | '.join(f'{share:.2f}' for share in shares.values())} |\n"
    return text


_CARD = """# `{name}`: a language model with planted language heads

A small Llama-architecture model ({layers} layers x {heads} heads, d_head {d_head}, d_model {width},
float32, tied embeddings, byte-level BPE) for trying, teaching and testing langheads.
`planted.json` lists the heads, with the proof. Licence: MIT.

## Recipe

{recipe}
Rebuild: `python analyses/train_demo_model.py {flag}--out FOLDER`. {made} The seed
fixes corpus, tokenizer, places of the planted heads and order of the texts; the weights also depend
on the torch version and the processor, so a rebuild elsewhere gives other numbers, held to the same
bounds.

## Proof

Exact knock-out (slices of W_O set to zero), {documents} held-out stories a language, NLL per UTF-8
byte, ΔNLL relative to nothing off.
{table}
## Limits

The planted heads are cleaner than anything in a real model: a method that finds them has passed
an easy test, no more. The grammar is small, so the text is simple and often silly; the model
knows nothing beyond it, and it is no use for anything but examining it.
"""

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Prove an embedded model's planted heads.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", choices=list(RECIPES), default="demo")
    arguments = parser.parse_args()
    wrong = prove(arguments.folder, arguments.model, recipe="Not told.", made="")
    if wrong:
        sys.exit("\n".join(["bounds that failed:", *wrong]))
