"""The order of documents, and that its two ends stay apart."""

import hashlib
import json
import random
import sys

import pytest

from langheads.io.arguments import MAX_NAME
from langheads.io.errors import InputError
from langheads.text import Corpus, reaches_into, read_texts, seen_before
from langheads.text.corpus import _marks
from langheads.text.readers import Keyed

LINES = [f"document {i}" for i in range(20)]


def test_the_order_is_that_of_the_promised_hash():
    def key(text):
        return hashlib.sha256(b"7\x00" + text.encode()).hexdigest()

    assert read_texts({"en": LINES}, seed=7).texts["en"] == tuple(sorted(LINES, key=key))


def test_the_order_does_not_depend_on_the_order_of_lines():
    shuffled = random.Random(0).sample(LINES, len(LINES))
    assert read_texts({"en": shuffled}, seed=1) == read_texts({"en": LINES}, seed=1)


def test_another_seed_is_another_order():
    orders = {read_texts({"en": LINES}, seed=seed).texts["en"] for seed in range(10)}
    assert len(orders) == 10


def test_the_place_of_a_document_does_not_depend_on_the_others():
    few = read_texts({"en": LINES[::2]}, seed=0).texts["en"]
    all_of_them = read_texts({"en": LINES}, seed=0).texts["en"]
    assert few == tuple(text for text in all_of_them if text in LINES[::2])


def test_duplicates_count_once_and_empty_documents_not_at_all():
    corpus = read_texts({"en": ["b", "a", "b", "", "  \n", "a", " b"]})
    assert len(corpus.texts["en"]) == 2
    assert {text.strip() for text in corpus.texts["en"]} == {"a", "b"}


def test_a_text_in_other_case_space_or_form_is_the_same_one_whatever_the_order_of_lines():
    same = ["\ufb01ne  Day", "Fine day ", "fine\u00a0day", "FINE DAY"]
    kept = {read_texts({"en": [*order, "other"]}).texts["en"] for order in (same, same[::-1])}
    assert len(kept) == 1
    assert len(kept.pop()) == 2
    marks = read_texts({"en": [same[0], "scored, too"]}).marks(None)["en"]
    assert [seen_before([text], marks) for text in (*same, "scored, TOO", "new")] == [1] * 5 + [0]


def test_a_document_is_known_by_its_key_when_its_text_is_another(tmp_path):
    for name, text in (("a", "as it was"), ("b", "rewritten")):
        (tmp_path / name).mkdir()
        lines = [{"id": 7, "text": text}, {"text": f"no key {name}"}]
        (tmp_path / name / "en.jsonl").write_text("\n".join(map(json.dumps, lines)))
    scored, proof = (read_texts(tmp_path / name) for name in "ab")
    assert seen_before(proof.texts["en"], scored.marks(None)["en"]) == 1
    assert seen_before(["as it was"], scored.marks(None)["en"]) == 1


@pytest.mark.parametrize("docs", [1, 7, 10])
def test_front_and_back_are_disjoint_until_they_meet(docs):
    corpus = read_texts({"en": LINES, "zh": LINES[:20]}, seed=2)
    for language in ("en", "zh"):
        front, back = corpus.front(docs)[language], corpus.back(docs)[language]
        assert len(front) == len(back) == docs
        assert not set(front) & set(back)
        assert front == corpus.texts[language][:docs]
        assert (*front, *back[::-1])[-1] == corpus.texts[language][-docs]


def test_no_documents_are_no_sample():
    corpus = read_texts({"en": LINES})
    for part in (corpus.front, corpus.back, corpus.marks):
        with pytest.raises(InputError, match=r"^0 documents asked for; at least 1 is needed$"):
            part(0)
        assert list(part(1)) == ["en"]


def test_documents_before_the_cutoff_are_those_of_the_front():
    corpus = read_texts({"en": LINES}, seed=4)
    cutoff = corpus.cutoffs(6)["en"]
    assert reaches_into(corpus.front(6)["en"], 4, cutoff) == 6
    assert reaches_into(corpus.texts["en"], 4, cutoff) == 6
    assert reaches_into(corpus.back(14)["en"], 4, cutoff) == 0


def test_a_name_of_a_language_has_an_end():
    assert read_texts({"x" * MAX_NAME: ["a"]}).languages == ("x" * MAX_NAME,)
    message = f"language {'x' * 40}... in .* has a name of {MAX_NAME + 1} characters; at most"
    with pytest.raises(InputError, match=message):
        read_texts({"x" * (MAX_NAME + 1): ["a"]})


