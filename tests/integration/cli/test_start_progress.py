"""What `chrono up` tells while it waits: each part that the owner's log says has begun."""

from __future__ import annotations

from pathlib import Path

import orjson

from chrono_ray.cli.owner import _pass_on
from chrono_ray.cluster.owner import STARTS


def test_each_part_is_told_once_when_its_line_is_whole(tmp_path: Path) -> None:
    log, told = tmp_path / "owner.log", []
    ray = orjson.dumps({"event": STARTS, "part": "Ray"})
    with log.open("wb", buffering=0) as owner, log.open("rb") as said:
        owner.write(b"a server's own words\n[1]\n" + orjson.dumps({"event": "other"}) + b"\n")
        owner.write(ray[:9])
        _pass_on(said, told.append)
        assert told == []
        owner.write(ray[9:] + b"\n")
        _pass_on(said, told.append)
        _pass_on(said, told.append)
        assert told == ["Starting Ray ..."]
