"""Modules that hold formulas and safeguards, and the tests that their mutants must fail."""

# Of the architectures one, whose tests take a tenth of the time.
_OTHERS = ["mha", "mqa", "mistral", "cohere", "qwen", "gemma", "olmo", "neox", "bloom", "gpt2"]
_ONE = ["-k", f"not ({' or '.join(_OTHERS)})"]
_GATES = ["-k", f"not ({' or '.join([*_OTHERS, 'heads_by_name', 'and_a_language'])})"]
_DIGESTS = ["-k", "of_the_package or digests"]
_PARTS = ["-k", "test_parts or waits"]
_MATCHED = "tests/unit/experiments/test_matched_heads.py"
# Those that simulate, or switch heads off in all languages, take a hundred times as long.
_QUICK = ["-k", "not carried"]
_HELD_OUT = ["-k", "test_held_out or as_the_scores or apart or one_scored or without_are_told"]
# But for those that wait for a process to come to the end of its time.
_NETCDF = ["-k", "not loops and not all_name"]
TESTS = {
    "stats.py": ["tests/unit/test_stats.py"],
    "scores/formulas.py": [
        "tests/unit/scores/test_formulas.py",
        "tests/unit/selection/test_contrast.py::test_pseudo_values_are_those_of_the_jackknife",
    ],
    "experiments/specificity/diagonal.py": [_MATCHED, "tests/unit/test_stats.py", *_QUICK],
    "experiments/matched_heads.py": [
        _MATCHED,
        "tests/unit/test_stats.py::test_p_is_small_for_a_planted_diagonal",
        *_QUICK,
    ],
    "experiments/held_out.py": [
        "tests/unit/experiments/test_held_out.py",
        "tests/unit/experiments/test_specificity.py",
        *_HELD_OUT,
    ],
    "selection/count.py": [
        "tests/unit/selection/test_count.py",
        "tests/unit/selection/test_contrast.py::test_select_takes_them_by_falling_contrast",
    ],
    "selection/contrast.py": [
        "tests/unit/selection/test_contrast.py",
        "-k",
        "not demo and not english and not noisier",
    ],
    "scores/quadrature.py": [
        "tests/oracle/test_quadrature.py",
        "-k",
        "not knock_out and not resampled and not bare",
    ],
    "scores/sampled_knockout.py": ["tests/unit/scores/test_sampled_knockout.py"],
    "scores/top_knockout.py": ["tests/unit/scores/test_top_knockout.py"],
    "model/gates.py": ["tests/models/test_gates.py", "tests/unit/test_given.py", *_GATES],
    "model/fused_attention.py": ["tests/models/test_attention.py", *_ONE],
    "model/nll.py": ["tests/models/test_losses.py", *_ONE],
    "model/hook_z.py": ["tests/models/test_replay.py", "tests/models/test_state.py", *_ONE],
    "model/self_test.py": ["tests/models/test_self_test.py", *_ONE],
    "model/chunked_losses.py": ["tests/models/test_chunked_losses.py", *_ONE],
    "model/checkpointing.py": ["tests/models/test_checkpointing.py", *_ONE],
    "model/identity.py": ["tests/unit/model/test_identity.py"],
    "model/checkpoint.py": ["tests/models/test_checkpoint.py"],
    "model/own_tokenizer.py": ["tests/models/test_own_tokenizer.py"],
    "io/netcdf.py": ["tests/unit/io/test_netcdf.py", *_NETCDF],
    "io/part_file.py": ["tests/unit/io/test_parts.py", "-k", "a_part or a_gradient"],
    "io/digest.py": ["tests/unit/io/test_parts.py", "tests/unit/io/test_shards.py", *_DIGESTS],
    "io/parts.py": ["tests/unit/io/test_parts.py", "tests/unit/io/test_shards.py", *_PARTS],
    "io/estimate.py": ["tests/unit/io/test_parts.py", "-k", "estimate"],
    "io/sources.py": [
        "tests/unit/view/test_belonging.py",
        "-k",
        "content or another_model or order or readable or chain",
    ],
    "view/belonging.py": ["tests/unit/view/test_belonging.py"],
    "heads/same_model.py": ["tests/unit/heads/test_same_model.py"],
    "text/aligned.py": ["tests/unit/text/test_corpus.py"],
    "text/degeneration.py": [
        "tests/unit/io/test_measures.py",
        "tests/unit/text/test_confusion.py",
        "-k",
        "checks or by_hand",
    ],
    "text/documents.py": ["tests/unit/text/test_documents.py", "-k", "not millions"],
    "text/corpus.py": ["tests/unit/text/test_corpus.py"],
    "heads/head_set.py": ["tests/unit/heads/test_head_set.py"],
}

_PROOF = "tests/unit/experiments/test_specificity.py::test_"
_FUSED = "tests/models/test_attention.py::test_"
# Made by hand, and once survivors: (module, its text, what it becomes, the test that fails).
BY_HAND = [
    (
        "experiments/specificity/summarise.py",
        "_beside(delta, control)",
        "_beside(delta, every)",
        f"{_PROOF}controls_and_perplexity_are_counted_by_hand",
    ),
    (
        "experiments/specificity/summarise.py",
        "predicted = documents.n_predicted[:, None]",
        "predicted = documents.n_bytes[:, None]",
        f"{_PROOF}controls_and_perplexity_are_counted_by_hand",
    ),
    (
        "scores/exact_knockout.py",
        "found.nll.sum() / of.n_bytes.sum()",
        "found.nll.sum() / of.n_predicted.sum()",
        "tests/oracle/test_knockout.py::test_the_loss_per_byte_where_tokens_are_fewer",
    ),
    (
        "experiments/held_out.py",
        "bos = as_scored if bos is None else bos",
        "as_scored = as_scored if bos is None else bos",
        f"{_PROOF}a_proof_is_read_as_the_scores_were",
    ),
    (
        "experiments/held_out.py",
        "if overlap > 0 and",
        "if overlap > 1 and",
        f"{_PROOF}one_scored_document_is_refused",
    ),
    (
        "model/fused_attention.py",
        "_trusted[model] = _equal_to_eager(model)",
        "_trusted[model] = True",
        f"{_FUSED}a_kernel_that_differs_is_not_trusted",
    ),
    (
        "model/fused_attention.py",
        "off = (nll - eager_nll).abs().max() > ",
        "off = 0 * (nll - eager_nll).abs().max() > ",
        f"{_FUSED}losses_and_the_gradients_of_each_layer_must_agree",
    ),
    (
        "text/degeneration.py",
        "for token in tokens if token not in ends",
        "for token in tokens",
        "tests/unit/experiments/test_replies.py::test_end_tokens_are_not_counted_as_repetition",
    ),
    (
        "selection/contrast.py",
        "np.stack(drawn), counts) >= observed",
        "np.stack(drawn), counts) > observed",
        "tests/unit/selection/test_contrast.py::"
        "test_labels_as_they_are_reach_the_observed_contrast",
    ),
]
