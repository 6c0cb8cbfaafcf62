"""The lines in which callers wait for a limiter: one for each counter that has refused somebody, in the order of arrival."""

from __future__ import annotations

import threading
import weakref
from bisect import bisect_left, insort
from collections.abc import Hashable, Iterable
from itertools import count

from tokenweir._loops import Loop
from tokenweir._native import Limiter

Counter = tuple[str, bytes]
"""The name of a limit, and the key of one of its counters."""

_Place = tuple[Hashable, Counter]
"""A line: of an event loop, for a counter."""

_numbers = count()


class Waiter:
    """Who waits in an event loop. `number` is its place in the order of arrival, whatever line it stands in."""

    def __init__(self, loop: Loop) -> None:
        self.number = next(_numbers)
        self.loop = loop
        self.turn = loop.turn()
        self.place: _Place | None = None

    def __lt__(self, other: Waiter) -> bool:
        return self.number < other.number


class Lines:
    """All lines of a limiter. Each is changed in the thread of its event loop alone."""

    def __init__(self) -> None:
        self._lines: dict[_Place, list[Waiter]] = {}
        self._loops: dict[Hashable, tuple[Loop, int]] = {}
        """The event loops in which callers wait, and how many do."""
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return sum(waiting for _, waiting in list(self._loops.values()))

    def enter(self, limiter: Limiter, loop: Loop) -> Waiter:
        """Somebody who waits from now on: first of all outside of every line."""
        with self._lock:
            _, waiting = self._loops.get(loop.identity, (loop, 0))
            self._loops[loop.identity] = (loop, waiting + 1)
            limiter._tell_when_freed(weakref.ref(self))
        return Waiter(loop)

    def leave(self, limiter: Limiter, waiter: Waiter) -> None:
        """It waits no more."""
        self._step_out(waiter)
        identity = waiter.loop.identity
        with self._lock:
            loop, waiting = self._loops.pop(identity)
            if waiting > 1:
                self._loops[identity] = (loop, waiting - 1)
            if not self._loops:
                limiter._tell_when_freed(None)

    def are_empty(self, loop: Loop) -> bool:
        """Whether nobody waits in this event loop."""
        return loop.identity not in self._loops

    def taken(self, waiter: Waiter, counters: Iterable[Counter]) -> Counter | None:
        """One of the counters at which somebody waits that came earlier."""
        for counter in counters:
            line = self._lines.get((waiter.loop.identity, counter))
            if line and line[0] < waiter:
                return counter
        return None

    def stand(self, waiter: Waiter, counter: Counter) -> None:
        """Waits in the line of this counter, where its arrival places it."""
        place = (waiter.loop.identity, counter)
        if waiter.place != place:
            self._step_out(waiter)
            waiter.place = place
            insort(self._lines.setdefault(place, []), waiter)

    def _step_out(self, waiter: Waiter) -> None:
        place, waiter.place = waiter.place, None
        if place is None:
            return
        line = self._lines[place]
        at = bisect_left(line, waiter)
        del line[at]
        if not line:
            del self._lines[place]
        elif at == 0:
            line[0].turn.come()

    def freed(self, counters: list[Counter] | None) -> None:
        """A permit has ended that held something of these counters; None: there may be room in all. Any thread may call it, and
        the garbage collector does: it takes no lock, and changes nothing here."""
        for identity, (loop, _) in list(self._loops.items()):
            if counters is None:
                loop.soon(self._look_everywhere, identity)
                continue
            for counter in counters:
                if (identity, counter) in self._lines:
                    loop.soon(self._look, (identity, counter))

    def _look(self, place: _Place) -> None:
        line = self._lines.get(place)
        if line:
            line[0].turn.come()

    def _look_everywhere(self, identity: Hashable) -> None:
        for place in [place for place in list(self._lines) if place[0] == identity]:
            self._look(place)
