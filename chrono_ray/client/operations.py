"""The API's operations, by subject. Made by `python -m tools.client`: change the API instead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime
from typing import Literal

from chrono_ray.client import answers as a
from chrono_ray.client.transport import UNSET, Transport, Unset, segment


class ProjectsOperations:
    """Projects."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self, *, name: str, description: str | Unset = UNSET, weight: int | None | Unset = UNSET
    ) -> a.ProjectAnswer:
        """A project of one's own."""
        return self._transport.call(
            "POST",
            "/projects/",
            {201: a.ProjectAnswer},
            body={"name": name, "description": description, "weight": weight},
            once=True,
        )

    def get(self, project_id: int) -> a.ProjectAnswer:
        """One project. Its ETag holds until somebody changes it: what it collects has statistics."""
        return self._transport.call(
            "GET", f"/projects/{segment(project_id)}", {200: a.ProjectAnswer}
        )

    def change(
        self,
        project_id: int,
        *,
        if_match: str | Unset = UNSET,
        name: str | None | Unset = UNSET,
        description: str | None | Unset = UNSET,
        weight: int | None | Unset = UNSET,
        version: int | None | Unset = UNSET,
    ) -> a.ProjectAnswer:
        """Another name, description or weight, by the owner; what is not given stays."""
        return self._transport.call(
            "PATCH",
            f"/projects/{segment(project_id)}",
            {200: a.ProjectAnswer},
            headers={"If-Match": if_match},
            body={"name": name, "description": description, "weight": weight, "version": version},
        )

    def delete(self, project_id: int) -> a.DeletionAnswer:
        """All of it, for good, by a task: its runs end, its rows go, then the bytes nobody shares."""
        return self._transport.call(
            "DELETE", f"/projects/{segment(project_id)}", {202: a.DeletionAnswer}
        )

    def statistics(self, project_id: int) -> a.ProjectStatisticsAnswer:
        """What a project holds, by state and reason, archive, year and domain."""
        return self._transport.call(
            "GET", f"/projects/{segment(project_id)}/stats", {200: a.ProjectStatisticsAnswer}
        )

    def tags(self, project_id: int) -> Iterator[a.TagAnswer]:
        """A project's tags with how many of its pages have each."""
        return self._transport.pages(f"/projects/{segment(project_id)}/tags/", a.TagsAnswer)

    def list(
        self,
        *,
        q: str | Unset = UNSET,
        sort: Literal["name", "created", "activity", "captures", "pages"] | Unset = UNSET,
        deleting: bool | Unset = UNSET,
    ) -> Iterator[a.ListedProjectAnswer]:
        """The projects that one sees, with what they hold: by name, or the most or latest first."""
        return self._transport.pages(
            "/projects/", a.ProjectsAnswer, query={"q": q, "sort": sort, "deleting": deleting}
        )


