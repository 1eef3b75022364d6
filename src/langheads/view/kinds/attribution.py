"""Attribution to heads: which speak for the right answer."""

from langheads.view.contents import Kind
from langheads.view.head_effects import effect_pictures, effect_tables, strongest_words

KIND = Kind(
    "attribution",
    "Attribution to heads",
    (
        "Shows: which heads speak for the right answer and against the wrong one, at the end "
        "of these prompts.",
        "Does not show: what happens without a head. Direct attribution sees only what goes "
        "straight to the output, the gradient only a small change.",
    ),
    effect_pictures,
    effect_tables,
    lambda result, run: strongest_words(
        result, "Attribution: the head that speaks most for the right answer"
    ),
)
