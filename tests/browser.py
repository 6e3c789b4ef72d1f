"""A real browser without a window, for pages that load nothing: what they look like, and what lies where."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from PIL import Image

from headrace.tensors import Array

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",  # it needs rights that containers lack; only pages of ours are opened
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_FLAGS = (
    *FLAGS,
    "--host-resolver-rules=MAP * ~NOTFOUND",  # nothing is found, so nothing can be loaded
    "--enable-logging=stderr",
)
_DARK = "--blink-settings=preferredColorScheme=0"
_CONSOLE = re.compile(r"CONSOLE[^\]]*\] (.*)")

# The pages lie in frames of one width, as a window cannot be as narrow as a phone. The page itself stays as
# it is: `look` sees its document from outside.
_FRAMES = """<!doctype html><meta charset="utf-8">
<style>body {{ margin: 0; }} iframe {{ border: 0; display: block; }}</style>
{frames}<pre id="seen"></pre>
<script>
addEventListener("load", () => {{
  const look = (page) => {{ {look} }};
  const pages = [...document.querySelectorAll("iframe")].map((frame) => frame.contentDocument);
  document.getElementById("seen").textContent = JSON.stringify(pages.map(look));
}});
</script>"""


@dataclass(frozen=True, slots=True)
class Seen:
    """A page as it was painted."""

    pixels: Array  # (height, width, 3) uint8
    console: list[str]  # what the browser had to say about it


class Browser:
    """Opens each page in a new profile, and ends."""

    def __init__(self, program: str) -> None:
        self._program = program

    def paint(self, page: str, width: int, height: int, is_dark: bool = False) -> Seen:
        with TemporaryDirectory(prefix="headrace-browser-", ignore_cleanup_errors=True) as folder:
            picture = Path(folder) / "page.png"
            flags = [f"--screenshot={picture}", f"--window-size={width},{height}"]
            run = self._run(Path(folder), page, [*flags, *([_DARK] if is_dark else [])])
            with Image.open(picture) as image:
                pixels = np.asarray(image.convert("RGB"))
        return Seen(pixels, _CONSOLE.findall(run.stderr))

    def look(self, pages: Sequence[str], script: str, width: int, is_dark: bool = False) -> list[Any]:
        """What `script`, the body of a function of `page`, returns for each document at that width."""
        frames = "".join(
            f'<iframe width="{width}" height="6000" srcdoc="{html.escape(page)}"></iframe>' for page in pages
        )
        with TemporaryDirectory(prefix="headrace-browser-", ignore_cleanup_errors=True) as folder:
            outer = _FRAMES.format(frames=frames, look=script)
            run = self._run(Path(folder), outer, ["--dump-dom", *([_DARK] if is_dark else [])])
        found = re.search(r'<pre id="seen">(.+?)</pre>', run.stdout, re.DOTALL)
        assert found, f"the script did not end: {_CONSOLE.findall(run.stderr)}"
        seen: list[Any] = json.loads(html.unescape(found[1]))
        return seen

    def _run(self, folder: Path, page: str, flags: Sequence[str]) -> subprocess.CompletedProcess[str]:
        file = folder / "page.html"
        file.write_text(page, encoding="utf-8")
        return subprocess.run(
            [self._program, *_FLAGS, f"--user-data-dir={folder / 'profile'}", *flags, file.as_uri()],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )


def find_browser() -> Browser:
    """The browser of this machine; without one the test is skipped, but fails in CI."""
    return Browser(find_program())


def find_program() -> str:
    """Where that browser is."""
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        told = f"no browser: put one of {', '.join(_NAMES)} on PATH"
        if os.environ.get("CI"):
            pytest.fail(told)
        pytest.skip(told)
    return program
