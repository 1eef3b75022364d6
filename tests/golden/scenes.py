"""What the golden record runs: every verb, in small, on one model after the other.

All Python names of langheads that the record needs stand in this file, in the block below and in
`MADE_UP`; whatever has a verb is run as a verb.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import runpy
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
MODELS = ("demo", "llama-gqa", "cohere")
GROUPS = ("help", *MODELS, "made-up")
RESULTS = ("run", "more", "chain")
"""Folders of a scene that hold what was made, not what was given."""
METHODS = "lahis,lahis-paper,lahis-sequential,taylor,quadrature,grad-act,output-norm,entropy,random"


# --- Names of langheads ---------------------------------------------------------------------


def command_line() -> None:
    """The entry point; reads sys.argv."""
    from langheads.cli import main

    main()


def verbs_of_the_command_line() -> list[str]:
    from langheads.cli import VERBS

    return sorted(VERBS)


def load_model(model: str) -> Any:
    import langheads

    return langheads.load(model, device="cpu")


def deletion_curves(model: Any, scores: Path, text: Path, out: Path, **settings: Any) -> None:
    import langheads

    found = langheads.deletion(model, langheads.load_result(scores), str(text), **settings)
    langheads.save(found, out)


def benchmark_of_scores(model: Any, text: Path, out: Path, **settings: Any) -> None:
    from langheads.pipeline import benchmark

    benchmark(model, str(text), out, **settings)


def off_target_replies(
    model: Any, heads: Path, prompts: Any, candidates: Any, out: Path, **settings: Any
) -> None:
    import langheads
    from langheads.text import Rules, detector

    found = langheads.off_target(
        model,
        langheads.LanguageHeads.load(heads),
        prompts,
        detector(candidates=candidates),
        rules=Rules(min_words=1),
        **settings,
    )
    langheads.save(found, out)


def rates_of_switching(
    model: Any, prompts: Any, candidates: Any, out: Path, **settings: Any
) -> None:
    import langheads
    from langheads.text import detector

    found = langheads.switch_rates(model, prompts, detector(candidates=candidates), **settings)
    langheads.save(found, out)


def demo_files() -> tuple[Any, str]:
    """The grammar of the embedded model, and its list of planted heads."""
    from langheads.demo import grammar
    from langheads.model import DEMO

    return grammar, (DEMO / "planted.json").read_text("utf-8")


def write_made_up(folder: Path) -> None:
    """Made-up results of every kind, and runs that get another verdict."""
    from tests.unit.view.made_up_results import write_full_run
    from tests.unit.view.made_up_run import write_run

    write_full_run(folder / "full")
    write_run(folder / "nothing-shown", diagonal=(0.005, 0.005))
    write_run(folder / "baselines-disagree", diagonal=(0.2, 0.005), empty=["zh"])
    write_run(folder / "few-controls", ("en", "zh"), controls=3)


# --- Running --------------------------------------------------------------------------------


class Said(NamedTuple):
    """What one step printed, and how it ended."""

    command: str
    code: int
    out: str
    err: str


Steps = dict[str, Said]


@contextlib.contextmanager
def _captured() -> Iterator[tuple[io.StringIO, io.StringIO]]:
    """Everything printed inside the block; log messages, too."""
    out, err = io.StringIO(), io.StringIO()
    root = logging.getLogger()
    before = root.handlers[:]
    handler = logging.StreamHandler(err)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    root.handlers[:] = [handler]
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield out, err
    finally:
        root.handlers[:] = before


def step(steps: Steps, name: str, command: str, function: Callable[[], None]) -> None:
    """Run a function and keep what it said."""
    import torch

    torch.manual_seed(0)
    code, started = 0, time.perf_counter()
    with _captured() as (out, err):
        try:
            function()
        except SystemExit as stopped:
            code = int(stopped.code or 0)
    if code not in (0, 2):
        raise RuntimeError(f"{command}: exit code {code}: {err.getvalue()}")
    if "GOLDEN_TIMES" in os.environ:
        print(f"  {time.perf_counter() - started:5.1f} s {name}", file=sys.stderr)
    steps[name] = Said(command, code, out.getvalue(), err.getvalue())


def verb(steps: Steps, name: str, *arguments: object, refused: bool = False) -> None:
    """Run a verb in this process; the name is the verb's, with -SUFFIX where it runs again."""
    given = [str(argument) for argument in arguments]

    def run() -> None:
        before, sys.argv = sys.argv, ["langheads", *given]
        try:
            command_line()
        finally:
            sys.argv = before

    step(steps, name, " ".join(["langheads", *given]), run)
    if steps[name].code and not refused:
        raise RuntimeError(f"{steps[name].command}: {steps[name].err}")


