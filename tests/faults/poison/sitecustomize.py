"""Makes extraction children die of the pages that `guilty.json` beside this file names.

Python imports a module of this name when it starts; only the child that reads pages listens.
"""

import ctypes
import json
import os
import signal
import sys
import time
from pathlib import Path

CHILD = "chrono_ray.extraction.child"
GUILTY = Path(__file__).with_name("guilty.json")


def crash() -> None:
    ctypes.string_at(0)


def bloat() -> None:
    bytearray(8 * 2**30)


def hang() -> None:
    time.sleep(3600)


def kill() -> None:
    """As a page that takes the whole worker with it."""
    os.kill(os.getppid(), signal.SIGKILL)


DEEDS = {deed.__name__: deed for deed in (crash, bloat, hang, kill)}


def poison() -> None:
    from chrono_ray.extraction import extract as module

    honest = module.extract

    def extract(body, *, media_type, charset, url, captured=None):
        if GUILTY.exists():
            for part, year, deed in json.loads(GUILTY.read_text()):
                if part in url and captured is not None and captured.year == year:
                    DEEDS[deed]()
        return honest(body, media_type=media_type, charset=charset, url=url, captured=captured)

    module.extract = extract


if CHILD in sys.orig_argv:
    poison()
