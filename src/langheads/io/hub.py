"""The Hugging Face Hub where it does not answer: one request finds out, and one warning says so.

Its client tries every file of a model six times, with a warning each, which takes a minute.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from langheads.io.errors import ModelError, logger

# Seconds for one small request; loading a model makes some tens of them.
_SLOW = 3.0


def why_silent() -> str:
    """Why the Hub does not answer; empty where it does, or where it is switched off."""
    from huggingface_hub import constants, is_offline_mode
    from huggingface_hub.utils import get_session

    if is_offline_mode():
        return ""
    started = time.monotonic()
    try:
        found = get_session().head(constants.ENDPOINT, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except Exception as error:
        # The client passes on errors of the system, of TLS and of proxies.
        why = str(error).strip().partition("\n")[0] or type(error).__name__
    else:
        if found.status_code < 500:
            if (took := time.monotonic() - started) > _SLOW:
                logger.warning("%s is slow: %.0f s for one request", constants.ENDPOINT, took)
            return ""
        why = f"HTTP {found.status_code}"
    return f"{constants.ENDPOINT} does not answer ({why})"


@contextmanager
def hub_or_cache(name: str, revision: str | None) -> Iterator[None]:
    """A block that reads a model of the Hub, from the cache alone where the Hub does not answer.

    For a local folder it does nothing. Raises `ModelError` where neither has the model.
    """
    why = "" if Path(name).is_dir() else why_silent()
    if not why:
        yield
        return
    from huggingface_hub import constants, try_to_load_from_cache

    try:
        cached = try_to_load_from_cache(name, "config.json", revision=revision)
    except ValueError:
        cached = None  # not a name that the Hub could have
    if not isinstance(cached, str):
        raise ModelError(
            f"no model {name}: not a local folder, not downloaded before, and {why}; give a "
            "folder, or demo"
        )
    logger.warning("%s; %s is taken as it was downloaded before", why, name)
    # The client has no other switch for requests that other libraries make.
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = False
