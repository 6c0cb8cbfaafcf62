"""The BudgetEnforcer protocol, with the values that LiteLLM 1.109 itself makes."""

from __future__ import annotations

import asyncio
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


def event(prompt: int, completion: int) -> Any:
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
        dimensions=WHO,
        charges=(Metric(name=MetricName.SPEND, value=Decimal("0.01"), unit="USD"),),
        snapshot=snapshot,
    )


def budget(**options: Any) -> Budget:
    return Budget(tokenweir.Limiter(tokenweir.Policy.from_dict({"limit": [LIMIT]})), **options)


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
