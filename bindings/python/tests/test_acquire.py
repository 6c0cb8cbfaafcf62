"""Waiting for a permit, under asyncio, uvloop and trio."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import warnings
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import anyio
import pytest
import tokenweir
import tokenweir._limiter
import tokenweir._lines
import trio
import trio.testing
from loops import Run, run, under_asyncio, under_trio
from tokenweir import Limiter, ManualClock, Permit, Policy


def gate(amount: int, *, algorithm: str = "bucket", clock: ManualClock | None = None, **fields: Any) -> Limiter:
    limit: dict[str, Any] = {"name": "l", "meter": "total", "algorithm": algorithm, "amount": amount, **fields}
    if algorithm == "bucket":
        limit["per"] = "1m"
    if algorithm == "in_flight":
        limit["meter"] = "in_flight"
    return Limiter(Policy.from_dict({"limit": [limit]}), clock=clock)


def waiting(limiter: Limiter) -> int:
    return len(limiter.__dict__.get("_lines", ()))


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
            assert str(raised.value) == str(raised.value.denial) == 'limit "l" is used up; retry in 30.000 s'
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
        for wrong in (-1, float("nan"), -timedelta(seconds=1)):
            with pytest.raises(ValueError, match="timeout is -1|timeout is nan"):
                await limiter.acquire("p", "d", timeout=wrong)
        anything: Any = "x"
        with pytest.raises(TypeError, match="timeout is str; give seconds, a timedelta, or None"):
            await limiter.acquire("p", "d", timeout=anything)
        anything = 5
        with pytest.raises(TypeError, match="keys is int; give a mapping"):
            await limiter.acquire("p", "d", keys=anything)
        anything = {"a": ["x"]}
        with pytest.raises(TypeError, match=r'keys\["a"\] is list; give str or bytes'):
            await limiter.acquire("p", "d", keys=anything)
        (await limiter.acquire("p", "d", timeout=timedelta(seconds=1))).cancel()
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


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks by itself: who is not told waits for ever."""
    monkeypatch.setattr(tokenweir._limiter, "_LONGEST_PAUSE", 1e6)


Caller = tuple[str | bytes, dict[str, str | bytes] | None]
OTHERS: list[Caller] = [
    ("p", None),
    (b"p", None),
    ("q", None),
    ("q", {"user": "u"}),
    ("q", {"user": b"u"}),
    ("p", {"trace": "1"}),
    ("p", {"trace": "2"}),
]
"""Callers whom one limit counts together."""


def test_the_order_is_that_of_arrival_whoever_shares_the_limit(run: Run, told: None) -> None:
    limiter = gate(1, algorithm="in_flight")
    order: list[int] = []

    async def main() -> None:
        held = await limiter.acquire("first", "d")
        async with anyio.create_task_group() as tasks:

            async def wait(number: int, project: str | bytes, keys: dict[str, str | bytes] | None) -> None:
                permit = await limiter.acquire(project, "d", keys=keys)
                order.append(number)
                await anyio.sleep(0)
                permit.cancel()

            for number, (project, keys) in enumerate(OTHERS * 3):
                tasks.start_soon(wait, number, project, keys)
                await until(lambda number=number: waiting(limiter) == number + 1)  # type: ignore[misc]
            held.cancel()

    run(main)
    assert order == list(range(3 * len(OTHERS))) and waiting(limiter) == 0


def test_who_comes_later_does_not_take_what_comes_free(run: Run) -> None:
    """Also not between the end of a permit and the turn of who waits for it."""
    limiter = gate(1, algorithm="in_flight")

    async def main() -> None:
        held = await limiter.acquire("p", "d")
        async with anyio.create_task_group() as tasks:
            served: list[Permit] = []

            async def wait() -> None:
                served.append(await limiter.acquire("q", "d"))

            tasks.start_soon(wait)
            await until(lambda: waiting(limiter) == 1)
            held.cancel()
            with pytest.raises(tokenweir.AcquireTimeout, match="wait for the same limit") as raised:
                await limiter.acquire("r", "d", timeout=0)
            assert raised.value.denial is None
            await until(lambda: len(served) == 1)
            served[0].cancel()

    run(main)


