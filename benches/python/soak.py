"""Random traffic through LiteLLM's real proxy: streams, clients that leave, calls that fail or break, on every route.

For so many seconds. Then: nothing may be held, the counters must equal the sum of all settlements as an observer saw them,
every admission must have ended once, every answer that said its usage and was read to its end must have been settled by
exactly that, every route must have answered, and the process's memory must have stood still over the second half.

    soak.py [--seconds N] [--clients N] [--seed N]
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import gc
import itertools
import json
import random
import re
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import psutil
import tokenweir
from books import Books
from serving import Provider, model, proxy, serving
from visitor import visit
from waiting import until

if sys.version_info < (3, 13):
    # It sets context variables, by which such a CPython may crash (BENCHMARKS.md), for log lines that nobody reads here.
    from litellm.litellm_core_utils.streaming_handler import CustomStreamWrapper

    del CustomStreamWrapper.__del__

KEYS = 20
MODELS = ("ok", "ok", "fails", "no-usage", "breaks", "early", "first", "flaky-1")
TIGHT = 3_000
ROUTES = ("/v1/chat/completions", "/v1/embeddings", "/v1/responses", "/v1/messages")
NUMBERED = 10**6
"""A call's number and this are the input tokens that the provider says of it: so a settlement tells which call it is of."""
MOST_GROWTH = 24 << 20
"""Bytes. Most of the process is LiteLLM, whose caches and queues come and go by several MiB."""

GATE = f"""
import tokenweir
from tokenweir.litellm import Gate

LIMITS = [
    ("requests", "requests", "quota", ["key:key"], 10**9),
    ("input", "input", "quota", ["key:key", "deployment"], 10**12),
    ("output", "output", "quota", ["project"], 10**12),
    ("tight", "output", "bucket", ["key:key"], {TIGHT}),
    ("places", "in_flight", "in_flight", ["project"], 12),
]
POLICY = {{"limit": [
    dict(name=name, meter=meter, algorithm=algorithm, scope=scope, amount=amount)
    | ({{"period": "never"}} if algorithm == "quota" else {{"per": "1m"}} if algorithm == "bucket" else {{}})
    for name, meter, algorithm, scope, amount in LIMITS
]}}
ring = tokenweir.RecordRing(1 << 16)
gate = Gate({{"policy": POLICY, "default_output": 60}}, observer=ring)
gate.ring = ring
"""


class Telling(Provider):
    """Says of each call how many tokens it took, as its number in the prompt has it."""

    def tokens(self, body: dict[str, Any], input: int, output: int) -> tuple[int, int]:
        number = int(re.findall(r"#(\d+)", json.dumps(body))[-1])
        return NUMBERED + number, output and output_of(number)


def output_of(number: int) -> int:
    return 1 + number % 50


class Told(Books):
    """The books, and which calls have been settled by what the provider said of them."""

    def __init__(self, ring: tokenweir.RecordRing) -> None:
        super().__init__(ring)
        self.exact: set[int] = set()

    def ended(self, settlement: tokenweir.Settlement) -> None:
        number = settlement.input - NUMBERED
        if number >= 0:
            assert number not in self.exact, f"{number} is settled twice"
            assert settlement.output in (0, output_of(number)), (settlement, output_of(number))
            self.exact.add(number)


class Traffic:
    """What the clients have sent, and what became of it."""

    def __init__(self) -> None:
        self.numbers = itertools.count(1)
        self.statuses: dict[str, Counter[int]] = {route: Counter() for route in ROUTES}
        self.answered: set[int] = set()
        """The calls that were answered with their usage, and read to the end."""


