"""Results on disk, with what they were made from."""

import io
import json
import os

import h5netcdf
import h5py
import numpy as np
import pytest
import xarray as xr
from xarray.backends import H5NetCDFStore

from langheads.io.errors import InputError
from langheads.io.netcdf import with_checksum
from langheads.io.results import load_result, provenance, rounding_words, save, with_rounding
from langheads.text import read_texts

MODEL = {
    "model": "tiny/llama",
    "revision": "",
    "weight_hash": "a" * 64,
    "tokenizer_hash": "b" * 64,
    "dtype": "float32",
    "device": "cpu",
}
CORPUS = read_texts({"zh": ["一", "二"], "en": ["one"]}, seed=3)


def result(size=4, **settings):
    values = np.random.default_rng(0).normal(size=(2, 3, size))
    values[0, 0, 0] = np.nan
    return xr.Dataset(
        {
            "lahis": (("language", "layer", "head"), values, {"units": "nats per token"}),
            "heads": ("language", ["L0H1 L2H3", ""]),
        },
        coords={"language": ["zh", "en"], "layer": np.arange(3), "head": np.arange(size)},
        attrs=provenance("scores", MODEL, CORPUS, docs=2, bos=True, **settings),
    )


def test_a_result_is_read_back_as_it_was(tmp_path):
    written = result(rule=json.dumps({"name": "ж"}, ensure_ascii=False))
    assert save(written, str(tmp_path / "s.nc")) == tmp_path / "s.nc"
    read = load_result(tmp_path / "s.nc", "scores")
    xr.testing.assert_identical(read, written)
    assert read.lahis.attrs["units"] == "nats per token"
    assert {k: type(v) for k, v in read.attrs.items() if isinstance(v, str)} == {
        k: str for k, v in written.attrs.items() if isinstance(v, str)
    }
    assert os.listdir(tmp_path) == ["s.nc"]


def test_any_reader_of_netcdf_reads_it(tmp_path):
    save(result(), tmp_path / "s.nc")
    with xr.open_dataset(tmp_path / "s.nc") as read:
        np.testing.assert_array_equal(read.lahis, result().lahis)
    assert (tmp_path / "s.nc").read_bytes()[:8] == b"\x89HDF\r\n\x1a\n"


def test_a_variable_is_looked_up_once_and_files_are_those_of_h5netcdf(tmp_path, monkeypatch):
    written, plain = result(), io.BytesIO()
    with h5netcdf.File(plain, "w") as file:
        written.dump_to_store(H5NetCDFStore(file))
    looked_up, find = [], h5py.Group.__getitem__

    def counted(group, name):
        if isinstance(name, str):
            looked_up.append(name)
        return find(group, name)

    monkeypatch.setattr(h5py.Group, "__getitem__", counted)
    save(written, tmp_path / "s.nc")
    assert (tmp_path / "s.nc").read_bytes() == with_checksum(plain.getvalue())
    # Places of dimensions, which variables of the same name then take.
    names = ["head", "language", "layer"]
    assert sorted(looked_up) == sorted([*names, *written.variables])
    looked_up.clear()
    read = load_result(tmp_path / "s.nc")
    assert sorted(looked_up) == sorted(written.variables)
    plain_read = xr.load_dataset(tmp_path / "s.nc", engine="h5netcdf")
    xr.testing.assert_identical(read, plain_read)
    # Pages show settings in this order.
    assert list(read.attrs) == list(plain_read.attrs) == list(written.attrs)


def test_provenance_holds_what_fixes_the_numbers():
    from importlib.metadata import version

    found = provenance("scores", MODEL, CORPUS, docs=2, bos=True)
    assert found.items() >= MODEL.items()
    assert json.loads(found["text_hash"]) == CORPUS.hashes
    assert {k: found[k] for k in ("format", "kind", "seed", "docs", "bos", "text")} == {
        "format": 1,
        "kind": "scores",
        "seed": 3,
        "docs": 2,
        "bos": 1,
        "text": "texts given in Python",
    }
    for package in ("langheads", "torch", "transformers", "transformer-lens"):
        assert found[package.replace("-", "_")] == version(package)
    assert found["time"].endswith("+00:00")
    assert all(type(value) in (int, str) for value in found.values())


def test_the_result_given_is_not_modified(tmp_path):
    some = result()
    before = some.copy(deep=True)
    save(some, tmp_path / "s.nc")
    xr.testing.assert_identical(some, before)


@pytest.mark.parametrize("room", [100, 5000, 30_000])
def test_a_full_disk_leaves_the_old_file_alone(tmp_path, full_disk, room):
    path = save(result(), tmp_path / "s.nc")
    old = path.read_bytes()
    with full_disk(room), pytest.raises(InputError, match=f"cannot write {path}: File too large$"):
        save(result(size=2000), path)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["s.nc"]


def test_an_exception_leaves_the_old_file_alone(tmp_path):
    path = save(result(), tmp_path / "s.nc")
    old = path.read_bytes()
    bad = result()
    bad.attrs["rule"] = {"netCDF": "has no mappings"}
    with pytest.raises(TypeError):
        save(bad, path)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["s.nc"]


def test_another_kind_is_refused(tmp_path):
    path = save(result(), tmp_path / "s.nc")
    assert load_result(path).attrs["kind"] == "scores"
    with pytest.raises(InputError, match=r"s\.nc holds scores, expected ablation"):
        load_result(path, "ablation")


