"""The callback's hooks, called as the proxy calls them, where the proxy itself cannot be made to by a client.

Every request's context is kept here, as a pooled connection or a background worker that the request has started keeps it.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
import tokenweir.litellm
from fastapi import HTTPException
from waiting import until

pytestmark = pytest.mark.filterwarnings("ignore")

POLICY = {
    "limit": [
        {"name": meter, "meter": meter, "algorithm": "quota", "amount": 10**6, "period": "never"}
        for meter in ("requests", "input", "output")
    ]
}
CALLER = SimpleNamespace(team_id="t", api_key="k", metadata={}, team_metadata=None)
DATA = {"litellm_call_id": "1", "model": "m", "messages": [{"role": "user", "content": "x" * 9}], "max_tokens": 50}
"""It is admitted with 10 input tokens (3 for the text, 4 for the message, 3 for the request) and 50 output tokens."""


class Requests:
    def __init__(self, **settings: Any) -> None:
        clock = settings.pop("clock", None)
        self.gate = tokenweir.litellm.Gate({"policy": POLICY} | settings, **({"clock": clock} if clock else {}))
        self.kept: list[contextvars.Context] = []

    async def admit(self, **data: Any) -> None:
        await self.gate.async_pre_call_hook(CALLER, None, DATA | data, "acompletion")
        self.kept.append(contextvars.copy_context())

    def stream(self, response: AsyncIterator[Any]) -> AsyncIterator[Any]:
        return self.gate.async_post_call_streaming_iterator_hook(CALLER, response, DATA)

    async def log(self, usage: dict[str, int]) -> None:
        """LiteLLM's log, in the context of the request that was admitted last."""
        event = self.gate.async_log_success_event(DATA, {"usage": usage}, None, None)
        await self.kept[-1].run(asyncio.create_task, event)

    @property
    def open(self) -> int:
        return self.gate.limiter.stats().permits_open

    async def ended(self) -> None:
        """Returns when nothing is held, while the loop runs."""
        task = asyncio.create_task(asyncio.to_thread(until, lambda: self.open == 0, "nothing is held"))
        await task

    def settled(self) -> dict[str, int]:
        assert self.open == 0
        return {counter.limit: counter.settled_total for counter in self.gate.limiter.usage()}


def run(scene: Callable[[Requests], Coroutine[Any, Any, None]], **settings: Any) -> dict[str, int]:
    """What has been settled after a scene, while the contexts of its requests still live."""
    requests = Requests(**settings)

    async def played() -> None:
        await scene(requests)
        await requests.ended()

    asyncio.run(played())
    return requests.settled()


async def words(count: int) -> AsyncIterator[Any]:
    for _ in range(count):
        yield {"choices": [{"delta": {"content": "four"}}]}


ESTIMATE = {"requests": 1, "input": 10, "output": 50}


@pytest.fixture
def no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenweir.litellm, "_LATEST_LOG", 0.0)


def test_a_request_that_ends_without_a_word_leaves_its_estimate(no_log: None) -> None:
    async def scene(requests: Requests) -> None:
        await asyncio.create_task(requests.admit())

    assert run(scene) == ESTIMATE


def test_so_does_one_that_is_cancelled(no_log: None) -> None:
    async def scene(requests: Requests) -> None:
        async def request() -> None:
            await requests.admit()
            await asyncio.Event().wait()

        task = asyncio.create_task(request())
        while requests.open == 0:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert run(scene) == ESTIMATE


def test_the_log_has_time_to_come_after_the_request() -> None:
    async def scene(requests: Requests) -> None:
        await asyncio.create_task(requests.admit())
        assert requests.open == 1
        await requests.log({"prompt_tokens": 7, "completion_tokens": 5})

    assert run(scene) == {"requests": 1, "input": 7, "output": 5}


def test_a_stream_that_is_never_begun_ends_with_its_iterator() -> None:
    async def scene(requests: Requests) -> None:
        async def request() -> None:
            await requests.admit()
            stream = requests.stream(words(3))
            assert requests.open == 1
            del stream

        await asyncio.create_task(request())

    assert run(scene) == ESTIMATE


def test_so_does_one_that_is_closed_before_its_first_word() -> None:
    async def scene(requests: Requests) -> None:
        async def request() -> None:
            await requests.admit()
            stream: Any = requests.stream(words(3))
            await stream.aclose()
            requests.kept.append(stream)

        await asyncio.create_task(request())

    assert run(scene) == ESTIMATE


def test_a_stream_whose_log_never_comes_pays_for_what_has_streamed(no_log: None) -> None:
    async def scene(requests: Requests) -> None:
        async def request() -> None:
            await requests.admit()
            assert len([word async for word in requests.stream(words(3))]) == 3
            assert requests.open == 1, "the log may still come"

        await asyncio.create_task(request())

    assert run(scene) == {"requests": 1, "input": 10, "output": 3}


def test_a_stream_may_outlive_the_task_that_admitted_it(no_log: None) -> None:
    """So it is where the proxy sends pings until the answer begins."""

    async def scene(requests: Requests) -> None:
        async def request() -> AsyncIterator[Any]:
            await requests.admit()
            return requests.stream(words(3))

        stream = await asyncio.create_task(request())
        assert await anext(stream) and requests.open == 1
        assert len([word async for word in stream]) == 2

    assert run(scene) == {"requests": 1, "input": 10, "output": 3}


def test_a_client_that_leaves_while_the_provider_works_leaves_the_estimate() -> None:
    async def scene(requests: Requests) -> None:
        async def request() -> None:
            await requests.admit()
            await requests.gate.async_post_call_failure_hook(DATA, HTTPException(499, "disconnected"), CALLER)

        await asyncio.create_task(request())

    assert run(scene) == ESTIMATE


