"""Pages as a browser lays them out: Chromium without a screen, started once for many of them.

It is driven through its debugging pipe: JSON messages that end with a zero byte, on the
descriptors 3 and 4 (Chrome DevTools Protocol, `--remote-debugging-pipe`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

WIDTHS = (1280, 390)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")

_SAID = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")

_MEASURE = (Path(__file__).parent / "measure.js").read_text()


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a page stands at one width in one scheme.

    dark: whether its ground is dark. figures: pictures that are not folded away. overflow: pixels
    that it is wider than its window. wrong: what a reader would miss, in words.
    """

    dark: bool
    figures: int
    overflow: int
    wrong: tuple[str, ...]


@dataclass
class Browser:
    """A running Chromium, and what its console said since the last page was opened."""

    _to: int
    _from: int
    console: list[str] = field(default_factory=list)
    _session: str | None = None
    _asked: int = 0
    _rest: bytes = b""
    _events: list[dict[str, Any]] = field(default_factory=list)

    def look(self, page: Path, *, width: int, scheme: Literal["light", "dark"]) -> Layout:
        if self._session is None:
            self._open()
        preferred = [{"name": "prefers-color-scheme", "value": scheme}]
        self._ask("Emulation.setEmulatedMedia", features=preferred)
        self._ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.console.clear()
        self._events.clear()
        self._ask("Page.navigate", url=page.absolute().as_uri())
        self._wait("Page.loadEventFired")
        found = self._ask("Runtime.evaluate", expression=_MEASURE, returnByValue=True)["result"]
        self.console += [json.dumps(e["params"]) for e in self._events if e["method"] in _SAID]
        told = found["value"]
        return Layout(**{**told, "wrong": tuple(told["wrong"])})

    def paper(self, page: Path) -> bytes:
        """The page as it is printed, on A4: a PDF."""
        self.look(page, width=WIDTHS[0], scheme="dark")
        self._ask("Emulation.setEmulatedMedia", media="print")
        return b64decode(self._ask("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)["data"])

    def _open(self) -> None:
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        found = self._ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = found["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._ask(f"{domain}.enable")

    def _ask(self, method: str, **params: Any) -> Any:
        self._asked += 1
        message: dict[str, Any] = {"id": self._asked, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data) :]
        while (answer := self._read()).get("id") != self._asked:
            self._events.append(answer)
        return answer["result"]

    def _wait(self, method: str) -> None:
        while not any(e.get("method") == method for e in self._events):
            self._events.append(self._read())

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            read = os.read(self._from, 1 << 20)
            assert read, "the browser is gone"
            self._rest += read
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """folder: where it keeps its profile."""
    assert CHROMIUM is not None
    (for_it, to_it), (from_it, by_it) = os.pipe(), os.pipe()
    flags = "--headless=new --no-sandbox --disable-gpu --remote-debugging-pipe"
    profile = f"--user-data-dir={folder / 'profile'}"
    process = subprocess.Popen(
        # bash puts the two pipes where Chromium looks for them, whatever they are called here
        ["bash", "-c", f'exec "$0" {flags} "$1" 3<&{for_it} 4>&{by_it}', CHROMIUM, profile],
        pass_fds=(for_it, by_it),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(for_it)
    os.close(by_it)
    try:
        yield Browser(_to=to_it, _from=from_it)
    finally:
        os.close(to_it)  # it ends when its pipe does
        os.close(from_it)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
