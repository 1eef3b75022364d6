"""The specificity matrix against the bare hook, a text at a time."""

import numpy as np
import pytest
import torch

from hooks.ablate import ablate as bare_rise
from hooks.mean_baseline import mean_z
from langheads.experiments.specificity.experiment import ablate
from langheads.heads import HeadSet, LanguageHeads
from langheads.model import head_shape
from langheads.text import read_texts
from tests.models.zoo import BOS, hugging_face, tokens_of, w_o
from tests.oracle.texts import TEXTS

NAME, SHAPE = "llama-gqa", (3, 4)
ROWS = {"en": ["L0H1", "L2H3"], "zh": ["L1H0"], "hi": ["L1H2", "L1H3", "L2H0"]}
GENERAL = ["L0H0"]
pytestmark = pytest.mark.usefixtures("exact_softmax")


@pytest.fixture(scope="module")
def model(zoo, exact_softmax):
    return zoo.bridge(NAME, torch.float64)


@pytest.fixture(scope="module")
def proof(model):
    heads = LanguageHeads(
        {language: HeadSet(names, SHAPE) for language, names in ROWS.items()},
        HeadSet(GENERAL, SHAPE),
        model="tiny",
    )
    return ablate(model, heads, TEXTS, docs=3, n_controls=2, seed=0, batch_tokens=500)


@pytest.fixture(scope="module")
def corpus():
    return read_texts(TEXTS, seed=0)


def rise(model, texts, heads, baseline=None):
    """Over several texts: the sum of the rises over the sum of the bytes."""
    n_bytes = [len(text.encode()) for text in texts]
    rises = [bare_rise(model, text, heads, baseline) for text in texts]
    return sum(r * b for r, b in zip(rises, n_bytes, strict=True)) / sum(n_bytes)


def test_rises_are_those_of_the_bare_hook(model, proof, corpus):
    assert head_shape(model) == SHAPE
    # The reference of mean ablation: documents outside the proof, languages with equal weight.
    reference = {
        (layer, head): torch.stack(
            [
                mean_z(model, tokens_of(model, texts[:3]), layer, head)
                for texts in corpus.texts.values()
            ]
        ).mean(dim=0)
        for layer in range(SHAPE[0])
        for head in range(SHAPE[1])
    }
    for row, names in (ROWS | {"general": GENERAL}).items():
        heads = [tuple(head) for head in HeadSet(names, SHAPE)]
        for language, texts in corpus.back(3).items():
            for baseline, values in (("zero", None), ("mean", reference)):
                cell = proof.delta_nats_per_byte.sel(
                    baseline=baseline, heads_of=row, text_of=language
                )
                expected = rise(model, texts, heads, values)
                assert abs(expected) > 1e-4
                np.testing.assert_allclose(cell, expected, rtol=1e-7)
    zero, mean = (
        proof.delta_nats_per_byte.sel(baseline="zero"),
        proof.delta_nats_per_byte.sel(baseline="mean"),
    )
    assert (np.abs(zero - mean) > 1e-4).all()


def test_rises_are_those_of_zeroed_weights(proof, corpus):
    network = hugging_face(NAME, torch.float64)

    def nll(texts):
        total, predicted = 0.0, 0
        for text in texts:
            tokens = torch.tensor([BOS, *byte_tokens(text)])
            with torch.no_grad():
                log_p = network(tokens[None]).logits[0, :-1].log_softmax(dim=-1)
            total -= log_p[range(len(tokens) - 1), tokens[1:]].sum().item()
            predicted += len(tokens) - 1
        return total, predicted

    on = {language: nll(texts) for language, texts in corpus.back(3).items()}
    for layer, head in HeadSet(ROWS["hi"], SHAPE):
        w_o(network, NAME, layer, head).zero_()
    for language, texts in corpus.back(3).items():
        off, predicted = nll(texts)
        n_bytes = sum(len(text.encode()) for text in texts)
        here = proof.sel(text_of=language)
        cell = here.sel(heads_of="hi", baseline="zero")
        np.testing.assert_allclose(
            cell.delta_nats_per_byte, (off - on[language][0]) / n_bytes, rtol=1e-6
        )
        np.testing.assert_allclose(cell.perplexity_off, np.exp(off / predicted), rtol=1e-7)
        np.testing.assert_allclose(here.perplexity, np.exp(on[language][0] / predicted), rtol=1e-7)
        np.testing.assert_allclose(here.nats_per_byte, on[language][0] / n_bytes, rtol=1e-7)


def byte_tokens(text):
    """The byte-level tokenizer by hand: bytes in the order of their printable stand-ins."""
    from tokenizers.pre_tokenizers import ByteLevel

    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    stand_in = {byte: chr(byte) for byte in printable}
    stand_in |= {byte: chr(256 + i) for i, byte in enumerate(others)}
    rank = {character: i + 3 for i, character in enumerate(sorted(ByteLevel.alphabet()))}
    return [rank[stand_in[byte]] for byte in text.encode()]
