"""Made-up results about replies, answers and facts, in the files that langheads writes."""

import json

import numpy as np
import xarray as xr

from langheads.heads import HeadSet
from tests.unit.view.made_up_run import PROVENANCE

SHAPE = (4, 6)
GUARDS = {
    "repetition": "share of 4-grams",
    "prompt_copy": "share of 4-grams",
    "empty": "share of prompts",
    "prompt_nll": "nats per token",
}
MEASURES = {
    "answer_a": "share of prompts",
    "answer_b": "share of prompts",
    "first_token_a": "share of prompts",
    "logprob_difference": "nats",
}


def made(kind, variables, coords, **attrs):
    return xr.Dataset(variables, coords=coords, attrs=PROVENANCE | {"kind": kind} | attrs)


def make_transfer(languages, **attrs):
    languages = list(languages)
    n, orders, settings = len(languages), ["A first", "A last", "both"], ["enhance 3", "weaken 0"]
    rng = np.random.default_rng(7)
    cell, one = ("a", "b", "order", "setting"), ("order", "setting")
    size = (n, n, 3, 2)
    variables = {}
    for name, units in (MEASURES | GUARDS).items():
        unit = {"units": units}
        change = rng.normal(0.1, 0.1, size)
        change[range(n), range(n)] = np.nan
        overall = np.nanmean(change, axis=(0, 1))
        control = rng.normal(0, 0.02, (*size, 20))
        p = np.where(np.isfinite(change), 0.04, np.nan)
        if name in GUARDS:
            overall = np.full(overall.shape, [0.02, 0.05])
        variables |= {
            f"{name}_before": (cell[:3], np.full(size[:3], 0.3), unit),
            name: (cell, 0.3 + change, unit),
            f"{name}_change": (cell, change, unit),
            f"{name}_change_se": (cell, np.full(size, 0.02), unit),
            f"{name}_change_low": (cell, change - 0.05, unit),
            f"{name}_change_high": (cell, change + 0.05, unit),
            f"{name}_control_change": ((*cell, "control"), control, unit),
            f"{name}_control_mean": (cell, control.mean(axis=-1), unit),
            f"{name}_overall_change": (one, overall, unit),
            f"{name}_overall_low": (one, overall - 0.05, unit),
            f"{name}_overall_high": (one, overall + 0.05, unit),
            f"{name}_overall_control_change": ((*one, "control"), control.mean(axis=(0, 1)), unit),
        }
        if name in MEASURES:
            variables[f"{name}_control_p"] = (cell, p)
            variables[f"{name}_overall_control_p"] = (one, np.full(size[2:], 0.04))
    coords = {
        "a": languages,
        "b": languages,
        "order": orders,
        "setting": settings,
        "condition": ("setting", ["enhance", "weaken"]),
        "gate": ("setting", [3.0, 0.0]),
        "fact": ["A", "B"],
    }
    own = [HeadSet([(i % SHAPE[0], i % SHAPE[1]), (3, 5)], SHAPE) for i in range(n)]
    variables["heads"] = ("a", [str(heads) for heads in own])
    variables["n_heads"] = ("a", [2] * n)
    looked = ("layer", "head", "fact")
    attention = rng.uniform(0, 0.4, (*size[:3], *SHAPE, 2))
    moved = np.clip(attention[:, :, :, None] + rng.normal(0, 0.1, (*size, *SHAPE, 2)), 0, 1)
    moved[range(n), range(n)] = np.nan
    variables["attention_before"] = ((*cell[:3], *looked), attention, {"units": "share of 1"})
    variables["attention_after"] = ((*cell, *looked), moved, {"units": "share of 1"})
    settings = {"query": "en", "prompts": 8, "controls": 20, "jobs": 3}
    return made("transfer", variables, coords, **settings | attrs)


QA = {
    "accuracy": (0.5, "share"),
    "exact_match": (0.3, "share"),
    "f1": (0.4, "share"),
    "answer_nll": (2.0, "nats"),
    "repetition": (0.05, "share of 4-grams"),
    "prompt_copy": (0.2, "share of 4-grams"),
    "empty": (0.01, "share"),
    "reply_nll": (1.5, "nats per token"),
}


def make_qa(random=1, **attrs):
    """Masks on language heads (+0.1), `random` sets of random heads (+0.01, ...), all heads.

    Guards change 0.4 times as much.
    """
    conditions = ["untouched", "mask", "random heads", "all heads"]
    steps = np.array([0, 0.1, 0.01, 0.2])
    if random > 1:
        conditions[2:3] = [f"random heads {k}" for k in range(random)]
        steps = np.array([0, 0.1, *(0.01 * (k + 1) for k in range(random)), 0.2])
    variables = {}
    for i, (name, (base, unit)) in enumerate(QA.items()):
        step = steps * (1.0 if i < 4 else 0.4)
        at, units = "condition", {"units": unit}
        variables |= {
            name: (at, base + step, units),
            f"delta_{name}": (at, step, units),
            f"delta_{name}_low": (at, step - 0.05, units),
            f"delta_{name}_high": (at, step + 0.05, units),
        }
        if random > 1:
            beyond = np.where([x.startswith("random") for x in conditions], np.nan, step - 0.02)
            variables |= {
                f"versus_random_{name}": (at, beyond, units),
                f"versus_random_{name}_low": (at, beyond - 0.04, units),
                f"versus_random_{name}_high": (at, beyond + 0.04, units),
            }
    return made("qa", variables, {"condition": conditions}, **{"language": "hi"} | attrs)


