"""A body is JSON that every reader reads alike, or it is refused; nothing else happens."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from chrono_ray.api.json_body import DEPTH_MAX, fault_of

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=20,
)  # fmt: skip


@given(values, st.booleans())
def test_what_json_can_say_is_read(value, ascii_only):
    assert fault_of(json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "replace")) is None


@given(st.binary(max_size=200) | st.text(alphabet='[]{}":,\\ ntf1u0', max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(body):
    fault = fault_of(body)
    if fault is None:
        assert body == b"" or json.loads(body) is not Ellipsis
        return
    assert (fault.status, fault.code) in {(400, "bad_encoding"), (422, "invalid_json")}
    assert (fault.status == 400) == (_text(body) is None)


def _text(body: bytes) -> str | None:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def test_depth_is_counted_outside_of_strings():
    nested = b"[" * DEPTH_MAX + b"]" * DEPTH_MAX
    assert fault_of(nested) is None
    assert fault_of(b"[" + nested + b"]") is not None
    assert fault_of(json.dumps("[{" * 1000 + '\\"[[[').encode()) is None
    assert fault_of(b'{"a": ' * 30_000) is not None
    assert fault_of(b'"' + b"\\" * 60_000) is not None


def test_a_name_stands_once():
    assert fault_of(b'{"a": 1, "b": {"a": 2}}') is None
    assert fault_of(b'{"a": 1, "\\u0061": 2}') is not None
    assert fault_of(b'[{"b": {"a": 2, "a": 2}}]') is not None
