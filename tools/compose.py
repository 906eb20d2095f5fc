"""Writes what compose.yaml's servers are configured with: `python -m tools.compose`.

The settings are those of the embedded servers, for the shares that the budget
has on the reference machine. A test compares what is committed with what this
would write.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from chrono_ray.embedded import postgres
from chrono_ray.embedded.postgres import PostgresTuning
from chrono_ray.embedded.valkey import ValkeyTuning
from chrono_ray.model.budget import MIB, REFERENCE_CPUS, REFERENCE_MEMORY, SPARE, fit

FOLDER: Final = Path(__file__).resolve().parents[1] / "deploy" / "compose"
BUDGET: Final = fit(REFERENCE_CPUS, REFERENCE_MEMORY)
MADE: Final = "# Made by `python -m tools.compose` from chrono_ray/embedded and the budget.\n"


def postgresql() -> str:
    """As the embedded server is set, in a container of its own."""
    memory = BUDGET.postgresql.memory
    settings = postgres.SETTINGS | PostgresTuning.of(memory, BUDGET.connections + SPARE).settings()
    settings |= {
        "listen_addresses": "*",
        "unix_socket_directories": "/var/run/postgresql",
        "effective_cache_size": f"{memory // MIB * 3 // 4}MB",
        "max_wal_size": "4GB",
        "min_wal_size": "512MB",
        "wal_compression": "lz4",
        "default_toast_compression": "lz4",
        "log_timezone": "UTC",
        "timezone": "UTC",
    }
    lines = (f"{name} = '{value}'" for name, value in sorted(settings.items()))
    return "\n".join((
        f"{MADE}# What autovacuum does with the queue's tables stands with them, in the schema.",
        *lines, "",
    ))  # fmt: skip


def valkey() -> str:
    """A cache and nothing else: no file, no key that must stay.

    Pub/sub holds no keys and nobody here uses it: progress is told by
    PostgreSQL. So one policy for all keys is right. A quarter of the memory is
    left for connections and fragmentation.
    """
    lines = (
        "bind *", "port 6379",
        "# Who may do what is in the file of users (--aclfile): the default one may nothing.",
        "protected-mode no",
        "# A cache of finished answers begins empty after a restart; so does what ends them.",
        "appendonly no", 'save ""',
        "# Over its memory the least used go. No key has to stay: answers and what ends them are",
        "# all there is. Pub/sub has no keys, and is not used.",
        *ValkeyTuning(BUDGET.redis.memory // MIB * 3 // 4).lines(),
        "maxmemory-clients 10%", "timeout 0", "tcp-keepalive 60",
    )  # fmt: skip
    return "\n".join((MADE.rstrip(), *lines, ""))


FILES: Final = {"postgresql.conf": postgresql, "valkey.conf": valkey}


def main() -> None:
    for name, made in FILES.items():
        (FOLDER / name).write_text(made())


if __name__ == "__main__":
    main()
