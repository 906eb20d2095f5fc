"""The Python client against the application over real sockets: whatever the wire does to it."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from chrono_ray.client import Chrono, session, streams, transport
from chrono_ray.model.errors import (
    ChronoError,
    Conflict,
    InvalidInput,
    NotFound,
    TooOften,
    Unauthenticated,
    Unavailable,
)
from tests.conftest import PostgresServer
from tests.integration.api.served import EMAIL, PAGES, PASSWORD, SEPARATORS, Served, served_in
from tests.support.proxy import CutAt, ProxyProcess, proxy_process

SECONDS = 30.0


@pytest.fixture(scope="module")
def served(
    postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    with served_in(tmp_path_factory.mktemp("client"), postgres_server, "record_of_client") as found:
        yield found


@pytest.fixture(scope="module")
def proxy(served: Served) -> Iterator[ProxyProcess]:
    with proxy_process(served.url) as found:
        yield found


@pytest.fixture
def c(served: Served) -> Iterator[Chrono]:
    with Chrono(served.url, token=served.key) as client:
        yield client


@pytest.fixture
def far(served: Served, proxy: ProxyProcess, monkeypatch: pytest.MonkeyPatch) -> Iterator[Chrono]:
    """The same by way of the proxy."""
    monkeypatch.setattr(streams, "AGAIN_SECONDS", 0.01)
    with Chrono(proxy.through(served.url), token=served.key) as client:
        yield client
    proxy.behave()


def test_a_login_renews_itself_once_for_all_threads(served: Served):
    with Chrono.login(served.url, EMAIL, PASSWORD) as anna:
        until = time.monotonic() + 2.2
        while time.monotonic() < until:  # twice as long as a token lives
            with ThreadPoolExecutor(8) as pool:
                assert {me.email for me in pool.map(lambda _: anna.users.me(), range(8))} == {EMAIL}
            time.sleep(0.3)
        assert anna.search.page(query="harbour").total == PAGES
        assert sum(1 for _ in anna.exports.project(served.project)) == PAGES
        anna.auth.logout()
        with pytest.raises(Unauthenticated):
            anna.users.me()


def test_a_stream_begins_with_a_renewed_token(served: Served):
    with Chrono.login(served.url, EMAIL, PASSWORD) as anna:
        time.sleep(1.2)  # longer than the token lives
        assert sum(1 for _ in anna.exports.project(served.project)) == PAGES


def test_a_wrong_password_is_told_and_guessing_is_slowed(served: Served):
    def guess() -> None:
        Chrono.login(served.url, "nobody@example.org", "wrong wrong wrong").close()

    with pytest.raises(Unauthenticated) as refused:
        guess()
    assert refused.value.code == "credentials"

    def guess_on() -> None:
        for _ in range(20):  # a machine that is slow itself has waited between two of them
            with suppress(Unauthenticated):
                guess()

    with pytest.raises(TooOften) as slowed:
        guess_on()
    assert slowed.value.retry_after >= 1


def test_lists_are_walked_over_their_pages(c: Chrono, served: Served, monkeypatch):
    monkeypatch.setattr(transport, "FIRST_ROWS", 3)
    monkeypatch.setattr(transport, "PAGE_ROWS", 7)
    captures = list(c.captures.list(project=served.project, sort="time"))
    assert len({each.id for each in captures}) == len(captures) == PAGES
    assert len(list(c.pages.list(project=served.project))) == PAGES
    first = next(c.pages.list(project=served.project, sort="oldest"))
    assert first.first_seen == datetime(2000, 1, 1, tzinfo=UTC)


def test_a_name_means_ones_own_project_first(c: Chrono, served: Served):
    """An admin sees everybody's as an owner does."""
    assert c.projects.named("town").id == served.project
    mine = c.projects.create(name="town")
    assert c.projects.named("town").id == mine.id
    c.tasks.wait(c.projects.delete(mine.id).task, timeout=SECONDS)


def test_users_are_walked_too(c: Chrono, monkeypatch):
    monkeypatch.setattr(transport, "PAGE_ROWS", 2)
    users = list(c.users.list())
    assert len({each.id for each in users}) == len(users) > 2
    assert [each.email for each in c.users.list(state="pending")] == []


def test_a_problem_is_the_error_it_was_there(c: Chrono, served: Served):
    with pytest.raises(NotFound) as missing:
        c.runs.get(999_999)
    assert (missing.value.code, bool(missing.value.what)) == ("not_found", True)
    with pytest.raises(InvalidInput) as wrong:
        c.runs.begin(project=served.project, url="http://", from_="not a date")
    assert wrong.value.why or wrong.value.what
    with pytest.raises(InvalidInput) as unknown:
        c.projects.create(name="", weight=-1)
    assert unknown.value.code == "invalid_request"
    assert "name" in unknown.value.why
    assert "weight" in unknown.value.why
    with pytest.raises(Unauthenticated), Chrono(served.url, token="crk_nobody") as nobody:
        nobody.users.me()
    with pytest.raises(NotFound, match="no project 'nowhere'"):
        c.projects.named("nowhere")


