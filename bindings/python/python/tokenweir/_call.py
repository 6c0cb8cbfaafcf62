"""One admitted request to a model, from its admission to its end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass

import tokenweir
from tokenweir import Estimate, Permit
from tokenweir.wire import Dialect, Exchange, OutputRule


@dataclass(frozen=True)
class Settings:
    """How requests are admitted, observed and settled; `tokenweir.asgi` says what each means."""

    output: OutputRule
    max_body: int
    ask_for_usage: bool
    cut: str
    failed: str
    unanswered: str
    headers: bool
    ietf_headers: bool


class Call:
    """What has become of one admitted request. `end` settles it, once, by the rules of `tokenweir.wire.Exchange`."""

    def __init__(self, permit: Permit, api: str, estimate: Estimate, settings: Settings) -> None:
        self.permit = permit
        self._exchange = Exchange(
            api, permit, estimate, cut=settings.cut, failed=settings.failed, unanswered=settings.unanswered
        )
        self._ended = False
        self.is_cut = False
        """Whether its response has been ended before its end."""
        self.left = False
        """Whether the client has left."""

    def has_expired(self) -> bool:
        """Whether the permit has expired before the response began."""
        return self._exchange.has_expired()

    def answered(self, status: int, headers: Iterable[tuple[bytes, bytes]], dialect: Dialect, withhold: bool) -> None:
        """The response begins. `withhold`: its usage, which the client did not ask for."""
        found = {name.lower(): value.decode("latin-1") for name, value in headers}
        kind, coding = found.get(b"content-type"), found.get(b"content-encoding")
        self._exchange.answered(status, kind, coding, dialect=dialect, withhold_usage=withhold)

    @property
    def keeps_length(self) -> bool:
        """Whether the client gets as many bytes as the application sends."""
        return self._exchange.keeps_length

    def passes(self, piece: bytes, *, last: bool) -> bytes:
        """A piece of the response comes. What of it goes to the client; `is_cut` says whether that is all it gets."""
        passed, self.is_cut = self._exchange.passes(piece, last=last)
        if last or self.is_cut:
            # What the application does after its response is not the request any more.
            self.end()
        return passed

    def end(self, failed: bool = False) -> None:
        """It is over, with what has come by now. `failed`: the application failed."""
        if self._ended:
            return
        self._ended = True
        # A permit that has expired, or that the application has settled, is over, too.
        with contextlib.suppress(tokenweir.PermitError):
            # A client that leaves does not make the call one that nobody has answered.
            input, output, cached = self._exchange.used(unanswered=failed and not self.left)
            try:
                self.permit.settle(input, output, cached_input=cached)
            except tokenweir.UsageError:
                self.permit.abandon()
