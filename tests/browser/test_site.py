"""The site opens from disk: it can be searched, fits a phone, and asks no other host."""

import time

import pytest

from tests.examples.building import build_site

pytestmark = pytest.mark.slow
ASK = """(() => {
  const asked = document.querySelector(".md-search__input");
  asked.focus();
  asked.value = "quadrature";
  asked.dispatchEvent(new Event("input", {bubbles: true}));
  asked.dispatchEvent(new Event("keyup", {bubbles: true}));
})()"""
FOUND = """[...document.querySelectorAll(".md-search-result__link")].map(link => link.pathname)"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return build_site(tmp_path_factory.mktemp("site"))


def loaded(browser):
    return {url.partition(":")[0] for url in browser.requests}


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("page", ["index", "tutorial", "reference", "methods", "howto/cluster"])
def test_pages_fit_and_ask_no_host(browser, site, page, width):
    browser.open(site / f"{page}.html", width, 900)
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    assert browser.errors == []
    assert loaded(browser) <= {"file", "data"}


def test_it_is_dark_where_the_reader_has_it_so_also_after_a_light_visit(browser, site):
    for dark, scheme in ((False, "default"), (True, "slate")):
        browser.open(site / "index.html", 1280, 900, dark=dark)
        assert browser.run("document.body.dataset.mdColorScheme") == scheme


def test_tables_fit_beside_the_contents(browser, site):
    browser.open(site / "architectures.html", 1280, 900)
    inside, wide = browser.run(
        "(box => [box.clientWidth, box.scrollWidth])"
        "(document.querySelector('.md-typeset__scrollwrap'))"
    )
    assert wide <= inside


def test_it_can_be_searched(browser, site):
    browser.open(site / "index.html", 1280, 900)
    browser.run(ASK)
    end = time.monotonic() + 20
    while not (found := browser.run(FOUND)):
        assert time.monotonic() < end, "nothing found in 20 s"
        time.sleep(0.1)
    assert any(path.endswith("/methods.html") for path in found)
    assert loaded(browser) <= {"file", "data"}