def test_keys_of_another_language_count_where_they_are_given():
    text, other = Keyed("one", "7"), Keyed("eins", "7")
    marks = "".join(_marks(text))
    assert len(marks) == 20
    assert seen_before([other, "eins"], "", marks) == 1
    # The text of another language is no translation.
    assert seen_before(["one"], "", marks) == 0
    assert seen_before(["one", other, "two"], marks) == 2


def test_front_and_back_share_what_they_must():
    corpus = read_texts({"en": LINES})
    assert len(set(corpus.front(13)["en"]) & set(corpus.back(13)["en"])) == 6
    for everything in (corpus.front(None), corpus.back(None), corpus.front(99), corpus.back(99)):
        assert everything == corpus.texts


def test_hashes_are_of_the_documents_alone():
    hashes = read_texts({"en": LINES, "zh": ["一"]}, seed=0).hashes
    again = read_texts({"zh": ["一", "一"], "en": LINES[::-1]}, seed=5).hashes
    assert hashes == again
    assert len(hashes["en"]) == 64
    assert hashes["zh"] == hashlib.sha256(
        hashlib.sha256("一".encode()).hexdigest().encode()
    ).hexdigest()  # fmt: skip
    assert read_texts({"en": LINES[:-1]}).hashes["en"] != hashes["en"]
    # Where one document ends and the next begins is part of what is hashed.
    assert read_texts({"en": ["ab", "c"]}).hashes != read_texts({"en": ["a", "bc"]}).hashes


def test_texts_that_were_read_can_be_read_in_the_order_of_another_seed():
    read = read_texts({"en": LINES}, seed=0)
    assert read_texts(read, seed=4) == read_texts({"en": LINES}, seed=4)


def test_languages_are_those_asked_for_in_that_order():
    source = {"en": ["a"], "zh": ["b"], "hi": ["c"]}
    assert read_texts(source).languages == ("en", "zh", "hi")
    assert read_texts(source, languages=["hi", "en", "hi"]).languages == ("hi", "en")


def test_a_corpus_is_taken_as_it_is_with_the_order_of_the_new_seed():
    corpus = Corpus({"en": ("b", "a"), "zh": ("c",)}, "somewhere", 9)
    again = read_texts(corpus, languages=["en"], seed=3)
    assert again == read_texts({"en": ["a", "b"]}, seed=3).__class__(
        read_texts({"en": ["a", "b"]}, seed=3).texts, "somewhere", 3
    )


def test_a_missing_language_is_told_with_those_found():
    with pytest.raises(InputError, match=r"no texts for language fr, de in .*; found en, zh"):
        read_texts({"en": ["a"], "zh": ["b"]}, languages=["fr", "en", "de"])


def test_a_language_of_empty_documents_is_told():
    with pytest.raises(InputError, match=r"language zh in .* has no documents"):
        read_texts({"en": ["a"], "zh": ["", " "]})


def test_an_empty_language_name_is_told():
    with pytest.raises(InputError, match="an empty language name"):
        read_texts({"en": ["a"]}, languages=["en", ""])


def test_a_mapping_is_not_modified():
    source = {"en": ["b", "a", "b", ""]}
    read_texts(source)
    assert source == {"en": ["b", "a", "b", ""]}


EN, ZH = [f"english {i}" for i in range(20)], [f"zhongwen {i}" for i in range(20)]


def test_aligned_lines_have_one_order_in_all_languages_that_a_seed_fixes():
    corpus = read_texts({"en": EN, "zh": ZH}, seed=3, aligned=True)
    numbers = [[int(text.split()[1]) for text in texts] for texts in corpus.texts.values()]
    assert numbers[0] == numbers[1] != sorted(numbers[0])
    assert sorted(numbers[0]) == list(range(20))
    for docs in (5, None):
        for part in (corpus.front(docs), corpus.back(docs)):
            assert [t.split()[1] for t in part["en"]] == [t.split()[1] for t in part["zh"]]
    alone = read_texts({"zh": ZH}, seed=3, aligned=True)
    assert alone.texts["zh"] == corpus.texts["zh"]
    assert read_texts(corpus, seed=4, aligned=True) == read_texts(
        {"en": EN, "zh": ZH}, seed=4, aligned=True
    )
    apart = read_texts({"en": EN, "zh": ZH}, seed=3, aligned=False)
    assert [int(t.split()[1]) for t in apart.texts["en"]] != numbers[0]
    assert read_texts(corpus, seed=3, aligned=False) == apart


