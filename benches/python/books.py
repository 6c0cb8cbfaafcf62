"""What an observer saw of all traffic, to be compared with the counters."""

from __future__ import annotations

from collections import Counter

import tokenweir


class Books:
    """Every admission and how it ended."""

    def __init__(self, ring: tokenweir.RecordRing) -> None:
        self.ring = ring
        self.open: set[int] = set()
        self.outcomes: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()
        self.denied = 0

    def read(self) -> None:
        """Takes in what has been recorded since."""
        while (record := self.ring.poll()) is not None:
            if record.event == "denied":
                self.denied += 1
                continue
            assert record.permit is not None
            if record.event == "admitted":
                assert record.permit not in self.open
                self.open.add(record.permit)
                continue
            self.open.remove(record.permit)
            settled = record.settlement
            assert settled is not None
            self.ended(settled)
            self.outcomes[settled.outcome] += 1
            self.tokens["input"] += settled.input
            self.tokens["output"] += settled.output
            self.tokens["requests"] += settled.outcome != "cancelled"

    def ended(self, settlement: tokenweir.Settlement) -> None:
        """A permit has ended; for who knows more about it."""

    def compare(self, limiter: tokenweir.Limiter) -> None:
        """Nothing is held or lost, and the lifetime totals of the limits `requests`, `input` and `output` are the sums of
        all settlements."""
        assert self.ring.lost == 0 and not self.open, self.open
        totals: Counter[str] = Counter()
        for counter in limiter.usage():
            assert counter.held == 0, counter
            totals[counter.limit] += counter.settled_total
            if counter.meter == "in_flight":
                assert counter.used == 0, counter
        print(f"ended: {dict(self.outcomes)}; denied: {self.denied}; lost records: {self.ring.lost}")
        print(f"counters: { {name: totals[name] for name in ('requests', 'input', 'output')} }")
        for name in ("requests", "input", "output"):
            assert totals[name] == self.tokens[name], (name, totals[name], self.tokens[name])
        assert sum(self.outcomes.values()) > 0 and self.outcomes["expired"] == 0
