"""The model is left as it was found, and an intervention that did not happen is an error."""

import sys
import threading
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from langheads.heads import HeadSet
from langheads.io.errors import InputError, InterventionError, NonFiniteError, ProvenanceError
from langheads.model import (
    captured_block_inputs,
    decode,
    document_nll,
    gated,
    head_shape,
    map_documents,
    mean_z,
    starting_at,
)
from langheads.model.attention_patterns import head_patterns
from langheads.model.hook_z import again, computing_again, on_every_hook_z
from langheads.model.logit_attribution import readout
from langheads.model.state import modules_of
from langheads.scores.gradient import gate_gradients, lahis_sequential
from tests.models.test_losses import documents_of
from tests.models.zoo import NAMES, hugging_face, pad, tokens_of

module = sys.modules["langheads.model.hook_z"]


def state(model):
    """Everything that a measurement could leave behind."""
    return {
        "hooks": {n: (list(p.fwd_hooks), list(p.bwd_hooks)) for n, p in model.hook_dict.items()},
        "context_level": getattr(model, "context_level", 0),
        "requires_grad": [p.requires_grad for p in model.original_model.parameters()],
        "gradients": [p.grad for p in model.original_model.parameters()],
        "training": [module.training for module in model.modules()],
        "attention": model.original_model.config._attn_implementation,
        "forward": ["forward" in vars(module) for module in model.modules()],
        "grad_mode": torch.is_grad_enabled(),
        "tokenizer": (model.tokenizer.padding_side, model.tokenizer.backend_tokenizer.to_str()),
    }


def measurements(model, documents):
    tokens, _ = pad(documents.tokens)

    def under_gates():
        with gated(model, ["L0H1"], 0.0, baseline=mean_z(model, documents.tokens)):
            model(tokens)

    def losses():
        map_documents(model, documents, lambda t, lengths: document_nll(model, t, lengths).detach())

    return [
        under_gates,
        losses,
        lambda: gate_gradients(model, documents),
        lambda: lahis_sequential(model, documents),
    ]


@pytest.mark.parametrize("name", NAMES)
def test_the_model_is_as_before(zoo, name):
    model = zoo.fresh(name)
    documents = documents_of(model)
    # Some flags on, some off, one module in training mode, one hook of the user's.
    for index, parameter in enumerate(model.original_model.parameters()):
        parameter.requires_grad_(index % 2 == 0)
    model.blocks[1].train()
    model.add_hook("blocks.0.hook_resid_pre", lambda value, hook: None)
    before, weights = state(model), [p.clone() for p in model.original_model.parameters()]
    for measure in measurements(model, documents):
        measure()
        assert state(model) == before
    for parameter, weight in zip(model.original_model.parameters(), weights, strict=True):
        assert torch.equal(parameter, weight)


@pytest.mark.parametrize("name", NAMES)
def test_the_model_is_as_before_after_an_exception(zoo, name):
    model = zoo.bridge(name)
    documents = documents_of(model)
    tokens, _ = pad(documents.tokens)
    before = state(model)

    def fails(z, hook):
        raise ZeroDivisionError

    def fails_on_the_second_batch(tokens, lengths, calls=[]):  # noqa: B006
        calls.append(len(tokens))
        return document_nll(model, tokens, lengths) / (0 if len(calls) == 2 else 1)

    with pytest.raises(ZeroDivisionError), gated(model, ["L0H1"], 3.0):  # noqa: PT012
        model(tokens)
        raise ZeroDivisionError
    assert state(model) == before
    for measure in measurements(model, documents):
        with model.hooks(fwd_hooks=[("blocks.1.attn.hook_z", fails)]):
            with_hook = state(model)
            with pytest.raises(ZeroDivisionError):
                measure()
            assert state(model) == with_hook
        assert state(model) == before
    with pytest.raises(NonFiniteError, match="of language xx is NaN"):
        map_documents(model, documents, fails_on_the_second_batch, batch_tokens=1)
    assert state(model) == before


def test_gates_without_a_forward_are_an_error(zoo):
    model = zoo.bridge("llama-gqa")
    with pytest.raises(InterventionError, match="no forward"), gated(model, ["L0H1"]):
        pass


def test_hooks_that_were_taken_away_are_an_error(zoo):
    model = zoo.fresh("llama-gqa")
    tokens, _ = pad(tokens_of(model))
    with (  # noqa: PT012
        pytest.raises(InterventionError, match="no forward"),
        gated(model, ["L0H1"]),
    ):
        model.reset_hooks()
        model(tokens)
    point = model.hook_dict["blocks.1.attn.hook_z"]
    with (  # noqa: PT012
        pytest.raises(InterventionError, match="layer 2 fired where layer 1 was due"),
        gated(model, ["L0H1"]),
    ):
        point.remove_hooks()
        model(tokens)


