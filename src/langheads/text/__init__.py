"""Texts: reading, a fixed order with a held-out end, tokens once; which language a reply is in."""

from langheads.text.confusion import (
    Confusion,
    Rules,
    language_confusion,
    mean_confusion,
    right_language,
    switch_rate,
    word_list,
)
from langheads.text.corpus import Corpus, reaches_into, read_texts, seen_before, source_name
from langheads.text.degeneration import (
    degeneration_checks,
    prompt_copy_share,
    repetition_share,
)
from langheads.text.documents import (
    Documents,
    beginning,
    bos_prefix,
    length_batches,
    pad_right,
    tokenize,
)
from langheads.text.identify import Detector, detector
from langheads.text.questions import QA_TEMPLATE, Question, Questions, read_questions

__all__ = [
    "QA_TEMPLATE",
    "Confusion",
    "Corpus",
    "Detector",
    "Documents",
    "Question",
    "Questions",
    "Rules",
    "beginning",
    "bos_prefix",
    "degeneration_checks",
    "detector",
    "language_confusion",
    "length_batches",
    "mean_confusion",
    "pad_right",
    "prompt_copy_share",
    "reaches_into",
    "read_questions",
    "read_texts",
    "repetition_share",
    "right_language",
    "seen_before",
    "source_name",
    "switch_rate",
    "tokenize",
    "word_list",
]
