"""Attention heads by name, sets of them, and the files that say which head serves which language.

`langheads.heads.classes` and `langheads.heads.mask` hold the other two files about heads. Masks
import torch, so they are imported only where they are used.
"""

from langheads.heads.given import as_language_heads as as_language_heads
from langheads.heads.given import every_head as every_head
from langheads.heads.given import one_head_set as one_head_set
from langheads.heads.head_set import Head as Head
from langheads.heads.head_set import HeadSet as HeadSet
from langheads.heads.head_set import as_head_set as as_head_set
from langheads.heads.head_set import require_shape as require_shape
from langheads.heads.language_heads import GENERAL as GENERAL
from langheads.heads.language_heads import LanguageHeads as LanguageHeads
from langheads.heads.language_heads import heads_of as heads_of
from langheads.heads.language_heads import planted_of as planted_of
from langheads.heads.language_heads import read_planted as read_planted
