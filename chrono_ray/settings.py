"""Every setting, in one frozen tree: environment prefix CHRONO_, nested by two underscores.

An unset URL means "start it for me". Secrets have no defaults that work. What
is unknown, empty or weak refuses to start.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Final, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from chrono_ray import __version__
from chrono_ray.model.errors import SettingsError

PREFIX: Final = "CHRONO_"
TESTS: Final = "CHRONO_TEST_"
WEAK: Final = frozenset(
    {"changeme", "password", "secret", "masterkey", "admin", "postgres", "test"}
)
SECRET_BYTES_MIN: Final = 16
HASH_MEMORY: Final = 19 * 1024
HASH_PASSES: Final = 2
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
BY_FILE: Final = {
    f"{PREFIX}{name}_FILE": f"{PREFIX}{name}"
    for name in ("DATABASE_URL", "REDIS_URL", "MEILISEARCH_KEY", "TOKEN")
}
"""Settings that are secrets, by the name that says in which file one is."""
USERINFO: Final = re.compile(r"(?<=://)[^/?#\s]*@")
ARGUMENT: Final = re.compile(
    r"([?&][^=&#\s]*(?:pass|pwd|secret|token|key|sig|auth|credential)[^=&#\s]*=)[^&#\s]+",
    re.IGNORECASE,
)
"""In a URL, what would let its reader in, by its name."""

MUST: Final = {
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "float_parsing": "must be a number",
    "bool_parsing": "must be true or false",
    "greater_than_equal": "must be {ge} or more",
    "greater_than": "must be more than {gt:g}",
    "less_than_equal": "must be {le} or less",
}
"""What to say of a value, by pydantic's name for what is wrong with it."""

