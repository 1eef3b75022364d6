"""Deletion curves and the benchmark of scores, against hand-made files and single ablations."""

import json

import numpy as np
import pytest
import xarray as xr

import langheads
from langheads.experiments.benchmark.compare import compare
from langheads.experiments.benchmark.deletion import deletion
from langheads.experiments.benchmark.table import as_text
from langheads.heads import HeadSet, LanguageHeads
from langheads.io.errors import InputError, ProvenanceError
from langheads.io.results import save

HOW = {"docs": 5, "max_tokens": 60}


@pytest.fixture(scope="module")
def scores(tiny, texts):
    return langheads.score(tiny, texts, method=["lahis", "taylor", "random"], **HOW)


@pytest.fixture(scope="module")
def exact(tiny, texts):
    return langheads.knockout(tiny, texts, **HOW)


def test_a_step_of_the_curve_is_an_ablation(tiny, texts, scores):
    found = deletion(tiny, scores, texts, method="lahis", steps=[1, 3], docs=4)
    languages = [str(x) for x in scores.language.values]
    shape = (scores.sizes["layer"], scores.sizes["head"])
    for step in (1, 3):
        highest = {}
        for language in languages:
            order = np.argsort(-scores.lahis.sel(language=language).values.ravel(), kind="stable")
            highest[language] = HeadSet([divmod(int(i), shape[1]) for i in order[:step]], shape)
        chosen = LanguageHeads(highest, HeadSet([], shape), "tiny", {}, {})
        proof = langheads.ablate(
            tiny, chosen, texts, baseline="zero", n_controls=2, docs=4, max_tokens=60, seed=0
        )
        relative = proof.delta_nats_per_byte.sel(baseline="zero") / proof.nats_per_byte
        np.testing.assert_allclose(
            found.rise.sel(score="lahis", step=step), relative.sel(heads_of=languages), rtol=1e-4
        )
    own = np.array([found.rise.sel(heads_of=x, text_of=x).values[0] for x in languages])
    others = np.array(
        [
            found.rise.sel(heads_of=x).drop_sel(text_of=x).mean("text_of").values[0]
            for x in languages
        ]
    )
    np.testing.assert_allclose(found.area.values[0], (own - others).mean(axis=1), rtol=1e-9)


def test_scored_documents_are_refused(tiny, texts, scores):
    with pytest.raises(ProvenanceError, match="were used to score"):
        deletion(tiny, scores, texts, docs=12)
    assert deletion(tiny, scores, texts, docs=12, method="lahis", steps=[1], allow_overlap=True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"method": "lahsi"},
            "score lahsi asked for; the file has lahis, taylor, random, grad_abs",
        ),
        ({"steps": [0]}, "steps \\[0\\] asked for; allowed are 1 to"),
        ({"steps": [400]}, "steps \\[400\\] asked for"),
        ({"steps": []}, "steps \\[\\] asked for"),
    ],
)
def test_what_deletion_refuses(tiny, texts, scores, given, message):
    with pytest.raises(InputError, match=message):
        deletion(tiny, scores, texts, docs=2, **given)


def test_the_comparison_by_hand(tmp_path, tiny, texts, scores, exact, caplog):
    """One language's scores replaced by known numbers; planted heads of no named model are told."""
    rows = np.arange(exact.sizes["layer"] * exact.sizes["head"], dtype=float)
    shape = (exact.sizes["layer"], exact.sizes["head"])
    made, truth = scores.copy(deep=True), exact.copy(deep=True)
    truth["delta_nats_per_token"][:] = rows.reshape(shape)
    made["lahis"][:] = (rows**3).reshape(shape)  # the same order
    made["taylor"][:] = 2 * rows.reshape(shape)  # twice the truth, the other way round in en
    made["taylor"].loc[{"language": "en"}] = -rows.reshape(shape)
    planted = {"en": [[shape[0] - 1, shape[1] - 1], [0, 0]], "zh": [[shape[0] - 1, shape[1] - 1]]}
    decoys = {"zh": [[shape[0] - 1, shape[1] - 2]]}
    save(made, tmp_path / "scores.nc")
    save(truth, tmp_path / "knockout.nc")
    (tmp_path / "planted.json").write_text(json.dumps({"planted": planted, "decoys": decoys}))
    found = compare(tmp_path)
    assert caplog.messages == [
        f"whether the heads of {tmp_path / 'planted.json'} are of this model is unknown: it or the "
        "result has no model"
    ]
    at = found.sel(language="en")
    assert float(at.spearman.sel(score="lahis")) == 1
    assert float(at.spearman.sel(score="taylor")) == -1
    assert float(at.slope.sel(score="taylor")) == pytest.approx(-1)
    assert float(found.slope.sel(score="taylor", language="zh")) == pytest.approx(2)
    assert np.isnan(float(at.slope.sel(score="random")))
    # Of the two planted heads one is highest and one lowest of all.
    n = len(rows)
    assert float(at.precision.sel(score="lahis")) == 0.5
    assert float(at.average_precision.sel(score="lahis")) == pytest.approx((1 + 2 / n) / 2)
    assert float(at.average_precision.sel(score="taylor")) == pytest.approx((1 + 2 / n) / 2)
    assert float(found.precision.sel(score="lahis", language="zh")) == 1
    assert float(found.decoys.sel(score="lahis", language="zh")) == 1
    assert np.isnan(float(at.decoys.sel(score="lahis")))
    assert np.isnan(found.area).all()
    assert float(found.spearman.sel(score="knockout").mean()) == 1
    assert next(iter(found.score.values)) == "knockout"
    assert float(found.forwards.sel(score="taylor")) == 2
    layers, heads = shape
    assert float(found.forwards.sel(score="knockout")) == 1 + heads * (layers + 1) / 2
    table = as_text(found)
    assert [line.split()[0] for line in table.splitlines()] == ["score", *found.score.values]
    assert "1.000" in table


