"""The event loop that runs: what waiting for a permit or an answer needs of it, in asyncio and trio."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Hashable
from typing import Any, Protocol, TypeVar

_Argument = TypeVar("_Argument")


class Turn(Protocol):
    """A place in a line."""

    def come(self) -> None:
        """It is this one's turn: who waits, or waits next, goes on. To be called in the loop."""

    async def wait(self, seconds: float | None) -> None:
        """Returns when its turn has come since the last time, or after `seconds`."""


class Loop(Protocol):
    """What an event loop does."""

    @property
    def identity(self) -> Hashable:
        """Tells loops apart: who waits in one cannot be called from another."""

    def time(self) -> float:
        """Its clock, in seconds."""

    def turn(self) -> Turn:
        """A place in a line."""

    def soon(self, call: Callable[[_Argument], object], argument: _Argument) -> None:
        """Calls it in the loop. Any thread may ask for it, and whatever it is interrupted in; of a loop that is over nothing
        comes."""

    def watch(self, file: int, call: Callable[[], object]) -> None:
        """Calls it in the loop whenever there is something to read in the file, for as long as the loop runs, which holds the
        call until then. To be asked for in the loop."""

    async def checkpoint(self) -> None:
        """Lets a cancellation in, where the framework has it that every asynchronous call does."""


class _AsyncioTurn:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._came = False
        self._waiting: asyncio.Future[None] | None = None

    def come(self) -> None:
        self._came = True
        self._go_on()

    def _go_on(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def wait(self, seconds: float | None) -> None:
        if not self._came:
            self._waiting = self._loop.create_future()
            timer = None if seconds is None else self._loop.call_later(seconds, self._go_on)
            try:
                await self._waiting
            finally:
                self._waiting = None
                if timer is not None:
                    timer.cancel()
        self._came = False


class _Asyncio:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.identity = loop
        self.time = loop.time

    def turn(self) -> Turn:
        return _AsyncioTurn(self.identity)

    def soon(self, call: Callable[[_Argument], object], argument: _Argument) -> None:
        with contextlib.suppress(RuntimeError):
            self.identity.call_soon_threadsafe(call, argument)

    def watch(self, file: int, call: Callable[[], object]) -> None:
        self.identity.add_reader(file, call)

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
        self._came = self._trio.Event()


class _Trio:
    def __init__(self, trio: Any) -> None:
        self._trio = trio
        self.identity: Any = trio.lowlevel.current_trio_token()

    def time(self) -> float:
        now: float = self._trio.current_time()
        return now

    def turn(self) -> Turn:
        return _TrioTurn(self._trio)

    def soon(self, call: Callable[[_Argument], object], argument: _Argument) -> None:
        # A run that has finished says so by a RuntimeError of its own.
        with contextlib.suppress(RuntimeError):
            self.identity.run_sync_soon(call, argument)

    def watch(self, file: int, call: Callable[[], object]) -> None:
        self._trio.lowlevel.spawn_system_task(self._watch, file, call)

    async def _watch(self, file: int, call: Callable[[], object]) -> None:
        while True:
            await self._trio.lowlevel.wait_readable(file)
            call()

    async def checkpoint(self) -> None:
        await self._trio.lowlevel.checkpoint()


def running_loop(what: str = "acquire", instead: str = "admit") -> Loop:
    """The loop that runs the caller. RuntimeError if none does, which says what needs one and what does not."""
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
        raise RuntimeError(f"{what} needs a running event loop of asyncio or trio; use {instead} without one") from None
