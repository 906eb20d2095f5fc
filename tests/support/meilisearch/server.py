"""The fake on the wire: routes, keys, the engine behind the queue, and switches for ill luck."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from tests.support.meilisearch.contract import published
from tests.support.meilisearch.filters import FilterError
from tests.support.meilisearch.store import ApiError, Index, Task, now, search


class FakeMeilisearch:
    """One server with its disk. `kill` and `start` again: what was on the disk is there.

    Switches: `hold` (tasks stay enqueued while set), `slow` (seconds a task
    takes), `reject` (document id -> error code that fails its whole task),
    `status` (answer everything with it), `mute` (take requests, never answer),
    `forbidden` (paths that the key has no right to),
    `payload_limit` (bytes; larger bodies get 413), `forget` (how many of the
    tasks finished next are pruned at once).
    """

    def __init__(self, key: str | None = None) -> None:
        self.key = key
        self.indexes: dict[str, Index] = {}
        self.tasks: dict[int, Task] = {}
        self.requests: list[str] = []
        self.faults: list[str] = []
        self.reject: dict[str, tuple[str, str]] = {}
        self.hold = False
        self.slow = 0.0
        self.status: int | None = None
        self.mute = False
        self.forbidden: set[str] = set()
        self.forget = 0
        self.payload_limit = 100_000_000
        self.port = 0
        self._next = 0
        self._runner: web.AppRunner | None = None
        self._engine: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen (on the same port as before) and go on with the queue."""
        for task in self.tasks.values():
            if task.status == "processing":
                task.status = "enqueued"
        app = web.Application(middlewares=[self._gate], client_max_size=2**30)
        app.add_routes(self._routes())
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self._engine = asyncio.create_task(self._work())

    async def kill(self) -> None:
        """Stop in the middle of everything; a task under way has changed nothing."""
        if self._engine is not None and self._runner is not None:
            self._engine.cancel()
            await asyncio.gather(self._engine, return_exceptions=True)
            await self._runner.cleanup()
        self._engine = self._runner = None

    def prune(self) -> None:
        """Forget all finished tasks, as the server does when its queue is full."""
        open_ones = ("enqueued", "processing")
        self.tasks = {uid: task for uid, task in self.tasks.items() if task.status in open_ones}

    def wipe(self) -> None:
        """A new, empty disk: tasks count from 0 again."""
        self.indexes, self.tasks, self._next = {}, {}, 0

    def release(self) -> None:
        """Let held tasks run."""
        self.hold = False
        self._wake.set()

    async def _work(self) -> None:
        while True:
            self._wake.clear()
            task = next((t for t in self.tasks.values() if t.status == "enqueued"), None)
            if task is None or self.hold:
                await self._wake.wait()
                continue
            task.status = "processing"
            await asyncio.sleep(self.slow)
            self._finish(task)

    def _finish(self, task: Task) -> None:
        try:
            self._apply(task)
            task.status = "succeeded"
        except ApiError as error:
            task.status, task.error = "failed", error.body
        task.finished = now()
        if self.forget:
            self.forget -= 1
            self.prune()

    def _apply(self, task: Task) -> None:
        if task.index is None:
            self._swap(task)
            return
        match task.kind:
            case "indexDeletion":
                if self.indexes.pop(task.index, None) is None:
                    raise ApiError(404, "index_not_found", f"Index `{task.index}` not found.")
            case "indexCreation":
                if task.index in self.indexes:
                    raise ApiError(409, "index_already_exists", f"Index `{task.index}` exists.")
                self.indexes[task.index] = Index(task.index, task.payload)
            case "settingsUpdate":
                index = self.indexes.setdefault(task.index, Index(task.index, None))
                index.settings = index.settings | task.payload
            case "documentAdditionOrUpdate":
                index = self.indexes.setdefault(task.index, Index(task.index, None))
                rows, primary_key = task.payload
                self._guard(rows)
                index.put(rows, primary_key)
            case "documentDeletion":
                self._delete(task)

    def _swap(self, task: Task) -> None:
        """All pairs or none; the history's tasks change names too, those still waiting do not."""
        for pair in task.payload:
            for uid in pair["indexes"]:
                if uid not in self.indexes:
                    raise ApiError(404, "index_not_found", f"Index `{uid}` not found.")
        for one, other in (pair["indexes"] for pair in task.payload):
            names = {one: other, other: one}
            self.indexes[one], self.indexes[other] = self.indexes[other], self.indexes[one]
            self.indexes[one].uid, self.indexes[other].uid = one, other
            for each in self.tasks.values():
                if each.finished is not None and each.index in names:
                    each.index = names[each.index]

    def _guard(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            if (why := self.reject.get(str(row.get("id")))) is not None:
                code, kind = why
                raise ApiError(400, code, f"Document `{row.get('id')}` cannot be indexed", kind)

    def _delete(self, task: Task) -> None:
        if task.index not in self.indexes:
            raise ApiError(404, "index_not_found", f"Index `{task.index}` not found.")
        index = self.indexes[task.index]
        if isinstance(task.payload, list):
            index.drop([str(id_) for id_ in task.payload])
        else:
            test = index.test(task.payload["filter"])
            index.drop([id_ for id_, row in index.documents.items() if test(row)])

    def _routes(self) -> list[web.RouteDef]:
        base = "/indexes/{uid}"
        return [
            web.get("/health", self._health),
            web.get("/version", self._version),
            web.get("/stats", self._stats),
            web.get("/tasks", self._tasks),
            web.get("/tasks/{task}", self._task),
            web.post("/swap-indexes", self._ask_swap),
            web.post("/indexes", self._create),
            web.get(base, self._info),
            web.delete(base, self._remove),
            web.get(f"{base}/settings", self._settings),
            web.patch(f"{base}/settings", self._change_settings),
            web.get(f"{base}/settings/filterable-attributes", self._filterable),
            web.get(f"{base}/documents", self._browse),
            web.post(f"{base}/documents", self._add),
            web.post(f"{base}/documents/fetch", self._fetch),
            web.post(f"{base}/documents/delete-batch", self._drop),
            web.post(f"{base}/documents/delete", self._drop),
            web.post(f"{base}/search", self._search),
        ]

    @web.middleware
    async def _gate(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path}")
        if self.mute:
            await asyncio.Event().wait()
        try:
            if self.status is not None:
                return web.Response(status=self.status, text="out of order")
            await self._checked(request)
            return await self._answer(request, handler)
        except ApiError as error:
            return web.json_response(error.body, status=error.status)

    async def _answer(self, request: web.Request, handler: Any) -> web.StreamResponse:
        response: web.StreamResponse = await handler(request)
        return response

    async def _checked(self, request: web.Request) -> None:
        raw = await request.read()
        if len(raw) > self.payload_limit:
            raise ApiError(413, "payload_too_large", "The provided payload reached the size limit.")
        if (contract := published()) is not None:
            body = json.loads(raw) if raw else None
            found = contract.faults(request.method, request.path, set(request.query), body)
            self.faults += [f"{request.method} {request.path}: {fault}" for fault in found]
        if request.path in self.forbidden:
            raise ApiError(403, "invalid_api_key", "The provided API key is invalid.", "auth")
        given = request.headers.get("Authorization")
        if self.key is None or request.path == "/health":
            return
        if given is None:
            message = "The Authorization header is missing. It must use the bearer method."
            raise ApiError(401, "missing_authorization_header", message, "auth")
        if given != f"Bearer {self.key}":
            raise ApiError(403, "invalid_api_key", "The provided API key is invalid.", "auth")

    def _enqueue(self, index: str | None, kind: str, payload: Any) -> web.Response:
        task = self.tasks[self._next] = Task(self._next, index, kind, payload)
        self._next += 1
        self._wake.set()
        view = {"taskUid": task.uid, "indexUid": index, "status": task.status, "type": kind}
        return web.json_response(view | {"enqueuedAt": task.enqueued}, status=202)

    def _index(self, request: web.Request) -> Index:
        uid = request.match_info["uid"]
        if uid not in self.indexes:
            raise ApiError(404, "index_not_found", f"Index `{uid}` not found.")
        return self.indexes[uid]

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "available"})

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"pkgVersion": "1.53.0-fake", "commitSha": "", "commitDate": ""})

    async def _stats(self, _: web.Request) -> web.Response:
        sizes = {uid: {"numberOfDocuments": len(i.documents)} for uid, i in self.indexes.items()}
        return web.json_response({"databaseSize": 0, "lastUpdate": now(), "indexes": sizes})

    async def _task(self, request: web.Request) -> web.Response:
        task = self.tasks.get(int(request.match_info["task"]))
        if task is None:
            uid = request.match_info["task"]
            raise ApiError(404, "task_not_found", f"Task `{uid}` not found.")
        return web.json_response(task.view())

    async def _tasks(self, request: web.Request) -> web.Response:
        kinds = request.query.get("types", "").split(",")
        statuses = request.query.get("statuses", "").split(",")
        found = [
            task.view()
            for task in reversed(self.tasks.values())
            if task.kind in kinds and task.status in statuses
        ]
        sizes = {"total": len(found), "limit": 20, "from": None, "next": None}
        return web.json_response({"results": found[:20]} | sizes)

    async def _ask_swap(self, request: web.Request) -> web.Response:
        return self._enqueue(None, "indexSwap", await request.json())

    async def _remove(self, request: web.Request) -> web.Response:
        return self._enqueue(self._index(request).uid, "indexDeletion", None)

    async def _create(self, request: web.Request) -> web.Response:
        body = await request.json()
        return self._enqueue(body["uid"], "indexCreation", body.get("primaryKey"))

    async def _info(self, request: web.Request) -> web.Response:
        index = self._index(request)
        dates = {"createdAt": index.created, "updatedAt": index.created}
        return web.json_response({"uid": index.uid, "primaryKey": index.primary_key} | dates)

    async def _settings(self, request: web.Request) -> web.Response:
        return web.json_response(self._index(request).settings)

    async def _filterable(self, request: web.Request) -> web.Response:
        return web.json_response(self._index(request).settings["filterableAttributes"])

    async def _change_settings(self, request: web.Request) -> web.Response:
        uid = request.match_info["uid"]
        return self._enqueue(uid, "settingsUpdate", await request.json())

    async def _browse(self, request: web.Request) -> web.Response:
        rows = list(self._index(request).documents.values())
        offset, limit = int(request.query.get("offset", 0)), int(request.query.get("limit", 20))
        fields = request.query.get("fields", "*").split(",")
        shown = [
            {name: value for name, value in row.items() if "*" in fields or name in fields}
            for row in rows[offset : offset + limit]
        ]
        sizes = {"offset": offset, "limit": limit, "total": len(rows)}
        return web.json_response({"results": shown} | sizes)

    async def _fetch(self, request: web.Request) -> web.Response:
        index, body = self._index(request), await request.json()
        try:
            test = index.test(body.get("filter"))
        except FilterError as error:
            raise ApiError(400, "invalid_document_filter", str(error)) from error
        rows = [row for row in index.documents.values() if test(row)]
        for rule in reversed(body.get("sort") or ()):
            name, _, order = rule.partition(":")
            if name not in index.settings["sortableAttributes"]:
                raise ApiError(400, "invalid_document_sort", f"`{name}` is not sortable")
            rows.sort(key=lambda row: row[name], reverse=order == "desc")
        offset, limit, fields = body.get("offset", 0), body.get("limit", 20), body.get("fields")
        shown = [
            {name: value for name, value in row.items() if fields is None or name in fields}
            for row in rows[offset : offset + limit]
        ]
        sizes = {"offset": offset, "limit": limit, "total": len(rows)}
        return web.json_response({"results": shown} | sizes)

    async def _add(self, request: web.Request) -> web.Response:
        payload = (await request.json(), request.query.get("primaryKey"))
        return self._enqueue(request.match_info["uid"], "documentAdditionOrUpdate", payload)

    async def _drop(self, request: web.Request) -> web.Response:
        uid = request.match_info["uid"]
        return self._enqueue(uid, "documentDeletion", await request.json())

    async def _search(self, request: web.Request) -> web.Response:
        return web.json_response(search(self._index(request), await request.json()))


@asynccontextmanager
async def running(key: str | None = None) -> AsyncIterator[FakeMeilisearch]:
    """A fake on a free loopback port. Leaving it, each request must have been as published."""
    server = FakeMeilisearch(key)
    await server.start()
    try:
        yield server
    finally:
        await server.kill()
    assert server.faults == [], "requests that the OpenAPI file does not allow"