class SearchOperations:
    """Search."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def page(
        self,
        *,
        query: str | Unset = UNSET,
        project: Sequence[int | str] | Unset = UNSET,
        domain: Sequence[str] | Unset = UNSET,
        host: Sequence[str] | Unset = UNSET,
        language: Sequence[str] | Unset = UNSET,
        mimetype: Sequence[str] | Unset = UNSET,
        from_: str | date | Unset = UNSET,
        to: str | date | Unset = UNSET,
        typos: bool | Unset = UNSET,
        facets: Sequence[Literal["project", "domain", "host", "language", "mimetype"]]
        | Unset = UNSET,
        histogram: Literal["year", "month", "day"] | Unset = UNSET,
        sort: Literal["relevance", "newest", "oldest"] | Unset = UNSET,
        offset: int | Unset = UNSET,
        limit: int | Unset = UNSET,
        q: str | Unset = UNSET,
    ) -> a.SearchAnswer:
        """Search. A filter may be given several times: any of its values may match."""
        return self._transport.call(
            "GET",
            "/search/",
            {200: a.SearchAnswer},
            query={
                "query": query,
                "project": project,
                "domain": domain,
                "host": host,
                "language": language,
                "mimetype": mimetype,
                "from": from_,
                "to": to,
                "typos": typos,
                "facets": facets,
                "histogram": histogram,
                "sort": sort,
                "offset": offset,
                "limit": limit,
                "q": q,
            },
        )

    def by_body(
        self,
        *,
        query: str | Unset = UNSET,
        project: Sequence[int | str] | Unset = UNSET,
        domain: Sequence[str] | Unset = UNSET,
        host: Sequence[str] | Unset = UNSET,
        language: Sequence[str] | Unset = UNSET,
        mimetype: Sequence[str] | Unset = UNSET,
        from_: str | date | Unset = UNSET,
        to: str | date | Unset = UNSET,
        typos: bool | Unset = UNSET,
        facets: Sequence[Literal["project", "domain", "host", "language", "mimetype"]]
        | Unset = UNSET,
        histogram: Literal["year", "month", "day"] | None | Unset = UNSET,
        sort: Literal["relevance", "newest", "oldest"] | Unset = UNSET,
        offset: int | Unset = UNSET,
        limit: int | Unset = UNSET,
    ) -> a.SearchAnswer:
        """Search, for filters longer than a URL may be."""
        return self._transport.call(
            "POST",
            "/search/",
            {200: a.SearchAnswer},
            body={
                "query": query,
                "project": project,
                "domain": domain,
                "host": host,
                "language": language,
                "mimetype": mimetype,
                "from": from_,
                "to": to,
                "typos": typos,
                "facets": facets,
                "histogram": histogram,
                "sort": sort,
                "offset": offset,
                "limit": limit,
            },
            again=True,
        )


class RunsOperations:
    """Runs."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def begin(
        self,
        *,
        project: int,
        url: str,
        match: Literal["exact", "prefix", "host", "domain"] | Unset = UNSET,
        from_: str | date | Unset = UNSET,
        to: str | date | Unset = UNSET,
        archives: Sequence[str] | Unset = UNSET,
        class_: Literal["critical", "scraping", "indexing", "default"] | Unset = UNSET,
        since: int | None | Unset = UNSET,
    ) -> a.BegunAnswer:
        """Collect a URL from archives; exactly this under way already is joined."""
        return self._transport.call(
            "POST",
            "/runs/",
            {201: a.BegunAnswer, 200: a.BegunAnswer},
            body={
                "project": project,
                "url": url,
                "match": match,
                "from": from_,
                "to": to,
                "archives": archives,
                "class": class_,
                "since": since,
            },
            once=True,
        )

    def get(self, run_id: int) -> a.RunDetail:
        """One run's progress and its first holes; up to a second old."""
        return self._transport.call("GET", f"/runs/{segment(run_id)}", {200: a.RunDetail})

    def holes(self, run_id: int) -> Iterator[a.HoleItem]:
        """Parts of the listing that could not be had, and why; of a collection by its first run."""
        return self._transport.pages(f"/runs/{segment(run_id)}/holes", a.HolesAnswer)

    def certificate(self, run_id: int) -> a.CertificateAnswer:
        """What the last recount of a run said: whether everything that the archive listed is
        there.
        """
        return self._transport.call(
            "GET", f"/runs/{segment(run_id)}/certificate", {200: a.CertificateAnswer}
        )

    def certify(self, run_id: int) -> a.TaskAsked:
        """Have a run recounted from what the archive said and from every row: a task does it."""
        return self._transport.call(
            "POST", f"/runs/{segment(run_id)}/certificate", {202: a.TaskAsked}, once=True
        )

    def pause(self, run_id: int) -> a.ChangedAnswer:
        """No request is sent for it from now on, later than 3 s never."""
        return self._transport.call(
            "POST", f"/runs/{segment(run_id)}/pause", {200: a.ChangedAnswer}, again=True
        )

    def resume(self, run_id: int) -> a.ChangedAnswer:
        """A paused run goes on where it stopped."""
        return self._transport.call(
            "POST", f"/runs/{segment(run_id)}/resume", {200: a.ChangedAnswer}, again=True
        )

    def cancel(self, run_id: int) -> a.ChangedAnswer:
        """It ends; what it has stored stays."""
        return self._transport.call(
            "POST", f"/runs/{segment(run_id)}/cancel", {200: a.ChangedAnswer}, again=True
        )

    def start(self, run_id: int) -> a.TaskAsked:
        """Fetch what was planned: a task does it, at once where somebody works."""
        return self._transport.call(
            "POST", f"/runs/{segment(run_id)}/start", {202: a.TaskAsked}, once=True
        )

    def retry(
        self,
        run_id: int,
        *,
        states: Sequence[Literal["failed", "gone", "refused", "cancelled", "hole"]] | Unset = UNSET,
        reasons: Sequence[str] | Unset = UNSET,
        force: bool | Unset = UNSET,
        dry_run: bool | Unset = UNSET,
    ) -> a.TaskAsked | a.RetriedAnswer:
        """Try again what ended without a page; a cancelled run gets back what its cancelling
        ended.
        """
        return self._transport.call(
            "POST",
            f"/runs/{segment(run_id)}/retry",
            {202: a.TaskAsked, 200: a.RetriedAnswer},
            body={"states": states, "reasons": reasons, "force": force, "dry_run": dry_run},
            once=True,
        )

    def prioritise(
        self,
        run_id: int,
        *,
        class_: Literal["critical", "scraping", "indexing", "default"] | None | Unset = UNSET,
        captures: Literal["now", "high", "normal", "low"] | None | Unset = UNSET,
        url: str | Unset = UNSET,
        match: Literal["exact", "prefix", "host", "domain"] | Unset = UNSET,
        from_: str | date | Unset = UNSET,
        to: str | date | Unset = UNSET,
        dry_run: bool | Unset = UNSET,
    ) -> a.TaskAsked | a.ClassAnswer | a.MovedAnswer:
        """The queue class of a run, at once; or a place for captures that wait in it, by a task."""
        return self._transport.call(
            "POST",
            f"/runs/{segment(run_id)}/priority",
            {202: a.TaskAsked, 200: a.ClassAnswer | a.MovedAnswer},
            body={
                "class": class_,
                "captures": captures,
                "url": url,
                "match": match,
                "from": from_,
                "to": to,
                "dry_run": dry_run,
            },
            once=True,
        )

    def list(
        self,
        *,
        project: int | Unset = UNSET,
        domain: int | Unset = UNSET,
        state: Literal["active", "planned", "paused", "cancelled", "done"] | Unset = UNSET,
        archive: str | Unset = UNSET,
    ) -> Iterator[a.RunItem]:
        """Runs, newest first, each alone whatever it stands with; up to a second old."""
        return self._transport.pages(
            "/runs/",
            a.RunsAnswer,
            query={"project": project, "domain": domain, "state": state, "archive": archive},
        )


