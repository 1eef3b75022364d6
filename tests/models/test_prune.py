"""Pruned models: loaded by plain `transformers`, held to gates at 0 and to weights cut by hand."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

import langheads
from langheads.experiments.pruning.files import new_folder
from langheads.heads import HeadSet, LanguageHeads
from langheads.io.errors import InputError, ModelError, ProvenanceError
from langheads.model import gated, head_shape
from tests.models.zoo import NAMES, hugging_face, pad, projection, tokens_of, w_o


def language_heads(shape, general=(), **specific):
    sets = {language: HeadSet(heads, shape) for language, heads in specific.items()}
    return LanguageHeads(sets, HeadSet(general, shape), "tiny")


def plain(folder):
    """As any user loads it, without langheads and TransformerLens."""
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager"
    ).eval()


@torch.no_grad()
def logits_of(network, model):
    tokens, real = pad(tokens_of(model))
    return network(tokens).logits[real]


@torch.no_grad()
def gated_logits(model, heads):
    tokens, real = pad(tokens_of(model))
    with gated(model, heads, 0.0):
        return model(tokens, return_type="logits")[real]


@pytest.mark.parametrize("name", NAMES)
def test_equals_gates_at_zero(zoo, name, tmp_path):
    model = zoo.bridge(name)
    before = {key: value.clone() for key, value in model.original_model.state_dict().items()}
    # Every layer loses a head, none a whole key-value group in every layer.
    heads = language_heads(head_shape(model), zh=["L0H1", "L1H0", "L1H3"], hi=["L1H3"], en=["L0H0"])
    account = langheads.prune(model, heads, drop=["zh", "hi"], out=tmp_path / "pruned").account
    network = plain(tmp_path / "pruned")
    off = HeadSet(["L0H1", "L1H0", "L1H3"], head_shape(model))
    found, expected = logits_of(network, model), gated_logits(model, off)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert (expected - logits_of(hugging_face(name), model)).abs().max() > 0.05

    # Weight by weight: those slices are zero, and nothing else differs, biases least of all.
    by_hand = hugging_face(name)
    zeroed = 0
    for layer, head in off:
        part = w_o(by_hand, name, layer, head)
        zeroed += part.numel()
        part.zero_()
    state, wanted = network.state_dict(), by_hand.state_dict()
    assert state.keys() == wanted.keys()
    for key, value in wanted.items():
        assert torch.equal(state[key], value), key
    if getattr(projection(network, name, 0), "bias", None) is not None:
        assert projection(network, name, 0).bias.abs().min() > 0

    assert account == json.loads((tmp_path / "pruned" / "pruned.json").read_text("utf-8"))
    assert account["removed"] == account["zeroed"] == ["L0H1", "L1H0", "L1H3"]
    assert (account["cut"], account["parameters_zeroed"]) == ([], zeroed)
    assert (account["parameters_saved"], account["bytes_saved"]) == (0, 0)
    assert account["dropped"] == ["zh", "hi"]
    assert account["kept"] == []
    assert sorted(os.listdir(tmp_path)) == ["pruned"]
    for key, value in model.original_model.state_dict().items():
        assert torch.equal(value, before[key])


# Model, heads that are off in every layer, key-value heads left, old heads left in layer 0.
SHRINKS = [
    ("llama-gqa", ["H2", "H3"], 1, [0, 1]),
    ("mistral-window", ["H0", "H1"], 1, [2, 3]),
    ("qwen2", ["H2", "H3"], 1, [0, 1]),
    ("qwen3", ["H0", "H1"], 1, [2, 3]),
    ("llama-mha", ["H0", "H1"], 2, [2, 3]),
]


@pytest.mark.parametrize(("name", "groups", "left", "kept"), SHRINKS)
def test_whole_groups_in_every_layer_are_cut_out(zoo, name, groups, left, kept, tmp_path):
    model = zoo.bridge(name)
    layers, per_layer = head_shape(model)
    whole = [f"L{layer}{head}" for layer in range(layers) for head in groups]
    # One more head than can be cut.
    extra = f"L1H{kept[-1]}"
    heads = language_heads((layers, per_layer), zh=[*whole, extra])
    account = langheads.prune(model, heads, drop="zh", out=tmp_path / "pruned").account
    network = plain(tmp_path / "pruned")
    expected = gated_logits(model, heads.specific["zh"])
    # Sums over fewer columns are added up in another order.
    apart = (logits_of(network, model) - expected).abs().max()
    assert apart < 1e-5 * expected.abs().max()

    assert account["cut"] == whole
    assert account["zeroed"] == [extra]
    assert account["kept"][0] == kept
    assert network.config.num_key_value_heads == left
    assert network.config.num_attention_heads == len(kept)
    full = hugging_face(name)
    count = {key: sum(p.numel() for p in net.parameters()) for key, net in
             (("before", full), ("after", network))}  # fmt: skip
    assert account["parameters_saved"] == count["before"] - count["after"] > 0
    assert account["bytes_saved"] == 4 * account["parameters_saved"]
    smaller = os.path.getsize(tmp_path / "pruned" / "model.safetensors")
    full.save_pretrained(tmp_path / "full")
    # But for a header of some other length.
    saved = os.path.getsize(tmp_path / "full" / "model.safetensors") - smaller
    assert abs(saved - account["bytes_saved"]) < 200
    # It can be loaded, gated and pruned again.
    again = langheads.load(tmp_path / "pruned", device="cpu")
    assert head_shape(again) == (layers, len(kept))
    new = account["kept"][1].index(int(extra[-1]))
    with torch.no_grad(), gated(again, [(1, new)], 0.0):
        tokens, real = pad(tokens_of(again))
        assert (again(tokens)[real] - expected).abs().max() < 1e-5 * expected.abs().max()


def test_a_number_of_heads_that_the_configuration_refuses_is_zeroed(zoo, tmp_path):
    """3 heads do not divide Llama's d_model of 32; 2 do."""
    model = zoo.bridge("llama-mha")
    heads = language_heads(head_shape(model), zh=["L0H0", "L1H2"])
    account = langheads.prune(model, heads, drop="zh", out=tmp_path / "pruned").account
    assert (account["cut"], account["zeroed"]) == ([], ["L0H0", "L1H2"])


