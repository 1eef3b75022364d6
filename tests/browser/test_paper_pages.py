"""The pages of figures/ in a real browser: drawn without a network, and no row of a table cut."""

import json
import time

import pytest

from tests.browser.chromium import BROWSER
from tests.unit.figure_scripts import figures_in
from tests.unit.test_paper_figures import make_figures

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on this machine")


@pytest.fixture(scope="module")
def pages(made_once):
    folder = made_once("figures", make_figures)
    assert json.loads((folder / "said.json").read_text("utf-8"))[0] == {}
    return sorted((folder / "out").glob("*.html"))


def test_all_are_drawn_and_whole(browser, pages):
    for page in pages:
        browser.open(page, width=1200)
        end = time.monotonic() + 20
        while browser.run("document.querySelectorAll('.js-plotly-plot .main-svg').length") == 0:
            assert time.monotonic() < end, page
            time.sleep(0.02)
        assert browser.errors == [], page
        assert all(url.startswith(("file:", "data:", "blob:")) for url in browser.requests), page
        data, layout = figures_in(page)
        if data[0]["type"] != "table":
            continue
        # A table draws only the rows that fit, the last of them cut.
        found = browser.run(
            """(() => {
                const top = document.querySelector('.js-plotly-plot').getBoundingClientRect().top;
                return [...document.querySelectorAll('.column-cell .cell-rect')].map(
                    cell => Math.round(cell.getBoundingClientRect().bottom - top));
            })()"""
        )
        rows = len(data[0]["cells"]["values"][0])
        bottoms = sorted(set(found))
        assert len(bottoms) == 1 + rows, page
        assert bottoms[-1] <= layout["height"] - layout["margin"]["b"], page
        text = browser.run("document.querySelector('.js-plotly-plot').textContent")
        for column in data[0]["cells"]["values"]:
            assert column[-1] in text, page
