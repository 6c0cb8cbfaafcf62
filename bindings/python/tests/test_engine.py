"""The engine as Python has it: values, exceptions, manners."""

from __future__ import annotations

import copy
import gc
import json
import os
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenweir
from tokenweir import (
    CoarseClock,
    Denial,
    Limiter,
    ManualClock,
    Now,
    Permit,
    Policy,
    Record,
    RecordRing,
)

SECOND = 1_000_000_000


def limit(name: str = "tpm", **fields: Any) -> dict[str, Any]:
    whole = {"name": name, "meter": "total", "algorithm": "bucket", "amount": 600, "per": "1m", **fields}
    return {field: value for field, value in whole.items() if value is not None}


def policy(*limits: dict[str, Any], **more: Any) -> Policy:
    return Policy.from_dict({"limit": list(limits or [limit()]), **more})


def limiter(*limits: dict[str, Any], **options: Any) -> tuple[Limiter, ManualClock]:
    clock = ManualClock()
    return Limiter(policy(*limits), clock=clock, **options), clock


def admitted(decision: Permit | Denial) -> Permit:
    assert isinstance(decision, Permit), decision
    return decision


def denied(decision: Permit | Denial) -> Denial:
    assert isinstance(decision, Denial), decision
    return decision


def used(gate: Limiter) -> int:
    return sum(counter.used for counter in gate.usage())


