"""A client's call in random traffic, which it may leave."""

from __future__ import annotations

import random
from collections import Counter

import httpx


async def visit(
    http: httpx.AsyncClient,
    dice: random.Random,
    statuses: Counter[int],
    path: str,
    body: str,
    headers: dict[str, str],
) -> bool:
    """Makes the call and counts its status; 0 if it was left or broke. A third of the clients leave, some before there is
    an answer. Whether it was answered, and read to its end."""
    leaves = dice.random() < 0.33
    patience = httpx.Timeout(30, read=dice.choice([0.002, 0.01])) if leaves and dice.random() < 0.3 else 30
    headers = {"content-type": "application/json"} | headers
    try:
        async with http.stream("POST", path, content=body, headers=headers, timeout=patience) as response:
            statuses[response.status_code] += 1
            pieces = dice.randrange(1, 10)
            async for _ in response.aiter_raw():
                pieces -= leaves
                if pieces == 0:
                    return False
            return response.status_code == 200
    except httpx.HTTPError:
        statuses[0] += 1
        return False
