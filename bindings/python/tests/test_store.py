"""Quotas that outlive the process, in a file."""

from __future__ import annotations

import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Literal

import pytest
import tokenweir
from tokenweir import Limiter, ManualClock, Policy, QuotaFile, QuotaFileError, QuotaStore, StoreError

# A lease of the default part is 10 tokens.
QUOTA = '''
[[limit]]
name = "month"
meter = "total"
algorithm = "quota"
amount = 1_000
period = "never"
scope = ["project"]
'''


def kept(store: QuotaStore, **more: Any) -> Limiter:
    return Limiter(Policy.from_toml(QUOTA), clock=ManualClock(), store=store, **more)


def charge(limiter: Limiter, tokens: int, project: str = "search") -> None:
    limiter.reserve(project, "gpt-4o", tokens).settle(tokens, 0)


def used(file: QuotaFile) -> dict[str, int]:
    return {record.scope["project"]: record.used for record in file.records()}


@pytest.mark.parametrize("background", [True, False])
def test_after_a_clean_end_the_file_has_exactly_what_was_used(tmp_path: Path, background: bool) -> None:
    with QuotaFile(tmp_path / "quotas") as file:
        limiter = kept(file.store("gateway"), renew_in_background=background)
        charge(limiter, 7)
        assert 7 <= used(file)["search"] <= 17
        limiter.give_back_leases()
        assert used(file) == {"search": 7}
        file.backup(tmp_path / "copy")
        charge(limiter, 5)
        limiter.close()
        limiter.close()
        assert used(file) == {"search": 12}
    del limiter
    with QuotaFile(tmp_path / "quotas") as file:
        limiter = kept(file.store("gateway"), renew_in_background=background)
        charge(limiter, 3)
        assert [counter.used for counter in limiter.usage()] == [15]
        # Without close() the end of the limiter gives back.
        del limiter
        assert used(file) == {"search": 15}
    with QuotaFile(tmp_path / "copy") as copy:
        assert used(copy) == {"search": 7}


def test_a_record_names_its_counter(tmp_path: Path) -> None:
    file = QuotaFile(str(tmp_path / "quotas"))
    limiter = kept(file.store("gateway"))
    charge(limiter, 7)
    limiter.close()
    [record] = file.records()
    assert (record.store, record.limit, record.meter, record.period) == ("gateway", "month", "total", "never")
    assert (record.scope, record.used, record.period_start, record.period_end) == ({"project": "search"}, 7, None, None)
    assert "used=7" in repr(record) and "quotas" in repr(file) and "gateway" in repr(file.store("gateway 2"))


def code(wanted: int, name: str, call: Any, *arguments: Any) -> str:
    with pytest.raises(QuotaFileError) as raised:
        call(*arguments)
    assert (raised.value.code, raised.value.name) == (wanted, name)
    return str(raised.value)


def test_every_error_of_a_file_has_its_code(tmp_path: Path) -> None:
    path = tmp_path / "quotas"
    file = QuotaFile(path)
    store = file.store("gateway")
    assert (path.stat().st_mode & 0o777) == 0o600
    assert str(path) in code(1010, "QUOTA_FILE_IN_USE", QuotaFile, path)
    assert "gateway" in code(1014, "STORE_NAME_IN_USE", file.store, "gateway")
    code(1013, "QUOTA_FILE_IO", QuotaFile, tmp_path / "no" / "directory")
    code(1013, "QUOTA_FILE_IO", file.backup, path)
    other = tmp_path / "other"
    other.write_text("something else")
    code(1011, "QUOTA_FILE_DAMAGED", QuotaFile, other)
    assert other.read_text() == "something else"
    limiter = kept(store)
    with pytest.raises(ValueError, match="given to a limiter before"):
        kept(store)
    file.close()
    with pytest.raises(ValueError, match="was closed"):
        file.records()
    # The limiter has it open still.
    code(1010, "QUOTA_FILE_IN_USE", QuotaFile, path)
    charge(limiter, 1)
    del limiter, store
    QuotaFile(path).close()


def test_arguments_are_checked(tmp_path: Path) -> None:
    file = QuotaFile(tmp_path / "quotas")
    store = file.store("gateway")
    with pytest.raises(ValueError, match="lease_part is 0"):
        kept(store, lease_part=0)
    with pytest.raises(ValueError, match="when_store_fails is 'no'|when_store_fails is \"no\""):
        kept(store, when_store_fails="no")
    with pytest.raises(TypeError):
        kept("gateway")  # type: ignore[arg-type]
    for thing in (file, store):
        with pytest.raises(TypeError, match="cannot pickle"):
            pickle.dumps(thing)
    # None of this has taken the store.
    kept(store).close()


def test_the_host_renews_leases(tmp_path: Path) -> None:
    file = QuotaFile(tmp_path / "quotas")
    limiter = kept(file.store("gateway"), lease_part=1, renew_in_background=False)
    assert limiter.renew_leases() == 0
    charge(limiter, 1)
    before = used(file)["search"]
    charge(limiter, before - 2)
    assert used(file)["search"] == before
    assert limiter.renew_leases() == 1
    assert used(file)["search"] > before