class TestDecisions:
    def test_a_permit_is_truthy_and_a_denial_falsy(self) -> None:
        gate, _ = limiter()
        permit = gate.admit("p", "d", input=200, output=300)
        assert permit and permit.admitted
        denial = gate.admit("p", "d", 200, 300)
        assert not denial and not denial.admitted

    def test_a_denial_says_everything(self) -> None:
        gate, clock = limiter(
            limit(), limit("rpm", meter="requests", amount=1, algorithm="quota", period="daily", per=None)
        )
        admitted(gate.admit("p", "d", 500))
        denial = denied(gate.admit("p", "d", 150))
        assert (denial.status, denial.limit, denial.never_fits, denial.table_full) == (403, "rpm", False, False)
        assert denial.retry_after == 86_400.0 and denial.retry_after_ns == 86_400 * SECOND
        assert denial.retry_after_seconds == 86_400
        assert denial.remaining == {"tpm": 100, "rpm": 0}
        assert {(r.limit, r.status, r.retry_after, r.fits_now) for r in denial.refusals} == {
            ("tpm", 429, 5.0, 100),
            ("rpm", 403, 86_400.0, 0),
        }
        clock.advance(86_400)
        assert gate.admit("p", "d", 150)

    def test_the_wait_is_true_to_the_nanosecond(self) -> None:
        gate, clock = limiter()
        admitted(gate.admit("p", "d", 600)).settle(600, 0)
        wait = denied(gate.admit("p", "d", 7)).retry_after_ns
        assert wait == 700_000_000
        assert not gate.admit("p", "d", 7, now=Now.at(wait - 1))
        assert gate.admit("p", "d", 7, now=Now.at(wait))
        clock.advance(1)

    def test_never_fits_has_no_wait(self) -> None:
        denial = denied(limiter()[0].admit("p", "d", 601))
        assert denial.never_fits and denial.retry_after is None and denial.retry_after_seconds is None
        assert str(denial) == 'the request is larger than the whole of limit "tpm"'

    def test_settling_gives_back_and_charges(self) -> None:
        gate, _ = limiter()
        settlement = admitted(gate.admit("p", "d", 200, 100)).settle(input=150, output=20, cached_input=50)
        assert (settlement.outcome, settlement.input, settlement.cached_input) == ("settled", 150, 50)
        assert (settlement.output, settlement.estimated) == (20, False)
        assert used(gate) == 170
        admitted(gate.admit("p", "d", 10)).settle(input=700, output=0)
        assert gate.usage()[0].remaining == 600 - 870

    def test_unknown_usage_is_none_and_not_zero(self) -> None:
        gate, _ = limiter()
        settlement = admitted(gate.admit("p", "d", 200, 100)).settle(output=5)
        assert (settlement.input, settlement.output, settlement.estimated) == (200, 5, True)
        assert admitted(gate.admit("p", "d", 20, 10)).settle().estimated

    def test_a_permit_settles_once(self) -> None:
        gate, _ = limiter()
        permit = admitted(gate.admit("p", "d", 100))
        permit.cancel()
        for again in (permit.settle, permit.cancel, permit.abandon, permit.observe, lambda: permit.renew(1)):
            with pytest.raises(tokenweir.PermitError) as raised:
                again()
            assert (raised.value.code, raised.value.name) == (21, "PERMIT_SETTLED")
        assert used(gate) == 0

    def test_usage_that_cannot_be_leaves_the_permit_open(self) -> None:
        gate, _ = limiter()
        permit = admitted(gate.admit("p", "d", 100))
        with pytest.raises(tokenweir.UsageError) as raised:
            permit.settle(input=5, output=1, cached_input=6)
        assert raised.value.code == 20 and gate.stats().permits_open == 1
        permit.settle(5, 1)
        assert used(gate) == 6

    def test_observing_charges_beyond_the_estimate_and_says_when_it_is_spent(self) -> None:
        gate, _ = limiter()
        permit = admitted(gate.admit("p", "d", 100, 100))
        assert permit.observe(output=150) is False
        assert used(gate) == 250
        assert permit.observe(0, 400) is True
        permit.settle(100, 550)
        assert used(gate) == 650

    def test_by_id_from_any_thread(self) -> None:
        gate, _ = limiter()
        number = admitted(gate.admit("p", "d", 100)).detach()
        gc.collect()
        assert gate.remaining(number) == {"tpm": 500}
        worker = threading.Thread(target=lambda: gate.settle(number, input=40, output=0))
        worker.start()
        worker.join()
        assert used(gate) == 40 and gate.remaining(number) == {}
        gate.cancel(admitted(gate.admit("p", "d", 100)).detach())
        gate.abandon(admitted(gate.admit("p", "d", 100)).detach())
        assert used(gate) == 140
        with pytest.raises(tokenweir.PermitError) as raised:
            gate.settle(2**64 - 1)
        assert raised.value.code == 22
        for wrong in (0, -1, 2**64, "x", None):
            with pytest.raises(ValueError, match="is no permit id"):
                gate.settle(wrong)  # type: ignore[arg-type]

    def test_routes_decide_as_the_limiter_does(self) -> None:
        gate, _ = limiter(limit(scope=["project", "key:user"]))
        route = gate.route("p", "d", keys={"user": "u"})
        with route.reserve(100, 50) as permit:
            permit.settle(10, 5)
        assert route.limiter is gate
        assert [(c.scope, c.used) for c in gate.usage()] == [({"project": "p", "key:user": "u"}, 15)]
        with pytest.raises(tokenweir.Denied):
            route.reserve(601)
        gate.swap_policy(policy(limit(scope=["project", "key:user"], amount=1200)))
        assert route.admit(585), "what was used stays used, and more room is not filled"
        assert gate.usage()[0].amount == 1200

    def test_renewed_permits_live_and_others_expire(self) -> None:
        gate, clock = limiter(permit_ttl=10.0)
        kept, lost = gate.admit("p", "d", 100), gate.admit("p", "d", 100)
        clock.advance(9)
        admitted(kept).renew(60.0)
        clock.advance(2)
        with pytest.raises(tokenweir.PermitError):
            admitted(lost).settle(0, 0)
        admitted(kept).settle(0, 0)

    def test_shadow_limits_report(self) -> None:
        gate, _ = limiter(limit(), limit("trial", amount=10, mode="shadow"))
        permit = admitted(gate.admit("p", "d", 100))
        assert permit.shadow_refused() == ["trial"] == gate.shadow_refused(permit.id)
        assert permit.remaining() == {"tpm": 500}


class TestReserve:
    def test_the_block_ends_the_permit(self) -> None:
        gate, _ = limiter()
        with gate.reserve("p", "d", 100) as permit:
            permit.settle(10, 0)
        with gate.reserve("p", "d", 100):
            pass
        assert used(gate) == 110 and gate.stats().permits_open == 0
        with pytest.raises(KeyError), gate.reserve("p", "d", 100):
            raise KeyError
        assert used(gate) == 210, "whatever happened, the provider may have used it"
        with pytest.raises(KeyError), gate.reserve("p", "d", 100) as permit:
            permit.cancel()
            raise KeyError
        assert used(gate) == 210
        with gate.reserve("p", "d", 100) as permit:
            number = permit.detach()
        gate.cancel(number)
        assert used(gate) == 210

    def test_a_refusal_is_raised_with_its_denial(self) -> None:
        gate, _ = limiter()
        with pytest.raises(tokenweir.Denied) as raised, gate.reserve("p", "d", 601):
            raise AssertionError("the block must not run")
        assert raised.value.denial.never_fits
        assert str(raised.value) == str(raised.value.denial)
        assert isinstance(raised.value, tokenweir.Error)

    def test_a_permit_that_is_lost_stands_as_used(self) -> None:
        gate, _ = limiter()
        gate.admit("p", "d", 100)
        gc.collect()
        assert used(gate) == 100 and gate.stats().permits_open == 0


class TestViews:
    def test_peek_takes_nothing(self) -> None:
        gate, _ = limiter()
        peek = gate.peek("p", "d", 700)
        assert not peek and peek.denial is not None and peek.denial.never_fits
        assert [(v.limit, v.mode, v.charge, v.amount, v.fits, v.wait) for v in peek.limits] == [
            ("tpm", "enforce", 700, 600, False, None)
        ]
        assert gate.peek("p", "d", 600) and used(gate) == 0

    def test_explain_names_what_is_skipped_and_why(self) -> None:
        gate, _ = limiter(limit(), limit("other", match={"project": "q"}))
        explanation = gate.explain("p", "d")
        assert [applied.view.limit for applied in explanation.applied] == ["tpm"]
        assert [(skipped.limit, "pattern" in skipped.reason) for skipped in explanation.skipped] == [("other", True)]

    def test_usage_filters(self) -> None:
        gate, _ = limiter(limit(scope=["project"]), limit("all"))
        for project in ("a", "b"):
            gate.admit(project, "d", 10)
        assert [(c.limit, c.scope) for c in gate.usage()] == [
            ("all", {}),
            ("tpm", {"project": "a"}),
            ("tpm", {"project": "b"}),
        ]
        assert [c.scope for c in gate.usage("tpm", {"project": "b"})] == [{"project": "b"}]
        counter = gate.usage("all")[0]
        assert (counter.meter, counter.amount, counter.used, counter.held, counter.settled_total) == (
            "total",
            600,
            20,
            0,
            20,
        )
        assert counter.resets_at == Now(2 * SECOND, 2 * SECOND)

    def test_stats(self) -> None:
        gate, _ = limiter(limit(scope=["project"]), max_counters=2)
        permits = [gate.admit(name, "d", 1) for name in "abc"]
        assert not permits[2] and denied(permits[2]).table_full
        stats = gate.stats()
        assert (stats.counters, stats.max_counters, stats.refused_full, stats.permits_open) == (2, 2, 1, 2)
        assert (stats.histories, stats.max_histories) == (0, 5000)

    def test_no_more_buckets_keep_a_history_than_there_may_be(self) -> None:
        gate, _ = limiter(limit(scope=["project"]), max_histories=1)
        for project in ("a", "b"):
            first, second = (admitted(gate.admit(project, "d", 30)) for _ in range(2))
            first.settle(input=10, output=0)
            second.settle(input=10, output=0)
        assert (gate.stats().histories, gate.stats().max_histories) == (1, 1)
        assert [counter.used for counter in gate.usage()] == [20, 20]

    def test_policy_swap_keeps_consumption(self) -> None:
        gate, _ = limiter()
        admitted(gate.admit("p", "d", 500)).settle(500, 0)
        gate.swap_policy(policy(limit(amount=1200)))
        assert gate.usage()[0].remaining == 100
        assert gate.policy.limits[0].amount == 1200


class TestNames:
    @pytest.mark.parametrize("name", [b"\xff\xfe", b"\x00", "ключ".encode(), b"\xed\xa0\x80"])
    def test_bytes_come_back_as_they_were(self, name: bytes) -> None:
        gate, _ = limiter(limit(scope=["project", "key:user"]))
        gate.admit(name, "d", 1, keys={"user": name})
        [counter] = gate.usage()
        text = counter.scope["project"]
        assert text.encode("utf-8", "surrogateescape") == name == os.fsencode(text)
        gate.admit(text, "d", 1, keys={"user": text})
        assert gate.stats().counters == 1

    def test_what_is_no_name_is_refused(self) -> None:
        gate, _ = limiter()
        with pytest.raises(TypeError, match="project is int; give str or bytes"):
            gate.admit(1, "d")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="keys is list"):
            gate.admit("p", "d", keys=["user"])  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="keys has the name 1, which is int; give str"):
            gate.admit("p", "d", keys={1: "x"})  # type: ignore[dict-item]
        with pytest.raises(ValueError, match="project has half of a surrogate pair"):
            gate.admit("\ud800", "d")

    def test_any_mapping_gives_keys(self) -> None:
        from types import MappingProxyType

        gate, _ = limiter(limit(scope=["key:user"], require=True))
        assert gate.admit("p", "d", 1, keys=MappingProxyType({"user": b"u"}))
        with pytest.raises(tokenweir.RequestError) as raised:
            gate.admit("p", "d", 1)
        assert (raised.value.code, raised.value.name) == (11, "KEY_MISSING")


class TestErrors:
    def test_numbers_are_whole(self) -> None:
        gate, _ = limiter()
        for wrong, kind in ((-1, ValueError), (1.5, TypeError), ("7", TypeError)):
            with pytest.raises(kind, match="input is"):
                gate.admit("p", "d", wrong)  # type: ignore[arg-type]
            with pytest.raises(kind, match="output is"):
                admitted(gate.admit("p", "d", 1)).settle(output=wrong)  # type: ignore[arg-type]

    @pytest.mark.parametrize("huge", [2**53 + 1, 2**63, 2**64, 10**30])
    def test_too_large_a_number_is_the_same_error_however_large(self, huge: int) -> None:
        gate, _ = limiter()
        route = gate.route("p", "d")
        asks = (gate.admit, gate.reserve, gate.peek, gate.explain)
        calls: list[Callable[[], object]] = [lambda ask=ask: ask("p", "d", 1, huge) for ask in asks]  # type: ignore[misc]
        calls += [lambda ask=ask: ask("p", "d", huge) for ask in asks]  # type: ignore[misc]
        calls += [lambda: route.admit(huge), lambda: route.reserve(1, huge)]
        for call in calls:
            with pytest.raises(tokenweir.RequestError, match=f"the estimate of {huge} ") as estimated:
                call()
            assert (estimated.value.code, estimated.value.name) == (14, "ESTIMATE_TOO_LARGE")
        permit = admitted(gate.admit("p", "d", 1))
        for call in (
            lambda: permit.settle(huge, 1),
            lambda: permit.settle(1, huge),
            lambda: permit.settle(1, 1, cached_input=huge),
            lambda: permit.observe(output=huge),
            lambda: gate.settle(permit.id, huge),
            lambda: gate.observe(permit.id, huge),
        ):
            with pytest.raises(tokenweir.UsageError) as used:
                call()
            assert (used.value.code, used.value.name) == (20, "USAGE_INVALID")
        assert permit.settle(1, 0).input == 1

    def test_every_code_of_the_engine(self) -> None:
        gate, _ = limiter(max_permits=1)
        permit = gate.admit("p", "d")
        with pytest.raises(tokenweir.CapacityError) as raised:
            gate.admit("p", "d")
        assert (raised.value.code, raised.value.name) == (30, "PERMITS_EXHAUSTED")
        assert permit
        gate, _ = limiter(limit(scope=["project"]), max_counters=1)
        kept = gate.route("a", "d")
        with pytest.raises(tokenweir.CapacityError) as raised:
            gate.route("b", "d")
        assert raised.value.code == 31 and kept
        with pytest.raises(tokenweir.RequestError) as wrong:
            gate.admit("", "d")
        assert (wrong.value.code, wrong.value.name) == (10, "EMPTY_KEY")
        price = {"deployment": "other", "input": 1, "output": 1}
        cost = Limiter(policy(limit(meter="cost"), price=[price]))
        with pytest.raises(tokenweir.RequestError) as wrong:
            cost.admit("p", "d")
        assert wrong.value.code == 12

    def test_a_policy_error_has_every_problem(self, tmp_path: Path) -> None:
        text = '[[limit]]\nname = "x"\nmeter = "tokens"\nalgorithm = "bucket"\namount = 0\nper = "1m"\n'
        file = tmp_path / "policy.toml"
        file.write_text(text)
        with pytest.raises(tokenweir.PolicyError) as raised:
            Policy.from_file(file)
        error = raised.value
        assert (error.code, error.name, error.file) == (1, "POLICY_INVALID", str(file))
        assert [(p.line, p.limit) for p in error.problems] == [(3, "x"), (5, "x")]
        assert all(p.message and p.remedy for p in error.problems)
        assert str(error).startswith(f'{file}:3: limit "x": ')
        assert isinstance(error, ValueError) and isinstance(error, tokenweir.Error)
        again = pickle.loads(pickle.dumps(error))
        assert (str(again), again.code, again.problems) == (str(error), 1, error.problems)

    def test_files(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError) as raised:
            Policy.from_file(tmp_path / "none.toml")
        assert raised.value.filename == str(tmp_path / "none.toml")
        with pytest.raises(IsADirectoryError):
            (tmp_path / "folder.toml").mkdir()
            Policy.from_file(tmp_path / "folder.toml")
        with pytest.raises(ValueError, match=r"neither \.toml nor \.json"):
            Policy.from_file(tmp_path / "policy.yaml")
        (tmp_path / "bad.toml").write_bytes(b"\xff")
        with pytest.raises(ValueError, match="not UTF-8"):
            Policy.from_file(tmp_path / "bad.toml")
        (tmp_path / "good.json").write_text(json.dumps({"limit": [limit()]}))
        assert [each.name for each in Policy.from_file(str(tmp_path / "good.json")).limits] == ["tpm"]

    @pytest.mark.parametrize(
        ("options", "what"),
        [
            ({"clock": object()}, "clock is none of ours"),
            ({"observer": 5}, "observer cannot be called"),
            ({"max_counters": 0}, "max_counters is 0"),
            ({"max_permits": 0}, "max_permits is 0"),
            ({"max_routes": 0}, "max_routes is 0"),
            ({"when_full": "wait"}, "when_full is"),
            ({"permit_ttl": -1.0}, "permit_ttl is -1"),
            ({"permit_ttl": float("nan")}, "permit_ttl is NaN"),
        ],
    )
    def test_options_that_are_wrong_are_named(self, options: dict[str, Any], what: str) -> None:
        with pytest.raises((TypeError, ValueError), match=what):
            Limiter(policy(), **options)


class TestManners:
    def test_pickling_is_refused_with_the_next_step(self) -> None:
        gate, clock = limiter()
        permit, denial = gate.admit("p", "d", 1), gate.admit("p", "d", 601)
        things: list[object] = [
            gate,
            permit,
            denial,
            gate.route("p", "d"),
            clock,
            CoarseClock(),
            RecordRing(2),
            gate.policy,
        ]
        things.append(tokenweir.replay(gate.policy, b""))
        for thing in things:
            for way in (pickle.dumps, copy.copy, copy.deepcopy):
                with pytest.raises(TypeError, match="cannot pickle"):
                    way(thing)
        assert pickle.loads(pickle.dumps(Now(1, 2))) == Now(1, 2)

    def test_reprs_help(self) -> None:
        gate, clock = limiter()
        permit = admitted(gate.admit("p", "d", 100))
        assert repr(permit) == f"<Permit {permit.id} open>"
        assert repr(gate) == "<Limiter: 1 limits, 1 counters, 1 open permits>"
        assert repr(permit.settle(1, 2)) == (
            f"Settlement(id={permit.id}, outcome='settled', input=1, cached_input=0, output=2, estimated=False)"
        )
        assert repr(permit) == f"<Permit {permit.id} ended>"
        assert repr(gate.policy) == '<Policy of 1 limits: "tpm">'
        assert repr(gate.policy.limits[0]).startswith("Limit(name='tpm', meter='total', algorithm='bucket'")
        assert "never_fits=True" in repr(gate.admit("p", "d", 601))
        assert repr(clock) == "ManualClock(Now(mono=0, wall=0))"
        assert repr(gate.usage()).startswith("[CounterUsage(limit='tpm'")

    def test_everything_has_a_docstring(self) -> None:
        def documented(thing: Any, where: str) -> None:
            assert (thing.__doc__ or "").strip(), where

        for name in tokenweir.__all__:
            thing = getattr(tokenweir, name)
            if name == "__version__":
                continue
            documented(thing, name)
            for member, value in vars(thing).items() if isinstance(thing, type) else ():
                if not member.startswith("_") and (callable(value) or type(value).__name__ == "getset_descriptor"):
                    documented(value, f"{name}.{member}")

    def test_values_are_read_only(self) -> None:
        with pytest.raises(AttributeError):
            Now(1, 2).mono = 3  # type: ignore[misc]

    def test_clocks(self) -> None:
        clock = ManualClock(Now(5, -7))
        clock.advance(1.5)
        assert clock.now() == Now(1_500_000_005, 1_499_999_993)
        clock.set(Now(1, 1))
        assert Limiter(policy(), clock=clock).now() == Now(1, 1) == Now.at(1)
        assert hash(Now(1, 1)) == hash(Now.at(1)) and Now(1, 1) != Now(1, 2)
        with pytest.raises(ValueError):
            clock.advance(-1)
        coarse = CoarseClock()
        first = coarse.now()
        assert Limiter(policy(), clock=coarse).now() == first
        while coarse.now() == first:
            coarse.tick()
        assert coarse.now().mono > first.mono

    def test_permits_and_callbacks_at_exit_do_no_harm(self) -> None:
        code = """if True:
            import tokenweir
            limit = dict(name="l", meter="total", algorithm="bucket", amount=5, per="1m")
            told = lambda record: print(record.event)
            gate = tokenweir.Limiter(tokenweir.Policy.from_dict({"limit": [limit]}), observer=told)
            permit = gate.admit("p", "d", 1)
        """
        done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("admitted")


class TestObservers:
    def test_a_ring_is_polled(self) -> None:
        ring = RecordRing(100)
        gate, clock = limiter(observer=ring)
        permit = admitted(gate.admit("p", "d", 100, 50))
        clock.advance(1)
        permit.settle(10, 5, cached_input=3)
        gate.admit("p", "d", 601)
        records = []
        while (record := ring.poll()) is not None:
            records.append(record)
        assert [record.event for record in records] == ["admitted", "settled", "denied"]
        first, second, third = records
        assert (first.project, first.deployment, first.permit, first.at) == ("p", "d", permit.id, Now(0, 0))
        assert (first.estimate.input, first.estimate.output) == (100, 50)
        assert second.settlement is not None and second.usage is not None and second.at == Now(SECOND, SECOND)
        assert (second.settlement.input, second.usage.cached_input) == (10, 3)
        assert third.denial is not None and third.denial.never_fits and third.permit is None

    def test_a_full_ring_counts_what_it_loses(self) -> None:
        ring = RecordRing(2)
        gate, _ = limiter(observer=ring)
        for _ in range(3):
            admitted(gate.admit("p", "d")).cancel()
        assert (ring.capacity, ring.lost) == (2, 4)

    def test_a_callback_is_told_on_the_thread_that_decides(self) -> None:
        told: list[tuple[str, int]] = []
        gate, _ = limiter(observer=lambda record: told.append((record.event, threading.get_ident())))
        admitted(gate.admit("p", "d")).cancel()
        assert told == [("admitted", threading.get_ident()), ("settled", threading.get_ident())]

    def test_what_a_callback_raises_does_not_reach_the_call(self, monkeypatch: pytest.MonkeyPatch) -> None:
        raised: list[Any] = []
        monkeypatch.setattr(sys, "unraisablehook", lambda args: raised.append(args.exc_type))

        def broken(record: Record) -> None:
            raise KeyError("mine")

        gate, _ = limiter(observer=broken)
        assert gate.admit("p", "d")
        gc.collect()
        assert raised == [KeyError, KeyError]

    def test_a_callback_may_call_the_limiter(self) -> None:
        gates: list[Limiter] = []
        seen: list[int] = []
        gate, _ = limiter(observer=lambda record: seen.append(gates[0].stats().permits_open))
        gates.append(gate)
        admitted(gate.admit("p", "d")).cancel()
        assert seen == [1, 0]

    def test_a_permit_dropped_by_an_exception_is_told_and_the_exception_goes_on(self) -> None:
        told: list[str] = []
        gate, _ = limiter(observer=lambda record: told.append(record.event))

        def work() -> None:
            permit = gate.admit("p", "d", 1)
            assert permit
            raise KeyError("mine")

        try:
            work()
        except KeyError as error:
            assert str(error) == "'mine'"
        gc.collect()
        assert told == ["admitted", "settled"]

    def test_cycles_through_a_callback_are_collected(self) -> None:
        class Host:
            def __init__(self) -> None:
                self.gate = Limiter(policy(), observer=self.told)
                self.permits: list[Permit | Denial] = []
                self.route = self.gate.route("p", "d")
                self.gate.host = self  # type: ignore[attr-defined]

            def told(self, record: Record) -> None:
                pass

        host = Host()
        host.permits += [host.gate.admit("p", "d", 1), host.route.admit(1)]
        gone = weakref.ref(host)
        del host
        gc.collect()
        assert gone() is None


