"""netCDF that must not be opened: bombs, other files, and bytes over which HDF5 loops for ever."""

import base64
import hashlib
import math
import os
import re
import sys
import time
import zlib

import h5py
import numpy as np
import pytest
import xarray as xr

from langheads.io import netcdf
from langheads.io.apart import apart
from langheads.io.errors import InputError
from langheads.io.netcdf import with_checksum
from langheads.io.results import load_result, save
from tests.unit.view.made_up_run import make_scores

REFUSED = "is not a netCDF result of langheads"


def made(path, fill, checked):
    """A file of HDF5 that says that it is a result."""
    with h5py.File(path, "w") as file:
        file.attrs.update({"kind": "scores", "format": 1})
        fill(file)
    if checked:
        path.write_bytes(with_checksum(path.read_bytes()))
    return path


def zeros(file):
    file.create_dataset("lahis", (10**6, 10**6), "f8", chunks=(1000, 1000), compression="gzip")


def many(file):
    for n in range(5000):
        file.create_dataset(f"v{n}", data=1.0)


def another_file(file):
    file.create_dataset("lahis", (4,), "u1", external=[("secret.txt", 0, 4)])


def linked(file):
    file["lahis"] = h5py.ExternalLink("secret.nc", "/lahis")


def soft(file):
    file["lahis"] = h5py.SoftLink("/lahis")


def virtual(file):
    layout = h5py.VirtualLayout((4,), "f8")
    layout[:] = h5py.VirtualSource("secret.nc", "lahis", (4,))
    file.create_virtual_dataset("lahis", layout)


def pairs(file):
    file["lahis"] = np.zeros(3, dtype=[("a", "f8"), ("b", "i4")])


def some_zeros(file):
    file.create_dataset("lahis", (6000, 6000), "f8", chunks=(1000, 1000), compression="gzip")


BOMBS = {
    # 288 MB; 268 MB may be there of which a file says nothing.
    "36 million zeros": (some_zeros, r"'lahis' \[6000, 6000\] is far larger than the file"),
    "10^12 zeros": (zeros, r"'lahis' \[1000000, 1000000\] is far larger than the file"),
    "5,000 variables": (many, "5000 variables or attributes"),
    "another file's bytes": (another_file, "'lahis' is kept in another file, or has too many"),
    "link to another file": (linked, "'lahis' is a link to somewhere else"),
    "link to itself": (soft, "'lahis' is a link to somewhere else"),
    "virtual": (virtual, "'lahis' is kept in another file, or has too many attributes"),
    "a group": (lambda file: file.create_group("lahis"), "'lahis' is no variable"),
    "no values": (
        lambda file: file.create_dataset("lahis", data=h5py.Empty("f8")),
        "'lahis' is empty",
    ),
    "packed by code that is looked for": (
        lambda file: file.create_dataset("lahis", data=np.arange(9.0), compression="lzf"),
        "'lahis' is packed in an unknown way",
    ),
    "pairs": (pairs, r"'lahis' is of \[\('a', '<f8'\), \('b', '<i4'\)\], neither numbers nor"),
}


@pytest.mark.parametrize("checked", [True, False], ids=["with checksum", "without"])
@pytest.mark.parametrize("name", BOMBS)
def test_what_no_result_holds_is_refused_before_it_is_read(tmp_path, monkeypatch, name, checked):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.txt").write_text("secret")
    save(make_scores(["en"]), tmp_path / "secret.nc")
    fill, why = BOMBS[name]
    path = made(tmp_path / "s.nc", fill, checked)
    started = time.process_time()
    with pytest.raises(InputError, match=f"s.nc {REFUSED}: {why}"):
        load_result(path)
    assert re.match(why, netcdf.digest_and_harm(path)[32:].decode())
    assert time.process_time() - started < 2


def test_a_text_that_stands_there_once_and_is_read_often_is_refused(tmp_path):
    path = tmp_path / "s.nc"
    with h5py.File(path, "w") as file:
        texts = file.create_dataset("heads", (10**5,), h5py.string_dtype())
        texts[0] = "x" * 10**6
        at = texts.id.get_offset()
    content = bytearray(path.read_bytes())
    content[at : at + 16 * 10**5] = content[at : at + 16] * 10**5
    path.write_bytes(with_checksum(bytes(content)))
    with pytest.raises(InputError, match=f"{REFUSED}: 'heads' is far larger than the file$"):
        load_result(path)
    assert netcdf.digest_and_harm(path)[32:] == b"'heads' is far larger than the file"


