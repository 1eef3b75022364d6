"""The report of a folder with every kind of result, in a real browser without a network."""

import time

import pytest

from langheads.io.results import save
from langheads.view import report
from langheads.view.folder import read_run
from langheads.view.kinds import KINDS
from tests.browser.chromium import BROWSER
from tests.unit.view.made_up_replies import (
    made_reply,
    make_replies,
    make_transfer,
    write_replies,
)
from tests.unit.view.made_up_results import LANGUAGES, write_full_run
from tests.unit.view.made_up_run import write_run

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on this machine")

TEMPLATES = (
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "<svg onload=document.title='owned'>",
    "<a href=\"javascript:document.title='owned'\">x</a>",
    '"><iframe src=//x.y></iframe>',
    "{{ 7 * 7 }}{% raw %}",
    "${7 * 7}%{x} %{customdata[0]}",
    "&lt;b&gt;<b>bold</b>",
    "<!--<script>",
    "\u202eoverride\u2028\u2029",
)
DRAWN = "document.querySelectorAll('.js-plotly-plot .hoverlayer').length"


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    run = write_full_run(tmp_path_factory.mktemp("full") / "run")
    records, document = make_replies(LANGUAGES)
    for record in records:
        if record["wanted"] == "ar":
            record |= {"prompt": "مرحبا، كيف أنت؟", "reply": "مرحبا! بخير (جدا).\nمرحبا"}
    write_replies(run, records, document)
    return report(run)


def opened(browser, page, **settings):
    browser.open(page, **settings)
    figures = browser.run("JSON.parse(document.getElementById('figures').textContent).figures")
    end = time.monotonic() + 60
    while browser.run(DRAWN) < len(figures):
        assert time.monotonic() < end, f"{browser.run(DRAWN)} of {len(figures)} figures in 60 s"
        time.sleep(0.05)
    assert browser.errors == []
    assert [
        url for url in browser.requests if not url.startswith(("file:", "data:", "blob:"))
    ] == []
    return figures


def test_the_folder_holds_every_kind(full):
    run = read_run(full.parent)
    assert set(run.results) == set(KINDS)
    assert run.reasons == {}


@pytest.mark.parametrize("dark", [False, True])
def test_every_figure_of_every_kind_is_drawn(browser, full, dark):
    figures = opened(browser, full, dark=dark)
    run = read_run(full.parent)
    for kind, name, result in run:
        wanted = len(list(KINDS[kind].pictures(result, run)))
        section = f"#{KINDS[kind].anchor or kind}-1"
        drawn = browser.run(f"document.querySelectorAll('{section} .js-plotly-plot').length")
        assert drawn == wanted, (kind, name)
    assert len(figures) == sum(
        len(list(KINDS[kind].pictures(result, run))) for kind, _, result in run
    )
    paper = browser.run("getComputedStyle(document.querySelector('.main-svg')).backgroundColor")
    assert paper == ("rgb(22, 24, 28)" if dark else "rgb(255, 255, 255)")
    ink = browser.run("getComputedStyle(document.querySelector('.xtick text')).fill")
    assert ink == ("rgb(230, 232, 235)" if dark else "rgb(28, 30, 33)")


def test_hovering_gives_head_value_and_interval(browser, full):
    opened(browser, full)
    said = browser.run(
        """(async () => {
            const plot = document.querySelector('#switch-rate-1 .js-plotly-plot');
            Plotly.Fx.hover(plot, [{curveNumber: 0, pointNumber: 0}]);
            await new Promise(done => setTimeout(done, 300));
            return [...plot.querySelectorAll('.hoverlayer text')].map(t => t.textContent).join(' ');
        })()"""
    )
    found = read_run(full.parent).of("switch-rate")["switch-rate.nc"]
    rate = found.switch_rate.sel(language=LANGUAGES[0]).max().item()
    assert f"{rate:.3f} of prompts switch (" in said
    assert "cost" in said
    assert "en" in said


def hovered(browser, section, curve, point):
    return browser.run(
        f"""(async () => {{
            const plot = document.querySelector('{section} .js-plotly-plot');
            Plotly.Fx.hover(plot, [{{curveNumber: {curve}, pointNumber: {point}}}], 'xy');
            await new Promise(done => setTimeout(done, 300));
            return [...plot.querySelectorAll('.hoverlayer text')].map(t => t.textContent).join(' ');
        }})()"""
    )


def test_hovering_over_a_mask_and_a_pruned_language_gives_value_and_interval(browser, full):
    opened(browser, full, dark=True)
    said = hovered(browser, "#qa-1", 0, 0)
    assert "mask" in said
    assert "accuracy 0.600" in said
    assert "change +0.100 (+0.050 to +0.150)" in said
    # Random heads are drawn below the removed ones; the language that was dropped comes first.
    said = hovered(browser, "#pruned-1", 1, 0)
    assert LANGUAGES[1] in said
    assert "ΔNLL +0.3000 (+0.2900 to +0.3100) nats per byte" in said
    assert "random heads +0.0200 (+0.0050 to +0.0600), p = 0.048" in said


def test_prompts_and_replies_run_in_their_own_direction(browser, full):
    opened(browser, full, width=1100)
    cells = "[...document.querySelectorAll('#replies-1 td.prose')].map(cell => ({text: "
    cells += "cell.textContent, way: getComputedStyle(cell).direction, ends: "
    cells += "cell.getBoundingClientRect().right - text(cell).right}))"
    text = "const text = cell => { const range = document.createRange(); "
    text += "range.selectNodeContents(cell); return range.getBoundingClientRect(); };"
    found = browser.run(f"(() => {{ {text} return {cells}; }})()")
    ways = {}
    for cell in found:
        ways.setdefault("مرحبا" in cell["text"], set()).add(cell["way"])
        # What is written from the right begins at the right edge, but for the padding.
        if "مرحبا" in cell["text"]:
            assert 0 <= cell["ends"] < 20
    assert ways == {True: {"rtl"}, False: {"ltr"}}


