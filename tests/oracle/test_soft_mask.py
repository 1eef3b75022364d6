"""Soft head mask against a bare hook, a finite difference, AdamW by hand, and weights by hand."""

import numpy as np
import pytest
import torch

import langheads
from hooks.soft_mask import learn_gate, loss_and_gradient
from langheads.experiments.softmask import training
from langheads.heads import HeadSet
from langheads.model import head_shape, mean_z
from langheads.scores.answers import tokenize_answers
from langheads.text import QA_TEMPLATE, read_questions
from tests.models.zoo import hugging_face, w_o

# Of different length, two on one context.
QUESTIONS = {
    "hi": [
        {"id": n, "context": context, "question": question, "answers": [answer]}
        for n, (context, question, answer) in enumerate(
            [
                ("Ann drinks tea.", "What?", "tea"),
                ("Ann drinks tea.", "Who drinks tea?", "Ann"),
                ("देर हो गई।", "कब?", "देर"),
                ("It is late at night.", "When?", "late at night"),
                ("बॉब की बिल्ली है।", "कौन?", "बॉब"),
                ("Rain.", "?", "rain"),
            ]
        )
    ]
}
HEADS = ["L1H2", "L0H3", "L2H0"]


def encoded(model, question):
    """Prompt and answer ``[1, pos]``; a token a byte, so nothing is merged."""
    prompt = model.to_tokens(question.prompt(), prepend_bos=True)
    return prompt, model.to_tokens(" " + question.answers[0], prepend_bos=False)


@pytest.mark.parametrize("batch_tokens", [1, 4096])
def test_a_gradient_is_the_bare_hooks_in_float64(zoo, exact_softmax, batch_tokens):
    model = zoo.bridge("llama-gqa", torch.float64)
    asked, answers = tokenize_answers(
        model, read_questions(QUESTIONS), template=QA_TEMPLATE, max_tokens=200, max_new_tokens=0,
        bos=True,
    )  # fmt: skip
    heads = HeadSet(HEADS, head_shape(model))
    values = torch.ones(3, dtype=torch.float64)
    loss, gradient = training.loss_and_gradient(
        model, values, heads, answers["hi"], batch_tokens=batch_tokens
    )
    sizes, losses, slopes = [], [], []
    for question in asked.examples["hi"]:
        prompt, answer = encoded(model, question)
        found = [loss_and_gradient(model, prompt, answer, *head, 1.0) for head in heads]
        sizes.append(answer.shape[1])
        losses.append(found[0][0])
        slopes.append([slope for _, slope in found])
    # Sum over all answer tokens by their number, not a mean of means.
    assert loss == pytest.approx(np.average(losses, weights=sizes), rel=1e-10)
    # Norms round to float32 on the way back, a sum's gradient unlike a mean's.
    np.testing.assert_allclose(gradient, np.average(slopes, axis=0, weights=sizes), rtol=1e-6)
    assert gradient.abs().min() > 1e-4
    # The identity: a finite difference of the loss.
    for k in range(3):
        step = torch.zeros(3, dtype=torch.float64)
        step[k] = 1e-3
        up, down = (
            training.loss_and_gradient(model, values + s, heads, answers["hi"])[0]
            for s in (step, -step)
        )
        assert (up - down) / 2e-3 == pytest.approx(gradient[k].item(), rel=1e-3)


def test_adapt_is_adamw_on_the_bare_hooks_gradient(zoo):
    """One head, one question: the learned gate step by step, with torch's own AdamW."""
    model = zoo.bridge("llama-gqa")
    some = {"hi": QUESTIONS["hi"][:3]}
    common = {"language": "hi", "train": 1, "validation": 0.0, "batch_size": 1, "bos": True}
    mask = langheads.adapt(model, ["L1H2"], some, epochs=4, learning_rate=0.1, **common)
    asked = read_questions(some, seed=0).examples["hi"]
    prompt, answer = encoded(model, asked[0])
    m = torch.ones(1, requires_grad=True)
    optimizer = torch.optim.AdamW([m], lr=0.1)  # torch's default weight decay is adapt's
    losses = []
    for _ in range(4):
        loss, slope = loss_and_gradient(model, prompt, answer, 1, 2, m.item())
        losses.append(loss)
        m.grad = torch.tensor([slope])
        optimizer.step()
    assert mask.values[0] == pytest.approx(m.item(), abs=1e-5)
    assert mask.losses["train"] == pytest.approx(losses, rel=1e-5)
    assert abs(mask.values[0] - 1) > 0.2
    # Another learning rule goes the same way.
    gate, bare = learn_gate(model, prompt, answer, 1, 2, steps=5, learning_rate=0.05)
    assert (gate - 1) * (mask.values[0] - 1) > 0
    assert bare[-1] < bare[0]
    assert mask.losses["train"][-1] < mask.losses["train"][0]


