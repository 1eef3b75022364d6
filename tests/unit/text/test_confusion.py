"""Pass rates by hand, each trap of the released rules among them."""

import sys
import types

import pytest

from langheads.io.errors import InputError
from langheads.text import (
    Confusion,
    Rules,
    detector,
    language_confusion,
    mean_confusion,
    prompt_copy_share,
    repetition_share,
    right_language,
    switch_rate,
    word_list,
)
from langheads.text.confusion import judge, words

RU = "кошка спит на тёплом камне"
RU_EN = "кошка спит на warm камне"
EN = "the cat sleeps on stone"
DE = "die Katze schläft auf Stein"
ZH = "猫在暖和的石头上睡觉"
KO = "고양이가 따뜻한 돌 위에서 잔다"


class Told:
    """A detector that answers from a table, so that each line is seen as the rules left it."""

    name = "told"
    languages = ("en", "de", "ru", "zh", "ja", "ko", "th")

    def __init__(self, **lines):
        self.lines = {
            RU: ("ru", 0.9),
            RU_EN: ("ru", 0.6),
            EN: ("en", 0.9),
            DE: ("de", 0.9),
            ZH: ("zh", 0.9),
            KO: ("ko", 0.9),
        }
        self.seen = []

    def __call__(self, line):
        self.seen.append(line)
        return self.lines[line]


def rates(texts, language, **rules):
    found = language_confusion(texts, language, Told(), Rules(**rules))
    return found.lpr, found.wpr, found.lcpr, found.counted, found.skipped


@pytest.mark.parametrize(
    ("texts", "language", "rules", "expected"),
    [
        # All right, half right, none right; a Latin-script language has no WPR.
        ([RU], "ru", {}, (1, 1, 1, 1, 0)),
        ([RU, EN], "ru", {}, (1 / 2, 1, 2 / 3, 2, 0)),
        ([DE, EN], "de", {}, (1 / 2, None, None, 2, 0)),
        # No reply passed by line: nothing to divide WPR by (released: 1.0), and LCPR is 0.
        ([EN], "ru", {}, (0, None, 0, 1, 0)),
        # One wrong line among right ones fails the reply.
        ([f"{RU}\n{EN}\n{RU}"], "ru", {}, (0, None, 0, 1, 0)),
        # A wrong line of fewer than 5 words is not looked at.
        ([f"{RU}\nthe cat sleeps soundly"], "ru", {}, (1, 1, 1, 1, 0)),
        ([f"{RU}\n{EN}"], "ru", {"min_words": 6}, (None, None, None, 0, 1)),
        # Short and empty replies count nowhere, unless asked.
        (["", " \n ", "кошка спит", RU], "ru", {}, (1, 1, 1, 1, 3)),
        (["", " \n ", "кошка спит", RU], "ru", {"empty": "wrong"}, (1 / 4, 1, 2 / 5, 4, 3)),
        (["", "кошка"], "ru", {}, (None, None, None, 0, 2)),
        (["", "кошка"], "ru", {"empty": "wrong"}, (0, None, 0, 2, 2)),
        ([], "ru", {}, (None, None, None, 0, 0)),
        # Surer than 0.3, and not as sure.
        ([RU_EN], "ru", {"min_confidence": 0.59}, (1, 0, 0, 1, 0)),
        ([RU_EN], "ru", {"min_confidence": 0.6}, (0, None, 0, 1, 0)),
        # An English word fails the word rate only, and only among replies that passed by line.
        ([RU, RU_EN], "ru", {}, (1, 1 / 2, 2 / 3, 2, 0)),
        ([RU, RU_EN, EN, EN], "ru", {}, (1 / 2, 1 / 2, 1 / 2, 4, 0)),
        ([RU_EN], "ru", {"english": {"cold"}.__contains__}, (1, 1, 1, 1, 0)),
        ([RU_EN], "ru", {"wpr_languages": ()}, (1, None, None, 1, 0)),
        # A base model that goes on with the next question of its prompt.
        ([f"{RU}\nQ: {EN}"], "ru", {}, (1, 1, 1, 1, 0)),
        ([f"{RU}\nQ{EN}"], "ru", {"cut_at": "\nQ"}, (1, 1, 1, 1, 0)),
        # Punctuation is deleted, not replaced: it neither makes nor unmakes words.
        (["кошка, спит: на «тёплом» камне!".translate({171: None, 187: None})], "ru", {},
         (1, 1, 1, 1, 0)),
        ([f"- , . {DE} ! ?"[6:-4]], "de", {}, (1, None, None, 1, 0)),
        # What ends a line.
        ([f"{RU}\u2028{RU}"], "ru", {"lines": "any"}, (1, 1, 1, 1, 0)),
        (["кошка спит\nна тёплом камне"], "ru", {}, (None, None, None, 0, 1)),
        (["кошка спит\nна тёплом камне"], "ru", {"lines": "none"}, (1, 1, 1, 1, 0)),
        # Chinese is cut into words, which white space would not find; Korean is not.
        ([ZH], "zh", {}, (1, 1, 1, 1, 0)),
        ([ZH], "zh", {"segment": "space"}, (None, None, None, 0, 1)),
        ([KO], "ko", {}, (1, 1, 1, 1, 0)),
        (["คนไทยเขียนโดยไม่เว้นวรรคระหว่างคำ"], "th", {}, (None, None, None, 0, 1)),
    ],
)  # fmt: skip
def test_by_hand(texts, language, rules, expected):
    assert rates(texts, language, **rules) == pytest.approx(expected)


