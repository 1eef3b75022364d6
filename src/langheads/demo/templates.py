"""How the grammar of the embedded models states an occupation, for attention transfer.

Sentences, names and occupations are those that the models' training text uses; fillers are drawn
from its scenes.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from langheads.demo.grammar import LANGUAGES
from langheads.demo.patterns import fill, lexicon_of
from langheads.io.arguments import asked_languages
from langheads.io.errors import InputError
from langheads.text.templates import Template

_FILLERS = 12


def demo_templates(languages: Iterable[str] | None = None) -> dict[str, Template]:
    """Language -> its template; see `langheads.text.templates.read_templates`. Refuses a language
    that the grammar does not have.

    Example:
        >>> demo_templates(["de"])["de"].tell("fact", 0, 0)
        'Annas Beruf ist Ärztin.'
    """
    asked = asked_languages(languages)
    wanted = list(LANGUAGES if asked is None else asked)
    if missing := [language for language in wanted if language not in LANGUAGES]:
        raise InputError(
            f"no template for language {', '.join(missing)} of the embedded model; it speaks "
            f"{', '.join(LANGUAGES)}"
        )
    return {language: _template(language) for language in wanted}


def _template(language: str) -> Template:
    lexicon = lexicon_of(language)
    words = lexicon["words"]
    fact = lexicon["facts"]["job"]["say"].replace("{job.name}", "{job}")
    rng = random.Random(f"fillers/{language}")
    return Template(
        language,
        fact=fact,
        # As `grammar.contradicting_facts` cuts it; a space joins query and answer, also in Chinese.
        query=fact[: fact.index("{job")].rstrip(),
        answer=" {job}",
        space=lexicon["space"],
        filler=tuple(fill(scene, lexicon, rng, {}) for scene in lexicon["scene"][:_FILLERS]),
        names=tuple(
            {"name": name["nom"], "gender": name["g"]} | {k: v for k, v in name.items() if k != "g"}
            for name in words["name"]
        ),
        occupations=tuple(
            {"job": job.get("m") or job["nom"]} | ({"f": job["f"]} if "f" in job else {})
            for job in words["job"]
        ),
    )
