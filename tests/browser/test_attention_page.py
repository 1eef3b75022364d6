"""Attention in a real browser: texts stay text, a click and a pointer answer, nothing is loaded."""

import time

import numpy as np
import pytest

from langheads.view import report
from langheads.view.attention.patterns import AttentionData, AttentionPatterns, ShownHead, Span
from langheads.view.attention.show import AttentionView
from tests.browser.chromium import BROWSER
from tests.unit.view.made_up_run import PROVENANCE, write_run

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on this machine")

HOSTILE = (
    "</script><img src=x onerror=\"document.title='owned'\">",
    "<svg onload=document.title='owned'>",
    "\u202eoverride\u202d",
    "nothing\0here",
    "{{ 7 * 7 }}${7 * 7}",
    "<!--<script>",
    "'\"`\\",
    "\u2028\u2029\ufeff",
    "<style>*{display:none}</style>",
    "&lt;b&gt;",
)
UNITS = "[...document.querySelectorAll('.text')[%d].querySelectorAll('.unit')]"


def view_of(*texts, n_heads=2, spans=(), note=""):
    contexts = []
    for number, tokens in enumerate(texts):
        size = len(tokens)
        rng = np.random.default_rng(number)
        weights = np.tril(rng.exponential(size=(n_heads, size, size)) ** 3)
        patterns = weights / weights.sum(axis=2, keepdims=True)
        contexts.append(AttentionPatterns(f"text {number}", tuple(tokens), patterns, spans, note))
    heads = tuple(ShownHead(f"L{i}H1", "zh", 0.25) for i in range(n_heads))
    return AttentionView(AttentionData(heads, tuple(contexts), "lahis", PROVENANCE))


@pytest.fixture
def opened(browser, tmp_path):
    def run(view, **settings):
        page = view.save(tmp_path / "page.html")
        browser.open(page, **settings)
        assert browser.errors == []
        return browser

    return run


def test_two_hundred_hostile_tokens_are_text(opened):
    tokens = [f"{HOSTILE[i % len(HOSTILE)]}{i}" for i in range(200)]
    view = view_of(tokens, tokens[:20], spans=(Span(HOSTILE[0], 1, 3),))
    browser = opened(view)
    browser.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    for i in range(0, 200, 7):
        browser.run(f"{UNITS % 0}[{i}].click()")
    time.sleep(0.5)
    assert browser.run("document.title") == "Attention: made-up"
    assert browser.run("document.querySelectorAll('img, svg, style').length") <= 2
    assert browser.run("document.querySelectorAll('img, svg').length") == 0
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith(("file:", "blob:"))] == []
    shown = browser.run(f"{UNITS % 0}.map(unit => unit.textContent)")
    marks = {"\u202e": "U+202E", "\u202d": "U+202D", "\0": "␀"}
    marks |= {"\u2028": "U+2028", "\u2029": "U+2029", "\ufeff": "U+FEFF"}
    expected = ["".join(marks.get(c, c) for c in token) for token in tokens]
    assert shown == expected
    # A label in a sentence shows spaces as dots, and the same marks in brackets.
    assert browser.run("document.querySelector('.key').textContent").startswith(
        HOSTILE[0].replace(" ", "·")
    )


