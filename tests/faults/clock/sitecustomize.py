"""Sets the wall clock that Python reads by `CHRONO_TEST_CLOCK` seconds; nothing else moves.

Ray's C++ waits until moments of the wall clock, so a clock shifted below it
(libfaketime) would stall Ray itself; what our code could read is shifted here.
"""

import datetime as dt
import os
import time

SHIFT = float(os.environ.get("CHRONO_TEST_CLOCK", "0"))


def shift() -> None:
    honest, honest_ns, real = time.time, time.time_ns, dt.datetime

    class Kind(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, real)

    class Shifted(real, metaclass=Kind):
        __slots__ = ()

        @classmethod
        def now(cls, tz=None):
            return real.now(tz) + dt.timedelta(seconds=SHIFT)

        @classmethod
        def utcnow(cls):
            return real.utcnow() + dt.timedelta(seconds=SHIFT)

    time.time = lambda: honest() + SHIFT
    time.time_ns = lambda: honest_ns() + int(SHIFT * 10**9)
    dt.datetime = Shifted


if SHIFT:
    shift()
