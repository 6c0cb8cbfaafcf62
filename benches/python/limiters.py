"""What one decision costs in Python: tokenweir beside an empty call into Rust, and beside other limiters in memory.

All in one run: the subjects take turns, and each figure is the best of its rounds, in nanoseconds for one decision. A round
is shorter than the slice of time that a busy machine gives it. A decision of tokenweir is an admission and its settlement;
the others have no settlement and decide alone.

    limiters.py [--rounds N] [--turns N]
"""

from __future__ import annotations

import argparse
import platform
import timeit
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import floor
import limits
import limits.storage
import limits.strategies
import pyrate_limiter
import throttled

import tokenweir

PLENTY = 10**10


def policy(count: int) -> tokenweir.Policy:
    """Limits that always have room: what is measured is admitted."""
    shapes = [
        {"name": "project tpm", "meter": "total", "algorithm": "bucket", "scope": ["project"]},
        {"name": "deployment rpm", "meter": "requests", "algorithm": "bucket", "scope": ["deployment"]},
        {"name": "pair output", "meter": "output", "algorithm": "bucket", "scope": ["project", "deployment"]},
        {"name": "all input", "meter": "input", "algorithm": "bucket", "scope": []},
    ]
    return tokenweir.Policy.from_dict({"limit": [shape | {"amount": PLENTY, "per": "1m"} for shape in shapes[:count]]})


def subjects() -> dict[str, Callable[[], object]]:
    empty = floor.Floor()
    found: dict[str, Callable[[], object]] = {}

    def floor_pair() -> None:
        empty.nothing()
        empty.nothing()

    def floor_pair_taking() -> None:
        empty.taking(900, 400)
        empty.taking(912, 377)

    def floor_pair_by_keyword() -> None:
        empty.taking(input=900, output=400)
        empty.taking(input=912, output=377)

    found["an empty pair of calls into Rust"] = floor_pair
    found["an empty pair that takes two numbers each"] = floor_pair_taking
    found["an empty pair that takes them by keyword"] = floor_pair_by_keyword

    for count, words in ((1, "1 limit"), (4, "4 limits")):
        limiter = tokenweir.Limiter(policy(count))
        route = limiter.route("search", "gpt-4o")

        def held(route: tokenweir.Route = route) -> None:
            route.admit(900, 400).settle(912, 377)  # type: ignore[union-attr]

        def looked_up(limiter: tokenweir.Limiter = limiter) -> None:
            limiter.admit("search", "gpt-4o", 900, 400).settle(912, 377)  # type: ignore[union-attr]

        def by_keyword(limiter: tokenweir.Limiter = limiter) -> None:
            limiter.admit("search", "gpt-4o", input=900, output=400).settle(input=912, output=377)  # type: ignore[union-attr]

        found[f"tokenweir, {words}, route held"] = held
        found[f"tokenweir, {words}, looked up"] = looked_up
        found[f"tokenweir, {words}, by keyword"] = by_keyword

    told = tokenweir.Limiter(policy(1), clock=tokenweir.CoarseClock()).route("search", "gpt-4o")
    found["tokenweir, 1 limit, held, coarse clock"] = lambda: told.admit(900, 400).settle(912, 377)  # type: ignore[union-attr]

    item = limits.RateLimitItemPerMinute(PLENTY)
    for name in ("FixedWindowRateLimiter", "SlidingWindowCounterRateLimiter"):
        strategy = getattr(limits.strategies, name)(limits.storage.MemoryStorage())
        found[f"limits, {name.removesuffix('RateLimiter')}"] = lambda s=strategy: s.hit(item, "search", cost=1300)
    # It writes one entry for each unit of cost: one token, or it would not end.
    moving = limits.strategies.MovingWindowRateLimiter(limits.storage.MemoryStorage())
    few = limits.RateLimitItemPerSecond(1_000)
    found["limits, MovingWindow, cost 1"] = lambda: moving.hit(few, "search")

    for algorithm in ("token_bucket", "fixed_window", "gcra"):
        quota = throttled.per_min(PLENTY, PLENTY)
        limiter_ = throttled.Throttled(using=algorithm, quota=quota, store=throttled.MemoryStore())
        found[f"throttled-py, {algorithm}"] = lambda t=limiter_: t.limit("search", cost=1300)

    # It counts in whole microseconds, so there cannot be more than one unit in each.
    rate = pyrate_limiter.Rate(6 * 10**7, pyrate_limiter.Duration.MINUTE)
    bucket = pyrate_limiter.Limiter(pyrate_limiter.StateBucket([rate], pyrate_limiter.TokenBucket()))
    found["pyrate-limiter, TokenBucket"] = lambda: bucket.try_acquire("search", 13, blocking=False)
    log = pyrate_limiter.Limiter(
        pyrate_limiter.InMemoryBucket([pyrate_limiter.Rate(1_000, pyrate_limiter.Duration.SECOND)])
    )
    found["pyrate-limiter, SlidingWindowLog, cost 1"] = lambda: log.try_acquire("search", 1, blocking=False)
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=200)
    arguments.add_argument("--turns", type=int, default=2_000)
    options = arguments.parse_args()

    found = subjects()
    best = dict.fromkeys(found, float("inf"))
    timers = {name: timeit.Timer(subject) for name, subject in found.items()}
    for _ in range(options.rounds):
        for name, timer in timers.items():
            turns = options.turns if name.startswith(("an empty", "tokenweir")) else options.turns // 10
            best[name] = min(best[name], timer.timeit(turns) / turns * 1e9)

    processor = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("tokenweir", "limits", "throttled-py", "pyrate-limiter")
    )
    print(f"{processor}; Python {platform.python_version()}; {packages}\n")
    pair, one = best["an empty pair of calls into Rust"], best["tokenweir, 1 limit, looked up"]
    print(f"{'':42} {'ns':>8} {'x empty pair':>13} {'x tokenweir':>12}")
    for name, nanos in best.items():
        print(f"{name:42} {nanos:8.0f} {nanos / pair:13.1f} {nanos / one:12.1f}")
    print("\n(x tokenweir: as a multiple of tokenweir with 1 limit, looked up)")


if __name__ == "__main__":
    main()
