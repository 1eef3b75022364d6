"""200 strings that try to break out, in each place that a page shows text: they stay text.

Places: tokens, names of languages, of the model and of files, and labels of a view of attention;
pages: the report, a view of attention, and the figures of figures/. A null byte can be neither in
a file's name nor in netCDF, so it stands where JSON brings it: in tokens, labels and the model.
"""

import json
import time

import numpy as np
import pytest

from langheads.view import report
from langheads.view.attention.patterns import AttentionData, AttentionPatterns, ShownHead, Span
from langheads.view.attention.show import AttentionView
from tests.browser.chromium import BROWSER
from tests.unit.figure_scripts import DRAWN, run_scripts
from tests.unit.test_paper_figures import write_made_up_run
from tests.unit.view.made_up_results import PROVENANCE
from tests.unit.view.made_up_run import write_run

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on this machine")

TEMPLATES = (
    "</script><img src=x onerror=\"document.title='owned'\">",
    "</title></style></textarea><svg onload=document.title='owned'>",
    "\u202eright to left\u202c\u2066isolated\u2069\u200f",
    "nothing\0here",
    "<script>document.title='owned'</script>",
    "\"'` onmouseover=document.title='owned' x=",
    "<!--<script>]]>",
    "javascript:document.title='owned'",
    "<a href=\"javascript:document.title='owned'\">%{x}{{ 7 * 7 }}${7 * 7}</a>",
    "\u2028\u2029\ufeff&lt;b&gt;<b>bold</b>",
)
NAMES = [f"{TEMPLATES[i % len(TEMPLATES)]}{i}" for i in range(200)]
# For netCDF.
WITHOUT_NULL = [name.replace("\0", "") for name in NAMES]
MADE = "img, iframe, [onmouseover], a[href^='javascript'], .main-svg a"
PLANTED = f'document.querySelectorAll("{MADE}").length'


def stays_text(browser, page, title, wait):
    """Opens and uses a page: nothing planted ran, was made or was loaded."""
    browser.open(page)
    end = time.monotonic() + 60
    while not browser.run(wait):
        assert time.monotonic() < end, wait
        time.sleep(0.05)
    browser.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    browser.run("document.querySelectorAll('button').forEach(b => b.click())")
    time.sleep(0.3)
    assert browser.run("document.title") == title
    assert browser.errors == []
    assert browser.run(PLANTED) == 0
    urls = [url for url in browser.requests if not url.startswith(("file:", "data:", "blob:"))]
    assert urls == []
    return browser.run(
        "(() => { const body = document.body.cloneNode(true);"
        "body.querySelectorAll('script, style').forEach(part => part.remove());"
        "return body.textContent; })()"
    )


@pytest.mark.parametrize("text", [TEMPLATES[i] for i in (0, 1, 4)])
def test_unescaped_they_would_break_out(browser, tmp_path, text):
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><title>page</title><script>0 // {text}", "utf-8")
    if not text.startswith("</script>"):
        page.write_text(f"<!doctype html><title>page</title>{text}", "utf-8")
    browser.open(page)
    time.sleep(0.2)
    assert browser.run("document.title") == "owned"


def view_of(provenance=PROVENANCE):
    """Hostile tokens, labels of text, head, role, score and span, and a hostile note."""
    size = len(NAMES)
    weights = np.tril(np.ones((2, size, size)))
    weights /= weights.sum(axis=2, keepdims=True)
    spans = tuple(Span(name, 3 * i, 3 * i + 2) for i, name in enumerate(NAMES[:20]))
    contexts = [
        AttentionPatterns(label, tuple(NAMES), weights, spans, note=" ".join(NAMES))
        for label in NAMES[:2]
    ]
    heads = tuple(ShownHead(NAMES[i], NAMES[i + 3], 0.5) for i in range(2))
    return AttentionView(AttentionData(heads, tuple(contexts), NAMES[0], provenance))


def test_a_view_of_attention(browser, tmp_path):
    page = view_of(PROVENANCE | {"model": "".join(NAMES)}).save(tmp_path / "view.html")
    # In a title no markup is read, and spaces and line ends are joined.
    browser.open(page)
    title = browser.run("document.title")
    assert title.startswith("Attention: </script><img src=x onerror=")
    shown = stays_text(browser, page, title, "document.querySelectorAll('.unit').length == 400")
    marks = {"\u202e": "U+202E", "\u202c": "U+202C", "\u2066": "U+2066", "\u2069": "U+2069"}
    marks |= {"\u200f": "U+200F", "\u2028": "U+2028", "\u2029": "U+2029", "\ufeff": "U+FEFF"}
    for name in NAMES:
        # As tokens, in which nothing is invisible.
        expected = "".join(marks.get(c, c) for c in name).replace("\0", "␀")
        assert expected in shown


def test_a_notebook(browser, tmp_path):
    page = tmp_path / "notebook.html"
    page.write_text(
        f"<!doctype html><meta charset=utf-8><title>notebook</title>{view_of()._repr_html_()}",
        "utf-8",
    )
    browser.open(page)
    with browser.inside("document.querySelectorAll('.unit').length == 400"):
        browser.run("document.querySelectorAll('button').forEach(b => b.click())")
        assert browser.run("document.title") == "Attention: made-up"
        assert browser.run(PLANTED) == 0
    assert browser.run("document.title") == "notebook"
    assert browser.errors == []


def test_the_report_with_two_hundred_hostile_languages(browser, tmp_path):
    folder = write_run(tmp_path / "run", WITHOUT_NULL[:8])
    # Only the table of heads is as long as the list of languages.
    chosen = json.loads((folder / "heads.json").read_text("utf-8"))
    chosen["specific"] |= {name: [[0, 1]] for name in NAMES}
    (folder / "heads.json").write_text(json.dumps(chosen), "utf-8")
    shown = stays_text(
        browser,
        report(folder),
        "Language heads: run",
        "document.querySelectorAll('.js-plotly-plot .hoverlayer').length > 3",
    )
    # A browser leaves null bytes out.
    assert [name for name in WITHOUT_NULL if name not in shown] == []


def test_the_report_with_hostile_model_tokens_and_two_hundred_hostile_files(browser, tmp_path):
    folder = write_run(tmp_path / "run", ["en", "zh"], model=" ".join(WITHOUT_NULL))
    for name, other in zip(("scores.nc", "heads.json"), WITHOUT_NULL, strict=False):
        (folder / name).rename(folder / f"{other.replace('/', '∕')}{name[-3:]}")
    view_of().save(folder / "attention.json")
    for name in WITHOUT_NULL:
        (folder / f"{name.replace('/', '∕')}.json").write_text("{}")
    shown = stays_text(
        browser,
        report(folder),
        "Language heads: run",
        "document.querySelectorAll('.js-plotly-plot .hoverlayer').length > 2"
        " && document.querySelectorAll('.unit').length == 400",
    )
    assert [name for name in WITHOUT_NULL if name not in shown] == []
    assert [name for name in WITHOUT_NULL if name.replace("/", "∕") not in shown] == []


@pytest.mark.slow
def test_pages_of_figures(browser, tmp_path):
    run = write_made_up_run(tmp_path / "run", tuple(WITHOUT_NULL[:6]), model=" ".join(WITHOUT_NULL))
    said, _ = run_scripts(run, tmp_path / "out")
    assert said == {}
    pages = sorted((tmp_path / "out").glob("*.html"))
    assert len(pages) == len(set.union(*DRAWN.values()))
    for page in pages:
        stays_text(browser, page, "", "document.querySelectorAll('.main-svg').length > 0")
