"""LiteLLM's real proxy with tokenweir, with LiteLLM's own limiter, and with none, in one run.

1. Over-admission: 200 keys with a limit of requests or of tokens a minute; 30 offers for each, all 6,000 in random order,
   200 at a time. How many times its limit did a key get within a window?
2. Time: requests one after another, to the three proxies in turn: what does each limiter add?
3. The hooks alone, hot: before a call and after it.

The model's answers are LiteLLM's mock, 10 tokens of input and 20 of output. Each proxy is a process of its own.

    proxy.py [--keys N] [--offers N] [--sequential N] [--window SECONDS]

The window is 60 s as a minute has; a machine that cannot make all offers within it says more about itself than about the
limiters, and wants a longer one, which both limiters are then given.
"""

from __future__ import annotations

import argparse
import asyncio
import contextvars
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
from serving import model, proxy
from waiting import until

KINDS = ("none", "tokenweir", "litellm")
WINDOW = int(os.environ.get("LITELLM_RATE_LIMIT_WINDOW_SIZE", "60"))
"""Seconds. LiteLLM reads its own from the same place."""
RPM, TPM, ANSWER = 10, 300, 30
"""Half of the keys may make so many requests in a window, the other half may use so many tokens: ten answers."""

POLICY = {
    "limit": [
        {"name": "rpm", "meter": "requests", "algorithm": "window", "amount": RPM, "per": f"{WINDOW}s"},
        {"name": "tpm", "meter": "total", "algorithm": "window", "amount": TPM, "per": f"{WINDOW}s"},
        {"name": "wide rpm", "meter": "requests", "algorithm": "window", "amount": 10**6, "per": f"{WINDOW}s"},
        {"name": "wide tpm", "meter": "total", "algorithm": "window", "amount": 10**9, "per": f"{WINDOW}s"},
    ]
}
for _limit, _tier in zip(POLICY["limit"], ("rpm", "tpm", "wide", "wide"), strict=True):
    _limit |= {"scope": ["key:key"], "match": {"key:tier": _tier}}

AUTH = f"""
import os
from litellm.proxy._types import UserAPIKeyAuth

LIMITS = {{"rpm": {{"rpm_limit": {RPM}}}, "tpm": {{"tpm_limit": {TPM}}}, "wide": {{"rpm_limit": 10**6, "tpm_limit": 10**9}}}}


async def caller(request, api_key):
    key, tier = api_key.split(".")
    own = LIMITS[tier] if os.environ["LIMITER"] == "litellm" else {{}}
    return UserAPIKeyAuth(api_key=key, metadata={{"tier": tier}}, **own)
"""

BODY = {
    "model": "mocked",
    "max_tokens": 20,
    "messages": [{"role": "user", "content": "sixty bytes of a prompt, " * 2 + "which is ten."}],
}


def serve(kind: str) -> None:
    """A proxy, until the standard input ends."""
    config: dict[str, Any] = {
        "model_list": [model("mocked", "http://127.0.0.1:9", "gpt-4o", mock_response="an answer")]
    }
    if kind == "tokenweir":
        config["litellm_settings"] = {"callbacks": ["tokenweir.litellm.gate"]}
        config["callback_settings"] = {"tokenweir": {"policy": POLICY}}
    with tempfile.TemporaryDirectory() as folder, proxy(Path(folder), config, AUTH) as address:
        said = Path(os.environ["ADDRESS"]).with_suffix(".new")
        said.write_text(address)
        said.rename(os.environ["ADDRESS"])
        sys.stdin.read()


class Proxy:
    def __init__(self, kind: str) -> None:
        self.folder = tempfile.TemporaryDirectory()
        address = Path(self.folder.name) / "address"
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"LIMITER": kind, "ADDRESS": str(address)},
        )
        until(lambda: address.exists() or self.process.poll() is not None, f"{kind} has started", 180)
        self.address = address.read_text()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)
        self.folder.cleanup()


Answers = dict[str, list[tuple[float, float]]]
"""By key: when each admitted request was sent and when its answer was there. It was admitted in between."""


async def admitted(address: str, keys: int, offers: int) -> Answers:
    answers: Answers = {f"key{number}.{'rpm' if number % 2 else 'tpm'}": [] for number in range(keys)}
    order = list(answers) * offers
    random.Random(1).shuffle(order)
    waiting = iter(order)
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(base_url=address, timeout=120, limits=limits) as http:

        async def offer() -> None:
            for name in waiting:
                sent = time.perf_counter()
                answer = await http.post("/v1/chat/completions", json=BODY, headers={"authorization": f"Bearer {name}"})
                assert answer.status_code in (200, 429), answer.text
                if answer.status_code == 200:
                    assert answer.json()["usage"]["total_tokens"] == ANSWER
                    answers[name].append((sent, time.perf_counter()))

        await asyncio.gather(*(offer() for _ in range(200)))
    return answers


def fullest_window(answers: list[tuple[float, float]]) -> int:
    """The most requests that were certainly admitted within one window."""
    by_end = sorted(answers, key=lambda answer: answer[1])
    return max(
        (sum(sent >= first and ended < first + WINDOW for sent, ended in by_end) for first, _ in answers), default=0
    )


