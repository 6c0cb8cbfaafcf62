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
    name = "ten"
    meter = "requests"
    algorithm = "window"
    amount = 10
    per = "1h"
    scope = ["key:key"]
    match = { "key:tier" = "ten" }

    [[limit]]
    name = "tokens of ten"
    meter = "total"
    algorithm = "window"
    amount = 300
    per = "1h"
    scope = ["key:key"]
    match = { "key:tier" = "tokens" }

    [[limit]]
    name = "cut"
    meter = "output"
    algorithm = "quota"
    amount = 5
    period = "never"
    scope = ["key:key"]
    match = { "key:tier" = "cut" }

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
        alias = {"first": "fails", "doomed": "fails", "cracks": "breaks", "cracks-early": "breaks-early"}
        names = ["ok", "fails", "no-usage", "breaks", "embedding", "flaky-2", "flaky-1-stream", "first", "doomed"]
        names += ["cracks", "cracks-early"]
        config: dict[str, Any] = {
            "model_list": [model(name, upstream, alias.get(name, name)) for name in names],
            "router_settings": {
                "fallbacks": [{"first": ["ok"]}, {"doomed": ["fails"]}, {"cracks": ["ok"]}, {"cracks-early": ["ok"]}],
                "num_retries": 0,
                "disable_cooldowns": True,
            },
            "litellm_settings": {"callbacks": ["tokenweir.litellm.gate"], "num_retries": 0},
            "callback_settings": {"tokenweir": {"policy": "policy.toml", "default_output": 100, "cut_streams": True}},
        }
        config["model_list"].append(model("mocked", upstream, mock_response="a mock response"))
        config["model_list"].append(model("half,whole", upstream, "embedding"))
        config["model_list"].append(model("retried", upstream, "flaky-2", max_retries=0))
        with proxy(folder, config) as address:
            proxied = Proxied(address, provider)
            yield proxied
            proxied.http.close()


def test_an_answer_settles_with_its_usage(proxied: Proxied) -> None:
    answer = proxied.chat("t.plain")
    assert answer.status_code == 200
    assert not any(name.startswith("x-ratelimit") for name in answer.headers), "quotas are no rates"
    assert proxied.settled("plain") == {"requests": 1, "input": 10, "output": 7, "uncached": 6}


def test_an_answer_says_what_the_rates_have_left(proxied: Proxied) -> None:
    requests, tokens = proxied.chat("t.tells-requests.ten").headers, proxied.chat("t.tells-tokens.tokens").headers
    told = [requests[f"x-ratelimit-{what}-requests"] for what in ("limit", "remaining", "reset")]
    assert told == ["10", "9", "1h1m0s"]
    told = [tokens[f"x-ratelimit-{what}-tokens"] for what in ("limit", "remaining", "reset")]
    assert told == ["300", "283", "1h1m0s"], "of 10 tokens in and 7 out"


def test_a_mocked_answer_settles_with_what_litellm_counts(proxied: Proxied) -> None:
    usage = proxied.chat("t.mocked", "mocked").json()["usage"]
    settled = proxied.settled("mocked")
    assert settled["input"] == usage["prompt_tokens"] and settled["output"] == usage["completion_tokens"]


def test_an_answer_without_usage_leaves_the_estimate_of_its_input_and_counts_its_text(proxied: Proxied) -> None:
    usage = proxied.chat("t.silent", "no-usage", max_tokens=40).json().get("usage") or {}
    # LiteLLM 1.108 writes usage of 0 tokens where the provider has sent none.
    assert usage.get("completion_tokens", 0) == 0
    # "hello" is 2 tokens, its message 4 and the request 3; "seven words" are 11 bytes.
    assert proxied.settled("silent") == {"requests": 1, "input": 9, "output": 3, "uncached": 9}


def test_embeddings_without_usage_leave_the_estimate(proxied: Proxied) -> None:
    body = {"model": "no-usage", "input": "x" * 40}
    assert proxied.post("t.mute", "/v1/embeddings", **body).status_code == 200
    assert proxied.settled("mute") == {"requests": 1, "input": 10, "output": 0, "uncached": 10}


def test_the_responses_route_without_usage_counts_the_text(proxied: Proxied) -> None:
    assert proxied.post("t.hushed", "/v1/responses", model="no-usage", input="x" * 28).status_code == 200
    assert proxied.settled("hushed") == {"requests": 1, "input": 10, "output": 3, "uncached": 10}


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


