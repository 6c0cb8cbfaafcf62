"""Counters that outlive the process, and the clock that goes with them."""

from __future__ import annotations

import json
from typing import Any

import pytest
import tokenweir
from tokenweir import Limiter, ManualClock, Now, Policy, SystemClock

SECOND = 1_000_000_000
NOON = 1_774_699_200 * SECOND


def policy(*limits: dict[str, Any]) -> Policy:
    shape = {"meter": "total", "scope": ["project"]}
    return Policy.from_dict({"limit": [shape | limit for limit in limits]})


BUCKET = {"name": "minute", "algorithm": "bucket", "amount": 600, "per": "1m"}
WINDOW = {"name": "hour", "algorithm": "window", "amount": 5_000, "per": "1h"}
QUOTA = {"name": "day", "algorithm": "quota", "amount": 9_000, "period": "daily"}
PLACES = {"name": "at once", "meter": "in_flight", "algorithm": "in_flight", "amount": 2}


def limiter(*limits: dict[str, Any], mono: int = 7200 * SECOND, wall: int = NOON, **more: Any) -> Limiter:
    return Limiter(policy(*limits), clock=ManualClock(Now(mono, wall)), **more)


def used(gate: Limiter) -> dict[str, int]:
    return {counter.limit: counter.used for counter in gate.usage()}


def test_counters_are_taken_up_where_they_were() -> None:
    before = limiter(BUCKET, WINDOW, QUOTA, PLACES)
    held = before.reserve("search", "gpt-4o", 100, 100)
    before.reserve("search", "gpt-4o", 100, 100).settle(150, 30)
    saved = before.snapshot()
    assert used(before) == {"minute": 380, "hour": 380, "day": 380, "at once": 1}

    after = limiter(BUCKET, WINDOW, QUOTA, PLACES, wall=NOON + 10 * SECOND)
    restored = after.restore(saved)
    assert (restored.counters, restored.left_out) == (4, [])
    # Ten seconds have refilled the bucket, to the unit.
    assert used(after) == {"minute": 281, "hour": 380, "day": 380, "at once": 1}
    assert {counter.limit: counter.settled_total for counter in after.usage()}["day"] == 380
    held.abandon()


def test_what_begins_anew_is_named() -> None:
    before = limiter(BUCKET, WINDOW, QUOTA)
    before.reserve("search", "gpt-4o", 10).settle(10, 0)
    before.reserve("chat", "gpt-4o", 10).settle(10, 0)
    after = limiter(BUCKET | {"name": "second"}, WINDOW | {"per": "30m"}, QUOTA, max_counters=1, wall=NOON + SECOND)
    restored = after.restore(before.snapshot())
    found = {(left.limit, left.counters, left.reason) for left in restored.left_out}
    assert found == {("minute", 2, "no_such_limit"), ("hour", 2, "changed"), ("day", 1, "no_room")}
    assert restored.counters == 1 and "LeftOut(limit='minute'" in repr(restored)


def test_the_instant_may_be_given() -> None:
    gate = limiter(QUOTA)
    gate.reserve("search", "gpt-4o", 10).settle(10, 0)
    later = Now(8_000 * SECOND, NOON + 800 * SECOND)
    saved = gate.snapshot(now=later)
    assert json.loads(saved)["taken_at"] == later.wall
    after = limiter(QUOTA)
    assert after.restore(saved.encode(), now=later).counters == 1
    assert used(after) == {"day": 10}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("", "EOF"),
        ("[]", "snapshot is not valid"),
        ('{"version": 99, "taken_at": 0, "limits": []}', "is of version 99"),
        ('{"version": 1, "taken_at": 0, "limits": [], "more": 1}', "unknown field"),
        (b"\xff", "snapshot is not valid"),
    ],
)
def test_what_is_no_snapshot_is_refused_whole(document: str | bytes, said: str) -> None:
    gate = limiter(BUCKET)
    with pytest.raises(tokenweir.SnapshotError, match=said) as raised:
        gate.restore(document)
    assert (raised.value.code, raised.value.name) == (1006, "SNAPSHOT_INVALID")
    assert gate.usage() == []
    with pytest.raises(TypeError, match="snapshot is dict"):
        gate.restore({})  # type: ignore[arg-type]


def test_a_clock_with_a_past_lets_windows_go_on() -> None:
    before = limiter(WINDOW, wall=Limiter(policy(WINDOW)).now().wall - 1800 * SECOND)
    before.reserve("search", "gpt-4o", 4_000).settle(4_000, 0)
    clock = SystemClock(past=3_600)
    assert clock.now().mono >= 3_600 * SECOND and Limiter(policy(WINDOW), clock=clock).now().mono >= 3_600 * SECOND
    after = Limiter(policy(WINDOW), clock=clock)
    assert after.restore(before.snapshot()).counters == 1
    denial = after.admit("search", "gpt-4o", 2_000)
    assert not denial
    # Half an hour of the hour is over, to the sub-window.
    assert denial.retry_after is not None and 1_700 < denial.retry_after < 1_861


def test_a_clock_of_the_system_is_what_a_limiter_has_by_default() -> None:
    clock = SystemClock()
    first, gate = clock.now(), Limiter(policy(BUCKET), clock=clock)
    assert first.mono <= gate.now().mono and abs(gate.now().wall - first.wall) < 60 * SECOND
    with pytest.raises(ValueError, match="past is -1"):
        SystemClock(past=-1)
    with pytest.raises(TypeError, match="give a SystemClock"):
        Limiter(policy(BUCKET), clock=object())  # type: ignore[arg-type]


def test_a_limit_says_until_when_it_admits() -> None:
    passed = QUOTA | {"name": "post-paid", "until": "passed", "amount": 100}
    gate = limiter(passed, BUCKET | {"name": "exception", "overrides": "post-paid", "match": {"project": "x"}})
    found, exception = gate.policy.limit("post-paid"), gate.policy.limit("exception")
    assert found and exception and gate.policy.limit("none") is None
    assert (found.until, exception.until) == ("passed", "reached")
    assert (found.overrides, exception.overrides, found.require) == (None, "post-paid", False)
    # Charged afterwards: use that equals the amount still lets one more pass.
    gate.reserve("search", "gpt-4o").settle(100, 0)
    gate.reserve("search", "gpt-4o").settle(1, 0)
    denial = gate.admit("search", "gpt-4o")
    assert not denial and denial.status == 403
    assert [limit.name for limit in denial.policy.limits] == ["post-paid", "exception"]
