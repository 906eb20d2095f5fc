"""What every list over HTTP takes and gives: a cursor, how many, and where it goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import Query

from chrono_ray.api.cursors import CHARS_MAX, Place
from chrono_ray.api.parts import Parts
from chrono_ray.model.accounts import Actor

CursorText = Annotated[
    str | None,
    Query(alias="cursor", max_length=CHARS_MAX, description="`next` of the answer before"),
]
Limit = Annotated[int, Query(ge=1, le=1000)]


async def behind(parts: Parts, cursor: str | None, *, of: str, actor: Actor) -> list[Place] | None:
    """The position that a cursor stands for; None without one."""
    if cursor is None:
        return None
    return (await parts.cursors.get()).position(cursor, of=of, actor=actor)


async def onward(
    parts: Parts, position: Sequence[Place] | None, *, of: str, actor: Actor
) -> str | None:
    """The cursor of what comes behind a position; None at the end."""
    if position is None:
        return None
    return (await parts.cursors.get()).after(position, of=of, actor=actor)
