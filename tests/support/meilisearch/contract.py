"""Every request held against Meilisearch's published OpenAPI file."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

OPENAPI = Path(__file__).parents[4] / "shared" / "data" / "meilisearch-openapi.json"
ABSENT = f"no {OPENAPI.name} beside the checkout: requests are not held against the OpenAPI file"


class Contract:
    """Says what is wrong with a request; nothing when it is as published."""

    def __init__(self, path: Path) -> None:
        self._api = json.loads(path.read_text())
        schemas = self._api["components"]["schemas"]
        # The published schema is wrong here: the server takes a plain list of patterns.
        schemas["AttributePatterns"] = {"type": "array", "items": {"type": "string"}}
        self._paths = [
            (re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template)) + "$"), operations)
            for template, operations in self._api["paths"].items()
        ]

    def faults(self, method: str, path: str, query: set[str], body: Any) -> list[str]:
        for pattern, operations in self._paths:
            if pattern.match(path) and method.lower() in operations:
                operation = operations[method.lower()]
                return [*self._in_query(operation, query), *self._in_body(operation, body)]
        return [f"{method} {path}: no such operation"]

    def _in_query(self, operation: dict[str, Any], query: set[str]) -> list[str]:
        known = {one["name"] for one in operation.get("parameters") or () if one["in"] == "query"}
        return [f"unknown parameter {name}" for name in sorted(query - known)]

    def _in_body(self, operation: dict[str, Any], body: Any) -> list[str]:
        content = (operation.get("requestBody") or {}).get("content", {})
        schema = content.get("application/json", {}).get("schema")
        if schema is None:
            return [] if body is None else ["a body where none is expected"]
        validator = Draft202012Validator({**schema, "components": self._api["components"]})
        unknown = set(body) - self._properties(schema) if isinstance(body, dict) else set()
        faults = [
            f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(body)
        ]
        return faults + [f"unknown field {name}" for name in sorted(unknown)]

    def _properties(self, schema: dict[str, Any]) -> set[str]:
        name = schema.get("$ref", "").rpartition("/")[2]
        return set(self._api["components"]["schemas"].get(name, schema).get("properties", ()))


@cache
def published() -> Contract | None:
    """The contract, or None where the file is absent."""
    return Contract(OPENAPI) if OPENAPI.exists() else None
