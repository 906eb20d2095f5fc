"""Exports over HTTP: whole or visibly cut, gone on with behind any line, and never another's."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import json
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import uvicorn

from chrono_ray.api import streams
from chrono_ray.model.accounts import Actor, Role, Scope
from chrono_ray.model.task import Finished, Progress
from chrono_ray.pipeline import export_streams
from chrono_ray.pipeline.export import MANIFEST, ExportParts, export
from chrono_ray.search.tantivy import Role as IndexRole
from chrono_ray.search.tantivy import TantivyIndex
from chrono_ray.settings import Settings
from chrono_ray.storage import export_tasks, exporting
from chrono_ray.storage.database import Database
from chrono_ray.storage.exporting import Seen
from chrono_ray.storage.outbox import Outbox
from chrono_ray.storage.tasks import TaskLease, Tasks
from tests.conftest import TEMPLATE, PostgresServer, run_apart
from tests.integration.api.conftest import Client, serving, settings_of
from tests.integration.api.counting import MOST, Queries
from tests.integration.storage.making import Record, capture, gone, stored
from tests.support.accounts import bearer, user_with_key

API = "/api/v1"
HOSTILE = {
    '=HYPERLINK("http://evil.example";"x")': '\'=HYPERLINK("http://evil.example";"x")',
    "+1+1": "'+1+1",
    "-2": "'-2",
    "@SUM(A1)": "'@SUM(A1)",
    "\t=1": "'\t=1",
    "\r=1": "'\r=1",
    'say "yes", twice\nand, again': 'say "yes", twice\nand, again',
    "plain = text": "plain = text",
}


@dataclass(frozen=True, slots=True)
class Town:
    """A project of two domains, 18 pages and some captures more; who may see it, by their keys."""

    url: str
    index: Path
    project: int
    owner: str
    reader: str
    stranger: str
    admin: str
    foreign: int


@pytest.fixture(scope="module")
def town(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Town:
    """Made once: nothing here changes a row of it but tasks and users of its own."""
    name = f"record_of_exports_{uuid4().hex[:8]}"  # a stolen test has it made again
    url, made = postgres_server.database(name), []
    folder = tmp_path_factory.mktemp("exports") / "index"

    async def make() -> None:
        await postgres_server.execute(
            f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY FILE_COPY"
        )
        database = Database(url, pool_size=4, name="test")
        made.append(await _town(database, folder))
        await database.aclose()

    run_apart(make)
    return made[0]


async def _town(database: Database, folder: Path) -> Town:
    await _collect(database)
    owner, owners = await user_with_key(database)
    reader, readers = await user_with_key(database)
    _, strangers = await user_with_key(database)
    _, admins = await user_with_key(database, role=Role.ADMIN, scopes=(Scope.ADMIN,))
    project = await database.fetchval(
        "UPDATE projects SET owner_id = $1 WHERE name = 'town' RETURNING id", owner
    )
    await database.fetch("INSERT INTO project_members VALUES ($1, $2, 'read')", project, reader)
    await _fill_index(database, folder)
    foreign = await database.fetchval("SELECT id FROM projects WHERE name = 'other'")
    return Town(database.url, folder, project, owners, readers, strangers, admins, foreign)


async def _collect(database: Database) -> None:
    record = Record(database)
    await record.unlimited("wayback")
    for name, project in (("a.example", "town"), ("b.example", "town"), ("c.example", "other")):
        rows = [
            capture(f"http://{name}/{n}", f"{2003 + n % 2}0101000000", body=f"word {name} {n}")
            for n in range(9)
        ]
        rows += [capture(f"http://{name}/lost"), capture(f"http://{name}/moved", statuscode="301")]
        await record.list_all(await record.start(name, project=project), rows)
    leases = await record.claim(100)
    lost = [each for each in leases if each.capture.original.endswith("/lost")]
    found = [each for each in leases if each not in lost]
    bodies = [f"word {each.capture.original}".encode() for each in found]
    await record.settling.settle(
        [stored(each, body=body) for each, body in zip(found, bodies, strict=True)]
        + [gone(each) for each in lost]
    )
    for number, title in enumerate(HOSTILE):
        await database.fetch(
            "UPDATE documents SET title = $2 WHERE id = (SELECT document_id FROM pages"
            " WHERE url = $1)", f"http://a.example/{number}", title,
        )  # fmt: skip


async def _fill_index(database: Database, folder: Path) -> None:
    rows = await database.fetch("SELECT id FROM pages")
    change = await Outbox(database).change([row["id"] for row in rows])
    index = TantivyIndex(folder, IndexRole.WRITER)
    await index.upsert(change.entries)
    await index.aclose()


@pytest.fixture
def settings(tmp_path: Path, town: Town) -> Settings:
    (tmp_path / "index").symlink_to(town.index)
    return settings_of(tmp_path, database_url=town.url)


@pytest.fixture
async def client(settings: Settings, town: Town) -> AsyncIterator[Client]:
    async with serving(settings, key=town.owner) as opened:
        yield opened


@pytest.fixture
async def database(town: Town) -> AsyncIterator[Database]:
    opened = Database(town.url, pool_size=2, name="test")
    yield opened
    await opened.aclose()


def lines(answer: httpx2.Response) -> list[dict[str, Any]]:
    """The rows, once the last line has vouched for them."""
    assert answer.status_code == 200, answer.text
    *rows, end = [json.loads(line) for line in answer.text.splitlines()]
    assert end == {"end": True, "rows": len(rows)}
    return rows


def records(answer: httpx2.Response) -> list[dict[str, str]]:
    assert answer.status_code == 200, answer.text
    return list(csv.DictReader(io.StringIO(answer.text, newline=""), strict=True))


def sources(town: Town) -> list[tuple[str, dict[str, str], int]]:
    """Everything that is streamed, and how many rows of it the owner sees."""
    whole = f"{API}/projects/{town.project}/export"
    return [
        (f"{API}/exports/search", {"query": "word"}, 18),
        (whole, {}, 18),
        (whole, {"subject": "captures"}, 22),
        (whole, {"run": 1}, 9),
    ]


async def test_every_row_comes_once_and_the_last_line_vouches_for_them(
    client: Client, town: Town, queries: Queries
) -> None:
    for path, asked, count in sources(town):
        async with queries.at_most(MOST):
            answer = await client.get(f"{path}.jsonl", params=asked)
        rows = lines(answer)
        assert len({row["id"] for row in rows}) == len(rows) == count
        assert {row["project_id"] for row in rows} == {town.project}
        assert answer.headers["content-type"] == "application/x-ndjson"
        assert [row["id"] for row in rows] == [
            int(row["id"]) for row in records(await client.get(f"{path}.csv", params=asked))
        ]


async def test_a_cut_stream_is_gone_on_with_behind_any_line(client: Client, town: Town) -> None:
    for path, asked, _ in sources(town):
        whole = lines(await client.get(f"{path}.jsonl", params=asked))
        for at in {0, 5, 8, len(whole) // 2, len(whole) - 1}:
            after = {**asked, "after": whole[at]["id"]}
            assert lines(await client.get(f"{path}.jsonl", params=after)) == whole[at + 1 :]


async def test_rows_read_a_few_at_a_time_are_the_same(
    client: Client, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By number of rows, and by the bytes of their texts."""
    asked = [(path, {**params, "text": "true"}) for path, params, _ in sources(town)]
    whole = [(await client.get(f"{path}.jsonl", params=params)).text for path, params in asked]
    for name, module, value in (
        ("PAGES_READ", exporting, 3), ("CAPTURES_READ", exporting, 3),
        ("TEXT_BYTES", exporting, 60), ("FOUND_AT_ONCE", export_streams, 5),
        ("READ_AT_ONCE", export_streams, 2),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)
    small = [(await client.get(f"{path}.jsonl", params=params)).text for path, params in asked]
    assert small == whole
    assert "word http://a.example/3" in whole[0]