def test_attributes_that_all_name_one_text_are_refused(tmp_path):
    path = tmp_path / "s.nc"
    with h5py.File(path, "w") as file:
        file.attrs.update({"kind": "scores", "format": 1})
        for name in "abc":
            file[name] = 1.0
            for n in range(1000):
                text = "x" * 200_000 if (name, n) == ("a", 0) else "y" * 7
                file[name].attrs[f"a{n:04}"] = text
    content = bytearray(path.read_bytes())

    def names(length):
        """Where texts are named, by length, HDF5's heap of texts, and number in it."""
        heaps = (
            (at.start(), int.from_bytes(content[at.start() + 4 : at.start() + 12], "little"))
            for at in re.finditer(re.escape(length.to_bytes(4, "little")), bytes(content))
        )
        return [at for at, heap in heaps if content[heap : heap + 4] == b"GCOL"]

    (long,) = names(200_000)
    for at in names(7):
        content[at : at + 16] = content[long : long + 16]
    path.write_bytes(with_checksum(bytes(content)))
    told = rf"{REFUSED}: the attribute 'a\d{{4}}' is far larger than the file$"
    with pytest.raises(InputError, match=told):
        load_result(path)
    assert netcdf.digest_and_harm(path).endswith(b"' is far larger than the file")


def test_an_attribute_of_more_texts_than_the_file_has_room_for_is_not_read(tmp_path, monkeypatch):
    """Each may stand there once and be as long as the file."""
    path = tmp_path / "s.nc"
    with h5py.File(path, "w", libver="latest") as file:
        file.attrs["texts"] = np.array(["x"] * 20_000, h5py.string_dtype())
    monkeypatch.setattr(h5py.AttributeManager, "__getitem__", None)
    assert netcdf.digest_and_harm(path)[32:] == b"the attribute 'texts' is far larger than the file"


def test_a_large_file_has_room_for_what_it_holds(tmp_path, monkeypatch):
    """Beside what every file may take: twice its size."""
    monkeypatch.setattr(netcdf, "_ROOM", 0)
    path = tmp_path / "s.nc"
    xr.Dataset({"lahis": ("doc", np.ones(10**6))}).to_netcdf(path, engine="h5netcdf")
    assert path.stat().st_size < 1.1 * 8e6
    assert netcdf.digest_and_harm(path)[32:] == b"-"


def test_what_is_told_is_of_the_content_without_its_checksum(tmp_path):
    path = made(tmp_path / "s.nc", lambda file: None, checked=False)
    content = path.read_bytes()
    for seal in (bytes, with_checksum):
        path.write_bytes(seal(content))
        assert netcdf.digest_and_harm(path) == hashlib.sha256(content).digest() + b"-"


def test_values_that_cannot_be_read_are_harm(tmp_path):
    """A chunk that is no longer what gzip made, and a file that is none."""
    path = tmp_path / "s.nc"
    packed = {"lahis": {"zlib": True}}
    data = xr.Dataset({"lahis": ("doc", np.arange(999.0))})
    data.to_netcdf(path, engine="h5netcdf", encoding=packed)
    assert netcdf.digest_and_harm(path)[32:] == b"-"
    with h5py.File(path) as file:
        at = file["lahis"].id.get_chunk_info(0).byte_offset
    content = path.read_bytes()
    path.write_bytes(content[:at] + bytes(8) + content[at + 8 :])
    assert netcdf.digest_and_harm(path)[32:] == b""
    path.write_bytes(b"no file of HDF5")
    assert netcdf.digest_and_harm(path)[32:] == b""


def harm(tmp_path, size, **values):
    """Of a file of these variables, were it of this size."""
    with h5py.File(tmp_path / "s.nc", "w") as file:
        for name, value in values.items():
            if name.startswith("attr_"):
                file.attrs[name] = value
            else:
                file[name] = value
    with h5py.File(tmp_path / "s.nc") as file:
        return netcdf._harm_in(file, size)


