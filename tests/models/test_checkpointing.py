"""What a backward pass computes again changes no gradient, and nothing dear is computed twice."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from langheads.model import checkpointing, document_nll, gated, head_shape, steered
from langheads.model.checkpointing import Kept, blocks_to_cut, checkpointed, room_for_backward
from langheads.model.chunked_losses import chunked_losses
from langheads.model.fused_attention import fused_attention
from langheads.model.state import frozen
from tests.models.zoo import HEADS, NAMES, pad, tokens_of

# See test_attention.
EAGER = ("bloom", "gemma2", "gpt2")
ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
PRODUCTS = (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)


class Products(TorchDispatchMode):
    """How many matrix products and fused attentions are really computed, forward and backward."""

    count = 0
    attentions = 0

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        self.count += op in PRODUCTS
        self.attentions += op == ATTENTION
        return op(*args, **(kwargs or {}))


def gradients(model, room, gates=None):
    """Gate gradients of a padded batch under random gates, its losses, and products computed."""
    tokens, real = pad(tokens_of(model))
    generator = torch.Generator().manual_seed(0)
    gates = torch.rand(len(tokens), *head_shape(model), generator=generator).requires_grad_()
    with (
        frozen(model),
        fused_attention(model),
        chunked_losses(model),
        torch.enable_grad(),
        Products() as products,
        checkpointed(model, room),
        gated(model, gates),
    ):
        nll = document_nll(model, tokens, real.sum(dim=1))
        (gradient,) = torch.autograd.grad(nll.sum(), gates)
    # Attention is computed once, however little is kept.
    assert products.attentions in (0, head_shape(model)[0])
    return gradient, nll.detach(), products.count


@pytest.fixture
def decided(monkeypatch):
    """What was asked and decided about the blocks after the first, once a forward."""
    found = []
    decide = checkpointing.blocks_to_cut

    def watched(*args):
        found.append((*args, decide(*args)))
        return found[-1][-1]

    monkeypatch.setattr(checkpointing, "blocks_to_cut", watched)
    return found


def test_as_little_is_computed_again_as_fits():
    kept = Kept(8, 5, 1)
    found = [blocks_to_cut(10, kept, room) for room in (80, 79, 50, 49, 30, 3)]
    assert found == [(0, 0), (0, 10), (0, 10), (1, 9), (5, 5), (10, 0)]
    # What is dear is one byte more than the input, or no more.
    assert blocks_to_cut(10, Kept(8, 2, 1), 15) == (5, 5)
    assert blocks_to_cut(10, Kept(8, 1, 1), 5) == (5, 5)


def test_room_is_half_of_what_is_free_and_bounded_on_a_cpu(monkeypatch):
    class Memory:
        available = 1000

    monkeypatch.setattr(checkpointing.psutil, "virtual_memory", Memory)
    assert room_for_backward(torch.device("cpu")) == 500
    Memory.available = 2**50
    assert room_for_backward(torch.device("cpu")) == checkpointing._ROOM_ON_CPU
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 30)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 10)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (101, 200))
    assert room_for_backward(torch.device("cuda")) == 60


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_the_same_to_the_bit_whatever_is_kept(zoo, name, decided):
    model = zoo.fresh(name)
    others = head_shape(model)[0] - 1
    expected, losses, products = gradients(model, 2**40)
    blocks, kept, left, cut = decided[-1]
    assert (blocks, cut) == (others, (0, 0))
    # Of each position the residual stream and, where attention is fused, z and a sum a head.
    each = 32 + (HEADS * (model.cfg.d_head + 1) if name not in EAGER else 0)
    assert kept.whole > kept.dear > kept.bare == 4 * pad(tokens_of(model))[0].numel() * each
    if name == "llama-gqa":
        # All that linear layers make, but for what the last of them adds to the residual stream.
        linear = [of for of in model.blocks[0].modules() if isinstance(of, torch.nn.Linear)]
        each += sum(of.out_features for of in linear) - 32
        assert kept.dear == 4 * pad(tokens_of(model))[0].numel() * each
    first = 2**40 - left
    # The first block's input wants no gradient.
    assert 0 < first < kept.whole
    for room, cut in ((first + others * kept.dear, (0, others)), (0, (others, 0))):
        gradient, nll, computed = gradients(model, room)
        assert decided[-1][-1] == cut
        assert torch.equal(nll, losses)
        assert torch.equal(gradient, expected)
        # Qwen3's W_O reads as many numbers here as its MLP's last product, which is left out.
        again = cut[0] or name == "qwen3"
        assert computed > products if again else computed == products
    assert not any("forward" in block.__dict__ for block in model.blocks)
    assert (expected.abs().amax(dim=(0, 2)) > 1e-3).all()


def test_nothing_is_computed_again_while_hooks_stand_that_may_keep_what_they_see(zoo, decided):
    model = zoo.fresh("llama-gqa")
    tokens, _ = pad(tokens_of(model))
    seen = []
    expected = gradients(model, 2**40)[0]
    decided.clear()
    with model.hooks(fwd_hooks=[("blocks.1.hook_out", lambda r, hook: seen.append(r.shape))]):
        found = gradients(model, 0)[0]
    assert not decided
    assert seen == [(*tokens.shape, 32)]
    assert torch.equal(found, expected)


def test_nothing_is_computed_again_under_hooks_of_torch_which_may_draw(zoo, decided):
    model = zoo.fresh("llama-gqa")
    drawn = torch.Generator()

    def noise(module, given, output):
        return output * torch.rand(output.shape[-1], generator=drawn)

    model.original_model.model.layers[1].mlp.up_proj.register_forward_hook(noise)
    # The first use checks the model, and draws, too.
    gradients(model, 2**40)
    found = []
    for room in (2**40, 0):
        drawn.manual_seed(0)
        found.append(gradients(model, room)[0])
    assert not decided
    assert torch.equal(*found)


def test_interventions_inside_are_done_again(zoo, decided):
    """Steering of the last layer inside gates, where every block is computed again."""
    model = zoo.fresh("cohere")
    tokens, real = pad(tokens_of(model))
    layers, heads = head_shape(model)
    direction = torch.randn(layers, heads, 8, generator=torch.Generator().manual_seed(0))
    found = []
    for room in (2**40, 0):
        gates = torch.full((layers, heads), 0.5, requires_grad=True)
        with frozen(model), fused_attention(model), chunked_losses(model), torch.enable_grad():
            with (
                checkpointed(model, room),
                steered(model, [f"L{layers - 1}H1"], direction),
                gated(model, gates),
            ):
                nll = document_nll(model, tokens, real.sum(dim=1))
                found += torch.autograd.grad(nll.sum(), gates)
            # Hooks that are gone when the backward pass comes would be missed in silence.
            with checkpointed(model, room), gated(model, gates):
                nll = document_nll(model, tokens, real.sum(dim=1))
            if room == 0:
                with pytest.raises(torch.utils.checkpoint.CheckpointError):
                    torch.autograd.grad(nll.sum(), gates)
    assert [of[-1] for of in decided[::2]] == [(0, 0), (layers - 1, 0)]
    assert torch.equal(*found)


def test_some_blocks_keep_what_is_dear_and_some_their_input(zoo, monkeypatch):
    """Of two blocks after the first, one each: half of what both would compute again."""
    model, computed = zoo.fresh("llama-gqa"), {}
    as_ever = gradients(model, 2**40)[2]
    for cut in ((0, 2), (1, 1), (2, 0)):
        monkeypatch.setattr(checkpointing, "blocks_to_cut", lambda *of, cut=cut: cut)
        computed[cut] = gradients(model, 0)[2]
    assert 2 * computed[1, 1] == computed[0, 2] + computed[2, 0] > 2 * computed[0, 2]
    assert computed[0, 2] == as_ever


@pytest.mark.parametrize(("width", "dear"), [(32, True), (48, False), (64, True)])
def test_the_product_that_leaves_the_mlp_is_known_by_the_width_that_it_reads(width, dear):
    plan = object.__new__(checkpointing._Plan)
    plan._left_out = 48
    for place, product in enumerate(PRODUCTS):
        # A bias stands before what is multiplied.
        assert plan._is_dear(product, [None] * place + [torch.ones(2, width)]) == dear


def test_what_a_block_keeps_and_what_another_would(monkeypatch):
    """128 bytes of an input, 48 of a product; 48 of a sine and 96 of it in float64 are not dear."""
    given = torch.ones(4, 8, requires_grad=True)
    weight = torch.nn.Parameter(torch.ones(8, 3))
    with checkpointing._Counted(lambda op, args: op in PRODUCTS) as counted:
        made = given @ weight
        made.view(-1)
        assert made.sin().to(torch.float64).dtype == torch.float64
    assert counted.kept_here == 128 + 48
    assert counted.by_others(1000) == Kept(1000 + 48 + 48 + 96, 1000 + 48, 1000)


@pytest.mark.parametrize(
    ("platform", "on_card", "can", "asked"),
    [("linux", False, True, [0]), ("linux", True, True, []), ("linux", False, False, []),
     ("darwin", False, True, [])],
)  # fmt: skip
def test_free_memory_is_given_back_where_the_c_library_can(
    monkeypatch, platform, on_card, can, asked
):
    found = []

    class Library:
        if can:
            malloc_trim = staticmethod(found.append)

    monkeypatch.setattr(checkpointing.sys, "platform", platform)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: on_card)
    monkeypatch.setattr(checkpointing.ctypes, "CDLL", lambda name: Library)
    checkpointing.trim()
    assert found == asked
