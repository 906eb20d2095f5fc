"""Users and keys for tests, straight into the record: no password is hashed for them."""

from __future__ import annotations

import secrets
from datetime import timedelta

from chrono_ray.api.tokens import ACCESS, KEY, SHOWN, new_token
from chrono_ray.model.accounts import Role, Scope, UserState
from chrono_ray.storage.database import Database
from chrono_ray.storage.users import Newcomer, NewKey, Users

NO_PASSWORD = "nobody logs in"


async def user_with_key(
    database: Database, *, role: Role = Role.USER, scopes: tuple[Scope, ...] = (Scope.WRITE,)
) -> tuple[int, str]:
    """A new active user's id, and an API key of theirs."""
    users = Users(database)
    email = f"{secrets.token_hex(6)}@example.org"
    user_id = await users.add(Newcomer(email, NO_PASSWORD, role=role, state=UserState.ACTIVE))
    return user_id, await key_of(database, user_id, scopes)


async def key_of(
    database: Database, user_id: int, scopes: tuple[Scope, ...] = (Scope.WRITE,)
) -> str:
    """One more API key of a user."""
    token = new_token(KEY)
    key = NewKey(token.hash, "test", token.text[:SHOWN], scopes, timedelta(hours=2))
    async with database.connection() as connection:
        await Users(database).add_key(connection, user_id, key)
    return token.text


async def login_of(database: Database, user_id: int) -> str:
    """An access token of a user, as a login gives it."""
    token = new_token(ACCESS)
    await database.fetch(
        "INSERT INTO api_tokens (user_id, kind, hash, family, scopes, expires_at) VALUES"
        " ($1, 'access', $2, gen_random_uuid(), ARRAY['admin'], now() + interval '1 h')",
        user_id, token.hash,
    )  # fmt: skip
    return token.text


async def admin_key(database_url: str) -> str:
    """An admin's key, for tests that are about something else."""
    database = Database(database_url, pool_size=1, name="test")
    try:
        _, key = await user_with_key(database, role=Role.ADMIN, scopes=(Scope.ADMIN,))
    finally:
        await database.aclose()
    return key


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
