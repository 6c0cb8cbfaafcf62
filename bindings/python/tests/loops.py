"""The event loops that the package works in: a test that takes `run` is run in each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
import uvloop

Run = Callable[[Callable[[], Awaitable[Any]]], Any]


def under_asyncio(main: Callable[[], Awaitable[Any]]) -> Any:
    return anyio.run(main, backend="asyncio")


def under_uvloop(main: Callable[[], Awaitable[Any]]) -> Any:
    return anyio.run(main, backend="asyncio", backend_options={"loop_factory": uvloop.new_event_loop})


def under_trio(main: Callable[[], Awaitable[Any]]) -> Any:
    return anyio.run(main, backend="trio")


@pytest.fixture(params=[under_asyncio, under_uvloop, under_trio], ids=["asyncio", "uvloop", "trio"])
def run(request: pytest.FixtureRequest) -> Run:
    chosen: Run = request.param
    return chosen
