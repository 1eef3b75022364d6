"""The report of a folder with every kind of result, in a real browser without a network."""

import re
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
from tests.unit.view.made_up_results import LANGUAGES, make_full_page, write_full_run
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
def full(made_once):
    return made_once("full", make_full_page) / "report.html"


@pytest.fixture(scope="module")
def wanted(full):
    """How many pictures each result of the folder has, by kind and name."""
    run = read_run(full.parent)
    return {(kind, name): len(list(KINDS[kind].pictures(of, run))) for kind, name, of in run}


def opened(browser, page, *, width=1280, height=800, dark=False):
    """The figures of a page that is open and drawn; what is open so already is not opened again."""
    settings = {"width": width, "height": height, "dark": dark}
    if (page, settings) == browser.shown:
        return browser.run("JSON.parse(document.getElementById('figures').textContent).figures")
    browser.open(page, **settings)
    figures = browser.run("JSON.parse(document.getElementById('figures').textContent).figures")
    # One of them stands on the first screen, too.
    places = browser.run("document.querySelectorAll('[data-figure]').length")
    assert places - len(figures) in (0, 1)
    end = time.monotonic() + 60
    while browser.run(DRAWN) < places:
        assert time.monotonic() < end, f"{browser.run(DRAWN)} of {places} figures in 60 s"
        time.sleep(0.05)
    assert browser.errors == []
    assert [
        url for url in browser.requests if not url.startswith(("file:", "data:", "blob:"))
    ] == []
    browser.shown = page, settings
    return figures


def test_the_folder_holds_every_kind(full):
    run = read_run(full.parent)
    assert set(run.results) == set(KINDS)
    assert run.reasons == {}


@pytest.mark.parametrize(("width", "height", "dark"), [(390, 844, True), (1280, 800, False)])
def test_every_figure_of_every_kind_is_drawn(browser, full, wanted, width, height, dark):
    figures = opened(browser, full, width=width, height=height, dark=dark)
    for (kind, name), number in wanted.items():
        section = f"#{KINDS[kind].anchor or kind}-1"
        drawn = browser.run(f"document.querySelectorAll('{section} .js-plotly-plot').length")
        assert drawn == number, (kind, name)
    assert len(figures) == sum(wanted.values())
    paper = browser.run("getComputedStyle(document.querySelector('.main-svg')).backgroundColor")
    assert paper == ("rgb(22, 24, 28)" if dark else "rgb(255, 255, 255)")
    ink = browser.run("getComputedStyle(document.querySelector('.xtick text')).fill")
    assert ink == ("rgb(230, 232, 235)" if dark else "rgb(28, 30, 33)")
    check_contrast_in_cells(browser)
    assert browser.run(OVERLAPS) == []
    # A minus is no hyphen.
    assert (
        browser.run(
            """[...document.querySelectorAll('.js-plotly-plot text')].map(text => text.textContent)
            .filter(text => /(^|[ (])-[.\\d]/.test(text))"""
        )
        == []
    )
    check_no_sideways_scrolling(browser, width)
    (check_a_wide_window if width == 1280 else check_a_phone)(browser)
    if dark:
        # Nothing white is left but what is drawn in colours: no box of the page, and no paper.
        grounds = browser.run(
            "[...document.querySelectorAll('body, body *')].filter(e => !e.closest('g'))"
            ".map(e => getComputedStyle(e).backgroundColor)"
        )
        assert "rgb(255, 255, 255)" not in grounds
        papers = browser.run(
            "[...document.querySelectorAll('.bglayer rect, .legend .bg')].map(e => "
            "getComputedStyle(e).fill)"
        )
        assert "rgb(255, 255, 255)" not in papers


