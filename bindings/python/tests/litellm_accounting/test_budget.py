"""The BudgetEnforcer protocol, with the values that LiteLLM 1.109 itself makes."""

from __future__ import annotations

import asyncio
import inspect
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
from litellm.accounting import BudgetEnforcer, CostEvent, Dimension, Metric
from litellm.accounting.types import DimensionName, MetricName, PricedQuantity, PricingSnapshot

import tokenweir
from tokenweir.litellm_accounting import Budget

pytestmark = pytest.mark.filterwarnings("ignore")

LIMIT = {
    "name": "tpm",
    "meter": "total",
    "algorithm": "quota",
    "amount": 1_000,
    "period": "never",
    "scope": ["key:key"],
}
WHO = (
    Dimension(name=DimensionName.KEY, value="k"),
    Dimension(name=DimensionName.TEAM, value="t"),
    Dimension(name=DimensionName.MODEL_GROUP, value="gpt"),
)


def metrics(prompt: int, completion: int) -> tuple[Any, ...]:
    return (
        Metric(name=MetricName.PROMPT_TOKENS, value=Decimal(prompt)),
        Metric(name=MetricName.COMPLETION_TOKENS, value=Decimal(completion)),
    )


def event(prompt: int, completion: int, who: Any = WHO) -> Any:
    usage = (("prompt_tokens", prompt), ("completion_tokens", completion))
    snapshot = PricingSnapshot(
        calculator_version="1",
        model="gpt",
        provider="openai",
        pricing_source="cost_map",
        priced_model_key="gpt",
        usage=tuple(PricedQuantity(measure=name, unit="token", value=Decimal(value)) for name, value in usage),
        total_cost=Decimal("0.01"),
    )
    return CostEvent(
        event_id="cost",
        usage_event_id="usage",
        occurred_at=datetime.now(timezone.utc),
        dimensions=who,
        charges=(Metric(name=MetricName.SPEND, value=Decimal("0.01"), unit="USD"),),
        snapshot=snapshot,
    )


def budget(*, scope: list[str] | None = None, **options: Any) -> Budget:
    limit = LIMIT if scope is None else LIMIT | {"scope": scope}
    return Budget(tokenweir.Limiter(tokenweir.Policy.from_dict({"limit": [limit]})), **options)


def test_its_methods_are_those_of_the_protocol() -> None:
    names = {name for name, _ in inspect.getmembers(BudgetEnforcer, inspect.isfunction) if not name.startswith("_")}
    assert names == {"reserve", "settle", "release"}
    for name in names:
        asked, given = inspect.signature(getattr(BudgetEnforcer, name)), inspect.signature(getattr(Budget, name))
        assert [(each.name, each.kind, each.default) for each in asked.parameters.values()] == [
            (each.name, each.kind, each.default) for each in given.parameters.values()
        ]
        assert inspect.iscoroutinefunction(getattr(Budget, name)) == inspect.iscoroutinefunction(
            getattr(BudgetEnforcer, name)
        )


def test_reserve_settle_release() -> None:
    enforcer = budget()
    protocol: BudgetEnforcer = enforcer

    def counter() -> Any:
        return enforcer.limiter.usage()[0]

    async def main() -> None:
        assert (await protocol.reserve("a", WHO, metrics(300, 300))).allowed
        assert (await protocol.reserve("a", WHO, metrics(300, 300))).allowed
        assert counter().held == 600, "a reservation of the same id holds no more"
        refused = await protocol.reserve("b", WHO, metrics(300, 300))
        assert not refused.allowed and "larger" not in refused.reason and '"tpm"' in refused.reason
        await protocol.settle("a", event(100, 50))
        await protocol.settle("a", event(100, 50))
        await protocol.release("a")
        assert (counter().used, counter().held, counter().settled_total) == (150, 0, 150)
        assert (await protocol.reserve("c", WHO, metrics(300, 300))).allowed
        await protocol.release("c")
        await protocol.release("c")
        await protocol.settle("c", event(9, 9))
        assert (counter().used, counter().held) == (150, 0)
        await protocol.settle(None, event(900, 100))
        assert counter().used == 1_150
        with pytest.raises(tokenweir.Denied):
            await protocol.settle(None, event(1, 1))

    asyncio.run(main())


def test_what_has_expired_is_forgotten() -> None:
    enforcer = budget(permit_ttl=0.0)

    async def main() -> None:
        for number in range(100):
            assert (await enforcer.reserve(str(number), WHO, metrics(1, 1))).allowed
        assert len(enforcer._open) == 1

    asyncio.run(main())
    assert enforcer.limiter.usage()[0].used == 200


@pytest.mark.parametrize(
    ("scope", "options", "found"),
    [
        (["key:user", "key:organization"], {}, {"key:user": "u", "key:organization": "o"}),
        (["project", "deployment"], {}, {"project": "t", "deployment": "gpt"}),
        (["project"], {"project": ["user", "team"]}, {"project": "u"}),
        (["project"], {"project": ["tag"]}, {"project": "anonymous"}),
    ],
)
def test_a_limit_counts_by_any_dimension(scope: list[str], options: dict[str, Any], found: dict[str, str]) -> None:
    enforcer = budget(scope=scope, **options)
    who = (
        *WHO,
        Dimension(name=DimensionName.USER, value="u"),
        Dimension(name=DimensionName.ORGANIZATION, value="o"),
    )

    async def main() -> None:
        assert (await enforcer.reserve("a", who, metrics(3, 4))).allowed
        await enforcer.settle("a", event(2, 3, who))

    asyncio.run(main())
    (counter,) = enforcer.limiter.usage()
    assert (counter.scope, counter.settled_total) == (found, 5)