def test_a_forward_that_stops_early_is_an_error(zoo):
    model = zoo.bridge("llama-gqa")
    tokens, _ = pad(tokens_of(model))
    with (
        pytest.raises(InterventionError, match="stopped after layer 1 of 3"),
        gated(model, ["L0H1"]),
    ):
        model(tokens, stop_at_layer=2)


def test_a_layer_that_runs_twice_is_an_error(zoo):
    model = zoo.bridge("llama-gqa")
    tokens, _ = pad(tokens_of(model))

    def again(value, hook, inside=[]):  # noqa: B006
        if not inside:
            inside.append(True)
            model.blocks[0].attn.o(torch.zeros(*tokens.shape, 32))

    with (
        model.hooks(fwd_hooks=[("blocks.0.hook_resid_post", again)]),
        pytest.raises(InterventionError, match="layer 0 fired where layer 1 was due"),
        gated(model, ["L0H1"]),
    ):
        model(tokens)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_gate_for_another_batch_is_an_error(zoo, rows):
    model = zoo.bridge("llama-gqa")
    tokens, _ = pad(tokens_of(model)[:2])
    with (
        pytest.raises(InterventionError, match=rf"gates expect \[{rows}, pos, 4, d_head\]"),
        gated(model, torch.zeros(rows, *head_shape(model))),
    ):
        model(tokens)


def test_z_of_another_width_is_an_error_and_of_any_batch_is_none(zoo):
    model = zoo.bridge("llama-gqa")
    tokens, _ = pad(tokens_of(model)[:2])
    seen = []
    with on_every_hook_z(model, lambda layer, z: seen.append((layer, z.shape[3])), what="x"):
        model(tokens)
        model(tokens[:1])
    assert seen == 2 * [(0, 8), (1, 8), (2, 8)]
    told = r"hook_z of layer 0 is \[2, \d+, 4, 8\], things expect \[batch, pos, 4, 7\]"
    with (
        pytest.raises(InterventionError, match=told),
        on_every_hook_z(model, lambda layer, z: None, what="things", d_head=7),
    ):
        model(tokens)


@pytest.mark.parametrize(
    "gates",
    [
        torch.ones(4, 3),
        torch.ones(2, 4),
        torch.ones(3, 5),
        torch.ones(1, 1, 3, 4),
        [(3, 0)],
        [(0, 4)],
        ["L0H-1"],
    ],
)
def test_gates_of_another_shape_are_refused(zoo, gates):
    model = zoo.bridge("llama-gqa")
    with pytest.raises(InputError), gated(model, gates):
        pytest.fail("the block ran")


def test_heads_of_another_model_are_refused(zoo):
    model = zoo.bridge("llama-gqa")
    with (
        pytest.raises(ProvenanceError, match="2 layers x 4 heads, but this one has 3 x 4"),
        gated(model, HeadSet(["L0H1"], (2, 4))),
    ):
        pytest.fail("the block ran")


@pytest.mark.parametrize("shape", [(2, 4, 8), (3, 5, 8)])
def test_a_baseline_of_another_shape_is_refused(zoo, shape):
    model = zoo.bridge("llama-gqa")
    with (
        pytest.raises(InputError, match=r"expected \[3, 4, d_head\]"),
        gated(model, ["L0H1"], baseline=torch.zeros(shape)),
    ):
        pytest.fail("the block ran")


@pytest.mark.parametrize("d_head", [1, 7])
def test_a_baseline_of_another_width_is_an_error(zoo, d_head):
    model = zoo.bridge("llama-gqa")
    tokens, _ = pad(tokens_of(model))
    # One number a head would be broadcast over d_head without a word.
    with (
        pytest.raises(InterventionError) as told,
        gated(model, ["L0H1"], baseline=torch.zeros(3, 4, d_head)),
    ):
        model(tokens)
    assert str(told.value) == (
        "hook_z of layer 0 is [5, 46, 4, 8], gates and their baseline expect "
        f"[batch, pos, 4, {d_head}]"
    )


@pytest.mark.parametrize("name", ["gpt2", "llama-gqa"])
def test_the_modules_of_a_model_are_those_that_torch_walks(zoo, name):
    model = zoo.bridge(name)
    found = modules_of(model, model.original_model)
    assert set(found) == {*model.modules(), *model.original_model.modules()}
    assert len(found) == len(set(found))


