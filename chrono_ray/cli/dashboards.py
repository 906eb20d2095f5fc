"""`chrono dashboards push`: the boards that come with chrono_ray, into a Grafana of yours."""

from __future__ import annotations

import hashlib
import logging
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeVar

import niquests
import orjson
from grafana_client.api import GrafanaApi
from grafana_client.client import GrafanaException

import chrono_ray
from chrono_ray import settings as chrono_settings
from chrono_ray.client.transport import address
from chrono_ray.model.errors import (
    ChronoError,
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    SettingsError,
    Unauthenticated,
    Unavailable,
)
from chrono_ray.settings import Settings

OWN: Final = Path(chrono_ray.__file__).parent / "boards"
FOLDER_UID: Final = "chrono-ray"
FOLDER_TITLE: Final = "chrono_ray"
TAG: Final = "chrono_ray"
"""On every board of ours; one without it is somebody else's."""
BUILD: Final = "build:"
DEADLINE: Final = 15.0
T = TypeVar("T")


class Done(StrEnum):
    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Board:
    """A board as it is pushed: `model` is Grafana's JSON, tagged with what it was built from."""

    uid: str
    title: str
    model: dict[str, object]


@dataclass(frozen=True, slots=True)
class Standing:
    """The board that Grafana has under a uid of ours."""

    id: int
    version: int
    tags: tuple[str, ...]
    provisioned: bool


@dataclass(frozen=True, slots=True)
class Target:
    """The Grafana that is meant, and the token for it."""

    url: str
    token: str = field(repr=False)


def push(folder: str, *, json: bool) -> int:
    """Put every board into one folder there; what is there already stays as it is.

    Nothing is written before all of it may be: a foreign board under a uid of ours, a board that
    Grafana reads from a file, or no Prometheus among its data sources end it.
    """
    target = _target(chrono_settings.load())
    boards = read(Path(folder) if folder else OWN)
    with _clear(target.url), _grafana(target) as grafana:
        done = _pushed(grafana, boards)
    if json:
        found = {"grafana": target.url, "folder": FOLDER_UID, "boards": done}
        sys.stdout.write(orjson.dumps(found).decode() + "\n")
    else:
        sys.stdout.writelines(f"{each.title}: {done[each.uid]}\n" for each in boards)
    return 0


def read(folder: Path) -> list[Board]:
    """The boards of a folder, by file name; `InvalidInput` for a file that holds none."""
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise InvalidInput(
            f"There are no boards in {folder}", why="it holds no *.json",
            fix="Name a folder of boards, or build them: make dashboards",
        )  # fmt: skip
    return [_board(path) for path in paths]


def _board(path: Path) -> Board:
    content = path.read_bytes()
    try:
        model = orjson.loads(content)
        uid, title, tags = model["uid"], model["title"], model["tags"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise InvalidInput(
            f"{path} is no board", why=f"{type(error).__name__}: {error}",
            fix="It must be JSON with uid, title and tags, as Grafana exports a board",
        ) from None  # fmt: skip
    build = hashlib.sha256(content).hexdigest()[:12]
    return Board(uid, title, {**model, "tags": [*tags, f"{BUILD}{build}"]})


def _target(settings: Settings) -> Target:
    if settings.grafana.url is None:
        raise SettingsError(
            "No Grafana is named", why="CHRONO_GRAFANA__URL is unset",
            fix="Set it, such as http://127.0.0.1:3000",
        )  # fmt: skip
    if settings.grafana.token_file is None:
        raise SettingsError(
            "There is no token for Grafana", why="CHRONO_GRAFANA__TOKEN_FILE is unset",
            fix="Make a service account with the role Editor there, and put its token into a file",
        )  # fmt: skip
    url = address(settings.grafana.url, insecure=settings.insecure)
    return Target(url, _token(settings.grafana.token_file))


def _token(path: Path) -> str:
    try:
        others = path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
        token = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            "Grafana's token cannot be read", why=f"{path}: {type(error).__name__}",
            fix="CHRONO_GRAFANA__TOKEN_FILE must name a file that holds the token and nothing else",
        ) from None  # fmt: skip
    if others:
        raise SettingsError(
            "Others can read Grafana's token", why=f"{path} is open to more than its owner",
            fix=f"chmod 600 {path}",
        )  # fmt: skip
    if not token:
        raise SettingsError("Grafana's token is empty", why=f"{path} holds nothing")
    return token


@contextmanager
def _grafana(target: Target) -> Iterator[GrafanaApi]:
    # Without the slash it would ask /grafanaapi of https://host/grafana.
    grafana: GrafanaApi = GrafanaApi.from_url(
        f"{target.url}/", credential=target.token, timeout=DEADLINE
    )
    grafana.client.s.trust_env = False  # a proxy of the environment would have the token
    grafana.client.s.max_redirects = 0  # a POST that is sent elsewhere becomes a GET on the way
    with grafana.client.s:
        yield grafana


