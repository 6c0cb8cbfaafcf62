"""One of several processes that ask Python's limits, one check after the other. Arguments: the server's address, seconds."""

import sys
import time

from limits import RateLimitItemPerMinute
from limits.storage import storage_from_string
from limits.strategies import FixedWindowRateLimiter

limiter = FixedWindowRateLimiter(storage_from_string(sys.argv[1]))
item = RateLimitItemPerMinute(9_000_000_000)
limiter.hit(item, "search")
print("ready", flush=True)
sys.stdin.readline()
until, checks = time.monotonic() + float(sys.argv[2]), 0
while time.monotonic() < until:
    limiter.hit(item, "search", cost=10)
    checks += 1
print(checks, 0, 0)
