"""The client that a notebook or a script holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final, Literal, Self

from chrono_ray.client import answers as a
from chrono_ray.client.operations import (
    AdminOperations,
    AuthOperations,
    CapturesOperations,
    DomainsOperations,
    HealthOperations,
    KeysOperations,
    MembersOperations,
    NotesOperations,
    PlansOperations,
    ProjectsOperations,
    RunsOperations,
    SavedSearchesOperations,
    SchedulesOperations,
    SearchOperations,
    StatsOperations,
    TasksOperations,
    UsersOperations,
)
from chrono_ray.client.streams import Exports, Live, Pages
from chrono_ray.client.transport import Transport
from chrono_ray.model.errors import Unavailable

TIMEOUT: Final = 30.0
PATIENCE: Final = 60.0
LOOK_SECONDS: Final = 1.0
SEARCH_PAGE: Final = 100
SEARCH_DEPTH: Final = 1000
"""So deep a search goes; `exports.search` goes to its end."""
UNDER_WAY: Final = frozenset({"active", "paused"})


class Runs(RunsOperations):
    """Runs."""

    def wait(
        self,
        run_id: int,
        *,
        timeout: float | None = None,
        progress: Callable[[a.RunDetail], None] | None = None,
    ) -> a.RunDetail:
        """The run when it has ended (or was paused). `progress` is called with each newer state.

        Raises `Unavailable` when that takes longer than `timeout` seconds; the run goes on.
        """
        until = None if timeout is None else time.monotonic() + timeout
        last = None
        while True:
            now = self.get(run_id)
            if progress and now != last:
                progress(now)
            if now.state != "active":
                return now
            last = now
            if until is not None and time.monotonic() > until:
                raise Unavailable(
                    f"Run {run_id} has not ended", why=f"after {timeout:g} s",
                    fix="It goes on: wait again", code="timeout",
                )  # fmt: skip
            time.sleep(LOOK_SECONDS)


class Search(SearchOperations):
    """Search."""

    def __call__(
        self,
        query: str,
        *,
        project: int | str | tuple[int | str, ...] = (),
        host: tuple[str, ...] = (),
        language: tuple[str, ...] = (),
        start: str = "",
        end: str = "",
        sort: Literal["relevance", "oldest", "newest"] = "relevance",
        most: int = SEARCH_DEPTH,
    ) -> Iterator[a.SearchHit]:
        """Hits, best first, fetched as they are taken: `most` of them at most."""
        places = project if isinstance(project, tuple) else (project,)
        for offset in range(0, min(most, SEARCH_DEPTH), SEARCH_PAGE):
            found = self.by_body(
                query=query, project=places, host=host, language=language, from_=start, to=end,
                sort=sort, offset=offset, limit=min(SEARCH_PAGE, most - offset),
            )  # fmt: skip
            yield from found.hits
            if len(found.hits) < SEARCH_PAGE:
                return


class Chrono:
    """A server of chrono_ray, as one user sees it. Safe to use from several threads.

    `token` is an API key, or an access token. Every operation of the API stands
    under its subject (`c.runs.begin(...)`); lists are walked as they are taken.
    Raises the errors of chrono_ray.model.errors, with the server's `code`.
    """

    def __init__(
        self, url: str, *, token: str, timeout: float = TIMEOUT, patience: float = PATIENCE
    ) -> None:
        self.url = url
        transport = Transport(url, token=token, timeout=timeout, patience=patience)
        self._transport = transport
        self.admin = AdminOperations(transport)
        self.auth = AuthOperations(transport)
        self.captures = CapturesOperations(transport)
        self.domains = DomainsOperations(transport)
        self.exports = Exports(transport)
        self.health = HealthOperations(transport)
        self.keys = KeysOperations(transport)
        self.live = Live(transport)
        self.members = MembersOperations(transport)
        self.notes = NotesOperations(transport)
        self.pages = Pages(transport)
        self.plans = PlansOperations(transport)
        self.projects = ProjectsOperations(transport)
        self.runs = Runs(transport)
        self.saved_searches = SavedSearchesOperations(transport)
        self.schedules = SchedulesOperations(transport)
        self.search = Search(transport)
        self.stats = StatsOperations(transport)
        self.tasks = TasksOperations(transport)
        self.users = UsersOperations(transport)

    @classmethod
    def login(
        cls,
        url: str,
        email: str,
        password: str,
        *,
        timeout: float = TIMEOUT,
        patience: float = PATIENCE,
    ) -> Self:
        """A client that came by a password: its tokens are renewed while it is used."""
        client = cls(url, token="", timeout=timeout, patience=patience)
        tokens = client.auth.login(email=email, password=password)
        refresh = tokens.refresh_token

        def renew() -> str:
            nonlocal refresh
            renewed = client.auth.refresh(refresh_token=refresh)
            refresh = renewed.refresh_token
            return renewed.access_token

        client._transport.use(tokens.access_token)
        client._transport.renewed_by(renew)
        return client

    def __repr__(self) -> str:
        return f"Chrono({self.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()