async def test_what_was_not_asked_for_is_not_there(client: Client, town: Town) -> None:
    whole = f"{API}/projects/{town.project}/export.jsonl"
    for asked, count in [
        ({"domain": "http://a.example/"}, 9), ({"from": "2004"}, 8), ({"to": "2003"}, 10),
        ({"run": 2}, 9),
        ({"subject": "captures", "from": "2010"}, 4),
    ]:  # fmt: skip
        assert len(lines(await client.get(whole, params=asked))) == count, asked
    search = f"{API}/exports/search.jsonl"
    for asked, count in [
        ({"query": "word", "host": "a.example"}, 9), ({"q": "wrod"}, 0), ({"q": '"word http"'}, 18),
        ({}, 18), ({"project": "town"}, 18),
        ({"domain": "http://b.example/"}, 9),
    ]:  # fmt: skip
        assert len(lines(await client.get(search, params=asked))) == count, asked
    for path, asked in [
        (whole, {"domain": "http://c.example/"}), (whole, {"run": 3}), (whole, {"run": 999}),
        (search, {"project": "other"}), (search, {"domain": "http://c.example/"}),
    ]:  # fmt: skip
        answer = await client.get(path, params=asked)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), asked
    assert "text" not in lines(await client.get(whole))[0]


async def test_inputs_54_and_55_cells_are_text_and_records_keep_to_rfc_4180(
    client: Client, town: Town
) -> None:
    answer = await client.get(
        f"{API}/projects/{town.project}/export.csv", params={"domain": "http://a.example/"}
    )
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    found = {row["url"]: row for row in records(answer)}
    titles = [found[f"http://a.example/{number}"]["title"] for number in range(len(HOSTILE))]
    assert titles == list(HOSTILE.values())
    raw = answer.content
    assert raw.startswith(b"id,project_id,project,")
    assert raw.endswith(b"\r\n")
    assert b'"say ""yes"", twice\nand, again"' in raw
    assert found["http://a.example/1"]["first_seen"] == "2004-01-01T00:00:00Z"


