"""Writes the boards and the alert rules: `python -m dashboards.build`, or `--check` them.

`--runbooks URL` writes nothing: it shows the rules with links to the runbooks under that URL.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from dashboards.alerts import rules
from dashboards.boards import BOARDS
from dashboards.grafana import encoded

FOLDER: Final = Path(__file__).parent
JSON: Final = FOLDER.parent / "chrono_ray" / "boards"
"""In the package, so that `chrono dashboards push` has them; `dashboards/json` leads there."""
ALERTS: Final = FOLDER / "alerts.yml"


def files() -> dict[Path, str]:
    """Every file that is built, and what it must hold."""
    boards = {JSON / f"{board.uid}.json": encoded(board) for board in BOARDS}
    return {**boards, ALERTS: rules()}


def stale(wanted: dict[Path, str]) -> list[Path]:
    """Files that hold something else, are missing, or that nothing builds."""
    found = {path: path.read_text("utf-8") for path in JSON.glob("*.json")}
    found |= {path: path.read_text("utf-8") for path in wanted if path.is_file()}
    return sorted(path for path in found | wanted if found.get(path) != wanted.get(path))


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--runbooks"]:
        sys.stdout.write(rules(*arguments[1:]))
        return 0
    wanted = files()
    old = stale(wanted)
    if arguments == ["--check"]:
        sys.stdout.writelines(f"{path} is not current: make dashboards\n" for path in old)
        return 1 if old else 0
    for path in old:
        if path in wanted:
            path.write_text(wanted[path], "utf-8")
        else:
            path.unlink()
        sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