def test_dropout_is_off_in_every_measurement_and_the_mode_is_put_back(zoo):
    """GPT-2 with its dropout of 0.1, left in training mode as after training."""
    network = hugging_face("gpt2")
    assert network.config.attn_pdrop == network.config.resid_pdrop == 0.1
    model, reference = zoo.fresh("gpt2"), zoo.bridge("gpt2")
    documents, (tokens, real) = documents_of(model), pad(tokens_of(model))
    lengths, heads = real.sum(dim=1), HeadSet(["L0H1", "L1H2"], (2, 4))
    row = torch.full((len(tokens),), 5)

    def replayed(of):
        with torch.no_grad():
            with captured_block_inputs(of) as inputs:
                of(tokens)
            with starting_at(of, inputs, 1):
                return of(tokens)

    measure = {
        "loss": lambda of: document_nll(of, tokens, lengths).detach(),
        "losses": lambda of: map_documents(
            of, documents, lambda t, n: document_nll(of, t, n).detach()
        ),
        "gradient": lambda of: torch.from_numpy(gate_gradients(of, documents)[0]),
        "mean": lambda of: mean_z(of, documents.tokens),
        "patterns": lambda of: torch.from_numpy(head_patterns(of, tokens[0], heads)),
        "direct": lambda of: readout(of, tokens, lengths, row, row + 1).difference,
        "reply": lambda of: torch.cat(decode(of, documents.tokens, max_new_tokens=5)),
        "replay": replayed,
    }
    expected = {name: of(reference) for name, of in measure.items()}
    model.train()
    modes = [m.training for m in model.original_model.modules()]
    assert sum(modes) > 10
    for name, of in measure.items():
        torch.testing.assert_close(
            of(model), expected[name], msg=lambda said, n=name: f"{n}: {said}"
        )
        assert [m.training for m in model.original_model.modules()] == modes
        assert all(m.training for m in model.modules())


def test_inside_inference_mode_gradients_are_those_outside_of_it(zoo):
    model = zoo.bridge("llama-gqa")
    documents = documents_of(model)
    outside, _ = gate_gradients(model, documents)
    with torch.inference_mode():
        inside, _ = gate_gradients(model, documents)
    np.testing.assert_array_equal(inside, outside)
    assert outside.any()


def test_what_is_computed_again_is_so_in_this_thread_and_this_block():
    found = []
    assert not computing_again()
    with again():
        assert computing_again()
        thread = threading.Thread(target=lambda: found.append(computing_again()))
        thread.start()
        thread.join()
        with again():
            pass
        assert computing_again()
    assert not computing_again()
    assert found == [False]


@pytest.mark.parametrize(
    ("told", "more", "right"), [(True, 1, True), (True, 0, False), (False, 1, False)]
)
def test_no_forward_is_needed_where_parts_were_read_instead(zoo, monkeypatch, told, more, right):
    counts = iter([5, 5 + more])
    monkeypatch.setattr(module, "are_declared", lambda: told)
    monkeypatch.setattr(module, "spared", lambda: next(counts))
    of_heads = gated(zoo.bridge("llama-gqa"), ["L0H1"])
    with nullcontext() if right else pytest.raises(InterventionError, match="no forward"), of_heads:
        pass


@pytest.mark.parametrize("first", [0, 1])
def test_where_a_forward_stopped_is_told(zoo, first):
    """After one that was whole, and with layers that do not run."""
    model = zoo.bridge("llama-gqa")
    tokens, _ = pad(tokens_of(model))
    seen = []
    with (  # noqa: PT012
        pytest.raises(InterventionError) as error,
        on_every_hook_z(
            model, lambda layer, z: seen.append(layer), what="gates", first_layer=first
        ),
    ):
        model(tokens)
        model(tokens, stop_at_layer=2)
    assert seen == [*range(first, 3), *range(first, 2)]
    assert str(error.value) == "the last forward under gates stopped after layer 1 of 3"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [({"batch": 3}, "[3, pos, 4, d_head]"), ({"d_head": 9}, "[batch, pos, 4, 9]")],
)
def test_another_shape_of_z_is_told(zoo, asked, expected):
    model = zoo.bridge("llama-gqa")
    shape = [2, 5, 4, 8]
    with (
        pytest.raises(InterventionError) as error,
        on_every_hook_z(model, lambda layer, z: None, what="gates", **asked),
    ):
        model(torch.ones(2, 5, dtype=torch.long))
    assert str(error.value) == f"hook_z of layer 0 is {shape}, gates expect {expected}"
    right = {"batch": 2, "d_head": 8}
    with on_every_hook_z(model, lambda layer, z: None, what="gates", **right):
        model(torch.ones(2, 5, dtype=torch.long))
