"""One event is one line, whatever its fields hold, and no secret is in it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chrono_ray.observability.log import TEXT_MAX, JsonLines, Text, configure, redacted

STRANGE = st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.booleans(), st.binary())
FIELDS = st.dictionaries(st.from_regex(r"f_[a-z]{1,8}", fullmatch=True), STRANGE, max_size=5)


def record(event="page.stored", level=logging.INFO, **fields):
    made = logging.LogRecord("chrono_ray.x", level, __file__, 1, event, (), None)
    made.__dict__.update(fields)
    return made


def as_json(**fields):
    return json.loads(JsonLines().format(record(**fields)))


def as_text(**fields):
    return Text().format(record(**fields))


@pytest.fixture
def written(capsys) -> Iterator[Callable[[], str]]:
    """What a configured process wrote to stderr; the root logger is put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield lambda: capsys.readouterr().err
    root.handlers[:] = handlers
    root.setLevel(level)


def test_event_carries_its_time_level_logger_and_fields():
    line = as_json(
        page=7, url="http://a.com/", ratio=0.5, tags=("a", "b"), more={"x": 1}, none=None
    )
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "event": "page.stored",
        "logger": "chrono_ray.x",
        "page": 7,
        "url": "http://a.com/",
        "ratio": 0.5,
        "tags": ["a", "b"],
        "more": {"x": 1},
        "none": None,
    }


def test_what_a_library_notes_for_itself_is_no_field():
    assert "_ray_timestamp_ns" not in as_json(_ray_timestamp_ns=1)
    assert as_text(_ray_timestamp_ns=1).endswith("page.stored")


def test_fields_cannot_forge_what_the_event_is():
    made = record("real")
    made.__dict__.update(event="false", level="critical", time="never", logger="other")
    line = json.loads(JsonLines().format(made))
    assert (line["event"], line["level"], line["logger"]) == ("real", "info", "chrono_ray.x")
    assert line["time"] != "never"


def test_text_is_for_people():
    shown = as_text(page=7, url="http://a.com/?q=1", title="a b")
    assert re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}\.[0-9]{3}", shown[:23])
    assert shown[23:] == ' info    page.stored page=7 url=http://a.com/?q=1 title="a b"'


@given(st.text(), FIELDS)
def test_any_event_is_one_line_of_valid_json(event, fields):
    made = record(**fields)
    made.msg = event
    line = JsonLines().format(made)
    assert "\n" not in line
    assert set(fields) <= set(json.loads(line))
    line.encode("utf-8")


@given(st.text(), FIELDS)
def test_any_event_is_one_printable_line_of_text(event, fields):
    made = record(**fields)
    made.msg = event
    line = Text().format(made)
    assert line.isprintable()
    assert len(line.splitlines()) == 1
    line.encode("utf-8")


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://chrono:hunter2@db:5432/chrono",
        "redis://:hunter2@cache:6379/0",
        "redis://:hun@ter2:hunter2@cache:6379/0",
        "https://hunter2@example.com/",
        "Authorization: Bearer hunter2",
        "GET /live?token=hunter2&x=1",
        "api_key: hunter2",
        '{"password": "hunter2"}',
        "master-key CHRONO_MEILISEARCH_KEY master_key=hunter2",
        "refresh_token=hunter2",
        "postgresql://chrono:hun/ter?2#hunter2@db:5432/chrono",
        "aws_secret_access_key=hunter2",
        "secret_key: hunter2",
        "Authorization: Basic hunter2",
        "proxy said Basic hunter2==",
        "GET /live/ws?ticket=hunter2&subscribe=run:1",
        "https://bucket.example/a?X-Amz-Credential=hunter2&X-Amz-Signature=hunter2",
        "crk_hunter2",
        "the key crk_hunter2-and_more is refused",
    ],
)
def test_secrets_in_text_are_masked_wherever_they_stand(text):
    assert "hunter2" not in redacted(text)
    assert "hunter2" not in json.dumps(as_json(event=text, why=text, nested={"a": [text]}))
    assert "hunter2" not in as_text(event=text, why=text)


@pytest.mark.parametrize(
    "name",
    ["password", "token", "access_token", "api_key", "APIKEY", "secret", "authorization", "cookie"],
)
def test_fields_named_like_a_secret_are_masked(name):
    assert as_json(**{name: "hunter2"})[name] == "***"
    assert as_json(nested={name: "hunter2"})["nested"][name] == "***"


@pytest.mark.parametrize(
    "text",
    [
        "http://example.com/@user/path",
        "com,example)/a@b",
        "http://a.com/?id=5",
        "tokens: 5 claimed",
        "http://example.com:8080/a@b",
        "s3://bucket/folder/a@b",
        "the basic facilities",
    ],
)
def test_what_is_no_secret_is_shown(text):
    assert redacted(text) == text


def test_a_mask_stands_in_the_secrets_place_only():
    assert redacted("GET /live?token=hunter2&x=1") == "GET /live?token=***&x=1"
    assert redacted("redis://:hunter2@cache:6379/0") == "redis://***@cache:6379/0"


def test_text_shows_what_could_forge_a_line_as_its_code():
    assert as_text(url="a\u202eb\nc").endswith(' url="a\\u202eb\\nc"')


def test_counts_stay_numbers():
    assert as_json(tokens=5)["tokens"] == 5


def test_a_traceback_is_part_of_its_event_and_masked():
    made = record(level=logging.ERROR)

    def fail():
        raise OSError("cannot reach redis://:hunter2@cache")

    with pytest.raises(OSError, match="hunter2") as caught:
        fail()
    made.exc_info = (caught.type, caught.value, caught.tb)
    line = json.loads(JsonLines().format(made))
    assert "OSError: cannot reach redis://***@cache" in line["traceback"]
    first, *rest = Text().format(made).splitlines()
    assert "page.stored" in first
    assert all(part.startswith("    ") for part in rest)
    assert "hunter2" not in "".join(rest)


def test_a_field_of_any_length_is_cut():
    assert len(as_json(url="http://a/" + "x" * 100_000)["url"]) <= TEXT_MAX + 3


def test_a_field_whose_secret_spans_the_cut_is_still_masked():
    assert "hunter2" not in redacted("x" * (TEXT_MAX - 20) + "redis://:hunter2hunter2@cache")


def test_configured_process_writes_from_its_level_upwards(written):
    configure("info", json=True)
    log = logging.getLogger("chrono_ray.test")
    log.debug("too.small")
    log.info("page.stored", extra={"page": 7})
    logging.getLogger("other.library").warning("said %s", "this")
    lines = [json.loads(line) for line in written().splitlines()]
    assert [line["event"] for line in lines] == ["page.stored", "said this"]
    assert lines[0]["page"] == 7


def test_configuring_again_replaces_instead_of_doubling(written):
    configure("info", json=True)
    configure("warning", json=False)
    log = logging.getLogger("chrono_ray.test")
    log.info("too.small")
    log.warning("archive.silent", extra={"seconds": 60})
    (line,) = written().splitlines()
    assert line.endswith("warning archive.silent seconds=60")


def test_unknown_level_is_refused(written):
    with pytest.raises(ValueError, match="LOUD"):
        configure("loud", json=True)
