"""Nothing grows: not with permits, refusals, errors, records, waiters, policies, replays."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import subprocess
import sys
from collections.abc import Callable

import psutil
import pytest
import tokenweir
from tokenweir import Limiter, ManualClock, Policy, RecordRing

LIMIT = {"name": "tpm", "meter": "total", "algorithm": "bucket", "amount": 60_000, "per": "1m", "scope": ["project"]}
POLICY = {"limit": [LIMIT]}
TRACE = b'{"at": 0, "project": "s", "deployment": "g", "estimate": {"input": 500}, "duration": 2}\n' * 20


def resident() -> int:
    gc.collect()
    memory: int = psutil.Process().memory_info().rss
    return memory


def permits() -> Callable[[], None]:
    gate = Limiter(Policy.from_dict(POLICY), clock=ManualClock())
    route = gate.route("q", "d")

    def once() -> None:
        gate.reserve("p", "d", 10).settle(0, 0)
        route.reserve(10).cancel()
        gate.cancel(gate.reserve("p", "d", 10).detach())
        gate.reserve("p", "d", 0)

    return once


def refusals() -> Callable[[], None]:
    gate = Limiter(Policy.from_dict(POLICY), clock=ManualClock())

    def once() -> None:
        denial = gate.admit("p", "d", 70_000)
        assert not denial and denial.refusals and denial.remaining and str(denial)
        with contextlib.suppress(tokenweir.Denied):
            gate.reserve("p", "d", 70_000)
        with contextlib.suppress(tokenweir.RequestError):
            gate.admit("", "d")
        with contextlib.suppress(ValueError):
            gate.admit("p", "d", -1)

    return once


def views() -> Callable[[], None]:
    gate = Limiter(Policy.from_dict(POLICY), clock=ManualClock())

    def once() -> None:
        gate.peek("p", "d", 5)
        gate.explain("p", "d", 5)
        gate.usage()
        repr(gate.stats())
        gate.policy.limits  # noqa: B018

    return once


def records() -> Callable[[], None]:
    ring, told = RecordRing(64), 0

    def tell(record: object) -> None:
        nonlocal told
        told += 1

    gates = [Limiter(Policy.from_dict(POLICY), observer=observer) for observer in (ring, tell)]

    def once() -> None:
        for gate in gates:
            gate.reserve("p" * 80, "d", 1).cancel()
        while ring.poll() is not None:
            pass

    return once


def policies() -> Callable[[], None]:
    gate = Limiter(Policy.from_dict(POLICY))

    def once() -> None:
        gate.swap_policy(Policy.from_dict(POLICY))
        with contextlib.suppress(tokenweir.PolicyError):
            Policy.from_dict({"limit": [{}]})
        list(tokenweir.replay(gate.policy, TRACE))

    return once


def waiters() -> Callable[[], None]:
    gate = Limiter(Policy.from_dict(POLICY))

    async def wait() -> None:
        for number in range(20):
            (await gate.acquire(f"p{number}", "d", 1)).cancel()
            with contextlib.suppress(tokenweir.Denied):
                await gate.acquire("p", "d", 70_000)

    return lambda: asyncio.run(wait())


@pytest.mark.parametrize(
    ("make", "times"),
    [(permits, 20_000), (refusals, 10_000), (views, 10_000), (records, 10_000), (policies, 1_000), (waiters, 100)],
)
def test_memory_is_flat(make: Callable[[], Callable[[], None]], times: int) -> None:
    once = make()
    for _ in range(times):
        once()
    before = resident()
    for _ in range(2 * times):
        once()
    grown = resident() - before
    # A leak of 64 bytes a turn is 2.5 MB in 40,000.
    assert grown < max(1_000_000, times * 40), f"{grown} bytes more"


COLLECTED = """
import gc
from tokenweir import Limiter, Policy
policy = Policy.from_toml("limit = []")
class Own(Limiter):
    pass
gc.set_threshold(1)
print(len([kind(policy) for kind in (Limiter, Own) for _ in range(100)]))
"""


def test_a_collection_while_a_limiter_is_made_does_no_harm() -> None:
    # The interpreter makes the object's dict before the object is filled.
    done = subprocess.run([sys.executable, "-c", COLLECTED], check=True, capture_output=True, text=True)
    assert done.stdout == "200\n"