def luminance(rgb):
    """Relative luminance (WCAG 2)."""
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def check_contrast_in_cells(browser):
    """Every number that is drawn on a cell, against the pixel that the browser drew behind it."""
    found = browser.run(
        """(async () => {
            const found = [];
            for (const plot of document.querySelectorAll('.js-plotly-plot'))
                for (const panel of plot.querySelectorAll('.subplot')) {
                    const image = panel.querySelector('.heatmaplayer image');
                    const texts = panel.querySelectorAll('.scatterlayer .textpoint text');
                    if (!image || !texts.length) continue;
                    const loaded = new Image();
                    loaded.src = image.getAttribute('href') ?? image.getAttribute('xlink:href');
                    await loaded.decode();
                    const canvas = document.createElement('canvas');
                    [canvas.width, canvas.height] = [loaded.width, loaded.height];
                    const pen = canvas.getContext('2d');
                    pen.drawImage(loaded, 0, 0);
                    const box = image.getBoundingClientRect();
                    for (const text of texts) {
                        const at = text.getBoundingClientRect();
                        const x = (at.x + at.width / 2 - box.x) / box.width * loaded.width;
                        const y = (at.y + at.height / 2 - box.y) / box.height * loaded.height;
                        const pixel = pen.getImageData(x, y, 1, 1).data;
                        if (at.width && pixel[3] === 255) found.push([text.textContent,
                            getComputedStyle(text).fill.match(/\\d+/g).map(Number), [...pixel]]);
                    }
                }
            return found;
        })()"""
    )
    assert len(found) > 100
    for text, ink, cell in found:
        pair = sorted(luminance([x / 255 for x in of[:3]]) for of in (ink, cell))
        assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5, (text, ink, cell)


# Pairs of texts of a figure that lie on each other; ticks, titles, legends and names of panels.
OVERLAPS = """[...document.querySelectorAll('.js-plotly-plot')].flatMap(plot => {
    const texts = [...plot.querySelectorAll('.xtick text, .ytick text, .g-gtitle text, .legendtext,'
        + '.annotation-text, .g-xtitle text, .g-ytitle text, .cbaxis text, .cbtitle text')]
        .filter(text => text.textContent.trim()).map(text => [text.textContent,
            text.getBoundingClientRect()]);
    return texts.flatMap(([one, a], i) => texts.slice(i + 1).filter(([two, b]) =>
        Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1.5
        && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1.5
    ).map(([two]) => [plot.dataset.figure, one, two]));
})"""


def check_no_sideways_scrolling(browser, width):
    client, scroll = browser.run(
        "[document.documentElement.clientWidth, document.documentElement.scrollWidth]"
    )
    assert width - 20 <= client <= width
    assert scroll <= client
    # Every link of the navigation leads somewhere.
    assert browser.run(
        "[...document.querySelectorAll('nav a')].every(a => document.querySelector(a.hash))"
    )


# Tables that are wider than their place, those that are folded too.
WIDER = """(() => {
    const folded = [...document.querySelectorAll('section > details:not([open])')];
    folded.forEach(of => { of.open = true; });
    const wider = [...document.querySelectorAll('section table')].filter(({parentElement: box}) =>
        box.scrollWidth > box.clientWidth).map(of => [of.closest('section').id, of.innerText]);
    folded.forEach(of => { of.open = false; });
    return wider;
})()"""


def check_a_wide_window(browser):
    """The first screen; and a head that is clicked on."""
    # Every section is in sight beside the page, and the picture is within the first screen.
    links, left, picture = browser.run(
        """(() => {
            const box = e => e.getBoundingClientRect(), one = s => document.querySelector(s);
            return [[...document.querySelectorAll('nav a')].map(box).map(
                r => [r.top, r.bottom, r.right, r.width]),
                box(one('main')).left, box(one('#summary .js-plotly-plot .subplot')).top]; })()"""
    )
    assert len(links) >= 20
    for top, bottom, right, width in links:
        assert 0 <= top < bottom <= 800
        assert width > 0
        assert right <= left
    assert picture < 800
    assert browser.run(WIDER) == []
    words = browser.run("document.querySelector('#summary .glance').innerText")
    assert "made-up, 4 layers of 6 heads" in words
    assert len(re.findall(r"\.(?=\s|$)", words)) <= 6
    assert not re.search(r"[{}]|\bnan\b", browser.run("document.querySelector('main').innerText"))

    # A click on head 1 of layer 1 in a map marks it in every map, and opens its attention.
    place = browser.run(
        """(() => {
            const plot = document.querySelector('#knockout-1 .js-plotly-plot');
            plot.scrollIntoView();
            const {xaxis, yaxis} = plot._fullLayout, box = plot.getBoundingClientRect();
            return [box.x + xaxis._offset + xaxis.d2p(1) + 3, box.y + yaxis._offset + yaxis.d2p(1)];
        })()"""
    )
    browser.hover(*place)
    browser.click(*place)
    end = time.monotonic() + 20
    ringed = """[...document.querySelectorAll('.js-plotly-plot')].map(p => [p, p.data.filter(t =>
            (p.layout.meta?.heads && t.type === 'heatmap') || t.hovertext?.includes?.('L1H1'))])
        .filter(([p, of]) => of.length).map(([p, of]) => [of.length,
            p.layout.shapes.filter(s => s.name === 'L1H1').length / 2])"""
    while not all(panels == rings for panels, rings in browser.run(ringed)):
        assert time.monotonic() < end, browser.run(ringed)
        time.sleep(0.05)
    assert len(browser.run(ringed)) > 8
    assert browser.run("document.querySelector('.head-note').textContent") == (
        "L1H1 is marked in every figure and table.backunmark"
    )
    chosen, top = browser.run(
        """(() => { const button = [...document.querySelectorAll('.attention button.head')]
            .find(b => b.textContent.startsWith('L1H1'));
            return [button.ariaPressed, button.getBoundingClientRect().top]; })()"""
    )
    assert chosen == "true"
    assert -1 <= top < 800
    browser.run("[...document.querySelectorAll('.head-note button')].at(-1).click()")
    while any(rings for _, rings in browser.run(ringed)):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert browser.run("document.querySelector('.head-note')") is None


