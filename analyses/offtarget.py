"""Do replies that stray into English come back when English heads are off?

Claim: on prompts that a model answers in the wrong language, switching off the specific heads of
    the language it strays into raises the share of replies in the wanted language, by more than
    random heads of the same layers do, and without replies falling apart.
Model: `demo` by default, with its planted heads; any other by argument, with a head set.
Hardware: 2 CPU cores for the demo; a GPU for a model of billions of parameters.
Minutes: 2 (demo, 40 prompts in each of 6 languages; not run on XL-Sum).
Number to expect: demo, change in the share of right replies, mean over six languages, and in NLL of
    the replies in nats a token by the untouched model; 95% intervals over the 40 English turns that
    the languages share (of random heads: with the 3 sets drawn held fixed):

        English heads off    +0.14 [+0.08, +0.21]    +0.30 [+0.22, +0.39]
        random heads         -0.00 [-0.03, +0.03]    +0.05 [+0.04, +0.07]
        all rivals' off      +0.14 [+0.08, +0.21]    +0.30 [+0.22, +0.39]
        random heads         -0.09 [-0.14, -0.04]    +0.90 [+0.77, +1.05]
        and the general      +0.14 [+0.06, +0.21]    +0.52 [+0.42, +0.61]
        random heads         -0.06 [-0.11, -0.01]    +0.71 [+0.66, +0.78]
        own heads off        -0.10 [-0.15, -0.05]    +0.04 [+0.01, +0.06]
        random heads         -0.01 [-0.04, +0.02]    +0.06 [+0.04, +0.08]
        steering from English+0.44 [+0.36, +0.52]    +0.89 [+0.80, +0.98]
        random heads         +0.01 [-0.02, +0.03]    +0.03 [+0.02, +0.05]

    Language by language the gain of English heads off is shown for de, es and ru; not for zh, hi
    and ar; and in hi random heads like the rivals' gain more (+0.24 [+0.11, +0.40]) than the
    rivals' (+0.07 [-0.03, +0.17]), as they are most of two layers. Replies keep their form under
    steering (repetition at most .03, empty .05 in ru) but are less likely to the untouched model.

    python analyses/offtarget.py
    python analyses/offtarget.py MODEL heads.json 'hf:csebuetnlp/xlsum:{language}' es,vi,hi,ja,th

The demo answers in the prompt's language, always; it strays when an English turn stands before
the prompt, so that is what it is given. For XL-Sum the prompt is the article, cut, and a request
for a summary in its language; whether a model strays there is what the first column shows.
"""

import sys
from pathlib import Path

from transformer_lens.model_bridge import TransformerBridge

import langheads
from langheads import off_target
from langheads.demo import grammar
from langheads.experiments.held_out import check_held_out
from langheads.heads import read_planted
from langheads.io.errors import InputError
from langheads.model import DEMO, head_shape
from langheads.stats import bootstrap_interval
from langheads.text import Rules, detector

PROMPTS = 40  # a language
TEXTS = 60  # documents a language, for the means of steering
SCORED = 48  # of them, for the demo's general heads
AMOUNT = 1.0  # of the steering
N_CONTROLS = 3  # random head sets
NEW_TOKENS = 20
ARTICLE_CHARACTERS = 1500
SUSPECT = "en"
# The demo's replies have three to eight words; the benchmark's lines of fewer than five words
# would leave out half of them.
DEMO_RULES = Rules(min_words=1)
OUT = Path("results/offtarget.nc")
REQUESTS = {
    "ar": ("arabic", "ملخص المقال في جملة واحدة:"),
    "en": ("english", "Summary of the article in one sentence:"),
    "es": ("spanish", "Resumen del artículo en una frase:"),
    "fr": ("french", "Résumé de l'article en une phrase :"),
    "hi": ("hindi", "लेख का एक वाक्य में सारांश:"),
    "id": ("indonesian", "Ringkasan artikel dalam satu kalimat:"),
    "ja": ("japanese", "記事を一文で要約すると："),
    "ko": ("korean", "기사를 한 문장으로 요약하면:"),
    "pt": ("portuguese", "Resumo do artigo em uma frase:"),
    "ru": ("russian", "Краткое содержание статьи в одном предложении:"),
    "th": ("thai", "สรุปบทความในหนึ่งประโยค:"),
    "tr": ("turkish", "Haberin tek cümlelik özeti:"),
    "vi": ("vietnamese", "Tóm tắt bài báo trong một câu:"),
    "zh": ("chinese_simplified", "用一句话概括这篇文章："),
}
"""Language -> its configuration of XL-Sum, and the request for a summary in it."""


