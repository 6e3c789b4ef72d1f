"""Who holds a port is told by name."""

import os
import socket

import pytest

from deployments.ports import check_port, free_ports, holder
from headrace.errors import ConfigRejected


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


def test_free_ports_are_free_on_every_address_and_never_those_of_connections() -> None:
    first, second = free_ports(2)
    assert first != second
    assert holder(first) is None
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", first))
        sock.listen()
        found = free_ports(9_000)  # most of them: those that anybody has are not among them
    assert first not in found
    assert max(found) < 30_000
