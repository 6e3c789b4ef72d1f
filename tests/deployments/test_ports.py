"""Who holds a port is told by name."""

import os
import socket

import pytest

from deployments import ports
from deployments.ports import check_port, free_ports, holder
from headrace.errors import ConfigRejected


@pytest.fixture(autouse=True)
def _given_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests' servers are to go on getting such as nobody has had."""
    monkeypatch.setattr(ports, "_given", set())


def test_the_holder_of_a_taken_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"(process {os.getpid()})" in str(holder(port))
        with pytest.raises(ConfigRejected, match=f"port {port} is held by .*choose another port"):
            check_port("127.0.0.1", port)
        with pytest.raises(ConfigRejected, match=r"another port \(grpc.port"):
            check_port("127.0.0.1", port, "grpc.port")
    check_port("127.0.0.1", port)


def test_no_port_is_given_twice_nor_one_that_is_meant_for_something_else() -> None:
    """Who got one may listen on it only later."""
    found = [port for _ in range(300) for port in free_ports(9)]
    assert len(set(found)) == len(found)
    besides = free_ports(3_000)
    assert not set(besides) & {port for _ in range(20) for port in free_ports(300, besides)}


def test_free_ports_are_free_on_every_address_and_never_those_of_connections() -> None:
    first, second = free_ports(2)
    assert first != second
    assert holder(first) is None
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", first))
        sock.listen()
        found = free_ports(9_000)  # most of them: those that anybody has are not among them
    assert len(set(found)) == 9_000
    assert first not in found
    assert max(found) < 30_000
