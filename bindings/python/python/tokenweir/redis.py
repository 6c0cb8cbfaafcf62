"""Limits that many processes and machines share, on a Redis or Valkey server.

    from tokenweir import Policy
    from tokenweir.redis import RedisLimiter

    limiter = RedisLimiter.connect("redis://127.0.0.1:6379", Policy.from_file("policy.toml"))
    decision = limiter.admit("search", "gpt-4o", input=900, output=400)
    if decision:
        decision.settle(input=912, output=77)
    else:
        print(decision.status, decision.by)        # 429 or 403 by a limit, 503 if nobody could decide

In an event loop:

    limiter = await AsyncRedisLimiter.connect("redis://127.0.0.1:6379", policy)
    with await limiter.reserve("search", "gpt-4o", 900, 400) as permit:
        await permit.settle(912, 77)

A decision is one call of one script on the server, or none where capacity is taken in advance (`leases=True`). No call waits
longer than its deadline, and a server that is away is a decision too (`when_away`), not an error.
"""

from tokenweir._native import (
    AsyncRedisLimiter,
    AsyncRedisPermit,
    Ended,
    OutageUse,
    RedisDenial,
    RedisLimiter,
    RedisPermit,
    RedisStats,
    Standing,
    Unavailable,
)

__all__ = [
    "AsyncRedisLimiter",
    "AsyncRedisPermit",
    "Ended",
    "OutageUse",
    "RedisDenial",
    "RedisLimiter",
    "RedisPermit",
    "RedisStats",
    "Standing",
    "Unavailable",
]
