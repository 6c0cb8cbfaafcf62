"""One of several processes that ask Python's limits. Arguments: address, amount, milliseconds, threads, pause in milliseconds."""

import sys
import threading
import time

from limits import RateLimitItemPerHour
from limits.storage import storage_from_string
from limits.strategies import FixedWindowRateLimiter

address, amount, run, threads, pause = sys.argv[1], *map(int, sys.argv[2:])
limiter = FixedWindowRateLimiter(storage_from_string(address))
item = RateLimitItemPerHour(amount)
sums = []


def ask():
    admitted = refused = errors = longest = 0
    while time.monotonic() < until:
        asked = time.monotonic()
        try:
            if limiter.hit(item, "search"):
                admitted += 1
            else:
                refused += 1
        except Exception:
            errors += 1
        longest = max(longest, time.monotonic() - asked)
        if pause:
            time.sleep(pause / 1000)
    sums.append((admitted, refused, errors, longest))


limiter.test(item, "search")
print("ready", flush=True)
sys.stdin.readline()
until = time.monotonic() + run / 1000
each = [threading.Thread(target=ask) for _ in range(threads)]
for thread in each:
    thread.start()
for thread in each:
    thread.join()
print(*(sum(column) for column in list(zip(*sums))[:3]), int(max(one[3] for one in sums) * 1e6))
