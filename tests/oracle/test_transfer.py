"""Attention transfer against bare hooks, against weights edited by hand, and at gate 1."""

import itertools
import json
import re
import unicodedata

import numpy as np
import pytest
import torch

from hooks.attention_pattern import attention_pattern
from hooks.knockout_answer import log_prob
from hooks.transfer import scale_all
from hooks.transfer import transfer as first_token_change
from langheads.experiments.transfer.experiment import transfer
from langheads.experiments.transfer.plan import random_sets
from langheads.heads import HeadSet, LanguageHeads
from langheads.text.knowledge_conflict import knowledge_conflicts, occupation_pairs
from langheads.text.templates import read_templates
from tests.models.zoo import hugging_face, w_o

# Single letters stand in what a random model writes; two occupations begin with the same letter.
JOBS = ["e", "tq", "tz", "u"]
SENTENCES = {
    "en": {"fact": "{name} is {job}.", "query": "So {name} is ", "answer": "{job}", "space": " "},
    "hi": {"fact": "{name} {job} है।", "query": "{name} ", "answer": "{job}", "space": " "},
    "zh": {"fact": "{name}是{job}。", "query": "{name}是", "answer": "{job}", "space": ""},
}
FILLER = {"en": "It rains.", "hi": "अब।", "zh": "下雨了。"}
HEADS = {"en": ["L1H2"], "hi": ["L2H0", "L0H1"], "zh": []}
SHAPE = (3, 4)
NEW = 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("templates")
    for language, sentences in SENTENCES.items():
        records = [
            sentences,
            {"filler": FILLER[language]},
            {"name": "Ann", "gender": "f"},
            {"name": "Bo"},
            *({"job": job} for job in JOBS),
        ]
        lines = [json.dumps(record, ensure_ascii=False) for record in records]
        (path / f"{language}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def heads():
    return LanguageHeads(
        {language: HeadSet(of, SHAPE) for language, of in HEADS.items()}, HeadSet([], SHAPE), "tiny"
    )


def run(model, heads, folder, **settings):
    arguments = {"templates": folder, "n_occupations": 4, "bos": True, "n_controls": 2}
    return transfer(model, heads, **(arguments | {"max_new_tokens": NEW} | settings))


def written(model, prompt, fwd_hooks):
    """Greedy text after a prompt [1, pos], no cache."""
    start = prompt.shape[1]
    for _ in range(NEW):
        with torch.no_grad():
            logits = model.run_with_hooks(prompt, fwd_hooks=fwd_hooks)
        prompt = torch.cat([prompt, logits[:, -1:].argmax(dim=-1)], dim=1)
    new = prompt[0, start:].tolist()
    new = new[: new.index(2)] if 2 in new else new
    return model.tokenizer.decode(new, skip_special_tokens=True), new


def checks(model, prompt, text, new, fwd_hooks):
    """Repetition, copied prompt, empty, NLL of the prompt."""
    grams = [tuple(new[i : i + 4]) for i in range(len(new) - 3)] or [tuple(new)]
    known = prompt[0].tolist()
    n = len(grams[0])
    there = {tuple(known[i : i + n]) for i in range(len(known) - n + 1)}
    loss = model.run_with_hooks(prompt, fwd_hooks=fwd_hooks, return_type="loss")
    return [
        1 - len(set(grams)) / len(grams),
        np.mean([gram in there for gram in grams]) if new else 0.0,
        float(not text.strip()),
        loss.item(),
    ]


def by_hand(model, folder, first, second, heads, gate):
    """Measures and checks of every prompt, from the first fact's side, ``[prompt, measure]``."""
    rows, changes = [], []
    templates = read_templates(folder)
    hooks = scale_all(heads, gate)
    for conflict in knowledge_conflicts(templates, first, second, "en", occupation_pairs(4)):
        prompt = model.to_tokens(conflict.prompt, prepend_bos=True)
        answers = [model.to_tokens(text, prepend_bos=False) for text in conflict.answers]
        with torch.no_grad():
            a, b = (float(log_prob(model, prompt, answer, hooks)) for answer in answers)
            logits = model.run_with_hooks(prompt, fwd_hooks=hooks)[0, -1]
        one, other = (int(answer[0, 0]) for answer in answers)
        changes.append(first_token_change(model, prompt, one, other, heads, gate))
        text, new = written(model, prompt, hooks)
        reply = unicodedata.normalize("NFC", text).casefold()
        at = [reply.find(text) if text in reply else len(reply) for text in conflict.answers]
        rows.append(
            [
                at[0] < at[1],
                at[1] < at[0],
                np.nan if one == other else float(logits[one] > logits[other]),
                a - b,
                *checks(model, prompt, text, new, hooks),
            ]
        )
    return np.array(rows), np.array(changes)


def deviation_over_occupations(change: np.ndarray) -> float:
    """Of the mean over prompts under all 256 ways to draw 4 occupations of 4."""
    of = dict(zip(occupation_pairs(4), change, strict=True))
    means = []
    for drawn in itertools.product(range(4), repeat=4):
        prompts = [of[a, b] for a in drawn for b in drawn if a != b]
        if np.isfinite(prompts).any():
            means.append(np.nanmean(prompts))
    return float(np.std(means))


MEASURES = ("answer_a", "answer_b", "first_token_a", "logprob_difference")
CHECKS = ("repetition", "prompt_copy", "empty", "prompt_nll")


def test_equals_the_bare_hooks_in_float64(zoo, exact_softmax, heads, folder):
    model = zoo.bridge("llama-gqa", torch.float64)
    found = run(model, heads, folder, pairs=[("en", "hi")], gates_enhance=(1.0, 3.0))
    single = [i for i, pair in enumerate(occupation_pairs(4)) if set(pair) == {0, 3}]
    moved = set()
    for order, text in (("A first", ("en", "hi")), ("A last", ("hi", "en"))):
        here = found.sel(a="en", b="hi", order=order)

        def measures(
            owner: str, gate: float, text: tuple = text, order: str = order
        ) -> tuple[np.ndarray, np.ndarray]:
            of = [tuple(head) for head in heads.specific[owner]]
            rows, changes = by_hand(model, folder, *text, of, gate)
            if order == "A first":
                return rows, changes
            turned = [rows[:, 1], rows[:, 0], 1 - rows[:, 2], -rows[:, 3], *rows[:, 4:].T]
            return np.stack(turned, 1), -changes

        before, none = measures("en", 1.0)
        np.testing.assert_allclose(none, 0, atol=1e-12)
        for setting, owner, gate in (("enhance 3", "en", 3.0), ("weaken 0", "hi", 0.0)):
            after, first = measures(owner, gate)
            change = after - before
            # An answer of one token is its first token.
            np.testing.assert_allclose(change[single, 3], first[single], rtol=1e-6, atol=1e-9)
            error = [deviation_over_occupations(column) for column in change.T]
            for m, name in enumerate([*MEASURES, *CHECKS]):
                at = here.sel(setting=setting)
                for part, expected in (
                    ("_before", np.nanmean(before[:, m])),
                    ("", np.nanmean(after[:, m])),
                    ("_change", np.nanmean(change[:, m])),
                ):
                    assert at[name + part].item() == pytest.approx(expected, rel=1e-6, abs=1e-12)
                se = at[f"{name}_change_se"].item()
                assert se == pytest.approx(error[m], rel=0.1, abs=1e-12)
                if change[:, m].any():
                    moved.add(name)
                assert here[f"{name}_change"].sel(setting="enhance 1").item() == 0
                assert here[f"{name}_change_low"].sel(setting="enhance 1").item() == 0
    # Otherwise there was nothing to compare.
    assert moved >= {*MEASURES, "prompt_nll"}
    assert found.shared_first_token.sel(a="en", b="hi").item() == 2
    for name in MEASURES:
        values = found[name].sel(a="en", b="hi")
        mean = values.sel(order=["A first", "A last"]).mean("order")
        np.testing.assert_allclose(values.sel(order="both"), mean, atol=1e-12)


def test_attention_is_the_sum_of_the_pattern(zoo, exact_softmax, heads, folder):
    model = zoo.bridge("llama-gqa", torch.float64)
    found = run(model, heads, folder, pairs=[("hi", "en")], max_new_tokens=1)
    templates = read_templates(folder)
    hi = [tuple(head) for head in heads.specific["hi"]]
    for order, text in (("A first", ("hi", "en")), ("A last", ("en", "hi"))):
        made = knowledge_conflicts(templates, *text, "en", occupation_pairs(4))
        for name, gate, fwd in (("before", 1.0, []), ("after", 3.0, scale_all(hi, 3.0))):
            masses = []
            for conflict in made:
                tokens = model.to_tokens(conflict.prompt, prepend_bos=True)
                # A token a byte, after BOS.
                ends = [
                    [1 + len(conflict.prompt[:end].encode()) for end in span]
                    for span in conflict.spans
                ]
                with model.hooks(fwd_hooks=fwd):
                    last = attention_pattern(model, tokens, 2, 1)[-1]
                masses.append([last[start:end].sum() for start, end in ends])
            expected = np.array(masses).mean(axis=0)
            expected = expected if order == "A first" else expected[::-1]
            at = {"a": "hi", "b": "en", "order": order, "layer": 2, "head": 1}
            at |= {"setting": f"enhance {gate:g}"} if name == "after" else {}
            np.testing.assert_allclose(found[f"attention_{name}"].sel(at), expected, rtol=1e-6)
            assert expected.min() > 0.01
    moved = (found.attention_after - found.attention_before).sel(
        setting="enhance 3", a="hi", b="en"
    )
    assert np.abs(moved.sel(layer=2)).max() > 0.01
    # In every layer from the first of theirs on, whether it has such heads or not.
    zh = run(model, heads, folder, pairs=[("en", "zh")], max_new_tokens=1)
    there = zh.attention_after.sel(a="en", b="zh", order="both", setting="enhance 3").notnull()
    assert there.all(["head", "fact"]).values.tolist() == [False, True, True]
    # A head of the first layer looks before any gate.
    assert np.abs(moved.sel(layer=0)).max() == 0
    assert not any(point.fwd_hooks for point in model.hook_dict.values())
    assert model.original_model.config._attn_implementation == "eager"


@pytest.mark.parametrize("name", ["llama-gqa", "cohere"])
def test_weakening_equals_weights_with_the_slice_zeroed(zoo, folder, name):
    """With plain Hugging Face: no hook at all."""
    model, network = zoo.bridge(name), hugging_face(name)
    shape = (model.cfg.n_layers, 4)
    off = HeadSet(["L1H2", "L0H1"], shape)
    heads = LanguageHeads({"en": off, "zh": HeadSet(["L1H0"], shape)}, HeadSet([], shape), "tiny")
    found = run(model, heads, folder, pairs=[("zh", "en")], orders=["A first"], max_new_tokens=1)

    def differences():
        values = []
        for conflict in knowledge_conflicts(
            read_templates(folder), "zh", "en", "en", occupation_pairs(4)
        ):
            total = []
            start = model.to_tokens(conflict.prompt, prepend_bos=True).shape[1]
            for answer in conflict.answers:
                tokens = model.to_tokens(conflict.prompt + answer, prepend_bos=True)
                with torch.no_grad():
                    log_probs = network(tokens).logits[0, start - 1 : -1].log_softmax(dim=-1)
                total.append(float(log_probs.gather(-1, tokens[0, start:, None]).sum()))
            values.append(total[0] - total[1])
        return np.array(values)

    before = differences()
    for layer, head in off:
        w_o(network, name, layer, head).zero_()
    change = differences() - before
    here = found.sel(a="zh", b="en", order="A first", setting="weaken 0")
    assert here.logprob_difference_change.item() == pytest.approx(change.mean(), abs=1e-5)
    assert np.abs(change).max() > 0.05


def test_random_sets_are_measured_as_the_chosen_one(zoo, heads, folder):
    """Each control is a run of its own with that set as A's heads."""
    model = zoo.bridge("llama-gqa")
    settings = {"orders": ["A first"], "max_new_tokens": 3, "gates_weaken": (), "n_controls": 3}
    found = run(model, heads, folder, pairs=[("hi", "en")], **settings)
    rng = np.random.default_rng(0)
    pool = random_sets({x: heads.specific[x] for x in found.a.values}, 3, rng)["hi"]
    here = found.sel(a="hi", b="en", order="A first", setting="enhance 3")
    for k, some in enumerate(pool):
        changed = LanguageHeads(heads.specific | {"hi": some}, heads.general, "tiny")
        alone = run(model, changed, folder, pairs=[("hi", "en")], **settings)
        alone = alone.sel(a="hi", b="en", order="A first", setting="enhance 3")
        for name in (*MEASURES, *CHECKS):
            assert here[f"{name}_control_change"].values[k] == pytest.approx(
                alone[f"{name}_change"].item(), rel=1e-4, nan_ok=True
            )
    sets = here.logprob_difference_control_change.values
    beyond = (sets >= here.logprob_difference_change.item()).sum()
    p = here.logprob_difference_control_p.item()
    assert p == pytest.approx((1 + beyond) / (1 + np.isfinite(sets).sum()))


def test_answers_in_the_facts_own_language_are_counted(zoo, heads, tmp_path):
    """The model writes words of the facts' languages, and none of the query's."""
    jobs = {
        "en": ["cook", "pilot", "tailor", "nurse"],
        "hi": ["d", "k", "r", "m"],
        "zh": ["g", "w", "kk", "qah"],
    }
    for language, sentences in SENTENCES.items():
        records = [sentences, {"filler": FILLER[language]}, {"name": "Ann"}]
        records += [{"job": job} for job in jobs[language]]
        lines = [json.dumps(record, ensure_ascii=False) for record in records]
        (tmp_path / f"{language}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    model = zoo.bridge("llama-gqa")
    found = run(model, heads, tmp_path, pairs=[("hi", "zh")]).sel(a="hi", b="zh")
    templates, every = read_templates(tmp_path), []
    for order, text in (("A first", ("hi", "zh")), ("A last", ("zh", "hi"))):
        made = knowledge_conflicts(templates, *text, "en", occupation_pairs(4))
        given = []
        for conflict, pair in zip(made, occupation_pairs(4), strict=True):
            reply, _ = written(model, model.to_tokens(conflict.prompt, prepend_bos=True), [])
            words = re.split("[^a-z0-9]+", reply.casefold())
            at = dict(zip(text, pair, strict=True))
            first = {x: (*words, jobs[x][i]).index(jobs[x][i]) for x, i in at.items()}
            given.append([first["hi"] < first["zh"], first["zh"] < first["hi"]])
            assert not set(jobs["en"]) & set(words)
        here = found.sel(order=order)
        counted = [here.answer_a_before.item(), here.answer_b_before.item()]
        assert counted == pytest.approx(np.mean(given, axis=0).tolist())
        every += given
    assert np.sum(every, axis=0).min() > 0