def test_a_newline_is_no_other_line_end():
    detect = Told()
    detect.lines[f"{RU}\u2028{RU}"] = ("ru", 0.9)
    assert judge(f"{RU}\u2028{RU}", "ru", detect, Rules()).lines == 1
    assert detect.seen == [f"{RU}\u2028{RU}"]


def test_what_the_detector_is_shown():
    """Stripped, without ASCII punctuation and the Arabic comma, the dash a space."""
    detect = Told()
    detect.lines["ab12 c d e f   g"] = ("en", 0.9)
    judge('  #a-b_1.2، c d "e" (f)—— g\n', "en", detect, Rules(min_words=1))
    assert detect.seen == ["ab12 c d e f   g"]


def test_without_punctuation_taken_out():
    detect = Told()
    detect.lines["a, b. c d e"] = ("en", 0.9)
    judge("a, b. c d e", "en", detect, Rules(punctuation=False))
    assert detect.seen == ["a, b. c d e"]


@pytest.mark.parametrize(
    ("word", "english"),
    [("warm", True), ("hot", False), ("Warm", False), ("NATO", False), ("größe", False),
     ("warmный", False), ("мост", False), ("covid19", False)],
)  # fmt: skip
def test_the_check_without_a_word_list(word, english):
    """More than 3 letters a to z, lower case: capitalised English passes, as in the reference."""
    assert Rules().english(word) is english


def test_a_word_list_is_read_as_released(tmp_path):
    """Lower-case words of more than 3 letters; names and short words are not in it."""
    path = tmp_path / "words"
    path.write_text("warm\nhot\nWarren\n stone \nо\n", encoding="utf-8")
    check = word_list(path)
    assert [check(w) for w in ("warm", "stone", "hot", "Warren", "Warm", "cold")] == [
        True, True, False, False, False, False,
    ]  # fmt: skip
    assert rates([RU_EN], "ru", english=check) == (1, 0, 0, 1, 0)
    with pytest.raises(InputError, match="cannot read word list"):
        word_list(tmp_path / "none")


def test_words_in_a_line_that_was_left_out_are_not_looked_at():
    assert rates([f"{RU}\nwarm stone"], "ru")[1] == 1


def test_line_accuracy():
    found = language_confusion([f"{RU}\n{EN}\n{EN}\n{EN}", RU, "short"], "ru", Told())
    assert found.line_accuracy == (1 / 4 + 1) / 2
    wrong = language_confusion([RU, ""], "ru", Told(), Rules(empty="wrong"))
    assert wrong.line_accuracy == 1 / 2


def test_mean_over_languages_leaves_out_what_is_missing():
    found = mean_confusion(
        {
            "ru": language_confusion([RU, RU_EN], "ru", Told()),  # 1, 1/2, 2/3
            "de": language_confusion([DE, EN], "de", Told()),  # 1/2, none
            "zh": language_confusion([""], "zh", Told()),  # nothing
        }
    )
    assert found == Confusion(
        lpr=3 / 4, wpr=1 / 2, lcpr=2 * 1 * 0.5 / 1.5, line_accuracy=3 / 4, counted=4, skipped=1
    )


def test_a_language_that_failed_counts_in_mean_lcpr():
    found = mean_confusion(
        {
            "ru": language_confusion([RU], "ru", Told()),
            "zh": language_confusion([EN], "zh", Told()),
            "de": language_confusion([EN], "de", Told()),
        }
    )
    assert (found.lpr, found.wpr, found.lcpr) == (1 / 3, 1, 1 / 2)


