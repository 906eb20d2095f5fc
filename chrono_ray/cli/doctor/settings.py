"""What is set: unknown names, values that cannot be used, choices that do not go together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from chrono_ray import settings as chrono_settings
from chrono_ray.cli.doctor.finding import Code, Finding, Seen, problem, warning
from chrono_ray.model.errors import SettingsError
from chrono_ray.settings import BY_FILE, LOOPBACK, PREFIX, TESTS, Settings

ALIKE: Final = 0.7


@dataclass(frozen=True, slots=True)
class Read:
    """The settings as far as they can be read; None when a value cannot be used."""

    settings: Settings | None
    seen: Seen


def read(environment: Mapping[str, str]) -> Read:
    """What nothing reads is left out, so that the rest can be looked at."""
    strange = unknown(environment)
    known = {name: value for name, value in environment.items() if name not in strange}
    findings = [_unknown(name) for name in strange]
    try:
        settings = chrono_settings.load(known)
    except SettingsError as error:
        fix = error.fix or "Mend or unset them; docs/settings.md tells what each may be"
        wrong = problem(Code.SETTINGS_INVALID, error.what, why=error.why, fix=fix)
        return Read(None, Seen("", (*findings, wrong)))
    chosen = sum(source != "default" for _, _, source in chrono_settings.shown(settings, known))
    told = f"{len(chrono_settings.names())} settings, {chosen} of them chosen here"
    return Read(settings, Seen(told, (*findings, *contradictions(settings), *_unwise(settings))))


def unknown(environment: Mapping[str, str]) -> list[str]:
    """Names that begin as ours do, and that nothing reads."""
    known = {*chrono_settings.names(), *BY_FILE}
    return sorted(
        name for name in environment
        if name.upper().startswith(PREFIX) and not name.upper().startswith(TESTS)
        and name.upper() not in known
    )  # fmt: skip


def contradictions(settings: Settings) -> Iterator[Finding]:
    """Choices that are good alone, and not together."""
    elsewhere = settings.ray_address and not _is_here(settings.ray_address)
    if elsewhere and settings.meilisearch_url is None:
        yield problem(
            Code.SETTINGS_CONTRADICT, "The index is a folder here, and the workers are elsewhere",
            why="CHRONO_RAY_ADDRESS is another host's, CHRONO_MEILISEARCH_URL is not set",
            fix="Set CHRONO_MEILISEARCH_URL and CHRONO_MEILISEARCH_KEY",
        )  # fmt: skip
    if elsewhere and (
        settings.database_url is None or _is_here(settings.database_url.get_secret_value())
    ):
        yield problem(
            Code.SETTINGS_CONTRADICT, "The workers are elsewhere and cannot reach the record",
            why="CHRONO_RAY_ADDRESS is another host's, PostgreSQL listens on this one's loopback",
            fix="Set CHRONO_DATABASE_URL to an address that every host reaches",
        )  # fmt: skip
    if settings.token and settings.server is None:
        yield problem(
            Code.SETTINGS_CONTRADICT, "There is a token and no server",
            why="CHRONO_TOKEN is set, CHRONO_SERVER is not", fix="Set both, or neither",
        )  # fmt: skip


def _unwise(settings: Settings) -> Iterator[Finding]:
    archives = settings.archives
    asked = [
        name for name, each in (
            ("the Wayback Machine", archives.wayback), ("Common Crawl", archives.commoncrawl)
        ) if each.is_public
    ]  # fmt: skip
    if asked and not settings.contact.strip():
        yield warning(
            Code.CONTACT_MISSING, "Archives cannot write to whoever asks them",
            why=f"CHRONO_CONTACT is not set, and {' and '.join(asked)} may be asked",
            fix="Set CHRONO_CONTACT to an e-mail address or a page about you",
        )  # fmt: skip
    if settings.accounts.for_tests:
        yield warning(
            Code.SETTINGS_FOR_TESTS, "Passwords may be hashed too cheaply",
            why="CHRONO_ACCOUNTS__FOR_TESTS is on", fix="Unset it where people have accounts",
        )  # fmt: skip


def _unknown(name: str) -> Finding:
    near = get_close_matches(
        name.upper(), [*chrono_settings.names(), *BY_FILE], n=1, cutoff=ALIKE
    )  # fmt: skip
    meant = f"Is {near[0]} meant? " if near else ""
    return problem(
        Code.SETTINGS_UNKNOWN, f"There is no setting {name}", why="nothing reads it",
        fix=f"{meant}Rename or unset it; `chrono config show` lists every setting",
    )  # fmt: skip


def _is_here(address: str) -> bool:
    """Whether a URL or host:port is this machine's loopback; `auto` and `local` are."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    host = parts.hostname or ""
    if host in LOOPBACK or address in ("auto", "local"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
