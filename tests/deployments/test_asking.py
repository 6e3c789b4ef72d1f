"""Small questions over HTTP end in a document or in one clear error."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from deployments.asking import get, host_and_port, is_loopback
from deployments.ports import free_ports
from headrace.errors import CallerError, ConfigRejected, EngineFailed, HeadraceError, NotFound


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_document_is_read() -> None:
    with answering(200, b'{"name": "headrace"}') as url:
        assert get(url, "/v2") == {"name": "headrace"}


@pytest.mark.parametrize(
    ("status", "body", "kind", "told"),
    [
        (404, b'{"error": "no model"}', NotFound, "no model"),
        (401, b'{"error": "who?"}', CallerError, "answers 401: who"),
        (400, b"plain words", CallerError, "plain words"),
        (500, b"", EngineFailed, "does not say why"),
        (200, b"<html>", EngineFailed, "no JSON object"),
        (200, b"[1]", EngineFailed, "no JSON object"),
    ],
)
def test_anything_else_is_an_error_in_the_servers_own_words(
    status: int, body: bytes, kind: type[HeadraceError], told: str
) -> None:
    with answering(status, body) as url, pytest.raises(kind, match=told):
        get(url, "/v2")


def test_nobody_there_is_said_with_how_to_start_a_server() -> None:
    (port,) = free_ports(1)
    with pytest.raises(CallerError, match=rf"nothing answers at 127.0.0.1:{port} .*headrace serve CONFIG"):
        get(f"http://127.0.0.1:{port}", "/v2")


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("http://127.0.0.1:8000", ("127.0.0.1", 8000)),
        ("localhost:8000/", ("localhost", 8000)),
        ("http://[::1]:9", ("::1", 9)),
        ("http://host", ("host", 80)),
    ],
)
def test_a_url_names_host_and_port(url: str, found: tuple[str, int]) -> None:
    assert host_and_port(url) == found


@pytest.mark.parametrize(
    "url", ["https://h:1", "http://", "http://h:99999", "http://h:1/v2", "http://h:1?x", "http://u:p@h:1", ""]
)
def test_any_other_url_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(ConfigRejected, match="must be http://HOST:PORT") as err:
        host_and_port(url)
    assert "u:p" not in str(err.value)


def test_loopback_is_every_name_of_this_machine_alone() -> None:
    assert is_loopback("127.0.0.1")
    assert is_loopback("127.8.9.1")
    assert is_loopback("localhost")
    assert is_loopback("::1")
    assert not is_loopback("192.0.2.1")
    assert not is_loopback("0.0.0.0")