class CapturesOperations:
    """Captures."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, capture_id: int) -> a.WholeCaptureAnswer:
        """One capture: why it stands where it does, and every request for it that brought nothing."""
        return self._transport.call(
            "GET", f"/captures/{segment(capture_id)}", {200: a.WholeCaptureAnswer}
        )

    def bulk(
        self,
        *,
        project: int,
        action: Literal["skip", "approve", "retry", "priority"],
        filter: dict[str, object] | None | Unset = UNSET,
        ids: Sequence[int] | None | Unset = UNSET,
        priority: Literal["now", "high", "normal", "low"] | None | Unset = UNSET,
        dry_run: bool | Unset = UNSET,
    ) -> a.BulkAnswer:
        """Skip, approve, retry or move captures; with `dry_run` say what that would be.

        Few are changed at once; many by a task: then it is answered 202.
        """
        return self._transport.call(
            "POST",
            "/captures/bulk",
            {200: a.BulkAnswer, 202: a.BulkAnswer},
            body={
                "project": project,
                "action": action,
                "filter": filter,
                "ids": ids,
                "priority": priority,
                "dry_run": dry_run,
            },
            once=True,
        )

    def fetch_now(self, capture_id: int) -> a.FetchedNowAnswer:
        """Have one capture fetched before all else: skipped ones too, and what had ended again."""
        return self._transport.call(
            "POST",
            f"/captures/{segment(capture_id)}/fetch",
            {200: a.FetchedNowAnswer, 202: a.FetchedNowAnswer},
            once=True,
        )

    def list(
        self,
        *,
        state: Sequence[
            Literal[
                "pending",
                "parked",
                "leased",
                "stored",
                "unchanged",
                "known",
                "skipped",
                "gone",
                "refused",
                "failed",
                "cancelled",
            ]
            | Literal["repeated"]
        ]
        | Unset = UNSET,
        reason: Sequence[str] | Unset = UNSET,
        from_: str | date | Unset = UNSET,
        to: str | date | Unset = UNSET,
        host: str | Unset = UNSET,
        url: str | Unset = UNSET,
        mimetype: Sequence[str] | Unset = UNSET,
        statuscode: Sequence[str] | Unset = UNSET,
        archive: Sequence[str] | Unset = UNSET,
        domain: int | Unset = UNSET,
        run: int | Unset = UNSET,
        project: int | Unset = UNSET,
        sort: Literal["time", "-time", "id", "-id"] | Unset = UNSET,
    ) -> Iterator[a.ListedCaptureAnswer]:
        """The captures of a project, or of a run or domain, by time or as they were listed."""
        return self._transport.pages(
            "/captures/",
            a.ListedCapturesAnswer,
            query={
                "state": state,
                "reason": reason,
                "from": from_,
                "to": to,
                "host": host,
                "url": url,
                "mimetype": mimetype,
                "statuscode": statuscode,
                "archive": archive,
                "domain": domain,
                "run": run,
                "project": project,
                "sort": sort,
            },
        )


class PagesOperations:
    """Pages."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, page_id: int) -> a.PageAnswer:
        """A page with its text, what is known of it, and how it is cited."""
        return self._transport.call("GET", f"/pages/{segment(page_id)}", {200: a.PageAnswer})

    def captures(self, page_id: int) -> Iterator[a.CaptureAnswer]:
        """The captures that showed this very content, by time, each to be cited."""
        return self._transport.pages(f"/pages/{segment(page_id)}/captures", a.CapturesAnswer)

    def versions(self, page_id: int) -> Iterator[a.VersionAnswer]:
        """Every content that this URL ever showed in the project, and what each changed."""
        return self._transport.pages(f"/pages/{segment(page_id)}/versions", a.VersionsAnswer)

    def neighbours(self, page_id: int) -> a.NeighboursAnswer:
        """The versions before and after, and what else of its host was seen at that time."""
        return self._transport.call(
            "GET", f"/pages/{segment(page_id)}/neighbours", {200: a.NeighboursAnswer}
        )

    def diff(self, page_id: int, *, with_: int) -> a.DiffAnswer:
        """How this page's text became another's, line by line. Texts up to 2 MB."""
        return self._transport.call(
            "GET", f"/pages/{segment(page_id)}/diff", {200: a.DiffAnswer}, query={"with": with_}
        )

    def star(self, page_id: int) -> None:
        """Star a page, for oneself. Again is the same."""
        self._transport.send("PUT", f"/pages/{segment(page_id)}/star")

    def unstar(self, page_id: int) -> None:
        """Take one's star from a page; where there is none, nothing changes."""
        self._transport.send("DELETE", f"/pages/{segment(page_id)}/star")

    def starred(self) -> Iterator[a.StarAnswer]:
        """One's starred pages that one still may see, the last starred first."""
        return self._transport.pages("/stars/", a.StarsAnswer)

    def tag(self, page_id: int, tag: str) -> a.PageTags:
        """Tag a page; again is the same. The tag is kept in NFC, without blanks around it."""
        return self._transport.call(
            "PUT", f"/pages/{segment(page_id)}/tags/{segment(tag)}", {200: a.PageTags}
        )

    def untag(self, page_id: int, tag: str) -> None:
        """Take a tag from a page; where there is none, nothing changes."""
        self._transport.send("DELETE", f"/pages/{segment(page_id)}/tags/{segment(tag)}")

    def review(
        self, page_id: int, *, status: Literal["unreviewed", "accepted", "rejected", "needs_work"]
    ) -> a.ReviewAnswer:
        """Say what the project thinks of a page. Saying it again changes nothing."""
        return self._transport.call(
            "PUT",
            f"/pages/{segment(page_id)}/review",
            {200: a.ReviewAnswer},
            body={"status": status},
        )

    def reviews(self, page_id: int) -> Iterator[a.ReviewChangeAnswer]:
        """Who said what of a page and when, the last first."""
        return self._transport.pages(f"/pages/{segment(page_id)}/reviews/", a.ReviewsAnswer)

    def list(
        self,
        *,
        project: int,
        host: str | Unset = UNSET,
        language: str | Unset = UNSET,
        mimetype: str | Unset = UNSET,
        from_: str | date | Unset = UNSET,
        to: str | date | Unset = UNSET,
        tag: str | Unset = UNSET,
        review: Literal["unreviewed", "accepted", "rejected", "needs_work"] | Unset = UNSET,
        starred: bool | Unset = UNSET,
        sort: Literal["url", "oldest", "newest"] | Unset = UNSET,
    ) -> Iterator[a.PageRow]:
        """A project's pages by URL or by time."""
        return self._transport.pages(
            "/pages/",
            a.PagesAnswer,
            query={
                "project": project,
                "host": host,
                "language": language,
                "mimetype": mimetype,
                "from": from_,
                "to": to,
                "tag": tag,
                "review": review,
                "starred": starred,
                "sort": sort,
            },
        )