async def client(number: int, address: str, seed: int, until_when: float, traffic: Traffic) -> None:
    dice = random.Random(seed * 1_000 + number)
    async with httpx.AsyncClient(base_url=address, timeout=30) as http:
        # Every client begins with every route.
        routes = itertools.chain(ROUTES, (dice.choices(ROUTES, (70, 10, 15, 5))[0] for _ in itertools.count()))
        while time.monotonic() < until_when:
            headers = {"authorization": f"Bearer team{dice.randrange(4)}.key{dice.randrange(KEYS)}"}
            name, streams = dice.choice(MODELS), dice.random() < 0.6
            call = next(traffic.numbers)
            content = "word " * dice.randrange(1, 60) + f"#{call}"
            body: dict[str, Any] = {
                "model": name,
                "messages": [{"role": "user", "content": content}],
                "stream": streams,
            }
            path = next(routes)
            if path == "/v1/embeddings":
                body = {"model": "embedding", "input": content}
            elif path == "/v1/responses":
                body = {"model": "ok", "input": content, "stream": streams}
            elif path == "/v1/messages":
                body = body | {"model": "ok", "max_tokens": 50}
            if dice.random() < 0.5 and "max_tokens" not in body and path == "/v1/chat/completions":
                body["max_tokens"] = dice.choice([1, 10, 100, 1_000, 5_000])
            tells = body["model"] not in ("no-usage", "breaks")
            if streams and path == "/v1/chat/completions":
                tells = tells and dice.random() < 0.5
                body["stream_options"] = {"include_usage": tells}
            if await visit(http, dice, traffic.statuses[path], path, json.dumps(body), headers) and tells:
                traffic.answered.add(call)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=float, default=180)
    arguments.add_argument("--clients", type=int, default=16)
    arguments.add_argument("--seed", type=int, default=1)
    options = arguments.parse_args()
    warnings.simplefilter("ignore")

    provider = Telling()
    provider.pause = 0.002
    with tempfile.TemporaryDirectory() as temporary, serving(provider.app, "/alive") as upstream:
        folder = Path(temporary)
        (folder / "gate_of_soak.py").write_text(GATE)
        upstreams = {"first": "fails", "early": "breaks-early"}
        names = {name: upstreams.get(name, name) for name in (*MODELS, "embedding")}
        config = {
            "model_list": [model(name, upstream, upstream_name) for name, upstream_name in names.items()],
            "router_settings": {"fallbacks": [{"first": ["ok"]}, {"early": ["ok"]}], "num_retries": 1, "disable_cooldowns": True},
            "litellm_settings": {"callbacks": ["gate_of_soak.gate"]},
        }
        with proxy(folder, config) as address:
            import litellm

            gate = next(callback for callback in litellm.callbacks if type(callback).__name__ == "Gate")
            ring = gate.ring
            books, traffic = Told(ring), Traffic()
            process = psutil.Process()
            sizes: list[int] = []
            over = threading.Event()

            def watch() -> None:
                while not over.wait(0.2):
                    books.read()
                    sizes.append(process.memory_info().rss)

            watcher = threading.Thread(target=watch, daemon=True)
            watcher.start()

            async def visits() -> None:
                end = time.monotonic() + options.seconds
                clients = (client(n, address, options.seed, end, traffic) for n in range(options.clients))
                await asyncio.gather(*clients)

            asyncio.run(visits())

            collected = time.monotonic()

            def settled() -> bool:
                # What is in a cycle ends when it is collected. That keeps the interpreter's lock for most of a second: one
                # collection after another would starve the proxy's thread, which has its last requests to settle.
                nonlocal collected
                if time.monotonic() - collected > 10:
                    gc.collect()
                    collected = time.monotonic()
                return bool(gate.limiter.stats().permits_open == 0)

            try:
                until(settled, "nothing is held", 60)
            except AssertionError:
                # Where every thread and task stands says whether something hangs or something was forgotten.
                print(f"{gate.limiter!r} {traffic.statuses}", file=sys.stderr)
                faulthandler.dump_traceback()
                for task in (thing for thing in gc.get_objects() if isinstance(thing, asyncio.Task)):
                    print(task, file=sys.stderr)
                raise
            finally:
                over.set()
            watcher.join()
            books.read()

            print(f"{options.seconds:.0f} s: answers by route and status (0: the client has left)")
            for route, statuses in traffic.statuses.items():
                print(f"    {route:22} {dict(sorted(statuses.items()))}")
            books.compare(gate.limiter)
            print(f"settled by exactly what the provider said: {len(books.exact)}")
            half, end = sizes[len(sizes) // 2], sizes[-1]
            print(f"memory: {sizes[0] >> 20} MiB at first, {half >> 20} half way, {end >> 20} at the end")
            missing = traffic.answered - books.exact
            assert not missing, f"not settled by their usage: {sorted(missing)[:10]} and more, {len(missing)} in all"
            least = max(3, options.seconds / 10)
            assert all(statuses[200] >= least for statuses in traffic.statuses.values()), f"below {least} answers"
            assert end - half < MOST_GROWTH, (half, end)


if __name__ == "__main__":
    main()
