"""tokenweir as the rate limiter of LiteLLM's proxy: two lines in the proxy's own configuration.

    litellm_settings:
      callbacks: ["tokenweir.litellm.gate"]
    callback_settings:
      tokenweir:
        policy: policy.toml          # a file beside the configuration, or the policy itself

Every request is admitted before the call or refused in the proxy's own error form, with `retry-after`: 429 for a rate,
403 for a quota. It holds its estimated tokens while it runs, is observed while it streams, and is settled once: with the
usage that LiteLLM reports, also after retries and fallbacks; with what has been streamed, if the client leaves or the
stream breaks; as `failed` says, if the call fails. Usage of 0 tokens, which LiteLLM writes where the provider has said none,
is unknown: the input stays as estimated, and the output counts by the text of the answer. However a request ends, its permit
ends with the task that serves it; LiteLLM's log has half a minute more to say the usage, and then the estimate stands, or
what has streamed. Until then the permit is renewed: a request may take longer than `permit_ttl`.

What a limit's scope and match see of a request:

- `deployment` is the model that the client asked for; where a request names none, `route:` and the kind of call. A request
  for several models (`"model": "a,b"`, which the proxy would answer with a call to each) is refused with 400: name one. A
  comma in the name of one of the proxy's own models is allowed on all routes but chat completions, where the proxy takes it
  for a list.
- `project` is the first of `project` (a setting, default `[team, key]`) that the caller has, else `anonymous`.
- `key:NAME` is an attribute of the caller: `key` (the hash of the API key), `key_alias`, `team`, `team_alias`, `user`,
  `end_user`, `org`, `project`, `agent`. Any other name is looked up in the metadata of the key, then of the team.

The other settings: `default_output` (1024), the output tokens that a request is expected to take at most if it does not
say so itself (a bound that is no whole number is rounded up, and one above 2**53 is 2**53); `bytes_per_token` (4), for the
output where its usage is not known (the input is estimated as `tokenweir.wire` reads requests); `failed`, what a call counts
that failed at the provider: `request` (it counts as a request and takes no tokens), `nothing` or `estimate`; `cut_streams`
(false), whether a stream that has outrun its estimate ends when a limit of it is spent; `headers` (true), whether responses and refusals say what the rates have left; `quota_file`, a file beside the configuration in which the use of
calendar quotas outlives the proxy; and `permit_ttl`, `max_counters`, `max_permits`, `when_full`, and `lease_part` and
`when_store_fails` for the file, of the Limiter.

All other counters live in the process, and one process has the file open: run the proxy with one worker. Another worker that
opens the file ends, and says so in the proxy's log. A request that the limiter has no room for, or whose
use cannot be recorded in the file, is answered with 503.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import weakref
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextvars import Context, ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import litellm
from fastapi import HTTPException
from litellm._logging import verbose_proxy_logger
from litellm.integrations.custom_logger import CustomLogger

import tokenweir
from tokenweir import Denial, Limiter, Permit, Policy, QuotaFile
from tokenweir._errors import STORE_FAILED
from tokenweir._litellm_usage import Usage, answer_bytes, estimate, of_chunk, usage_of
from tokenweir.wire import Dialect

if TYPE_CHECKING:
    gate: Gate

__all__ = ["Gate", "gate"]

_ATTRIBUTES = {
    "key": "api_key",
    "key_alias": "key_alias",
    "team": "team_id",
    "team_alias": "team_alias",
    "user": "user_id",
    "end_user": "end_user_id",
    "org": "org_id",
    "project": "project_id",
    "agent": "agent_id",
}
"""Caller keys and the attributes of the proxy's UserAPIKeyAuth that hold them."""

_TOLD = Dialect("openai")
"""In whose words the proxy's clients are told how their limits stand."""
_LIMITER_SETTINGS = ("permit_ttl", "max_counters", "max_permits", "when_full", "lease_part", "when_store_fails")
_PERMIT_TTL = 600.0
"""Seconds that a permit lives unless the settings say otherwise."""
_RENEWALS = 4
"""How often in its life a permit is renewed."""
_LATEST_LOG = 30.0
"""Seconds that LiteLLM's log has, after a request, to say its usage. It is written in the background, and not at all when
there is too much of it."""


