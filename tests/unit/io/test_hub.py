"""A Hub that does not answer is asked once and told once."""

import http.server
import json
import shutil
import threading
from contextlib import nullcontext
from types import SimpleNamespace

import huggingface_hub.constants
import pytest
import torch

import langheads
from langheads.io import hub
from langheads.io.errors import InputError, ModelError
from langheads.model.checkpoint import check_hub

COMMIT = "0" * 40


@pytest.fixture
def broken(monkeypatch, tmp_path):
    """A Hub that fails, with a cache of its own; the requests that it was sent."""
    sent = []

    class Broken(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            sent.append((self.command, self.path))
            self.send_response(503)
            self.end_headers()

        do_GET = do_HEAD

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Broken)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    known = huggingface_hub.constants
    monkeypatch.setattr(known, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(known, "ENDPOINT", url)
    monkeypatch.setattr(
        known, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/{revision}/{filename}"
    )
    monkeypatch.setattr(known, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield url, sent
    server.shutdown()
    server.server_close()


def download(folder, cache):
    kept = cache / "models--who--tiny"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text(COMMIT)
    (kept / "snapshots").mkdir()
    (kept / "snapshots" / COMMIT).symlink_to(folder)


def test_a_model_that_is_not_downloaded_is_refused_after_one_request(broken):
    url, sent = broken
    with pytest.raises(ModelError) as refused:
        langheads.load("who/tiny")
    assert str(refused.value) == (
        f"no model who/tiny: not a local folder, not downloaded before, and {url} does not answer "
        "(HTTP 503); give a folder, or demo"
    )
    assert sent == [("HEAD", "/")]


def test_a_model_that_is_downloaded_is_taken_and_it_is_told_once(
    broken, tiny_folder, tiny, tmp_path, caplog, capfd
):
    url, sent = broken
    download(tiny_folder, tmp_path / "cache")
    model = langheads.load("who/tiny", device="cpu")
    assert sent == [("HEAD", "/")]
    told = f"{url} does not answer (HTTP 503); who/tiny is taken as it was downloaded before"
    assert [record.message for record in caplog.records if record.levelno > 20] == [told]
    assert capfd.readouterr().err == ""
    assert not huggingface_hub.constants.HF_HUB_OFFLINE
    for ours, theirs in zip(
        model.original_model.parameters(), tiny.original_model.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("layers", [3, 10**6])
def test_headers_of_weights_that_are_downloaded_are_not_asked_for(
    broken, tiny_folder, tmp_path, monkeypatch, layers
):
    folder, asked = shutil.copytree(tiny_folder, tmp_path / "tiny"), []
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": layers}))
    download(folder, tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    ask = lambda *given, **_: asked.append(given)  # noqa: E731
    monkeypatch.setattr("transformers.utils.has_file", ask)
    monkeypatch.setattr("huggingface_hub.HfApi.get_safetensors_metadata", ask)
    refused = nullcontext() if layers == 3 else pytest.raises(ModelError)
    with refused as told:
        langheads.load("who/tiny", device="cpu")
    assert told is None or str(told.value) == (
        "config.json of who/tiny says num_hidden_layers 1000000, but it stores weights of 3 layers"
    )
    assert asked == broken[1] == []
    # Of another commit nothing is here.
    with pytest.raises(ModelError, match=r"^no \*\.safetensors in who/tiny; "):
        check_hub("who/tiny", "1" * 40)
    assert len(asked) == 2


def test_a_data_set_is_refused_after_one_request(broken):
    url, sent = broken
    with pytest.raises(InputError) as refused:
        langheads.read_texts("hf:who/texts")
    assert str(refused.value) == (
        f"cannot read data set hf:who/texts: {url} does not answer (HTTP 503)"
    )
    assert sent == [("HEAD", "/")]


def test_nothing_is_asked_where_it_must_not_be(broken, monkeypatch, tiny_folder):
    _, sent = broken
    langheads.load(tiny_folder, device="cpu")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert hub.why_silent() == ""
    assert sent == []


def test_a_slow_hub_is_told(broken, monkeypatch, caplog):
    url, _ = broken
    times = iter([100.0, 107.4])
    monkeypatch.setattr(hub.time, "monotonic", lambda: next(times))
    session = SimpleNamespace(head=lambda url, timeout: SimpleNamespace(status_code=404))
    monkeypatch.setattr("huggingface_hub.utils.get_session", lambda: session)
    assert hub.why_silent() == ""
    assert caplog.messages == [f"{url} is slow: 7 s for one request"]
