"""Who is to be told of a state, and of what somebody asked for: found without asking everybody."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from chrono_ray.api.live.events import State
from chrono_ray.api.live.listener import EVERYTHING, Listener, Wish, number
from chrono_ray.storage.live import Sight

K = TypeVar("K")


class Audience:
    """Listeners by what they follow; of those who follow everything, by what they may see."""

    def __init__(self) -> None:
        self._by_topic: defaultdict[str, set[Listener]] = defaultdict(set)
        self._by_project: defaultdict[int, set[Listener]] = defaultdict(set)
        self._by_user: defaultdict[int, set[Listener]] = defaultdict(set)
        self._admins: set[Listener] = set()

    def of(self, state: State) -> Iterator[Listener]:
        """Whoever follows it, some of them twice. What each may see is theirs to check."""
        yield from self._by_topic.get(state.key, ())
        yield from self._by_topic.get(f"project:{state.project_id}", ())
        yield from self._by_project.get(state.project_id, ())
        yield from self._admins
        if state.asked_by is not None:
            yield from self._by_user.get(state.asked_by, ())

    def add(self, listener: Listener, topic: str) -> None:
        if topic != EVERYTHING:
            self._by_topic[topic].add(listener)
            return
        self._by_user[listener.sight.user_id].add(listener)
        if listener.sight.everything:
            self._admins.add(listener)
        for project in listener.sight.projects:
            self._by_project[project].add(listener)

    def discard(self, listener: Listener, topic: str) -> None:
        if topic != EVERYTHING:
            _drop(self._by_topic, topic, listener)
            return
        _drop(self._by_user, listener.sight.user_id, listener)
        self._admins.discard(listener)
        for project in listener.sight.projects:
            _drop(self._by_project, project, listener)

    def moved(self, listener: Listener, sight: Sight) -> None:
        """It may see other things now."""
        everything = listener in self._by_user.get(listener.sight.user_id, ())
        if everything:
            self.discard(listener, EVERYTHING)
        listener.sight = sight
        if everything:
            self.add(listener, EVERYTHING)


class Found:
    """The states of one look, by what newcomers ask for."""

    def __init__(self, states: Iterable[State]) -> None:
        self.by_key: Mapping[str, State] = {each.key: each for each in states}
        self._by_project: defaultdict[int, list[State]] = defaultdict(list)
        self._by_user: defaultdict[int, list[State]] = defaultdict(list)
        for each in self.by_key.values():
            self._by_project[each.project_id].append(each)
            if each.asked_by is not None:
                self._by_user[each.asked_by].append(each)

    def asked(self, listener: Listener, wish: Wish) -> Iterator[State]:
        """Some of them twice, and some that the listener may not see."""
        yield from (self.by_key[each] for each in wish.topics if each in self.by_key)
        sight = listener.sight
        if EVERYTHING in wish.topics:
            seen = self._by_project.keys() & sight.projects
            for project in self._by_project if sight.everything else seen:
                yield from self._by_project[project]
            yield from self._by_user.get(sight.user_id, ())
        for topic in wish.topics:
            chosen = number(topic, "project")
            if chosen is not None:
                yield from self._by_project.get(chosen, ())


def _drop(among: dict[K, set[Listener]], key: K, listener: Listener) -> None:
    listeners = among.get(key)
    if listeners:
        listeners.discard(listener)
        if not listeners:
            del among[key]
