"""One admitted request to a model, from its admission to its end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from time import monotonic
from typing import NamedTuple

import tokenweir
from tokenweir import Estimate, Limiter, Permit
from tokenweir.wire import OutputRule, ResponseMeter, UsageChunkFilter


@dataclass(frozen=True)
class Settings:
    """How requests are admitted, observed and settled; `tokenweir.asgi` says what each means."""

    output: OutputRule
    max_body: int
    ask_for_usage: bool
    cut: str
    failed: str
    headers: bool
    ietf_headers: bool
    permit_ttl: float


class _Used(NamedTuple):
    """Tokens; None is unknown."""

    input: int | None = None
    output: int | None = None
    cached: int | None = None


class Call:
    """What has become of one admitted request. `end` settles it, once."""

    def __init__(self, limiter: Limiter, permit: Permit, api: str, estimate: Estimate, settings: Settings) -> None:
        self._limiter = limiter
        self.permit = permit
        self._api = api
        self._estimate = estimate
        self._settings = settings
        self._renewed = monotonic()
        self._ended = False
        self._status: int | None = None
        self._meter: ResponseMeter | None = None
        self.is_stream = False
        self.is_cut = False
        """Whether its stream has been cut short."""
        self.left = False
        """Whether the client has left."""
        self.filter: UsageChunkFilter | None = None
        """What keeps from the client the usage that it did not ask for."""

    def answered(self, status: int, headers: Iterable[tuple[bytes, bytes]], withhold_usage: bool) -> None:
        """The response begins."""
        found = {name.lower(): value.decode("latin-1") for name, value in headers}
        self._status = status
        kind = found.get(b"content-type")
        self.is_stream = (kind or "").split(";")[0].strip().lower() == "text/event-stream"
        if found.get(b"content-encoding", "identity").strip().lower() == "identity":
            self._meter = ResponseMeter(self._api, kind)
            if withhold_usage and self.is_stream:
                self.filter = UsageChunkFilter()

    def passes(self, chunk: bytes) -> str | None:
        """A piece of the response comes. The name of the limit for which the stream is to be cut short."""
        if self._ended:
            return None
        more = self._meter.feed(chunk) if self._meter is not None and chunk else 0
        # Expired at worst, and then nobody has to be told.
        with contextlib.suppress(tokenweir.PermitError):
            if more and self.permit.observe(output=more) and self.is_stream and self._has_outrun():
                return self._spent()
            now = monotonic()
            if now - self._renewed > self._settings.permit_ttl / 4:
                self._renewed = now
                self.permit.renew(self._settings.permit_ttl)
        return None

    def _has_outrun(self) -> bool:
        return self._meter is not None and self._meter.output_so_far > self._estimate.output

    def _spent(self) -> str | None:
        if self._settings.cut == "never":
            return None
        policy = self._limiter.policy
        for name, left in self.permit.remaining().items():
            limit = policy.limit(name) if left <= 0 else None
            if limit is not None and limit.meter not in ("requests", "in_flight"):
                if limit.algorithm == "quota" or self._settings.cut == "any":
                    return name
        return None

    def end(self, failed: bool = False) -> None:
        """It is over, with what has come by now. `failed`: the application failed."""
        if self._ended:
            return
        self._ended = True
        # A permit that has expired is over, too.
        with contextlib.suppress(tokenweir.PermitError):
            usage = self._used(failed)
            try:
                self.permit.settle(usage.input, usage.output, cached_input=usage.cached)
            except tokenweir.UsageError:
                self.permit.abandon()

    def _used(self, failed: bool) -> _Used:
        """What is known by now. For the rest the estimate stands."""
        if self._status is None:
            # Nothing is known, but that a model may have been at work if it is the client that has left.
            return self._of_failed(_Used()) if failed and not self.left else _Used()
        refused = not 200 <= self._status < 300
        if self._meter is None:
            return self._of_failed(_Used()) if refused else _Used()
        measured = self._meter.measured()
        usage = measured.usage
        cached = None if usage.input is None or usage.cached_input is None else min(usage.cached_input, usage.input)
        used = _Used(usage.input, usage.output, cached)
        if refused or (measured.ended == "failed" and used.output is None):
            return self._of_failed(used)
        if measured.ended == "broken" and not self.is_stream and (used.output or 0) <= self._estimate.output:
            # All of it had been produced when its first byte was sent. What has passed is the least that it can be.
            return used._replace(output=None)
        return used

    def _of_failed(self, used: _Used) -> _Used:
        """What a failed call has used: what it reports, and for the rest what the settings say."""
        if self._settings.failed == "estimate":
            return used
        return used._replace(input=used.input or 0, output=used.output or 0)
