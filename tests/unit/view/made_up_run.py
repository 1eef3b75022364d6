"""A run made up of numbers that a test can recompute, in the files that langheads writes."""

import json
from pathlib import Path

import numpy as np
import xarray as xr

from langheads.heads import HeadSet, LanguageHeads
from langheads.io.results import save

PROVENANCE = {
    "format": 1,
    "model": "made-up",
    "revision": "",
    "weight_hash": "ab" * 32,
    "tokenizer_hash": "cd" * 32,
    "text": "texts",
    "text_hash": '{"en": "00", "zh": "11"}',
    "seed": 0,
    "docs": 20,
}


def make_scores(languages, shape=(4, 6), seed=0, **attrs):
    rng = np.random.default_rng(seed)
    n, dims = len(languages), ("language", "layer", "head")
    lahis = rng.lognormal(-5, 1, (n, *shape))
    taylor = rng.normal(0, 0.01, (n, *shape))
    return xr.Dataset(
        {
            "lahis": (dims, lahis, {"units": "nats"}),
            "lahis_se": (dims, lahis / 8, {"units": "nats"}),
            "taylor": (dims, taylor, {"units": "nats per token"}),
            "docs": ("language", np.full(n, 20)),
            "skipped": ("language", np.zeros(n, dtype=int)),
            "tokens": ("language", 1000 + np.arange(n)),
            "bytes": ("language", 4000 + np.arange(n)),
            "nats_per_byte": ("language", np.full(n, 0.5), {"units": "nats per byte"}),
        },
        coords={"language": list(languages)},
        attrs=PROVENANCE | {"kind": "scores"} | attrs,
    )


def make_heads(languages, shape=(4, 6), **fields):
    specific = {
        language: HeadSet([(i % shape[0], i % shape[1]), ((i + 1) % shape[0], 0)], shape)
        for i, language in enumerate(languages)
    }
    rule = {"name": "count", "score": "lahis", "quantile": 0.96}
    made = {"model": "made-up", "rule": rule, "provenance": PROVENANCE} | fields
    return LanguageHeads(specific=specific, general=HeadSet([(3, 5)], shape), **made)


def make_ablation(languages, diagonal=(0.2, 0.3), empty=(), controls=100, seed=0, **attrs):
    """Own rise `diagonal` a baseline, others 0.001; controls within 0.01 plus or minus 0.002."""
    n, baselines = len(languages), ["zero", "mean"]
    rows = [*languages, "general"]
    matrix = ("baseline", "heads_of", "text_of")
    delta = np.full((2, n + 1, n), 0.001)
    for b in range(2):
        delta[b, range(n), range(n)] = diagonal[b]
    delta[:, n] = 0.1
    rng = np.random.default_rng(seed)
    control = rng.uniform(0.008, 0.012, (2, n + 1, controls, n))
    counts = np.array([2] * n + [1])
    heads = [str(chosen) for chosen in make_heads(languages).specific.values()] + ["L3H5"]
    p = (1 + (control >= delta[:, :, None]).sum(axis=2)) / (1 + controls)
    for language in empty:
        at = rows.index(language)
        delta[:, at], control[:, at], counts[at], p[:, at] = np.nan, np.nan, 0, np.nan
        heads[at] = ""
    least = max(0.001, 1 / (1 + controls))
    shown = [own > 0.012 for own in diagonal]
    per_byte = {"units": "nats per byte"}
    return xr.Dataset(
        {
            "delta_nats_per_byte": (matrix, delta, per_byte),
            "delta_se": (matrix, np.full(delta.shape, 0.01), per_byte),
            "control_delta": (("baseline", "heads_of", "control", "text_of"), control, per_byte),
            "control_mean": (matrix, control.mean(axis=2), per_byte),
            "control_se": (matrix, control.std(axis=2) / 10, per_byte),
            "control_p": (matrix, p, {"units": "probability"}),
            "n_controls": ("heads_of", np.where(counts > 0, controls, 0), {"units": "count"}),
            "nats_per_byte": ("text_of", np.full(n, 0.5), per_byte),
            "perplexity": ("text_of", np.full(n, 7.0)),
            "perplexity_off": (matrix, 7.0 + delta),
            "diagonal_share": ("baseline", [1.0 if yes else 0.0 for yes in shown]),
            "diagonal_p": ("baseline", [least if yes else 0.8 for yes in shown]),
            "own_minus_others": ("baseline", np.array(diagonal) - 0.001, per_byte),
            "own_minus_others_p": ("baseline", [least if yes else 0.7 for yes in shown]),
            "n_heads": ("heads_of", counts),
            "heads": ("heads_of", heads),
        },
        coords={"baseline": baselines, "heads_of": rows, "text_of": list(languages)},
        attrs=PROVENANCE | {"kind": "ablation"} | attrs,
    )


def write_run(folder: Path, languages=("en", "zh", "हिन्दी", "العربية"), **ablation):
    folder.mkdir(parents=True, exist_ok=True)
    save(make_scores(languages), folder / "scores.nc")
    make_heads(languages).save(folder / "heads.json")
    proof = make_ablation(languages, **ablation)
    save(proof, folder / "ablation.nc")
    # One planted head of each language is found, the other is not.
    planted = {name: [list(next(iter(s))), [0, 5]] for name, s in _specific(languages)}
    (folder / "planted.json").write_text(json.dumps({"planted": planted}), encoding="utf-8")
    return folder


def _specific(languages):
    return make_heads(languages).specific.items()
