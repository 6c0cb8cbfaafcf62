"""Waiting for what another thread or process brings about."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(fact: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Returns when it is true; fails if that takes longer."""
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, f"never came about: {what}"
        time.sleep(0.005)
