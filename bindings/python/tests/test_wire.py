"""What passes between a client and a model: requests, responses cut anywhere, answers, an upstream's limits."""

from __future__ import annotations

import gc
import json
import math
import pickle
from typing import Any

import psutil
import pytest
import tokenweir
from hypothesis import given
from hypothesis import strategies as some
from tokenweir import Limiter, ManualClock, Now, Policy, wire

CHAT = "/v1/chat/completions"


def chat(**fields: Any) -> bytes:
    whole = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Why is the sky blue?"}], **fields}
    return json.dumps(whole).encode()


def limiter(**limit: Any) -> tuple[Limiter, ManualClock]:
    shape = {"name": "tpm", "meter": "total", "algorithm": "bucket", "amount": 1_000, "per": "1m", **limit}
    clock = ManualClock(Now.at(1_774_699_200_000_000_000))
    return Limiter(Policy.from_dict({"limit": [shape]}), clock=clock), clock


class TestRequests:
    def test_a_path_names_its_api_and_who_is_answered(self) -> None:
        endpoint = wire.Endpoint.of("/openai/deployments/gpt-4o/chat/completions?api-version=1")
        assert endpoint is not None
        assert (endpoint.api, endpoint.model, endpoint.stream) == ("chat_completions", "gpt-4o", None)
        assert endpoint.dialect == wire.Dialect("azure_openai")
        gemini = wire.Endpoint.of("/v1beta/models/gemini-2.5-pro:streamGenerateContent")
        assert gemini is not None and (gemini.model, gemini.stream) == ("gemini-2.5-pro", True)
        assert gemini.dialect.name == "gemini"
        assert wire.Endpoint.of("/v1/models") is None

    def test_a_request_says_what_it_asks_for(self) -> None:
        asked = wire.Asked.read(CHAT, chat(stream=True, n=2, max_completion_tokens=100))
        assert (asked.api, asked.model, asked.stream, asked.include_usage) == ("chat_completions", "gpt-4o", True, False)
        assert (asked.input, asked.answers, asked.output, asked.input_elsewhere) == (12, 2, 200, False)
        assert repr(asked).startswith("Asked(api='chat_completions', model='gpt-4o', stream=True, input=12")
        by_word = wire.Asked.read("responses", b'{"input": "hello", "previous_response_id": "r"}')
        assert (by_word.model, by_word.output, by_word.input_elsewhere) == (None, None, True)

    def test_what_the_path_says_goes_before_what_the_body_says(self) -> None:
        asked = wire.Asked.read("/openai/deployments/mine/chat/completions", chat())
        assert (asked.model, asked.stream) == ("mine", False)
        body = b'{"contents": [{"parts": [{"text": "hello"}]}]}'
        assert wire.Asked.read("/v1/models/gemini:streamGenerateContent", body).stream

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_a_body_is_bytes_of_any_kind(self, kind: Any) -> None:
        assert wire.Asked.read(CHAT, kind(chat())).model == "gpt-4o"

    def test_what_is_no_request_is_refused_with_its_code(self) -> None:
        for body, what in ((b"{", "is not JSON"), (b"[]", "is not one JSON object")):
            for read in (wire.Asked.read, wire.StreamUsage.of):
                with pytest.raises(tokenweir.BodyError, match=what) as raised:
                    read(CHAT, body)
                assert (raised.value.code, raised.value.name) == (1007, "BODY_INVALID")
        with pytest.raises(ValueError, match='"/v1/models" takes no tokens; give a path'):
            wire.Asked.read("/v1/models", b"{}")
        with pytest.raises(TypeError, match="body is str; give bytes"):
            wire.Asked.read(CHAT, "{}")  # type: ignore[arg-type]

    def test_an_estimate_has_the_output_that_is_stated_or_ruled(self) -> None:
        gate, _ = limiter()
        rule = wire.OutputRule(100, per_mille_of_input=2_000)
        stated = wire.Asked.read(CHAT, chat(max_tokens=7)).estimate(rule, gate, "search", "gpt-4o")
        assert (stated.input, stated.output) == (12, 7)
        ruled = wire.Asked.read(CHAT, chat()).estimate(rule, gate, "search", "gpt-4o", keys={"user": "u"})
        assert ruled.output == 100 + 24
        # A guess never takes more than its share of a limit.
        for rule, most in ((wire.OutputRule(5_000), 250), (wire.OutputRule(5_000, share_per_mille=500), 500)):
            assert wire.Asked.read(CHAT, chat()).estimate(rule, gate, "search", "gpt-4o").output == most
        with pytest.raises(tokenweir.RequestError):
            wire.Asked.read(CHAT, chat()).estimate(rule, gate, "", "gpt-4o")
        assert all(counter.used == 0 for counter in gate.usage())

    @pytest.mark.parametrize(
        ("values", "what"),
        [
            ({"tokens": -1}, "tokens is -1; give a whole number from 0 to 9007199254740992"),
            ({"tokens": 2**53 + 1}, "tokens is 9007199254740993"),
            ({"tokens": 2**70}, "tokens is 1180591620717411303424"),
            ({"tokens": math.nan}, "tokens is nan; give a whole number"),
            ({"tokens": 1.5}, "tokens is 1.5"),
            ({"tokens": 1, "per_mille_of_input": -1}, "per_mille_of_input is -1"),
            ({"tokens": 1, "per_mille_of_input": math.inf}, "per_mille_of_input is inf"),
            ({"tokens": 1, "share_per_mille": 0}, "share_per_mille is 0; give a whole number from 1 to 1000"),
            ({"tokens": 1, "share_per_mille": 1001}, "share_per_mille is 1001"),
            ({"tokens": 1, "share_per_mille": -5}, "share_per_mille is -5"),
        ],
    )
    def test_a_rule_of_nonsense_is_refused_by_name(self, values: dict[str, Any], what: str) -> None:
        with pytest.raises(ValueError, match=what):
            wire.OutputRule(**values)

    def test_a_rule_is_of_numbers(self) -> None:
        with pytest.raises(TypeError, match="tokens is str"):
            wire.OutputRule("many")  # type: ignore[arg-type]

    def test_the_usage_of_a_stream_is_asked_for_once(self) -> None:
        body = chat(stream=True)
        usage = wire.StreamUsage.of(CHAT, body)
        sent = usage.ask(body)
        assert json.loads(sent) == json.loads(body) | {"stream_options": {"include_usage": True}}
        assert not usage.client_asked
        again = wire.StreamUsage.of(CHAT, sent)
        assert again.client_asked and again.ask(sent) == sent
        assert wire.StreamUsage.of("responses", b"{}").ask(b"{}") == b"{}"


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields, ensure_ascii=False).encode() + b"\n\n"