def test_a_whole_layer_has_no_random_heads_beside_it(zoo, tmp_path, caplog):
    model = zoo.bridge("llama-gqa")
    whole = [f"L1H{h}" for h in range(head_shape(model)[1])]
    heads = language_heads(head_shape(model), zh=whole)
    texts = {"zh": ["ab cd ef", "gh ij kl"]}
    account = langheads.prune(model, heads, drop="zh", out=tmp_path / "pruned", text=texts).account
    assert account["controls"] == 0
    assert "control_mean" not in account["nats_per_byte"]["zh"]
    assert "but only 0 differ" in caplog.text


def test_demo_with_losses(tmp_path):
    from langheads.demo import grammar

    model = langheads.load("demo", device="cpu")
    shape = head_shape(model)
    heads = language_heads(shape, zh=["L1H3", "L2H4"], ru=["L1H4", "L2H3"], general=["L0H0"])
    texts = {language: grammar.documents(language, 6) for language in ("zh", "de")}
    account = langheads.prune(
        model,
        heads,
        drop=["zh"],
        out=tmp_path / "deep" / "pruned",
        text=texts,
        docs=3,
        n_controls=4,
    ).account
    network = plain(tmp_path / "deep" / "pruned")
    tokens = model.to_tokens(texts["zh"][0])
    with torch.no_grad():
        found = network(tokens).logits
        with gated(model, heads.specific["zh"], 0.0):
            expected = model(tokens)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    # The losses, with plain transformers and one document at a time.
    corpus = langheads.read_texts(texts, seed=0)
    untouched = plain(model.tokenizer.name_or_path)
    for language in texts:
        totals = {"before": [], "after": []}
        for when, net in (("before", untouched), ("after", network)):
            nll, size = 0.0, 0
            for text in corpus.back(3)[language]:
                row = model.to_tokens(text)
                with torch.no_grad():
                    totals[when].append(net(row, labels=row).loss.item() * (row.shape[1] - 1))
                nll += totals[when][-1]
                size += len(text.encode())
            assert account["nats_per_byte"][language][when] == pytest.approx(nll / size, rel=1e-4)
        # Standard error of a ratio over three paired documents, by hand.
        told = account["nats_per_byte"][language]
        rises = np.subtract(totals["after"], totals["before"])
        sizes = np.array([len(text.encode()) for text in corpus.back(3)[language]])
        mean = rises.sum() / sizes.sum()
        se = np.sqrt(3 / 2 * ((rises - mean * sizes) ** 2).sum()) / sizes.sum()
        ends = (told["rise"], told["rise_low"], told["rise_high"])
        assert ends == pytest.approx((mean, mean - 1.96 * se, mean + 1.96 * se), rel=1e-3, abs=1e-6)
    # Random heads, with their slices of W_O zeroed by hand in plain transformers.
    assert account["controls"] == 4
    random = heads.specific["zh"].matched_sets(4, np.random.default_rng(0))
    assert [some.per_layer() for some in random] == [heads.specific["zh"].per_layer()] * 4
    d_head = untouched.config.hidden_size // untouched.config.num_attention_heads
    rises = {language: [] for language in texts}
    for some in random:
        by_hand = plain(model.tokenizer.name_or_path)
        for layer, head in some:
            columns = slice(head * d_head, (head + 1) * d_head)
            by_hand.model.layers[layer].self_attn.o_proj.weight.data[:, columns] = 0
        for language in texts:
            nll, size = 0.0, 0
            for text in corpus.back(3)[language]:
                row = model.to_tokens(text)
                with torch.no_grad():
                    nll += by_hand(row, labels=row).loss.item() * (row.shape[1] - 1)
                size += len(text.encode())
            rises[language].append(nll / size - account["nats_per_byte"][language]["before"])
    for language, sets in rises.items():
        told = account["nats_per_byte"][language]
        assert told["control_mean"] == pytest.approx(np.mean(sets), abs=1e-5)
        assert told["control_low"] == pytest.approx(np.quantile(sets, 0.025), abs=1e-5)
        assert told["control_high"] == pytest.approx(np.quantile(sets, 0.975), abs=1e-5)
        assert told["control_p"] == (1 + sum(x >= told["rise"] for x in sets)) / 5
    assert account["nats_per_byte"]["zh"]["control_p"] == 0.2
    rise = {k: v["after"] - v["before"] for k, v in account["nats_per_byte"].items()}
    assert rise["zh"] > 20 * abs(rise["de"])
    # The tokenizer is the one that was read, and the same to langheads.
    again = langheads.load(tmp_path / "deep" / "pruned", device="cpu")
    described = langheads.model.describe(again)
    assert described["tokenizer_hash"] == langheads.model.describe(model)["tokenizer_hash"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "deep" / "pruned")
    assert tokenizer(texts["zh"][0])["input_ids"] == tokens[0].tolist()
    # Nothing of what TransformerLens sets is left in the configuration.
    for file in ("config.json", "generation_config.json"):
        written, read = (
            json.loads((Path(folder) / file).read_text("utf-8"))
            for folder in (tmp_path / "deep" / "pruned", model.tokenizer.name_or_path)
        )
        assert written | {"transformers_version": ""} == read | {"transformers_version": ""}
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "deep" / "pruned").iterdir()}
    (tmp_path / "plain").touch()
    assert modes == {(tmp_path / "plain").stat().st_mode & 0o777}
    assert account["provenance"]["model"] == "demo"
    assert json.loads(account["provenance"]["text_hash"]).keys() == texts.keys()