def test_a_post_whose_answer_is_lost_is_sent_again_and_done_once(far: Chrono, proxy: ProxyProcess):
    cut = CutAt(1)
    proxy.behave(cut)
    made = far.projects.create(name="made once")
    assert proxy.hits() == [1]
    assert [each.id for each in far.projects.list(q="made once")] == [made.id]


def test_one_that_might_be_done_twice_is_not_sent_again(far: Chrono, proxy: ProxyProcess):
    """A login makes a pair of tokens each time."""
    proxy.behave(CutAt(1, times=2))
    with pytest.raises(Unavailable) as away:
        far.auth.login(email=EMAIL, password=PASSWORD)
    assert (away.value.code, proxy.hits()) == ("server_away", [1])


def test_nobody_there_is_said_when_patience_ends(served: Served):
    with Chrono("http://127.0.0.1:1", token="t", patience=0.5) as client:
        began = time.monotonic()
        with pytest.raises(Unavailable, match="does not answer"):
            client.users.me()
    assert time.monotonic() - began < SECONDS


def test_search_goes_on_page_by_page(c: Chrono, monkeypatch):
    monkeypatch.setattr(session, "SEARCH_PAGE", 5)
    found = [hit.id for hit in c.search("harbour", sort="oldest")]
    assert len(set(found)) == len(found) == PAGES
    assert [hit.id for hit in c.search("harbour", sort="oldest", most=7)] == found[:7]
    early = c.search("harbour", host="town.example", from_=date(2000, 1, 1), to="2003")
    assert len(list(early)) == 4
    assert c.search.page(query="harbour", facets=["host"]).facets == {
        "host": {"town.example": PAGES}
    }


def test_an_export_cut_in_the_middle_is_whole_all_the_same(
    far: Chrono, proxy: ProxyProcess, served: Served
):
    for _ in range(2):
        proxy.behave(CutAt(9_000, times=2))
        rows = list(far.exports.project(served.project, text=True))
        assert [row["id"] for row in rows] == sorted(served.pages)
        assert all(SEPARATORS in row["text"] for row in rows)
        assert proxy.hits()[0] >= 1
    proxy.behave(CutAt(9_000, times=2))
    found = far.exports.search("harbour", project=served.project, text=True)
    assert [row["id"] for row in found] == sorted(served.pages)


