"""A Ray cluster of our own on this machine: started with the right flags, ended to the last process.

Ray's throughput flags and HAProxy must be set before Ray starts, and must not be set in a driver
that calls handles: so Ray is started as a child with an environment of its own.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import psutil

from deployments.flags import MAX_MESSAGE, Ports, serve_flags
from deployments.grpc import SERVICER
from deployments.ports import check_port, free_ports
from headrace import guard
from headrace.config import GrpcConfig, HttpConfig
from headrace.errors import EngineUnavailable

# A driver of ours says itself what happens; Ray's own lines are for its log files.
logging.getLogger("ray.serve").setLevel(logging.WARNING)

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT_S = 60.0
CONNECT_TIMEOUT_S = 2.0
STOP_TIMEOUT_S = 20.0


class LocalCluster:
    """One Ray head on this machine. Use as a context manager: leaving it ends all that was started."""

    def __init__(
        self,
        http: HttpConfig,
        grpc: GrpcConfig | None = None,
        *,
        num_cpus: int,
        throughput: bool = True,
        max_message: int = MAX_MESSAGE,
    ) -> None:
        self._http = http
        self._grpc = grpc
        self._max_message = max_message
        # Ray's CPUs are a count, not cores: what we take must leave some for other jobs' tasks.
        self._num_cpus = num_cpus + (os.cpu_count() or 1)
        self._throughput = throughput
        self._folder: Path | None = None
        self._ray: subprocess.Popen[bytes] | None = None
        self._started: set[psutil.Process] = set()
        self.address = ""
        self.metrics_port = 0

    def __enter__(self) -> LocalCluster:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start Ray and connect this process to it."""
        check_port(self._http.host, self._http.port)
        if self._grpc is not None:
            check_port(self._http.host, self._grpc.port, "grpc.port, --grpc-port")
        self._folder = Path(tempfile.mkdtemp(prefix="headrace-"))
        own = [entry.port for entry in (self._http, self._grpc) if entry is not None]
        gcs, client, dashboard, agent, *others, self.metrics_port = free_ports(9, own)
        self.address = f"127.0.0.1:{gcs}"
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
        command += ["--node-ip-address=127.0.0.1", f"--port={gcs}", f"--num-cpus={self._num_cpus}"]
        command += [f"--ray-client-server-port={client}", f"--dashboard-port={dashboard}"]
        command += ["--include-dashboard=false", f"--dashboard-agent-listen-port={agent}"]
        command += [f"--metrics-export-port={self.metrics_port}", "--disable-usage-stats"]
        with (self._folder / "ray.log").open("wb") as log:
            self._ray = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
                guard.guarded(signal.SIGTERM, command),
                env={**os.environ, **self._environment(*others)},
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C reaches this process only, which then ends Ray in order
            )
        try:
            self._connect()
        except BaseException:
            self.stop()
            raise

    def _environment(self, stats: int, metrics: int, http: int, grpc: int) -> dict[str, str]:
        assert self._folder is not None
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        ports = Ports(stats, metrics, http, grpc)
        flags = serve_flags(self._http, self._grpc, self._folder, ports, self._throughput, self._max_message)
        # Left to itself, Ray wants a token as soon as any earlier use of it has left one in the home folder,
        # and no driver that is not told so would be let in.
        admission = {"RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE", "disabled")}
        return {"PYTHONPATH": os.pathsep.join(paths), **admission, **flags}

    def _connect(self) -> None:
        import ray

        assert self._ray is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            if self._ray.poll() is not None:
                raise EngineUnavailable(f"Ray did not start: {self._last_words()}")
            try:
                connect(self.address)
                break
            except (EngineUnavailable, ConnectionError, RuntimeError, ValueError) as err:
                ray.shutdown()
                if time.monotonic() > deadline:
                    raise EngineUnavailable(f"Ray did not answer within {START_TIMEOUT_S:g} s") from err
                time.sleep(0.2)
        start_serve(self._http, self._grpc)
        self._remember()

    def _last_words(self) -> str:
        assert self._folder is not None
        lines = (self._folder / "ray.log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def _remember(self) -> None:
        """Note every process below Ray, so that none is missed when its parent is gone."""
        if self._ray is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            self._started |= set(psutil.Process(self._ray.pid).children(recursive=True))

    def stop(self) -> None:
        """End Serve, Ray and HAProxy, by process id; safe to call twice, and not stopped by Ctrl-C."""
        with _undisturbed():
            self._stop()

    def _stop(self) -> None:
        import ray
        from ray import serve

        self._remember()
        if ray.is_initialized():
            # Ray prints a warning for each actor that Serve ends on purpose.
            with contextlib.redirect_stdout(io.StringIO()):
                with contextlib.suppress(Exception):  # Ray may be half dead: what is left ends below
                    serve.shutdown()
                self._remember()
                ray.shutdown()
        if self._ray is not None:
            self._remember()
            _end(
                [psutil.Process(self._ray.pid)], STOP_TIMEOUT_S
            )  # our child: its id is ours until waited for
            self._ray.wait(STOP_TIMEOUT_S)
            self._ray = None
        _end([process for process in self._started if process.is_running()], STOP_TIMEOUT_S / 4)
        self._started.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


class NotAdmitted(EngineUnavailable):
    """Somebody listens there, and does not let this process in."""


def connect(address: str) -> None:
    """Connect this process to a Ray cluster as a quiet driver; EngineUnavailable when nobody answers,
    NotAdmitted when it wants another token than ours."""
    import ray

    host, _, port = address.rpartition(":")
    is_told = port.isdecimal() and "://" not in address
    if is_told:  # Ray itself would wait for minutes
        try:
            socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S).close()
        except OSError as err:
            raise EngineUnavailable(f"no Ray cluster answers at {address}") from err
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", namespace="headrace")
    except (ray.exceptions.AuthenticationError, ConnectionError) as err:
        if isinstance(err, ConnectionError) and not is_told:
            raise
        raise NotAdmitted(
            f"what listens at {address} does not let us in; if it is a Ray cluster with a token, set "
            "RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to the file that holds its token"
        ) from err


