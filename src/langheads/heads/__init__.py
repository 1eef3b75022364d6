"""Attention heads by name, sets of them, and the files that say which head serves which language.

`langheads.heads.classes` and `langheads.heads.mask` hold the other two files about heads; masks
bring torch along, so they are imported where they are used.
"""

from langheads.heads.head_set import Head, HeadSet, as_head_set, require_shape
from langheads.heads.language_heads import LanguageHeads, planted_of, read_planted

__all__ = [
    "Head",
    "HeadSet",
    "LanguageHeads",
    "as_head_set",
    "planted_of",
    "read_planted",
    "require_shape",
]
