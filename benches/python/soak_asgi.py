"""Random traffic through the ASGI middleware under uvicorn: streams cut anywhere, clients that leave, calls that fail or break.

For so many seconds. Then: nothing may be held, the counters must equal the sum of all settlements as an observer saw them,
every answer whose client read it to its end must have been settled by exactly what the model says it produced, and the
process's memory must have stood still over the second half.

    soak_asgi.py [--seconds N] [--clients N] [--seed N]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import psutil
from books import Books
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from serving import serving
from visitor import visit
from waiting import until

import tokenweir
from tokenweir.asgi import Caller, TokenweirMiddleware

PROJECTS = 20
LIMITS: list[tuple[str, str, str, list[str], dict[str, Any]]] = [
    ("requests", "requests", "quota", ["project"], {"amount": 10**9, "period": "never"}),
    ("input", "input", "quota", ["project", "deployment"], {"amount": 10**12, "period": "never"}),
    ("output", "output", "quota", ["project"], {"amount": 10**12, "period": "never"}),
    ("tight", "total", "bucket", ["project"], {"amount": 60_000, "per": "1m"}),
    ("spent", "total", "quota", ["key:tier"], {"amount": 15_000, "period": {"every": "2s"}}),
    ("places", "in_flight", "in_flight", ["project"], {"amount": 4}),
]
MODELS = ("ok", "ok", "ok", "no-usage", "fails", "raises", "breaks", "slow")
WORD: dict[str, Any] = {"choices": [{"index": 0, "delta": {"content": "wörter 光 "}}]}
MOST_GROWTH = 8 << 20


class Model:
    """A service behind the middleware. What the request names is how it behaves."""

    def __init__(self, books: Told) -> None:
        self.books = books
        self.dice = random.Random(7)
        self.app = FastAPI()
        self.app.post("/v1/chat/completions")(self.chat)
        self.app.get("/alive")(lambda: {})

    async def chat(self, request: Request) -> Response:
        body = await request.json()
        self.books.calls[request.scope["tokenweir.permit"].id] = body["call"]
        number = body["call"]
        kind, words = body["model"], body["words"]
        usage = {"prompt_tokens": body["words"] + 3, "completion_tokens": words * 2 + 1}
        if kind == "fails":
            return Response(b'{"error": {"message": "broken"}}', 500, media_type="application/json")
        if kind == "raises":
            raise LookupError("a fault")
        await asyncio.sleep(0.002)
        if body["stream"]:
            return StreamingResponse(self.stream(kind, words, usage, number), media_type="text/event-stream")
        answer: dict[str, Any] = {"choices": [{"message": {"content": "wort " * words}, "finish_reason": "stop"}]}
        if kind != "no-usage":
            answer["usage"] = usage
            self.books.expect(number, usage)
        return Response(json.dumps(answer), media_type="application/json")

    async def stream(self, kind: str, words: int, usage: dict[str, int], number: int) -> AsyncIterator[bytes]:
        events: list[dict[str, Any]] = [WORD] * words + [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]
        if kind != "no-usage":
            events.append({"choices": [], "usage": usage})
        whole = b"".join(b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\r\n\r\n" for event in events)
        whole += b"data: [DONE]\n\n"
        at = 0
        while at < len(whole):
            size = self.dice.choice([1, 7, 60, 300, 3_000])
            if kind == "breaks" and at > len(whole) // 2:
                raise ConnectionError("the provider has gone")
            if at + size >= len(whole) and kind != "no-usage":
                self.books.expect(number, usage)
            yield whole[at : at + size]
            at += size
            await asyncio.sleep(0.02 if kind == "slow" else 0.0005)


class Told(Books):
    """The books, and what the model says it has produced."""

    def __init__(self, ring: tokenweir.RecordRing) -> None:
        super().__init__(ring)
        self.calls: dict[int, int] = {}
        """The number of each call, by its permit."""
        self.expected: dict[int, dict[str, int]] = {}
        """What the model has said of each call that it brought to its end."""
        self.exact: set[int] = set()
        """The calls that were settled by that."""
        self.answered: set[int] = set()
        """The calls that were read to their end."""

    def expect(self, number: int, usage: dict[str, int]) -> None:
        self.expected[number] = usage

    def ended(self, settlement: tokenweir.Settlement) -> None:
        number = self.calls.pop(settlement.id, None)
        usage = None if number is None else self.expected.get(number)
        if number is not None and usage is not None and not settlement.estimated:
            said = (usage["prompt_tokens"], usage["completion_tokens"])
            assert (settlement.input, settlement.output) == said, (settlement, usage)
            self.exact.add(number)

    def missing(self) -> set[int]:
        """The calls whose usage the client has read, and by which they were not settled."""
        return (self.answered & self.expected.keys()) - self.exact


def identify(scope: Any) -> Caller | None:
    key = dict(scope["headers"]).get(b"x-api-key", b"").decode()
    project, _, tier = key.partition(".")
    return Caller(project, {"tier": tier}) if project else None


async def client(
    number: int, address: str, seed: int, until_when: float, statuses: Counter[int], numbers: Iterator[int], books: Told
) -> None:
    dice = random.Random(seed * 1_000 + number)
    async with httpx.AsyncClient(base_url=address, timeout=30) as http:
        while time.monotonic() < until_when:
            key = f"p{dice.randrange(PROJECTS)}.{dice.choice(['gold', 'free'])}" if dice.random() < 0.95 else ""
            words = dice.choice([1, 5, 20, 100, 400])
            body: dict[str, Any] = {"model": dice.choice(MODELS), "stream": dice.random() < 0.7, "words": words}
            body["call"] = next(numbers)
            body |= {"messages": [{"role": "user", "content": "word " * dice.randrange(1, 60)}]}
            if dice.random() < 0.5:
                body["max_tokens"] = dice.choice([1, 10, 100, 1_000, 5_000])
            sent = json.dumps(body) if dice.random() < 0.97 else "no request"
            read = await visit(http, dice, statuses, "/v1/chat/completions", sent, {"x-api-key": key})
            if read:
                books.answered.add(body["call"])


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=float, default=180)
    arguments.add_argument("--clients", type=int, default=16)
    arguments.add_argument("--seed", type=int, default=1)
    options = arguments.parse_args()

    shapes = [
        {"name": name, "meter": meter, "algorithm": algorithm, "scope": scope} | more
        for name, meter, algorithm, scope, more in LIMITS
    ]
    ring = tokenweir.RecordRing(1 << 16)
    limiter = tokenweir.Limiter(tokenweir.Policy.from_dict({"limit": shapes}), observer=ring)
    books, statuses = Told(ring), Counter[int]()
    app = TokenweirMiddleware(Model(books).app, limiter=limiter, identify=identify, output=60)
    process = psutil.Process()
    sizes: list[int] = []
    over = threading.Event()
    with serving(app, "/alive") as address:

        def watch() -> None:
            while not over.wait(0.1):
                books.read()
                sizes.append(process.memory_info().rss)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()

        async def traffic() -> None:
            end = time.monotonic() + options.seconds
            numbers = itertools.count(1)
            clients = (
                client(n, address, options.seed, end, statuses, numbers, books) for n in range(options.clients)
            )
            await asyncio.gather(*clients)

        asyncio.run(traffic())
        try:
            until(lambda: limiter.stats().permits_open == 0, "nothing is held", 60)
        finally:
            over.set()
            watcher.join()
        gc.collect()
        books.read()
    print(f"{options.seconds:.0f} s: answers by status {dict(sorted(statuses.items()))} (0: the client has left)")
    books.compare(limiter)
    half, end = sizes[len(sizes) // 2], sizes[-1]
    missing = books.missing()
    print(f"settled by exactly what the model produced: {len(books.exact)}; read and not settled so: {len(missing)}")
    print(f"memory: {sizes[0] >> 20} MiB at first, {half >> 20} half way, {end >> 20} at the end")
    assert not missing, sorted(missing)[:10]
    assert len(books.exact) > 0 and end - half < MOST_GROWTH, (half, end)


if __name__ == "__main__":
    main()
