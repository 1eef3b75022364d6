"""Task knock-out against a bare hook, against weights edited by hand, and one row at a time."""

import numpy as np
import pytest
import torch

from hooks.knockout import knock_out
from hooks.knockout_answer import knockout_answer
from langheads.heads import HeadSet
from langheads.model import head_shape, mean_z
from langheads.scores.answers import greedy_replies, tokenize_answers
from langheads.scores.task_knockout import _dataset, knockout_task
from langheads.text import QA_TEMPLATE, read_questions
from langheads.text.answers import f1
from tests.models.test_generation import by_hugging_face
from tests.models.zoo import EOS, hugging_face, w_o

# Of different length, so that batches are padded.
QUESTIONS = {
    "en": [
        {"id": 1, "context": "Ann drinks tea.", "question": "What?", "answers": ["tea", "a tea"]},
        {"id": 2, "context": "Bob has a small red cat.", "question": "Who?", "answers": ["Bob"]},
        {"id": 3, "context": "It is late.", "question": "When?", "answers": ["late at night"]},
    ],
    "hi": [
        {"id": 3, "context": "देर हो गई।", "question": "कब?", "answers": ["देर"]},
        {"id": 1, "context": "ऐन चाय पीती है।", "question": "क्या?", "answers": ["चाय"]},
        {"id": 2, "context": "बॉब की बिल्ली है।", "question": "कौन?", "answers": ["बॉब"]},
    ],
}


def records(questions):
    return {
        language: [questions.examples[language][i] for i in range(len(questions.ids))]
        for language in questions.examples
    }


@pytest.mark.parametrize("batch_tokens", [1, 4096])
def test_equals_the_bare_hook_in_float64(zoo, exact_softmax, batch_tokens):
    model = zoo.bridge("llama-gqa", torch.float64)
    found = knockout_task(
        model, QUESTIONS, measure="answer-logprob", baseline=("zero", "mean"),
        batch_tokens=batch_tokens, bos=True,
    )  # fmt: skip
    shape = head_shape(model)
    asked = records(read_questions(QUESTIONS))
    whole = {
        language: [model.to_tokens(q.with_answer(), prepend_bos=True)[0] for q in of]
        for language, of in asked.items()
    }
    mean = (mean_z(model, whole["en"]) + mean_z(model, whole["hi"])) / 2
    for language, of in asked.items():
        for question in of:
            prompt = model.to_tokens(question.prompt(), prepend_bos=True)
            answer = model.to_tokens(" " + question.answers[0], prepend_bos=False)
            at = {"language": language, "example": question.id}
            measured = found.example_delta_answer_logprob.sel(at)
            expected = knockout_answer(model, prompt, answer, *shape).numpy()
            # float32 on file.
            np.testing.assert_allclose(measured.sel(baseline="zero"), expected, rtol=2e-7)
            assert np.abs(expected).max() > 0.1
    # One head will do: the mean is what differs.
    question = asked["hi"][0]
    prompt = model.to_tokens(question.prompt(), prepend_bos=True)
    answer = model.to_tokens(" " + question.answers[0], prepend_bos=False)
    at = {"language": "hi", "example": question.id, "baseline": "mean", "layer": 2, "head": 1}
    by_mean = knockout_answer(model, prompt, answer, *shape, mean[2, 1])[2, 1].item()
    assert found.example_delta_answer_logprob.sel(at).item() == pytest.approx(by_mean, rel=1e-6)


@pytest.mark.parametrize("name", ["llama-gqa", "cohere"])
def test_equals_weights_with_the_slice_zeroed(zoo, name):
    """Probabilities and replies, with plain Hugging Face and one example at a time."""
    model, network = zoo.bridge(name), hugging_face(name)
    heads = ["L1H2", "L0H3"]
    found = knockout_task(model, QUESTIONS, measure=("answer-logprob", "f1"), heads=heads, bos=True)
    changed = set()

    def scores(question, language):
        text = model.to_tokens(question.with_answer(), prepend_bos=True)[0]
        prompt = model.to_tokens(question.prompt(), prepend_bos=True)[0]
        with torch.no_grad():
            log_probs = network(text[None]).logits[0, len(prompt) - 1 : -1].log_softmax(dim=-1)
        (new,) = by_hugging_face(network, [prompt], n=10)
        written = model.tokenizer.decode(new, skip_special_tokens=True).split("\n")[0].strip()
        changed.add(written)
        return (
            float(log_probs.gather(-1, text[len(prompt) :, None]).sum()),
            max(f1(written, answer, language) for answer in question.answers),
        )

    for language, of in records(read_questions(QUESTIONS)).items():
        on = np.array([scores(question, language) for question in of])
        assert found.answer_logprob.sel(language=language).item() == pytest.approx(
            on[:, 0].mean(), rel=1e-5
        )
        assert found.f1.sel(language=language).item() == pytest.approx(on[:, 1].mean())
        for layer, head in [(1, 2), (0, 3)]:
            part = w_o(network, name, layer, head)
            before = part.clone()
            part.zero_()
            off = np.array([scores(question, language) for question in of])
            part.copy_(before)
            at = {"baseline": "zero", "language": language, "layer": layer, "head": head}
            drop = off - on
            for k, key in enumerate(("answer_logprob", "f1")):
                np.testing.assert_allclose(
                    found[f"example_delta_{key}"].sel(at), drop[:, k], rtol=1e-4, atol=1e-4
                )
                assert found[f"delta_{key}"].sel(at).item() == pytest.approx(
                    drop[:, k].mean(), abs=1e-4
                )
                assert found[f"delta_{key}_se"].sel(at).item() == pytest.approx(
                    drop[:, k].std(ddof=1) / np.sqrt(3), abs=1e-4
                )
    # Otherwise every reply would be as good as any other.
    assert len(changed) > 6
    assert np.isfinite(found.delta_f1).sum() == 2 * 2