def test_five_hundred_projects_share_five_places_without_a_pause() -> None:
    """100 rounds of a millisecond, by a clock that moves only when all are asleep."""
    limiter = gate(5, algorithm="in_flight")
    order: list[int] = []

    async def main() -> float:
        async def call(number: int) -> None:
            with await limiter.acquire(f"project {number}", "d") as permit:
                order.append(number)
                await trio.sleep(0.001)
                permit.settle(1, 1)

        began = trio.current_time()
        async with trio.open_nursery() as tasks:
            for number in range(500):
                tasks.start_soon(call, number)
                await trio.testing.wait_all_tasks_blocked()
        return trio.current_time() - began

    took = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.01))
    assert order == list(range(500))
    assert took == pytest.approx(0.1)


def settle(limiter: Limiter, permit: Permit) -> None:
    permit.settle(0, 0)


def leave(limiter: Limiter, permit: Permit) -> None:
    with permit:
        pass


def settle_by_id(limiter: Limiter, permit: Permit) -> None:
    limiter.settle(permit.detach(), 0, 0)


def settle_in_a_thread(limiter: Limiter, permit: Permit) -> None:
    thread = threading.Thread(target=permit.settle)
    thread.start()
    thread.join()


def drop(limiter: Limiter, permit: Permit) -> None:
    """The caller lets go of it."""


def raise_the_limit(limiter: Limiter, permit: Permit) -> None:
    permit.detach()
    limit = {"name": "l", "meter": "in_flight", "algorithm": "in_flight", "amount": 2}
    limiter.swap_policy(Policy.from_dict({"limit": [limit]}))


ENDS: list[Callable[[Limiter, Permit], object]] = [
    settle,
    lambda _, permit: permit.cancel(),
    lambda _, permit: permit.abandon(),
    leave,
    settle_by_id,
    lambda limiter, permit: limiter.cancel(permit.detach()),
    lambda limiter, permit: limiter.abandon(permit.detach()),
    settle_in_a_thread,
    drop,
    raise_the_limit,
]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("by_route", [False, True])
def test_whoever_waits_is_told_when_a_permit_ends(
    run: Run, told: None, end: Callable[[Limiter, Permit], object], by_route: bool
) -> None:
    limiter = gate(1, algorithm="in_flight")

    async def main() -> None:
        held = [limiter.route("p", "d").reserve() if by_route else limiter.reserve("p", "d")]
        async with anyio.create_task_group() as tasks:

            async def second() -> None:
                with anyio.fail_after(20):
                    (await limiter.acquire("q", "d")).cancel()

            tasks.start_soon(second)
            await until(lambda: waiting(limiter) == 1)
            end(limiter, held.pop())

    run(main)
    assert waiting(limiter) == 0


def test_an_expired_permit_s_place_is_told_of_by_a_sweep(run: Run, told: None) -> None:
    clock = ManualClock()
    limiter = gate(1, algorithm="in_flight", clock=clock)

    async def main() -> None:
        limiter.reserve("p", "d").detach()
        async with anyio.create_task_group() as tasks:

            async def second() -> None:
                with anyio.fail_after(20):
                    (await limiter.acquire("q", "d")).cancel()

            tasks.start_soon(second)
            await until(lambda: waiting(limiter) == 1)
            clock.advance(601)
            limiter.sweep()

    run(main)


def test_who_waits_for_another_counter_is_not_woken(told: None, monkeypatch: pytest.MonkeyPatch) -> None:
    limiter = gate(1, algorithm="in_flight", scope=["project"])
    asked: list[str] = []
    admit = Limiter.admit

    def counted(self: Limiter, project: Any, *rest: Any, **more: Any) -> Any:
        asked.append(project)
        return admit(self, project, *rest, **more)

    monkeypatch.setattr(Limiter, "admit", counted)

    async def main() -> None:
        held = [limiter.reserve(project, "d") for project in ("p", "q")]
        tasks = [asyncio.ensure_future(limiter.acquire(project, "d")) for project in ("p", "q")]
        await until(lambda: waiting(limiter) == 2)
        del asked[:]
        held[0].cancel()
        (await tasks[0]).cancel()
        await asyncio.sleep(0)
        assert asked == ["p"]
        held[1].cancel()
        (await tasks[1]).cancel()

    asyncio.run(main())