def test_a_blank_line_is_the_place_of_a_document_that_is_missing(tmp_path, caplog):
    (tmp_path / "en.txt").write_text("one\ntwo\n\nfour\n")
    (tmp_path / "zh.txt").write_text("yi\n\nsan\nsi\n")
    corpus = read_texts(tmp_path, aligned=True)
    pairs = set(zip(*corpus.texts.values(), strict=True))
    assert pairs == {("one", "yi"), ("four", "si")}
    assert "2 documents are not in every language and are left out" in caplog.text
    only = read_texts({"en": ["a", ""], "zh": ["", "b"]}, aligned=False)
    assert only.texts == {"en": ("a",), "zh": ("b",)}
    with pytest.raises(InputError) as error:
        read_texts({"en": ["a", "", "c"], "zh": ["", "b", ""]}, aligned=True)
    assert str(error.value) == "no document of texts given in Python is in all of en, zh"


def test_a_document_told_twice_in_one_language_counts_once_in_all():
    corpus = read_texts({"en": ["a", "A ", "c"], "zh": ["x", "y", "z"]}, aligned=True)
    assert len(corpus.texts["en"]) == len(corpus.texts["zh"]) == 2
    assert ("c", "z") in zip(*corpus.texts.values(), strict=True)


def with_ids(folder, **languages):
    folder.mkdir()
    for language, texts in languages.items():
        lines = [json.dumps({"id": key, "text": text}) for key, text in texts.items()]
        (folder / f"{language}.jsonl").write_text("\n".join(lines))
    return folder


def test_the_same_ids_in_every_language_align_and_others_do_not(tmp_path, caplog):
    folder = with_ids(tmp_path / "a", en={1: "one", 2: "two"}, zh={2: "er", 1: "yi"})
    corpus = read_texts(folder)
    assert corpus.aligned
    assert set(zip(*corpus.texts.values(), strict=True)) == {("one", "yi"), ("two", "er")}
    assert caplog.messages == [
        f"{folder} has the same ids in every language: documents of one id are taken for "
        "translations of each other (aligned); --no-aligned says that they are none"
    ]
    assert not read_texts(folder, aligned=False).aligned
    assert not read_texts(folder, languages=["en"]).aligned
    other = with_ids(tmp_path / "b", en={1: "one", 2: "two"}, zh={2: "er", 3: "san", 4: "si"})
    assert not read_texts(other).aligned
    caplog.clear()
    forced = read_texts(other, aligned=True)
    assert forced.texts == {"en": ("two",), "zh": ("er",)}
    assert caplog.messages == ["3 documents are not in every language and are left out"]


def refused(source):
    with pytest.raises(InputError) as error:
        read_texts(source, aligned=True)
    return str(error.value)


def test_ids_twice_or_of_some_only_and_unequal_lines_are_refused(tmp_path):
    folder = tmp_path / "twice"
    with_ids(folder, en={1: "one", 2: "two"})
    lines = ['{"id": 2, "text": "er"}', '{"id": 1, "text": "yi"}', '{"id": 1, "text": "yi"}']
    (folder / "zh.jsonl").write_text("\n".join(lines))
    assert refused(folder) == f"{folder}: language zh has the id '1' twice"
    assert not read_texts(folder).aligned
    (folder / "zh.jsonl").write_text('{"id": 2, "text": "er"}\n{"text": "yi"}\n')
    assert refused(folder) == (
        f"1 of the 4 documents of {folder} have no id; aligned texts need one for each, or none "
        "at all"
    )
    (folder / "zh.jsonl").write_text('{"text": "er"}\n{"text": "yi"}\n')
    (folder / "en.jsonl").write_text('{"id": 1, "text": "one"}\n{"text": "two"}\n')
    assert refused(folder).startswith(f"3 of the 4 documents of {folder} have no id; ")
    assert refused({"en": ["a", "b", "c"], "zh": ["x", "z"]}) == (
        "texts given in Python has unequal numbers of lines (en 3, zh 2); texts that are aligned "
        "by line need a blank one where a translation is missing"
    )