def test_a_word_shows_what_it_looks_at(opened):
    tokens = ["<bos>", "The", " cat", " sleeps", "."]
    view = view_of(tokens, tokens[:3], spans=(Span("animal", 1, 3),))
    browser = opened(view)

    def said():
        shades = browser.run(f"{UNITS % 0}.map(u => Number(u.style.getPropertyValue('--a')))")
        return np.array(shades) ** 2

    assert browser.run("document.querySelector('h1').textContent") == "Where heads look"
    assert browser.run("document.querySelector('header p').textContent") == (
        "Model: made-up. How to read it: choose a head, then point at a token; shaded are those "
        "before it that the head looks at from there. It does not show what the head passes on."
    )
    # Units that are tokens are called so.
    buttons = "[...document.querySelectorAll('button.way, button.rest')].map(b => b.textContent)"
    assert browser.run(buttons) == [
        *("what the marked token looks at", "what looks at the marked token"),
        "without the first token",
    ]
    said_of = browser.run("document.querySelector('.said').textContent")
    assert said_of == "L0H1, token . looks most at"
    first, second = view.data.contexts[0].patterns
    # At first the last word is marked; shades are the square roots of the weights.
    np.testing.assert_allclose(said(), first[4], rtol=0, atol=0.006)
    # What is told has no digit that the stored roots do not give.
    told = browser.run("[...document.querySelector('.text').parentElement.querySelectorAll("
                       "'li span:not(.space)')].map(e => e.textContent)")  # fmt: skip
    strongest = np.sort(first[4])[::-1][: len(told)]
    assert told == [f"{of:.{2 if of >= 0.05 else 3}f}" for of in strongest.tolist()]
    browser.run("document.querySelectorAll('button.head')[1].click()")
    np.testing.assert_allclose(said(), second[4], rtol=0, atol=0.006)
    browser.run(f"{UNITS % 0}[2].click()")
    np.testing.assert_allclose(said(), [*second[2, :3], 0, 0], rtol=0, atol=0.006)
    unseen = browser.run(f"{UNITS % 0}.map(u => u.classList.contains('unseen'))")
    assert unseen == [False, False, False, True, True]
    total = browser.run("document.querySelector('.key').textContent")
    assert total.startswith("animal ")
    assert float(total.split()[1]) == pytest.approx(second[2, 1:3].sum(), abs=0.01)
    browser.run("document.querySelectorAll('button.way')[1].click()")
    np.testing.assert_allclose(said(), [0, 0, *second[2:, 2]], rtol=0, atol=0.006)
    browser.run("document.querySelectorAll('button.way')[0].click()")

    # Without the first word the strongest of all texts is shaded fully.
    browser.run("document.querySelector('button.rest').click()")
    other = view.data.contexts[1].patterns[1]
    full = max(second[2, 1:3].max(), other[2, 1:].max())
    np.testing.assert_allclose(said()[1:3], second[2, 1:3] / full, rtol=0, atol=0.03)
    assert said()[0] == 0
    browser.run("document.querySelector('button.rest').click()")

    # A pointer marks a word while it is there.
    x, y = browser.run(
        f"(() => {{ const b = {UNITS % 0}[3].getBoundingClientRect(); "
        "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
    )
    browser.hover(x, y)
    np.testing.assert_allclose(said(), [*second[3, :4], 0], rtol=0, atol=0.006)
    browser.hover(x, y + 500)
    np.testing.assert_allclose(said(), [*second[2, :3], 0, 0], rtol=0, atol=0.006)


def test_writing_goes_its_own_way(opened):
    """Arabic from the right although <bos> comes first, Chinese and Thai from the left."""
    arabic = ["<bos>", "ال", "ق", "طة", " نا", "ئمة"]
    browser = opened(view_of(arabic, ["<bos>", "猫", "在", "睡"]))
    lefts = browser.run(f"{UNITS % 0}.map(u => u.getBoundingClientRect().x)")
    assert lefts == sorted(lefts, reverse=True)
    lefts = browser.run(f"{UNITS % 1}.map(u => u.getBoundingClientRect().x)")
    assert lefts == sorted(lefts)
    # The arrow to the left goes on in Arabic.
    press = (
        "document.querySelectorAll('.text')[%d]"
        ".dispatchEvent(new KeyboardEvent('keydown', {key: '%s'}))"
    )
    marked = "%s.findIndex(u => u.classList.contains('from'))"
    browser.run(press % (0, "ArrowRight"))
    browser.run(press % (1, "ArrowLeft"))
    assert browser.run(marked % (UNITS % 0)) == 4
    assert browser.run(marked % (UNITS % 1)) == 2
    browser.run(press % (0, "ArrowLeft"))
    assert browser.run(marked % (UNITS % 0)) == 5


@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_phone_and_can_be_read(opened, dark):
    view = view_of(["wide" * 30, " x"] * 20, ["猫"] * 60, note="Tokens are joined to words.")
    browser = opened(view, width=390, dark=dark)
    words = browser.run("document.querySelector('.attention').innerText")
    assert "what looks at the marked word" in words
    assert "Point at a word" in words
    assert browser.run("document.documentElement.scrollWidth") <= 390
    lightness = browser.run(
        "getComputedStyle(document.querySelector('.attention')).color.match(/\\d+/g).map(Number)"
    )
    assert (sum(lightness) > 3 * 128) == dark


def test_a_large_view_answers_within_a_second(opened):
    browser = opened(view_of([" cat"] * 512, n_heads=16))
    took = browser.run(
        "(async () => { const start = performance.now();"
        "document.querySelectorAll('button.head')[15].click();"
        "await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));"
        "return performance.now() - start; })()"
    )
    assert 0 < took < 1000
    assert browser.run("document.querySelectorAll('.unit').length") == 512
    assert browser.run("typeof CircuitsVis") == "undefined"


