"""One browser for all pages; it has no network."""

import pytest

from tests.browser.chromium import Chromium


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    made = Chromium(tmp_path_factory.mktemp("chromium"))
    off = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    made.send("Network.emulateNetworkConditions", **off)
    yield made
    made.close()
