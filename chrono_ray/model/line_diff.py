"""Which lines of a text became which lines of another, in bounded time.

E. W. Myers, "An O(ND) Difference Algorithm and Its Variations" (1986): the
fewest lines removed and added. What two texts share at both ends costs
nothing; what is left may differ by so many lines, and be compared so often.
Beyond that it is one block, all of it removed and all of it added: still a
true account, only not the shortest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

EDITS_MOST: Final = 1_000
STEPS_MOST: Final = 2_000_000
"""Lines compared; so many take half a second."""


@dataclass(frozen=True, slots=True)
class Block:
    """Lines that became others: of the older text and of the newer, either may be none."""

    before: range
    after: range


@dataclass(frozen=True, slots=True)
class Difference:
    """Blocks in order, between which both texts are the same. `shortest`: with fewest lines."""

    blocks: tuple[Block, ...]
    shortest: bool


def difference(
    before: Sequence[str], after: Sequence[str], *, edits_most: int = EDITS_MOST
) -> Difference:
    """How `before` became `after`, line by line. Blocks the processor for up to half a second."""
    head = _same(before, after)
    tail = _same(before[head:][::-1], after[head:][::-1])
    old, new = before[head : len(before) - tail], after[head : len(after) - tail]
    path = _path(*_numbered(old, new), edits_most)
    if path is None:
        changed = [Block(range(len(old)), range(len(new)))]
    else:
        changed = _blocks(path, len(old), len(new))
    return Difference(tuple(_moved(each, head) for each in changed), path is not None)


def _same(one: Sequence[str], other: Sequence[str]) -> int:
    """How many lines both begin with."""
    for place, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return place
    return min(len(one), len(other))


def _numbered(old: Sequence[str], new: Sequence[str]) -> tuple[list[int], list[int]]:
    """A number for each different line: comparing them costs the same however long they are."""
    numbers: dict[str, int] = {}
    return (
        [numbers.setdefault(line, len(numbers)) for line in old],
        [numbers.setdefault(line, len(numbers)) for line in new],
    )


def _path(old: list[int], new: list[int], edits_most: int) -> list[tuple[int, int]] | None:
    """The pairs of equal lines on the shortest way, ascending; None when it is too long."""
    ends = {1: 0}
    seen: list[dict[int, int]] = []
    steps = 0
    for edits in range(min(len(old) + len(new), edits_most) + 1):
        seen.append({})
        for diagonal in range(-edits, edits + 1, 2):
            came = _from(ends, diagonal, edits)
            x = _slide(old, new, came, came - diagonal)
            steps += x - came + 1
            ends[diagonal] = seen[-1][diagonal] = x
            if x >= len(old) and x - diagonal >= len(new):
                return _back(seen, diagonal, len(old), len(new))
        if steps > STEPS_MOST:
            break
    return None


def _from(ends: dict[int, int], diagonal: int, edits: int) -> int:
    """Where a diagonal is entered: by a line added, or by one removed, whichever leads farther."""
    if _is_added(ends, diagonal, edits):
        return ends[diagonal + 1]
    return ends[diagonal - 1] + 1


def _is_added(ends: dict[int, int], diagonal: int, edits: int) -> bool:
    if diagonal in (-edits, edits):
        return diagonal == -edits
    return ends[diagonal - 1] < ends[diagonal + 1]


def _slide(old: list[int], new: list[int], x: int, y: int) -> int:
    while x < len(old) and y < len(new) and old[x] == new[y]:
        x, y = x + 1, y + 1
    return x


def _back(seen: list[dict[int, int]], diagonal: int, x: int, y: int) -> list[tuple[int, int]]:
    pairs: list[tuple[int, int]] = []
    for edits in range(len(seen) - 1, 0, -1):
        ends = seen[edits - 1]
        came = _from(ends, diagonal, edits)
        pairs += zip(range(x - 1, came - 1, -1), range(y - 1, came - diagonal - 1, -1), strict=True)
        added = _is_added(ends, diagonal, edits)
        x = came if added else came - 1
        diagonal += 1 if added else -1
        y = x - diagonal
    pairs += zip(range(x - 1, -1, -1), range(y - 1, -1, -1), strict=True)
    return pairs[::-1]


def _blocks(pairs: list[tuple[int, int]], old: int, new: int) -> list[Block]:
    """What lies between the equal lines."""
    found: list[Block] = []
    x = y = 0
    for left, right in [*pairs, (old, new)]:
        if left > x or right > y:
            found.append(Block(range(x, left), range(y, right)))
        x, y = left + 1, right + 1
    return found


def _moved(block: Block, by: int) -> Block:
    return Block(
        range(block.before.start + by, block.before.stop + by),
        range(block.after.start + by, block.after.stop + by),
    )
