"""Language identification: the real default, and the two extras by stand-ins of their interface."""

import enum
import sys
import types
from importlib import metadata

import pytest

from langheads.demo.grammar import LANGUAGES, documents
from langheads.io.errors import InputError
from langheads.text import detector, identify


@pytest.fixture(scope="module")
def among_seven():
    return detector(candidates=LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_sentences_of_the_demo(among_seven, language):
    for text in documents(language, 5):
        found, share = among_seven(text)
        assert found == language
        assert 0.9 < share <= 1


def test_too_few_candidates_for_a_threshold_are_told(caplog):
    """The likeliest of three has more than 0.3 whatever the text; Dutch becomes one of them."""
    three = detector(candidates=["en", "de", "es"])
    for text in ("Het is een mooie dag.", "Det är en vacker dag.", "Ito ay magandang araw."):
        assert three(text)[1] > 1 / 3
    identify.warn_if_too_few_candidates(three, 0.3)
    assert "chooses among 3 languages (en, de, es), so it is always surer than 0.3" in caplog.text
    caplog.clear()
    identify.warn_if_too_few_candidates(three, 0.34)
    identify.warn_if_too_few_candidates(detector(candidates=["en", "de", "es", "fr"]), 0.3)
    identify.warn_if_too_few_candidates(detector(), 0.3)

    class Own:
        name, languages = "own", ("en", "de")

        def __call__(self, text):
            return "en", 0.1

    identify.warn_if_too_few_candidates(Own(), 0.3)
    assert caplog.text == ""


def test_candidates_decide(among_seven):
    text = "Het is een mooie dag vandaag."
    assert detector()(text)[0] == "nl"
    assert among_seven(text)[0] in ("de", "en")
    assert detector(candidates=["nl", "en"])(text)[0] == "nl"


def test_the_model_is_read_once_and_candidates_stay_each_detectors_own(monkeypatch):
    from py3langid.langid import LanguageIdentifier

    text = "Het is een mooie dag vandaag."
    dutch = detector(candidates=["nl", "en"])
    monkeypatch.setattr(LanguageIdentifier, "from_model_file", None)
    assert detector(candidates=["de", "en"])(text)[0] != "nl"
    assert dutch(text)[0] == "nl"
    assert len(detector().languages) > 90


def test_confidence_is_a_share_of_the_candidates():
    """Whatever the library says of all languages, as far as it is about these two."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    every = dict(identifier.rank("Sein Hund"))
    found, share = detector(candidates=["en", "de"])("Sein Hund")
    assert found == "de"
    assert share == pytest.approx(every["de"] / (every["de"] + every["en"]), rel=1e-4)
    assert 0.5 < share < 1


@pytest.mark.parametrize("text", ["", "  \n", "12 345 !?", "🙂"])
def test_no_letters_no_language(among_seven, text):
    assert among_seven(text) == ("unknown", 0.0)


def test_a_tie_is_no_answer(monkeypatch):
    monkeypatch.setattr(
        identify, "_py3langid", lambda _: ("x", ("aa", "bb", "cc"), lambda _: lambda _: {"cc": 0.5})
    )
    assert detector()("word") == ("cc", 1.0)
    assert detector(candidates=["aa", "bb"])("word") == ("unknown", 0.0)


def test_name_and_languages():
    detect = detector()
    assert detect.name == f"py3langid {metadata.version('py3langid')}"
    assert {"en", "zh", "hi", "sw"} <= set(detect.languages)
    assert detector(candidates=["zh", "en", "zh"]).languages == ("zh", "en")


@pytest.fixture
def versions(monkeypatch):
    real = metadata.version
    given = {"lingua-language-detector": "2.1.1", "fasttext": "0.9.3"}
    monkeypatch.setattr(identify, "version", lambda name: given.get(name) or real(name))


@pytest.fixture
def lingua(monkeypatch, versions):
    module = types.ModuleType("lingua")
    code = enum.Enum("IsoCode639_1", "EN DE")

    class Language:
        def __init__(self, name):
            self.iso_code_639_1 = code[name]

        @classmethod
        def all(cls):
            return frozenset({cls("EN"), cls("DE")})

    class Builder:
        @classmethod
        def from_languages(cls, *languages):
            assert [one.iso_code_639_1.name for one in languages] == ["DE", "EN"]
            return cls()

        def build(self):
            return self

        def compute_language_confidence_values(self, text):
            share = 0.75 if "Katze" in text else 0.25
            values = [("DE", share), ("EN", 1 - share)]
            return [types.SimpleNamespace(language=Language(n), value=v) for n, v in values]

    module.Language, module.LanguageDetectorBuilder = Language, Builder
    monkeypatch.setitem(sys.modules, "lingua", module)


def test_lingua(lingua):
    detect = detector("lingua")
    assert detect.languages == ("de", "en")
    assert detect.name == "lingua 2.1.1"
    assert detect("Eine Katze") == ("de", 0.75)
    assert detect("A cat") == ("en", 0.75)


@pytest.fixture
def fasttext(monkeypatch, versions):
    module = types.ModuleType("fasttext")

    class Inner:
        def predict(self, text, k, threshold, errors):
            assert (text[-1], text.count("\n"), k, threshold, errors) == ("\n", 1, 3, 0.0, "strict")
            return [(0.4, "__label__en"), (0.3, "__label__de"), (0.1, "__label__fr")]

    class Model:
        labels = ("__label__en", "__label__de", "__label__fr")
        f = Inner()

    def load_model(path):
        if path.endswith("bad.bin"):
            raise ValueError("bad.bin has wrong file format!")
        return Model()

    module.load_model = load_model
    monkeypatch.setitem(sys.modules, "fasttext", module)


def test_fasttext(fasttext, tmp_path):
    path = tmp_path / "lid.176.bin"
    path.touch()
    detect = detector("fasttext", model_path=path)
    assert detect.name == "fasttext 0.9.3 lid.176.bin"
    assert detect("A cat\nsleeps") == ("en", pytest.approx(0.5))
    among = detector("fasttext", model_path=path, candidates=["de", "fr"])
    assert among("A cat") == ("de", pytest.approx(0.75))


def test_fasttext_files(fasttext, tmp_path):
    with pytest.raises(InputError, match="no fastText model file"):
        detector("fasttext", model_path=tmp_path / "none.bin")
    (tmp_path / "bad.bin").touch()
    with pytest.raises(InputError, match=r"is not a fastText model: bad\.bin has wrong"):
        detector("fasttext", model_path=tmp_path / "bad.bin")


@pytest.mark.parametrize(
    ("library", "arguments", "message"),
    [
        ("langdetect", {}, "detector 'langdetect' asked for; allowed are py3langid, lingua, f"),
        ("fasttext", {}, "fasttext needs a model file"),
        ("py3langid", {"model_path": "lid.bin"}, "only fasttext does"),
        ("py3langid", {"candidates": ["en", "xx"]}, "py3langid does not know language xx"),
        ("py3langid", {"candidates": ["en"]}, "candidates en: .* at least 2"),
        ("py3langid", {"candidates": []}, "candidates none"),
    ],
)
def test_refused(library, arguments, message):
    with pytest.raises(InputError, match=message):
        detector(library, **arguments)


@pytest.mark.parametrize("library", ["lingua", "fasttext"])
def test_not_installed(monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    arguments = {"model_path": "lid.bin"} if library == "fasttext" else {}
    with pytest.raises(InputError, match=rf"{library} is not installed; pip install"):
        detector(library, **arguments)