@contextlib.contextmanager
def answers_only() -> Iterator[None]:
    """Keeps standard output for what is printed after the block: Ray's driver prints there when a node dies.
    Leaves the cluster at the end."""
    import ray

    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        ray.shutdown()


def start_serve(http: HttpConfig, grpc: GrpcConfig | None = None) -> tuple[HttpConfig, GrpcConfig | None]:
    """Start Serve's ingress on the connected cluster; one that runs already is kept. Where it listens."""
    from ray import serve

    serve.start(
        http_options={"host": http.host, "port": http.port},
        grpc_options=None if grpc is None else {"port": grpc.port, "grpc_servicer_functions": [SERVICER]},
    )
    return listening()


def listening() -> tuple[HttpConfig, GrpcConfig | None]:
    """Where the running Serve listens; no gRPC when that does not know our service."""
    import ray
    from ray.serve.context import _get_global_client

    client = _get_global_client()
    grpc = ray.get(client._controller.get_grpc_config.remote())
    is_ours = SERVICER in grpc.grpc_servicer_functions
    http = HttpConfig(host=client.http_config.host, port=client.http_config.port)
    return http, GrpcConfig(port=grpc.port) if is_ours else None


def addresses(http: HttpConfig, grpc: GrpcConfig | None) -> list[str]:
    """Where clients connect to, as URLs."""
    return [f"http://{http.host}:{http.port}", *([f"grpc://{http.host}:{grpc.port}"] if grpc else [])]


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM off: a second one must not leave half of the processes behind."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals go to the main thread
        return
    former = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _end(processes: list[psutil.Process], timeout_s: float) -> None:
    """End these processes; psutil leaves one alone that has got the id of another since."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs(processes, timeout_s)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout_s)