def test_room_is_there_to_the_last_byte(tmp_path, monkeypatch):
    """Twice the size of the file: 32 bytes of numbers, 8 of an attribute; 16 and 5 of texts."""
    texts = np.array(["abc", "de"], h5py.string_dtype())
    for room, size, of, expected in (
        (0, 20, {"a": np.zeros(4), "attr_n": 1}, None),
        (1, 19, {"a": np.zeros(4), "attr_n": 1}, "the attribute 'attr_n' is far larger than"),
        (0, 16, {"a": np.zeros(4)}, None),
        (1, 15, {"a": np.zeros(4)}, "'a' [4] is far larger than the file"),
        (1, 10, {"t": texts}, None),
        (0, 10, {"t": texts}, "'t' is far larger than the file"),
        (4, 13, {"t": texts[:1], "attr_n": 1, "u": texts[1], "b": np.int8(1)}, None),
        (3, 13, {"t": texts[:1], "attr_n": 1, "u": texts[1], "b": np.int8(1)}, "'u' is far larger"),
    ):
        monkeypatch.setattr(netcdf, "_ROOM", room)
        found = harm(tmp_path, size, **of)
        assert found == expected or found.startswith(expected or "no harm")


def test_as_many_variables_attributes_and_texts_as_allowed_and_one_more(tmp_path, monkeypatch):
    monkeypatch.setattr(netcdf, "_MOST_VARIABLES", 2)
    monkeypatch.setattr(netcdf, "_MOST_TEXTS", 3)
    for n in (2, 3):
        told = None if n == 2 else "3 variables or attributes"
        assert harm(tmp_path, 999, **{f"v{i}": 1.0 for i in range(n)}) == told
        assert harm(tmp_path, 999, **{f"attr_{i}": 1.0 for i in range(n)}) == told
        with h5py.File(tmp_path / "s.nc", "w") as file:
            file["a"] = 1.0
            file["a"].attrs.update({f"n{i}": 1.0 for i in range(n)})
            found = netcdf._harm_in(file, 999)
        assert found == (
            None if n == 2 else "'a' is kept in another file, or has too many attributes"
        )
    for n in (3, 4):
        texts = np.array(["a"] * n, h5py.string_dtype())
        told = None if n == 3 else "'t' [4] is far larger than the file"
        assert harm(tmp_path, 999, t=texts) == told
        # Numbers may be more.
        assert harm(tmp_path, 999, t=np.zeros(n)) is None


@pytest.mark.parametrize(
    ("value", "most", "expected"),
    [
        (7, 1, 8),
        (np.zeros((2, 3), "f4"), 1, 24),
        (np.zeros(2, dtype=[("a", "f8"), ("b", "i4")]), 1, 24),
        (np.bytes_("four"), 1, 4),
        ("text", 1, sys.getsizeof("text")),
        (np.array(["a", "bc"], h5py.string_dtype()), 2, sys.getsizeof("a") + sys.getsizeof("bc")),
        (np.array(["a", "bc"], h5py.string_dtype()), 1, sys.maxsize),
        (h5py.Empty("f8"), 1, 8),
    ],
)
def test_what_an_attribute_takes(tmp_path, value, most, expected):
    with h5py.File(tmp_path / "s.nc", "w") as file:
        file.attrs["a"] = value
        assert netcdf._attribute(file.attrs, "a", most) == expected


def test_an_attribute_that_names_what_stands_elsewhere(tmp_path):
    """References are numbers of the file; sequences are read, and such with texts in them not."""
    with h5py.File(tmp_path / "s.nc", "w") as file:
        file["v"] = 1.0
        file.attrs["reference"] = file["v"].ref
        numbers = np.empty(1, object)
        numbers[0] = np.arange(5, dtype="i4")
        file.attrs.create("numbers", numbers, dtype=h5py.vlen_dtype(np.dtype("i4")))
        texts = np.empty(1, object)
        texts[0] = np.array(["a"], object)
        file.attrs.create("texts", texts, dtype=h5py.vlen_dtype(h5py.string_dtype()))
        pair = np.zeros(1, np.dtype([("a", "i4"), ("b", h5py.string_dtype())]))
        pair["b"] = "x"
        file.attrs["pair"] = pair
        of = file.attrs
        assert netcdf._attribute(of, "reference", 1) == of.get_id("reference").dtype.itemsize
        assert 0 < netcdf._attribute(of, "numbers", 1) < 1000
        for name in ("texts", "pair"):
            assert netcdf._attribute(of, name, 1) == sys.maxsize


