"""LiteLLM's real proxy with tokenweir, with LiteLLM's own limiter, and with none, in one run.

1. Over-admission: 200 keys with a limit of requests, of tokens, or of both a minute; each offers 30 requests at once, as many
   keys at a time as make 200 connections. How many times its limit did a key get within a window?
2. The same at the edge of a window (one request, then 30 just before its end and 30 just after it), and for calls that began
   before the edge and fail after it.
3. Time: requests one after another, to the three proxies in turn: what does each limiter add?
4. The hooks alone, hot: before a call and after it.

If tokenweir admits more than a limit anywhere, the program fails.

The model's answers are LiteLLM's mock, 10 tokens of input and 20 of output. Each proxy is a process of its own.

    proxy.py [--keys N] [--offers N] [--sequential N] [--window SECONDS] [--edge-window SECONDS]

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
from fastapi import Request
from fastapi.responses import JSONResponse
from serving import BROKEN, Provider, model, proxy, serving
from waiting import until

KINDS = ("none", "tokenweir", "litellm")
WINDOW = int(os.environ.get("LITELLM_RATE_LIMIT_WINDOW_SIZE", "60"))
"""Seconds. LiteLLM reads its own from the same place."""
RPM, TPM, ANSWER = 10, 300, 30
"""A key may make so many requests in a window, or use so many tokens, or both: ten answers."""
TIERS = ("rpm", "tpm", "both")

POLICY = {
    "limit": [
        {"name": "rpm", "meter": "requests", "algorithm": "window", "amount": RPM, "per": f"{WINDOW}s"},
        {"name": "tpm", "meter": "total", "algorithm": "window", "amount": TPM, "per": f"{WINDOW}s"},
        {"name": "both rpm", "meter": "requests", "algorithm": "window", "amount": RPM, "per": f"{WINDOW}s"},
        {"name": "both tpm", "meter": "total", "algorithm": "window", "amount": TPM, "per": f"{WINDOW}s"},
        {"name": "wide rpm", "meter": "requests", "algorithm": "window", "amount": 10**6, "per": f"{WINDOW}s"},
        {"name": "wide tpm", "meter": "total", "algorithm": "window", "amount": 10**9, "per": f"{WINDOW}s"},
    ]
}
for _limit, _tier in zip(POLICY["limit"], ("rpm", "tpm", "both", "both", "wide", "wide"), strict=True):
    _limit |= {"scope": ["key:key"], "match": {"key:tier": _tier}}

AUTH = f"""
import os
from litellm.proxy._types import UserAPIKeyAuth

LIMITS = {{"rpm": {{"rpm_limit": {RPM}}}, "tpm": {{"tpm_limit": {TPM}}}, "wide": {{"rpm_limit": 10**6, "tpm_limit": 10**9}}}}
LIMITS["both"] = LIMITS["rpm"] | LIMITS["tpm"]


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
        "model_list": [
            model("mocked", "http://127.0.0.1:9", "gpt-4o", mock_response="an answer"),
            model("late", os.environ.get("PROVIDER", "http://127.0.0.1:9"), "gpt-4o"),
        ],
        "router_settings": {"num_retries": 0, "disable_cooldowns": True},
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
    def __init__(self, kind: str, **environment: str) -> None:
        self.folder = tempfile.TemporaryDirectory()
        address = Path(self.folder.name) / "address"
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"LIMITER": kind, "ADDRESS": str(address)} | environment,
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


async def offer(http: httpx.AsyncClient, name: str, answers: list[tuple[float, float]]) -> None:
    sent = time.perf_counter()
    answer = await http.post("/v1/chat/completions", json=BODY, headers={"authorization": f"Bearer {name}"})
    assert answer.status_code in (200, 429), answer.text
    if answer.status_code == 200:
        assert answer.json()["usage"]["total_tokens"] == ANSWER
        answers.append((sent, time.perf_counter()))


def client(address: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=address, timeout=120, limits=httpx.Limits(max_connections=200))


