"""What the fake keeps: indexes, their documents, and the queue of tasks that changes them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.support.meilisearch import words as lexicon
from tests.support.meilisearch.filters import FilterError, Row, normal, parse

DOCUMENT_ID = re.compile(r"[A-Za-z0-9_-]{1,511}")
DEFAULTS: dict[str, Any] = {
    "searchableAttributes": ["*"],
    "filterableAttributes": [],
    "sortableAttributes": [],
    "rankingRules": ["words", "typo", "proximity", "attribute", "sort", "exactness"],
    "distinctAttribute": None,
    "faceting": {"maxValuesPerFacet": 100, "sortFacetValuesBy": {"*": "alpha"}},
    "pagination": {"maxTotalHits": 1000},
}


def now() -> str:
    """RFC 3339 with nanoseconds, as Meilisearch writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


class ApiError(Exception):
    """An answer other than success: HTTP status, and Meilisearch's code."""

    def __init__(self, status: int, code: str, message: str, kind: str = "invalid_request") -> None:
        super().__init__(message)
        self.status = status
        self.body = {
            "message": message,
            "code": code,
            "type": kind,
            "link": f"https://docs.meilisearch.com/errors#{code}",
        }


@dataclass
class Task:
    uid: int
    index: str | None
    kind: str
    payload: Any
    status: str = "enqueued"
    error: dict[str, str] | None = None
    enqueued: str = field(default_factory=now)
    finished: str | None = None

    def view(self) -> dict[str, Any]:
        return {
            "uid": self.uid,
            "indexUid": self.index,
            "status": self.status,
            "type": self.kind,
            "enqueuedAt": self.enqueued,
            "finishedAt": self.finished,
            "error": self.error,
        }


@dataclass
class Index:
    uid: str
    primary_key: str | None
    settings: dict[str, Any] = field(default_factory=lambda: dict(DEFAULTS))
    documents: dict[str, Row] = field(default_factory=dict)
    tokens: dict[str, dict[str, list[lexicon.Word]]] = field(default_factory=dict)
    created: str = field(default_factory=now)

    def put(self, rows: list[Row], primary_key: str | None) -> None:
        """All of them or none."""
        self.primary_key = self.primary_key or primary_key or "id"
        fresh = {self._id(row): row for row in rows}
        for id_, row in fresh.items():
            self.documents[id_] = row
            self.tokens[id_] = {
                name: lexicon.words(value) for name, value in row.items() if isinstance(value, str)
            }

    def drop(self, ids: list[str]) -> None:
        for id_ in ids:
            self.documents.pop(id_, None)
            self.tokens.pop(id_, None)

    def searched(self) -> list[str]:
        names: list[str] = self.settings["searchableAttributes"]
        return (
            sorted({name for row in self.documents.values() for name in row})
            if "*" in names
            else names
        )

    def test(self, text: str | None) -> Any:
        if text is None:
            return lambda _: True
        return parse(text, set(self.settings["filterableAttributes"]))

    def _id(self, row: Row) -> str:
        if self.primary_key not in row:
            raise ApiError(
                400, "missing_document_id", f"Document doesn't have a `{self.primary_key}`"
            )
        id_ = str(row[str(self.primary_key)])
        if not DOCUMENT_ID.fullmatch(id_):
            raise ApiError(400, "invalid_document_id", f"Document identifier `{id_}` is invalid.")
        return id_


def search(index: Index, body: dict[str, Any]) -> dict[str, Any]:
    _check(index, body)
    chosen = [
        (key, hits)
        for key, row in index.documents.items()
        if index.test(body.get("filter"))(row) and (hits := _hits(index, key, body)) is not None
    ]
    ordered = _distinct(index, body, _ordered(index, body, chosen))
    offset, limit = body.get("offset") or 0, body.get("limit", 20)
    cap = index.settings["pagination"]["maxTotalHits"]
    shown = ordered[:cap][offset : offset + limit]
    answer = {
        "hits": [_view(index, body, key) for key, _ in shown],
        "query": body.get("q") or "",
        "processingTimeMs": 1,
        "offset": offset,
        "limit": limit,
        "estimatedTotalHits": min(len(ordered), cap),
    }
    if body.get("facets") is not None:
        rows = [index.documents[key] for key, _ in ordered]
        answer["facetDistribution"] = {name: _count(index, rows, name) for name in body["facets"]}
    return answer


