"""One page from a folder of results: no network, no other file, safe with any names in it.

The page holds plotly.js once and every figure as JSON. Its content security policy lets exactly
its own scripts run, known by their hashes, and no request leave; names from files are escaped all
the same. Figures take their colours from a template, which the page's script chooses by the
reader's light or dark setting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import plotly.graph_objects as go
import plotly.io as pio
import xarray as xr
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from langheads.errors import InputError
from langheads.files import read_json, write_text_atomically
from langheads.heads import LanguageHeads
from langheads.results import load_result, require_same_model
from langheads.view import judge, words
from langheads.view.attention_page import attention_json, attention_scripts
from langheads.view.embed import csp_hash, resource, script_json
from langheads.view.figures import Planted, head_map, layer_profile, scored_methods
from langheads.view.matrix import specificity_matrix
from langheads.view.patterns import AttentionData
from langheads.view.style import DARK, LEVEL, LIGHT, METHODS, check_kind, names

_MAP = (
    "How to read it: each square is one head, layers from bottom to top; the same colour is the "
    "same score in every panel, and marks show the heads that were chosen."
)
_LAYERS = (
    "How to read it: each row is a language and adds up to 1; bright cells are the layers that "
    "hold most of its score (left) and of its chosen heads (right)."
)
_MATRIX = (
    "How to read it: each row switches off one language's heads, each column is a language's text; "
    "heads that carry a language show as a strong outlined diagonal on the left and as nothing on "
    "the right, where random heads are off."
)
_ATTENTION = (
    "How to read it: choose a head, then point at a word; shaded are the words that it looks at. "
    "These are single texts, picked to look at and not to prove anything: where a head looks does "
    "not say what it passes on."
)
_LIMITS = (
    "A gradient score says how much the loss answers to a small change of one head. It is a reason "
    "to suspect a head, not a proof; the rule that picks heads finds some in noise too.",
    "Ablation says what happens when the heads are gone. It holds for this model and these texts. "
    "A small rise does not show that a head is idle: other heads may take over its work.",
    "Zero ablation puts a head where it never is, mean ablation at its average; where the two "
    "disagree, the damage may come from the intervention and not from the loss of the language.",
    "A p-value is the share of head sets drawn at random, matched layer by layer and in number, "
    "that reach at least the value seen. It tells chance from choice, not how large or useful an "
    "effect is, and it does not correct for how many models or rules were tried.",
    "Rises are in nats per UTF-8 byte, since tokens of different languages are not the same amount "
    "of text; perplexity, shown on hover, cannot be compared across languages.",
    "Bytes make languages comparable only roughly. Devanagari takes 3 bytes a letter and English "
    "1, so the same relative rise is fewer nats per byte in Hindi; percent stands in brackets.",
    "Parallel texts are not independent: where the texts are translations of each other, the proof "
    "texts of one language are translations of scored texts of another.",
)


@dataclass(frozen=True)
class _Picture:
    figure: go.Figure
    caption: str


@dataclass(frozen=True)
class _Section:
    anchor: str
    title: str
    paragraphs: Sequence[str] = ()
    verdicts: Sequence[judge.Verdict] = ()
    pictures: Sequence[_Picture] = ()
    tables: Sequence[words.Table] = ()
    attention: Sequence[AttentionData] = ()


@dataclass
class _Run:
    """The results in a folder, by file name; those named as in the contract first."""

    scores: dict[str, xr.Dataset] = field(default_factory=dict)
    heads: dict[str, LanguageHeads] = field(default_factory=dict)
    ablation: dict[str, xr.Dataset] = field(default_factory=dict)
    attention: dict[str, AttentionData] = field(default_factory=dict)
    planted: Planted = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def report(run: str | Path, out: str | Path | None = None) -> Path:
    """Write one offline HTML page about a folder of results.

    Taken are ``scores.nc``, ``heads.json``, ``ablation.nc``, ``planted.json`` and
    ``attention.json``, and other files of these kinds under other names; what is missing is left
    out of the page, with a note.

    Args:
        run: a folder with results of one model.
        out: the page; by default ``report.html`` in `run`.

    Returns:
        The page's path. About 5 MB, nearly all of it plotly.js; with attention 1.3 MB more.

    Raises:
        InputError: no such folder, nothing in it to report, a file that cannot be read, or a page
            that cannot be written.
        ProvenanceError: results of different models in one folder.

    Example:
        >>> report("demo-run")  # doctest: +SKIP
        PosixPath('demo-run/report.html')
    """
    folder = Path(run)
    found = _read(folder)
    page = _page(_sections(found), folder.resolve().name)
    # Half of a surrogate pair, which JSON can hold, has no UTF-8.
    page = page.encode("utf-8", "replace").decode("utf-8")
    return write_text_atomically(out or folder / "report.html", page)


def _read(folder: Path) -> _Run:
    if not folder.is_dir():
        raise InputError(f"no folder {folder}; a run is a folder with scores.nc or ablation.nc")
    run = _Run()
    expected = ("scores.nc", "heads.json", "ablation.nc", "planted.json", "attention.json")
    paths = [folder / name for name in expected if (folder / name).is_file()]
    paths += [p for p in sorted(folder.iterdir()) if p.is_file() and p.name not in expected]
    for path in paths:
        if path.suffix not in (".nc", ".json"):
            continue
        try:
            _take(run, path)
        except InputError:
            # A file of another name need not be a result of langheads.
            if path.name in expected:
                raise
            run.left_out.append(path.name)
    if not (run.scores or run.heads or run.ablation or run.attention):
        raise InputError(
            f"nothing to report in {folder}: expected scores.nc, heads.json or ablation.nc, found "
            f"{', '.join(sorted(p.name for p in folder.iterdir())[:8]) or 'an empty folder'}"
        )
    _check_one_model(run)
    return run


def _take(run: _Run, path: Path) -> None:
    """Put a file where it belongs."""
    if path.suffix == ".nc":
        kind = path.stem if path.name in ("scores.nc", "ablation.nc") else None
        dataset = load_result(path, kind)
        kind = dataset.attrs["kind"]
        if kind == "ablation":
            check_kind(dataset, kind, ["delta_nats_per_byte", "nats_per_byte"])
        if kind not in ("scores", "ablation"):
            run.left_out.append(path.name)
        else:
            (run.scores if kind == "scores" else run.ablation)[path.name] = dataset
        return
    if path.name == "planted.json":
        run.planted = _planted(path)
        return
    if path.name == "attention.json" or _is_attention(path):
        run.attention[path.name] = AttentionData.load(path)
        return
    run.heads[path.name] = LanguageHeads.load(path)


def _is_attention(path: Path) -> bool:
    document = read_json(path)
    return isinstance(document, dict) and document.get("kind") == "attention"


def _planted(path: Path) -> Planted:
    document = read_json(path)
    try:
        return {
            str(language): [(int(layer), int(head)) for layer, head in pairs]
            for language, pairs in document["planted"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f'{path} does not list planted heads; expected {{"planted": {{"en": [[1, 3], ...]}}}}'
        ) from error


def _check_one_model(run: _Run) -> None:
    sources = _sources(run)
    for name, attrs in sources[1:]:
        require_same_model(name, sources[0][1], attrs)


def _sources(run: _Run) -> list[tuple[str, dict[str, Any]]]:
    """Provenance a file, of the files that have one."""
    all_of_them = [
        *((name, dict(ds.attrs)) for name, ds in run.scores.items()),
        *((name, dict(heads.provenance)) for name, heads in run.heads.items()),
        *((name, dict(ds.attrs)) for name, ds in run.ablation.items()),
        *((name, dict(view.provenance)) for name, view in run.attention.items()),
    ]
    return [(name, attrs) for name, attrs in all_of_them if attrs]


def _sections(run: _Run) -> list[_Section]:
    sections = [_summary(run)]
    heads = next(iter(run.heads.values()), None)
    if run.planted:
        proofs = [a for a in run.ablation.values() if heads is None or words.proves(a, heads)]
        ablation = next(iter(proofs), None)
        table = words.planted_table(run.planted, heads, ablation)
        sections.append(_Section("planted", "Planted heads", tables=[table]))
    for number, (name, ablation) in enumerate(run.ablation.items(), start=1):
        sections.append(
            _Section(
                f"proof-{number}",
                _title("Proof by ablation", name, len(run.ablation)),
                pictures=[
                    _Picture(specificity_matrix(ablation, baseline), _matrix_caption(ablation))
                    for baseline in names(ablation, "baseline")
                ],
                tables=[
                    judge.language_verdicts(ablation),
                    *(words.matrix_table(ablation, b) for b in names(ablation, "baseline")),
                ],
            )
        )
    for number, (name, scores) in enumerate(run.scores.items(), start=1):
        pictures = []
        for method in _main_first(scored_methods(scores), heads):
            figure = head_map(scores, method, heads, run.planted)
            pictures.append(_Picture(figure, f"{METHODS[method]}. {_MAP}"))
            figure = layer_profile(scores, method, heads)
            pictures.append(_Picture(figure, f"{METHODS[method]}. {_LAYERS}"))
        sections.append(
            _Section(
                f"scores-{number}",
                _title("Scores of every head", name, len(run.scores)),
                pictures=pictures,
                tables=[words.languages_table(scores)],
            )
        )
    for number, (name, chosen) in enumerate(run.heads.items(), start=1):
        sections.append(
            _Section(
                f"heads-{number}",
                _title("Chosen heads", name, len(run.heads)),
                tables=[words.heads_table(chosen)],
            )
        )
    for number, (name, view) in enumerate(run.attention.items(), start=1):
        sections.append(
            _Section(
                f"attention-of-{number}",
                _title("Attention in context", name, len(run.attention)),
                paragraphs=[_ATTENTION],
                attention=[view],
            )
        )
    sections.append(_Section("limits", "What the numbers show, and what not", paragraphs=_LIMITS))
    provenance = words.provenance_table(_sources(run))
    return [*sections, _Section("provenance", "Provenance", tables=[provenance])]


def _matrix_caption(ablation: xr.Dataset) -> str:
    if "control_p" not in ablation:
        return f"{_MATRIX} This file has no p-value for single cells, so none is marked."
    return (
        f"{_MATRIX} A triangle: the rise is above that of random heads, p < {LEVEL} (one-sided); "
        "by chance about 1 cell in 20 has one."
    )


def _other_heads(run: _Run) -> list[str]:
    """Sentences about proofs of other heads than those that the page takes as chosen."""
    first = next(iter(run.heads), None)
    said = []
    for name, ablation in run.ablation.items():
        if first is None or words.proves(ablation, run.heads[first]):
            continue
        whose = [other for other, heads in run.heads.items() if words.proves(ablation, heads)]
        said.append(
            f"The proof in {name} is of other heads than those in {first}"
            + (f": it is of those in {whose[0]}." if whose else ".")
        )
    return said


def _summary(run: _Run) -> _Section:
    paragraphs = _other_heads(run)
    paragraphs += [words.scored_words(scores) for scores in run.scores.values()]
    paragraphs += [words.chosen_words(heads) for heads in run.heads.values()]
    if run.planted and run.heads:
        found = words.found_planted(run.planted, next(iter(run.heads.values())))
        total = sum(map(len, run.planted.values()))
        paragraphs.append(
            f"Of {total} planted heads, {sum(map(len, found.values()))} are among the specific "
            "heads of their language."
        )
    verdicts = [judge.verdict(ablation) for ablation in run.ablation.values()]
    missing = {
        "scores (scores.nc)": run.scores,
        "chosen heads (heads.json)": run.heads,
        "proof by ablation (ablation.nc)": run.ablation,
    }
    absent = [what for what, have in missing.items() if not have]
    if absent:
        paragraphs.append(f"Not in this folder, and so left out here: {'; '.join(absent)}.")
    if not run.ablation:
        paragraphs.append("Without ablation nothing here is proven: scores are only suspicions.")
    if run.left_out:
        paragraphs.append(f"In the folder but not shown: {', '.join(run.left_out)}.")
    return _Section("summary", "Summary", paragraphs=paragraphs, verdicts=verdicts)


def _title(title: str, name: str, how_many: int) -> str:
    return title if how_many == 1 else f"{title}: {name}"


def _main_first(methods: list[str], heads: LanguageHeads | None) -> list[str]:
    """The score that the heads were chosen by comes first."""
    main = str(heads.rule.get("score", "")).replace("-", "_") if heads else ""
    return sorted(methods, key=lambda method: method != main)


def _page(sections: list[_Section], run_name: str) -> str:
    figures: list[dict[str, Any]] = []
    shown = []
    for section in sections:
        pictures = []
        for picture in section.pictures:
            figure = picture.figure.to_plotly_json()
            figure["layout"] = {k: v for k, v in figure["layout"].items() if k != "template"}
            figure["id"] = f"figure-{len(figures) + 1}"
            figures.append(figure)
            pictures.append({"caption": picture.caption, **figure})
        shown.append({"section": section, "pictures": pictures})
    templates = {
        "light": pio.templates[LIGHT].to_plotly_json(),
        "dark": pio.templates[DARK].to_plotly_json(),
    }
    views = [view for section in sections for view in section.attention]
    scripts = [get_plotlyjs(), resource("page.js"), *(attention_scripts(views) if views else [])]
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(resource("page.html.j2")).render(
        run=run_name,
        shown=shown,
        data=_json({"figures": figures, "templates": templates}),
        attention_css=Markup(resource("attention.css")) if views else "",
        attention_data=attention_json(views) if views else "",
        scripts=[Markup(script) for script in scripts],
        script_hashes=[csp_hash(script) for script in scripts],
    )


def _json(value: Any) -> Markup:
    return script_json(pio.json.to_json_plotly(value, engine="json"))