async def admitted(address: str, keys: int, offers: int) -> Answers:
    answers: Answers = {f"key{number}.{TIERS[number % len(TIERS)]}": [] for number in range(keys)}
    waiting = iter(answers)
    async with client(address) as http:

        async def bursts() -> None:
            for name in waiting:
                await asyncio.gather(*(offer(http, name, answers[name]) for _ in range(offers)))

        await asyncio.gather(*(bursts() for _ in range(max(1, 200 // offers))))
    return answers


def fullest_window(answers: list[tuple[float, float]], window: float) -> int:
    """The most requests that were certainly admitted within one window."""
    by_end = sorted(answers, key=lambda answer: answer[1])
    return max(
        (sum(sent >= first and ended < first + window for sent, ended in by_end) for first, _ in answers), default=0
    )


def over_admission(proxies: dict[str, Proxy], keys: int, offers: int) -> int:
    """How many keys got more than their limit from tokenweir."""
    print(f"1. {keys} keys, {offers} offers at once of each: answers within {WINDOW} s, as a multiple of the limit")
    print(f"{'':12} {'':8} {'fullest key':>12} {'mean':>8} {'keys above':>11} {'offered in':>11}")
    over = 0
    for kind in ("tokenweir", "litellm"):
        began = time.perf_counter()
        answers = asyncio.run(admitted(proxies[kind].address, keys, offers))
        seconds = time.perf_counter() - began
        for tier in TIERS:
            got = [fullest_window(each, WINDOW) for name, each in answers.items() if name.endswith(tier)]
            above = sum(number > RPM for number in got)
            over += above if kind == "tokenweir" else 0
            print(f"{kind:12} {tier:8} {max(got) / RPM:12.2f} {statistics.mean(got) / RPM:8.2f} {above:11} {seconds:9.1f} s")
    return over


class Late(Provider):
    """Answers no call before it is let go, and then with an error."""

    async def chat(self, request: Request) -> Any:
        await self.let_go()
        return JSONResponse(BROKEN, 500)


async def edge(address: str, window: float) -> int:
    answers: list[tuple[float, float]] = []
    async with client(address) as http:
        began = time.perf_counter()
        await offer(http, "edge.rpm", answers)
        for instant in (0.85, 1.02):
            await asyncio.sleep(began + window * instant - time.perf_counter())
            await asyncio.gather(*(offer(http, "edge.rpm", answers) for _ in range(30)))
    return fullest_window(answers, window)


async def failing(address: str, window: float, provider: Late) -> int:
    answers: list[tuple[float, float]] = []
    async with client(address) as http:
        with provider.holding():
            began = time.perf_counter()
            body, headers = BODY | {"model": "late"}, {"authorization": "Bearer late.tpm"}
            posts = (http.post("/v1/chat/completions", json=body, headers=headers) for _ in range(RPM))
            late = [asyncio.create_task(post) for post in posts]
            began_all = lambda: provider.held + sum(call.done() for call in late) == RPM  # noqa: E731
            await asyncio.to_thread(until, began_all, "they began")
            await asyncio.sleep(began + window * 1.02 - time.perf_counter())
            # The window that begins with this one is another.
            await offer(http, "late.tpm", answers)
        for call in late:
            assert (await call).status_code in (429, 500)
        # What the proxy has to say of them it writes down in the background.
        await asyncio.sleep(window / 10)
        await asyncio.gather(*(offer(http, "late.tpm", answers) for _ in range(60)))
    return fullest_window(answers, window)


def at_the_edge(window: int) -> int:
    """How often tokenweir admitted more than a limit."""
    print(f"\n2. At the edge of a window of {window} s: answers within one, as a multiple of the limit")
    print(f"{'':12} {'bursts':>12} {'calls that fail':>16}")
    over = 0
    provider = Late()
    with serving(provider.app, "/alive") as upstream:
        for kind in ("tokenweir", "litellm"):
            its = Proxy(kind, LITELLM_RATE_LIMIT_WINDOW_SIZE=str(window), PROVIDER=upstream)
            try:
                got = asyncio.run(edge(its.address, window)), asyncio.run(failing(its.address, window, provider))
            finally:
                its.close()
            over += sum(number > RPM for number in got) if kind == "tokenweir" else 0
            print(f"{kind:12} {got[0] / RPM:12.2f} {got[1] / RPM:16.2f}")
    return over


def sequential(proxies: dict[str, Proxy], turns: int) -> None:
    print(f"\n3. {turns} requests one after another to each proxy, in turn: milliseconds for a request, whole")
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

    print(f"\n4. The hooks alone, before and after a call, one hot key with two limits, {turns} calls: microseconds")
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
    arguments.add_argument("--edge-window", type=int, default=10)
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
        over = over_admission(proxies, options.keys, options.offers)
        over += at_the_edge(options.edge_window)
        sequential(proxies, options.sequential)
    finally:
        for proxy in proxies.values():
            proxy.close()
    asyncio.run(hooks(2_000))
    if over:
        sys.exit(f"tokenweir admitted more than the limit: {over} times")


if __name__ == "__main__":
    main()
