"""Every expected error of the command line: one clear line, exit code 2, nothing half-written."""

import contextlib
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import tqdm.std
import typer
import xarray as xr
from safetensors.torch import load_file, save_file

import langheads
from langheads import cli
from langheads.io.arguments import check_seed
from langheads.io.errors import InputError, LangheadsError
from langheads.scores.formulas import LAHIS
from langheads.selection.contrast import contrast
from langheads.text.knowledge_conflict import occupation_pairs

SMALL = ["--docs", "4", "--device", "cpu"]


@pytest.fixture
def out(tmp_path):
    """A folder for results, empty."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture
def verb(monkeypatch, capsys):
    """Runs the command line in this process: exit code, standard output, standard error."""
    for name in ("TQDM_DISABLE", "HF_HUB_DISABLE_PROGRESS_BARS", "TRANSFORMERS_VERBOSITY"):
        # The command line sets these, and must not set them for other tests.
        monkeypatch.setenv(name, "error" if name == "TRANSFORMERS_VERBOSITY" else "1")
    # tqdm reads its variable when it is imported, which was long before.
    quiet = functools.partialmethod(tqdm.std.tqdm.__init__, disable=True)
    monkeypatch.setattr(tqdm.std.tqdm, "__init__", quiet)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["langheads", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as stopped:
            code = stopped.code
        found = capsys.readouterr()
        return code, found.out, found.err

    return run


@pytest.fixture
def refused(verb, out):
    """Runs the command line, and expects one line on standard error and an empty folder `out`."""

    def run(*arguments, message):
        code, printed, error = verb(*arguments)
        assert code == 2, error
        assert printed == ""
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert error.endswith("\n")
        assert re.search(message, error), error
        assert len(error) < 400
        assert os.listdir(out) == []

    return run


@pytest.fixture(scope="module")
def scored(tiny, texts):
    return langheads.score(tiny, texts, method="lahis", docs=4)


@pytest.fixture
def scores(scored, tmp_path):
    return langheads.save(scored, tmp_path / "scores.nc")


@pytest.fixture
def heads(scores, tmp_path):
    chosen = langheads.select(langheads.load_result(scores), quantile=0.7, share=0.2)
    return chosen.save(tmp_path / "heads.json")


def changed(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")
    return path


# Arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["scroe"], "No such command 'scroe'"),
        (["score"], "Missing argument 'MODEL'"),
        (["score", "demo"], "Missing option '--text'"),
        (["score", "demo", "--text", "t", "--out", "o", "--docs", "many"], "'--docs'.*integer"),
        (["score", "demo", "--text", "t", "--out", "o", "--doc", "1"], "No such option.*--doc"),
        (["select"], "Missing argument 'SCORES'"),
        (["report"], "Missing argument 'RUN'"),
    ],
)
def test_what_typer_refuses_is_one_line_too(refused, arguments, message):
    refused(*arguments, message=message)


SEEDED = {
    "score": ["m", "--text", "t", "--out", "o"],
    "knockout": ["m", "--text", "t", "--out", "o"],
    "knockout-task": ["m", "--questions", "q", "--out", "o"],
    "select": ["s.nc", "--out", "o"],
    "classify": ["k.nc", "--languages", "en,hi", "--out", "o"],
    "ablate": ["m", "--heads", "h", "--text", "t", "--out", "o"],
    "run": ["m", "--text", "t", "--out", "o"],
    "generate": ["m", "--prompts", "p", "--out", "o"],
    "adapt": ["m", "--heads", "h", "--questions", "q", "--language", "hi", "--out", "o"],
    "evaluate-qa": ["m", "--questions", "q", "--language", "hi", "--out", "o"],
    "transfer": ["m", "--heads", "h", "--out", "o"],
    "prune": ["m", "--heads", "h", "--drop", "zh", "--out", "o"],
}


@pytest.mark.parametrize("seed", ["-1", "9" * 20, "9" * 5000])
@pytest.mark.parametrize("name", SEEDED)
def test_a_seed_that_no_generator_takes(refused, name, seed):
    refused(name, *SEEDED[name], "--seed", seed, message="Invalid value for '--seed'")


def test_every_verb_with_a_seed_is_among_those(verb):
    commands = typer.main.get_command(cli.make_app()).commands
    seeded = {name for name, of in commands.items() if any(p.name == "seed" for p in of.params)}
    assert seeded == set(SEEDED)


@pytest.mark.parametrize("seed", [-1, 2**32, 10**20])
def test_a_seed_that_no_generator_takes_in_python(seed, tiny, texts):
    qa = {"en": [{"context": "a", "question": "b", "answers": ["c"]}]}
    noise = {name: np.random.default_rng(0).normal(size=(9, 1, 2)) for name in ("en", "hi")}
    calls = [
        lambda: langheads.read_texts(texts, seed=seed),
        lambda: langheads.score(tiny, texts, seed=seed),
        lambda: langheads.read_questions(qa, seed=seed),
        lambda: langheads.generate(tiny, ["a"], seed=seed, temperature=1.0),
        lambda: contrast(noise, LAHIS, seed=seed),
        lambda: occupation_pairs(3, seed=seed),
    ]
    for call in calls:
        with pytest.raises(InputError, match="asked for; allowed are whole numbers from 0 to"):
            call()
    assert check_seed(np.int64(2**32 - 1)) == 2**32 - 1
    for other in (0.5, "1", None):
        with pytest.raises(InputError, match="allowed are whole numbers from 0 to 4294967295"):
            check_seed(other)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "lahs"], "method lahs asked for; allowed are lahis, lahis-paper, "
         "lahis-sequential, taylor"),
        (["--dtype", "int8"], "dtype 'int8' asked for; allowed are float32"),
        (["--device", "gpu"], "device 'gpu' asked for; allowed are cpu, cuda"),
        (["--batch-tokens", "much"], "--batch-tokens 'much': allowed are auto or a number > 0"),
        (["--batch-tokens", "-1"], "batch_tokens -1 asked for; allowed are auto or a number > 0"),
        (["--docs", "0"], "0 documents asked for; at least 1 is needed"),
        (["--max-tokens", "1"], "max_tokens 1 asked for; a document needs at least 2 tokens"),
        (["--languages", "en,fr"], "no file for language fr in .*; found en, hi, zh"),
        (["--languages", "EN"], "no file for language EN in .*; found en, hi, zh"),
        (["--languages", "en,"], "an empty language name .* write --languages en,zh"),
    ],
)  # fmt: skip
def test_an_unknown_argument_of_score(refused, tiny_folder, texts_folder, out, arguments, message):
    refused(
        "score", tiny_folder, "--text", texts_folder, "--out", out / "s.nc", "--device", "cpu",
        *arguments, message=message,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rule", "vote"], "rule 'vote' asked for; allowed are count, contrast, top"),
        (["--score", "taylor"], "score 'taylor' asked for; the file has lahis, grad_abs, helpful"),
        (["--quantile", "1.5"], "quantile 1.5.* asked for; allowed are 0 <= quantile < 1"),
        (["--share", "0"], "share 0.0.* asked for; allowed are"),
    ],
)
def test_an_unknown_argument_of_select(refused, scores, out, arguments, message):
    refused("select", scores, "--out", out / "h.json", *arguments, message=message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--baseline", "median"], "baseline median asked for; allowed are zero, mean"),
        (["--n-controls", "1"], "1 controls asked for; at least 2 are needed"),
        (["--docs", "12"], "12 of the documents asked for were used to score .*--allow-overlap"),
    ],
)
def test_an_unknown_argument_of_ablate(
    refused, tiny_folder, texts_folder, heads, out, arguments, message
):
    refused(
        "ablate", tiny_folder, "--heads", heads, "--text", texts_folder, "--out", out / "a.nc",
        *SMALL, *arguments, message=message,
    )  # fmt: skip


def test_heads_without_a_language_are_told_what_is_missing(
    refused, verb, tiny_folder, texts_folder, out
):
    asked = ["ablate", tiny_folder, "--text", texts_folder, "--out", out / "a.nc", *SMALL]
    refused(
        *asked, "--heads", "L0H1,L2H3",
        message=r"^error: heads L0H1 L2H3 were given without a language, and a proof holds a "
        r"language's heads to its own text beside that of others; name it, like zh=L0H1,L5H7\n$",
    )  # fmt: skip
    few = ["--n-controls", "2", "--baseline", "zero"]
    code, _, error = verb(*asked, "--heads", "zh=L0H1,L2H3", *few)
    assert code == 0, error
    found = langheads.load_result(out / "a.nc", "ablation")
    assert found.heads.values.tolist() == ["L0H1 L2H3"]


def test_an_unknown_argument_of_run_and_demo(refused, tiny_folder, texts_folder, out):
    refused(
        "run", tiny_folder, "--text", texts_folder, "--out", out / "run", *SMALL,
        "--method", "lahs", "--proof-docs", "3", message="method lahs asked for",
    )  # fmt: skip
    refused("demo", "--out", out / "demo", "--docs", "900", message="the demo takes 2 to 180")


# Models


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("none", "no model none: not a local folder, and not on the Hugging Face Hub"),
        ("org/none", "no model org/none: .* give a folder, a Hugging Face id, or demo"),
        ("./none", r"no model folder ./none; give a folder"),
    ],
)
def test_no_such_model(refused, texts_folder, out, model, message):
    refused("score", model, "--text", texts_folder, "--out", out / "s.nc", message=message)


def test_a_folder_that_is_no_model(refused, texts_folder, out):
    refused(
        "score", texts_folder, "--text", texts_folder, "--out", out / "s.nc",
        message="is not a model folder",
    )  # fmt: skip


def test_a_gated_model_without_a_token(refused, texts_folder, out, monkeypatch):
    def from_pretrained(name, **keywords):
        raise OSError(
            "You are trying to access a gated repo.\nMake sure to have access to it at "
            f"https://huggingface.co/{name}.\n401 Client Error. Access to it is restricted."
        )

    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", from_pretrained)
    refused(
        "score", "org/gated", "--text", texts_folder, "--out", out / "s.nc",
        message="model org/gated is gated: accept its licence on huggingface.co and set HF_TOKEN",
    )  # fmt: skip


def test_a_model_without_attention_heads(refused, zoo, texts_folder, out, tmp_path):
    mamba = zoo.save("mamba", tmp_path / "mamba")
    refused(
        "score", mamba, "--text", texts_folder, "--out", out / "s.nc", *SMALL,
        message="MambaForCausalLM has no layer with attention heads at hook_z",
    )  # fmt: skip


def test_broken_weights(refused, tiny_folder, texts_folder, out, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    refused(
        "score", folder, "--text", texts_folder, "--out", out / "s.nc", *SMALL,
        message=f"cannot load model {folder}",
    )  # fmt: skip


def with_nan(tiny_folder, folder):
    shutil.copytree(tiny_folder, folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"][0, 0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("method", ["lahis", "lahis-sequential"])
def test_weights_that_are_nan(refused, tiny_folder, texts_folder, out, tmp_path, method):
    folder = with_nan(tiny_folder, tmp_path / "model")
    refused(
        "score", folder, "--text", texts_folder, "--out", out / "s.nc", "--method", method, *SMALL,
        message=r"document \d of language en is NaN or infinite; check the weights",
    )  # fmt: skip


def test_weights_that_are_nan_in_ablate(refused, tiny_folder, texts_folder, heads, out, tmp_path):
    folder = with_nan(tiny_folder, tmp_path / "model")
    provenance = json.loads(heads.read_text("utf-8"))["provenance"]
    described = langheads.model.describe(langheads.load(folder, device="cpu"))
    changed(heads, provenance=provenance | described)
    refused(
        "ablate", folder, "--heads", heads, "--text", texts_folder, "--out", out / "a.nc", *SMALL,
        "--baseline", "zero", message="of language en is NaN or infinite",
    )  # fmt: skip


def test_a_hook_that_does_not_fire_at_load(refused, tiny_folder, texts_folder, out, monkeypatch):
    from transformer_lens.model_bridge import TransformerBridge

    monkeypatch.setattr(TransformerBridge, "hooks", lambda self, **_: contextlib.nullcontext(self))
    refused(
        "score", tiny_folder, "--text", texts_folder, "--out", out / "s.nc", *SMALL,
        message=r"hook_z fired in layers \[\] of one forward, expected each of 3 once",
    )  # fmt: skip


def test_a_hook_that_does_not_fire_later(refused, tiny_folder, texts_folder, out, monkeypatch):
    from transformer_lens.model_bridge import TransformerBridge

    original, calls = TransformerBridge.hooks, []

    def hooks(self, fwd_hooks=(), **keywords):
        calls.append(fwd_hooks)
        # The first call looks at the model, then layer 1 falls silent.
        kept = fwd_hooks if len(calls) == 1 else [h for h in fwd_hooks if "blocks.1." not in h[0]]
        return original(self, fwd_hooks=kept, **keywords)

    monkeypatch.setattr(TransformerBridge, "hooks", hooks)
    score = ("score", tiny_folder, "--text", texts_folder, "--out", out / "s.nc", *SMALL)
    refused(
        *score,
        message=r"^error: self-test of LlamaForCausalLM failed: hook_z fired in layers \[0, 2\] of "
        r"one forward, expected each once and in order; its results would be wrong "
        r"\(--no-self-test, self_test=False in Python, goes on all the same\)$",
    )
    calls.clear()
    refused(*score, "--no-self-test", message="hook_z of layer 2 fired where layer 1 was due")


# Texts


def test_translations_are_known_by_their_ids_as_in_python(verb, tiny_folder, out, tmp_path, caplog):
    (tmp_path / "told").mkdir()
    for language in ("en", "zh"):
        lines = (json.dumps({"id": str(i), "text": f"{language} {i}"}) for i in range(6))
        (tmp_path / "told" / f"{language}.jsonl").write_text("\n".join(lines))
    score = ("score", tiny_folder, "--text", tmp_path / "told", "--method", "random", *SMALL)
    assert verb(*score, "--out", out / "a.nc")[0] == 0
    assert caplog.messages == [
        f"{tmp_path / 'told'} has the same ids in every language: documents of one id are taken "
        "for translations of each other (aligned); --no-aligned says that they are none"
    ]
    assert langheads.load_result(out / "a.nc").attrs["aligned"] == 1
    caplog.clear()
    assert verb(*score, "--out", out / "b.nc", "--no-aligned")[0] == 0
    assert caplog.messages == []
    assert "aligned" not in langheads.load_result(out / "b.nc").attrs


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("en.jsonl", b"", "language en in .* has no documents that are not empty"),
        ("en.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', "line 2, byte 11: not UTF-8"),
        ("en.txt", b"a\n\xff\n", r"en\.txt, line 2, byte 1: not UTF-8"),
        ("en.jsonl", b'{"text": "a"}\n{"text": a}\n', r"en\.jsonl, line 2: not JSON"),
        ("en.jsonl", b'{"txt": "a"}\n', r'line 1: text missing; found txt'),
        ("en.parquet", b"no", r"en\.parquet is not a parquet file"),
        ("notes.md", b"a", "no <language>.jsonl, .txt or .parquet in"),
    ],
)  # fmt: skip
def test_texts_that_cannot_be_used(refused, tiny_folder, out, tmp_path, name, content, message):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / name).write_bytes(content)
    refused(
        "score", tiny_folder, "--text", tmp_path / "bad", "--out", out / "s.nc", message=message
    )


def test_no_texts_at_all(refused, tiny_folder, out, tmp_path):
    refused(
        "score", tiny_folder, "--text", tmp_path / "none", "--out", out / "s.nc",
        message="no folder .*none; texts are a folder of <language>.jsonl",
    )  # fmt: skip
    refused(
        "score", tiny_folder, "--text", "hf:org/none", "--out", out / "s.nc",
        message="cannot read data set hf:org/none",
    )  # fmt: skip


def test_documents_of_one_token(refused, bare_folder, out, tmp_path):
    (tmp_path / "short").mkdir()
    (tmp_path / "short" / "en.txt").write_text("a\nb\nc\n")
    refused(
        "score", bare_folder, "--text", tmp_path / "short", "--out", out / "s.nc", *SMALL,
        message="language en: all 3 documents have fewer than 2 tokens, so nothing in them is",
    )  # fmt: skip


def test_bos_of_a_tokenizer_that_has_none(refused, bare_folder, texts_folder, out):
    refused(
        "score", bare_folder, "--text", texts_folder, "--out", out / "s.nc", *SMALL, "--bos",
        message="of language en has number 259, but the model has 259 tokens; use --no-bos",
    )  # fmt: skip


# Files of other verbs


def test_heads_that_the_model_does_not_have(refused, tiny_folder, texts_folder, heads, out):
    arguments = ["ablate", tiny_folder, "--text", texts_folder, "--out", out / "a.nc", *SMALL]
    changed(heads, specific={"en": [[3, 0]]})
    refused(
        *arguments, "--heads", heads,
        message="heads.json is not a head set: head L3H0 asked for, but the model has "
        "3 layers of 4 heads",
    )  # fmt: skip
    changed(heads, shape=[32, 32])
    refused(
        *arguments, "--heads", heads,
        message="for a model of 32 layers x 32 heads, but this one has 3 x 4",
    )  # fmt: skip


@pytest.mark.parametrize("key", ["weight_hash", "tokenizer_hash"])
def test_heads_of_another_model(refused, tiny_folder, texts_folder, heads, out, key):
    provenance = json.loads(heads.read_text("utf-8"))["provenance"]
    changed(heads, provenance=provenance | {key: "c" * 64, "model": "other"})
    refused(
        "ablate", tiny_folder, "--heads", heads, "--text", texts_folder, "--out", out / "a.nc",
        *SMALL, message="made with [a-z]+ cccccccccccc of model other, but this is .*make it again",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"cannot read .*heads\.json: No such file"),
        (b'{"format": 1,\n', r"heads\.json, line 2: not JSON"),
        (b"\xff", r"heads\.json is not UTF-8 \(byte 0\)"),
        (b"{}", r"heads\.json is not a head set of format 1"),
    ],
)
def test_a_file_that_is_no_head_set(refused, tiny_folder, texts_folder, out, tmp_path, content,
                                    message):  # fmt: skip
    if content is not None:
        (tmp_path / "heads.json").write_bytes(content)
    refused(
        "ablate", tiny_folder, "--heads", tmp_path / "heads.json", "--text", texts_folder,
        "--out", out / "a.nc", message=message,
    )  # fmt: skip


def test_a_file_that_is_no_scores_file(refused, heads, out, tmp_path):
    refused("select", tmp_path / "none.nc", "--out", out / "h.json", message=r"no file .*none\.nc")
    refused("select", heads, "--out", out / "h.json", message="is not a netCDF result of langheads")
    foreign = tmp_path / "foreign.nc"
    xr.Dataset({"a": 1}).to_netcdf(foreign, engine="h5netcdf")
    refused("select", foreign, "--out", out / "h.json", message="is not a result of langheads")
    langheads.save(xr.Dataset({"a": 1}, attrs={"kind": "ablation", "format": 1}), foreign)
    refused("select", foreign, "--out", out / "h.json", message="holds ablation, expected scores")


def test_a_folder_that_is_no_run(refused, out, tmp_path):
    refused("report", tmp_path / "none", message="no folder .*none; a run is a folder with")
    refused("report", out, message="nothing to report in .*expected scores.nc")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "scores.nc").write_bytes(b"no")
    refused("report", tmp_path / "run", "--out", out / "r.html", message="is not a netCDF result")


# Writing


def test_a_place_that_cannot_be_written(refused, tiny_folder, texts_folder, heads, scores, out,
                                        tmp_path):  # fmt: skip
    (tmp_path / "file").write_text("x")
    below = tmp_path / "file" / "result"
    message = f"cannot write {tmp_path}/file/.*: Not a directory"
    refused("score", tiny_folder, "--text", texts_folder, "--out", below, message=message)
    refused("select", scores, "--out", below, message=message)
    refused(
        "ablate", tiny_folder, "--heads", heads, "--text", texts_folder, "--out", below,
        message=message,
    )  # fmt: skip
    refused("run", tiny_folder, "--text", texts_folder, "--out", below, *SMALL, message=message)
    refused("demo", "--out", below, message=message)
    shutil.copy(scores, tmp_path / "run.nc")
    refused("select", scores, "--out", out, message="cannot write .*it is a folder; name a file")


@pytest.mark.parametrize(
    ("arguments", "target"),
    [
        (["score", "m", "--text", "run"], "run/en.jsonl"),
        (["knockout", "m", "--text", "run"], "run/en.jsonl"),
        (["knockout-task", "m", "--questions", "run"], "run/en.jsonl"),
        (["select", "run/scores.nc"], "run/scores.nc"),
        (["classify", "run/knockout.nc", "--languages", "en,hi"], "run/knockout.nc"),
        (["ablate", "m", "--heads", "run/h.json", "--text", "t"], "run/h.json"),
        (["ablate", "m", "--heads", "run/h.json", "--text", "run"], "run/en.jsonl"),
        (["attribute", "m", "--prompts", "run/en.jsonl"], "run/en.jsonl"),
        (["attention", "m", "--text", "a cat", "--heads", "run/h.json"], "run/h.json"),
        (["attention", "m", "--text", "a cat", "--heads", "L0H0", "--scores", "run/h.json"],
         "run/h.json"),
        (["generate", "m", "--prompts", "run/en.jsonl"], "run/en.jsonl"),
        (["generate", "m", "--prompts", "p", "--heads", "run/r.summary.json"], "run/r.jsonl"),
        (["generate", "m", "--prompts", "p", "--mask", "run/h.json"], "run/h.json"),
        (["transfer", "m", "--heads", "run/h.json"], "run/h.json"),
        (["transfer", "m", "--heads", "h.json", "--templates", "run"], "run/en.jsonl"),
        (["adapt", "m", "--heads", "run/h.json", "--questions", "q", "--language", "hi"],
         "run/h.json"),
        (["evaluate-qa", "m", "--questions", "q", "--gates", "run/h.json", "--language", "hi"],
         "run/h.json"),
        (["compare", "run"], "run/scores.nc"),
        (["report", "run"], "run/knockout.nc"),
    ],
)  # fmt: skip
def test_an_output_that_is_an_input(refused, monkeypatch, tmp_path, arguments, target):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    names = ("en.jsonl", "scores.nc", "knockout.nc", "h.json", "r.summary.json")
    for name in names:
        (tmp_path / "run" / name).write_text(name)
    refused(
        *arguments, "--out", target,
        message=r"cannot write run/[a-z.]*: it is one of the inputs; name another file",
    )  # fmt: skip
    assert sorted(os.listdir(tmp_path / "run")) == sorted(names)
    assert all((tmp_path / "run" / name).read_text() == name for name in names)


def test_a_refused_verb_does_not_make_a_folder(refused, tiny_folder, out):
    refused(
        "score", tiny_folder, "--text", out / "none", "--out", out / "new" / "s.nc",
        message="no folder",
    )  # fmt: skip


@pytest.mark.parametrize("room", [0, 9000])
def test_a_full_disk(verb, refused, tiny_folder, texts_folder, scores, out, full_disk, room,
                     tmp_path):  # fmt: skip
    if room:
        # Room for a head set and not for scores.
        asked = ["score", tiny_folder, "--text", texts_folder, "--out", tmp_path / "s.nc", *SMALL]
        with full_disk(room):
            refused(*asked, message=r"cannot write .*s\.nc: File too large")
            refused(
                "report", scores.parent, "--out", out / "r.html",
                message=r"cannot write .*r\.html: File too large",
            )  # fmt: skip
        # With more room the same command goes on.
        assert list((tmp_path / "s.nc.parts").glob("*.part"))
        assert verb(*asked)[0] == 0
        assert not (tmp_path / "s.nc.parts").exists()
    else:
        with full_disk(room):
            refused("select", scores, "--out", out / "h.json", message=r"h\.json: File too large")


def test_a_disk_that_has_no_space_left(refused, scores, out, monkeypatch):
    def fsync(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    refused("select", scores, "--out", out / "h.json", message="h.json: No space left on device")


# Memory


@pytest.fixture
def small_memory(monkeypatch):
    """Memory for a number of documents at once; the largest batches that were tried."""
    from langheads.scores import gradient

    original, tried = gradient.document_nll, []

    def limit(documents):
        def document_nll(model, tokens, lengths):
            tried.append(len(tokens))
            if len(tokens) > documents:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return original(model, tokens, lengths)

        monkeypatch.setattr(gradient, "document_nll", document_nll)
        return tried

    return limit


def test_a_batch_that_does_not_fit_is_halved_and_told(
    verb, tiny_folder, tiny, texts, texts_folder, out, small_memory, caplog
):
    alone = langheads.score(tiny, texts, method="lahis", docs=8, batch_tokens=1)
    tried = small_memory(2)
    arguments = ["--docs", "8", "--device", "cpu", "--method", "lahis", "--languages", "en,zh,hi"]
    arguments += ["--no-aligned"]
    code, printed, error = verb(
        "score", tiny_folder, "--text", texts_folder, "--out", out / "s.nc", *arguments
    )
    assert code == 0, error
    assert printed == f"{out / 's.nc'}\n"
    warnings = [r.getMessage() for r in caplog.records if r.name == "langheads"]
    assert warnings
    assert all(re.fullmatch(r"out of memory: going on with \d+ tokens a batch", w)
               for w in warnings)  # fmt: skip
    assert max(tried) > 2
    assert sum(n for n in tried if n <= 2) == 24
    found = langheads.load_result(out / "s.nc", "scores")
    for name in alone.data_vars:
        np.testing.assert_allclose(found[name], alone[name], rtol=1e-4, atol=1e-6)


def test_a_document_that_does_not_fit_is_told(refused, tiny_folder, texts_folder, out,
                                              small_memory):  # fmt: skip
    small_memory(0)
    refused(
        "score", tiny_folder, "--text", texts_folder, "--out", out / "s.nc", *SMALL,
        message=r"out of memory on one document of \d+ tokens \(en\); lower --max-tokens or use",
    )  # fmt: skip


# What the user sees around an error


def test_debug_shows_where_it_happened(verb, tmp_path):
    with pytest.raises(LangheadsError, match="no file"):
        verb("--debug", "select", tmp_path / "none.nc", "--out", tmp_path / "h.json")
    with pytest.raises(LangheadsError, match="no file"):
        verb("select", tmp_path / "none.nc", "--out", tmp_path / "h.json", "--debug")


def command(*arguments, **keywords):
    program = "from langheads.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **keywords,
    )


def test_a_process_ends_with_code_and_line(tmp_path):
    arguments = ["ablate", "demo", "--heads", tmp_path / "none.json", "--text", "t",
                 "--out", tmp_path / "a.nc"]  # fmt: skip
    plain, debug = command(*arguments), command(*arguments, "--debug")
    printed, error = plain.communicate(timeout=60)
    assert (plain.returncode, printed) == (2, "")
    assert re.fullmatch(r"error: cannot read .*none\.json: No such file or directory\n", error)
    _, error = debug.communicate(timeout=60)
    assert debug.returncode == 1
    assert error.startswith("Traceback (most recent call last)")
    assert "InputError: cannot read" in error
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("by", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_signal_is_told_in_one_line(
    verb, tiny_folder, texts_folder, out, monkeypatch, request, by, code, word
):
    from langheads import pipeline
    from langheads.scores import gradient

    def signalled(*arguments, **keywords):
        os.kill(os.getpid(), by)
        time.sleep(60)  # the handler runs soon, but not always before the next line

    # What a new process has; event loops of other tests leave handlers of their own.
    interrupts = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, interrupts))
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(pipeline, "ablate", signalled)
    asked = ["run", tiny_folder, "--text", texts_folder, "--proof-docs", "2", *SMALL]
    found = verb(*asked, "--out", out, "--method", "lahis", "--languages", "en,zh")
    told = f"error: {word}; nothing half-written was left; {{}}; give the same command again "
    parts = sorted(out.parent.glob("out.parts/*.part"))
    kept = f"{len(parts)} finished parts are kept in {out}.parts"
    assert (found[0], found[1]) == (code, "")
    assert found[2].splitlines()[-1] == told.format(kept) + "to go on"
    assert len(parts) > 1
    assert sorted(os.listdir(out)) == ["heads.json", "scores.nc"]
    monkeypatch.setattr(gradient, "document_nll", signalled)
    found = verb("score", tiny_folder, "--text", texts_folder, "--out", out / "s.nc", *SMALL)
    assert found == (code, "", told.format("kept: nothing") + "to start over\n")
    assert sorted(os.listdir(out)) == ["heads.json", "scores.nc"]
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
def test_what_stops_in_the_middle_leaves_nothing(verb, tiny_folder, out, tmp_path):
    (tmp_path / "many").mkdir()
    lines = [f"document {i} of many" * (1 + i % 4) for i in range(400)]
    (tmp_path / "many" / "en.txt").write_text("\n".join(lines))
    arguments = ["score", tiny_folder, "--text", tmp_path / "many", "--device", "cpu",
                 "--method", "lahis-sequential,lahis", "--batch-tokens", "200"]  # fmt: skip
    # An empty value leaves progress on, here a line a document: it tells when scoring is under way.
    environment = os.environ | {"TQDM_DISABLE": "", "TQDM_MININTERVAL": "0", "OMP_NUM_THREADS": "1"}
    signals = {"interrupted": signal.SIGINT, "terminated": signal.SIGTERM, "killed": signal.SIGKILL}
    stopped = {
        name: command(*arguments, "--out", out / f"{name}.nc", env=environment) for name in signals
    }
    errors = {}
    for name, process in stopped.items():
        seen = ""
        while not re.search(r"^score: [1-9]\d* of 800 doc, ", seen, re.MULTILINE):
            seen += process.stderr.read(1)
            assert process.poll() is None, seen
        # A part is some batches, and is written after they are told.
        while not any((out / f"{name}.nc.parts").glob("*.part")):
            assert process.poll() is None, seen
            time.sleep(0.01)
        process.send_signal(signals[name])
        errors[name] = seen + process.communicate(timeout=60)[1]
    for name, code in (("interrupted", 130), ("terminated", 143)):
        assert stopped[name].returncode == code
        # What was read ahead of a line is lost to `communicate`.
        assert re.search(
            rf"error: {name}; nothing half-written was left; (1 finished part is|\d+ finished "
            r"parts are) kept in \S+\.nc\.parts; give the same command again to go on\n$",
            errors[name],
        )
        assert "Traceback" not in errors[name]
        assert "\r" not in errors[name]
    assert stopped["killed"].returncode == -signal.SIGKILL
    left = [name for name in os.listdir(out) if not name.startswith(".")]
    assert sorted(left) == [f"{name}.nc.parts" for name in sorted(signals)]

    # What a kill in the middle of writing leaves is in nobody's way.
    (out / ".killed.nc.abc.tmp").write_bytes(b"half")
    few = [*arguments, "--docs", "10", "--fresh"]
    for name in ("killed", "undisturbed"):
        code, _, error = verb(*few, "--out", out / f"{name}.nc")
        assert code == 0, error
    again, undisturbed = (
        langheads.load_result(out / f"{name}.nc", "scores") for name in ("killed", "undisturbed")
    )
    xr.testing.assert_equal(again, undisturbed)
    assert again.lahis_sequential.notnull().all()


def test_a_name_that_no_file_can_have(refused, out):
    refused("report", "n" * 300, message=r"n{60}\.\.\.: File name too long")
    refused("report", "r", "--out", "n" * 300, message="File name too long|no folder r")


@pytest.mark.parametrize("name", ["ablate", "generate", "evaluate-qa", "transfer", "prune", "run"])
def test_more_random_heads_than_memory_holds(refused, name):
    refused(
        name, *SEEDED[name], "--n-controls", "9" * 20,
        message="Invalid value for '--n-controls'.*100000",
    )  # fmt: skip


def test_no_texts_are_not_the_folder_at_hand(refused, tiny_folder, texts_folder, out, monkeypatch):
    monkeypatch.chdir(texts_folder)
    refused("score", tiny_folder, "--text", "", "--out", out / "s.nc", message="no texts given")


def test_a_failed_self_test_is_one_line_and_can_be_skipped(
    refused, verb, tiny_folder, texts_folder, out, monkeypatch
):
    monkeypatch.setattr("langheads.model.self_test._what_is_wrong", lambda model: "all of it")
    asked = ["score", tiny_folder, "--text", texts_folder, *SMALL, "--out", out / "scores.nc"]
    refused(
        *asked,
        message=r"^error: self-test of LlamaForCausalLM failed: all of it; its results would be "
        r"wrong \(--no-self-test, self_test=False in Python, goes on all the same\)\n$",
    )
    code, _, error = verb(*asked, "--no-self-test")
    assert code == 0
    assert re.fullmatch(r"took \d+ s; memory \d+\.\d\d GiB at most\n", error)
    assert langheads.load_result(out / "scores.nc").attrs["self_test"] == "skipped"


def test_what_is_not_as_published_is_refused_before_a_model_is_loaded(refused, out, tmp_path):
    refused(
        "transfer", tmp_path / "no-model", "--heads", "en=L0H1,zh=L2H2", "--as-published",
        "--max-new-tokens", "8", "--out", out / "transfer.nc",
        message="max_new_tokens 8 asked for, but as published it is 5; leave out one of "
        "max_new_tokens and as_published",
    )  # fmt: skip
    heads = langheads.LanguageHeads(
        {"hi": langheads.HeadSet(["L0H1"], (3, 4))}, langheads.HeadSet([], (3, 4)), "tiny",
        {"name": "count"},
    )  # fmt: skip
    heads.save(tmp_path / "heads.json")
    (tmp_path / "asked").mkdir()
    line = '{"context": "tea", "question": "?", "answers": ["tea"]}'
    (tmp_path / "asked" / "hi.jsonl").write_text(line, encoding="utf-8")
    refused(
        "adapt", tmp_path / "no-model", "--heads", tmp_path / "heads.json", "--language", "hi",
        "--questions", tmp_path / "asked", "--as-published", "--out", out / "mask.json",
        message="heads of the rule 'count' given, but as published they are those of the highest",
    )  # fmt: skip
