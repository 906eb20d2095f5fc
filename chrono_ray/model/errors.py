"""Every error the system raises on purpose, in one tree.

::

    ChronoError
    ├── InvalidInput            the caller can mend it: 422, exit code 2
    ├── NotFound                no such thing, or not yours: 404
    ├── Conflict                it is there already, or in another state: 409
    ├── Stale                   it was changed since it was read: 412
    ├── Unauthenticated         nobody we know asks: 401
    ├── Forbidden               we know who asks, and it is not theirs to do: 403
    ├── TooOften                try again after `retry_after` seconds: 429
    ├── SettingsError           refuse to start
    ├── EmbeddedError           PostgreSQL or Valkey cannot be started here
    ├── Unavailable             a part is away; the same call may work later: 503
    ├── RecordRefused           PostgreSQL refuses what one row holds: name it, write the others
    ├── LeaseLost               somebody else owns the work now: stop, write nothing
    ├── ArchiveError
    │   ├── Throttled           429, 503 or Retry-After: silence the whole cluster
    │   ├── ConnectionRefused   after throttling, a ban
    │   ├── ArchiveUnavailable  5xx, cut connection, nonsense answer: try again
    │   ├── MementoGone         the archive says it has no such memento: gone(reason)
    │   ├── RequestRefused      we will not send it, or keep it: refused(reason)
    │   └── TransferFailed      the answer cannot be used: failed(reason)
    ├── ExtractionFailed        not understood: crashed | timeout | memory | parse | type ...
    └── SearchError
        └── DocumentRejected    the index refuses this one document

`what` happened, `why`, and what to do about it (`fix`) are separate, so that
the CLI and the API can show all three. `code` is stable; clients match on it.
"""

from __future__ import annotations

import copyreg
from typing import Any, ClassVar


class ChronoError(Exception):
    """Root of the tree; `str()` is one line: what, why, what to do."""

    code: str = "error"

    def __init__(self, what: str, *, why: str = "", fix: str = "", code: str = "") -> None:
        super().__init__(what, why, fix)
        self.what = what
        self.why = why
        self.fix = fix
        if code:
            self.code = code

    def __str__(self) -> str:
        why = f": {self.why}" if self.why else ""
        fix = f". {self.fix}" if self.fix else ""
        return f"{self.what}{why}{fix}"

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions are pickled by calling the class with `args`, which keyword arguments
        # forbid; and errors do cross processes (Ray, the extraction child).
        return copyreg.__newobj__, (type(self), *self.args), vars(self)  # type: ignore[attr-defined]


class InvalidInput(ChronoError):
    """The caller sent something that cannot be served; `code` says which rule."""

    code = "invalid_input"


class NotFound(ChronoError):
    code = "not_found"


class Conflict(ChronoError):
    code = "conflict"


class Stale(ChronoError):
    """Somebody changed it since the caller read it: nothing was changed now."""

    code = "stale"


class Unauthenticated(ChronoError):
    code = "unauthenticated"


class Forbidden(ChronoError):
    code = "forbidden"


class TooOften(ChronoError):
    """Nothing was tried; `retry_after` is in seconds."""

    code = "too_often"

    def __init__(
        self, what: str, *, retry_after: float, why: str = "", fix: str = "", code: str = ""
    ) -> None:
        super().__init__(what, why=why, fix=fix, code=code)
        self.retry_after = retry_after


class SettingsError(ChronoError):
    code = "settings"


class EmbeddedError(ChronoError):
    code = "embedded"


class Unavailable(ChronoError):
    """A part is away. Nothing was changed; the same call may succeed later."""

    code = "unavailable"


class RecordRefused(ChronoError):
    """PostgreSQL refuses what a row of the batch holds; nothing of the batch was written."""

    code = "record_refused"


class LeaseLost(ChronoError):
    """The lease token is no longer ours: stop at once and write nothing."""

    code = "lease_lost"


class ArchiveError(ChronoError):
    """An archive did not give what was asked; `reason` is stored with the attempt."""

    code = "archive"
    default_reason: ClassVar[str] = "archive"

    def __init__(
        self, what: str, *, reason: str = "", why: str = "", fix: str = "", requests: int = 1
    ) -> None:
        super().__init__(what, why=why, fix=fix)
        self.reason = reason or self.default_reason
        self.requests = requests
        """How many requests went out on the wire before this was raised."""


class Throttled(ArchiveError):
    """The archive asks for silence: live 429 or 503 (an archived one is content).

    `retry_after` is in seconds; None when the archive named no time.
    """

    default_reason = "throttled"

    def __init__(
        self, what: str, *, retry_after: float | None, why: str = "", requests: int = 1
    ) -> None:
        super().__init__(what, why=why, requests=requests)
        self.retry_after = retry_after


class ConnectionRefused(ArchiveError):
    """TCP was refused. Right after throttling this is a ban, not an outage."""

    default_reason = "refused_connection"


class ArchiveUnavailable(ArchiveError):
    """The archive is ill (5xx, reset, an error page as a listing): try again later."""

    default_reason = "archive"


class MementoGone(ArchiveError):
    """The archive lists the capture but cannot replay it: 404, 410, blocked, excluded."""

    default_reason = "not_found"


class RequestRefused(ArchiveError):
    """Our own policy says no: reason address | scheme | port | type."""

    default_reason = "address"


class TransferFailed(ArchiveError):
    """The answer cannot be used.

    reason: truncated | protocol | deadline (may pass: tried again), or
    encoding | too_large | redirects | revisit | warc (final).
    """

    default_reason = "protocol"


class ExtractionFailed(ChronoError):
    """The page was not understood: reason crashed | timeout | memory | parse | too_large | type."""

    code = "extraction"

    def __init__(self, what: str, *, reason: str, why: str = "") -> None:
        super().__init__(what, why=why)
        self.reason = reason


class SearchError(ChronoError):
    code = "search"


class DocumentRejected(SearchError):
    """The index refuses one document for what it holds; its neighbours are indexed."""

    code = "document_rejected"

    def __init__(self, what: str, *, page_id: int, why: str = "") -> None:
        super().__init__(what, why=why)
        self.page_id = page_id
