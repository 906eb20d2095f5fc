"""Accounts that a measurement makes for itself, and takes away again.

They cannot log in: each has one API key, which expires by itself. What a killed measurement
left is found by its address.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from chrono_ray.model.accounts import Role, Scope
from chrono_ray.storage.database import Database

HOST: Final = "performance.invalid"
"""Nobody has an address there (RFC 2606)."""
NO_PASSWORD: Final = "nobody logs in"  # noqa: S105 (no hash is written like that)
LASTS: Final = timedelta(hours=1)

_INVITE: Final = """
WITH made AS (
    INSERT INTO users (email, name, password, role, state)
    SELECT email, $2, $3, $4, 'active' FROM unnest($1::text[]) email RETURNING id
), numbered AS (
    SELECT id, row_number() OVER (ORDER BY id) AS n FROM made
)
INSERT INTO api_tokens (user_id, kind, hash, name, prefix, scopes, expires_at)
SELECT m.id, 'key', k.hash, $2, '', $5::text[], clock_timestamp() + $6::interval
  FROM numbered m JOIN unnest($7::bytea[]) WITH ORDINALITY k (hash, n) USING (n)
RETURNING user_id
"""
_JOIN: Final = """
INSERT INTO project_members (project_id, user_id, role)
SELECT p, u, 'read' FROM unnest($1::int[]) p CROSS JOIN unnest($2::int[]) u
"""
_LEFT: Final = """
SELECT p.id FROM projects p JOIN users u ON u.id = p.owner_id
 WHERE u.email LIKE '%@' || $1 AND u.created_at < clock_timestamp() - $2::interval
"""
_REMOVE: Final = """
DELETE FROM users u
 WHERE u.email LIKE '%@' || $1 AND NOT EXISTS (SELECT FROM projects WHERE owner_id = u.id)
   AND (u.id = ANY ($2::int[]) OR u.created_at < clock_timestamp() - $3::interval)
RETURNING u.id
"""


class Guests:
    """The accounts of measurements, straight in the record: for whoever runs the machine."""

    def __init__(self, record: Database) -> None:
        self._record = record

    async def invite(self, hashes: Sequence[bytes], role: Role, scope: Scope) -> list[int]:
        """An account for each key's hash, which lasts an hour; the accounts' ids."""
        mark = secrets.token_hex(6)
        emails = [f"{mark}-{number}@{HOST}" for number in range(len(hashes))]
        rows = await self._record.fetch(
            _INVITE, emails, "chrono perf", NO_PASSWORD, role, [scope.value], LASTS, list(hashes)
        )
        return [row["user_id"] for row in rows]

    async def join(self, projects: Sequence[int], users: Sequence[int]) -> None:
        """They may read these projects, all of them."""
        await self._record.fetch(_JOIN, list(projects), list(users))

    async def left_projects(self) -> list[int]:
        """Projects of measurements that ended long ago without taking them away."""
        return [row["id"] for row in await self._record.fetch(_LEFT, HOST, LASTS)]

    async def remove(self, users: Sequence[int]) -> int:
        """These, and those left by others; not who owns a project still. How many went."""
        return len(await self._record.fetch(_REMOVE, HOST, list(users), LASTS))
