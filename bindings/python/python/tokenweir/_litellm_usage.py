"""What LiteLLM's requests may cost, and what its responses and their streams say that they have."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tokenweir import BodyError
from tokenweir.wire import Asked

_READ = ("messages", "prompt", "input", "contents", "system", "systemInstruction", "system_instruction", "instructions")
"""Where a request has its input."""
_BESIDES = ("suffix", "tools", "functions", "response_format", "text")
"""What the model reads besides."""
_BOUNDS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens")
_ANSWERS = ("n", "best_of", "candidateCount", "candidate_count")
_NO_OUTPUT = ("embedding", "moderation", "rerank", "transcription", "speech", "image")
"""Kinds of call that produce no output tokens."""
_MOST = 2**53
"""The most tokens that a request can be expected to take."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the provider reported; None is unknown."""

    input: int | None = None
    output: int | None = None
    cached: int | None = None


def estimate(data: Mapping[str, Any], call_type: str, default_output: int) -> tuple[int, int]:
    """The input tokens of a request by the rules of `tokenweir.wire`, and the most output tokens that it asks for.

    Raises BodyError for what cannot be written as JSON.
    """
    if not any(name in data for name in _READ):
        return 0, 0
    body = {name: data[name] for name in (*_READ, *_BESIDES) if data.get(name) is not None}
    # What is read of a request is the same in every API, but for a prompt. Of these two none has prompts of its own.
    api = "completions" if isinstance(data.get("prompt"), (str, list)) else "chat_completions"
    if any(kind in call_type for kind in _NO_OUTPUT):
        api = "embeddings"
        body.setdefault("input", body.get("prompt"))
    # The proxy passes on what clients write in many forms.
    places = [data, *(data[name] for name in ("generationConfig", "config") if isinstance(data.get(name), Mapping))]
    for name, names in (("max_tokens", _BOUNDS), ("n", _ANSWERS)):
        stated = [count for place in places for count in map(_whole, map(place.get, names)) if count is not None]
        if stated:
            body[name] = max(stated)
    asked = Asked.read(api, _json(body))
    return asked.input, min(default_output * asked.answers, _MOST) if asked.output is None else asked.output


def _json(body: Mapping[str, Any]) -> bytes:
    try:
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), default=str)
    except (ValueError, RecursionError) as error:
        raise BodyError(f"the request cannot be read as JSON: {error}") from error
    return text.encode("utf-8", "replace")


def _whole(value: Any) -> int | None:
    """A bound as a whole number, however it is written; on the strict side, so up, where it is none. Bounds below 0 are none."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        return None
    # Whatever is not below it, infinity and what is no number included.
    return math.ceil(value) if value < _MOST else _MOST


def _count(value: Any) -> int | None:
    """A count of tokens as a provider reports it."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    return value if type(value) is int and 0 <= value <= _MOST else None


def _bytes(value: Any) -> int:
    """The bytes of all text in a part of an answer."""
    size = 0
    rest = [value]
    while rest:
        value = rest.pop()
        if isinstance(value, str):
            size += len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
        elif isinstance(value, Mapping):
            rest.extend(value.values())
            rest.extend(value.keys())
        elif isinstance(value, (list, tuple)):
            rest.extend(value)
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
        size += _bytes(_get(item, "arguments"))
        for part in (*_list(item, "summary"), *_list(item, "content")):
            size += _bytes(_get(part, "text"))
    for block in _list(response, "content"):
        size += _bytes([_get(block, name) for name in ("text", "thinking", "input")])
    return size


def _list(value: Any, name: str) -> list[Any]:
    found = _get(value, name)
    return found if isinstance(found, list) else []


def _words(part: Any) -> int:
    """The bytes of text in a message, a delta or a completion."""
    size = _bytes([_get(part, name) for name in ("content", "reasoning_content", "text")])
    for tool in _list(part, "tool_calls"):
        size += _bytes(_get(_get(tool, "function"), "arguments"))
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
    size = _bytes(delta if isinstance(delta, str) else [_get(delta, name) for name in texts])
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