def help_texts() -> dict[str, str]:
    steps: Steps = {}
    verb(steps, "langheads", "--help")
    for name in verbs_of_the_command_line():
        verb(steps, name, name, "--help")
    return {name: said.out for name, said in steps.items()}


# --- Material -------------------------------------------------------------------------------

_SENTENCES = {
    "en": "the cat sleeps on the warm stone",
    "zh": "猫在暖和的石头上睡觉",
    "hi": "बिल्ली गर्म पत्थर पर सोती है",
}
_WORDINGS = [
    {"fact": "{name} is {job}.", "query": "{name} is", "answer": " {job}"},
    {"filler": "It rains."},
    *({"name": name} for name in ("Ann", "Ben", "Eve")),
    *({"job": job} for job in ("cook", "pilot", "baker")),
]


class Material(NamedTuple):
    """Texts, questions and prompts of one scene, and the few settings in which scenes differ."""

    model: str
    languages: tuple[str, ...]
    texts: Mapping[str, Sequence[str]]
    questions: Mapping[str, Sequence[Mapping[str, Any]]]
    prompts: Mapping[str, Sequence[str]]
    choices: Sequence[Mapping[str, Any]]
    pair: tuple[str, str]
    transfer: tuple[str, ...]
    selection: tuple[str, ...]
    tokens: int


def _demo(folder: Path) -> Material:
    grammar, planted = demo_files()
    languages = ("en", "es", "zh", "hi")
    (folder / "run" / "planted.json").write_text(planted, "utf-8")
    turns = {language: grammar.replies(language, 4) for language in languages}
    prompts = {
        language: [
            f"- {turn['prompt']}\n- {turn['reply']}\n- {asked['prompt']}\n-"
            for turn, asked in zip(turns["en"], turns[language], strict=True)
        ]
        for language in ("es", "hi")
    }
    choices = []
    for a, b in (("es", "zh"), ("zh", "es")):
        told = (grammar.contradicting_facts(*pair, 2, query="en") for pair in ((a, b), (b, a)))
        for item, swapped in zip(*told, strict=True):
            first, second = item["answers"]
            choice = {"prompt": item["prompt"], "answer": f" {first}", "wrong": f" {second}"}
            corrupt = {"corrupt": swapped["prompt"]} if len(choices) % 2 else {}
            choices.append(choice | {"language": a} | corrupt)
    return Material(
        model="demo",
        languages=languages,
        texts={language: grammar.documents(language, 14) for language in (*languages, "de")},
        questions={language: grammar.question_answering(language, 24) for language in ("es", "hi")},
        prompts=prompts,
        choices=choices,
        pair=("es", "hi"),
        transfer=(
            *("--languages", "es,zh", "--n-occupations", "3", "--limit", "3"),
            *("--gates-enhance", "3,8"),
        ),
        selection=("--quantile", "0.9", "--share", "0.05", "--general-at", "3"),
        tokens=60,
    )


def _tiny(name: str, folder: Path) -> Material:
    from tests.models.zoo import Zoo

    Zoo(folder / "tokenizer").save(name, folder / "model")
    for language in ("en", "zh"):
        _write_lines(folder / "wordings" / f"{language}.jsonl", _WORDINGS)
    questions = {
        language: [
            {"id": f"q{i}", "context": f"{i // 2} {language} tea", "question": f"{i % 2}?"}
            | {"answers": [str(i)]}
            for i in range(10)
        ]
        for language in ("en", "hi")
    }
    choice = {"prompt": "The cat is", "answer": " big", "wrong": " old", "language": "en"}
    other = {"prompt": "猫 is", "answer": " old", "wrong": " big", "language": "zh"}
    return Material(
        model="model",
        languages=("en", "zh", "hi"),
        texts={
            language: [" ".join([sentence] * (1 + i % 3)) + f" {i}" for i in range(14)]
            for language, sentence in _SENTENCES.items()
        },
        questions=questions,
        prompts={"en": ["the cat", "a stone", "it rains"], "zh": ["猫在", "石头"]},
        choices=[choice | {"corrupt": "Le chat est"}, choice | {"prompt": "A dog is"}, other],
        pair=("hi", "en"),
        transfer=("--templates", "wordings", "--languages", "en,zh", "--n-occupations", "3"),
        selection=("--quantile", "0.5", "--share", "0.2", "--general-at", "3"),
        tokens=80,
    )


