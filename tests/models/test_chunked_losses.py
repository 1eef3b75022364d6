"""Losses in chunks: those of whole logits, values and gradients, and whole where they must be."""

import pytest
import torch

from langheads.model import chunked_losses as chunks
from langheads.model import document_nll, gated, head_shape
from langheads.model.chunked_losses import chunked_losses
from langheads.model.nll import token_nll
from langheads.model.replay import captured_block_inputs, starting_at
from langheads.model.state import frozen
from tests.models.zoo import NAMES, VOCAB, pad, tokens_of


@pytest.fixture
def small_chunks(monkeypatch):
    """Of 11 positions, and softmaxes of four, so that batches have some of each and a part."""
    monkeypatch.setattr(chunks, "_CHUNK_BYTES", {"cpu": 11 * VOCAB * 4})
    monkeypatch.setattr(chunks, "_SOFTMAX_BYTES", {"cpu": 4 * VOCAB * 4})
    monkeypatch.setattr(chunks, "_WHOLE_BYTES", 0)


@pytest.fixture
def seen(monkeypatch):
    """How many positions each unembedding took, and whether it added a bias."""
    seen = []
    linear = torch.nn.functional.linear

    def watched(given, weight, bias=None):
        if weight.shape[0] == VOCAB:
            seen.append((given.shape[:-1].numel(), bias is not None))
        return linear(given, weight, bias)

    monkeypatch.setattr(torch.nn.functional, "linear", watched)
    return seen


def whole_nll(model, tokens, real):
    """From all logits by another route: a log-softmax in float64, picked one token at a time."""
    log_p = model(tokens)[:, :-1].double().log_softmax(dim=-1)
    nll = -log_p.gather(2, tokens[:, 1:, None])[..., 0]
    return nll * real[:, 1:]


