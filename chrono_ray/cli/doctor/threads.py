"""Threads for what may never return."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import Thread
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Unawaited(ThreadPoolExecutor):
    """A thread for each call; neither an event loop that closes nor the process waits for it.

    An event loop takes none but of this kind for its own.
    """

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        result: Future[T] = Future()
        call = partial(fn, *args, **kwargs)
        Thread(target=_carry_out, args=(call, result), daemon=True).start()
        return result

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Nothing is waited for."""


def _carry_out(call: Callable[[], T], result: Future[T]) -> None:
    if not result.set_running_or_notify_cancel():
        return
    try:
        found = call()
    except BaseException as error:  # noqa: BLE001 (whoever waits for the result raises it)
        result.set_exception(error)
    else:
        result.set_result(found)