PerMinute = Annotated[int, Field(ge=0, le=1_000_000)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Wayback(_Frozen):
    """The Wayback Machine. Its hard limits are 30 listings and 600 replays a minute per address;

    its staff ask clients for 80 % of that (edgi-govdata-archiving/wayback#206 and v0.5.1, 2026-06).
    """

    url: str = "https://web.archive.org"
    cdx_per_minute: PerMinute = 24
    replay_per_minute: PerMinute = 480
    page_rows: Annotated[int, Field(ge=1, le=150_000)] = 10_000

    @property
    def is_public(self) -> bool:
        """Whether it is the Internet Archive's own, not a compatible server of somebody's."""
        return bool(self.url == Wayback.model_fields["url"].default)


class CommonCrawl(_Frozen):
    """Common Crawl: where it lists its crawls, and where their files are.

    Its index bans an address that asks more than ten times a minute: 80 % of that
    (commoncrawl/cdx_toolkit, tests/test_fail2ban.py, late 2025). Of its files it asks to retry no
    more than once a second (status.commoncrawl.org, 2025-07). `page_blocks` is what it calls a
    page size: blocks of 3,000 rows.
    """

    url: str = "https://index.commoncrawl.org/collinfo.json"
    data_url: str = "https://data.commoncrawl.org"
    cdx_per_minute: PerMinute = 8
    replay_per_minute: PerMinute = 60
    page_blocks: Annotated[int, Field(ge=2, le=20)] = 5

    @property
    def is_public(self) -> bool:
        """Whether both are Common Crawl's own, not a mirror of somebody's."""
        fields = CommonCrawl.model_fields
        return bool(
            self.url == fields["url"].default and self.data_url == fields["data_url"].default
        )


class Pywb(_Frozen):
    """A pywb collection, such as http://127.0.0.1:8080/mine; unset: not used."""

    url: str = ""
    cdx_per_minute: PerMinute = 60
    replay_per_minute: PerMinute = 600
    page_rows: Annotated[int, Field(ge=1, le=150_000)] = 10_000


class Warc(_Frozen):
    """A local WARC, ARC or WACZ file, or a folder of them; unset: not used."""

    url: str = ""
    page_rows: Annotated[int, Field(ge=1, le=150_000)] = 10_000

    @field_validator("url")
    @classmethod
    def _absolute(cls, value: str) -> str:
        """Actors have another working folder than the person who typed the path."""
        return str(Path(value.removeprefix("file://")).expanduser().absolute()) if value else ""


class Archives(_Frozen):
    wayback: Wayback = Wayback()
    commoncrawl: CommonCrawl = CommonCrawl()
    pywb: Pywb = Pywb()
    warc: Warc = Warc()


class Politeness(_Frozen):
    """How long an archive is left alone when it does not say: seconds, doubling up to a maximum."""

    throttled: Annotated[float, Field(gt=0)] = 60.0
    throttled_most: Annotated[float, Field(gt=0)] = 3600.0
    ban: Annotated[float, Field(gt=0)] = 3600.0
    ban_most: Annotated[float, Field(gt=0)] = 24 * 3600.0
    outage: Annotated[float, Field(gt=0)] = 10.0
    outage_most: Annotated[float, Field(gt=0)] = 300.0


class Scraping(_Frozen):
    """How many scrapers there are and how each works; times in seconds, memory in MiB."""

    scrapers: Annotated[int, Field(ge=0, le=256)] = 0
    scrapers_most: Annotated[int, Field(ge=0, le=1000)] = 0
    idle: Annotated[float, Field(gt=0)] = 60.0
    rss: Annotated[int, Field(ge=128)] = 400
    leases: Annotated[int, Field(ge=1)] = 500
    in_flight: Annotated[int, Field(ge=1, le=512)] = 48
    replay_deadline: Annotated[float, Field(gt=0)] = 60.0
    late_deadline: Annotated[float, Field(gt=0)] = 180.0
    lease: Annotated[float, Field(ge=1)] = 60.0
    sweep: Annotated[float, Field(gt=0)] = 5.0
    page_seconds: Annotated[float, Field(gt=0)] = 20.0
    page_memory: Annotated[int, Field(ge=256)] = 512


class Tasks(_Frozen):
    """How each scraper works on tasks; times in seconds."""

    slots: Annotated[int, Field(ge=1, le=64)] = 2
    soft: Annotated[float, Field(gt=0)] = 1500.0
    hard: Annotated[float, Field(gt=0)] = 1800.0


class Indexing(_Frozen):
    """A batch goes to the index at so many documents, bytes, or seconds, whichever comes first."""

    lease: Annotated[float, Field(ge=1)] = 60.0
    documents: Annotated[int, Field(ge=1, le=10_000)] = 100
    bytes: Annotated[int, Field(ge=1024)] = 4 * 1024 * 1024
    seconds: Annotated[float, Field(gt=0)] = 2.0


class Serving(_Frozen):
    """The HTTP API. `trusted_proxies` are addresses or networks, by commas."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    haproxy: bool = True
    trusted_proxies: str = ""

    @field_validator("trusted_proxies")
    @classmethod
    def _addresses(cls, value: str) -> str:
        """They may say for whom they ask, so they are named one by one, never guessed."""
        return _by_commas(value)


class Accounts(_Frozen):
    """Who may ask over HTTP. Memory in KiB, times in seconds.

    Hashing weaker than OWASP's figures for argon2id (Password Storage Cheat Sheet, 2025: 19 MiB,
    2 passes) is for tests alone.
    """

    approval: bool = True
    access: Annotated[float, Field(ge=1)] = 900.0
    refresh: Annotated[float, Field(ge=1)] = 30 * 86400.0
    hash_memory: Annotated[int, Field(ge=8)] = HASH_MEMORY
    hash_passes: Annotated[int, Field(ge=1)] = HASH_PASSES
    hashes: Annotated[int, Field(ge=1, le=64)] = 2
    for_tests: bool = False

    @model_validator(mode="after")
    def _strong(self) -> Self:
        weak = self.hash_memory < HASH_MEMORY or self.hash_passes < HASH_PASSES
        if weak and not self.for_tests:
            raise ValueError(
                f"hashes passwords too cheaply: at least {HASH_MEMORY} KiB and {HASH_PASSES} passes"
                " unless CHRONO_ACCOUNTS__FOR_TESTS says that nobody's password is kept here"
            )
        return self


class Live(_Frozen):
    """Whose pages may watch progress and read the API from a browser, besides our own."""

    origins: str = ""

    @field_validator("origins")
    @classmethod
    def _are_origins(cls, value: str) -> str:
        for each in filter(None, (part.strip() for part in value.split(","))):
            parts = urlsplit(each)
            if parts.scheme not in ("http", "https") or f"{parts.scheme}://{parts.netloc}" != each:
                raise ValueError(f"holds {each!r}: write https://host or https://host:port")
        return ",".join(part.strip() for part in value.split(",") if part.strip())


class Grafana(_Frozen):
    """The Grafana that `chrono dashboards push` writes to, and a file with a token for it."""

    url: str | None = None
    token_file: Path | None = None


class Metrics(_Frozen):
    """Who besides this machine reads /metrics without a token, by commas. `slow` in seconds."""

    readers: str = Field(default="", alias="from")
    slow: Annotated[float, Field(gt=0)] = 1.0

    @field_validator("readers")
    @classmethod
    def _networks(cls, value: str) -> str:
        return _by_commas(value)


class Settings(BaseSettings):
    """The whole tree. Read it once, at the edge, with `load`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    data_dir: Path = Path("~/.local/share/chrono_ray")
    database_url: SecretStr | None = None
    redis_url: SecretStr | None = None
    meilisearch_url: str | None = None
    meilisearch_key: SecretStr | None = None
    blobs_url: str | None = None
    exports_url: str | None = None
    ray_address: str | None = None
    ray_host: str | None = None
    egress: str = "default"
    contact: str = ""
    log_level: str = "info"
    server: str | None = None
    token: SecretStr | None = None
    insecure: bool = False
    archives: Archives = Archives()
    politeness: Politeness = Politeness()
    scraping: Scraping = Scraping()
    tasks: Tasks = Tasks()
    indexing: Indexing = Indexing()
    serving: Serving = Serving()
    accounts: Accounts = Accounts()
    live: Live = Live()
    metrics: Metrics = Metrics()
    grafana: Grafana = Grafana()

    @field_validator("data_dir")
    @classmethod
    def _expand(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator(
        "database_url", "redis_url", "meilisearch_url", "blobs_url", "exports_url", "ray_address",
        "ray_host", "server", "token",
    )  # fmt: skip
    @classmethod
    def _not_empty(cls, value: Any) -> Any:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if text is not None and not text.strip():
            raise ValueError("is empty: unset it")
        return value

    @field_validator("redis_url")
    @classmethod
    def _can_be_cut_up(cls, value: SecretStr | None) -> SecretStr | None:
        """Here, where nothing of it is told: others would name the piece that is no port."""
        try:
            _ = urlsplit(value.get_secret_value() if value else "").port
        except ValueError:
            raise ValueError(
                "has no port where one should be: a / ? # or @ in its password is written as"
                " %2F %3F %23 %40"
            ) from None
        return value

    @field_validator("meilisearch_key")
    @classmethod
    def _strong(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        text = value.get_secret_value()
        if len(text.encode()) < SECRET_BYTES_MIN or text.lower() in WEAK:
            raise ValueError(f"is too weak: at least {SECRET_BYTES_MIN} bytes, nothing guessable")
        return value

    @model_validator(mode="after")
    def _one_head(self) -> Self:
        if self.ray_address and self.ray_host:
            raise ValueError(
                "CHRONO_RAY_ADDRESS names a cluster of yours, and CHRONO_RAY_HOST where one is to"
                " be started: unset one of them"
            )
        if self.ray_host and not (self.database_url and self.redis_url and self.meilisearch_url):
            raise ValueError(
                "CHRONO_RAY_HOST is for several machines, which need CHRONO_DATABASE_URL,"
                " CHRONO_REDIS_URL and CHRONO_MEILISEARCH_URL"
            )
        return self

    @model_validator(mode="after")
    def _tests_stay_here(self) -> Self:
        if self.accounts.for_tests and self.serving.host not in LOOPBACK:
            raise ValueError("CHRONO_ACCOUNTS__FOR_TESTS is for a machine that serves only itself")
        return self

    @property
    def user_agent(self) -> str:
        """Names the project and whom to write to, as archives ask."""
        return f"chrono_ray/{__version__} ({self.contact or 'no contact given'})"


def load(environment: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process; `SettingsError` names each one that cannot be used."""
    env = os.environ if environment is None else environment
    known = {*names(), *BY_FILE}
    unknown = sorted(
        name for name in env
        if name.upper().startswith(PREFIX) and not name.upper().startswith(TESTS)
        and name.upper() not in known
    )  # fmt: skip
    if unknown:
        raise SettingsError(
            f"Unknown setting {', '.join(unknown)}",
            why="nothing reads it",
            fix="`chrono config show` lists every setting",
        )
    read = _with_files(env)
    try:
        settings = Settings() if environment is None and read is env else _from(read)
    except ValidationError as error:
        raise SettingsError(
            "The settings cannot be used", why=_reasons(error),
            fix="docs/settings.md tells what each may be",
        ) from None  # fmt: skip
    if settings.meilisearch_url and settings.meilisearch_key is None:
        raise SettingsError(
            "Meilisearch has no key",
            why="CHRONO_MEILISEARCH_URL is set and CHRONO_MEILISEARCH_KEY is not",
            fix="Set CHRONO_MEILISEARCH_KEY",
        )
    return settings


def names() -> list[str]:
    """The environment name of every setting, in the tree's order."""
    return [name for name, _ in _leaves(Settings, PREFIX)]


def shown(settings: Settings, environment: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Every setting as (name, value, source); secrets are not shown, nor those within URLs."""
    set_names = {name.upper() for name in environment}
    for name, path in _leaves(Settings, PREFIX):
        value: Any = settings
        for part in path:
            value = getattr(value, part)
        by_file = "file" if f"{name}_FILE" in set_names else "default"
        source = "environment" if name in set_names else by_file
        yield name, _show(value), source


def _with_files(environment: Mapping[str, str]) -> Mapping[str, str]:
    """The same with what the files hold in the place of their names."""
    named = {name: path for name, path in environment.items() if name in BY_FILE}
    if not named:
        return environment
    rest = {name: value for name, value in environment.items() if name not in BY_FILE}
    for name, path in named.items():
        if BY_FILE[name] in rest:
            raise SettingsError(f"{BY_FILE[name]} and {name} are both set", fix="Unset one of them")
        rest[BY_FILE[name]] = _kept_secret(name, Path(path))
    return rest


def _kept_secret(name: str, path: Path) -> str:
    """What the file holds, without the line's end. It is never told in an error."""
    try:
        mode, text = path.stat().st_mode, path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SettingsError(
            f"{name} cannot be read", why=f"{path}: {why}",
            fix="Make the file, and let the account that runs this read it",
        ) from None  # fmt: skip
    if mode & stat.S_IRWXO:
        raise SettingsError(
            f"{name} is open to everybody", why=f"{path} has mode {stat.S_IMODE(mode):04o}",
            fix=f"chmod o= {path}",
        )  # fmt: skip
    if not text:
        raise SettingsError(f"{name} is empty", why=f"{path} holds nothing", fix="Write it anew")
    return text


def _by_commas(networks: str) -> str:
    """Addresses and networks as they are compared; `ValueError` for what is neither."""
    parts = [part.strip() for part in networks.split(",") if part.strip()]
    return ",".join(str(_network(part)) for part in parts)


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError:
        raise ValueError(
            f"holds {text!r}: write an address (10.0.0.1) or a network (10.0.0.0/8)"
        ) from None


def _show(value: Any) -> str:
    if isinstance(value, SecretStr):
        return "(set)"
    if value is None or value == "":
        return "(unset)"
    return ARGUMENT.sub(r"\1(set)", USERINFO.sub("(set)@", str(value)))


def _leaves(
    model: type[BaseModel], prefix: str, path: tuple[str, ...] = ()
) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name, field in model.model_fields.items():
        here = (*path, name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _leaves(field.annotation, f"{prefix}{name.upper()}__", here)
        else:
            yield f"{prefix}{(field.alias or name).upper()}", here


def _from(environment: Mapping[str, str]) -> Settings:
    """Settings from a given environment: the same rules, for tests and child processes."""
    before = {k: v for k, v in os.environ.items() if k.upper().startswith(PREFIX)}
    for name in before:
        del os.environ[name]
    ours = {k: v for k, v in environment.items() if k.upper().startswith(PREFIX)}
    os.environ.update(ours)
    try:
        return Settings()
    finally:
        for name in ours:
            del os.environ[name]
        os.environ.update(before)


def _reasons(error: ValidationError) -> str:
    """Each wrong setting's name and what is wrong. A rule about several names them itself."""
    parts = []
    for each in error.errors(include_input=False, include_url=False):
        said = MUST.get(each["type"], re.sub("^Value error, ", "", each["msg"]))
        if each["type"] in MUST:
            said = said.format_map(each.get("ctx", {}))
        name = PREFIX + "__".join(str(part) for part in each["loc"]).upper()
        parts.append(f"{name} {said}" if each["loc"] else said)
    return "; ".join(parts)


def secret(text: str) -> SecretStr:
    """A secret value, for settings made by code."""
    return SecretStr(text)
