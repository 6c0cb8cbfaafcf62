"""The event loop that runs: what waiting for a permit needs of it, in asyncio and trio."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Hashable
from typing import Any, Protocol


class Turn(Protocol):
    """A place in a line."""

    def come(self) -> None:
        """It is this one's turn."""

    async def wait(self, seconds: float | None) -> None:
        """Returns when its turn has come, or after `seconds`."""


class Loop(Protocol):
    """What an event loop does."""

    @property
    def identity(self) -> Hashable:
        """Tells loops apart: who waits in one cannot be called from another."""

    def time(self) -> float:
        """Its clock, in seconds."""

    def turn(self) -> Turn:
        """A place in a line."""

    async def sleep(self, seconds: float) -> None:
        """Lets others run meanwhile."""

    async def checkpoint(self) -> None:
        """Lets a cancellation in, where the framework has it that every asynchronous call does."""


class _AsyncioTurn:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._came: asyncio.Future[None] = loop.create_future()

    def come(self) -> None:
        if not self._came.done():
            self._came.set_result(None)

    async def wait(self, seconds: float | None) -> None:
        # Unlike wait_for, this neither cancels the future nor swallows a cancellation that comes with it.
        await asyncio.wait([self._came], timeout=seconds)


class _Asyncio:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.identity = loop
        self.time = loop.time

    def turn(self) -> Turn:
        return _AsyncioTurn(self.identity)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def checkpoint(self) -> None:
        pass


class _TrioTurn:
    def __init__(self, trio: Any) -> None:
        self._trio = trio
        self._came = trio.Event()

    def come(self) -> None:
        self._came.set()

    async def wait(self, seconds: float | None) -> None:
        with self._trio.move_on_after(float("inf") if seconds is None else seconds):
            await self._came.wait()


class _Trio:
    def __init__(self, trio: Any) -> None:
        self._trio = trio
        self.identity: Hashable = trio.lowlevel.current_trio_token()

    def time(self) -> float:
        now: float = self._trio.current_time()
        return now

    def turn(self) -> Turn:
        return _TrioTurn(self._trio)

    async def sleep(self, seconds: float) -> None:
        await self._trio.sleep(seconds)

    async def checkpoint(self) -> None:
        await self._trio.lowlevel.checkpoint()


def running_loop() -> Loop:
    """The loop that runs the caller. RuntimeError if none does."""
    # Whoever runs under trio has imported it.
    trio = sys.modules.get("trio")
    if trio is not None:
        try:
            trio.lowlevel.current_task()
            return _Trio(trio)
        except RuntimeError:
            pass
    try:
        return _Asyncio(asyncio.get_running_loop())
    except RuntimeError:
        raise RuntimeError("acquire needs a running event loop of asyncio or trio; use admit without one") from None
