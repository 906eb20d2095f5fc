"""A one-page PDF with real text, written by hand (PDF 1.4, Helvetica, WinAnsi)."""

from __future__ import annotations


def make_pdf(title: str, lines: tuple[str, ...]) -> bytes:
    """A PDF whose text can be extracted; the same arguments give the same bytes."""
    content = _content(title, lines)
    objects = (
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        (
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R"
            b" /Resources << /Font << /F1 5 0 R >> >> >>"
        ),
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        b"<< /Title (%s) /Producer (Lantern Bay school) >>" % _escape(title),
    )
    return _file(objects)


def _content(title: str, lines: tuple[str, ...]) -> bytes:
    head = b"BT /F1 16 Tf 60 780 Td (%s) Tj" % _escape(title)
    rest = b"".join(b" /F1 11 Tf 0 -24 Td (%s) Tj" % _escape(line) for line in lines)
    return head + rest + b" ET"


def _escape(text: str) -> bytes:
    raw = text.encode("cp1252")
    return raw.replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")


def _file(objects: tuple[bytes, ...]) -> bytes:
    """Numbers the objects and writes the cross-reference table that readers start from."""
    out, offsets = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    for offset in offsets:
        out += b"%010d 00000 n \n" % offset
    out += b"trailer << /Size %d /Root 1 0 R /Info 6 0 R >>\n" % (len(objects) + 1)
    return bytes(out + b"startxref\n%d\n%%%%EOF\n" % start)
