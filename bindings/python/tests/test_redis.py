"""Limits on a real Redis server, for who waits and for who awaits."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing
import pickle
import re
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest
import tokenweir
import uvloop
from loops import Run, run, under_asyncio, under_uvloop
from redis_server import RedisServer
from tokenweir import Denial, Denied, PermitError, Policy, RedisError, RequestError, UsageError
from tokenweir.redis import (
    AsyncRedisLimiter,
    AsyncRedisPermit,
    RedisDenial,
    RedisLimiter,
    RedisPermit,
    Unavailable,
)
from waiting import until

MONTH = '''
[[limit]]
name = "month"
meter = "total"
algorithm = "quota"
amount = 1_000
period = "never"
scope = ["project"]
'''
AT_ONCE = '''
[[limit]]
name = "at once"
meter = "in_flight"
algorithm = "in_flight"
amount = 3
'''


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as started:
        yield started


def connect(server: RedisServer, policy: str = MONTH, **more: Any) -> RedisLimiter:
    # Where the machine is busy, an answer is late, but it comes.
    return RedisLimiter.connect(server.url, Policy.from_toml(policy), **({"deadline": 10} | more))


async def connect_async(server: RedisServer, policy: str = MONTH, **more: Any) -> AsyncRedisLimiter:
    return await AsyncRedisLimiter.connect(server.url, Policy.from_toml(policy), **({"deadline": 10} | more))


def left(limiter: RedisLimiter) -> int:
    return limiter.remaining("search", "gpt-4o")[0].remaining


def coded(code: int, kind: type[tokenweir.Error], call: Callable[..., Any], *given: Any, **more: Any) -> str:
    with pytest.raises(kind) as raised:
        call(*given, **more)
    assert raised.value.code == code and raised.value.name
    return str(raised.value)


def test_a_request_is_decided_held_and_settled(server: RedisServer) -> None:
    limiter = connect(server, MONTH + AT_ONCE)
    permit = limiter.admit("search", "gpt-4o", 600, 100)
    assert permit and isinstance(permit, RedisPermit)
    assert (permit.admitted, permit.by, permit.remaining()) == (True, "server", {"month": 300, "at once": 2})
    assert permit.shadow_refused() == [] and repr(permit) == f"<RedisPermit {permit.id} by server: open>"
    denial = limiter.admit("search", "gpt-4o", 301)
    assert not denial and isinstance(denial, RedisDenial) and isinstance(denial, Denial)
    assert (denial.status, denial.limit, denial.by, denial.remaining["month"]) == (403, "month", "server", 300)
    assert "by='server'" in repr(denial)
    assert not permit.observe(600, 0)
    assert permit.observe(0, 400), "all of it is taken"
    ended = permit.settle(600, 50, cached_input=10)
    assert (ended.told, ended.settlement.input, ended.settlement.output, ended.settlement.cached_input) == (True, 600, 50, 10)
    assert (ended.settlement.outcome, ended.settlement.id) == ("settled", permit.id)
    standing = limiter.remaining("search", "gpt-4o")
    assert [(one.limit, one.remaining, one.charged_total) for one in standing] == [("month", 350, 650), ("at once", 3, None)]
    assert repr(permit).endswith(": ended>") and permit.remaining() == {}
    coded(21, PermitError, permit.settle, 1, 1)
    coded(21, PermitError, permit.observe, 1)
    coded(21, PermitError, permit.renew, 1)
    limiter.reserve("search", "gpt-4o", 350).cancel()
    assert left(limiter) == 350
    assert limiter.server == server.url and server.url in repr(limiter)
    assert [limit.name for limit in limiter.policy.limits] == ["month", "at once"]


def reached(url: str, **more: Any) -> None:
    limiter = RedisLimiter.connect(url, Policy.from_toml(MONTH), deadline=10, **more)
    until(lambda: limiter.stats().up, f"{url} is reached")
    for number in range(20):
        request = (f"p{number}", "gpt-4o")
        permit = limiter.reserve(*request, 100)
        assert permit.by == "server" and permit.settle(40, 0).told
        assert limiter.remaining(*request)[0].remaining == 960


def test_a_primary_is_reached_by_its_sentinels(tmp_path: Path, server: RedisServer) -> None:
    with RedisServer.sentinel(tmp_path, server) as sentinel:
        reached(f"redis+sentinel://127.0.0.1:{sentinel.port}/main")
    assert b"keys=20," in server.command("INFO", "keyspace")


def test_a_cluster_is_reached_by_one_of_its_nodes(tmp_path: Path) -> None:
    nodes = []
    with contextlib.ExitStack() as started:
        for number in range(3):
            directory = tmp_path / str(number)
            directory.mkdir()
            nodes.append(started.enter_context(RedisServer(directory, "--cluster-enabled", "yes")))
        for number, (first, last) in enumerate([(0, 5461), (5462, 10922), (10923, 16383)]):
            assert nodes[number].command("CLUSTER", "ADDSLOTSRANGE", str(first), str(last)) == b"+OK\r\n"
            assert nodes[number].command("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1)) == b"+OK\r\n"
        for node in nodes[1:]:
            assert node.command("CLUSTER", "MEET", "127.0.0.1", str(nodes[0].port)) == b"+OK\r\n"

        def ready() -> bool:
            infos = [node.command("CLUSTER", "INFO") for node in nodes]
            return all(b"cluster_state:ok" in info and b"slots_ok:16384" in info for info in infos)

        until(ready, "all is one cluster")
        reached(f"redis+cluster://127.0.0.1:{nodes[0].port}", slot_by="project")
        assert all(node.command("DBSIZE") != b":0\r\n" for node in nodes)


def test_with_a_permit_the_block_ends_it(server: RedisServer) -> None:
    limiter = connect(server, MONTH + AT_ONCE)
    with limiter.reserve("search", "gpt-4o", 100) as permit:
        permit.settle(1, 1)
    with limiter.reserve("search", "gpt-4o", 100):
        pass
    with limiter.reserve("search", "gpt-4o", 100) as permit:
        number = permit.detach()
    assert limiter.flush(20)
    assert left(limiter) == 798, "what ended without a word stands as it was estimated"
    limiter.permit(number).cancel()
    assert left(limiter) == 898
    with pytest.raises(Denied) as raised:
        limiter.reserve("search", "gpt-4o", 899)
    assert raised.value.denial.limit == "month"
    del permit
    limiter.reserve("search", "gpt-4o", 98)
    gc.collect()
    assert limiter.flush(timedelta(seconds=20))
    assert [one.remaining for one in limiter.remaining("search", "gpt-4o")] == [800, 3]


def test_a_permit_is_settled_by_its_id_anywhere_once(server: RedisServer) -> None:
    here, there = connect(server), connect(server)
    permit = here.reserve("search", "gpt-4o", 600)
    permit.renew(3600)
    number = permit.detach()
    assert repr(permit) == f"<RedisPermit {number} by server: detached>"
    assert "find it by its id" in coded(21, PermitError, permit.settle, 1)
    found = there.permit(number)
    assert (found.id, found.by) == (number, "server")
    assert found.settle(100, 0).told and left(here) == 900
    coded(21, PermitError, there.permit, number)
    coded(21, PermitError, here.permit(number).settle, 100)
    with pytest.raises(ValueError, match="no permit id"):
        here.permit(0)
    # Found again where it was detached, with what it had observed.
    permit = here.reserve("search", "gpt-4o", 10)
    permit.observe(0, 7)
    ended = here.permit(permit.detach()).settle()
    assert (ended.settlement.input, ended.settlement.output, ended.settlement.estimated) == (10, 7, True)


def test_slots_need_to_know_whose_permit_it_is(server: RedisServer) -> None:
    limiter = connect(server, slot_by="project")
    number = limiter.reserve("search", "gpt-4o", 600).detach()
    other = connect(server, slot_by="project")
    coded(1033, RedisError, other.permit, number)
    assert other.permit(number, "search", "gpt-4o").settle(1).told
    with pytest.raises(TypeError, match="both project and deployment"):
        other.permit(number, "search")
    coded(1033, RedisError, connect, server, slot_by="deployment")
    with pytest.raises(ValueError, match="slot_by: \"user\" is no part of a scope"):
        connect(server, slot_by="user")


def test_errors_say_what_is_wrong(server: RedisServer) -> None:
    policy = Policy.from_toml(MONTH)
    limiter = connect(server)
    assert "secret" not in coded(1030, RedisError, RedisLimiter.connect, "http://user:secret@localhost", policy)
    coded(1031, RedisError, connect, server, trusting=b"no certificate")
    coded(1031, RedisError, RedisLimiter.connect, "rediss://localhost", policy, trusting="no certificate")
    with pytest.raises(ValueError, match="give both"):
        connect(server, certificate=b"")
    coded(1032, RedisError, connect, server, deadline=0)
    coded(1032, RedisError, connect, server, permit_ttl=1e9)
    coded(1032, RedisError, connect, server, place_ttl=0)
    coded(1032, RedisError, connect, server, back_off=timedelta(0))
    coded(1032, RedisError, connect, server, prefix="{")
    coded(1032, RedisError, connect, server, leases=True, lease_life=100)
    for wrong in ({"when_away": "wait"}, {"when_away": "local_share"}, {"per_mille": 1}, {"lease_part": 8}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            connect(server, **wrong)
    with pytest.raises(ValueError, match="per_mille is 1001"):
        connect(server, when_away="local_share", per_mille=1001)
    coded(10, RequestError, limiter.admit, "", "gpt-4o")
    coded(14, RequestError, limiter.admit, "search", "gpt-4o", 2**53 + 1)
    permit = limiter.reserve("search", "gpt-4o", 10)
    coded(20, UsageError, permit.settle, 1, 1, cached_input=2)
    assert repr(permit).endswith(": ended>")
    many = "".join(MONTH.replace('"month"', f'"{number}"') for number in range(300))
    coded(1034, RequestError, connect(server, many).admit, "search", "gpt-4o", 1)
    server.command("CONFIG", "SET", "maxmemory", "1")
    server.command("ACL", "SETUSER", "default", "-@scripting")
    coded(1035, RedisError, limiter.admit, "search", "gpt-4o", 1)


def test_another_policy_is_put_in_force(server: RedisServer) -> None:
    limiter = connect(server)
    limiter.reserve("search", "gpt-4o", 600).settle(600, 0)
    limiter.set_policy(Policy.from_toml(MONTH.replace("1_000", "2_000")))
    assert left(limiter) == 1_400 and limiter.policy.limits[0].amount == 2_000


def test_counters_are_seen(server: RedisServer) -> None:
    limiter = connect(server, MONTH + AT_ONCE)
    assert limiter.usage() == []
    permits = [limiter.reserve(project, "gpt-4o", 600) for project in ("search", "chat")]
    month = limiter.usage("month")
    assert [(one.scope, one.used, one.remaining) for one in month] == [
        ({"project": "chat"}, 600, 400),
        ({"project": "search"}, 600, 400),
    ]
    assert [(one.limit, one.used) for one in limiter.usage()] == [("at once", 2), ("month", 600), ("month", 600)]
    assert repr(limiter.usage(scope={"project": "chat"})) == repr(month[:1])
    with pytest.raises(ValueError, match="the policy has no limit 'other'|the policy has no limit \"other\""):
        limiter.usage("other")
    with pytest.raises(ValueError, match="no limit counts by"):
        limiter.usage(scope={"key:user": "u"})

    async def awaited() -> None:
        counters = await (await connect_async(server, MONTH + AT_ONCE)).usage("month")
        assert repr(counters) == repr(month)

    under_asyncio(awaited)
    assert all(permit.settle(1, 0).told for permit in permits)
    server.kill()
    coded(1036, RedisError, limiter.usage)


def test_a_look_that_nobody_waits_for_any_more_ends(server: RedisServer) -> None:
    # 200 steps of the look.
    server.command("EVAL", "\"for at = 1, 200000 do redis.call('SET', at, 1) end\"", "0")

    def steps() -> int:
        calls = re.search(rb"cmdstat_scan:calls=(\d+)", server.command("INFO", "commandstats"))
        return int(calls[1]) if calls else 0

    async def main() -> None:
        limiter = await connect_async(server)
        server.pause()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(limiter.usage(), 0.1)
        # It is noticed while the server stands still.
        await asyncio.sleep(1)
        server.resume()
        assert await limiter.usage() == []

    under_asyncio(main)
    assert 100 < steps() < 300, "of one look, not of two"


def test_places_of_nobody_come_back_before_their_permits_expire(server: RedisServer) -> None:
    limiter = connect(server, AT_ONCE, place_ttl=2)
    held = [limiter.reserve("search", "gpt-4o") for _ in range(3)]
    assert not limiter.admit("search", "gpt-4o")
    until(lambda: bool(limiter.admit("search", "gpt-4o")), "a place is free")
    # One that is renewed takes its place again, with whoever has it by then.
    held[0].renew(600)
    assert held[0].settle(1, 0).told


def test_values_are_data_and_the_rest_is_not(server: RedisServer) -> None:
    limiter = connect(server, when_away="allow")
    permit = limiter.reserve("search", "gpt-4o", 10)
    denial = limiter.admit("search", "gpt-4o", 2_000)
    for one in (limiter, permit, denial):
        with pytest.raises(TypeError, match="cannot pickle"):
            pickle.dumps(one)
    values: list[Any] = [permit.settle(1, 1), *limiter.remaining("search", "gpt-4o")]
    server.kill()
    until(lambda: limiter.reserve("search", "gpt-4o", 1).by == "outage_allowed", "it is away")
    stats = limiter.stats()
    values += [stats, *stats.without_server]
    values.append(connect(server).admit("search", "gpt-4o", 1))
    assert isinstance(values[-1], Unavailable)
    for value in values:
        again = pickle.loads(pickle.dumps(value))
        assert type(again) is type(value) and repr(again) == repr(value)


def test_leases_are_spent_here_and_never_go_over(server: RedisServer) -> None:
    limiters = [connect(server, leases=True, lease_part=4) for _ in range(3)]
    admitted, by = 0, set()
    for turn in range(1_500):
        permit = limiters[turn % 3].admit("search", "gpt-4o", 1)
        if permit:
            by.add(permit.by)
            permit.settle(1, 0)
            admitted += 1
    assert admitted <= 1_000 and "lease" in by
    assert all(limiter.flush(20) for limiter in limiters)
    # What was leased and not spent is there again.
    until(lambda: left(limiters[0]) == 1_000 - admitted, "all leases are back")
    while limiters[0].admit("search", "gpt-4o", 1):
        admitted += 1
    assert admitted == 1_000 and sum(limiter.stats().leases for limiter in limiters) > 0


def hammer(url: str, leases: bool) -> int:
    """Of another process: how much it was admitted."""
    limiter = RedisLimiter.connect(url, Policy.from_toml(MONTH), deadline=20, leases=leases)
    admitted = 0
    for _ in range(600):
        permit = limiter.admit("search", "gpt-4o", 1)
        if permit:
            permit.settle(1, 0)
            admitted += 1
    assert limiter.flush(20)
    return admitted


@pytest.mark.parametrize("leases", [False, True])
def test_four_processes_admit_what_one_would(server: RedisServer, leases: bool) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        admitted = sum(pool.starmap(hammer, [(server.url, leases)] * 4))
    limiter = connect(server)
    assert admitted == 1_000 if not leases else admitted <= 1_000
    assert left(limiter) == 1_000 - admitted


def test_threads_wait_side_by_side(server: RedisServer) -> None:
    limiter = connect(server)
    server.pause()
    reached = threading.Barrier(5)

    def ask() -> None:
        reached.wait(20)
        with limiter.reserve("search", "gpt-4o", 10) as permit:
            permit.settle(10, 0)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    # None of them has the interpreter while it waits.
    reached.wait(20)
    server.resume()
    for thread in threads:
        thread.join(20)
    assert left(limiter) == 960


@pytest.mark.parametrize(("when_away", "by"), [("deny", "outage_denied"), ("allow", "outage_allowed"), ("local_share", "local_share")])
def test_a_server_that_is_away_gives_what_was_chosen(server: RedisServer, when_away: str, by: str) -> None:
    more: dict[str, Any] = {"per_mille": 100} if when_away == "local_share" else {}
    limiter = connect(server, when_away=when_away, back_off=0.01, deadline=1, **more)
    assert limiter.stats().up
    server.kill()
    until(lambda: not limiter.stats().up or limiter.admit("search", "gpt-4o", 0) is None, "it is found to be away")
    decision = limiter.admit("search", "gpt-4o", 90)
    assert decision.by == by
    if isinstance(decision, Unavailable):
        assert not decision and (decision.admitted, decision.status) == (False, 503) and "try again" in str(decision)
        coded(1036, RedisError, limiter.reserve, "search", "gpt-4o", 1)
        assert limiter.stats().denied_by_outage >= 2
    else:
        assert isinstance(decision, RedisPermit)
        assert decision.settle(50, 0).told is False
    if when_away == "local_share":
        refused = limiter.admit("search", "gpt-4o", 20)
        assert isinstance(refused, RedisDenial) and (refused.by, refused.limit) == ("local_share", "month")
    coded(1036, RedisError, limiter.remaining, "search", "gpt-4o")
    server.start()
    # When it has been told everything.
    until(lambda: limiter.stats().recoveries == 1 and limiter.stats().untold == 0, "it is back")
    stats = limiter.stats()
    assert (stats.up, stats.outages, stats.given_up) == (True, 1, 0) and all(use.owed == 0 for use in stats.without_server)
    assert left(limiter) == (1_000 if when_away == "deny" else 950)
    if when_away != "deny":
        use = next(use for use in stats.without_server if use.limit == "month")
        assert use.charged == 50


def test_a_wrong_address_is_told_from_a_server_that_is_away(server: RedisServer) -> None:
    server.command("CONFIG", "SET", "requirepass", "right")
    for url, wanted in [(server.url.replace("//", "//:false@"), "auth"), (server.url.replace("//", "//:right@") + "/99", "database")]:
        limiter = RedisLimiter.connect(url, Policy.from_toml(MONTH))
        stats, decision = limiter.stats(), limiter.admit("search", "gpt-4o", 1)
        assert isinstance(decision, Unavailable) and not stats.up and stats.why
        texts = [stats.why, decision.why, str(decision), coded(1036, RedisError, limiter.reserve, "search", "gpt-4o", 1)]
        texts.append(coded(1036, RedisError, limiter.remaining, "search", "gpt-4o"))
        for text in texts:
            assert wanted in text.lower() and "false" not in text and "right" not in text
    limiter = RedisLimiter.connect(server.url.replace("//", "//:right@"), Policy.from_toml(MONTH), deadline=10)
    assert limiter.stats().up and limiter.stats().why is None


def test_nobody_waits_beyond_the_deadline(server: RedisServer) -> None:
    limiter = connect(server, deadline=0.5)
    permit = limiter.reserve("search", "gpt-4o", 1)
    server.pause()
    decision = limiter.admit("search", "gpt-4o", 1)
    assert isinstance(decision, Unavailable) and (decision.by, "answer" in decision.why) == ("outage_denied", True)
    assert not permit.settle(1, 0).told
    server.resume()
    until(lambda: limiter.stats().up and limiter.flush(1), "it is told")
    assert left(limiter) == 999, "what it took while nobody waited is given back"


@contextlib.contextmanager
def signalled(handler: Callable[[], object]) -> Iterator[None]:
    """The handler is called for a signal that comes soon."""
    before = signal.signal(signal.SIGALRM, lambda *_: handler())
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_signal_is_handled_while_a_call_waits(server: RedisServer) -> None:
    limiter = connect(server, deadline=1)
    permit = limiter.reserve("search", "gpt-4o", 30)
    server.pause()
    assert not permit.settle(10, 0).told
    # Were it handled after the call, nothing would be told in the call.
    with signalled(server.resume):
        assert limiter.flush(20)
    assert left(limiter) == 990


def test_who_is_interrupted_while_waiting_holds_nothing(server: RedisServer) -> None:
    limiter = connect(server, MONTH + AT_ONCE, deadline=20)
    server.pause()
    try:
        with pytest.raises(KeyboardInterrupt), signalled(lambda: signal.default_int_handler(signal.SIGINT, None)):
            limiter.admit("search", "gpt-4o", 30)
    finally:
        server.resume()
    assert limiter.flush(20)
    assert [one.remaining for one in limiter.remaining("search", "gpt-4o")] == [1_000, 3]
    assert limiter.stats().late == 0, "it had not waited to the end"


def test_over_tls_with_an_authority_of_ones_own(tmp_path: Path) -> None:
    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=tmp_path)

    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=authority")
    (tmp_path / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost")
    openssl("req", *new[:-2], "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    signed = ["-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"]
    openssl("x509", *signed, "-extfile", "names", "-out", "server.pem")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    certificate, key = str(tmp_path / "server.pem"), str(tmp_path / "server.key")
    tls = ["--tls-port", str(port), "--tls-cert-file", certificate, "--tls-key-file", key]
    tls += ["--tls-ca-cert-file", str(tmp_path / "ca.pem"), "--tls-auth-clients", "yes"]
    with RedisServer(tmp_path, *tls):
        url, policy = f"rediss://localhost:{port}", Policy.from_toml(MONTH)
        root = (tmp_path / "ca.pem").read_bytes()
        own: dict[str, Any] = {"certificate": Path(certificate).read_bytes(), "key": Path(key).read_bytes()}
        limiter = RedisLimiter.connect(url, policy, deadline=10, trusting=root, **own)
        until(lambda: limiter.stats().up, "it is reached")
        assert limiter.reserve("search", "gpt-4o", 10).settle(10, 0).told
        stranger = RedisLimiter.connect(url, policy, deadline=10, **own)
        assert stranger.admit("search", "gpt-4o", 10).by == "outage_denied"


FORKED = """
import asyncio, os, sys
import tokenweir
from tokenweir.redis import AsyncRedisLimiter, RedisLimiter
policy = tokenweir.Policy.from_toml(sys.argv[2])
limiter = RedisLimiter.connect(sys.argv[1], policy, deadline=20, leases=sys.argv[3] == "leases")
permits = [limiter.reserve("search", "gpt-4o", 100) for _ in range(3)]
def refused(call, *given):
    try:
        call(*given)
    except tokenweir.RedisError as error:
        assert (error.code, error.name) == (1038, "REDIS_FORKED"), error
        return
    sys.exit(5)
