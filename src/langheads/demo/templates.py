"""How the grammar of the embedded models states an occupation, for attention transfer.

Sentences, names and occupations are those that the models' training text uses; fillers are drawn
from its scenes.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from langheads.demo.grammar import LANGUAGES
from langheads.demo.patterns import fill, lexicon_of
from langheads.io.errors import InputError
from langheads.text.templates import Wording

_FILLERS = 12


def demo_wordings(languages: Iterable[str] | None = None) -> dict[str, Wording]:
    """Language -> its wording; see `langheads.text.templates.read_wordings`.

    Raises:
        InputError: a language that the grammar does not have.

    Example:
        >>> demo_wordings(["de"])["de"].tell("fact", 0, 0)
        'Annas Beruf ist Ärztin.'
    """
    wanted = list(LANGUAGES if languages is None else dict.fromkeys(languages))
    if missing := [language for language in wanted if language not in LANGUAGES]:
        raise InputError(
            f"no template for language {', '.join(missing)} of the embedded model; it speaks "
            f"{', '.join(LANGUAGES)}"
        )
    return {language: _wording(language) for language in wanted}


def _wording(language: str) -> Wording:
    lexicon = lexicon_of(language)
    fact = lexicon["facts"]["job"]["say"].replace("{job.name}", "{job}")
    rng = random.Random(f"fillers/{language}")
    filler = [fill(pattern, lexicon, rng, {}) for pattern in lexicon["scene"][:_FILLERS]]
    return Wording(
        language,
        fact=fact,
        # As `grammar.contradicting_facts` cuts it; a space joins query and answer, also in Chinese.
        query=fact[: fact.index("{job")].rstrip(),
        answer=" {job}",
        space=lexicon["space"],
        filler=tuple(filler),
        names=tuple(
            {
                "name": word["nom"],
                "gender": word["g"],
                **{k: v for k, v in word.items() if k != "g"},
            }
            for word in lexicon["words"]["name"]
        ),
        jobs=tuple(
            {"job": word.get("m") or word["nom"], **({"f": word["f"]} if "f" in word else {})}
            for word in lexicon["words"]["job"]
        ),
    )
