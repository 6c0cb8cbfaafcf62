"""The ASGI middleware, call by call: what passes, what is refused, and how each end is settled."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
import tokenweir
from tokenweir import Limiter, ManualClock, Policy, QuotaFile, RecordRing
from tokenweir.asgi import ApiKeys, Caller, TokenweirMiddleware
from tokenweir.wire import Dialect, OutputRule

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

CHAT = "/v1/chat/completions"
KEY = {"authorization": "Bearer sk-search"}
USAGE = {"prompt_tokens": 12, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def word(text: str = "four") -> bytes:
    """An event of one token."""
    return event(choices=[{"index": 0, "delta": {"content": text}}])


def chat(**fields: Any) -> bytes:
    whole = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Why is the sky blue?"}]}
    return json.dumps(whole | {"max_tokens": 100} | fields).encode()


def start(kind: str = "application/json", status: int = 200, **more: str) -> Message:
    headers = {"content-type": kind} | {name.replace("_", "-"): value for name, value in more.items()}
    return {"type": "http.response.start", "status": status, "headers": [(a.encode(), b.encode()) for a, b in headers.items()]}


def piece(body: bytes, more_body: bool = True) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more_body}


ANSWER = json.dumps({"choices": [{"message": {"content": "Blue."}, "finish_reason": "stop"}], "usage": USAGE}).encode()


@dataclass
class Scene:
    """A limiter, and an application behind the middleware that says what the test has it say."""

    said: Iterable[Message | BaseException] = (start(), piece(ANSWER, False))
    limits: tuple[dict[str, Any], ...] = ({"name": "tpm"},)
    identify: Any = None
    settings: dict[str, Any] = field(default_factory=dict)
    after: Callable[[MutableMapping[str, Any], Receive], Awaitable[None]] | None = None

    def __post_init__(self) -> None:
        shape = {"meter": "total", "algorithm": "bucket", "amount": 1_000, "per": "1m", "scope": ["project"]}
        whole = [{name: value for name, value in (shape | limit).items() if value is not None} for limit in self.limits]
        self.clock = ManualClock()
        self.ring = RecordRing(64)
        self.limiter = Limiter(Policy.from_dict({"limit": whole}), clock=self.clock, observer=self.ring, permit_ttl=60)
        identify = self.identify or ApiKeys({"sk-search": "search"})
        self.app = TokenweirMiddleware(
            self.answer, limiter=self.limiter, identify=identify, **{"output": 100} | self.settings
        )
        self.seen: list[tuple[MutableMapping[str, Any], bytes]] = []
        self.failures: list[BaseException] = []
        self.sent: list[Message] = []

    async def answer(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        body = b""
        if scope["type"] == "http":
            while True:
                message = await receive()
                body += message.get("body", b"")
                if not message.get("more_body"):
                    break
        self.seen.append((scope, body))
        for step in self.said:
            if isinstance(step, BaseException):
                raise step
            try:
                await send(step)
            except OSError as error:
                self.failures.append(error)
                raise
        if self.after is not None:
            await self.after(scope, receive)

    async def call(
        self,
        body: bytes = chat(),
        path: str = CHAT,
        headers: dict[str, str] = KEY,
        pieces: int = 1,
        method: str = "POST",
        incoming: Iterable[Message] = (),
    ) -> None:
        size = max(1, -(-len(body) // pieces))
        parts = [body[at : at + size] for at in range(0, len(body), size)] or [b""]
        messages: list[Message] = [
            {"type": "http.request", "body": part, "more_body": at + 1 < len(parts)} for at, part in enumerate(parts)
        ]
        messages = [*incoming] or messages
        messages.append({"type": "http.disconnect"})
        rest = iter(messages)

        async def receive() -> Message:
            return next(rest)

        async def send(message: Message) -> None:
            self.sent.append(message)

        raw = [(b"content-length", str(len(body)).encode())] + [(a.encode(), b.encode()) for a, b in headers.items()]
        await self.app({"type": "http", "method": method, "path": path, "headers": raw}, receive, send)

    def run(self, *arguments: Any, **more: Any) -> Scene:
        asyncio.run(self.call(*arguments, **more))
        return self

    @property
    def status(self) -> int:
        status: int = self.sent[0]["status"]
        return status

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])

    @property
    def used(self) -> int:
        return sum(counter.used for counter in self.limiter.usage())

    def settled(self) -> tuple[str, int, int, bool]:
        """How the one call ended: outcome, input, output, whether it is estimated."""
        records = list(iter(self.ring.poll, None))
        assert [record.event for record in records if record] == ["admitted", "settled"]
        settlement = records[1].settlement
        assert settlement is not None and self.limiter.stats().permits_open == 0
        return settlement.outcome, settlement.input, settlement.output, settlement.estimated


EVENTS = "text/event-stream"
STREAM = [start(EVENTS), piece(word()), piece(word()), piece(event(choices=[], usage=USAGE)), piece(b"data: [DONE]\n\n", False)]


class TestWhatPasses:
    def test_what_is_not_for_a_model_passes_untouched(self) -> None:
        for method, path in (("GET", CHAT), ("POST", "/v1/models"), ("POST", "/v1/chat/completions/x")):
            scene = Scene().run(method=method, path=path, headers={}, body=b"not JSON")
            assert (scene.status, scene.seen[0][1], scene.used) == (200, b"not JSON", 0)
            assert "tokenweir.permit" not in scene.seen[0][0]
            assert scene.headers == {"content-type": "application/json"}

    def test_the_application_is_asked_for_an_answer_that_can_be_metered(self) -> None:
        scene = Scene().run(headers=KEY | {"accept-encoding": "gzip, br"})
        asked = [value for name, value in scene.seen[0][0]["headers"] if name == b"accept-encoding"]
        assert asked == [b"identity"]
        scene = Scene().run()
        assert (b"accept-encoding", b"identity") in scene.seen[0][0]["headers"]

    def test_what_is_told_of_limits_is_told_once(self) -> None:
        said = [start(x_ratelimit_remaining_tokens="7654321"), piece(ANSWER, False)]
        scene = Scene(said=said).run()
        told = [value for name, value in scene.sent[0]["headers"] if name == b"x-ratelimit-remaining-tokens"]
        assert len(told) == 1 and told != [b"7654321"]

    def test_a_stream_that_may_be_cut_has_no_length(self) -> None:
        said = [start(EVENTS, content_length="999"), *STREAM[1:]]
        assert "content-length" not in Scene(said=said).run().headers
        said = [start(content_length=str(len(ANSWER))), piece(ANSWER, False)]
        assert Scene(said=said).run().headers["content-length"] == str(len(ANSWER))

    def test_other_kinds_of_connection_pass(self) -> None:
        async def nothing(*_: Any) -> Any:
            return {}

        for kind in ("lifespan", "websocket"):
            scene = Scene(said=())
            asyncio.run(scene.app({"type": kind}, nothing, nothing))
            assert scene.seen[0][0] == {"type": kind}

    def test_a_request_is_replayed_as_it_came(self) -> None:
        for pieces in (1, 3, 50):
            scene = Scene().run(pieces=pieces)
            assert (scene.status, scene.seen[0][1], scene.body) == (200, chat(), ANSWER)
            assert scene.settled() == ("settled", 12, 5, False)
            assert scene.used == 17

    def test_a_response_passes_piece_by_piece(self) -> None:
        scene = Scene(said=STREAM, settings={"ask_for_usage": False}).run(chat(stream=True))
        assert scene.sent[1:] == STREAM[1:]
        assert scene.seen[0][1] == chat(stream=True)
        assert scene.settled() == ("settled", 12, 5, False)

    def test_a_stream_is_asked_for_its_usage_unseen_by_the_client(self) -> None:
        scene = Scene(said=STREAM).run(chat(stream=True))
        scope, body = scene.seen[0]
        assert json.loads(body)["stream_options"] == {"include_usage": True}
        assert dict(scope["headers"])[b"content-length"] == str(len(body)).encode()
        assert scene.body == word() + word() + b"data: [DONE]\n\n"
        assert scene.settled() == ("settled", 12, 5, False)

    def test_who_asks_for_the_usage_gets_it(self) -> None:
        asks = chat(stream=True, stream_options={"include_usage": True})
        scene = Scene(said=STREAM).run(asks)
        assert scene.seen[0][1] == asks
        assert scene.body == b"".join(message["body"] for message in STREAM[1:])

    def test_a_length_that_is_true_no_more_is_left_out(self) -> None:
        scene = Scene(said=[start(EVENTS, content_length="999"), *STREAM[1:]]).run(chat(stream=True))
        assert "content-length" not in scene.headers
        assert "content-length" in Scene(said=[start(content_length="9"), piece(ANSWER, False)]).run().headers

    def test_responses_say_what_is_left(self) -> None:
        scene = Scene(settings={"ietf_headers": True}).run()
        assert scene.headers["x-ratelimit-remaining-tokens"] == "888"
        assert scene.headers["ratelimit"] == '"tpm";r=888;t=7'
        assert "anthropic-ratelimit-tokens-remaining" in Scene().run(b'{"max_tokens": 9}', "/v1/messages").headers
        assert list(Scene(settings={"headers": False}).run().headers) == ["content-type"]


class TestWhoCalls:
    @pytest.mark.parametrize(
        "headers",
        [
            {"authorization": "bearer  sk-search "},
            {"X-Api-Key": "sk-search"},
            {"api-key": "sk-search"},
            {"x-goog-api-key": "sk-search"},
            {"ocp-apim-subscription-key": "sk-search"},
            {"authorization": "Basic x", "api-key": "sk-search"},
        ],
    )
    def test_a_key_is_read_where_clients_put_it(self, headers: dict[str, str]) -> None:
        assert Scene().run(headers=headers).status == 200

    @pytest.mark.parametrize(
        "headers",
        [{}, {"authorization": "Bearer"}, {"authorization": "Bearer sk-searc"}, {"api-key": "sk-search2"}, {"api-key": ""}],
    )
    def test_a_key_that_is_not_known_moves_no_counter(self, headers: dict[str, str]) -> None:
        scene = Scene().run(headers=headers)
        assert (scene.status, scene.seen, scene.limiter.usage()) == (401, [], [])
        assert json.loads(scene.body)["error"]["code"] == "invalid_api_key"
        assert scene.headers["x-should-retry"] == "false"

    def test_keys_may_be_given_by_their_digest(self) -> None:
        digest = ApiKeys.digest("sk-search")
        assert digest.startswith("sha256:") and len(digest) == 71
        keys = ApiKeys({digest: "search", "other": Caller("chat", {"user": "u"})})
        assert Scene(identify=keys).run().limiter.usage()[0].scope == {"project": "search"}
        assert "sk-search" not in repr(vars(keys)) and repr(keys) == "<ApiKeys: 2 keys>"
        assert keys({"headers": [(b"api-key", b"other")]}) == Caller("chat", {"user": "u"})
        for wrong in ("sha256:12", "sha256:xx", ""):
            with pytest.raises(ValueError, match="digest|empty"):
                ApiKeys({wrong: "search"})

    def test_a_host_may_say_it_itself(self) -> None:
        async def identify(scope: MutableMapping[str, Any]) -> Caller | None:
            await asyncio.sleep(0)
            name = dict(scope["headers"]).get(b"x-user")
            return Caller("chat", {"user": name}, deployment="shared") if name else None

        limits = ({"name": "each", "scope": ["project", "deployment", "key:user"]},)
        scene = Scene(identify=identify, limits=limits).run(headers={"x-user": "u-17"})
        (counter,) = scene.limiter.usage()
        assert counter.scope == {"project": "chat", "deployment": "shared", "key:user": "u-17"}
        assert Scene(identify=identify).run(headers={}).status == 401

    def test_a_path_of_the_hosts_own_speaks_an_api(self) -> None:
        scene = Scene(settings={"apis": {"/chat": "chat_completions"}}).run(path="/chat")
        assert scene.settled() == ("settled", 12, 5, False)


class TestRefusals:
    def test_a_rate_is_429_with_the_wait_in_the_callers_words(self) -> None:
        scene = Scene().run(chat(max_tokens=980))
        scene.sent.clear()
        scene.run(chat(max_tokens=980))
        assert (scene.status, scene.headers["retry-after"], len(scene.seen)) == (429, "1", 1)
        assert scene.headers["content-length"] == str(len(scene.body))
        assert scene.headers["x-tokenweir-limit"] == "tpm"
        assert json.loads(scene.body)["error"]["code"] == "rate_limit_exceeded"
        scene.clock.advance(1)
        scene.sent.clear()
        assert scene.run(chat(max_tokens=980)).status == 200

    def test_each_api_is_refused_in_its_own_words(self) -> None:
        refused = Scene().run(b'{"max_tokens": 5000}', "/v1/messages")
        assert json.loads(refused.body)["type"] == "error" and refused.headers["x-should-retry"] == "false"
        forced = Scene(settings={"dialect": Dialect("apim")}).run(chat(max_tokens=5_000))
        assert json.loads(forced.body)["statusCode"] == 429

    def test_a_quota_is_403(self) -> None:
        quota = {"name": "day", "algorithm": "quota", "amount": 50, "period": "daily", "per": None}
        scene = Scene(limits=(quota,)).run()
        assert (scene.status, scene.seen, scene.used) == (403, [], 0)
        assert json.loads(scene.body)["error"]["code"] == "insufficient_quota"

    def test_a_body_that_is_no_request_is_400(self) -> None:
        scene = Scene().run(b"[]")
        assert (scene.status, scene.seen, scene.limiter.usage()) == (400, [], [])

    def test_what_the_policy_cannot_decide_is_400(self) -> None:
        needs = {"name": "each", "scope": ["key:user"], "require": True}
        scene = Scene(limits=(needs,)).run()
        assert scene.status == 400 and 'requires the caller key "user"' in json.loads(scene.body)["error"]["message"]

    def test_a_long_body_is_413_before_it_is_read(self) -> None:
        scene = Scene(settings={"max_body": 100}).run(chat(user="u" * 200))
        assert (scene.status, scene.seen, scene.limiter.usage()) == (413, [], [])
        unstated = Scene(settings={"max_body": 100})
        pieces = [{"type": "http.request", "body": b"x" * 60, "more_body": True}] * 2
        assert unstated.run(b"", incoming=pieces).status == 413

    def test_a_compressed_body_is_415(self) -> None:
        assert Scene().run(headers=KEY | {"content-encoding": "gzip"}).status == 415
        assert Scene().run(headers=KEY | {"content-encoding": "identity"}).status == 200

    def test_too_many_open_permits_are_503(self) -> None:
        scene = Scene()
        full = Limiter(scene.limiter.policy, max_permits=1)
        held = [full.reserve(f"p{number}", "d") for number in range(1)]
        try:
            while True:
                held.append(full.reserve("p", "d"))
        except tokenweir.CapacityError:
            pass
        scene.app = TokenweirMiddleware(scene.answer, limiter=full, identify=ApiKeys({"sk-search": "q"}), output=1)
        assert scene.run().status == 503

    def test_a_store_that_fails_is_503_and_its_place_is_not_told(self, tmp_path: Path) -> None:
        scene = Scene()
        month = {"name": "month", "meter": "total", "algorithm": "quota", "amount": 1_000, "period": "never"}
        store = QuotaFile(tmp_path / "quotas").store("asgi")
        kept = Limiter(Policy.from_dict({"limit": [month]}), store=store, renew_in_background=False)
        scene.app = TokenweirMiddleware(scene.answer, limiter=kept, identify=ApiKeys({"sk-search": "q"}), output=1)
        old, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, most))
        try:
            scene.run()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (old, most))
            signal.signal(signal.SIGXFSZ, before)
        assert (scene.status, scene.seen) == (503, [])
        assert b"the store of quotas failed" in scene.body and str(tmp_path).encode() not in scene.body

    def test_a_client_that_leaves_with_its_body_half_sent_is_not_heard(self) -> None:
        half = [{"type": "http.request", "body": b'{"mod', "more_body": True}]
        scene = Scene().run(incoming=half)
        assert (scene.sent, scene.seen, scene.limiter.usage()) == ([], [], [])


INPUT, ESTIMATE = 12, 100
BROKEN = [start(EVENTS), piece(word()), piece(word() + word())]
HALF = [start(), piece(ANSWER[:40])]
ERROR = [start(status=500), piece(b'{"error": {"message": "broken"}}', False)]


class TestEnds:
    """How each end is settled: what is known counts, and for the rest the estimate stands."""

    @pytest.mark.parametrize(
        ("said", "settled"),
        [
            ([start(), piece(ANSWER, False)], (12, 5, False)),
            # A response without usage counts by its text.
            ([start(), piece(b'{"choices": [{"message": {"content": "eight is"}}]}', False)], (INPUT, 2, True)),
            # What is no answer of a model leaves the estimate.
            ([start(), piece(b'{"detail": "ok"}', False)], (INPUT, ESTIMATE, True)),
            (BROKEN, (INPUT, 3, True)),
            ([start(EVENTS)], (INPUT, ESTIMATE, True)),
            # All of an answer in JSON was there before it was sent.
            (HALF, (INPUT, ESTIMATE, True)),
            ([start(content_encoding="gzip"), piece(b"\x1f\x8b", False)], (INPUT, ESTIMATE, True)),
            ([], (INPUT, ESTIMATE, True)),
            (ERROR, (0, 0, False)),
            ([start(status=500), piece(json.dumps({"usage": USAGE}).encode(), False)], (12, 5, False)),
            ([start(status=429, content_encoding="gzip"), piece(b"", False)], (0, 0, False)),
        ],
    )
    def test_each_end_is_settled_once(self, said: list[Message], settled: tuple[int, int, bool]) -> None:
        assert Scene(said=said).run().settled() == ("settled", *settled)

    @pytest.mark.parametrize(
        ("said", "failed", "settled"),
        [
            ([], "nothing", (INPUT, ESTIMATE, True)),
            (ERROR[:1], "nothing", (0, 0, False)),
            (ERROR[:1], "estimate", (INPUT, ESTIMATE, True)),
            (BROKEN, "nothing", (INPUT, 3, True)),
            (HALF, "nothing", (INPUT, ESTIMATE, True)),
        ],
    )
    def test_an_application_that_fails(self, said: list[Message], failed: str, settled: tuple[int, int, bool]) -> None:
        scene = Scene(said=[*said, LookupError("a fault")], settings={"failed": failed})
        with pytest.raises(LookupError, match="a fault"):
            scene.run()
        assert scene.settled() == ("settled", *settled)

    @pytest.mark.parametrize(
        ("unanswered", "settled"),
        [("estimate", (INPUT, ESTIMATE, True)), ("input", (INPUT, 0, True)), ("nothing", (0, 0, False))],
    )
    def test_a_call_that_is_never_answered(self, unanswered: str, settled: tuple[int, int, bool]) -> None:
        scene = Scene(said=[TimeoutError("the model")], settings={"unanswered": unanswered})
        with pytest.raises(TimeoutError, match="the model"):
            scene.run()
        assert scene.settled() == ("settled", *settled)

    @pytest.mark.parametrize(
        ("said", "settled"), [([], (INPUT, ESTIMATE, True)), (BROKEN, (INPUT, 3, True)), (HALF, (INPUT, ESTIMATE, True))]
    )
    @pytest.mark.parametrize("end", [asyncio.CancelledError(), KeyboardInterrupt(), GeneratorExit()])
    def test_a_task_that_is_stopped(
        self, said: list[Message], settled: tuple[int, int, bool], end: BaseException
    ) -> None:
        scene = Scene(said=[*said, end])

        async def stopped() -> None:
            with pytest.raises(type(end)):
                await scene.call()

        asyncio.run(stopped())
        assert scene.settled() == ("settled", *settled)

    def test_a_task_that_is_cancelled_while_it_waits(self) -> None:
        async def waits(*_: Any) -> None:
            await asyncio.Event().wait()

        async def main(scene: Scene) -> None:
            task = asyncio.create_task(scene.call(chat(stream=True)))
            while len(scene.sent) < 1 + len(BROKEN[1:]):
                await asyncio.sleep(0)
            assert scene.limiter.stats().permits_open == 1
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        scene = Scene(said=BROKEN, after=waits)
        asyncio.run(main(scene))
        assert scene.settled() == ("settled", INPUT, 3, True)

    def test_a_client_that_leaves_before_the_answer_pays_the_estimate(self) -> None:
        async def notices(scope: MutableMapping[str, Any], receive: Receive) -> None:
            assert (await receive())["type"] == "http.disconnect"
            raise ConnectionError("the client has left")

        scene = Scene(said=[], after=notices)
        with pytest.raises(ConnectionError):
            scene.run()
        assert scene.settled() == ("settled", INPUT, ESTIMATE, True)

    def test_what_is_done_after_the_response_holds_nothing(self) -> None:
        held: list[int] = []

        async def background(*_: Any) -> None:
            held.append(scene.limiter.stats().permits_open)

        scene = Scene(after=background)
        scene.run()
        assert held == [0] and scene.settled() == ("settled", 12, 5, False)

    def test_an_application_may_settle_by_itself(self) -> None:
        async def knows(scope: MutableMapping[str, Any], _: Receive) -> None:
            scope["tokenweir.permit"].settle(input=3, output=4)

        assert Scene(said=BROKEN, after=knows).run().settled() == ("settled", 3, 4, False)

    def test_a_permit_lives_as_long_as_its_stream(self) -> None:
        def slow() -> Iterable[Message]:
            yield start(EVENTS)
            for _ in range(10):
                scene.clock.advance(30)
                yield piece(word())
            yield piece(event(choices=[], usage=USAGE), False)

        scene = Scene(said=slow())
        scene.run(chat(stream=True))
        assert scene.settled() == ("settled", 12, 5, False)

    def test_a_response_ends_with_its_permit(self) -> None:
        def stalls() -> Iterable[Message]:
            yield start(EVENTS)
            yield piece(word())
            scene.clock.advance(60)
            yield piece(word() * 1_000)
            raise AssertionError("it goes on")

        scene = Scene(said=stalls())
        scene.run(chat(stream=True))
        assert scene.settled() == ("expired", INPUT, ESTIMATE, True)
        [*_, last] = scene.sent
        assert b"expired" in last["body"] and b"four" not in last["body"] and not last["more_body"]
        assert len(scene.failures) == 1

    def test_an_answer_that_takes_longer_than_its_permit_lives_is_a_504(self) -> None:
        def late() -> Iterable[Message]:
            scene.clock.advance(60)
            yield start()
            raise AssertionError("it goes on")

        scene = Scene(said=late())
        scene.run()
        assert scene.sent[0]["status"] == 504
        assert scene.settled() == ("expired", INPUT, ESTIMATE, True)


def spending(name: str = "day", **limit: Any) -> dict[str, Any]:
    quota = {"name": name, "algorithm": "quota", "amount": 60, "period": "daily", "per": None}
    return quota | limit


class TestCuts:
    LONG = (start(EVENTS), *[piece(word()) for _ in range(200)], piece(b"data: [DONE]\n\n", False))

    def run(self, *limits: dict[str, Any], said: Iterable[Message] = LONG, **settings: Any) -> Scene:
        scene = Scene(said=said, limits=limits, settings=settings)
        return scene.run(chat(stream=True, max_tokens=5))

    def test_a_stream_whose_quota_is_spent_ends_with_an_error_of_its_api(self) -> None:
        scene = self.run(spending())
        # The estimate is 17 of 60; the 43rd token beyond it spends the quota.
        assert scene.body.count(word()) == 48
        last = scene.body.split(b"\n\n")[-2]
        assert 'Limit "day" is spent' in json.loads(last.removeprefix(b"data: "))["error"]["message"]
        assert scene.sent[-1]["more_body"] is False
        assert scene.settled() == ("settled", 12, 48, True)
        (told,) = scene.failures
        assert isinstance(told, OSError)

    def test_it_is_cut_between_two_events(self) -> None:
        stream = b"".join(word() for _ in range(200))
        for size in (7, 100, 1_000):
            parts = [piece(stream[at : at + size]) for at in range(0, len(stream), size)]
            scene = self.run(spending(), said=[start(EVENTS), *parts, piece(b"", False)], ask_for_usage=False)
            words = scene.body.count(word())
            assert scene.body.startswith(word() * words + b'data: {"error"') and 48 <= words < 70

    def test_a_rate_cuts_where_that_is_wanted(self) -> None:
        rate = {"name": "tpm", "amount": 60}
        assert self.run(rate).body.count(word()) == 200
        assert self.run(rate, cut="any").body.count(word()) == 48
        assert self.run(spending(), cut="never").body.count(word()) == 200
        calls = {"name": "rpm", "meter": "requests", "amount": 1}
        assert self.run(calls, cut="any").body.count(word()) == 200

    def test_an_answer_within_its_estimate_is_never_cut(self) -> None:
        scene = Scene(said=self.LONG, limits=(spending(amount=220),)).run(chat(stream=True, max_tokens=200))
        assert scene.body.count(word()) == 200

    def test_each_api_says_it_in_its_own_words(self) -> None:
        delta = b'data: {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "four"}}\n\n'
        said = [start(EVENTS), *[piece(delta)] * 100, piece(b"", False)]
        scene = Scene(said=said, limits=(spending(),)).run(b'{"max_tokens": 5, "stream": true}', "/v1/messages")
        assert b'event: error\ndata: {"error":{"message":' in scene.body.replace(b'"type":"error",', b"")
        delta = b'data: {"type": "response.output_text.delta", "delta": "four"}\n\n'
        said = [start(EVENTS), *[piece(delta)] * 100, piece(b"", False)]
        scene = Scene(said=said, limits=(spending(),)).run(b'{"max_output_tokens": 5, "stream": true}', "/v1/responses")
        assert json.loads(scene.body.split(b"\n\n")[-2].split(b"data: ")[1])["type"] == "error"


def test_it_runs_under_trio() -> None:
    scene = Scene(said=STREAM)
    anyio.run(scene.call, chat(stream=True), backend="trio")
    assert scene.settled() == ("settled", 12, 5, False)


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"cut": "often"}, "cut is 'often'"),
        ({"failed": "request"}, "failed is 'request'"),
        ({"apis": {"/chat": "chat"}}, "'/chat' is to speak 'chat'"),
        ({"max_body": 0}, "max_body"),
        ({"unanswered": "output"}, "unanswered is 'output'"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        Scene(settings=settings)


def test_the_rule_for_the_output_may_be_more_than_a_number() -> None:
    scene = Scene(said=[], settings={"output": OutputRule(0, per_mille_of_input=2_000)})
    scene.run(b'{"model": "m", "messages": [{"role": "user", "content": "Why is the sky blue?"}]}')
    assert scene.settled() == ("settled", 12, 24, True)