@dataclass(eq=False)
class _Call:
    """A request under way, or one that has ended and is still being answered or logged."""

    number: Any
    """Its `litellm_call_id`."""
    permit: Permit
    project: str
    deployment: str
    keys: dict[str, str]
    output: int
    """The output tokens that it was admitted with."""
    task: asyncio.Task[Any]
    """What serves it."""
    stream: str = ""
    """Whether there is a stream: `open` or `complete`. An open one ends the permit itself, or drops it."""
    late: asyncio.TimerHandle | None = None
    """When the log is late."""
    renewal: asyncio.TimerHandle | None = None
    ended: bool = False
    streamed_bytes: int = 0
    observed: int = 0
    """The output tokens that have streamed, by their bytes."""
    usage: Usage | None = None
    """What the stream itself has said."""

    @staticmethod
    def keep(reference: weakref.ref[_Call], ttl: float) -> None:
        """Renews the permit four times in its life, for as long as the request is under way."""
        call = reference()
        if call is not None and not call.ended:
            # One that has expired, because the process stood still, is over; and nobody has to be told.
            with contextlib.suppress(tokenweir.PermitError):
                call.permit.renew(ttl)
            call.renew_later(ttl)

    def renew_later(self, ttl: float) -> None:
        # The timer must not keep the permit: what keeps it is what serves the request.
        loop, reference = self.task.get_loop(), weakref.ref(self)
        self.renewal = loop.call_later(ttl / _RENEWALS, _Call.keep, reference, ttl, context=Context())

    def settle(self, usage: Usage) -> None:
        cached = None if usage.input is None or usage.cached is None else min(usage.cached, usage.input)
        self._end(lambda: self.permit.settle(usage.input, usage.output, cached_input=cached))

    def cancel(self) -> None:
        self._end(self.permit.cancel)

    def abandon(self) -> None:
        self._end(self.permit.abandon)

    def served(self, _task: object = None) -> None:
        """The task has ended, or the stream has: what is still open waits for the log, and not for long."""
        if not self.ended and self.stream != "open" and self.task.done() and self.late is None:
            # Not in this context: it would be kept as long.
            self.late = self.task.get_loop().call_later(_LATEST_LOG, self._lapse, context=Context())

    def _lapse(self) -> None:
        if self.stream:
            self.settle(Usage(output=self.observed))
        else:
            self.abandon()

    def _end(self, end: Callable[[], object]) -> None:
        self.ended = True
        for timer in (self.late, self.renewal):
            if timer is not None:
                timer.cancel()
        # A permit that has expired is over, and nobody has to be told; usage that cannot be leaves the estimate.
        with contextlib.suppress(tokenweir.PermitError):
            try:
                end()
            except tokenweir.UsageError:
                self.permit.abandon()


_current: ContextVar[weakref.ref[_Call] | None] = ContextVar("tokenweir_call", default=None)
"""The request that the running code serves.

A client may give its requests what call id it likes, so an id alone must not end a permit; the context cannot be forged. It
does not keep the permit, because contexts outlive their requests: a connection to a provider that is opened for a request,
or a worker that is started by one, keeps its context for as long as it lives itself. What keeps the permit is the task that
serves the request, then the stream, then the timer of the log."""


def _serving() -> _Call | None:
    reference = _current.get()
    return None if reference is None else reference()


@dataclass(frozen=True, slots=True)
class _Settings:
    policy: Policy
    project: tuple[str, ...] = ("team", "key")
    default_output: int = 1024
    bytes_per_token: int = 4
    failed: str = "request"
    cut_streams: bool = False
    headers: bool = True
    quota_file: str | None = None
    limiter: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def read(document: Mapping[str, Any], folder: Path) -> _Settings:
        """Settings as the proxy's configuration has them. ValueError names the one that is wrong."""
        rest = dict(document)
        policy = rest.pop("policy", None)
        if isinstance(policy, Mapping):
            policy = Policy.from_dict(policy)
        elif isinstance(policy, str):
            policy = Policy.from_file(folder / policy)
        elif not isinstance(policy, Policy):
            raise ValueError("callback_settings.tokenweir.policy is missing; give a policy, or the path of its file")
        for name, (fits, what) in _CHECKS.items():
            if name in rest and not fits(rest[name]):
                raise ValueError(f"callback_settings.tokenweir.{name} is {rest[name]!r}; give {what}")
        values: dict[str, Any] = {"limiter": {name: rest.pop(name) for name in _LIMITER_SETTINGS if name in rest}}
        for name in _CHECKS.keys() & rest.keys():
            value = rest.pop(name)
            values[name] = tuple(_list(value)) if name == "project" else value
        for name in rest:
            raise ValueError(f"callback_settings.tokenweir.{name} is no setting; see pydoc tokenweir.litellm")
        return _Settings(policy, **values)