async def test_a_spreadsheet_may_have_a_byte_order_mark(client: Client, town: Town) -> None:
    path = f"{API}/projects/{town.project}/export.csv"
    plain = (await client.get(path)).content
    assert (await client.get(path, params={"bom": "true"})).content == b"\xef\xbb\xbf" + plain


async def test_input_56_a_file_has_a_name_that_nobody_chose(client: Client, town: Town) -> None:
    hostile = "../../x\r\nSet-Cookie: a=b"
    names = []
    for path, asked, _ in sources(town):
        answer = await client.get(f"{path}.csv", params={**asked, "domain": hostile})
        assert answer.status_code == 404
        assert "set-cookie" not in answer.headers
        answer = await client.get(f"{path}.csv", params=asked)
        names.append(answer.headers["content-disposition"])
    assert names == [
        'attachment; filename="search.csv"',
        f'attachment; filename="project-{town.project}-pages.csv"',
        f'attachment; filename="project-{town.project}-captures.csv"',
        f'attachment; filename="project-{town.project}-pages.csv"',
    ]


async def test_input_70_anothers_rows_are_not_there(client: Client, town: Town) -> None:
    whole = f"{API}/projects/{town.project}/export.jsonl"
    told = []
    for key, path, status in [
        (town.reader, whole, 200), (town.admin, whole, 200), (town.stranger, whole, 404),
        (town.stranger, f"{API}/projects/99999/export.jsonl", 404),
        (town.owner, f"{API}/projects/{town.foreign}/export.csv", 404),
    ]:  # fmt: skip
        answer = await client.get(path, headers=bearer(key))
        assert answer.status_code == status
        if status == 404:
            told.append({**answer.json(), "request_id": "", "title": ""})
    assert told[0] == told[1] == told[2]
    search = f"{API}/exports/search.jsonl"
    for key, count in [(town.stranger, 0), (town.reader, 18), (town.admin, 27)]:
        assert len(lines(await client.get(search, headers=bearer(key)))) == count
    of_another = await client.get(whole, params={"subject": "captures", "after": 25})
    assert (of_another.status_code, of_another.json()["code"]) == (422, "export_after")