WORDS = ["Blue ", "light ", "schläft, ", "光が散らばる。"]
USAGE = {
    "prompt_tokens": 12,
    "completion_tokens": 30,
    "total_tokens": 42,
    "prompt_tokens_details": {"cached_tokens": 8},
    "completion_tokens_details": {"reasoning_tokens": 20},
}
STREAM = (
    b"".join(event(choices=[{"index": 0, "delta": {"content": word}}]) for word in WORDS)
    + event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
    + event(choices=[], usage=USAGE)
    + b"data: [DONE]\n\n"
)
USAGE_CHUNK = event(choices=[], usage=USAGE)


def cut(whole: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(whole) + 1) for place in places), len(whole)]
    return [whole[start:end] for start, end in zip(edges, edges[1:], strict=False)]


anywhere = some.lists(some.integers(0, len(STREAM)), max_size=40)


class TestResponses:
    def test_a_body_has_its_usage(self) -> None:
        meter = wire.ResponseMeter(CHAT, "application/json; charset=utf-8")
        answer = {"choices": [{"message": {"content": "Blue light."}, "finish_reason": "stop"}], "usage": USAGE}
        assert meter.feed(json.dumps(answer).encode()) == 30
        measured = meter.measured()
        usage = measured.usage
        assert (usage.input, usage.cached_input, usage.output, usage.reasoning) == (12, 8, 30, 20)
        assert (usage.cache_write, usage.audio_input, usage.audio_output) == (None, None, None)
        assert (measured.estimated, measured.ended) == (False, "complete")

    @given(anywhere)
    def test_a_stream_may_be_cut_anywhere(self, places: list[int]) -> None:
        meter = wire.ResponseMeter(CHAT, "text/event-stream")
        more = [meter.feed(piece) for piece in cut(STREAM, places)]
        measured = meter.measured()
        # What is counted before the report may be a little more than what is reported.
        assert sum(more) >= meter.output_so_far == measured.usage.output == 30
        assert (measured.usage.input, measured.estimated, measured.ended) == (12, False, "complete")

    @given(anywhere, some.integers(0, len(STREAM) - len(USAGE_CHUNK) - 20))
    def test_a_stream_that_breaks_counts_what_has_come(self, places: list[int], end: int) -> None:
        meter = wire.ResponseMeter(CHAT, "text/event-stream")
        for piece in cut(STREAM[:end], places):
            meter.feed(piece)
        measured = meter.measured()
        assert (measured.estimated, measured.ended, measured.usage.input) == (True, "broken", None)
        whole = wire.ResponseMeter(CHAT, "text/event-stream")
        whole.feed(STREAM[:end])
        assert whole.measured().usage.output == measured.usage.output

    @given(anywhere)
    def test_the_usage_is_kept_from_who_did_not_ask_for_it(self, places: list[int]) -> None:
        kept = wire.UsageChunkFilter()
        passed = b"".join(kept.feed(piece) for piece in cut(STREAM, places)) + kept.finish()
        assert passed == STREAM.replace(USAGE_CHUNK, b"")
        assert kept.finish() == b""
        with pytest.raises(ValueError, match="finished"):
            kept.feed(b"x")

    @given(some.binary(max_size=300), some.sampled_from(["text/event-stream", "application/json", None]))
    def test_nothing_that_comes_is_an_error(self, junk: bytes, kind: str | None) -> None:
        meter = wire.ResponseMeter("messages", kind)
        assert meter.feed(junk) >= 0
        assert meter.measured().estimated

    def test_a_meter_settles_a_permit(self) -> None:
        gate, _ = limiter()
        permit = gate.reserve("search", "gpt-4o", 20, 100)
        meter = wire.ResponseMeter(CHAT, "text/event-stream")
        for piece in cut(STREAM, list(range(0, len(STREAM), 7))):
            permit.observe(output=meter.feed(piece))
        settlement = meter.settle(permit)
        assert (settlement.input, settlement.cached_input, settlement.output) == (12, 8, 30)
        assert not settlement.estimated and gate.usage()[0].used == 42
        with pytest.raises(tokenweir.PermitError):
            meter.settle(permit)

    def test_what_is_unknown_leaves_the_estimate(self) -> None:
        gate, _ = limiter()
        settlement = wire.ResponseMeter(CHAT).settle(gate.reserve("search", "gpt-4o", 20, 100))
        assert settlement.estimated and (settlement.input, settlement.output) == (20, 100)

    def test_reports_of_what_came_since_add_up(self) -> None:
        meter = wire.ResponseMeter(CHAT, "text/event-stream", delta_usage=True)
        for tokens in (3, 4):
            meter.feed(event(choices=[], usage={"prompt_tokens": 0, "completion_tokens": tokens}))
        assert meter.output_so_far == 7


