"""Exports: a result or a project as a stream, and a project as files."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Final, Literal, cast

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from chrono_ray.api.answers import Kept, answered
from chrono_ray.api.collecting import tags_of, who
from chrono_ray.api.deps import Made, Reader, Writer, WriterOnce
from chrono_ray.api.export_schemas import (
    ExportAnswer,
    ExportFile,
    ExportFilesAnswer,
    ExportRequest,
    ExportsAnswer,
    ProjectExport,
    SearchExport,
)
from chrono_ray.api.ids import ExportId, ProjectId
from chrono_ray.api.lists import CursorText, Limit, behind, onward
from chrono_ray.api.parts import OurParts, Parts, within
from chrono_ray.api.problems import told
from chrono_ray.api.ranges import part_of
from chrono_ray.api.routes.search import among_of, rebuilt
from chrono_ray.api.streams import Stream, Watching, begun
from chrono_ray.cache.redis import Ttl
from chrono_ray.cache.tags import project_tag
from chrono_ray.model import query as model
from chrono_ray.model.accounts import Actor
from chrono_ray.model.errors import NotFound, SearchError
from chrono_ray.model.task import Form, Subject
from chrono_ray.pipeline.export import MANIFEST
from chrono_ray.pipeline.export_streams import Shape, of_project, of_search
from chrono_ray.storage.database import Connection
from chrono_ray.storage.export_tasks import ExportTasks
from chrono_ray.storage.exporting import Exporting, Seen
from chrono_ray.storage.searching import ProjectNames
from chrono_ray.storage.tasks import TaskState

SECONDS: Final = 10.0
BEGIN_SECONDS: Final = 30.0
"""Until the first rows of a stream."""
NAME_CHARS_MAX: Final = 1000
MEDIA: Final = {"jsonl": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}
STREAMED: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "All rows, a line each. A body that is cut is incomplete as HTTP has it;"
        ' JSONL ends in {"end": true, "rows": n}',
        "content": {"application/x-ndjson": {}, "text/csv": {}},
    }
}
FILE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The file", "content": {"application/octet-stream": {}}},
    206: {"description": "A part of it", "content": {"application/octet-stream": {}}},
    304: {"description": "Known already"},
}

StreamForm = Literal["jsonl", "csv"]

router = APIRouter(tags=["exports"])


@router.get(
    "/exports/search.{form}", response_class=Response, responses=STREAMED | told(404)
)  # fmt: skip
async def search_export(
    form: StreamForm, asked: Annotated[SearchExport, Query()], actor: Reader, parts: OurParts
) -> Response:
    """Every page that a search finds, by number. Go on behind a line with `after` its `id`."""
    among = await among_of(asked, actor, ProjectNames(parts.record))
    query = model.Query(asked.words, asked.tree(among.ids), typos=asked.typos)
    seen = Seen(parts.record, actor)
    shape = Shape(Form(form), Subject.PAGES, asked.text, asked.bom)
    watch = Watching(seen, among.ids)
    chunks = of_search(parts.index, seen, query, shape, watch, after=asked.after)
    try:
        async with within(BEGIN_SECONDS, "The search"):
            opened = await begun(parts.exports.gate, actor.user_id, chunks)
    except SearchError as error:
        raise rebuilt(error) from error
    return Stream(opened, MEDIA[form], filename=f"search.{form}")


@router.get(
    "/projects/{project_id}/export.{form}", response_class=Response,
    responses=STREAMED | told(404),
)  # fmt: skip
async def project_export(
    project_id: ProjectId,
    form: StreamForm,
    asked: Annotated[ProjectExport, Query()],
    actor: Reader,
    parts: OurParts,
) -> Response:
    """Every page, or every listed capture, of a project. Go on behind a line with its `id`."""
    seen = Seen(parts.record, actor)
    wanted = asked.wanted(project_id)
    async with within(BEGIN_SECONDS, "The export"):
        begin = await seen.begin(wanted, after=asked.after)
        reading = Exporting(parts.record, replace(wanted, project=begin.project))
        shape = Shape(Form(form), asked.subject, asked.text, asked.bom)
        watch = Watching(seen, None if actor.is_admin else {project_id})
        chunks = of_project(reading, begin, shape, watch)
        opened = await begun(parts.exports.gate, actor.user_id, chunks)
    name = f"project-{project_id}-{asked.subject.value}.{form}"
    return Stream(opened, MEDIA[form], filename=name)


@router.post(
    "/projects/{project_id}/exports/", status_code=202, response_model=ExportAnswer,
    responses=told(404, 409),
)  # fmt: skip
async def make_export(
    project_id: ProjectId, asked: ExportRequest, by: WriterOnce, parts: OurParts
) -> Response:
    """Have a project written to files, however large it is; whoever may read it may."""
    wanted = asked.export(project_id, parts.exports.kept.new(project_id))
    tasks = ExportTasks(parts.record, by.actor)

    async def work(connection: Connection) -> Made:
        return Made(202, ExportAnswer.of(await tasks.submit(connection, wanted)))

    async with parts.changing(project_tag(project_id)):
        return await by.once.answer(work)


@router.get(
    "/projects/{project_id}/exports/", response_model=ExportsAnswer, responses=told(404)
)  # fmt: skip
async def exports(
    project_id: ProjectId,
    request: Request,
    actor: Reader,
    parts: OurParts,
    cursor: CursorText = None,
    limit: Limit = 100,
) -> Response:
    """A project's exports to files, newest first."""
    of = f"exports?{project_id}"
    position = await behind(parts, cursor, of=of, actor=actor)
    before = cast("int", position[0]) if position else None

    async def compute() -> bytes:
        tasks = ExportTasks(parts.record, actor)
        async with within(SECONDS, "Reading the exports"):
            rows = await tasks.of_project(project_id, before=before, limit=limit + 1)
        end = [rows[limit - 1].id] if len(rows) > limit else None
        following = await onward(parts, end, of=of, actor=actor)
        return ExportsAnswer.of(rows[:limit], following).model_dump_json().encode()

    key = f"exports:{who(actor)}:{project_id}:{before}:{limit}"
    kept = Kept(key, Ttl.GLANCE, tags_of(actor, project_tag(project_id)))
    return await answered(request, parts, kept, compute)


