"""tokenweir in front of an ASGI application that serves or proxies models: FastAPI, Starlette, or any other.

    import tokenweir
    from tokenweir.asgi import ApiKeys, TokenweirMiddleware

    app.add_middleware(
        TokenweirMiddleware,
        limiter=tokenweir.Limiter(tokenweir.Policy.from_file("policy.toml")),
        identify=ApiKeys({"sha256:9f86d0...": "search"}),
        output=1024,
    )

Every request to a model (a POST to a path that `tokenweir.wire.Endpoint` knows, or that `apis` names) is admitted before the
application sees it, or answered in the words of its API: 401 without a known key, 429 for a rate, 403 for a quota, with
`retry-after`. Its response passes as it comes, is observed on its way, and settles the permit exactly once:

- with a whole response, by the usage it reports; where it reports none, by its text as it was counted;
- with a stream that stops, or a client that leaves, by what was reported and the text since then; an answer of JSON by at
  least its estimate, for all of it was there before it was sent;
- with an error status, as `failed` says, unless it reports usage;
- with an exception of the application before it has answered, as `unanswered` says;
- with no answer, because the client has left or the server stops, by its estimate;
- with a compressed response, by its estimate: add this middleware before one that compresses (the last one that is added
  to an application is the outermost).

A permit is renewed while its response passes. One that expires because the response stood still for longer than the
limiter's `permit_ttl` ends it, and an answer that takes as long to begin is 504: nothing passes uncounted.

An application that knows better settles the permit itself: it is `scope["tokenweir.permit"]`. All else passes untouched, and
so do websockets. Counters live in the process: a server with several workers counts in each of them. `examples/fastapi` in
the repository is a service to try.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, Literal, NamedTuple

import tokenweir
from tokenweir import Limiter
from tokenweir._api_keys import ApiKeys, Caller
from tokenweir._call import Call, Settings
from tokenweir._errors import STORE_FAILED
from tokenweir.wire import Asked, Dialect, Endpoint, OutputRule, StreamUsage, ietf_headers

__all__ = ["ApiKeys", "Caller", "TokenweirMiddleware"]

_Scope = MutableMapping[str, Any]
_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Scope, _Receive, _Send], Awaitable[None]]
_Identify = Callable[[_Scope], Caller | None | Awaitable[Caller | None]]


class _Cut(OSError):
    """What an application is told that goes on with a response after its end."""


_ENDED = "the response has been ended: a limit is spent, or the permit has expired"


class TokenweirMiddleware:
    """Limits the requests to models that an ASGI application gets. Takes the application and:

    - `limiter`: the Limiter. Read its counters, or change its policy, as usual.
    - `identify`: who calls, by the scope of the request: an ApiKeys, or a function of the host's that returns a Caller, or
      None for a caller that is not known, who gets 401. It may be asynchronous.
    - `output`: the output tokens that a request is expected to take that states no bound; or a `wire.OutputRule`.
    - `apis`: paths of the application's own and the API that each speaks, such as `{"/chat": "chat_completions"}`.
    - `dialect`: in whose words callers are answered; by default those of the path.
    - `max_body` (32 MiB): the longest body of a request, in bytes; a longer one is answered with 413.
    - `ask_for_usage` (True): streams of OpenAI's that would not report their usage are asked to, unseen by the client.
    - `cut`: which limits cut a stream short that has used more than its estimate: `never`, a spent `quota` (default), or
      `any` spent limit on tokens or cost.
    - `failed`: what a call counts that is answered with an error and reports no usage: `nothing` (no tokens; it still is a
      request; default), or its `estimate`.
    - `unanswered`: what a call counts for which the application fails before it has answered, when a model may have been at
      work already: its `estimate` (default), its `input`, or `nothing`.
    - `headers` (True): responses say what is left, in the caller's dialect; `ietf_headers` (False): in the IETF draft's too.

    Raises ValueError for a wrong setting. It needs no event loop of a particular kind, and starts no task.
    """

    def __init__(
        self,
        app: _App,
        *,
        limiter: Limiter,
        identify: _Identify,
        output: int | OutputRule,
        apis: Mapping[str, str] | None = None,
        dialect: Dialect | None = None,
        max_body: int = 32 << 20,
        ask_for_usage: bool = True,
        cut: Literal["never", "quota", "any"] = "quota",
        failed: Literal["nothing", "estimate"] = "nothing",
        unanswered: Literal["estimate", "input", "nothing"] = "estimate",
        headers: bool = True,
        ietf_headers: bool = False,
    ) -> None:
        for name, value, words in (
            ("cut", cut, ("never", "quota", "any")),
            ("failed", failed, ("nothing", "estimate")),
            ("unanswered", unanswered, ("estimate", "input", "nothing")),
        ):
            if value not in words:
                raise ValueError(f"{name} is {value!r}; give one of {', '.join(words)}")
        for path, api in (apis or {}).items():
            if Endpoint.of(api) is None:
                raise ValueError(f"apis: {path!r} is to speak {api!r}, which is no API; see tokenweir.wire.Endpoint.api")
        if max_body < 1:
            raise ValueError(f"max_body is {max_body}; give a number of bytes above 0")
        self._app = app
        self._limiter = limiter
        self._identify = identify
        self._apis = dict(apis or {})
        self._dialect = dialect
        rule = output if isinstance(output, OutputRule) else OutputRule(output)
        self._settings = Settings(rule, max_body, ask_for_usage, cut, failed, unanswered, headers, ietf_headers)

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Serves one connection."""
        target = self._target(scope)
        if target is None:
            await self._app(scope, receive, send)
            return
        dialect = target.dialect
        caller = self._identify(scope)
        if inspect.isawaitable(caller):
            caller = await caller
        if caller is None:
            await _answer(send, dialect, 401, "The API key is missing, or not known.")
            return
        try:
            body = await _body(scope, receive, self._settings.max_body)
        except _TooLong:
            message = f"The request is longer than {self._settings.max_body} bytes."
            await _answer(send, dialect, 413, message)
            return
        except _Encoded:
            await _answer(send, dialect, 415, "The request is compressed; send it as it is.")
            return
        if body is not None:
            await self._decide(scope, receive, send, target, caller, body)

    def _target(self, scope: _Scope) -> _Target | None:
        """The model that a request is for; None if it is for none."""
        if scope["type"] != "http" or scope["method"] != "POST":
            return None
        path: str = scope["path"]
        place = self._apis.get(path, path)
        endpoint = Endpoint.of(place)
        return None if endpoint is None else _Target(place, endpoint.api, self._dialect or endpoint.dialect)

    async def _decide(
        self, scope: _Scope, receive: _Receive, send: _Send, target: _Target, caller: Caller, body: bytes
    ) -> None:
        dialect = target.dialect
        try:
            asked = Asked.read(target.place, body)
            deployment = caller.deployment or asked.model or "unknown"
            who = (caller.project, deployment)
            estimate = asked.estimate(self._settings.output, self._limiter, *who, keys=caller.keys)
            decision = self._limiter.admit(*who, estimate.input, estimate.output, keys=caller.keys)
        except (tokenweir.BodyError, tokenweir.RequestError) as error:
            await _answer(send, dialect, 400, str(error))
            return
        except tokenweir.CapacityError as error:
            await _answer(send, dialect, 503, str(error))
            return
        except tokenweir.StoreError:
            await _answer(send, dialect, 503, STORE_FAILED)
            return
        if not decision:
            refused = dialect.refused(decision, now=self._limiter.now())
            await _respond(send, refused.status, refused.headers, refused.body)
            return
        call = Call(decision, target.api, estimate, self._settings)
        # From here on the permit is the call's to end, whatever comes.
        failed = False
        try:
            passing = _Passing(call, target, self._settings, receive, send)
            # In place: who stands outside looks at what the application leaves in its scope.
            scope["tokenweir.permit"] = decision
            passing.asks(scope, body, for_usage=self._settings.ask_for_usage and asked.stream)
            await self._app(scope, passing.receive, passing.send)
        except Exception:
            if not call.is_cut:
                failed = True
                raise
        finally:
            call.end(failed)


