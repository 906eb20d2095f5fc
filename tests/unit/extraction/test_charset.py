"""Bytes become the text they were written as, whatever label they carry."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chrono_ray.extraction.charset import REPLACEMENT, decode, label

JAPANESE = "日本語のページです。文字コードの判定を試します。"
RUSSIAN = "Это русский текст, написанный для проверки кодировки страницы."


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (JAPANESE, "shift_jis"),
        (JAPANESE, "euc-jp"),
        (JAPANESE, "iso-2022-jp"),
        ("这是一个中文网页，用来测试编码。", "gbk"),
        ("這是一個中文網頁，用來測試編碼。", "big5"),
        ("한국어 웹 페이지의 인코딩을 시험합니다.", "euc-kr"),
        (RUSSIAN, "windows-1251"),
        (RUSSIAN, "koi8-r"),
        ("Ångström café naïve – “quotes”", "windows-1252"),
        (JAPANESE, "utf-8"),
    ],
)
def test_a_true_label_is_obeyed(text: str, name: str) -> None:
    decoded = decode(text.encode(name), name)
    assert decoded.text == text
    assert decoded.charset == name
    assert decoded.replaced == 0


@pytest.mark.parametrize(
    "lie", ["iso-8859-1", "windows-1251", "shift_jis", "utf-16", "utf-7", "x-?"]
)
def test_utf8_wins_over_any_lie(lie: str) -> None:
    decoded = decode(f"<p>{JAPANESE}".encode(), lie)
    assert JAPANESE in decoded.text
    assert decoded.charset == "utf-8"


def test_the_servers_default_latin1_yields_to_what_the_markup_says() -> None:
    body = (
        b'<meta http-equiv=Content-Type content="text/html; charset=Shift_JIS">'
        + JAPANESE.encode("shift_jis")
    )
    decoded = decode(body, "ISO-8859-1")
    assert JAPANESE in decoded.text
    assert decoded.charset == "shift_jis"


def test_a_label_of_utf8_on_old_bytes_is_seen_through() -> None:
    body = f'<meta charset="utf-8">{RUSSIAN * 4}'.encode("windows-1251")
    decoded = decode(body, "utf-8")
    assert RUSSIAN in decoded.text
    assert decoded.charset == "windows-1251"


def test_two_metas_the_first_is_believed_when_it_can_be() -> None:
    body = f'<meta charset="koi8-r"><meta charset="windows-1251">{RUSSIAN * 3}'.encode("koi8-r")
    assert RUSSIAN in decode(body, "").text


def test_without_any_label_the_encoding_is_detected() -> None:
    assert decode((JAPANESE * 5).encode("euc-jp"), "").text == JAPANESE * 5
    assert decode((RUSSIAN * 5).encode("windows-1251"), "").text == RUSSIAN * 5


@pytest.mark.parametrize("name", ["utf-16-le", "utf-16-be"])
def test_utf16_is_known_without_a_mark(name: str) -> None:
    text = "<html><title>No mark</title><p>plain words é日</p></html>"
    decoded = decode(text.encode(name), "")
    assert decoded.text == text
    assert decoded.charset == name.replace("-le", "le").replace("-be", "be")


def test_a_mark_wins_over_everything() -> None:
    assert decode(b"\xef\xbb\xbfabc", "utf-16").text == "abc"
    assert decode("é".encode("utf-16"), "utf-8").text == "é"


def test_utf7_is_never_decoded() -> None:
    body = b"<meta charset=utf-7>+ADw-script+AD4-alert(1)+ADw-/script+AD4-"
    for declared in ("utf-7", "UTF7", "unicode-1-1-utf-7", ""):
        assert "<script>" not in decode(body, declared).text


def test_damage_is_counted_and_not_taken_for_another_encoding() -> None:
    body = JAPANESE.encode() + b"\xe3\x81" + JAPANESE.encode() + b"\xff"
    decoded = decode(body, "utf-8")
    assert decoded.charset == "utf-8"
    assert decoded.replaced == 2 == decoded.text.count(REPLACEMENT)


def test_a_replacement_character_the_page_itself_holds_is_not_counted() -> None:
    assert decode(f"a {REPLACEMENT} b".encode(), "").replaced == 0


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("latin1", "windows-1252"),
        (" UTF8 ", "utf-8"),
        ('"x-sjis"', "shift_jis"),
        ("gb2312", "gbk"),
        ("ks_c_5601-1987", "euc-kr"),
        ("x-mac-cyrillic", "x-mac-cyrillic"),
        ("iso-8859-2", "iso-8859-2"),
        ("cp1251", "windows-1251"),
        ("utf-7", ""),
        ("none", ""),
        ("", ""),
        ("naïve", ""),
    ],
)
def test_labels_have_the_standards_names(alias: str, name: str) -> None:
    assert label(alias) == name


@given(st.binary(max_size=300), st.sampled_from(["", "utf-8", "gbk", "utf-16", "koi8-r", "zzz"]))
def test_no_bytes_are_refused(body: bytes, declared: str) -> None:
    decoded = decode(body, declared)
    assert 0 <= decoded.replaced <= len(body)


@given(st.text(st.characters(codec="utf-8"), max_size=100))
def test_utf8_comes_back_as_it_was(text: str) -> None:
    assert decode(b"\xef\xbb\xbf" + text.encode(), "latin1").text == text
