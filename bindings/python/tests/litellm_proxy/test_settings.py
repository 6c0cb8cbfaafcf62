"""The callback's settings, and what a limit sees of a caller; by its hooks, with the proxy's own class of callers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
import tokenweir.litellm
from fastapi import HTTPException
from litellm.proxy._types import ProxyException, UserAPIKeyAuth
from tokenweir._litellm_usage import estimate

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
DATA = {"litellm_call_id": "1", "model": "m", "messages": [{"role": "user", "content": "x" * 9}]}
"""10 tokens of input: 3 for the text, 4 for the message, 3 for the request."""


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
    assert amounts(gate(default_output=0)) == {"input": 10, "output": 0}


@pytest.mark.parametrize(
    ("bound", "output"),
    [
        (1e4, 10_000),
        ("1e4", 10_000),
        (10.2, 11),
        ("12", 12),
        (0, 0),
        (10**30, 2**53),
        ("9" * 5_000, 2**53),
        (float("inf"), 2**53),
        (float("nan"), 2**53),
        (-1, 1024),
        (True, 1024),
        ("many", 1024),
    ],
)
def test_a_bound_is_read_however_it_is_written_and_on_the_strict_side(bound: Any, output: int) -> None:
    for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
        assert estimate(DATA | {name: bound}, "acompletion", 1024) == (10, output)
    for place in ("config", "generationConfig"):
        assert estimate(DATA | {place: {"maxOutputTokens": bound}}, "agenerate_content", 1024) == (10, output)


def test_a_number_of_answers_is_read_however_it_is_written() -> None:
    for count in (3, 3.0, 2.5, "3"):
        assert estimate(DATA | {"n": count, "max_tokens": 5}, "acompletion", 1024) == (10, 15)
    assert estimate(DATA | {"n": 10**30}, "acompletion", 1024) == (10, 2**53)


TEXT = "x" * 4_000


@pytest.mark.parametrize("name", ["image_url", "input_audio", "file", "source", "image", "other"])
@pytest.mark.parametrize("value", [1, {}, [], "u", {"text": "u"}])
def test_no_field_beside_a_text_hides_it(name: str, value: Any) -> None:
    for message in ({"content": TEXT}, {"content": [{"type": "text", "text": TEXT, name: value}]}):
        messages = [{"role": "user", name: value} | message]
        assert estimate({"messages": messages}, "acompletion", 0)[0] >= 1_000


def test_a_tool_s_parameters_are_json_whatever_they_are_called() -> None:
    properties = {name: {"type": "string"} for name in ("file", "source", "image", "image_url", "input_audio")}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": properties}}}
    counted = estimate(DATA | {"tools": [tool]}, "acompletion", 0)[0]
    assert 10 < counted <= 10 + len(str(tool)) // 4 + 1


def test_a_document_of_text_counts_by_its_text() -> None:
    source = {"type": "text", "media_type": "text/plain", "data": TEXT * 10}
    messages = [{"role": "user", "content": [{"type": "document", "source": source}]}]
    assert estimate({"messages": messages}, "anthropic_messages", 0)[0] >= 10_000


def test_an_image_counts_as_one_and_not_by_its_bytes() -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
    assert 1_000 <= estimate({"messages": [{"role": "user", "content": [part]}]}, "acompletion", 0)[0] <= 2_000


def test_each_of_several_prompts_has_an_answer() -> None:
    assert estimate({"prompt": [TEXT, TEXT]}, "atext_completion", 100) == (2_000, 200)
    assert estimate({"prompt": [TEXT, TEXT], "max_tokens": 5}, "atext_completion", 100) == (2_000, 10)
    assert estimate({"input": [TEXT, TEXT]}, "aembedding", 100) == (2_000, 0)
    assert estimate({"prompt": TEXT}, "aimage_generation", 100) == (1_000, 0)
    assert estimate({"file_id": "f"}, "afile_content", 100) == (0, 0), "it takes no tokens"


def test_what_cannot_be_read_is_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for content in (circle, deep, [float("nan")]):
        with pytest.raises(HTTPException) as refused:
            held(gate(), messages=[{"role": "user", "content": content}])
        assert refused.value.status_code == 400
        content.clear()


@pytest.mark.parametrize("model", ["a,b", "b, a", "m,", ["a", "b"], {"a": 1}, 7])
@pytest.mark.parametrize("kind", ["acompletion", "aembedding", "aresponses", "anthropic_messages"])
def test_several_models_are_refused_and_nothing_is_counted(model: Any, kind: str) -> None:
    its = gate(quota("requests", scope=["deployment"]))

    async def scene() -> None:
        with pytest.raises(ProxyException, match="name one model in each request") as refused:
            await its.async_pre_call_hook(CALLER, None, DATA | {"model": model}, kind)
        assert (refused.value.code, refused.value.param) == ("400", "model")

    asyncio.run(scene())
    assert its.limiter.usage() == [] and its.limiter.stats().permits_open == 0


def test_a_model_of_the_proxy_may_have_a_comma_where_the_proxy_does_not_split_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from litellm.proxy import proxy_server

    monkeypatch.setattr(proxy_server, "llm_router", SimpleNamespace(model_names=["a,b"]))
    its = gate(quota("requests", scope=["deployment"]))

    async def scene() -> None:
        await its.async_pre_call_hook(CALLER, None, DATA | {"model": "a,b"}, "aembedding")
        assert [counter.scope["deployment"] for counter in its.limiter.usage()] == ["a,b"]
        for model, kind in (("a,b", "acompletion"), ("b,a", "aembedding")):
            with pytest.raises(ProxyException):
                await its.async_pre_call_hook(CALLER, None, DATA | {"model": model}, kind)

    asyncio.run(scene())


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
