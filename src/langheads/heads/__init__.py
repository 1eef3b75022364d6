"""Attention heads by name, sets of them, and the files that say which head serves which language.

`langheads.heads.classes` and `langheads.heads.mask` hold the other two files about heads; masks
bring torch along, so they are imported where they are used.
"""

from langheads.heads.given import as_language_heads, every_head, one_head_set
from langheads.heads.head_set import Head, HeadSet, as_head_set, require_shape
from langheads.heads.language_heads import (
    GENERAL,
    LanguageHeads,
    heads_of,
    planted_of,
    read_planted,
)

__all__ = [
    "GENERAL",
    "Head",
    "HeadSet",
    "LanguageHeads",
    "as_head_set",
    "as_language_heads",
    "every_head",
    "heads_of",
    "one_head_set",
    "planted_of",
    "read_planted",
    "require_shape",
]
