"""Which ports are free, and who holds one that is not."""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Collection

import psutil

from headrace.errors import ConfigRejected

_FREE = range(20_000, 30_000)  # Linux gives 32768 to 60999 to connections, Serve 30000 and more to replicas


_given: set[int] = set()  # by this process: who got one may not listen on it yet


def free_ports(count: int, besides: Collection[int] = ()) -> list[int]:
    """Different TCP ports that nobody has on any address, `besides` left out: none of those that the system
    gives to connections, one of which may be that of a connection by the time somebody listens; and of those
    that were given before none, as long as there are others."""
    found: list[int] = []
    ports = [port for port in random.sample(_FREE, len(_FREE)) if port not in besides]
    for port in sorted(ports, key=_given.__contains__):
        with socket.socket() as sock:
            try:
                sock.bind(("", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            _given.update(found)
            return found
    raise ConfigRejected(f"no {count} of the ports {_FREE[0]} to {_FREE[-1]} are free")


def holder(port: int) -> str | None:
    """Who listens on a TCP port, as "NAME (process ID)"; None when nobody does."""
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
            if connection.pid is None:
                return "a process of another user"
            try:
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
            except psutil.NoSuchProcess:
                continue
    return None


def check_port(host: str, port: int, setting: str = "http.port, --port") -> None:
    """ConfigRejected when `port` cannot be listened on, saying who holds it and where another is set."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError as err:
            if err.errno != errno.EADDRINUSE:
                raise ConfigRejected(f"cannot listen on {host}:{port}: {err.strerror}") from err
            who = holder(port) or "somebody"
            raise ConfigRejected(
                f"port {port} is held by {who}; end it, or choose another port ({setting})"
            ) from err
