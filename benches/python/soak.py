"""Random traffic through LiteLLM's real proxy: streams, clients that leave, calls that fail or break, on every route.

For so many seconds. Then: nothing may be held, the counters must equal the sum of all settlements as an observer saw them,
every admission must have ended once, and the process's memory must have stood still over the second half.

    soak.py [--seconds N] [--clients N] [--seed N]
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import gc
import json
import random
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
from books import Books
from serving import Provider, model, proxy, serving
from visitor import visit
from waiting import until

KEYS = 20
MODELS = ("ok", "ok", "fails", "no-usage", "breaks", "first", "flaky-1")
TIGHT = 3_000

GATE = f"""
import tokenweir
from tokenweir.litellm import Gate

LIMITS = [
    ("requests", "requests", "quota", ["key:key"], 10**9),
    ("input", "input", "quota", ["key:key", "deployment"], 10**12),
    ("output", "output", "quota", ["project"], 10**12),
    ("tight", "total", "bucket", ["key:key"], {TIGHT}),
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


async def client(number: int, address: str, seed: int, until_when: float, statuses: Counter[int]) -> None:
    dice = random.Random(seed * 1_000 + number)
    async with httpx.AsyncClient(base_url=address, timeout=30) as http:
        while time.monotonic() < until_when:
            headers = {"authorization": f"Bearer team{dice.randrange(4)}.key{dice.randrange(KEYS)}"}
            name, streams = dice.choice(MODELS), dice.random() < 0.6
            content = "word " * dice.randrange(1, 60)
            body: dict[str, Any] = {
                "model": name,
                "messages": [{"role": "user", "content": content}],
                "stream": streams,
            }
            path = "/v1/chat/completions"
            kind = dice.random()
            if kind < 0.1:
                path, body = "/v1/embeddings", {"model": "embedding", "input": content}
            elif kind < 0.25:
                path, body = "/v1/responses", {"model": "ok", "input": content, "stream": streams}
            elif kind < 0.3:
                path, body = "/v1/messages", body | {"max_tokens": 50}
            if dice.random() < 0.5 and "max_tokens" not in body and path == "/v1/chat/completions":
                body["max_tokens"] = dice.choice([1, 10, 100, 1_000, 5_000])
            await visit(http, dice, statuses, path, json.dumps(body), headers)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=float, default=180)
    arguments.add_argument("--clients", type=int, default=16)
    arguments.add_argument("--seed", type=int, default=1)
    options = arguments.parse_args()
    warnings.simplefilter("ignore")

    provider = Provider()
    provider.pause = 0.002
    with tempfile.TemporaryDirectory() as temporary, serving(provider.app, "/alive") as upstream:
        folder = Path(temporary)
        (folder / "gate_of_soak.py").write_text(GATE)
        names = {name: "fails" if name == "first" else name for name in (*MODELS, "embedding")}
        config = {
            "model_list": [model(name, upstream, upstream_name) for name, upstream_name in names.items()],
            "router_settings": {"fallbacks": [{"first": ["ok"]}], "num_retries": 1, "disable_cooldowns": True},
            "litellm_settings": {"callbacks": ["gate_of_soak.gate"]},
        }
        with proxy(folder, config) as address:
            import litellm

            gate = next(callback for callback in litellm.callbacks if type(callback).__name__ == "Gate")
            ring = gate.ring
            books, statuses = Books(ring), Counter[int]()
            process = psutil.Process()
            sizes: list[int] = []
            over = threading.Event()

            def watch() -> None:
                while not over.wait(0.2):
                    books.read()
                    sizes.append(process.memory_info().rss)

            watcher = threading.Thread(target=watch, daemon=True)
            watcher.start()

            async def traffic() -> None:
                end = time.monotonic() + options.seconds
                clients = (client(n, address, options.seed, end, statuses) for n in range(options.clients))
                await asyncio.gather(*clients)

            asyncio.run(traffic())

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
                print(f"{gate.limiter!r} {dict(sorted(statuses.items()))}", file=sys.stderr)
                faulthandler.dump_traceback()
                for task in (thing for thing in gc.get_objects() if isinstance(thing, asyncio.Task)):
                    print(task, file=sys.stderr)
                raise
            finally:
                over.set()
            watcher.join()
            books.read()

            print(
                f"{options.seconds:.0f} s: answers by status {dict(sorted(statuses.items()))} (0: the client has left)"
            )
            books.compare(gate.limiter)
            half, end = sizes[len(sizes) // 2], sizes[-1]
            print(f"memory: {sizes[0] >> 20} MiB at first, {half >> 20} half way, {end >> 20} at the end")


if __name__ == "__main__":
    main()
