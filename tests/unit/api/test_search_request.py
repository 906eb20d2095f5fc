"""What a search form may hold: it becomes a query, or is refused by name; nothing else happens."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from chrono_ray.api.search_schemas import FIELDS as FIELD_OF
from chrono_ray.api.search_schemas import Facet, Projects, SearchParameters, SearchRequest
from chrono_ray.model.errors import InvalidInput
from chrono_ray.model.query import (
    EVERYTHING,
    And,
    CapturedBetween,
    Equals,
    Field,
    Query,
    Sort,
    in_projects,
)

FIELDS = ["query", "project", "domain", "host", "language", "mimetype", "from", "to", "facets",
          "sort", "histogram", "typos"]  # fmt: skip
texts = st.text(max_size=20)
askable = st.text(
    st.characters(min_codepoint=33, exclude_characters="\\\x7f"), min_size=1, max_size=50
)
plain = st.none() | st.booleans() | st.integers() | st.floats() | texts
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=2)
)
forms = st.dictionaries(st.sampled_from([*FIELDS, "offset", "limit", "tenant"]), values, max_size=6)


@given(forms)
@settings(max_examples=300, deadline=None)
def test_any_form_is_a_query_or_refused(form):
    try:
        query = SearchRequest.model_validate_json(json.dumps(form)).asked()
    except (ValidationError, InvalidInput):
        return
    assert isinstance(query, Query)
    assert "tenant" not in form


@given(
    st.sampled_from(["domain", "language", "mimetype"]),
    st.lists(askable, min_size=1, max_size=5),
)
@settings(max_examples=100, deadline=None)
def test_values_arrive_as_they_were_given(field, given_values):
    """No quoting, no splitting, no trimming: a value is a literal."""
    query = SearchRequest.model_validate({field: given_values}).asked()
    assert query.filter == And((Equals(FIELD_OF[Facet(field)], tuple(given_values)),))


def test_a_project_is_asked_for_by_its_number_or_by_a_name_that_is_none():
    asked = SearchRequest.model_validate({"project": [7, "12", "town", "#3", "٣"]})
    assert asked.projects == Projects(frozenset({7, 12}), frozenset({"town", "#3", "٣"}))
    assert SearchRequest.model_validate({}).asked({7, 12, 9}) == Query(
        "", And((in_projects([7, 9, 12]),))
    )


@pytest.mark.parametrize("value", [0, -1, 2**31, 1.5, None, "a\0b", "x" * 201, ["a"]])
def test_a_project_that_cannot_be_is_refused(value):
    with pytest.raises(ValidationError):
        SearchRequest.model_validate({"project": [value]})


def test_in_an_address_the_words_have_a_short_name():
    assert SearchParameters.model_validate({"q": "mill"}).asked().text == "mill"
    with pytest.raises(ValidationError):
        SearchRequest.model_validate({"q": "mill"})


def test_nothing_asked_is_everything():
    assert SearchRequest.model_validate({}).asked() == Query("", EVERYTHING)


def test_all_filters_must_match_and_any_of_their_values():
    query = SearchRequest.model_validate({"domain": ["a", "b"], "mimetype": ["t"]}).asked()
    assert query.filter == And((Equals(Field.DOMAIN, ("a", "b")), Equals(Field.TYPE, ("t",))))


@pytest.mark.parametrize("said", ["town.example", "www.town.example", "WWW.Town.Example"])
def test_a_host_is_meant_with_www_and_without(said):
    query = SearchRequest.model_validate({"host": [said]}).asked()
    assert query.filter == And((Equals(Field.HOST, ("town.example", "www.town.example")),))


def test_a_short_date_means_all_of_it():
    query = SearchRequest.model_validate({"from": "2001", "to": "200102"}).asked()
    [span] = query.filter.parts
    assert span == CapturedBetween(
        datetime(2001, 1, 1, tzinfo=UTC), datetime(2001, 2, 28, 23, 59, 59, tzinfo=UTC)
    )


def test_a_facet_asked_twice_is_counted_once():
    query = SearchRequest.model_validate({"facets": ["host", "mimetype", "host"]}).asked()
    assert query.facets == (Field.HOST, Field.TYPE)
    assert query.sort is Sort.RELEVANCE


@pytest.mark.parametrize("name", ["start", "end", "filter", "__class__"])
def test_our_own_names_are_no_way_in(name):
    with pytest.raises(ValidationError):
        SearchRequest.model_validate({name: "2001"})
