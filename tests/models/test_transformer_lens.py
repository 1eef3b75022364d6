"""What langheads leans on inside TransformerLens and transformers is still where it was.

Where one of these fails, a release has moved it: mend the module of `langheads.model` that is
named, or tighten the bound in pyproject.toml.
"""

import inspect
from importlib.metadata import version

import pytest
import torch
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.generalized_components import AttentionBridge

from tests.models.zoo import HEADS

RELEASES = f"transformer-lens {version('transformer-lens')}, transformers {version('transformers')}"


def stands(found: bool, what: str, used_by: str) -> None:
    assert found, f"{RELEASES}: {what}; langheads.model.{used_by} leans on it"


@pytest.fixture
def model(zoo):
    return zoo.bridge("llama-gqa")


def test_the_bounds_allow_what_is_installed():
    major, minor, *_ = (int(part) for part in version("transformer-lens").split(".")[:2])
    assert (4, 3) <= (major, minor) < (5, 0), f"{RELEASES} is outside >=4.3,<5 of pyproject.toml"


def test_tests_find_the_hook_points_that_users_find(model, zoo, monkeypatch):
    """`tests.faster` keeps TransformerLens from looking for some within others."""
    monkeypatch.delattr(HookPoint, "__dir__")
    points = [
        [(name, of.name) for name, of in found.hook_dict.items()]
        for found in (model, zoo.fresh("llama-gqa"))
    ]
    assert points[0] == points[1]


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("blocks.0.attn.hook_z", "blocks.0.attn.o.hook_in"),
        ("blocks.0.attn.hook_pattern", "blocks.0.attn.hook_pattern"),
        ("blocks.0.hook_resid_pre", "blocks.0.hook_in"),
        ("blocks.0.hook_mlp_out", "blocks.0.mlp.hook_out"),
        ("ln_final.hook_in", "ln_final.hook_in"),
        ("ln_final.hook_out", "ln_final.hook_out"),
    ],
)
def test_hook_points_answer_to_their_names(model, alias, name):
    stands(alias in model.hook_dict, f"no hook point {alias}", "hook_z and logit_attribution")
    found = model.hook_dict[alias].name
    stands(found == name, f"{alias} is an alias of {found}, not of {name}", "hook_z")


def test_hook_z_is_the_input_of_w_o_by_head(model):
    seen = []
    # Not under its name: that of the hook point itself would be given where the alias was asked.
    with (
        torch.no_grad(),
        model.hooks(fwd_hooks=[("blocks.1.attn.hook_z", lambda z, hook: seen.append(z.shape))]),
    ):
        model(torch.tensor([[1, 5, 6]]))
    stands(seen == [(1, 3, HEADS, 8)], f"hook_z fired with {seen}", "hook_z")


def test_layer_is_the_second_part_of_a_hook_points_name(model):
    names = []
    hooks = [
        (f"blocks.{layer}.attn.{point}", lambda _, hook: names.append(hook.name))
        for layer in range(3)
        for point in ("hook_z", "hook_pattern")
    ]
    with torch.no_grad(), model.hooks(fwd_hooks=hooks):
        model(torch.tensor([[1, 5, 6]]))
    found = sorted(int(name.split(".")[1]) for name in names)
    stands(
        found == [0, 0, 1, 1, 2, 2], f"hook points call themselves {names}", "attention_patterns"
    )


def test_blocks_are_modules_that_forward_as_they_are_told(model):
    """Replay puts a `forward` of its own into a block's `__dict__`."""
    stands(len(model.blocks) == model.cfg.n_layers, "blocks are not one a layer", "replay")
    block, told = model.blocks[2], []
    stands(isinstance(block, torch.nn.Module), "a block is no torch module", "replay")

    def forward(*args, **kwargs):
        told.append(len(args) or "hidden_states" in kwargs)
        return args[0] if args else kwargs["hidden_states"]

    block.__dict__["forward"] = forward
    try:
        with torch.no_grad():
            model(torch.tensor([[1, 5, 6]]))
    finally:
        del block.__dict__["forward"]
    stands(told == [1], "a block's own forward is not called with hidden states", "replay")


def test_the_network_inside_is_hugging_faces(model):
    network = model.original_model
    for name in ("config", "generation_config", "generate", "set_attn_implementation"):
        stands(hasattr(network, name), f"original_model has no {name}", "decoding and loading")
    before = getattr(network.config, "_attn_implementation", None)
    stands(before == "eager", f"attention of a bridge is {before}, not eager", "fused_attention")
    try:
        network.set_attn_implementation("sdpa")
        now = network.config._attn_implementation
        stands(now == "sdpa", f"set to sdpa, attention is {now}", "fused_attention")
    finally:
        network.set_attn_implementation(before)


def test_attention_components_are_attention_bridges(model):
    found = [module for module in model.modules() if isinstance(module, AttentionBridge)]
    stands(len(found) == model.cfg.n_layers, f"{len(found)} AttentionBridge", "fused_attention")
    source = inspect.getsource(AttentionBridge.forward)
    stands(
        "original_component" in source,
        "AttentionBridge.forward does not call the module that it wraps",
        "fused_attention",
    )


def test_w_o_and_its_module_are_found(model):
    attention = model.blocks[0].attn
    stands(tuple(attention.W_O.shape) == (HEADS, 8, 32), "W_O is not by head", "logit_attribution")
    stands(hasattr(attention, "b_O"), "attention has no b_O", "logit_attribution")
    wrapped = attention.o
    while "_original_component" in wrapped._modules:
        wrapped = wrapped._modules["_original_component"]
    stands(
        isinstance(wrapped, torch.nn.Linear), f"attn.o wraps {type(wrapped).__name__}", "surgery"
    )
    for name in ("W_U", "b_U", "ln_final"):
        stands(hasattr(model, name), f"the bridge has no {name}", "logit_attribution")


def test_configuration_says_what_is_asked_of_it(model):
    for name, expected in {
        "n_layers": 3,
        "n_heads": HEADS,
        "n_key_value_heads": 2,
        "d_vocab": 259,
        "n_ctx": 256,
        "dtype": torch.float32,
        "tokenizer_prepends_bos": True,
    }.items():
        found = getattr(model.cfg, name, "nothing")
        stands(found == expected, f"cfg.{name} is {found}, not {expected}", "tokens and loading")
    for name in ("device", "model_name", "architecture"):
        stands(hasattr(model.cfg, name), f"cfg has no {name}", "loading")


def test_a_bridge_is_booted_by_the_same_arguments():
    arguments = inspect.signature(TransformerBridge.boot_transformers).parameters
    for name in ("dtype", "device", "device_map", "revision", "trust_remote_code"):
        stands(name in arguments, f"boot_transformers takes no {name}", "loading")
