"""What is wrong with an argument is said by its name."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import tokenweir
from tokenweir import Limiter, ManualClock, Now, Policy, QuotaFile, RecordRing, SystemClock

LIMIT = {"name": "l", "meter": "total", "algorithm": "quota", "amount": 100, "period": "never", "scope": ["key:user"]}
POLICY = Policy.from_dict({"limit": [LIMIT]})
TRACE = b'{"at": 0, "project": "p", "deployment": "d"}\n'


@pytest.mark.parametrize("name", ["max_counters", "max_routes", "max_permits", "max_histories", "lease_part"])
def test_how_many_there_may_be_is_a_whole_number(name: str) -> None:
    def make(number: Any) -> Limiter:
        return Limiter(POLICY, **{name: number})

    with pytest.raises(ValueError, match=f"{name} is -1; give a whole number from [01] to"):
        make(-1)
    with pytest.raises(ValueError, match=f"{name} is {2**70}"):
        make(2**70)
    with pytest.raises(TypeError, match=f"{name} is str"):
        make("5")
    if name != "max_histories":
        with pytest.raises(ValueError, match=f"{name} is 0"):
            make(0)


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda: RecordRing(-1), "capacity is -1"),
        (lambda: Now(-1, 0), "mono is -1; give a whole number from 0 to"),
        (lambda: Now(2**63, 0), "mono is 9223372036854775808"),
        (lambda: Now(0, 2**63), "wall is 9223372036854775808; give a whole number from -2\\*\\*63"),
        (lambda: Now.at(-1), "nanos is -1"),
        (lambda: SystemClock(past=-1), "past is -1"),
        (lambda: ManualClock().advance(timedelta(seconds=-1)), "seconds is -1"),
        (lambda: Limiter(POLICY, permit_ttl=timedelta(seconds=-1)), "permit_ttl is -1"),
        (lambda: QuotaFile(""), "path is empty; give the place of a file"),
        (lambda: tokenweir.replay(POLICY, TRACE, max_counters=0), "max_counters is 0"),
        (lambda: tokenweir.replay(POLICY, TRACE, format="azure-llm", duration=-1), "duration is -1"),
        (lambda: tokenweir.replay(POLICY, TRACE, duration=-1), "duration is of no use: each line of jsonl says it"),
        (lambda: tokenweir.replay(POLICY, TRACE, project="p"), "project is of no use"),
        (lambda: tokenweir.replay(POLICY, TRACE, estimate_output="2x"), "estimate_output is of no use"),
    ],
)
def test_what_is_out_of_range_is_named(call: Callable[[], object], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        call()


def test_spans_of_time_may_be_timedeltas() -> None:
    clock = ManualClock()
    clock.advance(timedelta(seconds=1.5))
    assert clock.now() == Now(1_500_000_000, 1_500_000_000)
    SystemClock(past=timedelta(days=1))
    gate = Limiter(POLICY, clock=clock, permit_ttl=timedelta(minutes=1))
    permit = gate.reserve("p", "d")
    permit.renew(timedelta(hours=1))
    gate.renew(permit.id, timedelta(hours=2))
    clock.advance(timedelta(hours=1.5))
    assert "open" in repr(permit)
    with pytest.raises(ValueError, match="ttl is -1"):
        permit.renew(timedelta(seconds=-1))
    wrong: Any = "1m"
    with pytest.raises(TypeError, match="ttl is str; give seconds, or a timedelta"):
        permit.renew(wrong)
    with pytest.raises(TypeError, match="seconds is str"):
        clock.advance(wrong)


def test_none_is_an_estimate_that_is_not_known() -> None:
    gate = Limiter(POLICY)
    permit = gate.reserve("p", "d", None, None, keys={"user": "u"})
    assert permit.observe(None, 1) is False
    assert gate.route("p", "d").admit(None)
    assert gate.peek("p", "d", None).admitted and gate.explain("p", "d", None, None).admitted


@pytest.mark.parametrize(
    ("project", "deployment", "keys", "what"),
    [
        ("\ud800", "d", None, r"project has half of a surrogate pair: '\\ud800'"),
        ("p", "\ud800", None, "deployment has half of a surrogate pair"),
        ("p", "d", {"user": "\ud800"}, r'keys\["user"\] has half of a surrogate pair'),
        ("p", "d", {"\ud800": "u"}, "keys has the name"),
    ],
)
def test_half_of_a_surrogate_pair_is_no_name(project: str, deployment: str, keys: Any, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        Limiter(POLICY).admit(project, deployment, keys=keys)


def test_keys_that_are_none_are_named() -> None:
    gate = Limiter(POLICY)
    for keys, what in ((5, "keys is int"), ({"user": ["u"]}, r'keys\["user"\] is list'), ({1: "u"}, "the name 1")):
        wrong: Any = keys
        with pytest.raises(TypeError, match=what):
            gate.admit("p", "d", keys=wrong)


@pytest.mark.parametrize(
    ("amount", "kind", "what"),
    [
        (float("nan"), ValueError, r"limit\[0\]\.amount is NaN, which is no value of a policy"),
        (float("inf"), ValueError, r"limit\[0\]\.amount is inf, which is no value of a policy"),
        ("\ud800", ValueError, r"limit\[0\]\.amount is '\\ud800', which is no value of a policy"),
        (datetime.date(2026, 1, 1), TypeError, r"limit\[0\]\.amount is date, which is no value of a policy"),
        ({1: 2}, TypeError, r"limit\[0\]\.amount has the name 1; give text"),
        (b"5", TypeError, r"limit\[0\]\.amount is bytes"),
    ],
)
def test_what_is_no_value_of_a_policy_is_named_by_its_place(amount: Any, kind: type[Exception], what: str) -> None:
    with pytest.raises(kind, match=what):
        Policy.from_dict({"limit": [LIMIT | {"amount": amount}]})


def test_a_policy_may_be_any_mapping_and_no_circle() -> None:
    assert len(Policy.from_dict(MappingProxyType({"limit": (MappingProxyType(LIMIT),)}))) == 1
    circle: dict[str, Any] = {}
    circle["limit"] = [circle]
    with pytest.raises(ValueError, match="nested too deep"):
        Policy.from_dict(circle)


def test_a_view_of_what_there_is_not_is_an_error() -> None:
    gate = Limiter(POLICY)
    with pytest.raises(ValueError, match='the policy has no limit "m"; see policy.limits'):
        gate.usage("m")
    with pytest.raises(ValueError, match='no limit counts by "user"; give project, deployment, or key:'):
        gate.usage(scope={"user": "u"})
    with pytest.raises(ValueError, match='limit "l" does not count by "project"'):
        gate.usage("l", {"project": "p"})
    assert gate.usage("l", {"key:user": "u"}) == []


def test_a_store_has_a_name(tmp_path: Path) -> None:
    with QuotaFile(tmp_path / "quotas.redb") as file, pytest.raises(ValueError, match="name is empty; name the store"):
        file.store("")


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("event", ["admitted", "denied", "settled"])
def test_what_interrupts_an_observer_reaches_the_caller_and_leaves_nothing_held(
    kind: type[BaseException], event: str
) -> None:
    seen: list[str] = []

    def observer(record: tokenweir.Record) -> None:
        seen.append(record.event)
        if record.event == event:
            raise kind("stop")

    gate = Limiter(POLICY, observer=observer)
    keys = {"user": "u"}
    with pytest.raises(kind, match="stop"):
        if event == "denied":
            gate.admit("p", "d", 101, keys=keys)
        else:
            gate.admit("p", "d", 10, keys=keys).settle(1, 0)  # type: ignore[union-attr]
    assert gate.stats().permits_open == 0 and event in seen
    settled = {"admitted": 0, "denied": 0, "settled": 1}[event]
    assert [counter.used for counter in gate.usage()] == [settled]
    if event != "denied":
        with pytest.raises(kind):
            with gate.reserve("p", "d", 10, keys=keys):
                pass
        assert gate.stats().permits_open == 0
    # Once it is said, it is over.
    gate.sweep()


def test_what_interrupts_an_observer_of_a_route_does_too() -> None:
    def observer(record: tokenweir.Record) -> None:
        raise KeyboardInterrupt

    gate = Limiter(POLICY, observer=observer)
    with pytest.raises(KeyboardInterrupt):
        gate.route("p", "d").admit(1)
    assert gate.stats().permits_open == 0


def test_the_limiter_s_own_page_says_all_arguments() -> None:
    import inspect

    page = Limiter.__doc__ or ""
    for name in inspect.signature(Limiter).parameters:
        assert name == "policy" or f"`{name}`" in page
