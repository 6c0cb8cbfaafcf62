"""examples/litellm as it stands, started as its first lines say."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml  # type: ignore[import-untyped]
from waiting import until

EXAMPLE = Path(__file__).resolve().parents[4] / "examples" / "litellm" / "config.yaml"


@pytest.mark.filterwarnings("ignore")
def test_the_example_limits(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    key = secrets.token_hex(32)
    log = tmp_path / "log"
    command: list[str | Path] = [
        Path(sys.executable).with_name("litellm"),
        "--config",
        EXAMPLE,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    with log.open("wb") as output:
        proxy = subprocess.Popen(
            command, stdout=output, stderr=output, env=os.environ | {"LITELLM_MASTER_KEY": key}, cwd=tmp_path
        )
    clients = contextlib.ExitStack()
    try:
        http = clients.enter_context(
            httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"authorization": f"Bearer {key}"}, timeout=60)
        )

        def alive() -> bool:
            assert proxy.poll() is None, log.read_text()
            try:
                return http.get("/health/liveliness").status_code == 200
            except httpx.TransportError:
                return False

        until(alive, "the proxy", 300)
        body = {"model": "assistant", "messages": [{"role": "user", "content": "hello"}]}
        answers = [http.post("/v1/chat/completions", json=body) for _ in range(6)]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429], answers[0].text
        assert answers[0].headers["x-ratelimit-remaining-requests"] == "4"
        assert answers[0].headers["x-ratelimit-limit-tokens"] == "20000"
        assert 'limit "key rpm" is used up' in answers[5].json()["error"]["message"]
        assert 1 <= int(answers[5].headers["retry-after"]) <= 61
    finally:
        clients.close()
        proxy.terminate()
        proxy.wait(30)


@pytest.mark.filterwarnings("ignore")
def test_the_example_counts_the_tokens_and_the_cost_of_a_team() -> None:
    from litellm.proxy._types import UserAPIKeyAuth
    from tokenweir.litellm import Gate

    gate = Gate(yaml.safe_load(EXAMPLE.read_text())["callback_settings"]["tokenweir"], folder=EXAMPLE.parent)
    caller = UserAPIKeyAuth(api_key="k", team_id="docks")
    data = {"litellm_call_id": "1", "model": "assistant", "messages": [{"role": "user", "content": "hello"}]}
    usage = {"prompt_tokens": 100, "completion_tokens": 30, "prompt_tokens_details": {"cached_tokens": 40}}

    async def call() -> None:
        await gate.async_pre_call_hook(caller, None, data, "acompletion")
        await gate.async_post_call_success_hook(data, caller, {"usage": usage})

    asyncio.run(call())
    counters = {counter.limit: (counter.scope, counter.settled_total) for counter in gate.limiter.usage()}
    assert counters == {
        "key rpm": ({"key:key": str(caller.api_key)}, 1),
        "team tpm": ({"project": "docks", "deployment": "assistant"}, 130),
        # 60 tokens of input at 2,500 nano-units, 40 from the cache at 1,250, 30 of output at 10,000: in millionths.
        "team month": ({"project": "docks"}, 500),
    }
