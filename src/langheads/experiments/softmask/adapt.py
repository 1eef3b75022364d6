"""Soft head mask: the gates of a few heads, learned from questions of one language.

As in arXiv 2511.07498, section 5.3: the whole model is frozen; the gates m of the given
heads start at 1 and AdamW (learning rate 1e-2) steps them for 2 epochs over 200 questions. The
loss counts only the tokens of the answers:

    L(m) = - sum_i sum_k log p(y_ik | context_i, question_i, y_i,<k; m) / number of answer tokens

over the questions i of a step. Gates are float32 or wider whatever the model's dtype. Departures:
the released code takes the heads of the highest score, general ones among them; here the heads are
given (``select --rule top`` chooses those). It steps after every question, and asks in the
language; here `batch_size` and `template` decide. Its split is by position in XQuAD; here whole
contexts go to one side, in an order fixed by a seed. The gates of the last step are kept, as there;
the loss on validation questions is recorded but not used. More: `langheads.experiments.published`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from langheads.experiments.published import published
from langheads.experiments.softmask import training
from langheads.heads import LanguageHeads
from langheads.heads import heads_of as of_language
from langheads.heads.given import ByLanguage, Named
from langheads.heads.mask import HeadMask, baseline_digest
from langheads.io.errors import InputError
from langheads.io.results import provenance
from langheads.model import all_heads_of, describe, require_heads_of, token_budget
from langheads.scores.answers import tokenize_answers
from langheads.text import QA_TEMPLATE, Corpus, Question, Questions, read_questions
from langheads.text.questions import template_in


@published
def adapt(
    model: TransformerBridge,
    heads: Named | ByLanguage,
    questions: str | Path | Mapping[str, Sequence[Mapping[str, Any]]] | Questions,
    *,
    language: str,
    heads_of: str | None = None,
    train: int = 200,
    epochs: int = 2,
    learning_rate: float = 1e-2,
    weight_decay: float = 1e-2,
    batch_size: int = 4,
    validation: float = 0.1,
    template: str = QA_TEMPLATE,
    as_published: bool = False,
    baseline: Float[Tensor, "layer head d_head"] | None = None,
    max_tokens: int = 2048,
    seed: int = 0,
    bos: bool | None = None,
    batch_tokens: int | str = "auto",
) -> HeadMask:
    """Learn the gates of the given heads on questions of one language.

    Args:
        model: the model; it is not changed.
        heads: the heads whose gates are learned: a head set of languages, or heads.
        questions: see `read_questions`.
        language: which of their languages.
        heads_of: of a head set of languages, which language's heads, or ``general``; by default
            those of `language`.
        train: questions to train on; no test question shares a context with one of them.
        epochs: times that each is used, in a new order.
        learning_rate: of AdamW.
        weight_decay: of AdamW; AdamW's and the paper's default. In every step it pulls gates
            towards 0 by `learning_rate` times this times the gate.
        batch_size: questions a step.
        validation: questions, as a share of `train`, whose loss is recorded meanwhile.
        template: of the prompt, with the fields ``{context}`` and ``{question}``; or ``language``
            for one in the language.
        as_published: as the paper and its released code have it; see
            `langheads.experiments.published`. Refuses what is given otherwise.
        baseline: what stands in for a head at gate 0, see `langheads.gated`.
        max_tokens: longer questions are left out.
        seed: order of contexts and of steps.
        bos: prepend BOS; None does what the model's tokenizer does by default.
        batch_tokens: tokens a forward, padding included; a step that has more takes several
            forwards, with the same result.

    Returns:
        The gates, with losses and split.

    Raises:
        InputError: no heads or one that the model does not have, unusable questions or template,
            too few questions, numbers out of range.
        ProvenanceError: a head set of another model.
        NonFiniteError: a loss or gradient is NaN or infinite; names the step.
        OutOfMemoryError: see `map_documents`.

    Memory: activations of a batch, once for the backward pass.

    Example:
        >>> from langheads import gated
        >>> mask = adapt(model, ["L1H2", "L2H7"], "questions/", language="hi", train=8)
        >>> with gated(model, mask.gates()):
        ...     logits = model(tokens)
    """
    how = training.Training(
        epochs, batch_size, learning_rate, weight_decay, baseline, seed, batch_tokens
    )
    template = template_in(template, language)
    token_budget(model, batch_tokens)
    given, described = heads, describe(model)
    if as_published:
        require_raw_top(heads)
    if isinstance(heads, LanguageHeads | Mapping):
        heads = of_language(require_heads_of(model, heads), heads_of or language)
    chosen = all_heads_of(model, heads)
    everything = read_questions(questions, languages=[language], seed=seed)
    asked, tokens = tokenize_answers(
        model, everything, template=template, max_tokens=max_tokens, max_new_tokens=0, bos=bos
    )
    examples, answers = asked.examples[language], tokens[language]
    split = training.split_by_context(examples, train=train, validation=validation)
    values, losses = training.train_gates(model, chosen, answers, split, how)
    trained_on = tuple(examples[i].with_answer(template) for i in split.train)
    texts = Corpus({language: trained_on}, everything.source, seed)
    settings = {
        "train": len(split.train), "validation": len(split.validation), "epochs": epochs,
        "steps": len(losses["train"]), "optimizer": "AdamW", "learning_rate": learning_rate,
        "weight_decay": weight_decay, "batch_size": batch_size, "template": template,
        "baseline": baseline_digest(baseline), "max_tokens": max_tokens, "seed": seed,
        "bos": answers.texts.bos,
    }  # fmt: skip
    return HeadMask(
        heads=chosen,
        values=tuple(values.tolist()),
        language=language,
        model=described["model"],
        settings=settings,
        losses=losses,
        split=_named(everything.examples[language], examples, split),
        provenance=provenance(
            "head-mask", described, texts, sources=[given], docs=len(split.train)
        ),
    )


def require_raw_top(heads: Named | ByLanguage) -> None:
    """Refuse heads that `select` did not choose by the rule ``top``; heads by name are accepted."""
    if isinstance(heads, LanguageHeads) and heads.rule.get("name") != "top":
        raise InputError(
            f"heads of the rule {heads.rule.get('name', 'not recorded')!r:.60} given, but as "
            "published they are those of the highest score; choose them with the rule top"
        )


def _named(
    everything: Sequence[Question], examples: Sequence[Question], split: training.ContextSplit
) -> dict[str, Any]:
    """The split in ids, for the mask; `everything` includes questions too long to train on."""
    used = [examples[i] for i in (*split.train, *split.validation, *split.spare)]
    contexts = list(dict.fromkeys(question.context_digest for question in used))
    return {
        "train": [examples[i].id for i in split.train],
        "validation": [examples[i].id for i in split.validation],
        "seen": [q.id for q in everything if q.context_digest in contexts],
        "contexts": contexts,
        "test": len(split.test),
    }
