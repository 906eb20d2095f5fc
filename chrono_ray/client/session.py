"""The client that a notebook or a script holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Final, Literal, Self, TypeVar

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
from chrono_ray.client.streams import Day, Exports, Live, Pages, several
from chrono_ray.client.transport import Transport
from chrono_ray.model.errors import InvalidInput, NotFound, Unavailable

TIMEOUT: Final = 30.0
PATIENCE: Final = 60.0
LOOK_SECONDS: Final = 1.0
SEARCH_PAGE: Final = 100
SEARCH_DEPTH: Final = 1000
"""So deep a search goes; `exports.search` goes to its end."""

State = TypeVar("State", a.RunDetail, a.TaskAnswer, a.PlanAnswer)


class Projects(ProjectsOperations):
    """Projects."""

    def named(self, name: str) -> a.ListedProjectAnswer:
        """The one of this name that one sees: one's own before those of others.

        `NotFound` without one, `InvalidInput` (project_ambiguous) for several.
        """
        chosen = [each for each in self.list(q=name) if each.name == name]
        if len(chosen) > 1:
            me = UsersOperations(self._transport).me().id
            chosen = [each for each in chosen if each.owner_id == me] or chosen
        if not chosen:
            raise NotFound(f"There is no project {name!r}", fix="`projects.list()` names them")
        if len(chosen) > 1:
            raise InvalidInput(
                f"{name!r} means several projects", why="each has another owner",
                fix=f"Name one by its id: {', '.join(str(each.id) for each in chosen)}",
                code="project_ambiguous",
            )  # fmt: skip
        return chosen[0]


class Runs(RunsOperations):
    """Runs."""

    def wait(
        self,
        run_id: int,
        *,
        timeout: float | None = None,
        progress: Callable[[a.RunDetail], None] | None = None,
    ) -> a.RunDetail:
        """The run when it has ended (or was paused). Its last pages are searchable soon after.

        `progress` is called with each newer state. Raises `Unavailable` when that takes longer
        than `timeout` seconds; the run goes on.
        """
        return _wait(
            lambda: self.get(run_id), lambda run: run.state == "active", f"Run {run_id}",
            timeout, progress,
        )  # fmt: skip


class Plans(PlansOperations):
    """Plans."""

    def wait(
        self,
        run_id: int,
        *,
        timeout: float | None = None,
        progress: Callable[[a.PlanAnswer], None] | None = None,
    ) -> a.PlanAnswer:
        """The plan when all is listed (or it was paused): then it has its `estimate`.

        Raises `Unavailable` when that takes longer than `timeout` seconds; the listing goes on.
        """
        return _wait(
            lambda: self.get(run_id), lambda plan: plan.state == "active", f"Plan {run_id}",
            timeout, progress,
        )  # fmt: skip


class Tasks(TasksOperations):
    """Tasks."""

    def wait(
        self,
        task_id: int,
        *,
        timeout: float | None = None,
        progress: Callable[[a.TaskAnswer], None] | None = None,
    ) -> a.TaskAnswer:
        """The task when it is done, failed or cancelled: look at its `state`.

        Raises `Unavailable` when that takes longer than `timeout` seconds; the task goes on.
        """
        return _wait(
            lambda: self.get(task_id), lambda task: task.state == "pending", f"Task {task_id}",
            timeout, progress,
        )  # fmt: skip


class Search(SearchOperations):
    """Search: `c.search("words")` for hits, `c.search.page(...)` for facets and a histogram."""

    def __call__(
        self,
        query: str = "",
        *,
        project: int | str | Sequence[int | str] = (),
        domain: str | Sequence[str] = (),
        host: str | Sequence[str] = (),
        language: str | Sequence[str] = (),
        mimetype: str | Sequence[str] = (),
        from_: Day = "",
        to: Day = "",
        typos: bool = True,
        sort: Literal["relevance", "oldest", "newest"] = "relevance",
        most: int = SEARCH_DEPTH,
    ) -> Iterator[a.SearchHit]:
        """Hits, best first, fetched as they are taken: `most` of them, and 1,000 at most."""
        for offset in range(0, min(most, SEARCH_DEPTH), SEARCH_PAGE):
            found = self.by_body(
                query=query, project=several(project), domain=several(domain), host=several(host),
                language=several(language), mimetype=several(mimetype), from_=from_, to=to,
                typos=typos, sort=sort, offset=offset, limit=min(SEARCH_PAGE, most - offset),
            )  # fmt: skip
            yield from found.hits
            if len(found.hits) < SEARCH_PAGE:
                return


def _wait(
    get: Callable[[], State],
    goes_on: Callable[[State], bool],
    what: str,
    timeout: float | None,
    progress: Callable[[State], None] | None,
) -> State:
    until = None if timeout is None else time.monotonic() + timeout
    last: State | None = None
    while True:
        now = get()
        if progress and now != last:
            progress(now)
        if not goes_on(now):
            return now
        last = now
        if until is not None and time.monotonic() > until:
            raise Unavailable(
                f"{what} has not ended", why=f"after {timeout:g} s", fix="It goes on: wait again",
                code="timeout",
            )  # fmt: skip
        time.sleep(LOOK_SECONDS)


class Chrono:
    """A server of chrono_ray, as one user sees it. Safe to use from several threads.

    `token` is an API key, or an access token. Every operation of the API stands
    under its subject (`c.runs.begin(...)`); lists are walked as they are taken.
    Raises the errors of chrono_ray.model.errors, with the server's `code`.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str,
        timeout: float = TIMEOUT,
        patience: float = PATIENCE,
        insecure: bool = False,
    ) -> None:
        """`timeout` seconds for one try, `patience` for all tries of a request together.

        Plain http goes to this machine alone, unless `insecure` says that the network is trusted.
        """
        transport = Transport(
            url, token=token, timeout=timeout, patience=patience, insecure=insecure
        )
        self.url = url
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
        self.plans = Plans(transport)
        self.projects = Projects(transport)
        self.runs = Runs(transport)
        self.saved_searches = SavedSearchesOperations(transport)
        self.schedules = SchedulesOperations(transport)
        self.search = Search(transport)
        self.stats = StatsOperations(transport)
        self.tasks = Tasks(transport)
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
        insecure: bool = False,
    ) -> Self:
        """A client that came by a password: its tokens are renewed while it is used."""
        client = cls(url, token="", timeout=timeout, patience=patience, insecure=insecure)
        try:
            tokens = client.auth.login(email=email, password=password)
        except BaseException:
            client.close()
            raise
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
        """Close the connections. A login goes on until it expires, or `auth.logout()`."""
        self._transport.close()
