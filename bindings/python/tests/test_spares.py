"""Permits and settlements are objects that are used again: nobody may notice."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import tokenweir
from tokenweir import Limiter, ManualClock, Permit, Policy, Route, Settlement

TOKENS = {"name": "tokens", "meter": "total", "algorithm": "quota", "amount": 10**9, "period": "never"}
POLICY = Policy.from_dict({"limit": [TOKENS]})


@contextmanager
def uncollected() -> Iterator[None]:
    """What goes meanwhile goes by itself."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.fixture(params=["limiter", "route"])
def issuer(request: pytest.FixtureRequest) -> Limiter | Route:
    limiter = Limiter(POLICY, clock=ManualClock())
    return limiter if request.param == "limiter" else limiter.route("p", "d")


def reserve(issuer: Limiter | Route, input: int) -> Permit:
    return issuer.reserve("p", "d", input) if isinstance(issuer, Limiter) else issuer.reserve(input)


def test_what_somebody_holds_stays_as_it_is(issuer: Limiter | Route) -> None:
    permits, settlements = [], []
    for number in range(1, 51):
        permit = reserve(issuer, number)
        settlements.append(permit.settle(number, 0))
        # Some go at once, some later, some never.
        permits += [permit] if number % 3 else []
        del permits[: number % 7 == 0]
        del permit
        reserve(issuer, 1).cancel()
        reserve(issuer, 2).abandon()
    assert [settled.input for settled in settlements] == list(range(1, 51))
    assert {settled.outcome for settled in settlements} == {"settled"}
    assert len({settled.id for settled in settlements}) == 50
    assert len({id(settled) for settled in settlements}) == 50
    assert len({permit.id for permit in permits}) == len(permits) == len({id(permit) for permit in permits})
    for permit in permits:
        with pytest.raises(tokenweir.PermitError):
            permit.settle(1, 1)


def test_an_object_that_is_used_again_is_a_permit_like_any_other(issuer: Limiter | Route) -> None:
    limiter = issuer if isinstance(issuer, Limiter) else issuer.limiter
    ids = set()
    for _ in range(10):
        permit = reserve(issuer, 5)
        assert repr(permit) == f"<Permit {permit.id} open>" and permit.remaining()
        ids.add(permit.id)
        permit.settle(5, 0)
        with pytest.raises(tokenweir.PermitError):
            permit.cancel()
        assert permit.remaining() == {} and "ended" in repr(permit)
    assert len(ids) == 10
    # Dropped, or handed over, it is as open as a new one.
    reserve(issuer, 7)
    assert limiter.stats().permits_open == 0
    number = reserve(issuer, 7).detach()
    assert limiter.stats().permits_open == 1
    assert limiter.settle(number, 7, 0).input == 7
    with reserve(issuer, 7):
        pass
    assert limiter.stats().permits_open == 0
    assert limiter.usage()[0].settled_total == 5 * 10 + 3 * 7


def test_settlements_of_ids_are_used_again_as_well() -> None:
    limiter = Limiter(POLICY)
    kept = [limiter.settle(limiter.reserve("p", "d", 1).detach(), number, 0) for number in range(20)]
    assert [settled.input for settled in kept] == list(range(20))
    assert kept[3] == kept[3] and kept[3] != kept[4]


def test_spares_keep_no_limiter_alive() -> None:
    with uncollected():
        limiter = Limiter(POLICY)
        route = limiter.route("p", "d")
        gone = weakref.ref(limiter), weakref.ref(route)
        for issuer in (limiter, route):
            reserve(issuer, 1).settle(1, 0)
        last = route.reserve(1)
        del limiter, route, issuer
        assert [reference() for reference in gone] == [None, None]
        # It outlives its limiter, and is no spare afterwards.
        assert last.settle(1, 0).input == 1


def test_nor_its_store(tmp_path: Path) -> None:
    with uncollected(), tokenweir.QuotaFile(tmp_path / "quotas") as file:
        for _ in range(3):
            # The name is free again each time.
            limiter = Limiter(POLICY, store=file.store("gateway"))
            limiter.reserve("p", "d", 1).settle(1, 0)
            limiter.route("p", "d").reserve(1).settle(1, 0)
            permit = limiter.reserve("p", "d", 1)
            del limiter
            permit.settle(1, 0)
            del permit
        assert [record.used for record in file.records()] == [9]


def test_threads_get_settlements_of_their_own() -> None:
    limiter = Limiter(POLICY)
    route = limiter.route("p", "d")
    start = threading.Barrier(6)
    wrong: list[Settlement] = []

    def work(seed: int) -> None:
        start.wait()
        kept: list[tuple[int, Settlement]] = []
        for turn in range(2_000):
            number = seed * 10_000 + turn
            permit = reserve(route if turn % 2 else limiter, 1)
            kept.append((number, permit.settle(number, seed)))
            del kept[: -(turn % 9) or None]
            wrong.extend(settled for number, settled in kept if (settled.input, settled.output) != (number, seed))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and limiter.stats().permits_open == 0
    assert limiter.usage()[0].settled_total == sum(
        seed * 10_000 + turn + seed for seed in range(6) for turn in range(2_000)
    )