class StatsOperations:
    """Stats."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def throughput(
        self,
        *,
        project: int | Unset = UNSET,
        from_: datetime | Unset = UNSET,
        to: datetime | Unset = UNSET,
        step: Literal["minute", "hour", "day"] | Unset = UNSET,
    ) -> a.ThroughputAnswer:
        """What was done over time, in one project or in all that you see; up to a minute old.

        Minutes are known for two days, hours for two years. Without dates: the last day.
        """
        return self._transport.call(
            "GET",
            "/stats/throughput",
            {200: a.ThroughputAnswer},
            query={"project": project, "from": from_, "to": to, "step": step},
        )

    def queues(self) -> a.QueuesAnswer:
        """What waits in the projects that you see; up to five seconds old."""
        return self._transport.call("GET", "/stats/queues", {200: a.QueuesAnswer})

    def archives(self) -> a.ArchivesAnswer:
        """What each archive allows and how long a request to it waits; up to five seconds old."""
        return self._transport.call("GET", "/stats/archives", {200: a.ArchivesAnswer})

    def cluster(self) -> a.ClusterAnswer:
        """The machines, what of them is free, and the workers; 503 where nobody knows a cluster."""
        return self._transport.call("GET", "/stats/cluster", {200: a.ClusterAnswer})


class HealthOperations:
    """Health."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self) -> a.HealthAnswer:
        """Say how it is. 503 when the record is away: then nothing can be promised.

        Admins, and whoever may read the metrics, are told of each part and each actor.
        """
        return self._transport.call("GET", "/health", {200: a.HealthAnswer, 503: a.HealthAnswer})


