"""Records of the demo archive as WARC files, for the archives that read files."""

from __future__ import annotations

import io
from collections.abc import Iterable
from datetime import UTC
from http import HTTPStatus
from pathlib import Path

from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from chrono_ray.demo.record import Record


def write_warc(path: Path, records: Iterable[Record], *, gzip: bool = True) -> Path:
    """Responses as crawled, revisits without a body."""
    with path.open("wb") as file:
        writer = WARCWriter(file, gzip=gzip)
        for item in records:
            made = _warc_record(writer, item)
            writer.write_record(made)
            made.raw_stream.close()
    return path


def _warc_record(writer: WARCWriter, item: Record):
    capture, origin = item.capture, item.origin
    moment = capture.timestamp.instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    status = f"{origin.status} {HTTPStatus(origin.status).phrase}"
    head = StatusAndHeaders(status, list(origin.headers), protocol="HTTP/1.1")
    if capture.is_revisit:
        return writer.create_revisit_record(
            capture.original, capture.digest, capture.original, moment, head,
            warc_headers_dict={"WARC-Date": moment},
        )  # fmt: skip
    return writer.create_warc_record(
        capture.original,
        "response",
        payload=io.BytesIO(origin.payload),
        http_headers=head,
        warc_headers_dict={"WARC-Date": moment},
    )
