"""8 cores and 16 GiB shared out among the parts, and the same sharing for any other machine.

Everything that states a CPU or memory figure takes it from here: actors,
replicas, jobs, and the deployment files (a test compares them).

Sources of the figures: an idle Ray head with dashboard holds 630 MB PSS, Serve
350 MB more; a bare actor 90 MB; a scraper 250 MiB plus an extraction child of
about 400 MiB. CPUs are Ray's logical ones: they decide what is placed, not
what may run, so they are small enough for every actor to fit beside the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from math import ceil
from typing import Final

from chrono_ray.model.errors import SettingsError

MIB: Final = 1024 * 1024
GIB: Final = 1024 * MIB
REFERENCE_CPUS: Final = 8.0
REFERENCE_MEMORY: Final = 16 * GIB
OBJECT_STORE_MEMORY: Final = 128 * MIB
"""Bytes of `ray`'s own share that its object store takes: ids and counters need no more."""

CONNECTIONS: Final = {
    "api": 5, "stats": 4, "live": 4, "supervisor": 2, "indexer": 4, "job": 6, "scraper": 6
}  # fmt: skip
"""The most connections to PostgreSQL that one process of a part holds: the size of its pools."""
COMMANDS: Final = 18
"""Connections beside them: the owner, deployments, replicas that replace others, people's commands.
"""
SPARE: Final = 10
"""Connections that nobody of ours takes: for whoever looks at the server itself."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one process of a part may use; `memory` in bytes, `count` is how many there are at most.

    `num_cpus` is a multiple of 0.0001, the finest step Ray knows.
    """

    num_cpus: float
    memory: int
    count: int = 1


@dataclass(frozen=True, slots=True)
class Container:
    """What one container may use: CPUs, and `memory` in bytes."""

    cpus: float
    memory: int


@dataclass(frozen=True, slots=True)
class Budget:
    """A machine, shared out. The sums over all parts never exceed it.

    `indexer.count` is 1 where the index takes a single writer (tantivy),
    whatever stands here. `scraper.memory` covers its extraction child.
    """

    system: Share
    postgresql: Share
    redis: Share
    meilisearch: Share
    monitoring: Share
    ray: Share
    proxy: Share
    api: Share
    stats: Share
    live: Share
    supervisor: Share
    indexer: Share
    job: Share
    scraper: Share

    def parts(self) -> Iterator[tuple[str, Share]]:
        """Every part's name and share."""
        for part in fields(self):
            yield part.name, getattr(self, part.name)

    @property
    def ray_cpus(self) -> int:
        """What Ray is told the machine has: what our actors, replicas and jobs ask for, whole."""
        return ceil(sum(self._of(name).num_cpus * self._of(name).count for name in PLACED) - 1e-6)

    @property
    def ray_memory(self) -> int:
        """Bytes of logical memory for Ray, its object store not included."""
        return sum(self._of(name).memory * self._of(name).count for name in PLACED)

    def without_scrapers(self) -> Budget:
        """The same of a head whose scrapers are on nodes of their own."""
        return replace(self, scraper=replace(self.scraper, count=0))

    def container(self, name: str) -> Container:
        """What the container of this name in compose.yaml may use: its `CONTAINERS` fractions."""
        parts = [(self._of(part), of) for part, of in CONTAINERS[name].items()]
        cpu = sum(round(share.num_cpus * 10_000) * share.count * of for share, of in parts)
        memory = sum(share.memory * share.count * of for share, of in parts)
        return Container(_cpus(Fraction(cpu)), int(memory))

    @property
    def connections(self) -> int:
        """What all pools together may hold; PostgreSQL should have `SPARE` more."""
        return sum(CONNECTIONS[name] * self._of(name).count for name in PLACED) + COMMANDS

    def with_scrapers(self, count: int) -> Budget:
        """The same with room for so many scrapers, where an operator has chosen more than fit.

        Without room of their own they would take the API's.
        """
        return replace(self, scraper=replace(self.scraper, count=max(count, self.scraper.count)))

    def _of(self, name: str) -> Share:
        share: Share = getattr(self, name)
        return share


PLACED: Final = ("api", "stats", "live", "supervisor", "indexer", "job", "scraper")
"""The parts that ask Ray for resources. The proxy is Ray's own and asks for none."""

_WHOLE: Final = Fraction(1)
CONTAINERS: Final[Mapping[str, Mapping[str, Fraction]]] = {
    "postgresql": {"postgresql": _WHOLE},
    "redis": {"redis": _WHOLE},
    "meilisearch": {"meilisearch": _WHOLE},
    "head": {
        "ray": Fraction(3, 4), "proxy": _WHOLE,
        **{name: _WHOLE for name in PLACED if name != "scraper"},
    },
    "worker": {"ray": Fraction(1, 4), "scraper": _WHOLE},
    "prometheus": {"monitoring": Fraction(6, 20)},
    "grafana": {"monitoring": Fraction(4, 20)},
    "backup": {"monitoring": Fraction(4, 20)},
    "loki": {"monitoring": Fraction(4, 20)},
    "shipper": {"monitoring": Fraction(2, 20)},
}  # fmt: skip
"""Which containers of compose.yaml share each part, and how. `system` is nobody's."""