class AuthOperations:
    """Auth."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def register(self, *, email: str, password: str, name: str | Unset = UNSET) -> a.Registered:
        """Ask for an account. An admin approves it before a login works.

        The answer is the same for an address that is taken: nothing is changed then.
        """
        return self._transport.call(
            "POST",
            "/auth/register",
            {202: a.Registered},
            body={"email": email, "password": password, "name": name},
            once=True,
        )

    def login(
        self, *, email: str, password: str, new_password: str | None | Unset = UNSET
    ) -> a.Tokens:
        """A pair of tokens for an address and its password.

        After five wrong ones each further try must wait, longer every time. A password that an
        admin has set is good for one login, which brings `new_password` along.
        """
        return self._transport.call(
            "POST",
            "/auth/login",
            {200: a.Tokens},
            body={"email": email, "password": password, "new_password": new_password},
        )

    def refresh(self, *, refresh_token: str) -> a.Tokens:
        """A new pair for a refresh token, which is spent then.

        One that was spent before has been stolen, or was the thief's: its whole login ends.
        """
        return self._transport.call(
            "POST", "/auth/refresh", {200: a.Tokens}, body={"refresh_token": refresh_token}
        )

    def logout(self) -> None:
        """End this login: its access and refresh tokens. Others and API keys go on."""
        self._transport.send("POST", "/auth/logout")

    def change_password(self, *, password: str, new_password: str) -> None:
        """Another password. Every other login ends; API keys go on."""
        self._transport.send(
            "POST", "/auth/password", body={"password": password, "new_password": new_password}
        )


class UsersOperations:
    """Users."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def me(self) -> a.UserAnswer:
        """Who asks."""
        return self._transport.call("GET", "/users/me", {200: a.UserAnswer})

    def rename_me(self, *, name: str) -> a.UserAnswer:
        """Another name. Roles and addresses are for admins."""
        return self._transport.call("PATCH", "/users/me", {200: a.UserAnswer}, body={"name": name})

    def change(
        self,
        user_id: int,
        *,
        role: Literal["user", "admin"] | None | Unset = UNSET,
        state: Literal["active", "disabled"] | None | Unset = UNSET,
    ) -> a.UserAnswer:
        """Approve, disable, make an admin or no more one. Somebody must stay an admin."""
        return self._transport.call(
            "PATCH",
            f"/users/{segment(user_id)}",
            {200: a.UserAnswer},
            body={"role": role, "state": state},
        )

    def reset_password(self, user_id: int) -> a.OneTimePassword:
        """A password for a user who has lost theirs. It is good for one login, which sets another.

        It is shown in this answer and never again. The one before, all logins and all keys end.
        """
        return self._transport.call(
            "POST", f"/users/{segment(user_id)}/password", {200: a.OneTimePassword}
        )

    def list(
        self, *, state: Literal["pending", "active", "disabled"] | Unset = UNSET
    ) -> Iterator[a.UserAnswer]:
        """Users by id, for admins."""
        return self._transport.pages("/users/", a.UsersAnswer, query={"state": state})


class KeysOperations:
    """Keys."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        *,
        name: str,
        scopes: Sequence[Literal["read", "write", "admin"]] | Unset = UNSET,
        expires_in_days: int | Unset = UNSET,
    ) -> a.NewKeyAnswer:
        """An API key for programs, by a login. It is shown in this answer and never again.

        A key makes no keys: they would outlive it.
        """
        return self._transport.call(
            "POST",
            "/keys/",
            {201: a.NewKeyAnswer},
            body={"name": name, "scopes": scopes, "expires_in_days": expires_in_days},
            once=True,
        )

    def end(self, key_id: int) -> None:
        """End one of one's own API keys, at once. A key ends itself alone."""
        self._transport.send("DELETE", f"/keys/{segment(key_id)}")

    def list(self) -> Iterator[a.KeyAnswer]:
        """One's own API keys, oldest first, without their secrets."""
        return self._transport.pages("/keys/", a.KeysAnswer)


class NotesOperations:
    """Notes."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def add(self, page_id: int, *, text: str) -> a.NewNote:
        """Write a note to a page."""
        return self._transport.call(
            "POST",
            f"/pages/{segment(page_id)}/notes/",
            {201: a.NewNote},
            body={"text": text},
            once=True,
        )

    def change(self, note_id: int, *, text: str) -> a.NoteAnswer:
        """Another text for a note, by its author or the project's owner."""
        return self._transport.call(
            "PATCH", f"/notes/{segment(note_id)}", {200: a.NoteAnswer}, body={"text": text}
        )

    def delete(self, note_id: int) -> None:
        """Delete a note, by its author or the project's owner."""
        self._transport.send("DELETE", f"/notes/{segment(note_id)}")

    def list(self, page_id: int) -> Iterator[a.NoteAnswer]:
        """A page's notes, oldest first."""
        return self._transport.pages(f"/pages/{segment(page_id)}/notes/", a.NotesAnswer)


