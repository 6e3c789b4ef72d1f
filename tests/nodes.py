"""Several nodes of one Ray cluster on this machine: each with a loopback address of its own, and with ports
of its own where Serve wants the same one on every node."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from deployments.flags import node_flags
from deployments.ports import free_ports
from headrace.config import Config
from headrace.guard import guarded
from tests import cluster_program, handle_job

ROOT = Path(__file__).resolve().parent.parent
_HEAD = "127.0.1.1"  # not 127.0.0.1, which Ray takes for the machine's outer address


@dataclass(frozen=True, slots=True)
class Node:
    """A node and what runs on it, by process id."""

    id: str  # Ray's
    address: str
    http_port: int  # of its HAProxy
    grpc_port: int
    processes: tuple[psutil.Process, ...]  # of Ray itself

    def offspring(self) -> list[psutil.Process]:
        """Every process of the node: replicas, proxies and HAProxy are children of its raylet."""
        found = list(self.processes)
        for process in self.processes:
            with suppress(psutil.NoSuchProcess):
                found += process.children(recursive=True)
        return found

    def running(self, words: str) -> list[psutil.Process]:
        """Its processes whose title holds these words."""
        return [process for process in self.offspring() if words in _title(process)]

    def kill(self) -> None:
        """As if its plug were pulled: everything at once, with SIGKILL."""
        victims = self.offspring()
        for process in victims:  # nobody may start another or say good-bye meanwhile
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        for process in dict.fromkeys([*victims, *self.offspring()]):
            with suppress(psutil.NoSuchProcess):
                process.kill()


class Nodes:
    """A cluster; leaving the block ends every process of it. `environment` is for every process of Ray and
    for commands, such as its token; `head_environment` for Ray alone, such as where the head's Redis is."""

    def __init__(
        self,
        config: Config,
        *,
        environment: Mapping[str, str] | None = None,
        head_environment: Mapping[str, str] | None = None,
    ) -> None:
        self._config = config
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}
        self._head_environment = dict(head_environment or {})
        self.address = ""
        self.head: Node
        self._num_nodes = 0
        self._all: list[Node] = []

    def __enter__(self) -> Nodes:
        # Short, since sockets are in there; our own, since Ray notes there which cluster is the current one.
        self._folder = tempfile.TemporaryDirectory(prefix="hr-", dir="/tmp", ignore_cleanup_errors=True)
        self._program = subprocess.Popen(
            guarded(signal.SIGTERM, [sys.executable, cluster_program.__file__]),
            env={**self.environment, **self._head_environment, "RAY_TMPDIR": self._folder.name},
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(Path(self._folder.name) / "nodes.log").open("wb"),
            text=True,
            start_new_session=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        left = [process for node in self._all for process in node.offspring()]
        assert self._program.stdin is not None
        self._program.stdin.close()
        try:
            self._program.wait(20)
        except subprocess.TimeoutExpired:
            self._program.kill()
            self._program.wait()
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, 10)
        self._folder.cleanup()

    def start_head(self, **arguments: Any) -> Node:
        """The head, or another one in the place of one that was killed."""
        if self.address:
            arguments["gcs_server_port"] = int(self.address.rpartition(":")[2])
        grpc_port = self._config.grpc.port if self._config.grpc else 0
        ports = self._config.http.port, grpc_port
        self.head = self._start(_HEAD, *ports, is_head=True, include_dashboard=False, **arguments)
        return self.head

    def add(self, **arguments: Any) -> Node:
        """A worker node; its address is one that no node has had."""
        self._num_nodes += 1
        return self._start(f"127.0.1.{1 + self._num_nodes}", *free_ports(2), is_head=False, **arguments)

    def _start(self, address: str, http_port: int, grpc_port: int, **arguments: Any) -> Node:
        flags = {
            **node_flags(self._config, Path(self._folder.name)),
            # Ray's own settings for several nodes on one machine; elsewhere all have the same ports.
            "RAY_SERVE_WORKER_PROXY_HTTP_PORT": str(http_port),
            "RAY_SERVE_WORKER_PROXY_GRPC_PORT": str(grpc_port),
        }
        request = {"node_ip_address": address, "env_vars": flags, **arguments}
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(json.dumps(request) + "\n")
        self._program.stdin.flush()
        line = self._program.stdout.readline()
        if not line:
            raise AssertionError((Path(self._folder.name) / "nodes.log").read_text())
        told = json.loads(line)
        self.address = told["gcs"]
        node = Node(
            told["id"], address, http_port, grpc_port, tuple(psutil.Process(pid) for pid in told["pids"])
        )
        self._all.append(node)
        return node

    def drain(self, node: Node) -> None:
        """Have replicas move from a node to others, as before maintenance."""
        command = ["drain-node", "--address", self.address, "--node-id", node.id]
        command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "maintenance"]
        subprocess.run(
            [sys.executable, "-m", "ray.scripts.scripts", *command, "--deadline-remaining-seconds", "60"],
            env=self.environment,
            capture_output=True,
            timeout=60,
            check=True,
        )

    @contextmanager
    def other_job(self, node: Node, models: Sequence[str], failures: Path) -> Iterator[subprocess.Popen[str]]:
        """Another Ray job, on a node, that calls these models by handle all the time (tests/handle_job.py);
        each failed call is a line of the file."""
        with failures.open("w") as errors:
            job = subprocess.Popen(
                [sys.executable, handle_job.__file__, self.address, node.address, *models],
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        try:
            assert job.stdout is not None
            assert job.stdout.readline() == "ready\n", failures.read_text()
            yield job
        finally:
            job.kill()
            job.wait()

    def headrace(
        self, *arguments: str, timeout_s: float = 120, cwd: Path = ROOT, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the command to its end, as somebody who may use the cluster."""
        return subprocess.run(
            [sys.executable, "-m", "deployments.cli", *arguments],
            cwd=cwd,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    @contextmanager
    def started(self, said: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """The command running on this cluster, what it says in a file; ended with the block."""
        with said.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "deployments.cli", *arguments, "--address", self.address],
                cwd=ROOT,
                env=self.environment,
                stdout=output,
                stderr=output,
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def status(self) -> dict[str, Any]:
        told = self.headrace("status", "--address", self.address, "--json")
        assert told.returncode == 0, told.stderr
        result: dict[str, Any] = json.loads(told.stdout)
        return result


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def job_summary(job: subprocess.Popen[str]) -> dict[str, Any]:
    """What the other job did, now that it ends: calls, failed and wrong ones, the slowest."""
    said, _ = job.communicate(timeout=90)
    result: dict[str, Any] = json.loads(said.splitlines()[-1])  # Ray prints there, too, when a node dies
    return result