def test_what_else_the_heads_serve_is_told(zoo, tmp_path, caplog):
    model = zoo.bridge("llama-gqa")
    heads = language_heads(head_shape(model), zh=["L0H1", "L1H0"], hi=["L1H0"], general=["L0H1"])
    account = langheads.prune(model, heads, drop="zh", out=tmp_path / "pruned").account
    assert account["also_heads_of"] == {"hi": "L1H0", "general": "L0H1"}
    told = [record.getMessage() for record in caplog.records if record.name == "langheads"]
    assert told == [
        "L1H0 are heads of hi, too, which was not to be dropped",
        "L0H1 are heads of general, too, which was not to be dropped",
    ]
    by_name = langheads.prune(model, heads, drop="general", out=tmp_path / "general").account
    assert by_name["removed"] == ["L0H1"]


def edited(monkeypatch, change):
    """Pruned networks in which W_O of layer 0 is changed before it is saved."""
    from langheads.experiments.pruning import experiment as pruning
    from langheads.model import surgery as pruned

    def without_heads(model, removed):
        found = pruned.without_heads(model, removed)
        with torch.no_grad():
            change(found.network.get_submodule(found.w_o[0]).weight)
        return found

    monkeypatch.setattr(pruning, "without_heads", without_heads)


def test_small_differences_are_refused_in_32_bits(zoo, tmp_path, monkeypatch):
    """Logits that differ by some 3e-5 of the largest."""
    model = zoo.bridge("llama-gqa")
    heads = language_heads(head_shape(model), zh=["L0H1"])
    edited(monkeypatch, lambda weight: weight[:, :8].add_(4e-6))
    with pytest.raises(ModelError, match=r"logits of the pruned model differ by [1-9]\.?\de-05"):
        langheads.prune(model, heads, drop="zh", out=tmp_path / "pruned")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    # d_head is 8: what is left of a removed head, and a change of one that stays.
    ("columns", "head"), [(slice(8, 16), "L0H1"), (slice(16, 17), "L0H2")],
)  # fmt: skip
def test_a_slice_that_is_not_as_it_should_be_is_refused(
    zoo, tmp_path, monkeypatch, dtype, columns, head
):
    """So small a change that logits do not tell."""
    model = zoo.bridge("llama-gqa", dtype)
    heads = language_heads(head_shape(model), zh=["L0H1"])
    small = 1e-8 if dtype == torch.float32 else 1e-3

    def change(weight):
        part = weight[:, columns]
        part.copy_(torch.where(part == 0, small, part * (1 + torch.finfo(dtype).eps)))

    edited(monkeypatch, change)
    with pytest.raises(ModelError, match=f"the saved slices of W_O of {head} are not what they"):
        langheads.prune(model, heads, drop="zh", out=tmp_path / "pruned")
    assert os.listdir(tmp_path) == []


