"""Servers in threads of this process: LiteLLM's real proxy, and a provider for it to call."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from waiting import until


@contextmanager
def serving(app: Any, path: str) -> Iterator[str]:
    """The address of an app that answers `path` by now."""
    server = uvicorn.Server(
        uvicorn.Config(
            app, host="127.0.0.1", port=0, log_level="critical", timeout_graceful_shutdown=5, timeout_keep_alive=120
        )
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        until(lambda: server.started or not thread.is_alive(), "the server", 300.0)
        assert thread.is_alive(), "the server has stopped"
        address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        assert httpx.get(address + path, timeout=60).status_code == 200
        yield address
    finally:
        server.should_exit = True
        thread.join(30)


class Provider:
    """Answers as OpenAI does. The model's name says how: `ok`, `fails`, `no-usage`, `breaks` (a stream, after five words),
    `breaks-early` (before the first); `flaky-N` fails N times, and `flaky-N-...` does so for itself."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.words = 20
        """How many words a stream has, of 4 bytes each."""
        self.pause = 0.0
        self.held = 0
        """How many calls wait to be let go: whole answers, and streams that have had `HELD_AT` words."""
        self._free = threading.Event()
        self._free.set()
        self.app = FastAPI()
        self.app.post("/v1/chat/completions")(self.chat)
        self.app.post("/v1/embeddings")(self.embeddings)
        self.app.post("/v1/responses")(self.responses)
        self.app.get("/alive")(lambda: {})

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Keeps back, while it lasts, what calls wait for."""
        self._free.clear()
        try:
            yield
        finally:
            self._free.set()

    async def let_go(self) -> None:
        self.held += 1
        try:
            while not self._free.is_set():
                await asyncio.sleep(0.005)
        finally:
            self.held -= 1

    def fails(self, model: str) -> bool:
        self.calls[model] += 1
        return model == "fails" or (model.startswith("flaky-") and self.calls[model] <= int(model.split("-")[1]))

    def tokens(self, body: dict[str, Any], input: int, output: int) -> tuple[int, int]:
        """The tokens that the answer to a request says it took; these, unless somebody knows better."""
        return input, output

    def usage(self, body: dict[str, Any]) -> dict[str, Any]:
        taken, output = self.tokens(body, 10, 7)
        return {
            "prompt_tokens": taken,
            "completion_tokens": output,
            "total_tokens": taken + output,
            "prompt_tokens_details": {"cached_tokens": 4},
        }

    async def chat(self, request: Request) -> Any:
        body = await request.json()
        model = body["model"]
        if self.fails(model):
            return JSONResponse(BROKEN, 500)
        if body.get("stream"):
            return StreamingResponse(self.stream(body), media_type="text/event-stream")
        await asyncio.sleep(self.pause)
        await self.let_go()
        message = {"role": "assistant", "content": "seven words"}
        answer = {"id": "x", "object": "chat.completion", "created": 1, "model": model, "usage": self.usage(body)}
        if model == "no-usage":
            del answer["usage"]
        answer["choices"] = [{"index": 0, "finish_reason": "stop", "message": message}]
        return answer

    async def stream(self, body: dict[str, Any]) -> AsyncIterator[str]:
        def chunk(**more: Any) -> str:
            whole = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": body["model"], **more}
            return f"data: {json.dumps(whole)}\n\n"

        if body["model"] == "breaks-early":
            yield chunk(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
            raise ConnectionError("the provider has gone")
        for number in range(self.words):
            if body["model"] == "breaks" and number == 5:
                raise ConnectionError("the provider has gone")
            if number == HELD_AT:
                await self.let_go()
            yield chunk(choices=[{"index": 0, "delta": {"content": "word"}, "finish_reason": None}])
            await asyncio.sleep(self.pause)
        yield chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
        if (body.get("stream_options") or {}).get("include_usage") and body["model"] != "no-usage":
            yield chunk(choices=[], usage=self.usage(body))
        yield "data: [DONE]\n\n"

    async def embeddings(self, request: Request) -> Any:
        body = await request.json()
        model = body["model"]
        if self.fails(model):
            return JSONResponse(BROKEN, 500)
        data = [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}]
        answer = {"object": "list", "data": data, "model": model}
        taken, _ = self.tokens(body, 9, 0)
        return answer if model == "no-usage" else answer | {"usage": {"prompt_tokens": taken, "total_tokens": taken}}

    async def responses(self, request: Request) -> Any:
        body = await request.json()
        if self.fails(body["model"]):
            return JSONResponse(BROKEN, 500)
        text = {"type": "output_text", "text": "seven words", "annotations": []}
        message = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [text]}
        taken, output = self.tokens(body, 11, 8)
        usage = {
            "input_tokens": taken,
            "output_tokens": output,
            "total_tokens": taken + output,
            "input_tokens_details": {"cached_tokens": 5},
            "output_tokens_details": {"reasoning_tokens": 0},
        }
        whole = {"id": "r", "object": "response", "created_at": 1, "model": body["model"], "output": [message]}
        whole |= {
            "status": "completed",
            "usage": None if body["model"] == "no-usage" else usage,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
        }
        if not body.get("stream"):
            return whole

        async def events() -> AsyncIterator[str]:
            for number in range(3):
                if number == HELD_AT:
                    await self.let_go()
                delta = {"type": "response.output_text.delta", "item_id": "m", "output_index": 0, "content_index": 0}
                yield f"data: {json.dumps(delta | {'delta': 'word', 'sequence_number': number})}\n\n"
            yield f"data: {json.dumps({'type': 'response.completed', 'response': whole, 'sequence_number': 4})}\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")


HELD_AT = 2
BROKEN = {"error": {"message": "broken", "type": "server_error"}}

AUTH = '''
from litellm.proxy._types import UserAPIKeyAuth


async def caller(request, api_key):
    """The key says who it is: `team.key.tier`."""
    team, key, tier = (api_key.split(".") + ["", ""])[:3]
    return UserAPIKeyAuth(api_key=key, team_id=team or None, user_id="u", metadata={"tier": tier} if tier else {})
'''


@contextmanager
def proxy(folder: Path, config: dict[str, Any], auth: str = AUTH) -> Iterator[str]:
    """LiteLLM's proxy with this configuration. There can be one in a process."""
    (folder / "auth.py").write_text(auth)
    config.setdefault("general_settings", {})["custom_auth"] = "auth.caller"
    (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    os.environ["CONFIG_FILE_PATH"] = str(folder / "config.yaml")
    os.environ["LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY"] = "true"
    # The prices that come with the package: no network.
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    from litellm.proxy.proxy_server import app

    with serving(app, "/health/liveliness") as address:
        yield address


def model(name: str, provider: str, upstream: str | None = None, **more: Any) -> dict[str, Any]:
    params = {"model": f"openai/{upstream or name}", "api_base": provider + "/v1", "api_key": "none", "max_retries": 0}
    return {"model_name": name, "litellm_params": params | more}
