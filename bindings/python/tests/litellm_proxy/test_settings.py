"""The callback's settings, and what a limit sees of a caller; by its hooks, with the proxy's own class of callers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import tokenweir.litellm
from fastapi import HTTPException
from litellm.proxy._types import UserAPIKeyAuth

pytestmark = pytest.mark.filterwarnings("ignore")

NAMES = ["key", "key_alias", "team", "team_alias", "user", "end_user", "org", "project", "agent", "tier", "region"]
CALLER = UserAPIKeyAuth(
    api_key="hash",
    key_alias="alias of key",
    team_id="t",
    team_alias="alias of team",
    user_id="u",
    end_user_id="e",
    org_id="o",
    project_id="p",
    agent_id="a",
    metadata={"tier": "gold"},
    team_metadata={"tier": "team's", "region": "north"},
)
DATA = {"litellm_call_id": "1", "model": "m", "messages": [{"role": "user", "content": "x" * 25}]}
"""40 bytes."""


def quota(meter: str, amount: int = 10**6, **more: Any) -> dict[str, Any]:
    return {"name": meter, "meter": meter, "algorithm": "quota", "amount": amount, "period": "never"} | more


def gate(*limits: dict[str, Any], **settings: Any) -> tokenweir.litellm.Gate:
    own = limits or tuple(map(quota, ("requests", "input", "output")))
    return tokenweir.litellm.Gate({"policy": {"limit": list(own)}} | settings)


async def admit(gate: tokenweir.litellm.Gate, caller: Any = CALLER, **data: Any) -> None:
    await gate.async_pre_call_hook(caller, None, DATA | data, "acompletion")


def held(gate: tokenweir.litellm.Gate, caller: Any = CALLER, **data: Any) -> list[tokenweir.CounterUsage]:
    """The counters while a request is under way."""

    async def scene() -> list[tokenweir.CounterUsage]:
        await admit(gate, caller, **data)
        return gate.limiter.usage()

    return asyncio.run(scene())


def amounts(gate: tokenweir.litellm.Gate, **data: Any) -> dict[str, int]:
    return {counter.limit: counter.held for counter in held(gate, **data) if counter.limit != "requests"}


def test_a_limit_sees_all_that_the_proxy_knows_of_the_caller() -> None:
    scope = held(gate(quota("requests", scope=[f"key:{name}" for name in NAMES])))[0].scope
    assert {name.removeprefix("key:"): value for name, value in scope.items()} == {
        "key": CALLER.api_key,
        "key_alias": "alias of key",
        "team": "t",
        "team_alias": "alias of team",
        "user": "u",
        "end_user": "e",
        "org": "o",
        "project": "p",
        "agent": "a",
        "tier": "gold",
        "region": "north",
    }


@pytest.mark.parametrize(
    ("project", "found"), [("team", "t"), ("org", "o"), (["agent", "team"], "a"), (["user"], "u")]
)
def test_the_project_is_what_the_settings_say(project: Any, found: str) -> None:
    assert held(gate(quota("requests", scope=["project"]), project=project))[0].scope == {"project": found}


def test_a_caller_without_any_of_it_falls_back() -> None:
    limits = quota("requests", scope=["project", "deployment"])
    keyed = UserAPIKeyAuth(api_key="hash")
    assert held(gate(limits), keyed)[0].scope == {"project": keyed.api_key, "deployment": "m"}
    nobody = UserAPIKeyAuth()
    scope = {"project": "anonymous", "deployment": "route:acompletion"}
    assert held(gate(limits), nobody, model=None)[0].scope == scope
    by_tier = gate(quota("requests", scope=["key:tier"]))
    assert held(by_tier, keyed) == [], "a limit by what the caller has not does not apply"


def test_the_estimate_is_as_the_settings_say() -> None:
    assert amounts(gate()) == {"input": 10, "output": 1024}
    assert amounts(gate(default_output=7)) == {"input": 10, "output": 7}
    assert amounts(gate(default_output=7), max_tokens=3, n=2) == {"input": 10, "output": 6}
    assert amounts(gate(bytes_per_token=20, default_output=0)) == {"input": 2, "output": 0}


class Failed(Exception):
    """As LiteLLM raises it when a provider has failed."""

    status_code = 500
    llm_provider = "openai"


@pytest.mark.parametrize(
    ("settings", "settled"),
    [
        ({}, {"requests": 1, "input": 0, "output": 0}),
        ({"failed": "request"}, {"requests": 1, "input": 0, "output": 0}),
        ({"failed": "nothing"}, {"requests": 0, "input": 0, "output": 0}),
        ({"failed": "estimate"}, {"requests": 1, "input": 10, "output": 1024}),
    ],
)
def test_a_failed_call_counts_as_the_settings_say(settings: dict[str, str], settled: dict[str, int]) -> None:
    its = gate(**settings)

    async def scene() -> None:
        await admit(its)
        await its.async_post_call_failure_hook(DATA, Failed(), CALLER)

    asyncio.run(scene())
    assert its.limiter.stats().permits_open == 0
    assert {counter.limit: counter.settled_total for counter in its.limiter.usage()} == settled


@pytest.mark.parametrize(("cut", "passed"), [(True, 4), (False, 9)])
def test_a_stream_is_cut_if_the_settings_say_so(cut: bool, passed: int) -> None:
    its = gate(quota("output", 5), cut_streams=cut)

    async def words() -> AsyncIterator[Any]:
        for _ in range(9):
            yield {"choices": [{"delta": {"content": "four"}}]}

    async def scene() -> int:
        await admit(its, max_tokens=2)
        stream = its.async_post_call_streaming_iterator_hook(CALLER, words(), DATA)
        return len([word async for word in stream])

    assert asyncio.run(scene()) == passed
    # The word by which the limit is spent is charged and not passed on.
    assert its.limiter.usage()[0].used == (5 if cut else 9)


@pytest.mark.parametrize("headers", [True, False])
def test_headers_and_refusals_say_what_is_left_if_the_settings_say_so(headers: bool) -> None:
    its = gate({"name": "rpm", "meter": "requests", "algorithm": "window", "amount": 1, "per": "1m"}, headers=headers)

    async def scene() -> tuple[Any, Any]:
        await admit(its)
        said = await its.async_post_call_response_headers_hook(DATA, CALLER, None)
        with pytest.raises(HTTPException) as refused:
            await asyncio.create_task(admit(its, litellm_call_id="2"))
        return said, refused.value

    said, refusal = asyncio.run(scene())
    left = {"limit": "1", "remaining": "0", "reset": "1m1s"}
    left = {f"x-ratelimit-{what}-requests": value for what, value in left.items()}
    assert said == (left if headers else None)
    told = dict(refusal.headers)
    assert (refusal.status_code, told.pop("retry-after")) in ((429, "60"), (429, "61"))
    assert told == {"x-tokenweir-limit": "rpm"} | (left if headers else {})


def test_a_full_table_is_503() -> None:
    its = gate(max_permits=1)

    async def scene() -> int:
        await admit(its)
        with pytest.raises(HTTPException) as refused:
            await asyncio.create_task(admit(its, litellm_call_id="2"))
        return refused.value.status_code

    assert asyncio.run(scene()) == 503


def test_a_refusal_speaks_of_the_policy_that_refused() -> None:
    """Also where another is in force by the time it is written down."""
    its = gate({"name": "l", "meter": "requests", "algorithm": "window", "amount": 1, "per": "1m"})
    assert its.limiter.admit("t", "m")
    denial = its.limiter.admit("t", "m")
    assert isinstance(denial, tokenweir.Denial)
    other = {"name": "l", "meter": "total", "algorithm": "window", "amount": 9, "per": "1m"}
    its.limiter.swap_policy(tokenweir.Policy.from_dict({"limit": [other]}))
    refusal: Any = its._refusal(denial, "m", "acompletion")
    assert refusal.headers["x-ratelimit-limit-requests"] == "1"
    assert refusal.rate_limit_type == "requests"