def test_blank_lines_of_jsonl_and_ids_of_parquet_keep_their_place(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "en.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n{"text": "three"}\n')
    (tmp_path / "zh.jsonl").write_text('{"text": "yi"}\n\n{"text": "san"}\n')
    pairs = set(zip(*read_texts(tmp_path, aligned=True).texts.values(), strict=True))
    assert pairs == {("one", "yi"), ("three", "san")}
    other = tmp_path / "parquet"
    other.mkdir()
    for language, ids in {"en": [1, 2, 3], "zh": [3, 1, 2]}.items():
        texts = [f"{language} {i}" for i in ids]
        pq.write_table(pa.table({"text": texts, "id": ids}), other / f"{language}.parquet")
    pairs = set(zip(*read_texts(other).texts.values(), strict=True))
    assert pairs == {("en 1", "zh 1"), ("en 2", "zh 2"), ("en 3", "zh 3")}


def test_a_translation_may_be_missing_at_the_end_or_be_blank_under_its_id(tmp_path):
    whole = {"en": ["a", "b"], "zh": ["x", "y", ""]}
    assert read_texts(whole, aligned=True) == read_texts({"en": ["a", "b"], "zh": ["x", "y"]},
                                                         aligned=True)  # fmt: skip
    corpus = read_texts(with_ids(tmp_path / "a", en={1: "one", 2: "two"}, zh={1: "yi", 2: " "}))
    assert not corpus.aligned
    assert read_texts(corpus, seed=0, aligned=corpus.aligned).texts["zh"] == ("yi",)
    aligned = read_texts(tmp_path / "a", aligned=True)
    assert aligned.texts == {"en": ("one",), "zh": ("yi",)}


@pytest.mark.parametrize("name", ["a", "z"])
def test_lines_are_named_by_their_folder_and_number(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    for language, texts in {"en": "one\ntwo", "zh": "yi\ner"}.items():
        (tmp_path / name / f"{language}.txt").write_text(texts)
    texts = read_texts(name, aligned=True).texts
    keys = {text.key for of in texts.values() for text in of}
    assert keys == {f"{tmp_path / name}, line {line}" for line in (1, 2)}
    assert not any(
        hasattr(text, "key") for text in read_texts({"en": ["a"]}, aligned=True).texts["en"]
    )


def test_a_corpus_has_ids_where_its_documents_were_read_with_them(tmp_path):
    assert Corpus({"en": (Keyed("one", "7"),)}, "somewhere", 0).has_ids
    assert not Corpus({"en": ("one",)}, "somewhere", 0).has_ids
    assert read_texts(with_ids(tmp_path / "a", en={1: "one"})).has_ids
    (tmp_path / "en.txt").write_text("one\n")
    # The number of a line is no id of its own.
    assert not read_texts(tmp_path, languages=["en"], aligned=True).has_ids


def test_a_data_set_of_the_hub_is_named_after_the_prefix(monkeypatch):
    asked = []
    module = sys.modules["langheads.text.corpus"]
    monkeypatch.setattr(module, "read_hub", lambda *of: asked.append(of) or {"en": ["a"]})
    assert read_texts("hf:me/set:cfg", languages=["en"]).source == "hf:me/set:cfg"
    assert asked == [("me/set:cfg", ("en",))]


def test_a_line_is_known_again_however_its_folder_is_written(tmp_path):
    for language, texts in {"en": EN, "zh": ZH}.items():
        (tmp_path / f"{language}.txt").write_text("\n".join(texts))
    marks = read_texts(tmp_path, aligned=True).marks(5)
    (tmp_path / "zh.txt").write_text("\n".join(f"rewritten {i}" for i in range(20)))
    for spelling in (f"{tmp_path}/", f"{tmp_path}/../{tmp_path.name}"):
        again = read_texts(spelling, aligned=True).front(5)["zh"]
        assert seen_before(again, marks["en"], marks["en"]) == 5
        assert seen_before(again, "", "") == 0


def test_files_of_equal_counts_are_told_and_not_taken_for_translations(tmp_path, caplog):
    for language, texts in {"en": EN, "zh": ZH}.items():
        (tmp_path / f"{language}.txt").write_text("\n".join(texts) + "\n")
    assert not read_texts(tmp_path).aligned
    assert caplog.messages == [
        f"{tmp_path} has 20 documents in every language: if document n says the same in each, "
        "aligned (--aligned) keeps translations together in scores and proof; --no-aligned says "
        "that they are none"
    ]
    caplog.clear()
    read_texts(tmp_path, aligned=False)
    read_texts(tmp_path, languages=["en"])
    read_texts({"en": EN, "zh": ZH})
    (tmp_path / "zh.txt").write_text("one line\n")
    read_texts(tmp_path)
    assert not caplog.text