def test_matrices_are_drawn_in_the_report(browser, tmp_path):
    folder = write_run(tmp_path / "run", ["en", "zh"])
    view_of(["<bos>", HOSTILE[0], " b"], ["a", "b"]).save(folder / "attention.json")
    browser.open(report(folder))
    assert browser.run("document.querySelectorAll('canvas').length") == 0
    browser.run("document.querySelectorAll('.attention details').forEach(d => { d.open = true; })")
    end = time.monotonic() + 20
    # Two texts of two heads, one of each once more in large.
    while browser.run("document.querySelectorAll('.attention canvas').length") < 6:
        assert time.monotonic() < end, "nothing was drawn"
        time.sleep(0.05)
    assert browser.errors == []
    assert browser.run("document.title") == "Language heads: run"
    # The first of seven stands on the first screen, too.
    assert browser.run("document.querySelectorAll('.js-plotly-plot').length") == 8


def test_a_matrix_is_the_pattern_and_follows_the_chosen_head(opened):
    view = view_of(["<bos>", "a", " b", "c"], ["x", "y"])
    browser = opened(view)
    browser.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    pixels = (
        "[...document.querySelectorAll('canvas')].map(c => [...c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data].filter((_, i) => i % 4 == 3))"
    )
    end = time.monotonic() + 20
    while len(found := browser.run(pixels)) < 6:
        assert time.monotonic() < end, "nothing was drawn"
    contexts = view.data.contexts
    # Two heads and the chosen one in large, of each text.
    drawn = [c.patterns[head] for c in contexts for head in (0, 1, 0)]
    for values, pattern in zip(found, drawn, strict=True):
        shown = (np.array(values) / 255) ** 2
        np.testing.assert_allclose(shown, pattern.ravel(), rtol=0, atol=0.005)
    browser.run("document.querySelectorAll('canvas')[1].click()")
    assert browser.run("document.querySelectorAll('button.head')[1].ariaPressed") == "true"
    assert browser.run(pixels)[2] == found[1]


@pytest.mark.parametrize("dark", [False, True])
def test_circuitsvis_draws_each_text_offline_and_text_stays_text(browser, tmp_path, dark):
    tokens = ["<bos>", *HOSTILE, "قطة"]
    view = view_of(tokens, ["<bos>", "ال", "ق"])
    page = view.circuitsvis().save(tmp_path / "circuitsvis.html")
    assert page.stat().st_size < 600_000
    browser.open(page, dark=dark)
    end = time.monotonic() + 20
    # The mean of all heads, and each of two, of each text.
    while browser.run("document.querySelectorAll('canvas').length") < 6:
        assert time.monotonic() < end, "circuitsvis drew nothing"
    assert browser.run("[...document.querySelectorAll('h3')].map(h => h.textContent)") == [
        "text 0",
        "text 1",
    ]
    assert browser.run("document.title") == "Attention, drawn by circuitsvis: made-up"
    assert browser.run("document.querySelectorAll('img, svg').length") == 0
    assert browser.run("document.querySelectorAll('style').length") == 1
    buttons = "[...document.querySelectorAll('#text-%d .tokens button')]"
    shown = browser.run(f"{buttons % 1}.map(button => button.textContent)")
    marks = ("\u202e", "\u202d", "\0", "\u2028", "\u2029", "\ufeff")
    expected = tokens
    for mark in marks:
        expected = [token.replace(mark, f"[U+{ord(mark):04X}]") for token in expected]
    assert [text.replace("\xa0", " ") for text in shown] == expected
    # Its colours are the second head's weights, from the last token: lightness 1 - 0.75 weight.
    browser.run("document.querySelectorAll('#text-1 figure')[1].click()")
    browser.run(f"{buttons % 1}[11].click()")
    time.sleep(0.3)
    colours = browser.run(
        f"{buttons % 1}.map(b => b.style.backgroundColor.match(/\\d+/g).map(Number))"
    )
    light = np.array([(max(rgb) + min(rgb)) / 510 for rgb in colours])
    weights = view.data.contexts[0].patterns[1][-1]
    np.testing.assert_allclose((1 - light) / 0.75, weights, rtol=0, atol=0.01)
    # Arabic goes on to the left.
    lefts = browser.run(f"{buttons % 2}.map(b => b.getBoundingClientRect().x)")
    assert lefts == sorted(lefts, reverse=True)
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith(("file:", "blob:"))] == []
    inverted = browser.run("getComputedStyle(document.querySelector('.drawn')).filter")
    assert inverted == ("invert(0.91) hue-rotate(180deg)" if dark else "none")
