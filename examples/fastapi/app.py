"""An OpenAI-compatible service with tokenweir inside it, and a sample model behind it.

    pip install ./bindings/python -r examples/fastapi/requirements.txt
    uvicorn --app-dir examples/fastapi app:app

The README beside it has the calls to try.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import tokenweir
from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict
from tokenweir.asgi import ApiKeys, TokenweirMiddleware

limiter = tokenweir.Limiter(tokenweir.Policy.from_file(Path(__file__).with_name("policy.toml")))

# Your keys come from where you keep secrets, as digests: `ApiKeys.digest("sk-...")`.
KEYS = ApiKeys({"sk-search": "search", ApiKeys.digest("sk-chat"): "chat"})

app = FastAPI()
app.add_middleware(TokenweirMiddleware, limiter=limiter, identify=KEYS, output=256)


class Chat(BaseModel):
    """What the sample model looks at. A proxy would send the whole body on."""

    model_config = ConfigDict(extra="allow")
    model: str
    messages: list[dict[str, Any]]
    max_tokens: int = 20
    stream: bool = False


@app.post("/v1/chat/completions")
async def chat(asked: Chat) -> Any:
    """The sample model: a word of four letters for each token, as many as it may. The model `fails` does."""
    if asked.model == "fails":
        raise HTTPException(502, "the model does not answer")
    usage = {"prompt_tokens": sum(len(str(message.get("content", ""))) // 4 + 4 for message in asked.messages) + 3}
    usage |= {"completion_tokens": asked.max_tokens, "total_tokens": usage["prompt_tokens"] + asked.max_tokens}
    words = itertools.islice(itertools.cycle(["tide", "wave", "salt", "foam"]), asked.max_tokens)
    if asked.stream:
        return StreamingResponse(stream(asked, words, usage), media_type="text/event-stream")
    message = {"role": "assistant", "content": "".join(words)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "sample", "object": "chat.completion", "created": 0, "model": asked.model} | {
        "choices": [choice],
        "usage": usage,
    }


async def stream(asked: Chat, words: itertools.islice[str], usage: dict[str, int]) -> AsyncIterator[str]:
    """The same as events: a word each, every hundredth of a second."""
    head = {"id": "sample", "object": "chat.completion.chunk", "created": 0, "model": asked.model}
    for word in words:
        choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
        yield f"data: {json.dumps(head | {'choices': [choice]})}\n\n"
        await asyncio.sleep(0.01)
    yield f"data: {json.dumps(head | {'choices': [{'index': 0, 'delta': {}, 'finish_reason': 'stop'}]})}\n\n"
    if (asked.model_extra or {}).get("stream_options", {}).get("include_usage"):
        yield f"data: {json.dumps(head | {'choices': [], 'usage': usage})}\n\n"
    yield "data: [DONE]\n\n"


@app.get("/usage")
async def usage() -> list[dict[str, Any]]:
    """Every counter."""
    return [
        {"limit": counter.limit, "scope": counter.scope, "amount": counter.amount}
        | {"used": counter.used, "held": counter.held, "remaining": counter.remaining}
        for counter in limiter.usage()
    ]
