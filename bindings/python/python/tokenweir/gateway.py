"""The AI Gateway of Microsoft Foundry, as its Admin console offers it: resources, gateways, projects, limits, agents, tools.

    from tokenweir.gateway import Console

    console = Console()
    console.declare("resource", name="contoso", public_network_access=True, site={...})
    console.apply("ada", "create_gateway", resource="contoso", name="front")
    console.command({"call": {"project": "search", "deployment": "gpt-4o"}})

Everything is a command, an object with the command's name, and its answer. All of them, with their fields, are listed in
the documentation of the Rust library (`tokenweir::gateway::Console`); they are the same in every language.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from tokenweir import CoarseClock, GatewayError, ManualClock, SystemClock, _native

__all__ = ["Console"]


class Console:
    """The console of Foundry resources, and the traffic through their gateways.

    `options` may have `time` (`system`, the default, or `given`: each command may bring `now`, and the first one must),
    `profile` (how gateways count and answer: `{"tier": "v2"}`, the default, `{"tier": "classic"}`, or None for the engine's
    own way), `provider` (`{"ready_after": seconds, "delete_after": seconds}`), `records`, `max_calls`, `max_counters` and
    `call_ttl_seconds`. `clock` is a clock other than the system's, for tests.

    Any thread may use it; commands that administer wait for one another. Raises ValueError for a wrong option.
    """

    def __init__(
        self,
        options: Mapping[str, Any] | None = None,
        *,
        clock: SystemClock | CoarseClock | ManualClock | None = None,
    ) -> None:
        self._console = _native.Console(json.dumps(dict(options or {})), clock)

    def command(self, command: Mapping[str, Any], *, now: str | datetime | None = None) -> Any:
        """Carries out a command, and returns its answer as dicts, lists, texts and numbers.

        `now` is the instant, where the console is told the time: RFC 3339, or a datetime with its zone. Raises
        GatewayError, with code, findings and next step, if it is refused; it has changed nothing then but the audit trail.
        """
        whole = dict(command)
        if now is not None:
            whole["now"] = _instant(now)
        answer = json.loads(self._console.command(json.dumps(whole)))
        if "error" not in answer:
            return answer["ok"]
        refused = answer["error"]
        error = GatewayError(f"{refused['message']}; {refused['next']}")
        error.name, error.next, error.findings = refused["code"], refused["next"], refused.get("findings", [])
        raise error

    def apply(self, by: str, operation: str, *, now: str | datetime | None = None, **fields: Any) -> dict[str, Any]:
        """An operation of somebody, such as `apply("ada", "add_project", resource="contoso", project="search")`. Returns
        what came of it. Raises GatewayError."""
        applied: dict[str, Any] = self.command({"apply": {"by": by, "operation": {operation: fields}}}, now=now)
        return applied

    def declare(self, what: str, *, now: str | datetime | None = None, **fields: Any) -> dict[str, Any]:
        """What the cloud around says there is: a `resource`, `deployment`, `project`, `principal`, `instance` or `settings`.
        Returns what came of it. Raises GatewayError."""
        declared: dict[str, Any] = self.command({"declare": {what: fields}}, now=now)
        return declared

    def __reduce__(self) -> Any:
        raise TypeError("cannot pickle a Console: pass on the document that the command save returns")


def _instant(now: str | datetime) -> str:
    if isinstance(now, str):
        return now
    if now.tzinfo is None:
        raise ValueError(f"now is {now!r}, which has no zone; give one, such as datetime.timezone.utc")
    return now.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")
