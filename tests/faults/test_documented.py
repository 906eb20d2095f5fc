"""The page on reliability names the faults that there are, and no others."""

from __future__ import annotations

import re

from tests.faults import test_kills, test_nodes, test_wires
from tests.support.cluster import ROOT


def test_every_fault_is_documented_and_every_documented_one_proven():
    text = (ROOT / "docs" / "reliability.md").read_text("utf-8")
    registered = (each.FAULTS for each in (test_kills, test_nodes, test_wires))
    proven = {kind.number for kinds in (*registered, test_kills.LONG) for kind in kinds}
    missing = [each for each in proven if not re.search(rf"(\| |; |: ){each}\b", text)]
    assert missing == []
    assert set(re.findall(r"^\| (\d+) \|", text, re.MULTILINE)) <= proven
