"""Drive Debian's chromium over its debugging port, and note every request of its pages."""

import contextlib
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from websockets.sync.client import ClientConnection, connect

PROGRAM = shutil.which("chromium")
_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)


class Page:
    """One page of the browser."""

    def __init__(self, line: ClientConnection) -> None:
        self._line, self._numbers = line, itertools.count(1)
        self.requests: list[str] = []
        """Addresses that were asked for, sockets and refused ones too."""
        self.blocked: list[str] = []
        """What the page's policy did not let happen."""
        for domain in ("Network", "Page", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; its result."""
        number = next(self._numbers)
        self._line.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._line.recv(timeout=60))
            self._note(message)
            if message.get("id") == number:
                return dict(message.get("result", {}))

    def listen(self, seconds: float) -> None:
        """Note what the page does for some time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                self._note(json.loads(self._line.recv(timeout=left)))

    def open(self, url: str, seconds: float = 6.0) -> None:
        """Go to an address, and let the page work for some time."""
        self.call("Page.navigate", url=url)
        self.listen(seconds)

    def evaluate(self, script: str) -> Any:
        """Value of an expression of the page; what it promises is awaited."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        return answer["result"].get("value")

    def _note(self, message: dict[str, Any]) -> None:
        method, parameters = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method == "Network.webSocketCreated":
            self.requests.append(parameters["url"])
        elif method == "Log.entryAdded" and "Content Security Policy" in parameters["entry"]["text"]:
            self.blocked.append(parameters["entry"]["text"])


@contextlib.contextmanager
def chromium(folder: Path) -> Iterator[Page]:
    """A page of a new browser, with its profile in a folder."""
    assert PROGRAM is not None
    command = [PROGRAM, *_OPTIONS, f"--user-data-dir={folder}", "about:blank"]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port = _port(folder / "DevToolsActivePort")
        with urlopen(f"http://127.0.0.1:{port}/json") as answer:
            target = next(item for item in json.load(answer) if item["type"] == "page")
        with connect(target["webSocketDebuggerUrl"], max_size=None, proxy=None) as line:
            yield Page(line)
    finally:
        browser.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            browser.wait(10)
        browser.kill()
        browser.wait()


def _port(file: Path) -> int:
    end = time.monotonic() + 60
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < end, "chromium does not start"
        time.sleep(0.1)
    return int(file.read_text().split()[0])
