"""Files of documents, and data sets, read from folders without a network."""

import json

import datasets
import pyarrow
import pytest
from pyarrow import parquet

from langheads.io.errors import InputError
from langheads.text import read_texts, readers
from langheads.text.prompts import read_requests

BOM = b"\xef\xbb\xbf"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "texts").mkdir()
    return tmp_path / "texts"


def documents(folder, language="en"):
    return set(read_texts(folder).texts[language])


@pytest.mark.parametrize("start", [b"", BOM])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_txt_is_a_document_a_line(folder, start, newline):
    lines = ["one two", "", "  ", "zwei\u2028drei\x0b\x85vier\rfünf", " space kept "]
    (folder / "en.txt").write_bytes(start + newline.join(line.encode() for line in lines))
    assert documents(folder) == {"one two", "zwei\u2028drei\x0b\x85vier\rfünf", " space kept "}


@pytest.mark.parametrize("start", [b"", BOM])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_jsonl_is_a_record_a_line(folder, start, newline):
    lines = [
        b'{"text": "one\\ntwo", "id": 3}',
        b"",
        '{"text": "drei\u2028vier 🐈"}'.encode(),
        b'{"text": "\\ud83d\\ude00"}',
        b'{"text": ""}',
        b"",
    ]
    (folder / "en.jsonl").write_bytes(start + newline.join(lines))
    assert documents(folder) == {"one\ntwo", "drei\u2028vier 🐈", "😀"}


def test_parquet_is_a_document_a_row(folder):
    table = pyarrow.table({"id": [1, 2, 3], "text": ["one\ntwo", "", "三"]})
    parquet.write_table(table, folder / "zh.parquet")
    assert documents(folder, "zh") == {"one\ntwo", "三"}


def test_languages_are_file_names_and_other_files_are_left_alone(folder):
    (folder / "zh.txt").write_text("一", "utf-8")
    (folder / "en.jsonl").write_text('{"text": "a"}')
    (folder / "README.md").write_text("not a language")
    (folder / "de.txt").mkdir()
    corpus = read_texts(str(folder), languages=["zh", "en"])
    assert corpus.texts == {"zh": ("一",), "en": ("a",)}
    assert corpus.source == str(folder)
    assert read_texts(folder).languages == ("en", "zh")


def test_files_of_other_languages_are_not_read(folder):
    (folder / "en.txt").write_text("a")
    (folder / "broken.jsonl").write_bytes(b"\xff")
    assert read_texts(folder, languages=["en"]).texts == {"en": ("a",)}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("en.jsonl", b'{"text": "a"}\n\n{"text": b}\n', "en.jsonl, line 3: not JSON"),
        ("en.jsonl", b'{"text": "a"', "en.jsonl, line 1: not JSON"),
        ("en.jsonl", b'{"text": "a"}\n{"text": "\xff"}', "line 2, byte 11: not UTF-8"),
        ("en.txt", b"a\nb\n\xe4\xbd", "en.txt, line 3, byte 1: not UTF-8"),
        ("en.txt", "a".encode("utf-16"), "line 1, byte 1: not UTF-8"),
        ("en.jsonl", b'[1]\n{"text": "a"}', r"line 1: expected .*, found \[1\]"),
        ("en.jsonl", b'{"text": 3}', "line 1: text is 3, expected a text"),
        ("en.jsonl", b'{"txt": "a"}', "line 1: text missing; found txt"),
        ("en.jsonl", b'{"text": "a\\ud800"}', "line 1: text has a lone surrogate at character 2"),
        ("en.jsonl", b"", "language en in .* has no documents"),
        ("en.txt", b"\n \n", "language en in .* has no documents"),
        ("en.parquet", b"PAR1 no", "en.parquet is not a parquet file"),
    ],
)
def test_a_mistake_is_told_with_file_and_line(folder, name, content, message):
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read_texts(folder)
    assert str(folder) in str(error.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"txt": ["a"]}, "en.parquet has no column text"),
        ({"text": [1, 2]}, r"en.parquet, column text: \[0\] is 1, expected a text"),
        ({"text": ["a", None]}, r"en.parquet, column text: \[1\] is None, expected a text"),
        # The text was the name that Python has for it, b and quotes.
        ({"text": [b"the cat"]}, "en.parquet has a column text of binary, expected texts$"),
    ],
)
def test_a_parquet_file_of_another_form_is_told(folder, table, message):
    parquet.write_table(pyarrow.table(table), folder / "en.parquet")
    with pytest.raises(InputError, match=message):
        read_texts(folder)


