"""The client is the API's: made from its description as it is now, with nothing left out."""

from __future__ import annotations

import inspect

from chrono_ray.client import Chrono, streams
from tools import client
from tools.client_names import BY_HAND, NAMES

HAND = {
    "GET /pages/{page_id}/raw": streams.Pages.raw,
    "HEAD /pages/{page_id}/raw": streams.Pages.raw,
    "GET /exports/search.{form}": streams.Exports.search,
    "GET /projects/{project_id}/export.{form}": streams.Exports.project,
    "GET /exports/{export_id}/files/{name}": streams.Exports.download,
    "GET /live/events": streams.Live.events,
}


def test_the_client_is_made_from_the_api_as_it_is():
    """Mend it by `python -m tools.client`; an operation without a name is told there."""
    assert client.main(["--check"]) == 0


def test_what_is_not_made_is_written_by_hand():
    assert {path for path, name in NAMES.items() if name == BY_HAND} == set(HAND)


def test_every_operation_is_reached_from_one_client():
    with Chrono("http://127.0.0.1:1", token="t") as c:
        for name in set(NAMES.values()) - {BY_HAND}:
            group, word = name.split(".")
            method = getattr(getattr(c, group), word)
            assert callable(method), name
            assert inspect.getdoc(method), name
