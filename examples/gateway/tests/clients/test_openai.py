"""OpenAI's own client, unchanged, through the gateway."""

import asyncio
import time

import openai
import pytest
from conftest import KEY, eventually, limit

WORDS = [{"role": "user", "content": "word"}]
LIMIT = limit("gpt-4o", tokens_per_minute=100_000)
NAME = 'project "search" on "gpt-4o": tokens per minute'


def client_of(gateway, key=KEY, **more):
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, **more)


def test_a_call(start):
    gateway = start(LIMIT)
    answer = client_of(gateway).chat.completions.create(model="gpt-4o", messages=WORDS)
    assert answer.choices[0].message.content.startswith("The tide comes in")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (8, 24)
    assert gateway.settled()[NAME] == 32


@pytest.mark.parametrize("asks", [False, True])
def test_a_stream_has_its_usage_only_if_the_client_asks_for_it(start, asks):
    gateway = start(LIMIT)
    options = {"stream_options": {"include_usage": True}} if asks else {}
    stream = client_of(gateway).chat.completions.create(model="gpt-4o", messages=WORDS, stream=True, max_tokens=5, **options)
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "The tide comes in twice"
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == ([13] if asks else [])
    assert gateway.settled()[NAME] == 13


def test_responses(start):
    gateway = start(LIMIT)
    client = client_of(gateway)
    answer = client.responses.create(model="gpt-4o", input="word")
    assert answer.output_text.startswith("The tide") and answer.usage.output_tokens == 24
    events = list(client.responses.create(model="gpt-4o", input="word", stream=True))
    assert events[-1].type == "response.completed"
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == answer.output_text
    assert gateway.settled()[NAME] == 2 * answer.usage.total_tokens


def test_the_other_apis(start):
    gateway = start(LIMIT)
    client = client_of(gateway)
    assert client.completions.create(model="gpt-4o", prompt="word", max_tokens=3).choices[0].text == "The tide comes"
    embedded = client.embeddings.create(model="embedder", input=["one", "two"])
    assert [item.embedding for item in embedded.data] == [[0.5] * 8] * 2
    assert [model.id for model in client.models.list()] == ["claude-sonnet", "embedder", "gpt-4o"]


def test_azures_client(start):
    gateway = start(limit("gpt-4o", tokens_per_minute=40))
    client = openai.AzureOpenAI(azure_endpoint=gateway.url, api_key=KEY, api_version="2024-10-21", max_retries=0)
    answer = client.chat.completions.create(model="gpt-4o", messages=WORDS, max_tokens=24)
    assert answer.usage.total_tokens == 32
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model="gpt-4o", messages=WORDS, max_tokens=24)


def test_a_refusal_is_the_clients_own_error(start):
    gateway = start(limit("gpt-4o", tokens_per_minute=60))
    client = client_of(gateway, max_retries=0)
    client.chat.completions.create(model="gpt-4o", messages=WORDS, max_tokens=24)
    with pytest.raises(openai.RateLimitError) as refused:
        client.chat.completions.create(model="gpt-4o", messages=WORDS, max_tokens=24)
    assert refused.value.code == "rate_limit_exceeded"
    assert refused.value.body["limit"] == NAME
    assert 1 <= int(refused.value.response.headers["retry-after"]) <= 4


def test_the_clients_own_retry_succeeds_at_the_advised_time(start):
    gateway = start(limit("gpt-4o", tokens_per_minute=60))
    client = client_of(gateway, max_retries=1)
    client.chat.completions.create(model="gpt-4o", messages=WORDS, max_tokens=24)
    before = time.monotonic()
    client.chat.completions.create(model="gpt-4o", messages=WORDS, max_tokens=24)
    # It was refused once, waited for as long as it was told, and was let in.
    gateway.has_had({"admitted": 2, "refused-rate": 1})
    assert time.monotonic() - before >= gateway.look("refusals")["refusals"][0]["retry_after"] - 1


def test_a_request_that_never_fits_is_not_tried_again(start):
    gateway = start(limit("gpt-4o", tokens_per_minute=60))
    with pytest.raises(openai.RateLimitError, match="too large"):
        client_of(gateway, max_retries=5).chat.completions.create(model="gpt-4o", messages=WORDS, max_tokens=100)
    gateway.has_had({"refused-rate": 1})


def test_a_quota_is_not_tried_again(start):
    gateway = start(limit("gpt-4o", token_quota=40, token_quota_period="Yearly"))
    client = client_of(gateway, max_retries=5)
    client.chat.completions.create(model="gpt-4o", messages=WORDS)
    with pytest.raises(openai.PermissionDeniedError) as refused:
        client.chat.completions.create(model="gpt-4o", messages=WORDS)
    assert refused.value.code == "insufficient_quota"
    gateway.has_had({"admitted": 1, "refused-quota": 1})


def test_other_errors_are_the_clients_own(start):
    gateway = start(LIMIT)
    with pytest.raises(openai.AuthenticationError):
        client_of(gateway, key="wrong").chat.completions.create(model="gpt-4o", messages=WORDS)
    with pytest.raises(openai.NotFoundError):
        client_of(gateway).chat.completions.create(model="none", messages=WORDS)
    with pytest.raises(openai.BadRequestError):
        client_of(gateway).post("/chat/completions", cast_to=object, body=[])
    assert set(gateway.settled().values()) <= {0}


def test_a_stream_that_the_client_closes_holds_nothing(start):
    gateway = start(LIMIT)
    with client_of(gateway).chat.completions.create(model="gpt-4o", messages=WORDS, stream=True) as stream:
        for _ in range(4):
            next(stream)
    eventually(lambda: gateway.look("usage")["open"] == 0)
    assert 8 < gateway.settled()[NAME] < 32


def test_many_streams_at_once_are_counted_exactly(start):
    gateway = start(LIMIT)

    async def one(client, most):
        stream = await client.chat.completions.create(model="gpt-4o", messages=WORDS, stream=True, max_tokens=most)
        return [chunk async for chunk in stream]

    async def all_of_them():
        async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=KEY) as client:
            return await asyncio.gather(*(one(client, 1 + most % 24) for most in range(100)))

    assert len(asyncio.run(all_of_them())) == 100
    assert gateway.settled()[NAME] == sum(8 + 1 + most % 24 for most in range(100))