@router.get("/exports/{export_id}", response_model=ExportAnswer, responses=told(404))
async def export(export_id: ExportId, request: Request, actor: Reader, parts: OurParts) -> Response:
    """How far an export is; up to a second old."""

    async def compute() -> bytes:
        async with within(SECONDS, "Reading the export"):
            row = await ExportTasks(parts.record, actor).one(export_id)
        return ExportAnswer.of(row).model_dump_json().encode()

    kept = Kept(f"export:{export_id} for {who(actor)}", Ttl.GLANCE, tags_of(actor))
    return await answered(request, parts, kept, compute)


@router.delete("/exports/{export_id}", status_code=204, responses=told(404, 409))
async def forget_export(export_id: ExportId, actor: Writer, parts: OurParts) -> None:
    """Delete an export's files, for good. One that is being written is cancelled first."""
    tasks = ExportTasks(parts.record, actor)
    async with parts.changing() as changing, within(BEGIN_SECONDS, "The deletion"):
        row = await tasks.one(export_id)
        changing.tags.add(project_tag(row.project_id))
        tasks.check_may_forget(row)
        await parts.exports.kept.at(row.to).remove()
        await tasks.forget(row)


@router.get("/exports/{export_id}/files/", include_in_schema=False)  # else a file without a name
@router.get(
    "/exports/{export_id}/files", response_model=ExportFilesAnswer, responses=told(404)
)  # fmt: skip
async def export_files(
    export_id: ExportId,
    actor: Reader,
    parts: OurParts,
    cursor: CursorText = None,
    limit: Limit = 100,
) -> ExportFilesAnswer:
    """The files that are written by now, by name."""
    of = f"export-files?{export_id}"
    position = await behind(parts, cursor, of=of, actor=actor)
    after = str(position[0]) if position else ""
    tasks = ExportTasks(parts.record, actor)
    async with within(SECONDS, "Reading the export"):
        found = await tasks.files(export_id, after=after, limit=limit + 1)
    end = [found.parts[limit - 1].name] if len(found.parts) > limit else None
    return ExportFilesAnswer(
        state=found.state, items=[ExportFile.of(part) for part in found.parts[:limit]],
        next=await onward(parts, end, of=of, actor=actor),
    )  # fmt: skip


@router.get(
    "/exports/{export_id}/files/{name:path}", response_class=Response,
    responses=FILE | told(404, 409, 416),
)  # fmt: skip
async def export_file(
    export_id: ExportId,
    name: Annotated[str, Path(max_length=NAME_CHARS_MAX, pattern=r"^[^\x00]*$")],
    request: Request,
    actor: Reader,
    parts: OurParts,
) -> Response:
    """One file, or with `Range` a part of it."""
    async with within(SECONDS, "Reading the file"):
        return await _file(export_id, name, request, actor, parts)


async def _file(
    export_id: int, name: str, request: Request, actor: Actor, parts: Parts
) -> Response:
    found = await ExportTasks(parts.record, actor).file(export_id, name)
    files = parts.exports.kept.at(found.place)
    if found.parts:
        size, mark = found.parts[0].size, found.parts[0].sha256.hex()
    elif name == MANIFEST and found.state is TaskState.DONE:
        size, mark = await files.size(name), f"manifest-{export_id}"
    else:
        raise NotFound(f"Export {export_id} has no file of that name")
    etag, headers = f'"{mark}"', request.headers
    if headers.get("if-none-match", "") in (etag, "*"):
        return Response(None, 304, {"ETag": etag})
    whole = headers.get("if-range", etag) != etag
    part = None if whole else part_of(headers.get("range", ""), size)
    chosen = part or range(size)
    stream = Stream(
        await begun(parts.exports.gate, actor.user_id, files.read(name, chosen)),
        "application/octet-stream", filename=f"export-{export_id}-{name.rpartition('/')[2]}",
    )  # fmt: skip
    stream.headers.update(
        {"ETag": etag, "Accept-Ranges": "bytes", "Content-Length": str(len(chosen))}
    )
    if part is not None:
        stream.status_code = 206
        stream.headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{size}"
    return stream
