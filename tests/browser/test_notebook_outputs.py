"""Outputs as notebook front ends isolate them, without a network: they are drawn, and they react.

Neither Colab nor VS Code can run in a test. Colab puts each output into a frame of a foreign
origin: here a sandboxed one of origin null. VS Code's renderer sets `innerHTML` and makes the
scripts anew, as those set so do not run, under a policy that frames of an output inherit. Figures
reach VS Code and JupyterLab as data for a plotly.js of their own; Colab's page loads it from the
web, which is taken from the package here.
"""

import html
import json
import re
import time

import numpy as np
import plotly.io as pio
import pytest
from plotly.offline import get_plotlyjs

from langheads.io.errors import InputError
from langheads.view import head_map
from langheads.view.attention.patterns import Span
from tests.browser.chromium import BROWSER
from tests.browser.test_attention_page import HOSTILE, view_of
from tests.unit.view.made_up_run import make_scores

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on this machine")

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src https: http: data:; font-src data:; connect-src https:; child-src https: data:"
)
# What VS Code does with an output of type text/html.
INSERT = """
for (const text of JSON.parse(document.getElementById("outputs").textContent)) {
  const box = document.createElement("div");
  box.innerHTML = text;
  document.body.append(box);
  for (const old of box.querySelectorAll("script")) {
    const made = document.createElement("script");
    for (const { name, value } of old.attributes) made.setAttribute(name, value);
    made.text = old.text;
    old.replaceWith(made);
  }
}
"""
TOKENS = ["<bos>", "猫", " b", HOSTILE[0], "قطة"]
HAS_VIEW = "document.querySelectorAll('button.head').length == 2"
HAS_FIGURE = "document.querySelectorAll('.js-plotly-plot .main-svg').length > 0"
PLACE = (
    "(() => { const b = document.querySelectorAll('%s')[%d].getBoundingClientRect();"
    " return [b.x + b.width / 2, b.y + b.height / 2]; })()"
)


@pytest.fixture(scope="module")
def view():
    return view_of(TOKENS, ["x", " y"])


@pytest.fixture(scope="module")
def scores():
    return make_scores(["en", "zh"])


def bundle(figure, renderer):
    return pio.renderers[renderer].to_mimebundle(figure.to_plotly_json())


def page_of(tmp_path, body, head=""):
    path = tmp_path / "notebook.html"
    path.write_text(
        f"<!doctype html><meta charset=utf-8>{head}<title>notebook</title><body>{body}", "utf-8"
    )
    return path


def colab(*outputs):
    """Each output in a frame of its own, which has no way to the page."""
    return "".join(
        '<iframe sandbox="allow-scripts" style="width:100%;height:560px;border:0" srcdoc="'
        + html.escape(f"<!doctype html><meta charset=utf-8><body>{output}")
        + '"></iframe>'
        for output in outputs
    )


def vs_code(*outputs):
    data = json.dumps(outputs).replace("<", "\\u003c")
    return f'<script type="application/json" id="outputs">{data}</script><script>{INSERT}</script>'


def with_own_plotly(text):
    """Colab's output with plotly.js of the package, in place of the same from the web."""
    own = f"<script>{get_plotlyjs()}</script>"
    text, found = re.subn(
        r'<script[^>]*src="https://cdn\.plot\.ly/[^>]*></script>', lambda _: own, text
    )
    assert found == 1
    # MathJax is of no use to our figures, and plotly.js does without.
    return re.sub(r'<script src="https://cdnjs[^>]*></script>', "", text)


def check_the_view_reacts(browser, view, corner):
    """Within the view's own frame: isolated, nothing loaded; a click and a pointer answer."""
    first, second = view.data.contexts[0].patterns

    def shades():
        units = "[...document.querySelectorAll('.text')[0].querySelectorAll('.unit')]"
        found = browser.run(f"{units}.map(u => Number(u.style.getPropertyValue('--a')))")
        return np.array(found) ** 2

    with browser.inside(HAS_VIEW):
        assert browser.run("origin") == "null"
        assert browser.run("(() => { try { return parent.document.title } catch (e) "
                           "{ return e.name } })()") == "SecurityError"  # fmt: skip
        np.testing.assert_allclose(shades(), first[-1], rtol=0, atol=0.006)
        # A click finds a frame only once it was painted.
        browser.run(
            "new Promise(d => requestAnimationFrame(() => requestAnimationFrame(() => d())))"
        )
        button, word = browser.run(PLACE % ("button.head", 1)), browser.run(PLACE % (".unit", 2))
    browser.hover(corner[0] + button[0], corner[1] + button[1])
    browser.click(corner[0] + button[0], corner[1] + button[1])
    with browser.inside(HAS_VIEW):
        until(browser, "document.querySelectorAll('button.head')[1].ariaPressed == 'true'")
        np.testing.assert_allclose(shades(), second[-1], rtol=0, atol=0.006)
    browser.hover(corner[0] + word[0], corner[1] + word[1])
    with browser.inside(HAS_VIEW):
        until(browser, "document.querySelectorAll('.unit')[2].classList.contains('from')")
        np.testing.assert_allclose(shades(), [*second[2, :3], 0, 0], rtol=0, atol=0.006)
        # The matrices, too.
        browser.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        until(browser, "document.querySelectorAll('canvas').length >= 4")
        nothing_loaded(browser)


