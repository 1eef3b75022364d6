"""What does not belong together is left out of the page, with the file and the reason."""

import json

import numpy as np
import pytest
import xarray as xr

from langheads.io.errors import InputError
from langheads.io.sources import content_hash, made_from
from langheads.view import report
from langheads.view.belonging import leave_out_other_models
from langheads.view.folder import read_run
from tests.unit.view.made_up_results import make_knockout
from tests.unit.view.made_up_run import PROVENANCE, make_ablation, make_heads, make_scores

LANGUAGES = ["en", "zh"]


def chain(seed=0):
    """Scores, heads of these scores, a proof of these heads; other scores make other heads."""
    scores = make_scores(LANGUAGES, seed=seed)
    rule = {"name": "count", "seed": seed}
    heads = make_heads(LANGUAGES, rule=rule, provenance=PROVENANCE | made_from(PROVENANCE, scores))
    return scores, heads, make_ablation(LANGUAGES, **made_from(PROVENANCE, heads))


def write(folder, scores, heads, proof):
    scores.to_netcdf(folder / "scores.nc", engine="h5netcdf")
    heads.save(folder / "heads.json")
    proof.to_netcdf(folder / "ablation.nc", engine="h5netcdf")
    return read_run(folder)


def test_a_chain_belongs_together(tmp_path):
    run = write(tmp_path, *chain())
    assert run.reasons == {}
    # The model is what its first file says of it.
    assert leave_out_other_models(run)["kind"] == "scores"
    assert [name for _, name, _ in run] == ["scores.nc", "heads.json", "ablation.nc"]


def test_what_a_result_was_made_from_has_no_order():
    orders = ('{"a": "1", "b": "2"}', '{"b": "2", "a": "1"}')
    first, again = (content_hash(make_scores(["en"], made_from=of)) for of in orders)
    assert first == again != content_hash(make_scores(["en"]))


def test_a_file_alone_belongs(tmp_path):
    chain()[0].to_netcdf(tmp_path / "scores.nc", engine="h5netcdf")
    assert read_run(tmp_path).reasons == {}


def test_new_scores_under_old_heads_leave_heads_and_proof_out(tmp_path):
    """A run over an old folder, interrupted after its scores."""
    new, (_, heads, proof) = make_scores(LANGUAGES, seed=1), chain()
    run = write(tmp_path, new, heads, proof)
    why = "made from another scores file than scores.nc; make it again"
    assert run.reasons == {
        "heads.json": why,
        "ablation.nc": "made from heads.json, which is left out",
    }
    assert list(run.results) == ["scores"]
    page = report(tmp_path).read_text("utf-8")
    assert (
        f"In the folder but not shown: heads.json ({why}); ablation.nc (made from heads.json, "
        "which is left out)." in page
    )
    assert "nothing here is proven" in page
    assert "Not in this folder" not in page


@pytest.mark.parametrize("furthest", [min, max])
def test_other_scores_than_the_heads_were_made_from_are_others_whatever_their_hash(
    tmp_path, furthest
):
    new = furthest((make_scores(LANGUAGES, seed=seed) for seed in range(1, 9)), key=content_hash)
    run = write(tmp_path, new, *chain()[1:])
    assert run.reasons["heads.json"] == (
        "made from another scores file than scores.nc; make it again"
    )


def test_an_old_proof_beside_new_heads_is_left_out(tmp_path):
    """The same, interrupted one step later."""
    scores, heads, _ = chain(seed=1)
    run = write(tmp_path, scores, heads, chain()[2])
    assert run.reasons == {
        "ablation.nc": "made from another heads file than heads.json; make it again"
    }
    assert list(run.results) == ["scores", "heads"]


def test_one_of_several_files_is_enough_and_none_is_no_contradiction(tmp_path):
    scores, heads, proof = chain()
    write(tmp_path, make_scores(LANGUAGES, seed=1), heads, proof)
    scores.to_netcdf(tmp_path / "older.nc", engine="h5netcdf")
    assert read_run(tmp_path).reasons == {}
    for name in ("older.nc", "scores.nc"):
        (tmp_path / name).unlink()
    run = read_run(tmp_path)
    assert run.reasons == {}
    assert list(run.results) == ["heads", "ablation"]


@pytest.mark.parametrize("said", ["", "{", "[1]", '{"heads": 1}', '{"heads": "00", "x": []}'])
def test_results_that_name_nothing_readable_are_shown_as_before(tmp_path, said):
    scores, heads, _ = chain()
    run = write(tmp_path, scores, heads, make_ablation(LANGUAGES, made_from=said))
    assert run.reasons == {}


@pytest.mark.parametrize("most", [1, 3])
def test_heads_of_other_weights_belong_where_the_proof_names_them(tmp_path, most):
    """Base and tuned model; most files may be of either."""
    scores, heads, _ = chain()
    tuned = PROVENANCE | {"weight_hash": "ef" * 32}
    named = made_from(tuned, heads)
    assert named["other_weights"] == '{"heads": "' + "ab" * 32 + '"}'
    proof = make_ablation(LANGUAGES, **tuned | named | {"kind": "ablation"})
    for i in range(1, most):
        proof.to_netcdf(tmp_path / f"proof-{i}.nc", engine="h5netcdf")
    if most > 1:
        (tmp_path / "scores.nc").unlink(missing_ok=True)
    run = write(tmp_path, scores, heads, proof)
    if most == 1:
        assert run.reasons == {}
    else:
        # The scores are of the base model alone; the heads came from there.
        assert list(run.of("heads")) == ["heads.json"]
    assert (
        "ablation.nc: its heads are of other weights (abababababab) than those it was measured in "
        "(efefefefefef), as was asked for." in report(tmp_path).read_text("utf-8")
    )