@pytest.mark.parametrize("name", ["llama-gqa", "mistral-window"])
def test_replies_do_not_depend_on_the_batch(zoo, name):
    """Padded rows under gates of their own are the rows one by one; both are plain generation."""
    model, network = zoo.bridge(name), hugging_face(name)
    asked = read_questions(QUESTIONS)
    asked, answers = tokenize_answers(
        model, asked, template=QA_TEMPLATE, max_tokens=200, max_new_tokens=8, bos=True
    )
    heads = HeadSet(["L1H1", "L0H0", "L1H3"], head_shape(model))
    together, alone = (
        greedy_replies(model, answers["hi"], heads, max_new_tokens=8, batch_tokens=n)
        for n in (4096, 1)
    )
    assert together == alone
    assert len(together) == 4
    assert len({reply for replies in together for reply in replies}) > 3
    for k, head in enumerate([None, *heads]):
        if head is not None:
            part = w_o(network, name, *head)
            before = part.clone()
            part.zero_()
        new = by_hugging_face(network, list(answers["hi"].prompts.tokens), n=8)
        if head is not None:
            part.copy_(before)
        plain = [model.tokenizer.decode(row, skip_special_tokens=True) for row in new]
        assert [text.split("\n")[0].strip() for text in plain] == together[k]


def test_replies_under_the_mean_are_those_of_a_bare_loop(zoo):
    model = zoo.bridge("llama-gqa")
    asked = read_questions(QUESTIONS, languages=["en"])
    asked, answers = tokenize_answers(
        model, asked, template=QA_TEMPLATE, max_tokens=200, max_new_tokens=6, bos=True
    )
    prompts = answers["en"].prompts.tokens
    mean = 3 * mean_z(model, prompts)
    heads = HeadSet(["L1H1", "L2H0"], head_shape(model))
    found = greedy_replies(model, answers["en"], heads, max_new_tokens=6, baseline=mean)
    for replies, (layer, head) in zip(found[1:], heads, strict=True):
        for reply, prompt in zip(replies, prompts, strict=True):
            tokens = prompt[None]
            hook = (f"blocks.{layer}.attn.hook_z", knock_out(head, mean[layer, head]))
            for _ in range(6):
                with torch.no_grad():
                    logits = model.run_with_hooks(tokens, fwd_hooks=[hook])
                tokens = torch.cat([tokens, logits[:, -1:].argmax(dim=-1)], dim=1)
            new = tokens[0, len(prompt) :].tolist()
            new = new[: new.index(EOS)] if EOS in new else new
            written = model.tokenizer.decode(new, skip_special_tokens=True)
            assert reply == written.split("\n")[0].strip()
    assert found[1] != found[0]


def test_standard_error_counts_contexts_and_not_their_questions():
    """Every context with four questions of the same change: the error of the contexts."""
    rng = np.random.default_rng(0)
    change = rng.normal(size=12)
    records = [
        {"id": i, "context": f"text {i // 4}", "question": "?", "answers": ["!"]} for i in range(48)
    ]
    asked = read_questions({"en": records})
    of_context = [int(question.context.split()[1]) for question in asked.examples["en"]]
    differences = change[of_context].reshape(1, 1, 48, 1, 1)
    found = _dataset({"f1": np.zeros(1)}, {"f1": differences}, ["zero"], asked, {})
    expected = change.std(ddof=1) / np.sqrt(12)
    assert float(found.delta_f1_se.squeeze()) == pytest.approx(expected)