@pytest.mark.parametrize(
    "asked",
    [
        {"after": -1}, {"after": 2**63}, {"after": "x"}, {"subject": "runs"}, {"from": "20231301"},
        {"from": "2005", "to": "2001"}, {"domain": "a\0b"}, {"run": 2**63}, {"limit": 3},
    ],
)  # fmt: skip
async def test_what_cannot_be_asked_is_refused_before_a_row_is_sent(
    client: Client, town: Town, asked: dict[str, str]
) -> None:
    answer = await client.get(f"{API}/projects/{town.project}/export.jsonl", params=asked)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


async def test_there_are_so_many_streams_and_each_gives_its_place_back(
    client: Client, town: Town
) -> None:
    gate = client.app.state.parts.exports.gate
    path = f"{API}/projects/{town.project}/export.jsonl"
    for _ in range(streams.MOST + 1):
        lines(await client.get(path))
        await client.get(path, params={"after": 999})
    for user in range(streams.MOST):
        gate.enter(-user)
    answer = await client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (503, "exports_busy")
    assert answer.headers["retry-after"]
    for user in range(streams.MOST):
        gate.leave(-user)
    lines(await client.get(path))


async def test_one_who_reads_nothing_leaves_places_for_others(client: Client, town: Town) -> None:
    path, gate = f"{API}/projects/{town.project}/export.jsonl", client.app.state.parts.exports.gate
    stalled = [asyncio.create_task(stall(client, path, town.reader)) for _ in range(streams.MOST)]
    async with asyncio.timeout(5):
        while sum(each.done() for each in stalled) < streams.MOST - streams.EACH:
            await asyncio.sleep(0.01)
    assert gate.free == streams.MOST - streams.EACH
    answer = await client.get(path, headers=bearer(town.reader))
    assert (answer.status_code, answer.json()["code"]) == (503, "exports_busy")
    assert len(lines(await client.get(path, headers=bearer(town.owner)))) == 18
    for each in stalled:
        each.cancel()
    await asyncio.gather(*stalled, return_exceptions=True)
    assert gate.free == streams.MOST
    assert len(lines(await client.get(path, headers=bearer(town.reader)))) == 18


async def stall(client: Client, path: str, key: str) -> None:
    """Ask for a stream and take nothing of it; an answer that is none is taken."""

    async def receive() -> dict[str, Any]:
        return await asyncio.Event().wait() or {}

    async def send(message: Any) -> None:
        if message.get("status") == 200:
            await asyncio.Event().wait()

    headers = [(b"authorization", bearer(key)["Authorization"].encode())]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET",
        "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"",
        "root_path": "", "headers": headers, "client": ("10.0.0.9", 1), "server": ("api", 80),
    }  # fmt: skip
    await client.app(scope, receive, send)


async def test_who_takes_a_little_now_and_then_is_not_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "SEND_SECONDS", 0.2)
    closed = []

    async def chunks(size: int) -> AsyncGenerator[bytes, None]:
        try:
            for _ in range(20):
                yield b"x" * size
        finally:
            closed.append(size)

    async def send(_message: Any) -> None:
        await asyncio.sleep(0.03)

    began = time.monotonic()
    with pytest.raises(TimeoutError):
        await streams.Stream(chunks(1), "text/csv", filename="a").stream_response(send)
    assert time.monotonic() - began < 0.6
    await streams.Stream(chunks(2**20), "text/csv", filename="a").stream_response(send)
    assert closed == [1, 2**20]


@asynccontextmanager
async def on_a_port(client: Client) -> AsyncIterator[str]:
    """The client's application over real HTTP."""
    server = uvicorn.Server(uvicorn.Config(client.app, port=0, lifespan="off", log_level="error"))
    serving_it = asyncio.create_task(server.serve())
    async with asyncio.timeout(10):
        while not server.started:
            await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving_it