def test_a_third_model_is_no_model_of_those_that_used_heads_of_another(tmp_path):
    """That heads of another checkpoint were taken lets no other model in."""
    tuned = PROVENANCE | {"weight_hash": "ef" * 32}
    named = made_from(tuned, chain()[1])
    proof = make_ablation(LANGUAGES, **tuned | named | {"kind": "ablation"})
    for name in ("ablation", "proof"):
        proof.to_netcdf(tmp_path / f"{name}.nc", engine="h5netcdf")
    chain()[1].save(tmp_path / "heads.json")
    third = make_knockout(LANGUAGES, weight_hash="0" * 64)
    third.to_netcdf(tmp_path / "knockout.nc", engine="h5netcdf")
    run = read_run(tmp_path)
    assert run.reasons == {
        "knockout.nc": "of another model: knockout.nc was made with weights 000000000000 of model "
        "made-up, but this is weights efefefefefef of made-up; make it again with this model"
    }
    assert list(run.of("ablation")) == ["ablation.nc", "proof.nc"]


@pytest.mark.parametrize(
    "of_another", [{"weight_hash": "0" * 64}, {"weight_hash": "f" * 64}, {"config_hash": "bb"}]
)
def test_of_two_models_with_as_many_files_the_first_is_shown(tmp_path, of_another):
    scores = make_scores(LANGUAGES, config_hash="aa")
    scores.to_netcdf(tmp_path / "scores.nc", engine="h5netcdf")
    other = make_knockout(LANGUAGES, **{"config_hash": "aa"} | of_another)
    other.to_netcdf(tmp_path / "knockout.nc", engine="h5netcdf")
    run = read_run(tmp_path)
    assert list(run.reasons) == ["knockout.nc"]
    assert list(run.of("scores")) == ["scores.nc"]


@pytest.mark.parametrize("heads", [[[9, 99]], [[0, 0], [-1, 2]]])
def test_planted_heads_that_the_model_does_not_have_are_left_out(tmp_path, heads):
    """They kept the page from being made, by an error that named scores.nc."""
    chain()[0].to_netcdf(tmp_path / "scores.nc", engine="h5netcdf")
    path = tmp_path / "planted.json"
    path.write_text(json.dumps({"planted": {"en": heads}}), "utf-8")
    run = read_run(tmp_path)
    assert run.planted == {}
    assert run.reasons == {
        "planted.json": "of another model, or of heads that this one does not have"
    }
    path.write_text(json.dumps({"planted": {"en": [[0, 1], [0, 1]]}}), "utf-8")
    assert {of: list(found) for of, found in read_run(tmp_path).planted.items()} == {"en": [(0, 1)]}
    path.write_text(json.dumps({"planted": {"en": [[0.5, 1]]}}), "utf-8")
    with pytest.raises(InputError) as told:
        read_run(tmp_path)
    assert str(told.value) == (
        f"{path} is not a list of planted heads: planted.en[0] is [0.5, 1], expected a head "
        "[layer, head]"
    )


def test_the_content_of_a_result_is_the_same_in_its_file(tmp_path):
    scores, heads, _ = chain()
    run = write(tmp_path, *chain())
    assert content_hash(run.of("scores")["scores.nc"]) == content_hash(scores)
    assert content_hash(run.heads) == content_hash(heads)
    assert content_hash(scores.assign_attrs(time="later")) == content_hash(scores)
    assert content_hash(scores.assign(lahis=scores.lahis * (1 + 1e-12))) != content_hash(scores)
    turned = make_heads(["zh", "en"], rule=heads.rule)
    assert content_hash(turned) != content_hash(heads)


def test_the_content_of_a_result_has_no_order():
    """Of its variables, equal ones too, and of what a rule says."""
    same = make_scores(["en"]).lahis
    first, again = (xr.Dataset(dict.fromkeys(names, same)) for names in ("ab", "ba"))
    assert content_hash(first) == content_hash(again)
    # Nor have texts a width.
    texts = [xr.Dataset({"of": ("x", np.array(["a", "bc"], dtype))}) for dtype in ("O", "U2", "U9")]
    assert len(set(map(content_hash, texts))) == 1
    rules = ({"name": "count", "seed": 0}, {"seed": 0, "name": "count"})
    first, again = (content_hash(make_heads(LANGUAGES, rule=rule)) for rule in rules)
    assert first == again != content_hash(make_heads(LANGUAGES, rule={"name": "count", "seed": 1}))


@pytest.mark.parametrize("key", ["weight_hash", "config_hash", "tokenizer_hash"])
def test_what_was_made_in_another_model_is_named(key):
    heads, weights = make_heads(LANGUAGES, provenance=PROVENANCE | {key: "bb"}), "ab" * 32
    by_hand = make_heads(LANGUAGES, provenance={})
    sources = (None, by_hand, xr.Dataset(attrs={"made": "by hand"}), heads)
    for other in ("aa", "cc"):
        named = made_from(PROVENANCE | {key: other}, *sources)
        of = "bb" if key == "weight_hash" else weights
        assert json.loads(named["other_weights"]) == {"heads": of}
        assert json.loads(named["made_from"]) == {"heads": content_hash(heads)}
    # Where one does not say, or both say the same, nothing is known to be another.
    for model in ({}, PROVENANCE | {key: "bb"}):
        assert list(made_from(model, *sources)) == ["made_from"]
    assert list(made_from(PROVENANCE | {key: "aa"}, make_heads(["en"], provenance={"x": 1}))) == [
        "made_from"
    ]
