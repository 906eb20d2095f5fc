"""Dates as pages write them."""

from __future__ import annotations

import re
from datetime import date
from typing import Final

EARLIEST_GUESS: Final = date(1990, 12, 20)
"""The first web page; an earlier date is believed only where bibliographic metadata states it."""
EARLIEST_STATED: Final = date(1450, 1, 1)
PLACEHOLDERS: Final = frozenset({date(1970, 1, 1), date(1969, 12, 31), date(1900, 1, 1)})
"""What an empty field turns into; never a date of publication."""

_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1
    )
}
_NAME: Final = "(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_YMD: Final = re.compile(r"(?<!\d)(\d{4})([-/.])(\d{1,2})\2(\d{1,2})(?!\d)")
_COMPACT: Final = re.compile(r"^\s*(\d{4})(\d{2})(\d{2})(?:\d{4,6}|t\d{4,6}z?)?\s*$")
_DAY_MONTH: Final = re.compile(
    rf"(?<!\d)(\d{{1,2}})(?:st|nd|rd|th)?[\s.,-]+{_NAME}[\s.,-]+(\d{{4}})"
)
_MONTH_DAY: Final = re.compile(
    rf"{_NAME}[\s.]+(\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?:[\d:]+\s\w+\s)?(\d{{4}})"
)
_URL: Final = re.compile(r"/((?:19|20)\d\d)([/-])(\d{1,2})\2(\d{1,2})(?=[/?#-]|$)")


def parse_date(text: str) -> date | None:
    """The day a text names, or None. Day/month orders that cannot be told apart are no date."""
    short = text[:80].lower()
    found = _YMD.search(short)
    if found:
        return _day(found[1], found[3], found[4])
    found = _COMPACT.match(short)
    if found:
        return _day(found[1], found[2], found[3])
    found = _DAY_MONTH.search(short)
    if found:
        return _day(found[3], str(_MONTHS[found[2]]), found[1])
    found = _MONTH_DAY.search(short)
    return _day(found[3], str(_MONTHS[found[1]]), found[2]) if found else None


def date_in_url(url: str) -> date | None:
    """The day in an address such as /2004/03/12/, or None."""
    found = _URL.search(url)
    return _day(found[1], found[3], found[4]) if found else None


def plausible(day: date | None, *, earliest: date, latest: date) -> date | None:
    """`day` if it can be a date of publication."""
    if day is None or day in PLACEHOLDERS or not earliest <= day <= latest:
        return None
    return day


def _day(year: str, month: str, day: str) -> date | None:
    try:
        return date(int(year), int(month), int(day))
    except ValueError:
        return None
