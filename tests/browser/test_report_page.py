"""The report in a real browser: every figure is drawn, names stay text, nothing leaves the page."""

import html
import os
import re
import shutil
import subprocess

import pytest

from langheads.view import head_map, report
from tests.unit.view.made_up_run import make_heads, make_scores, write_run

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = os.environ.get("CHROME") or next(filter(None, map(shutil.which, BROWSERS)), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on this machine")

HOSTILE = "</script><script>document.title='owned'</script><b>bold</b>%{x}"
LANGUAGES = ["en", HOSTILE, "हिन्दी", "中文", "العربية"]
# A figure with a hover label on head L2H5, and its text written where the test can read it.
HOVER = """
Plotly.Fx.hover(document.querySelector('.js-plotly-plot'), {xval: 5, yval: 2}, 'xy');
setTimeout(() => {
    document.title = [...document.querySelectorAll('.hoverlayer text')]
        .map(t => t.textContent).join('|');
}, 200);
"""


def dom(page, tmp_path, *options):
    """The page as the browser has it after its scripts ran."""
    command = [
        *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
        *("--disable-quic", "--disable-sync", "--disable-background-networking"),
        *("--disable-component-update", f"--user-data-dir={tmp_path / 'profile'}"),
        *("--virtual-time-budget=6000", *options, "--dump-dom", page.as_uri()),
    ]
    # A browser keeps settings and caches in the home folder, whatever its profile is.
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    places = {"HOME": ".", "XDG_CONFIG_HOME": ".config", "XDG_CACHE_HOME": ".cache"}
    places |= {"XDG_DATA_HOME": ".local/share"}
    env = os.environ | {name: str(home / place) for name, place in places.items()}
    done = subprocess.run(command, capture_output=True, timeout=60, check=True, env=env)
    return done.stdout.decode("utf-8")


def without_scripts(text):
    return re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    page = report(write_run(folder / "run", LANGUAGES))
    return folder, page, without_scripts(dom(page, folder))


def test_the_browser_leaves_nothing_in_the_home_of_the_user(tmp_path, monkeypatch):
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    (tmp_path / "page.html").write_text("<title>seen</title>")
    assert "seen" in dom(tmp_path / "page.html", tmp_path)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        assert not list((tmp_path / name).iterdir()), name


def test_every_figure_is_drawn(shown):
    _, _, text = shown
    figures = re.findall(r'<div id="figure-\d+"[^>]*class="js-plotly-plot"', text)
    assert len(figures) == 7
    # Heatmaps are images inside the figure's own SVG: 2 a matrix, 5 a map, 2 a profile, and 2 of
    # what languages share. The first matrix stands on the first screen, too.
    assert len(re.findall(r"<image[^>]*data:image/png", text)) == 3 * 2 + 2 * 5 + 2 * 2 + 2


def test_no_hostile_script_ran_and_names_are_text(shown):
    _, _, text = shown
    assert "<title>Language heads: run</title>" in text
    drawn = html.unescape(" ".join(re.findall(r"<text[^>]*>(.*?)</text>", text, flags=re.DOTALL)))
    assert "</script><script>document" in drawn
    assert "<b>bold</b>" in text.replace("&lt;", "<").replace("&gt;", ">")
    assert "font-weight:bold" not in drawn.replace(" ", "")


def test_scripts_of_the_world_are_drawn(shown):
    _, _, text = shown
    drawn = " ".join(re.findall(r"<text[^>]*>(.*?)</text>", text, flags=re.DOTALL))
    for language in ("हिन्दी", "中文", "العربية"):
        assert language in drawn
        assert f"<bdi>{language}</bdi>" in text


def test_hover_names_the_head_with_value_and_error(tmp_path):
    scores = make_scores(LANGUAGES[1:])
    scores.lahis[0, 2, 5], scores.lahis_se[0, 2, 5] = 0.0321, 0.0045
    figure = head_map(scores, "lahis", make_heads(LANGUAGES))
    page = tmp_path / "map.html"
    figure.write_html(page, include_plotlyjs=True, post_script=HOVER)
    title = re.search(r"<title>(.*?)</title>", dom(page, tmp_path), flags=re.DOTALL)
    said = html.unescape(title[1])
    assert "L2H5" in said
    assert "0.03210 nats ± 0.0045 (standard error)" in said
    assert HOSTILE in said


def test_the_page_never_scrolls_sideways(shown, tmp_path):
    """Wide figures and tables scroll in boxes of their own.

    Measured by a page around it: the report's own policy lets no other script run.
    """
    _, page, _ = shown
    widths = (390, 1280)
    frames = "".join(f'<iframe src="{page.as_uri()}" style="width:{w}px"></iframe>' for w in widths)
    around = tmp_path / "frames.html"
    around.write_text(
        frames + "<script>onload = () => setTimeout(() => { document.title = "
        "[...document.querySelectorAll('iframe')].map(f => f.contentDocument.documentElement)"
        ".map(e => e.clientWidth + ' ' + e.scrollWidth).join(' '); }, 2000)</script>"
    )
    text = dom(around, tmp_path, "--allow-file-access-from-files")
    found = list(map(int, re.search(r"<title>([\d ]+)</title>", text)[1].split()))
    for width, client, scroll in zip(widths, found[::2], found[1::2], strict=True):
        assert 0 < scroll <= client <= width
