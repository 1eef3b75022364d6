"""Size and speed of attention views in headless Chromium.

    python tests/bench/attention.py

Bounds: 512 tokens x 16 heads below 5 MB of HTML, and an answer within a second to a click on
another head and to pointing at another word. The second table is of the matrices of all heads.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from langheads.view.attention.patterns import AttentionData, AttentionPatterns, ShownHead
from langheads.view.attention.show import AttentionView
from tests.browser.chromium import Chromium

# From the event until the browser has painted: two frames, since the first may be under way.
TIMED = """(async () => {
  const start = performance.now();
  %s;
  await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
  return performance.now() - start;
})()"""
CLICK = "document.querySelectorAll('button.head')[%d].click()"
POINT = (
    "document.querySelectorAll('.unit')[%d]"
    ".dispatchEvent(new PointerEvent('pointerover', {bubbles: true}))"
)
# All heads are there with their canvases, one more for the large one.
OPEN = """document.querySelector('details').open = true;
  while (document.querySelectorAll('canvas').length < %d)
    await new Promise(done => setTimeout(done, 5))"""


def made_up(n_heads: int, n_tokens: int, contexts: int = 1) -> AttentionView:
    """Random patterns, which compress no better than any."""
    rng = np.random.default_rng(0)
    weights = np.tril(rng.exponential(size=(n_heads, n_tokens, n_tokens)) ** 3)
    patterns = weights / weights.sum(axis=2, keepdims=True)
    tokens = tuple(rng.choice([" cat", "猫", " बिल्ली", " القطة", "แม"], n_tokens))
    context = AttentionPatterns("text", tokens, patterns)
    heads = tuple(ShownHead(f"L{i}H0", "en", 0.01) for i in range(n_heads))
    return AttentionView(AttentionData(heads, (context,) * contexts, "lahis"))


def longest(browser: Chromium, scripts: list[str]) -> float:
    """Milliseconds of the slowest of these events."""
    return max(browser.run(TIMED % script) for script in scripts)


with tempfile.TemporaryDirectory() as folder:
    browser, page = Chromium(Path(folder) / "home"), Path(folder) / "page.html"
    print("heads  tokens  texts   html MB  load ms  switch ms  point ms")
    for n_heads, n_tokens, contexts in [(16, 512, 1), (8, 512, 2), (16, 128, 2), (4, 64, 2)]:
        made_up(n_heads, n_tokens, contexts).save(page)
        browser.open(page)
        load = browser.run("performance.getEntriesByType('navigation')[0].loadEventEnd")
        switch = longest(browser, [CLICK % i for i in range(n_heads)])
        point = longest(browser, [POINT % i for i in range(0, n_tokens, n_tokens // 16)])
        size = page.stat().st_size / 1e6
        print(
            f"{n_heads:5}{n_tokens:8}{contexts:7}{size:10.2f}{load:9.0f}{switch:11.0f}{point:10.0f}"
        )
        assert not browser.errors, browser.errors
    print("all heads as matrices\nheads  tokens     cells  draw ms")
    for n_heads, n_tokens in [(4, 32), (4, 64), (8, 64), (4, 128), (8, 128), (16, 128)]:
        made_up(n_heads, n_tokens).save(page)
        browser.open(page)
        drawn = browser.run(TIMED % (OPEN % (n_heads + 1)))
        print(f"{n_heads:5}{n_tokens:8}{(n_heads + 1) * n_tokens**2:10}{drawn:9.0f}")
    browser.close()
