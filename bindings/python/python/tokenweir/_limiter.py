"""What a Limiter has that is written in Python: waiting for a permit in the event loop that runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping

from tokenweir._errors import AcquireTimeout, Denied
from tokenweir._loops import Turn, running_loop
from tokenweir._native import Limiter, Permit

__all__ = ["Limiter"]

_SHORTEST_PAUSE = 0.01
_LONGEST_PAUSE = 1.0


async def acquire(
    self: Limiter,
    project: str | bytes,
    deployment: str | bytes,
    input: int = 0,
    output: int = 0,
    *,
    keys: Mapping[str, str | bytes] | None = None,
    timeout: float | None = None,
) -> Permit:
    """Waits until the request is admitted, and returns its permit.

    Works in asyncio (uvloop included) and trio, and so under anyio, and needs no thread. Callers with the same project,
    deployment and keys are served in the order in which they came, within one event loop. The first in line waits for
    the time that its denial advises, and looks more often than that, because others may give tokens back: after 10 ms
    at first, then after an eighth of the time it has waited, at least once a second.

    Raises Denied at once if no waiting helps, AcquireTimeout after `timeout` seconds (0: after one try), and what
    `admit` raises. Whoever is cancelled while waiting holds nothing.
    """
    if timeout is not None and not timeout >= 0:
        raise ValueError(f"timeout is {timeout}; give seconds, 0 or more, or None")
    loop = running_loop()
    await loop.checkpoint()
    began = loop.time()
    lines: dict[Hashable, deque[Turn]] = self.__dict__.setdefault("_lines", {})
    who = (loop.identity, project, deployment, frozenset(keys.items()) if keys else None)
    line = lines.setdefault(who, deque())
    turn = loop.turn()
    line.append(turn)
    refusal = None
    try:
        while True:
            first = line[0] is turn
            waited = loop.time() - began
            pause = None
            if first:
                decision = self.admit(project, deployment, input, output, keys=keys)
                if decision:
                    return decision
                if decision.retry_after is None:
                    raise Denied(decision)
                refusal = decision
                pause = min(decision.retry_after, max(_SHORTEST_PAUSE, min(waited / 8, _LONGEST_PAUSE)))
            if timeout is not None:
                if waited >= timeout:
                    raise AcquireTimeout(refusal)
                pause = timeout - waited if pause is None else min(pause, timeout - waited)
            if first and pause is not None:
                await loop.sleep(pause)
            else:
                await turn.wait(pause)
    finally:
        line.remove(turn)
        if line:
            line[0].come()
        else:
            del lines[who]


# The method is given to the native class itself: what a subclass inherits is called by a slower way.
acquire.__qualname__ = "Limiter.acquire"
acquire.__module__ = "tokenweir"
Limiter.acquire = acquire  # type: ignore[method-assign]
