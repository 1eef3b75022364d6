"""What of a file goes into the golden record: all that must stay equal, without what may differ."""

from __future__ import annotations

import hashlib
import json
import re
from html.parser import HTMLParser
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

MOST_VALUES = 400
"""Arrays of at most so many elements are kept whole."""
SHORT = 160
"""JSON longer than this is kept as its hash, within figures."""
VOLATILE = {
    *("command_hash", "time", "seconds", "python", "torch", "transformers", "langheads"),
    *("transformer_lens", "transformer-lens", "transformers_version"),
}
DIFFERS = "<volatile>"
LEFT_OUT = {
    *("took_seconds", "took_before_seconds", "peak_memory_gib"),
    *("estimated_seconds", "estimated_memory_gib"),
}
"""What a machine makes of it, and no result."""
_TOOK = re.compile(r"took .*; memory \d+\.\d\d GiB at most(; estimated were .* GiB)?\n")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?([+-]\d\d:\d\d|Z)?")
# The last column of the table that `compare` prints.
_SECONDS = re.compile(r"^(score .*  +fwd)( +)s$")


class Cleaner:
    """Texts without paths of this machine, times and versions."""

    def __init__(self, folder: Path, root: Path):
        self._paths = [
            (str(folder.resolve()), "<tmp>"),
            (str(folder), "<tmp>"),
            (str(root), "<repo>"),
        ]
        self._cite = f"langheads {version('langheads')}, software"

    def text(self, text: str) -> str:
        for path, name in self._paths:
            text = text.replace(path, name)
        return _TIME.sub("<time>", text).replace(self._cite, "langheads <version>, software")

    def printed(self, text: str) -> str:
        """Of a verb: also without the seconds of the table that `compare` prints."""
        lines, inside = [], False
        for line in _TOOK.sub("", self.text(text)).split("\n"):
            if _SECONDS.match(line):
                inside = True
            elif inside and re.search(r"\d +\d+\.\d$", line):
                line = re.sub(r" +\d+\.\d$", f" {DIFFERS}", line)
            else:
                inside = False
            lines.append(re.sub(r" +s$", " s", line) if inside else line)
        return "\n".join(lines)

    def json(self, value: Any, key: str = "") -> Any:
        if key in VOLATILE:
            return DIFFERS
        if isinstance(value, dict):
            return {str(k): self.json(v, str(k)) for k, v in value.items() if k not in LEFT_OUT}
        if isinstance(value, list | tuple):
            return [self.json(v) for v in value]
        if isinstance(value, np.generic):
            return self.json(value.item())
        if isinstance(value, np.ndarray):
            return self.json(value.tolist())
        return self.text(value) if isinstance(value, str) else value


def files_in(folder: Path, clean: Cleaner) -> dict[str, Any]:
    """Every result in a folder, by its path in there."""
    found = {}
    for path in sorted(folder.rglob("*")):
        made = of_file(path, clean) if path.is_file() else None
        if made is not None:
            found[path.relative_to(folder).as_posix()] = made
    return found


def of_file(path: Path, clean: Cleaner) -> Any:
    """One file; None for one that langheads did not make."""
    if path.suffix == ".nc":
        return _netcdf(path, clean)
    if path.suffix == ".html":
        return _page(path.read_text("utf-8"), clean)
    if path.suffix == ".safetensors":
        return _weights(path)
    if path.name.startswith("tokenizer"):
        return None
    text = path.read_text("utf-8")
    if path.parent.name == "text":
        # What the verb demo writes for itself to read.
        return _sha(text)
    if path.suffix == ".json":
        return clean.json(json.loads(text))
    if path.suffix == ".jsonl":
        return [clean.json(json.loads(line)) for line in text.splitlines()]
    return clean.text(text)


def _sha(data: bytes | str) -> str:
    return hashlib.sha256(data.encode("utf-8") if isinstance(data, str) else data).hexdigest()


# --- Arrays ---------------------------------------------------------------------------------


def _netcdf(path: Path, clean: Cleaner) -> dict[str, Any]:
    dataset = xr.load_dataset(path, engine="h5netcdf")
    return {
        "attrs": clean.json(dict(dataset.attrs)),
        "variables": {
            str(name): {"dims": list(of.dims), **array(of.values, str(name) in VOLATILE, clean)}
            | {"attrs": clean.json(dict(of.attrs))}
            for name, of in sorted(dataset.variables.items())
        },
    }


def array(values: np.ndarray, volatile: bool, clean: Cleaner) -> dict[str, Any]:
    """dtype, shape, hash, a digest that allows for rounding, and few values as they are."""
    made: dict[str, Any] = {"dtype": values.dtype.str, "shape": list(values.shape)}
    if volatile:
        return made
    flat = values.ravel()
    if values.dtype.kind not in "fiub":
        texts = [clean.text(str(text)) for text in flat]
        made["sha256"] = _sha("\0".join(texts))
        return made | ({"values": texts} if len(texts) <= MOST_VALUES else {})
    made["sha256"] = _sha(np.ascontiguousarray(values).tobytes())
    if len(flat) <= MOST_VALUES:
        return made | {"values": flat.tolist()}
    finite = flat[np.isfinite(flat)].astype(np.float64)
    made["digest"] = {
        "finite": len(finite),
        "sum": float(finite.sum()),
        "abs_sum": float(np.abs(finite).sum()),
        "first": repr(finite[0].item()) if len(finite) else None,
        "last": repr(finite[-1].item()) if len(finite) else None,
    }
    return made


