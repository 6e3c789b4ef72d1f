"""A real browser without a window that is driven while it looks at a live page, by its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp

from tests.browser import FLAGS, find_program

_FLAGS = (
    *FLAGS,
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-port=0",
)
_PATIENCE_S = 30.0
_LOOK_S = 0.1
_MOST_BYTES = 256 << 20  # of a message: a picture of a long page
KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "ArrowLeft": 37, "ArrowRight": 39}


class Tab:
    """One page, in a window of its own."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reading = asyncio.create_task(self._read())
        self.console: list[str] = []  # warnings, errors and exceptions
        self.asked_for: list[str] = []  # addresses
        self.events: list[str] = []  # data of server-sent events, the last ones

    async def do(self, method: str, **parameters: Any) -> dict[str, Any]:
        """What a command of the protocol returns."""
        self._number += 1
        answer = self._answers[self._number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        async with asyncio.timeout(_PATIENCE_S):  # wait_for of Python 3.11 may lose a timeout around it
            return await answer

    async def run(self, script: str) -> Any:
        """The value of an expression, a promise's included."""
        told = await self.do("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    async def until(self, script: str, seconds: float = _PATIENCE_S) -> Any:
        """The first value of an expression that is true."""
        try:
            async with asyncio.timeout(seconds):
                while not (value := await self.run(script)):  # noqa: ASYNC110 - pages have no events for it
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError as err:
            raise AssertionError(
                f"not within {seconds} s: {script}; the browser says: {self.console}"
            ) from err
        return value

    async def open(self, url: str) -> None:
        await self.do("Page.navigate", url=url)
        await self.until("document.readyState === 'complete'")

    async def size(self, width: int, height: int) -> None:
        await self.do(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    async def prefer(self, **features: str) -> None:
        """Such as prefers_color_scheme="dark"."""
        told = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        await self.do("Emulation.setEmulatedMedia", features=told)

    async def press(self, key: str) -> None:
        code = KEYS[key]
        told: dict[str, Any] = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        if key in ("Enter", " "):
            told["text"] = "\r" if key == "Enter" else " "
        await self.do("Input.dispatchKeyEvent", type="keyDown", **told)
        await self.do("Input.dispatchKeyEvent", type="keyUp", **told)

    async def write(self, text: str) -> None:
        """Into what has the focus."""
        await self.do("Input.insertText", text=text)

    async def picture(self, path: Path, most: int = 4000) -> None:
        """Of the whole page as a PNG, `most` pixels high at most."""
        height = min(most, await self.run("document.documentElement.scrollHeight"))
        width = await self.run("innerWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        shot = await self.do("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        await asyncio.to_thread(_write, path, base64.b64decode(shot["data"]))

    async def tree(self) -> list[tuple[str, str]]:
        """Role and name of all that a screen reader gets to know."""
        nodes = (await self.do("Accessibility.getFullAXTree"))["nodes"]
        return [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in nodes
            if not node.get("ignored")
        ]

    async def close(self) -> None:
        self._reading.cancel()
        await self._socket.close()

    async def _read(self) -> None:
        async for message in self._socket:
            told = json.loads(message.data)
            if "id" in told:
                self._answer(told)
            else:
                self._hear(told["method"], told["params"])

    def _answer(self, told: dict[str, Any]) -> None:
        answer = self._answers.pop(told["id"])
        if answer.done():
            return
        if "error" in told:
            answer.set_exception(AssertionError(told["error"]["message"]))
        else:
            answer.set_result(told["result"])

    def _hear(self, method: str, told: dict[str, Any]) -> None:
        match method:
            case "Runtime.exceptionThrown":
                details = told["exceptionDetails"]
                self.console.append(details.get("exception", {}).get("description", details["text"]))
            case "Log.entryAdded":
                self.console.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
            case "Runtime.consoleAPICalled":
                self.console.append(str(told["args"]))
            case "Network.requestWillBeSent":
                self.asked_for.append(told["request"]["url"])
            case "Network.eventSourceMessageReceived":
                self.events.append(told["data"])
                del self.events[:-30]


@asynccontextmanager
async def tab() -> AsyncIterator[Tab]:
    """A page of a browser with a new profile, which ends with the block."""
    with TemporaryDirectory(prefix="headrace-browser-", ignore_cleanup_errors=True) as folder:
        command = [find_program(), *_FLAGS, f"--user-data-dir={folder}", "about:blank"]
        nowhere = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(*command, stdout=nowhere, stderr=nowhere)
        try:
            port = await _port(Path(folder) / "DevToolsActivePort", process)
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    pages = [page for page in await answer.json() if page["type"] == "page"]
                socket = await session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=_MOST_BYTES)
                found = Tab(socket)
                try:
                    for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
                        await found.do(f"{domain}.enable")
                    yield found
                finally:
                    await found.close()
        finally:
            process.terminate()
            await process.wait()


async def _port(file: Path, process: asyncio.subprocess.Process) -> int:
    async with asyncio.timeout(_PATIENCE_S):
        while not (words := await asyncio.to_thread(_words, file)):
            assert process.returncode is None, "the browser has ended"
            await asyncio.sleep(_LOOK_S)
    return int(words[0])


def _words(file: Path) -> list[str]:
    return file.read_text().split() if file.exists() else []


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
