"""Where a stream of server-sent events can be cut short, and what its client is told then."""

from __future__ import annotations

import json
import re

from tokenweir.wire import Dialect

_END = re.compile(rb"\n\n|\r\n\r\n|\r\r|\n\r\n|\r\n\n")


class Events:
    """Finds the end of events in a stream that comes in pieces."""

    def __init__(self) -> None:
        self._tail = b""

    def last_end(self, piece: bytes) -> int | None:
        """Where in `piece` the last event ends that ends in it; 0 is before its first byte."""
        whole = self._tail + piece
        ends = [found.end() for found in _END.finditer(whole)]
        if ends and ends[-1] >= len(self._tail):
            return ends[-1] - len(self._tail)
        return None

    def passed(self, piece: bytes) -> None:
        """`piece` has passed."""
        self._tail = (self._tail + piece[-3:])[-3:]


def cut_event(api: str, dialect: Dialect, limit: str) -> bytes:
    """The event that ends a stream whose limit is spent, in the words of its API."""
    message = f'Limit "{limit}" is spent, and the request has used more than its estimate: the stream ends here.'
    if api == "responses":
        body = {"type": "error", "code": "insufficient_quota", "message": message, "param": None}
        return b"event: error\ndata: " + json.dumps(body).encode() + b"\n\n"
    kind = b"event: error\n" if dialect.name == "anthropic" else b""
    return kind + b"data: " + dialect.error_body(429, message) + b"\n\n"