def leave(proxied: Proxied, key: str, path: str, words: int = 0, *, ends: bool = True, **body: Any) -> None:
    """A call whose client leaves after so many words, while the provider is held. If it `ends`, its permit must do so before
    the provider is let go; otherwise it must not."""

    seen = 0

    async def call() -> None:
        nonlocal seen
        async with (
            httpx.AsyncClient(base_url=proxied.address, timeout=60) as http,
            http.stream("POST", path, headers={"authorization": f"Bearer {key}"}, json=body) as response,
        ):
            lines = response.aiter_lines()
            while seen < words:
                line = await anext(lines)
                seen += '"word"' in line
            await asyncio.Event().wait()

    async def scene() -> None:
        task = asyncio.create_task(call())
        await asyncio.to_thread(until, lambda: proxied.provider.held == 1 and seen == words, "the provider is held")
        assert proxied.limiter.stats().permits_open == 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if ends:
            await asyncio.to_thread(until, lambda: proxied.limiter.stats().permits_open == 0, "nothing is held")
        else:
            assert proxied.limiter.stats().permits_open == 1 and proxied.provider.held == 1

    with proxied.provider.holding():
        asyncio.run(scene())
    until(lambda: proxied.provider.held == 0, "the provider is let go")


PROMPT = [{"role": "user", "content": "x" * 68}]
"""24 tokens: 17 for the text, 4 for the message, 3 for the request."""


def test_a_client_that_leaves_pays_for_what_has_streamed(proxied: Proxied) -> None:
    body: dict[str, Any] = {"model": "ok", "stream": True, "max_tokens": 500, "messages": PROMPT}
    leave(proxied, "t.leaves", "/v1/chat/completions", words=2, **body)
    assert proxied.settled("leaves") == {"requests": 1, "input": 24, "output": 2, "uncached": 24}


def test_so_does_one_that_leaves_the_responses_route(proxied: Proxied) -> None:
    leave(proxied, "t.goes", "/v1/responses", words=2, model="ok", stream=True, input="x" * 68)
    assert proxied.settled("goes") == {"requests": 1, "input": 20, "output": 2, "uncached": 20}


def test_so_does_one_that_leaves_anthropic_messages(proxied: Proxied) -> None:
    leave(proxied, "t.parts", "/v1/messages", words=2, model="ok", stream=True, max_tokens=50, messages=PROMPT)
    assert proxied.settled("parts") == {"requests": 1, "input": 24, "output": 2, "uncached": 24}


