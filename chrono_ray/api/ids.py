"""The numbers that stand in paths, bounded as the record bounds them."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path

from chrono_ray.model.bounds import BIG_MAX, INT_MAX

ProjectId = Annotated[int, Path(ge=1, le=INT_MAX)]
DomainId = Annotated[int, Path(ge=1, le=INT_MAX)]
UserId = Annotated[int, Path(ge=1, le=INT_MAX)]
RunId = Annotated[int, Path(ge=1, le=BIG_MAX)]
TaskId = Annotated[int, Path(ge=1, le=BIG_MAX)]
ScheduleId = Annotated[int, Path(ge=1, le=BIG_MAX)]
CaptureId = Annotated[int, Path(ge=1, le=BIG_MAX)]
PageId = Annotated[int, Path(ge=1, le=BIG_MAX)]
NoteId = Annotated[int, Path(ge=1, le=BIG_MAX)]
SearchId = Annotated[int, Path(ge=1, le=BIG_MAX)]
ExportId = Annotated[int, Path(ge=1, le=BIG_MAX)]
KeyId = Annotated[int, Path(ge=1, le=BIG_MAX)]
