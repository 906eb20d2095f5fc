"""The real child loop around an extraction that obeys the page: hang, crash, bloat and worse."""

import ctypes
import os
import sys
import time
from pathlib import Path

from chrono_ray.extraction.child import arguments, main, understand
from chrono_ray.extraction.frames import Question
from chrono_ray.model.errors import ExtractionFailed
from chrono_ray.model.page import Document

KEPT: list[bytearray] = []


def hang(_: str) -> None:
    time.sleep(3600)


def burn(_: str) -> None:
    while True:
        pass


def crash(_: str) -> None:
    ctypes.string_at(0)


def fault(_: str) -> None:
    raise ZeroDivisionError("a fault of ours")


def bloat(_: str) -> None:
    bytearray(4 * 2**30)


def abort(_: str) -> None:
    os.write(2, b"memory allocation of 4294967296 bytes failed\n")
    os.abort()


def keep(size: str) -> None:
    KEPT.append(bytearray(int(size)))


def wait(gate: str) -> None:
    Path(gate).read_bytes()


def output(_: str) -> None:
    os.write(1, b"\0\0\0\1\0\0\0\0this is no frame")


def nonsense(_: str) -> None:
    os.write(0, b"\0\0\0\1\0\0\0\0{")
    time.sleep(3600)


def environment(_: str) -> None:
    raise ExtractionFailed(" ".join(sorted(os.environ)), reason="parse")


DEEDS = {
    deed.__name__: deed
    for deed in (
        hang, burn, crash, fault, bloat, abort, keep, wait, output, nonsense, environment
    )
}  # fmt: skip


def obey(question: Question) -> Document:
    name, _, argument = question.body[:1000].decode().partition(" ")
    if name in DEEDS:
        DEEDS[name](argument)
    return understand(question)


if __name__ == "__main__":
    parent, memory, cpu_seconds = arguments(sys.argv[1:])
    sys.exit(main(obey, parent=parent, memory=memory, cpu_seconds=cpu_seconds))
