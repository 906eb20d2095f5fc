"""What is wrong with a part of a request, in our own words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

MESSAGES: Final[Mapping[str, str]] = {
    "missing": "is missing",
    "extra_forbidden": "is not known here",
    "int_parsing": "is no whole number",
    "int_type": "is no whole number",
    "int_from_float": "is no whole number",
    "int_parsing_size": "is too large a number",
    "float_parsing": "is no number",
    "float_type": "is no number",
    "finite_number": "is no finite number",
    "bool_parsing": "is neither true nor false",
    "bool_type": "is neither true nor false",
    "string_type": "is no text",
    "string_unicode": "is no text in UTF-8",
    "string_too_short": "has fewer than {min_length} characters",
    "string_too_long": "has more than {max_length} characters",
    "string_pattern_mismatch": "has characters, or an order of them, that it cannot have",
    "too_short": "has fewer than {min_length} values",
    "too_long": "has more than {max_length} values",
    "greater_than_equal": "is less than {ge}",
    "greater_than": "is not more than {gt}",
    "less_than_equal": "is more than {le}",
    "less_than": "is not less than {lt}",
    "enum": "is none of {expected}",
    "literal_error": "is none of {expected}",
    "none_required": "can only be null",
    "list_type": "is no list",
    "dict_type": "is no object",
    "model_type": "is no object",
    "model_attributes_type": "is no object",
    "json_invalid": "is no JSON",
    "date_from_datetime_parsing": "is no date",
    "datetime_parsing": "is no time: write 2001-03-09T12:00:00Z",
    "datetime_from_date_parsing": "is no time: write 2001-03-09T12:00:00Z",
    "datetime_type": "is no time: write 2001-03-09T12:00:00Z",
    "datetime_object_invalid": "is no time: write 2001-03-09T12:00:00Z",
    "timezone_offset": "has no offset from UTC that there is",
    "value_error": "{error}",
}
"""By the name of the rule. Of `value_error` the rule's own words, which are ours."""
OTHER: Final = "cannot be this"


def message_of(error: Mapping[str, Any]) -> str:
    """Of an error as pydantic tells it: a rule's name, and the numbers that belong to it."""
    return MESSAGES.get(error["type"], OTHER).format_map(_Told(error.get("ctx") or {}))


class _Told(dict[str, Any]):
    def __missing__(self, name: str) -> str:
        return "it may be"
