"""The callback in LiteLLM's real proxy: every way a request can end, ends its permit, and with the right numbers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import tokenweir
from serving import Provider, model, proxy, serving
from waiting import until

pytestmark = pytest.mark.filterwarnings("ignore")

POLICY = """
    [[limit]]
    name = "requests"
    meter = "requests"
    algorithm = "quota"
    amount = 1_000_000
    period = "never"
    scope = ["key:key"]

    [[limit]]
    name = "input"
    meter = "input"
    algorithm = "quota"
    amount = 1_000_000
    period = "never"
    scope = ["key:key", "deployment"]

    [[limit]]
    name = "output"
    meter = "output"
    algorithm = "quota"
    amount = 1_000_000
    period = "never"
    scope = ["key:key"]

    [[limit]]
    name = "uncached"
    meter = "input"
    algorithm = "quota"
    amount = 1_000_000
    period = "never"
    scope = ["key:key"]
    weights = { cached_input = 0 }

    [[limit]]
    name = "team at once"
    meter = "in_flight"
    algorithm = "in_flight"
    amount = 3
    scope = ["project"]
    match = { project = "narrow" }

    [[limit]]
    name = "free rpm"
    meter = "requests"
    algorithm = "window"
    amount = 2
    per = "1m"
    scope = ["key:key"]
    match = { "key:tier" = "free" }

    [[limit]]
    name = "small tpm"
    meter = "total"
    algorithm = "bucket"
    amount = 6_000
    per = "1m"
    scope = ["key:key"]
    match = { "key:tier" = "small" }

    [[limit]]
    name = "trial"
    meter = "requests"
    algorithm = "quota"
    amount = 1
    period = "monthly"
    scope = ["key:key"]
    match = { "key:tier" = "trial" }
"""


class Proxied:
    def __init__(self, address: str, provider: Provider) -> None:
        import tokenweir.litellm

        self.provider = provider
        self.gate = tokenweir.litellm.gate
        self.limiter = self.gate.limiter
        self.http = httpx.Client(base_url=address, timeout=60)
        self.address = address

    def post(self, key: str, path: str = "/v1/chat/completions", **body: Any) -> httpx.Response:
        return self.http.post(path, headers={"authorization": f"Bearer {key}"}, json=body)

    def chat(self, key: str, model: str = "ok", **body: Any) -> httpx.Response:
        return self.post(key, model=model, messages=[{"role": "user", "content": "hello"}], **body)

    def settled(self, key: str) -> dict[str, int]:
        """What a key's counters have settled, by limit, once nothing is held."""
        until(lambda: self.limiter.stats().permits_open == 0, f"nothing is held: {self.limiter!r}")
        totals: dict[str, int] = {}
        for counter in self.limiter.usage(scope={"key:key": key}):
            totals[counter.limit] = totals.get(counter.limit, 0) + counter.settled_total
        return totals


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    folder = tmp_path_factory.mktemp("proxy")
    (folder / "policy.toml").write_text(POLICY)
    provider = Provider()
    with serving(provider.app, "/alive") as upstream:
        names = ["ok", "fails", "no-usage", "breaks", "embedding", "flaky-2", "first"]
        config = {
            "model_list": [model(name, upstream, "fails" if name == "first" else name) for name in names],
            "router_settings": {"fallbacks": [{"first": ["ok"]}], "num_retries": 0, "disable_cooldowns": True},
            "litellm_settings": {"callbacks": ["tokenweir.litellm.gate"], "num_retries": 0},
            "callback_settings": {"tokenweir": {"policy": "policy.toml", "default_output": 100}},
        }
        config["model_list"].append(model("mocked", upstream, mock_response="a mock response"))
        config["model_list"].append(model("retried", upstream, "flaky-2", max_retries=0))
        with proxy(folder, config) as address:
            proxied = Proxied(address, provider)
            yield proxied
            proxied.http.close()


