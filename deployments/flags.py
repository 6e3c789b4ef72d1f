"""The settings by which Ray Serve is fast and private: environment variables that every Ray process needs.

They must be set before Ray starts, on every node, and must not be set in a driver that calls handles.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from deployments.grpc import BIND, BIND_HOST
from deployments.ports import free_ports
from headrace.config import Config, GrpcConfig, HttpConfig

HAPROXY = Path(__file__).resolve().with_name("haproxy.sh")
HEADER_TIMEOUT_S = 30
IDLE_TIMEOUT_S = 3600  # of a connection kept open between requests
RETRY_BYTES = 64 << 10  # of a request, headers included
HTTP2_WINDOW = 1 << 20  # 10 MB there and back took 95 ms, 170 with HAProxy's usual 64 KiB
HEAD_BYTES = 1 << 20  # of a message a little over the limit, so that our own refusal says what is allowed
MAX_MESSAGE = 256 << 20  # between replicas; Ray's own default refuses tensors over 4 MiB


@dataclass(frozen=True, slots=True)
class Installed:
    """Where a node has what its HAProxy runs with, and how many threads that gets."""

    root: Path  # of our sources
    python: str
    haproxy: str
    threads: int


def installed_here() -> Installed:
    """This machine's."""
    from ray.serve._private.haproxy import get_haproxy_binary

    return Installed(HAPROXY.parent.parent, sys.executable, get_haproxy_binary(), min(4, os.cpu_count() or 1))


@dataclass(frozen=True, slots=True)
class Ports:
    """Free ports of a node for what nobody calls but Serve itself."""

    stats: int
    metrics: int
    http: int  # of the proxy that answers while there is no replica
    grpc: int


def serve_flags(
    http: HttpConfig,
    grpc: GrpcConfig | None,
    folder: Path,
    ports: Ports,
    throughput: bool = True,
    max_message: int = MAX_MESSAGE,
    installed: Installed | None = None,
    is_alone: bool = True,
) -> dict[str, str]:
    """The variables for one node; HAProxy's files go into `folder`. Without `throughput` Serve's own proxy
    in Python answers. `installed` tells of another machine than this one. `is_alone`: no other node's HAProxy
    has to reach the replicas here."""
    flags = {"RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(MAX_MESSAGE)}
    if grpc is not None:
        flags |= {
            # The whole message is in memory before we see it. Outputs keep to this limit, too.
            "RAY_SERVE_GRPC_MAX_MESSAGE_SIZE": str(min(max(max_message, MAX_MESSAGE), 2**31 - 1)),
            "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(ports.grpc),
            "RAY_SERVE_HAPROXY_H2_FE_INITIAL_WINDOW_SIZE": str(HTTP2_WINDOW),
            "RAY_SERVE_HAPROXY_H2_BE_INITIAL_WINDOW_SIZE": str(HTTP2_WINDOW),
            "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": BIND,
            # Behind HAProxy, which runs on this machine, nobody else needs to reach the replicas.
            BIND_HOST: "127.0.0.1" if throughput and is_alone else http.host,
        }
    if not throughput:
        return flags
    node = installed or installed_here()
    script = node.root / "deployments" / HAPROXY.name
    return flags | {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports.stats),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports.metrics),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(ports.http),
        # Replicas keep listening this long after they left HAProxy's table, which on one machine
        # is told within a moment; Ray's 30 s would be spent on every stop and update.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_NBTHREAD": str(node.threads),
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "10",
        # Inference changes nothing: what a gateway took with it when it died, or could not do because
        # it ends, goes to another one if the whole request lies in HAProxy's buffer. Several times,
        # since HAProxy may pick further idle connections of the dead one before it sees them closed.
        "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response 503",
        "RAY_SERVE_HAPROXY_RETRIES": "10",
        "RAY_SERVE_HAPROXY_OBSERVE_ERROR_LIMIT": "1",
        "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": str(RETRY_BYTES),
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(script),
        "HEADRACE_HAPROXY": node.haproxy,
        "HEADRACE_FRONT": str(script.with_name("haproxy_front.cfg")),
        "HEADRACE_GUARD": str(node.root / "headrace" / "guard.py"),
        "HEADRACE_PYTHON": node.python,
        "HEADRACE_HEADER_S": str(HEADER_TIMEOUT_S),
        "HEADRACE_IDLE_S": str(IDLE_TIMEOUT_S),
    }


def node_flags(config: Config, folder: Path) -> dict[str, str]:
    """The environment that Ray is to be started with on this machine as one of several nodes."""
    paths = [str(HAPROXY.parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    max_message = (config.limits.body_mib << 20) + HEAD_BYTES
    ports = Ports(*free_ports(4, [entry.port for entry in (config.http, config.grpc) if entry is not None]))
    flags = serve_flags(config.http, config.grpc, folder, ports, max_message=max_message, is_alone=False)
    return {"PYTHONPATH": os.pathsep.join(paths), **flags}
