"""What a tantivy folder holds: its fields, how text becomes words, and the mark of its version.

Words are runs of letters, digits and marks. In scripts written without spaces
(Chinese, Japanese, Korean, Thai, ...) and for emoji every character is a word
of its own, and neighbouring characters are asked for as a phrase: that finds
any part of a text exactly, needs no dictionary, and never disagrees with one.
Both sides are NFKC, lower case and without Latin accents.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import orjson
import tantivy

from chrono_ray.model.query import WIDTHS, PageEntry
from chrono_ray.search.words import day, sayable

VERSION: Final = 3
"""Raised whenever the fields or the tokenizer change: older folders are refused, then rebuilt."""

TOKENIZER: Final = "chrono"
LONGEST_WORD: Final = 255
"""Bytes; longer runs (base64, minified code) are no words anybody types."""

EXACT: Final = ("project", "domain", "host", "language", "type")
SEARCHED: Final = ("title", "text", "author", "url")

_APART: Final = (
    r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
    r"\p{Extended_Pictographic}\p{Regional_Indicator}ー々〆"
)
_WORDS: Final = rf"[{_APART}--0-9#*]|[\p{{L}}\p{{N}}\p{{M}}--[{_APART}--0-9]]+"


@dataclass(frozen=True, slots=True)
class Token:
    """A word of a text as the index knows it, and the characters it stood at."""

    text: str
    start: int
    end: int


def schema() -> tantivy.Schema:
    """The fields: exact ones to filter and count, words to search, and the entry itself."""
    builder = tantivy.SchemaBuilder()
    builder.add_integer_field("id", indexed=True, fast=True)
    for name in ("first_seen", "last_seen"):
        builder.add_integer_field(name, indexed=True, fast=True)
    builder.add_integer_field("version", fast=True)
    for name in EXACT:
        builder.add_text_field(name, fast=True, tokenizer_name="raw", index_option="basic")
    for bucket in WIDTHS:
        builder.add_text_field(bucket.value, fast=True, tokenizer_name="raw", index_option="basic")
    for name in SEARCHED:
        builder.add_text_field(name, tokenizer_name=TOKENIZER)
    builder.add_bytes_field("entry", stored=True)
    return builder.build()


def analyzer() -> tantivy.TextAnalyzer:
    """Text to words, for the index, for queries and for highlights alike."""
    return (
        tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.regex(_WORDS))
        .filter(tantivy.Filter.lowercase())
        .filter(tantivy.Filter.ascii_fold())
        .filter(tantivy.Filter.remove_long(LONGEST_WORD))
        .build()
    )


def tokens(words: tantivy.TextAnalyzer, text: str) -> list[Token]:
    """The words of a text with their places in it."""
    found = words.pre_tokenize(text).tokens
    return [Token(_plain(one.text), one.char_offset_from, one.char_offset_to) for one in found]


def normal(text: str) -> str:
    """Text in the one form in which it is indexed and asked for."""
    return unicodedata.normalize("NFKC", sayable(text))


def document(entry: PageEntry) -> tantivy.Document:
    """An entry as the index takes it."""
    made = tantivy.Document()
    made.add_integer("id", entry.id)
    made.add_integer("version", entry.version)
    made.add_integer("first_seen", seconds(entry.first_seen))
    made.add_integer("last_seen", seconds(entry.last_seen))
    for bucket, width in WIDTHS.items():
        made.add_text(bucket.value, day(entry.first_seen)[:width])
    exact = (str(entry.project_id), entry.domain, entry.host, entry.language, entry.type)
    for name, value in zip(EXACT, exact, strict=True):
        made.add_text(name, sayable(value))
    searched = (entry.title, entry.text, entry.author, entry.url)
    for name, value in zip(SEARCHED, searched, strict=True):
        made.add_text(name, normal(value))
    made.add_bytes("entry", _pack(entry))
    return made


def stored(document: tantivy.Document) -> PageEntry:
    """The entry a document was made of; `ValueError` when the bytes are none of ours."""
    row = orjson.loads(document["entry"][0])
    if not isinstance(row, list) or len(row) != 14:
        raise ValueError("the stored entry is not one of ours")
    return PageEntry(
        id=row[0],
        project_id=row[1],
        domain=row[2],
        url=row[3],
        host=row[4],
        title=row[5],
        text=row[6],
        author=row[7],
        language=row[8],
        type=row[9],
        first_seen=_moment(row[10]),
        last_seen=_moment(row[11]),
        captures=row[12],
        version=row[13],
    )


def seconds(moment: datetime) -> int:
    """Whole seconds since 1970, which is as fine as archives count."""
    return int(moment.timestamp() // 1)


def _pack(entry: PageEntry) -> bytes:
    texts = (entry.domain, entry.url, entry.host, entry.title, entry.text)
    more = (entry.author, entry.language, entry.type)
    moments = (entry.first_seen.isoformat(), entry.last_seen.isoformat())
    plain = [sayable(value) for value in (*texts, *more)]
    row = [entry.id, entry.project_id, *plain, *moments, entry.captures, entry.version]
    return orjson.dumps(row)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _plain(word: str) -> str:
    return word if word.isascii() else unicodedata.normalize("NFKC", word)
