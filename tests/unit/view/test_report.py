import json
import os
import re
from html.parser import HTMLParser

import pytest
from plotly.offline import get_plotlyjs

from langheads.io.errors import InputError, LangheadsError
from langheads.view import report
from langheads.view.folder import read_run
from tests.unit.view.made_up_run import make_ablation, make_heads, make_scores, write_run

LANGUAGES = ["en", "zh", "हिन्दी", "العربية"]
HOSTILE = "</script><script>document.title='owned'</script><!-- \u2028\u2029 <img src=//x.y/z>"


class Page(HTMLParser):
    """What a browser would find in a page: tags with attributes, scripts, tables, text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.scripts, self.tables, self.words = [], [], [], []
        self._inside = None
        self._in_cell = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside = tag
            if tag == "script":
                self.scripts.append("")
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self._inside = None
        elif tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside is None:
            self.words.append(data)
            if self._in_cell:
                self.tables[-1][-1][-1] += data

    @property
    def text(self):
        return " ".join("".join(self.words).split())

    def table(self, *header):
        return next(t for t in self.tables if t[0][: len(header)] == list(header))

    def figures(self):
        return json.loads(self.scripts[0])["figures"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "run", LANGUAGES)


@pytest.fixture(scope="module")
def page(run):
    path = report(run)
    assert path == run / "report.html"
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_has_plotly_once_and_only_its_own_scripts(page):
    assert [s == get_plotlyjs() for s in page.scripts] == [False, True, False]
    assert "Plotly.newPlot" in page.scripts[2]


def test_the_page_asks_no_host_for_anything(page):
    for tag, attrs in page.tags:
        assert not {"src", "srcset", "data", "action", "poster"} & set(attrs), tag
        assert attrs.get("href", "#").startswith("#")
        assert "url(" not in attrs.get("style", "")
        assert tag not in ("link", "base", "iframe", "object", "embed")
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "http" not in policy
    assert "http" not in page.scripts[0] + page.scripts[2]


def test_the_style_loads_nothing(run):
    html = report(run).read_text(encoding="utf-8")
    style = html[html.index("<style>") : html.index("</style>")]
    assert not re.search(r"@import|url\(|@font-face", style)


def test_every_section_is_in_the_navigation(page):
    ids = [a["id"] for t, a in page.tags if t == "section"]
    assert ids == [
        *("summary", "planted", "proof-1", "scores-1", "heads-1", "limits", "provenance"),
        "cite",
    ]
    assert [a["href"] for t, a in page.tags if t == "a"] == [f"#{i}" for i in ids]


def test_figures_are_data_with_a_place_and_a_caption(page):
    figures = page.figures()
    # two baselines; two scores, each with a map and a profile; what languages share
    assert len(figures) == 7
    places = [a["id"] for t, a in page.tags if t == "div" and "id" in a]
    assert places == [figure["id"] for figure in figures]
    assert sum(t == "figcaption" for t, _ in page.tags) == 7
    assert all("template" not in figure["layout"] for figure in figures)
    assert set(json.loads(page.scripts[0])["templates"]) == {"light", "dark"}


def test_the_summary_says_what_was_done_and_whether_it_is_proven(page):
    assert (
        "Every head of made-up (4 layers of 6 heads) was scored on texts: 4 languages" in page.text
    )
    assert "20 documents a language, 4 006 predicted tokens" in page.text
    assert "en 2, zh 2, \u2068हिन्दी\u2069 2" in page.text
    assert "Proven on these texts" in page.text
    assert "Of 8 planted heads, 4 are among" in page.text


def test_planted_heads_are_compared_with_those_found(page):
    table = page.table("language", "planted heads")
    assert table[1] == [
        "en",
        "L0H0 L0H5",
        "1 of 2",
        *("0.2000 (+40.00%)", "0.0010 (+0.20%, zh)"),
        *("0.3000 (+60.00%)", "0.0010 (+0.20%, zh)"),
    ]


def written(folder):
    return Page(report(folder).read_text(encoding="utf-8"))


def test_the_largest_other_is_so_in_nats_per_byte_and_not_in_percent(tmp_path):
    write_run(tmp_path, ["en", "zh", "hi"])
    ablation = make_ablation(["en", "zh", "hi"])
    ablation.delta_nats_per_byte[:, 0] = [0.2, 0.03, 0.02]
    ablation.nats_per_byte[:] = [0.5, 0.5, 0.1]  # hi: +20%, zh: +6%
    ablation.to_netcdf(tmp_path / "ablation.nc", engine="h5netcdf")
    page = written(tmp_path)
    assert page.table("language", "planted heads")[1][4] == "0.0300 (+6.00%, zh)"
    assert page.table("heads of", "heads")[1][3] == "0.0300 (+6.00%, zh)"


def test_a_proof_of_other_heads_is_told_and_not_mixed_with_the_planted_ones(tmp_path, page):
    write_run(tmp_path, LANGUAGES)
    ablation = make_ablation(LANGUAGES)
    ablation["heads"] = ("heads_of", ["L1H0 L0H0", *ablation["heads"].values[1:]])
    ablation.to_netcdf(tmp_path / "ablation.nc", engine="h5netcdf")
    same = written(tmp_path)  # another order of the same heads
    assert same.table("language", "planted heads") == page.table("language", "planted heads")
    assert "other heads than" not in same.text

    ablation["heads"][0] = "L1H0 L0H1"
    ablation.to_netcdf(tmp_path / "ablation.nc", engine="h5netcdf")
    other = written(tmp_path)
    assert "The proof in ablation.nc is of other heads than those in heads.json." in other.text
    assert other.table("language", "planted heads")[1] == ["en", "L0H0 L0H5", "1 of 2"]

    make_ablation(LANGUAGES).to_netcdf(tmp_path / "proof.nc", engine="h5netcdf")
    both = written(tmp_path)
    assert both.table("language", "planted heads") == page.table("language", "planted heads")
    assert "ablation.nc is of other heads" in both.text
    assert "proof.nc is of other heads" not in both.text


@pytest.mark.parametrize(("least", "told"), [(3, False), (4, False), (5, True)])
def test_impossible_general_heads_are_told(tmp_path, least, told):
    write_run(tmp_path, LANGUAGES)
    rule = {"name": "count", "general_at": least}
    make_heads(LANGUAGES, rule=rule).save(tmp_path / "heads.json")
    text = written(tmp_path).text
    assert ("General heads are impossible here" in text) == told
    assert ("one must be on the lists of 5 languages, and there are only 4" in text) == told


def test_the_limits_of_bytes_and_of_translations_are_told(page):
    assert "Devanagari takes 3 bytes a letter" in page.text
    assert "translations of scored texts of another" in page.text


def test_captions_say_what_a_triangle_means(tmp_path, page):
    assert "A triangle: ΔNLL is above that of random heads, p < 0.05" in page.text
    write_run(tmp_path, LANGUAGES)
    older = make_ablation(LANGUAGES).drop_vars(["control_p", "n_controls"])
    older.to_netcdf(tmp_path / "ablation.nc", engine="h5netcdf")
    text = written(tmp_path).text
    assert "A triangle:" not in text
    assert "no p-value for single cells" in text


def test_proof_on_scored_documents_is_not_called_proven(tmp_path):
    page = written(write_run(tmp_path, LANGUAGES, overlap=3))
    assert "3 of the proof documents were used for scoring." in page.text
    assert "Proven on" not in page.text


def test_tables_hold_the_numbers(page):
    heads = page.table("language", "number", "heads")
    assert heads[1] == ["en", "2", "L0H0 L1H0"]
    assert heads[-1] == ["general", "1", "L3H5"]
    texts = page.table("language", "documents")
    assert texts[2] == ["zh", "20", "0", "1\u202f001", "4\u202f001", "0.5"]
    matrix = page.table("heads of", "en")
    assert matrix[1][:3] == ["en", "0.2000 ± 0.0100", "0.0010 ± 0.0100"]
    provenance = page.table("setting", "value", "files")
    assert ["weight_hash", "ab" * 6, "all files"] in provenance
    every, whole = page.tables[-2:]
    assert ["text_hash", "en: 00; zh: 11", "all files"] in every
    assert whole[1:] == [
        ["ab" * 6, "ab" * 32, "weight_hash"],
        ["cd" * 6, "cd" * 32, "tokenizer_hash"],
    ]


def test_missing_results_leave_their_sections_out_with_a_note(tmp_path):
    make_scores(LANGUAGES).to_netcdf(tmp_path / "scores.nc", engine="h5netcdf")
    page = Page(report(tmp_path, tmp_path / "elsewhere" / "page.html").read_text(encoding="utf-8"))
    assert [a["id"] for t, a in page.tags if t == "section"] == [
        *("summary", "scores-1", "limits", "provenance", "cite"),
    ]
    assert "Not in this folder" in page.text
    assert "proof by ablation (ablation.nc)" in page.text
    assert "nothing here is proven" in page.text


def test_results_under_other_names_are_found_and_headed_by_their_file(run, tmp_path):
    make_scores(["en"]).to_netcdf(tmp_path / "scores.nc", engine="h5netcdf")
    make_scores(["zh"], seed=1).to_netcdf(tmp_path / "again.nc", engine="h5netcdf")
    make_ablation(["en", "zh"]).to_netcdf(tmp_path / "proof.nc", engine="h5netcdf")
    make_heads(["en", "zh"]).save(tmp_path / "mine.json")
    make_scores(["en"], kind="knockout").to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    (tmp_path / "notes.json").write_text("{}")
    (tmp_path / "broken.nc").write_bytes(b"no netCDF")
    page = Page(report(tmp_path).read_text(encoding="utf-8"))
    assert "Scores of every head: scores.nc" in page.text
    assert "Scores of every head: again.nc" in page.text
    assert "Proof by ablation" in page.text
    told = page.text[page.text.index("In the folder but not shown: ") :]
    assert told.startswith(
        "In the folder but not shown: broken.nc (is not a netCDF result of langheads); notes.json ("
    )
    # Every file has its reason, without the folder that it is in.
    assert re.search(r"notes\.json \([^()]{9,}.*?\); other\.nc \([^()]{9,}.*?\)\.", told)
    assert str(tmp_path) not in page.text


def test_hostile_names_stay_text(tmp_path):
    languages = [HOSTILE, "zh"]
    attrs = {"model": HOSTILE, "text": HOSTILE}
    make_scores(languages, **attrs).to_netcdf(tmp_path / "scores.nc", engine="h5netcdf")
    make_ablation(languages, **attrs).to_netcdf(tmp_path / "ablation.nc", engine="h5netcdf")
    make_heads(languages, model=HOSTILE).save(tmp_path / "heads.json")
    html = report(tmp_path).read_text(encoding="utf-8")
    page = Page(html)
    assert len(page.scripts) == 3
    assert not [t for t, _ in page.tags if t == "img"]
    assert "owned" in page.text
    figures = html[html.index('id="figures">') + 13 :]
    figures = figures[: figures.index("</script>")]
    assert not set("<>&\u2028\u2029") & set(figures)
    assert "document.title='owned'" in json.dumps(page.figures())


def test_a_lone_surrogate_does_not_stop_the_page(tmp_path):
    heads = make_heads(["en"])
    document = {
        "format": 1,
        "model": "made-up",
        "shape": [4, 6],
        "specific": {"\ud800": [[0, 0]]},
        "general": [],
        "rule": heads.rule,
        "provenance": {},
    }
    (tmp_path / "heads.json").write_text(json.dumps(document))
    assert report(tmp_path).is_file()


def test_no_folder_or_nothing_in_it_is_one_clear_line(tmp_path):
    with pytest.raises(LangheadsError, match=r"no folder .*missing"):
        report(tmp_path / "missing")
    with pytest.raises(LangheadsError, match=r"nothing to report in .* found an empty folder"):
        report(tmp_path)
    (tmp_path / "readme.txt").write_text("hello")
    with pytest.raises(LangheadsError, match=r"found readme.txt") as caught:
        report(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["scores.nc", "heads.json", "ablation.nc", "planted.json"])
def test_a_broken_result_is_named_and_nothing_is_written(tmp_path, name):
    write_run(tmp_path, ["en", "zh"])
    (tmp_path / name).write_bytes(b"{")
    with pytest.raises(InputError, match=name):
        report(tmp_path)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("name", ["a.nc", "z.nc", "ablation.nc"])
def test_a_result_of_another_model_is_left_out_with_a_note(tmp_path, name):
    """One such file kept the whole page from being made."""
    write_run(tmp_path, ["en", "zh"])
    make_ablation(["en"], weight_hash="ef" * 32).to_netcdf(tmp_path / name, engine="h5netcdf")
    run = read_run(tmp_path)
    why = (
        f"of another model: {name} was made with weights efefefefefef of model made-up, but this "
        "is weights abababababab of made-up; make it again with this model"
    )
    assert run.reasons == {name: why}
    assert name not in run.of("ablation")
    assert list(run.of("scores")) == ["scores.nc"]
    page = report(tmp_path).read_text("utf-8")
    assert f"In the folder but not shown: {name} ({why})." in page


def test_a_failed_write_leaves_the_old_page_and_no_other_file(run, monkeypatch):
    path = report(run)
    before, listed = path.read_bytes(), sorted(p.name for p in run.iterdir())

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left"):
        report(run)
    assert path.read_bytes() == before
    assert sorted(p.name for p in run.iterdir()) == listed