def over_admission(proxies: dict[str, Proxy], keys: int, offers: int) -> None:
    print(f"1. {keys} keys, {offers} offers for each: answers within {WINDOW} s, as a multiple of the limit")
    print(f"{'':12} {'':8} {'fullest key':>12} {'mean':>8} {'keys above':>11} {'offered in':>11}")
    for kind in ("tokenweir", "litellm"):
        began = time.perf_counter()
        answers = asyncio.run(admitted(proxies[kind].address, keys, offers))
        seconds = time.perf_counter() - began
        for what, limit in (("rpm", RPM), ("tpm", TPM // ANSWER)):
            got = [fullest_window(each) for name, each in answers.items() if name.endswith(what)]
            above = sum(number > limit for number in got)
            mean = statistics.mean(got) / limit
            print(f"{kind:12} {what:8} {max(got) / limit:12.2f} {mean:8.2f} {above:11} {seconds:9.1f} s")


def sequential(proxies: dict[str, Proxy], turns: int) -> None:
    print(f"\n2. {turns} requests one after another to each proxy, in turn: milliseconds for a request, whole")
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    clients = {kind: httpx.Client(base_url=proxy.address, timeout=60) for kind, proxy in proxies.items()}
    for turn in range(turns + 50):
        for kind in random.Random(turn).sample(KINDS, len(KINDS)):
            began = time.perf_counter()
            answer = clients[kind].post("/v1/chat/completions", json=BODY, headers={"authorization": "Bearer hot.wide"})
            assert answer.status_code == 200, answer.text
            if turn >= 50:
                times[kind].append((time.perf_counter() - began) * 1e3)
    for client in clients.values():
        client.close()
    none = statistics.median(times["none"])
    print(f"{'':12} {'median':>8} {'p90':>8} {'median less none':>18}")
    for kind, taken in times.items():
        median = statistics.median(taken)
        print(f"{kind:12} {median:8.3f} {statistics.quantiles(taken, n=10)[8]:8.3f} {median - none:18.3f}")


async def hooks(turns: int) -> None:
    import litellm
    from litellm.caching.caching import DualCache
    from litellm.proxy._types import UserAPIKeyAuth
    from litellm.proxy.hooks.parallel_request_limiter_v3 import _PROXY_MaxParallelRequestsHandler_v3 as Hook
    from litellm.proxy.utils import InternalUsageCache

    from tokenweir.litellm import Gate

    cache = DualCache()
    hook, gate = Hook(InternalUsageCache(dual_cache=cache)), Gate({"policy": POLICY})
    usage = litellm.Usage(prompt_tokens=10, completion_tokens=20, total_tokens=30)
    response = litellm.ModelResponse(usage=usage)

    async def ours(user: Any, data: dict[str, Any]) -> None:
        await gate.async_pre_call_hook(user, cache, data, "acompletion")
        await gate.async_post_call_success_hook(data, user, response)

    async def theirs(user: Any, data: dict[str, Any]) -> None:
        await hook.async_pre_call_hook(user, cache, data, "acompletion")
        kwargs = {"standard_logging_object": {"metadata": {"user_api_key_hash": "hot"}}, "litellm_params": {}}
        await hook.async_log_success_event(kwargs, response, None, None)

    async def timed(act: Callable[[Any, dict[str, Any]], Awaitable[None]], limits: dict[str, Any]) -> list[float]:
        user = UserAPIKeyAuth(api_key="hot", metadata={"tier": "wide"}, **limits)
        taken = []

        async def once(number: int) -> None:
            data = {**BODY, "litellm_call_id": str(number)}
            began = time.perf_counter()
            await act(user, data)
            taken.append((time.perf_counter() - began) * 1e6)

        for number in range(turns):
            # Each request has a context of its own, as in the proxy.
            await asyncio.get_running_loop().create_task(once(number), context=contextvars.Context())
        return taken[turns // 10 :]

    print(f"\n3. The hooks alone, before and after a call, one hot key with two limits, {turns} calls: microseconds")
    print(f"{'':12} {'median':>8} {'p99':>8}")
    for _ in range(2):
        results = {
            "tokenweir": await timed(ours, {}),
            "litellm": await timed(theirs, {"rpm_limit": 10**6, "tpm_limit": 10**9}),
        }
    for kind, taken in results.items():
        print(f"{kind:12} {statistics.median(taken):8.1f} {statistics.quantiles(taken, n=100)[98]:8.1f}")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--serve", choices=KINDS, help=argparse.SUPPRESS)
    arguments.add_argument("--keys", type=int, default=200)
    arguments.add_argument("--offers", type=int, default=30)
    arguments.add_argument("--sequential", type=int, default=400)
    arguments.add_argument("--window", type=int, default=60)
    options = arguments.parse_args()
    if options.serve:
        serve(options.serve)
        return
    if options.window != WINDOW:
        os.environ["LITELLM_RATE_LIMIT_WINDOW_SIZE"] = str(options.window)
        os.execv(sys.executable, [sys.executable, *sys.argv])
    packages = ", ".join(f"{name} {version(name)}" for name in ("tokenweir", "litellm"))
    print(f"{platform.machine()}, {packages}, Python {platform.python_version()}\n")
    proxies = {kind: Proxy(kind) for kind in KINDS}
    try:
        over_admission(proxies, options.keys, options.offers)
        sequential(proxies, options.sequential)
    finally:
        for proxy in proxies.values():
            proxy.close()
    asyncio.run(hooks(2_000))


if __name__ == "__main__":
    main()