def test_sub_folders_can_be_entered(zoo, tmp_path):
    """A tokenizer with several chat templates writes a folder of them."""
    folder = zoo.save("llama-gqa", tmp_path / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = {"default": "{{ messages }}", "tool_use": "{{ tools }}"}
    tokenizer.save_pretrained(folder)
    model = langheads.load(folder, device="cpu")
    heads = language_heads(head_shape(model), zh=["L0H1"])
    langheads.prune(model, heads, drop="zh", out=tmp_path / "pruned")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "file").touch()
    paths = [tmp_path / "pruned", *(tmp_path / "pruned").rglob("*")]
    found = {is_dir: {p.stat().st_mode & 0o777 for p in paths if p.is_dir() is is_dir}
             for is_dir in (True, False)}  # fmt: skip
    assert len([path for path in paths if path.is_dir()]) == 2
    assert found[True] == {(tmp_path / "new").stat().st_mode & 0o777}
    assert found[False] == {(tmp_path / "new" / "file").stat().st_mode & 0o777}
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "pruned")
    assert again.chat_template == tokenizer.chat_template


def test_the_tokenizer_is_that_of_the_revision(zoo, tmp_path, monkeypatch):
    model = langheads.load(zoo.save("llama-gqa", tmp_path / "model"), device="cpu")
    heads = language_heads(head_shape(model), zh=["L0H1"])
    asked, read = [], transformers.AutoTokenizer.from_pretrained

    def from_pretrained(name, *arguments, **keywords):
        asked.append((name, keywords.get("revision")))
        return read(name, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(transformers.AutoTokenizer, "from_pretrained", from_pretrained)
        patch.setattr(model.original_model.config, "_commit_hash", "1234abcd", raising=False)
        langheads.prune(model, heads, drop="zh", out=tmp_path / "pruned")
    assert asked == [(str(tmp_path / "model"), "1234abcd")]
    # Another vocabulary lies there by now: the model's own is saved.
    state = json.loads((tmp_path / "model" / "tokenizer.json").read_text("utf-8"))
    vocabulary = state["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (tmp_path / "model" / "tokenizer.json").write_text(json.dumps(state), "utf-8")
    ids = model.tokenizer("cab")["input_ids"]
    assert read(tmp_path / "model")("cab")["input_ids"] != ids
    langheads.prune(model, heads, drop="zh", out=tmp_path / "own")
    assert read(tmp_path / "own")("cab")["input_ids"] == ids


def test_half_precision(zoo, tmp_path):
    model = zoo.bridge("llama-gqa", torch.bfloat16)
    heads = language_heads(head_shape(model), zh=["L0H1", "L0H0", "L1H0", "L1H1", "L2H0", "L2H1"])
    account = langheads.prune(model, heads, drop="zh", out=tmp_path / "pruned").account
    network = plain(tmp_path / "pruned")
    assert network.dtype == torch.bfloat16
    assert account["bytes_saved"] == 2 * account["parameters_saved"] > 0


@pytest.mark.parametrize(
    ("drop", "message"),
    [
        (["fr"], "heads of fr asked for; the head set has zh, hi, all, general"),
        (["hi"], "the head set has no heads of hi, so there is nothing to gate"),
        (["general"], "the head set has no heads of general"),
        ([], "no language to drop; the head set has zh, hi, all, general"),
        (["all"], "all have all 12 heads of the model; some must be left"),
    ],
)
def test_refuses_heads(zoo, tmp_path, drop, message):
    model = zoo.bridge("llama-gqa")
    everything = [(layer, head) for layer in range(3) for head in range(4)]
    heads = language_heads(head_shape(model), zh=["L0H0"], hi=[], all=everything)
    with pytest.raises(InputError, match=message):
        langheads.prune(model, heads, drop=drop, out=tmp_path / "pruned")
    assert os.listdir(tmp_path) == []


def test_refuses_a_folder_in_use(zoo, tmp_path):
    model = zoo.bridge("llama-gqa")
    heads = language_heads(head_shape(model), zh=["L0H0"])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").write_text("mine")
    for path, what in ((tmp_path / "full", "a folder that is not empty"),
                       (tmp_path / "full" / "note", "a file")):  # fmt: skip
        with pytest.raises(InputError, match=f"it is {what}; name a new folder"):
            langheads.prune(model, heads, drop="zh", out=path)
    assert (tmp_path / "full" / "note").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    langheads.prune(model, heads, drop="zh", out=tmp_path / "empty")
    assert "model.safetensors" in os.listdir(tmp_path / "empty")
    assert oct((tmp_path / "empty").stat().st_mode & 0o777) == oct(
        (tmp_path / "full").stat().st_mode & 0o777
    )


def test_refuses_what_it_cannot_do(zoo, tmp_path, monkeypatch):
    model = zoo.fresh("llama-gqa")
    heads = language_heads(head_shape(model), zh=["L0H0"])
    arguments = {"drop": "zh", "out": tmp_path / "pruned"}
    model.original_model.config.quantization_config = {"quant_method": "bitsandbytes"}
    with pytest.raises(ModelError, match="LlamaForCausalLM is quantised; heads are removed from"):
        langheads.prune(model, heads, **arguments)
    del model.original_model.config.quantization_config
    with pytest.raises(ProvenanceError, match="2 layers x 4 heads, but this one has 3 x 4"):
        langheads.prune(model, language_heads((2, 4), zh=["L0H0"]), **arguments)
    of_other_weights = LanguageHeads(
        heads.specific, heads.general, "tiny", provenance={"weight_hash": "1234"}
    )
    with pytest.raises(ProvenanceError, match="made with weights 1234"):
        langheads.prune(model, of_other_weights, **arguments)

    from langheads.experiments.pruning import experiment as pruning
    from langheads.model import surgery as pruned

    with monkeypatch.context() as patch:
        # Another network on disk than the one under gates.
        patch.setattr(
            pruning, "without_heads",
            lambda model, removed: pruned.without_heads(model, HeadSet(["L1H1"], removed.shape)),
        )  # fmt: skip
        with pytest.raises(ModelError, match=r"logits of the pruned model differ by .* nothing"):
            langheads.prune(model, heads, **arguments)
    assert os.listdir(tmp_path) == []
    # What reads hook_z is not a linear layer that the network has.
    del model.blocks[0].attn._modules["o"]
    with pytest.raises(ModelError, match="W_O of layer 0 cannot be located; heads can be removed"):
        langheads.prune(model, heads, **arguments)
    model.tokenizer = None
    with pytest.raises(InputError, match="the model has no tokenizer"):
        langheads.prune(model, heads, **arguments)
    assert os.listdir(tmp_path) == []


def test_a_full_disk_leaves_nothing(zoo, tmp_path, monkeypatch):
    model = zoo.bridge("llama-gqa")
    heads = language_heads(head_shape(model), zh=["L0H0"])

    def full(self, *arguments, **keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(transformers.PreTrainedModel, "save_pretrained", full)
    with pytest.raises(InputError, match=r"cannot write .*pruned: No space left on device"):
        langheads.prune(model, heads, drop="zh", out=tmp_path / "pruned")
    assert os.listdir(tmp_path) == []


def test_the_weights_that_a_killed_run_left_are_removed_by_the_next(tmp_path):
    with new_folder(tmp_path / "first") as folder:
        (folder / "model.safetensors").write_text("whole")
        own = folder.name
    # No process has a number that high.
    left = tmp_path / own.replace(f".{os.getpid()}.", ".4194399.")
    left.mkdir()
    (left / "model.safetensors").write_text("half")
    with new_folder(tmp_path / "second"):
        assert not left.exists()
    assert sorted(os.listdir(tmp_path)) == ["first", "second"]
