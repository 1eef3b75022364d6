"""A headless Chromium that is spoken to through a pipe: scripts, errors, mouse, pictures."""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = os.environ.get("CHROME") or next(filter(None, map(shutil.which, NAMES)), None)
OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    # Containers have little shared memory, and a page of figures needs more.
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    # No page reaches a network, nor do the frames in it.
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-pipe",
]


class Chromium:
    """Opens pages; `errors` are uncaught exceptions and refusals of the page's policy."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        # A browser keeps settings and caches in the home folder, whatever its profile is.
        places = {"HOME": ".", "XDG_CONFIG_HOME": "c", "XDG_CACHE_HOME": "k", "XDG_DATA_HOME": "d"}
        env = os.environ | {name: str(folder / place) for name, place in places.items()}
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()

        def wire():
            # The browser reads commands from 3 and answers on 4.
            low, high = os.dup(to_read), os.dup(to_write)
            os.dup2(low, 3)
            os.dup2(high, 4)

        self._process = subprocess.Popen(
            [BROWSER, *OPTIONS, f"--user-data-dir={folder / 'profile'}", "about:blank"],
            env=env, preexec_fn=wire, close_fds=False,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_read)
        os.close(to_write)
        self._buffer, self._number, self._session = b"", 0, None
        self.errors, self.requests = [], []
        # What a test noted of the page that is open.
        self.shown = None
        self._contexts, self._context = [], None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def close(self):
        os.close(self._to)
        self._process.wait(timeout=30)
        os.close(self._from)

    def send(self, method, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def open(self, page, width=1000, height=900, dark=False):
        self.errors.clear()
        self.requests.clear()
        self.shown = None
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[theme])
        self.resize(width, height)
        self.send("Page.navigate", url=page if "://" in str(page) else Path(page).as_uri())
        end = time.monotonic() + 30
        while self.run("document.readyState + location") == "completeabout:blank" or (
            self.run("document.readyState") != "complete"
        ):
            assert time.monotonic() < end, "page did not load in 30 s"
            time.sleep(0.02)

    def resize(self, width, height):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **size)

    def run(self, script):
        """The value of an expression, awaited where it is a promise."""
        within = {"uniqueContextId": self._context} if self._context else {}
        found = self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True, **within
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    @contextlib.contextmanager
    def inside(self, script):
        """Within the block speaks to the one frame, however deep, in which `script` is true.

        A sandboxed frame runs in a process of its own, which the page cannot look into; frames
        in it may share that process.
        """
        page, end = self._session, time.monotonic() + 20
        try:
            while not self._enter(script):
                self._session = page
                assert time.monotonic() < end, f"no frame in which {script}"
                time.sleep(0.05)
            yield
        finally:
            self._session, self._context = page, None

    def _enter(self, script):
        page = self._session
        for frame in self.send("Target.getTargets")["targetInfos"]:
            if frame["type"] != "iframe":
                continue
            self._session = page
            attached = self.send("Target.attachToTarget", targetId=frame["targetId"], flatten=True)
            self._session = attached["sessionId"]
            self._contexts.clear()
            self.send("Runtime.enable")
            for context in list(self._contexts):
                self._context = context
                if self.run(script):
                    return True
            self._context = None
        return False

    def click(self, x, y):
        for event in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=event, x=x, y=y, button="left", clickCount=1)

    def hover(self, x, y):
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def picture(self, path, full=True):
        data = self.send("Page.captureScreenshot", captureBeyondViewport=full)["data"]
        Path(path).write_bytes(base64.b64decode(data))

    def _read(self):
        while b"\0" not in self._buffer:
            part = os.read(self._from, 1 << 20)
            assert part, "the browser ended"
            self._buffer += part
        line, self._buffer = self._buffer.split(b"\0", 1)
        message = json.loads(line)
        method, said = message.get("method"), message.get("params", {})
        if method == "Runtime.executionContextCreated":
            self._contexts.append(said["context"]["uniqueId"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(said["exceptionDetails"].get("exception", {}).get("description"))
        elif method == "Log.entryAdded" and said["entry"]["level"] == "error":
            self.errors.append(said["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])
        return message