def _write_lines(path: Path, records: Iterable[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    path.write_text("".join(lines), "utf-8")


def _prepared(name: str, folder: Path) -> Material:
    for part in ("run", "more"):
        (folder / part).mkdir(parents=True)
    made = _demo(folder) if name == "demo" else _tiny(name, folder)
    for language, documents in made.texts.items():
        _write_lines(folder / "texts" / f"{language}.jsonl", [{"text": text} for text in documents])
    for language, questions in made.questions.items():
        _write_lines(folder / "qa" / f"{language}.jsonl", questions)
    asked = [
        {"prompt": prompt, "language": language}
        for language, prompts in made.prompts.items()
        for prompt in prompts
    ]
    _write_lines(folder / "prompts.jsonl", [*asked, {"prompt": "no language is wanted here"}])
    _write_lines(folder / "choices.jsonl", made.choices)
    return made


# --- Scenes ---------------------------------------------------------------------------------


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """With relative paths, messages and provenance are the same in every folder."""
    before = Path.cwd()
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def model_scene(name: str, folder: Path) -> Steps:
    """Every verb and every function without a verb, on one model; results stay in the folder."""
    with _inside(folder):
        made = _prepared(name, Path())
        steps: Steps = {}
        _measure(steps, made)
        _prove(steps, name, made)
        _reply(steps, made)
        _learn(steps, made)
        _look(steps, name, made)
        _refuse(steps, made)
    return steps


def _measure(steps: Steps, made: Material) -> None:
    cpu = ("--device", "cpu")
    read = (made.model, "--text", "texts", *cpu, "--max-tokens", made.tokens)
    languages, two = ",".join(made.languages), ",".join(made.languages[-2:])
    verb(steps, "score", "score", *read, "--out", "run/scores.nc", "--method", METHODS,
         "--docs", 6, "--languages", languages)  # fmt: skip
    verb(steps, "score-plain", "score", *read, "--out", "more/scores.nc", "--method", "taylor",
         "--docs", 4, "--no-gradients", "--seed", 3, "--no-bos", "--batch-tokens", 100,
         "--dtype", "float64")  # fmt: skip
    verb(steps, "knockout", "knockout", *read, "--out", "run/knockout.nc", "--docs", 3,
         "--baseline", "zero,mean", "--languages", two)  # fmt: skip
    verb(steps, "knockout-top", "knockout", *read, "--out", "more/knockout-top.nc",
         "--docs", 6, "--top", 2, "--languages", two)  # fmt: skip
    verb(steps, "knockout-qa", "knockout-task", made.model, *cpu, "--questions", "qa", "--docs", 3,
         "--out", "run/knockout-task.nc", "--max-new-tokens", 3,
         "--heads", "L0H0,L0H1,L0H2,L0H3,L1H0,L1H2")  # fmt: skip
    verb(steps, "knockout-qa-mean", "knockout-task", made.model, *cpu, "--questions", "qa",
         "--docs", 3, "--out", "more/knockout-task.nc", "--max-new-tokens", 2, "--measure",
         "answer-logprob,substring", "--baseline", "mean", "--heads", "L0H1,L1H2",
         "--template", r"{question} {context}\n")  # fmt: skip
    verb(steps, "select", "select", "run/scores.nc", "--out", "run/heads.json", *made.selection)
    verb(steps, "select-contrast", "select", "run/scores.nc", "--out", "more/contrast.json",
         "--rule", "contrast", "--min-ratio", "1.2", "--alpha", "0.3", "--permutations", 99,
         "--seed", 1)  # fmt: skip
    verb(steps, "classify", "classify", "run/knockout.nc", "--languages", two,
         "--out", "run/classes.json", "--n-resamples", 200)  # fmt: skip
    verb(steps, "classify-qa", "classify", "run/knockout-task.nc", "--languages",
         ",".join(made.questions), "--out", "more/classes.json", "--n-resamples", 200,
         "--alpha", "0.3", "--seed", 2)  # fmt: skip
    verb(steps, "attribute", "attribute", made.model, *cpu, "--prompts", "choices.jsonl",
         "--out", "run/attribution.nc")  # fmt: skip
    verb(steps, "attribute-some", "attribute", made.model, *cpu, "--prompts", "choices.jsonl",
         "--out", "more/attribution.nc", "--measures", "direct,patching", "--heads",
         "L0H1,L1H2")  # fmt: skip


def _prove(steps: Steps, name: str, made: Material) -> None:
    cpu = ("--device", "cpu")
    languages = ",".join(made.languages)
    given = (made.model, *cpu, "--heads", "run/heads.json")
    verb(steps, "ablate", "ablate", *given, "--text", "texts", "--out", "run/ablation.nc",
         "--n-controls", 4, "--docs", 3, "--languages", languages)  # fmt: skip
    model = load_model(made.model)
    step(steps, "deletion", "deletion", lambda: deletion_curves(
        model, Path("run/scores.nc"), Path("texts"), Path("run/deletion.nc"),
        method=["lahis", "taylor", "quadrature"], steps=[1, 3], docs=3,
    ))  # fmt: skip
    verb(steps, "compare", "compare", "run")
    if name != "cohere":  # it has too few heads for the steps of a benchmark
        step(steps, "benchmark", "benchmark", lambda: benchmark_of_scores(
            model, Path("texts"), Path("more/benchmark"), method=["lahis", "quadrature", "random"],
            languages=made.languages[-2:], docs=4, deletion_docs=2, max_tokens=30,
        ))  # fmt: skip
    verb(steps, "prune", "prune", *given, "--drop", ",".join(made.languages[1:3]),
         "--out", "run/pruned", "--text", "texts", "--languages", languages, "--docs", 3,
         "--n-controls", 3)  # fmt: skip
    verb(steps, "prune-only", "prune", *given, "--drop", made.languages[1],
         "--out", "more/pruned")  # fmt: skip
    verb(steps, "transfer", "transfer", *given, *made.transfer, "--out", "run/transfer.nc",
         "--n-controls", 2, "--max-new-tokens", 3)  # fmt: skip
    verb(steps, "transfer-some", "transfer", *given, *made.transfer, "--out", "more/transfer.nc",
         "--n-controls", 2, "--max-new-tokens", 2, "--gates-weaken", "0,0.5",
         "--orders", "A first", "--no-attention", "--seed", 3, "--limit", 2)  # fmt: skip


def _reply(steps: Steps, made: Material) -> None:
    given = (made.model, "--device", "cpu", "--prompts", "prompts.jsonl", "--heads",
             "run/heads.json", "--max-new-tokens", 8, "--min-words", 1)  # fmt: skip
    a, b = made.prompts
    verb(steps, "generate", "generate", *given, "--out", "run/replies.jsonl",
         "--gate", f"{a}=0", "--gate", "general=0.5", "--n-controls", 2)  # fmt: skip
    verb(steps, "generate-shift", "generate", *given, "--out", "more/shift.jsonl",
         "--text", "texts", "--docs", 5, "--steer", f"{a}-{b}=2.5", "--gate",
         f"{made.languages[-1]}=0", "--baseline", "mean", "--n-controls", 1)  # fmt: skip
    verb(steps, "generate-temperature", "generate", *given, "--out", "more/temperature.jsonl",
         "--gate", f"{b}=2", "--temperature", "0.8", "--seed", 5, "--no-compare",
         "--no-use-cache")  # fmt: skip
    candidates = list(made.languages)
    model = load_model(made.model)
    texts = {language: of[:4] for language, of in made.texts.items() if language in candidates}
    step(steps, "off-target", "off_target", lambda: off_target_replies(
        model, Path("run/heads.json"), made.prompts, candidates, Path("run/offtarget.nc"),
        suspect="en", n_controls=2, texts=texts, amount=1.0, max_new_tokens=6, n_resamples=200,
    ))  # fmt: skip
    step(steps, "switch-rates", "switch_rates", lambda: rates_of_switching(
        model, made.prompts, candidates, Path("run/switch-rate.nc"), max_new_tokens=4,
        heads=["L0H1", "L1H0", "L1H2"],
    ))  # fmt: skip


def _learn(steps: Steps, made: Material) -> None:
    own, other = made.pair
    cpu = ("--device", "cpu")
    train = ("--train", 12 if made.model == "demo" else 4, "--epochs", 2, "--batch-size", 2,
             "--learning-rate", "0.5")  # fmt: skip
    verb(steps, "adapt", "adapt", made.model, *cpu, "--heads", "run/heads.json",
         "--questions", "qa", "--language", own, "--out", "run/mask.json", *train)  # fmt: skip
    ask = (made.model, *cpu, "--questions", "qa", "--max-new-tokens", 3, "--n-resamples", 50)
    mask = ("--gates", "run/mask.json")
    verb(steps, "evaluate-qa", "evaluate-qa", *ask, *mask, "--language", own, "--n-controls", 1,
         "--out", "run/qa.nc")  # fmt: skip
    verb(steps, "evaluate-qa-moved", "evaluate-qa", *ask, *mask, "--language", other,
         "--n-controls", 2, "--out", "more/moved.nc")  # fmt: skip
    verb(steps, "evaluate-qa-alone", "evaluate-qa", *ask, *mask, "--language", own,
         "--n-controls", 0, "--out", "more/alone.nc")  # fmt: skip
    verb(steps, "evaluate-qa-untouched", "evaluate-qa", *ask, "--language", other,
         "--docs", 3, "--out", "more/untouched.nc")  # fmt: skip
    verb(steps, "generate-mask", "generate", made.model, *cpu, "--prompts", "prompts.jsonl",
         "--mask", "run/mask.json", "--out", "more/mask.jsonl", "--max-new-tokens", 6,
         "--n-controls", 1)  # fmt: skip


def _look(steps: Steps, name: str, made: Material) -> None:
    cpu = ("--device", "cpu")
    first, second = (made.texts[language][-1] for language in made.languages[:2])
    shown = (made.model, *cpu, "--text", first)
    verb(steps, "attention", "attention", *shown, "--beside", second, "--labels",
         ",".join(made.languages[:2]), "--heads", "run/heads.json", "--scores", "run/scores.nc",
         "--max-tokens", 24, "--out", "run/attention.json")  # fmt: skip
    verb(steps, "attention-gates", "attention", *shown, "--heads", "L0H1,L1H2", "--gates", "L0H0",
         "--gate", "0.5", "--window", "1:6", "--no-pool-words", "--max-tokens", 12,
         "--out", "more/attention.html")  # fmt: skip
    verb(steps, "attention-top", "attention", *shown, "--heads", "run/scores.nc", "--language",
         made.languages[0], "--top", 3, "--max-tokens", 12, "--spans", f"part={first[:3]}",
         "--out", "more/attention.json")  # fmt: skip
    if name == "demo":
        step(steps, "logit-lens", "analyses/logit_lens.py", _logit_lens)
        verb(steps, "demo", "demo", "--out", "chain", "--docs", 2, "--n-controls", 2)
    else:
        verb(steps, "run", "run", made.model, *cpu, "--text", "texts", "--out", "chain",
             "--docs", 6, "--proof-docs", 3, "--n-controls", 3, "--method", "taylor,lahis",
             *made.selection)  # fmt: skip
    verb(steps, "report", "report", "run")
    if name != "cohere":  # for time
        _with_sources(Path("more"), Path("run"), Path("beside"))
        verb(steps, "report-elsewhere", "report", "beside/more", "--out", "more/page.html")


def _with_sources(results: Path, sources: Path, copy: Path) -> None:
    """A copy of `results` with what they were made from; alone, a report would leave them out."""
    shutil.copytree(results, copy / results.name)
    for name in ("scores.nc", "heads.json", "knockout-task.nc", "mask.json"):
        shutil.copy(sources / name, copy / results.name / f"source-{name}")


def _logit_lens() -> None:
    """The script takes heads of the demo's zh and de, so it gets a head set of its own."""
    lens = Path("lens")
    lens.mkdir()
    steps: Steps = {}
    verb(steps, "score", "score", "demo", "--device", "cpu", "--text", "texts", "--out",
         "lens/scores.nc", "--docs", 4, "--method", "lahis", "--max-tokens", 60)  # fmt: skip
    verb(steps, "select", "select", "lens/scores.nc", "--out", "lens/heads.json",
         "--quantile", "0.9", "--share", "0.05")  # fmt: skip
    script = ROOT / "analyses" / "logit_lens.py"
    before, sys.argv = sys.argv, [str(script), "lens"]
    try:
        runpy.run_path(str(script), run_name="__main__")
    finally:
        sys.argv = before
    (lens / "logit-lens.nc").rename("run/logit-lens.nc")


def _refuse(steps: Steps, made: Material) -> None:
    """Some mistakes: the words of the one line on stderr."""
    read = (made.model, "--device", "cpu", "--text", "texts", "--out", "more/no.nc")
    for name, arguments in {
        "verb": ["scroe"],
        "missing": ["score", made.model],
        "method": ["score", *read, "--method", "lahs"],
        "language": ["score", *read, "--languages", "en,xx"],
        "overlap": ["ablate", *read, "--heads", "run/heads.json", "--docs", 12],
        "held": ["select", "run/ablation.nc", "--out", "more/no.json"],
        "both": ["knockout", *read, "--questions", "qa"],
        "folder": ["report", "nowhere"],
    }.items():
        verb(steps, f"refused-{name}", *arguments, refused=True)


def made_up_scene(folder: Path) -> Steps:
    """Reports of results that are made up, since their words cover more cases."""
    steps: Steps = {}
    with _inside(folder):
        write_made_up(Path())
        for run in sorted(path.name for path in Path().iterdir()):
            verb(steps, f"report-{run}", "report", run)
    return steps
