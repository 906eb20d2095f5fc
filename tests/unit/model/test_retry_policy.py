"""One policy says what becomes of a failed fetch."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chrono_ray.model import retry
from chrono_ray.model.errors import (
    ArchiveError,
    ArchiveUnavailable,
    ConnectionRefused,
    MementoGone,
    RequestRefused,
    Throttled,
    TransferFailed,
)
from chrono_ray.model.outcome import Failed, Gone, Refused
from chrono_ray.model.retry import (
    Fail,
    Late,
    Retry,
    Snooze,
    backoff,
    decide,
    decide_listing,
    decide_replay,
    pause_after,
)

ATTEMPTS = st.integers(1, 10_000)
JITTER = st.floats(0, 1, exclude_max=True)
PASSING = [
    ArchiveUnavailable("502"),
    *(TransferFailed("cut", reason=reason) for reason in ("truncated", "protocol", "deadline")),
]


@given(ATTEMPTS, JITTER)
def test_throttling_never_costs_an_attempt(attempt, jitter):
    verdict = decide(Throttled("429", retry_after=None), attempt, jitter)
    assert verdict == Snooze(60.0, "throttled")


@given(ATTEMPTS, JITTER)
def test_a_refusal_never_costs_an_attempt(attempt, jitter):
    for verdict in (
        decide(ConnectionRefused("no"), attempt, jitter),
        decide_listing(ConnectionRefused("no"), attempt, jitter),
        decide_replay(ConnectionRefused("no"), attempt, jitter, late=True),
    ):
        assert verdict == Snooze(60.0, "refused_connection")


@pytest.mark.parametrize(
    ("said", "waited"),
    [(120.0, 120.0), (0.0, 1.0), (-5.0, 1.0), (1e9, 86_400.0), (float("nan"), 1.0)],
)
def test_the_archives_own_word_is_heeded_within_reason(said, waited):
    assert decide(Throttled("429", retry_after=said), 1, 0.0) == Snooze(waited, "throttled")


def test_pauses_without_a_word_double_to_an_hour():
    assert [pause_after(n, None) for n in range(8)] == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert pause_after(10_000, None) == 3600


@pytest.mark.parametrize("error", PASSING, ids=lambda error: error.reason)
def test_what_may_pass_is_tried_five_times(error):
    assert all(
        isinstance(decide(error, attempt, 0.5), Retry) for attempt in range(1, retry.ATTEMPTS)
    )
    last = decide(error, retry.ATTEMPTS, 0.5)
    assert last == Fail(Failed(error.reason, str(error)))


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (MementoGone("gone", reason="removed"), Gone("removed", "gone")),
        (RequestRefused("private", reason="address"), Refused("address", "private")),
        (TransferFailed("bomb", reason="too_large"), Failed("too_large", "bomb")),
        (TransferFailed("odd", reason="encoding"), Failed("encoding", "odd")),
        (ArchiveError("odd"), Failed("archive", "odd")),
    ],
    ids=lambda value: getattr(value, "reason", ""),
)
def test_what_cannot_change_is_over_at_once(error, outcome):
    assert decide(error, 1, 0.0) == Fail(outcome)


@pytest.mark.parametrize("error", PASSING, ids=lambda error: error.reason)
def test_a_replay_that_may_pass_fails_only_in_the_second_pass(error):
    last = decide_replay(error, retry.ATTEMPTS, 0.5, late=False)
    assert last == Late(backoff(retry.ATTEMPTS, 0.5), error.reason, str(error))
    assert decide_replay(error, retry.ATTEMPTS, 0.5, late=True) == Fail(
        Failed(error.reason, str(error))
    )


@pytest.mark.parametrize("error", PASSING, ids=lambda error: error.reason)
def test_a_listing_that_may_pass_is_tried_for_hours_ever_less_often(error):
    waits = []
    for attempt in range(1, 100):
        match decide_listing(error, attempt, 0.5):
            case Retry(delay):
                waits.append(delay)
            case last:
                break
    assert last == Fail(Failed(error.reason, str(error)))
    assert waits == sorted(waits)
    assert len(waits) == retry.ATTEMPTS - 1 + len(retry.LATE_PASSES)
    assert 6 * 3600 < sum(waits) < 9 * 3600


def test_a_listing_for_which_nobody_was_asked_gets_no_late_pass():
    error = ArchiveUnavailable("a disk that is ill", requests=0)
    assert decide_listing(error, retry.ATTEMPTS, 0.5) == decide(error, retry.ATTEMPTS, 0.5)


@given(
    st.sampled_from(
        [
            *PASSING, Throttled("429", retry_after=9), ConnectionRefused("no"),
            MementoGone("gone"), RequestRefused("no"),
            TransferFailed("bomb", reason="too_large"), ArchiveError("odd"),
        ]
    ),
    ATTEMPTS, JITTER, st.booleans(),
)  # fmt: skip
def test_the_passes_differ_in_nothing_but_how_the_first_one_ends(error, attempt, jitter, late):
    plain, verdict = (
        decide(error, attempt, jitter),
        decide_replay(error, attempt, jitter, late=late),
    )
    if isinstance(verdict, Late):
        assert not late
        assert plain == Fail(Failed(verdict.reason, verdict.detail))
        assert any(error is each for each in PASSING)
    else:
        assert verdict == plain


@given(st.integers(1, 20), JITTER)
def test_backoff_doubles_up_to_its_cap_and_is_spread_over_its_upper_half(attempt, jitter):
    whole = min(retry.FIRST_DELAY * 2 ** (attempt - 1), retry.LONGEST_DELAY)
    assert whole / 2 <= backoff(attempt, jitter) <= whole
    assert backoff(attempt, jitter) <= backoff(attempt + 1, jitter)


@given(ATTEMPTS, JITTER)
def test_waiting_is_always_bounded(attempt, jitter):
    assert 0 < backoff(attempt, jitter) <= retry.LONGEST_DELAY
