"""All scores under their names: which passes over the documents each takes, and running them.

A pass is shared by every score made from it: one pass of gate gradients gives `lahis`,
`lahis-paper`, `taylor` and `grad_abs`. What a pass costs is counted in forwards of every document,
a backward as two.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from langheads.io.errors import InputError
from langheads.model import head_shape
from langheads.scores import activation
from langheads.scores.gradient import (
    SCORES,
    SEQUENTIAL,
    SEQUENTIAL_UNITS,
    gate_gradients,
    lahis_sequential,
)
from langheads.scores.quadrature import PASSES, quadrature
from langheads.text import Documents

HeadMap = Float[np.ndarray, "layer head"]

# Method -> the passes that it takes. Every run makes the gradient pass, for NLL and `helpful`.
PASSES_OF: dict[str, tuple[str, ...]] = {
    "lahis": ("gradient",),
    "lahis-paper": ("gradient",),
    SEQUENTIAL: ("sequential",),
    "taylor": ("gradient",),
    "quadrature": ("gradient", "quadrature"),
    "grad-act": ("grad-act",),
    "output-norm": ("norms",),
    "entropy": ("norms",),
    "random": (),
}
FORWARDS = {"gradient": 3, "sequential": 3, "quadrature": 3 * PASSES, "grad-act": 3, "norms": 1}
METHODS = tuple(PASSES_OF)
UNITS = {
    **{name: score.units for name, score in SCORES.items()},
    **activation.UNITS,
    SEQUENTIAL: SEQUENTIAL_UNITS,
    "quadrature": "nats per token",
    "random": "none",
    "grad_abs": "nats per token",
    "helpful": "share",
}


def forward_equivalents(method: str) -> int:
    """What a method costs in forwards of every document."""
    return sum(FORWARDS[name] for name in PASSES_OF.get(method, ("gradient",)))


@dataclass
class Measured:
    """What was measured.

    Attributes:
        maps: score -> language -> ``[layer, head]``; standard errors under ``<score>_se``.
        gradients: language -> gate gradients ``[doc, layer, head]``, nats per token.
        nats_per_byte: language -> NLL with nothing off.
        seconds: pass -> seconds, all languages together.
    """

    maps: dict[str, dict[str, HeadMap]] = field(default_factory=dict)
    gradients: dict[str, Float[np.ndarray, "doc layer head"]] = field(default_factory=dict)
    nats_per_byte: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, language: str, values: HeadMap) -> None:
        """Keep a language's map of a score."""
        self.maps.setdefault(name, {})[language] = values

    def add_mean(self, name: str, language: str, rows: Float[np.ndarray, "doc layer head"]) -> None:
        """A score that is a mean over documents, with its standard error."""
        self.add(name, language, rows.mean(axis=0))
        error = rows.std(axis=0, ddof=1) / np.sqrt(len(rows)) if len(rows) > 1 else np.nan
        self.add(f"{name}_se", language, np.broadcast_to(error, rows.shape[1:]))

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the seconds inside the block to a pass."""
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


def measure_scores(
    model: TransformerBridge,
    documents: Mapping[str, Documents],
    methods: Sequence[str],
    *,
    seed: int = 0,
    batch_tokens: int | str = "auto",
) -> Measured:
    """Run every pass that the methods take, once.

    Args:
        model: the model.
        documents: language -> documents.
        methods: names out of `METHODS`.
        seed: of `quadrature` and `random`.
        batch_tokens: tokens a batch.

    Raises:
        LangheadsError: see the measurements.
    """
    if "entropy" in methods and len(documents) < 2:
        raise InputError("entropy compares languages: it needs at least 2")
    found = Measured()
    passes = list(dict.fromkeys(["gradient", *(p for name in methods for p in PASSES_OF[name])]))
    rounds = len(passes) + (PASSES - 1 if "quadrature" in passes else 0)
    norms: dict[str, HeadMap] = {}
    with tqdm(total=rounds * sum(map(len, documents.values())), unit="doc", desc="score") as bar:
        for number, (language, of_language) in enumerate(documents.items()):
            bar.set_postfix_str(language)
            with found.timed("gradient"):
                g, nll = gate_gradients(model, of_language, batch_tokens=batch_tokens, progress=bar)
            found.gradients[language] = g
            total = (nll * of_language.n_predicted).sum()
            found.nats_per_byte[language] = total / of_language.n_bytes.sum()
            for name in methods:
                if name in SCORES:
                    found.add(name, language, SCORES[name].values(g))
                    found.add(f"{name}_se", language, SCORES[name].standard_error(g))
            if "sequential" in passes:
                with found.timed("sequential"):
                    values = lahis_sequential(model, of_language, progress=bar)
                found.add(SEQUENTIAL, language, values)
            if "quadrature" in passes:
                with found.timed("quadrature"):
                    rows = quadrature(
                        model,
                        of_language,
                        g,
                        seed=[seed, number],
                        batch_tokens=batch_tokens,
                        progress=bar,
                    )
                found.add_mean("quadrature", language, rows)
            if "grad-act" in passes:
                with found.timed("grad-act"):
                    rows = activation.gradient_activations(
                        model, of_language, batch_tokens=batch_tokens, progress=bar
                    )
                found.add_mean("grad-act", language, rows)
            if "norms" in passes:
                with found.timed("norms"):
                    rows = activation.output_norms(
                        model, of_language, batch_tokens=batch_tokens, progress=bar
                    )
                norms[language] = rows.mean(axis=0)
                if "output-norm" in methods:
                    found.add_mean("output-norm", language, rows)
            if "random" in methods:
                rng = np.random.default_rng([seed, number])
                found.add("random", language, rng.random(head_shape(model)))
            found.add("grad_abs", language, np.abs(g).mean(axis=0))
            found.add("helpful", language, (g < 0).mean(axis=0))
    if "entropy" in methods:
        found.maps["entropy"] = activation.activation_entropy(norms)
    return found
