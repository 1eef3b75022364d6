"""What the examples of docstrings and of the site find: texts, questions, prompts, a run."""

import json
import shutil
from functools import partial

import pytest

import langheads
from langheads.demo import grammar
from langheads.io.schemas import SCHEMAS
from langheads.scores.registry import LABELS, SCORES
from langheads.view.kinds import KINDS

LANGUAGES = ["en", "hi", "zh"]


def write_lines(path, records):
    path.parent.mkdir(exist_ok=True)
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def registries_kept():
    """What an example adds is gone after it."""
    before = [(table, dict(table)) for table in (SCORES, LABELS, SCHEMAS, KINDS)]
    yield
    for table, held in before:
        table.clear()
        table.update(held)


@pytest.fixture(scope="session")
def example_model():
    return langheads.load("demo", device="cpu")


def make_examples(model, folder):
    """Texts and questions in the words of the embedded model, and a small run."""
    for language in LANGUAGES:
        texts = [{"text": text[:60]} for text in grammar.documents(language, 24)]
        write_lines(folder / "texts" / f"{language}.jsonl", texts)
        questions = grammar.question_answering(language, 24)
        write_lines(folder / "questions" / f"{language}.jsonl", questions)
    choice = {"prompt": "The cat", "answer": " sleeps", "wrong": " and", "language": "en"}
    write_lines(folder / "prompts.jsonl", [choice])
    run = folder / "run"
    run.mkdir()
    scores = langheads.score(model, folder / "texts", docs=8)
    langheads.save(scores, run / "scores.nc")
    langheads.select(scores, quantile=0.9, share=0.05).save(run / "heads.json")
    exact = langheads.knockout(model, folder / "texts", heads=["L1H3", "L2H0"], docs=4)
    langheads.save(exact, run / "knockout.nc")


@pytest.fixture(scope="session")
def example_folder(example_model, made_once):
    return made_once("examples", partial(make_examples, example_model))


@pytest.fixture
def example_names(example_model, example_folder):
    """What examples call by name without making it."""
    run = example_folder / "run"
    return {
        "model": example_model,
        "tokens": example_model.to_tokens("The cat sleeps."),
        "scores": langheads.load_result(run / "scores.nc"),
        "heads": langheads.LanguageHeads.load(run / "heads.json"),
    }


@pytest.fixture
def in_example_folder(example_folder, tmp_path, monkeypatch):
    """Work in a folder of one's own that has what the example folder has."""
    work = shutil.copytree(example_folder, tmp_path / "work", copy_function=shutil.copyfile)
    monkeypatch.chdir(work)
