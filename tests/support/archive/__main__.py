"""`python -m tests.support.archive`: the hostile archive as a process of its own.

Serves the demo site (`--captures`), the pages of a folder (`--pages`), or a
synthetic listing (`--rows`). Ends on SIGTERM, SIGINT, or when its parent is gone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import uvloop

from chrono_ray.demo.process import serve_until_stopped
from chrono_ray.demo.site import DEFAULT_CAPTURES, demo_site
from chrono_ray.demo.wayback import DemoWayback
from tests.support.archive.server import HostileArchive, Wayback
from tests.support.archive.synthetic import SyntheticWayback, site_from_pages


def main() -> None:
    options = _options().parse_args()
    archive = HostileArchive(_wayback(options), host=options.host, port=options.port)
    uvloop.run(serve_until_stopped(archive, options.ready_file))


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.support.archive", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--captures", type=int, default=DEFAULT_CAPTURES)
    parser.add_argument("--ready-file", type=Path, default=None)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--pages", type=Path, default=None, help="folder of *.html.gz")
    source.add_argument("--rows", type=int, default=None, help="a synthetic listing")
    return parser


def _wayback(options: argparse.Namespace) -> Wayback:
    if options.rows is not None:
        return SyntheticWayback(options.rows)
    if options.pages is not None:
        return site_from_pages(options.pages, captures=options.captures)
    return DemoWayback(demo_site(options.captures))


if __name__ == "__main__":
    main()