def test_a_client_that_leaves_before_the_first_word_leaves_the_estimate(
    proxied: Proxied, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where LiteLLM ends the provider's call then, which it does if it is told to."""
    from litellm.proxy.proxy_server import general_settings

    monkeypatch.setitem(general_settings, "cancel_on_disconnect", True)
    leave(proxied, "t.early", "/v1/chat/completions", model="ok", max_tokens=50, messages=PROMPT)
    assert proxied.settled("early") == {"requests": 1, "input": 24, "output": 50, "uncached": 24}


def test_where_litellm_sees_the_call_through_it_is_settled_with_its_usage(proxied: Proxied) -> None:
    leave(proxied, "t.absent", "/v1/chat/completions", ends=False, model="ok", max_tokens=50, messages=PROMPT)
    assert proxied.settled("absent") == {"requests": 1, "input": 10, "output": 7, "uncached": 6}


def test_a_stream_that_breaks_pays_for_what_has_streamed(proxied: Proxied) -> None:
    answer = stream(proxied, "t.breaks", "breaks", max_tokens=500)
    # The end of the connection may overtake what came before it.
    words = answer.count('"word"')
    assert 1 <= words <= 5, answer
    assert proxied.settled("breaks") == {"requests": 1, "input": 9, "output": words, "uncached": 9}


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


def test_a_stream_is_retried_and_falls_back_as_one_request(proxied: Proxied) -> None:
    says = {"stream_options": {"include_usage": True}}
    before = proxied.provider.calls["flaky-1-stream"]
    assert stream(proxied, "t.tries", "flaky-1-stream", num_retries=2, **says).count('"word"') == 20
    assert proxied.provider.calls["flaky-1-stream"] - before == 2
    assert proxied.settled("tries") == {"requests": 1, "input": 10, "output": 7, "uncached": 6}
    assert stream(proxied, "t.second", "first", **says).count('"word"') == 20
    assert proxied.settled("second") == {"requests": 1, "input": 10, "output": 7, "uncached": 6}


def test_a_stream_that_breaks_and_is_taken_over_is_one_request(proxied: Proxied) -> None:
    before = proxied.provider.calls["ok"]
    says = {"stream_options": {"include_usage": True}}
    assert stream(proxied, "t.taken-over", "cracks-early", max_tokens=500, **says).count('"word"') == 20
    assert proxied.settled("taken-over") == {"requests": 1, "input": 10, "output": 7, "uncached": 6}
    assert stream(proxied, "t.counted", "cracks-early", max_tokens=500).count('"word"') == 20
    # LiteLLM asks for the usage also where the client does not.
    assert proxied.settled("counted") == {"requests": 1, "input": 10, "output": 7, "uncached": 6}
    assert proxied.provider.calls["ok"] - before == 2


def test_one_that_breaks_after_its_first_words_is_not_taken_over(proxied: Proxied) -> None:
    """LiteLLM falls back only where the client has had no word yet."""
    before = proxied.provider.calls["ok"]
    answer = stream(proxied, "t.cracks", "cracks", max_tokens=500)
    # The end of the connection may overtake what came before it.
    words = answer.count('"word"')
    assert 1 <= words <= 5 and proxied.provider.calls["ok"] == before, answer
    assert proxied.settled("cracks") == {"requests": 1, "input": 9, "output": words, "uncached": 9}


def test_retries_that_are_used_up_are_one_failed_request(proxied: Proxied) -> None:
    before = proxied.provider.calls["fails"]
    assert proxied.chat("t.gives-up", "fails", num_retries=2).status_code == 500
    assert proxied.provider.calls["fails"] - before == 3
    assert proxied.settled("gives-up") == {"requests": 1, "input": 0, "output": 0, "uncached": 0}


def test_so_is_a_fallback_that_fails_too(proxied: Proxied) -> None:
    before = proxied.provider.calls["fails"]
    assert proxied.chat("t.doomed", "doomed").status_code == 500
    assert proxied.provider.calls["fails"] - before >= 2
    assert proxied.settled("doomed") == {"requests": 1, "input": 0, "output": 0, "uncached": 0}


ROUTES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hello"}]},
    "/v1/embeddings": {"input": "hello"},
    "/v1/responses": {"input": "hello"},
    "/v1/messages": {"max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]},
}


@pytest.mark.parametrize("route", ROUTES)
def test_a_call_that_fails_takes_no_tokens_on_any_route(proxied: Proxied, route: str) -> None:
    key = "broken-" + route.rpartition("/")[2]
    assert proxied.post(f"t.{key}", route, model="fails", **ROUTES[route]).status_code == 500
    assert proxied.settled(key) == {"requests": 1, "input": 0, "output": 0, "uncached": 0}


@pytest.mark.parametrize(
    ("route", "streams"),
    [(route, False) for route in ROUTES] + [(route, True) for route in ROUTES if route != "/v1/embeddings"],
)
def test_a_refusal_is_429_on_every_route_and_before_a_stream(proxied: Proxied, route: str, streams: bool) -> None:
    key = f"t.{route.rpartition('/')[2]}-{streams}.free"
    body = ROUTES[route] | ({"stream": True} if streams else {})
    answers = [proxied.post(key, route, model="ok", **body) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429], answers[-1].text
    assert answers[0].headers["x-ratelimit-remaining-requests"] == "1", "also of a stream"
    refusal = answers[-1]
    assert 'limit "free rpm" is used up' in refusal.json()["error"]["message"]
    assert 40 <= int(refusal.headers["retry-after"]) <= 61
    assert refusal.headers["x-ratelimit-remaining-requests"] == "0"


def test_a_stream_without_bound_is_cut(proxied: Proxied) -> None:
    text = stream(proxied, "t.wild.cut", max_tokens=1)
    assert text.count('"word"') == 4, text
    assert proxied.settled("wild")["output"] == 5


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
    assert proxied.settled("claude") == {"requests": 2, "input": 22, "output": 16, "uncached": 12}


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
    assert refusal.headers["x-tokenweir-limit"] == "trial"


def test_what_never_fits_is_refused_without_a_wait(proxied: Proxied) -> None:
    refusal = proxied.chat("t.small.small", max_tokens=7_000)
    assert refusal.status_code == 429 and "retry-after" not in refusal.headers
    assert refusal.headers["x-should-retry"] == "false"
    assert "larger than the whole" in refusal.json()["error"]["message"]


def test_estimates_are_held_so_that_calls_at_once_cannot_pass_together(proxied: Proxied) -> None:
    async def offer() -> list[int]:
        async with httpx.AsyncClient(base_url=proxied.address, timeout=60) as http:
            # 1,200 tokens with the prompt: 6,000 of burst hold five, and the next fits after 12 seconds.
            body = {"model": "ok", "max_tokens": 1_191, "messages": [{"role": "user", "content": "hello"}]}
            headers = {"authorization": "Bearer t.crowd.small"}
            with proxied.provider.holding():
                posts = (http.post("/v1/chat/completions", headers=headers, json=body) for _ in range(30))
                calls = [asyncio.create_task(post) for post in posts]
                decided = lambda: sum(call.done() for call in calls) + proxied.provider.held == 30  # noqa: E731
                await asyncio.to_thread(until, decided, "all 30 are decided")
            return [answer.status_code for answer in await asyncio.gather(*calls)]

    statuses = asyncio.run(offer())
    assert (statuses.count(200), statuses.count(429)) == (5, 25)
    assert proxied.settled("crowd")["requests"] == 5


def test_many_keys_that_offer_at_once_get_their_limits_and_no_more(proxied: Proxied) -> None:
    """Answers take 30 tokens, and are held with 35, of which the prompt is 18."""

    async def burst(http: httpx.AsyncClient, key: str) -> int:
        body = {"model": "mocked", "max_tokens": 17, "messages": [{"role": "user", "content": "x" * 43}]}
        headers = {"authorization": f"Bearer t.{key}"}
        calls = [http.post("/v1/chat/completions", headers=headers, json=body) for _ in range(30)]
        statuses = [answer.status_code for answer in await asyncio.gather(*calls)]
        assert set(statuses) <= {200, 429}
        return statuses.count(200)

    async def offer(keys: list[str]) -> list[int]:
        limits = httpx.Limits(max_connections=300)
        async with httpx.AsyncClient(base_url=proxied.address, timeout=120, limits=limits) as http:
            return await asyncio.gather(*(burst(http, key) for key in keys))

    requests = [f"ten{number}.ten" for number in range(10)]
    tokens = [f"tokens{number}.tokens" for number in range(10)]
    assert asyncio.run(offer(requests)) == [10] * 10
    passed = asyncio.run(offer(tokens))
    assert all(8 <= number <= 10 for number in passed), passed
    for key, number in zip(tokens, passed, strict=True):
        assert proxied.settled(key.partition(".")[0])["tokens of ten"] == 30 * number


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


def test_an_output_that_never_fits_is_refused_however_it_is_written(proxied: Proxied) -> None:
    for bound in (2**60, 10**30, 1e30, 2e6):
        refusal = proxied.chat("t.huge", max_tokens=bound)
        assert refusal.status_code == 403 and "larger than the whole" in refusal.text, refusal.text
    assert proxied.settled("huge") == dict.fromkeys(("requests", "input", "output", "uncached"), 0)


@pytest.mark.parametrize("model", ["ok,no-usage", "no-usage, ok", ["ok", "no-usage"]])
@pytest.mark.parametrize("fastest", [True, False])
def test_a_list_of_models_is_refused_in_the_proxy_s_form_before_any_call(
    proxied: Proxied, model: Any, fastest: bool
) -> None:
    before = proxied.provider.calls.copy()
    refusal = proxied.chat("t.many", model, fastest_response=fastest)
    assert refusal.status_code == 400, refusal.text
    if isinstance(model, str):
        error = refusal.json()["error"]
        assert error["param"] == "model" and error["type"] == "invalid_request_error" and error["code"] == "400"
        assert "name one model in each request" in error["message"]
    assert proxied.provider.calls == before
    assert proxied.limiter.usage(scope={"key:key": "many"}) == []


def test_a_model_with_a_comma_in_its_name_is_served_where_the_proxy_takes_it_whole(proxied: Proxied) -> None:
    assert proxied.chat("t.comma", "half,whole").status_code == 400, "the proxy would split it"
    answer = proxied.post("t.comma", "/v1/embeddings", model="half,whole", input="x" * 40)
    assert answer.status_code == 200, answer.text
    assert proxied.settled("comma")["input"] == 9
    (counter,) = proxied.limiter.usage("input", {"key:key": "comma"})
    assert counter.scope["deployment"] == "half,whole"


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
        ({"policy": policy, "quota_file": 5}, "quota_file is 5"),
    ]
    for settings, what in wrong:
        with pytest.raises(ValueError, match=what):
            Gate(settings)
    with pytest.raises(FileNotFoundError):
        Gate({"policy": "none.toml"}, folder=tmp_path)
    with pytest.raises(tokenweir.PolicyError):
        Gate({"policy": {"limit": [{}]}})