def _check(index: Index, body: dict[str, Any]) -> None:
    try:
        index.test(body.get("filter"))
    except FilterError as error:
        raise ApiError(400, "invalid_search_filter", str(error)) from error
    for name in body.get("facets") or ():
        if name not in index.settings["filterableAttributes"]:
            raise ApiError(400, "invalid_search_facets", f"`{name}` is not filterable")
    for rule in body.get("sort") or ():
        name, _, order = rule.partition(":")
        if name not in index.settings["sortableAttributes"] or order not in ("asc", "desc"):
            raise ApiError(400, "invalid_search_sort", f"`{rule}` is not sortable")


def _hits(index: Index, key: str, body: dict[str, Any]) -> tuple[int, int, int] | None:
    """How well a document matches, less is better: words left out, typos, rank of the attribute.

    Under the strategy "last" words may be left out from the end, but not the first.
    """
    missing = typos = rank = 0
    lenient = body.get("matchingStrategy", "last") == "last"
    for number, term in enumerate(lexicon.terms(body.get("q") or "")):
        best = _best(index, key, term)
        if term.excluded and best is not None:
            return None
        if term.excluded or (best is None and lenient and number):
            missing += not term.excluded
        elif best is None or missing:
            return None
        else:
            typos, rank = typos + best[0], rank + best[1]
    return missing, typos, rank


def _best(index: Index, key: str, term: lexicon.Term) -> tuple[int, int] | None:
    found = (
        (hit.typos, place)
        for place, name in enumerate(index.searched())
        for hit in lexicon.find(index.tokens[key].get(name, []), term)
    )
    return min(found, default=None)


def _ordered(index: Index, body: dict[str, Any], chosen: list[Any]) -> list[Any]:
    ordered = sorted(chosen, key=lambda pair: pair[1])
    leads = index.settings["rankingRules"][0] == "sort" or not body.get("q")
    for rule in reversed(body.get("sort") or ()) if leads else ():
        name, _, order = rule.partition(":")
        ordered.sort(key=lambda pair: index.documents[pair[0]][name], reverse=order == "desc")
    return ordered


def _distinct(index: Index, body: dict[str, Any], ordered: list[Any]) -> list[Any]:
    name = body.get("distinct") or index.settings["distinctAttribute"]
    if name is None:
        return ordered
    seen: dict[object, Any] = {}
    for pair in ordered:
        seen.setdefault(index.documents[pair[0]].get(name, pair[0]), pair)
    return list(seen.values())


def _view(index: Index, body: dict[str, Any], key: str) -> Row:
    row = index.documents[key]
    wanted = body.get("attributesToRetrieve") or ["*"]
    shown = {name: value for name, value in row.items() if "*" in wanted or name in wanted}
    if body.get("showMatchesPosition"):
        shown["_matchesPosition"] = _positions(index, key, body.get("q") or "", list(shown))
    return shown


def _positions(index: Index, key: str, query: str, names: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in names:
        text = str(index.documents[key][name])
        hits = {
            (hit.start, hit.end)
            for term in lexicon.terms(query)
            if not term.excluded
            for hit in lexicon.find(index.tokens[key].get(name, []), term)
        }
        if hits:
            found[name] = [
                {"start": len(text[:start].encode()), "length": len(text[start:end].encode())}
                for start, end in sorted(hits)
            ]
    return found


def _count(index: Index, rows: list[Row], name: str) -> dict[str, int]:
    faceting = index.settings["faceting"]
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for row in rows:
        if name in row:
            counts[first.setdefault(normal(row[name]), str(row[name]))] += 1
    by_count = faceting.get("sortFacetValuesBy", {}).get("*") == "count"
    pairs = counts.most_common() if by_count else sorted(counts.items())
    return dict(pairs[: faceting["maxValuesPerFacet"]])
