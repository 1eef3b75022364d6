"""From scores to heads: the count rule, the contrast rule, and the four classes."""
