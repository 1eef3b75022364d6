"""Do replies that stray into English come back when English heads are off?

Claim: on prompts that a model answers in the wrong language, switching off the specific heads of
    the language it strays into raises the share of replies in the wanted language, by more than
    random heads of the same layers do, and without replies falling apart.
Model: `demo` by default, with its planted heads; any other by argument, with a head set.
Hardware: 2 CPU cores for the demo; a GPU for a model of billions of parameters.
Minutes: 7 (demo, 40 prompts in each of 6 languages, on a busy machine; not run on XL-Sum).
Number to expect: demo, change in the share of right replies over all 240 prompts, 95% interval over
    prompts (of random heads: with the 3 sets drawn held fixed): English heads off +0.14 [+0.09,
    +0.20], random heads like them, outside the wanted language's own, +0.00 [-0.03, +0.03]; all
    rivals' heads off the same, so English alone does it, random heads like them +0.03 [-0.03,
    +0.09]; own heads off -0.10 [-0.14, -0.06], random heads like them -0.01 [-0.04, +0.02]; shift
    from English +0.44 [+0.37, +0.52], its replies 0.4 to 1.6 nats a token less likely to the
    untouched model; it has no random twin. Language by language the gain of English heads off is
    shown for de, es and ru; not for zh, hi and ar, and in hi twelve random heads gained more (+0.18
    [+0.04, +0.32]) than the rivals' (+0.07); random heads like the rivals' gained +0.15 [-0.03,
    +0.34] in de and lost 0.25 [-0.39, -0.12] in zh, so three sets say little of one language.

    python analyses/offtarget.py
    python analyses/offtarget.py MODEL heads.json 'hf:csebuetnlp/xlsum:{language}' es,vi,hi,ja,th

The demo answers in the prompt's language, always; it strays when an English turn stands before
the prompt, so that is what it is given. For XL-Sum the prompt is the article, cut, and a request
for a summary in its language; whether a model strays there is what the first column shows.
"""

import json
import sys
from pathlib import Path

import numpy as np

import langheads
from langheads import off_target
from langheads.demo import grammar
from langheads.model import DEMO
from langheads.stats import bootstrap_interval
from langheads.text import Rules, detector

PROMPTS = 40  # a language
TEXTS = 60  # documents a language, for the means of the shift
AMOUNT = 1.0  # of the shift
DRAWS = 3  # random head sets
NEW_TOKENS = 20
ARTICLE_CHARACTERS = 1500
SUSPECT = "en"
# The demo's replies have three to eight words; the benchmark's lines of fewer than five words
# would leave out half of them.
DEMO_RULES = Rules(min_words=1)
OUT = Path("results/offtarget.nc")
SUMMARISE = "{article}\n\nTL;DR:"
XLSUM = {
    "en": "english",
    "es": "spanish",
    "vi": "vietnamese",
    "hi": "hindi",
    "ja": "japanese",
    "th": "thai",
}


def demo() -> dict:
    """The planted heads, an English turn before each held-out prompt, and stories for means."""
    planted = json.loads((DEMO / "planted.json").read_text(encoding="utf-8"))
    shape = tuple(planted["shape"])
    own = {language: _heads(heads, shape) for language, heads in planted["planted"].items()}
    english = grammar.replies("en", PROMPTS)
    wanted = [language for language in grammar.LANGUAGES if language != SUSPECT]
    return {
        "model": langheads.load("demo"),
        "heads": langheads.LanguageHeads(own, langheads.HeadSet([], shape), "demo"),
        "prompts": {
            language: [
                f"- {turn['prompt']}\n- {turn['reply']}\n- {asked['prompt']}\n-"
                for turn, asked in zip(english, grammar.replies(language, PROMPTS), strict=True)
            ]
            for language in wanted
        },
        "texts": {language: grammar.documents(language, TEXTS) for language in grammar.LANGUAGES},
        "rules": DEMO_RULES,
        "detect": detector(candidates=grammar.LANGUAGES),
    }


def real(model: str, heads: str, source: str, languages: str) -> dict:
    """Any model, with articles to sum up; the first are for means, the last for prompts."""
    wanted = languages.split(",")
    # XL-Sum's configurations are named in English, the detector answers with codes.
    names = {XLSUM[code] if "{language}" in source else code: code for code in [*wanted, SUSPECT]}
    found = langheads.read_texts(source, languages=names)
    corpus = langheads.read_texts({code: found.texts[name] for name, code in names.items()})
    chosen = langheads.LanguageHeads.load(heads)
    articles = corpus.back(PROMPTS)
    return {
        "model": langheads.load(model),
        "heads": chosen,
        "prompts": {
            language: [
                SUMMARISE.format(article=article[:ARTICLE_CHARACTERS])
                for article in articles[language]
            ]
            for language in wanted
        },
        "texts": corpus.front(TEXTS),
        "rules": Rules(),
        # Not restricted to these languages: of a few, one always has more than `sure`, so a reply
        # in a third language or in none would count as one of them.
        "detect": detector(),
    }


def _heads(pairs: list, shape: tuple) -> langheads.HeadSet:
    return langheads.HeadSet(map(tuple, pairs), shape)


def main(arguments: list[str]) -> None:
    """Run, save, and print a table."""
    run = real(*arguments) if arguments else demo()
    found = off_target(
        run.pop("model"),
        run.pop("heads"),
        run.pop("prompts"),
        run.pop("detect"),
        **run,
        suspect=SUSPECT,
        amount=AMOUNT,
        draws=DRAWS,
        max_new_tokens=NEW_TOKENS,
    )
    OUT.parent.mkdir(parents=True, exist_ok=True)
    print(langheads.save(found, OUT))
    columns = (
        "right",
        "delta_right",
        "suspect",
        "lpr",
        "repetition",
        "prompt_copy",
        "empty",
        "nll",
    )
    print("language condition", *columns)
    for language in found.language.values:
        for condition in found.condition.values:
            row = found.sel(language=language, condition=condition)
            if bool(row.right.isnull()):
                continue
            shown = [f"{row[name].item():.2f}" for name in columns]
            shown[0] += f" [{row.right_low.item():.2f}, {row.right_high.item():.2f}]"
            shown[1] += f" [{row.delta_right_low.item():.2f}, {row.delta_right_high.item():.2f}]"
            print(f"{language}, {condition}:", *shown)
    for condition in found.condition.values[1:]:
        both = found.right_each.sel(condition=["none", condition]).values
        change = (both[:, 1] - both[:, 0]).ravel()
        change = change[~np.isnan(change)]
        if len(change) > 1:
            low, high = bootstrap_interval(change, seed=found.attrs["seed"])
            print(f"all prompts, {condition}: {change.mean():+.3f} [{low:+.3f}, {high:+.3f}]")


if __name__ == "__main__":
    main(sys.argv[1:])