async def one(other):
    return await other.admit("search", "gpt-4o", 1)
other = asyncio.run(AsyncRedisLimiter.connect(sys.argv[1], policy, deadline=20))
child = os.fork()
if child == 0:
    refused(limiter.admit, "search", "gpt-4o", 1)
    refused(limiter.remaining, "search", "gpt-4o")
    refused(limiter.flush, 20)
    refused(limiter.stats)
    refused(limiter.set_policy, policy)
    refused(permits[0].settle, 1, 0)
    refused(lambda: asyncio.run(one(other)))
    permits.pop().detach()
    own = RedisLimiter.connect(sys.argv[1], policy, deadline=20)
    own.reserve("search", "gpt-4o", 100).settle(70, 0)
    del limiter, permits, other
    sys.exit(4)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4
for permit in permits:
    permit.settle(10, 0)
limiter.flush(20)
print(RedisLimiter.connect(sys.argv[1], policy, deadline=20).remaining("search", "gpt-4o")[0].remaining)
"""


@pytest.mark.parametrize("mode", ["exact", "leases"])
def test_a_fork_says_so_and_changes_nothing(server: RedisServer, mode: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKED, server.url, MONTH, mode]
    assert subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout == "900\n"


def test_all_of_it_is_awaited(server: RedisServer, run: Run) -> None:
    async def main() -> None:
        limiter = await connect_async(server, MONTH + AT_ONCE)
        assert isinstance(limiter, AsyncRedisLimiter) and server.url in repr(limiter)
        permit = await limiter.admit("search", "gpt-4o", 600, keys={"user": "u"})
        assert permit and isinstance(permit, AsyncRedisPermit) and permit.by == "server"
        denial = await limiter.admit("search", "gpt-4o", 401)
        assert isinstance(denial, RedisDenial) and denial.limit == "month"
        assert not await permit.observe(600, 0)
        await permit.renew(60)
        found = await limiter.permit(permit.detach())
        assert (await found.settle(100, 0)).told
        with await limiter.reserve("search", "gpt-4o", 100) as permit:
            assert (await permit.cancel()).settlement.outcome == "cancelled"
        with pytest.raises(Denied):
            await limiter.reserve("search", "gpt-4o", 901)
        with pytest.raises(PermitError):
            await permit.settle(1)
        with pytest.raises(RequestError):
            await limiter.admit("", "gpt-4o")
        assert [one.remaining for one in await limiter.remaining("search", "gpt-4o")] == [900, 3]
        limiter.set_policy(Policy.from_toml(MONTH))
        assert limiter.stats().up and len(limiter.policy.limits) == 1
        assert await limiter.flush(20)

    run(main)


def test_a_hundred_at_once_share_the_limit(server: RedisServer, run: Run) -> None:
    async def main() -> None:
        limiter = await connect_async(server)
        admitted = 0

        async def ask() -> None:
            nonlocal admitted
            decision = await limiter.admit("search", "gpt-4o", 30)
            if decision:
                await decision.settle(30, 0)
                admitted += 1

        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(ask)
        assert admitted == 33
        assert (await limiter.remaining("search", "gpt-4o"))[0].remaining == 10

    run(main)


def test_a_loop_goes_on_while_the_server_does_not_answer(server: RedisServer, run: Run) -> None:
    async def main() -> None:
        limiter = await connect_async(server)
        server.pause()
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(limiter.admit, "search", "gpt-4o", 30)
                for _ in range(50):
                    await anyio.sleep(0)
                server.resume()
        finally:
            server.resume()
        assert (await limiter.remaining("search", "gpt-4o"))[0].remaining == 970

    run(main)


def test_who_is_cancelled_holds_nothing(server: RedisServer, run: Run) -> None:
    async def main() -> None:
        limiter = await connect_async(server, MONTH + AT_ONCE)
        number = (await limiter.reserve("search", "gpt-4o", 100)).detach()
        other = await connect_async(server, MONTH + AT_ONCE)
        server.pause()
        try:
            for _ in range(3):
                with anyio.move_on_after(0.05):
                    await limiter.admit("search", "gpt-4o", 30)
                with anyio.move_on_after(0.05):
                    await limiter.reserve("search", "gpt-4o", 30)
                with anyio.move_on_after(0.05):
                    await other.permit(number)
        finally:
            server.resume()
        with anyio.fail_after(20):
            while [one.remaining for one in await limiter.remaining("search", "gpt-4o")] != [900, 2]:
                await anyio.sleep(0.01)
        # A permit that was found for nobody is still there for its id.
        assert (await other.permit(number)).by == "server"

    run(main)


def test_an_answer_that_came_as_its_waiter_was_cancelled_is_given_back(server: RedisServer) -> None:
    async def main() -> None:
        limiter = await connect_async(server)
        for _ in range(20):
            task = asyncio.ensure_future(limiter.admit("search", "gpt-4o", 30))
            # It is on its way, and answered before the loop looks again.
            await asyncio.sleep(0)
            until(lambda: b"used_memory" in server.command("INFO", "memory"), "the server has answered others since")
            if task.cancel():
                with pytest.raises(asyncio.CancelledError):
                    await task
            else:  # answered so soon that nobody waited
                permit = await task
                assert permit
                await permit.cancel()
        assert await limiter.flush(20)
        with anyio.fail_after(20):
            while (await limiter.remaining("search", "gpt-4o"))[0].remaining != 1_000:
                await anyio.sleep(0.01)

    asyncio.run(main())


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_loop_that_is_closed_with_calls_pending_is_freed(
    server: RedisServer, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    limiter = asyncio.run(connect_async(server, AT_ONCE))
    other = connect(server, AT_ONCE)
    ended: list[int] = []

    async def ask() -> None:
        try:
            await limiter.reserve("search", "gpt-4o", 1)
        finally:
            ended.append(1)

    async def begin() -> list[asyncio.Task[None]]:
        tasks = [asyncio.ensure_future(ask()) for _ in range(3)]
        for _ in range(5):
            await asyncio.sleep(0)
        return tasks

    files = psutil.Process().num_fds()
    server.pause()
    try:
        loop = new_loop()
        tasks = loop.run_until_complete(begin())
        assert not any(task.done() for task in tasks)
        loop.close()
        gone = weakref.ref(loop)
        del loop, tasks
        gc.collect()
        assert gone() is None and len(ended) == 3
    finally:
        server.resume()
    until(lambda: left(other) == 3, "what they took is given back")
    until(lambda: gc.collect() >= 0 and psutil.Process().num_fds() <= files, "their files are closed")


@pytest.mark.parametrize("run", [under_asyncio, under_uvloop])
def test_a_task_that_only_its_loop_knows_waits_on(server: RedisServer, run: Run) -> None:
    async def main() -> None:
        limiter = await connect_async(server)
        done = anyio.Event()

        async def ask() -> None:
            await limiter.reserve("search", "gpt-4o", 1)
            done.set()

        server.pause()
        try:
            asyncio.ensure_future(ask())
            for _ in range(10):
                await anyio.sleep(0)
            gc.collect()
        finally:
            server.resume()
        with anyio.fail_after(20):
            await done.wait()

    run(main)


def test_what_is_never_awaited_takes_nothing(server: RedisServer) -> None:
    async def main() -> AsyncRedisLimiter:
        limiter = await connect_async(server)
        limiter.admit("search", "gpt-4o", 30).close()
        return limiter

    limiter = asyncio.run(main())
    assert left(connect(server)) == 1_000
    with pytest.raises(RuntimeError, match="needs a running event loop"):
        limiter.admit("search", "gpt-4o", 30).send(None)


def test_one_limiter_serves_several_loops(server: RedisServer) -> None:
    limiter = asyncio.run(connect_async(server))

    async def ask() -> None:
        for _ in range(20):
            await (await limiter.reserve("search", "gpt-4o", 5)).settle(5, 0)

    threads = [threading.Thread(target=asyncio.run, args=(ask(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert left(connect(server)) == 600


def test_leases_are_spent_without_a_wait(server: RedisServer) -> None:
    async def main() -> None:
        limiter = await connect_async(server, leases=True)
        with anyio.fail_after(20):
            while (await (await limiter.reserve("search", "gpt-4o", 1)).cancel()).told and limiter.stats().leases == 0:
                await anyio.sleep(0.001)
        with await limiter.reserve("search", "gpt-4o", 1) as permit:
            await permit.settle(1, 0)
        assert await limiter.flush(20)

    asyncio.run(main())


def resident() -> int:
    gc.collect()
    memory: int = psutil.Process().memory_info().rss
    return memory


def test_memory_is_flat(server: RedisServer) -> None:
    limiter = connect(server, MONTH.replace('"never"', '"hourly"').replace("1_000", "1_000_000_000"))

    def turns(times: int) -> None:
        for _ in range(times):
            limiter.reserve("search", "gpt-4o", 10).settle(1, 1)
            limiter.permit(limiter.reserve("search", "gpt-4o", 10).detach()).cancel()
            limiter.admit("search", "gpt-4o", 2**40)
            with limiter.reserve("search", "gpt-4o", 10) as permit:
                permit.remaining()

    async def later(times: int) -> None:
        other = await connect_async(server, MONTH.replace("1_000", "1_000_000_000"), prefix="other")
        for _ in range(times):
            await (await other.reserve("search", "gpt-4o", 10)).cancel()
            task = asyncio.ensure_future(other.admit("search", "gpt-4o", 10))
            await asyncio.sleep(0)
            task.cancel()
        assert await other.flush(20)

    def all_of_it() -> None:
        turns(500)
        for _ in range(5):
            asyncio.run(later(50))

    files = psutil.Process().num_fds()
    for _ in range(2):
        all_of_it()
    before, threads = resident(), psutil.Process().num_threads()
    for _ in range(4):
        all_of_it()
    grown = resident() - before
    assert grown < 1_000_000, f"{grown} bytes more"
    # A loop's bell goes with the loop, a limiter's thread with the limiter.
    until(lambda: gc.collect() >= 0 and psutil.Process().num_fds() <= files + 1, "files are closed")
    assert psutil.Process().num_threads() <= threads


UNCOLLECTED = """
import asyncio, sys
import tokenweir
from tokenweir.redis import AsyncRedisLimiter, RedisLimiter
policy = tokenweir.Policy.from_toml(sys.argv[2])
limiter = RedisLimiter.connect(sys.argv[1], policy, deadline=20)
permit = limiter.reserve("search", "gpt-4o", 1)
async def main():
    global other, task
    other = await AsyncRedisLimiter.connect(sys.argv[1], policy, deadline=20)
    task = asyncio.ensure_future(other.admit("search", "gpt-4o", 1))
    await asyncio.sleep(0)
asyncio.run(main())
print("end")
"""


def test_the_interpreter_ends_with_calls_on_their_way(server: RedisServer) -> None:
    for _ in range(5):
        command = [sys.executable, "-c", UNCOLLECTED, server.url, MONTH]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        assert (done.stdout, done.stderr) == ("end\n", "")