@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (2, 1, 3)])
@pytest.mark.parametrize("most", [1, 2, 9])
def test_texts_are_read_some_at_a_time(tmp_path, shape, most):
    with h5py.File(tmp_path / "s.nc", "w") as file:
        file["a"] = np.arange(math.prod(shape)).reshape(shape)
        parts = list(netcdf._parts(file["a"], most))
    assert max(map(len, parts)) <= most
    rows, length = math.prod(shape[:-1]), ([1, *shape])[-1]
    assert len(parts) == rows * math.ceil(length / most)
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(math.prod(shape)))


def test_how_many_texts_are_read_at_once_depends_on_the_file(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(netcdf, "_parts", lambda of, most: asked.append(most) or [])
    monkeypatch.setattr(netcdf, "_attribute", lambda attrs, name, most: asked.append(most) or 0)
    monkeypatch.setattr(netcdf, "_ROOM", 1000)
    text = np.array(["a"], h5py.string_dtype())
    for size in (2**10, 2**26 - 1, 2**27):
        assert harm(tmp_path, size, t=text) is None
    assert asked == [2**16, 1, 1]
    # Of an attribute as many as would fit, were each as long as the file; 32 at the least.
    for size, most in ((10, 102), (31, 34), (34, 32)):
        asked.clear()
        assert harm(tmp_path, size, attr_a=1) is None
        assert asked == [most]


@pytest.fixture
def looked_at(monkeypatch):
    """What another process is asked, and what it answers but for the digest."""
    asked, said = [], [b"-"]

    def look(of, path, **limits):
        asked.append(limits)
        return hashlib.sha256(path.read_bytes()).digest() + said[-1]

    monkeypatch.setattr(netcdf, "apart", look)
    monkeypatch.setattr(netcdf, "_SAFE", set())
    return asked, said


def refusal(path):
    with pytest.raises(InputError) as told:
        netcdf.safe_content(path)
    return str(told.value)


def test_limits_grow_with_the_file(tmp_path, looked_at):
    asked, _ = looked_at
    for size in (2**24 - 1, 2**24, 2**25):
        (tmp_path / "s.nc").write_bytes(netcdf._MAGIC.ljust(size, b"\0"))
        assert len(netcdf.safe_content(tmp_path / "s.nc").getvalue()) == size
    assert [of["seconds"] for of in asked] == [2, 3, 4]
    assert asked[1]["memory"] == 3 * 2**30 + 4 * 2**24


def test_every_answer_but_that_it_is_safe_is_a_refusal(tmp_path, looked_at, monkeypatch):
    path, (_, said) = tmp_path / "s.nc", looked_at
    path.write_bytes(netcdf._MAGIC)
    for why in (b"'a' is empty", b"5 variables", b"the attribute", b""):
        said.append(why)
        words = f": {why.decode()}" if why else ""
        assert refusal(path) == f"{path} {REFUSED}{words}"
    for digest in (bytes(32), b"\xff" * 32):
        monkeypatch.setattr(netcdf, "apart", lambda *of, digest=digest, **limits: digest + b"-")
        assert refusal(path) == f"{path} changed while it was read; try again"
    assert refusal(tmp_path / "none") == f"cannot read {tmp_path}/none: No such file or directory"


def test_a_checksum_must_fit_and_lets_larger_files_be_read(tmp_path, looked_at, monkeypatch):
    path, content = tmp_path / "s.nc", netcdf._MAGIC + b"some"
    monkeypatch.setattr(netcdf, "_MOST_UNKNOWN", 12)
    monkeypatch.setattr(netcdf, "apart", lambda of, path, **limits: netcdf.hashlib.sha256(
        path.read_bytes().partition(netcdf._TAG)[0]
    ).digest() + b"-")  # fmt: skip
    for more, read in ((b"", True), (b"x", False)):
        path.write_bytes(content + more)
        if read:
            assert netcdf.safe_content(path).getvalue() == content
        else:
            assert refusal(path) == f"{path} {REFUSED}"
        path.write_bytes(with_checksum(content + more))
        assert netcdf.safe_content(path).getvalue() == content + more
    sealed = with_checksum(content)
    for digit in b"0f":
        if sealed[-1] != digit:
            path.write_bytes(sealed[:-1] + bytes([digit]))
            assert refusal(path) == f"{path} was damaged (its checksum does not fit); make it again"
    # What is no HDF5 is refused, whatever stands behind it.
    for begins in (b"\0", b"\xff"):
        path.write_bytes(with_checksum(begins + content[1:]))
        assert refusal(path) == f"{path} {REFUSED}"


# 15 is 13 in one byte of the heap in which HDF5 keeps more than eight attributes.
LOOPS = zlib.decompress(base64.b85decode(
    "c-rgqaB<`1lHy_j0S*oZ76t(ZWbhvfEM-vnF!=-q{J`JCC5VZ)iHS)G%w<M57aedhF))JUMP-0a0jlR=c*g|M(E!"
    "!E3}%KF6T>JN1;heHxyCJSK^_4N96$~eax#ady~|Mk8CVKqL8GC7he#V)kaU6*HG>9_wv>R0om%H3=M>`M0(22DD"
    "GLHcQZ(dPV0OT4@tL^)JXjScNEI(c6&t#$SHHse+=79s7%rpOh@cU!3Sg)Jx&$U82X&7$11f#G%)-_w#K#Tjx@#b"
    "n4h#(JK<d4CfHK21P}U1)VBiK)ImUN&8KyBnRDi_ic>OnJxCRvf1?8H|Qd@>FCWrthkg^tB8Nd(*RRJ=4n*5YdhA"
    "^lttU&7NsUNir)1X>Fg_E(z{ml$wP%R*^cyGfV1~I4#P?YZIK7WEi3~B}_6pu@4zhRgL6#xa;)(I>B_bl3ZW;8Dl"
    "3&8Qui4yK8@rDxbC~=Mw6DU!O5+x`}3ne;H5)4XGKuLY?e#b_Q#uKf8yR*L!IGzPi%Mxhu!%&=@UzA#mP=AAWG|W"
    "c9C>RB!U=)mkQ7{Td!6+C7qhJ(_f}sZ7f`eV*!=a3q85nfI>=WLG(rz9uPVljLFlel2zr@JE%)rAS!H{SG5fk8mj"
    "^;pzj~E#lQ3et)X{dff3iTUNsNa}E{U#LZH>FU&8HM`IDb#O4u6|Yq5ulFj%)As3UlOPuH1;F_SHpp#9yAao$AK_"
    "|k%1j-e_DP~Zej^J_VWSNb1=mFIR_Nw7o--IWP-=Hgn<h5k<^u?78Pga=h+(RWSHiqmL#X7*&6Cu=mEJYX{NSDdI"
    "ow1K$(I{TVp*#Gd+W0STq0tC2p=8"
))  # fmt: skip


def test_a_byte_over_which_hdf5_loops_for_ever(tmp_path):
    """Another process finds out, and is ended by its limit."""
    path = tmp_path / "s.nc"
    path.write_bytes(LOOPS)
    assert apart("langheads.io.netcdf:digest_and_harm", path, seconds=0, memory=2**32) is None
    xr.Dataset(attrs={f"a{n}": n for n in range(20)}).to_netcdf(path, engine="h5netcdf")
    assert apart("langheads.io.netcdf:digest_and_harm", path, seconds=20, memory=2**32)[32:] == b"-"


def test_a_file_that_is_swapped_while_it_is_read_is_not_opened(tmp_path, monkeypatch):
    """Of the two contents the one that the other process found safe is not the one at hand."""
    path, safe = tmp_path / "s.nc", tmp_path / "safe.nc"
    made(path, many, checked=True)
    made(safe, lambda file: None, checked=True)
    monkeypatch.setattr(netcdf, "apart", lambda of, _, **limits: apart(of, safe, **limits))
    with pytest.raises(InputError, match=r"s\.nc changed while it was read; try again$"):
        netcdf.safe_content(path)


def test_a_content_that_was_found_safe_is_not_looked_at_again(tmp_path, monkeypatch):
    path, again, other = (tmp_path / name for name in ("s.nc", "again.nc", "other.nc"))
    save(make_scores(["en", "de"]), path)
    again.write_bytes(path.read_bytes())
    save(make_scores(["en", "de"]).assign_attrs(seed=7), other)
    asked = []
    monkeypatch.setattr(netcdf, "apart", lambda *of, **limits: asked.append(of[1]))
    monkeypatch.setattr(netcdf, "_SAFE", set())
    with pytest.raises(InputError):
        load_result(path)
    monkeypatch.setattr(netcdf, "apart", lambda *of, **limits: (
        asked.append(of[1]), apart(*of, **limits)
    )[1])  # fmt: skip
    for place in (path, again, other, path, other):
        load_result(place)
    assert asked == [path, path, other]


@pytest.mark.parametrize("content", [LOOPS, with_checksum(LOOPS)], ids=["without", "resealed"])
def test_a_byte_over_which_hdf5_loops_is_told_in_one_line(tmp_path, monkeypatch, content):
    (tmp_path / "s.nc").write_bytes(content)
    # Two seconds less of a processor than it is given.
    monkeypatch.setattr(netcdf, "apart", lambda *of, seconds, memory: apart(
        *of, seconds=seconds - 2, memory=memory
    ))  # fmt: skip
    with pytest.raises(InputError) as told:
        load_result(tmp_path / "s.nc")
    assert str(told.value) == (
        f"{tmp_path}/s.nc {REFUSED}: it cannot be read with what time and memory a result takes"
    )


def test_each_byte_that_changes_is_told(tmp_path):
    path = save(make_scores(["en"]), tmp_path / "s.nc")
    content = path.read_bytes()
    told = f"{path} was damaged (its checksum does not fit); make it again"
    for at in range(8, len(content) - 81, 997):
        path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        with pytest.raises(InputError) as error:
            load_result(path)
        assert str(error.value) == told


def test_other_readers_do_not_see_the_checksum(tmp_path):
    """HDF5 keeps where a file ends in the file; opened to be changed, the file loses what follows,
    and is then read as one without a checksum."""
    path = save(make_scores(["en"]), tmp_path / "s.nc")
    assert path.read_bytes()[-82:-64] == b"\nlangheads sha256 "
    with h5py.File(path, "r+") as file:
        assert file["lahis"].shape == (1, 4, 6)
        file.attrs["note"] = "mine"
    assert b"langheads sha256" not in path.read_bytes()
    assert load_result(path).attrs["note"] == "mine"


def test_a_process_of_its_own_has_limits(tmp_path):
    assert apart("os.path:getsize", tmp_path, seconds=5, memory=2**32) is None  # gives no bytes
    (tmp_path / "a").write_bytes(b"whole")
    assert apart("pathlib:Path.read_bytes", tmp_path / "a", seconds=5, memory=2**32) is None
    assert apart("os:fsencode", tmp_path / "a", seconds=5, memory=2**32) == os.fsencode(
        tmp_path / "a"
    )
    xr.Dataset({"a": 1}).to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    read = "langheads.io.netcdf:digest_and_harm"
    assert apart(read, tmp_path / "a.nc", seconds=5, memory=2**32)[32:] == b"-"
    assert apart(read, tmp_path / "a.nc", seconds=5, memory=2**24) is None


@pytest.mark.parametrize("dim", ["language", "text_of"])
def test_a_name_of_100000_characters_is_refused(tmp_path, dim):
    """It stood at every mark of a page of 120 MB."""
    path = save(make_scores(["n" * 100_000]).rename(language=dim), tmp_path / "s.nc")
    with pytest.raises(InputError) as error:
        load_result(path)
    told = {
        "language": f"{path} has a language with a name of 100000 characters; at most 200",
        "text_of": f"{path} holds scores, but nothing along language; make it again",
    }
    assert str(error.value) == told[dim]