def test_pairs_of_characters():
    assert words("猫在睡觉 iPhone15和狗", "zh") == ["猫在", "睡觉", "iPhone15", "和狗"]
    assert words("ねこがいます", "ja") == ["ねこ", "がい", "ます"]
    assert words("猫在睡觉 abc", "en") == ["猫在睡觉", "abc"]


@pytest.fixture
def segmenters(monkeypatch):
    """Stand-ins for jieba and fugashi, which cut after every second and third character."""
    from langheads.text import confusion

    confusion._segmenter.cache_clear()
    jieba, fugashi = types.ModuleType("jieba"), types.ModuleType("fugashi")
    jieba.cut = lambda line: iter([line[i : i + 2] for i in range(0, len(line), 2)])

    class Tagger:
        def __init__(self, options):
            assert options == "-O wakati -b 50000"

        def parse(self, line):
            return " ".join(line[i : i + 3] for i in range(0, len(line), 3)) + " \n"

    fugashi.Tagger = Tagger
    monkeypatch.setitem(sys.modules, "jieba", jieba)
    monkeypatch.setitem(sys.modules, "fugashi", fugashi)
    yield
    confusion._segmenter.cache_clear()


def test_segmenters_of_the_reference(segmenters):
    # jieba gives white space as a word of its own, and the released code counts it.
    assert words("猫 在", "zh", "reference") == ["猫 ", "在"]
    assert words("ねこがいます", "ja", "reference") == ["ねこが", "います"]
    assert words("a b", "ko", "reference") == ["a", "b"]


@pytest.mark.parametrize(("language", "package"), [("zh", "jieba"), ("ja", "fugashi")])
def test_segmenters_that_are_not_installed(monkeypatch, language, package):
    from langheads.text import confusion

    confusion._segmenter.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"needs {package} for {language}; pip install"):
        words("猫", language, "reference")


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (
            {"min_confidence": float("nan")},
            "min_confidence nan and min_words 5 asked for; min_confidence is a share from 0 to 1",
        ),
        ({"min_confidence": -0.1}, "min_confidence -0.1 and"),
        ({"min_confidence": 1.1}, "min_confidence 1.1 and"),
        (
            {"min_words": -3},
            "min_confidence 0.3 and min_words -3 asked for; .* min_words a number from 0",
        ),
        ({"lines": "all"}, "lines 'all' asked for; allowed are newline, any, none"),
        ({"empty": "no"}, "empty 'no' asked for; allowed are skip, wrong"),
        ({"segment": "jieba"}, "segment 'jieba' asked for; allowed are pairs, reference, space"),
    ],
)
def test_rules_that_do_not_exist(rules, message):
    with pytest.raises(InputError, match=message):
        Rules(**rules)


def test_a_language_that_could_never_pass_is_refused():
    with pytest.raises(InputError, match="language zho is wanted, but the detector answers with"):
        language_confusion([ZH], "zho", Told())


def test_with_the_real_detector():
    detect = detector(candidates=["en", "de", "ru", "zh"])
    assert language_confusion([RU, f"{RU}\n{EN}"], "ru", detect).lpr == 1 / 2
    assert language_confusion([ZH], "zh", detect).lcpr == 1
    assert right_language(DE, "de", detect)
    assert not right_language(DE, "en", detect)
    assert not right_language("", "de", detect)
    assert not right_language(DE, "de", detect, min_confidence=1.0)


def test_switch_rate_by_hand():
    assert switch_rate([True] * 3 + [False], [False, True, True, False]) == 1 / 4
    assert switch_rate([False, False], [True, False]) == 0
    with pytest.raises(ValueError, match="zip"):
        switch_rate([True], [])


@pytest.mark.parametrize(
    ("tokens", "share"),
    [([], 0), ([1, 1, 1], 0), ([1, 2, 3, 4, 5], 0), ([1] * 8, 4 / 5), ([1, 2] * 4, 3 / 5)],
)
def test_repetition_by_hand(tokens, share):
    assert repetition_share(tokens) == pytest.approx(share)


@pytest.mark.parametrize(
    ("tokens", "prompt", "share"),
    [
        ([], [1, 2], 0),
        ([1, 2, 3, 4, 5], [0, 1, 2, 3, 4], 1 / 2),
        ([1, 2, 3, 4], [1, 2, 3, 5, 4], 0),
        ([2, 3], [1, 2, 3, 4], 1),  # shorter than four: as a whole
        ([3, 2], [1, 2, 3, 4], 0),
        ([1, 2, 3, 4], [], 0),
    ],
)
def test_prompt_copies_by_hand(tokens, prompt, share):
    assert prompt_copy_share(tokens, prompt) == share
