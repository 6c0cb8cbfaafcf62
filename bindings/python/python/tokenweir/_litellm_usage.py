"""What LiteLLM's requests may cost, and what its responses and their streams say that they have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_ATTACHMENT_TOKENS = 1024
"""What an image, a sound or a file in the input is expected to take."""
_NO_OUTPUT = ("embedding", "moderation", "rerank", "transcription", "speech", "image")
"""Kinds of call that produce no output tokens."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the provider reported; None is unknown."""

    input: int | None = None
    output: int | None = None
    cached: int | None = None


def estimate(data: Mapping[str, Any], call_type: str, bytes_per_token: int, default_output: int) -> tuple[int, int]:
    """The input tokens of a request by its bytes, and the most output tokens that it asks for."""
    said = [
        data[name] for name in ("messages", "prompt", "input", "contents", "system", "instructions") if name in data
    ]
    if not said:
        return 0, 0
    size = sum(_bytes(part, bytes_per_token) for part in [*said, data.get("tools")])
    taken = -(-size // bytes_per_token)
    if any(kind in call_type for kind in _NO_OUTPUT):
        return taken, 0
    limits = (data.get(name) for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"))
    output = max((limit for limit in map(_count, limits) if limit is not None), default=default_output)
    return taken, output * max(_count(data.get("n")) or 1, _count(data.get("best_of")) or 1)


def _count(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    return value if type(value) is int and 0 <= value <= 2**63 else None


def _bytes(value: Any, bytes_per_token: int) -> int:
    """The bytes of all text in a part of a request; what is not text counts as so many tokens."""
    size = 0
    rest = [value]
    while rest:
        value = rest.pop()
        if isinstance(value, str):
            size += len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
        elif isinstance(value, Mapping):
            if {"image_url", "input_audio", "file", "source", "image"} & value.keys():
                size += _ATTACHMENT_TOKENS * bytes_per_token
            else:
                rest.extend(value.values())
                rest.extend(value.keys())
        elif isinstance(value, (list, tuple)):
            rest.extend(value)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            # A token by its number.
            size += bytes_per_token
    return size


def _get(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def usage_of(response: Any) -> Usage | None:
    """The usage of a response: of chat, text, embeddings, the Responses route, or Anthropic's messages."""
    said = _said(_get(response, "usage"))
    if said.input == 0:
        # Every answer has taken some input: nobody has counted. LiteLLM writes 0 where the provider has said nothing.
        said = Usage(None, said.output or None)
    return None if said == Usage() else said


def _said(usage: Any) -> Usage:
    """A usage object as it stands."""
    prompt, completion = _count(_get(usage, "prompt_tokens")), _count(_get(usage, "completion_tokens"))
    if prompt is not None or completion is not None:
        details = _get(usage, "prompt_tokens_details")
        total = _count(_get(usage, "total_tokens"))
        if completion is None and total is not None and prompt is not None:
            completion = max(total - prompt, 0)
        return Usage(prompt, completion, _count(_get(details, "cached_tokens")))
    taken, output = _count(_get(usage, "input_tokens")), _count(_get(usage, "output_tokens"))
    read, written = _count(_get(usage, "cache_read_input_tokens")), _count(_get(usage, "cache_creation_input_tokens"))
    if taken is not None and (read is not None or written is not None):
        # Anthropic counts what went through its cache apart.
        return Usage(taken + (read or 0) + (written or 0), output, read)
    return Usage(taken, output, _count(_get(_get(usage, "input_tokens_details"), "cached_tokens")))


def answer_bytes(response: Any) -> int:
    """The bytes of text in an answer that came in one piece, in any of these forms."""
    size = 0
    for choice in _list(response, "choices"):
        message = _get(choice, "message")
        size += _words(choice if message is None else message)
    for item in _list(response, "output"):
        size += _bytes(_get(item, "arguments"), 1)
        for part in (*_list(item, "summary"), *_list(item, "content")):
            size += _bytes(_get(part, "text"), 1)
    for block in _list(response, "content"):
        size += _bytes([_get(block, name) for name in ("text", "thinking", "input")], 1)
    return size


def _list(value: Any, name: str) -> list[Any]:
    found = _get(value, name)
    return found if isinstance(found, list) else []


def _words(part: Any) -> int:
    """The bytes of text in a message, a delta or a completion."""
    size = _bytes([_get(part, name) for name in ("content", "reasoning_content", "text")], 1)
    for tool in _list(part, "tool_calls"):
        size += _bytes(_get(_get(tool, "function"), "arguments"), 1)
    return size


def of_chunk(chunk: Any) -> tuple[int, Usage | None]:
    """The bytes of text that a chunk of a stream brings, and the usage, if it says it."""
    if isinstance(chunk, (bytes, str)):
        return _events(chunk)
    usage = usage_of(chunk)
    choices = _get(chunk, "choices")
    if choices is None:
        return _event(chunk)
    size = 0
    for choice in choices:
        delta = _get(choice, "delta")
        for part in (choice,) if delta is None else (delta,):
            size += _words(part)
    return size, usage


def _event(event: Any) -> tuple[int, Usage | None]:
    """An event of the Responses route or of Anthropic's messages."""
    delta = _get(event, "delta")
    texts = ("text", "thinking", "partial_json")
    size = _bytes(delta if isinstance(delta, str) else [_get(delta, name) for name in texts], 1)
    kind = _get(event, "type")
    if kind in ("response.completed", "response.incomplete", "response.failed"):
        return size, usage_of(_get(event, "response"))
    return size, None


def _events(chunk: bytes | str) -> tuple[int, Usage | None]:
    """Server-sent events, as the route of Anthropic's messages has them. Their last word on the usage is not theirs alone
    to say: it has no input tokens, which LiteLLM adds."""
    size = 0
    for line in chunk.splitlines():
        data = line.strip()[5:] if line.strip()[:5] in (b"data:", "data:") else None
        if data is not None:
            try:
                size += _event(json.loads(data))[0]
            except ValueError:
                continue
    return size, None
