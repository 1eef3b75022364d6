"""Attention heads by name, sets of them, and the files that say which head serves which language.

`langheads.heads.classes` and `langheads.heads.mask` hold the other two files about heads; masks
bring torch along, so they are imported where they are used.
"""

from langheads.heads.head_set import Head, HeadSet, LanguageHeads

__all__ = ["Head", "HeadSet", "LanguageHeads"]
