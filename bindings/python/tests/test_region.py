"""Counters that the worker processes of a host share."""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import tokenweir
from tokenweir import Limiter, ManualClock, Policy, QuotaFile, RegionError, RequestError, SharedRegion
from waiting import until

POLICY = '''
[[limit]]
name = "total"
meter = "total"
algorithm = "quota"
amount = 1_000
period = "never"
scope = ["project"]
'''
REQUESTS = '''
[[limit]]
name = "requests"
meter = "requests"
algorithm = "quota"
amount = 100
period = "never"
scope = ["project"]
[[limit]]
name = "at once"
meter = "in_flight"
algorithm = "in_flight"
amount = 100
'''


def small(path: Path, policy: Policy, **more: int) -> SharedRegion:
    return SharedRegion(path, policy, **({"counters": 16, "callers": 16, "permits": 64, "histories": 1} | more))


def amount_of(policy: Policy | None) -> int:
    limit = policy.limit("total") if policy else None
    assert limit is not None
    return limit.amount


def refused(code: int, call: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(RegionError) as raised:
        call(*arguments, **options)
    assert raised.value.code == code
    return str(raised.value)


def test_two_limiters_share_counters_and_permits(tmp_path: Path) -> None:
    policy = Policy.from_toml(POLICY)
    region = small(tmp_path / "region", policy)
    one, other = Limiter(policy, region=region), Limiter(policy, region=region)
    permit = one.reserve("search", "gpt-4o", 600)
    assert not other.admit("search", "gpt-4o", 401)
    other.settle(permit.detach(), 100, 0)
    held = other.admit("search", "gpt-4o", 900)
    assert held
    assert [(counter.used, counter.settled_total) for counter in one.usage()] == [(1_000, 100)]
    status = region.status()
    assert (status.counters, status.callers, status.permits_open) == (1, 1, 1)
    assert status.processes == [os.getpid()] * 2
    assert (status.histories, status.cleared_up, status.unsure_steps, status.policies) == (0, 0, 0, 1)
    assert region.path == str(tmp_path / "region") and str(tmp_path) in repr(region)
    assert (tmp_path / "region").stat().st_mode & 0o777 == 0o600
    with pytest.raises(TypeError):
        pickle.dumps(region)


def test_what_is_counted_outlives_its_limiters(tmp_path: Path) -> None:
    policy = Policy.from_toml(POLICY)
    Limiter(policy, region=small(tmp_path / "region", policy)).reserve("search", "gpt-4o", 600).settle(600, 0)
    again = Limiter(policy, region=small(tmp_path / "region", policy))
    assert not again.admit("search", "gpt-4o", 401)
    assert [counter.used for counter in again.usage()] == [600]


def test_another_policy_is_in_force_for_all_and_loses_nothing(tmp_path: Path) -> None:
    first, second = Policy.from_toml(POLICY), Policy.from_toml(POLICY.replace("1_000", "2_000"))
    region = small(tmp_path / "region", first, policy_bytes=8_000)
    assert region.policy is None
    one, other = Limiter(first, region=region), Limiter(first, region=region)
    permit = one.reserve("search", "gpt-4o", 600)
    assert not other.admit("search", "gpt-4o", 900)
    other.swap_policy(second)
    one.swap_policy(second)
    assert region.status().policies == 2
    assert [amount_of(policy) for policy in (region.policy, one.policy, other.policy)] == [2_000] * 3
    assert one.admit("search", "gpt-4o", 900)
    other.settle(permit.detach(), 100, 0)
    assert [(counter.used, counter.amount, counter.settled_total) for counter in one.usage()] == [(1_000, 2_000, 100)]
    assert "policy_of_region" in refused(41, Limiter, first, region=region)
    late = Limiter(first, region=small(tmp_path / "region", first, policy_bytes=8_000), policy_of_region=True)
    assert amount_of(late.policy) == 2_000
    larger = Policy.from_toml(POLICY.replace("project", "key:" + "x" * 9_000))
    assert "has room for 8000" in refused(41, late.swap_policy, larger)


def test_errors_say_what_is_wrong(tmp_path: Path) -> None:
    policy, other = Policy.from_toml(POLICY), Policy.from_toml(POLICY.replace("1_000", "1_001"))
    path = tmp_path / "region"
    region = small(path, policy)
    limiter = Limiter(policy, region=region)
    assert "another policy" in refused(41, Limiter, other, region=region)
    limiter.swap_policy(policy)
    assert region.status().policies == 1
    with QuotaFile(tmp_path / "quotas") as file:
        assert "store" in refused(41, Limiter, policy, region=region, store=file.store("gateway"))
    with pytest.raises(ValueError, match="the time is the host's"):
        Limiter(policy, region=region, clock=ManualClock())
    assert str(path) in refused(1023, small, path, policy, permits=65)
    refused(1020, small, tmp_path / "no" / "directory", policy)
    (tmp_path / "text").write_text("something else")
    (tmp_path / "text").chmod(0o600)
    refused(1021, small, tmp_path / "text", policy)
    path.chmod(0o640)
    assert "mode 0640" in refused(1024, small, path, policy)
    path.chmod(0o600)
    more = [Limiter(policy, region=region) for _ in range(47)]
    refused(1026, Limiter, policy, region=region)
    del more
    # What a request is too long for is the request's fault.
    with pytest.raises(RequestError) as raised:
        limiter.admit("p" * 200, "gpt-4o", 1)
    assert raised.value.code == 41 and "room for 128" in str(raised.value)


WORKER = """
import sys
import tokenweir
policy = tokenweir.Policy.from_toml(sys.argv[2])
limiter = tokenweir.Limiter(policy, region=tokenweir.SharedRegion(sys.argv[1], policy))
admitted = 0
for _ in range(1_000):
    permit = limiter.admit("search", "gpt-4o", 1)
    if permit:
        permit.settle(1, 0)
        admitted += 1
print(admitted)
"""


def test_four_processes_admit_what_one_would(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WORKER, str(tmp_path / "region"), POLICY]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    counts = [int(worker.communicate()[0]) for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 4
    assert sum(counts) == 1_000
    status = SharedRegion(tmp_path / "region", Policy.from_toml(POLICY)).status()
    assert (status.permits_open, status.unsure_steps) == (0, 0)


def test_what_is_in_a_region_is_pickled(tmp_path: Path) -> None:
    policy = Policy.from_toml(POLICY)
    region = SharedRegion(tmp_path / "region", policy)
    limiter = Limiter(policy, region=region)
    with limiter.reserve("p", "d", 1):
        status = region.status()
    assert status.permits_open == 1 and len(status.processes) == 1
    again = pickle.loads(pickle.dumps(status))
    assert type(again) is tokenweir.RegionStatus and repr(again) == repr(status)


FORKED = """
import os, sys
import tokenweir
policy = tokenweir.Policy.from_toml(sys.argv[2])
region = tokenweir.SharedRegion(sys.argv[1], policy)
limiter = tokenweir.Limiter(policy, region=region)
child = os.fork()
if child == 0:
    try:
        limiter.admit("search", "gpt-4o", 1)
    except tokenweir.RegionError as error:
        assert error.code == 41
        own = tokenweir.Limiter(policy, region=region)
        own.reserve("search", "gpt-4o", 600).settle(600, 0)
        sys.exit(4)  # and everything is collected
    sys.exit(5)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4
print(bool(limiter.admit("search", "gpt-4o", 401)), bool(limiter.admit("search", "gpt-4o", 400)))
"""


def test_a_fork_makes_its_own_limiter(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKED, str(tmp_path / "region"), POLICY]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "False True\n"


APPLICATION = '''
import json, os
import tokenweir
from tokenweir.asgi import ApiKeys, TokenweirMiddleware

policy = tokenweir.Policy.from_toml(os.environ["POLICY"])
limiter = tokenweir.Limiter(policy, region=tokenweir.SharedRegion(os.environ["REGION"], policy))

async def model(scope, receive, send):
    if scope["type"] != "http":
        return
    body = {"worker": os.getpid(), "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}}
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})

app = TokenweirMiddleware(model, limiter=limiter, identify=ApiKeys({"sk-search": "search"}), output=8)
'''
WORKERS = 4


class Server:
    """Uvicorn with several workers on one region. A connection stays with the worker that took it."""

    def __init__(self, port: int, log: Path, process: subprocess.Popen[bytes]) -> None:
        self.port, self.log, self.process = port, log, process
        self.connections: list[HTTPConnection] = []

    def connected(self) -> tuple[int, HTTPConnection] | None:
        """A new connection, and the worker that it is with."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        self.connections.append(connection)
        try:
            connection.request("GET", "/worker")
            return json.loads(connection.getresponse().read())["worker"], connection
        except OSError:
            assert self.process.poll() is None, self.log.read_text()
            return None

    def workers(self, without: int | None = None) -> dict[int, HTTPConnection]:
        """A connection to each worker."""
        found: dict[int, HTTPConnection] = {}

        def all_found() -> bool:
            if (connected := self.connected()) is not None and connected[0] != without:
                found.setdefault(*connected)
            return len(found) == WORKERS

        until(all_found, "a connection to each worker", 120)
        return found


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "application.py").write_text(APPLICATION)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(tmp_path), "--port", str(port)]
    command += ["--workers", str(WORKERS), "application:app"]
    environment = os.environ | {"POLICY": REQUESTS, "REGION": str(tmp_path / "region")}
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, cwd=tmp_path)
    started = Server(port, log, process)
    try:
        yield started
    finally:
        process.terminate()
        process.wait(60)
        for connection in started.connections:
            connection.close()


def chat(connection: HTTPConnection) -> int:
    body = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "What is the sea?"}]})
    headers = {"authorization": "Bearer sk-search", "content-type": "application/json"}
    connection.request("POST", "/v1/chat/completions", body, headers)
    response = connection.getresponse()
    response.read()
    return response.status


def test_four_uvicorn_workers_admit_the_limit_once(server: Server) -> None:
    workers = server.workers()
    # Each is asked for more than its fourth.
    answers = [(worker, chat(connection)) for _ in range(40) for worker, connection in workers.items()]
    admitted = [worker for worker, status in answers if status == 200]
    assert len(admitted) == 100 and set(admitted) == set(workers)
    assert {status for _, status in answers} == {200, 403}
    # Nor is there more once one was killed and another has come.
    killed = next(iter(workers))
    os.kill(killed, signal.SIGKILL)
    again = server.workers(without=killed)
    assert {chat(connection) for connection in again.values()} == {403}
