"""Tiny random models of every architecture that the tests hold the library to.

Each is built from a configuration, so there is nothing to download: two layers (the grouped-query
Llama three), four heads, d_model 32, and a byte-level tokenizer of 259 tokens with BOS. Weights
are ten times as large as usual, so that every head matters and losses differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from transformer_lens.model_bridge import TransformerBridge

VOCAB, HEADS, D_MODEL = 259, 4, 32
BOS, EOS, PAD = 1, 2, 0


class Spec(NamedTuple):
    """What differs between architectures: classes, settings, and where W_O is."""

    config: str
    model: str
    settings: dict[str, Any]
    w_o: str = "model.layers.{}.self_attn.o_proj"


_TOKENS = {"vocab_size": VOCAB, "bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD}
_COMMON = _TOKENS | {
    "hidden_size": D_MODEL,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
}
# Shorter than the tests' documents, so that the window cuts.
_WINDOW = {"sliding_window": 4}
_MIXED = _WINDOW | {"layer_types": ["sliding_attention", "full_attention"]}

SPECS = {
    "llama-mha": Spec("LlamaConfig", "LlamaForCausalLM", {"num_key_value_heads": HEADS}),
    "llama-mqa": Spec("LlamaConfig", "LlamaForCausalLM", {"num_key_value_heads": 1}),
    "llama-gqa": Spec("LlamaConfig", "LlamaForCausalLM", {"num_hidden_layers": 3}),
    "mistral-window": Spec("MistralConfig", "MistralForCausalLM", _WINDOW),
    "cohere": Spec("CohereConfig", "CohereForCausalLM", {}),
    "cohere2": Spec("Cohere2Config", "Cohere2ForCausalLM", _MIXED),
    "qwen2": Spec("Qwen2Config", "Qwen2ForCausalLM", {}),
    # d_head * heads != d_model in these, as in the published ones.
    "qwen3": Spec("Qwen3Config", "Qwen3ForCausalLM", {"head_dim": 12}),
    "gemma2": Spec(
        "Gemma2Config",
        "Gemma2ForCausalLM",
        {"head_dim": 12, "query_pre_attn_scalar": 12} | _MIXED,
    ),
    "gemma3": Spec(
        "Gemma3TextConfig",
        "Gemma3ForCausalLM",
        {"head_dim": 12, "query_pre_attn_scalar": 12} | _MIXED,
    ),
    "olmo2": Spec("Olmo2Config", "Olmo2ForCausalLM", {}),
    "gpt-neox": Spec(
        "GPTNeoXConfig", "GPTNeoXForCausalLM", {}, "gpt_neox.layers.{}.attention.dense"
    ),
    "bloom": Spec(
        "BloomConfig",
        "BloomForCausalLM",
        {"n_layer": 2, "n_head": HEADS},
        "transformer.h.{}.self_attention.dense",
    ),
    "gpt2": Spec(
        "GPT2Config",
        "GPT2LMHeadModel",
        {"n_embd": D_MODEL, "n_layer": 2, "n_head": HEADS, "n_positions": 256},
        "transformer.h.{}.attn.c_proj",
    ),
}
NAMES = tuple(SPECS)

# Of different length, so that batches are padded, and longer than the window.
TEXTS = (
    "The cat sleeps on the warm stone.",
    "猫在睡觉。",
    "बिल्ली सो रही है।",
    "القطة نائمة.",
    "Katze",
)
# Not for gates: no attention heads, and another number of heads in every layer.
_REFUSED = {
    "mamba": Spec("MambaConfig", "MambaForCausalLM", {"state_size": 4}),
    # Sees later tokens, so its loss is not one of predicting them.
    "bert": Spec("BertConfig", "BertForMaskedLM", {}),
    "laguna": Spec(
        "LagunaConfig",
        "LagunaForCausalLM",
        {
            "head_dim": 8,
            "num_attention_heads_per_layer": [4, 2],
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 16,
            "num_experts": 2,
            "num_experts_per_tok": 1,
        },
    ),
}
_DROPPED = {"gpt-neox": ["num_key_value_heads"]}


def hugging_face(name: str, dtype: torch.dtype = torch.float32) -> transformers.PreTrainedModel:
    """The model without TransformerLens; the same weights every time."""
    spec = (SPECS | _REFUSED)[name]
    settings = (_COMMON if name not in ("bloom", "gpt2") else _TOKENS) | spec.settings
    if name == "bloom":
        settings |= {"hidden_size": D_MODEL}
    settings = {k: v for k, v in settings.items() if k not in _DROPPED.get(name, [])}
    settings |= {"initializer_range": 0.3, "architectures": [spec.model]}
    # As TransformerLens runs it; the fused kernel differs in the sixth digit.
    config = getattr(transformers, spec.config)(**settings, attn_implementation="eager")
    torch.manual_seed(1)
    model = getattr(transformers, spec.model)(config)
    # Biases start at zero and norms at one, which would hide what they do.
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model.to(dtype).eval()


def projection(model: transformers.PreTrainedModel, name: str, layer: int) -> torch.nn.Module:
    """A layer's output projection, W_O of all its heads and the bias."""
    return model.get_submodule(SPECS[name].w_o.format(layer))


def w_o(
    model: transformers.PreTrainedModel, name: str, layer: int, head: int, gradient: bool = False
) -> torch.Tensor:
    """The view of a layer's output projection that belongs to one head, ``[d_head, d_model]``."""
    module = projection(model, name, layer)
    values = module.weight.grad if gradient else module.weight.data
    # GPT-2's Conv1D keeps [in, out], a linear layer [out, in].
    in_first = values if type(module).__name__ == "Conv1D" else values.T
    d_head = in_first.shape[0] // HEADS
    return in_first[head * d_head : (head + 1) * d_head]


def save_tokenizer(folder: Path) -> Path:
    """A byte-level tokenizer that prepends BOS; no merges, a token a byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    tokens = ["<pad>", "<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", BOS)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    ).save_pretrained(folder)
    return folder


def tokens_of(model: TransformerBridge, texts: Sequence[str] = TEXTS) -> list[torch.Tensor]:
    """The tokens of each text, ``[pos]``, by TransformerLens' own tokenising."""
    return [model.to_tokens(text, prepend_bos=True)[0] for text in texts]


def pad(documents: Sequence[torch.Tensor], value: int = PAD) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens ``[batch, pos]`` padded on the right, and which of them are real."""
    tokens = torch.full((len(documents), max(map(len, documents))), value)
    for row, document in enumerate(documents):
        tokens[row, : len(document)] = document
    lengths = torch.tensor([len(document) for document in documents])
    return tokens, torch.arange(tokens.shape[1]) < lengths[:, None]


class Zoo:
    """Builds models, each once a dtype, around one tokenizer that is read from a folder."""

    def __init__(self, folder: Path):
        # TransformerLens reads the tokenizer again from where it came from.
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(save_tokenizer(folder))
        self.bridge = cache(self._bridge)

    def _bridge(self, name: str, dtype: torch.dtype = torch.float32) -> TransformerBridge:
        return self.fresh(name, dtype)

    def fresh(self, name: str, dtype: torch.dtype = torch.float32) -> TransformerBridge:
        """A model of its own, for tests that change it."""
        return TransformerBridge.boot_transformers(
            f"tiny/{name}",
            hf_model=hugging_face(name, dtype),
            tokenizer=self._tokenizer,
            dtype=dtype,
            device="cpu",
        )

    def save(self, name: str, folder: Path) -> Path:
        """Write a model and its tokenizer as a folder that `langheads.load` can be given."""
        hugging_face(name).save_pretrained(folder)
        return save_tokenizer(folder)