def test_an_answer_settles_with_its_usage(proxied: Proxied) -> None:
    answer = proxied.chat("t.plain")
    assert answer.status_code == 200
    assert answer.headers["x-ratelimit-remaining-requests"] == "999999"
    assert answer.headers["x-ratelimit-limit-requests"] == "1000000"
    assert answer.headers["x-ratelimit-remaining-tokens"] == "999990"
    assert proxied.settled("plain") == {"requests": 1, "input": 10, "output": 7, "uncached": 6}


def test_a_mocked_answer_settles_with_what_litellm_counts(proxied: Proxied) -> None:
    usage = proxied.chat("t.mocked", "mocked").json()["usage"]
    settled = proxied.settled("mocked")
    assert settled["input"] == usage["prompt_tokens"] and settled["output"] == usage["completion_tokens"]


def test_an_answer_without_usage_leaves_the_estimate_or_what_litellm_counts(proxied: Proxied) -> None:
    usage = proxied.chat("t.silent", "no-usage", max_tokens=40).json().get("usage") or {}
    settled = proxied.settled("silent")
    assert settled["requests"] == 1
    # LiteLLM 1.108 writes usage of 0 tokens where the provider has sent none.
    assert settled["output"] == usage.get("completion_tokens", 40)


def stream(proxied: Proxied, key: str, model: str = "ok", **body: Any) -> str:
    return proxied.chat(key, model, stream=True, **body).text


def test_a_stream_settles_with_what_litellm_counts(proxied: Proxied) -> None:
    assert stream(proxied, "t.streams", "no-usage").count("word") == 20
    settled = proxied.settled("streams")
    # The provider has said no usage; LiteLLM has counted 20 words, and "hello" as a prompt.
    assert settled["requests"] == 1 and 15 <= settled["output"] <= 40 and 1 <= settled["input"] <= 20


def test_a_stream_that_says_its_usage_settles_with_it(proxied: Proxied) -> None:
    assert '"prompt_tokens":10' in stream(proxied, "t.says", stream_options={"include_usage": True})
    assert proxied.settled("says") == {"requests": 1, "input": 10, "output": 7, "uncached": 6}


def test_a_client_that_leaves_pays_for_what_has_streamed(proxied: Proxied) -> None:
    proxied.provider.pause = 0.05
    try:
        with httpx.stream(
            "POST",
            proxied.address + "/v1/chat/completions",
            headers={"authorization": "Bearer t.leaves"},
            json={
                "model": "ok",
                "stream": True,
                "max_tokens": 500,
                "messages": [{"role": "user", "content": "x" * 80}],
            },
        ) as response:
            lines = (line for line in response.iter_lines() if "word" in line)
            for _ in range(5):
                next(lines)
            assert proxied.limiter.stats().permits_open == 1
        settled = proxied.settled("leaves")
    finally:
        proxied.provider.pause = 0.0
    assert settled["requests"] == 1
    assert 5 <= settled["output"] <= 19, settled
    assert 15 <= settled["input"] <= 30, settled


def test_a_client_that_leaves_before_the_first_word_holds_nothing(proxied: Proxied) -> None:
    proxied.provider.pause = 0.5
    try:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                proxied.address + "/v1/chat/completions",
                headers={"authorization": "Bearer t.early"},
                json={"model": "ok", "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]},
                timeout=0.1,
            )
        settled = proxied.settled("early")
    finally:
        proxied.provider.pause = 0.0
    assert settled["requests"] == 1


def test_a_stream_that_breaks_pays_for_what_has_streamed(proxied: Proxied) -> None:
    stream(proxied, "t.breaks", "breaks", max_tokens=500)
    settled = proxied.settled("breaks")
    assert settled["requests"] == 1 and settled["output"] <= 10, settled


def test_a_failed_call_counts_as_a_request_and_takes_no_tokens(proxied: Proxied) -> None:
    assert proxied.chat("t.fails", "fails", max_tokens=500).status_code == 500
    assert proxied.settled("fails") == {"requests": 1, "input": 0, "output": 0, "uncached": 0}