def _weights(path: Path) -> dict[str, str]:
    from safetensors.numpy import load_file

    return {
        name: f"{of.dtype} {list(of.shape)} {_sha(np.ascontiguousarray(of).tobytes())}"
        for name, of in sorted(load_file(path).items())
    }


# --- Pages ----------------------------------------------------------------------------------

_BLOCKS = {
    "h1": "heading",
    "h2": "heading",
    "p": "paragraphs",
    "li": "items",
    "figcaption": "figures",
    "summary": "folded",
    "noscript": "paragraphs",
}


class _Reader(HTMLParser):
    """Sections of a report with their blocks of text and tables, and the scripts of the page."""

    def __init__(self, html: str):
        super().__init__()
        self.sections: list[dict[str, Any]] = [{"id": "", "blocks": [], "tables": []}]
        self.scripts: list[tuple[dict[str, Any], str]] = []
        self._open: list[str] = []
        self._text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        given, here = dict(attrs), self.sections[-1]
        if tag == "section":
            self.sections.append({"id": given.get("id", ""), "blocks": [], "tables": []})
        elif tag == "div" and "verdict" in (given.get("class") or ""):
            here["blocks"].append(f"verdict: {given['class']}")
        elif tag == "table":
            here["tables"].append({"caption": "", "rows": []})
        elif tag == "tr":
            here["tables"][-1]["rows"].append([])
        if tag in ("script", "style", "caption", "td", "th", *_BLOCKS):
            self._open.append(tag)
            self._text = []
            if tag == "script":
                self.scripts.append((given, ""))

    def handle_data(self, data: str) -> None:
        if self._open:
            self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "section":
            self.sections.append({"id": "after " + self.sections[-1]["id"]})
            self.sections[-1] |= {"blocks": [], "tables": []}
        if not self._open or tag != self._open[-1]:
            return
        self._open.pop()
        text, here = "".join(self._text), self.sections[-1]
        self._text = []
        if tag == "script":
            self.scripts[-1] = (self.scripts[-1][0], text)
        elif tag == "caption":
            here["tables"][-1]["caption"] = text
        elif tag in ("td", "th"):
            here["tables"][-1]["rows"][-1].append(text)
        elif tag in _BLOCKS and text.strip():
            here["blocks"].append(f"{tag}: {' '.join(text.split())}")


def _page(html: str, clean: Cleaner) -> dict[str, Any]:
    page = _Reader(html)
    made: dict[str, Any] = {"sections": {}, "figures": {}, "scripts": []}
    for section in page.sections:
        if not section["blocks"] and not section["tables"]:
            continue
        made["sections"][section["id"]] = {
            "blocks": [clean.text(text) for text in section["blocks"]],
            "tables": [_table(table, clean) for table in section["tables"]],
        }
    for attrs, text in page.scripts:
        if attrs.get("id") == "figures":
            data = json.loads(text)
            made["figures"] = {of["id"]: _figure(of, clean) for of in data["figures"]}
            made["templates"] = _sha(_canonical(data["templates"]))
        elif attrs.get("id") == "attention-data":
            made["attention"] = _short(clean.json(json.loads(text)))
        else:
            made["scripts"].append(_sha(clean.text(text)))
    return made


def _table(table: dict[str, Any], clean: Cleaner) -> dict[str, Any]:
    # A setting stands in one table where all files agree and in another where they do not, which
    # for these is a matter of how fast the machine is.
    kept = [row for row in table["rows"] if not row or row[0] not in {"time", "seconds", *LEFT_OUT}]
    rows = [[clean.text(cell) for cell in row] for row in kept]
    header = rows[0] if rows else []
    for row in rows[1:]:
        for i, name in enumerate(header):
            # Tables of provenance have a row a setting, others may have a column.
            if i < len(row) and (name in VOLATILE or (i and row[0] in VOLATILE)):
                row[i] = DIFFERS
    return {"caption": clean.text(table["caption"]), "rows": ["\t".join(row) for row in rows]}


def _figure(figure: dict[str, Any], clean: Cleaner) -> dict[str, Any]:
    """Hash of the whole, its words, and each part whole where it is short, else as its hash."""
    figure = clean.json(figure)
    return {
        "sha256": _sha(_canonical({key: figure[key] for key in ("data", "layout")})),
        "words": sorted(_words(figure)),
        "traces": [{key: _short(v) for key, v in trace.items()} for trace in figure["data"]],
        "layout": {key: _short(value) for key, value in figure["layout"].items()},
    }


def _words(value: Any, path: str = "") -> set[str]:
    """Titles, names of traces, annotations, labels of sliders and what hovering says."""
    if isinstance(value, dict):
        return set().union(*(_words(v, f"{path}.{k}" if path else k) for k, v in value.items()))
    if isinstance(value, list):
        if path.endswith((".ticktext", "hovertext")):
            return {f"{path}: {text}" for text in value if isinstance(text, str)}
        inside = [v for v in value if isinstance(v, dict)]
        return set().union(*(_words(v, path) for v in inside)) if inside else set()
    last = path.rpartition(".")[2]
    wanted = last in ("text", "name", "label", "hovertemplate", "prefix", "ticksuffix")
    return {f"{path}: {value}"} if wanted and isinstance(value, str) else set()


def _canonical(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _short(value: Any) -> Any:
    text = _canonical(value)
    return value if len(text) <= SHORT else f"sha256 {_sha(text)[:24]} of {len(text)}"