@dataclass(frozen=True, slots=True)
class _Claim:
    """What a part needs to work at all, and what it gets on the reference machine.

    CPUs in ten-thousandths, memory in MiB, both per process. `grows`: it gets
    more than that on a larger machine. A part of several has one size.
    """

    cpu: int
    cpu_reference: int
    mib: int
    mib_reference: int
    most: int = 1
    grows: bool = False

    def capped(self, richness: Fraction) -> Fraction:
        return richness if self.grows else min(richness, Fraction(1))

    def extra_cpu(self) -> int:
        return self.cpu_reference * self.most - self.cpu

    def extra_mib(self) -> int:
        return self.mib_reference * self.most - self.mib


_CLAIMS: Final[dict[str, _Claim]] = {
    "system": _Claim(100, 1000, 128, 640),
    "postgresql": _Claim(1500, 14000, 320, 3072, grows=True),
    "redis": _Claim(200, 1500, 48, 256),
    "meilisearch": _Claim(800, 9000, 192, 2048, grows=True),
    "monitoring": _Claim(200, 4000, 64, 1280),
    "ray": _Claim(1000, 4000, 896, 1536),
    "proxy": _Claim(300, 3000, 64, 192, grows=True),
    "api": _Claim(2500, 2500, 256, 256, most=2, grows=True),
    "stats": _Claim(500, 1500, 192, 256),
    "live": _Claim(500, 1500, 192, 320),
    "supervisor": _Claim(300, 1000, 200, 256),
    "indexer": _Claim(2000, 2000, 288, 288, most=2),
    "job": _Claim(1000, 1000, 128, 128, most=2),
}
_SCRAPER: Final = _Claim(4000, 4000, 704, 704)
"""Takes what is left: at least one, on the reference machine seven."""

_LEAST_CPU: Final = sum(claim.cpu for claim in _CLAIMS.values()) + _SCRAPER.cpu
_LEAST_MIB: Final = sum(claim.mib for claim in _CLAIMS.values()) + _SCRAPER.mib


def fit(cpus: float, memory: int) -> Budget:
    """The budget of a machine with so many CPUs and bytes of memory.

    More of either never gives any part less. Too few CPUs make every share
    smaller; too little memory raises `SettingsError`, since that is real.
    """
    cpu, mib = int(cpus * 10_000), memory // MIB
    if cpu < _LEAST_CPU // 100 or mib < _LEAST_MIB:
        raise SettingsError(
            "The machine is too small for a cluster",
            why=f"{cpus:g} CPUs and {mib} MiB; it takes {_LEAST_MIB} MiB (2 CPUs advised)",
            fix="Give it more memory",
        )
    rich = _richness(max(cpu, _LEAST_CPU), _LEAST_CPU, REFERENCE_CPUS * 10_000)
    wide = _richness(mib, _LEAST_MIB, REFERENCE_MEMORY // MIB)
    shrunk = min(Fraction(cpu, _LEAST_CPU), Fraction(1))
    shares = {name: _share(claim, rich, wide, shrunk) for name, claim in _CLAIMS.items()}
    return Budget(**shares, scraper=_scrapers(max(cpu, _LEAST_CPU), mib, rich, wide, shrunk))


def _richness(have: int, least: int, reference: float) -> Fraction:
    """0 at the least that works, 1 at the reference machine, more beyond it."""
    return Fraction(have - least, int(reference) - least)


def _share(claim: _Claim, rich: Fraction, wide: Fraction, shrunk: Fraction) -> Share:
    rich, wide = claim.capped(rich), claim.capped(wide)
    if claim.most > 1:
        count = 1 + int((claim.most - 1) * min(rich, wide))
        return Share(_cpus(claim.cpu * shrunk), claim.mib * MIB, count)
    cpu = (claim.cpu + claim.extra_cpu() * rich) * shrunk
    return Share(_cpus(cpu), int(claim.mib + claim.extra_mib() * wide) * MIB)


def _scrapers(cpu: int, mib: int, rich: Fraction, wide: Fraction, shrunk: Fraction) -> Share:
    """As many as the exact remainder holds: rounding a share must never cost a scraper."""
    left_cpu, left_mib = Fraction(cpu), Fraction(mib)
    for claim in _CLAIMS.values():
        left_cpu -= claim.cpu + claim.extra_cpu() * claim.capped(rich)
        left_mib -= claim.mib + claim.extra_mib() * claim.capped(wide)
    count = int(min(left_cpu / _SCRAPER.cpu, left_mib / _SCRAPER.mib))
    return Share(_cpus(_SCRAPER.cpu * shrunk), _SCRAPER.mib * MIB, count)


def _cpus(ten_thousandths: Fraction) -> float:
    return int(ten_thousandths) / 10_000