def test_files_are_had_whole_whatever_is_cut(
    far: Chrono, proxy: ProxyProcess, served: Served, tmp_path: Path
):
    begun = far.exports.begin(served.project, form="jsonl", domain="http://town.example/")
    assert far.tasks.wait(begun.id, timeout=SECONDS).state == "done"
    files = list(far.exports.files(begun.id))
    assert sum(file.rows for file in files) == PAGES
    biggest = max(files, key=lambda file: file.bytes)
    proxy.behave(CutAt(biggest.bytes // 2))
    got = far.exports.download_all(begun.id, tmp_path)
    names = [path.relative_to(tmp_path).as_posix() for path in got]
    assert proxy.hits() == [1]
    assert names == [*(file.name for file in files), "manifest.json"]
    assert sum(len((tmp_path / file.name).read_text().split("\n")) - 1 for file in files) == PAGES
    assert list(tmp_path.rglob("*.part")) == []
    (tmp_path / f"{biggest.name}.part").write_bytes((tmp_path / biggest.name).read_bytes())
    (tmp_path / biggest.name).unlink()
    far.exports.download(begun.id, biggest.name, tmp_path / biggest.name)
    assert (tmp_path / biggest.name).stat().st_size == biggest.bytes
    whole = (tmp_path / biggest.name).read_bytes()
    (tmp_path / f"{biggest.name}.part").write_bytes(b"begun with another file")
    (tmp_path / f"{biggest.name}.part.etag").write_text('"another"')
    far.exports.download(begun.id, biggest.name, tmp_path / biggest.name)
    assert (tmp_path / biggest.name).read_bytes() == whole
    far.exports.delete(begun.id)
    with pytest.raises(NotFound):
        far.exports.get(begun.id)


def test_what_ended_while_the_connection_was_lost_is_told(
    far: Chrono, c: Chrono, proxy: ProxyProcess, served: Served
):
    run = c.runs.begin(project=served.project, url="http://sea.example/", match="host").run
    events = far.live.events(run=run)
    first = next(events)
    assert (first.kind, first.body["run"], first.body["state"]) == ("run", run, "active")
    proxy.refuse(0.5)
    c.runs.cancel(run)
    until = time.monotonic() + SECONDS
    for event in events:
        assert time.monotonic() < until
        if event.body["state"] == "cancelled":
            break
    assert event.version > first.version
    assert c.runs.wait(run).state == "cancelled"
    events.close()


def test_the_archived_bytes_come_as_they_were(far: Chrono, proxy: ProxyProcess, served: Served):
    proxy.behave(CutAt(300))
    raw = far.pages.raw(served.pages[3])
    assert proxy.hits() == [1]
    assert raw.startswith(b"<p>The harbour of 3.")


def test_no_repr_shows_a_secret(c: Chrono, served: Served):
    with Chrono.login(served.url, EMAIL, PASSWORD) as anna:
        key = anna.keys.create(name="shown", expires_in_days=1)
    ticket = c.live.ticket()
    tokens = c.auth.login(email=EMAIL, password=PASSWORD)
    secrets = [key.key, ticket.ticket, tokens.access_token, tokens.refresh_token, served.key]
    assert all(len(each) > 20 for each in secrets)
    shown = repr([c, c.runs, c._transport, key, ticket, tokens])
    assert [each for each in secrets if each in shown] == []
    with pytest.raises(ChronoError) as failed:
        c.runs.get(0)
    assert served.key not in "".join(map(repr, (failed.value, failed.value.__cause__)))


def test_what_is_wanted_and_not_given_stays(c: Chrono):
    made = c.projects.create(name="kept", description="as it was")
    with pytest.raises(Conflict):
        c.projects.create(name="kept")
    assert c.projects.change(made.id, weight=7).description == "as it was"
    task = c.projects.delete(made.id).task
    assert c.tasks.wait(task, timeout=SECONDS).state == "done"


@pytest.mark.parametrize(
    "url",
    ["ftp://a.example", "a.example", "http://", "http://u:p@127.0.0.1", "http://[", "http://a:x"],
)
def test_what_is_no_address_is_refused(url: str):
    with pytest.raises(InvalidInput, match="no address"):
        Chrono(url, token="t")


def test_a_token_goes_over_no_network_in_the_clear():
    with pytest.raises(InvalidInput) as refused:
        Chrono("http://chrono.example", token="t")
    assert refused.value.code == "insecure"
    Chrono("http://chrono.example", token="t", insecure=True).close()
    Chrono("https://chrono.example/", token="t").close()
    Chrono("http://[::1]:8000/api/v1/", token="t").close()


@dataclass
class Script:
    """Answers of a server that speaks HTTP, one a request; and what was asked."""

    answers: list[tuple[int, dict[str, str], bytes]]
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)


@contextmanager
def scripted(*answers: tuple[int, dict[str, str], bytes]) -> Iterator[tuple[str, Script]]:
    script = Script(list(answers))

    class Answering(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            script.asked.append((self.command, self.path, dict(self.headers)))
            status, headers, body = script.answers.pop(0)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT = do_GET  # noqa: N815 (its names)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", script
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


BUSY = (503, {"Retry-After": "1"}, b"")
OFTEN = (429, {"Retry-After": "1"}, b'{"title": "Too often", "code": "too_often"}')
DOING = (409, {"Retry-After": "1"}, b'{"title": "Under way", "code": "idempotency_busy"}')
DONE = (202, {}, b'{"task": 7, "joined": false, "of a later version": 1}')


@pytest.mark.parametrize("refused", [BUSY, OFTEN, DOING])
def test_who_is_told_when_to_come_again_comes_then(refused):
    with scripted(refused, DONE) as (url, script), Chrono(url, token="t") as client:
        began = time.monotonic()
        assert client.runs.certify(3).task == 7
    assert 1.0 <= time.monotonic() - began < SECONDS
    keys = {headers["Idempotency-Key"] for _, _, headers in script.asked}
    assert len(script.asked) == 2
    assert len(keys) == 1


def test_an_ill_server_says_how_ill_it_is():
    parts = b'{"postgresql": {"state": "away"}}'
    ill = b'{"status": "down", "parts": %b, "actors": {}, "version": "1"}' % parts
    with scripted((503, {}, ill), (503, {}, b"")) as (url, _), Chrono(url, token="t") as client:
        assert client.health.get().status == "down"
        with pytest.raises(Unavailable):
            client.health.get()


def test_patience_is_not_outlasted():
    with scripted((503, {"Retry-After": "60"}, b"")) as (url, script):
        with Chrono(url, token="t", patience=2) as client, pytest.raises(Unavailable):
            client.users.me()
        assert len(script.asked) == 1


@pytest.mark.parametrize("body", [b"<html>", b'{"task": "many"}', b""])
def test_an_answer_that_cannot_be_read_is_an_error_of_ours(body: bytes):
    with scripted((202, {}, body)) as (url, _), Chrono(url, token="t") as client:
        with pytest.raises(ChronoError) as failed:
            client.runs.certify(3)
        assert failed.value.code == "answer"


@pytest.mark.parametrize("ask", [lambda c: c.users.me(), lambda c: c.pages.star(1)])
def test_a_server_that_sends_us_elsewhere_is_not_followed(ask):
    away = (302, {"Location": "http://elsewhere.example/"}, b"")
    with (
        scripted(away) as (url, script),
        Chrono(url, token="t") as client,
        pytest.raises(ChronoError, match="cannot be read"),
    ):
        ask(client)
    assert script.answers == []


def test_times_without_a_zone_are_utc():
    answer = (200, {}, b'{"step": "hour", "times": [], "points": []}')
    with scripted(answer) as (url, script), Chrono(url, token="t") as client:
        with pytest.raises(ChronoError):  # what it answers does not matter here
            client.stats.throughput(from_=datetime(2026, 1, 2, 3))  # noqa: DTZ001
        assert "from=2026-01-02T03%3A00%3A00Z" in script.asked[0][1]
