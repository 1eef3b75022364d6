"""Answers without each head: how answers to questions change when one head is off."""

from langheads.view.contents import Kind
from langheads.view.head_effects import effect_pictures, effect_tables, strongest_words

KIND = Kind(
    "knockout-task",
    "Answers without each head",
    (
        "Shows: how right answers to the same questions change in each language when one head "
        "is off. Negative is worse.",
        "Does not show: ability in general. It holds for these questions and this prompt.",
    ),
    effect_pictures,
    effect_tables,
    lambda result, run: strongest_words(
        result, "Questions: the head without which answers get worst"
    ),
)
