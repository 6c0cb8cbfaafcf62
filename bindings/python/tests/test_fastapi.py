"""examples/fastapi as it stands, started as its README says, over HTTP."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from waiting import until

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "fastapi"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """The example, served by uvicorn in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path / "log"
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLE), "--port", str(port), "app:app"]
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output, env=os.environ, cwd=tmp_path)
    found = f"http://127.0.0.1:{port}"

    def alive() -> bool:
        assert server.poll() is None, log.read_text()
        try:
            return httpx.get(found + "/usage").status_code == 200
        except httpx.TransportError:
            return False

    try:
        until(alive, "the server", 120)
        yield found
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture
def http(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, headers={"authorization": "Bearer sk-search"}, timeout=30) as client:
        yield client


def body(**fields: Any) -> dict[str, Any]:
    whole = {"model": "sample", "max_tokens": 50, "messages": [{"role": "user", "content": "What is the sea?"}]}
    return whole | fields


def counters(http: httpx.Client, project: str = "search") -> dict[str, tuple[int, int]]:
    """What is used and what is held, by limit."""
    found = http.get("/usage").json()
    return {one["limit"]: (one["used"], one["held"]) for one in found if one["scope"]["project"] == project}


CHAT = "/v1/chat/completions"


def test_a_call_is_settled_by_its_usage(http: httpx.Client) -> None:
    answer = http.post(CHAT, json=body())
    assert answer.status_code == 200 and answer.json()["usage"]["total_tokens"] == 61
    assert answer.headers["x-ratelimit-limit-tokens"] == "1000"
    assert answer.headers["x-ratelimit-remaining-tokens"] == "939"
    assert counters(http)["project day"] == (61, 0) and counters(http)["at once"] == (0, 0)


def test_a_stream_comes_as_it_is_made_and_is_settled_by_its_usage(http: httpx.Client) -> None:
    with http.stream("POST", CHAT, json=body(stream=True)) as answer:
        events = [line for line in answer.iter_lines() if line]
    # 50 words, the reason of the end, and the last word; the usage was asked for by the middleware alone.
    assert len(events) == 52 and events[-1] == "data: [DONE]" and not any("usage" in event for event in events)
    assert counters(http)["project day"] == (61, 0)
    asks = body(stream=True, stream_options={"include_usage": True})
    assert '"usage": {"prompt_tokens": 11' in http.post(CHAT, json=asks).text


def test_a_client_that_leaves_pays_for_what_has_come(http: httpx.Client) -> None:
    with http.stream("POST", CHAT, json=body(stream=True, max_tokens=500)) as answer:
        lines = answer.iter_lines()
        while "wave" not in next(lines):
            pass
        assert counters(http)["project day"][1] == 511
    until(lambda: counters(http)["at once"] == (0, 0), "the end of the call")
    used, held = counters(http)["project day"]
    assert held == 0 and 11 + 2 <= used < 11 + 500


def test_what_is_too_much_is_429_and_what_is_unknown_401(http: httpx.Client) -> None:
    assert http.post(CHAT, json=body(max_tokens=940)).status_code == 200
    refused = http.post(CHAT, json=body(max_tokens=940))
    assert refused.status_code == 429 and 50 <= int(refused.headers["retry-after"]) <= 57
    error = refused.json()["error"]
    assert (error["code"], error["limit"]) == ("rate_limit_exceeded", "project tpm")
    assert http.post(CHAT, json=body(), headers={"authorization": "Bearer sk-nobody"}).status_code == 401
    assert http.post(CHAT, json=body(), headers={"authorization": "Bearer sk-chat"}).status_code == 200
    assert counters(http, "chat")["project day"] == (61, 0)


def test_a_call_that_fails_takes_no_tokens(http: httpx.Client) -> None:
    assert http.post(CHAT, json=body(model="fails")).status_code == 502
    assert http.post(CHAT, json={"model": "sample", "messages": "none"}).status_code == 422
    assert counters(http)["project day"] == (0, 0) and counters(http)["at once"] == (0, 0)


def test_the_official_client_works_unchanged(address: str) -> None:
    with openai.OpenAI(base_url=address + "/v1", api_key="sk-search", max_retries=0) as client:
        asked: Any = body()
        assert client.chat.completions.create(**asked).usage.total_tokens == 61
        words = [chunk.choices[0].delta.content or "" for chunk in client.chat.completions.create(**asked, stream=True)]
        assert "".join(words).startswith("tidewavesalt")
        with pytest.raises(openai.RateLimitError) as refused:
            client.chat.completions.create(**asked | {"max_tokens": 980})
        assert json.loads(refused.value.response.text)["error"]["limit"] == "project tpm"
        assert 1 <= int(refused.value.response.headers["retry-after"]) <= 60


def test_the_client_tries_again_when_it_is_told_to(address: str) -> None:
    with openai.OpenAI(base_url=address + "/v1", api_key="sk-search", max_retries=1) as client:
        create = client.chat.completions.with_raw_response.create
        # 49 tokens are left then of a thousand a minute: four seconds bring what is missing.
        assert [create(**body(max_tokens=tokens)).retries_taken for tokens in (940, 100)] == [0, 1]