def column(browser, section, number):
    return browser.run(
        f"[...document.querySelectorAll('{section} table')].at(-1).tBodies[0].rows.length && "
        f"[...[...document.querySelectorAll('{section} table')].at(-1).tBodies[0].rows]"
        f".map(row => row.cells[{number}].textContent)"
    )


def test_a_click_on_a_heading_sorts_by_number(browser, full):
    opened(browser, full)
    section, number = "#switch-rate-1", 3
    head = f"[...document.querySelectorAll('{section} table')].at(-1).tHead.rows[0].cells[{number}]"
    before = column(browser, section, number)
    rising = sorted(before, key=float)
    assert before != rising
    browser.run(f"{head}.querySelector('button').click()")
    assert column(browser, section, number) == rising
    assert browser.run(f"{head}.getAttribute('aria-sort')") == "ascending"
    browser.run(f"{head}.querySelector('button').click()")
    assert column(browser, section, number) == rising[::-1]
    # The whole row moves along.
    rates = column(browser, section, 2)
    assert [float(text.split()[0]) for text in rates] == sorted(
        (float(text.split()[0]) for text in rates), reverse=True
    )


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_does_not_scroll_sideways(browser, full, width):
    opened(browser, full, width=width)
    client, scroll = browser.run(
        "[document.documentElement.clientWidth, document.documentElement.scrollWidth]"
    )
    assert width - 20 <= client <= width
    assert scroll <= client
    # Every link of the navigation leads somewhere.
    assert browser.run(
        "[...document.querySelectorAll('nav a')].every(a => document.querySelector(a.hash))"
    )


def test_wide_tables_fit_a_window_of_1100_pixels(browser, full):
    opened(browser, full, width=1100)
    for section in ("#proof-1", "#transfer-1"):
        inside, wide = browser.run(
            f"(() => {{ const table = [...document.querySelectorAll('{section} table')]"
            ".find(table => !table.closest('details')), box = table.parentElement;"
            "return [box.clientWidth, box.scrollWidth]; })()"
        )
        assert wide <= inside, section


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_no_title_is_cut_off(browser, tmp_path, number):
    run = tmp_path / "run"
    write_run(run, LANGUAGES[:number])
    if number > 1:
        made = {"prompts": 30, "controls": 20, "query": LANGUAGES[1]}
        save(make_transfer(LANGUAGES[:number], **made), run / "transfer.nc")
    opened(browser, report(run))
    found = browser.run(
        """[...document.querySelectorAll('.js-plotly-plot')].map(plot =>
            [...plot.querySelectorAll('.g-gtitle text, .annotation-text, .g-xtitle text')]
                .map(text => [text.textContent, text.getBoundingClientRect(), plot])
                .map(([said, box, plot]) => [said, box.left, box.right,
                    plot.getBoundingClientRect().left, plot.getBoundingClientRect().right]))"""
    )
    texts = [text for plot in found for text in plot]
    assert sum("own minus others" in said for said, *_ in texts) == 2
    for said, left, right, start, end in texts:
        assert start <= left < right <= end, said


def test_two_hundred_hostile_names_stay_text(browser, tmp_path):
    names = [f"{TEMPLATES[i % len(TEMPLATES)]}{i}" for i in range(200)]
    run = write_full_run(tmp_path / "run", (names[0], names[1], *LANGUAGES[2:]),
                         model=" ".join(names), text=names[3])  # fmt: skip
    # Names of files, too; a slash cannot be in one, and 255 bytes are the most.
    (run / "switch-rate.nc").rename(run / f"{names[4].replace('/', '_')}.nc")
    (run / "qa.nc").rename(run / f"{names[7].replace('/', '_')}.nc")
    (run / f"{names[2].replace('/', '_')}.json").write_text("{}")
    (run / "pruned").rename(run / names[6].replace("/", "_"))
    # Everything that replies bring.
    records, document = make_replies(names[10:14], each=2)
    for i, record in enumerate(records):
        record |= {
            "id": names[20 + i],
            "prompt": names[30 + i],
            **made_reply(names[40 + i], "", True),
        }
        record["untouched"] = made_reply(names[50 + i], names[60 + i][:40], False)
    document["provenance"] |= {"shift": {names[70]: 1.0}, "heads": {names[71]: names[72]}}
    document["provenance"] |= {"model": " ".join(names)}
    write_replies(run, records, document)
    page = report(run)
    assert "</script><script>document" not in page.read_text("utf-8")
    opened(browser, page, width=800)
    browser.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    browser.run("document.querySelectorAll('thead button').forEach(b => b.click())")
    time.sleep(0.3)
    assert browser.run("document.title") == "Language heads: run"
    assert browser.errors == []
    tags = "document.querySelectorAll('main img, main iframe, main a[href^=\"javascript\"]').length"
    assert browser.run(tags) == 0
    # Two of data, plotly.js, circuitsvis, and one each for the page and for attention.
    assert browser.run("document.scripts.length") == 6
    shown = browser.run("document.body.textContent")
    for name in names[:200:17]:
        assert name in shown
    replies = browser.run("document.getElementById('replies-1').textContent")
    # A prompt and a reply are shown by line; U+2028 and U+2029 end one.
    ids = [name[:40] for name in names[20:28]]
    for name in [*ids, *names[30:38], *names[40:48], *names[50:58], *names[70:73]]:
        for line in name.splitlines():
            assert line in replies
