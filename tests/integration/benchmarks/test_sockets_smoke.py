"""The benchmark of live progress at a tiny size."""

from __future__ import annotations

from benchmarks.sockets import bare, measure


async def test_every_socket_is_told_of_every_change(tmp_path, database_url):
    with bare(database_url, tmp_path, "") as served:
        found = await measure(served, sockets=12, rounds=2)
        figures = {each.name: each.value for each in found}
    assert 0 < figures["told of a change: median"] <= figures["told of a change: last"] < 5000
    assert figures["opened, with tickets"] > 0
    assert figures["memory of one"] < 2000