def check_a_phone(browser):
    """Panels stack, their titles are whole, and what is wider than the window says so."""
    cut = browser.run(
        """[...document.querySelectorAll('.js-plotly-plot')].flatMap(plot => {
            const paper = plot.getBoundingClientRect();
            return [...plot.querySelectorAll('.g-gtitle text, .g-xtitle text, .annotation-text')]
                .map(text => [text.textContent, text.getBoundingClientRect()])
                .filter(([, of]) => of.left < paper.left || of.right > paper.right)
                .map(([said]) => [plot.dataset.figure, said]); })"""
    )
    assert cut == []
    # The numbers of cells do not touch.
    touching = browser.run(
        """[...document.querySelectorAll('.js-plotly-plot .subplot')].flatMap(panel => {
            const texts = panel.querySelector('.heatmaplayer image')
                ? [...panel.querySelectorAll('.textpoint text')] : [];
            const boxes = texts.map(text => text.getBoundingClientRect()).filter(of => of.width);
            return boxes.slice(1).map((of, i) => [of.left - boxes[i].right, of.top - boxes[i].top])
                .filter(([apart, down]) => Math.abs(down) < 2 && apart < 2); })"""
    )
    assert touching == []
    # Every panel has numbers or names below it, and what is lowest is at the figure's end.
    bare = browser.run(
        """[...document.querySelectorAll('.js-plotly-plot')].flatMap(plot => {
            const axes = [...new Set(plot._fullData.map(of => of.xaxis))];
            return axes.filter(axis => !plot.querySelector(`.${axis}tick text`))
                .map(axis => [plot.dataset.figure, axis]); })"""
    )
    assert bare == []
    ends = browser.run(
        """[...document.querySelectorAll('.js-plotly-plot')].map(plot =>
            plot.getBoundingClientRect().bottom - Math.max(...[...plot.querySelectorAll(
                '.main-svg text')].map(text => text.getBoundingClientRect().bottom)))"""
    )
    assert max(ends) < 80
    # How to read it does not point where a panel no longer is.
    captions = browser.run("[...document.querySelectorAll('figcaption')].map(of => of.innerText)")
    pointing = r"\b(left|right)\b(?! (of|is better|more heads))|(upper|lower) row"
    assert [said for said in captions if re.search(pointing, said)] == []
    # A panel that has no title of its own axis takes none of another axis.
    axes = browser.run("""Object.entries(document.querySelector('#mask-1 .js-plotly-plot')
        ._fullLayout).filter(([key]) => key.startsWith('yaxis')).map(([, of]) => of.title.text)""")
    assert sorted(axes) == ["head", "loss (nats per answer token)"]
    # Sections fold away, and the verdict is on the first screen.
    assert browser.run("document.querySelector('nav').getBoundingClientRect().height") < 60
    assert browser.run("document.querySelector('.headline').getBoundingClientRect().bottom") < 844
    lefts = browser.run(
        """[...document.querySelectorAll('.js-plotly-plot')].map(p => Object.entries(p._fullLayout)
            .filter(([key, axis]) => /^xaxis/.test(key) && p._fullData.some(
                t => 'xaxis' + (t.xaxis ?? 'x').slice(1) === key))
            .map(([, axis]) => Math.round(axis._offset)))"""
    )
    assert max(map(len, lefts)) >= 5
    assert all(len(set(of)) == 1 for of in lefts)
    boxes = browser.run(
        """[...document.querySelectorAll('.scroll')].filter(b => !b.closest('details:not([open])'))
            .map(box => [
            box.scrollWidth > box.clientWidth + 2, box.classList.contains('more'),
            box.previousElementSibling.getBoundingClientRect().height > 0])"""
    )
    assert {True, False} == {wider for wider, *_ in boxes}
    assert all(wider == fades == told for wider, fades, told in boxes)


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
    opened(browser, full)
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
    opened(browser, full)
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