def check_the_figure_reacts(browser, scores):
    said = browser.run(
        """(async () => {
            Plotly.Fx.hover(document.querySelector('.js-plotly-plot'), {xval: 2, yval: 1}, 'xy');
            await new Promise(done => setTimeout(done, 300));
            const texts = [...document.querySelectorAll('.hoverlayer text')];
            return texts.map(text => text.textContent).join();
        })()"""
    )
    assert "L1H2" in said
    assert f"{scores.lahis[0, 1, 2].item():.4g}"[:5] in said
    assert browser.run("document.querySelectorAll('.heatmaplayer image').length") == 2
    nothing_loaded(browser)


def nothing_loaded(browser):
    names = browser.run("performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [name for name in names if not name.startswith(("data:", "blob:"))] == []


def until(browser, condition):
    end = time.monotonic() + 20
    while not browser.run(condition):
        assert time.monotonic() < end, condition
        time.sleep(0.02)


def corner_of(browser, script):
    return browser.run(
        f"(() => {{ const b = {script}.getBoundingClientRect(); return [b.x, b.y]; }})()"
    )


def test_a_page_of_another_charset_does_not_blank_a_view(browser, tmp_path, view):
    """Letters read wrongly would break the hash by which the view's policy knows its script."""
    text = view._repr_html_()
    assert text.isascii()
    path = tmp_path / "notebook.html"
    path.write_text(f"<!doctype html><meta charset=windows-1252><body>{text}", "ascii")
    browser.open(path)
    check_the_view_reacts(browser, view, corner_of(browser, "document.querySelector('iframe')"))
    with browser.inside(HAS_VIEW):
        assert "猫" in browser.run("document.body.innerText")


def test_a_view_alone_in_jupyter(browser, tmp_path, view):
    browser.open(page_of(tmp_path, view._repr_html_()))
    check_the_view_reacts(browser, view, corner_of(browser, "document.querySelector('iframe')"))
    assert browser.run("document.title") == "notebook"
    assert browser.errors == []


@pytest.mark.parametrize("number", [1, 2])
def test_a_frame_is_as_high_as_its_view(browser, tmp_path, number):
    lines = ["line", " of", " some", " text", " that", " goes", " on", "\n"] * 3
    view = view_of(*[lines] * number, spans=(Span("a fact", 1, 3),))
    browser.open(page_of(tmp_path, view._repr_html_()), width=880)
    with browser.inside(HAS_VIEW):
        high, room = browser.run("[document.documentElement.scrollHeight, innerHeight]")
    assert room - 80 < high <= room


def test_colab_isolates_each_output(browser, tmp_path, view, scores):
    drawn = with_own_plotly(bundle(head_map(scores, "lahis"), "colab")["text/html"])
    browser.open(page_of(tmp_path, colab(view._repr_html_(), drawn)), height=1300)
    with browser.inside(HAS_FIGURE):
        assert browser.run("origin") == "null"
        check_the_figure_reacts(browser, scores)
    outer = corner_of(browser, "document.querySelector('iframe')")
    with browser.inside("document.querySelectorAll('iframe').length == 1"):
        inner = corner_of(browser, "document.querySelector('iframe')")
    check_the_view_reacts(browser, view, np.add(outer, inner).tolist())
    assert browser.run("document.title") == "notebook"
    assert browser.errors == []


def test_vs_code_inserts_and_runs_scripts_anew(browser, tmp_path, view, scores):
    figure = head_map(scores, "lahis")
    data = bundle(figure, "vscode")["application/vnd.plotly.v1+json"]
    assert set(data) >= {"data", "layout"}
    own = figure.to_html(full_html=False, include_plotlyjs=True)
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    browser.open(page_of(tmp_path, vs_code(view._repr_html_(), own), policy), height=1300)
    until(browser, HAS_FIGURE)
    check_the_figure_reacts(browser, scores)
    # Its own renderer is given the figure as data.
    browser.run(
        f"(() => {{ const d = {json.dumps(data)}; const box = document.createElement('div');"
        "document.querySelector('.js-plotly-plot').replaceWith(box);"
        "return Plotly.newPlot(box, d.data, d.layout).then(() => 1); })()"
    )
    check_the_figure_reacts(browser, scores)
    check_the_view_reacts(browser, view, corner_of(browser, "document.querySelector('iframe')"))
    assert browser.run("document.title") == "notebook"
    assert browser.errors == []


def test_views_of_a_notebook_stand_each_alone_and_are_small(browser, tmp_path, view):
    """Three were 4.3 MB. A script that all share would be gone with the cell that has it, and can
    not be shared between the frames of Colab; so each brings its own, of 16 kB."""
    outputs = [view._repr_html_() for _ in range(3)]
    assert sum(map(len, outputs)) < 120_000
    # The first cell was deleted.
    browser.open(page_of(tmp_path, "".join(outputs[1:])))
    check_the_view_reacts(browser, view, corner_of(browser, "document.querySelector('iframe')"))
    assert browser.errors == []


def test_circuitsvis_in_colab(browser, tmp_path, view):
    browser.open(page_of(tmp_path, colab(view.circuitsvis()._repr_html_())))
    with browser.inside("document.querySelectorAll('canvas').length >= 6"):
        assert browser.run("origin") == "null"
        nothing_loaded(browser)
    assert browser.run("document.title") == "notebook"
    assert browser.errors == []


def test_too_much_for_circuitsvis_is_refused():
    with pytest.raises(InputError) as refused:
        view_of([" cat"] * 101).circuitsvis()
    assert str(refused.value) == (
        "2 heads over 101 tokens are 20402 cells, and circuitsvis draws at most 20000; give fewer "
        "heads, or a window"
    )
