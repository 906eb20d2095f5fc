"""What every index does alike: tantivy, the Meilisearch stand-in, and a real Meilisearch."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chrono_ray.model.errors import InvalidInput
from chrono_ray.model.query import (
    And,
    Bucket,
    CapturedBetween,
    Counted,
    Equals,
    Field,
    Filter,
    Fragment,
    Not,
    Or,
    PageEntry,
    Query,
    Sort,
    in_projects,
)
from chrono_ray.search.base import Confirmed, Forgotten, SearchIndex
from tests.support.meilisearch.pages import REAL_URL, day, page, seen, settled


async def put(index: SearchIndex, *entries: PageEntry) -> None:
    assert await settled(index, await index.upsert(entries)) == Confirmed()


async def found(index: SearchIndex, text: str, **more: object) -> set[int]:
    results = await index.search(Query(text, **more))  # type: ignore[arg-type]
    return {hit.id for hit in results.hits}


def shown(fragment: Fragment) -> list[str]:
    return [fragment.text[start:end] for start, end in fragment.matches]


async def test_a_page_is_found_by_its_words_once_confirmed(index: SearchIndex) -> None:
    await put(index, page(1, "The mill", "Water drove the old mill."), page(2, "The bridge"))
    results = await index.search(Query("water mill"))
    assert [hit.id for hit in results.hits] == [1]
    assert results.total == 1
    assert results.milliseconds >= 0


async def test_a_hit_carries_what_was_indexed(index: SearchIndex) -> None:
    entry = replace(
        page(2**53 - 1, "Ünïcode « títle »", "Body of it."),
        project_id=2**31 - 1,
        domain="Δ/ß A",
        host="bücher.example",
        url='https://bücher.example/?q="x"&y=\\',
        language="",
        type="application/pdf",
        captures=7,
    )
    await put(index, entry)
    (hit,) = (await index.search(Query("body"))).hits
    same = ("id", "project_id", "domain", "url", "host", "language", "type", "captures")
    assert {name: getattr(hit, name) for name in same} == {
        name: getattr(entry, name) for name in same
    }
    assert (hit.first_seen, hit.last_seen) == (entry.first_seen, entry.last_seen)
    assert hit.title.text == entry.title


def test_a_real_meilisearch_was_used() -> None:
    if not REAL_URL:
        pytest.skip("CHRONO_TEST_MEILISEARCH_URL is unset: the stand-in answered for Meilisearch")


async def test_all_words_must_be_there(index: SearchIndex) -> None:
    await put(index, page(1, "red apple"), page(2, "red pear"), page(3, "green apple"))
    assert await found(index, "apple red") == {1}


async def test_the_title_counts_more_than_the_text(index: SearchIndex) -> None:
    await put(
        index,
        page(1, "Something else", "lighthouse lighthouse lighthouse"),
        page(2, "lighthouse", "Something else"),
    )
    results = await index.search(Query("lighthouse"))
    assert [hit.id for hit in results.hits] == [2, 1]


async def test_author_and_url_are_searched(index: SearchIndex) -> None:
    await put(
        index,
        replace(page(1), author="Ada Lovelace"),
        replace(page(2), url="https://a.example/brontosaurus/index.html"),
    )
    assert await found(index, "lovelace") == {1}
    assert await found(index, "brontosaurus") == {2}


async def test_quotes_ask_for_words_in_a_row(index: SearchIndex) -> None:
    await put(
        index,
        page(1, text="the quick brown fox"),
        page(2, text="the brown quick fox"),
        page(3, text="quickly, a brown dog"),
    )
    assert await found(index, '"quick brown"') == {1}
    assert await found(index, '"brown" fox') == {1, 2}
    assert await found(index, '"quick brwn"') == set(), "no typos inside quotes"


@pytest.mark.parametrize(
    ("typed", "ids"),
    [
        ("lihgthouse", {1}),
        ("lightouse", {1}),
        ("lightxouse", {1}),
        ("lihgthuose", {1}),
        ("towr", set()),
        ("tower", {1}),
        ("2004", set()),
        ("20014", set()),
    ],
)
async def test_small_typos_are_forgiven_in_long_words(
    index: SearchIndex, typed: str, ids: set[int]
) -> None:
    await put(index, page(1, "A lighthouse is a tower", "built in 20015"), page(2, "unrelated"))
    assert await found(index, typed + " ") == ids


async def test_the_word_being_typed_is_a_beginning(index: SearchIndex) -> None:
    await put(index, page(1, "category"), page(2, "cat"))
    assert await found(index, "cat") == {1, 2}
    assert await found(index, "cat ") == {2}
    assert await found(index, '"cat"') == {2}


@pytest.mark.parametrize(
    ("typed", "ids"),
    [
        ("東京", {1}),
        ("東京タワー", {1}),
        ("タワー", {1}),
        ("中文", {2}),
        ("京東", set()),
        ("ＡＢＣ", {1}),
        ("cafe", {3}),
        ("CAFÉ", {3}),
        ('"münchen"', {3}),
    ],
)
async def test_every_script_is_found(index: SearchIndex, typed: str, ids: set[int]) -> None:
    await put(
        index,
        page(1, "東京タワーの歴史", "昔々、東京に塔がありました。abc"),
        page(2, "中文网页", "历史"),
        page(3, "Le Café", "Mu\u0308nchen"),
    )
    assert await found(index, typed) == ids


async def test_matches_are_character_ranges_of_plain_text(index: SearchIndex) -> None:
    await put(index, page(1, "Über 東京 tower", "Ein Café — 😀 — near the tower in 東京."))
    (hit,) = (await index.search(Query("tower 東京"))).hits
    assert sorted(shown(hit.title)) == ["tower", "東京"]
    assert sorted(shown(hit.snippet)) == ["tower", "東京"]


async def test_the_snippet_is_the_part_where_the_words_are(index: SearchIndex) -> None:
    filler = "nothing to see in this sentence " * 200
    await put(index, page(1, "t", f"{filler} here the needle meets the thread {filler}"))
    (hit,) = (await index.search(Query("needle thread"))).hits
    assert {"needle", "thread"} <= set(shown(hit.snippet))
    assert 150 <= len(hit.snippet.text) <= 300


async def test_without_words_the_snippet_is_the_beginning(index: SearchIndex) -> None:
    await put(index, page(1, "t", "It begins here. " + "More of it. " * 100))
    (hit,) = (await index.search(Query(""))).hits
    assert hit.snippet.text.startswith("It begins here.")
    assert hit.snippet.matches == ()


@pytest.mark.parametrize(
    "evil",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<em>not ours</em> <mark>nor this</mark> __ais-highlight__ \x02 \ue000",
        "javascript:alert(1) \u202egnp.exe",
    ],
)
async def test_markup_in_a_page_stays_text(index: SearchIndex, evil: str) -> None:
    """Neither a title nor a snippet ever gains or loses a character to highlighting."""
    await put(index, page(1, f"findme {evil}", f"before {evil} findme after"))
    (hit,) = (await index.search(Query("findme"))).hits
    assert hit.title.text == f"findme {evil}"
    assert hit.snippet.text == f"before {evil} findme after"
    assert shown(hit.title) == ["findme"]
    assert shown(hit.snippet) == ["findme"]


async def test_a_link_that_would_run_code_comes_back_as_it_was(index: SearchIndex) -> None:
    await put(index, replace(page(1, "findme"), url="javascript:alert('\u202e')"))
    (hit,) = (await index.search(Query("findme"))).hits
    assert hit.url == "javascript:alert('\u202e')"


async def test_a_filter_value_is_a_literal(index: SearchIndex) -> None:
    await put(index, replace(page(1), domain="a"), replace(page(2), domain="x"))
    hostile = 'x" OR domain != "a'
    assert await found(index, "", filter=Equals(Field.DOMAIN, (hostile,))) == set()
    await put(index, replace(page(3), domain=hostile))
    assert await found(index, "", filter=Equals(Field.DOMAIN, (hostile,))) == {3}


async def test_a_value_is_matched_exactly(index: SearchIndex) -> None:
    """Letter case, accents and spaces part two values."""
    names = ["town", "Town", "tówn", " town", "town ", "", "%54own", "to%wn"]
    await put(index, *(replace(page(i), domain=name) for i, name in enumerate(names)))
    for id_, name in enumerate(names):
        assert await found(index, "", filter=Equals(Field.DOMAIN, (name,))) == {id_}, name


async def test_of_many_projects_one_sees_all_and_nothing_of_the_others(index: SearchIndex) -> None:
    """Neither their pages nor their numbers, domains and hosts among the facets."""
    await put(
        index,
        *(
            replace(page(n, "word"), project_id=n, domain=f"d{n}", host=f"h{n}")
            for n in (1, 12, 99, 400)
        ),
    )
    mine = in_projects([*range(1, 300), 99])
    counted = (Field.PROJECT, Field.DOMAIN, Field.HOST)
    results = await index.search(Query("word", mine, counted))
    assert {hit.project_id for hit in results.hits} == {1, 12, 99}
    assert results.total == 3
    assert set(results.facets[Field.PROJECT]) == {"1", "12", "99"}
    assert set(results.facets[Field.DOMAIN]) == {"d1", "d12", "d99"}
    assert set(results.facets[Field.HOST]) == {"h1", "h12", "h99"}
    assert await found(index, "word", filter=in_projects([])) == set()
    assert await index.matching(Query("word", mine), 0, 10) == [1, 12, 99]


def test_a_backslash_or_control_character_is_refused_before_any_index() -> None:
    for value in ("a\\", "a\x00", "a\n"):
        with pytest.raises(InvalidInput) as refused:
            Equals(Field.DOMAIN, (value,))
        assert refused.value.code == "filter_value"


def test_unknown_fields_sorts_and_limits_are_refused_before_any_index() -> None:
    for name in ("tenant", "id;DROP", "(select 1)"):
        with pytest.raises(ValueError, match=r"is not a valid"):
            Field(name)
        with pytest.raises(ValueError, match=r"is not a valid"):
            Sort(name)
    for limit in (-1, 0, 1_000_000_000):
        with pytest.raises(InvalidInput):
            Query("", limit=limit)


def test_filters_too_deep_or_too_long_are_refused_before_any_index() -> None:
    deep: Filter = Equals(Field.HOST, ("h",))
    for _ in range(201):
        deep = Not(deep)
    wide = Equals(Field.HOST, tuple(f"h{number}" for number in range(500)))
    for tree, code in ((deep, "filter_depth"), (wide, "filter_terms")):
        with pytest.raises(InvalidInput) as refused:
            Query("", filter=tree)
        assert refused.value.code == code


async def test_a_page_counts_for_every_moment_between_first_and_last_seen(
    index: SearchIndex,
) -> None:
    await put(
        index,
        seen(page(1), "1999-05-01", "2003-05-01"),
        seen(page(2), "2004-01-01", "2004-01-01"),
        seen(page(3), "1969-01-01", "1969-06-01"),
    )

    async def between(start: str | None, end: str | None) -> set[int]:
        span = CapturedBetween(start and day(start), end and day(end))  # type: ignore[arg-type]
        return await found(index, "", filter=span)

    assert await between("2000-01-01", "2001-01-01") == {1}
    assert await between("2003-05-01", None) == {1, 2}
    assert await between("2003-05-02", None) == {2}
    assert await between(None, "1999-04-30") == {3}
    assert await between("2004-01-01", "2004-01-01") == {2}
    assert await between(None, None) == {1, 2, 3}


async def test_facets_count_what_matches(index: SearchIndex) -> None:
    await put(
        index,
        *(replace(page(i, "common"), language="en") for i in range(3)),
        replace(page(10, "common"), language="DE"),
        replace(page(11, "rare"), language="fr"),
    )
    results = await index.search(Query("common", facets=(Field.LANGUAGE, Field.HOST)))
    assert results.facets == {
        Field.LANGUAGE: {"en": 3, "DE": 1},
        Field.HOST: {"example.org": 4},
    }
    assert list(results.facets[Field.LANGUAGE]) == ["en", "DE"], "most frequent first"


@pytest.mark.parametrize(
    ("bucket", "expected"),
    [
        (Bucket.YEAR, [("1996", 1), ("2001", 4), ("2004", 1)]),
        (Bucket.MONTH, [("1996-12", 1), ("2001-03", 3), ("2001-04", 1), ("2004-02", 1)]),
        (
            Bucket.DAY,
            [("1996-12-31", 1), ("2001-03-09", 2), ("2001-03-10", 1), ("2001-04-01", 1),
             ("2004-02-29", 1)],
        ),
    ],
)  # fmt: skip
async def test_a_histogram_counts_what_matches_by_when_it_was_first_seen(
    index: SearchIndex, bucket: Bucket, expected: list[tuple[str, int]]
) -> None:
    days = ["2001-03-09", "2001-03-09", "2001-03-10", "2001-04-01", "1996-12-31", "2004-02-29"]
    pages = [seen(page(n, "common"), first, "2010-01-01") for n, first in enumerate(days)]
    await put(index, *pages, seen(page(99, "other"), "2001-03-09", "2001-03-09"))
    results = await index.search(Query("common", limit=1, histogram=bucket))
    assert [(bar.when, bar.pages) for bar in results.histogram] == expected
    assert (await index.search(Query("absent", histogram=bucket))).histogram == ()
    assert (await index.search(Query("common"))).histogram == ()


async def test_without_typos_every_word_stands_as_it_was_typed(index: SearchIndex) -> None:
    await put(index, page(1, "lighthouse keeper"), page(2, "lighthouses"), page(3, "keeper"))
    assert await found(index, "lihgthouse keeper") == {1}
    assert await found(index, "lihgthouse keeper", typos=False) == set()
    assert await found(index, "keeper lighthouse", typos=False) == {1}
    assert await found(index, "light", typos=False) == set()
    assert await found(index, '"lighthouse keeper"', typos=False) == {1}


async def test_what_is_written_as_typed_comes_before_what_is_nearly_so(index: SearchIndex) -> None:
    """However common the word is, and whatever else would count more."""
    common = [page(n, "about", "lighthouse") for n in range(1, 40)]
    await put(index, *common, page(50, "lighthouze", "lighthouze " * 30))
    results = await index.search(Query("lighthouse ", limit=50))
    assert results.total == 40
    assert results.hits[-1].id == 50


async def test_all_of_a_result_is_walked_in_order_of_the_pages(index: SearchIndex) -> None:
    await put(index, *(page(n, "word" if n % 3 else "other") for n in range(1, 41)))
    walked: list[int] = []
    query = Query("word", limit=1)
    while part := await index.matching(query, walked[-1] if walked else 0, 7):
        walked += part
    assert walked == [n for n in range(1, 41) if n % 3]


async def test_a_total_says_what_it_is_worth(index: SearchIndex) -> None:
    await put(index, page(1, "word"))
    worth = (await index.search(Query("word"))).counted
    assert worth is (Counted.EXACT if index.name == "tantivy" else Counted.ESTIMATE)


async def test_sort_by_date_of_capture(index: SearchIndex) -> None:
    await put(
        index,
        seen(page(1, "apple apple"), "1998-01-01", "2010-01-01"),
        seen(page(2, "apple"), "1997-01-01", "2001-01-01"),
        seen(page(3, text="apple"), "1999-01-01", "2020-01-01"),
    )
    for sort, order in ((Sort.NEWEST, [3, 1, 2]), (Sort.OLDEST, [2, 1, 3])):
        results = await index.search(Query("apple", sort=sort))
        assert [hit.id for hit in results.hits] == order


async def test_pages_of_results_are_disjoint_and_complete(index: SearchIndex) -> None:
    await put(index, *(seen(page(i, "x"), "2001-01-01", f"2001-02-{i:02}") for i in range(1, 26)))
    ids = []
    for offset in (0, 10, 20, 30):
        results = await index.search(Query("x", offset=offset, limit=10, sort=Sort.OLDEST))
        assert results.total == 25
        ids += [hit.id for hit in results.hits]
    assert sorted(ids) == list(range(1, 26))


async def test_sending_a_page_again_replaces_it(index: SearchIndex) -> None:
    await put(index, page(1, "first version"), page(1, "second version"))
    await put(index, page(1, "third version"))
    assert await found(index, "first") == set()
    assert await found(index, "second") == set()
    results = await index.search(Query("version"))
    assert [hit.title.text for hit in results.hits] == ["third version"]


async def test_deleted_pages_are_gone_and_unknown_ids_do_no_harm(index: SearchIndex) -> None:
    await put(index, page(1, "x"), page(2, "x"))
    assert await settled(index, await index.delete([1, 999])) == Confirmed()
    assert await found(index, "x") == {2}
    assert [id_ async for id_ in index.ids()] == [2]


async def test_ids_streams_every_page(index: SearchIndex) -> None:
    wanted = [*range(1, 1205), 2**53 - 1]
    for start in range(0, len(wanted), 500):
        await put(index, *(page(id_) for id_ in wanted[start : start + 500]))
    assert sorted([id_ async for id_ in index.ids()]) == wanted


async def test_an_empty_batch_is_confirmed(index: SearchIndex) -> None:
    assert await settled(index, await index.upsert([])) == Confirmed()
    assert await settled(index, await index.delete([])) == Confirmed()


async def test_configuring_twice_keeps_the_pages(index: SearchIndex) -> None:
    await put(index, page(1, "kept"))
    await index.configure()
    assert await found(index, "kept") == {1}


async def test_a_text_longer_than_any_attribute_is_found_to_its_end(index: SearchIndex) -> None:
    text = "word " * 150_000 + "zanzibar"
    await put(index, page(1, "long", text))
    assert await found(index, "zanzibar") == {1}
    await put(index, page(1, "long", "now short"))
    assert await found(index, "zanzibar") == set()


ODD = [
    '"',
    '""',
    '"unclosed phrase',
    'a"b"c"d',
    "\\",
    '\\\\"',
    "AND OR NOT",
    "title:(x^2)~3 [a TO b] {c}",
    "a:b",
    "-findme",
    "--",
    "+findme *",
    "!!! ??? ...",
    "😀",
    "\x00\x01",
    "\ud800 lone",
    "%20%",
    "' OR 1=1 --",
    "\u202e\u200b",
]


@pytest.mark.parametrize("typed", ODD)
async def test_odd_text_is_searched_as_text(index: SearchIndex, typed: str) -> None:
    await put(index, page(1, "findme 😀"))
    await index.search(Query(typed))


async def test_operators_of_other_engines_are_words(index: SearchIndex) -> None:
    await put(index, page(1, "cats AND dogs"), page(2, "cats dogs"), page(3, "cats"))
    assert await found(index, "cats AND dogs") == {1}
    assert await found(index, "cats -dogs") == {1, 2}, "a minus excludes nothing"
    assert await found(index, 'cats -"dogs"') == {1, 2}
    assert await found(index, "title:cats ") == set()


async def test_an_emoji_is_found_and_punctuation_alone_asks_for_nothing(
    index: SearchIndex,
) -> None:
    await put(index, page(1, "party 😀"), page(2, "work"))
    assert await found(index, "😀") == {1}
    assert await found(index, "!!!") == {1, 2}


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(typed=st.text(st.characters(exclude_categories=()), max_size=40))
async def test_no_text_makes_a_search_fail(index: SearchIndex, typed: str) -> None:
    await index.search(Query(typed, facets=(Field.TYPE,)))


VALUES = ("a", "A", "á", "", " a", 'x" OR y', "東京", "it's", "[a]", "a,b", "AND")
DAYS = ("1996-01-01", "2001-06-15", "2001-06-16", "2024-02-29")
SPANS = [(first, last) for first in DAYS for last in DAYS if first <= last]
PAGES = [
    seen(replace(page(number), domain=domain, host=host), *span)
    for number, ((domain, host), span) in enumerate(
        zip(
            itertools.product(VALUES, VALUES[:5]),
            itertools.cycle(SPANS),
            strict=False,
        )
    )
]


def matches(tree: Filter, entry: PageEntry) -> bool:
    """The meaning of a filter, as plainly as it can be said."""
    match tree:
        case Equals(field, values):
            return getattr(entry, field.value) in values
        case CapturedBetween(start, end):
            late = start is None or entry.last_seen >= start
            return late and (end is None or entry.first_seen <= end)
        case And(parts):
            return all(matches(part, entry) for part in parts)
        case Or(parts):
            return any(matches(part, entry) for part in parts)
        case Not(part):
            return not matches(part, entry)


def spans() -> st.SearchStrategy[Filter]:
    ends = st.one_of(st.none(), st.sampled_from([day(text) for text in DAYS]))
    pairs = st.tuples(ends, ends).filter(lambda pair: not all(pair) or pair[0] <= pair[1])
    return pairs.map(lambda pair: CapturedBetween(*pair))


def trees() -> st.SearchStrategy[Filter]:
    values = st.lists(st.sampled_from(VALUES), max_size=3).map(tuple)
    leaves = st.builds(Equals, st.sampled_from([Field.DOMAIN, Field.HOST]), values) | spans()

    def grown(inner: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
        parts = st.lists(inner, max_size=3).map(tuple)
        return st.builds(And, parts) | st.builds(Or, parts) | st.builds(Not, inner)

    return st.recursive(leaves, grown, max_leaves=8)


async def test_every_filter_means_what_it_says(index: SearchIndex) -> None:
    await put(index, *PAGES)

    @settings(max_examples=60, deadline=None, database=None)
    @given(trees())
    def gather(tree: Filter) -> None:
        asked.append(tree)

    asked: list[Filter] = []
    gather()
    for tree in asked:
        results = await index.search(Query("", filter=tree, limit=100))
        expected = {entry.id for entry in PAGES if matches(tree, entry)}
        assert {hit.id for hit in results.hits} == expected, tree
        assert results.total == len(expected), tree


async def test_a_ticket_of_another_index_is_forgotten(index: SearchIndex) -> None:
    for ticket in ("0123456789abcdef:1", "4000000000@1"):
        if (":" in ticket) == (index.name == "tantivy"):
            assert await index.confirm(ticket) == Forgotten()