def test_wide_tables_fit_a_window_of_1100_pixels(browser, full):
    opened(browser, full)
    browser.resize(1100, 800)
    wider = browser.run(WIDER)
    browser.resize(1280, 800)
    assert wider == []


def test_a_window_without_width_is_drawn_again_when_it_has_some(browser, tmp_path):
    page = report(write_run(tmp_path / "run", LANGUAGES[:2]))
    opened(browser, page)
    widths = "[...document.querySelectorAll('.js-plotly-plot')].map(plot => plot.style.width)"
    before = browser.run(widths)
    for width in (1, 1280):
        browser.resize(width, 800)
        browser.run("new Promise(done => setTimeout(done, 500))")
    assert browser.errors == []
    assert browser.run(widths) == before


def test_the_smallest_phone_does_not_scroll_sideways(browser, full):
    opened(browser, full, width=360)
    check_no_sideways_scrolling(browser, 360)


def test_the_matrices_of_seven_languages_fit_the_first_screen(browser, tmp_path):
    page = report(write_run(tmp_path / "run", [*LANGUAGES, "de", "es"]))
    opened(browser, page, width=1280, height=800)
    inside, wide, cue, cell, numbers = browser.run(
        """(() => {
            const plot = document.querySelector('#summary .js-plotly-plot');
            const box = plot.closest('.scroll'), {xaxis} = plot._fullLayout;
            return [box.clientWidth, box.scrollWidth, getComputedStyle(box.previousElementSibling)
                .display, xaxis.d2p(1) - xaxis.d2p(0), [...plot.querySelectorAll('.textpoint text')]
                .map(text => text.getBoundingClientRect().width)]; })()"""
    )
    assert wide <= inside
    assert cue == "none"
    # They keep their numbers, each within its cell.
    assert len(numbers) == 2 * 8 * 7
    assert max(numbers) < cell - 4


@pytest.mark.parametrize(
    "number", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 3)), 5]
)
def test_no_title_is_cut_off(browser, tmp_path, number):
    run = tmp_path / "run"
    write_run(run, LANGUAGES[:number])
    if number > 1:
        made = {"prompts": 30, "controls": 20, "query": LANGUAGES[1]}
        save(make_transfer(LANGUAGES[:number], **made), run / "transfer.nc")
    opened(browser, report(run), width=1100)
    found = browser.run(
        """[...document.querySelectorAll('.js-plotly-plot')].map(plot =>
            [...plot.querySelectorAll('.g-gtitle text, .annotation-text, .g-xtitle text')]
                .map(text => [text.textContent, text.getBoundingClientRect(), plot])
                .map(([said, box, plot]) => [said, box.left, box.right,
                    plot.getBoundingClientRect().left, plot.getBoundingClientRect().right]))"""
    )
    texts = [text for plot in found for text in plot]
    # Two baselines, one of them on the first screen too.
    assert sum("own minus others" in said for said, *_ in texts) == 3
    for said, left, right, start, end in texts:
        assert start <= left < right <= end, said


@pytest.mark.slow
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
    # Two of data, plotly.js, and one each for the page and for attention.
    assert browser.run("document.scripts.length") == 5
    shown = browser.run("document.body.textContent")
    for name in names[:200:17]:
        assert name in shown
    replies = browser.run("document.getElementById('replies-1').textContent")
    # A prompt and a reply are shown by line; U+2028 and U+2029 end one.
    ids = [name[:40] for name in names[20:28]]
    for name in [*ids, *names[30:38], *names[40:48], *names[50:58], *names[70:73]]:
        for line in name.splitlines():
            assert line in replies
