"""The live page of a real server under load: it shows what the API tells, and does what it is told."""

from __future__ import annotations

import asyncio
import json
import re
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from benchmarks import digit_versions
from benchmarks.digit_versions import MODEL
from benchmarks.live_rollout import act, gets, kill, send, watch
from deployments.admin import TOKEN
from deployments.load import closed_loop, infer_request
from deployments.ports import free_ports
from deployments.serving import Server, serving
from engines.artifact import Repository
from headrace.config import parse_config
from tests.conftest import publish_minilm
from tests.devtools import Tab, tab

SECRET = "a token of the tests"
SCREENS = Path(__file__).parents[2] / "out" / "screens"
RATE = 40.0
UNITS = {"µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "/s": 1.0, "%": 0.01, "": 1.0}
SLOW_STEPS = {"steps": [30, 100], "interval_s": 1, "min_sample": 100_000, "soak_s": 1}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("models")
    repository = Repository(root)
    digit_versions.publish_versions(repository)
    publish_minilm(repository, root)
    (port,) = free_ports(1)
    replicated = {"versions": ["1"], "placement": "replicas", "replicas": 1, "run_code": True, "cache": True}
    document = {
        "repository": str(root),
        "http": {"port": port},
        "gateways": 2,
        "models": {MODEL: replicated, "minilm": {"cache": True, "cache_shared": "always"}},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(TOKEN, SECRET)
        with serving(parse_config(document)) as running:
            yield running


@pytest.fixture
def load(server: Server) -> Iterator[None]:
    """Digits at a constant rate, and texts of two lengths one after the other, most of them again."""
    is_over = Event()
    generator = np.random.default_rng(0)

    def text(length: int) -> bytes:
        ids = generator.integers(1000, 20_000, (1, length))
        return infer_request("test", "minilm", {"input_ids": ids, "attention_mask": np.ones_like(ids)})

    texts = [text(int(length)) for length in generator.choice([12, 40], 60)]

    def digits() -> None:
        while not is_over.is_set():
            send(server, RATE, 2, seed=int(time.time())).result()

    def read() -> None:
        while not is_over.is_set():
            asyncio.run(closed_loop("127.0.0.1", server.config.http.port, texts[:10], 1))
            texts.append(texts.pop(0))
            time.sleep(0.5)

    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(digits), pool.submit(read)]
        yield
        is_over.set()
        for job in jobs:
            job.result()


@asynccontextmanager
async def page(server: Server, width: int = 1280) -> AsyncIterator[Tab]:
    async with tab() as found:
        await found.size(width, 900)
        await found.open(f"{server.url}/dashboard")
        await found.until("document.body.dataset.state === 'live'", 60)
        await found.until("document.body.dataset.now")
        assert found.console == []
        yield found


def ask(server: Server, path: str = "/v2/figures") -> Any:
    with urllib.request.urlopen(server.url + path, timeout=10) as answer:
        return json.load(answer)


async def shows(found: Tab, selector: str, pattern: str, seconds: float = 60) -> None:
    script = (
        f"new RegExp({json.dumps(pattern)}).test(document.querySelector({json.dumps(selector)})?.textContent)"
    )
    await found.until(script, seconds)


def agrees(shown: str, told: float | None) -> bool:
    """Whether the page has written what the API has, rounded to the last digit that is shown."""
    if told is None:
        return shown == "\N{EN DASH}"
    found = re.fullmatch(r"(<?) ?([\d,]+(?:\.(\d+))?)( ?µs| ?ms| ?s| ?min|/s|%|)", shown)
    assert found, shown
    unit = UNITS[found[4].strip()]
    value, digit = float(found[2].replace(",", "")), 10.0 ** -len(found[3] or "")
    return told < value * unit if found[1] else abs(told - value * unit) <= 0.501 * digit * unit


def expected(figures: dict[str, Any]) -> dict[str, float | None]:
    """What the page is to show, by the names that it gives to its figures."""
    told: dict[str, float | None] = {"gateways": figures["gateways"]}
    versions = [version for model in figures["models"] for version in model["versions"]]
    told["total/requests_per_s"] = sum(version["requests_per_s"] for version in versions)
    told["total/errors_per_s"] = sum(version["errors_per_s"] for version in versions)
    for model in figures["models"]:
        for version in model["versions"]:
            of = f"{model['name']}/{version['version']}"
            latency = version["latency_s"] or dict.fromkeys(("p50", "p95", "p99"))
            told |= {f"{of}/{name}": value for name, value in latency.items()}
            for name in ("requests_per_s", "errors_per_s", "waiting_rows", "share"):
                told[f"{of}/{name}"] = version[name]
            for stage in version["stages"]:
                told |= {f"{of}/{stage['stage']}/{name}": stage[name] for name in ("mean", "p95", "p99")}
            for batch in version["batches"]:
                kept = {"fill": "fill", "rows": "rows", "engine": "engine_s", "wait": "wait_s"}
                told |= {f"{of}/{batch['group']}/{name}": batch[key] for name, key in kept.items()}
            told |= {f"{of}/tier/{tier}": count for tier, count in version["tiers"].items() if count}
            told |= {f"{of}/errors/{kind}": count for kind, count in version["errors"].items() if count}
    for process in figures["processes"]:
        told |= {f"{process['id']}/cpu": process["cpu"], f"{process['id']}/threads": process["threads"]}
    return told


async def test_the_page_shows_what_the_api_tells_of_the_same_moment(server: Server, load: None) -> None:
    read = """({ now: document.body.dataset.now, shown: Object.fromEntries(
      [...document.querySelectorAll('[data-figure]')].filter((one) => one.checkVisibility())
        .map((one) => [one.dataset.figure, one.textContent])) })"""
    async with page(server) as found:
        await shows(found, f'[data-figure="{MODEL}/1/p99"]', r"\d (ms|s)$")
        await shows(found, '[data-figure="minilm/1/p99"]', r"\d (ms|s)$")
        compared = 0
        deadline = time.monotonic() + 60
        while compared < 5 and time.monotonic() < deadline:
            told, seen = await asyncio.gather(asyncio.to_thread(ask, server), found.run(read))
            if seen["now"] != str(told["now"]):
                await asyncio.sleep(0.1)
                continue
            compared += 1
            wanted = expected(told)
            missing = {name for name in wanted if name not in seen["shown"]}
            assert not missing
            wrong = {
                name: (seen["shown"][name], value)
                for name, value in wanted.items()
                if not agrees(seen["shown"][name], value)
            }
            assert wrong == {}
            await asyncio.sleep(1.0)
        assert compared == 5
        assert len(wanted) > 60
        await found.picture(SCREENS / "load-light.png")
        assert found.console == []
        origin = server.url + "/"
        assert {url for url in found.asked_for if not url.startswith(origin)} == set()
        assert ask(server)["problems"] == []


async def test_it_fits_on_a_phone_in_the_dark(server: Server, load: None) -> None:
    async with page(server, 360) as found:
        await found.prefer(prefers_color_scheme="dark")
        await shows(found, f'[data-figure="{MODEL}/1/p99"]', r"\d (ms|s)$")
        await asyncio.sleep(1.5)
        assert await found.run("document.documentElement.scrollWidth") == 360
        await found.picture(SCREENS / "load-phone-dark.png", 2400)


async def press(found: Tab, action: str, token: str = "") -> None:
    """A button of the digits' card, the token if there is one, and Enter."""
    await found.run(f"document.querySelector('#model-{MODEL} [data-action={action}]').click()")
    await found.until("document.querySelector('dialog').open")
    if token:
        await found.run("document.querySelector('dialog input').select()")
        await found.write(token)
    await found.run("document.querySelector('dialog input').focus()")
    await found.press("Enter")


async def test_a_rollback_by_the_page_takes_the_token(server: Server, load: None) -> None:
    await asyncio.to_thread(act, "start", to="2", guards=["p99<=3x"], **SLOW_STEPS)
    await asyncio.to_thread(watch, server, 60, gets("2", 0.3))
    async with page(server) as found:
        await shows(found, f"#model-{MODEL} .badge", "Canary")
        await shows(found, f'[data-figure="{MODEL}/2/compared/p99"]', r"\d (ms|s)$")
        await shows(found, f"#model-{MODEL} .state", "version 2 gets 30% of the requests")
        await asyncio.sleep(8)
        await found.picture(SCREENS / "rollout-light.png")

        await press(found, "rollback")
        await shows(found, "dialog .problem", r"^this takes the admin token.*\(401\)$")
        await found.write("wrong")
        await found.press("Enter")
        await shows(found, "dialog .problem", r"\(401\)$")
        assert (await asyncio.to_thread(act, "status"))["rollout"] is not None
        await found.picture(SCREENS / "rollback-refused-light.png", 900)
        assert len(found.console) == 2  # which the browser writes for each 401
        found.console.clear()

        await found.run("document.querySelector('dialog button[type=button]').click()")
        await press(found, "rollback", SECRET)
        await shows(found, "#outcome p", "rolled back. Version 1 answers all requests")
        assert any(role == "status" for role, _ in await found.tree())
        assert (await asyncio.to_thread(act, "status"))["rollout"] is None
        await shows(found, f"#model-{MODEL} .badge", "Stable")
        await found.picture(SCREENS / "rollback-light.png", 1600)
        await found.size(360, 800)
        await found.prefer(prefers_color_scheme="dark")
        await asyncio.sleep(1.5)
        await found.picture(SCREENS / "rollback-phone-dark.png", 2400)
        assert found.console == []
        assert SECRET not in "".join(found.asked_for)


async def test_a_promotion_by_the_page_is_done(server: Server, load: None) -> None:
    await asyncio.to_thread(act, "start", to="2", guards=[], **{**SLOW_STEPS, "soak_s": 600})
    await asyncio.to_thread(watch, server, 60, gets("2", 0.3))
    async with page(server) as found:
        await shows(found, f"#model-{MODEL} .badge", "Canary")
        await press(found, "promote", SECRET)
        await shows(found, "#outcome p", "version 2 gets all requests now")
        await shows(found, f"#model-{MODEL} .badge", "Soak")
        await press(found, "rollback")  # the page still has the token
        await shows(found, f"#model-{MODEL} .badge", "Stable")
        assert (await asyncio.to_thread(act, "status"))["stable"] == "1"


async def test_a_purge_by_the_page_empties_the_cache(server: Server, load: None) -> None:
    async with page(server) as found:
        await found.run("document.querySelector('#model-minilm [data-action=purge]').click()")
        await found.until("document.querySelector('dialog').open")
        await found.write(SECRET)
        await found.press("Enter")
        await shows(found, "#outcome p", r"minilm: \d+ answers forgotten in the shared cache")


async def test_where_there_is_no_former_version_none_is_offered(server: Server) -> None:
    async with page(server) as found:
        buttons = (
            "[...document.querySelectorAll('#model-minilm [data-action]')].map((one) => one.dataset.action)"
        )
        assert await found.run(buttons) == ["purge"]


async def test_the_page_lives_on_when_its_gateway_dies(server: Server) -> None:
    async with page(server) as found:
        for _ in range(server.config.gateways):
            kill("ServeReplica:headrace:Gateway")
        killed = time.time()
        await found.until(f"Number(document.body.dataset.now) > {killed + 3}", 90)
        assert await found.run("document.body.dataset.state") == "live"