class SavedSearchesOperations:
    """Saved searches."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, *, name: str, search: dict[str, object]) -> a.SavedSearchAnswer:
        """Keep a search under a name, for oneself."""
        return self._transport.call(
            "POST",
            "/saved-searches/",
            {201: a.SavedSearchAnswer},
            body={"name": name, "search": search},
            once=True,
        )

    def get(self, search_id: int) -> a.SavedSearchAnswer:
        """One of one's own saved searches."""
        return self._transport.call(
            "GET", f"/saved-searches/{segment(search_id)}", {200: a.SavedSearchAnswer}
        )

    def change(
        self,
        search_id: int,
        *,
        name: str | Unset = UNSET,
        search: dict[str, object] | Unset = UNSET,
    ) -> a.SavedSearchAnswer:
        """Another name or another search; what is not given stays."""
        return self._transport.call(
            "PATCH",
            f"/saved-searches/{segment(search_id)}",
            {200: a.SavedSearchAnswer},
            body={"name": name, "search": search},
        )

    def delete(self, search_id: int) -> None:
        """Delete one of one's own saved searches."""
        self._transport.send("DELETE", f"/saved-searches/{segment(search_id)}")

    def results(
        self, search_id: int, *, offset: int | Unset = UNSET, limit: int | Unset = UNSET
    ) -> a.SearchAnswer:
        """What a saved search finds now; `offset` and `limit` instead of those that were saved."""
        return self._transport.call(
            "GET",
            f"/saved-searches/{segment(search_id)}/results",
            {200: a.SearchAnswer},
            query={"offset": offset, "limit": limit},
        )

    def list(self) -> Iterator[a.SavedSearchAnswer]:
        """One's saved searches, by name."""
        return self._transport.pages("/saved-searches/", a.SavedSearchesAnswer)


class LiveOperations:
    """Live."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def ticket(self) -> a.TicketAnswer:
        """A ticket for `GET /api/v1/live/ws?ticket=...`: no token ever stands in a URL."""
        return self._transport.call("POST", "/live/tickets", {201: a.TicketAnswer}, again=True)


class MembersOperations:
    """Members."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def add(
        self, project_id: int, *, email: str, role: Literal["read", "write"] | Unset = UNSET
    ) -> a.MemberAnswer:
        """Somebody with an account, by its address; by the project's owner."""
        return self._transport.call(
            "POST",
            f"/projects/{segment(project_id)}/members/",
            {201: a.MemberAnswer},
            body={"email": email, "role": role},
            once=True,
        )

    def get(self, project_id: int, user_id: int) -> a.MemberAnswer:
        """One of them."""
        return self._transport.call(
            "GET",
            f"/projects/{segment(project_id)}/members/{segment(user_id)}",
            {200: a.MemberAnswer},
        )

    def change(
        self, project_id: int, user_id: int, *, role: Literal["read", "write", "owner"]
    ) -> a.MemberAnswer:
        """Another role for a member, by the owner. As `owner` the project is theirs.

        An admin may name any user.
        """
        return self._transport.call(
            "PUT",
            f"/projects/{segment(project_id)}/members/{segment(user_id)}",
            {200: a.MemberAnswer},
            body={"role": role},
        )

    def remove(self, project_id: int, user_id: int) -> None:
        """A member no more: by the owner, or by themselves."""
        self._transport.send(
            "DELETE", f"/projects/{segment(project_id)}/members/{segment(user_id)}"
        )

    def list(self, project_id: int) -> Iterator[a.MemberAnswer]:
        """Who sees the project, its owner among them, by user."""
        return self._transport.pages(f"/projects/{segment(project_id)}/members/", a.MembersAnswer)


class DomainsOperations:
    """Domains."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def add(
        self,
        project_id: int,
        *,
        url: str,
        match: Literal["exact", "prefix", "host", "domain"] | Unset = UNSET,
        rules: str | Unset = UNSET,
    ) -> a.NewDomainAnswer:
        """A URL to collect, and which others belong to it. Nothing is asked of an archive yet."""
        return self._transport.call(
            "POST",
            f"/projects/{segment(project_id)}/domains/",
            {201: a.NewDomainAnswer},
            body={"url": url, "match": match, "rules": rules},
            once=True,
        )

    def get(self, project_id: int, domain_id: int) -> a.DomainAnswer:
        """One of them with what it holds."""
        return self._transport.call(
            "GET",
            f"/projects/{segment(project_id)}/domains/{segment(domain_id)}",
            {200: a.DomainAnswer},
        )

    def remove(self, project_id: int, domain_id: int) -> None:
        """One that nothing is listed of: what is listed goes with its project alone."""
        self._transport.send(
            "DELETE", f"/projects/{segment(project_id)}/domains/{segment(domain_id)}"
        )

    def rules(self, project_id: int, domain_id: int) -> a.RulesAnswer:
        """Which of the listed captures are fetched, and how far they are decided again by that.

        The ETag holds until somebody changes the rules.
        """
        return self._transport.call(
            "GET",
            f"/projects/{segment(project_id)}/domains/{segment(domain_id)}/rules",
            {200: a.RulesAnswer},
        )

    def change_rules(
        self,
        project_id: int,
        domain_id: int,
        *,
        rules: str,
        if_match: str | Unset = UNSET,
        version: int | None | Unset = UNSET,
    ) -> a.RulesAnswer:
        """Other rules, in place of all before. What is listed is decided again by whoever works.

        A rule never un-fetches: what has ended stays as it ended.
        """
        return self._transport.call(
            "PUT",
            f"/projects/{segment(project_id)}/domains/{segment(domain_id)}/rules",
            {200: a.RulesAnswer},
            headers={"If-Match": if_match},
            body={"rules": rules, "version": version},
        )

    def list(self, project_id: int, *, q: str | Unset = UNSET) -> Iterator[a.DomainAnswer]:
        """What the project collects, with what it holds, by URL."""
        return self._transport.pages(
            f"/projects/{segment(project_id)}/domains/", a.DomainsAnswer, query={"q": q}
        )


class ExportsOperations:
    """Exports."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def begin(
        self,
        project_id: int,
        *,
        subject: Literal["pages", "captures"] | Unset = UNSET,
        form: Literal["jsonl", "jsonl.gz", "jsonl.zst", "csv", "parquet"] | Unset = UNSET,
        run: int | Unset = UNSET,
        domain: str | Unset = UNSET,
        from_: str | date | Unset = UNSET,
        to: str | date | Unset = UNSET,
        rows_per_part: int | Unset = UNSET,
    ) -> a.ExportAnswer:
        """Have a project written to files, however large it is; whoever may read it may."""
        return self._transport.call(
            "POST",
            f"/projects/{segment(project_id)}/exports/",
            {202: a.ExportAnswer},
            body={
                "subject": subject,
                "form": form,
                "run": run,
                "domain": domain,
                "from": from_,
                "to": to,
                "rows_per_part": rows_per_part,
            },
            once=True,
        )

    def get(self, export_id: int) -> a.ExportAnswer:
        """How far an export is; up to a second old."""
        return self._transport.call("GET", f"/exports/{segment(export_id)}", {200: a.ExportAnswer})

    def delete(self, export_id: int) -> None:
        """Delete an export's files, for good. One that is being written is cancelled first."""
        self._transport.send("DELETE", f"/exports/{segment(export_id)}")

    def files(self, export_id: int) -> Iterator[a.ExportFile]:
        """The files that are written by now, by name."""
        return self._transport.pages(f"/exports/{segment(export_id)}/files", a.ExportFilesAnswer)

    def list(self, project_id: int) -> Iterator[a.ExportAnswer]:
        """A project's exports to files, newest first."""
        return self._transport.pages(f"/projects/{segment(project_id)}/exports/", a.ExportsAnswer)


