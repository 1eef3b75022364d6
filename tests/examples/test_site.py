"""The site builds without a warning, its links and anchors hold, and every example on it runs."""

import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import langheads
from tests.examples.architectures import table
from tests.examples.building import build_site

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "pages").rglob("*.md"))
# What a reader puts the name of a model in the place of.
MODEL = "CohereLabs/aya-23-8B"
CHAT_TEMPLATE = (
    "{% for message in messages %}- {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}-{% endif %}"
)


def name_of(page):
    return str(page.relative_to(ROOT / "docs" / "pages"))


def blocks(page, language):
    """The fenced blocks of a page in one language; ``sh`` is for what needs another machine."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)


PYTHON = [page for page in PAGES if blocks(page, "python")]
SHELL = [page for page in PAGES if blocks(page, "bash")]


@pytest.mark.parametrize("page", PYTHON, ids=name_of)
@pytest.mark.usefixtures("registries_kept", "in_example_folder", "untyped")
def test_python_runs(page):
    names = {"__name__": "site"}
    for block in blocks(page, "python"):
        exec(compile(block.replace(MODEL, "demo"), str(page), "exec"), names)


@pytest.mark.slow
@pytest.mark.parametrize("page", SHELL, ids=name_of)
def test_commands_run(page, in_commands_folder):
    for block in blocks(page, "bash"):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.replace(MODEL, "./model")],
            env=os.environ | {"PATH": f"{in_commands_folder}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
        )
        assert not done.returncode, block + done.stderr


@pytest.fixture
def in_commands_folder(in_example_folder):
    """A model that has a chat template, prompts for it, texts enough for a proof; `langheads`."""
    from langheads.demo import grammar
    from langheads.model import DEMO
    from tests.examples.conftest import LANGUAGES, write_lines

    here = Path.cwd()
    shutil.copytree(DEMO, here / "model")
    (here / "model" / "chat_template.jinja").write_text(CHAT_TEMPLATE, "utf-8")
    for language in LANGUAGES:
        texts = [{"text": text[:60]} for text in grammar.documents(language, 110)]
        write_lines(here / "texts" / f"{language}.jsonl", texts)
    asked = [{"prompt": "¿Qué hace el gato?", "language": "es", "id": 1}]
    write_lines(here / "questions.jsonl", asked)
    command = here / "bin" / "langheads"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m langheads "$@"\n')
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    return command.parent


def test_no_page_has_blocks_that_nobody_knows():
    fences = {
        fence for page in PAGES for fence in re.findall(r"^```(.+)$", page.read_text("utf-8"), re.M)
    }
    assert fences == {"python", "bash", "sh", "text"}


def test_the_reference_has_every_public_name():
    text = (ROOT / "docs" / "pages" / "reference.md").read_text("utf-8")
    listed = re.findall(r"^::: langheads\.(\S+)$", text, re.M)
    views = {f"view.{name}" for name in langheads.view.__all__}
    public = set(langheads.__all__) - {"view"}
    same = {f"view.{name}" for name in public}
    assert sorted(listed) == sorted(public | (views - same))


def test_the_table_of_architectures_is_that_of_the_tests():
    assert table() in (ROOT / "docs" / "pages" / "architectures.md").read_text("utf-8")


class _Page(HTMLParser):
    """The ids and links of a page, and what it loads."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loaded = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids.add(given.get("id"))
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        elif tag != "a":
            self.loaded += [given[name] for name in ("src", "href") if given.get(name)]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = build_site(tmp_path_factory.mktemp("site"))
    return {path: _Page(path.read_text("utf-8")) for path in folder.rglob("*.html")}


def test_links_and_anchors_hold(site):
    broken = []
    for path, page in site.items():
        for link in page.links + page.loaded:
            parts = urlsplit(link)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if parts.scheme or path.name == "404.html":
                continue
            if not target.is_file() or (
                parts.fragment and target in site and parts.fragment not in site[target].ids
            ):
                broken.append((path.name, link))
    assert not broken
    assert {path.name for path in site} >= {"tutorial.html", "reference.html", "methods.html"}


def test_nothing_is_loaded_from_another_host(site):
    hosts = {urlsplit(link).netloc for page in site.values() for link in page.loaded}
    assert hosts == {""}
