"""Dates are read only where they can be read one way; languages need evidence."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chrono_ray.extraction.dates import EARLIEST_GUESS, date_in_url, parse_date, plausible
from chrono_ray.extraction.language import claimed_language, language

DAY = date(2004, 3, 12)
ENGLISH = "The committee will publish its findings in the spring of next year, as it always does."
GERMAN = "Der Ausschuss wird seine Ergebnisse im Frühjahr des nächsten Jahres veröffentlichen."


@pytest.mark.parametrize(
    "text",
    [
        "2004-03-12", "2004-03-12T10:11:12+02:00", "2004/3/12", "20040312", "20040312101112",
        "20040312T101112Z", "12 March 2004", "12th Mar 2004", "Fri, 12 Mar 2004 10:00:00 GMT",
        "March 12, 2004", "Mar. 12th, 2004", "Fri Mar 12 10:00:00 EST 2004", "2004.03.12",
        " 2004-03-12 ",
    ],
)  # fmt: skip
def test_a_date_is_read(text: str) -> None:
    assert parse_date(text) == DAY


@pytest.mark.parametrize(
    "text",
    ["03/12/2004", "2004", "March 2004", "2004-13-40", "yesterday", "", "12004-03-12", "{{d}}"],
)
def test_what_names_no_single_day_is_no_date(text: str) -> None:
    assert parse_date(text) is None


@given(st.text(max_size=120))
def test_no_text_breaks_the_reader_of_dates(text: str) -> None:
    parse_date(text)
    date_in_url(text)


@given(st.dates(min_value=date(1000, 1, 1)))
def test_iso_dates_come_back(day: date) -> None:
    assert parse_date(day.isoformat()) == day


def test_an_address_may_hold_the_date() -> None:
    assert date_in_url("http://news.test/2004/03/12/story.html") == DAY
    assert date_in_url("http://news.test/2004-03-12-story") == DAY
    assert date_in_url("http://news.test/2004/3") is None
    assert date_in_url("http://news.test/id/20040312") is None


@pytest.mark.parametrize(
    "day", [date(1970, 1, 1), date(1900, 1, 1), date(1985, 5, 5), date(2005, 1, 3)]
)
def test_what_cannot_be_a_day_of_publication(day: date) -> None:
    assert plausible(day, earliest=EARLIEST_GUESS, latest=date(2005, 1, 2)) is None


@pytest.mark.parametrize(
    ("tag", "primary"),
    [("en-GB", "en"), ("EN_us", "en"), ("iw", "he"), ("zh-Hant", "zh"), ("english", ""), ("", "")],
)
def test_language_tags_are_reduced_to_their_primary_subtag(tag: str, primary: str) -> None:
    assert claimed_language(tag) == primary


def test_the_text_overrules_a_template_in_another_language() -> None:
    assert language(GERMAN, "en-US") == "de"
    assert language(ENGLISH, "en") == "en"
    assert language(GERMAN, "") == "de"


def test_too_little_text_proves_nothing() -> None:
    assert language("ok", "fr") == "fr"
    assert language("ok", "") == ""
    assert language("", "") == ""