def made_reply(text, language, right, repetition=0.0, empty=False):
    return {
        "reply": text,
        "language": language,
        "confidence": 0.75,
        "right": right,
        "repetition": repetition,
        "prompt_copy": 0.5,
        "empty": empty,
    }


def make_replies(languages, each=3):
    """Records, and their summary: the first reply of each language leaves it under the gates."""
    records = [
        {
            "id": f"{language}-{i}",
            "prompt": f"one {i}\ntwo\n\nthree\nin {language}?",
            "wanted": language,
            "finished": "eos",
            **made_reply(f" reply {i} to {language}", "fr" if i == 0 else language, i > 0, 0.2),
            "nll_per_token": 1.5,
            "untouched": made_reply(f"before {i}", language, True, repetition=0.125),
        }
        for language in languages
        for i in range(each)
    ]
    over_draws = {
        "right": {"mean": 0.8, "low": 0.7, "high": 0.9},
        "switch_rate": {"mean": 0.2, "low": 0.1, "high": 0.3},
        "counted": {"mean": 2.0, "low": 1.0, "high": 3.0},
        "delta_nll_per_token": {"mean": 0.1, "low": -0.1, "high": 0.3},
        "lpr": None,
    }
    summary = {
        "replies": len(records),
        "right": 1 - 1 / each,
        "lpr": None,
        "counted": 2,
        "repetition": 0.2,
        "prompt_copy": 0.5,
        "empty": 0.0,
        "nll_per_token": 1.5,
        "right_before": 1.0,
        "switch_rate": 1 / each,
        "delta_nll_per_token": 0.25,
        "random_heads": {"draws": ["L0H2 L0H3", "L0H4 L0H5"], **over_draws},
    }
    provenance = PROVENANCE | {
        "kind": "replies",
        "gates": {languages[0]: 0.5},
        "shift": {},
        "mask": None,
        "heads": {languages[0]: "L0H0 L0H1"},
    }
    return records, {"summary": summary, "provenance": provenance}


def write_replies(folder, records, document, name="replies"):
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    (folder / f"{name}.jsonl").write_text("".join(lines), "utf-8")
    (folder / f"{name}.summary.json").write_text(json.dumps(document, ensure_ascii=False), "utf-8")


def make_lens(**attrs):
    conditions = ["untouched", "en heads x 3", "zh heads x 0"]
    logit = np.random.default_rng(8).normal(0, 1, (3, 9, 2)).cumsum(axis=1)
    depths = [f"{i}_{part}" for i in range(4) for part in ("pre", "mid")]
    return made(
        "logit-lens",
        {"logit": (("condition", "depth", "answer"), logit, {"units": "logit"})},
        {
            "condition": conditions,
            "depth": [*depths, "final_post"],
            "answer": ["en (cook)", "zh (nurse)"],
        },
        **{"prompt": "Wei is a cook.\n魏是护士。\nQuestion: what is Wei? Answer:"} | attrs,
    )


def make_pruned(languages, controls=20, model="made-up", **attrs):
    """The account of a model without the second language's heads, whose loss rises by 0.3."""
    losses = {}
    for i, language in enumerate(languages):
        rise = 0.3 if i == 1 else 0.001 * i
        losses[language] = {
            "before": 0.5,
            "after": 0.5 + rise,
            "rise": rise,
            "rise_low": rise - 0.01,
            "rise_high": rise + 0.01,
        }
        if controls:
            losses[language] |= {
                "control_mean": 0.02,
                "control_low": 0.005,
                "control_high": 0.06,
                "control_p": 1 / (1 + controls) if i == 1 else 0.9,
            }
    return {
        "format": 1,
        "kind": "pruned",
        "model": model,
        "shape": list(SHAPE),
        "dropped": [languages[1]],
        "removed": ["L1H1", "L2H0"],
        "cut": [],
        "zeroed": ["L1H1", "L2H0"],
        "kept": [],
        "parameters_zeroed": 4096,
        "parameters_saved": 0,
        "bytes_saved": 0,
        "also_heads_of": {languages[0]: "L2H0"},
        "logits_differ_by": 2e-7,
        "controls": controls,
        "nats_per_byte": losses,
        "provenance": PROVENANCE | {"kind": "pruned", "heads": PROVENANCE} | attrs,
    }
