"""The worst minute of LiteLLM's own limiter: the proxy's rate limit hook, in process, with its in-memory cache.

Puts the hook under the patterns of crates/tokenweir/tests/support/worst_minute/pattern.rs, with fewer variants where they
cost time, and prints what it admitted in its fullest rolling 60 seconds as a multiple of the limit: a column that
`worst_minute --column FILE` puts beside the others. Then on standard error: the versions, and how many keys the
in-memory cache can hold apart.

The hook decides on an event loop, so "two racing threads" are tasks of one loop here. Time is a clock that the patterns
own: the hook's time provider and its cache's clock.
"""

import asyncio
import contextvars
import math
import platform
import random
import sys
from collections import deque
from datetime import datetime, timezone
from importlib.metadata import version

import litellm
from fastapi import HTTPException
from litellm.caching.caching import DualCache
from litellm.caching.in_memory_cache import InMemoryCache
from litellm.proxy._types import UserAPIKeyAuth
from litellm.proxy.hooks.parallel_request_limiter_v3 import (
    _PROXY_MaxParallelRequestsHandler_v3 as Hook,
    get_request_stash,
)
from litellm.proxy.utils import InternalUsageCache

LIMIT = 60_000
MINUTE = 60.0
# A whole minute of the clock, so that phases are phases of its seconds too.
BEGINNING = 1_800_000_000.0


class Clock:
    """Seconds since 1970 that stand until they are moved on."""

    def __init__(self):
        self.now = BEGINNING

    def wait_until(self, at):
        self.now = max(self.now, BEGINNING + at)

    @property
    def passed(self):
        return self.now - BEGINNING


class Call:
    """An admitted call that has not ended: the hook keeps its own notes on it in the call's context."""

    def __init__(self, context, key, used):
        self.context, self.key, self.used = context, key, used