def test_where_nobody_waits_nobody_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    limiter = gate(1, algorithm="in_flight")
    told: list[object] = []
    monkeypatch.setattr(tokenweir._lines.Lines, "freed", lambda _self, counters: told.append(counters))

    async def main() -> None:
        (await limiter.acquire("p", "d")).cancel()
        held = limiter.reserve("p", "d")
        with pytest.raises(tokenweir.AcquireTimeout):
            await limiter.acquire("p", "d", timeout=0)
        held.cancel()
        limiter.sweep()
        limiter.swap_policy(limiter.policy)

    run(main)
    assert told == []


TWO = Policy.from_toml("""
    [[limit]]
    name = "own"
    meter = "total"
    algorithm = "bucket"
    amount = 60
    per = "1m"
    scope = ["project"]

    [[limit]]
    name = "shared"
    meter = "in_flight"
    algorithm = "in_flight"
    amount = 1
""")


def test_who_is_held_up_by_a_limit_of_its_own_holds_up_nobody_else(run: Run) -> None:
    limiter = Limiter(TWO, clock=ManualClock())

    async def main() -> None:
        limiter.reserve("slow", "d", 60).settle(60, 0)
        async with anyio.create_task_group() as tasks:

            async def slow() -> None:
                await limiter.acquire("slow", "d", 30)

            tasks.start_soon(slow)
            await until(lambda: waiting(limiter) == 1)
            for _ in range(3):
                (await limiter.acquire("quick", "d", 1, timeout=0)).cancel()
            tasks.cancel_scope.cancel()

    run(main)


def test_who_is_refused_by_one_limit_after_another_keeps_its_place(run: Run) -> None:
    clock = ManualClock()
    limiter = Limiter(TWO, clock=clock)
    order: list[str] = []

    async def main() -> None:
        limiter.reserve("early", "d", 60).settle(60, 0)
        held = limiter.reserve("other", "d", 1)
        async with anyio.create_task_group() as tasks:

            async def wait(project: str) -> None:
                permit = await limiter.acquire(project, "d", 1)
                order.append(project)
                permit.settle(1, 0)

            for number, project in enumerate(("early", "late", "later")):
                tasks.start_soon(wait, project)
                await until(lambda number=number: waiting(limiter) == number + 1)  # type: ignore[misc]
            clock.advance(60)
            # Its own limit has room again, and the shared one has none: there it stands before those who came later.
            await anyio.sleep(0.6)
            held.cancel()

    run(main)
    assert order == ["early", "late", "later"]


def test_nobody_starves_where_others_come_all_the_time(run: Run) -> None:
    limiter = gate(1, algorithm="in_flight")
    order: list[str] = []

    async def main() -> None:
        held = await limiter.acquire("p", "d")
        async with anyio.create_task_group() as tasks:

            async def patient() -> None:
                permit = await limiter.acquire("patient", "d")
                order.append("patient")
                permit.cancel()

            async def busy(number: int) -> None:
                for _ in range(50):
                    permit = await limiter.acquire(f"busy {number}", "d")
                    order.append("busy")
                    await anyio.sleep(0)
                    permit.cancel()

            for number in range(3):
                tasks.start_soon(busy, number)
            await until(lambda: waiting(limiter) == 3)
            tasks.start_soon(patient)
            await until(lambda: waiting(limiter) == 4)
            held.cancel()

    run(main)
    assert order.index("patient") == 3 and len(order) == 151


def test_a_limiter_with_waiters_in_a_loop_that_is_over_is_freed() -> None:
    import weakref

    limiter = gate(1, algorithm="in_flight")
    held = limiter.reserve("p", "d")
    gone = weakref.ref(limiter)
    loop = asyncio.new_event_loop()
    loop.create_task(limiter.acquire("p", "d"))
    loop.run_until_complete(asyncio.sleep(0.01))
    assert waiting(limiter) == 1
    loop.close()
    held.cancel()  # Nobody can be told, and nothing comes of it.
    del limiter, held, loop
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()
    assert gone() is None


def test_trio_s_clock_is_the_one_that_counts() -> None:
    limiter = gate(60, clock=ManualClock())

    async def main() -> None:
        limiter.admit("p", "d", 60)
        began = trio.current_time()
        with pytest.raises(tokenweir.AcquireTimeout):
            await limiter.acquire("p", "d", 30, timeout=3_600)
        assert trio.current_time() - began >= 3_600

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
