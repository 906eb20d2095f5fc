from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.pywb import pywb_collection

WARC_DATA = Path(__file__).resolve().parents[4] / "shared" / "data" / "warc"


class Turns:
    """Leave to send, always given; counts how often it was asked for."""

    def __init__(self) -> None:
        self.taken = 0

    async def __call__(self) -> None:
        self.taken += 1


@pytest.fixture
def turn() -> Turns:
    return Turns()


@pytest.fixture(scope="session")
def warc_data() -> Path:
    if not WARC_DATA.is_dir():
        pytest.skip("the shared WARC files are not here")
    return WARC_DATA


@pytest.fixture(scope="session")
def iana_in_pywb(tmp_path_factory: pytest.TempPathFactory, warc_data: Path) -> Iterator[str]:
    files = [warc_data / "iana.warc.gz", warc_data / "dupes.warc.gz"]
    with pywb_collection(tmp_path_factory.mktemp("pywb-iana"), files) as url:
        yield url
