"""A tiny model in a folder, as the command line takes it, and texts for it."""

import json
import shutil

import pytest

SENTENCES = {
    "en": "the cat sleeps on the warm stone",
    "zh": "猫在暖和的石头上睡觉",
    "hi": "बिल्ली गर्म पत्थर पर सोती है",
}


@pytest.fixture(scope="session")
def tiny_folder(zoo, tmp_path_factory):
    """Llama with grouped queries: 3 layers of 4 heads, a token a byte, BOS."""
    return zoo.save("llama-gqa", tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def bare_folder(tiny_folder, tmp_path_factory):
    """The same model with a tokenizer that has no BOS."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    folder = shutil.copytree(tiny_folder, tmp_path_factory.mktemp("bare") / "model")
    tokens = [*map("<unused{}>".format, range(3)), *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=backend).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny(tiny_folder):
    import langheads

    return langheads.load(tiny_folder, device="cpu")


@pytest.fixture(scope="session")
def texts():
    """12 documents in each of 3 languages, of different length."""
    return {
        language: [" ".join([sentence] * (1 + i % 3)) + f" {i}" for i in range(12)]
        for language, sentence in SENTENCES.items()
    }


@pytest.fixture(scope="session")
def texts_folder(texts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    for language, documents in texts.items():
        lines = [json.dumps({"text": document}, ensure_ascii=False) for document in documents]
        (folder / f"{language}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def full_disk():
    """A block in which the system refuses to let any file grow beyond some bytes."""
    import contextlib
    import resource

    @contextlib.contextmanager
    def limited(n_bytes):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited
