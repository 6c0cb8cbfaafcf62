"""The decision files in golden/ (their format: golden/README.md) give the same decisions here as in Rust and C."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenweir
from tokenweir import Limiter, ManualClock, Now, Policy

FOLDER = Path(__file__).resolve().parents[3] / "golden"
SCRIPTS = sorted(FOLDER.glob("*.json"))

Json = dict[str, Any]
SETS = ("refused_by", "shadow_refused", "applied", "skipped")


def name(value: str | Json) -> str | bytes:
    return bytes.fromhex(value["hex"]) if isinstance(value, dict) else value


def request(step: Json) -> Json:
    asked = step["request"]
    keys = {key: name(value) for key, value in asked.get("keys", {}).items()}
    return {
        "project": name(asked["project"]),
        "deployment": name(asked["deployment"]),
        "keys": keys or None,
        "input": step["estimate"]["input"],
        "output": step["estimate"]["output"],
    }


def settled(settlement: tokenweir.Settlement) -> Json:
    return {field: getattr(settlement, field) for field in ("outcome", "input", "cached_input", "output", "estimated")}


class Run:
    def __init__(self, script: Json) -> None:
        options = script.get("options", {})
        self.limiter = Limiter(
            Policy.from_dict(script["policy"]),
            clock=ManualClock(),
            permit_ttl=options.get("permit_ttl", 600_000_000_000) / 1e9,
            max_counters=options.get("max_counters", 100),
        )
        self.permits: dict[str, tokenweir.Permit] = {}

    def id(self, step: Json) -> int:
        return 2**64 - 1 if step["permit"] == "unknown" else self.permits[step["permit"]].id

    def admit(self, step: Json, now: Now) -> Json:
        decision = self.limiter.admit(**request(step), now=now)
        if decision:
            self.permits[step["as"]] = decision
            return {
                "decision": "admitted",
                "remaining": decision.remaining(now=now),
                "shadow_refused": set(decision.shadow_refused()),
            }
        return {
            "decision": "denied",
            "status": decision.status,
            "limit": decision.limit,
            "refused_by": {refusal.limit for refusal in decision.refusals},
            "retry_after_ns": decision.retry_after_ns,
            "never_fits": decision.never_fits,
            "remaining": decision.remaining,
        }

    def settle(self, step: Json, now: Now) -> Json:
        if len(self.permits) % 2 and step["permit"] in self.permits:
            return settled(self.permits[step["permit"]].settle(**step["usage"], now=now))
        return settled(self.limiter.settle(self.id(step), **step["usage"], now=now))

    def cancel(self, step: Json, now: Now) -> Json:
        return settled(self.limiter.cancel(self.id(step), now=now))

    def abandon(self, step: Json, now: Now) -> Json:
        return settled(self.limiter.abandon(self.id(step), now=now))

    def observe(self, step: Json, now: Now) -> Json:
        return {"spent": self.limiter.observe(self.id(step), step["input"], step["output"], now=now)}

    def renew(self, step: Json, now: Now) -> Json:
        self.limiter.renew(self.id(step), step["ttl"] / 1e9, now=now)
        return {}

    def peek(self, step: Json, now: Now) -> Json:
        peek = self.limiter.peek(**request(step), now=now)
        fields = ("charge", "amount", "remaining", "fits", "never_fits", "wait_ns")
        expected = step["expect"].get("limits", {})
        limits = {
            view.limit: {field: getattr(view, field) for field in fields if field in expected[view.limit]}
            for view in peek.limits
            if view.limit in expected
        }
        return {"admitted": peek.admitted, "limits": limits}

    def explain(self, step: Json, now: Now) -> Json:
        explanation = self.limiter.explain(**request(step), now=now)
        return {
            "applied": {applied.view.limit for applied in explanation.applied},
            "skipped": {skipped.limit for skipped in explanation.skipped},
        }

    def usage(self, step: Json, now: Now) -> Json:
        expected = list(step["expect"]["counters"])
        found = []
        for counter in self.limiter.usage(now=now):
            scope = {part: value.encode("utf-8", "surrogateescape") for part, value in counter.scope.items()}
            for wanted in expected:
                values = {part: name(value) for part, value in wanted["scope"].items()}
                same = {part: v if isinstance(v, bytes) else v.encode() for part, v in values.items()} == scope
                if wanted["limit"] == counter.limit and same:
                    found.append({field: getattr(counter, field) for field in wanted if field != "scope"})
                    found[-1]["scope"] = wanted["scope"]
                    break
            else:
                assert (counter.used, counter.held, counter.settled_total) == (0, 0, 0), f"{counter} is not listed"
        key = lambda counter: json.dumps(counter, sort_keys=True)  # noqa: E731
        assert sorted(map(key, found)) == sorted(map(key, expected))
        return {"counters": expected}

    def swap(self, step: Json, now: Now) -> Json:
        self.limiter.swap_policy(Policy.from_dict(step["policy"]), now=now)
        return {}

    def sweep(self, step: Json, now: Now) -> Json:
        self.limiter.sweep(now=now)
        return {}

    def step(self, step: Json) -> None:
        now = Now(step["at"]["mono"], step["at"]["wall"])
        try:
            found = getattr(self, step["op"])(step, now)
        except tokenweir.Error as error:
            found = {"error": error.code}
        expect = step.get("expect", {})
        assert "error" not in found or "error" in expect, found
        for field, value in expect.items():
            assert found.get(field) == (set(value) if field in SETS and value is not None else value), field


def run(script: Json) -> None:
    run = Run(script)
    for number, step in enumerate(script["steps"]):
        try:
            run.step(step)
        except Exception as error:
            raise AssertionError(f"step {number}: {step}") from error


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 48


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.stem))
def test_script_comes_out_as_it_says(path: Path) -> None:
    run(json.loads(path.read_text()))


@pytest.mark.parametrize(
    "expect",
    [
        {"decision": "denied"},
        {"decision": "admitted", "remaining": {"q": 8}},
        {"decision": "admitted", "remaining": {}},
        {"decision": "admitted", "shadow_refused": ["q"]},
        {"error": 10},
    ],
)
def test_a_wrong_expectation_fails(expect: Json) -> None:
    limit = {"name": "q", "meter": "total", "algorithm": "quota", "amount": 10, "period": "daily"}
    step = {
        "op": "admit",
        "at": {"mono": 0, "wall": 0},
        "request": {"project": "p", "deployment": "d"},
        "estimate": {"input": 1, "output": 2},
        "as": "a",
    }
    script = {"policy": {"limit": [limit]}, "steps": [step]}
    run({**script, "steps": [{**step, "expect": {"decision": "admitted", "remaining": {"q": 7}}}]})
    with pytest.raises(AssertionError):
        run({**script, "steps": [{**step, "expect": expect}]})