class _Target(NamedTuple):
    """What a request is for."""

    place: str
    """The path, or the word for the API."""
    api: str
    dialect: Dialect


class _Passing:
    """A request that passes to the application, and its response that passes to the client."""

    def __init__(self, call: Call, target: _Target, settings: Settings, receive: _Receive, send: _Send) -> None:
        self._call = call
        self._target = target
        self._settings = settings
        self._receive = receive
        self._send = send
        self._body: bytes | None = None
        self._withhold_usage = False

    def asks(self, scope: _Scope, body: bytes, *, for_usage: bool) -> None:
        """The application gets this body, made to ask for the usage of its stream."""
        self._body = body
        if for_usage:
            usage = StreamUsage.of(self._target.place, body)
            self._withhold_usage = not usage.client_asked
            self._body = usage.ask(body)
        # An application that passes these on to a model is answered uncompressed: what is compressed cannot be metered.
        told = {b"accept-encoding": b"identity"}
        if len(self._body) != len(body):
            told[b"content-length"] = str(len(self._body)).encode()
        headers = [(name, told.get(name.lower(), value)) for name, value in scope["headers"]]
        if not any(name.lower() == b"accept-encoding" for name, _ in headers):
            headers.append((b"accept-encoding", b"identity"))
        scope["headers"] = headers

    async def receive(self) -> _Message:
        """The body that has been read, then what comes after it."""
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._call.left = True
        return message

    async def send(self, message: _Message) -> None:
        """Passes a piece of the response on, and watches it."""
        if self._call.is_cut:
            raise _Cut(_ENDED)
        if message["type"] == "http.response.start":
            if self._call.has_expired():
                self._call.is_cut = True
                self._call.end()
                await _answer(self._send, self._target.dialect, 504, "The answer took longer to begin than its permit lives.")
                raise _Cut(_ENDED)
            message = self._begin(message)
        elif message["type"] == "http.response.body":
            message = self._piece(message)
        await self._send(message)
        if self._call.is_cut:
            raise _Cut(_ENDED)

    def _begin(self, message: _Message) -> _Message:
        headers = list(message.get("headers", ()))
        self._call.answered(message["status"], headers, self._target.dialect, self._withhold_usage)
        told: list[tuple[str, str]] = []
        if self._settings.headers:
            told += self._target.dialect.headers(self._call.permit)
        if self._settings.ietf_headers:
            told += ietf_headers(self._call.permit)
        added = _encoded(told)
        replaced = {name.lower() for name, _ in added}
        if not self._call.keeps_length:
            # The stream may become shorter than it was going to be.
            replaced.add(b"content-length")
        headers = [header for header in headers if header[0].lower() not in replaced]
        return {**message, "headers": headers + added}

    def _piece(self, message: _Message) -> _Message:
        more = message.get("more_body", False)
        body = self._call.passes(bytes(message.get("body", b"")), last=not more)
        return {**message, "body": body, "more_body": more and not self._call.is_cut}


class _TooLong(Exception):
    pass


class _Encoded(Exception):
    pass


async def _body(scope: _Scope, receive: _Receive, most: int) -> bytes | None:
    """The body of a request; None if the client leaves before it has sent all of it."""
    for name, value in scope["headers"]:
        if name.lower() == b"content-length" and value.isdigit() and int(value) > most:
            raise _TooLong
        if name.lower() == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise _Encoded
    pieces: list[bytes] = []
    length = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        piece = message.get("body", b"")
        length += len(piece)
        if length > most:
            raise _TooLong
        pieces.append(piece)
        if not message.get("more_body", False):
            return b"".join(pieces)


async def _answer(send: _Send, dialect: Dialect, status: int, message: str) -> None:
    headers = [("content-type", "application/json"), *dialect.error_headers(status)]
    await _respond(send, status, headers, dialect.error_body(status, message))


async def _respond(send: _Send, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> None:
    told = [*headers, ("content-length", str(len(body)))]
    await send({"type": "http.response.start", "status": status, "headers": _encoded(told)})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _encoded(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