class TestReplay:
    TRACE = (
        b'{"at": 0, "project": "s", "deployment": "g", "estimate": {"input": 500}, "duration": 2}\n'
        b'{"at": 1.5, "project": "s", "deployment": "g", "estimate": {"input": 400}, "usage": {"input": 400, "output": 1}}\n'
    )

    def test_rows(self, tmp_path: Path) -> None:
        rows = list(tokenweir.replay(policy(), self.TRACE))
        assert [bool(row) for row in rows] == [True, False]
        second = rows[1]
        assert (second.line, second.at_ns, second.status, second.limit) == (2, 1_500_000_000, 429, "tpm")
        assert (second.refused_by, second.retry_after, second.never_fits) == (["tpm"], 28.5, False)
        assert (second.remaining, second.shadow_refused) == ({"tpm": 115}, [])
        assert json.loads(second.json)["retry_after"] == 28.5
        file = tmp_path / "trace.jsonl"
        file.write_bytes(self.TRACE)
        assert [row.json for row in tokenweir.replay(policy(), file)] == [row.json for row in rows]

    def test_the_first_wrong_line_ends_it(self) -> None:
        rows = tokenweir.replay(policy(), self.TRACE + b"{}\n")
        with pytest.raises(tokenweir.TraceError, match='line 3: the field "at" is missing') as raised:
            list(rows)
        assert (raised.value.line, raised.value.code, raised.value.name) == (3, 50, "TRACE_INVALID")
        need = policy(limit(scope=["key:user"], require=True))
        with pytest.raises(tokenweir.TraceError, match="line 1: ") as raised:
            list(tokenweir.replay(need, self.TRACE))
        assert isinstance(raised.value.__cause__, tokenweir.RequestError)
        assert (raised.value.code, raised.value.name) == (11, "KEY_MISSING")

    def test_the_azure_format(self) -> None:
        trace = b"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,500,10\n"
        [row] = tokenweir.replay(policy(), trace, format="azure-llm", estimate_output="4x")
        assert row.admitted and row.remaining == {"tpm": 60}

    @pytest.mark.parametrize(
        ("options", "what"),
        [
            ({"format": "csv"}, "format is"),
            ({"start": "yesterday"}, "start "),
            ({"format": "azure-llm", "start": "2026-01-01T00:00:00Z"}, "start is of no use"),
            ({"format": "azure-llm", "estimate_output": "x"}, "estimate_output"),
            ({"format": "azure-llm", "project": ""}, "empty"),
            ({"format": "azure-llm", "duration": -1.0}, "duration"),
        ],
    )
    def test_options_that_are_wrong_are_named(self, options: dict[str, Any], what: str) -> None:
        with pytest.raises(ValueError, match=what):
            tokenweir.replay(policy(), b"", **options)

    def test_files(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            tokenweir.replay(policy(), tmp_path / "none.jsonl")
        with pytest.raises(TypeError):
            tokenweir.replay(policy(), 5)  # type: ignore[arg-type]


class TestThreads:
    def test_what_all_threads_take_and_settle_adds_up(self) -> None:
        gate = Limiter(policy(limit(algorithm="quota", amount=10_000, period="never", per=None, scope=["project"])))
        route = gate.route("p", "d")
        start = threading.Barrier(8)
        admissions: list[int] = []

        def work(seed: int) -> None:
            start.wait()
            passed = 0
            for turn in range(2_000):
                decision = route.admit(3, 2) if turn % 2 else gate.admit("p", "d", 3, 2)
                if isinstance(decision, Permit):
                    passed += 1
                    if (turn + seed) % 3 == 0:
                        decision.settle(1, 1)
                    elif (turn + seed) % 3 == 1:
                        decision.cancel()
                    else:
                        gate.settle(decision.detach(), 3, 2)
            admissions.append(passed)

        run_all([lambda seed=seed: work(seed) for seed in range(8)])  # type: ignore[misc]
        [counter] = gate.usage()
        assert counter.used == counter.settled_total <= 10_000 and counter.held == 0
        assert len(admissions) == 8 and gate.stats().permits_open == 0

    def test_one_permit_is_settled_by_one_thread(self) -> None:
        gate, _ = limiter()
        for _ in range(200):
            permit = admitted(gate.admit("p", "d", 10))
            start = threading.Barrier(4)
            won: list[int] = []

            def settle(permit: Permit = permit, start: threading.Barrier = start, won: list[int] = won) -> None:
                start.wait()
                try:
                    permit.settle(0, 0)
                    won.append(1)
                except tokenweir.PermitError:
                    pass

            run_all([settle] * 4)
            assert won == [1]

    def test_policies_change_while_traffic_flows(self) -> None:
        gate = Limiter(policy(), observer=lambda record: None)
        stop = threading.Event()

        def traffic() -> None:
            while not stop.is_set():
                decision = gate.admit("p", "d", 1)
                if isinstance(decision, Permit):
                    decision.cancel()

        def change() -> None:
            for turn in range(200):
                gate.swap_policy(policy(limit(amount=600 + turn)))

        changers = [threading.Thread(target=change) for _ in range(3)]
        workers = [threading.Thread(target=traffic) for _ in range(3)]
        for thread in [*workers, *changers]:
            thread.start()
        for thread in changers:
            thread.join()
        stop.set()
        for thread in workers:
            thread.join()
        assert (gate.stats().permits_open, gate.usage()[0].held, gate.usage()[0].settled_total) == (0, 0, 0)

    def test_rows_may_be_read_by_many_threads(self) -> None:
        lines = [b'{"at": %d, "project": "s", "deployment": "g"}\n' % number for number in range(2_000)]
        rows = tokenweir.replay(policy(), b"".join(lines))
        seen: list[int] = []
        run_all([lambda: seen.extend(row.line for row in rows)] * 4)
        assert sorted(seen) == list(range(1, 2_001))


def run_all(tasks: list[Callable[[], Any]]) -> None:
    threads = [threading.Thread(target=task) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
