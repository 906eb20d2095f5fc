"""Which bodies are JSON that means one thing: nothing that two readers would read differently."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final, NoReturn

DEPTH_MAX: Final = 32
_TOKENS: Final = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[\]{}]', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a body is refused, as the HTTP status and code to refuse it by."""

    status: int
    code: str
    why: str


def fault_of(body: bytes) -> Fault | None:
    """What is wrong with a body that should be JSON; None for nothing, and for no body."""
    if not body:
        return None
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        return Fault(400, "bad_encoding", "the body is not UTF-8")
    if _deep(text):
        return Fault(422, "invalid_json", f"it is nested deeper than {DEPTH_MAX} levels")
    try:
        json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        return Fault(422, "invalid_json", str(error)[:200])
    return None


def _deep(text: str) -> bool:
    """Counted before it is read: what reads it would do so by calling itself."""
    depth = 0
    for token in _TOKENS.finditer(text):
        match token[0]:
            case "[" | "{":
                depth += 1
                if depth > DEPTH_MAX:
                    return True
            case "]" | "}":
                depth -= 1
            case _:
                pass
    return False


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")
