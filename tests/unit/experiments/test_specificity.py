"""The specificity matrix against a plain Hugging Face model whose weights are edited by hand."""

import contextlib
import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import xarray as xr
from safetensors.torch import load_file, save_file

import langheads
from langheads.experiments.held_out import check_held_out, held_out
from langheads.experiments.specificity.summarise import Plan, specificity
from langheads.heads import HeadSet, LanguageHeads
from langheads.io.errors import InputError, ProvenanceError
from langheads.model import describe
from langheads.text import Documents, read_texts
from tests.models.zoo import hugging_face, projection, w_o

NAME, SHAPE, D_HEAD = "llama-gqa", (3, 4), 8
SEED, SCORED, DOCS, CONTROLS = 5, 4, 3, 4
SPECIFIC = {"en": ["L0H1", "L2H3"], "zh": ["L1H0", "L1H2"], "hi": []}
GENERAL = ["L0H0"]


@pytest.fixture(scope="module")
def heads(tiny, texts):
    provenance = describe(tiny) | {
        "seed": SEED,
        "docs": SCORED,
        "scored_up_to": json.dumps(read_texts(texts, seed=SEED).cutoffs(SCORED)),
    }
    return LanguageHeads(
        specific={language: HeadSet(names, SHAPE) for language, names in SPECIFIC.items()},
        general=HeadSet(GENERAL, SHAPE),
        model="tiny",
        rule={"name": "by hand"},
        provenance=provenance,
    )


@pytest.fixture(scope="module")
def proof(tiny, heads, texts):
    return langheads.ablate(tiny, heads, texts, docs=DOCS, n_controls=CONTROLS)


@pytest.fixture(scope="module")
def corpus(texts):
    return read_texts(texts, seed=SEED)


@pytest.fixture
def plain():
    return hugging_face(NAME)


