"""The server that commands work against: named by CHRONO_SERVER, or kept by `chrono login`."""

from __future__ import annotations

import getpass
import os
import platform
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson

from chrono_ray import settings as chrono_settings
from chrono_ray.embedded.folder import usable
from chrono_ray.model.errors import (
    ChronoError,
    Conflict,
    InvalidInput,
    NotFound,
    SettingsError,
    Unauthenticated,
)
from chrono_ray.settings import Settings

if TYPE_CHECKING:  # it costs commands on this machine a fifth of a second
    from chrono_ray.client import Chrono

LOGIN: Final = "login.json"
DAYS: Final = 90
PATIENCE: Final = 30.0


@dataclass(frozen=True, slots=True)
class Login:
    """Where to, and by which key; `key_id` is 0 for one that we did not make."""

    server: str
    key: str = field(repr=False)
    key_id: int = 0


def server() -> Chrono | None:
    """A client of the server that commands work against; None: this machine is meant."""
    settings = chrono_settings.load()
    found = chosen(settings)
    if found is None:
        return None
    return _client(found.server, found.key, settings)


def only_here(settings: Settings) -> None:
    """`InvalidInput` for what is done on this machine, where a server is meant."""
    if settings.server:
        why, fix = "CHRONO_SERVER is set", "Unset it, or do this on the server's machine"
    elif _kept(settings.data_dir):
        why, fix = "you are logged in to a server", "`chrono logout`, or do this on its machine"
    else:
        return
    raise InvalidInput("This command works on its own machine alone", why=why, fix=fix, code="here")


def login(url: str, email: str, days: int, *, stdin: bool, json: bool) -> int:
    """Get an API key for an e-mail address and a password, and keep it for this machine's user."""
    from chrono_ray.client import Chrono

    settings = chrono_settings.load()
    kept = _kept(settings.data_dir)
    if kept:
        raise Conflict(f"You are logged in to {kept.server}", fix="First: chrono logout")
    address = email or _asked_for("E-mail: ")
    password = sys.stdin.readline().rstrip("\n") if stdin else getpass.getpass("Password: ")
    with Chrono.login(
        url, address, password, patience=PATIENCE, insecure=settings.insecure
    ) as client:
        name = f"chrono at {platform.node()}"[:100]
        made = client.keys.create(name=name, scopes=["write"], expires_in_days=days)
        _keep(settings.data_dir, Login(url, made.key, made.id))
        client.auth.logout()
    _tell(
        {"server": url, "email": address, "key": made.prefix, "expires": made.expires_at},
        f"Commands work against {url} now, until {made.expires_at:%Y-%m-%d}. End it: chrono logout",
        json=json,
    )
    return 0


def logout(*, json: bool) -> int:
    """End the key that `chrono login` made, and forget the server."""
    settings = chrono_settings.load()
    kept = _kept(settings.data_dir)
    if kept is None:
        _tell({"server": None}, "You are logged in nowhere.", json=json)
        return 0
    ended = _ended(kept, settings)
    (settings.data_dir / LOGIN).unlink(missing_ok=True)
    _tell(
        {"server": kept.server, "ended": ended},
        f"Logged out of {kept.server}. Commands work on this machine again.", json=json,
    )  # fmt: skip
    return 0


def _ended(kept: Login, settings: Settings) -> bool:
    """Whether the key is good for nothing now; told on stderr when nobody could be asked."""
    try:
        with _client(kept.server, kept.key, settings) as client:
            client.keys.end(kept.key_id)
    except (Unauthenticated, NotFound):
        return True  # it has ended or expired already
    except ChronoError as error:
        sys.stderr.write(f"chrono: the key is forgotten here, but not ended there: {error}\n")
        return False
    return True


def _client(url: str, key: str, settings: Settings) -> Chrono:
    from chrono_ray.client import Chrono

    try:
        client = Chrono(url, token=key, patience=PATIENCE, insecure=settings.insecure)
    except InvalidInput as error:
        if error.code != "insecure":
            raise
        raise InvalidInput(
            error.what, why=error.why, code=error.code,
            fix="Use https, or set CHRONO_INSECURE=true where the network is trusted",
        ) from None  # fmt: skip
    return client


def chosen(settings: Settings) -> Login | None:
    """The server that is meant, and the key for it; None: this machine is meant."""
    kept = _kept(settings.data_dir)
    token = settings.token.get_secret_value() if settings.token else ""
    if settings.server is None:
        if token and kept is None:
            raise SettingsError(
                "There is a token and no server", why="CHRONO_TOKEN is set, CHRONO_SERVER is not",
                fix="Set both, or neither",
            )  # fmt: skip
        return kept
    if token:
        return Login(settings.server, token)
    if kept and kept.server.rstrip("/") == settings.server.rstrip("/"):
        return kept
    raise SettingsError(
        f"There is no token for {settings.server}", why="CHRONO_TOKEN is not set",
        fix=f"Set it to an API key, or: chrono login {settings.server}",
    )  # fmt: skip


def _kept(data_dir: Path) -> Login | None:
    path = data_dir / LOGIN
    with usable(data_dir):
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return None
    try:
        said = orjson.loads(text)
        return Login(str(said["server"]), str(said["key"]), int(said["key_id"]))
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError(
            f"{path} cannot be read", why=str(error), fix="Delete it, then: chrono login URL"
        ) from None


def _keep(data_dir: Path, kept: Login) -> None:
    """For its owner's eyes alone, from its first byte on."""
    with usable(data_dir):
        data_dir.mkdir(parents=True, exist_ok=True)
    told = {"server": kept.server, "key": kept.key, "key_id": kept.key_id}
    part = data_dir / f"{LOGIN}.{os.getpid()}"
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123 (a descriptor)
        file.write(orjson.dumps(told))
    part.replace(data_dir / LOGIN)


def _asked_for(what: str) -> str:
    sys.stderr.write(what)
    sys.stderr.flush()
    return sys.stdin.readline().strip()


def _tell(told: dict[str, object], text: str, *, json: bool) -> None:
    out = orjson.dumps(told, option=orjson.OPT_UTC_Z).decode() if json else text
    sys.stdout.write(out + "\n")