def test_one_task_that_serves_many_requests_holds_one_of_them(no_log: None) -> None:
    async def scene(requests: Requests) -> None:
        async def session() -> None:
            for number in range(5):
                await requests.admit(litellm_call_id=str(number))
                assert requests.open == 1

        await asyncio.create_task(session())

    assert run(scene) == {name: 5 * amount for name, amount in ESTIMATE.items()}


def test_requests_that_have_ended_do_not_pile_up_in_their_task() -> None:
    async def scene(requests: Requests) -> None:
        async def session() -> None:
            calls = []
            for _ in range(5):
                await requests.admit()
                calls.append(tokenweir.litellm._current.get())
                await requests.gate.async_post_call_success_hook(DATA, CALLER, {"usage": {"prompt_tokens": 1}})
            assert [call is not None and call() is not None for call in calls] == [False] * 4 + [True]

        await asyncio.create_task(session())

    assert run(scene)["requests"] == 5


class Renewed:
    """A permit, and how often it has been renewed."""

    def __init__(self, permit: Any) -> None:
        self.permit = permit
        self.times = 0

    def renew(self, ttl: float) -> None:
        self.permit.renew(ttl)
        self.times += 1

    async def again(self) -> None:
        before = self.times
        await asyncio.to_thread(until, lambda: self.times > before, "the permit is renewed")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.permit, name)

    @staticmethod
    def current() -> Renewed:
        reference = tokenweir.litellm._current.get()
        call = None if reference is None else reference()
        assert call is not None
        renewed: Any = Renewed(call.permit)
        call.permit = renewed
        found: Renewed = renewed
        return found


def test_a_stream_may_take_longer_than_a_permit_lives() -> None:
    clock = tokenweir.ManualClock()

    async def scene(requests: Requests) -> None:
        async def slow(permit: Renewed) -> AsyncIterator[Any]:
            async for word in words(10):
                # Nobody asks for the next word meanwhile: what renews the permit is no chunk.
                await permit.again()
                clock.advance(0.03)
                yield word

        async def request() -> None:
            await requests.admit()
            permit = Renewed.current()
            assert len([word async for word in requests.stream(slow(permit))]) == 10
            await requests.log({"prompt_tokens": 7, "completion_tokens": 11})

        await asyncio.create_task(request())

    assert run(scene, permit_ttl=0.04, clock=clock) == {"requests": 1, "input": 7, "output": 11}


def test_so_may_a_call_that_does_not_stream() -> None:
    clock = tokenweir.ManualClock()

    async def scene(requests: Requests) -> None:
        async def request() -> None:
            await requests.admit()
            permit = Renewed.current()
            for _ in range(5):
                await permit.again()
                clock.advance(0.03)
            assert requests.open == 1
            usage = {"usage": {"prompt_tokens": 7, "completion_tokens": 5}}
            await requests.gate.async_post_call_success_hook(DATA, CALLER, usage)

        await asyncio.create_task(request())

    assert run(scene, permit_ttl=0.04, clock=clock) == {"requests": 1, "input": 7, "output": 5}


def test_renewal_does_not_keep_a_stream_that_nobody_has() -> None:
    async def scene(requests: Requests) -> None:
        async def request() -> None:
            await requests.admit()
            permit = Renewed.current()
            stream: Any = requests.stream(words(3))
            await anext(stream)
            await permit.again()
            # What cannot be closed where it stands is closed by the loop.
            del stream

        await asyncio.create_task(request())

    settled = run(scene, permit_ttl=0.04, clock=tokenweir.ManualClock())
    assert settled == {"requests": 1, "input": 10, "output": 1}


@pytest.mark.parametrize(
    ("answer", "settled"),
    [
        # LiteLLM's form of no usage at all, beside text, tool calls, or nothing.
        ({"choices": [{"message": {"content": "x" * 40}}]}, (10, 10)),
        ({"choices": [{"message": {"tool_calls": [{"function": {"arguments": "x" * 20}}]}}]}, (10, 5)),
        ({"choices": [{"text": "x" * 8}]}, (10, 2)),
        ({"choices": [{"message": {"content": ""}}]}, (10, 50)),
        ({"output": [{"content": [{"text": "x" * 8}]}, {"arguments": "x" * 4}]}, (10, 3)),
        ({"content": [{"type": "text", "text": "x" * 12}]}, (10, 3)),
    ],
)
def test_usage_of_nothing_is_unknown(answer: dict[str, Any], settled: tuple[int, int]) -> None:
    async def scene(requests: Requests) -> None:
        async def request() -> None:
            await requests.admit()
            nothing = {"usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}}
            await requests.gate.async_post_call_success_hook(DATA, CALLER, answer | nothing)

        await asyncio.create_task(request())

    assert run(scene) == {"requests": 1, "input": settled[0], "output": settled[1]}


def test_a_provider_may_say_that_it_has_produced_nothing() -> None:
    async def scene(requests: Requests) -> None:
        async def request() -> None:
            await requests.admit()
            answer = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 0}}
            await requests.gate.async_post_call_success_hook(DATA, CALLER, answer)

        await asyncio.create_task(request())

    assert run(scene) == {"requests": 1, "input": 9, "output": 0}


def test_a_stream_that_says_usage_of_nothing_pays_for_its_text(no_log: None) -> None:
    async def said() -> AsyncIterator[Any]:
        async for word in words(3):
            yield word | {"usage": {"prompt_tokens": 0, "completion_tokens": 0}}

    async def scene(requests: Requests) -> None:
        async def request() -> None:
            await requests.admit()
            assert len([word async for word in requests.stream(said())]) == 3

        await asyncio.create_task(request())

    assert run(scene) == {"requests": 1, "input": 10, "output": 3}