def token_ids(text):
    """BOS, then a token a byte: the tokenizer's alphabet is sorted, after 3 special tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={t: i + 3 for i, t in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    ids = torch.tensor([[1, *backend.encode(text).ids]])
    assert ids.shape[1] == 1 + len(text.encode()) <= 256
    return ids


@torch.no_grad()
def nll(model, text):
    ids = token_ids(text)
    return F.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:], reduction="sum").item()


def rise(off, texts, on):
    total = sum(nll(off, text) - on[text] for text in texts)
    return total / sum(len(text.encode()) for text in texts)


def zeroed(names):
    model = hugging_face(NAME)
    for head in HeadSet(names, SHAPE):
        w_o(model, NAME, head.layer, head.head).zero_()
    return model


def test_zero_ablation_is_zeroing_the_heads_slice_of_w_o(proof, corpus, plain):
    back = corpus.back(DOCS)
    on = {text: nll(plain, text) for texts in back.values() for text in texts}
    for row, names in {**SPECIFIC, "general": GENERAL}.items():
        if not names:
            continue
        model = zeroed(names)
        for language, texts in back.items():
            cell = proof.sel(baseline="zero", heads_of=row, text_of=language)
            expected = rise(model, texts, on)
            assert cell.delta_nats_per_byte.item() == pytest.approx(expected, abs=2e-6)
            assert abs(expected) > 1e-4
            tokens = sum(len(text.encode()) for text in texts)
            perplexity = np.exp(sum(nll(model, text) for text in texts) / tokens)
            assert cell.perplexity_off.item() == pytest.approx(perplexity, rel=1e-4)
            by_document = [np.exp(nll(model, text) / len(text.encode())) for text in texts]
            found = cell.perplexity_by_document_off.item()
            assert found == pytest.approx(np.mean(by_document), rel=2e-5)
            # Documents differ in loss and length, so that the two are not the same number.
            assert found != pytest.approx(perplexity, rel=1e-4)
    for language, texts in back.items():
        n_bytes = sum(len(text.encode()) for text in texts)
        per_byte = sum(on[text] for text in texts) / n_bytes
        assert proof.nats_per_byte.sel(text_of=language).item() == pytest.approx(per_byte, rel=1e-5)
        by_document = np.mean([np.exp(on[text] / len(text.encode())) for text in texts])
        found = proof.perplexity_by_document.sel(text_of=language).item()
        assert found == pytest.approx(by_document, rel=1e-4)
        counts = proof[["docs", "skipped", "bytes", "tokens"]].sel(text_of=language)
        assert [int(counts[name]) for name in counts] == [DOCS, 0, n_bytes, n_bytes]


@torch.no_grad()
def mean_inputs_of_w_o(model, texts):
    """[layer, d_model]: over all positions of all texts, BOS too."""
    seen = [[] for _ in range(SHAPE[0])]
    with contextlib.ExitStack() as stack:
        for layer in range(SHAPE[0]):
            handle = projection(model, NAME, layer).register_forward_pre_hook(
                lambda module, args, layer=layer: seen[layer].append(args[0][0])
            )
            stack.callback(handle.remove)
        for text in texts:
            model(token_ids(text))
    return torch.stack([torch.cat(rows).mean(dim=0) for rows in seen])


def test_mean_ablation_is_the_mean_of_other_documents_in_the_heads_place(proof, corpus, plain):
    back = corpus.back(DOCS)
    on = {text: nll(plain, text) for texts in back.values() for text in texts}
    # The first documents that the proof does not use, as many as it uses, a language an equal part.
    mean = torch.stack(
        [mean_inputs_of_w_o(plain, corpus.texts[language][:DOCS]) for language in back]
    ).mean(dim=0)

    def put(module, args, layer, head):
        z = args[0].clone()
        part = slice(head * D_HEAD, (head + 1) * D_HEAD)
        z[..., part] = mean[layer, part]
        return (z,)

    for head in HeadSet(SPECIFIC["en"], SHAPE):
        projection(plain, NAME, head.layer).register_forward_pre_hook(
            lambda module, args, head=head: put(module, args, *head)
        )
    for language, texts in back.items():
        cell = proof.delta_nats_per_byte.sel(baseline="mean", heads_of="en", text_of=language)
        assert cell.item() == pytest.approx(rise(plain, texts, on), abs=2e-6)


def test_controls_are_random_heads_of_the_same_layers(tiny, heads, texts, corpus, monkeypatch):
    drawn = []
    original = HeadSet.matched_sets

    def matched_sets(self, n, rng):
        drawn.extend((self, some) for some in original(self, n, rng))
        return [some for _, some in drawn[-n:]]

    monkeypatch.setattr(HeadSet, "matched_sets", matched_sets)
    proof = langheads.ablate(tiny, heads, texts, docs=DOCS, n_controls=2, baseline="zero")
    # en, zh and general differ in their numbers a layer; hi has no heads.
    assert [str(own) for own, _ in drawn] == 2 * ["L0H1 L2H3"] + 2 * ["L1H0 L1H2"] + 2 * ["L0H0"]
    assert all(own.per_layer() == control.per_layer() for own, control in drawn)
    plain, control = hugging_face(NAME), zeroed(drawn[3][1])
    back = corpus.back(DOCS)["en"]
    on = {text: nll(plain, text) for text in back}
    cell = proof.control_delta.sel(baseline="zero", heads_of="zh", text_of="en", control=1)
    assert cell.item() == pytest.approx(rise(control, back, on), abs=2e-6)
    rows = proof.control_delta.sel(heads_of=["en", "zh", "general"])
    spread = abs(rows[:, :, 0] - rows[:, :, 1])
    np.testing.assert_allclose(
        proof.control_mean.sel(heads_of=["en", "zh", "general"]), rows.mean("control")
    )
    # Standard error of the mean of two: half of their distance.
    np.testing.assert_allclose(
        proof.control_se.sel(heads_of=["en", "zh", "general"]), spread / 2, atol=1e-12
    )


def test_a_language_without_heads_is_a_row_of_nan(proof):
    for name in ("delta_nats_per_byte", "delta_se", "control_mean", "perplexity_off"):
        assert proof[name].sel(heads_of="hi").isnull().all()
        assert proof[name].sel(heads_of=["en", "zh", "general"]).notnull().all()
    assert proof.n_heads.sel(heads_of=["en", "hi", "general"]).values.tolist() == [2, 0, 1]
    assert str(proof.heads.sel(heads_of="zh").item()) == "L1H0 L1H2"
    assert proof.diagonal_share.notnull().all()


def test_the_diagonal_is_that_of_the_rows_with_heads(proof):
    for baseline in ("zero", "mean"):
        delta = proof.delta_nats_per_byte.sel(baseline=baseline)
        margins, ahead = [], []
        for language in ("en", "zh"):
            row = delta.sel(heads_of=language)
            own, others = row.sel(text_of=language), row.drop_sel(text_of=language)
            margins.append(float(own - others.mean()))
            ahead.append(bool((own > others).all()))
        at = proof.sel(baseline=baseline)
        assert at.own_minus_others.item() == pytest.approx(np.mean(margins))
        assert at.diagonal_share.item() == np.mean(ahead)
        for p in (at.diagonal_p.item(), at.own_minus_others_p.item()):
            assert 1 / (1 + CONTROLS) <= p <= 1


def test_the_same_seed_gives_the_same_numbers(tiny, heads, texts, proof):
    again = langheads.ablate(tiny, heads, texts, docs=DOCS, n_controls=CONTROLS)
    xr.testing.assert_equal(again, proof)
    small = langheads.ablate(
        tiny, heads, texts, docs=DOCS, n_controls=CONTROLS, baseline="zero", batch_tokens=1
    )
    for name in ("delta_nats_per_byte", "control_delta"):
        np.testing.assert_allclose(small[name][0], proof.sel(baseline="zero")[name], atol=2e-6)
    other = langheads.ablate(tiny, heads, texts, docs=DOCS, n_controls=CONTROLS, seed=1,
                             allow_overlap=True)  # fmt: skip
    assert not other.control_delta.equals(proof.control_delta)


def test_the_result_says_what_it_is_made_of(proof, tiny, heads, tmp_path):
    assert proof.attrs["kind"] == "ablation"
    expected = {"seed": SEED, "docs": DOCS, "controls": CONTROLS, "overlap": 0, "bos": 1,
                "scored_docs": SCORED, "layers": 3, "heads": 4, "max_tokens": 256}  # fmt: skip
    assert {key: proof.attrs[key] for key in expected} == expected
    assert json.loads(proof.attrs["rule"]) == heads.rule
    assert proof.attrs["weight_hash"] == describe(tiny)["weight_hash"]
    langheads.save(proof, tmp_path / "a.nc")
    xr.testing.assert_identical(langheads.load_result(tmp_path / "a.nc", "ablation"), proof)


def test_scored_documents_are_refused_unless_allowed(tiny, heads, texts):
    few = {"docs": 10, "n_controls": 2, "baseline": "zero"}
    # 12 documents, 4 scored from the front, 10 asked for from the back: 2 in each language.
    told = r"^6 of the documents asked for were used .* or may have been .4 a language were.; ask"
    with pytest.raises(ProvenanceError, match=told):
        langheads.ablate(tiny, heads, texts, **few)
    assert langheads.ablate(tiny, heads, texts, **few, allow_overlap=True).attrs["overlap"] == 6
    # The order of another seed mixes the two ends; the scored documents stay those scored.
    scored = {t for v in read_texts(texts, seed=SEED).front(SCORED).values() for t in v}
    asked = {t for v in read_texts(texts, seed=0).back(8).values() for t in v}
    with pytest.raises(ProvenanceError, match=f"^{len(scored & asked)} of the documents"):
        langheads.ablate(tiny, heads, texts, docs=8, seed=0)


def test_scored_documents_are_known_again_in_another_corpus(tiny, heads, texts):
    """By content: neither texts added nor texts taken away hide what was scored."""
    few = {"n_controls": 2, "baseline": "zero", "docs": 12}
    scored = read_texts(texts, seed=SEED).front(SCORED)
    more = {language: [*of, "One text more."] for language, of in texts.items()}
    with pytest.raises(ProvenanceError, match="used to score these heads, or may have been"):
        langheads.ablate(tiny, heads, more, docs=13)
    fewer = {
        language: [t for t in of if t not in scored[language]] for language, of in texts.items()
    }
    assert langheads.ablate(tiny, heads, fewer, **few).attrs["overlap"] == 0
    with pytest.raises(ProvenanceError, match=r"^3 of the documents"):
        langheads.ablate(tiny, heads, {k: [*v, scored[k][0]] for k, v in fewer.items()}, **few)
    # Heads written by hand say nothing of what they were scored on.
    by_hand = LanguageHeads(heads.specific, heads.general, "tiny")
    assert langheads.ablate(tiny, by_hand, fewer, **few).attrs["overlap"] == -1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"baseline": "median"}, "baseline median asked for; allowed are zero, mean"),
        ({"baseline": []}, "baseline none asked for"),
        ({"n_controls": 1}, "1 controls asked for; at least 2 are needed"),
        ({"docs": 0}, "0 documents asked for"),
        ({"languages": ["fr"]}, "no texts for language fr"),
    ],
)
def test_an_argument_out_of_range_is_told(tiny, heads, texts, arguments, message):
    with pytest.raises(InputError, match=message):
        langheads.ablate(tiny, heads, texts, **{"docs": DOCS} | arguments)


def test_no_heads_at_all_is_told(tiny, texts):
    none = LanguageHeads({"en": HeadSet([], SHAPE)}, HeadSet(GENERAL, SHAPE), "tiny")
    with pytest.raises(InputError, match=r"no language has specific heads.*lower --quantile"):
        langheads.ablate(tiny, none, texts)


def test_heads_of_other_languages_are_told(tiny, texts):
    french = LanguageHeads({"fr": HeadSet(["L0H0"], SHAPE)}, HeadSet([], SHAPE), "tiny")
    with pytest.raises(InputError, match="is for fr, the texts are in en, zh, hi"):
        langheads.ablate(tiny, french, texts)


def test_heads_of_another_shape_are_refused(tiny, texts):
    larger = LanguageHeads({"en": HeadSet(["L0H0"], (40, 32))}, HeadSet([], (40, 32)), "large")
    with pytest.raises(ProvenanceError, match="40 layers x 32 heads, but this one has 3 x 4"):
        langheads.ablate(tiny, larger, texts)


def test_heads_of_other_weights_are_refused(tiny_folder, heads, texts, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "other")
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ProvenanceError, match=r"the head set was made with weights .*make it again"
    ):
        langheads.ablate(langheads.load(folder, device="cpu"), heads, texts)


def test_one_language_has_no_diagonal(tiny, heads, texts):
    proof = langheads.ablate(tiny, heads, texts, languages=["en"], docs=DOCS, n_controls=2)
    for name in ("diagonal_share", "diagonal_p", "own_minus_others", "own_minus_others_p"):
        assert proof[name].isnull().all()
    assert proof.delta_nats_per_byte.sel(heads_of="en").notnull().all()


def test_scored_documents_are_known_again_in_other_case_and_space(tiny, texts):
    """A trailing space or a changed case made them new."""
    scores = langheads.score(tiny, texts, method="lahis", docs=4)
    scored = read_texts(texts, seed=0).front(4)
    again = {x: [f"  {text.upper()} " for text in of] for x, of in scored.items()}
    with pytest.raises(ProvenanceError, match="12 of the documents asked for were used to score"):
        check_held_out(again, scores.attrs, allow_overlap=False)
    assert check_held_out(again, scores.attrs, allow_overlap=True) == 12
    back = read_texts(texts, seed=0).back(8)
    assert check_held_out(back, scores.attrs, allow_overlap=False) == 0


def test_every_unit_is_the_same_rise_by_another_count_of_the_same_text(proof, corpus, plain):
    back = corpus.back(DOCS)
    on = {text: nll(plain, text) for texts in back.values() for text in texts}
    off = zeroed(SPECIFIC["zh"])
    for language, texts in back.items():
        cell = proof.delta_by_unit.sel(baseline="zero", heads_of="zh", text_of=language)
        total = sum(nll(off, text) - on[text] for text in texts)
        # This tokenizer has a token a byte, so the two counts are equal here.
        tokens = sum(token_ids(text).shape[1] - 1 for text in texts)
        assert cell.sel(unit="nats per token").item() == pytest.approx(total / tokens, abs=2e-6)
        whole = sum(on[text] for text in texts)
        assert cell.sel(unit="share of the loss").item() == pytest.approx(total / whole, abs=2e-6)
    at = proof.sel(baseline="zero", heads_of="zh")
    sets = np.concatenate([at.delta_nats_per_byte.values[None], at.control_delta.values])
    cost = np.nanmean(np.abs(sets), axis=0)
    relative, noise = sets[0] / cost, at.delta_se.values / cost
    share = relative / (np.abs(relative) + noise).mean()
    found = at.delta_by_unit.sel(unit="random heads' effect").values
    np.testing.assert_allclose(found, share, rtol=1e-12)
    own = list(proof.text_of.values).index("zh")
    expected = share[own] - np.delete(share, own).mean()
    assert at.specific.item() == pytest.approx(expected, rel=1e-12)
    assert 1 / (1 + CONTROLS) <= at.specific_p.item() <= 1


def test_statistics_by_unit_are_those_of_the_matrix_in_that_unit(proof):
    rows = [row for row, names in SPECIFIC.items() if names]
    for unit in proof.unit.values:
        at = proof.sel(baseline="mean", unit=unit)
        ahead, margins = [], []
        for row in rows:
            rises = at.delta_by_unit.sel(heads_of=row)
            own, others = rises.sel(text_of=row), rises.drop_sel(text_of=row)
            ahead.append(bool((own > others).all()))
            margins.append((own - others.mean()).item())
        assert at.diagonal_share_by_unit.item() == np.mean(ahead)
        assert at.own_minus_others_by_unit.item() == pytest.approx(np.mean(margins), rel=1e-12)
    first = proof.sel(unit="nats per byte")
    for name in ("diagonal_share", "diagonal_p", "own_minus_others", "own_minus_others_p"):
        np.testing.assert_array_equal(first[f"{name}_by_unit"], proof[name])


def aligned_texts(texts, tmp_path):
    """Lines as translations of each other, cut to the shortest language."""
    n = min(map(len, texts.values()))
    for language, of in texts.items():
        (tmp_path / f"{language}.txt").write_text("\n".join(of[:n]))
    return tmp_path, {language: of[:n] for language, of in texts.items()}


def test_paired_difference_is_over_translations(tiny, heads, texts, tmp_path, plain):
    folder, lines = aligned_texts(texts, tmp_path)
    proof = langheads.ablate(
        tiny, heads, folder, docs=DOCS, n_controls=2, aligned=True, allow_overlap=True
    )
    assert proof.attrs["aligned"] == 1
    back = read_texts(folder, seed=SEED, aligned=True).back(DOCS)
    numbers = {tuple(lines[lang].index(t) for t in of) for lang, of in back.items()}
    assert len(numbers) == 1
    off = zeroed(SPECIFIC["zh"])
    rises = {lang: np.array([nll(off, t) - nll(plain, t) for t in of]) for lang, of in back.items()}
    others = np.mean([of for lang, of in rises.items() if lang != "zh"], axis=0)
    at = proof.sel(baseline="zero", heads_of="zh")
    paired = rises["zh"] - others
    assert at.own_minus_others_paired.item() == pytest.approx(paired.mean(), rel=1e-4)
    error = paired.std(ddof=1) / np.sqrt(DOCS)
    assert at.own_minus_others_paired_se.item() == pytest.approx(error, rel=1e-3)
    per_document = at.delta_by_unit.sel(unit="nats per document", text_of="zh").item()
    assert per_document == pytest.approx(rises["zh"].mean(), rel=1e-4)


def test_a_document_scored_in_another_language_is_no_proof_where_texts_are_aligned(
    tiny, heads, texts, tmp_path
):
    folder, _ = aligned_texts(texts, tmp_path)
    seen = read_texts(folder, languages=["en"], seed=SEED, aligned=True)
    marks = {"scored": json.dumps(seen.marks(2)), "docs": 2, "seed": SEED}
    proof = read_texts(folder, languages=["zh"], seed=SEED, aligned=True).front(3)
    assert check_held_out(proof, marks, allow_overlap=True) == 0
    assert check_held_out(proof, marks, allow_overlap=True, across=True) == 2


def test_controls_and_perplexity_are_counted_by_hand():
    """Two documents of 3 tokens, the first not predicted, and of 10 and 30 bytes."""
    own, *others = (HeadSet([f"L0H{i}"], (1, 5)) for i in range(5))
    documents = {
        language: dataclasses.replace(
            Documents.of_rows(language, [[1, 2, 3]] * 2), n_bytes=np.array([10, 30])
        )
        for language in ("en", "zh")
    }
    plan = Plan({"en": own}, {"en": others}, ["zero"])
    rises = {"en": [2, 3, 2, 1, 0], "zh": [1, 0, 0, 0, 0]}
    losses = {
        language: np.array([[5.0, *(5.0 + rise for rise in of)]] * 2)
        for language, of in rises.items()
    }
    found = specificity(plan, losses, documents, np.random.default_rng(0), {}).sel(heads_of="en")
    # Two of four random sets reach the rise in en, and none that in zh.
    np.testing.assert_allclose(found.control_p[0], [3 / 5, 1 / 5])
    np.testing.assert_allclose(found.control_mean[0], [2 * 1.5 / 40, 0])
    np.testing.assert_allclose(found.perplexity, np.exp([10 / 4, 10 / 4]))
    np.testing.assert_allclose(found.perplexity_off[0], np.exp([14 / 4, 12 / 4]))
    np.testing.assert_allclose(found.nats_per_byte, [10 / 40, 10 / 40])
    by_unit = found.delta_by_unit[0].sel(text_of="en")
    rises_of_en = {"nats per byte": 4 / 40, "nats per token": 4 / 4, "share of the loss": 4 / 10}
    for unit, expected in rises_of_en.items():
        assert by_unit.sel(unit=unit).item() == pytest.approx(expected)


@pytest.mark.parametrize("bos", [True, False])
def test_a_proof_is_read_as_the_scores_were(tiny, texts, bos):
    scored = {"bos": int(bos), "max_tokens": 9, "seed": 3}
    found = held_out(tiny, scored, texts, docs=2)
    assert found.settings == {"docs": 2, "max_tokens": 9, "bos": bos}
    back = read_texts(texts, seed=3).back(2)
    for language, documents in found.documents.items():
        expected = [token_ids(text)[0, 0 if bos else 1 :][:9] for text in back[language]]
        for tokens, by_hand in zip(documents.tokens, expected, strict=True):
            assert torch.equal(tokens, by_hand)


def test_documents_read_with_bos_for_scores_without_are_told(tiny, texts, caplog):
    held_out(tiny, {"bos": 0}, texts, docs=2, bos=True)
    assert caplog.messages == [
        "the heads were scored without BOS, and these documents are read with it"
    ]
    with pytest.raises(InputError, match=r"^0 documents asked for; at least 1 is needed$"):
        held_out(tiny, {}, texts, docs=0)
    assert held_out(tiny, {}, texts).settings["docs"] == 12


def test_what_was_scored_apart_does_not_say_which_translations_were(tiny, texts):
    scored = {"scored": json.dumps(read_texts({"en": texts["en"]}).marks(2)), "docs": 2}
    alone = {"zh": texts["zh"], "hi": texts["hi"]}
    assert held_out(tiny, scored, alone, docs=2, aligned=True).overlap == -1
    assert held_out(tiny, scored, alone, docs=2, aligned=False).overlap == 0
    assert held_out(tiny, scored | {"aligned": 1}, alone, docs=2).overlap == 0
    same = {"en": texts["en"]}
    assert held_out(tiny, scored, same, aligned=True, allow_overlap=True).overlap == 2


def test_one_scored_document_is_refused(texts):
    corpus = read_texts(texts, seed=0)
    scored = {"scored": json.dumps(corpus.marks(1)), "docs": 1, "seed": 0}
    proof = {"en": corpus.texts["en"][:3]}
    with pytest.raises(ProvenanceError, match=r"^1 of the documents asked for were used to score"):
        check_held_out(proof, scored, allow_overlap=False)
    assert check_held_out({"en": corpus.texts["en"][1:]}, scored, allow_overlap=False) == 0


def test_random_heads_anywhere_are_switched_off_once(tiny, heads, texts, corpus, plain, proof):
    """Nine of twelve heads, which match no row, against their slices of W_O set to zero."""
    given = {"docs": DOCS, "n_controls": CONTROLS, "baseline": "zero"}
    found = langheads.ablate(tiny, heads, texts, n_random=9, **given)
    off = str(found.random_heads.item()).split()
    assert len(HeadSet(off, SHAPE)) == 9
    model = zeroed(off)
    for language, of in corpus.back(DOCS).items():
        on = {text: nll(plain, text) for text in of}
        here = found.sel(baseline="zero", text_of=language)
        assert here.random_heads_delta.item() == pytest.approx(rise(model, of, on), abs=2e-6)
        losses, sizes = [nll(model, text) for text in of], [len(text.encode()) for text in of]
        perplexity = np.exp(sum(losses) / sum(sizes))
        assert here.random_heads_perplexity_off.item() == pytest.approx(perplexity, rel=1e-4)
        by_document = np.exp(np.array(losses) / sizes).mean()
        assert here.random_heads_perplexity_by_document_off.item() == pytest.approx(
            by_document, rel=1e-4
        )
    # The chosen heads and their matched sets are as without them.
    same = found.delta_nats_per_byte, found.control_delta
    as_before = (proof[of.name].sel(baseline=["zero"]) for of in same)
    for one, other in zip(same, as_before, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-7)
    assert "random_heads" not in proof
    with pytest.raises(InputError) as caught:
        langheads.ablate(tiny, heads, texts, n_random=13, **given)
    assert str(caught.value) == "13 random heads asked for; allowed are 0 to 12, all of the model"