class Caller:
    """Asks the hook, ends calls, and writes down what was admitted: pairs of an instant and its tokens."""

    def __init__(self):
        self.clock = Clock()
        # As the proxy makes it, but for the clock.
        cache = DualCache(in_memory_cache=InMemoryCache(clock=lambda: self.clock.now), default_in_memory_ttl=1)
        self.cache = InternalUsageCache(dual_cache=cache)
        self.hook = Hook(self.cache, time_provider=lambda: datetime.fromtimestamp(self.clock.now, tz=timezone.utc))
        self.log = []
        self.asked = 0

    async def ask(self, estimate, used, key="key", requests=None):
        self.asked += 1
        context = contextvars.Context()
        asking = self._ask(estimate, UserAPIKeyAuth(api_key=key, tpm_limit=LIMIT, rpm_limit=requests))
        admitted = await asyncio.get_running_loop().create_task(asking, context=context)
        if not admitted:
            return None
        self.log.append((self.clock.now, used or 0))
        return Call(context, key, used)

    async def _ask(self, estimate, user):
        # One token of input; the rest is the most it may put out.
        data = {"model": "gpt-4o", "messages": [{"role": "user", "content": "word"}], "max_tokens": estimate - 1}
        try:
            await self.hook.async_pre_call_hook(user, self.cache.dual_cache, data, "acompletion")
        except HTTPException as refusal:
            assert refusal.status_code == 429, refusal
            return False
        assert get_request_stash().reserved_tokens == estimate, "the hook reserved something else"
        return True

    async def end(self, call):
        await asyncio.get_running_loop().create_task(self._end(call), context=call.context)

    async def end_due(self, held, at):
        """Ends those of the held calls, pairs of an end and a call, that end by `at`; the others."""
        for end, call in held:
            if end <= at:
                await self.end(call)
        return [(end, call) for end, call in held if end > at]

    async def _end(self, call):
        kwargs = {"standard_logging_object": {"metadata": {"user_api_key_hash": call.key}}, "litellm_params": {}}
        if call.used is None:
            await self.hook.async_log_failure_event(kwargs, None, None, None)
        else:
            usage = litellm.Usage(prompt_tokens=0, completion_tokens=call.used, total_tokens=call.used)
            await self.hook.async_log_success_event(kwargs, litellm.ModelResponse(usage=usage), None, None)

    async def drain(self):
        for size in sizes():
            while call := await self.ask(size, size):
                await self.end(call)

    async def hold_all(self, fail):
        held = []
        for size in sizes():
            while call := await self.ask(size, None if fail else size // 100):
                held.append(call)
        return held

    async def drain_until(self, end, step):
        at = self.clock.passed
        while at < end:
            await self.drain()
            at = round(at + step, 6)
            self.clock.wait_until(at)
        await self.drain()

    def counted(self, key="key"):
        return self.cache.dual_cache.in_memory_cache.get_cache(f"{{api_key:{key}}}:tokens")


def sizes():
    size = LIMIT
    while size >= 1:
        yield size
        size //= 2


def worst(log):
    """Tokens in the fullest minute, its end excluded: two windows that meet are not one."""
    log = sorted(log)
    fullest = inside = first = 0
    for at, tokens in log:
        inside += tokens
        while at - log[first][0] > MINUTE - 1e-6:
            inside -= log[first][1]
            first += 1
        fullest = max(fullest, inside)
    return fullest


async def idle(caller):
    caller.clock.wait_until(10 * MINUTE)
    await caller.drain_until(13 * MINUTE, 1.0)


def burst(pace):
    return lambda caller: caller.drain_until(3 * MINUTE, pace)


def edge(phase, lead):
    async def traffic(caller):
        caller.clock.wait_until(phase)
        await caller.end(await caller.ask(1, 1))
        edge = caller.clock.passed + MINUTE
        caller.clock.wait_until(edge - lead)
        await caller.drain_until(edge + 2 * lead, lead / 8)
        await caller.drain_until(edge + MINUTE + lead, 1.0)

    return traffic


def race(late):
    async def traffic(caller):
        rng = random.Random(1)
        held = []
        for step in range(300):
            caller.clock.wait_until(step)
            estimates = [rng.choice([LIMIT, LIMIT // 2, LIMIT // 3, LIMIT // 10, LIMIT // 100, 7, 1]) for _ in range(200)]
            used = [
                rng.choice([None, rng.randrange(estimate + 1), estimate, estimate]) if late else estimate
                for estimate in estimates
            ]
            calls = await asyncio.gather(*map(caller.ask, estimates, used))
            held.extend(call for call in calls if call)
            rng.shuffle(held)
            # Most calls are short; some last.
            ending = [held.pop() for _ in range(max(len(held) - 16, 0) if late else len(held))]
            await asyncio.gather(*map(caller.end, ending))

    return traffic


def hold_once(duration, fail):
    async def traffic(caller):
        held = await caller.hold_all(fail)
        caller.clock.wait_until(duration)
        await caller.drain()
        for call in held:
            await caller.end(call)
            await caller.drain()
        await caller.drain_until(duration + 2 * MINUTE, 1.0)

    return traffic


def hold_thrice(fail):
    async def traffic(caller):
        held = []
        for minute in range(3):
            # A moment after the minute: a window that begins with its first token is over then.
            caller.clock.wait_until(minute * (MINUTE + 0.01))
            held.extend(await caller.hold_all(fail))
        caller.clock.wait_until(3 * (MINUTE + 0.01))
        await caller.drain()
        for call in held:
            await caller.end(call)
            await caller.drain()
        await caller.drain_until(5 * MINUTE, 1.0)

    return traffic


def dense(seed, fail):
    async def traffic(caller):
        rng = random.Random(seed)
        estimate = LIMIT // 100
        held = []
        for step in range(int(5 * MINUTE / 0.02)):
            at = step * 0.02
            caller.clock.wait_until(at)
            held = await caller.end_due(held, at)
            failed = fail and rng.randrange(2) == 0
            if call := await caller.ask(estimate, None if failed else estimate // 4):
                held.append((at + rng.uniform(0, 2 * MINUTE), call))

    return traffic


def randomly(seed):
    async def traffic(caller):
        rng = random.Random(seed)
        held = deque()
        for _ in range(100):
            move = rng.randrange(8)
            if move < 2:
                await caller.drain()
            elif move == 2:
                held.extend(await caller.hold_all(rng.randrange(2) == 0))
            elif move == 3:
                estimate = 1 + rng.randrange(LIMIT)
                used = None if rng.randrange(4) == 0 else rng.randrange(estimate + 1)
                if call := await caller.ask(estimate, used):
                    held.append(call)
            elif move == 4:
                for _ in range(1 + rng.randrange(4)):
                    if held:
                        await caller.end(held.popleft())
                    if held:
                        await caller.end(held.pop())
            elif move == 5:
                while held:
                    await caller.end(held.popleft())
            else:
                now = caller.clock.passed
                second = int(now) + 1
                at = rng.choice([now + 0.001, second - 0.001, second, now + rng.random(), now + MINUTE, second + 59])
                caller.clock.wait_until(at if rng.randrange(4) else now + rng.uniform(0, MINUTE))

    return traffic


def low(seed):
    async def traffic(caller):
        rng = random.Random(seed)
        estimate = LIMIT // 400
        held = []
        for step in range(int(5 * MINUTE / 0.1)):
            at = step * 0.1
            caller.clock.wait_until(at)
            held = await caller.end_due(held, at)
            while len(held) < 16 and (call := await caller.ask(estimate, 4 * estimate)):
                held.append((at + rng.uniform(0.5, 4), call))

    return traffic


def late(fail):
    holds = [hold_once(duration, fail) for duration in (1, 15, 30, 45, 59, 61, 75, 90, 119, 121)]
    return holds + [hold_thrice(fail)] + [dense(seed, fail) for seed in range(2)]


PATTERNS = {
    "after idling": [idle],
    "after a burst": [burst(pace) for pace in (1, 7, 15, 29.999, 30, 59.999, 60, 60.001)],
    "at a window's edge": [edge(*at) for at in ((0, 0.001), (0, 1), (0.25, 0.1), (0.9, 1), (59.9, 0.01))],
    "two racing threads": [race(late=False)],
    "late settlement, estimates too high": late(fail=False),
    "late failures, all returned": late(fail=True),
    "two racing threads, late settlement": [race(late=True)],
    "random, late settlement": [randomly(seed) for seed in range(40)],
    "late settlement, estimates a quarter of the use, 16 calls at a time": [low(seed) for seed in range(2)],
}


async def self_check():
    """What the harness takes for granted: estimates are held, usage settles them, failures return them."""
    caller = Caller()
    first, second = await caller.ask(1000, 400), await caller.ask(500, None)
    assert caller.counted() == 1500, caller.counted()
    await caller.end(first)
    assert caller.counted() == 900, caller.counted()
    await caller.end(second)
    assert caller.counted() == 400, caller.counted()
    assert await caller.ask(LIMIT - 399, 1) is None
    assert await caller.ask(LIMIT - 400, 1) is not None


async def keys(number):
    """So many keys in turn, each asking for a tenth of its limit, thirty times within a minute: the fullest key."""
    caller = Caller()
    tokens = dict.fromkeys((f"key-{n}" for n in range(number)), 0)
    for step in range(30):
        caller.clock.wait_until(step)
        for key in tokens:
            if await caller.ask(LIMIT // 10, LIMIT // 10, key):
                tokens[key] += LIMIT // 10
    return max(tokens.values())


async def requests_left():
    """Of five requests a minute: how many are left after one that was admitted and three that the token limit refused."""
    caller = Caller()
    asked = [await caller.ask(tokens, tokens, requests=5) for tokens in (LIMIT, LIMIT, LIMIT, LIMIT)]
    assert [call is not None for call in asked] == [True, False, False, False]
    await caller.end(Call(asked[0].context, asked[0].key, 0))
    left = 0
    while await caller.ask(1, 1, requests=5):
        left += 1
    return left


def ratio(tokens):
    """Rounded up, so that no bound looks kept that is not."""
    thousandths = math.ceil(tokens * 1000 / LIMIT)
    return f"{thousandths // 1000}.{thousandths % 1000:03}"


async def main():
    await self_check()
    packages = ", ".join(f"{name} {version(name)}" for name in ("litellm", "fastapi"))
    print(f"{packages}, Python {platform.python_version()}", file=sys.stderr)
    print(f"litellm {version('litellm')}")
    for title, variants in PATTERNS.items():
        fullest = asked = 0
        for traffic in variants:
            caller = Caller()
            await traffic(caller)
            fullest, asked = max(fullest, worst(caller.log)), asked + caller.asked
        print(f"{title}\t{ratio(fullest)}", flush=True)
        print(f"litellm: {title}: {fullest} tokens at worst, asked {asked} times", file=sys.stderr)
    caller = Caller()
    await dense(0, fail=False)(caller)
    share = ratio(sum(tokens for _, tokens in caller.log) / 5)
    print(f"used of the limit in 5 minutes, estimates four times the use\t{share}")
    print(f"litellm: {await requests_left()} of 5 requests left after 1 admitted, 3 refused by tokens", file=sys.stderr)
    for number in (10, 60, 66, 67, 68, 80, 100):
        print(f"litellm: {number} keys in turn: {ratio(await keys(number))} of a key's limit", file=sys.stderr)


asyncio.run(main())
