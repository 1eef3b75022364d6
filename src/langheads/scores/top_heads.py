"""The heads of a certified top k, read from its result without the model."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import xarray as xr

from langheads.heads import HeadSet


def top_heads(knockout: xr.Dataset) -> Iterator[tuple[str, str, HeadSet, HeadSet]]:
    """Baseline, language, the heads in the top, largest loss first, and those not separated."""
    asked = np.isfinite(knockout.delta_nats_per_token)
    for baseline, language in itertools.product(
        knockout.baseline.values.tolist(), knockout.language.values.tolist()
    ):
        at = {"baseline": baseline, "language": language}
        ranked = HeadSet.ranked(knockout.delta_nats_per_token.sel(at).values)
        kind = np.where(asked.sel(at), knockout.top.sel(at), 0)
        chosen, unsure = (
            HeadSet([h for h in ranked if kind[h] == of], kind.shape) for of in (1, -1)
        )
        yield baseline, language, chosen, unsure