class PlansOperations:
    """Plans."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def begin(
        self,
        *,
        project: int,
        url: str,
        match: Literal["exact", "prefix", "host", "domain"] | Unset = UNSET,
        from_: str | date | Unset = UNSET,
        to: str | date | Unset = UNSET,
        archives: Sequence[str] | Unset = UNSET,
        class_: Literal["critical", "scraping", "indexing", "default"] | Unset = UNSET,
        since: int | None | Unset = UNSET,
    ) -> a.BegunAnswer:
        """List what a collection would fetch, and fetch nothing; `GET /plans/{run}` tells it."""
        return self._transport.call(
            "POST",
            "/plans/",
            {201: a.BegunAnswer, 200: a.BegunAnswer},
            body={
                "project": project,
                "url": url,
                "match": match,
                "from": from_,
                "to": to,
                "archives": archives,
                "class": class_,
                "since": since,
            },
            once=True,
        )

    def get(self, run_id: int) -> a.PlanAnswer:
        """What a plan would fetch, skip and take; of a run that was started, what it still would."""
        return self._transport.call("GET", f"/plans/{segment(run_id)}", {200: a.PlanAnswer})

    def start(self, run_id: int) -> a.TaskAsked:
        """Fetch what was planned: a task does it, at once where somebody works."""
        return self._transport.call(
            "POST", f"/plans/{segment(run_id)}/start", {202: a.TaskAsked}, once=True
        )


class SchedulesOperations:
    """Schedules."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        *,
        project: int,
        url: str,
        every: int,
        match: Literal["exact", "prefix", "host", "domain"] | Unset = UNSET,
        from_: str | date | Unset = UNSET,
        to: str | date | Unset = UNSET,
        archives: Sequence[str] | Unset = UNSET,
        class_: Literal["critical", "scraping", "indexing", "default"] | Unset = UNSET,
        since: int | None | Unset = UNSET,
    ) -> a.ScheduleMade:
        """Collect again and again, the first time at once; what was missed is one run."""
        return self._transport.call(
            "POST",
            "/schedules/",
            {201: a.ScheduleMade},
            body={
                "project": project,
                "url": url,
                "match": match,
                "from": from_,
                "to": to,
                "archives": archives,
                "class": class_,
                "since": since,
                "every": every,
            },
            once=True,
        )

    def get(self, schedule_id: int) -> a.ScheduleAnswer:
        """One schedule."""
        return self._transport.call(
            "GET", f"/schedules/{segment(schedule_id)}", {200: a.ScheduleAnswer}
        )

    def change(
        self,
        schedule_id: int,
        *,
        every: int | None | Unset = UNSET,
        enabled: bool | None | Unset = UNSET,
        class_: Literal["critical", "scraping", "indexing", "default"] | None | Unset = UNSET,
    ) -> a.ScheduleAnswer:
        """Another interval or class; let it begin runs, or none: those under way go on."""
        return self._transport.call(
            "PATCH",
            f"/schedules/{segment(schedule_id)}",
            {200: a.ScheduleAnswer},
            body={"every": every, "enabled": enabled, "class": class_},
        )

    def delete(self, schedule_id: int) -> None:
        """Forget it; its runs stay."""
        self._transport.send("DELETE", f"/schedules/{segment(schedule_id)}")

    def list(self, *, project: int | Unset = UNSET) -> Iterator[a.ScheduleAnswer]:
        """Schedules, oldest first."""
        return self._transport.pages("/schedules/", a.SchedulesAnswer, query={"project": project})