def test_reliability_of_knock_outs_from_their_documents(tmp_path, tiny, texts, scores, exact):
    save(scores, tmp_path / "scores.nc")
    save(exact, tmp_path / "knockout.nc")
    found = compare(tmp_path)
    from scipy.stats import spearmanr

    for language in ("en", "zh"):
        rise = exact.rise.sel(baseline="zero", language=language).values
        tokens = exact.doc_tokens.sel(language=language).values
        halves = [rise[k::2].sum(axis=0).ravel() / tokens[k::2].sum() for k in (0, 1)]
        r = spearmanr(*halves).statistic
        assert float(found.split_half.sel(score="knockout", language=language)) == pytest.approx(
            2 * r / (1 + r)
        )
    assert np.isnan(found.split_half.sel(score="lahis")).all()


def test_other_models_and_missing_files_are_refused(tmp_path, scores, exact):
    with pytest.raises(InputError, match=r"no file .*scores\.nc"):
        compare(tmp_path)
    save(scores, tmp_path / "scores.nc")
    with pytest.raises(InputError, match=r"no file .*knockout\.nc"):
        compare(tmp_path)
    save(exact.assign_attrs(weight_hash="0" * 64), tmp_path / "knockout.nc")
    with pytest.raises(ProvenanceError, match=r"knockout\.nc was made with weights 000000000000"):
        compare(tmp_path)


def test_other_documents_are_told(tmp_path, scores, exact, caplog):
    save(scores, tmp_path / "scores.nc")
    save(exact.assign_attrs(seed=9), tmp_path / "knockout.nc")
    compare(tmp_path)
    assert "of different documents" in caplog.text


def test_the_benchmark_makes_what_the_comparison_reads(tmp_path, tiny, texts):
    from langheads.pipeline import benchmark

    found = benchmark(
        tiny,
        texts,
        tmp_path,
        method=["lahis", "quadrature"],
        docs=6,
        deletion_docs=3,
        max_tokens=40,
    )
    for name in ("spearman", "area", "split_half"):
        assert np.isfinite(found[name].sel(score=["lahis", "quadrature"])).all()
    # Quadrature draws, so it is made with 3 seeds; lahis does not.
    seeds = [
        langheads.load_result(tmp_path / path, "scores").quadrature
        for path in ("scores.nc", "seeds/scores-1.nc", "seeds/scores-2.nc")
    ]
    assert not (seeds[0] == seeds[1]).any()
    assert not (seeds[1] == seeds[2]).any()
    assert (found.drawn_sd.sel(score="quadrature") > 0).all()
    assert np.isnan(found.drawn_sd.sel(score="lahis")).all()
    assert not (tmp_path / "seeds" / "scores-3.nc").exists()
    again = compare(tmp_path)
    xr.testing.assert_equal(again, found)
    halves = [
        langheads.load_result(tmp_path / "halves" / f"scores-{i}.nc", "scores") for i in (1, 2)
    ]
    assert [int(half.attrs["docs"]) for half in halves] == [3, 3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, k: (s.isel(layer=[0]), k), "scores.nc has 1 along layer, knockout.nc 3; make"),
        (lambda s, k: (s, k.isel(head=[0, 1])), "scores.nc has 4 along head, knockout.nc 2; make"),
        (lambda s, k: (s.assign_attrs(seconds="[["), k), "seconds in scores.nc: not JSON"),
        (
            lambda s, k: (s.assign_attrs(seconds=5), k),
            "seconds in scores.nc: it is 5, expected keys",
        ),
        (
            lambda s, k: (s.assign_attrs(seconds='{"x": "y"}'), k),
            "seconds in scores.nc: x is 'y', expected a finite number",
        ),
        (
            lambda s, k: (s, k.assign(delta_nats_per_token=k.delta_nats_per_token * np.nan)),
            "no head of language en in knockout.nc has a number",
        ),
    ],
)
def test_results_that_do_not_fit_are_refused(tmp_path, scores, exact, change, message):
    for name, result in zip(("scores", "knockout"), change(scores, exact), strict=True):
        save(result, tmp_path / f"{name}.nc")
    with pytest.raises(InputError, match=message):
        compare(tmp_path)


@pytest.mark.parametrize("planted", [5, {"en": 3}, {"en": [["a", 1]]}, {"en": [[99, 0]]}])
def test_a_list_of_planted_heads_that_is_none(tmp_path, scores, exact, planted):
    save(scores, tmp_path / "scores.nc")
    save(exact, tmp_path / "knockout.nc")
    (tmp_path / "planted.json").write_text(json.dumps({"planted": planted}))
    with pytest.raises(InputError, match=r"planted\.json is not a list of planted heads: "):
        compare(tmp_path)
