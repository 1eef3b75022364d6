"""One page from a folder of results: no network, no other file, safe with any names in it.

The page holds plotly.js once and every figure as JSON. Its content security policy lets exactly
its own scripts run, known by their hashes, and no request leave; names from files are escaped all
the same. Figures take their colours from a template, which the page's script chooses by the
reader's light or dark setting. What stands in the page for each kind of result: `kinds.KINDS`.
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
from langheads.view.folder import planted_table, planted_words, read_run
from langheads.view.kinds import KINDS
from langheads.view.provenance import provenance_tables
from langheads.view.table import Table
from langheads.view.verdict import Verdict, proofs_of_other_heads, verdict


def report(run: str | Path, out: str | Path | None = None) -> Path:
    """Write one offline HTML page about a folder of results.

    Taken is every file of a known kind, whatever its name, and ``planted.json``. What is missing,
    of another model than most files, or not made from the files beside it, is left out of the page
    with a note.

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
    """A part of the page; the words of those that are always the same stand in the template."""

    anchor: str
    title: str
    paragraphs: Sequence[str] = ()
    verdicts: Sequence[Verdict] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    attention: Sequence[AttentionData] = ()


def _sections(run: RunFolder) -> list[Section]:
    sections = [_summary(run)]
    if run.planted:
        with _naming("planted.json"):
            sections.append(Section("planted", "Planted heads", tables=[planted_table(run)]))
    for kind, how in KINDS.items():
        files = run.of(kind)
        for number, (name, result) in enumerate(files.items(), start=1):
            with _naming(name):
                sections.append(
                    Section(
                        f"{how.anchor or kind}-{number}",
                        how.title if len(files) == 1 else f"{how.title}: {name}",
                        paragraphs=how.shows,
                        pictures=list(how.pictures(result, run)),
                        tables=list(how.tables(result, run)),
                        attention=[result] if kind == "attention" else [],
                    )
                )
    tables = provenance_tables(run.sources())
    return [
        *sections,
        Section("limits", "What the numbers show, and what not"),
        Section("provenance", "Provenance", tables=tables),
        Section("cite", "How to cite"),
    ]


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Say of which file an error is; of one that is not as langheads writes it, too.

    Raises:
        InputError: one line, instead of what was raised within.
    """
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


def _summary(run: RunFolder) -> Section:
    proofs = run.of("ablation")
    paragraphs = list(proofs_of_other_heads(proofs, run.of("heads")))
    for kind, how in KINDS.items():
        for name, result in run.of(kind).items():
            with _naming(name):
                paragraphs += how.summary(result, run)
    if proofs and len(paragraphs) > 2:
        paragraphs.insert(
            0,
            "Whether heads carry a language is answered in the box; the sentences below are what "
            "each result says by itself.",
        )
    paragraphs += planted_words(run) + other_weights_words(run)
    verdicts = []
    for name, ablation in proofs.items():
        with _naming(name):
            verdicts.append(verdict(ablation))
    expected = (SCHEMAS[kind] for kind in ("scores", "heads", "ablation"))
    absent = [
        f"{of.what} ({of.file})"
        for of in expected
        if not run.of(of.kind) and of.file not in run.reasons
    ]
    if absent:
        paragraphs.append(f"Not in this folder, and so left out here: {'; '.join(absent)}.")
    if not proofs:
        paragraphs.insert(0, "Without ablation nothing here is proven: scores are only suspicions.")
    if run.reasons:
        said = "; ".join(f"{name} ({why})" for name, why in run.reasons.items())
        paragraphs.append(f"In the folder but not shown: {said}.")
    return Section("summary", "Summary", paragraphs=paragraphs, verdicts=verdicts)


def _page(sections: list[Section], run_name: str) -> str:
    figures: list[dict[str, Any]] = []
    shown: list[dict[str, Any]] = []
    for section in sections:
        shown.append({"section": section, "pictures": []})
        for picture in section.pictures:
            figure = picture.figure.to_plotly_json()
            figure["layout"].pop("template", None)
            figure["id"] = f"figure-{len(figures) + 1}"
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
        data=script_json(pio.json.to_json_plotly(data, engine="json")),
        attention_css=Markup(resource("attention.css")) if views else "",
        attention_data=attention_json(views) if views else "",
    )
