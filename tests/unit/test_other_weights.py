"""Results of one checkpoint in another: only where that was asked for, and the result says so."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import langheads
from langheads.io.errors import ProvenanceError
from langheads.io.sources import content_hash, named_in
from langheads.model import describe, load
from langheads.view.belonging import other_weights_words
from langheads.view.folder import read_run
from tests.unit.experiments.test_switching import Halves

SMALL = {"docs": 3, "max_tokens": 40, "languages": ["en", "zh"]}


@pytest.fixture(scope="module")
def tuned_folder(tiny_folder, tmp_path_factory):
    """The tiny model with one weight moved, as if tuned."""
    folder = shutil.copytree(tiny_folder, tmp_path_factory.mktemp("tuned") / "model")
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][3] += 1e-1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def heads(tiny, texts):
    scores = langheads.score(tiny, texts, method="lahis", **SMALL)
    return langheads.select(scores, quantile=0.7, general_at=3, share=0.2), scores


def test_heads_of_another_checkpoint_are_refused_unless_asked_for(
    heads, tuned_folder, texts, tiny, caplog
):
    chosen, scores = heads
    how = {"docs": 2, "n_controls": 2, "max_tokens": 40, "languages": ["en", "zh"]}
    ours, theirs = (describe(load(m, device="cpu") if m is tuned_folder else m)
                    for m in (tuned_folder, tiny))  # fmt: skip
    told = (
        f"the head set was made with weights {theirs['weight_hash'][:12]} of model "
        f"{theirs['model']}, but this is weights {ours['weight_hash'][:12]} of {ours['model']}"
    )
    with pytest.raises(ProvenanceError) as error:
        langheads.ablate(load(tuned_folder, device="cpu"), chosen, texts, **how)
    assert str(error.value) == f"{told}; make it again with this model"
    caplog.clear()
    model = load(tuned_folder, device="cpu", other_weights=True)
    proof = langheads.ablate(model, chosen, texts, **how)
    assert f"{told}; it is used all the same, as asked for" in caplog.messages
    assert json.loads(proof.attrs["other_weights"]) == {"heads": theirs["weight_hash"]}
    assert json.loads(proof.attrs["made_from"]) == {"heads": content_hash(chosen)}
    assert proof.attrs["weight_hash"] == ours["weight_hash"]
    # The numbers are those of the same heads given by name, which belong to any model.
    by_name = {name: list(map(str, of)) for name, of in chosen.specific.items()}
    by_name["general"] = list(map(str, chosen.general))
    plain = langheads.ablate(load(tuned_folder, device="cpu"), by_name, texts, seed=0, **how)
    torch.testing.assert_close(
        torch.tensor(proof.delta_nats_per_byte.values),
        torch.tensor(plain.delta_nats_per_byte.values),
        equal_nan=True,
    )
    assert "other_weights" not in plain.attrs
    assert "made_from" not in plain.attrs
    # Its own results say nothing of others.
    again = langheads.score(model, texts, method="lahis", **SMALL)
    assert "other_weights" not in again.attrs
    deleted = langheads.deletion(model, scores, texts, steps=[1], docs=2)
    assert named_in(deleted.attrs, "other_weights") == {"scores": theirs["weight_hash"]}


def test_verbs_that_take_some_heads_refuse_those_of_another_checkpoint(heads, tuned_folder, texts):
    """Before anything is measured; heads given by name are of any model."""
    model, (chosen, _) = load(tuned_folder, device="cpu"), heads
    verbs = {
        "knockout": lambda: langheads.knockout(model, texts, heads=chosen, docs=1),
        "knockout-task": lambda: langheads.knockout_task(model, {}, heads=chosen),
        "attribute": lambda: langheads.attribute(model, [], heads=chosen),
        "switch rates": lambda: langheads.switch_rates(
            model, {"en": ["a"]}, Halves(), heads=chosen
        ),
    }
    for verb in verbs.values():
        with pytest.raises(
            ProvenanceError, match=r"^the head set was made with .* with this model"
        ):
            verb()


def test_another_configuration_of_the_same_weights_is_told_in_the_result(
    heads, tiny_folder, texts, tmp_path
):
    chosen, _ = heads
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["rope_parameters"]["rope_theta"] = 500.0
    (folder / "config.json").write_text(json.dumps(config))
    model = load(folder, device="cpu", other_weights=True)
    proof = langheads.ablate(model, chosen, texts, docs=2, n_controls=2, baseline="zero")
    weights = describe(model)["weight_hash"]
    assert named_in(proof.attrs, "other_weights") == {"heads": weights}
    langheads.save(proof, tmp_path / "ablation.nc")
    assert other_weights_words(read_run(tmp_path)) == [
        "ablation.nc: its heads are of these weights under another configuration or tokenizer, as "
        "was asked for."
    ]


def test_another_shape_is_refused_all_the_same(heads, texts, zoo):
    chosen, _ = heads
    model = load(zoo.fresh("llama-mha"), other_weights=True)
    with pytest.raises(ProvenanceError) as error:
        langheads.ablate(model, chosen, texts, docs=2, n_controls=2)
    assert str(error.value) == (
        "the head set is for a model of 3 layers x 4 heads, but this one has 2 x 4"
    )