_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "project": (
        lambda value: bool(value) and set(_list(value)) <= _ATTRIBUTES.keys(),
        f"some of {', '.join(_ATTRIBUTES)}",
    ),
    "default_output": (lambda value: type(value) is int and value >= 0, "a number of tokens"),
    "bytes_per_token": (lambda value: type(value) is int and value >= 1, "a number of bytes, 1 or more"),
    "failed": (lambda value: value in ("request", "nothing", "estimate"), "request, nothing or estimate"),
    "cut_streams": (lambda value: type(value) is bool, "true or false"),
    "headers": (lambda value: type(value) is bool, "true or false"),
    "quota_file": (lambda value: type(value) is str and value != "", "the path of a file"),
    "permit_ttl": (lambda value: type(value) in (int, float) and value > 0, "a number of seconds above 0"),
}
"""What each setting may be, and what to say otherwise."""


def _list(value: Any) -> list[Any]:
    return [value] if isinstance(value, str) else list(value)


class Gate(CustomLogger):
    """The callback. `tokenweir.litellm.gate` is made from the proxy's configuration when the proxy loads it.

    A host that configures it in code makes one of the same settings, `Gate({"policy": ...})`, and adds it to
    `litellm.callbacks`; a path in them is taken from `folder`, and further arguments (`observer`, `clock`) go to the
    Limiter. `gate.limiter` is its Limiter: for its usage view, or to put another policy in force. Raises ValueError for a
    wrong setting, PolicyError, and QuotaFileError.
    """

    limiter: Limiter

    def __init__(self, settings: Mapping[str, Any], *, folder: str | os.PathLike[str] = ".", **limiter: Any) -> None:
        super().__init__()
        self._settings = _Settings.read(settings, Path(folder))
        options = {"permit_ttl": _PERMIT_TTL} | self._settings.limiter | limiter
        if self._settings.quota_file is not None:
            options["store"] = QuotaFile(Path(folder) / self._settings.quota_file).store("litellm")
        self.limiter = Limiter(self._settings.policy, **options)
        if options.get("store") is not None:
            # So that the file has exactly what was used.
            atexit.register(self.limiter.close)
        self._permit_ttl = float(options["permit_ttl"])

    # What the proxy calls, in the order in which it does.

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> None:
        """Admits the request, or raises the refusal."""
        number, task = data.get("litellm_call_id"), asyncio.current_task()
        assert task is not None
        earlier = _serving()
        if earlier is not None and not earlier.ended and earlier.number == number:
            # The proxy asks again, for a fallback model, after another callback has refused the first one.
            earlier.cancel()
        if earlier is not None and earlier.task is task:
            # One task serves a session's requests one after the other; nothing may have told of the end of this one.
            task.remove_done_callback(earlier.served)
            if not earlier.ended:
                earlier.abandon()
        project, keys = self._caller(user_api_key_dict)
        deployment = _deployment(data.get("model"), call_type)
        try:
            wanted = estimate(data, call_type, self._settings.default_output)
            decision = self.limiter.admit(project, deployment, *wanted, keys=keys)
        except (tokenweir.RequestError, tokenweir.BodyError) as error:
            raise HTTPException(400, str(error)) from error
        except tokenweir.CapacityError as error:
            raise HTTPException(503, str(error)) from error
        except tokenweir.StoreError as error:
            # What it says of the file is for the proxy's log, which has the cause.
            raise HTTPException(503, STORE_FAILED) from error
        if not decision:
            raise self._refusal(decision, deployment, call_type)
        call = _Call(number, decision, project, deployment, keys, wanted[1], task)
        call.renew_later(self._permit_ttl)
        task.add_done_callback(call.served, context=Context())
        _current.set(weakref.ref(call))

    async def async_post_call_success_hook(self, data: dict[str, Any], user_api_key_dict: Any, response: Any) -> None:
        """Settles a request that was answered in one piece."""
        call = self._open(data.get("litellm_call_id"))
        if call is not None:
            self._settle(call, usage_of(response) or Usage(), answer_bytes(response))

    def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: Any, response: Any, request_data: dict[str, Any]
    ) -> AsyncIterator[Any]:
        """Observes a stream. It is settled here if it says its usage itself or breaks off."""
        call = self._open(request_data.get("litellm_call_id"))
        if call is None:
            unseen: AsyncIterator[Any] = response
            return unseen
        call.stream = "open"
        return self._observed(call, response)

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Settles a stream that has come to its end: LiteLLM has counted its tokens by now."""
        call = self._open(kwargs.get("litellm_call_id"))
        if call is None:
            return
        usage = usage_of(response_obj)
        if usage is not None:
            self._settle(call, usage, max(call.streamed_bytes, answer_bytes(response_obj)))

    async def async_post_call_failure_hook(
        self,
        request_data: dict[str, Any],
        original_exception: Exception,
        user_api_key_dict: Any,
        traceback_str: str | None = None,
    ) -> None:
        """Ends a request that has failed for good. (A failed attempt that is tried again keeps its permit.)"""
        call = self._open(request_data.get("litellm_call_id"))
        if call is None:
            return
        if getattr(original_exception, "status_code", None) == 499 and isinstance(original_exception, HTTPException):
            # The client has left while the provider was at work.
            call.abandon()
        elif not hasattr(original_exception, "llm_provider") or isinstance(original_exception, HTTPException):
            # The proxy itself has refused it: it never reached the provider.
            call.cancel()
        elif self._settings.failed == "nothing":
            call.cancel()
        elif self._settings.failed == "estimate":
            call.abandon()
        else:
            call.settle(Usage(0, 0))

    async def async_post_call_response_headers_hook(
        self,
        data: dict[str, Any],
        user_api_key_dict: Any,
        response: Any,
        request_headers: dict[str, str] | None = None,
        litellm_call_info: dict[str, Any] | None = None,
    ) -> dict[str, str] | None:
        """What OpenAI's API says of its rates: `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, of each kind the limit
        with the least left."""
        call = _serving()
        if call is None or call.number != data.get("litellm_call_id") or not self._settings.headers:
            return None
        now = self.limiter.now()
        views = self.limiter.peek(call.project, call.deployment, keys=call.keys, now=now).limits
        remaining = {view.limit: view.remaining for view in views if view.mode == "enforce"}
        return dict(_TOLD.headers_of(self.limiter.policy, remaining, now=now))

    # What they share.

    def _open(self, number: Any) -> _Call | None:
        """The request of this number, if it is the one being served and still holds its permit."""
        call = _serving()
        return None if call is None or call.ended or call.number != number else call

    def _settle(self, call: _Call, usage: Usage, size: int) -> None:
        """By the usage; the output by the bytes of its text where nobody has counted its tokens."""
        if not usage.output and size:
            usage = replace(usage, output=self._tokens(size))
        call.settle(usage)

    def _tokens(self, size: int) -> int:
        return -(-size // self._settings.bytes_per_token)

    def _caller(self, caller: Any) -> tuple[str, dict[str, str]]:
        found = {}
        for name in self.limiter.policy.key_names:
            value = getattr(caller, _ATTRIBUTES[name], None) if name in _ATTRIBUTES else None
            if name not in _ATTRIBUTES:
                for metadata in (getattr(caller, "metadata", None), getattr(caller, "team_metadata", None)):
                    if isinstance(metadata, Mapping) and value in (None, ""):
                        value = metadata.get(name)
            if value not in (None, ""):
                found[name] = str(value)
        of = (getattr(caller, _ATTRIBUTES[name], None) for name in self._settings.project)
        return str(next(filter(None, of), "anonymous")), found

    async def _observed(self, call: _Call, response: Any) -> AsyncIterator[Any]:
        complete = False
        try:
            async for chunk in response:
                if not call.ended and self._spent(call, chunk):
                    complete = True
                    call.settle(Usage(output=call.observed))
                    return
                yield chunk
            complete = True
        finally:
            call.stream = "complete"
            if not call.ended:
                if call.usage is not None:
                    self._settle(call, call.usage, call.streamed_bytes)
                elif not complete:
                    call.settle(Usage(output=call.observed))
                else:
                    call.served()

    def _spent(self, call: _Call, chunk: Any) -> bool:
        """Notes what a chunk brings, and says whether the stream is to end here."""
        text, usage = of_chunk(chunk)
        call.usage = usage or call.usage
        call.streamed_bytes += text
        output = self._tokens(call.streamed_bytes)
        if output == call.observed:
            return False
        more, call.observed = output - call.observed, output
        try:
            spent = call.permit.observe(output=more)
        except tokenweir.PermitError:
            return False
        return spent and self._settings.cut_streams and output > call.output

    def _refusal(self, denial: Denial, deployment: str, call_type: str) -> Exception:
        """The refusal as the proxy has it."""
        told = _TOLD.refused(denial, now=self.limiter.now()).headers
        # The body is the proxy's own.
        left_out = ("content-type",) if self._settings.headers else ("content-type", "x-ratelimit-")
        headers = {name: value for name, value in told if not name.startswith(left_out)}
        if call_type == "anthropic_messages":
            # This route leaves out the headers of all but the proxy's own exception.
            from litellm.proxy._types import ProxyException

            kind = "rate_limit_error" if denial.status == 429 else "permission_error"
            own: Exception = ProxyException(str(denial), kind, None, denial.status, headers)
            return own
        if denial.status != 429:
            return HTTPException(denial.status, str(denial), headers)
        try:
            from litellm.proxy.common_utils.proxy_rate_limit_error import ProxyRateLimitError, map_v3_rate_limit_type
        except ImportError:
            return HTTPException(429, str(denial), headers)
        limit = denial.policy.limit(denial.limit)
        meter = "total" if limit is None else limit.meter
        kind = {"requests": "requests", "in_flight": "max_parallel_requests"}.get(meter, "tokens")
        rate_limit_type = map_v3_rate_limit_type(kind)
        refusal: Exception = ProxyRateLimitError(
            str(denial), headers=headers, rate_limit_type=rate_limit_type, model=deployment
        )
        return refusal


def _deployment(model: Any, call_type: str) -> str:
    """The one deployment that a request is for, or the refusal of several."""
    if not model:
        return f"route:{call_type}"
    if isinstance(model, str) and ("," not in model or (call_type not in _SPLIT and model in _model_names())):
        return model
    from litellm.proxy._types import ProxyException

    what = f"model is {model!r}" if isinstance(model, str) else f"model is {type(model).__name__}"
    many: Exception = ProxyException(
        f"{what}: limits are counted by model; name one model in each request", "invalid_request_error", "model", 400
    )
    raise many


_SPLIT = ("completion", "acompletion")
"""The kinds of call where the proxy reads a comma as a list of models, whatever its models are called, and calls each."""


def _model_names() -> Collection[str]:
    from litellm.proxy import proxy_server

    return getattr(getattr(proxy_server, "llm_router", None), "model_names", ())


_gate: Gate | None = None


def __getattr__(name: str) -> Any:
    """`gate`, made when the proxy asks for it: by then it has read `callback_settings`, and its file is known."""
    global _gate
    if name != "gate":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _gate is None:
        from litellm.proxy import proxy_server

        settings = (getattr(litellm, "callback_settings", None) or {}).get("tokenweir")
        if not isinstance(settings, Mapping):
            raise ValueError("callback_settings.tokenweir is missing in the proxy's configuration; give it a policy")
        file = getattr(proxy_server, "user_config_file_path", None)
        try:
            _gate = Gate(settings, folder=Path(file).parent if file else Path("."))
        except Exception as error:
            # A worker process of the proxy that cannot start says nothing of why, and is started again and again.
            verbose_proxy_logger.error("tokenweir cannot be the proxy's limiter: %s%s", error, _next_step(error))
            raise
    return _gate


def _next_step(error: Exception) -> str:
    in_use = isinstance(error, tokenweir.QuotaFileError) and error.name == "QUOTA_FILE_IN_USE"
    return " (one process has a quota file open: run the proxy with one worker, --num_workers 1)" if in_use else ""