async def test_a_right_that_is_taken_back_ends_the_stream_visibly(
    client: Client, town: Town, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its head: the body is incomplete. Before its first row: it is refused."""
    monkeypatch.setattr(streams, "CHECKED_EVERY", 0.0)
    user, key = await user_with_key(database)
    await database.fetch("INSERT INTO project_members VALUES ($1, $2, 'read')", town.project, user)
    path = f"{API}/projects/{town.project}/export"
    async with on_a_port(client) as url, httpx2.AsyncClient(headers=bearer(key)) as http:
        assert len(lines(await http.get(f"{url}{path}.jsonl"))) == 18
        await database.fetch("UPDATE users SET state = 'disabled' WHERE id = $1", user)
        with pytest.raises(httpx2.RemoteProtocolError):
            await http.get(f"{url}{path}.csv")
        refused = await http.get(f"{url}{path}.jsonl")
        assert refused.status_code == 403
    assert client.app.state.parts.exports.gate.free == streams.MOST


async def test_a_login_that_ends_ends_its_streams(database: Database) -> None:
    """One that goes on under another token does not; nor does a key before its time."""
    (user, _), family = await user_with_key(database), uuid4()
    token = await database.fetchval("SELECT id FROM api_tokens WHERE user_id = $1", user)
    by_key = Seen(database, Actor(user, Role.USER, frozenset(), token, None))
    old, new = [
        await database.fetchval(
            "INSERT INTO api_tokens (user_id, kind, hash, family, scopes, expires_at)"
            " VALUES ($1, 'access', sha256($2::bytea), $3, '{read}',"
            " clock_timestamp() + interval '1 hour') RETURNING id",
            user, secrets.token_bytes(8), family,
        )
        for _ in range(2)
    ]  # fmt: skip
    by_login = Seen(database, Actor(user, Role.USER, frozenset(), old, family))
    over = "UPDATE api_tokens SET expires_at = clock_timestamp() WHERE id = $1"
    await database.fetch(over, old)
    assert await by_login.still_sees(())
    await database.fetch("UPDATE api_tokens SET revoked_at = clock_timestamp() WHERE id = $1", new)
    assert not await by_login.still_sees(())
    assert await by_key.still_sees(())
    await database.fetch(over, token)
    assert not await by_key.still_sees(())


async def test_who_leaves_a_stream_gives_its_place_back(
    client: Client, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "PAGES_READ", 1)
    gate = client.app.state.parts.exports.gate
    path = f"{API}/projects/{town.project}/export.jsonl"
    async with on_a_port(client) as url, httpx2.AsyncClient(headers=bearer(town.owner)) as http:
        async with http.stream("GET", f"{url}{path}") as answer:
            await anext(answer.aiter_lines())
        async with asyncio.timeout(5):
            while gate.free < streams.MOST:
                await asyncio.sleep(0.01)


def files_below(folder: Path) -> list[Path]:
    return [each for each in folder.rglob("*") if each.is_file()]


async def work_off(database: Database, task_id: int) -> None:
    """As a scraper does it."""
    tasks = Tasks(database)
    lease = await tasks.claim_one(task_id, "test")
    assert isinstance(lease, TaskLease)
    async for step in export(ExportParts(database, tasks), lease, lease.task):
        match step:
            case Progress():
                await tasks.save(lease, step)
            case Finished():
                await tasks.finish(lease, step)


async def test_a_project_is_written_to_files_that_are_read_in_parts(
    client: Client,
    town: Town,
    database: Database,
    queries: Queries,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = {"form": "csv", "rows_per_part": 1000}
    once = {"Idempotency-Key": "first"}
    path = f"{API}/projects/{town.project}/exports/"
    client.app.state.parts.doors.sessions.forget_all()
    async with queries.at_most(MOST):
        made = await client.post(path, json=asked, headers=once)
    again = await client.post(path, json=asked, headers=once)
    assert (made.status_code, made.json()["state"]) == (202, "pending")
    assert again.json() == made.json()
    number = made.json()["id"]
    one = f"{API}/exports/{number}"
    assert (await client.get(f"{one}/files/{MANIFEST}")).status_code == 404
    assert (await client.delete(one)).json()["code"] == "export_pending"
    await work_off(database, number)
    async with queries.at_most(1):
        told = (await client.get(one)).json()
    assert (told["state"], told["rows"], told["parts"], told["project"]) == ("done", 18, 2, "town")
    task = await client.get(f"{API}/tasks/{number}")
    assert (task.status_code, task.json()["state"]) == (200, "done")
    assert client.app.state.parts.exports.kept.place not in task.text
    listed = (await client.get(path)).json()
    assert listed["items"][0]["id"] == number
    kept = export_tasks.EXPORTS_MOST
    monkeypatch.setattr(export_tasks, "EXPORTS_MOST", 1)
    assert (await client.post(path, json=asked)).json()["code"] == "too_many_exports"
    monkeypatch.setattr(export_tasks, "EXPORTS_MOST", kept)
    await client.get(f"{one}/files", params={"limit": 1})  # the first cursor asks for its key
    async with queries.at_most(1):
        files = (await client.get(f"{one}/files", params={"limit": 1})).json()
    second = (await client.get(f"{one}/files", params={"cursor": files["next"]})).json()
    names = [each["name"] for each in (*files["items"], *second["items"])]
    assert names == ["pages/part-000001.csv", "pages/part-000002.csv"]
    assert second["next"] is None
    rows = 0
    for each in (*files["items"], *second["items"]):
        async with queries.at_most(1):
            answer = await client.get(f"{one}/files/{each['name']}")
        assert hashlib.sha256(answer.content).hexdigest() == each["sha256"]
        assert len(answer.content) == int(answer.headers["content-length"]) == each["bytes"]
        rows += len(records(answer))
    assert rows == 18
    manifest = (await client.get(f"{one}/files/{MANIFEST}")).json()
    assert [part["name"] for part in manifest["parts"]] == names

    body, file = answer.content, f"{one}/files/{names[1]}"
    for hostile, status in (("%00", 422), ("../../../etc/passwd", 404), ("%2e%2e%2fx", 404)):
        assert (await client.get(f"{one}/files/{hostile}")).status_code == status
    part = await client.get(file, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, body[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(body)}"
    rest = await client.get(file, headers={"Range": "bytes=-5", "If-Range": part.headers["etag"]})
    assert rest.content == body[-5:]
    other = await client.get(file, headers={"Range": "bytes=-5", "If-Range": '"older"'})
    assert (other.status_code, other.content) == (200, body)
    same = await client.get(file, headers={"If-None-Match": part.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")
    assert (await client.get(file, headers={"Range": "bytes=99999-"})).status_code == 416
    began = time.monotonic()
    many = ",".join(f"{n}-{n}" for n in range(10_000))
    assert (await client.get(file, headers={"Range": f"bytes={many}"})).status_code == 200
    assert time.monotonic() - began < 0.5

    for key in (town.stranger, town.reader):
        status = 404 if key == town.stranger else 200
        for where in (one, f"{one}/files", file):
            assert (await client.get(where, headers=bearer(key))).status_code == status
    assert (await client.delete(one, headers=bearer(town.stranger))).status_code == 404
    refused = await client.delete(one, headers=bearer(town.reader))
    assert (refused.status_code, refused.json()["code"]) == (403, "project_role")
    assert (await client.post(path, json={}, headers=bearer(town.stranger))).status_code == 404
    folder = Path(client.app.state.parts.exports.kept.place)
    assert len(files_below(folder)) == 3
    assert (await client.delete(one)).status_code == 204
    assert files_below(folder) == []
    assert (await client.get(file)).status_code == 404


async def test_files_that_somebody_had_written_elsewhere_are_not_served(
    client: Client, town: Town, database: Database, tmp_path: Path
) -> None:
    """The command writes where it is told to: over HTTP nothing of this machine is read by that."""
    from chrono_ray.model.task import Export

    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / MANIFEST).write_text("{}")
    task = Export("town", str(secret), project_id=town.project)
    submitted = await Tasks(database).submit(task)
    await database.fetch(
        "UPDATE tasks SET state = 'done', project_id = $2 WHERE id = $1", submitted.id, town.project
    )
    for method, path in (("GET", f"files/{MANIFEST}"), ("DELETE", "")):
        answer = await client.request(method, f"{API}/exports/{submitted.id}/{path}".rstrip("/"))
        assert (answer.status_code, answer.json()["code"]) == (409, "export_elsewhere")
    assert (secret / MANIFEST).exists()
