"""examples/litellm as it stands, started as its first lines say."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from waiting import until

EXAMPLE = Path(__file__).resolve().parents[4] / "examples" / "litellm" / "config.yaml"


@pytest.mark.filterwarnings("ignore")
def test_the_example_limits(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    key = secrets.token_hex(32)
    log = tmp_path / "log"
    command = [
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
        assert 'limit "key rpm" is used up' in answers[5].json()["error"]["message"]
        assert 1 <= int(answers[5].headers["retry-after"]) <= 61
    finally:
        clients.close()
        proxy.terminate()
        proxy.wait(30)
