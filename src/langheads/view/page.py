"""One page from a folder of results: no network, no other file, safe with any names in it.

The page holds plotly.js once and every figure as JSON. Its content security policy runs only its
own scripts, identified by their hashes, and allows no requests; names from files are also escaped.
Figures take their colours from a template, which the page's script chooses by the reader's light or
dark setting. The contents for each kind of result: `kinds.KINDS`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import plotly.io as pio
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from langheads.io.errors import InputError, LangheadsError
from langheads.io.files import write_text_atomically
from langheads.io.schemas import SCHEMAS
from langheads.view import embed
from langheads.view.attention.page import attention_json, attention_scripts
from langheads.view.attention.patterns import AttentionData
from langheads.view.belonging import other_weights_words
from langheads.view.contents import Picture, RunFolder
from langheads.view.embed import resource, script_json
from langheads.view.figures.style import PAGES
from langheads.view.folder import planted_table, read_run
from langheads.view.glance import Glance, at_a_glance
from langheads.view.kinds import KINDS
from langheads.view.provenance import provenance_tables
from langheads.view.table import Table
from langheads.view.verdict import Verdict, proofs_of_other_heads, verdict


def report(run: str | Path, out: str | Path | None = None) -> Path:
    """Write one offline HTML page about a folder of results.

    It takes every file of a known kind, whatever its name, and ``planted.json``. Files that are
    missing, of another model than most, or not made from the files beside them, are left out of the
    page with a note.

    Args:
        run: a folder with results of one model.
        out: the page; by default ``report.html`` in `run`.

    Returns:
        The page's path. About 5 MB, nearly all of it plotly.js.

    Raises:
        InputError: no such folder, nothing in it to report, a file that cannot be read, or a page
            that cannot be written.

    Example:
        >>> report("run")
        PosixPath('run/report.html')
    """
    folder = Path(run)
    page = _page(_sections(read_run(folder)), folder.resolve().name)
    return write_text_atomically(out or folder / "report.html", page)


@dataclass(frozen=True)
class Section:
    """A part of the page; sections with fixed words have them in the template."""

    anchor: str  # its link
    title: str  # its heading
    lead: Sequence[str] = ()  # the result, in sentences
    verdict: Verdict | None = None  # of a proof
    paragraphs: Sequence[str] = ()  # what its figures show and do not show
    pictures: Sequence[Picture] = ()  # figures with captions
    tables: Sequence[Table] = ()  # the same as numbers
    attention: Sequence[AttentionData] = ()  # views that the page draws
    glance: Glance | None = None  # of the first section
    shown_first: Picture | None = None  # the picture that the first section shows of another


def _sections(run: RunFolder) -> list[Section]:
    sections: dict[str, Section] = {}
    for kind, how in KINDS.items():
        files = run.of(kind)
        for number, (name, result) in enumerate(files.items(), start=1):
            with _naming(name):
                lead = list(how.summary(result, run))
                if is_proof := kind == "ablation":
                    lead = [*proofs_of_other_heads({name: result}, run.of("heads")), *lead]
                sections[name] = Section(
                    f"{how.anchor or kind}-{number}",
                    how.title if len(files) == 1 else f"{how.title}: {name}",
                    lead=lead,
                    verdict=verdict(result) if is_proof else None,
                    paragraphs=how.shows,
                    pictures=list(how.pictures(result, run)),
                    tables=list(how.tables(result, run)),
                    attention=[result] if kind == "attention" else [],
                )
    glance = at_a_glance(run)
    # The proof, else the first picture.
    drawn = [sections[glance.proof]] if glance.proof else sections.values()
    first = next((picture for section in drawn for picture in section.pictures), None)
    planted = []
    if run.planted:
        with _naming("planted.json"):
            planted = [Section("planted", "Planted heads", tables=[planted_table(run)])]
    tables, left_out = provenance_tables(run.sources()), list(_left_out(run))
    return [
        Section("summary", "At a glance", glance=glance, shown_first=first),
        *planted,
        *sections.values(),
        Section("limits", "What the numbers show, and what not"),
        Section("provenance", "Provenance", paragraphs=left_out, tables=tables),
        Section("cite", "How to cite"),
    ]


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Name the file in a one-line error; also for files that langheads did not write."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{name} cannot be shown: {error}") from error
    except LangheadsError:
        raise
    except (LookupError, AttributeError, ValueError, TypeError, ArithmeticError) as error:
        said = " ".join(str(error).split())[:200]
        raise InputError(
            f"{name} cannot be shown: it lacks something or is empty "
            f"({type(error).__name__}: {said}); make it again"
        ) from error


def _left_out(run: RunFolder) -> Iterator[str]:
    """Which results are missing or not shown, and which heads are of other weights."""
    expected = (SCHEMAS[kind] for kind in ("scores", "heads", "ablation"))
    absent = [
        f"{of.what} ({of.file})"
        for of in expected
        if not run.of(of.kind) and of.file not in run.reasons
    ]
    if absent:
        yield f"Not in this folder, and so left out here: {'; '.join(absent)}."
    if run.reasons:
        said = "; ".join(f"{name} ({why})" for name, why in run.reasons.items())
        yield f"In the folder but not shown: {said}."
    yield from other_weights_words(run)


def _page(sections: list[Section], run_name: str) -> str:
    figures: list[dict[str, Any]] = []
    shown: list[dict[str, Any]] = []
    ids: dict[int, str] = {}
    for section in sections:
        shown.append({"section": section, "pictures": []})
        for picture in section.pictures:
            figure = picture.figure.to_plotly_json()
            figure["layout"].pop("template", None)
            figure["id"] = ids[id(picture)] = f"figure-{len(figures) + 1}"
            figures.append(figure)
            shown[-1]["pictures"].append({"caption": picture.caption, **figure})
    templates = {of: pio.templates[x].to_plotly_json() for of, x in PAGES.items()}
    data = {"figures": figures, "templates": templates}
    views = [view for section in sections for view in section.attention]
    scripts = [get_plotlyjs(), resource("page.js"), *(attention_scripts() if views else [])]
    return embed.page(
        "page.html.j2",
        scripts,
        run=run_name,
        version=version("langheads"),
        shown=shown,
        first=ids.get(id(sections[0].shown_first)),
        data=script_json(pio.json.to_json_plotly(data, engine="json")),
        attention_css=Markup(resource("attention.css")) if views else "",
        attention_data=attention_json(views) if views else "",
    )
