"""The live page's routes over real connections; what its gateway would tell is given."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from deployments.admin import TOKEN
from deployments.dashboard import Dashboard
from deployments.http import HttpApp
from deployments.viewers import Viewers
from engines.artifact import Repository
from headrace.config import LimitsConfig, parse_config
from headrace.errors import HeadraceError
from tests.deployments.listening import listening
from tests.onnx_models import publish_all

REPORT = b"<!doctype html><title>report</title><style>p { color: red }</style><p>fast"
SECRET = "a token of the tests"
WEB = Path(__file__).parents[2] / "deployments" / "web"


class Shown:
    """A gateway of which only the page counts."""

    def __init__(self, repository: Repository, is_on: bool = True, most: int = 2) -> None:
        document = {"models": {"double": {}}, "dashboard": is_on, "repository": str(repository.root)}
        self.viewers = Viewers(self.figures, most, every_s=0.02)
        self.dashboard = Dashboard(parse_config(document), repository, self.viewers)
        self.control = None
        self.purged: list[str] = []
        self.errors: list[str] = []

    async def figures(self) -> bytes:
        return b'{"now": %f}' % asyncio.get_running_loop().time()

    async def purge_model(self, model: str) -> int | None:
        self.purged.append(model)
        return None if model == "alone" else 7

    def count_error(self, err: HeadraceError, *_: object) -> None:
        self.errors.append(err.kind)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    found = publish_all(tmp_path)
    plain = found.open("double", "2")
    files: dict[str, Path | bytes] = {file: plain.folder / file for file in plain.manifest.files}
    signature = plain.manifest.signature
    found.publish(
        "double", "3", {**files, "report.html": REPORT}, graph=plain.manifest.graph, signature=signature
    )
    return found


@asynccontextmanager
async def open_page(shown: Shown) -> AsyncIterator[aiohttp.ClientSession]:
    app = HttpApp(shown, LimitsConfig())  # type: ignore[arg-type]
    async with listening(app) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        yield session


async def get(session: aiohttp.ClientSession, path: str, **headers: str) -> tuple[int, Any, bytes]:
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    async with session.get(path, headers=told) as answer:
        return answer.status, answer.headers, await answer.read()


@pytest.mark.parametrize("path", ["/dashboard", "/dashboard/", "/dashboard/page.css", "/dashboard/page.js"])
async def test_the_page_and_its_files_are_given_with_a_strict_policy(
    repository: Repository, path: str
) -> None:
    async with open_page(Shown(repository)) as session:
        status, headers, body = await get(session, path)
    assert status == 200
    name = path.removeprefix("/dashboard").strip("/") or "page.html"
    assert body == (WEB / name).read_bytes()
    policy = headers["content-security-policy"]
    for rule in ("default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"):
        assert rule in policy.split("; ")
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-type"].startswith(
        {"html": "text/html", "css": "text/css", "js": "text/javascript"}[name[5:]]
    )


async def test_what_the_browser_has_is_not_sent_again(repository: Repository) -> None:
    async with open_page(Shown(repository)) as session:
        _, headers, _ = await get(session, "/dashboard/page.js")
        for known in (headers["etag"], f"W/{headers['etag']}", f'"other", {headers["etag"]}'):
            status, again, body = await get(session, "/dashboard/page.js", if_none_match=known)
            assert (status, body, again["etag"]) == (304, b"", headers["etag"])
        assert (await get(session, "/dashboard/page.js", if_none_match='"other"'))[0] == 200


def test_nothing_is_written_into_the_page_that_its_policy_forbids() -> None:
    page = (WEB / "page.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=|javascript:", page)
    for path in WEB.iterdir():
        found = set(re.findall(r"https?://[^\s\"'`)]+", path.read_text()))
        assert found <= {"http://www.w3.org/2000/svg"}, path.name
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", path.read_text()
        )


@pytest.mark.parametrize(
    ("path", "status", "why"),
    [
        ("/dashboard/nothing.js", 404, "no file 'nothing.js'"),
        ("/dashboard/..%2fgateway.py", 404, "no file"),
        ("/dashboard/a/b", 404, "no such path"),
        ("/dashboard/reports/double", 404, "no such path"),
        ("/dashboard/reports/double/2", 404, "no optimization report; headrace optimize makes one"),
        ("/dashboard/reports/double/9", 404, "no version '9'"),
        ("/dashboard/reports/slow/1", 404, "no model 'slow'; served here: double"),
    ],
)
async def test_what_is_not_there_is_told(repository: Repository, path: str, status: int, why: str) -> None:
    shown = Shown(repository)
    async with open_page(shown) as session:
        found, _, body = await get(session, path)
    assert found == status
    assert why in json.loads(body)["error"]
    assert str(repository.root) not in body.decode()
    assert shown.errors == ["not_found"]


@pytest.mark.parametrize("path", ["/dashboard", "/dashboard/events", "/dashboard/reports/double/3"])
async def test_the_page_is_only_read(repository: Repository, path: str) -> None:
    async with open_page(Shown(repository)) as session, session.post(path) as answer:
        assert answer.status == 405


@pytest.mark.parametrize(
    "path",
    ["/dashboard", "/dashboard/page.js", "/dashboard/events", "/dashboard/reports/double/3", "/v2/figures"],
)
async def test_where_it_is_off_nothing_is_shown_and_how_to_turn_it_on_is_told(
    repository: Repository, path: str
) -> None:
    async with open_page(Shown(repository, is_on=False)) as session:
        status, _, body = await get(session, path)
    assert status == 404
    assert "dashboard: true" in json.loads(body)["error"]


async def test_a_report_is_shown_as_a_stranger(repository: Repository) -> None:
    async with open_page(Shown(repository)) as session:
        status, headers, body = await get(session, "/dashboard/reports/double/3")
    assert (status, body) == (200, REPORT)
    policy = headers["content-security-policy"]
    assert policy.startswith("sandbox")
    assert "script" not in policy
    assert headers["content-type"] == "text/html; charset=utf-8"


async def test_a_report_that_was_changed_is_not_shown(repository: Repository) -> None:
    (repository.root / "double" / "3" / "report.html").write_bytes(REPORT.replace(b"fast", b"slow"))
    async with open_page(Shown(repository)) as session:
        status, _, body = await get(session, "/dashboard/reports/double/3")
    assert status == 500
    assert "is not the one published" in json.loads(body)["error"]


async def test_figures_come_as_server_sent_events_until_the_viewer_leaves(repository: Repository) -> None:
    shown = Shown(repository)
    async with open_page(shown) as session:
        async with session.get("/dashboard/events") as answer:
            assert answer.status == 200
            assert answer.headers["content-type"] == "text/event-stream"
            assert answer.headers["cache-control"] == "no-store"
            assert await answer.content.readuntil(b"\n\n") == b"retry: 1000\n\n"
            for _ in range(3):
                event = await answer.content.readuntil(b"\n\n")
                assert json.loads(event.removeprefix(b"data: "))["now"] > 0
            assert shown.viewers.num_present == 1
            answer.close()
        async with asyncio.timeout(5):
            while shown.viewers.num_present:  # noqa: ASYNC110 - it has no event to wait for
                await asyncio.sleep(0.01)
    assert shown.errors == []


async def test_a_viewer_too_many_is_told_when_to_come_again(repository: Repository) -> None:
    shown = Shown(repository, most=1)
    async with open_page(shown) as session, session.get("/dashboard/events") as first:
        await first.content.readuntil(b"\n\n")
        status, headers, body = await get(session, "/dashboard/events")
        assert (status, headers["retry-after"]) == (429, "10")
        assert "1 viewers are looking" in json.loads(body)["error"]
        first.close()


async def test_a_stream_ends_when_the_server_stops(repository: Repository) -> None:
    """As uvicorn stops: it tells each connection to end after the answer under way."""
    shown = Shown(repository)
    async with open_page(shown) as session, session.get("/dashboard/events") as answer:
        await answer.content.readuntil(b"\n\n")
        for connection in protocols():
            connection.shutdown()
        rest = await asyncio.wait_for(answer.content.read(), 5.0)
        assert rest == b"" or rest.endswith(b"\n\n")
    assert shown.viewers.num_present == 0


def protocols() -> list[Any]:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    return [
        found
        for found in gc.get_objects()
        if isinstance(found, HttpToolsProtocol) and not found.transport.is_closing()
    ]


async def ask_purge(
    session: aiohttp.ClientSession, body: str, token: str | None, model: str = "double"
) -> tuple[int, Any]:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    async with session.post(f"/v2/admin/models/{model}/cache", data=body, headers=headers) as answer:
        return answer.status, await answer.json()


async def test_a_purge_takes_the_token_and_says_how_many(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, SECRET)
    shown = Shown(repository)
    purge = '{"action": "purge"}'
    async with open_page(shown) as session:
        refused = [await ask_purge(session, purge, token) for token in (None, "", "wrong")]
        assert {json.dumps(found) for found in refused} == {
            json.dumps([401, {"error": "this takes the admin token: send it as Authorization: Bearer TOKEN"}])
        }
        assert shown.purged == []
        assert await ask_purge(session, purge, SECRET) == (200, {"model": "double", "forgotten": 7})
        assert await ask_purge(session, purge, SECRET, "alone") == (
            200,
            {"model": "alone", "forgotten": None},
        )
        for wrong in ('{"action": "fill"}', '{"action": "purge", "version": "1"}', "{}", '{"action": 1}'):
            status, told = await ask_purge(session, wrong, SECRET)
            assert status == 400
            assert '{"action": "purge"}' in told["error"]
    assert shown.purged == ["double", "alone"]


def test_a_file_has_the_tag_of_what_it_holds(repository: Repository) -> None:
    dashboard = Shown(repository).dashboard
    for path in WEB.iterdir():
        status, headers, parts = dashboard.file(path.name)
        assert status == 200
        digest = hashlib.sha256(b"".join(parts)).hexdigest()
        assert headers["etag"].strip('"') == digest[:32]
