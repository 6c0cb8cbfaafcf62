"""Anthropic's own client, unchanged, through the gateway."""

import time

import anthropic
import pytest
from conftest import KEY, eventually, limit

WORDS = [{"role": "user", "content": "word"}]
LIMIT = limit("claude-sonnet", tokens_per_minute=100_000)
NAME = 'project "search" on "claude-sonnet": tokens per minute'


def client_of(gateway, key=KEY, **more):
    return anthropic.Anthropic(base_url=gateway.url, api_key=key, **more)


def ask(client, most=24):
    return client.messages.create(model="claude-sonnet", max_tokens=most, messages=WORDS)


def test_a_message(start):
    gateway = start(LIMIT)
    answer = ask(client_of(gateway), 5)
    assert answer.content[0].text == "The tide comes in twice" and answer.stop_reason == "max_tokens"
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (8, 5)
    assert gateway.settled()[NAME] == 13


def test_a_stream(start):
    gateway = start(LIMIT)
    with client_of(gateway).messages.stream(model="claude-sonnet", max_tokens=6, messages=WORDS) as stream:
        assert "".join(stream.text_stream) == "The tide comes in twice a"
        assert stream.get_final_message().usage.output_tokens == 6
    assert gateway.settled()[NAME] == 14


def test_models_are_listed(start):
    assert [model.id for model in client_of(start()).models.list()] == ["claude-sonnet", "embedder", "gpt-4o"]


def test_a_refusal_is_the_clients_own_error(start):
    gateway = start(limit("claude-sonnet", tokens_per_minute=60))
    client = client_of(gateway, max_retries=0)
    ask(client)
    with pytest.raises(anthropic.RateLimitError) as refused:
        ask(client)
    assert refused.value.body["error"]["limit"] == NAME
    assert 1 <= int(refused.value.response.headers["retry-after"]) <= 4
    assert refused.value.response.headers["anthropic-ratelimit-tokens-limit"] == "60"


def test_the_clients_own_retry_succeeds_at_the_advised_time(start):
    gateway = start(limit("claude-sonnet", tokens_per_minute=60))
    client = client_of(gateway, max_retries=1)
    ask(client)
    before = time.monotonic()
    ask(client)
    gateway.has_had({"admitted": 2, "refused-rate": 1})
    assert time.monotonic() - before >= gateway.look("refusals")["refusals"][0]["retry_after"] - 1


def test_a_quota_is_not_tried_again(start):
    gateway = start(limit("claude-sonnet", token_quota=40, token_quota_period="Yearly"))
    client = client_of(gateway, max_retries=5)
    ask(client)
    with pytest.raises(anthropic.PermissionDeniedError):
        ask(client)
    gateway.has_had({"admitted": 1, "refused-quota": 1})


def test_other_errors_are_the_clients_own(start):
    gateway = start(LIMIT)
    with pytest.raises(anthropic.AuthenticationError):
        ask(client_of(gateway, key="wrong"))
    with pytest.raises(anthropic.NotFoundError):
        client_of(gateway).messages.create(model="none", max_tokens=1, messages=WORDS)


def test_a_stream_that_the_client_closes_holds_nothing(start):
    gateway = start(LIMIT)
    with client_of(gateway).messages.stream(model="claude-sonnet", max_tokens=24, messages=WORDS) as stream:
        for _ in zip(range(4), stream):
            pass
    eventually(lambda: gateway.look("usage")["open"] == 0)
    assert 8 < gateway.settled()[NAME] < 32
