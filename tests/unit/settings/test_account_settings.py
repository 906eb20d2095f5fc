"""Passwords are hashed as OWASP asks, or nothing starts."""

from __future__ import annotations

import pytest

from chrono_ray.model.errors import SettingsError
from chrono_ray.settings import load

CHEAP = {"CHRONO_ACCOUNTS__HASH_MEMORY": "64", "CHRONO_ACCOUNTS__HASH_PASSES": "1"}
TESTS = {"CHRONO_ACCOUNTS__FOR_TESTS": "true"}


def test_the_default_is_what_owasp_asks():
    chosen = load({}).accounts
    assert (chosen.hash_memory, chosen.hash_passes) == (19 * 1024, 2)
    assert chosen.approval
    assert not chosen.for_tests


@pytest.mark.parametrize("name", CHEAP)
def test_cheap_hashing_refuses_to_start_unless_it_is_for_tests(name):
    with pytest.raises(SettingsError, match="too cheaply"):
        load({name: CHEAP[name]})
    assert load({name: CHEAP[name], **TESTS}).accounts.for_tests


def test_what_is_for_tests_serves_nobody_else():
    with pytest.raises(SettingsError, match="serves only itself"):
        load({**CHEAP, **TESTS, "CHRONO_SERVING__HOST": "0.0.0.0"})
    load({"CHRONO_SERVING__HOST": "0.0.0.0"})
