"""HAProxy as Ray Serve starts it, closed to strangers: it is run in place of HAProxy's program.

`python -I -S haproxy.py PROGRAM TRUSTED ARGUMENTS...`

Ray 2.60 runs what RAY_SERVE_HAPROXY_BINARY_PATH names, with a configuration of
its own making (ray/serve/_private/haproxy_templates.py). There statistics and
metrics listen on every interface, whoever has an account here may give the
admin socket orders, a request's head may take for ever, its address is what
it says of itself, and errors are not this API's. This writes the configuration
anew, as ours, and becomes HAProxy: the process stays the one that Ray started.

Standard library alone: it runs without any package, at every change of replicas.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

LOOPBACK: Final = "127.0.0.1"
MARK: Final = "# closed to strangers by chrono_ray"
OPEN: Final = "frontend http_frontend"
"""The one section that listens where Serve's HTTP options say."""
HEAD_SECONDS: Final = 10
"""For a request's head, and for the first 16 KiB of its body."""
TUNNEL_SECONDS: Final = 90
"""A WebSocket on which neither side says anything; the application pings more often."""
BODY_BYTES_MAX: Final = 16 * 1024 * 1024
"""Of any route; the application knows smaller bounds."""
RETRY_SECONDS: Final = 5


class Refusal(NamedTuple):
    """What a problem says (docs/errors.md)."""

    code: str
    title: str
    detail: str
    fix: str


OVERLOADED: Final = Refusal(
    "overloaded", "More requests wait than can be served soon",
    "Every replica of the API has as many as it takes, and the queue is full",
    "Ask again after the seconds of Retry-After; ask less at once",
)  # fmt: skip
REFUSED: Final = {
    400: Refusal(
        "bad_request", "The request is no HTTP that is understood",
        "Its head has no form that HTTP/1.1 knows", "Send it with a program that speaks HTTP/1.1",
    ),
    408: Refusal(
        "slow_request", f"The request did not arrive within {HEAD_SECONDS} s",
        f"Its head and the first 16 KiB of its body have {HEAD_SECONDS} s",
        "Send as many bytes as Content-Length says, over a connection that carries them",
    ),
    413: Refusal(
        "too_large", "The body is too large",
        f"No request's body may have more than {BODY_BYTES_MAX} bytes", "Send it in parts",
    ),
    500: Refusal(
        "internal", "Something went wrong here", "What answers requests failed at this one",
        "Tell who runs this server the request_id; its logs say more",
    ),
    503: Refusal(
        "unavailable", "Nobody can answer now", "No replica of the API is there for this request",
        "Ask again after the seconds of Retry-After",
    ),
}  # fmt: skip
"""What is answered before the application, or in its place. A head that never
ends, or is none, HAProxy answers with a page of its own, whatever it is told."""
_BROKEN: Final = (502, 504)
"""A replica ended or hung: to who asks it is what 503 is."""
_DROPPED: Final = ("log ", "no log", "errorfile ", "option httplog", "option log-health-checks")
_PR_SET_PDEATHSIG: Final = 1


def main(arguments: Sequence[str]) -> None:
    """Never returns: it becomes HAProxy, or raises what kept it from being one."""
    program, trusted, *rest = arguments
    path = Path(rest[rest.index("-f") + 1])
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    aside.write_text(closed(path.read_text("utf-8"), trusted.split(",") if trusted else []))
    aside.replace(path)
    _end_with_parent()
    os.execv(program, [program, *rest])  # noqa: S606 (the program is the operator's own)


def closed(text: str, trusted: Iterable[str]) -> str:
    """Ray's configuration as ours. `trusted` may say for whom they ask: addresses or networks."""
    if text.startswith(MARK):
        return text
    lines, section = [MARK], ""
    for line in text.splitlines():
        if line[:1].strip("# \t"):
            section = line.strip()
            lines += [line, *(f"    {added}" for added in _added(section, list(trusted)))]
        elif line.strip() and not line.strip().startswith((*_DROPPED, "#")):
            lines.append(_private(line, section))
    return "\n".join([*lines, ""])


def _private(line: str, section: str) -> str:
    """By section, not by port: what Ray should open in a version to come stays here too."""
    words = line.split()
    if words[0] == "bind" and section != OPEN:
        return line.replace(words[1], f"{LOOPBACK}:{words[1].rpartition(':')[2]}", 1)
    if words[:2] == ["stats", "socket"]:
        return line.replace("mode 666", "mode 600")
    return line


def _added(section: str, trusted: list[str]) -> Iterator[str]:
    if section == "defaults":
        yield from _defaults()
    elif section == OPEN:
        yield from _frontend(trusted)


def _defaults() -> Iterator[str]:
    yield f"timeout http-request {HEAD_SECONDS}s"
    yield f"timeout tunnel {TUNNEL_SECONDS}s"
    yield "option http-buffer-request"
    yield "unique-id-format %[uuid]"
    for status in (*REFUSED, *_BROKEN):
        yield f"http-error status {status} {_answer(503 if status in _BROKEN else status)}"


def _frontend(trusted: list[str]) -> Iterator[str]:
    untrusted = f" unless {{ src {' '.join(trusted)} }}" if trusted else ""
    named = f"{untrusted} {{ req.hdr(x-forwarded-for) -m found }}" if trusted else ""
    yield f"http-request set-header x-forwarded-for %[src]{named}"
    yield f"http-request del-header x-forwarded-proto{untrusted}"
    for told in ("x-request-timeout-seconds", "x-request-disconnect-disabled"):
        yield f"http-request del-header {told}"  # Serve's own: a request sets no bounds for itself
    large = f"{{ req.hdr(content-length) -m int gt {BODY_BYTES_MAX} }}"
    yield f"http-request return status 413 {_answer(413)} if {large}"
    # a replica that ended may have done it; only what changes nothing is asked again
    yield "http-request disable-l7-retry unless METH_GET"
    yield f"http-after-response set-status 503 if {{ status {' '.join(map(str, _BROKEN))} }}"


def _answer(status: int) -> str:
    text = problem(status, REFUSED[status], request_id="%[unique-id]").replace('"', '\\"')
    headers = {"X-Request-Id": "%[unique-id]", "Cache-Control": "no-store"}
    if status == 503:
        headers["Retry-After"] = str(RETRY_SECONDS)
    named = " ".join(f"hdr {name} {value}" for name, value in headers.items())
    return f'content-type application/problem+json lf-string "{text}" {named}'


def problem(status: int, why: Refusal, *, request_id: str) -> str:
    """A problem as the application writes them (chrono_ray/api/schemas.py)."""
    told = {
        "type": f"urn:chrono-ray:problem:{why.code}", "title": why.title, "status": status,
        "code": why.code, "detail": why.detail, "fix": why.fix, "request_id": request_id,
        "errors": [],
    }  # fmt: skip
    return json.dumps(told, separators=(",", ":"))


def _end_with_parent() -> None:
    """A manager that is killed leaves no HAProxy that holds its port (prctl(2); Linux alone)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
