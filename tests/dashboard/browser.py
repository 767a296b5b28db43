"""A headless browser, and the rules of accessibility that a page is checked against.

The browser is driven by the WebDriver protocol itself, a few requests of JSON.
"""

import json
import shutil
import subprocess
import time
import warnings
from base64 import b64decode
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from testing.broker.process import free_port

AXE = "axe-core@4.14.1"
PHONE, SCREEN = (390, 844), (1280, 1000)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars",
)  # fmt: skip


class Browser:
    """A headless Chromium with an empty profile; skips, with a warning, where there is none."""

    def __init__(self, folder: Path) -> None:
        chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
        if chromium is None or chromedriver is None:
            text = "NO BROWSER: nobody looked at the live page (install chromium and chromedriver)"
            warnings.warn(pytest.PytestWarning(text), stacklevel=2)
            pytest.skip(text)
        port = free_port()
        self._url = f"http://127.0.0.1:{port}"
        self._driver = subprocess.Popen(
            [chromedriver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        options = {"binary": chromium, "args": [*FLAGS, f"--user-data-dir={folder}"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        for _ in range(100):
            try:
                self._ask("GET", "/status")
                break
            except OSError:
                time.sleep(0.2)
        made = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._url += f"/session/{made['sessionId']}"

    def _ask(self, method: str, path: str, body=None):
        data = None if method == "GET" else json.dumps(body or {}).encode()
        request = Request(
            self._url + path, data, {"Content-Type": "application/json"}, method=method
        )
        with urlopen(request, timeout=120) as answer:
            return json.loads(answer.read())["value"]

    def get(self, url: str) -> None:
        self._ask("POST", "/url", {"url": url})

    def run(self, script: str, *args):
        return self._ask("POST", "/execute/sync", {"script": script, "args": args})

    def run_async(self, script: str, *args):
        return self._ask("POST", "/execute/async", {"script": script, "args": args})

    def protocol(self, command: str, **params):
        return self._ask("POST", "/goog/cdp/execute", {"cmd": command, "params": params})

    def resize(self, size: tuple[int, int]) -> None:
        self.protocol(
            "Emulation.setDeviceMetricsOverride",
            width=size[0], height=size[1], deviceScaleFactor=1, mobile=size[0] == PHONE[0],
        )  # fmt: skip

    def scheme(self, name: str) -> None:
        feature = {"name": "prefers-color-scheme", "value": name}
        self.protocol("Emulation.setEmulatedMedia", features=[feature])

    def errors(self) -> list[str]:
        """What the console has told of errors since the last call."""
        log = self._ask("POST", "/se/log", {"type": "browser"})
        return [m["message"] for m in log if m["level"] == "SEVERE"]

    def save(self, path: Path) -> None:
        """A picture of the whole page."""
        path.write_bytes(b64decode(self._ask("GET", "/screenshot")))

    def close(self) -> None:
        try:
            self._ask("DELETE", "")
        finally:
            self._driver.terminate()
            self._driver.wait(20)


def axe(folder: Path) -> str:
    """The source of axe-core, from the package registry; empty where it cannot be had."""
    npm = shutil.which("npm")
    if npm is None:
        return ""
    done = subprocess.run(
        [npm, "pack", "--silent", AXE], cwd=folder, capture_output=True, timeout=120, check=False
    )
    if done.returncode:
        return ""
    shutil.unpack_archive(next(folder.glob("axe-core-*.tgz")), folder / "axe", filter="data")
    return (folder / "axe" / "package" / "axe.min.js").read_text()


def violations(browser: Browser, source: str) -> list[str]:
    """What axe finds wrong with the page as it is."""
    # by the protocol, not as a script element: the page's own policy stands
    browser.protocol("Runtime.evaluate", expression=source)
    found = browser.run_async(
        "const done = arguments[0]; axe.run(document).then(r => done(r.violations), "
        "e => done([{id: String(e), nodes: []}]))"
    )
    return [f"{v['id']}: {[n['target'] for n in v['nodes']][:3]}" for v in found]