def demo() -> dict:
    """The planted heads, an English turn before each held-out prompt, and stories for means.

    General heads are those that the count rule finds on the same stories, planted ones left out.
    """
    model = langheads.load("demo")
    own = read_planted(DEMO / "planted.json", head_shape(model))["planted"]
    texts = {language: grammar.documents(language, TEXTS) for language in grammar.LANGUAGES}
    scores = langheads.score(model, texts, docs=SCORED, method="lahis")
    general = langheads.select(scores, quantile=0.9, share=0.05).general
    for heads in own.values():
        general -= heads
    english = grammar.replies("en", PROMPTS)
    wanted = [language for language in grammar.LANGUAGES if language != SUSPECT]
    return {
        "model": model,
        "heads": langheads.LanguageHeads(own, general, "demo"),
        "prompts": {
            language: [
                f"- {turn['prompt']}\n- {turn['reply']}\n- {asked['prompt']}\n-"
                for turn, asked in zip(english, grammar.replies(language, PROMPTS), strict=True)
            ]
            for language in wanted
        },
        "texts": texts,
        "rules": DEMO_RULES,
        "detect": detector(candidates=grammar.LANGUAGES),
    }


def real(model: str, heads: str, source: str, languages: str) -> dict:
    """Any model, with articles to sum up; the first are for means, the last for prompts."""
    wanted = languages.split(",")
    if unknown := [code for code in [*wanted, SUSPECT] if code not in REQUESTS]:
        raise InputError(
            f"no request for a summary in {', '.join(unknown)}; there are {', '.join(REQUESTS)}"
        )
    # XL-Sum's configurations are named in English, the detector answers with codes.
    filled = "{language}" in source
    names = {REQUESTS[code][0] if filled else code: code for code in [*wanted, SUSPECT]}
    found = langheads.read_texts(source, languages=names)
    chosen = langheads.LanguageHeads.load(heads)
    seed = int(chosen.provenance.get("seed", 0))
    corpus = langheads.read_texts(
        {code: found.texts[name] for name, code in names.items()}, seed=seed
    )
    if short := [code for code, of in corpus.texts.items() if len(of) < TEXTS + PROMPTS]:
        raise InputError(
            f"fewer than {TEXTS + PROMPTS} articles in {', '.join(short)}, so the prompts would be "
            "among the texts of the means"
        )
    articles = corpus.back(PROMPTS)
    check_held_out(articles, chosen.provenance, allow_overlap=False)
    loaded = langheads.load(model)
    return {
        "model": loaded,
        "heads": chosen,
        "prompts": {
            language: [_prompt(loaded, article, language) for article in articles[language]]
            for language in wanted
        },
        "texts": corpus.front(TEXTS),
        "rules": Rules(),
        # Not restricted to these languages: of a few, one always has more than `min_confidence`, so
        # a reply in a third language or in none would count as one of them.
        "detect": detector(),
    }


def _prompt(model: TransformerBridge, article: str, language: str) -> str:
    """An article and the request for its summary, cut so that a reply fits the model's context."""
    article, limit = article[:ARTICLE_CHARACTERS], int(model.cfg.n_ctx or 0)
    while True:
        prompt = f"{article}\n\n{REQUESTS[language][1]}"
        if not limit or len(model.tokenizer(prompt)["input_ids"]) + NEW_TOKENS < limit:
            return prompt
        if not article:
            raise InputError(
                f"the request for a summary in {language} and {NEW_TOKENS} new tokens do not fit "
                f"into the model's context of {limit}; take a model with a longer one"
            )
        article = article[: len(article) * 9 // 10]


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
        n_controls=N_CONTROLS,
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
        "delta_nll",
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
        said = []
        for name in ("right_each", "nll_each"):
            both = found[name].sel(condition=["none", condition])
            change = both.isel(condition=1) - both.isel(condition=0)
            # The languages of one row share their English turn, or the order of the corpus, so
            # rows are drawn, not replies.
            rows = change.mean("language").dropna("prompt").values
            if len(rows) > 1:
                low, high = bootstrap_interval(rows, seed=found.attrs["seed"])
                said.append(f"{rows.mean():+.3f} [{low:+.3f}, {high:+.3f}]")
        if said:
            print(f"all languages, {condition}: right", ", nats a token ".join(said))


if __name__ == "__main__":
    main(sys.argv[1:])