def test_retries_are_one_request_and_keep_its_permit(proxied: Proxied) -> None:
    before = proxied.provider.calls["flaky-2"]
    answer = proxied.chat("t.retries", "retried", num_retries=3)
    assert answer.status_code == 200
    assert proxied.provider.calls["flaky-2"] - before == 3
    assert proxied.settled("retries") == {"requests": 1, "input": 10, "output": 7, "uncached": 6}


def test_fallbacks_are_one_request(proxied: Proxied) -> None:
    assert proxied.chat("t.falls", "first").status_code == 200
    assert proxied.settled("falls") == {"requests": 1, "input": 10, "output": 7, "uncached": 6}
    # The limits are those of the model that was asked for.
    counters = proxied.limiter.usage("input", {"key:key": "falls"})
    assert [counter.scope["deployment"] for counter in counters] == ["first"]


def test_embeddings_hold_no_output(proxied: Proxied) -> None:
    answer = proxied.post("t.embeds", "/v1/embeddings", model="embedding", input=["some text", [1, 2, 3]])
    assert answer.status_code == 200, answer.text
    assert proxied.settled("embeds") == {"requests": 1, "input": 9, "output": 0, "uncached": 9}


def test_the_responses_route_settles(proxied: Proxied) -> None:
    assert proxied.post("t.responds", "/v1/responses", model="ok", input="hello").status_code == 200
    assert proxied.settled("responds") == {"requests": 1, "input": 11, "output": 8, "uncached": 6}


def test_the_responses_route_streams(proxied: Proxied) -> None:
    answer = proxied.post("t.events", "/v1/responses", model="ok", input="hello", stream=True)
    assert answer.text.count('"delta":"word"') == 3, answer.text
    assert proxied.settled("events") == {"requests": 1, "input": 11, "output": 8, "uncached": 6}


