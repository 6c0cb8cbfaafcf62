"""What a Limiter has that is written in Python: waiting for a permit in the event loop that runs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from tokenweir._errors import AcquireTimeout, Denied
from tokenweir._lines import Lines
from tokenweir._loops import running_loop
from tokenweir._native import Denial, Limiter, Permit

__all__ = ["Limiter"]

_LONGEST_PAUSE = 0.25


async def acquire(
    self: Limiter,
    project: str | bytes,
    deployment: str | bytes,
    input: int | None = 0,
    output: int | None = 0,
    *,
    keys: Mapping[str, str | bytes] | None = None,
    timeout: float | timedelta | None = None,
) -> Permit:
    """Waits until the request is admitted, and returns its permit.

    Works in asyncio (uvloop included) and trio, and so under anyio, and needs no thread. Callers in one event loop who wait
    for the same counter of a limit are served in the order in which they came, whoever they are: the counter stands for all
    whom the limit counts together, and the first in its line is tried when a permit that held something of it ends, or when
    the time that its denial advises is over; and every quarter of a second, for what nobody tells of (a clock that is moved,
    a permit that expires). Nobody who comes later overtakes at that counter, also who needs less. Where several limits
    refuse, the caller stands in one line, that of the limit which the denial names (the longest wait), and may be overtaken
    at the others meanwhile; it goes over to their lines, at the place of its arrival, as they refuse it in turn. Event
    loops, and callers of `admit`, `reserve` and routes, do not line up with one another: these take what room there is.

    Raises Denied at once if no waiting helps, AcquireTimeout after `timeout` (in seconds or as a timedelta; 0: after one
    try; None: never), TypeError or ValueError for a timeout that is none, and what `admit` raises. Whoever is cancelled while
    waiting holds nothing.
    """
    most = None if timeout is None else _seconds(timeout)
    loop = running_loop()
    await loop.checkpoint()
    began = loop.time()
    lines: Lines | None = self.__dict__.get("_lines")
    if lines is None:
        lines = self.__dict__.setdefault("_lines", Lines())
    refusal: Denial | None = None
    if lines.are_empty(loop):
        decision = self.admit(project, deployment, input, output, keys=keys)
        if decision:
            return decision
        refusal = _hopeful(decision)
    waiter = lines.enter(self, loop)
    try:
        while True:
            counters = self._counters(project, deployment, keys)
            counter = lines.taken(waiter, counters)
            pause = None
            if counter is None:
                decision = self.admit(project, deployment, input, output, keys=keys)
                if decision:
                    return decision
                refusal = _hopeful(decision)
                limit = refusal.limit
                # Where there is no room for a counter there is none to stand at.
                counter = next((counter for counter in counters if counter[0] == limit), (limit, b""))
                pause = min(refusal.retry_after or 0.0, _LONGEST_PAUSE)
            lines.stand(waiter, counter)
            if most is not None:
                left = most - (loop.time() - began)
                if left <= 0:
                    raise AcquireTimeout(refusal)
                pause = left if pause is None else min(pause, left)
            await waiter.turn.wait(pause)
    finally:
        lines.leave(self, waiter)


def _hopeful(denial: Denial) -> Denial:
    """A denial after which waiting helps; Denied is raised of one after which it does not."""
    if denial.retry_after is None:
        raise Denied(denial)
    return denial


def _seconds(timeout: float | timedelta) -> float:
    if isinstance(timeout, timedelta):
        timeout = timeout.total_seconds()
    if not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout is {type(timeout).__name__}; give seconds, a timedelta, or None")
    if not timeout >= 0:
        raise ValueError(f"timeout is {timeout}; give seconds, 0 or more, or None")
    return timeout


# The method is given to the native class itself: what a subclass inherits is called by a slower way.
acquire.__qualname__ = "Limiter.acquire"
acquire.__module__ = "tokenweir"
Limiter.acquire = acquire  # type: ignore[method-assign]
