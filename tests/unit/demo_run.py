"""A small but real run of the embedded model: every result that a figure script reads."""

import os
import runpy
import sys
from pathlib import Path

import langheads
from langheads.demo import grammar
from langheads.io.files import write_text_atomically
from langheads.model import DEMO
from langheads.text import Rules, detector

ROOT = Path(__file__).parents[2]
TRANSFER = ["de", "es", "zh"]


def write_demo_run(folder):
    """About 15 seconds on one core: few documents, prompts and random sets, so no proof."""
    folder.mkdir(parents=True)
    model = langheads.load("demo", device="cpu")
    texts = {language: grammar.documents(language, 14) for language in grammar.LANGUAGES}
    scores = langheads.score(model, texts, docs=8, max_tokens=40, method="lahis")
    heads = langheads.select(scores, quantile=0.9, share=0.05)
    heads.save(folder / "heads.json")
    exact = langheads.knockout(model, texts, languages=["zh", "hi"], docs=3, max_tokens=40)
    langheads.classify(exact, ["zh", "hi"]).save(folder / "classes.json")
    # A gate of 3 moves none of these few answers.
    moved = langheads.transfer(
        model, heads, languages=TRANSFER, n_occupations=3, limit=3, n_controls=2, max_new_tokens=3,
        gates_enhance=[8.0],
    )  # fmt: skip
    questions = {"es": grammar.question_answering("es", 24)}
    # So high a rate that masks do change answers.
    mask = langheads.adapt(
        model, heads.specific["es"], questions, language="es", train=12, learning_rate=1.0,
        epochs=4,
    )  # fmt: skip
    mask.save(folder / "mask.json")
    for name, dataset in {
        "scores": scores,
        "knockout": exact,
        "ablation": langheads.ablate(model, heads, texts, docs=4, n_controls=4),
        "transfer": moved,
        "offtarget": _off_target(model, heads, texts),
        "qa": langheads.compare_masks(
            model, mask, questions, language="es", n_controls=2, max_new_tokens=4
        ),
    }.items():
        langheads.save(dataset, folder / f"{name}.nc")
    write_text_atomically(folder / "planted.json", (DEMO / "planted.json").read_text("utf-8"))
    _run_script(ROOT / "analyses" / "logit_lens.py", folder)
    return folder


def _off_target(model, heads, texts):
    """The demo strays where an English turn stands before the prompt (analyses/offtarget.py)."""
    english = grammar.replies("en", 4)
    prompts = {
        language: [
            f"- {turn['prompt']}\n- {turn['reply']}\n- {asked['prompt']}\n-"
            for turn, asked in zip(english, grammar.replies(language, 4), strict=True)
        ]
        for language in ("es", "hi")
    }
    return langheads.off_target(
        model, heads, prompts, detector(candidates=grammar.LANGUAGES), suspect="en", n_controls=2,
        texts={language: of[:4] for language, of in texts.items()}, rules=Rules(min_words=1),
        amount=1.0, max_new_tokens=10,
    )  # fmt: skip


def _run_script(path, *arguments):
    given = sys.argv
    sys.argv = [os.fspath(path), *map(os.fspath, arguments)]
    try:
        runpy.run_path(os.fspath(path), run_name="__main__")
    finally:
        sys.argv = given
