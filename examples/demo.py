"""The main job, end to end: a real model made smaller, served, asked over HTTP and by handle."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from deployments.cli import signalled
from deployments.load import Load, Reply, closed_loop, infer_request
from deployments.ports import check_port
from deployments.serving import Server, serving
from deployments.terminal import bars
from examples.demo_page import as_html
from examples.demo_result import Result, Row, compared
from examples.minilm.data import chat, tokenize
from headrace.config import BatchingConfig, Config, HttpConfig, ModelConfig
from optimize.goals import Goals
from optimize.machine import this_machine
from optimize.pipeline import optimize
from optimize.recipe import load_recipe
from optimize.report import Report
from optimize.steps import QuantizeDynamic
from optimize.table import as_text

MODEL = "minilm"
GOALS = Goals(max_drop=0.01, min_speedup=1.5, max_size=0.30)
CHAINS = ((QuantizeDynamic(),),)  # needs no calibration, so the demo is quick
CONCURRENCY = 32
RECIPE = Path(__file__).parent / "minilm" / "recipe.py"
console = Console()


@dataclass(frozen=True, slots=True)
class Settings:
    messages: int
    port: int
    repository: Path
    json_file: Path | None
    page: Path
    keep: bool


def main(settings: Settings) -> int:
    """Run it; 0 when no request failed, the budget was held and the cache answered truly."""
    http = HttpConfig(port=settings.port)
    check_port(http.host, http.port)
    with bars() as progress:
        report = optimize(load_recipe(RECIPE), settings.repository / MODEL, GOALS, progress, chains=CHAINS)
    print(as_text(report))
    bodies = requests(settings.messages)
    with ExitStack() as stack:
        with console.status("starting Ray, the cache and the FP32 model"):
            server = stack.enter_context(serving(plain(settings, http, report.before.version)))
        result = measure(settings, server, report, bodies)
        show(settings, report, result)
        if settings.keep:
            ended = signalled()
            invite(server)
            ended.wait()
        console.print("ending every process that was started")
    return 0 if result.is_good else 1


def requests(messages: int) -> list[bytes]:
    """The first chat messages in the order in which they were sent, as HTTP requests."""
    with console.status("reading and tokenizing the chat messages"):
        return [infer_request("headrace", MODEL, tokenize(text)) for text in chat(messages)]


def plain(settings: Settings, http: HttpConfig, version: str) -> Config:
    """The original, asked one request at a time: no batches, no cache."""
    one_by_one = ModelConfig(versions=[version], batching=BatchingConfig(grouping="exact", max_batch=1))
    return Config(repository=str(settings.repository.resolve()), http=http, models={MODEL: one_by_one})


def full(settings: Settings, http: HttpConfig, version: str) -> Config:
    """Everything on: INT8, groups of like lengths, cache."""
    return Config(
        repository=str(settings.repository.resolve()),
        http=http,
        models={MODEL: ModelConfig(versions=[version], cache=True)},
    )


def measure(settings: Settings, server: Server, report: Report, bodies: Sequence[bytes]) -> Result:
    http = server.config.http
    with bars() as progress:
        before = replay(server, bodies, "FP32, one by one", progress)
        update = progress.add_task("loading the INT8 version", total=1)
        server.update(full(settings, http, report.after.version))
        progress.update(update, advance=1)
        after = replay(server, bodies, "INT8, grouped, cached", progress)
        called = progress.add_task("the same calls by handle from a second Ray job", total=1)
        handle = ask_by_handle(server.ray_address, settings.messages)
        progress.update(called, advance=1)
    hits = [tier in ("memory", "redis") for tier in after.tiers()]
    over_http = [hashlib.sha256(tensor_bytes(reply)).hexdigest() for reply in after.replies]
    return Result(
        baseline=row(
            "FP32, one by one", before, report.before.measured.size_bytes, report.before.measured.accuracy
        ),
        served=row(
            "INT8, grouped, cached", after, report.after.measured.size_bytes, report.after.measured.accuracy
        ),
        handle_calls=settings.messages,
        handle_errors=handle["failed"],
        handle_rows_per_s=settings.messages / handle["seconds"],
        handle_equal=sum(a == b for a, b in zip(over_http, handle["digests"], strict=True)),
        hits=sum(hits),
        hits_unlike_fresh=unlike_fresh(bodies, over_http, hits),
    )


def replay(server: Server, bodies: Sequence[bytes], name: str, progress: Progress) -> Load:
    task = progress.add_task(f"replaying {len(bodies)} messages: {name}", total=len(bodies))
    http = server.config.http
    ticks = count(1)

    def on_reply() -> None:  # drawing costs more than asking: the bar moves in steps
        if (done := next(ticks)) % 50 == 0 or done == len(bodies):
            progress.update(task, completed=done)

    return asyncio.run(closed_loop(http.host, http.port, bodies, CONCURRENCY, on_reply))


def ask_by_handle(address: str, messages: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "handle.json"
        command = [sys.executable, "-m", "examples.handle_client", "--address", address]
        command += ["--messages", str(messages), "--json", str(file)]
        subprocess.run(command, check=True, cwd=Path(__file__).parent.parent)  # noqa: S603 - our own program
        answer: dict[str, Any] = json.loads(file.read_bytes())
        return answer


def tensor_bytes(reply: Reply) -> bytes:
    """The raw output tensor behind the JSON part of an answer."""
    return reply.body[int(reply.headers.get("inference-header-content-length", len(reply.body))) :]


def unlike_fresh(bodies: Sequence[bytes], digests: Sequence[str], hits: Sequence[bool]) -> int:
    """How many cached answers differ from every answer that was computed for the same request."""
    fresh: dict[bytes, set[str]] = {}
    for body, digest, is_hit in zip(bodies, digests, hits, strict=True):
        if not is_hit:
            fresh.setdefault(body, set()).add(digest)
    return sum(
        is_hit and digest not in fresh.get(body, set())
        for body, digest, is_hit in zip(bodies, digests, hits, strict=True)
    )


def row(name: str, load: Load, size_bytes: int, accuracy: float) -> Row:
    tiers = load.tiers()
    return Row(
        name=name,
        size_bytes=size_bytes,
        accuracy=accuracy,
        rows_per_s=load.per_second,
        p50_ms=load.percentile_ms(50),
        p95_ms=load.percentile_ms(95),
        p99_ms=load.percentile_ms(99),
        mean_batch=load.mean_batch(),
        cache_hit_rate=sum(tier in ("memory", "redis") for tier in tiers) / len(tiers),
        errors=load.num_failed,
    )


def show(settings: Settings, report: Report, result: Result) -> None:
    table = Table("", result.baseline.name, result.served.name, title=f"{settings.messages} chat messages")
    for line in compared(result.baseline, result.served):
        table.add_row(*line)
    console.print(table)
    console.print(
        f"by handle from a second Ray job: {result.handle_calls} calls, {result.handle_errors} failed, "
        f"{result.handle_rows_per_s:.0f} rows/s, {result.handle_equal} equal to HTTP bit by bit",
        soft_wrap=True,
    )
    console.print(
        f"from the cache: {result.hits} answers, {result.hits_unlike_fresh} unlike the computed ones"
    )
    document = {
        "machine": asdict(this_machine()),
        "messages": settings.messages,
        "concurrency": CONCURRENCY,
        "rows": [asdict(result.baseline), asdict(result.served)],
        "handle": {
            "calls": result.handle_calls,
            "errors": result.handle_errors,
            "rows_per_s": result.handle_rows_per_s,
            "equal_to_http": result.handle_equal,
        },
        "cache": {"hits": result.hits, "unlike_fresh": result.hits_unlike_fresh},
        "good": result.is_good,
    }
    settings.page.parent.mkdir(parents=True, exist_ok=True)
    settings.page.write_text(as_html(document, result, report), encoding="utf-8")
    console.print(f"page: {settings.page}")
    if settings.json_file is not None:
        settings.json_file.parent.mkdir(parents=True, exist_ok=True)
        settings.json_file.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))


def invite(server: Server) -> None:
    """What to try while the server is up."""
    ids = tokenize("hello there")["input_ids"]
    entry = '{{"name":"{}","shape":[1,{}],"datatype":"INT64","data":{}}}'
    mask = [1] * ids.shape[1]
    body = ",".join(
        entry.format(name, ids.shape[1], json.dumps(data, separators=(",", ":")))
        for name, data in (("input_ids", ids[0].tolist()), ("attention_mask", mask))
    )
    console.print("the server stays up until Ctrl-C; try:")
    for line in (
        f"curl -s {server.url}/v2/health/ready",
        f"curl -s {server.url}/v2/models/{MODEL}",
        f"curl -s {server.url}/v2/models/{MODEL}/infer -d '{{\"inputs\":[{body}]}}'",
        f"curl -s {server.metrics_url} | grep headrace_",
        f"{sys.executable} -m examples.handle_client --address {server.ray_address} --messages 100",
    ):
        print("  " + line)
