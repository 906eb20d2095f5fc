"""Where a list goes on: a position that only whoever was given it can bring back.

Signed by the instance, so that a position is never one that a caller made up.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Sequence
from typing import Final

import orjson

from chrono_ray.model.accounts import Actor
from chrono_ray.model.errors import InvalidInput, NotFound

CHARS_MAX: Final = 2000
_SIGNATURE: Final = 16

Place = int | str | None
"""One column of a position."""


class Cursors:
    """Makes and reads cursors. `secret` is the instance's own, the same in every process."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def after(self, position: Sequence[Place], *, of: str, actor: Actor) -> str:
        """The cursor of what comes behind a position; `of` names the list with all its filters."""
        body = orjson.dumps([actor.user_id, _list(of), *position])
        return base64.urlsafe_b64encode(self._signed(body) + body).rstrip(b"=").decode()

    def position(self, cursor: str, *, of: str, actor: Actor) -> list[Place]:
        """The position it stands for.

        `InvalidInput` for one that was never given out, or for another list;
        `NotFound` for another user's.
        """
        try:
            raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise _no_cursor("it was not given out here") from None
        signature, body = raw[:_SIGNATURE], raw[_SIGNATURE:]
        if not hmac.compare_digest(signature, self._signed(body)):
            raise _no_cursor("it was not given out here")
        position: list[Place]
        user_id, name, *position = orjson.loads(body)
        if user_id != actor.user_id:
            raise NotFound("There is no such cursor")
        if name != _list(of):
            raise _no_cursor("it belongs to another list, or to other filters")
        return position

    def _signed(self, body: bytes) -> bytes:
        return hmac.digest(self._secret, body, "sha256")[:_SIGNATURE]


def _list(of: str) -> str:
    """Short and the same for the same list: filters may be long."""
    return hmac.digest(b"list", of.encode(), "sha256")[:9].hex()


def _no_cursor(why: str) -> InvalidInput:
    return InvalidInput(
        "This cursor cannot be used", why=why, fix="Start again without one", code="cursor"
    )