class TestAnswers:
    def test_a_refusal_is_in_the_words_of_its_dialect(self) -> None:
        gate, clock = limiter()
        gate.reserve("search", "gpt-4o", 1_000).settle(1_000, 0)
        denial = gate.admit("search", "gpt-4o", 25)
        assert not denial
        refused = wire.Dialect("openai").refused(denial, now=clock.now())
        headers = dict(refused.headers)
        assert (refused.status, headers["retry-after"], headers["x-tokenweir-limit"]) == (429, "2", "tpm")
        assert (headers["content-type"], headers["x-ratelimit-remaining-tokens"]) == ("application/json", "0")
        error = json.loads(refused.body)["error"]
        assert (error["code"], error["limit"], error["refused_by"]) == ("rate_limit_exceeded", "tpm", ["tpm"])
        anthropic = json.loads(wire.Dialect("anthropic").refused(denial).body)
        assert (anthropic["type"], anthropic["error"]["type"]) == ("error", "rate_limit_error")
        assert dict(wire.Dialect("azure_openai").refused(denial).headers)["retry-after-ms"] == "1500"
        assert json.loads(wire.Dialect("gemini").refused(denial).body)["error"]["status"] == "RESOURCE_EXHAUSTED"
        assert json.loads(wire.Dialect("apim").refused(denial).body)["statusCode"] == 429

    def test_what_never_fits_is_not_to_be_tried_again(self) -> None:
        denial = limiter()[0].admit("search", "gpt-4o", 1_001)
        assert not denial
        headers = dict(wire.Dialect("openai").refused(denial).headers)
        assert headers["x-should-retry"] == "false" and "retry-after" not in headers

    def test_an_admitted_request_says_what_is_left(self) -> None:
        gate, clock = limiter()
        permit = gate.reserve("search", "gpt-4o", 100, 200)
        assert wire.Dialect("openai").headers(permit) == [
            ("x-ratelimit-limit-tokens", "1000"),
            ("x-ratelimit-remaining-tokens", "700"),
            ("x-ratelimit-reset-tokens", "18s"),
        ]
        reset = dict(wire.Dialect("anthropic").headers(permit, now=clock.now()))["anthropic-ratelimit-tokens-reset"]
        assert reset == "2026-03-28T12:00:18Z"
        assert wire.Dialect("apim").headers(permit) == []
        assert wire.ietf_headers(permit) == [
            ("ratelimit-policy", '"tpm";q=1000;w=60;tokenweir-meter="total"'),
            ("ratelimit", '"tpm";r=700;t=18'),
        ]
        permit.cancel()
        assert wire.Dialect("openai").headers(permit) == []

    def test_other_errors_are_in_its_words_too(self) -> None:
        assert json.loads(wire.Dialect("openai").error_body(401, "no"))["error"]["code"] == "invalid_api_key"
        assert json.loads(wire.Dialect("anthropic").error_body(401, "no"))["error"]["type"] == "authentication_error"

    def test_a_dialect_is_a_value(self) -> None:
        dialect = wire.Dialect("gemini")
        assert wire.Dialect.of("/v1beta/models/g:generateContent") == wire.Dialect.of("generate_content") == dialect
        assert dialect == wire.Dialect("gemini") != wire.Dialect("apim")
        assert {dialect: 1}[wire.Dialect("gemini")] == 1
        assert pickle.loads(pickle.dumps(dialect)) == dialect and repr(dialect) == 'Dialect("gemini")'
        with pytest.raises(ValueError, match='"klingon" is no dialect; give one of openai, azure_openai'):
            wire.Dialect("klingon")  # type: ignore[arg-type]


