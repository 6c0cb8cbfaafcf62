"""Calls that the native module makes on a thread of its own, awaited in the event loop that runs."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Hashable
from itertools import count
from typing import Any

from tokenweir._loops import Loop, Turn, running_loop
from tokenweir._native import Bell, Call

_numbers = count()


class _Waiting:
    """Who waits in one event loop, and the bell that tells them."""

    def __init__(self) -> None:
        self.bell = Bell()
        self.turns: dict[int, Turn] = {}

    def rung(self) -> None:
        for number in self.bell.rung():
            # Who was cancelled waits no more.
            turn = self.turns.get(number)
            if turn is not None:
                turn.come()


# Who waits holds the loop, so only the loop holds who waits, by what it watches: one that is closed with calls pending goes as
# a whole, and its coroutines end.
_loops: weakref.WeakKeyDictionary[Hashable, weakref.ref[_Waiting]] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def _waiting(loop: Loop) -> _Waiting:
    with _lock:
        known = _loops.get(loop.identity)
        waiting = None if known is None else known()
        if waiting is None:
            waiting = _Waiting()
            loop.watch(waiting.bell.fileno(), waiting.rung)
            _loops[loop.identity] = weakref.ref(waiting)
    return waiting


async def answered(call: Call) -> Any:
    """What comes of the call. Who is cancelled while waiting holds nothing."""
    loop = running_loop("this call", "a RedisLimiter")
    await loop.checkpoint()
    waiting = _waiting(loop)
    number = next(_numbers)
    try:
        if not call.begin(waiting.bell, number):
            turn = waiting.turns[number] = loop.turn()
            await turn.wait(None)
        return call.outcome()
    finally:
        waiting.turns.pop(number, None)
        call.abandon()
