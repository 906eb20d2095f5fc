"""Opaque tokens: 256 random bits behind a mark that says what they are; kept as SHA-256 only."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Literal

ACCESS: Final = "cra_"
REFRESH: Final = "crr_"
KEY: Final = "crk_"
BYTES: Final = 32
CHARS_MAX: Final = 100
SHOWN: Final = 12
"""Characters of an API key by which people know it."""


@dataclass(frozen=True, slots=True)
class Token:
    """A new token: `text` goes to its user, once; `hash` is kept."""

    text: str
    hash: bytes


def new_token(mark: Literal["cra_", "crr_", "crk_"]) -> Token:
    text = mark + secrets.token_urlsafe(BYTES)
    return Token(text, hash_of(text))


def hash_of(text: str) -> bytes:
    """By which a token is found."""
    return sha256(text.encode("utf-8", "surrogatepass")).digest()