def test_a_batch_is_one_step_whatever_the_token_budget(zoo):
    model = zoo.bridge("llama-gqa")
    common = {"language": "hi", "train": 4, "validation": 0.0, "batch_size": 3, "bos": True}
    by_ones, together = (
        langheads.adapt(model, HEADS, QUESTIONS, batch_tokens=n, **common) for n in (1, 4096)
    )
    # Batches of 3 and 1 questions, twice.
    assert len(together.losses["train"]) == together.settings["steps"] == 4
    assert by_ones.losses["train"] == pytest.approx(together.losses["train"], rel=1e-5)
    assert by_ones.values == pytest.approx(together.values, abs=1e-4)


def test_a_mask_is_scaled_slices_of_w_o(zoo):
    """Answer NLL, replies and logits under a mask, with plain Hugging Face and scaled weights."""
    model, network = zoo.bridge("cohere"), hugging_face("cohere")
    mask = langheads.adapt(
        model, ["L1H2", "L0H3"], QUESTIONS, language="hi", train=2, epochs=3, learning_rate=0.3,
        validation=0.0, batch_size=1, bos=True,
    )  # fmt: skip
    found = langheads.evaluate_qa(
        model, QUESTIONS, language="hi", gates=mask, n_controls=0, bos=True
    )
    asked = {question.id: question for question in read_questions(QUESTIONS).examples["hi"]}

    def scores(question):
        prompt, answer = encoded(model, question)
        text = torch.cat([prompt, answer], dim=1)
        with torch.no_grad():
            log_probs = network(text).logits[0, prompt.shape[1] - 1 : -1].log_softmax(dim=-1)
            written = network.generate(
                prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=10,
                do_sample=False, pad_token_id=0,
            )[0, prompt.shape[1] :]  # fmt: skip
        reply = model.tokenizer.decode(written, skip_special_tokens=True)
        return -log_probs.gather(-1, answer[0, :, None]).sum().item(), reply.rstrip("�")

    before = [scores(asked[id]) for id in found.example.values.tolist()]
    for (layer, head), value in zip(mask.heads, mask.values, strict=True):
        w_o(network, "cohere", layer, head).mul_(value)
    after = [scores(asked[id]) for id in found.example.values.tolist()]
    for condition, expected in (("untouched", before), ("mask", after)):
        of = found.sel(condition=condition)
        np.testing.assert_allclose(of.example_answer_nll, [nll for nll, _ in expected], rtol=1e-4)
        texts = [text.rstrip("�") for text in of.reply.values.tolist()]
        assert texts == [text.replace("\0", "�") for _, text in expected]
        assert of.answer_nll.item() == pytest.approx(np.mean([nll for nll, _ in expected]))
    shift = np.mean([a - b for (a, _), (b, _) in zip(after, before, strict=True)])
    assert found.delta_answer_nll.sel(condition="mask").item() == pytest.approx(shift, rel=1e-3)
    assert abs(shift) > 0.01


def test_a_baseline_reaches_the_loss(zoo, exact_softmax):
    """Gate 0 on the mean: the loss of a model whose head says its mean."""
    model = zoo.bridge("llama-gqa", torch.float64)
    _, answers = tokenize_answers(
        model, read_questions(QUESTIONS).front(1), template=QA_TEMPLATE, max_tokens=200,
        max_new_tokens=0, bos=True,
    )  # fmt: skip
    (text,) = answers["hi"].texts.tokens
    mean = mean_z(model, [text])
    heads = HeadSet(["L1H2"], head_shape(model))
    zero = torch.zeros(1, dtype=torch.float64)
    under_mean, _ = training.loss_and_gradient(model, zero, heads, answers["hi"], mean)
    under_zero, _ = training.loss_and_gradient(model, zero, heads, answers["hi"])

    def hook_fn(z, hook):
        z = z.clone()
        z[:, :, 2] = mean[1, 2]
        return z

    with torch.no_grad():
        logits = model.run_with_hooks(
            text[None], fwd_hooks=[("blocks.1.attn.hook_z", hook_fn)]
        )[0]  # fmt: skip
    start = int(answers["hi"].starts[0])
    log_probs = logits[start - 1 : -1].log_softmax(dim=-1)
    expected = -log_probs.gather(-1, text[start:, None]).mean().item()
    assert under_mean == pytest.approx(expected, rel=1e-9)
    assert abs(under_mean - under_zero) > 1e-3
