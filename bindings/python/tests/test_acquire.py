"""Waiting for a permit, under asyncio, uvloop and trio."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
import tokenweir
import trio
import trio.testing
import uvloop
from tokenweir import Limiter, ManualClock, Permit, Policy

Run = Callable[[Callable[[], Awaitable[Any]]], Any]


def gate(amount: int, *, algorithm: str = "bucket", clock: ManualClock | None = None, **fields: Any) -> Limiter:
    limit: dict[str, Any] = {"name": "l", "meter": "total", "algorithm": algorithm, "amount": amount, **fields}
    if algorithm == "bucket":
        limit["per"] = "1m"
    if algorithm == "in_flight":
        limit["meter"] = "in_flight"
    return Limiter(Policy.from_dict({"limit": [limit]}), clock=clock)


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


def waiting(limiter: Limiter) -> int:
    return sum(map(len, limiter.__dict__.get("_lines", {}).values()))


async def until(fact: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not fact():
            await anyio.sleep(0.001)


def test_what_fits_is_admitted_at_once(run: Run) -> None:
    limiter = gate(100)

    async def main() -> None:
        with await limiter.acquire("p", "d", 60, 40, timeout=0) as permit:
            assert isinstance(permit, Permit)
            permit.settle(0, 0)

    run(main)
    assert limiter.usage()[0].used == 0 and waiting(limiter) == 0


def test_it_waits_for_the_refill(run: Run) -> None:
    limiter = gate(6_000)  # 100 a second

    async def main() -> None:
        (await limiter.acquire("p", "d", 6_000)).settle(6_000, 0)
        assert not limiter.admit("p", "d", 10)
        (await limiter.acquire("p", "d", 10, timeout=20)).settle(10, 0)

    run(main)
    assert limiter.usage()[0].settled_total == 6_010


def test_it_notices_what_others_give_back(run: Run) -> None:
    limiter = gate(1, algorithm="in_flight")

    async def main() -> None:
        first = await limiter.acquire("p", "d")
        async with anyio.create_task_group() as tasks:

            async def second() -> None:
                with anyio.fail_after(20):
                    (await limiter.acquire("p", "d")).cancel()

            tasks.start_soon(second)
            await until(lambda: waiting(limiter) == 1)
            first.cancel()

    run(main)
    assert limiter.stats().permits_open == 0 and waiting(limiter) == 0


def test_the_order_is_that_of_arrival(run: Run) -> None:
    limiter = gate(1, algorithm="in_flight")
    order: list[int] = []

    async def main() -> None:
        held = await limiter.acquire("p", "d")
        async with anyio.create_task_group() as tasks:

            async def wait(number: int) -> None:
                permit = await limiter.acquire("p", "d")
                order.append(number)
                permit.cancel()

            for number in range(20):
                tasks.start_soon(wait, number)
                await until(lambda number=number: waiting(limiter) == number + 1)  # type: ignore[misc]
            held.cancel()

    run(main)
    assert order == list(range(20))


def test_who_needs_little_does_not_overtake_who_needs_much(run: Run) -> None:
    clock = ManualClock()
    limiter = gate(60, clock=clock)
    order: list[str] = []

    async def main() -> None:
        (await limiter.acquire("p", "d", 50)).settle(50, 0)
        async with anyio.create_task_group() as tasks:

            async def wait(name: str, tokens: int) -> None:
                (await limiter.acquire("p", "d", tokens)).settle(tokens, 0)
                order.append(name)

            tasks.start_soon(wait, "much", 30)
            await until(lambda: waiting(limiter) == 1)
            tasks.start_soon(wait, "little", 1)
            await until(lambda: waiting(limiter) == 2)
            await anyio.sleep(0.05)
            assert order == [], "10 tokens are there, and the one who needs 30 is first"
            clock.advance(60)

    run(main)
    assert order == ["much", "little"]


def test_others_do_not_wait_in_the_same_line(run: Run) -> None:
    clock = ManualClock()
    limiter = gate(60, clock=clock, scope=["project", "key:user"])

    async def main() -> None:
        limiter.admit("p", "d", 60, keys={"user": "a"})
        async with anyio.create_task_group() as tasks:

            async def wait() -> None:
                await limiter.acquire("p", "d", 60, keys={"user": "a"})

            tasks.start_soon(wait)
            await until(lambda: waiting(limiter) == 1)
            assert await limiter.acquire("p", "d", 60, keys={"user": "b"}, timeout=0)
            tasks.cancel_scope.cancel()

    run(main)


def test_cancelled_waiters_hold_nothing_and_the_next_is_served(run: Run) -> None:
    limiter = gate(1, algorithm="in_flight")
    served: list[int] = []

    async def main() -> None:
        held = await limiter.acquire("p", "d")
        scopes = [anyio.CancelScope() for _ in range(3)]
        async with anyio.create_task_group() as tasks:

            async def wait(number: int) -> None:
                with scopes[number]:
                    permit = await limiter.acquire("p", "d")
                    served.append(number)
                    permit.cancel()

            for number in range(3):
                tasks.start_soon(wait, number)
                await until(lambda number=number: waiting(limiter) == number + 1)  # type: ignore[misc]
            scopes[0].cancel()
            scopes[1].cancel()
            await until(lambda: waiting(limiter) == 1)
            held.cancel()

    run(main)
    assert served == [2]
    assert limiter.stats().permits_open == 0 and waiting(limiter) == 0


def test_a_timeout_says_what_the_last_answer_was(run: Run) -> None:
    limiter = gate(60, clock=ManualClock())

    async def main() -> None:
        limiter.admit("p", "d", 60)
        for timeout in (0, 0.02):
            with pytest.raises(tokenweir.AcquireTimeout) as raised:
                await limiter.acquire("p", "d", 30, timeout=timeout)
            assert isinstance(raised.value, TimeoutError) and isinstance(raised.value, tokenweir.Error)
            assert raised.value.denial is not None and raised.value.denial.retry_after == 30.0
        async with anyio.create_task_group() as tasks:

            async def wait() -> None:
                await limiter.acquire("p", "d", 30)

            tasks.start_soon(wait)
            await until(lambda: waiting(limiter) == 1)
            with pytest.raises(tokenweir.AcquireTimeout, match="came first") as raised:
                await limiter.acquire("p", "d", 30, timeout=0.02)
            assert raised.value.denial is None
            tasks.cancel_scope.cancel()

    run(main)
    assert waiting(limiter) == 0


def test_what_no_waiting_helps_is_denied_at_once(run: Run) -> None:
    limiter = gate(60)

    async def main() -> None:
        with pytest.raises(tokenweir.Denied) as raised:
            await limiter.acquire("p", "d", 61)
        assert raised.value.denial.never_fits
        with pytest.raises(ValueError, match="timeout is -1"):
            await limiter.acquire("p", "d", timeout=-1)
        with pytest.raises(tokenweir.RequestError):
            await limiter.acquire("", "d")

    run(main)
    assert waiting(limiter) == 0


def test_without_a_loop_it_says_so() -> None:
    with pytest.raises(RuntimeError, match="needs a running event loop"):
        gate(1).acquire("p", "d").send(None)


def test_two_loops_wait_on_one_limiter() -> None:
    limiter = gate(1, algorithm="in_flight")
    served: list[int] = []

    async def main() -> None:
        for _ in range(50):
            with await limiter.acquire("p", "d", timeout=30) as permit:
                served.append(1)
                await anyio.sleep(0)
                permit.cancel()

    threads = [threading.Thread(target=run, args=(main,)) for run in (under_asyncio, under_trio)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(served) == 100 and limiter.stats().permits_open == 0


def test_no_thread_is_started_and_nothing_is_left_when_a_loop_is_thrown_away() -> None:
    limiter = gate(1, algorithm="in_flight")
    held = limiter.admit("p", "d")
    before = threading.active_count()

    async def main() -> None:
        tasks = [asyncio.ensure_future(limiter.acquire("p", "d")) for _ in range(5)]
        await asyncio.sleep(0.02)
        assert threading.active_count() == before and waiting(limiter) == 5
        del tasks

    asyncio.run(main())
    gc.collect()
    assert waiting(limiter) == 0 and held


@pytest.mark.parametrize("seed", range(5))
def test_random_cancellations_hold_nothing(seed: int) -> None:
    import random

    dice = random.Random(seed)
    limiter = gate(3, algorithm="in_flight")

    async def main() -> None:
        async def worker() -> None:
            with await limiter.acquire("p", "d") as permit:
                await asyncio.sleep(dice.random() * 0.003)
                permit.cancel()

        tasks = [asyncio.ensure_future(worker()) for _ in range(200)]
        end = time.monotonic() + 30
        while not all(task.done() for task in tasks) and time.monotonic() < end:
            dice.choice(tasks).cancel()
            await asyncio.sleep(0.001)
        assert all(task.done() for task in tasks)

    asyncio.run(main())
    assert limiter.stats().permits_open == 0 and waiting(limiter) == 0
    assert limiter.usage()[0].used == 0


def test_trio_s_clock_is_the_one_that_counts() -> None:
    limiter = gate(60, clock=ManualClock())

    async def main() -> None:
        limiter.admit("p", "d", 60)
        began = trio.current_time()
        with pytest.raises(tokenweir.AcquireTimeout):
            await limiter.acquire("p", "d", 30, timeout=3_600)
        assert trio.current_time() - began >= 3_600

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