@pytest.mark.parametrize("name", NAMES)
def test_losses_and_gate_gradients_are_those_of_whole_logits(zoo, name, small_chunks, seen):
    model = zoo.fresh(name)
    tokens, real = pad(tokens_of(model))
    generator = torch.Generator().manual_seed(0)
    gates = torch.rand(len(tokens), *head_shape(model), generator=generator).requires_grad_()
    of_row = torch.rand(len(tokens), generator=generator)
    with frozen(model), gated(model, gates):
        expected = whole_nll(model, tokens, real)
        (slope,) = torch.autograd.grad((of_row * expected.sum(dim=1)).sum(), gates)
        with chunked_losses(model) as chunked:
            assert chunked
            found = token_nll(model, tokens, real.sum(dim=1))
        (gradient,) = torch.autograd.grad((of_row * found.sum(dim=1)).sum(), gates)
        with chunked_losses(model), torch.no_grad():
            seen.clear()
            without_gradient = token_nll(model, tokens, real.sum(dim=1))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(without_gradient, found)
    size = slope.abs().amax(dim=(1, 2), keepdim=True)
    assert (size > 1e-3).all()
    assert ((gradient - slope).abs() <= 1e-4 * size).all()
    # What is predicted and nothing else, eleven at a time, and no bias of zeros.
    counted = int(real[:, 1:].sum())
    assert seen == [(0, True), *[(11, False)] * (counted // 11), (counted % 11, False)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_how_much_is_had_at_once(zoo, dtype, seen, monkeypatch):
    """Logits in the model's numbers, softmaxes in float32; one row each, however small the room."""
    model, softmaxes = zoo.bridge("llama-gqa", dtype), []
    softmax = chunks.F.log_softmax
    monkeypatch.setattr(
        chunks.F, "log_softmax", lambda x, dim: softmaxes.append(len(x)) or softmax(x, dim=dim)
    )
    hidden, targets = torch.randn(23, 32, dtype=dtype), torch.arange(23)
    monkeypatch.setattr(chunks, "_WHOLE_BYTES", 0)
    with torch.no_grad(), chunked_losses(model):
        for products, of_each in ((11, 4), (11, 1), (1, 1)):
            size = of_each * VOCAB * 4 if of_each > 1 else 1
            room = products * VOCAB * dtype.itemsize if products > 1 else 1
            monkeypatch.setattr(chunks, "_CHUNK_BYTES", {"cpu": room})
            monkeypatch.setattr(chunks, "_SOFTMAX_BYTES", {"cpu": size})
            seen.clear()
            softmaxes.clear()
            chunks.nll_of_rows(model, hidden, targets)
            parts = [11, 11, 1] if products > 1 else [1] * 23
            assert seen == [(part, False) for part in parts]
            assert softmaxes == ([4, 4, 3, 4, 4, 3, 1] if of_each > 1 else [1] * 23)
        # All at once where they are few.
        for more, whole in ((1, True), (0, True), (-1, False)):
            monkeypatch.setattr(chunks, "_WHOLE_BYTES", 23 * VOCAB * 4 + more)
            seen.clear()
            chunks.nll_of_rows(model, hidden, targets)
            assert len(seen) == (1 if whole else 23)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_losses_and_gradients_may_differ_as_the_numbers_round(zoo, dtype, monkeypatch):
    """By a thousand times the precision, in 16 bits by a twentieth."""
    limit = min(1000 * torch.finfo(dtype).eps, 0.05)
    apply = chunks._ChunkedNLL.apply
    for times, close in ((0.8, True), (1.2, False)):
        monkeypatch.setattr(
            chunks._ChunkedNLL, "apply", lambda *of, by=1 + times * limit: apply(*of) * by
        )
        with chunked_losses(zoo.fresh("llama-gqa", dtype)) as chunked:
            assert chunked == close


def test_losses_are_cut_inside_the_block_and_where_no_weight_collects_a_gradient(zoo):
    model = zoo.fresh("llama-gqa")
    assert not chunks.in_chunks(model)
    with torch.no_grad(), chunked_losses(model):
        with chunked_losses(model):
            assert chunks.in_chunks(model)
        assert chunks.in_chunks(model)
        with torch.enable_grad():
            assert not chunks.in_chunks(model)
            with frozen(model):
                assert chunks.in_chunks(model)
    assert not chunks.in_chunks(model)


def test_replayed_losses_are_those_of_whole_forwards_to_the_bit(zoo, small_chunks):
    model = zoo.bridge("cohere")
    tokens, real = pad(tokens_of(model))
    lengths, starts = real.sum(dim=1), torch.tensor([1, 2, 5, 1, 3])
    gates = torch.ones(len(tokens), *head_shape(model))
    gates[torch.arange(len(tokens)), 1, torch.arange(len(tokens)) % 4] = 0.0
    with torch.no_grad(), chunked_losses(model):
        with captured_block_inputs(model) as inputs:
            token_nll(model, tokens, lengths)
        with gated(model, gates):
            full = document_nll(model, tokens, lengths, starts)
        with starting_at(model, inputs, 1), gated(model, gates, first_layer=1):
            assert torch.equal(document_nll(model, tokens, lengths, starts), full)
        with gated(model, gates):
            each = whole_nll(model, tokens, real)
    expected = [float(row[start - 1 :].sum()) for row, start in zip(each, starts, strict=True)]
    torch.testing.assert_close(full.double(), torch.tensor(expected).double(), rtol=1e-5, atol=0)


def test_a_bias_that_is_not_zero_is_added(zoo, small_chunks):
    model = zoo.fresh("llama-gqa")
    tokens, real = pad(tokens_of(model))
    bias = 3 * torch.randn(VOCAB, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), chunked_losses(model):
        without = token_nll(model, tokens, real.sum(dim=1))
        model.unembed.original_component.bias.copy_(bias)
        found = token_nll(model, tokens, real.sum(dim=1))
        logits = model(tokens)
    assert torch.equal(model.b_U, bias)
    assert (found - without).abs().max() > 1
    expected = whole_nll(model, tokens, real)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
    assert logits.shape == (*tokens.shape, VOCAB)


def test_a_hook_on_the_unembedding_sees_the_logits_of_all_positions(zoo):
    model = zoo.bridge("gemma2")
    tokens, real = pad(tokens_of(model))
    shapes = []

    def halve(logits, hook):
        shapes.append(logits.shape)
        return 0.5 * logits

    with torch.no_grad(), chunked_losses(model):
        without = token_nll(model, tokens, real.sum(dim=1))
        with model.hooks(fwd_hooks=[("unembed.hook_out", halve)]):
            found = token_nll(model, tokens, real.sum(dim=1))
            expected = whole_nll(model, tokens, real)
        assert torch.equal(token_nll(model, tokens, real.sum(dim=1)), without)
    assert shapes == [(*tokens.shape, VOCAB)] * 2
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
    assert (found - without).abs().max() > 0.1


@pytest.mark.parametrize("where", ["bridge", "network", "decoder"])
def test_a_hook_of_torch_on_all_positions_sees_them_all(zoo, where):
    model = zoo.fresh("llama-gqa")
    tokens, real = pad(tokens_of(model))
    network = model.original_model
    of = {"bridge": model, "network": network, "decoder": network.get_decoder()}[where]

    def double_the_third(module, given, output):
        # A bridge returns logits where they are asked for, the network what they stand in.
        values = getattr(output, {"network": "logits"}.get(where, "last_hidden_state"), output)
        with torch.no_grad():
            values[:, 2] *= 2

    with torch.no_grad(), chunked_losses(model):
        without = token_nll(model, tokens, real.sum(dim=1))
        hook = of.register_forward_hook(double_the_third)
        found = token_nll(model, tokens, real.sum(dim=1))
        expected = whole_nll(model, tokens, real)
        hook.remove()
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
    changed = (found - without).abs().amax(dim=0) > 1e-3
    assert changed.tolist() == [at == 2 for at in range(found.shape[1])]


def test_a_hook_on_gradients_of_logits_sees_those_of_all_positions(zoo):
    model = zoo.fresh("llama-gqa")
    tokens, real = pad(tokens_of(model))
    gates, seen = torch.ones(head_shape(model), requires_grad=True), []
    see = [("unembed.hook_out", lambda gradient, hook: seen.append(gradient.shape))]
    with frozen(model), chunked_losses(model), gated(model, gates), model.hooks(bwd_hooks=see):
        token_nll(model, tokens, real.sum(dim=1)).sum().backward()
    assert seen == [(*tokens.shape, VOCAB)]


def test_weights_that_want_a_gradient_get_that_of_whole_logits(zoo):
    model = zoo.fresh("qwen2")
    weight = model.unembed.original_component.weight
    tokens, real = pad(tokens_of(model))
    (expected,) = torch.autograd.grad(whole_nll(model, tokens, real).sum(), weight)
    with chunked_losses(model):
        nll = token_nll(model, tokens, real.sum(dim=1))
    (found,) = torch.autograd.grad(nll.sum(), weight)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("what", ["logits that depend on other positions", "no decoder"])
def test_where_chunks_differ_or_fail_logits_stay_whole_and_the_log_says_why(
    zoo, what, monkeypatch, caplog
):
    model = zoo.fresh("llama-gqa")
    tokens, real = pad(tokens_of(model))
    network = model.original_model
    if what == "no decoder":
        said = "losses are taken from whole logits: there is none"

        def none():
            raise AttributeError("there is none")

        monkeypatch.setattr(network, "get_decoder", none)
    else:
        said = "losses are taken from whole logits: those of single positions differ"
        forward = network.forward

        def centred(*args, **kwargs):
            output = forward(*args, **kwargs)
            if output.logits.shape[1]:
                output.logits = output.logits - 0.1 * output.logits.mean(dim=1, keepdim=True)
            return output

        monkeypatch.setattr(network, "forward", centred)
    with torch.no_grad(), caplog.at_level("INFO", "langheads"):
        for _ in range(2):
            with chunked_losses(model) as chunked:
                assert not chunked
                found = token_nll(model, tokens, real.sum(dim=1))
        expected = whole_nll(model, tokens, real)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
    assert [record.getMessage() for record in caplog.records] == [said]


def test_the_check_is_made_without_the_gates_that_stand(zoo):
    model = zoo.fresh("cohere")
    tokens, real = pad(tokens_of(model))
    gates = torch.zeros(len(tokens), *head_shape(model))
    with torch.no_grad(), gated(model, gates):
        with chunked_losses(model) as chunked:
            assert chunked
            found = token_nll(model, tokens, real.sum(dim=1))
        expected = whole_nll(model, tokens, real)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


def test_bfloat16_losses_are_summed_in_float32(zoo, small_chunks):
    model = zoo.bridge("cohere", torch.bfloat16)
    tokens, real = pad(tokens_of(model))
    with torch.no_grad():
        expected = whole_nll(model, tokens, real)
        with chunked_losses(model) as chunked:
            assert chunked
            found = token_nll(model, tokens, real.sum(dim=1))
    assert found.dtype == torch.float32
    # Of the same logits, rounded to bfloat16 after products of another size.
    torch.testing.assert_close(found.double(), expected, rtol=0.02, atol=0.05)