@pytest.mark.parametrize("content", [b"", b"{}", b"\x89HDF\r\n\x1a\n", None])
def test_what_is_not_netcdf_is_refused(tmp_path, content):
    path = tmp_path / "s.nc"
    if content is None:
        # Cut in the middle, as a copy that was broken off.
        save(result(), path)
        content = path.read_bytes()[:5000]
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"s\.nc is not a netCDF result of langheads"):
        load_result(path)


@pytest.mark.parametrize("attrs", [{}, {"kind": "scores"}, {"kind": "scores", "format": 2}])
def test_netcdf_of_somebody_else_is_refused(tmp_path, attrs):
    xr.Dataset({"a": 1}, attrs=attrs).to_netcdf(tmp_path / "s.nc", engine="h5netcdf")
    with pytest.raises(InputError, match="is not a result of langheads"):
        load_result(tmp_path / "s.nc")


def test_a_missing_result_is_told(tmp_path):
    with pytest.raises(InputError, match=r"no file .*none\.nc"):
        load_result(tmp_path / "none.nc")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.isel(language=slice(0, 0)), "holds scores, but nothing along language"),
        (lambda d: d.isel(head=slice(0, 0)), "holds scores, but nothing along head"),
        (lambda d: d.rename(head="kopf"), "holds scores, but nothing along head; make it again"),
        (lambda d: d.assign_coords(language=["en", "en"]), r"one language twice \(en, en\)"),
        (lambda d: d.assign(lahis=d.lahis.astype(str)), "lahis is of <U[0-9]+, not numbers"),
        (lambda d: d.assign_attrs(kind="knockout"), "holds knockout, but nothing along baseline"),
        (
            lambda d: d.expand_dims("baseline").assign_attrs(kind="knockout"),
            "knockout has no delta_nats_per_byte over baseline, language, layer, head",
        ),
    ],
)
def test_a_result_that_was_cut_is_refused(tmp_path, change, message):
    save(change(result()), tmp_path / "s.nc")
    with pytest.raises(InputError, match=rf"s\.nc.*{message}"):
        load_result(tmp_path / "s.nc")


def test_a_nul_that_a_model_said_does_not_lose_a_result(tmp_path):
    texts = np.array(["a\0b", "\0"], dtype=object)
    said = result().assign(heads=("language", texts, {"units": "text"}))
    read = load_result(save(said, tmp_path / "s.nc"))
    assert read.heads.values.tolist() == ["a\u2400b", "\u2400"]
    assert read.heads.attrs == {"units": "text"}
    assert said.heads.values.tolist() == ["a\0b", "\0"]
    xr.testing.assert_identical(read.drop_vars("heads"), said.drop_vars("heads"))


def effects(dtype, **variables):
    values = np.array([[1e-3, 6e-3, np.nan], [-1e-3, 2e-3, 3e-3]])[:, None]
    found = xr.Dataset(
        {
            "delta_nats_per_byte": (
                ("text_of", "layer", "head"),
                values,
                {"units": "nats per byte"},
            ),
            "tokens": ("text_of", [100, 400]),
            "bytes": ("text_of", [200, 800]),
            **variables,
        },
        attrs={"dtype": dtype},
    )
    return with_rounding(found)


def test_effects_that_bfloat16_cannot_see_are_told():
    found = effects("bfloat16")
    # Two logits rounded to sixteenths, each off by 1/16 / sqrt(12) on average, twice over.
    one_token = 2 * np.sqrt(2) / 16 / np.sqrt(12)
    np.testing.assert_allclose(found.rounding, one_token / np.sqrt([100, 400]), rtol=0.03)
    assert found.rounding.attrs["units"] == "nats per token"
    assert rounding_words(found) == (
        "2 of 5 effects are lost in the rounding of bfloat16, below 0.0013 to 0.0025 nats per "
        "byte; float32 would show them."
    )
    assert "rounding" not in effects("float32")
    assert rounding_words(effects("float32")) == ""


@pytest.mark.parametrize(
    ("asked", "lost"),
    [(["taylor"], "1 of 2"), (["taylor", "lahis"], "2 of 2"), (["output_norm", "random"], None)],
)
def test_scores_in_nats_are_effects_and_others_are_none(asked, lost):
    values = {"taylor": [0.001, 1.0], "lahis": [0.001, -0.001], "output_norm": [0.0, 0.0]}
    units = dict.fromkeys(("taylor", "lahis", "grad_abs"), "nats per token")
    # Every file has grad_abs, but not what its error would be.
    there = {f"{name}{end}": name for name in asked for end in ("", "_se")} | {"grad_abs": ""}
    variables = {
        name: ("text_of", values.get(of, [0.0, 0.0]), {"units": units.get(of or name, "none")})
        for name, of in there.items()
    }
    found = effects("bfloat16", **variables).drop_vars("delta_nats_per_byte")
    said = f"{lost} effects are lost in the rounding of bfloat16, below "
    assert rounding_words(found).startswith(said) if lost else rounding_words(found) == ""


def test_only_documents_that_were_run_make_effects_sharper():
    run = {
        "doc_tokens": (("text_of", "doc"), [[75, 25], [200, 200]]),
        "sampled": (("text_of", "doc"), [[0, 1], [1, 1]]),
    }
    np.testing.assert_allclose(effects("bfloat16", **run).rounding, [0.01, 0.0025])
