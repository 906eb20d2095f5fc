"""`chrono user`: whoever runs the machine lets people in; the first admin is made once."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator

import pytest

from chrono_ray.cli import user
from chrono_ray.cli.user import FIRST_ADMIN, first_admin
from chrono_ray.model.errors import Conflict, InvalidInput, NotFound
from chrono_ray.settings import Settings
from tests.conftest import TEMPLATE, PostgresServer
from tests.integration.api.conftest import CHEAP, serving, settings_of
from tests.support.accounts import bearer

LOGIN = "/api/v1/auth/login"
ANNA = "anna@example.org"


@pytest.fixture
def settings(
    tmp_path, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Settings]:
    """What the commands of this test read from their environment."""
    database_url = postgres_server.database("record_of_a_command")
    make = f"CREATE DATABASE record_of_a_command TEMPLATE {TEMPLATE} STRATEGY FILE_COPY"
    asyncio.run(postgres_server.execute(make))
    monkeypatch.setenv("CHRONO_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("CHRONO_DATABASE_URL", database_url)
    for name, value in CHEAP.items():
        monkeypatch.setenv(name, value)
    yield settings_of(tmp_path, database_url=database_url)
    asyncio.run(postgres_server.execute("DROP DATABASE record_of_a_command WITH (FORCE)"))


def said(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out)


async def logs_in(settings: Settings, email: str, password: str) -> str:
    """The role they get in with, or the code they are refused by."""
    async with serving(settings, key="none") as client:
        answer = await client.post(LOGIN, json={"email": email, "password": password})
        if answer.status_code != 200:
            return answer.json()["code"]
        token = answer.json()["access_token"]
        return (await client.get("/api/v1/users/me", headers=bearer(token))).json()["role"]


def test_the_first_admin_is_made_once_and_gets_in(settings, capsys):
    made = first_admin(settings)
    assert made is not None
    assert made.email == FIRST_ADMIN
    assert len(made.password) >= 20
    assert first_admin(settings) is None
    assert asyncio.run(logs_in(settings, FIRST_ADMIN, made.password)) == "admin"
    assert asyncio.run(logs_in(settings, FIRST_ADMIN, "admin")) == "credentials"
    user.add("root@example.org", "", admin=True, stdin=False, json=True)
    other = said(capsys)
    assert other["password"] != made.password
    assert asyncio.run(logs_in(settings, "root@example.org", other["password"])) == "admin"


def test_people_are_added_listed_and_given_another_password(settings, capsys):
    user.add("Anna@Example.org", "Anna", admin=False, stdin=False, json=True)
    first = said(capsys)
    assert first["email"] == ANNA
    assert asyncio.run(logs_in(settings, ANNA, first["password"])) == "user"
    with pytest.raises(Conflict, match="already"):
        user.add(ANNA, "", admin=True, stdin=False, json=True)
    user.set_password(ANNA, stdin=False, json=True)
    second = said(capsys)
    assert asyncio.run(logs_in(settings, ANNA, first["password"])) == "credentials"
    assert asyncio.run(logs_in(settings, ANNA, second["password"])) == "user"
    user.list_users(json=True)
    listed = said(capsys)
    assert (listed["email"], listed["name"], listed["state"]) == (ANNA, "Anna", "active")
    assert "password" not in listed
    user.list_users(json=False)
    assert capsys.readouterr().out.startswith("anna@example.org (Anna): user, active, since 20")


def test_who_registered_is_approved(settings, capsys):
    async def register() -> None:
        async with serving(settings, key="none") as client:
            asked = {"email": ANNA, "password": "a long enough phrase"}
            assert (await client.post("/api/v1/auth/register", json=asked)).status_code == 202

    asyncio.run(register())
    assert asyncio.run(logs_in(settings, ANNA, "a long enough phrase")) == "account_pending"
    user.approve(ANNA, json=False)
    assert capsys.readouterr().out == f"{ANNA} may log in\n"
    assert asyncio.run(logs_in(settings, ANNA, "a long enough phrase")) == "user"
    user.list_users(json=True)
    assert said(capsys)["state"] == "active"


def test_a_typed_password_is_not_shown_and_must_be_good(settings, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("a phrase of my own\n"))
    user.add(ANNA, "", admin=True, stdin=True, json=False)
    assert capsys.readouterr().out == f"{ANNA} has this password now\n"
    assert asyncio.run(logs_in(settings, ANNA, "a phrase of my own")) == "admin"
    monkeypatch.setattr("sys.stdin", io.StringIO("short\n"))
    with pytest.raises(InvalidInput):
        user.set_password(ANNA, stdin=True, json=False)


def test_nobody_is_told_so(settings):
    with pytest.raises(NotFound, match="There is no user"):
        user.approve("nobody@example.org", json=False)
    with pytest.raises(NotFound, match="There is no user"):
        user.set_password("nobody@example.org", stdin=False, json=False)
    with pytest.raises(InvalidInput):
        user.add("nobody", "", admin=False, stdin=False, json=False)
