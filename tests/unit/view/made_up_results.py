"""Made-up results of every kind that the report knows, in the files that langheads writes."""

import json

import numpy as np

from langheads.heads import HeadSet
from langheads.heads.mask import HeadMask
from langheads.io.results import save
from langheads.selection.classify import classify
from langheads.view import report
from langheads.view.attention.patterns import AttentionData, AttentionPatterns, ShownHead
from langheads.view.attention.show import AttentionView
from tests.unit.view.made_up_replies import (
    SHAPE,
    made,
    make_lens,
    make_pruned,
    make_qa,
    make_replies,
    make_transfer,
    write_replies,
)
from tests.unit.view.made_up_run import PROVENANCE, write_run

LANGUAGES = ("en", "zh", "hi", "ar", "th")
CONDITIONS = ("none", "own off", "rivals off", "random off", "shift", "random shift")
MAP = ("language", "layer", "head")
MAPS = ("baseline", *MAP)


def make_knockout(languages, seed=1, **attrs):
    rng = np.random.default_rng(seed)
    size = (2, len(languages), *SHAPE)
    rise = rng.gamma(0.5, 0.05, size)
    units = {"units": "nats per byte"}, {"units": "nats per token"}
    return made(
        "knockout",
        {
            "delta_nats_per_byte": (MAPS, rise, units[0]),
            "delta_nats_per_byte_se": (MAPS, rise / 5, units[0]),
            "delta_nats_per_token": (MAPS, 3 * rise, units[1]),
            "delta_nats_per_token_se": (MAPS, 3 * rise / 5, units[1]),
        },
        {"baseline": ["zero", "mean"], "language": list(languages)},
        **attrs,
    )


def make_comparison(languages, **attrs):
    methods = ["knockout", "lahis", "taylor"]
    table = ("score", "language")
    values = np.linspace(0.2, 1, 3 * len(languages)).reshape(3, -1)[::-1]
    names = ("spearman", "slope", "precision", "average_precision", "decoys", "area", "split_half")
    return made(
        "comparison",
        {name: (table, values, {"units": "share"}) for name in names}
        | {"seconds": ("score", [9.0, 1, 2]), "forwards": ("score", [80.0, 3, 3])},
        {"score": methods, "language": list(languages)},
        **attrs,
    )


def make_deletion(languages, **attrs):
    n, steps = len(languages), [1, 2, 4]
    rise = np.random.default_rng(2).gamma(1, 0.05, (2, n, len(steps), n))
    return made(
        "deletion",
        {
            "rise": (("score", "heads_of", "step", "text_of"), rise),
            "area": (("score", "heads_of"), rise.mean(axis=(2, 3))),
        },
        {
            "score": ["lahis", "taylor"],
            "heads_of": list(languages),
            "step": steps,
            "text_of": list(languages),
        },
        **attrs,
    )


def make_attribution(languages, **attrs):
    rng = np.random.default_rng(3)
    values = rng.normal(0, 1, (len(languages), *SHAPE))
    logit = {"units": "logit"}
    return made(
        "attribution",
        {
            "direct": (MAP, values, logit),
            "direct_se": (MAP, np.abs(values) / 4, logit),
            "patching": (MAP, np.where(np.arange(6) < 3, values / 9, np.nan), {"units": "share"}),
        },
        {"language": list(languages)},
        **attrs,
    )


def make_task(languages, **attrs):
    rng = np.random.default_rng(4)
    values = rng.normal(0, 0.1, (1, len(languages), 30, *SHAPE))
    # Without L1H2 the first language answers worse, without L2H3 all do.
    values[:, 0, :, 1, 2] -= 2.0
    values[:, :, :, 2, 3] -= 2.0
    nats = {"units": "nats", "sign": "negative: answers are worse without the head"}
    return made(
        "knockout-task",
        {
            "example_delta_answer_logprob": (
                ("baseline", "language", "example", "layer", "head"),
                values,
                nats,
            ),
            "delta_answer_logprob": (MAPS, values.mean(axis=2), nats),
            "delta_answer_logprob_se": (MAPS, values.std(axis=2) / 5, {"units": "nats"}),
        },
        {"baseline": ["zero"], "language": list(languages)},
        **attrs,
    )