def test_two_files_for_one_language_are_told(folder):
    for name in ("en.jsonl", "en.txt"):
        (folder / name).write_text('{"text": "a"}')
    with pytest.raises(InputError, match=r"two files for language en .*en\.jsonl and en\.txt"):
        read_texts(folder)


def test_a_missing_file_is_told_with_those_found(folder):
    (folder / "en.txt").write_text("a")
    (folder / "zh.txt").write_text("b")
    with pytest.raises(InputError, match=r"no file for language fr in .*; found en, zh"):
        read_texts(folder, languages=["en", "fr"])


def test_a_missing_or_empty_folder_is_told(folder):
    with pytest.raises(InputError, match=r"no <language>\.jsonl, \.txt or \.parquet in"):
        read_texts(folder)
    with pytest.raises(InputError, match=r"no folder .*none; texts are a folder of"):
        read_texts(folder / "none")


@pytest.fixture
def data_set(folder, tmp_path, monkeypatch):
    """A folder that `datasets` reads as if it came from the Hub: two configurations."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    for language, texts in {"en": ["one", "two", "two"], "zh": ["一"]}.items():
        lines = [json.dumps({"text": text}) for text in texts]
        (folder / f"{language}.jsonl").write_text("\n".join(lines))
    (folder / "README.md").write_text(
        "---\nconfigs:\n"
        "- config_name: en\n  data_files: en.jsonl\n"
        "- config_name: zh\n  data_files: zh.jsonl\n"
        "---\n"
    )
    return f"hf:{folder}"


@pytest.fixture
def data_set_with_column(data_set, folder):
    """The same documents in one configuration with a column for the language."""
    for name in ("en.jsonl", "zh.jsonl", "README.md"):
        (folder / name).unlink()
    rows = [("en", "one"), ("zh", "一"), ("en", "two"), ("en", "two")]
    lines = [json.dumps({"language": language, "text": text}) for language, text in rows]
    (folder / "train.jsonl").write_text("\n".join(lines))
    return data_set


def test_configurations_of_a_data_set_are_languages(data_set):
    corpus = read_texts(data_set)
    assert {k: set(v) for k, v in corpus.texts.items()} == {"en": {"one", "two"}, "zh": {"一"}}
    assert corpus.source == data_set
    assert read_texts(data_set, languages=["zh"]).texts == {"zh": ("一",)}


def test_language_is_filled_into_the_configuration(data_set):
    corpus = read_texts(f"{data_set}:{{language}}", languages=["zh", "en"])
    assert corpus.languages == ("zh", "en")
    assert set(corpus.texts["en"]) == {"one", "two"}


def test_a_column_names_the_language(data_set_with_column):
    corpus = read_texts(data_set_with_column)
    assert {k: set(v) for k, v in corpus.texts.items()} == {"en": {"one", "two"}, "zh": {"一"}}
    assert read_texts(data_set_with_column, languages=["zh"]).texts == {"zh": ("一",)}


@pytest.mark.parametrize(
    ("config", "languages", "message"),
    [
        ("", ["fr"], "has no configuration fr; found en, zh"),
        ("", ["en", "fr"], "no texts for language fr in hf:.*; found en"),
        (":{language}", None, r"needs --languages to fill in \{language\}"),
        (":{language}", ["fr"], "cannot read data set hf:.*fr"),
        (":en", None, "has no column language; found text"),
        ("/none", None, "cannot read data set hf:.*none"),
    ],
)
def test_what_a_data_set_lacks_is_told(data_set, config, languages, message):
    with pytest.raises(InputError, match=message) as error:
        read_texts(data_set + config, languages=languages)
    assert "\n" not in str(error.value)


def test_only_so_many_documents_of_a_data_set_are_read(data_set, monkeypatch):
    monkeypatch.setattr("langheads.text.readers._HUB_DOCUMENTS", 1)
    assert read_texts(data_set).texts == {"en": ("one",), "zh": ("一",)}


@pytest.fixture
def data_set_with_script(folder, tmp_path, monkeypatch):
    """`datasets` as it is with a data set of a script: a parquet copy in a revision of its own."""
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as parquet

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    for name, texts in {"english": ["one", "two"], "chinese_simplified": ["一"]}.items():
        for split, suffix in {"train": "", "test": " of the test"}.items():
            place = folder / name / split
            place.mkdir(parents=True)
            table = pa.table({"id": ["x"] * len(texts), "text": [t + suffix for t in texts]})
            parquet.write_table(table, place / "0000.parquet")
    load = datasets.load_dataset

    def load_dataset(repo, name=None, *, revision=None, **further):
        if revision != "refs/convert/parquet":
            raise RuntimeError("Dataset scripts are no longer supported, but found xlsum.py")
        assert name is None
        return load(repo, **further)

    def config_names(repo):
        raise RuntimeError("Dataset scripts are no longer supported, but found xlsum.py")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(datasets, "get_dataset_config_names", config_names)
    return f"hf:{folder}"


def test_the_parquet_copy_stands_in_for_a_script(data_set_with_script):
    found = read_texts(f"{data_set_with_script}:{{language}}", languages=["english"])
    assert set(found.texts["english"]) == {"one", "two"}
    found = read_texts(
        f"{data_set_with_script}:{{language}}", languages=["chinese_simplified", "english"]
    )
    assert found.texts["chinese_simplified"] == ("一",)
    with pytest.raises(InputError, match=r"cannot read data set hf:.*none"):
        read_texts(f"{data_set_with_script}:{{language}}", languages=["none"])


def test_configurations_of_a_script_must_be_named(data_set_with_script):
    with pytest.raises(InputError, match=r"is made by a script, so its .*; name one, hf:.*:CONFIG"):
        read_texts(data_set_with_script)


def test_what_lies_beside_texts_is_no_language(tmp_path, caplog):
    for name in ("en.txt", "LICENSE.txt", "notes.txt", ".hidden.txt", ".en.jsonl", "README.txt"):
        (tmp_path / name).write_text("some words")
    assert read_texts(tmp_path).languages == ("en",)
    assert caplog.messages == [
        f"not taken for texts of a language in {tmp_path}: LICENSE.txt, notes.txt"
    ]
    assert read_texts(tmp_path, languages="notes").languages == ("notes",)


def test_a_byte_order_mark_alone_is_no_document(tmp_path):
    (tmp_path / "en.txt").write_bytes(b"\xef\xbb\xbf\xef\xbb\xbf\none\n\xef\xbb\xbf \n")
    (tmp_path / "zh.jsonl").write_text('{"text": "\\ufeff"}\n{"text": "\\ufeffa"}\n', "utf-8")
    assert read_texts(tmp_path).texts == {"en": ("one",), "zh": ("\ufeffa",)}


def test_a_language_has_a_short_name():
    with pytest.raises(InputError) as error:
        read_texts({"n" * 100_000: ["one"]})
    assert str(error.value) == (
        f"language {'n' * 40}... in texts given in Python has a name of 100000 characters; at most "
        "200"
    )


def test_a_small_parquet_file_that_holds_gigabytes_is_refused(tmp_path):
    """A text of 1 MB stands there once, and 7,000 rows point to it."""
    text = pyarrow.array(["x" * 10**6])
    rows = pyarrow.array([0] * 7000, pyarrow.int32())
    table = pyarrow.table({"text": pyarrow.DictionaryArray.from_arrays(rows, text)})
    parquet.write_table(table, tmp_path / "en.parquet")
    assert (tmp_path / "en.parquet").stat().st_size < 10**6
    told = "en.parquet holds far more text than a file of its size should$"
    with pytest.raises(InputError, match=told):
        read_texts(tmp_path)


def test_a_prompt_of_one_line_of_megabytes_is_refused(tmp_path):
    (tmp_path / "p.jsonl").write_text(json.dumps({"prompt": "x" * 1_000_001}))
    with pytest.raises(InputError, match="line 1: 1000015 characters, at most 1000000 are read"):
        read_requests(tmp_path / "p.jsonl")


def test_a_data_set_in_python_keeps_its_ids():
    rows = {"text": ["one", "un", "two"], "language": ["en", "fr", "en"], "id": [7, 7, None]}
    given = readers.given_texts(datasets.Dataset.from_dict(rows))
    assert {x: list(of) for x, of in given.items()} == {"en": ["one", "two"], "fr": ["un"]}
    assert [getattr(of, "key", None) for x in given for of in given[x]] == ["7", None, "7"]
    english = datasets.Dataset.from_dict({"text": ["one", "two"], "id": ["a", "b"]})
    for source in ({"en": english}, datasets.DatasetDict({"en": english})):
        assert [of.key for of in readers.given_texts(source)["en"]] == ["a", "b"]
