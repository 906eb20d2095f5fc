"""Who brings a token is told whichever plan PostgreSQL keeps for the question."""

from __future__ import annotations

import secrets
from datetime import timedelta
from uuid import uuid4

from chrono_ray.api.tokens import hash_of
from chrono_ray.storage.database import Database
from chrono_ray.storage.users import Claim, Ours, Users
from tests.support.accounts import user_with_key


async def test_a_token_without_a_claim_claims_nothing_by_a_kept_plan(database: Database) -> None:
    """Once a plan is kept for all arguments, nothing is known of them when it is made."""
    user_id, key = await user_with_key(database)
    name = await database.fetchval("SELECT current_database()")
    await database.fetch(f"ALTER DATABASE {name} SET plan_cache_mode = force_generic_plan")
    later = Database(database.url, pool_size=1, name="test")
    try:
        users, token = Users(later), hash_of(key)
        found = await users.authenticate(token)
        assert found is not None
        assert found[0].actor.user_id == user_id
        claim = Claim(secrets.token_bytes(32), secrets.token_bytes(32), uuid4())
        claimed = await users.authenticate(token, claim)
        assert claimed is not None
        assert isinstance(claimed[1], Ours)
        assert found[0].seconds > timedelta(hours=1).total_seconds()
    finally:
        await later.aclose()