class TestUpstreams:
    def test_headers_say_what_an_upstream_has_left(self) -> None:
        said = {"X-RateLimit-Remaining-Tokens": "149984", "x-ratelimit-reset-tokens": "6m0s", "retry-after": "7"}
        for headers in (said, list(said.items()), [(a.encode(), b.encode()) for a, b in said.items()]):
            seen = wire.UpstreamLimits.of(headers)
            assert (seen.tokens.remaining, seen.tokens.reset, seen.tokens.limit) == (149_984, 360.0, None)
            assert seen.retry_after == 7.0 and seen.requests.remaining is None and seen.named == []

    def test_limits_come_by_name(self) -> None:
        seen = wire.UpstreamLimits.of({"ratelimit-policy": '"tpm";q=1000;w=60', "ratelimit": '"tpm";r=700;t=18'})
        (named,) = seen.named
        assert (named.name, named.window, named.unit) == ("tpm", 60.0, None)
        assert (named.limit.limit, named.limit.remaining, named.limit.reset) == (1_000, 700, 18.0)

    def test_an_instant_is_measured_from_when_the_response_came(self) -> None:
        headers = {"anthropic-ratelimit-tokens-reset": "2026-03-28T12:00:18Z"}
        seen = wire.UpstreamLimits.of(headers, now=Now.at(1_774_699_200_000_000_000))
        assert seen.tokens.reset == 18.0

    def test_what_cannot_be_read_is_not_there(self) -> None:
        seen = wire.UpstreamLimits.of([(b"retry-after", b"\xff"), (b"x-ratelimit-limit-requests", b"many")])
        assert seen.retry_after is None and seen.requests.limit is None
        with pytest.raises(TypeError):
            wire.UpstreamLimits.of(7)  # type: ignore[arg-type]


def test_what_is_in_the_middle_of_a_stream_is_not_pickled() -> None:
    for value in (wire.ResponseMeter(CHAT), wire.UsageChunkFilter()):
        with pytest.raises(TypeError, match="cannot pickle"):
            pickle.dumps(value)


def test_memory_is_flat() -> None:
    gate, _ = limiter(amount=10**9)
    body, headers = chat(stream=True), {"ratelimit": '"tpm";r=700;t=18', "retry-after": "7"}

    def turn() -> None:
        asked = wire.Asked.read(CHAT, wire.StreamUsage.of(CHAT, body).ask(body))
        estimate = asked.estimate(wire.OutputRule(10), gate, "search", "gpt-4o")
        permit = gate.reserve("search", "gpt-4o", estimate.input, estimate.output)
        meter, kept = wire.ResponseMeter(CHAT, "text/event-stream"), wire.UsageChunkFilter()
        for piece in (STREAM[:99], STREAM[99:]):
            meter.feed(piece)
            kept.feed(piece)
        wire.Dialect("openai").headers(permit)
        meter.settle(permit)
        wire.UpstreamLimits.of(headers)

    def resident() -> int:
        gc.collect()
        size: int = psutil.Process().memory_info().rss
        return size

    for _ in range(2_000):
        turn()
    before = resident()
    for _ in range(4_000):
        turn()
    assert resident() - before < 1_000_000
