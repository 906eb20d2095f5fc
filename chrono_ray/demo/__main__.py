"""`python -m chrono_ray.demo`: the demo archive as a process of its own.

Ends on SIGTERM and SIGINT, and when the process that started it is gone.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from chrono_ray.demo.process import serve_until_stopped
from chrono_ray.demo.server import DemoArchive
from chrono_ray.demo.site import DEFAULT_CAPTURES, DEFAULT_SEED, demo_site


def main() -> None:
    """Serves until told to stop; the first line on stdout is the archive's URL."""
    options = _options().parse_args()
    site = demo_site(options.captures, seed=options.seed)
    archive = DemoArchive(site, host=options.host, port=options.port)
    asyncio.run(serve_until_stopped(archive, options.ready_file))


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m chrono_ray.demo", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--captures", type=int, default=DEFAULT_CAPTURES)
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED)
    parser.add_argument(
        "--ready-file", type=Path, default=None, help="gets the URL once the archive listens"
    )
    return parser


if __name__ == "__main__":
    main()
