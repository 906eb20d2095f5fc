"""Searches of the embedded index, as an API process asks it, by one client and by eight.

    python -m benchmarks.search [--documents 100000] [--times 400] [--json]

Pages of about 300 words, frequent ones as in any text and rare ones that a
dictionary of a quarter of a million is made of, of 20 projects and 500 hosts.
Each client asks the kinds of questions in turn, each question once.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from itertools import accumulate, islice
from pathlib import Path
from typing import Final

from benchmarks.record import scratch
from benchmarks.report import Figure, Report, show, versions
from chrono_ray.model.query import (
    And,
    Bucket,
    Equals,
    Field,
    PageEntry,
    Query,
    Sort,
    in_projects,
)
from chrono_ray.perf.catalogue import Target
from chrono_ray.search.tantivy import Role, TantivyIndex

FREQUENT: Final = 5_000
RARE: Final = 250_000
WORDS: Final = 300
RARE_SHARE: Final = 0.03
PROJECTS: Final = 20
HOSTS: Final = 500
BATCH: Final = 2_000
BEGAN: Final = datetime(1998, 1, 1, tzinfo=UTC)
DAYS: Final = 9_000
CLIENTS: Final = (1, 8)
GOAL: Final = Target(150, at_least=False)
REAL: Final = (
    "Real: TantivyIndex as the API reads it (two threads), texts and titles, typos forgiven,",
    "snippets, all in one process. Not there: HTTP, rights, the cache. Words are made up.",
)


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Words by how often they are used."""

    frequent: tuple[str, ...]
    weights: tuple[float, ...]
    rare: tuple[str, ...]

    @classmethod
    def made(cls, chance: random.Random, *, rare: int = RARE) -> Lexicon:
        made = list(dict.fromkeys(_word(chance) for _ in range((FREQUENT + rare) * 11 // 10)))
        frequent, seldom = made[:FREQUENT], made[FREQUENT : FREQUENT + rare]
        weights = tuple(accumulate(1 / (rank + 10) for rank in range(FREQUENT)))
        return cls(tuple(frequent), weights, tuple(seldom))

    def text(self, chance: random.Random, words: int) -> str:
        found = chance.choices(self.frequent, cum_weights=self.weights, k=words)
        for place in range(words):
            if chance.random() < RARE_SHARE:
                found[place] = chance.choice(self.rare)
        return " ".join(found)


def _word(chance: random.Random) -> str:
    parts = ("".join(chance.choices(("bcdfghklmnprstvw", "aeiou")[i % 2])) for i in range(12))
    return "".join(islice(parts, chance.randint(3, 12)))


def pages(lexicon: Lexicon, chance: random.Random, count: int) -> Iterator[PageEntry]:
    """So many pages, the same ones every time."""
    for number in range(1, count + 1):
        host = f"host{chance.randrange(HOSTS)}.example"
        seen = BEGAN + timedelta(days=chance.randrange(DAYS))
        yield PageEntry(
            id=number, project_id=1 + number % PROJECTS, domain=f"http://{host}/",
            url=f"http://{host}/{number}", host=host, title=lexicon.text(chance, 6),
            text=lexicon.text(chance, WORDS), author="", language=chance.choice(("en", "de", "fr")),
            type="text/html", first_seen=seen, last_seen=seen + timedelta(days=30), captures=3,
        )  # fmt: skip


def questions(lexicon: Lexicon, chance: random.Random) -> Iterator[tuple[str, Query]]:
    """Kinds in turn, without end."""
    mine = in_projects(range(1, 6))
    while True:
        common, other = chance.sample(lexicon.frequent[20:500], 2)
        rare = chance.choice(lexicon.rare)
        wrong = next(
            word for word in iter(lambda: chance.choice(lexicon.frequent), "") if len(word) > 8
        )
        yield "a frequent word", Query(f"{common} ", mine)
        yield "two words", Query(f"{common} {other} ", mine)
        yield "a rare word", Query(f"{rare} ", mine)
        yield "a word with two typos", Query(f"{wrong[:3]}{wrong[4:-2]}{wrong[-1]} ", mine)
        yield "a phrase", Query(f'"{common} {other}"', mine)
        yield "the beginning of a word", Query(common[:4], mine)
        yield "newest first", Query(f"{common} ", mine, sort=Sort.NEWEST)
        yield "facets and a histogram", Query(
            f"{common} ",
            And((mine, Equals(Field.LANGUAGE, ("en",)))),
            (Field.PROJECT, Field.HOST, Field.TYPE), histogram=Bucket.MONTH,
        )  # fmt: skip


async def ask(
    index: TantivyIndex, asked: Iterator[tuple[str, Query]], times: int
) -> list[tuple[str, float]]:
    """Milliseconds of each question, by its kind."""
    took = []
    for kind, query in islice(asked, times):
        began = time.perf_counter()
        await index.search(query)
        took.append((kind, (time.perf_counter() - began) * 1000))
    return took


def figures(clients: int, took: Sequence[tuple[str, float]], seconds: float) -> Iterator[Figure]:
    who = f"{clients} client{'s' if clients > 1 else ''}"
    every = [ms for _, ms in took]
    yield Figure(f"{who}: p50", statistics.median(every), "ms")
    yield Figure(f"{who}: p95", _p95(every), "ms", GOAL)
    yield Figure(f"{who}: searches/s", len(every) / seconds, "/s")
    for kind in dict.fromkeys(kind for kind, _ in took):
        yield Figure(f"{who}, {kind}: p95", _p95([ms for each, ms in took if each == kind]), "ms")


def _p95(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


async def measure(folder: Path, *, documents: int, times: int) -> Report:
    chance = random.Random(7)
    lexicon = Lexicon.made(chance, rare=min(RARE, 10 * documents))
    writer = TantivyIndex(folder / "index", Role.WRITER)
    made, began = pages(lexicon, chance, documents), time.perf_counter()
    while batch := list(islice(made, BATCH)):
        await writer.upsert(batch)
    found = [Figure("indexed", documents / (time.perf_counter() - began), "pages/s")]
    await writer.aclose()
    reader = TantivyIndex(folder / "index", Role.READER)
    await ask(reader, questions(lexicon, chance), 16)
    for clients in CLIENTS:
        began, worked = time.perf_counter(), time.process_time()
        async with asyncio.TaskGroup() as group:
            asking = [
                group.create_task(
                    ask(reader, questions(lexicon, random.Random(n)), times // clients)
                )
                for n in range(clients)
            ]
        took = [each for task in asking for each in task.result()]
        found += figures(clients, took, time.perf_counter() - began)
        spent = (time.process_time() - worked) * 1000 / len(took)
        found.append(Figure(f"{clients} at a time: cpu a search", spent, "ms"))
    await reader.aclose()
    return Report(
        f"Searches of {documents:,} pages", found, REAL, versions(tantivy=version("tantivy"))
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=400, help="searches by each number of clients")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with scratch() as folder:
        report = asyncio.run(measure(folder, documents=options.documents, times=options.times))
    show(report, json=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
