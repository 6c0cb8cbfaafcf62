"""tokenweir behind `litellm.accounting`: an implementation of its BudgetEnforcer protocol (LiteLLM 1.109).

    from tokenweir.litellm_accounting import Budget

    enforcer = Budget(tokenweir.Limiter(policy))
    decision = await enforcer.reserve("request 1", dimensions, estimated)
    await enforcer.settle("request 1", cost_event)
    await enforcer.release("request 1")

A dimension is what a limit counts by: `model_group`, else `model`, else `deployment` is the deployment; the first of
`project` (default: team, key) that is there is the project; and `key:NAME` is the dimension of that name (`key:user`,
`key:organization`, ...). Prices are those of the policy: what LiteLLM has charged is not taken over.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import tokenweir
from tokenweir import Limiter, Permit

__all__ = ["Budget"]


class Budget:
    """A BudgetEnforcer over a limiter. `permit_ttl` is the limiter's, in seconds: what is neither settled nor released by
    then has expired, its estimate standing, and is forgotten here. ImportError if the installed LiteLLM has no such protocol.
    """

    def __init__(
        self, limiter: Limiter, *, project: Sequence[str] = ("team", "key"), permit_ttl: float = 600.0
    ) -> None:
        try:
            from litellm.accounting import AdmissionDecision
        except ImportError as error:
            raise ImportError("litellm.accounting with BudgetEnforcer is in LiteLLM 1.109; install that") from error
        self._decision = AdmissionDecision
        self.limiter = limiter
        self._project = tuple(project)
        self._permit_ttl = permit_ttl
        self._open: OrderedDict[str, tuple[float, Permit]] = OrderedDict()

    async def reserve(self, reservation_id: str, dimensions: Sequence[Any], estimated: Sequence[Any]) -> Any:
        """Admits and holds the estimate. A reservation that is open already is allowed and holds no more."""
        self._forget_expired()
        if reservation_id in self._open:
            return self._decision(allowed=True)
        tokens = {metric.name.value: int(metric.value) for metric in estimated if metric.unit == "count"}
        output = tokens.get("completion_tokens", 0)
        taken = tokens.get("prompt_tokens", max(tokens.get("total_tokens", 0) - output, 0))
        try:
            decision = self._admit(dimensions, taken, output)
        except tokenweir.Error as error:
            return self._decision(allowed=False, reason=str(error))
        if not decision:
            return self._decision(allowed=False, reason=str(decision))
        self._open[reservation_id] = (time.monotonic() + self._permit_ttl, decision)
        return self._decision(allowed=True)

    async def settle(self, reservation_id: str | None, cost_event: Any) -> None:
        """Settles a reservation with the tokens of the event's snapshot; once, whatever is said of it later.

        Without a reservation the tokens are charged now, as debt if need be. Raises Denied if a limit is spent by then and
        takes no more: nothing has been charged.
        """
        tokens = {each.measure: int(each.value) for each in cost_event.snapshot.usage if each.unit == "token"}
        taken, output = tokens.get("prompt_tokens"), tokens.get("completion_tokens")
        cached = tokens.get("cache_read_input_tokens")
        if reservation_id is None:
            decision = self._admit(cost_event.dimensions, 0, 0)
            if not decision:
                raise tokenweir.Denied(decision)
            decision.settle(taken or 0, output or 0, cached_input=cached)
            return
        _, permit = self._open.pop(reservation_id, (0.0, None))
        if permit is not None:
            permit.settle(taken, output, cached_input=cached)

    async def release(self, reservation_id: str) -> None:
        """Gives back what an unsettled reservation holds. What was settled stays charged."""
        _, permit = self._open.pop(reservation_id, (0.0, None))
        if permit is not None:
            permit.cancel()

    def _admit(self, dimensions: Sequence[Any], taken: int, output: int) -> Permit | tokenweir.Denial:
        named: dict[str, str] = {}
        for dimension in dimensions:
            named.setdefault(dimension.name.value, dimension.value)
        project = next((named[part] for part in self._project if part in named), "anonymous")
        deployment = next((named[part] for part in ("model_group", "model", "deployment") if part in named), "unknown")
        keys = {name: named[name] for name in self.limiter.policy.key_names if name in named}
        return self.limiter.admit(project, deployment, taken, output, keys=keys)

    def _forget_expired(self) -> None:
        now = time.monotonic()
        while self._open and next(iter(self._open.values()))[0] <= now:
            self._open.popitem(last=False)
