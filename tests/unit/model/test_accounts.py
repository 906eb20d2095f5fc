"""Roles, scopes, addresses, and how long a wrong password must wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chrono_ray.model.accounts import (
    DELAYS,
    FREE_TRIES,
    LONGEST_DELAY,
    PASSWORD_CHARS_MAX,
    PASSWORD_CHARS_MIN,
    TRIES_MOST,
    Actor,
    Role,
    Scope,
    check_password,
    delay_after,
    email_of,
    granted,
)
from chrono_ray.model.errors import InvalidInput

scopes = st.lists(st.sampled_from(Scope), max_size=4)


@given(st.integers(0, 10**9))
def test_the_wait_never_shrinks_and_never_ends_nowhere(failures):
    wait = delay_after(failures)
    assert 0 <= wait <= delay_after(failures + 1) <= LONGEST_DELAY
    assert (wait == 0) == (failures < FREE_TRIES)


def test_a_hundred_tries_from_one_place_take_days():
    """The waits that PostgreSQL is given are those of the rule, up to the last try there is."""
    assert len(DELAYS) == TRIES_MOST == 100
    assert list(DELAYS[:7]) == [0, 0, 0, 0, 30, 60, 120]
    assert sum(DELAYS) > 3 * 86400


@given(scopes, st.sampled_from(Role))
def test_a_scope_holds_those_before_it_and_makes_nobody_an_admin(asked, role):
    held = granted(asked, role)
    assert held - set(asked) <= {Scope.READ, Scope.WRITE}
    assert (Scope.ADMIN in held) == (Scope.ADMIN in asked and role is Role.ADMIN)
    assert (Scope.READ in held) == bool(asked)
    assert (Scope.WRITE in held) == bool({Scope.WRITE, Scope.ADMIN} & set(asked))
    assert Actor(1, role, held, 1, None).is_admin == (Scope.ADMIN in held)


@given(st.text(max_size=300))
def test_an_address_is_none_or_one_that_stays_what_it_is(text):
    try:
        email = email_of(text)
    except InvalidInput:
        return
    assert email_of(email) == email
    assert email.count("@") == 1
    assert email.isprintable()
    assert " " not in email


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        (" Anna@Example.ORG\n", "anna@example.org"),
        ("Ａｎｎａ@example.org", "anna@example.org"),
        ("STRASSE@x.de", "strasse@x.de"),
        ("straße@x.de", "strasse@x.de"),
    ],
)
def test_an_address_is_one_whatever_its_case(typed, kept):
    assert email_of(typed) == kept


@given(st.text(max_size=PASSWORD_CHARS_MAX + 5))
def test_a_password_has_a_length(password):
    try:
        check_password(password, "anna@example.org")
    except InvalidInput:
        return
    assert PASSWORD_CHARS_MIN <= len(password) <= PASSWORD_CHARS_MAX