class TasksOperations:
    """Tasks."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, task_id: int) -> a.TaskAnswer:
        """One task; up to a second old."""
        return self._transport.call("GET", f"/tasks/{segment(task_id)}", {200: a.TaskAnswer})

    def cancel(self, task_id: int) -> a.TaskAnswer:
        """End it at its next safe point. A project's deletion that has begun goes to its end."""
        return self._transport.call(
            "POST", f"/tasks/{segment(task_id)}/cancel", {200: a.TaskAnswer}, again=True
        )

    def reindex(self) -> a.TaskAsked:
        """A fresh index from the record takes the live one's place; for admins."""
        return self._transport.call("POST", "/tasks/reindex", {202: a.TaskAsked}, once=True)

    def purge(self, *, older_than: float | Unset = UNSET) -> a.TaskAsked:
        """Payloads that nothing refers to any more go; for admins."""
        return self._transport.call(
            "POST", "/tasks/purge", {202: a.TaskAsked}, body={"older_than": older_than}, once=True
        )

    def discover(
        self,
        *,
        project: int,
        url: str,
        archive: str | Unset = UNSET,
        match: Literal["exact", "prefix", "host", "domain"] | Unset = UNSET,
        from_: str | date | Unset = UNSET,
        to: str | date | Unset = UNSET,
    ) -> a.TaskAsked:
        """Begin a run when somebody works, instead of now."""
        return self._transport.call(
            "POST",
            "/tasks/discover",
            {202: a.TaskAsked},
            body={
                "project": project,
                "url": url,
                "archive": archive,
                "match": match,
                "from": from_,
                "to": to,
            },
            once=True,
        )

    def list(
        self,
        *,
        project: int | Unset = UNSET,
        run: int | Unset = UNSET,
        state: Literal["pending", "done", "failed", "cancelled"] | Unset = UNSET,
        kind: Literal[
            "delete_project",
            "purge",
            "export",
            "discover",
            "reindex",
            "start",
            "retry",
            "prioritise",
            "certify",
        ]
        | Unset = UNSET,
    ) -> Iterator[a.TaskAnswer]:
        """Tasks, newest first: of one's projects, and what one asked for of a project that is
        gone.
        """
        return self._transport.pages(
            "/tasks/",
            a.TasksAnswer,
            query={"project": project, "run": run, "state": state, "kind": kind},
        )


class AdminOperations:
    """Admin."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def queues(self) -> a.QueueDepthsAnswer:
        """What waits, by class, in all projects; and how far the index is behind."""
        return self._transport.call("GET", "/admin/queues", {200: a.QueueDepthsAnswer})

    def budgets(self) -> a.BudgetsAnswer:
        """What each archive allows, what of it is left, and until when and why it is paused."""
        return self._transport.call("GET", "/admin/budgets", {200: a.BudgetsAnswer})

    def pause_archive(self, name: str, *, seconds: int | Unset = UNSET) -> a.PausedAnswer:
        """Leave an archive alone for a while, for everybody. A longer pause of its own stays."""
        return self._transport.call(
            "POST",
            f"/admin/archives/{segment(name)}/pause",
            {200: a.PausedAnswer},
            body={"seconds": seconds},
            again=True,
        )

    def resume_archive(self, name: str) -> a.ResumedAnswer:
        """End an archive's pause now, whatever it was for. It begins slowly."""
        return self._transport.call(
            "POST", f"/admin/archives/{segment(name)}/resume", {200: a.ResumedAnswer}, again=True
        )

    def actors(self) -> a.ActorsAnswer:
        """The workers' last answers; 503 where this process knows no cluster."""
        return self._transport.call("GET", "/admin/actors", {200: a.ActorsAnswer})

    def pools(self) -> a.PoolsAnswer:
        """Connections to PostgreSQL: who holds how many, and how many there may be."""
        return self._transport.call("GET", "/admin/pools", {200: a.PoolsAnswer})

    def cache(self) -> a.CacheAnswer:
        """What the cache was asked in this process, and what it holds."""
        return self._transport.call("GET", "/admin/cache", {200: a.CacheAnswer})

    def flush_cache(self, *, tags: Sequence[str] | None | Unset = UNSET) -> a.FlushedAnswer:
        """End all answers, or those of some tags, at once and for everybody."""
        return self._transport.call(
            "POST", "/admin/cache/flush", {200: a.FlushedAnswer}, body={"tags": tags}, again=True
        )

    def end_cache_tag(self, tag: str) -> None:
        """End the answers of one tag: `project:7`, `run:9`, `user:3`."""
        self._transport.send("DELETE", f"/admin/cache/tags/{segment(tag)}")
