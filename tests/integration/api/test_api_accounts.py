"""Accounts over HTTP: who gets in, for how long, and what everybody else is told."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import httpx2
import pytest

from chrono_ray.api.passwords import Passwords
from chrono_ray.api.tokens import hash_of
from chrono_ray.model.accounts import TRIES_MOST, Role, Scope, UserState
from chrono_ray.settings import Settings
from chrono_ray.storage.database import Database
from chrono_ray.storage.users import PENDING_MOST, Newcomer, Users
from tests.integration.api.conftest import serving, settings_of
from tests.integration.api.counting import MOST, Queries
from tests.support.accounts import bearer, key_of, user_with_key

PASSWORD = "correct horse battery"
ANNA = "anna@example.org"
AUTH = "/api/v1/auth"
ME = "/api/v1/users/me"


@pytest.fixture
def settings(tmp_path, database_url) -> Settings:
    """Without Redis: what it adds has tests of its own."""
    return settings_of(tmp_path, database_url=database_url)


@pytest.fixture
async def anna(database: Database, settings: Settings) -> int:
    """An active user who logs in with `PASSWORD`."""
    return await user_named(database, settings, ANNA)


async def user_named(
    database: Database, settings: Settings, email: str, *, role: Role = Role.USER
) -> int:
    passwords = Passwords.of(settings.accounts)
    hashed = await passwords.hash(PASSWORD)
    passwords.aclose()
    return await Users(database).add(Newcomer(email, hashed, role=role, state=UserState.ACTIVE))


async def login(client: httpx2.AsyncClient, email: str = ANNA, password: str = PASSWORD):
    return await client.post(f"{AUTH}/login", json={"email": email, "password": password})


async def tokens(client: httpx2.AsyncClient, email: str = ANNA) -> dict[str, str]:
    answer = await login(client, email)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def me(client: httpx2.AsyncClient, token: str) -> int:
    return (await client.get(ME, headers=bearer(token))).status_code


async def test_whoever_registers_gets_in_when_an_admin_approves(client):
    asked = {"email": " Anna@Example.ORG ", "password": PASSWORD, "name": "Anna"}
    registered = await client.post(f"{AUTH}/register", json=asked)
    assert registered.status_code == 202
    assert registered.json()["state"] == "pending"
    early = await login(client)
    assert (early.status_code, early.json()["code"]) == (403, "account_pending")
    [waiting] = (await client.get("/api/v1/users", params={"state": "pending"})).json()["items"]
    assert (waiting["email"], waiting["name"]) == (ANNA, "Anna")
    approved = await client.patch(f"/api/v1/users/{waiting['id']}", json={"state": "active"})
    assert approved.json()["state"] == "active"
    told = await tokens(client, "ANNA@example.org")
    assert told["token_type"] == "bearer"
    assert told["expires_in"] == 900
    answer = await client.get(ME, headers=bearer(told["access_token"]))
    assert (answer.json()["email"], answer.json()["role"]) == (ANNA, "user")


async def test_nobody_learns_who_has_an_account(client, anna):
    """A taken address is answered like a free one, and keeps its password."""
    other = {"password": "another password", "name": "Eve"}
    taken = await client.post(f"{AUTH}/register", json={"email": ANNA, **other})
    free = await client.post(f"{AUTH}/register", json={"email": "eve@example.org", **other})
    assert taken.status_code == free.status_code == 202
    assert {**taken.json(), "email": ""} == {**free.json(), "email": ""}
    assert (await login(client, ANNA, "another password")).status_code == 401
    assert (await login(client)).status_code == 200


async def test_so_many_may_wait_for_approval(client, database, anna):
    """Whoever has the address: that it is full says nothing about it."""
    await database.fetch(
        "INSERT INTO users (email, password)"
        " SELECT n || '@example.org', '' FROM generate_series(1, $1::int) n",
        PENDING_MOST,
    )
    for email in (ANNA, "new@example.org"):
        asked = {"email": email, "password": PASSWORD}
        answer = await client.post(f"{AUTH}/register", json=asked)
        assert (answer.status_code, answer.json()["code"]) == (503, "registrations_full")


async def test_input_66_every_token_that_is_none_gets_one_answer(client, database, anna):
    told = await tokens(client)
    expired, ended = told["access_token"], (await tokens(client))["access_token"]
    hashes = [hash_of(expired)]
    await database.fetch(
        "UPDATE api_tokens SET expires_at = clock_timestamp() WHERE hash = ANY ($1)", hashes
    )
    await client.post(f"{AUTH}/logout", headers=bearer(ended))
    brought = ["", "Bearer", "Basic YTpi", f"Bearer {expired}", f"Bearer {ended}",
               f"Bearer {told['refresh_token']}", "Bearer cra_" + "x" * 43,
               "Bearer crk_" + "x" * 5000, "Bearer cra_\udce9"]  # fmt: skip
    answers = []
    for header in brought:
        answer = await client.get(
            ME, headers={"authorization": header.encode("utf-8", "surrogateescape")}
        )
        assert answer.headers["www-authenticate"] == "Bearer"
        answers.append((answer.status_code, {**answer.json(), "request_id": ""}))
    assert answers[0][0] == 401
    assert all(answer == answers[0] for answer in answers)


async def test_input_67_a_refresh_token_is_used_once(client, database, anna):
    """Used again, by whomever, it ends everything that came from its login; others go on."""
    other = await tokens(client)
    first = await tokens(client)
    again = {"refresh_token": first["refresh_token"]}
    second = (await client.post(f"{AUTH}/refresh", json=again)).json()
    assert await me(client, second["access_token"]) == 200
    reused = await client.post(f"{AUTH}/refresh", json=again)
    assert (reused.status_code, reused.json()["code"]) == (401, "refresh")
    for token in (first["access_token"], second["access_token"]):
        assert await me(client, token) == 401
    later = await client.post(f"{AUTH}/refresh", json={"refresh_token": second["refresh_token"]})
    assert later.status_code == 401
    assert await me(client, other["access_token"]) == 200
    unknown = await client.post(f"{AUTH}/refresh", json={"refresh_token": "crr_" + "x" * 43})
    assert {**unknown.json(), "request_id": ""} == {**reused.json(), "request_id": ""}


async def test_a_refresh_token_spent_twice_at_once_is_spent_once(client, anna):
    body = {"refresh_token": (await tokens(client))["refresh_token"]}
    answers = await asyncio.gather(*(client.post(f"{AUTH}/refresh", json=body) for _ in range(4)))
    won = [answer.json() for answer in answers if answer.status_code == 200]
    assert len(won) == 1
    assert await me(client, won[0]["access_token"]) == 401, "the thief may be the one who won"


async def test_input_68_the_sixth_wrong_password_must_wait(client, database, anna, caplog):
    caplog.set_level(logging.INFO)
    for email in (ANNA, "nobody@example.org"):
        for _ in range(5):
            wrong = await login(client, email, "a wrong password")
            assert (wrong.status_code, wrong.json()["code"]) == (401, "credentials")
        sixth = await login(client, email)
        assert (sixth.status_code, sixth.json()["code"]) == (429, "login_delayed")
        assert 20 < int(sixth.headers["retry-after"]) <= 30
    await waited(database)
    assert (await login(client, ANNA, "a wrong password")).status_code == 401
    longer = await login(client)
    assert 50 < int(longer.headers["retry-after"]) <= 60
    await waited(database)
    assert (await login(client)).status_code == 200
    assert (await login(client, ANNA, "a wrong password")).status_code == 401
    assert (await login(client)).status_code == 200, "it was forgiven"
    assert "wrong password" not in caplog.text
    assert ANNA not in caplog.text


async def waited(database: Database) -> None:
    """As if the time had passed."""
    await database.fetch("UPDATE login_failures SET next_at = '-infinity'")


async def test_wrong_passwords_at_once_gain_nothing(client, anna):
    answers = await asyncio.gather(
        *(login(client, ANNA, f"a wrong password {n}") for n in range(12))
    )
    assert sorted(answer.status_code for answer in answers) == [401] * 5 + [429] * 7


async def test_a_hundred_in_a_row_from_everywhere_is_the_end(client, database, anna):
    """Until somebody sets the password anew; whoever is logged in stays so."""
    token = (await tokens(client))["access_token"]
    assert (await login(client, ANNA, "a wrong password")).status_code == 401
    await database.fetch("UPDATE login_failures SET failures = $1 WHERE address = ''", TRIES_MOST)
    await waited(database)
    assert (await login(client)).status_code == 429
    assert await me(client, token) == 200
    [found] = await database.fetch("SELECT id, password FROM users WHERE email = $1", ANNA)
    await Users(database).reset_password(ANNA, found["password"])
    assert (await login(client)).status_code == 200


async def test_input_68_an_unknown_user_takes_as_long(tmp_path, database_url, database):
    """As the settings of production have it."""
    settings = settings_of(tmp_path, database_url=database_url)
    real = settings.model_copy(update={"accounts": type(settings.accounts)(hashes=1)})
    for n in range(4):
        await user_named(database, real, f"user{n}@example.org")
    times: dict[str, list[float]] = {"user": [], "nobody": []}
    async with serving(real) as client:
        await login(client, "warm@example.org", "a wrong password")
        for n in range(4):
            for who, spent in times.items():
                began = time.perf_counter()
                assert (await login(client, f"{who}{n}@example.org", "x")).status_code == 401
                spent.append(time.perf_counter() - began)
    known, unknown = min(times["user"]), min(times["nobody"])
    assert unknown > 0.01, "a password was hashed"
    assert 1 / 3 < unknown / known < 3


@pytest.mark.parametrize("password", ["", "x" * 4096, None, 7, ["x"]])
async def test_input_69_a_password_that_cannot_be_is_refused_before_it_is_hashed(
    client, database, password
):
    for path in ("login", "register"):
        asked = {"email": ANNA, "password": password}
        answer = await client.post(f"{AUTH}/{path}", json=asked)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
        assert [each["field"] for each in answer.json()["errors"]] == ["password"]
    assert await database.fetchval("SELECT count(*) FROM login_failures") == 0


@pytest.mark.parametrize(
    ("email", "password", "code"),
    [
        (ANNA, "short", "password"),
        (ANNA, "aaaaaaaaaaaaaaa", "password"),
        (ANNA, "Password123", "password"),
        (ANNA, ANNA.upper(), "password"),
        ("anna", PASSWORD, "email"),
        ("a@b@c", PASSWORD, "email"),
        ("a\x00@b.org", PASSWORD, "email"),
        ("an na@b.org", PASSWORD, "email"),
    ],
)
async def test_a_registration_that_cannot_be_is_refused(client, email, password, code):
    answer = await client.post(f"{AUTH}/register", json={"email": email, "password": password})
    assert (answer.status_code, answer.json()["code"]) == (422, code)


@pytest.mark.parametrize("field", ["role", "state", "tenant", "id", "approved_at"])
async def test_input_71_nobody_makes_themselves_an_admin(client, anna, field):
    headers = bearer((await tokens(client))["access_token"])
    asked = {"email": "eve@example.org", "password": PASSWORD, field: "admin"}
    for answer in [
        await client.post(f"{AUTH}/register", json=asked),
        await client.patch(ME, json={"name": "Anna", field: "admin"}, headers=headers),
        await client.post("/api/v1/keys", json={"name": "k", field: "admin"}, headers=headers),
    ]:
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
        assert [each["field"] for each in answer.json()["errors"]] == [field]


async def test_logout_ends_this_login_alone(client, anna):
    here, there = await tokens(client), await tokens(client)
    assert await me(client, here["access_token"]) == 200
    answer = await client.post(f"{AUTH}/logout", headers=bearer(here["access_token"]))
    assert answer.status_code == 204
    assert await me(client, here["access_token"]) == 401
    refresh = {"refresh_token": here["refresh_token"]}
    assert (await client.post(f"{AUTH}/refresh", json=refresh)).status_code == 401
    assert await me(client, there["access_token"]) == 200


async def test_another_password_ends_other_logins(client, anna):
    here, there = await tokens(client), await tokens(client)
    headers = bearer(here["access_token"])
    asked = {"password": PASSWORD, "new_password": "a longer phrase"}
    wrong = await client.post(
        f"{AUTH}/password", json={**asked, "password": "not that"}, headers=headers
    )
    assert (wrong.status_code, wrong.json()["code"]) == (403, "password_wrong")
    assert (await client.post(f"{AUTH}/password", json=asked, headers=headers)).status_code == 204
    assert await me(client, here["access_token"]) == 200
    assert await me(client, there["access_token"]) == 401
    assert (await login(client)).status_code == 401
    assert (await login(client, ANNA, "a longer phrase")).status_code == 200


async def test_a_disabled_user_is_out_at_once(client, anna, database):
    told, key = await tokens(client), await key_of(database, anna)
    assert await me(client, told["access_token"]) == await me(client, key) == 200
    await client.patch(f"/api/v1/users/{anna}", json={"state": "disabled"})
    assert await me(client, told["access_token"]) == await me(client, key) == 401
    back = await login(client)
    assert (back.status_code, back.json()["code"]) == (403, "account_disabled")
    await client.patch(f"/api/v1/users/{anna}", json={"state": "active"})
    assert await me(client, key) == 401, "what was ended stays so"
    assert (await login(client)).status_code == 200


async def test_somebody_stays_an_admin(client, database, anna):
    [admin] = await database.fetch("SELECT id FROM users WHERE role = 'admin'")
    for change in ({"role": "user"}, {"state": "disabled"}):
        answer = await client.patch(f"/api/v1/users/{admin['id']}", json=change)
        assert (answer.status_code, answer.json()["code"]) == (409, "last_admin")
    assert (await client.patch(f"/api/v1/users/{anna}", json={"role": "admin"})).status_code == 200
    answer = await client.patch(f"/api/v1/users/{admin['id']}", json={"role": "user"})
    assert answer.json()["role"] == "user"
    assert (await client.get("/api/v1/users")).status_code == 403, "at once"


async def test_users_are_for_admins(client, database, anna):
    headers = bearer((await tokens(client))["access_token"])
    for answer in [
        await client.get("/api/v1/users", headers=headers),
        await client.patch(f"/api/v1/users/{anna}", json={"role": "admin"}, headers=headers),
    ]:
        assert (answer.status_code, answer.json()["code"]) == (403, "scope")
    assert (await client.patch("/api/v1/users/999", json={})).status_code == 404
    first = (await client.get("/api/v1/users", params={"limit": 1})).json()
    rest = (await client.get("/api/v1/users", params={"cursor": first["next"], "limit": 1})).json()
    assert len(first["items"]) == len(rest["items"]) == 1
    assert rest["next"] is None


async def test_a_key_is_shown_once_and_does_what_it_may(client, database, anna):
    headers = bearer((await tokens(client))["access_token"])
    made = await client.post("/api/v1/keys", json={"name": "notebook"}, headers=headers)
    assert made.status_code == 201
    key = made.json()["key"]
    assert made.json()["prefix"] == key[:12]
    [listed] = (await client.get("/api/v1/keys", headers=headers)).json()["items"]
    assert listed == {name: made.json()[name] for name in listed}
    assert await database.fetchval("SELECT count(*) FROM api_tokens t WHERE t::text LIKE $1",
                                   f"%{key[12:]}%") == 0  # fmt: skip
    assert (await client.get(ME, headers=bearer(key))).status_code == 200
    for answer in [
        await client.patch(ME, json={"name": "x"}, headers=bearer(key)),
        await client.post("/api/v1/keys", json={"name": "y", "scopes": ["admin"]}, headers=headers),
    ]:
        assert (answer.status_code, answer.json()["code"]) == (403, "scope")
    answer = await client.post(f"{AUTH}/logout", headers=bearer(key))
    assert (answer.status_code, answer.json()["code"]) == (403, "login_needed")
    gone = await client.delete(f"/api/v1/keys/{listed['id']}", headers=headers)
    assert gone.status_code == 204
    assert await me(client, key) == 401


async def test_input_70_anothers_key_is_not_there(client, database, anna):
    other, key = await user_with_key(database)
    theirs = await database.fetchval("SELECT id FROM api_tokens WHERE user_id = $1", other)
    headers = bearer((await tokens(client))["access_token"])
    answer = await client.delete(f"/api/v1/keys/{theirs}", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert await me(client, key) == 200


async def test_a_key_makes_no_key_and_ends_none_but_itself(client, database, anna):
    """One that was made by it would outlive it."""
    key = bearer(await key_of(database, anna))
    await key_of(database, anna)
    own, other = [
        row["id"]
        for row in await database.fetch(
            "SELECT id FROM api_tokens WHERE user_id = $1 AND kind = 'key' ORDER BY id", anna
        )
    ]
    for answer in [
        await client.post("/api/v1/keys", json={"name": "y"}, headers=key),
        await client.delete(f"/api/v1/keys/{other}", headers=key),
    ]:
        assert (answer.status_code, answer.json()["code"]) == (403, "login_needed")
    assert (await client.delete(f"/api/v1/keys/{own}", headers=key)).status_code == 204
    assert (await client.get(ME, headers=key)).status_code == 401


async def test_there_is_an_end_to_keys(client, database, anna):
    for _ in range(50):
        await key_of(database, anna)
    headers = bearer((await tokens(client))["access_token"])
    answer = await client.post("/api/v1/keys", json={"name": "one more"}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_keys")


async def test_an_admin_with_a_smaller_key_is_nobody_special(client, database, settings):
    admin = await user_named(database, settings, "root@example.org", role=Role.ADMIN)
    key = await key_of(database, admin, (Scope.READ,))
    assert (await client.get("/api/v1/users", headers=bearer(key))).status_code == 403


async def test_no_route_asks_the_record_more_than_three_times(
    client, database, anna, queries: Queries
):
    """From cold each time: nothing is remembered of the token."""
    sessions = client.app.state.parts.doors.sessions

    async def ask(most: int, method: str, path: str, token: str = "", **sent: Any) -> Any:
        headers = {**(bearer(token) if token else {}), **sent.pop("headers", {})}
        sessions.forget_all()
        async with queries.at_most(most):
            answer = await client.request(method, path, headers=headers, **sent)
        assert answer.status_code < 300, answer.text
        assert len(queries.statements) == most, "say so if it is fewer now"
        return answer.json() if answer.content else None

    credentials = {"email": ANNA, "password": PASSWORD}
    told = await ask(2, "POST", f"{AUTH}/login", json=credentials)
    body = {"refresh_token": told["refresh_token"]}
    token = (await ask(1, "POST", f"{AUTH}/refresh", json=body))["access_token"]
    new = {"email": "b@example.org", "password": PASSWORD}
    await ask(1, "POST", f"{AUTH}/register", json=new)
    await ask(3, "POST", f"{AUTH}/register", json=new, headers={"Idempotency-Key": "a"})
    await ask(2, "GET", ME, token)
    await ask(2, "PATCH", ME, token, json={"name": "A"})
    once = {"json": {"name": "k"}, "headers": {"Idempotency-Key": "b"}}
    await ask(MOST, "POST", "/api/v1/keys", token, **once)
    await ask(1, "POST", "/api/v1/keys", token, **once)
    await ask(2, "GET", "/api/v1/keys", token)
    await ask(2, "GET", "/api/v1/users")
    await ask(MOST, "PATCH", f"/api/v1/users/{anna}", json={"role": "user"})
    change = {"password": PASSWORD, "new_password": "a longer one"}
    await ask(MOST, "POST", f"{AUTH}/password", token, json=change)
    await ask(2, "POST", f"{AUTH}/logout", token)
    await client.get(ME)
    async with queries.at_most(1):
        await client.get(ME)


async def test_a_password_that_an_admin_sets_is_good_for_one_login_that_brings_another(
    client, database, anna
):
    before = (await tokens(client))["access_token"]
    reset = await client.post(f"/api/v1/users/{anna}/password")
    assert reset.status_code == 200
    once = reset.json()["password"]
    assert await me(client, before) == 401, "all logins end"
    assert (await login(client)).status_code == 401, "the old one is none any more"
    bare = await login(client, password=once)
    assert (bare.status_code, bare.json()["code"]) == (403, "password_once")

    async def with_new(password: str, new: str) -> httpx2.Response:
        asked = {"email": ANNA, "password": password, "new_password": new}
        return await client.post(f"{AUTH}/login", json=asked)

    assert (await with_new(once, once)).json()["code"] == "password_once"
    assert (await with_new(once, "short")).json()["code"] == "password"
    inside = await with_new(once, "a new and longer word")
    assert inside.status_code == 200
    assert await me(client, inside.json()["access_token"]) == 200
    assert (await login(client, password=once)).status_code == 401, "it was good for one"
    assert (await login(client, password="a new and longer word")).status_code == 200
    twice = await with_new("a new and longer word", "yet another one here")
    assert (twice.status_code, twice.json()["code"]) == (422, "password")
    assert (await client.post("/api/v1/users/999/password")).status_code == 404
    kept = await database.fetchval("SELECT password FROM users WHERE id = $1", anna)
    assert kept.startswith("$argon2id$")
