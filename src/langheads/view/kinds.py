"""Which figures and tables the report makes of each kind of result, and what they do not show.

`KINDS` is the one place that knows them. A new kind is one entry: a title, a sentence on what it
shows and one on what not, and functions of the result and the run folder. What stands in a module
of its own is imported when a folder holds such a result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from langheads.view import (
    drawn,
    drawn_of_replies,
    judge,
    said,
    said_of_generated,
    said_of_pruned,
    said_of_replies,
    said_of_transfer,
    words,
)
from langheads.view.contents import RunFolder
from langheads.view.figures.style import names
from langheads.view.sections import Picture
from langheads.view.words import Table


def _nothing(result: Any, run: RunFolder) -> list[Any]:
    return []


@dataclass(frozen=True)
class Kind:
    """How a kind of result is shown.

    Attributes:
        title: heading of its section.
        shows: what the figures show, and what they do not.
        pictures: figures with captions.
        tables: the same as numbers.
        summary: sentences for the head of the page.
        anchor: start of the section's anchor; by default the kind.
    """

    title: str
    shows: Sequence[str] = ()
    pictures: Callable[[Any, RunFolder], Iterable[Picture]] = _nothing
    tables: Callable[[Any, RunFolder], Iterable[Table]] = _nothing
    summary: Callable[[Any, RunFolder], Iterable[str]] = _nothing
    anchor: str = ""


def _from(module: str, captions: Mapping[str, str]) -> Callable[[Any, RunFolder], list[Picture]]:
    """Figures of a module, function -> caption; imported when there is something to draw."""

    def draw(result: Any, run: RunFolder) -> list[Picture]:
        there = import_module(f"langheads.view.{module}")
        return [Picture(getattr(there, name)(result), text) for name, text in captions.items()]

    return draw


# In the order of the page.
KINDS: dict[str, Kind] = {
    "ablation": Kind(
        "Proof by ablation",
        pictures=drawn.ablation,
        tables=lambda result, run: [
            judge.language_verdicts(result),
            *(words.matrix_table(result, b) for b in names(result, "baseline")),
        ],
        anchor="proof",
    ),
    "scores": Kind(
        "Scores of every head",
        pictures=drawn.scores,
        tables=lambda result, run: [words.languages_table(result)],
        summary=lambda result, run: [words.scored_words(result)],
    ),
    "knockout": Kind(
        "Exact knock-out",
        (
            "Shows: what is really lost when one head alone is switched off, and how well scores "
            "foretell it.",
            "Does not show: what heads do together. Where one head stands in for another, both "
            "look idle here; and a head that hurts is needed, not proven to serve one language.",
        ),
        pictures=drawn.knockout,
        tables=said.knockout_tables,
        summary=said.knockout_words,
    ),
    "comparison": Kind(
        "Benchmark of scores",
        (
            "Shows: which score foretells exact knock-out, finds planted heads, and gives the same "
            "ranking on other documents.",
            "Does not show: that a head is specific. A score can foretell losses well and still "
            "rank general heads first.",
        ),
        pictures=drawn.comparison,
        tables=said.comparison_tables,
        summary=said.comparison_words,
    ),
    "deletion": Kind(
        "Deletion curves",
        (
            "Shows: what each language loses on held-out text as heads go in the order of a score. "
            "A score that finds a language's own heads has a steep solid and a flat dotted line.",
            "Does not show: chance. There are no random head sets here; the proof by ablation has "
            "them.",
        ),
        pictures=drawn.deletion,
        tables=said.deletion_tables,
        summary=said.deletion_words,
    ),
    "heads": Kind(
        "Chosen heads",
        tables=lambda result, run: [words.heads_table(result)],
        summary=lambda result, run: [words.chosen_words(result)],
    ),
    "head-classes": Kind(
        "Classes of heads",
        (
            "Shows: which heads only one of two languages needs, which both need, and the "
            "intervals behind it.",
            "Does not show: that a head called specific differs between the languages, unless its "
            "difference is shown as well (column shown to differ); the other language's interval "
            "may just be wide.",
        ),
        pictures=drawn.classes,
        tables=said.class_tables,
        summary=said.class_words,
    ),
    "attribution": Kind(
        "Attribution to heads",
        (
            "Shows: which heads speak for the right answer and against the wrong one, at the end "
            "of these prompts.",
            "Does not show: what happens without a head. Direct attribution sees only what goes "
            "straight to the output, the gradient only a small change.",
        ),
        pictures=drawn.effects,
        tables=said.effect_tables,
        summary=said.effect_words,
    ),
    "knockout-task": Kind(
        "Answers without each head",
        (
            "Shows: how right answers to the same questions change in each language when one head "
            "is off. Negative is worse.",
            "Does not show: ability in general. It holds for these questions and this prompt.",
        ),
        pictures=drawn.effects,
        tables=said.effect_tables,
        summary=said.effect_words,
    ),
    "replies": Kind(
        "Replies under gates",
        (
            "Shows: what each of these prompts is replied under the gates, and in which language, "
            "beside the untouched model and random heads of the same layers.",
            "Does not show: chance. These are means without intervals, and few draws of random "
            "heads make no p-value; a number within their range is what any heads do.",
        ),
        tables=said_of_generated.generated_tables,
        summary=said_of_generated.generated_words,
    ),
    "offtarget": Kind(
        "Replies that stray",
        (
            "Shows: whether replies come back to the wanted language when heads are off or moved, "
            "beside random heads, and whether they stay sound.",
            "Does not show: good replies. A reply counts as right by its language alone; where NLL "
            "or repetition rise, it may be nothing but words of the right language.",
        ),
        pictures=drawn_of_replies.offtarget,
        tables=said_of_replies.offtarget_tables,
        summary=said_of_replies.offtarget_words,
    ),
    "switch-rate": Kind(
        "Switch rates",
        (
            "Shows: how often replies leave their language when one head is off.",
            "Does not show: a change of language where replies fell apart (open bars, not sound). "
            "The highest of many rates is high by chance as well.",
        ),
        pictures=drawn_of_replies.switching,
        tables=said_of_replies.switch_tables,
        summary=said_of_replies.switch_words,
    ),
    "transfer": Kind(
        "Attention transfer",
        (
            "Shows: whether the answer moves to the fact told in A when A's heads are strengthened "
            "or B's weakened, beside random heads at the same gate.",
            "Does not show: that the heads carry the language. They may carry the place of a fact "
            "in the prompt, which is why both orders are told.",
        ),
        pictures=drawn_of_replies.transfer,
        tables=said_of_transfer.transfer_tables,
        summary=said_of_transfer.transfer_words,
    ),
    "logit-lens": Kind(
        "Logit lens",
        (
            "Shows: at which depth the residual stream of one prompt turns to each answer, with "
            "nothing gated and under gates.",
            "Does not show: a mean or an interval. It is one worked example; the attention "
            "transfer is the test.",
        ),
        pictures=drawn_of_replies.lens,
        tables=said_of_transfer.lens_tables,
    ),
    "qa": Kind(
        "Answers under a mask",
        (
            "Shows: answers to questions that no mask was trained on, under each mask and with "
            "nothing changed, paired by question.",
            "Does not show: that these heads were needed for the gain, unless random heads under a "
            "mask of their own stand beside them.",
        ),
        pictures=drawn_of_replies.answers,
        tables=said_of_replies.qa_tables,
        summary=said_of_replies.qa_words,
    ),
    "head-mask": Kind(
        "Soft head mask",
        (
            "Shows: how the mask was learned, and the gate of each trained head.",
            "Does not show: that it helps on other questions; that is for an evaluation to say.",
        ),
        pictures=_from(
            "figures.mask",
            {
                "mask_training": "How to read it: left the loss as gates are learned, right the "
                "gates; a gate of 1 leaves a head as it was.",
            },
        ),
        anchor="mask",
    ),
    "pruned": Kind(
        "Pruned model",
        (
            "Shows: what the loss of each language rises by when these heads are removed for good, "
            "on held-out text.",
            "Does not show: a smaller or faster model. Heads that were zeroed in place save "
            "neither memory nor time; only those cut out do.",
        ),
        pictures=drawn_of_replies.pruned,
        tables=said_of_pruned.pruned_tables,
        summary=said_of_pruned.pruned_words,
    ),
    "attention": Kind(
        "Attention in context",
        (
            "How to read it: choose a head, then point at a word; shaded are the words that it "
            "looks at. These are single texts, picked to look at and not to prove anything: where "
            "a head looks does not say what it passes on.",
        ),
        anchor="attention-of",
    ),
}
