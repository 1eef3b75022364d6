"""The first screen of a report: model, texts, heads, and the verdict by language, in few words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from langheads.stats import ALPHA
from langheads.view.belonging import other_weights_words
from langheads.view.contents import RunFolder
from langheads.view.figures.style import names
from langheads.view.folder import planted_words
from langheads.view.language_verdict import CANNOT_TELL, NO_HEADS, NOT_SHOWN, language_answers
from langheads.view.table import isolated, number, readable
from langheads.view.verdict import proofs_of_other_heads, proves, together, verdict

_MOST_NAMED = 12
_ANSWERS = {
    "yes": "Proven",
    "no": "Not its own: another language is hurt as much",
    NOT_SHOWN: "Not shown: random heads may do as well",
    NO_HEADS: "No specific heads",
}


@dataclass(frozen=True)
class Glance:
    """What a reader sees first."""

    state: str  # ``yes``, ``no`` or ``open``
    facts: Mapping[str, str]  # what it is about, by name
    headline: str  # whether heads carry their languages, in one sentence
    answers: Mapping[str, str]  # what is said -> languages of which it is said
    sentences: Sequence[str]  # at most five more
    proof: str = ""  # file name of the proof that they are of, empty where there is none


def at_a_glance(run: RunFolder) -> Glance:
    """The first screen of a run; of several proofs it takes the first of the chosen heads."""
    facts = dict(_facts(run))
    proofs, heads = run.of("ablation"), run.heads
    ours = [name for name, of in proofs.items() if heads is None or proves(of, heads)]
    if not (name := next(iter(ours or proofs), "")):
        only = " Scores alone are suspicions." if run.of("scores") else ""
        headline = f"Without ablation nothing here is proven.{only}"
        return Glance("open", facts, headline, {}, [*planted_words(run), *_elsewhere(run)])
    answers = language_answers(proofs[name])
    state, headline = _headline(proofs[name], answers)
    sentences = [*_more(proofs[name], answers), *planted_words(run)]
    if not ours:
        sentences += proofs_of_other_heads({name: proofs[name]}, run.of("heads"))
    groups: dict[str, list[str]] = {said: [] for said in _ANSWERS.values()}
    for language, said in answers.items():
        label = _ANSWERS.get(said, said[:1].upper() + said[1:])
        groups.setdefault(label, []).append(isolated(language))
    shown = {label: ", ".join(of) for label, of in groups.items() if of}
    return Glance(state, facts, headline, shown, [*sentences, *_elsewhere(run)], name)


def _headline(proof: xr.Dataset, answers: Mapping[str, str]) -> tuple[str, str]:
    """Whether it is proven (``yes``, ``no``, ``open``), and that as a sentence."""
    judged = [said for said in answers.values() if said != NO_HEADS]
    n, yes = len(judged), judged.count("yes")
    unknown = sum(said.startswith(CANNOT_TELL) for said in judged)
    each = (
        f"without its own heads {'each' if yes > 1 else 'it'} loses more than the other languages "
        "do, and more than without random heads."
    )
    if not n:
        return "open", "No language has heads of its own here, so there is nothing to prove."
    if yes == n:
        whole = "yes" if verdict(proof).state == "yes" else "open"
        have = "that have heads of their own" if n > 1 else "that has heads of its own"
        own = f" {have}" if n < len(answers) else ""
        return whole, f"Proven for {'all ' if n > 1 else ''}{_languages(n)}{own}: {each}"
    if yes:
        return "open", f"Proven for {yes} of {_languages(n)}: {each}"
    if unknown == n:
        of = f"any of {_languages(n)}" if n > 1 else "its language"
        return "open", f"This run cannot tell for {of} whether these heads carry it."
    rest = f", and for {unknown} of them this run cannot tell" if unknown else ""
    any_of, which = ("any of ", "no language is") if n > 1 else ("", "it is not")
    return (
        "open" if unknown else "no",
        f"Not proven for {any_of}{_languages(n)}: without its own heads {which} shown to lose more "
        f"than the other languages do, and more than without random heads{rest}.",
    )


def _languages(n: int) -> str:
    return f"{n} language{'s' if n > 1 else ''}"


def _more(proof: xr.Dataset, answers: Mapping[str, str]) -> Iterator[str]:
    """What all languages together show, and what can be done or must not be said."""
    said = [of for of in answers.values() if of != NO_HEADS]
    if said and not all("proof documents" in of for of in said):
        yield together(proof)
    few = [language for language, of in answers.items() if "too few random heads" in of]
    drawn = [number(proof, "n_controls", heads_of=language) for language in few]
    if few and min(drawn) < int(proof.attrs.get("controls", 0)):
        yield (
            "Their layers have no more random heads to draw: select more heads a language (a lower "
            "quantile and a larger share) and prove again."
        )
    elif few:
        # One language alone may be shown, and its p is multiplied by how many there are.
        enough = max(100, round(len(said) / ALPHA))
        yield f"More random head sets can tell: prove again with n_controls of {enough} or more."
    elif said and "yes" not in said and not any(of.startswith(CANNOT_TELL) for of in said):
        yield (
            "These heads have high scores for a language, but nothing shows that it depends on "
            "them: do not call them its language heads."
        )


def _elsewhere(run: RunFolder) -> Iterator[str]:
    """That something is said under provenance which a reader must know."""
    told = []
    if run.reasons:
        told.append("which files of the folder are not shown")
    if other_weights_words(run):
        told.append("which heads were chosen in another checkpoint")
    if told:
        yield f"The section on provenance says {' and '.join(told)}."


def _facts(run: RunFolder) -> Iterator[tuple[str, str]]:
    """Model, texts and heads, as far as they are known."""
    made = [attrs for _, attrs in run.sources()]
    model = next((attrs["model"] for attrs in made if attrs.get("model")), None)
    size = f", {run.shape[0]} layers of {run.shape[1]} heads" if run.shape else ""
    yield "Model", f"{readable(model)}{size}"
    if text := next((attrs["text"] for attrs in made if attrs.get("text")), None):
        yield "Texts", "; ".join([readable(text), *_amounts(run)])
    if run.heads:
        counts = [len(chosen) for chosen in run.heads.specific.values()]
        few, many = min(counts, default=0), max(counts, default=0)
        number = f"{few}" if few == many else f"{few} to {many}"
        # The raw top takes what is high for all languages, too.
        why = "" if run.heads.rule.get("name") == "top" else " (high for it and for few others)"
        yield (
            "Heads",
            f"{number} specific to each language{why}, "
            f"{len(run.heads.general)} general (high for many languages)",
        )


def _amounts(run: RunFolder) -> Iterator[str]:
    """Languages, and documents of each to score and to prove."""
    scores, proof = (next(iter(run.of(kind).values()), None) for kind in ("scores", "ablation"))
    languages = names(scores, "language") if scores is not None else []
    if proof is not None and not languages:
        languages = names(proof, "text_of")
    if languages:
        many = len(languages) > _MOST_NAMED
        yield _languages(len(languages)) if many else ", ".join(map(isolated, languages))
    docs = []
    for of, what in ((scores, "score"), (proof, "prove")):
        if of is not None and "docs" in of:
            few, most = int(of.docs.min()), int(of.docs.max())
            docs.append(f"{few if few == most else f'{few} to {most}'} to {what}")
        elif of is not None and isinstance(most := of.attrs.get("docs"), int | np.integer):
            docs.append(f"at most {most} to {what}")
    if docs:
        yield f"documents of each: {', '.join(docs)}"