def test_a_thread_renews_leases(tmp_path: Path) -> None:
    file = QuotaFile(tmp_path / "quotas")
    limiter = kept(file.store("gateway"), lease_part=1)
    charge(limiter, 1)
    before = used(file)["search"]
    charge(limiter, before - 2)
    # The charge was within its lease, so it is the thread that raises it.
    assert any(used(file)["search"] > before for _ in range(100_000))


@pytest.mark.parametrize("fails", ["refuse", "admit"])
def test_a_full_disk(tmp_path: Path, fails: Literal["refuse", "admit"]) -> None:
    file = QuotaFile(tmp_path / "quotas")
    limiter = kept(file.store("gateway"), when_store_fails=fails, renew_in_background=False)
    charge(limiter, 7)
    old, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, most))
    try:
        if fails == "refuse":
            with pytest.raises(StoreError) as raised:
                charge(limiter, 50)
            assert (raised.value.code, raised.value.name) == (40, "STORE_FAILED")
            with pytest.raises(StoreError):
                limiter.give_back_leases()
        else:
            charge(limiter, 50)
        assert limiter.stats().store_failures > 0
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (old, most))
        signal.signal(signal.SIGXFSZ, before)
    charge(limiter, 1)
    limiter.close()
    assert used(file) == {"search": 8 if fails == "refuse" else 58}


KILLED = """
import os, signal, sys
import tokenweir
file = tokenweir.QuotaFile(sys.argv[1])
limiter = tokenweir.Limiter(tokenweir.Policy.from_toml(sys.argv[2]), store=file.store("gateway"))
for _ in range(int(sys.argv[3])):
    limiter.reserve("search", "gpt-4o", 6).settle(6, 0)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_its_use_and_at_most_a_lease_more(tmp_path: Path) -> None:
    path, least = tmp_path / "quotas", 0
    for calls in (3, 4, 9):
        done = subprocess.run([sys.executable, "-c", KILLED, path, QUOTA, str(calls)], check=False)
        assert done.returncode == -signal.SIGKILL
        least += 6 * calls
        with QuotaFile(path) as file:
            found = used(file)["search"]
        assert least <= found <= least + 10
        least = found
    # Started again it goes on from there.
    with QuotaFile(path) as file:
        limiter = kept(file.store("gateway"))
        denial = limiter.admit("search", "gpt-4o", 1_000 - least + 1)
        assert not denial
        charge(limiter, 1_000 - least)
        limiter.close()
        assert used(file) == {"search": 1_000}


FORKED = """
import os, sys
import tokenweir
file = tokenweir.QuotaFile(sys.argv[1])
policy = tokenweir.Policy.from_toml(sys.argv[2])
limiters = [tokenweir.Limiter(policy, store=file.store(str(at)), renew_in_background=at > 0) for at in range(2)]
for limiter in limiters:
    limiter.reserve("search", "gpt-4o", 7).settle(7, 0)
child = os.fork()
if child == 0:
    try:
        file.records()
    except tokenweir.QuotaFileError as error:
        assert error.code == 1010
    else:
        sys.exit(3)
    try:
        limiters[0].admit("search", "gpt-4o", 500)
    except tokenweir.StoreError:
        sys.exit(4)  # and everything is collected
    sys.exit(5)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4
for limiter in limiters:
    limiter.reserve("search", "gpt-4o", 70).settle(70, 0)
    limiter.close()
print(sorted((record.store, record.used) for record in file.records()))
"""


def test_a_fork_leaves_the_file_to_its_parent(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKED, str(tmp_path / "quotas"), QUOTA]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == "[('0', 77), ('1', 77)]\n"
    with QuotaFile(tmp_path / "quotas") as file:
        assert [record.used for record in file.records()] == [77, 77]


def test_threads_share_a_kept_quota_exactly(tmp_path: Path) -> None:
    with QuotaFile(tmp_path / "quotas") as file:
        limiter = kept(file.store("gateway"))
        route = limiter.route("search", "gpt-4o")
        admitted: list[int] = []

        def work(held: bool) -> None:
            for _ in range(100):
                permit = route.admit(3) if held else limiter.admit("search", "gpt-4o", 3)
                if permit:
                    permit.settle(3, 0)
                    admitted.append(3)

        threads = [threading.Thread(target=work, args=(at % 2 == 0,)) for at in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(admitted) == 999
        limiter.close()
        assert used(file) == {"search": 999}


def test_without_a_store_there_is_nothing_to_do() -> None:
    limiter = Limiter(Policy.from_toml(QUOTA))
    assert limiter.renew_leases() == 0
    limiter.give_back_leases()
    limiter.close()
    assert limiter.admit("search", "gpt-4o", 1)
    assert issubclass(StoreError, tokenweir.Error) and os.name == "posix"
