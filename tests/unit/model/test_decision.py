"""Which captures are fetched, and why the others are not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chrono_ray.model.capture import EMPTY_DIGEST, Capture, Skipped, Timestamp14, Wanted
from chrono_ray.model.decision import decide

DIGEST = "A" * 32


def capture(
    *, statuscode: str = "200", mimetype: str = "text/html", digest: str = DIGEST
) -> Capture:
    return Capture(
        urlkey="org,example)/", timestamp=Timestamp14("20050102030405"),
        original="http://example.org/", mimetype=mimetype, statuscode=statuscode, digest=digest,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("statuscode", "reason"),
    [("301", "redirect"), ("302", "redirect"), ("404", "not_found"), ("410", "not_found"),
     ("403", "error"), ("500", "error")],
)  # fmt: skip
def test_what_is_no_page_stays_as_an_event(statuscode: str, reason: str) -> None:
    decision = decide(capture(statuscode=statuscode))
    assert decision == Skipped(reason, f"status {statuscode}")


@pytest.mark.parametrize("mimetype", ["image/png", "text/css", "video/mp4", "IMAGE/GIF; x=1"])
def test_what_cannot_be_read_is_not_asked_for(mimetype: str) -> None:
    decision = decide(capture(mimetype=mimetype))
    assert isinstance(decision, Skipped)
    assert decision.reason == "type"
    assert decision.confidence < 1, "a listed type may lie"


@pytest.mark.parametrize("mimetype", ["text/html", "application/pdf", "unk", "-", "text/plain"])
def test_what_may_be_a_page_is_wanted(mimetype: str) -> None:
    assert decide(capture(mimetype=mimetype)) == Wanted()


def test_a_revisit_is_a_want_for_its_digest() -> None:
    assert decide(capture(mimetype="warc/revisit", statuscode="-")) == Wanted()


def test_a_revisit_of_an_empty_payload_is_skipped() -> None:
    decision = decide(capture(mimetype="warc/revisit", statuscode="-", digest=EMPTY_DIGEST))
    assert isinstance(decision, Skipped)


@pytest.mark.parametrize("digest", ["-", ""])
def test_a_revisit_without_a_digest_is_wanted_for_itself(digest: str) -> None:
    assert decide(capture(mimetype="warc/revisit", statuscode="-", digest=digest)) == Wanted()


def test_an_empty_page_of_its_own_is_wanted() -> None:
    assert decide(capture(digest=EMPTY_DIGEST)) == Wanted()


@given(st.text(max_size=20), st.text(max_size=40), st.text(max_size=40))
def test_every_capture_gets_a_decision_with_its_reason(
    statuscode: str, mimetype: str, digest: str
) -> None:
    decision = decide(capture(statuscode=statuscode, mimetype=mimetype, digest=digest))
    if isinstance(decision, Skipped):
        assert decision.reason
        assert decision.rule
        assert 0 < decision.confidence <= 1
