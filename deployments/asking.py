"""Small questions to a server over HTTP, for commands that need no Ray."""

from __future__ import annotations

import http.client
import ipaddress
import json
import socket
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

from headrace.errors import CallerError, ConfigRejected, EngineFailed, NotFound

_MOST = 64 << 20  # bytes of an answer


def host_and_port(url: str) -> tuple[str, int]:
    """Of http://HOST[:PORT]; ConfigRejected for any other URL."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port or 80
    except ValueError:
        host, port, parts = None, 0, urlsplit("")
    if not host or parts.scheme != "http" or parts.path.strip("/") or parts.query or parts.username:
        raise ConfigRejected("the URL must be http://HOST:PORT, such as http://127.0.0.1:8000")
    return host, port


def is_loopback(host: str) -> bool:
    """Every address that the name stands for is this machine's own loopback."""
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        return False
    return all(ipaddress.ip_address(str(address).partition("%")[0]).is_loopback for address in found)


def get(url: str, path: str, timeout_s: float = 5.0) -> dict[str, Any]:
    """The JSON object at a path. CallerError when nobody answers, NotFound and others with the server's
    own words, EngineFailed when it fails or says what is no JSON."""
    host, port = host_and_port(url)
    where = f"{host}:{port}"
    try:
        with closing(http.client.HTTPConnection(host, port, timeout=timeout_s)) as connection:
            connection.request("GET", path, headers={"accept": "application/json"})
            answer = connection.getresponse()
            status, body = answer.status, answer.read(_MOST)
    except (OSError, http.client.HTTPException) as err:
        reason = getattr(err, "strerror", None) or str(err) or type(err).__name__
        raise CallerError(
            f"nothing answers at {where} ({reason}); start a server by: headrace serve CONFIG"
        ) from err
    if status == http.HTTPStatus.OK:
        return _document(body, where)
    said = error_of(body)
    if status == http.HTTPStatus.NOT_FOUND:
        raise NotFound(said)
    if status < http.HTTPStatus.INTERNAL_SERVER_ERROR:
        raise CallerError(f"{where} answers {status}: {said}")
    raise EngineFailed(f"{where} answers {status}: {said}")


def error_of(body: bytes) -> str:
    """What a server says in {"error": ...}, else the beginning of what it says."""
    try:
        said = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        said = body[:200].decode("utf-8", "replace").strip()
    return str(said) or "it does not say why"


def _document(body: bytes, where: str) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise EngineFailed(f"what {where} answers is no JSON object; is it an inference server?")
    return document