def make_offtarget(languages, **attrs):
    n = len(languages), len(CONDITIONS)
    rng = np.random.default_rng(5)
    right = rng.uniform(0.2, 0.9, n)
    right[-1, 2] = np.nan
    table = ("language", "condition")
    variables = {}
    units = {"repetition": "share of 4-grams", "prompt_copy": "share of 4-grams"}
    units |= dict.fromkeys(("lpr", "wpr", "lcpr"), "share of replies")
    units |= dict.fromkeys(("nll", "delta_nll"), "nats per token")
    values = {"right": right, "delta_right": right - right[:, :1], "suspect": 1 - right}
    values |= {name: rng.uniform(0, 0.1, n) for name in ("repetition", "prompt_copy", "empty")}
    values["nll"] = rng.uniform(1, 2, n)
    values["delta_nll"] = values["nll"] - values["nll"][:, :1]
    values |= {"lpr": right, "wpr": right / 2, "lcpr": 2 * right / 3}
    for name, of in values.items():
        unit = {"units": units.get(name, "share of prompts")}
        variables |= {
            name: (table, of, unit),
            f"{name}_low": (table, of - 0.1, unit),
            f"{name}_high": (table, of + 0.1, unit),
        }
    variables["n_heads"] = (table, np.full(n, 2), {"units": "count"})
    coords = {"language": list(languages), "condition": list(CONDITIONS)}
    return made("offtarget", variables, coords, suspect="en", **attrs)


def make_switch_rate(languages, **attrs):
    n = len(languages)
    rng = np.random.default_rng(6)
    rate = rng.integers(0, 20, (n, *SHAPE)) / 20
    rate[:, 3, 5] = np.nan
    share = {"units": "share of prompts"}
    return made(
        "switch-rate",
        {
            "switch_rate": (MAP, rate, share),
            "cost": (MAP, 2 * rate, {"units": "nats per token"}),
            "repetition": (MAP, rate / 10, {"units": "share of 4-grams"}),
            "empty": (MAP, rate / 20, share),
            "sound": (MAP, (rate < 0.5).astype(np.int8), {"units": "1 within the limits, 0 not"}),
            "right_before": ("language", np.full(n, 0.9), share),
            "prompts": ("language", np.full(n, 20), {"units": "count"}),
        },
        {"language": list(languages)},
        **attrs,
    )


def make_mask(language, model="made-up"):
    return HeadMask(
        heads=HeadSet([(0, 1), (2, 3)], SHAPE),
        values=(1.4, 0.6),
        language=language,
        model=model,
        settings={"epochs": 2, "learning_rate": 0.01},
        losses={
            "train": [2.0, 1.5, 1.2, 1.1],
            "train_set": [[0, 2.2], [4, 1.2]],
            "validation": [[0, 2.1], [4, 1.3]],
        },
        split={"train": ["a"], "validation": ["b"], "seen": ["a", "b"], "contexts": [], "test": 4},
        provenance=PROVENANCE,
    )


def make_view(languages):
    tokens = {"en": "The cat sleeps .", "zh": "猫 睡 觉 。", "ar": "القطة تنام ."}
    contexts = []
    for language in languages[:2]:
        units = tuple(tokens.get(language, f"{language} a b").split())
        weights = np.tril(np.ones((2, len(units), len(units))))
        weights /= weights.sum(axis=2, keepdims=True)
        contexts.append(AttentionPatterns(language, units, weights))
    heads = tuple(ShownHead(f"L{i}H1", languages[0], 0.25) for i in range(2))
    return AttentionView(AttentionData(heads, tuple(contexts), "lahis", PROVENANCE))


def write_full_run(folder, languages=LANGUAGES, **attrs):
    """Every kind of result under the name that its verb suggests; `attrs` for all datasets."""
    write_run(folder, languages, **attrs)
    task = make_task(languages, **attrs)
    for name, dataset in {
        "knockout": make_knockout(languages, **attrs),
        "comparison": make_comparison(languages, **attrs),
        "deletion": make_deletion(languages, **attrs),
        "attribution": make_attribution(languages, **attrs),
        "knockout-task": task,
        "offtarget": make_offtarget(languages, **attrs),
        "switch-rate": make_switch_rate(languages, **attrs),
        "transfer": make_transfer(languages, **attrs),
        "logit-lens": make_lens(**attrs),
        "qa": make_qa(**attrs),
    }.items():
        save(dataset, folder / f"{name}.nc")
    classify(task, tuple(languages[:2])).save(folder / "classes.json")
    make_mask(languages[0]).save(folder / "mask.json")
    make_view(languages).save(folder / "attention.json")
    records, replies = make_replies(languages)
    replies["provenance"] |= attrs
    write_replies(folder, records, replies)
    (folder / "pruned").mkdir(exist_ok=True)
    account = json.dumps(make_pruned(languages, **attrs))
    (folder / "pruned" / "pruned.json").write_text(account, "utf-8")
    return folder


def make_full_page(folder):
    """For `made_once`: every kind of result and their page; Arabic replies run from the right."""
    run = write_full_run(folder)
    records, document = make_replies(LANGUAGES)
    for record in records:
        if record["wanted"] == "ar":
            record |= {"prompt": "مرحبا، كيف أنت؟", "reply": "مرحبا! بخير (جدا).\nمرحبا"}
    write_replies(run, records, document)
    report(run)
