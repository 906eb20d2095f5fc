"""What the doctor says: codes are stable, words are not."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    PROBLEM = "problem"
    WARNING = "warning"
    FINE = "fine"


class Code(StrEnum):
    """Every problem and warning; docs/doctor.md tells each."""

    SETTINGS_UNKNOWN = "settings_unknown"
    SETTINGS_INVALID = "settings_invalid"
    SETTINGS_CONTRADICT = "settings_contradict"
    SETTINGS_FOR_TESTS = "settings_for_tests"
    CONTACT_MISSING = "contact_missing"
    PYTHON_OLD = "python_old"
    RAY_OLD = "ray_old"
    API_OTHER_VERSION = "api_other_version"
    API_FAILED = "api_failed"
    API_AWAY = "api_away"
    API_DOWN = "api_down"
    API_PART_AWAY = "api_part_away"
    WORKERS_SILENT = "workers_silent"
    PORT_TAKEN = "port_taken"
    PORT_EXPOSED = "port_exposed"
    DISK_FULL = "disk_full"
    DISK_LOW = "disk_low"
    DATA_DIR_FOREIGN = "data_dir_foreign"
    DATA_DIR_UNWRITABLE = "data_dir_unwritable"
    SECRET_READABLE = "secret_readable"  # noqa: S105 (a name)
    TOKEN_MISSING = "token_missing"  # noqa: S105
    TOKEN_EMPTY = "token_empty"  # noqa: S105
    OWNER_DEAD = "owner_dead"
    LOCK_HELD = "lock_held"
    SERVERS_ORPHANED = "servers_orphaned"
    MEMORY_SMALL = "memory_small"
    MEMORY_OVER = "memory_over"
    POSTGRESQL_AWAY = "postgresql_away"
    POSTGRESQL_LOGIN = "postgresql_login"
    POSTGRESQL_OLD = "postgresql_old"
    DURABILITY_OFF = "durability_off"
    AUTOVACUUM_OFF = "autovacuum_off"
    CONNECTIONS_FEW = "connections_few"
    CLOCK_SKEW = "clock_skew"
    REDIS_AWAY = "redis_away"
    REDIS_LOGIN = "redis_login"
    REDIS_OLD = "redis_old"
    REDIS_COPY = "redis_copy"
    REDIS_KEEPS_ALL = "redis_keeps_all"
    MEILISEARCH_AWAY = "meilisearch_away"
    MEILISEARCH_LOGIN = "meilisearch_login"
    MEILISEARCH_TASKS_FAILED = "meilisearch_tasks_failed"
    BLOBS_AWAY = "blobs_away"
    ARCHIVE_AWAY = "archive_away"
    ARCHIVE_SILENT = "archive_silent"
    RESTORE_UNFINISHED = "restore_unfinished"
    RESTORE_LEFTOVER = "restore_leftover"
    SCHEMA_MISSING = "schema_missing"
    SCHEMA_OLDER = "schema_older"
    SCHEMA_NEWER = "schema_newer"
    INDEX_BEHIND = "index_behind"
    INDEX_DIFFERS = "index_differs"
    INDEX_OTHER = "index_other"
    INDEX_BROKEN = "index_broken"
    INDEX_HOSTS = "index_hosts"
    INDEX_REFUSES = "index_refuses"
    REBUILD_FAILED = "rebuild_failed"
    LISTING_HOLES = "listing_holes"
    LEASES_EXPIRED = "leases_expired"
    RUNS_IDLE = "runs_idle"
    NO_ANSWER = "no_answer"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing: `fix` is what to do, where it can be the command. A fine one has its check's name
    as its code, and no fix."""

    code: str
    severity: Severity
    what: str
    why: str = ""
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a check looked at, in words, and what it found wrong."""

    told: str
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class NotSeen:
    """A check that could not be made here and now, which by itself is no fault."""

    why: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """The same with the check's name."""

    check: str
    why: str


@dataclass(frozen=True, slots=True)
class Report:
    """Everything found, in the order of the checks."""

    findings: tuple[Finding, ...]
    skipped: tuple[Skipped, ...]

    def count(self, severity: Severity) -> int:
        """How many findings of this severity there are."""
        return sum(each.severity is severity for each in self.findings)

    @property
    def exit_code(self) -> int:
        """1 with a problem. Warnings fail nobody."""
        return 1 if self.count(Severity.PROBLEM) else 0


def problem(code: Code, what: str, *, why: str = "", fix: str) -> Finding:
    """Something does not work, or data is at risk."""
    return Finding(code, Severity.PROBLEM, what, why, fix)


def warning(code: Code, what: str, *, why: str = "", fix: str) -> Finding:
    """It works, but not as it should, or not for long."""
    return Finding(code, Severity.WARNING, what, why, fix)