def test_anthropic_messages_settle(proxied: Proxied) -> None:
    body = {"model": "ok", "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}
    assert proxied.post("t.claude", "/v1/messages", **body).status_code == 200
    # LiteLLM translates it to the Responses route.
    assert proxied.settled("claude") == {"requests": 1, "input": 11, "output": 8, "uncached": 6}
    assert proxied.post("t.claude", "/v1/messages", stream=True, **body).status_code == 200
    assert proxied.settled("claude")["requests"] == 2


def test_a_refusal_by_rate_is_429_in_the_proxy_s_form_with_the_wait(proxied: Proxied) -> None:
    statuses = [proxied.chat("t.free.free") for _ in range(3)]
    assert [answer.status_code for answer in statuses] == [200, 200, 429]
    refusal = statuses[-1]
    assert refusal.json()["error"]["code"] == "429"
    assert 'limit "free rpm" is used up' in refusal.json()["error"]["message"]
    assert 58 <= int(refusal.headers["retry-after"]) <= 61
    assert refusal.headers["x-ratelimit-remaining-requests"] == "0"
    assert proxied.settled("free")["requests"] == 2, "a refused request is charged nowhere"


def test_a_refusal_by_quota_is_403(proxied: Proxied) -> None:
    assert proxied.chat("t.trial.trial").status_code == 200
    refusal = proxied.chat("t.trial.trial")
    assert refusal.status_code == 403
    assert 'limit "trial" is used up' in refusal.json()["error"]["message"]
    assert int(refusal.headers["retry-after"]) > 0


def test_what_never_fits_is_refused_without_a_wait(proxied: Proxied) -> None:
    refusal = proxied.chat("t.small.small", max_tokens=7_000)
    assert refusal.status_code == 429 and "retry-after" not in refusal.headers
    assert "larger than the whole" in refusal.json()["error"]["message"]


def test_estimates_are_held_so_that_calls_at_once_cannot_pass_together(proxied: Proxied) -> None:
    async def offer() -> list[int]:
        async with httpx.AsyncClient(base_url=proxied.address, timeout=60) as http:
            body = {"model": "ok", "max_tokens": 1_000, "messages": [{"role": "user", "content": "hello"}]}
            headers = {"authorization": "Bearer t.crowd.small"}
            calls = [http.post("/v1/chat/completions", headers=headers, json=body) for _ in range(30)]
            return [answer.status_code for answer in await asyncio.gather(*calls)]

    proxied.provider.pause = 0.3
    try:
        statuses = asyncio.run(offer())
    finally:
        proxied.provider.pause = 0.0
    assert statuses.count(200) + statuses.count(429) == 30
    # 6,000 tokens of burst hold five such calls; what is settled gives most of it back to those who come later.
    assert 5 <= statuses.count(200) < 30
    assert proxied.settled("crowd")["requests"] == statuses.count(200)


def test_teams_are_projects_and_their_places_come_free(proxied: Proxied) -> None:
    async def offer() -> list[int]:
        async with httpx.AsyncClient(base_url=proxied.address, timeout=60) as http:
            body = {"model": "ok", "messages": [{"role": "user", "content": "hello"}]}
            headers = [{"authorization": f"Bearer narrow.n{number}"} for number in range(6)]
            calls = [http.post("/v1/chat/completions", headers=each, json=body) for each in headers]
            return [answer.status_code for answer in await asyncio.gather(*calls)]

    proxied.provider.pause = 2.0
    try:
        statuses = asyncio.run(offer())
    finally:
        proxied.provider.pause = 0.0
    assert sorted(statuses) == [200, 200, 200, 429, 429, 429]
    until(lambda: proxied.limiter.stats().permits_open == 0, "nothing is held")
    assert proxied.chat("narrow.n7").status_code == 200


def test_calls_with_the_same_id_do_not_end_one_another(proxied: Proxied) -> None:
    """The id is the client's to choose."""

    async def offer() -> list[int]:
        async with httpx.AsyncClient(base_url=proxied.address, timeout=60) as http:
            body = {"model": "ok", "messages": [{"role": "user", "content": "hello"}]}
            headers = {"authorization": "Bearer t.twice", "x-litellm-call-id": "mine"}
            calls = [http.post("/v1/chat/completions", headers=headers, json=body) for _ in range(2)]
            return [answer.status_code for answer in await asyncio.gather(*calls)]

    proxied.provider.pause = 1.0
    try:
        statuses = sorted(asyncio.run(offer()))
    finally:
        proxied.provider.pause = 0.0
    assert statuses == [200, 200]
    assert proxied.settled("twice") == {"requests": 2, "input": 20, "output": 14, "uncached": 12}


def test_a_huge_estimate_is_the_caller_s_mistake(proxied: Proxied) -> None:
    assert proxied.chat("t.huge", max_tokens=2**60).status_code == 400


def test_settings_that_are_wrong_are_named(tmp_path: Path) -> None:
    from tokenweir.litellm import Gate

    policy = {"limit": [{"name": "r", "meter": "requests", "algorithm": "bucket", "amount": 1, "per": "1m"}]}
    (tmp_path / "policy.json").write_text(json.dumps(policy))
    Gate({"policy": "policy.json", "project": "team"}, folder=tmp_path)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({}, "policy is missing"),
        ({"policy": policy, "projekt": "team"}, "projekt is no setting"),
        ({"policy": policy, "project": "nobody"}, "project is 'nobody'"),
        ({"policy": policy, "default_output": "many"}, "default_output is 'many'"),
        ({"policy": policy, "bytes_per_token": 0}, "bytes_per_token is 0"),
        ({"policy": policy, "failed": True}, "failed is True"),
        ({"policy": policy, "when_full": "maybe"}, "when_full"),
    ]
    for settings, what in wrong:
        with pytest.raises(ValueError, match=what):
            Gate(settings)
    with pytest.raises(FileNotFoundError):
        Gate({"policy": "none.toml"}, folder=tmp_path)
    with pytest.raises(tokenweir.PolicyError):
        Gate({"policy": {"limit": [{}]}})