def _pushed(grafana: GrafanaApi, boards: list[Board]) -> dict[str, Done]:
    """What became of each board, by uid."""
    _check_source(grafana)
    standing = {each.uid: _standing(grafana, each) for each in boards}
    if _or_none(lambda: grafana.folder.get_folder(FOLDER_UID)) is None:
        grafana.folder.create_folder(FOLDER_TITLE, uid=FOLDER_UID)
    return {each.uid: _write(grafana, each, standing[each.uid]) for each in boards}


def _check_source(grafana: GrafanaApi) -> None:
    sources = grafana.datasource.list_datasources()
    if not isinstance(sources, list):
        raise ChronoError(
            "This does not answer as Grafana does", fix="Check CHRONO_GRAFANA__URL", code="grafana"
        )
    if not any(each.get("type") == "prometheus" for each in sources):
        raise NotFound(
            "Grafana has no Prometheus to ask", why="none of its data sources is one",
            fix="Add the Prometheus that scrapes this instance (docs/metrics.md)",
        )  # fmt: skip


def _standing(grafana: GrafanaApi, board: Board) -> Standing | None:
    """What stands under the board's uid; `Conflict` when it is not ours to write."""
    answer = _or_none(lambda: grafana.dashboard.get_dashboard(board.uid))
    if answer is None:
        return None
    model, meta = answer["dashboard"], answer["meta"]
    found = Standing(
        model["id"], model["version"], tuple(model.get("tags") or ()),
        bool(meta.get("provisioned")),
    )  # fmt: skip
    if TAG not in found.tags:
        raise Conflict(
            f"Grafana has another board as {board.uid}: {model.get('title')!r}",
            why=f"it does not bear the tag {TAG}", fix="Give that one another uid, or delete it",
        )  # fmt: skip
    if found.provisioned:
        raise Conflict(
            f"Grafana reads the board {board.uid} from a file",
            why="such boards cannot be written by its API",
            fix="Nothing is to be done: they are as new as the files",
        )  # fmt: skip
    return found


def _write(grafana: GrafanaApi, board: Board, standing: Standing | None) -> Done:
    """Written on top of the version that was looked at, never over a later one."""
    if standing and set(standing.tags) >= set(_tags(board)):
        return Done.UNCHANGED
    place = {"id": None} if standing is None else {"id": standing.id, "version": standing.version}
    grafana.dashboard.update_dashboard({
        "dashboard": {**board.model, **place}, "folderUid": FOLDER_UID, "overwrite": False,
        "message": "chrono dashboards push",
    })  # fmt: skip
    return Done.CREATED if standing is None else Done.UPDATED


def _tags(board: Board) -> list[str]:
    tags = board.model["tags"]
    return tags if isinstance(tags, list) else []


def _or_none(ask: Callable[[], T]) -> T | None:
    """What Grafana answers; None for its 404."""
    try:
        return ask()
    except GrafanaException as error:
        if error.status_code == 404:
            return None
        raise


@contextmanager
def _clear(url: str) -> Iterator[None]:
    """What Grafana or the way to it says, as an error of ours."""
    logging.getLogger("grafana_client").setLevel(logging.ERROR)
    try:
        yield
    except GrafanaException as error:
        raise _refused(error, url) from None
    except niquests.exceptions.RequestException as error:
        raise _unreachable(url, type(error).__name__) from None


def _refused(error: GrafanaException, url: str) -> ChronoError:
    why = " ".join(str(error.message).split())[:200]
    match error.status_code:
        case 0:
            return _unreachable(url, f"no answer within {DEADLINE:g} s")
        case 401:
            return Unauthenticated(
                "Grafana does not know the token", fix="Check CHRONO_GRAFANA__TOKEN_FILE"
            )
        case 403:
            return Forbidden(
                "Grafana does not allow it", why=why,
                fix="The service account needs the role Editor and leave to read data sources",
            )  # fmt: skip
        case 409 | 412:
            return Conflict(
                "Grafana has something else in its place", why=why,
                fix="It was changed meanwhile, or bears the same name: look, then push again",
            )  # fmt: skip
        case _:
            return ChronoError("Grafana refused", why=why, fix=f"Check {url}", code="grafana")


def _unreachable(url: str, why: str) -> Unavailable:
    return Unavailable(
        f"Grafana cannot be reached at {url}", why=why,
        fix="Check CHRONO_GRAFANA__URL: its final address, with the path if there is one",
    )  # fmt: skip
