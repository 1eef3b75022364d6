"""What removing heads for good costs on texts, beside random heads.

For every language, over paired documents (see `langheads.stats.paired_ratio`):

    rise         = (NLL by the pruned model - NLL by the model) / UTF-8 bytes
    control_mean = mean of the same over random head sets, as many heads in each layer, at gate 0
    control_p    = (1 + random sets whose rise is at least as large) / (1 + random sets)

Gate 0 stands for a removed head, as `langheads.prune` checks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from transformer_lens.model_bridge import TransformerBridge

from langheads.experiments.held_out import losses_with_heads_off
from langheads.heads import HeadSet
from langheads.io.progress import progress_bar
from langheads.stats import paired_ratio, permutation_p
from langheads.text import Documents


def random_heads(removed: HeadSet, n_controls: int, seed: int) -> list[HeadSet]:
    """Different random head sets with as many heads in each layer; all where there are fewer."""
    return removed.matched_sets(n_controls, np.random.default_rng(seed))


def losses_before_and_after(
    before: TransformerBridge,
    after: TransformerBridge,
    random: Sequence[HeadSet],
    documents: Mapping[str, Documents],
    batch_tokens: int | str,
) -> dict[str, dict[str, float | None]]:
    """Language -> loss of the model and of the pruned one, nats per byte, and what random heads do.

    ``before``, ``after``, ``rise`` with ``rise_low`` and ``rise_high``, the ends of its 95%
    interval (1.96 standard errors; None for one document); with random heads ``control_mean``,
    ``control_low`` and ``control_high`` (2.5% and 97.5% of the sets) and ``control_p``.
    """
    found: dict[str, dict[str, float | None]] = {}
    steps = (len(random) + 1) * sum(map(len, documents.values()))
    with progress_bar(total=steps, unit="doc", desc="prune") as bar:
        for language, of in documents.items():
            conditions = [(some, None) for some in random]
            on, *off = losses_with_heads_off(before, of, conditions, batch_tokens, bar).T
            pruned = losses_with_heads_off(after, of, [], batch_tokens, bar)[:, 0]
            bar.update(len(of))
            rise, se = map(float, paired_ratio(on, pruned, of.n_bytes))
            size = of.n_bytes.sum()
            found[language] = {
                "before": float(on.sum() / size),
                "after": float(pruned.sum() / size),
                "rise": rise,
                # JSON has no NaN.
                "rise_low": rise - 1.96 * se if np.isfinite(se) else None,
                "rise_high": rise + 1.96 * se if np.isfinite(se) else None,
            }
            if off:
                rises = np.array([(losses - on).sum() / size for losses in off])
                low, high = np.quantile(rises, [0.025, 0.975]).tolist()
                found[language] |= {
                    "control_mean": float(rises.mean()),
                    "control_low": low,
                    "control_high": high,
                    "control_p": float(permutation_p(np.array([rise]), rises[:, None])[0]),
                }
    return found
