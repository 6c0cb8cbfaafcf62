"""Values that calls give out are data: they are copied and pickled, or say why not."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import tokenweir
from tokenweir import Limiter, ManualClock, Now, Permit, Policy, wire

POLICY = Policy.from_toml("""
    [[limit]]
    name = "tpm"
    meter = "total"
    algorithm = "bucket"
    amount = 600
    per = "1m"
    scope = ["project", "key:user"]

    [[limit]]
    name = "quota"
    meter = "total"
    algorithm = "quota"
    amount = 100_000
    period = "monthly"
    mode = "shadow"
    until = "passed"
""")


def values() -> list[Any]:
    ring = tokenweir.RecordRing(16)
    clock = ManualClock(Now(1, 2))
    gate = Limiter(POLICY, clock=clock, observer=ring)
    keys = {"user": b"\xff"}
    permit = gate.reserve("p", "d", 100, keys=keys)
    denial = gate.admit("p", "d", 550, keys=keys)
    assert isinstance(denial, tokenweir.Denial)
    admitted = ring.poll()
    explanation = gate.explain("p", "d", 1, keys=keys)
    settlement = permit.settle(7, 3, cached_input=2)
    ring.poll()
    settled = ring.poll()
    assert admitted is not None and settled is not None
    trace = b'{"at": 0, "project": "p", "deployment": "d", "keys": {"user": "u"}, "estimate": {"input": 400}}\n' * 2
    other = Policy.from_dict({"limit": [{"name": "o", "meter": "in_flight", "algorithm": "in_flight", "amount": 1}]})
    restored = Limiter(other).restore(gate.snapshot())
    upstream = wire.UpstreamLimits.of({"x-ratelimit-limit-requests": "5", "retry-after": "1"})
    meter = wire.ResponseMeter("chat_completions", "application/json")
    meter.feed(b'{"usage": {"prompt_tokens": 3}}')
    return [
        *POLICY.limits,
        *denial.refusals,
        settlement,
        gate.peek("p", "d", 1, keys=keys),
        *gate.peek("p", "d", 1, keys=keys).limits,
        explanation,
        *explanation.applied,
        *gate.explain("p", "d").skipped,
        *gate.usage(),
        gate.stats(),
        admitted,
        settled,
        settled.usage,
        settled.estimate,
        *tokenweir.replay(POLICY, trace),
        restored,
        *restored.left_out,
        wire.Endpoint.of("/v1/messages"),
        wire.Dialect("openai").refused(denial, now=Now(3, 4)),
        meter.measured(),
        meter.measured().usage,
        upstream,
        upstream.requests,
    ]


@pytest.mark.parametrize("value", values(), ids=lambda value: type(value).__name__)
def test_a_value_is_copied_and_pickled(value: Any) -> None:
    ways = [lambda it, number=number: pickle.loads(pickle.dumps(it, number)) for number in range(2, 6)]
    for way in (*ways, copy.copy, copy.deepcopy):
        again = way(value)
        assert type(again) is type(value) and repr(again) == repr(value)


def test_every_kind_of_value_is_among_them() -> None:
    seen = {type(value) for value in values()}
    kinds = {kind for module in (tokenweir, wire) for kind in vars(module).values() if hasattr(kind, "_unpickled")}
    # A record in a file needs a file, and what is in a region a region.
    assert kinds - seen <= {tokenweir.QuotaRecord, tokenweir.RegionStatus, wire.NamedLimit}


def test_a_settlement_that_was_pickled_is_equal() -> None:
    permit = Limiter(POLICY).reserve("p", "d", 1)
    settlement = permit.abandon()
    assert pickle.loads(pickle.dumps(settlement)) == settlement


def test_what_holds_a_denial_says_why_it_is_not_pickled() -> None:
    gate = Limiter(POLICY)
    peek = gate.peek("p", "d", 601, keys={"user": "u"})
    with pytest.raises(tokenweir.Denied) as denied:
        gate.reserve("p", "d", 601, keys={"user": "u"})
    for thing in (peek, denied.value, tokenweir.AcquireTimeout(denied.value.denial)):
        with pytest.raises(TypeError, match="cannot pickle a Denial: pass on its status, limit and retry_after"):
            pickle.dumps(thing)
    timeout = pickle.loads(pickle.dumps(tokenweir.AcquireTimeout(None)))
    assert timeout.denial is None and "came first" in str(timeout)


def test_what_is_made_anew_of_words_that_are_none_is_refused() -> None:
    kind: Any = tokenweir.Settlement
    with pytest.raises(ValueError, match="no outcome of this version"):
        kind._unpickled((1, "lost", 1, 0, 0, False))
    kind = tokenweir.CounterUsage
    with pytest.raises(ValueError, match="fewer fields than this version"):
        kind._unpickled(("l",))
    with pytest.raises(ValueError, match="no word of this version"):
        kind._unpickled(("l", "words", {}, 1, 1, 1, 1, None, 1))


def test_a_permit_shows_whether_it_is_open() -> None:
    clock = ManualClock()
    told: list[str] = []
    permits: list[Permit] = []

    def observer(record: tokenweir.Record) -> None:
        if record.settlement is not None and permits:
            told.append(repr(permits[0]))

    gate = Limiter(POLICY, clock=clock, observer=observer, permit_ttl=10)

    def shown(permit: Permit) -> str:
        return repr(permit).removesuffix(">").rpartition(" ")[2]

    by_id, detached, expired, swept = (gate.reserve("p", "d") for _ in range(4))
    gate.settle(by_id.id, 1, 1)
    number = detached.detach()
    assert [shown(permit) for permit in (by_id, detached, expired)] == ["ended", "detached", "open"]
    gate.cancel(number)
    assert shown(detached) == "ended"
    expired.renew(5)
    clock.advance(6)
    assert shown(expired) == "ended"
    clock.advance(6)
    gate.sweep()
    assert shown(swept) == "ended"
    permits.append(gate.reserve("p", "d"))
    permits[0].settle(1, 1)
    assert told and told[-1].endswith("ended>")


def test_routes_and_rows_show_what_they_are() -> None:
    gate = Limiter(POLICY)
    assert repr(gate.route("search", b"gpt")) == "<Route of 'search' to b'gpt'>"
    assert repr(tokenweir.replay(POLICY, b"")) == "<Rows of a replay>"
