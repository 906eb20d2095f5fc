"""What the main requests look like, each a whole body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

EXAMPLES: Final[Mapping[tuple[str, str], Mapping[str, Any]]] = {
    ("post", "/auth/register"): {
        "email": "anna@example.org", "password": "seven old horses", "name": "Anna",
    },
    ("post", "/auth/login"): {"email": "anna@example.org", "password": "seven old horses"},
    ("post", "/auth/refresh"): {"refresh_token": "crr_..."},
    ("post", "/auth/password"): {
        "password": "seven old horses", "new_password": "eight young horses",
    },
    ("post", "/keys/"): {"name": "notebook", "scopes": ["read"], "expires_in_days": 30},
    ("post", "/projects/"): {"name": "towns", "description": "Towns by the sea"},
    ("post", "/projects/{project_id}/members/"): {"email": "ben@example.org", "role": "write"},
    ("post", "/projects/{project_id}/domains/"): {
        "url": "town.example", "match": "domain", "rules": "skip type image/*",
    },
    ("post", "/plans/"): {
        "project": 7, "url": "town.example", "match": "domain", "from": "2001", "to": "2005",
        "archives": ["wayback"],
    },
    ("post", "/runs/"): {
        "project": 7, "url": "town.example", "from": "2001", "to": "2005", "class": "scraping",
    },
    ("post", "/runs/{run_id}/retry"): {"states": ["failed", "hole"], "dry_run": True},
    ("post", "/runs/{run_id}/priority"): {"captures": "now", "url": "town.example/news"},
    ("post", "/schedules/"): {"project": 7, "url": "town.example", "every": 86400},
    ("post", "/captures/bulk"): {
        "project": 7, "action": "approve", "filter": {"state": ["skipped"], "reason": ["type"]},
        "dry_run": True,
    },
    ("post", "/search/"): {
        "query": 'harbour "new pier"', "project": [7], "from": "2003", "facets": ["host"],
        "histogram": "year", "limit": 20,
    },
    ("post", "/saved-searches/"): {"name": "piers", "search": {"query": "pier", "project": [7]}},
    ("post", "/projects/{project_id}/exports/"): {
        "subject": "pages", "form": "parquet", "from": "2001", "to": "2005",
    },
    ("post", "/pages/{page_id}/notes/"): {"text": "The pier was moved in 2003"},
    ("post", "/tasks/discover"): {"project": 7, "url": "town.example", "archive": "wayback"},
    ("post", "/tasks/purge"): {"older_than": 24},
}  # fmt: skip
